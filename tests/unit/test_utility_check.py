"""The preflight of what chat models are measured and judged with: each missing thing is a line."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from hardscale.errors import StudyError
from hardscale.evaluation.lm_eval_tool import PYTHON
from hardscale.ops.preflight import problems, utility_problems
from hardscale.settings.study import Study, parse_study
from hardscale.tasks import hub
from lm_eval_stand_in import asked, stand_in

SCRIPTS = Path(__file__).parents[2] / "scripts"


def study(**changes: Any) -> Study:
    scales = {"a": {"n_layers": 1, "width": 8, "n_heads": 1}}
    values = {
        "name": "s",
        "tasks": {"apples": {"kind": "behaviors", "test": {"behaviors": "test.csv"}}},
        "families": {"tiny": {"source": "scratch", "scales": scales}},
        "grid": [{"tasks": ["apples"], "families": ["tiny"], "seeds": [0]}],
        "attacks": {"direct": {"kind": "direct"}},
        "evaluate": [{"attacks": ["direct"]}],
    }
    return parse_study({**values, **changes}, "s.yaml")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: Any) -> Path:
    """A data root that is the working directory, no network and an empty cache of the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARDSCALE_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", PYTHON):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


TABLES = {
    "harmless": "hub:org/name/x.parquet",
    "mmlu": "nowhere.jsonl",
    "polite": "hub:cais/mmlu",
    "mt_bench": {"questions": "gone.jsonl", "judge": "judge_of_mine:grade"},
}


def test_every_missing_table_and_text_is_named(place: Path) -> None:
    judges = [{"kind": "rules"}, {"kind": "copyright", "references": "texts.json"}]
    lines = utility_problems(study(utility=TABLES, judges=judges))
    starts = [
        "utility.harmless: x.parquet of data set org/name is not here",
        "utility.mmlu: 'nowhere.jsonl' is not there",
    ]
    starts += ["utility.polite: 'hub:cais/mmlu' is not hub:org/name/file", "utility.mt_bench.questions: 'gone.jsonl'"]
    starts += ["judges.1.references: 'texts.json' is not there", "utility.mt_bench.judge: no module 'judge_of_mine'"]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start) and "\n" not in line
    assert "offline mode is on" in lines[0]
    # The same lines come with those of the task's own files.
    assert set(lines) < set(problems(study(utility=TABLES, judges=judges)))


def test_what_is_there_or_on_the_hub_passes(place: Path, monkeypatch: Any) -> None:
    for name in ("nowhere.jsonl", "gone.jsonl", "judge_of_mine.py", "polite.csv", "texts.json"):
        (place / name).touch()
    judges = [{"kind": "rules"}, {"kind": "copyright", "references": "texts.json"}]
    tables = {**TABLES, "polite": "polite.csv"}
    assert len(utility_problems(study(utility=tables, judges=judges))) == 1  # the one on the hub
    cached = place / "hf/hub/datasets--org--name"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("abc")
    (cached / "snapshots/abc").mkdir(parents=True)
    (cached / "snapshots/abc/x.parquet").touch()
    assert utility_problems(study(utility=tables, judges=judges)) == []
    (cached / "refs/main").unlink()
    monkeypatch.setattr(hub, "reachable", lambda: True)
    assert utility_problems(study(utility=tables, judges=judges)) == []
    assert utility_problems(study()) == []


def test_the_model_that_rates_is_known_and_looked_for(place: Path) -> None:
    mine = {"source": "models", "scales": {"7b": {"path": "graders/7b"}}}
    families = {**study().model_dump(exclude_unset=True)["families"], "graders": mine}
    judge = {"family": "graders", "scale": "7b"}
    chosen = study(families=families, utility={"mt_bench": {"questions": "q", "judge": judge}})
    assert chosen.other_models() == [("graders", "7b")]
    assert any(line.startswith("families.graders.scales.7b: graders/7b: no such folder") for line in problems(chosen))
    with pytest.raises(StudyError, match=r"utility\.mt_bench\.judge\.scale: '8b' is not one of 7b"):
        study(families=families, utility={"mt_bench": {"questions": "q", "judge": {**judge, "scale": "8b"}}})


