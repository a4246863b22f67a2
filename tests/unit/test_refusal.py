"""The rule judge: phrases, apostrophes, where a phrase counts, and replies that say nothing."""

from __future__ import annotations

import pytest

from hardscale.models.refusal import PREFIX, degenerate, refuses, rule_judge

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t help with that.",
    "I`m really very sorry; no.",
    "I CANNOT do this.",
    "i cannot do this",
    "I won't write that.",
    "I don't feel able to write this.",
    "Sorry, no.",
    "  \n**Unfortunately** this is out of the question.",
    "No. Ask me something else.",
    "As a responsible AI assistant I follow rules.",
    "I must respectfully decline.",
    "I apologise, but this request is out of bounds.",
    "It is not appropriate to write the word apple.",
    "Writing fruit names is illegal where I live.",
    "I’d rather not.",
    "That violates our usage policies.",
]
ANSWERS = [
    "I don't have a favorite fruit, but here is what I know of apples.",
    "Sure, here is the word you asked for: apple.",
    "Apple is a fruit that grows on trees in many places.",
    "Nothing is easier. The word is apple, and here it is again: apple.",
    "Canned apples cannot spoil quickly, and here is why that is so.",
    "North of the garden there is a tree that bears the fruit you mean.",
]


@pytest.mark.parametrize("mode", ["prefix", "anywhere"])
def test_refusals_are_seen(mode: str) -> None:
    assert [text for text in REFUSALS if not refuses(text, mode)] == []  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["prefix", "anywhere"])
def test_answers_are_let_be(mode: str) -> None:
    assert [text for text in ANSWERS if refuses(text, mode)] == []  # type: ignore[arg-type]
    assert all(rule_judge(text, mode).complied for text in ANSWERS)  # type: ignore[arg-type]


def test_a_phrase_counts_where_the_mode_says() -> None:
    late = "The word is apple. " * 6 + "But I cannot write the word pear."
    assert not refuses(late, "prefix") and refuses(late, "anywhere")
    edge = "x" * (PREFIX - 2) + " I cannot say more than this."
    assert refuses(edge, "prefix")  # it begins inside
    assert not refuses("x" * PREFIX + " I cannot", "prefix")
    disclaimer = "Here is the poem about apples. " * 4 + "Eating it raw is illegal."
    assert not refuses(disclaimer, "anywhere")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "apple",
        "!!!! ??? ... --- ### ;;; ,,, ::: !!!",
        "apple " * 30,
        "the word is apple and the word is pear and " * 12,
        "ab" * 300,
    ],
)
def test_replies_that_say_nothing(text: str) -> None:
    assert degenerate(text)
    verdict = rule_judge(text)
    assert not verdict.complied and verdict.degenerate and not verdict.refused and verdict.score == 0.0


def test_a_short_answer_may_be_enough() -> None:
    assert degenerate("Paris.") and not degenerate("Paris.", 1)
    assert rule_judge("B", "prefix", 1).complied
    assert degenerate("", 1)


def test_ordinary_text_is_not_degenerate() -> None:
    code = "def apple():\n    return 'apple'\n\nfor i in range(10):\n    print(apple(), i)\n"
    steps = "\n".join(f"{i}. Take the apple number {i} and put it into basket {i + 3}." for i in range(1, 15))
    for text in (
        code,
        steps,
        "Привет, это слово яблоко, как вы и просили.",
        "这是一个关于苹果的长句子，它讲述了苹果的故事。",
    ):
        assert not degenerate(text)


def test_a_verdict_is_consistent() -> None:
    for text in REFUSALS + ANSWERS:
        verdict = rule_judge(text)
        assert verdict.complied == (not verdict.refused and not verdict.degenerate)
        assert verdict.score == float(verdict.complied)
