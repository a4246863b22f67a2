"""The README's sentences and docs/results.md are what stored runs support, by rule."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hardscale.analysis.claims import CLAIMS
from hardscale.analysis.verdict import STATEMENTS
from hardscale.artifacts import publish
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import CLEAN
from hardscale.artifacts.tables import write_table
from hardscale.errors import DataError
from hardscale.statements import stored
from hardscale.statements.page import BEGIN, END, chosen, readme_block, results_page, sentence, supported, with_block
from hardscale.statements.stored import StoredRun, store, stored_runs

ROOT = Path(__file__).parents[2]
HOME = ROOT / "docs" / "results"


def _claim(claim: str, low: float, high: float, outcome: str, **names: Any) -> dict[str, Any]:
    row = {**dict.fromkeys(CLAIMS.names), "claim": claim, "family": "f", "defense": "none", "attack": "gcg"}
    bounds = {"estimate": (low + high) / 2, "family_low": low, "family_high": high, "family_size": 3, "against": 0.0}
    return {**row, **bounds, "other": "x", "n_models": 12, "n_cells": 8, "outcome": outcome, **names}


def _run(name: str, *rows: dict[str, Any]) -> StoredRun:
    alone = _claim("gradient_helps", 0.1, 0.2, "supported", family_size=None, task="t")
    machine = ({"processor": f"CPU {name}", "instruction_set": "avx2", "torch": "AVX2"},)
    table = pd.DataFrame([alone, *rows], columns=CLAIMS.names)
    return StoredRun("nano", name, machine, {"python": "3.11", "torch": "2"}, "a" * 64, table, "| a |\n|---|\n| 1 |\n")


GRADIENT = _claim("gradient_helps", 0.1, 0.3, "supported", other="control")
ROUNDS = _claim("defense_lowers_asr", -0.4, -0.2, "supported", defense="rounds", other="round 0")
RANDOM = _claim("gcg_beats_random_token", 0.1, 0.3, "supported", other="rt")


def test_only_what_every_run_supports_is_said_with_the_numbers_of_the_first() -> None:
    undecided = {**RANDOM, "family_low": -0.1, "outcome": "undecided"}
    other = {**GRADIENT, "estimate": 0.5, "family_low": 0.4, "family_high": 0.6}
    runs = [_run("a", RANDOM, GRADIENT, ROUNDS), _run("b", undecided, other, ROUNDS)]
    assert [row["claim"] for row in supported(runs)] == ["gradient_helps", "defense_lowers_asr"]
    block = readme_block(runs)
    assert block.count("\n* ") == 2 and "each of the 2 stored runs supports" in block and "CPU a, avx2" in block
    assert "lowers the success of `gcg` by 30 points [20, 40]" in block and "20 points [10, 30]" in block
    assert "50 points" not in block and "RandomToken" not in block and "`rt`" not in block
    assert "like the 12 of a run (8 cells of task and scale); its 3 intervals hold together at 95%" in block
    alone = readme_block([_run("a", RANDOM)])
    assert "the one stored run supports" in alone and "`gcg` breaks more than `rt`" in alone


def test_rows_of_single_models_are_never_said() -> None:
    assert "nothing is claimed" in readme_block([_run("a")])
    assert "No run of this version is stored yet" in readme_block([])


def test_a_refuted_claim_is_not_said_and_at_most_four_are() -> None:
    rows = [
        _claim(one.name, 0.1, 0.3, "supported" if one.name != "gradient_helps" else "refuted", against=one.against)
        for statements in STATEMENTS.values()
        for one in statements
    ]
    runs = [_run("a", *rows, {**GRADIENT, "defense": "rounds"})]
    assert len(chosen(runs)) == 4
    assert len(chosen(runs, most=99)) == 8, "the refuted one stands for its kind in its other row"
    said = [sentence(row) for row in chosen(runs, most=99)]
    assert sum("gradient" in one for one in said) == 1
    assert "after `rounds` too" in next(one for one in said if "gradient" in one)
    assert all(one.endswith(".") for one in said)


def test_the_page_has_a_row_and_a_column_for_each_run(tmp_path: Path) -> None:
    refuted = {**GRADIENT, "outcome": "refuted"}
    page = results_page({"nano": [_run("a", GRADIENT), _run("b", refuted, ROUNDS)], "text": []}, tmp_path)
    lines = page.splitlines()
    assert next(line for line in lines if line.startswith("| a |")).split(" | ")[5:] == ["1", "0", "0 |"]
    assert next(line for line in lines if line.startswith("| b |")).split(" | ")[5:] == ["1", "1", "0 |"]
    (claim,) = [line for line in lines if line.startswith("| gradient\\_helps")]
    assert "| **supported** 0.200 [0.100, 0.300] | **refuted** 0.200" in claim
    (once,) = [line for line in lines if line.startswith("| defense\\_lowers")]
    assert "| – | **supported**" in once
    assert page.count("<details>") == 2 and "## text" in page


def test_markers_are_needed_once() -> None:
    assert with_block(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    for text in ("none", f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"):
        with pytest.raises(DataError, match="no pair"):
            with_block(text, "new")


def _results(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run with one model."""
    monkeypatch.setattr(publish, "sync", lambda path: None)
    results = root / "results" / "nano"
    with publishing(results / "models" / "m", "model", {}) as draft:
        (draft.path / "model").mkdir()
        (draft.path / "model" / "model.safetensors").write_bytes(b"weights")
        write_table(draft.path / "clean.parquet", [], CLEAN)
    (results / "tables").mkdir()
    _run("a", GRADIENT).claims.to_csv(results / "tables" / "claims.csv", index=False)
    (results / "tables" / "summary.md").write_text("| a |\n|---|\n| 1 |\n")
    return results


