"""Tokenization under attack: layouts, allowed tokens, and the filter against its rule applied one by one."""

from __future__ import annotations

import random

import pytest
import torch
from attack_fixtures import PROMPTS, byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hardscale.attacks.candidates import initial_layout, ranked_tokens, sample_replacements, surviving
from hardscale.attacks.codec import Codec
from hardscale.errors import AttackError

TOKENIZER = byte_tokenizer()
CODEC = Codec(TOKENIZER, len(TOKENIZER) + 6)
texts = st.text(alphabet=st.sampled_from("ab @&\n.thegood€é\u200d0"), max_size=12)


def wrapped_tokenizer() -> PreTrainedTokenizerFast:
    """Puts [CLS] before and [SEP] after every text."""
    backend = Tokenizer.from_str(TOKENIZER.backend_tokenizer.to_str())
    backend.add_special_tokens(["[CLS]", "[SEP]"])
    first, last = backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", first), ("[SEP]", last)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|endoftext|>", cls_token="[CLS]", sep_token="[SEP]"
    )


def test_allowed_tokens_are_known_and_not_special() -> None:
    assert CODEC.allowed == sorted(set(TOKENIZER.get_vocab().values()) - set(TOKENIZER.all_special_ids))
    assert max(Codec(TOKENIZER, 300).allowed) < 300


@given(texts)
@settings(max_examples=50, deadline=None)
def test_prompts_encode_as_the_tokenizer_does(text: str) -> None:
    assert CODEC.encode_prompts([text]) == [TOKENIZER(text)["input_ids"]]
    TOKENIZER([text, "a longer text than the other"], padding=True, truncation=True, max_length=4)
    assert CODEC.encode_prompts([text]) == [TOKENIZER(text)["input_ids"]]


