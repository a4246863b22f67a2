"""Which study a command line means, and the environment that its jobs find."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardscale.errors import StudyError
from hardscale.launch.arguments import SITE
from hardscale.launch.state import RUN
from hardscale.plan.launching import Launch
from hardscale.runtime.console import printable
from hardscale.runtime.instruction_set import KEY, NATIVE, why_not
from hardscale.settings import former_names
from hardscale.settings.blocks import deep_merge
from hardscale.settings.study import Study, data_root, parse_study, read_yaml
from hardscale.settings.study_file import of_command_line
from hardscale.untrusted.guarded import shown

DEFAULT_STUDY = "config.yaml"


def study_from_files(files: Sequence[Path], config: Mapping[str, Any] | None = None) -> Study:
    """The study of one file, ``config`` values laid over it; exits with a line for each thing that is wrong."""
    try:
        if len(files) != 1:
            raise StudyError(f"one study at a time, found {', '.join(map(shown, files))}; share settings with extends:")
        path = files[0]
        study = parse_study(deep_merge(read_yaml(path), of_command_line(config or {})), shown(path))
        if path.name != DEFAULT_STUDY and study.name != path.stem:
            raise StudyError(f"{shown(path)}: name: found {study.name!r}, must be {path.stem!r} like the file")
        data_root(study)
    except StudyError as error:
        for line in str(error).split("\n"):
            print(f"error: {printable(line)}", file=sys.stderr)
        raise SystemExit(2) from None
    return study


def study_of(workflow: Any) -> Study:
    """The study of a Snakemake run: ``--configfile`` *replaces* the default one, merging would mix their cells."""
    files = [Path(path) for path in workflow.config_settings.configfiles] or [Path(workflow.basedir) / DEFAULT_STUDY]
    return study_from_files(files, workflow.config_settings.config)


def study_files(workflow: Any) -> Any:
    """Params function: the files given by ``--configfile``. A list would be formatted, and a path may hold braces."""
    return lambda wildcards: [str(path) for path in workflow.config_settings.configfiles]  # noqa: ARG005


def prepare_environment(basedir: str, data_root: str, site: Mapping[str, Any] | None = None) -> None:
    """Let jobs find this interpreter, the entries, the data and the site without an absolute path in any parameter."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ["HARDSCALE_SCRIPTS"] = str(Path(basedir) / "scripts")
    if data_root:
        os.environ["HARDSCALE_DATA"] = data_root
    if site:
        os.environ[SITE] = json.dumps(dict(site))
    os.environ.setdefault(RUN, f"{socket.gethostname()}-{os.getpid()}-{time.time():.3f}")


def say_notes(study: Study, launch: Launch) -> None:
    """Lines on former names in study and profile, and on an instruction set that this machine cannot have."""
    for line in (*former_names.notes, *launch.renamed):
        print(line, file=sys.stderr)
    reason = why_not() if study.instruction_set != NATIVE else None
    if reason:
        line = f"note: {KEY}: {study.instruction_set} is not supported on this machine ({reason}); what it computes may"
        said = f"{line} differ in its last digits from other machines' results, as manifests say (docs/numerics.md)"
        print(said, file=sys.stderr)


def environment_file(basedir: str, name: str) -> str:
    """The description of a Conda environment as a rule's ``conda`` takes it: Snakemake formats it, so braces double."""
    return str(Path(basedir) / "envs" / f"{name}.yaml").replace("{", "{{").replace("}", "}}")


def makes_environments(workflow: Any) -> bool:
    """Whether jobs run in environments that Snakemake makes for them (``--sdm conda``)."""
    return any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method)
