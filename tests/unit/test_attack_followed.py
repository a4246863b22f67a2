"""Targets as they follow prompts: also where they join with attack texts, by plain forwards of what is read."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest
import torch
from attack_fixtures import byte_tokenizer, language_model
from chat_kit import CHATML, INST, chat_tokenizer

from hardscale.attacks.base import attack, run_attack
from hardscale.attacks.followed import Followed, score_texts
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.errors import AttackError
from hardscale.models.chat import ChatTemplate
from hardscale.models.parameters import frozen
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.settings.attacks import Prefill
from hardscale.settings.study_attacks import ATTACK_KINDS

TOKENIZER = byte_tokenizer()
#: Nothing stands between attack text and target, so that they join or not, text by text.
PROMPTS = [("Please go on", ""), ("The sun is ", ""), ("Look: ", " and the sun is")]
TARGETS = ["nding the rest", "er than you", "t"]


def read(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def oracle(model: Any, prompt: str, target: str) -> tuple[float, bool, bool]:
    """Loss and success of a target by one plain forward, and whether it joins with the prompt's last token."""
    ids, whole = read(prompt), read(prompt + target)
    joins = whole[: len(ids)] != ids
    wanted = read(target) if joins else whole[len(ids) :]  # a byte-level text is read alone as inside another
    with torch.no_grad():
        logits = model(torch.tensor([ids + wanted])).logits[0, len(ids) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(wanted))
    return float(loss), bool((logits.argmax(1) == torch.tensor(wanted)).all()), joins


@pytest.mark.parametrize("method", ["gcg", "random_token", "beast", "adaptive"])
def test_what_is_scored_follows_the_attack_text(method: str) -> None:
    model = language_model()
    for seed in range(3):
        options: dict[str, Any] = {"n_iterations": 4, "n_candidates": 40, "n_attack_tokens": 5}
        own = {"template": False} if method == "adaptive" else {"initial_text": "!"}
        block = ATTACK_KINDS[method]
        values = {k: v for k, v in {**options, **own}.items() if k in block.model_fields}
        results = run_attack(
            block.model_validate({"kind": method, **values}), model, TOKENIZER, PROMPTS, TARGETS, seed=seed
        )
        for result, target in zip(results, TARGETS, strict=True):
            loss, success, _ = oracle(model, result.prompt_text, target)
            assert result.losses[-1] == pytest.approx(loss, abs=2e-4)
            assert result.successes[-1] == success


def test_targets_that_join_with_the_prompt_are_scored_as_a_model_can_write_them() -> None:
    model, joined = language_model(), []
    words = sorted(text for i in range(len(TOKENIZER)) if (text := TOKENIZER.decode([i])).isalpha() and len(text) > 1)
    for word in words[:40]:
        prompt, target = "Go on: " + word[:1], word[1:] + "."
        [result] = attack(model, TOKENIZER, [(prompt, "")], [target], method="direct")
        loss, success, joins = oracle(model, prompt, target)
        assert (result.losses, result.successes) == ([pytest.approx(loss, abs=2e-4)], [success])
        joined.append(joins)
    assert sum(joined) > 5


def test_prompts_of_one_length_behind_which_a_target_is_read_otherwise() -> None:
    model, target = language_model(), "nd then."
    prompts = [f"Go on: {letter}" for letter in string.ascii_letters]
    n = len(read(prompts[0]))
    texts = [text for text in prompts if len(read(text)) == n]
    victim = LanguageVictim(model, TOKENIZER, [target], ["0"])
    victim.follow([prompts[0]])
    with frozen(model):
        [scores] = score_texts(victim, [(0, torch.tensor([read(text) for text in texts]), texts)])
    wanted = [oracle(model, text, target) for text in texts]
    assert scores.losses.tolist() == pytest.approx([loss for loss, _, _ in wanted], abs=2e-4)
    assert scores.successes.tolist() == [success for _, success, _ in wanted]
    assert len(texts) > 5 and {joins for _, _, joins in wanted} == {False, True}


@pytest.mark.parametrize("template", [CHATML, INST])
def test_ends_that_are_read_once_are_read_right(template: str) -> None:
    tokenizer = chat_tokenizer(template)
    frame, rng = ChatTemplate(tokenizer).request("Write the word apple."), random.Random(0)
    followed, plain = Followed(tokenizer), PromptTokens(tokenizer)
    followed.begin([frame.before + frame.text + frame.after] * 2)
    letters = "abc !?.<|\n\u00e9" + "<|im_end|>"
    for target in (" Sure, here", "\nSure", "apple"):
        prompts = [
            frame.before + frame.text + "".join(rng.choices(letters, k=rng.randint(0, 9))) + frame.after
            for _ in range(40)
        ]
        asked = [(i % 2, prompt, target) for i, prompt in enumerate(prompts)]
        for _ in range(2):
            assert followed.tokens(asked) == plain.following([(prompt, target) for prompt in prompts])
        # Prompts that end otherwise are read for themselves.
        assert followed.tokens([(0, "apple", target)]) == plain.following([("apple", target)])


def test_begins_that_are_given_cut_no_character() -> None:
    tokens, text = PromptTokens(TOKENIZER), "\u00e9t\u00e9 \U0001f35e is good"
    for n in range(1, len(read(text)) + 2):
        begun = tokens.begin("Go on: ", text, n)
        assert text.startswith(begun) and len(read("Go on: " + begun)) - len(read("Go on: ")) <= n
    assert tokens.begin("Go on: ", text, 0) == "" and tokens.begin("Go on: ", text, 99) == text
    model = language_model()
    block = Prefill(kind="prefill", n_prefill_tokens=4)
    [result] = run_attack(block, model, TOKENIZER, [("Go on: ", "")], [text])
    assert text.startswith(result.text) and result.prompt_text == "Go on: " + result.text
    loss, success, _ = oracle(model, result.prompt_text, text.removeprefix(result.text))
    assert (result.losses, result.successes) == ([pytest.approx(loss, abs=2e-4)], [success])


def test_a_target_without_tokens() -> None:
    with pytest.raises(AttackError, match="example 7: the target text has no tokens"):
        attack(language_model(), TOKENIZER, [("Go on", "")], [""], method="direct", keys=[7])
