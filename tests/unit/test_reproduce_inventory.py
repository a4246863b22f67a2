"""Every artifact is found, damage and half-made folders are named, and a repair takes away exactly those."""

import shlex

import pytest

from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError
from hardscale.ops.reference import Damage, artifacts, damages, remove, rerun_command, targets, unfinished

WHOLE = ("tasks/t", "models/t/f/s/s0/none/r00", "attacks/t/f/s/s0/none/r00/gcg")


def make(folder, text="x"):
    with publishing(folder, "thing", {}) as draft:
        (draft.path / "model").mkdir()
        (draft.path / "model" / "weights").write_text(text)
        (draft.path / "rows").write_text(text)
    return folder


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "results" / "state"  # a study may have any name
    for name in WHOLE:
        make(root / name)
    for name in ("logs/a/manifest.json", "state/x/manifest.json", "drift/drift.png", "tables/runs.parquet"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("{}")
    (root / "models/t/f/s/s0/none/.r00.tmp-1").mkdir()
    (root / "models/t/f/s/s0/none/.r00.tmp-1/rows").write_text("a draft")
    (root / "models/t/f/s/s0/empty/r01").mkdir(parents=True)
    return root


def files(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_artifacts_and_nothing_else(root):
    assert artifacts(root) == sorted(root / name for name in WHOLE)
    assert unfinished(root) == []
    assert damages(root) == []


def test_damage_of_every_kind_is_named(root):
    (root / WHOLE[0] / "rows").write_text("y")
    (root / WHOLE[1] / "model" / "weights").unlink()
    (root / WHOLE[2] / "manifest.json").unlink()
    found = damages(root)
    assert [one.folder for one in found] == sorted(root / name for name in WHOLE)
    assert [one.half for one in found] == [True, False, False]
    reasons = {one.folder: one.reason for one in found}
    assert "bytes differ" in reasons[root / WHOLE[0]]
    assert "missing" in reasons[root / WHOLE[1]]
    assert "without a manifest.json" in reasons[root / WHOLE[2]]


def test_an_edited_manifest_is_damage(root):
    path = root / WHOLE[0] / "manifest.json"
    path.write_text(path.read_text().replace('"thing"', '"other"'))
    assert [one.folder for one in damages(root)] == [root / WHOLE[0]]


def test_repair_removes_the_damaged_folders_and_nothing_else(root):
    before = files(root)
    (root / WHOLE[2] / "rows").write_text("y")
    remove(root, damages(root))
    assert before - files(root) == {f"{WHOLE[2]}/{name}" for name in ("rows", "manifest.json", "model/weights")}
    assert files(root) <= before
    assert damages(root) == []


def test_repair_removes_nothing_outside_and_no_links(root, tmp_path):
    outside = make(tmp_path / "elsewhere" / "thing")
    (root / "tasks" / "linked").symlink_to(outside)
    (root / "far").symlink_to(tmp_path / "elsewhere")
    for folder in (outside, root / "tasks" / "linked", root / "far" / "thing", root):
        with pytest.raises(ArtifactError, match="by hand"):
            remove(root, [Damage(folder, "")])
    assert (outside / "rows").read_text() == "x"


def test_the_command_names_the_targets(root):
    (root / WHOLE[2] / "rows").write_text("y")
    wanted = targets(root, damages(root))
    assert wanted == [f"results/state/{WHOLE[2]}/manifest.json"]
    words = shlex.split(rerun_command(root, ["my study.yaml"], wanted))
    assert words[words.index("--directory") + 1] == str(root.parents[1])
    assert words[-2:] == ["--configfile", "my study.yaml"]
    assert wanted[0] in words
