"""The pinned instruction sets on other processors, emulated: equal but for the root that nothing uses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hardscale.runtime.instruction_set import PINNED, PORTABLE, switches, why_not
from hardscale.runtime.processor import processor

OPERATIONS = Path(__file__).parents[2] / "benchmarks" / "operations.py"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)"),
    pytest.mark.skipif(why_not() is not None, reason=f"the pinned instruction set: {why_not()}"),
]


def computed(out, choice, *emulator):
    kept = {name: value for name, value in os.environ.items() if name not in switches()}
    command = [*emulator, sys.executable, str(OPERATIONS), "--instruction-set", choice, "--out", str(out)]
    subprocess.run(command, env={**kept, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    return json.loads(out.read_text())


def differing(tmp_path, choice, model):
    here = computed(tmp_path / "here", choice)
    there = computed(tmp_path / "there", choice, "qemu-x86_64", "-cpu", model)
    assert len(here) > 50
    return [name for name in here if here[name] != there[name] and name != "torch sqrt"]


@pytest.mark.parametrize("model", ["Haswell", "Skylake-Client", "EPYC"])
def test_processors_of_all_makers_compute_the_same(tmp_path, model):
    assert differing(tmp_path, PORTABLE, model) == []


def test_processors_of_one_maker_compute_the_same_at_full_speed(tmp_path):
    model = "EPYC" if processor().startswith("AMD") else "Haswell"
    assert differing(tmp_path, PINNED, model) == []