def test_a_run_is_stored_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, home = _results(tmp_path, monkeypatch), tmp_path / "docs" / "results"
    folder = store(results, home, "here")
    assert folder == store(results, home, "here") == home / "nano" / "here"
    (run,) = stored_runs(home)["nano"]
    assert chosen([run])[0]["claim"] == "gradient_helps" and len(run.models) == 64
    facts = json.loads((folder / "run.json").read_text())
    (results / "models" / "m" / "model" / "model.safetensors").write_bytes(b"WEIGHTS")
    assert json.loads((store(results, home, "here") / "run.json").read_text())["models"] == facts["models"], (
        "of the hashes in manifests"
    )
    (folder / "run.json").write_text("{}")
    with pytest.raises(DataError, match="not a stored run"):
        stored_runs(home)
    (results / "tables" / "claims.csv").unlink()
    with pytest.raises(DataError, match=r"no tables/claims\.csv; run the study to its end"):
        store(results, home, "here")


@pytest.mark.parametrize(
    ("machine", "name", "label"),
    [
        (
            {"processor": "AMD EPYC 7B13", "instruction_set": "avx2", "torch": "AVX2"},
            "amd-epyc-7b13-avx2",
            "AMD EPYC 7B13, avx2",
        ),
        (
            {"processor": "Intel(R) Xeon(R) @ 2.20GHz", "instruction_set": "native", "torch": "AVX512"},
            "intel-xeon-2-20ghz-native-avx512",
            "Intel(R) Xeon(R) @ 2.20GHz, native (AVX512)",
        ),
    ],
)
def test_a_run_is_named_after_its_machine_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: dict[str, str], name: str, label: str
) -> None:
    results = _results(tmp_path, monkeypatch)
    plain = stored.open_artifact
    monkeypatch.setattr(stored, "open_artifact", lambda *args: {**plain(*args), "machine": machine})
    assert store(results, tmp_path / "home").name == name
    assert stored_runs(tmp_path / "home")["nano"][0].label == label
    monkeypatch.setattr(stored, "open_artifact", lambda *args: {**plain(*args), "machine": None})
    with pytest.raises(DataError, match="--name NAME"):
        store(results, tmp_path / "home")


def test_the_command_writes_both_pages_and_checks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = _results(tmp_path, monkeypatch)
    (tmp_path / "README.md").write_text(f"# x\n{BEGIN}\n{END}\n")
    command = [sys.executable, str(ROOT / "scripts" / "results_page.py"), "--root", str(tmp_path)]

    def run(*arguments: str) -> int:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False).returncode

    assert run("--check") == 1 and not (tmp_path / "docs").exists()
    assert run("--add", str(results), "--name", "here") == 0
    assert "The gradient helps" in (tmp_path / "README.md").read_text()
    assert "## nano" in (tmp_path / "docs" / "results.md").read_text()
    assert run("--check") == 0
    assert run("--name", "here") == 1


def test_the_pages_of_this_repository_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "results_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_sentence_of_the_readme_is_supported_in_every_stored_run() -> None:
    """From the files themselves: the bullets are as many as the claims that all runs support by their bounds."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    bullets = [line for line in readme.split(BEGIN)[1].split(END)[0].splitlines() if line.startswith("* ")]
    tables = [list(csv.DictReader(path.open(encoding="utf-8"))) for path in sorted(HOME.glob("nano/*/claims.csv"))]
    above = {one.name: one.above for statements in STATEMENTS.values() for one in statements}
    names = ("claim", "family", "task", "defense", "attack", "other", "position")
    held = []
    for table in tables:
        family = [row for row in table if row["family_size"]]
        sure = [row for row in family if _side(row, above[row["claim"]])]
        assert [row for row in family if row["outcome"] == "supported"] == sure
        held.append({tuple(row[name] for name in names) for row in sure})
    kinds = {one[0] for one in set.intersection(*held)} if held else set()
    assert len(bullets) == min(4, len(kinds))
    for row in chosen(stored_runs(HOME).get("nano", [])):
        assert row["claim"] in kinds and f"* {sentence(row)}" in bullets


def _side(row: dict[str, str], above: bool) -> bool:
    low, high, against = (float(row[name]) for name in ("family_low", "family_high", "against"))
    return low > against if above else high < against


def test_links_of_the_readme_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    places = [place for place in re.findall(r"\]\(([^)]+)\)", readme) if not place.startswith("http")]
    assert len(places) > 10
    assert [place for place in places if not (ROOT / place).exists()] == []
