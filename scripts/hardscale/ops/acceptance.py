"""Which published artifacts a new version of the code may take over: those that it would make from the same settings.

A job's code digest, its rule's command and the places in the study's own folder that it is told may differ from what
they were when the artifact was made. Its settings and its inputs may not, and the artifact must be whole.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import MANIFEST, artifact_folder, read_manifest, verify
from hardscale.errors import ArtifactError
from hardscale.ops.differences import setting_changes
from hardscale.ops.reruns import Change, SeenJob
from hardscale.ops.sample import Unit

#: A code digest as Snakemake writes it; with ``versions: strict`` a digest of the libraries' versions follows.
_CODE = re.compile(r"'([0-9a-f]{16})(-[0-9a-f]{16})?'")
_BLOCK = re.compile(r"(_\d+)+$")
_SHOWN = 3
_READS = "it reads"


@dataclass(frozen=True, order=True)
class CodeChange:
    """Jobs whose code changed in one way, so that one of them stands for all in a sample.

    Attributes:
        rule: name of their rule; of rules for blocks of rounds without the numbers.
        before: the code digest that they were made with.
        after: the code digest of today.
        command: whether the text of the rule's command changed.
    """

    rule: str
    before: str
    after: str
    command: bool

    def __str__(self) -> str:
        code = f"code {self.before} -> {self.after}" if self.before != self.after else f"code {self.after}"
        return f"{self.rule} {code}" + (", another command" if self.command else "")


@dataclass(frozen=True)
class Left:
    """An artifact that is not taken over, and why."""

    folder: str
    why: str


@dataclass
class Assessment:
    """What becomes of every artifact.

    Attributes:
        taken: jobs to take over -> their kind, inputs before what reads them.
        sound: every job that is whole, read what is there, and needs no run or is to be taken over.
        left: artifacts that are not taken over.
    """

    taken: dict[SeenJob, CodeChange] = field(default_factory=dict)
    sound: list[SeenJob] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


def publishes(job: SeenJob) -> bool:
    """Whether a job publishes artifacts: not a table or a figure."""
    return all(Path(output).name == MANIFEST for output in job.outputs)


def judge(
    seen: Sequence[SeenJob], units: Sequence[Unit], root: Path, each: Callable[[], None] = lambda: None
) -> Assessment:
    """Decide on every artifact of a study; each one that is there is hashed.

    Args:
        seen: all jobs, inputs before what reads them.
        units: all jobs that publish artifacts, for what they read.
        root: ``results/<study>`` as Snakemake names it; the working directory is this process's.
        each: called for every job that was looked at.
    """
    result = Assessment()
    inputs = {_manifest(unit.outputs[0]): unit.inputs for unit in units}
    sound: dict[str, bool] = {}
    for job in filter(publishes, seen):
        name = job.outputs[0]
        kind = kind_of(job)
        why = _obstacle(job, inputs.get(name, ()), root, [p for p in job.parents if not sound.get(p, False)])
        sound[name] = why is None
        each()
        if why is None:
            result.sound.append(job)
            if job.differs:
                result.taken[job] = kind
        elif why and (job.differs or not why.startswith(_READS)):
            result.left.append(Left(artifact_folder(name).relative_to(root).as_posix(), why))
    return result


def kind_of(job: SeenJob) -> CodeChange:
    """How the code of a job changed."""
    changes = [change for change in job.changes.values() if change]
    before = [
        match[0].strip("'") for change in changes for value in sorted(change.gone) if (match := _CODE.fullmatch(value))
    ]
    command = any(change.command for change in changes)
    return CodeChange(_BLOCK.sub("", job.rule), before[0] if before else job.code, job.code, command)


def _obstacle(job: SeenJob, inputs: Sequence[Path], root: Path, unsound: Sequence[str]) -> str | None:
    """Why an artifact cannot be taken over; empty where it was not made yet, None where it can."""
    if job.missing:
        return ""
    if job.unfinished:
        return "a run of it was started and not seen to end"
    if job.unrecorded:
        return "Snakemake has no record of how it was made"
    settings = [line for change in job.changes.values() for line in _settings(change, job.code, root)]
    if settings:
        more = f" and {len(settings) - _SHOWN} more" if len(settings) > _SHOWN else ""
        return f"other settings: {'; '.join(list(dict.fromkeys(settings))[:_SHOWN])}{more}"
    if job.other_inputs or job.newer:
        return f"other inputs: {', '.join(job.newer[:_SHOWN]) or 'it reads other files than it did'}"
    try:
        made_from = {digest for output in job.outputs for digest in verify(artifact_folder(output))["inputs"].values()}
        others = [folder for folder in inputs if read_manifest(folder)["self"] not in made_from]
    except ArtifactError as error:
        return f"damaged: {error}"
    if others:
        return f"other inputs: {', '.join(map(str, others[:_SHOWN]))} was made again since"
    return f"{_READS} {unsound[0]}, which is not taken over" if unsound else None


def _settings(change: Change, code: str, root: Path) -> Iterator[str]:
    """What differs besides the code and places in the study's folder."""
    gone, new = (
        [value for value in sorted(values) if not _is_place(value, root)] for values in (change.gone, change.new)
    )
    before = [value for value in gone if _CODE.fullmatch(value)]
    after = [value for value in new if value == repr(code) and _CODE.fullmatch(value)]
    if len(before) == len(after) == 1:
        versions = [match[2] for value in (*before, *after) if (match := _CODE.fullmatch(value))]
        if versions[0] != versions[1]:
            yield "versions of libraries, which count by versions: strict"
        gone.remove(before[0])
        new.remove(after[0])
    specs = [[spec for value in values if (spec := _spec(value)) is not None] for values in (gone, new)]
    if len(specs[0]) == len(specs[1]) == 1:
        yield from setting_changes(specs[0][0], specs[1][0])
    elif gone or new:
        yield f"{len(gone)} value(s) less and {len(new)} more than it was told"


def _is_place(value: str, root: Path) -> bool:
    """Whether a parameter is the path of a place in the study's folder, as Snakemake writes it."""
    return value == f"'{root}'" or value.startswith((f"'{root}/", f'"{root}/'))


def _spec(value: str) -> Any:
    """The settings in a parameter; None when it is something else."""
    try:
        spec = json.loads(ast.literal_eval(value))
    except (ValueError, SyntaxError, TypeError):
        return None
    return spec if isinstance(spec, dict) else None


def _manifest(folder: Path) -> str:
    return (folder / MANIFEST).as_posix()
