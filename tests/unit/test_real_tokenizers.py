"""Attacks on real tokenizers and templates: first texts, the filter, and what is scored, read again from the text."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from hardscale.attacks.base import attack
from hardscale.attacks.candidates import initial_layout, sample_replacements, surviving
from hardscale.attacks.codec import Codec
from hardscale.attacks.places import Layout, places
from hardscale.attacks.starts import _grown, given_layout
from hardscale.training.exposure import Exposure
from real_attacks import ATTACKS, POSITIONS, REQUESTS, asked, measure, read
from real_pairs import ALL_PAIRS, CROSSED, Pair, by_name, needs_tokenizers, tiny_config, tokenizer_of

pytestmark = needs_tokenizers
#: One pair of each vocabulary and way of reading it.
KINDS = tuple(pair for pair in ALL_PAIRS if pair.name in ("llama2", "mistral_new", "phi3", "gemma3", "qwen3", "pythia"))
#: All pairs; a large vocabulary is read from its file again for every pair, so crossed ones wait for the long tests.
PAIRS = [
    pytest.param(
        pair,
        id=pair.name,
        marks=[pytest.mark.long] if pair in CROSSED and pair.vocabulary in ("gemma3", "qwen3") else [],
    )
    for pair in ALL_PAIRS
]
#: Where an attack may stand: at the begin and end of a text, after a space, a line break, an open bracket, a letter
#: that has a mark of its own (not in normal form), an emoji; before a word, a space, punctuation, another text.
EDGES = (
    ("", ""),
    ("", " to bake bread"),
    ("Tell me how", ""),
    ("Tell me how ", "to bake bread"),
    ("Tell me how  ", "to"),
    ("A list:\n\n", "1. bread"),
    ("Tell me (", ") please"),
    ("un cafe\u0301", " noir"),
    ("bread \U0001f35e", "\u00e9"),
)


def codec_of(pair: Pair, allowed: Any = "printable_ascii") -> Codec:
    tokenizer = tokenizer_of(pair)
    return Codec(tokenizer, max(tokenizer.get_vocab().values()) + 1, closing=False, allowed=allowed)


def is_clean(tokenizer: Any, layout: Layout) -> bool:
    """Whether the plain tokenizer reads the prompt's text as the layout says."""
    ids = read(tokenizer, layout.before + layout.text + layout.after)
    return ids == [*layout.head, *layout.attack, *layout.tail]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pair", PAIRS)
def test_the_studys_text_is_the_first_text_on_every_pair(pair: Pair, position: str) -> None:
    codec, tokenizer = codec_of(pair), tokenizer_of(pair)
    for before, after in asked(pair, position).prompts:
        for said in ("!", "please help"):
            layout = initial_layout(codec, before, after, said, 20, random.Random(0), "0")
            assert is_clean(tokenizer, layout) and len(layout.attack) == 20
            assert layout.start in ("said", "separated")
            # The study's text over and over and nothing else; the last one may be cut.
            assert (said * 20).startswith(layout.text.replace(" ", "")) or (
                (said.replace(" ", "") * 20).startswith(layout.text.replace(" ", ""))
            )


@pytest.mark.parametrize("pair", KINDS, ids=by_name)
def test_first_texts_stand_at_every_edge(pair: Pair) -> None:
    codec, tokenizer = codec_of(pair), tokenizer_of(pair)
    for before, after in EDGES:
        layout = initial_layout(codec, before, after, "!", 20, random.Random(0), "0")
        assert is_clean(tokenizer, layout) and len(layout.attack) == 20
        again = given_layout(codec, before, after, layout.attack)
        assert again is not None and (again.text, again.head, again.tail) == (layout.text, layout.head, layout.tail)


@pytest.mark.parametrize("pair", KINDS, ids=by_name)
def test_texts_are_built_where_the_studys_does_not_stand(pair: Pair) -> None:
    """Built token by token every text stands, also where hardly a random one does; the same seed builds the same."""
    codec, tokenizer = codec_of(pair), tokenizer_of(pair)
    for seed, (before, after) in enumerate(EDGES):
        place = places(codec, before, after)[-1]
        built = _grown(codec, place, [], 20, random.Random(seed))
        assert built is not None and is_clean(tokenizer, built) and len(built.attack) == 20
        assert set(built.attack) <= set(codec.allowed) and len(set(built.attack)) > 10
        assert seed or built == _grown(codec, place, [], 20, random.Random(seed))


@pytest.mark.parametrize("allowed", ["printable_ascii", "any"])
@pytest.mark.parametrize("pair", KINDS, ids=by_name)
def test_the_filter_keeps_what_some_text_is_read_as_and_nothing_else(pair: Pair, allowed: str) -> None:
    """Brute force over the texts that a row could be: as decoded, with a space before it, without its own."""
    codec, tokenizer, rng = codec_of(pair, allowed), tokenizer_of(pair), random.Random(1)
    for before, after in (*asked(pair, "prefix").prompts[:1], *asked(pair, "infix90").prompts[:1], *EDGES[3:5]):
        layout = initial_layout(codec, before, after, "!", 6, rng, "0")
        pool = torch.tensor(codec.allowed).expand(6, -1)
        drawn = sample_replacements(layout.attack, pool, 60, rng)
        [kept], [texts] = surviving(codec, [layout], [layout.attack], [drawn])
        found = {tuple(row): text for row, text in zip(kept.tolist(), texts, strict=True)}
        for row in drawn.tolist():
            text = tokenizer.decode(row)
            possible = {text, " " + text, text.removeprefix(" ")} - {""}
            wanted = [*layout.head, *row, *layout.tail]
            fitting = {one for one in possible if read(tokenizer, before + one + after) == wanted}
            if not codec.adds_space:
                # As published, also read alone; a space at the end of ``before`` belongs to the first token.
                fitting = {one for one in fitting if tokenizer(text, add_special_tokens=False)["input_ids"] == row}
            assert (found.get(tuple(row)) in fitting) if fitting else tuple(row) not in found
        assert len(kept) > 20


