"""Where bytes may differ, results come down to rates: of an attack, of a model, of a table of runs."""

from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest
from figures_fixtures import make_runs

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, CLEAN, RUNS
from hardscale.artifacts.tables import write_table
from hardscale.ops.full import full
from hardscale.ops.outcome import DIFFERS, MISSING, WITHIN
from hardscale.ops.rates import artifact_rates, paired, table_rates
from hardscale.ops.reference import pin
from hardscale.ops.sample import ATTACK as ATTACK_KIND
from hardscale.ops.sample import Sample, Unit
from hardscale.ops.scratch import Workflow


def arrow(rows):
    return pa.Table.from_pandas(rows, schema=RUNS, preserve_index=False)


def attack(folder, successes, first):
    """An attack on examples of which ``successes`` are misclassified at the end, ``first`` when they first were."""
    empty = {field.name: [] if str(field.type).startswith("list") else 0 for field in ATTACK}
    texts = {"adversarial_text": "t"}
    with publishing(folder, "attack", {}) as draft:
        rows = [
            {**empty, **texts, "example_id": i, "success": s, "first_success": f}
            for i, (s, f) in enumerate(zip(successes, first, strict=True))
        ]
        write_table(draft.path / "attack.parquet", rows, ATTACK)
        draft.note(n_attacked=len(rows), n_examples=50)
    return folder


def model(folder, predictions):
    with publishing(folder, "model", {}) as draft:
        rows = [{"example_id": i, "label": 1, "prediction": p, "loss": 0.0} for i, p in enumerate(predictions)]
        write_table(draft.path / "clean.parquet", rows, CLEAN)
    return folder


def test_rates_of_artifacts(tmp_path):
    assert artifact_rates(attack(tmp_path / "a", [True, False, False], [2, 1, None])) == {
        "attacked": (3, 50),
        "success": (1, 3),
        "success at any iteration": (2, 3),
    }
    assert artifact_rates(attack(tmp_path / "none", [], [])) == {
        "attacked": (0, 50),
        "success": (0, 0),
        "success at any iteration": (0, 0),
    }
    assert artifact_rates(model(tmp_path / "m", [1, 1, 0, 1])) == {"clean accuracy": (3, 4)}
    with publishing(tmp_path / "t", "task", {}):
        pass
    assert artifact_rates(tmp_path / "t") == {}


def test_rates_of_a_table_are_those_of_the_last_iteration(tmp_path):
    runs = make_runs(rounds=(0,), attacks=("gcg",), scales={"30k": 1000}, cells=[("spam", 0)])
    write_table(tmp_path / "runs.parquet", arrow(runs), RUNS)
    last = runs.iloc[-1]
    key = "spam/nano/30k/0/none/0"
    assert table_rates(tmp_path / "runs.parquet") == {
        f"{key}/gcg/suffix attacked": (96, 100),
        f"{key}/gcg/suffix success": (int(last["n_success"]), 96),
        f"{key}/gcg/suffix success at any iteration": (int(last["n_success_any"]), 96),
        f"{key} clean accuracy": (round(last["clean_accuracy"] * 1000), 1000),
    }


def test_only_rates_of_both_sides_are_compared():
    (one,) = paired({"a": (1, 2), "b": (1, 2)}, {"b": (2, 2), "c": (0, 1)}, "x: ")
    assert (one.what, one.expected, one.found) == ("x: b", (1, 2), (2, 2))


class Nothing(Workflow):
    def run(self, directory, log, arguments):
        return 0


@pytest.fixture
def pinned(tmp_path):
    """A pinned table of runs, and the same study in another folder."""
    runs = make_runs(rounds=(0,), attacks=("gcg",), cells=[("spam", 0), ("imdb", 0)])
    for root in (tmp_path / "results/s", tmp_path / "runs/x/results/s"):
        model(root / "models/m", [1])
        (root / "tables").mkdir()
        write_table(root / "tables" / "runs.parquet", arrow(runs), RUNS)
    return pin(tmp_path / "results/s", tmp_path / "results/s/reference.json", {}), runs


def by_rates(tmp_path, reference, rows):
    folder = tmp_path / "runs/x"
    write_table(folder / "results/s/tables/runs.parquet", arrow(rows), RUNS)
    log = tmp_path / "x.log"
    return full(Nothing(Path("s.yaml")), tmp_path, folder, Path("results/s"), reference, log, exact=False)


def test_a_full_run_by_rates_forgives_chance_and_nothing_else(tmp_path, pinned):
    reference, runs = pinned
    near = runs.copy()
    near["n_success"] = (near["n_success"] + 1).clip(upper=96)
    assert {finding.status for finding in by_rates(tmp_path, reference, near)} == {WITHIN}
    far = runs.copy()
    here = (far["task"] == "spam") & (far["scale"] == "30k")
    far.loc[here, "n_success"] = 96 - far.loc[here, "n_success"]
    far.loc[here, "n_success_any"] = 0
    differing = {one.what for one in by_rates(tmp_path, reference, far) if one.status == DIFFERS}
    assert differing
    assert all(what.startswith("spam/nano/30k/0/none/0/gcg/suffix success") for what in differing)
    gone = [one for one in by_rates(tmp_path, reference, runs[~here]) if one.status == MISSING]
    assert len(gone) == 4
    assert all("spam/nano/30k" in one.what for one in gone)


def test_an_attack_made_again_on_a_gpu_may_have_other_bytes(tmp_path, monkeypatch):
    here = Path("results/s")
    attack(tmp_path / here / "attacks/a", [True] * 5 + [False] * 35, [1] * 5 + [None] * 35)
    unit = Unit("attack", ATTACK_KIND, (), (here / "attacks/a",))

    def again(n):
        class Again(Workflow):
            def run(self, directory, log, arguments):
                attack(directory / here / "attacks/a", [True] * n + [False] * (40 - n), [1] * n + [None] * (40 - n))
                return 0

        places = (tmp_path, tmp_path / f"runs/{n}", tmp_path / here, tmp_path / "log")
        sample = Sample([unit], Again(Path("s.yaml")), *places, exact=False)
        return {finding.what: finding.status for finding in sample.run(nullcontext())}

    assert set(again(7).values()) == {WITHIN}
    assert again(30) == {
        "attacks/a: attacked": WITHIN,
        "attacks/a: success": DIFFERS,
        "attacks/a: success at any iteration": DIFFERS,
    }
