"""The pinned instruction set on a processor of another maker, emulated: equal but for the root that nothing uses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hardscale.instruction_set import switches, why_not

OPERATIONS = Path(__file__).parents[2] / "benchmarks" / "operations.py"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)"),
    pytest.mark.skipif(why_not() is not None, reason=f"the pinned instruction set: {why_not()}"),
]


def computed(out, *emulator):
    kept = {name: value for name, value in os.environ.items() if name not in switches()}
    command = [*emulator, sys.executable, str(OPERATIONS), "--instruction-set", "avx2", "--out", str(out)]
    subprocess.run(command, env={**kept, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    return json.loads(out.read_text())


@pytest.mark.parametrize("model", ["Haswell", "Skylake-Client", "EPYC"])
def test_another_processor_computes_the_same(tmp_path, model):
    here, there = computed(tmp_path / "here"), computed(tmp_path / "there", "qemu-x86_64", "-cpu", model)
    assert len(here) > 50
    assert [name for name in here if here[name] != there[name] and name != "torch sqrt"] == []