def test_the_pool_of_chat_models_is_printable_ascii() -> None:
    """Counted from the vocabulary as it is written: a space is a bar there, and a raw byte has a name."""
    pair = next(pair for pair in ALL_PAIRS if pair.name == "llama2")
    vocabulary = tokenizer_of(pair).get_vocab()
    plain = {i: token.replace("\u2581", " ") for token, i in vocabulary.items() if i > 2}
    raw = {i for i, token in plain.items() if token.startswith("<0x") and len(token) == 6}
    other = {i for i, text in plain.items() if not text.isascii()}
    assert (len(raw), len(other)) == (256, 5_572)
    assert codec_of(pair).allowed == sorted(
        i for i, text in plain.items() if text.isprintable() and i not in raw | other
    )
    assert codec_of(pair, "any").allowed == sorted(plain)


@pytest.mark.parametrize("pair", KINDS, ids=by_name)
def test_tokens_of_a_text_are_those_that_hold_it_in_its_prompt(pair: Pair) -> None:
    codec, tokenizer = codec_of(pair), tokenizer_of(pair)
    for before, after in asked(pair, "prefix").prompts:
        tokens = codec.inserted(before, "zebras run, they cried.", after)
        ids = read(tokenizer, before + "zebras run, they cried." + after)
        at = next(i for i in range(len(ids)) if ids[i : i + len(tokens)] == tokens)
        rest = tokenizer.decode(ids[:at]) + tokenizer.decode(ids[at + len(tokens) :])
        assert "zebra" not in rest and "cried" not in rest and "zebras run, they cried." in tokenizer.decode(tokens)
        assert codec.inserted(before, "", after) == []


@pytest.mark.parametrize("pair", KINDS, ids=by_name)
def test_random_tokens_in_training_texts_keep_their_first_space(pair: Pair) -> None:
    codec = codec_of(pair)
    [word] = [token for token in codec.allowed if codec.spell([[token]]) == [" bread"]][:1]
    shown: list[str] = []

    class Example:
        example_id, text = 0, "Good"

        def with_text_inserted(self, text: str, _: str) -> str:
            shown.append(text)
            return text

    class Always:
        probability, max_tokens = 1.0, 1

    codec.allowed = [word]
    Exposure(codec, Always(), 0).texts([Example()], 0)  # type: ignore[arg-type,list-item]
    assert shown == [" bread"]


@pytest.mark.parametrize("pair", [p for p in KINDS if p.architecture in ("llama", "phi3", "gpt_neox")], ids=by_name)
@pytest.mark.parametrize("method", ["gcg", "random_token"])
def test_classifiers_are_attacked_as_their_text_says(pair: Pair, method: str) -> None:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    tokenizer = tokenizer_of(pair)
    n = max(tokenizer.get_vocab().values()) + 1
    model = AutoModelForSequenceClassification.from_config(tiny_config(pair.architecture, n, num_labels=2)).eval()
    results = attack(model, tokenizer, list(EDGES), [1] * len(EDGES), method=method, n_iterations=3, n_candidates=12)
    for (before, after), result in zip(EDGES, results, strict=True):
        assert result.prompt_text == before + result.text + after
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer(result.prompt_text)["input_ids"]])).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[None], torch.tensor([1]))
        assert result.losses[-1] == pytest.approx(float(loss), abs=1e-4)
        assert result.successes[-1] == (int(logits.argmax()) == 1)
        if method == "gcg":
            ids = tokenizer(result.prompt_text)["input_ids"]
            assert any(ids[at : at + 10] == list(result.tokens) for at in range(len(ids)))


def check(pair: Pair, position: str, kind: str, requests: Any = REQUESTS) -> None:
    """One row of the table."""
    found = measure(pair, position, kind, requests)
    if kind == "gcg":  # begins with "!", which no tokenizer reads apart twenty times in a row
        assert found.starts == {"separated": len(requests)}
    elif kind in ("adaptive", "embedding"):  # begin with "@&"
        assert set(found.starts) <= {"said", "separated"} and sum(found.starts.values()) == len(requests)
    assert found.survived is None or found.survived >= 0.5
    assert found.retokenized is None or found.retokenized <= 0.05
    assert found.agrees


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_scored_is_what_the_text_says(pair: Pair) -> None:
    """Every pair at one of the positions; all of them: the long test."""
    number = ALL_PAIRS.index(pair)
    position = POSITIONS[number % 3]
    kinds = ["gcg", "adaptive", ("beast", "embedding", "r2d2", "random_token")[number % 4]]
    if pair.vocabulary in ("gemma3", "qwen3"):  # large vocabularies are slow
        kinds = ["gcg", "adaptive"]
    for kind in kinds:
        check(pair, position, kind, REQUESTS[number % 2 : number % 2 + 1])


@pytest.mark.long
@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pair", ALL_PAIRS, ids=by_name)
def test_every_attack_on_every_pair_at_every_position(pair: Pair, position: str, kind: str) -> None:
    check(pair, position, kind)
