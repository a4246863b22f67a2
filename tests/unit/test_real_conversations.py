"""Tokens of prompts and answers on real tokenizers and templates: those of the rendered conversation, as the library
renders and reads it. Nothing of the package's own rendering or spans is the measure."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from hardscale.attacks.base import run_attack
from hardscale.attacks.chat_text import render
from hardscale.attacks.codec import Codec
from hardscale.evaluation.chat_replies import attacked_prompt, replies
from hardscale.evaluation.judges.ask import prompt_tokens
from hardscale.models.chat import ChatTemplate
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.settings.attacks import Direct, Prefill
from hardscale.tasks.chat import Behavior
from hardscale.training.continuous.encode import triples_of
from real_attacks import REQUESTS, plain, read, target_tokens
from real_pairs import CHAT_PAIRS, PAIRS, Pair, by_name, needs_tokenizers, tiny_model, tokenizer_of

pytestmark = needs_tokenizers
#: Three turns; a template that strips what it is given strips nothing here.
TALK = (
    ("user", "Tell me how bread is baked"),
    ("assistant", "Sure, here is a guide:\n1. Mix flour and water."),
    ("user", "And then?"),
    ("assistant", "Wait an hour, then bake it."),
    ("user", "Is that all \u00e9tape par \u00e9tape?"),
    ("assistant", "Yes \U0001f35e, that is all."),
)
ANSWERS = ("Sure, here is", "I can't", "1. First", "```python\nx = 1", "\u00c9tape", "\U0001f35e", "a")
#: Begins that some tokenizers join with the end of a prompt, where the template leaves them as they are.
JOINING = ("(yes)", "\nSure", " Sure", "\n\nSure", "] Sure", ">")
#: What a rendered conversation has besides prompt and answer: the pairs where something else than white space follows
#: the end of the last turn.
BEHIND = {"phi3": "<|endoftext|>"}  # of the conversation: no reply ends in it, as the template writes no turn after it
#: How the library is asked for the prompt that an answer follows, where the plain generation prompt is another one.
ASKED = {"qwen3": {"enable_thinking": False}}  # answers follow an empty block of thoughts; so must openings and replies


def rendered(pair: Pair, turns: Any, **more: Any) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return str(tokenizer_of(pair).apply_chat_template(messages, tokenize=False, **more))


def asked(pair: Pair, turns: Any) -> list[int]:
    """Tokens of the prompt that the next answer follows."""
    text = rendered(pair, turns, add_generation_prompt=True, **ASKED.get(pair.name, {}))
    return read(tokenizer_of(pair), text)


@pytest.mark.parametrize("n_turns", [1, 2, 3])
@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_prompt_and_answer_are_the_rendered_conversation(pair: Pair, n_turns: int) -> None:
    tokenizer, template, talk = tokenizer_of(pair), ChatTemplate(tokenizer_of(pair)), TALK[: 2 * n_turns]
    whole = read(tokenizer, rendered(pair, talk))
    ids, first = template.labeled(talk, 10_000)
    assert ids == whole[: len(ids)]
    assert tokenizer.decode(whole[len(ids) :]).strip() == BEHIND.get(pair.name, "")
    assert ids[:first] == asked(pair, talk[:-1])
    # The answer, the end of its turn and nothing else.
    said = tokenizer.decode(ids[first:])
    end = said.removeprefix(talk[-1][1]).strip()
    assert said.startswith(talk[-1][1]) and end in rendered(pair, talk) and " " not in end
    assert tokenizer.decode(ids[first:-1]).strip() != said.strip()
    everything, begins = template.conversation(talk, 10_000)
    assert (everything, begins) == (whole, first)
    for n in range(len(ids) - 3, len(ids)):
        assert template.labeled(talk, n) == (ids[:n], first)


@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_an_earlier_answer_ends_where_its_turn_does(pair: Pair) -> None:
    """A conversation cut before its last answer: the labels are the second answer and no word of the third question."""
    tokenizer, template = tokenizer_of(pair), ChatTemplate(tokenizer_of(pair))
    whole = read(tokenizer, rendered(pair, TALK))
    _, third = template.labeled(TALK, 10_000)
    ids, first = template.labeled(TALK, third - 1)
    assert ids == whole[: len(ids)] and len(ids) < third - 1
    said = tokenizer.decode(ids[first:])
    assert said.startswith(TALK[3][1]) and "that" not in said


@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_one_answer_after_one_request(pair: Pair) -> None:
    tokenizer, template = tokenizer_of(pair), ChatTemplate(tokenizer_of(pair))
    request = TALK[0][1]
    prompt = asked(pair, TALK[:1])
    assert template.prompt_ids(request) == prompt
    ends = set()
    for answer in ANSWERS:
        encoded = template.encode(request, answer)
        whole = read(tokenizer, rendered(pair, [TALK[0], ("assistant", answer)]))
        assert encoded.prompt + encoded.answer == tuple(whole[: len(encoded.prompt) + len(encoded.answer)])
        assert list(encoded.prompt) == prompt
        start, stop = encoded.user
        assert tokenizer.decode(encoded.prompt[start:stop]).strip() == request
        assert list(encoded.answer) == template.answer_ids(answer)
        ends.add(encoded.answer[-1])
    assert len(ends) == 1


@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_answers_that_join_with_the_prompt_are_still_the_whole(pair: Pair) -> None:
    tokenizer, template = tokenizer_of(pair), ChatTemplate(tokenizer_of(pair))
    for answer in JOINING:
        text = rendered(pair, [TALK[0], ("assistant", answer)])
        encoded = template.encode(TALK[0][1], answer)
        whole = read(tokenizer, text)
        assert encoded.prompt + encoded.answer == tuple(whole[: len(encoded.prompt) + len(encoded.answer)])
        assert tokenizer.decode(whole[len(encoded.prompt) + len(encoded.answer) :]).strip() in BEHIND.get(pair.name, "")


@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_rows_of_training_share_a_prompt_and_are_the_whole(pair: Pair) -> None:
    tokenizer, template = tokenizer_of(pair), ChatTemplate(tokenizer_of(pair))
    one = Behavior(0, "bread", TALK[0][1], None, None, ("Sure: bread", "\nBread", "] no"), "I would rather not.")
    triples, _ = triples_of([one], template, tokenizer, 10_000)
    for triple, target in zip(triples, one.targets, strict=True):
        for answer, text in ((triple.away, target), (triple.toward, one.safe_answer)):
            talk = rendered(pair, [TALK[0], ("assistant", text)])
            assert list(triple.prompt + answer) == read(tokenizer, talk)[: len(triple.prompt + answer)]
        assert triple.prompt == triples[0].prompt and triple.toward == triples[0].toward
    suffix, _ = triples_of([one], template, tokenizer, 10_000, "suffix", 3)
    [mark] = {*suffix[0].prompt[slice(*suffix[0].span)]}
    assert tokenizer.convert_ids_to_tokens(mark) == "!"


@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_attacks_and_helpers_read_the_same_prompt(pair: Pair) -> None:
    tokenizer, template = tokenizer_of(pair), ChatTemplate(tokenizer_of(pair))
    codec = Codec(tokenizer, len(tokenizer), closing=False)
    for position in ("suffix", "prefix"):
        before, after = template.around(TALK[0][1], position)  # type: ignore[arg-type]
        assert codec.encode_prompts([before + after]) == [asked(pair, TALK[:1])]
        assert codec.encode_spans(before + after)[0] == asked(pair, TALK[:1])
    for n in (1, 3, 5):
        assert render(tokenizer, TALK[:n]) == asked(pair, TALK[:n])
        opened = render(tokenizer, TALK[:n], '{"improvement')
        whole = read(tokenizer, rendered(pair, [*TALK[:n], ("assistant", '{"improvement": ""}')]))
        shared = sum(1 for _ in itertools.takewhile(lambda two: two[0] == two[1], zip(opened, whole, strict=False)))
        assert len(asked(pair, TALK[:n])) < shared and len(opened) - shared <= 1  # the last word may go on


@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_a_prompt_that_spells_its_bos_has_one(pair: Pair) -> None:
    tokenizer = tokenizer_of(pair)
    bos = tokenizer.bos_token or ""
    wanted = tokenizer("[INST] Is this bread? [/INST]")["input_ids"].count(tokenizer.bos_token_id)
    for text in ("[INST] Is this bread? [/INST]", bos + "[INST] Is this bread? [/INST]"):
        n = max(wanted, text.startswith(bos)) if bos else 0
        for ids in (
            prompt_tokens(tokenizer, text),
            Codec(tokenizer, len(tokenizer), closing=False).encode_prompts([text])[0],
            PromptTokens(tokenizer).encode(text)[0],
        ):
            assert ids.count(tokenizer.bos_token_id) == n


def greedily(pair: Pair, n_tokens: int) -> tuple[Any, str, str]:
    """A tiny model, a request, and what the model writes greedily after its prompt, by plain forwards of the whole.

    The first of many whose text, read behind the prompt, is the tokens that were written, and so is its first token's.
    """
    tokenizer = tokenizer_of(pair)
    for seed in range(30):
        model = tiny_model(pair, seed)
        for request in REQUESTS:
            prompt = ChatTemplate(tokenizer).prompt(request) if pair.template else request
            ids = read(tokenizer, prompt)
            texts = []
            for _ in range(n_tokens):
                with torch.no_grad():
                    ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
                texts.append(tokenizer.decode(ids).removeprefix(tokenizer.decode(read(tokenizer, prompt))))
            n = len(ids) - n_tokens
            if texts[0].strip() and all(
                read(tokenizer, prompt + texts[i]) == ids[: n + i + 1] for i in (0, -1 % n_tokens)
            ):
                return model, request, texts[-1]
    raise AssertionError("no reply of these models is read back from its text")


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.vocabulary in ("llama2", "gpt_neox")], ids=by_name)
def test_an_opening_that_the_model_writes_is_a_success(pair: Pair) -> None:
    """Loss and success of openings behind their prompts, of begins that are given, and the reply that is written."""
    tokenizer, (model, request, text) = tokenizer_of(pair), greedily(pair, 3)
    frame = ChatTemplate(tokenizer).request(request) if pair.template else None
    prompt = (frame.before + frame.text, frame.after) if frame else (request, "")
    for block in (Direct(kind="direct"), Prefill(kind="prefill", n_prefill_tokens=1)):
        for target, wins in ((text, True), (text + " indeed", False), (" Sure, here", False)):
            [result] = run_attack(block, model, tokenizer, [prompt], [target])
            given = int(result.notes.get("n_prefilled", 0))
            ids, wanted = read(tokenizer, "".join(prompt)), target_tokens(tokenizer, "".join(prompt), target)
            loss, success = plain(model, [*ids, *wanted[:given]], wanted[given:])
            assert result.losses == pytest.approx([loss], abs=1e-4)
            assert result.successes == [success]
            assert success is wins or target == " Sure, here"
            assert result.prompt_text == "".join(prompt) + result.text and (block.kind == "direct" or given == 1)
            if frame and given and wins:
                begun = attacked_prompt(0, ChatTemplate(tokenizer), frame, result)
                [reply] = replies(model, tokenizer, [begun], 3 - given, "test")
                assert reply == text.removeprefix(" ") or reply == text
