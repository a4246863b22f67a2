"""`make test` runs its parts side by side, and its last line counts them all."""

import re

import pytest

import run_parts

GOOD = """
import pytest
@pytest.mark.parametrize("i", range(3))
def test_good(i): ...
@pytest.mark.skip
def test_skipped(): ...
@pytest.mark.long
def test_long(): assert False
"""
BAD = """
import pytest
@pytest.fixture
def broken(): raise RuntimeError("no fixture")
def test_good(): ...
def test_bad(): assert "what is wrong" == "what is right"
def test_never(broken): ...
"""
CRASH = """
import os
def test_good(): ...
def test_crash(): os._exit(0)
"""
NONE = "x = 1"
SYNTAX = "def test_("


def run(monkeypatch, capfd, tmp_path, argv=(), **files):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  long: x\n  gpu: x\n")
    parts = {}
    for name, text in files.items():
        (tmp_path / f"test_{name}.py").write_text(text)
        parts[name] = (f"test_{name}.py", "-p", "no:cacheprovider")
    monkeypatch.setattr(run_parts, "PARTS", parts)
    monkeypatch.setattr(run_parts, "ROOT", tmp_path)
    monkeypatch.setattr(run_parts, "stop_with_us", lambda parts: None)
    monkeypatch.setattr("sys.argv", ["run_parts.py", "--logs", str(tmp_path / "logs"), *argv])
    status = run_parts.main()
    said = capfd.readouterr().out.splitlines()
    assert (tmp_path / "logs" / "summary.txt").read_text() == f"{said[-1]}\n"
    return status, said


def test_good_parts_are_added_up(monkeypatch, capfd, tmp_path):
    status, said = run(monkeypatch, capfd, tmp_path, a=GOOD, b=GOOD.replace("range(3)", "range(5)"))
    assert (status, said[-1]) == (0, "8 passed, 0 failed, 2 skipped")
    assert sorted(re.sub(r"^ *\d+:\d\d ", "", line).partition(" (")[0] for line in said[:-1]) == [
        "a: 3 passed, 0 failed, 1 skipped",
        "b: 5 passed, 0 failed, 1 skipped",
    ]


def test_failures_are_shown_and_counted_with_those_of_fixtures(monkeypatch, capfd, tmp_path):
    status, said = run(monkeypatch, capfd, tmp_path, a=GOOD, b=BAD)
    assert (status, said[-1]) == (1, "4 passed, 2 failed, 1 skipped")
    text = "\n".join(said)
    assert "what is wrong" in text and "no fixture" in text
    assert "===== b" in text and "===== a" not in text


@pytest.mark.parametrize("text", [CRASH, NONE, SYNTAX])
def test_a_part_that_crashes_or_runs_nothing_has_failed(text, monkeypatch, capfd, tmp_path):
    status, said = run(monkeypatch, capfd, tmp_path, a=GOOD, b=text)
    assert status == 1
    assert said[-1] in ("3 passed, 1 failed, 1 skipped", "3 passed, 2 failed, 1 skipped")


def test_one_part_alone_and_an_unknown_one(monkeypatch, capfd, tmp_path):
    assert run(monkeypatch, capfd, tmp_path, ["a"], a=GOOD, b=BAD)[1][-1] == "3 passed, 0 failed, 1 skipped"
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, capfd, tmp_path, ["c"], a=GOOD)


def test_every_test_file_is_in_exactly_one_part():
    tests = run_parts.ROOT / "tests"
    for path in tests.rglob("test_*.py"):
        seen = []
        for name, arguments in run_parts.PARTS.items():
            ignored = [run_parts.ROOT / word.partition("=")[2] for word in arguments if word.startswith("--ignore=")]
            chosen = [run_parts.ROOT / word for word in arguments if word.startswith("tests")]
            assert all(place.exists() for place in (*chosen, *ignored))
            if any(map(path.is_relative_to, chosen)) and not any(map(path.is_relative_to, ignored)):
                seen.append(name)
        assert len(seen) == 1, (path, seen)
