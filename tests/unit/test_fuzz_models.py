"""Some cases of the fuzzers of models and chat templates; and that they see what they look for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import models
import templates

from hardscale.errors import ModelError


def test_broken_models_are_usable_or_one_line():
    found = [wrong for case in models.cases(0, 200) if (wrong := models.check(case))]
    assert not found, "\n".join(found[:10])


def test_broken_templates_render_or_are_one_line():
    found = [wrong for case in templates.cases(0, 40) if (wrong := templates.check(case))]
    assert not found, "\n".join(found[:10])


def test_cases_are_those_of_their_seed():
    assert models.cases(3, 20) == models.cases(3, 20) != models.cases(4, 20)
    assert templates.cases(3, 20) == templates.cases(3, 20) != templates.cases(4, 20)
    assert {case.reader for case in models.cases(0, 200)} == set(models.READERS)
    assert {case.broken for case in templates.cases(0, 40)} == {True, False}


@pytest.mark.parametrize("reader", models.READERS)
def test_what_is_right_is_taken(reader):
    assert models.check(models.Case(reader, "config.json", ("nothing",), 0)) is None


def raises(error):
    def read(folder):
        raise error

    return read


@pytest.mark.parametrize(
    ("reader", "broken", "wrong"),
    [
        (raises(KeyError("x")), "a bit", "KeyError"),
        (raises(RecursionError()), "a bit", "RecursionError"),
        (raises(ModelError("nothing of the folder")), "a bit", "not one printable line"),
        (lambda folder: f"{folder}: a\nb", "a bit", "not one printable line"),
        (lambda folder: f"{folder}: no", "nothing", "refused what is right"),
        (lambda folder: None, "empty", "accepted"),
        (lambda folder: None, "a bit", "CPU-s"),
        (lambda folder: None, "a bit", None),
    ],
)
def test_the_fuzzer_of_models_sees(monkeypatch, reader, broken, wrong):
    if wrong == "CPU-s":
        monkeypatch.setattr(models, "LIMIT", -1.0)
    monkeypatch.setitem(models.READERS, "before", reader)
    found = models.check(models.Case("before", "config.json", (broken,), 0))
    assert found is None if wrong is None else wrong in found


def test_the_fuzzer_of_templates_sees(monkeypatch):
    right = templates.Case(templates.RIGHT[0], broken=False)
    assert templates.check(right) is None
    monkeypatch.setattr(templates, "render", lambda *_: "other words")
    assert "renders 'other words'" in templates.check(right)
    monkeypatch.setattr(templates, "render", _key_error)
    assert "KeyError" in templates.check(right)
    monkeypatch.setattr(templates, "LIMIT", -1.0)
    assert "CPU-s" in templates.check(right)


def _key_error(*_):
    raise KeyError("x")
