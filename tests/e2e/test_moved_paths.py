"""A path of the job table is changed in one place of a copy: everything that knows of jobs follows."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from study_runs import Finished, StudyRun, call, copy_sources

CELL = "password_match/nano/a/s0"
STUDY = """
name: moved
tasks: {password_match: {n_train: 64, n_validation: 24}}
families: {nano: {source: scratch, scales: {a: {n_layers: 1, width: 8, n_heads: 2}}}}
grid: [{tasks: [password_match], families: [nano], seeds: [0]}]
finetune: {steps: 2}
attacks: {random-token: {kind: random_token, n_iterations: 2, n_attack_tokens: 4}}
evaluate: [{attacks: [random-token], defenses: [none], n_examples: 6}]
"""
MOVED = {
    'MODEL = "models/{lineage}/r{round}"': 'MODEL = "trained/{lineage}/round{round}"',
    'ATTACK = "attacks/{lineage}/r{round}/{part}"': 'ATTACK = "measured/under/{lineage}/{round}/{part}"',
    'TABLE = "tables/{name}"': 'TABLE = "tidy/{name}"',
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    """The study, run to all of its targets by a copy whose templates are others."""
    folder = tmp_path_factory.mktemp("moved")
    (folder / "repo").mkdir()
    sources = copy_sources(folder / "repo")
    paths = sources / "scripts/hardscale/artifacts/paths.py"
    text = paths.read_text()
    for before, after in MOVED.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    paths.write_text(text)
    (folder / "moved.yaml").write_text(STUDY)
    run = StudyRun(sources, folder / "moved.yaml", folder / "work")
    done = run.snakemake(PYTHONPATH=str(sources / "scripts"))
    assert done.status == 0, done.text
    return run


def entry(run: StudyRun, name: str, *options: object) -> Finished:
    scripts = str(run.sources / "scripts")
    return run.entry(name, *options, "--study", run.config, PYTHONPATH=scripts)


def test_the_workflow_makes_everything_at_the_new_places(moved: StudyRun) -> None:
    made = {path.parent.relative_to(moved.results).as_posix() for path in moved.results.rglob("manifest.json")}
    assert {f"trained/{CELL}/none/round00", f"measured/under/{CELL}/none/00/random-token"} <= made
    assert (moved.results / "tidy/runs.parquet").is_file() and (moved.results / "tidy/claims.csv").is_file()
    assert not [name for name in ("models", "attacks", "tables") if (moved.results / name).exists()]
    assert "Nothing to be done" in moved.snakemake("-n", PYTHONPATH=str(moved.sources / "scripts")).text


def test_status_gc_verify_and_cron_follow(moved: StudyRun) -> None:
    here = ("--directory", str(moved.folder))
    states = json.loads(entry(moved, "status", *here, "--json").text)["phases"]
    assert all(states[phase]["done"] and not sum(states[phase].values()) - states[phase]["done"] for phase in states)
    listed = entry(moved, "reclaim", *here, "--orphans")
    assert listed.status == 0 and "orphan" not in listed.text and "measured" not in listed.text, listed.text
    assert entry(moved, "verify").status == 0
    rows = moved.results / f"measured/under/{CELL}/none/00/random-token/attack.parquet"
    whole = rows.read_bytes()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["/bin/sh", str(moved.sources / "scripts/cron.sh")]
    options = ["--study", str(moved.config), *here]
    scripts = str(moved.sources / "scripts")
    pinned = call([*command, "pin", *options], moved.folder, cwd=Path("/"), PATH=path, PYTHONPATH=scripts)
    assert pinned.status == 0 and "tables" in pinned.text, pinned.text
    try:
        rows.write_bytes(whole[:-1])
        assert str(rows.parent.relative_to(moved.folder)) in entry(moved, "verify").text
        checked = call([*command, "check", *options], moved.folder, cwd=Path("/"), PATH=path, PYTHONPATH=scripts)
        assert checked.status == 1, checked.text
    finally:
        rows.write_bytes(whole)
