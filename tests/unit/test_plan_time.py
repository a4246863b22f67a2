"""``benchmarks/plan_time.py`` runs two checkouts in turns and says by how much one takes longer."""

import re
import subprocess
import sys

import pytest

from study_runs import ROOT

SCRIPT = ROOT / "benchmarks" / "plan_time.py"


@pytest.fixture
def pair(tmp_path):
    """Two checkouts whose Snakefile is nothing but a wait, and a log of whose turn it was."""
    for name, seconds in (("quick", 0.0), ("slow", 3.0)):
        folder = tmp_path / name
        (folder / "scripts").mkdir(parents=True)
        (folder / "scripts" / "whose.py").write_text(f"NAME = {name!r}\n")
        (folder / "study.yaml").write_text("{}\n")
        turns = f"open({str(tmp_path / 'turns')!r}, 'a').write(whose.NAME + ' ')"
        wait = f"import time, whose\ntime.sleep({seconds})\n{turns}\n"
        (folder / "Snakefile").write_text(f"{wait}rule all:\n    output: 'x'\n    shell: 'touch x'\n")
    return tmp_path


def run(pair, *options):
    command = [sys.executable, str(SCRIPT), "--old", str(pair / "quick"), "--new", str(pair / "slow")]
    return subprocess.run([*command, "--study", "study.yaml", *options], capture_output=True, text=True, check=False)


def test_two_checkouts_take_turns_and_the_slower_one_is_seen(pair):
    done = run(pair, "--repeats", "2")
    assert done.returncode == 0, done.stderr
    assert (pair / "turns").read_text().split() == ["quick", "slow", "slow", "quick"]
    ((old, new, ratio),) = re.findall(
        r"^\| clock, median of 2 \| (\S+) \| (\S+) \| (\S+) \|$", done.stdout, re.MULTILINE
    )
    assert float(new) > 3.0
    assert float(ratio) == pytest.approx(float(new) / float(old), rel=0.02)  # of rounded times
    assert "| processor, median of 2 |" in done.stdout
    assert not (pair / "quick" / ".snakemake").exists()


def test_a_plan_that_fails_is_no_time(pair):
    (pair / "slow" / "Snakefile").write_text("rule all:\n    input: 'nowhere'\n")
    done = run(pair, "--repeats", "1")
    assert done.returncode == 1
    assert str(pair / "slow") in done.stderr
    assert "nowhere" in done.stderr
    assert "median" not in done.stdout
