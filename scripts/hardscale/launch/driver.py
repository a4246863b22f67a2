"""The body of a gang entry: command line, log, gang."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST, read_manifest
from hardscale.artifacts.publish import naming_disk_errors
from hardscale.errors import ArtifactError, TrainingError
from hardscale.launch.arguments import identity_of, outputs, parser, read_spec
from hardscale.launch.gang import run_gang
from hardscale.launch.state import RECORD, restore
from hardscale.launch.work import Allocation
from hardscale.runtime.console import console, say
from hardscale.runtime.instruction_set import KEY, PINNED, settle


def drive(job: str, argv: list[str] | None = None) -> None:
    """Run a gang job from its command line and wait for it; exits with a status.

    Args:
        job: ``finetune``, ``adversarial_rounds`` or ``pretrain``.
        argv: options; those of this process when None.
    """
    options = sys.argv[1:] if argv is None else argv
    arguments = parser(job).parse_args(options)
    label = _label(job, arguments.spec)
    with console(arguments.log, label):
        spec = read_spec(arguments.spec)
        settle(spec.get(KEY, PINNED))  # for the ranks, which load numpy before they know what they are
        identity = identity_of(job, spec, arguments)
        state = arguments.state.absolute()
        began = _now(state)
        outs = outputs(job, spec, arguments.out)
        if restore(state, identity, outs):
            say("an interrupted run had finished this; its result is whole and was kept")
            return
        run_gang(
            [job, *options],
            ranks=int(spec.get("ranks", 1)),
            state=state,
            launch=arguments.launch,
            label=label,
            threads=arguments.threads,
            log=arguments.log,
            identity=identity,
            allocation=Allocation.of_site(arguments.nodes, arguments.gpus, arguments.mem_mb, arguments.minutes),
            published=_published(outs, identity, state, began),
        )


def _now(folder: Path) -> float:
    """The time by the clock that stamps files in a folder; a file server's may differ from this host's."""
    with naming_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime


def _published(outs: list[Path], identity: str, state: Path, began: float) -> Callable[[], bool]:
    """Whether another driver of the same work published all outputs while this one waited for it."""

    def published() -> bool:
        with contextlib.suppress(OSError, ValueError, ArtifactError):
            record = json.loads((state / RECORD).read_text(encoding="utf-8"))
            written = [(folder / MANIFEST).stat().st_mtime >= began - 1 for folder in outs]
            return record["identity"] == identity and all(written) and all(map(read_manifest, outs))
        return False

    return published


def _label(job: str, spec_option: str) -> str:
    """What the terminal calls this job: enough to tell it from the others of a study."""
    try:
        spec = read_spec(spec_option)
    except TrainingError:
        return job
    names = ("cell", "defense", "family", "scale")
    words = [job, "/".join(str(spec[name]) for name in names if name in spec)]
    if "first_round" in spec:
        words.append(f"rounds {spec['first_round']}-{spec['last_round']}")
    return " ".join(words)