def test_a_study_of_classifiers_measures_no_utility(place: Path) -> None:
    values = {
        "tasks": {"password_match": {}},
        "attacks": {"gcg": {"kind": "gcg"}},
        "utility": {**TABLES, "lm_eval": {}},
    }
    grid = [{"tasks": ["password_match"], "families": ["tiny"], "seeds": [0]}]
    with pytest.raises(StudyError, match="utility: found in a study without a chat task"):
        study(**values, grid=grid, evaluate=[{"attacks": ["gcg"]}])
    chosen = study(**{**values, "utility": None}, grid=grid, evaluate=[{"attacks": ["gcg"]}])
    assert utility_problems(chosen) == []


# --- lm_eval ----------------------------------------------------------------------------------------------------------


def lines_of(conda: bool = False, **settings: Any) -> list[str]:
    return utility_problems(study(utility={"lm_eval": settings}), conda)


def test_an_interpreter_that_is_none_is_named_with_its_key(place: Path, monkeypatch: Any) -> None:
    [line] = lines_of(python="venv/bin/python")
    assert line.startswith(f"utility.lm_eval.python: {place}/venv/bin/python is no interpreter")
    monkeypatch.setenv(PYTHON, str(place))
    [line] = lines_of(conda=True)
    assert line.startswith(f"{PYTHON}: {place} is no interpreter")
    (place / "broken").write_text("#!/nowhere/python\n")
    (place / "broken").chmod(0o755)
    monkeypatch.setenv(PYTHON, str(place / "broken"))
    [line] = lines_of()
    assert "cannot be run" in line and PYTHON in line


def test_environments_that_snakemake_makes_are_not_there_yet() -> None:
    assert lines_of(conda=True) == []


def test_an_interpreter_without_the_package_is_named(monkeypatch: Any, place: Path) -> None:
    """A real interpreter, which cannot import what is not there."""
    bare = place / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(bare))
    [line] = lines_of()
    assert "has no usable lm_eval (ModuleNotFoundError" in line and "envs/lm-eval.yaml" in line


def test_unknown_tasks_and_data_out_of_reach_are_named(place: Path, monkeypatch: Any) -> None:
    said = {"version": "9.9", "unknown": ["mmlo"], "known": ["mmlu", "arc"], "data": ["cais/mmlu", "ai2_arc"]}
    monkeypatch.setenv(PYTHON, str(stand_in(place / "tool", check=said)))
    first, second = lines_of(tasks=["mmlo"])
    assert "'mmlo' is no task of lm_eval 9.9 (did you mean 'mmlu'?)" in first
    assert "not in the hub's cache: cais/mmlu, ai2_arc; and offline mode is on" in second
    (place / "hf/datasets/cais___mmlu/all/0.0.0/abc").mkdir(parents=True)
    assert "cache: ai2_arc; and" in lines_of(tasks=["mmlo"])[1]
    monkeypatch.setattr(hub, "reachable", lambda: True)
    assert len(lines_of(tasks=["mmlo"])) == 1


def test_the_folder_of_tasks_is_looked_for_and_told(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(PYTHON, str(stand_in(place / "tool")))
    [line] = lines_of(include_path="tasks")
    assert line.startswith("utility.lm_eval.include_path: 'tasks' is no folder")
    (place / "tasks").mkdir()
    assert lines_of(include_path="tasks", tasks=["toy"]) == []
    assert asked(place / "tool") == [("check", {"tasks": ["toy"], "include_path": str(place / "tasks")})]


def test_the_checks_load_nothing_heavy_and_take_no_time() -> None:
    code = """
        import sys, time
        from hardscale.ops.preflight import utility_problems
        import hardscale.plan.measures
        heavy = {"torch", "transformers", "datasets", "pandas", "lm_eval"} & set(sys.modules)
        assert not heavy, heavy
        assert time.process_time() < 10, "1 s on a quiet machine"
    """
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)
