"""Which instructions the libraries of a process compute with: the same on every processor, or each processor's best.

Wider registers add up in another order, so a library that picks its code by the processor gives other last digits on
another one, and a training makes another model of them. Every library has a switch of its own and reads it while it
is loaded: :func:`settle` comes before the first import of one. docs/numerics.md has what was measured. Standard
library only.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from functools import cache
from pathlib import Path

from hardscale.errors import StudyError
from hardscale.runtime.console import say

#: A study's ``instruction_set``, and the key of specs.
KEY = "instruction_set"
PINNED, PORTABLE, NATIVE = "avx2", "portable", "native"
CHOICES = (PINNED, PORTABLE, NATIVE)
#: What a processor needs for the pinned ones, as Linux names it; glibc's own choice for ``exp`` and its like is then
#: the same everywhere too.
NEEDED = ("avx2", "fma")
_LIBRARIES = ("numpy", "pyarrow", "scipy", "torch")
_settled: str | None = None


def switches(choice: str = PINNED) -> dict[str, str | None]:
    """The environment of a pinned instruction set; None for a variable that must be absent."""
    return {
        "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own loops, and SLEEF's functions in them
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",  # the same by its older name
        # Its branch AVX2 is for Intel's processors: AMD's take another one without a word, the same on all with AVX2.
        # The one branch for every maker's multiplies matrices at less than half of the speed.
        "MKL_CBWR": "COMPATIBLE" if choice == PORTABLE else "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",  # of numpy, and the other copy of scipy
        "NPY_DISABLE_CPU_FEATURES": _wider_than_avx2(),
        "NPY_ENABLE_CPU_FEATURES": None,  # numpy takes one of the two
        "ARROW_USER_SIMD_LEVEL": "AVX2",
    }


def _wider_than_avx2() -> str:
    """What numpy calls its code for wider registers; it warns of names that its version does not know."""
    try:
        major, minor = (int(part) for part in importlib.metadata.version("numpy").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        major, minor = 2, 4
    if (major, minor) >= (2, 4):
        return "X86_V4,AVX512_ICL,AVX512_SPR"
    return "AVX512F,AVX512CD,AVX512_SKX,AVX512_CLX,AVX512_CNL,AVX512_ICL,AVX512_SPR"


@cache
def why_not(flags: Path = Path("/proc/cpuinfo")) -> str | None:
    """What keeps this machine from the pinned instruction set; None where it can be had."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        return f"{system} on {machine}; it needs Linux on x86-64"
    try:
        lines = flags.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"{flags}: {error.strerror}, so nobody knows what the processor can do"
    known = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
    missing = [name for name in NEEDED if name not in known]
    return f"the processor has no {' and no '.join(missing)}" if missing else None


def settle(choice: object = PINNED, quiet: bool = False) -> None:
    """Decide, once and before any library that computes is loaded, what the libraries of this process compute with.

    ``native`` leaves the environment as it is, with whatever switches the user set in it. The others override these,
    and say so; where the machine cannot have them (:func:`why_not`), the process stays native and says so.

    Args:
        choice: of the study.
        quiet: say nothing of a machine that cannot have them.

    Raises:
        StudyError: another choice, or a library is loaded already and the switches would come too late.
    """
    global _settled
    if choice not in CHOICES:
        raise StudyError(f"--spec: {KEY}: found {choice!r}, must be one of {', '.join(CHOICES)}")
    choice = str(choice)
    reason = why_not() if choice != NATIVE else None
    if reason:
        _set(dict.fromkeys(name for name, value in switches(choice).items() if value == os.environ.get(name)))
    if reason and not quiet:
        # In the log alone: the controller has said it for the machine that it runs on, and every manifest holds it.
        print(f"{KEY}: {choice} cannot be had here ({reason}): computing natively", flush=True)
    if choice != NATIVE and not reason:
        _switch_on(choice)
    _settled = NATIVE if reason else choice


def _switch_on(choice: str) -> None:
    wanted = switches(choice)
    theirs = [f"{name}={os.environ[name]}" for name in wanted if os.environ.get(name, wanted[name]) != wanted[name]]
    if theirs:
        say(f"{KEY}: {choice} of the study overrides {', '.join(theirs)} of the environment; {NATIVE} would keep it")
    _set(wanted)


def _set(wanted: dict[str, str | None]) -> None:
    """Set variables of the environment and remove those of None."""
    changed = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    loaded = [name for name in _LIBRARIES if name in sys.modules]
    if changed and loaded:
        # Ranks start with numpy loaded; on a cluster their switches come with the environment of the job.
        raise StudyError(
            f"{KEY}: {', '.join(loaded)} loaded before {', '.join(changed)} could be set in this process; on a cluster "
            f"pass the environment on (sbatch --export=ALL) and use nodes of one kind, or give {KEY}: {NATIVE}"
        )
    for name, value in changed.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def settled() -> str | None:
    """What :func:`settle` came to in this process, one of :data:`CHOICES`; None where nobody asked."""
    return _settled


def is_pinned() -> bool:
    """Whether this process computes the same on other processors."""
    return _settled in (PINNED, PORTABLE)
