"""Reading what modules say about themselves without importing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hardscale.artifacts.declared import declared
from hardscale.errors import StudyError


@dataclass(frozen=True)
class Fact:
    """What the modules of these tests say."""

    place: int
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.place < 0:
            raise ValueError(f"place: found {self.place}, expected at least 0")


DRAW = "def draw():\n    raise SystemExit\n"
GOOD = f'import nothing_of_this_name\n\nFACT = Fact(place=3, words=("a " "b", "c"))\n\n\n{DRAW}'


def read(root: Path, always: bool = True, **modules: str) -> dict[str, Fact]:
    (root / "things").mkdir()
    for name, text in modules.items():
        (root / "things" / f"{name}.py").write_text(text, encoding="utf-8")
    return declared("things", "FACT", Fact, "draw", always=always, root=root)


def test_modules_are_read_and_never_run(tmp_path: Path) -> None:
    helper = "def draw_lines():\n    return FACTS\n"
    found = read(tmp_path, zebra=GOOD, ant=f"FACT: Fact = Fact(place=-0)\n{DRAW}", helper=helper)
    assert list(found.items()) == [("ant", Fact(0)), ("zebra", Fact(3, ("a b", "c")))]


def test_a_function_of_that_name_alone_counts_only_where_it_has_to(tmp_path: Path) -> None:
    assert read(tmp_path, always=False, other=DRAW) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DRAW, "found 0 assignments of FACT; give one, `FACT = Fact(...)`"),
        (f"FACT = Fact(place=1)\nFACT = Fact(place=2)\n{DRAW}", "found 2 assignments of FACT"),
        ("FACT = Fact(place=1)\n", "it has FACT and no function `draw`"),
        (f"FACT = {{'place': 1}}\n{DRAW}", "line 1: FACT is not a call; write `FACT = Fact(...)`"),
        (f"FACT = Other(place=1)\n{DRAW}", "line 1: FACT is not a call"),
        (f"FACT = Fact(1)\n{DRAW}", "line 1: give every value of FACT by its keyword"),
        (f"FACT = Fact(**ALL)\n{DRAW}", "line 1: give every value of FACT by its keyword"),
        (f"\nFACT = Fact(place=1 + N)\n{DRAW}", "line 2: FACT may hold literals alone"),
        (f"FACT = Fact(place=len('ab'))\n{DRAW}", "line 1: FACT may hold literals alone"),
        (f"FACT = Fact(place=1, color='red')\n{DRAW}", "line 1: FACT: "),
        (f"FACT = Fact()\n{DRAW}", "line 1: FACT: "),
        (f"FACT = Fact(place=-1)\n{DRAW}", "line 1: FACT: place: found -1, expected at least 0"),
        (f"FACT = Fact(place=1\n{DRAW}", "line 1: "),
    ],
)
def test_what_is_missing_or_wrong_is_said_with_the_file(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        read(tmp_path, good=GOOD, bad=text)
    assert str(caught.value).startswith(f"{tmp_path}/things/bad.py: {words}")
