"""The file of a study and the files that it extends, read strictly and in one way by all that read them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardscale.errors import StudyError
from hardscale.settings.blocks import deep_merge
from hardscale.settings.former_names import in_todays_names
from hardscale.untrusted.guarded import expanded, shown
from hardscale.untrusted.yaml_values import parse_yaml, read_yaml_file

_WHAT = "a study"
#: Files that extend each other.
MAX_FILES = 20
#: What can be a truth or a number, and no other YAML than itself.
_ONE_WORD = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9.+-][A-Za-z0-9_.+-]{0,99}|~")
#: With this key Snakemake would run what the file says as Python.
_TEMPLATE = "__use_yte__"


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of one study file as they stand there.

    Raises:
        StudyError: the file is missing or no regular one, is not YAML, is not a mapping, or is a template.
    """
    values = read_yaml_file(path, _WHAT)
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise StudyError(f"{shown(path)}: a study is a mapping of keys, found {kind}; begin with name: {path.stem}")
    if _TEMPLATE in values:
        raise StudyError(f"{shown(path)}: {_TEMPLATE}: unknown key; a study is data, no template that is run")
    return in_todays_names(values, shown(path))


def read_yaml(path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A study file with its ``extends`` chain merged in.

    Raises:
        StudyError: see :func:`read_mapping`; or it extends itself, or more than ``MAX_FILES`` files are read.
    """
    path = expanded(path, _WHAT, StudyError)
    here = Path(os.path.realpath(path))  # unlike resolve() it raises nothing
    if here in chain:
        raise StudyError(f"{shown(path)}: extends itself through {' -> '.join(shown(p.name) for p in chain)}")
    if len(chain) >= MAX_FILES:
        raise StudyError(f"{shown(path)}: extends: a chain of more than {MAX_FILES} files; put their keys together")
    values = read_mapping(path)
    base = values.get("extends")
    if isinstance(base, str):
        if not base.strip():
            raise StudyError(f"{shown(path)}: extends: found a blank text, expected another study file")
        place = path.parent / expanded(base, f"extends of {shown(path)}", StudyError)
        values = deep_merge(read_yaml(place, (*chain, here)), values)
    return values


def of_command_line(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``--config``, those within lists and mappings read as in a file: Snakemake leaves them as texts.

    Raises:
        StudyError: one of them is a number that is none.
    """
    values = {key: value if isinstance(value, str) else _read(value) for key, value in config.items()}
    return in_todays_names(values, "--config")


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _read(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_read(inner) for inner in value]
    if isinstance(value, str) and _ONE_WORD.fullmatch(value):
        return parse_yaml(value, "--config")
    return value
