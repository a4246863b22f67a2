"""Which jobs Snakemake would run again and why, and its record of how a job was run.

The plan is read through Snakemake's API. That has no way to look at single jobs, so the workflow behind it is asked, in
this file only, by what Snakemake itself decides with: ``needrun``, ``params_changed``, ``input_changed`` and
``code_changed``. ``tests/e2e/test_accept.py``, where nothing is planned after an acceptance, says when these moved.

Of a record two entries are written, the parameters and the text of the rule's command. The rest says how and when the
artifact was made, and stays; other reasons to run a job again (inputs, an environment, a missing file) keep their
effect. ``snakemake --touch`` would not do: it marks each job as unfinished for a moment, in which a kill costs the
artifact, makes everything look new, and takes over whatever is asked for.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hardscale.artifacts.atomic import replacing, sync
from hardscale.errors import ArtifactError
from hardscale.ops.scratch import REPOSITORY
from hardscale.ops.snakemake_metadata import SNAKEMAKE

#: The format of a record whose parameters are those that Snakemake compares: its RECORD_FORMAT_VERSION.
FORMAT = 6
_PATH_PIECE = 254  # of a record's name; longer names are cut


@dataclass(frozen=True)
class Change:
    """How the record of one output differs from what the job would be told today, as Snakemake writes values.

    Attributes:
        gone: parameters that are no longer given.
        new: parameters that were not given.
        command: whether the text of the rule's command is another.
    """

    gone: frozenset[str] = frozenset()
    new: frozenset[str] = frozenset()
    command: bool = False

    def __bool__(self) -> bool:
        return bool(self.gone or self.new or self.command)


@dataclass(frozen=True)
class SeenJob:
    """A job of the workflow as Snakemake sees it.

    Attributes:
        rule: name of its rule.
        outputs: files that it writes, relative to the working directory.
        parents: first outputs of the jobs that it reads from.
        planned: whether it would be run.
        code: the code digest that it is given today; empty where it is given none.
        command: the text of its rule's command, before values are put in.
        changes: output -> how its record differs, for those that have one.
        missing: outputs that are not there.
        unrecorded: outputs that are there, without a record of the known format.
        unfinished: outputs of which a run was started and not seen to end.
        other_inputs: whether it reads other files by name than it did.
        newer: inputs that changed after it ran.
    """

    rule: str
    outputs: tuple[str, ...]
    parents: tuple[str, ...]
    planned: bool
    code: str
    command: str
    changes: dict[str, Change] = field(hash=False)
    missing: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    other_inputs: bool = False
    newer: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the record of any output differs."""
        return any(self.changes.values())


def read_plan(study: Path, directory: Path, log: Path) -> list[SeenJob]:
    """Every job of a study with what Snakemake knows of it, inputs before what reads them.

    Snakemake runs in a process of its own, which leaves its environment there, as a dry run: nothing is claimed.

    Args:
        study: the study file.
        directory: the working directory.
        log: gets everything that Snakemake says.

    Raises:
        ArtifactError: there is no plan; the log says why.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_divert, initargs=(log,)) as process:
        try:
            return process.submit(_read, study, directory).result()
        except (Exception, SystemExit) as error:
            raise ArtifactError(
                f"snakemake cannot plan the study ({type(error).__name__}: {error}); see {log}"
            ) from error


def _divert(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.argv = ["snakemake", "--dry-run"]


def _read(study: Path, directory: Path) -> list[SeenJob]:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, ResourceSettings

    with SnakemakeApi() as api:
        found = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[study]),
            snakefile=REPOSITORY / "Snakefile",
            workdir=directory,
        )
        found.dag(dag_settings=DAGSettings())
        workflow = found._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        # A level is a set, whose order differs between runs; samples are drawn from what is returned.
        levels = ([job for job in level if job.output] for level in workflow.dag.toposorted())
        return [_seen(workflow, job) for level in levels for job in sorted(level, key=lambda job: str(job.output[0]))]


def _seen(workflow: Any, job: Any) -> SeenJob:
    dag, past = workflow.dag, workflow.persistence
    recorded, unrecorded, missing = [], [], []
    for file in job.output:
        if not Path(file).exists():
            missing.append(str(file))
        elif past.metadata(file) is None or past.record_format_version(file) != FORMAT:
            unrecorded.append(str(file))
        else:
            recorded.append(file)
    changes = {}
    for file in recorded:
        change = past.params_changed(job, file=file)
        command = past.code_changed(job, file=file)
        changes[str(file)] = Change(frozenset(change.only_old), frozenset(change.only_new), bool(command))
    reason = dag.reason(job)
    return SeenJob(
        rule=job.rule.name,
        outputs=tuple(map(str, job.output)),
        parents=tuple(str(parent.output[0]) for parent in dag.dependencies[job] if parent.output),
        planned=bool(dag.needrun(job)),
        code=str(getattr(job.params, "code", "")),
        command=str(job.rule.shellcmd or ""),
        changes=changes,
        missing=tuple(missing),
        unrecorded=tuple(unrecorded),
        unfinished=tuple(map(str, workflow.async_run(past.incomplete(job)))),
        other_inputs=any(past.input_changed(job, file=file) for file in recorded),
        newer=tuple(sorted(map(str, reason.updated_input))),
    )


def record_path(output: str, folder: Path = SNAKEMAKE) -> Path:
    """Where Snakemake keeps its record of an output."""
    code = base64.urlsafe_b64encode(output.encode()).decode()
    pieces = [code[i : i + _PATH_PIECE] for i in range(0, len(code), _PATH_PIECE)]
    return folder.joinpath("metadata", *(f"@{piece}" for piece in pieces[:-1]), pieces[-1])


def rewrite(output: str, change: Change, command: str, folder: Path = SNAKEMAKE) -> None:
    """Let the record of an output say that it was made with today's parameters and command; it changes at once, or not.

    Args:
        output: the output as Snakemake names it.
        change: what differs.
        command: the text of the rule's command today.
        folder: Snakemake's folder.

    Raises:
        ArtifactError: the record is not the one that the change was found in, or cannot be written.
    """
    path = record_path(output, folder)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        params = set(record["params"])
        known = record["record_format_version"] == FORMAT and change.gone <= params
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ArtifactError(f"{path}: no record of {output} that is known here; nothing was changed in it")
    record["params"] = sorted((params - change.gone) | change.new)
    if change.command:
        record["code"] = command
    mode = path.stat().st_mode
    with replacing(path) as draft:
        draft.write_text(json.dumps(record), encoding="utf-8")
        with contextlib.suppress(OSError):
            draft.chmod(mode)
        sync(draft)
