"""What the environment files and pictures say must agree with each other."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def pins(name):
    lines = (ROOT / "envs" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_conda_file_holds_the_same_pins():
    pip = yaml.safe_load((ROOT / "envs/cpu.yaml").read_text())["dependencies"][-1]["pip"]
    assert pip == [*pins("torch.txt"), *pins("cpu.txt")]


def test_the_conda_file_of_lm_eval_holds_the_same_pins():
    pip = yaml.safe_load((ROOT / "envs/lm-eval.yaml").read_text())["dependencies"][-1]["pip"]
    assert pip == pins("lm-eval.txt")
    names = {line.split("==")[0].lower().replace("-", "_") for line in pip}
    # What the job itself imports there, besides lm_eval's own.
    assert {"lm_eval", "torch", "transformers", "pyarrow", "pydantic"} <= names
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in pip)


def test_every_dependency_of_the_library_is_pinned_within_its_range():
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^    "([A-Za-z0-9_-]+)>=([\d.]+)",$', text.split("[project.optional")[0], flags=re.MULTILINE)
    pinned = dict(line.lower().replace("-", "_").split("==") for line in [*pins("torch.txt"), *pins("cpu.txt")])
    assert len(wanted) > 10
    for name, least in wanted:
        found = pinned[name.lower().replace("-", "_")]
        assert [int(n) for n in re.findall(r"\d+", found)] >= [int(n) for n in least.split(".")], name


def test_the_picture_of_the_rules_is_of_these_rules(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/rulegraph.py"), "--out", str(tmp_path / "rulegraph.dot")]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "rulegraph.dot").read_text() == (ROOT / "docs/rulegraph.dot").read_text(), "run `make schema`"
