"""Publishing, manifests and tables: an artifact is absent or complete, and a damaged one is named."""

import errno
import json

import pyarrow as pa
import pytest

from hardscale.artifacts.manifest import MANIFEST, open_artifact, read_manifest, verify
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import CLEAN, RUNS
from hardscale.artifacts.tables import read_table, write_table
from hardscale.errors import ArtifactError, DataError

ROWS = [{"example_id": 1, "label": 0, "prediction": 1, "loss": 0.5}]


def make(folder, text="x"):
    with publishing(folder, "thing", {"a": 1}) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "data.txt").write_text(text)
        (draft.path / "timing.parquet").write_text("differs")
        draft.note(n=1)
    return folder


def test_an_artifact_appears_whole_with_its_manifest(tmp_path):
    folder = make(tmp_path / "a")
    manifest = verify(folder)
    assert list(manifest["files"]) == ["sub/data.txt"], "timings ride along unhashed"
    assert manifest["facts"] == {"n": 1}
    assert manifest["spec"] == {"a": 1}
    assert open_artifact(folder, "thing") == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["a"], "no draft is left"


def test_a_failed_draft_leaves_what_was_there(tmp_path):
    folder = make(tmp_path / "a")
    before = read_manifest(folder)
    with pytest.raises(RuntimeError), publishing(folder, "thing", {}) as draft:
        (draft.path / "half").write_text("half")
        raise RuntimeError
    assert read_manifest(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_publishing_replaces_leftovers_and_stale_drafts(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "stray").write_text("stray")
    (tmp_path / ".a.tmp-dead").mkdir()
    make(folder, "y")
    assert not (folder / "stray").exists()
    assert (folder / "sub" / "data.txt").read_text() == "y"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_same_content_has_the_same_manifest(tmp_path):
    assert (make(tmp_path / "a") / MANIFEST).read_bytes() == (make(tmp_path / "b") / MANIFEST).read_bytes()


def test_damage_is_named(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "sub" / "data.txt").write_text("z")
    open_artifact(folder, "thing")  # same size: only a re-hash sees it
    with pytest.raises(ArtifactError, match=r"data\.txt: bytes differ"):
        verify(folder)
    (folder / "sub" / "data.txt").write_text("longer")
    with pytest.raises(ArtifactError, match="another size"):
        open_artifact(folder, "thing")
    (folder / "sub" / "data.txt").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        verify(folder)


def test_an_edited_manifest_an_absent_one_and_another_kind_are_refused(tmp_path):
    folder = make(tmp_path / "a")
    with pytest.raises(ArtifactError, match="expected 'model'"):
        open_artifact(folder, "model")
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    content["facts"]["n"] = 2
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="own digest differ"):
        read_manifest(folder)
    path.unlink()
    with pytest.raises(ArtifactError, match="never finished"):
        read_manifest(folder)


def test_a_full_disk_is_named_and_nothing_is_published(tmp_path):
    with (
        pytest.raises(ArtifactError, match=r"No space left.*nothing was published"),
        publishing(tmp_path / "a", "t", {}),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "big"))
    assert not list(tmp_path.iterdir())


def test_tables_round_trip_byte_for_byte(tmp_path):
    write_table(tmp_path / "a.parquet", ROWS, CLEAN)
    write_table(tmp_path / "b.parquet", ROWS, CLEAN)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert read_table(tmp_path / "a.parquet", CLEAN).to_pylist() == ROWS


def test_bad_tables_are_refused_by_name(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(DataError, match="no such file"):
        read_table(path)
    with pytest.raises(DataError, match="null where none"):
        write_table(path, [{**ROWS[0], "label": None}], CLEAN)
    write_table(path, pa.table({"example_id": [1]}), pa.schema([("example_id", pa.int64())]))
    with pytest.raises(DataError, match=r"missing column\(s\) label, prediction, loss"):
        read_table(path, CLEAN)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_table(path)


def test_nullable_columns_may_be_missing(tmp_path):
    required = [field for field in RUNS if not field.nullable]
    row = {field.name: "x" if pa.types.is_string(field.type) else 1 for field in required}
    write_table(tmp_path / "r.parquet", [row], pa.schema(required))
    table = read_table(tmp_path / "r.parquet", RUNS)
    assert table.column("asr").null_count == 1
