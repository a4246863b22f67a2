"""A few hundred cases of the fuzzer of tables; and that it sees what it looks for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import tables

from hardscale.errors import DataError


def test_broken_tables_come_out_whole_or_in_one_line():
    found = [wrong for case in tables.cases(0, 400) if (wrong := tables.check(case))]
    assert not found, "\n".join(found[:10])


def test_cases_are_those_of_their_seed():
    assert tables.cases(3, 20) == tables.cases(3, 20) != tables.cases(4, 20)
    assert {case.reader for case in tables.cases(0, 400)} == set(tables.READERS)


def raises(error):
    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    ("reader", "wrong"),
    [
        (raises(KeyError("x")), "KeyError"),
        (raises(RecursionError()), "RecursionError"),
        (raises(DataError("a\nb")), "not one printable line"),
        (raises(DataError("found \x1b[31m")), "not one printable line"),
        (raises(DataError("found zeppelin")), "quotes the data"),
        (lambda path: print("quartz", file=sys.stderr), "quotes the data"),
        (lambda path: None, "CPU-s"),
        (lambda path: None, None),
    ],
)
def test_the_fuzzer_sees(monkeypatch, reader, wrong):
    if wrong == "CPU-s":
        monkeypatch.setattr(tables, "LIMIT", -1.0)
    monkeypatch.setitem(tables.READERS, "behaviors", reader)
    case = tables.Case("behaviors", "rows.csv", b"Behavior,BehaviorID\na,b\n", "a test")
    found = tables.check(case)
    assert found is None if wrong is None else wrong in found
