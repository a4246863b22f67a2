"""A pin and the check against it: what is the same, what was made again, what differs, what is gone."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.artifacts.manifest import MANIFEST, self_digest
from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError
from hardscale.ops.outcome import DAMAGED, DRIFT, OK, USAGE, StoppedError, exit_status
from hardscale.ops.reference import check, copies, pin, read_reference

FACTS = {"python": "3.11", "torch": "2.13.0"}


def make(folder, text="x"):
    with publishing(folder, "thing", {"a": 1}) as draft:
        (draft.path / "rows").write_text(text)
        draft.note(n=1)


def table(path, *asr):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"attack": [f"a{i}" for i in range(len(asr))], "asr": list(asr)}), path)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "results" / "s"
    make(root / "tasks" / "t")
    make(root / "attacks" / "gcg")
    table(root / "tables" / "runs.parquet", 0.5, 0.25)
    table(root / "tables" / "fits.parquet", 1.0)
    return root


@pytest.fixture
def reference(root):
    return pin(root, root / "reference.json", FACTS)


def bad(findings):
    return {finding.what: finding.status for finding in findings if not finding.good}


def test_what_was_pinned_is_the_same(root, reference):
    findings = check(root, reference)
    assert exit_status(findings) == OK
    assert {finding.what for finding in findings} == {"2 artifacts", "tables/runs.parquet", "tables/fits.parquet"}
    assert reference.facts == FACTS
    assert reference.study == "s"


def test_the_spelling_of_an_earlier_version_is_read(reference):
    content = json.loads(reference.path.read_text())
    content["artefacts"] = content.pop("artifacts")
    del content["self"]
    reference.path.write_text(json.dumps({**content, "self": self_digest(content)}))
    assert read_reference(reference.path) == reference


def test_a_changed_table_is_drift_with_its_rows(root, reference):
    table(root / "tables" / "runs.parquet", 0.5, 0.75)
    findings = check(root, reference)
    assert (exit_status(findings), bad(findings)) == (DRIFT, {"tables/runs.parquet": "drift"})
    (finding,) = [one for one in findings if not one.good]
    assert finding.max_difference == 0.5
    assert "attack=a1" in finding.found


def test_a_table_written_by_another_writer_is_no_drift(root, reference):
    path = root / "tables" / "runs.parquet"
    before = path.read_bytes()
    pq.write_table(pq.read_table(path), path, compression="none")
    assert path.read_bytes() != before
    findings = check(root, reference)
    assert exit_status(findings) == OK
    assert any("other bytes" in finding.found for finding in findings)


def test_without_the_copy_a_table_is_compared_by_its_digest(root, reference):
    shutil.rmtree(copies(reference.path))
    assert exit_status(check(root, reference)) == OK
    table(root / "tables" / "runs.parquet", 0.5, 0.75)
    assert bad(check(root, reference)) == {"tables/runs.parquet": "drift"}


def test_a_tampered_copy_is_not_believed(root, reference):
    table(copies(reference.path) / "runs.parquet", 0.5, 0.75)
    table(root / "tables" / "runs.parquet", 0.5, 0.75)
    assert bad(check(root, reference)) == {"tables/runs.parquet": "drift"}


def test_a_cut_off_table_is_damage(root, reference):
    path = root / "tables" / "runs.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    findings = check(root, reference)
    assert (exit_status(findings), bad(findings)) == (DAMAGED, {"tables/runs.parquet": "damaged"})


def test_an_artifact_made_again_with_other_results_is_drift(root, reference):
    make(root / "attacks" / "gcg", "y")
    findings = check(root, reference)
    assert (exit_status(findings), bad(findings)) == (DRIFT, {"attacks/gcg": "drift"})


def test_an_artifact_made_again_with_other_packages_and_the_same_files_is_none(root, reference):
    path = root / "attacks" / "gcg" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["versions"]["torch"] = "9.9"
    manifest["self"] = self_digest(manifest)
    path.write_text(json.dumps(manifest))
    findings = check(root, reference)
    assert exit_status(findings) == OK
    assert any("made again with the same result" in finding.found for finding in findings)


def test_damage_and_absence_come_before_drift(root, reference):
    table(root / "tables" / "runs.parquet", 0.0, 0.0)
    (root / "attacks" / "gcg" / "rows").write_text("y")
    shutil.rmtree(root / "tasks" / "t")
    (root / "tables" / "fits.parquet").unlink()
    findings = check(root, reference)
    assert exit_status(findings) == DAMAGED
    assert bad(findings) == {
        "tables/runs.parquet": "drift",
        "attacks/gcg": "damaged",
        "tasks/t": "missing",
        "tables/fits.parquet": "missing",
    }


def test_more_than_was_pinned_is_said_and_no_drift(root, reference):
    make(root / "attacks" / "later")
    findings = check(root, reference)
    assert exit_status(findings) == OK
    assert any("1 more than pinned" in finding.found for finding in findings)


def test_nothing_damaged_and_nothing_unfinished_is_pinned(root):
    (root / "attacks" / "gcg" / "rows").write_text("y")
    with pytest.raises(StoppedError, match="nothing was pinned") as stop:
        pin(root, root / "reference.json", FACTS)
    assert stop.value.status == DAMAGED
    shutil.rmtree(root / "tables")
    with pytest.raises(StoppedError, match="no finished tables") as stop:
        pin(root, root / "reference.json", FACTS)
    assert stop.value.status == USAGE
    assert not (root / "reference.json").exists()


def test_no_pin_and_an_edited_pin_are_told_apart(root, reference):
    with pytest.raises(StoppedError, match=r"cron\.py pin") as stop:
        read_reference(root / "none.json")
    assert stop.value.status == USAGE
    reference.path.write_text(reference.path.read_text().replace("2.13.0", "2.14.0"))
    with pytest.raises(ArtifactError, match="edited"):
        read_reference(reference.path)
