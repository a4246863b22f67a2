"""Keys of a study that have another name since the last version."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from hardscale.errors import StudyError
from hardscale.plan.jobs import Jobs
from hardscale.settings import former_names
from hardscale.settings.defenses import CAdvUL
from hardscale.settings.study import parse_study, read_yaml
from hardscale.settings.study_file import of_command_line
from hardscale.settings.words import from_spec

CHAT = Path(__file__).parents[2] / "studies" / "chat.yaml"


def written(folder: Path, old: str, new: str) -> Path:
    path = folder / "chat.yaml"
    path.write_text(CHAT.read_text().replace(old, new))
    return path


def test_former_and_todays_key_are_the_same_study(tmp_path: Path) -> None:
    former_names.notes.clear()
    today = parse_study(read_yaml(CHAT), "chat.yaml")
    assert not former_names.notes
    former = parse_study(read_yaml(written(tmp_path, "normalize:", "normalise:")), "chat.yaml")
    assert former == today
    lines = list(former_names.notes)
    assert lines and all(line.endswith("normalise is now normalize; rename it") for line in lines)
    former_names.notes.clear()


def test_overrides_and_the_command_line_too() -> None:
    block = {"kind": "c_advul", "overrides": [{"where": {}, "set": {"normalise": "microbatch_mean"}}, "no mapping"]}
    found = of_command_line({"defenses": {"mine": block, "other": 3}})["defenses"]
    assert found["mine"]["overrides"] == [{"where": {}, "set": {"normalize": "microbatch_mean"}}, "no mapping"]
    assert found["other"] == 3
    assert of_command_line({"defenses": ["a list"]}) == {"defenses": ["a list"]}
    former_names.notes.clear()


def test_both_names_are_refused() -> None:
    block = {"kind": "c_advul", "normalise": "global", "normalize": "global"}
    with pytest.raises(StudyError, match=r"--config: defenses\.mine\.normalise: the former name of normalize"):
        of_command_line({"defenses": {"mine": block}})


def test_a_base_and_what_extends_it_may_use_different_names(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"defenses": {"a": {"normalise": "global", "epochs": 2}}}))
    child = tmp_path / "child.yaml"
    child.write_text(yaml.safe_dump({"extends": "base.yaml", "defenses": {"a": {"normalize": "microbatch_mean"}}}))
    assert read_yaml(child)["defenses"] == {"a": {"normalize": "microbatch_mean", "epochs": 2}}
    former_names.notes.clear()


def test_specs_keep_the_former_name_so_that_nothing_is_made_again() -> None:
    jobs = Jobs(parse_study(read_yaml(CHAT), "chat.yaml"))
    key = next(key for key, _ in jobs.grid.evaluated if "/c-advul" in key)
    spec = json.loads(jobs.specs.defense(SimpleNamespace(lineage=key)))
    assert spec["settings"]["normalise"] == "microbatch_mean" and "normalize" not in spec["settings"]
    assert from_spec(CAdvUL, spec["settings"]).normalize == "microbatch_mean"
