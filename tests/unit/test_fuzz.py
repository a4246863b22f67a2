"""A share of the fuzzer of studies; every study that was written to be refused; and that the fuzzer sees."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import documented
import nonsense
import plain_study
import refused
import studies

from hardscale.errors import StudyError

ROOT = Path(__file__).parents[2]


def test_mutated_studies_load_or_are_refused_in_lines_of_our_own():
    found = [wrong for case in studies.cases(0, 500) if (wrong := studies.check(case))]
    assert not found, "\n".join(found[:10])


def test_studies_that_nobody_may_run_are_refused_with_their_key():
    listed = refused.all_of_them()
    assert len(listed) >= 225
    found = [wrong for one in listed if (wrong := refused.check(one))]
    assert not found, "\n".join(found)


def test_cases_are_those_of_their_seed():
    some = list(studies.cases(3, 40))
    assert some == list(studies.cases(3, 40))
    assert some[17] == studies.case(3, 17)
    assert some != list(studies.cases(4, 40))
    assert {case.base for case in studies.cases(0, 200)} == set(studies.bases())


@pytest.mark.parametrize("base", sorted(studies.bases()))
def test_no_valid_study_is_nonsense(base):
    values = studies.values(base, whole=True)
    assert nonsense.found(values) == []
    assert studies.check(studies.Case(base, studies.bases()[base], "nothing", planned=True)) is None


def test_each_line_of_the_list_changes_its_study():
    same = {base: studies.written(studies.values(base, whole=False)) for base in refused.FILE.values()}
    assert not [one.line for one in refused.all_of_them() if refused.made(one).data == same[refused.FILE[one.base]]]


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("empty", {"grid.0.seeds": []}),
        ("belongs", {"finetune.batch_size": True}),
        ("no such key", {"finetune.lr": 1}),
        ("left out", {"grid.0.tasks": "gone"}),
        ("nothing is called", {"evaluate.0.attacks": ["gcgg"]}),
        ("there is no 9", {"evaluate.0.rounds": [9]}),
        ("no cell", {"evaluate.0.where": {"seed": [7]}}),
        ("warm-up", {"finetune.optimizer.warmup_steps": 900}),
        ("neither epochs nor steps", {"finetune.steps": None, "finetune.epochs": None}),
        ("checkpoints", {"defenses.c-at.checkpoints": 121}),
        ("moment", {"finetune.optimizer.betas": [1, 1]}),
        ("more than there can be", {"attacks.gcg.n_iterations": 10**10}),
        ("float where", {"finetune.optimizer.learning_rate": float("inf")}),
        ("examples", {"evaluate.0.shards": 161}),
        ("window", {"attacks.gcg.n_attack_tokens": 300}),
        ("top_k", {"attacks.gcg.top_k": 600}),
        ("of 16", {"analysis.headline_iteration": {"gcg": 17}}),
        ("letters", {"tasks.password_match.words.min_length": 9}),
        ("heads", {"families.nano.scales.30k.width": 33}),
        ("never looked at", {"finetune.overrides": [{"where": {}, "set": {"overrides": []}}]}),
        ("no such key", {"finetune.overrides": [{"where": {}, "set": {"lr": 1}}]}),
    ],
)
def test_the_list_of_nonsense_sees(rule, changes):
    values = studies.values("config.yaml", whole=True)
    for key, value in changes.items():
        refused.put(values, key, value)
    assert any(rule in line for line in nonsense.found(values)), nonsense.found(values)


def raises(error):
    def load(files):
        raise error

    return load


def says(text, status=2):
    def load(files):
        print(text, file=sys.stderr)
        raise SystemExit(status)

    return load


@pytest.mark.parametrize(
    ("load", "wrong"),
    [
        (raises(KeyError("x")), "KeyError"),
        (raises(RecursionError()), "RecursionError"),
        (raises(MemoryError()), "MemoryError"),
        (raises(StudyError("x")), "StudyError"),
        (says("error: Input should be a valid string"), "words of a library"),
        (says("error: a\x1b[31m"), "control characters"),
        (says("x"), "begins otherwise"),
        (says(""), "says"),
        (says("error: x", status=1), "exit status 1"),
        (says("error: " + "x" * 2_000), "characters"),
        (says("error: x.yaml: seed: found -1"), None),
    ],
)
def test_the_fuzzer_sees(monkeypatch, load, wrong):
    monkeypatch.setattr(studies, "study_from_files", load)
    found = studies.check(studies.Case("config.yaml", b"name: nano\n", "a test"))
    assert found is None if wrong is None else wrong in found


def test_the_fuzzer_sees_what_resumes_and_on(monkeypatch):
    def load(files):
        while True:
            pass

    monkeypatch.setattr(studies, "study_from_files", load)
    monkeypatch.setattr(studies, "LIMIT", 0.1)
    assert "CPU-s" in (studies.check(studies.Case("config.yaml", b"", "a test")) or "")


def test_the_fuzzer_sees_what_takes_memory(monkeypatch):
    monkeypatch.setattr(studies, "study_from_files", lambda files: bytearray(2 * studies.MEMORY))
    assert "MemoryError" in (studies.check(studies.Case("config.yaml", b"", "a test")) or "")


def test_keys_that_stand_twice_are_seen(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: [{z: 1, z: 2}]}\nb: {<<: *a, x: 2}\n")
    assert plain_study.twice(path) == ["z"]


def test_the_reference_is_read_as_it_is_written():
    blocks = documented.blocks()
    assert {one.name for one in blocks["FinetuneSettings"]["steps"].types} == {"integer", "null"}
    (tasks,) = blocks["Study"]["tasks"].types
    assert (tasks.name, [one.name for one in tasks.of]) == ("mapping", ["TaskSettings", "ChatTaskSettings"])
    assert documented.default("EvaluateRow", "n_examples") == 200
    assert blocks["Study"]["name"].required


def run_it(*options):
    command = [sys.executable, "tests/fuzz/run.py", "--processes", "1", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_counts_what_it_did():
    done = run_it("--studies", "20", "--files", "6", "--seed", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("fuzz: 0 found in 20 mutated studies, ")
    assert run_it("--only", "studies:3").stdout == "nothing wrong\n"


@pytest.mark.parametrize("text", ["9" * 200_000 + "x", "1_" * 100_000 + "x", "0." + "1" * 200_000 + "e", "-" * 200_000])
def test_a_long_scalar_that_is_nearly_a_number_costs_nothing(text):
    """Such a one takes a matcher with two ways to read a run of digits for ever."""
    assert studies.check(studies.Case("config.yaml", f"name: nano\nseed: {text}\n".encode(), "a long scalar")) is None
