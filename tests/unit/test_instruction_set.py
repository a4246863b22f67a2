"""The instruction set that libraries compute with: every switch acts, every entry settles it in time."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hardscale.artifacts.manifest import open_artifact, read_manifest
from hardscale.artifacts.publish import publishing
from hardscale.attacks.perturb import square_root
from hardscale.errors import StudyError
from hardscale.runtime import instruction_set, processor
from hardscale.runtime.instruction_set import NATIVE, PINNED, PORTABLE, settle, switches, why_not
from hardscale.settings.training import OptimizerSettings
from hardscale.training.optimizers import build_optimizer

ROOT = Path(__file__).parents[2]
CPUINFO = Path("/proc/cpuinfo")
FLAGS = re.search(r"^flags\s*:(.*)", CPUINFO.read_text(), re.M) if CPUINFO.exists() else None
can_pin = pytest.mark.skipif(why_not() is not None, reason=f"the pinned instruction set: {why_not()}")


def clean_environment(**extra):
    """This environment without any switch."""
    kept = {name: value for name, value in os.environ.items() if name not in switches()}
    return {**kept, "PYTHONPATH": str(ROOT / "scripts"), "OMP_NUM_THREADS": "1", **extra}


def run(code, **extra):
    """Standard output of a Python of its own, which must end well."""
    command = [sys.executable, "-W", "error::ImportWarning", "-c", code]
    done = subprocess.run(command, env=clean_environment(**extra), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def after(choice, code, **extra):
    """What code prints in a process that settled a choice first."""
    return run(f"from hardscale.runtime.instruction_set import settle\nsettle({choice!r})\n{code}", **extra)


@pytest.fixture
def unsettled(monkeypatch):
    """Whatever a test settles is forgotten."""
    monkeypatch.setattr(instruction_set, "_settled", None)


# --- the libraries ---------------------------------------------------------------------------------------------------


@can_pin
def test_every_library_heeds_its_switch():
    seen = json.loads(after(PINNED, "import torch, numpy, scipy.linalg, json, pyarrow\n"
        "from numpy._core._multiarray_umath import __cpu_features__ as f\n"
        "from threadpoolctl import threadpool_info\n"
        "cores = [p['architecture'] for p in threadpool_info() if p['internal_api'] == 'openblas']\n"
        "wide = [n for n in ('X86_V4', 'AVX512_SKX', 'AVX512_ICL', 'AVX512_SPR') if f.get(n)]\n"
        "print(json.dumps([torch.backends.cpu.get_cpu_capability(), wide, cores, pyarrow.runtime_info().simd_level]))"
    ).stdout)  # fmt: skip
    assert seen == ["AVX2", [], ["Haswell", "Haswell"], "avx2"]


@can_pin
@pytest.mark.parametrize(("choice", "branch"), [(PINNED, r"CNR:(AVX2|AUTO)"), (PORTABLE, "CNR:COMPATIBLE")])
def test_mkl_and_onednn_say_what_they_run(choice, branch):
    code = "import torch\ntorch.rand(64, 64) @ torch.rand(64, 64)\ntorch.nn.functional.gelu(torch.rand(64, 64))"
    said = after(choice, code, MKL_VERBOSE="1", ONEDNN_VERBOSE="1").stdout
    assert re.search(rf"MKL_VERBOSE SGEMM.*{branch}", said), said
    assert re.search(r"cpu,isa:.*AVX2\s*$", said, re.M), said


@pytest.mark.skipif(not FLAGS or "avx512f" not in FLAGS[1].split(), reason="the processor has nothing beyond AVX2")
def test_the_switches_change_what_is_computed():
    code = (
        "import torch, hashlib\nx = (torch.arange(6208).reshape(64, 97) % 83 - 41) / 32\n"
        "print(hashlib.sha256(torch.softmax(x, -1).numpy().tobytes() + (x @ x.T).numpy().tobytes()).hexdigest())"
    )
    assert after(PINNED, code).stdout != after(NATIVE, code).stdout
    assert after(PINNED, code).stdout == after(PINNED, code).stdout


# --- square roots, which heed no switch ------------------------------------------------------------------------------


def test_square_roots_are_exact_where_pinned(unsettled, monkeypatch):
    x = torch.arange(1, 20_001, dtype=torch.float32) / 8192
    assert torch.equal(square_root(x), x.sqrt())
    monkeypatch.setattr(instruction_set, "_settled", PINNED)
    np.testing.assert_array_equal(square_root(x).numpy(), np.sqrt(x.numpy()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU AdamW stays as it is")
def test_adamw_takes_no_root_of_mkl_where_pinned(unsettled, monkeypatch):
    def stepped():
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 6_208).reshape(64, 97))
        optimizer = build_optimizer([weight], OptimizerSettings(kind="adamw", learning_rate=0.01))
        for _ in range(3):
            weight.grad = weight.detach() ** 2 + 0.1
            optimizer.step()
        return optimizer, weight.detach()

    native, expected = stepped()
    monkeypatch.setattr(instruction_set, "_settled", PINNED)
    monkeypatch.setattr(torch, "_foreach_sqrt", None)
    monkeypatch.setattr(torch.Tensor, "sqrt", None)
    pinned, found = stepped()
    assert (native.defaults["fused"], pinned.defaults["fused"]) == (None, True)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


# --- settling --------------------------------------------------------------------------------------------------------


@can_pin
def test_switches_of_the_user_are_overridden_aloud_and_kept_by_native():
    code = "import os\nprint(os.environ.get('MKL_CBWR'), os.environ.get('NPY_ENABLE_CPU_FEATURES'))"
    theirs = {"MKL_CBWR": "AVX512", "NPY_ENABLE_CPU_FEATURES": "X86_V3"}
    pinned, native = after(PINNED, code, **theirs), after(NATIVE, code, **theirs)
    assert pinned.stdout.split() == ["AVX2", "None"]
    assert "overrides MKL_CBWR=AVX512, NPY_ENABLE_CPU_FEATURES=X86_V3" in pinned.stderr
    assert native.stdout.split() == ["AVX512", "X86_V3"] and not native.stderr
    assert not after(PINNED, code).stderr


def test_other_choices_and_late_ones_are_refused(unsettled, monkeypatch):
    with pytest.raises(StudyError, match=r"instruction_set: found 'sse', must be one of avx2, portable, native"):
        settle("sse")
    monkeypatch.setattr(instruction_set, "why_not", lambda: None)
    monkeypatch.setenv("MKL_CBWR", "AUTO")
    with pytest.raises(StudyError, match=r"numpy.* loaded before .*MKL_CBWR.* could be set .*instruction_set: native"):
        settle(PINNED)
    settle(NATIVE)
    assert instruction_set.settled() == NATIVE and not instruction_set.is_pinned()
    monkeypatch.setattr(instruction_set, "_settled", PORTABLE)
    assert instruction_set.is_pinned()


def test_processors_without_it_compute_natively_and_say_so(unsettled, monkeypatch, tmp_path, capsys):
    why_not.cache_clear()
    (tmp_path / "old").write_text("model name\t: Old\nflags\t\t: fpu sse4_2 avx\n")
    (tmp_path / "new").write_text("model name\t: New\nflags\t\t: fpu avx2 fma\n")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert why_not(tmp_path / "old") == "the processor has no avx2 and no fma"
    assert why_not(tmp_path / "new") is None
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert "needs Linux on x86-64" in why_not(tmp_path / "newer")
    why_not.cache_clear()
    for module in (instruction_set, processor):
        monkeypatch.setattr(module, "why_not", lambda: "the processor has no avx2")
    for name in switches():
        monkeypatch.delenv(name, raising=False)
    settle(PINNED)
    assert instruction_set.settled() == NATIVE
    assert "avx2 cannot be had here (the processor has no avx2)" in capsys.readouterr().out
    assert processor.machine()["instruction_set_missing"] == "the processor has no avx2"


def test_numpy_is_told_the_names_that_its_version_knows(monkeypatch):
    for version, name in (("2.3.5", "AVX512_SKX"), ("2.4.0", "X86_V4"), ("3.0", "X86_V4")):
        monkeypatch.setattr("importlib.metadata.version", lambda _, version=version: version)
        assert name in switches()["NPY_DISABLE_CPU_FEATURES"].split(",")


# --- manifests -------------------------------------------------------------------------------------------------------


def test_manifests_name_the_machine_outside_of_their_identity(tmp_path, monkeypatch):
    def published(name, model):
        monkeypatch.setattr("hardscale.artifacts.publish.machine", lambda: {"processor": model})
        with publishing(tmp_path / name, "thing", {}) as draft:
            (draft.path / "file").write_text("same")
        return read_manifest(tmp_path / name)

    here, there = published("here", "AMD EPYC"), published("there", "Intel Xeon")
    assert (here["machine"]["processor"], there["machine"]["processor"]) == ("AMD EPYC", "Intel Xeon")
    assert here["self"] == there["self"]
    assert open_artifact(tmp_path / "there", "thing")


def test_the_processor_has_the_name_that_lscpu_gives(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC  7B13\n")
    assert processor.processor(tmp_path / "cpuinfo") == "AMD EPYC 7B13"
    assert processor.processor(tmp_path / "none")
    assert processor.machine()["torch"] == torch.backends.cpu.get_cpu_capability()


# --- entries ---------------------------------------------------------------------------------------------------------


def entries():
    """The scripts that rules run, but for those that compute nothing."""
    text = "".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    names = set(re.findall(r'HARDSCALE_SCRIPTS"/(\w+)\.py', text))
    assert {"finetune", "attack", "fit", "import_model"} <= names
    return sorted(names - {"verify"})


@pytest.mark.parametrize("name", entries())
def test_every_entry_settles_before_it_loads_what_computes(name):
    path = ROOT / "scripts" / f"{name}.py"
    tree = ast.parse(path.read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    first = next(node for node in imports if getattr(node, "module", "") != "__future__")
    if isinstance(first, ast.Import) and first.names[0].name == "hardscale.runtime.pinned":
        return
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert calls & {"settle", "settled_spec", "drive"}
    loaded = run(f"import runpy, sys\nrunpy.run_path({str(path)!r}, run_name='entry')\n"
                 "print([n for n in ('numpy', 'torch', 'scipy', 'pyarrow') if n in sys.modules])").stdout  # fmt: skip
    assert loaded.strip() == "[]"