@given(texts, texts, st.lists(st.sampled_from(CODEC.allowed), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_layout_is_the_prompt_of_its_text(before: str, after: str, attack: list[int]) -> None:
    layout = CODEC.layout(before, attack, after)
    text = TOKENIZER.decode(attack)
    whole = TOKENIZER(before + text + after)["input_ids"]
    if layout is None:
        parts = [TOKENIZER(part)["input_ids"] for part in (before, text, after)]
        assert parts[1] != attack or parts[0] + parts[1] + parts[2] != whole
        return
    assert list(layout.head + layout.attack + layout.tail) == whole
    assert list(layout.attack) == attack == TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(layout.head) == before
    assert TOKENIZER.decode(layout.tail) == after
    assert layout.n_tokens == len(whole)


def test_neighbors_are_read_in_context() -> None:
    """Two line breaks are one token at the end of a text, two before a word: the attack still stands apart."""
    before, word = "good\n\n", TOKENIZER("@")["input_ids"]
    assert TOKENIZER(before)["input_ids"] + word != TOKENIZER(before + "@")["input_ids"]
    layout = CODEC.layout(before, word, "\n\nAnswer:")
    assert layout is not None
    assert TOKENIZER.decode(layout.head) == before


def test_special_tokens_around_a_prompt_stay_outside() -> None:
    tokenizer = wrapped_tokenizer()
    first, last = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    codec = Codec(tokenizer, len(tokenizer))
    assert not {first, last} & set(codec.allowed)
    layout = codec.layout("the dog", codec.encode_alone(["@&"])[0], " said")
    assert layout is not None and layout.head[0] == first and layout.tail[-1] == last
    assert codec.encode_prompts(["a"])[0][-1] == last
    open_ended = Codec(tokenizer, len(tokenizer), closing=False)
    assert open_ended.encode_prompts(["a"])[0][-1] != last
    open_layout = open_ended.layout("the dog", codec.encode_alone(["@&"])[0], "")
    assert open_layout is not None and open_layout.tail == ()


def test_slow_tokenizers_are_refused() -> None:
    with pytest.raises(AttackError, match="fast tokenizer"):
        Codec(object(), 10)


def test_first_text_is_repeated_to_length() -> None:
    layout = initial_layout(CODEC, *PROMPTS[0], "@&", 7, random.Random(0), "0")
    assert TOKENIZER.decode(layout.attack) == "@&@&@&@"


def test_first_text_is_replaced_until_it_stands_apart() -> None:
    """After "go" the text "od" would merge into "good"; some replacement does not."""
    [od] = CODEC.encode_alone(["od"])
    assert CODEC.layout("the go", od, "") is None
    layout = initial_layout(CODEC, "the go", "", "od", len(od), random.Random(0), "0")
    assert layout.attack != tuple(od)
    again = initial_layout(CODEC, "the go", "", "od", len(od), random.Random(0), "0")
    assert layout == again


def test_no_text_that_stands_apart_names_the_example() -> None:
    backend = Tokenizer(models.WordLevel({"<u>": 0, "a": 1, "b": 2}, "<u>"))  # every word but two is read as unknown
    backend.pre_tokenizer = pre_tokenizers.Sequence([])
    backend.decoder = decoders.Fuse()
    joining = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<u>", pad_token="<u>")
    with pytest.raises(AttackError, match=r"example 17: no attack text of 3 tokens .* choose another position"):
        initial_layout(Codec(joining, 3), "a", "b", "@&", 3, random.Random(0), "17")


def naive_survivors(before: str, after: str, current: list[int], rows: list[list[int]]) -> list[list[int]]:
    """The paper's rule, one candidate and one plain tokenizer call at a time."""
    kept = []
    now = TOKENIZER(before + TOKENIZER.decode(current) + after)["input_ids"]
    start = next(
        i for i in range(len(now)) if now[i : i + len(current)] == current and TOKENIZER.decode(now[:i]) == before
    )
    for row in rows:
        text = TOKENIZER.decode(row)
        spliced = now[:start] + row + now[start + len(row) :]
        whole = TOKENIZER(before + text + after)["input_ids"]
        if whole == spliced and TOKENIZER(text)["input_ids"] == row and whole != now:
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_filter_equals_the_rule_applied_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    layouts = [initial_layout(CODEC, *prompt, "@&", 6, rng, "0") for prompt in PROMPTS]
    pool = torch.tensor(CODEC.allowed).expand(6, -1)
    drawn = [sample_replacements(layout.attack, pool, 60, rng) for layout in layouts]
    drawn[0] = torch.cat([drawn[0], torch.tensor([layouts[0].attack])])  # the present text itself
    kept, kept_texts = surviving(CODEC, layouts, [layout.attack for layout in layouts], drawn)
    n_dropped = 0
    for layout, rows, part, strings in zip(layouts, drawn, kept, kept_texts, strict=True):
        expected = naive_survivors(layout.before, layout.after, list(layout.attack), rows.tolist())
        assert part.tolist() == expected
        assert strings == [TOKENIZER.decode(row) for row in expected]
        n_dropped += len(rows) - len(part)
    assert n_dropped > 10


def test_nothing_survives_of_nothing() -> None:
    layout = initial_layout(CODEC, *PROMPTS[0], "@&", 6, random.Random(0), "0")
    kept, kept_texts = surviving(CODEC, [layout], [layout.attack], [torch.tensor([layout.attack])])
    assert kept[0].shape == (0, 6) and kept_texts == [[]]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_replacements_are_distinct_and_change_one_place(n: int, k: int, wanted: int, seed: int) -> None:
    pool = torch.arange(100, 100 + n * k).reshape(n, k)
    current = list(range(n))
    rows = sample_replacements(current, pool, wanted, random.Random(seed))
    assert rows.shape == (min(wanted, n * k), n)
    assert len({tuple(row) for row in rows.tolist()}) == len(rows)
    for row in rows.tolist():
        [place] = [i for i in range(n) if row[i] != current[i]]
        assert row[place] in pool[place].tolist()
    assert torch.equal(rows, sample_replacements(current, pool, wanted, random.Random(seed)))


def test_replacements_are_uniform_over_the_pool() -> None:
    pool = torch.arange(8).reshape(2, 4) + 10
    rng = random.Random(0)
    counts = torch.zeros(8)
    for _ in range(2_000):
        for row in sample_replacements([0, 0], pool, 2, rng).tolist():
            counts[max(row) - 10] += 1
    assert counts.sum() == 4_000
    assert bool(((counts - 500).abs() < 5 * 500**0.5).all())


def test_ranking_is_the_one_hot_gradient_sorted() -> None:
    torch.manual_seed(0)
    gradients, embeddings = torch.randn(3, 4, 5), torch.randn(50, 5)
    allowed = torch.rand(50) > 0.3
    ranked = ranked_tokens(gradients, embeddings, allowed, 7)
    for example in range(3):
        for place in range(4):
            scores = {t: float(gradients[example, place] @ embeddings[t]) for t in range(50) if allowed[t]}
            assert ranked[example, place].tolist() == sorted(sorted(scores, key=scores.__getitem__)[:7])
    assert ranked_tokens(gradients, embeddings, allowed, 500).shape[-1] == int(allowed.sum())


def word_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece in lower case, as BERT's, of a few words and letters: it reads "@" as [UNK]."""
    letters = [form for letter in "abcdefghijklmnopqrstuvwxyz" for form in (letter, f"##{letter}")]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "please", "help", "the", ".", "!", *letters]
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


@pytest.mark.parametrize(("said", "start"), [("help", "said"), ("@&", "built"), ("Help", "built")])
def test_a_first_text_that_the_vocabulary_does_not_know_is_not_said(said: str, start: str) -> None:
    tokenizer = word_tokenizer()
    codec = Codec(tokenizer, len(tokenizer))
    layout = initial_layout(codec, "the ", "", said, 6, random.Random(0), "0")
    assert layout.start == start and len(layout.attack) == 6
    assert not set(layout.attack) & set(tokenizer.all_special_ids)
    assert tokenizer(layout.before + layout.text + layout.after)["input_ids"] == list(layout.head + layout.attack)
    if start != "built":
        assert (said * 6).startswith(layout.text.replace(" ", ""))
