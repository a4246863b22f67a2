"""The kinds of value that a study holds: each number between two bounds, each text and list of a bounded length.

An upper bound is what a large cluster could still mean; beyond it is a slip of the keyboard. Every kind says in words
of its own what it expects, so that no message depends on the library that checks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

#: The type of an error whose message is what was expected.
EXPECTED = "expected"
#: Control characters that lay out a text; every other one is refused anywhere.
_LAYOUT = frozenset("\t\n\v\f\r\x85\u2028\u2029")
_SMALLEST = 1e-12


def described_as(schema: CoreSchema, words: str) -> CoreSchema:
    """A schema whose errors all say the same: what was expected."""
    return core_schema.custom_error_schema(schema, custom_error_type=EXPECTED, custom_error_message=words)


def _number(value: Any) -> Any:
    if isinstance(value, bool | str | bytes):
        raise ValueError("no number")
    return value


class Whole:
    """Annotation of ``int``: from ``low`` to ``high``. Neither true nor text is a number; 1e3 is a whole one."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of such a number."""
        number = core_schema.int_schema(ge=self.low, le=self.high)
        found = core_schema.no_info_before_validator_function(_number, number)
        words = f"a whole number of at least {self.low:,} and at most {self.high:,}"
        return described_as(found, words)


class Real:
    """Annotation of ``float``: finite, from ``low`` to ``high``, which ``below`` leaves out."""

    def __init__(self, low: float, high: float, *, below: bool = False) -> None:
        self.low, self.high, self.below = low, high, below

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of such a number."""
        high: Any = {"lt" if self.below else "le": self.high}
        number = core_schema.float_schema(ge=self.low, allow_inf_nan=False, **high)
        found = core_schema.no_info_before_validator_function(_number, number)
        upper = f"{'below' if self.below else 'at most'} {self.high:,.15g}"
        return described_as(found, f"a number of at least {self.low:g} and {upper}")


class Written:
    """Annotation of ``str``: a text of bounded length that a check lets pass."""

    def __init__(
        self, check: Callable[[str], bool], low: int, high: int, words: str, pattern: str | None = None
    ) -> None:
        self.check, self.low, self.high, self.words, self.pattern = check, low, high, words, pattern

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of such a text."""
        text = core_schema.str_schema(min_length=self.low, max_length=self.high, pattern=self.pattern)
        return described_as(core_schema.no_info_after_validator_function(self._checked, text), self.words)

    def _checked(self, text: str) -> str:
        if not self.check(text):
            raise ValueError(self.words)
        return text


class Patterned(Written):
    """Annotation of ``str``: a name of a pattern."""

    def __init__(self, pattern: str, high: int, words: str) -> None:
        # Python's own matcher decides: to the one that pydantic uses, a line end may follow the end.
        super().__init__(lambda text: re.fullmatch(pattern, text, re.ASCII) is not None, 1, high, words, pattern)


class Truth:
    """Annotation of ``bool``: true or false, and nothing that could stand for one of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of a truth value."""
        return described_as(core_schema.bool_schema(strict=True), "true or false")


def controls(text: str, layout: bool = False) -> list[str]:
    """Characters of a text that a terminal or a file could obey, but for white space where ``layout`` is allowed."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") and not (layout and c in _LAYOUT)]


def size(most: int, least: int = 1) -> Any:
    """Annotation of a list or a mapping: how much it may hold."""
    return Field(min_length=least, max_length=most)


Name = Annotated[
    str,
    Patterned(
        r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$",
        60,
        "a name: at most 60 lower-case letters, digits, dots, hyphens, underscores; a letter or digit at both ends",
    ),
]
TaskName = Annotated[
    str,
    Patterned(
        r"^[a-z][a-z0-9_]*$", 60, "a name: at most 60 lower-case letters, digits and underscores, a letter at its head"
    ),
]
#: Dots stand alone and within, so that no name is a path out of a folder.
_HUB_WORD = r"[A-Za-z0-9_](?:\.?[A-Za-z0-9_-])*"
HubName = Annotated[
    str, Patterned(rf"^(?:{_HUB_WORD}/)?{_HUB_WORD}$", 200, "a name on the hub: org/name of letters, digits, . _ and -")
]
HubRevision = Annotated[
    str,
    Patterned(r"^[A-Za-z0-9_](?:[./]?[A-Za-z0-9_-])*$", 200, "a revision on the hub: a commit, a branch or a tag"),
]
Line = Annotated[
    str,
    Written(
        lambda text: not controls(text) and bool(text.strip()),
        1,
        4_096,
        "one line of text: 1 to 4,096 characters, not blank, without control characters",
    ),
]
Text = Annotated[
    str,
    Written(
        lambda text: not controls(text, layout=True),
        0,
        100_000,
        "text: at most 100,000 characters, no control characters among them but tabs and line ends",
    ),
]
FilledText = Annotated[
    str,
    Written(
        lambda text: not controls(text, layout=True) and bool(text.strip()),
        1,
        100_000,
        "text: 1 to 100,000 characters, not blank, no control characters among them but tabs and line ends",
    ),
]
Flag = Annotated[bool, Truth()]

Fraction = Annotated[float, Real(0, 1)]
PositiveFraction = Annotated[float, Real(_SMALLEST, 1)]
#: ... of which something must be left.
FractionBelowOne = Annotated[float, Real(0, 1, below=True)]
#: Weights of losses and the like: of the order of one.
Factor = Annotated[float, Real(0, 1_000)]
PositiveFactor = Annotated[float, Real(_SMALLEST, 1_000)]
CutOff = Annotated[float, Real(-1_000, 1_000)]
LearningRate = Annotated[float, Real(_SMALLEST, 10)]
Epochs = Annotated[float, Real(0.001, 10_000)]

Seed = Annotated[int, Whole(0, 2**53 - 1)]
Steps = Annotated[int, Whole(1, 10_000_000)]
WarmupSteps = Annotated[int, Whole(0, 10_000_000)]
Rounds = Annotated[int, Whole(1, 1_000)]
Iterations = Annotated[int, Whole(1, 100_000)]
#: Rows of a data set, or of a part of it.
Examples = Annotated[int, Whole(1, 100_000_000)]
BatchSize = Annotated[int, Whole(1, 100_000)]
#: Candidates, beams, streams: what is tried beside each other.
Count = Annotated[int, Whole(1, 100_000)]
Shards = Annotated[int, Whole(1, 1_000)]
#: Of a prompt or a reply.
Tokens = Annotated[int, Whole(1, 1_000_000)]
#: Written by an attack.
AttackTokens = Annotated[int, Whole(1, 10_000)]
#: The most likely tokens of a vocabulary.
TopK = Annotated[int, Whole(1, 1_000_000)]
Ranks = Annotated[int, Whole(1, 10_000)]
