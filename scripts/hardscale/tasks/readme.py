"""Which files are which split by the head of a data set's README, as the hub reads it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hardscale.errors import DataError, StudyError
from hardscale.untrusted.guarded import read_text, shown
from hardscale.untrusted.yaml_values import parse_yaml

#: Blanks end with their line: of those that could go on, a long run of line ends would be split in every way.
_HEAD = re.compile(r"---[^\S\n]*\n(.*?)\n---[^\S\n]*(\n|$)", re.DOTALL)
_MAX_BYTES = 16 * 1024**2


def described_splits(folder: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> its files, by the configuration that the README gives; empty where it says nothing of these files.

    Args:
        folder: of the data set.
        names: the tables in it, by their path in the folder.

    Raises:
        DataError: the README has several configurations and no default, or files of a split are missing.
    """
    configuration = _configuration(folder / "README.md", names)
    found, missing = {}, []
    for split, patterns in _patterns(configuration).items():
        found[split] = [name for name in names if any(_matches(name, pattern) for pattern in patterns)]
        if not found[split]:
            missing.append(split)
    if not any(found.values()):
        return {}
    if "train" in missing:
        raise DataError(f"{shown(folder)}: no file of split 'train' as README.md names it; fetch the others too")
    return {split: files for split, files in found.items() if files}


def _configuration(readme: Path, names: Sequence[str]) -> dict[str, Any]:
    """The default configuration, or the only one, with any of the files; empty where there is none."""
    if not readme.is_file():
        return {}
    head = _HEAD.match(read_text(readme, "a data set's README", max_bytes=_MAX_BYTES, byte_order_mark=True))
    try:
        said = parse_yaml(head[1], shown(readme), any_keys=True) if head and head[1].strip() else None
    except StudyError as error:
        raise DataError(f"{error} (in its head; or remove it)") from None
    listed = said.get("configs") if isinstance(said, dict) else None
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    found = [one for one in found if any(_matches(n, p) for ps in _patterns(one).values() for p in ps for n in names)]
    default = [one for one in found if one.get("default") is True or one.get("config_name") == "default"]
    if len(found) > 1 and len(default) != 1:
        known = ", ".join(shown(str(one.get("config_name"))) for one in found[:6])
        raise DataError(
            f"{shown(readme.parent)}: README.md names {len(found)} configurations ({known}) and none of them is the "
            "default; give the folder or file of one as the source"
        )
    return (default or found or [{}])[0]


def _patterns(configuration: dict[str, Any]) -> dict[str, list[str]]:
    """Split -> patterns of paths; what names no split is training."""
    said = configuration.get("data_files")
    entries = said if isinstance(said, list) else [said] if said else []
    found: dict[str, list[str]] = {}
    for entry in entries:
        split, path = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        below = PurePosixPath(str(configuration.get("data_dir") or "."))
        paths = path if isinstance(path, list) else [path]
        found.setdefault(str(split), []).extend((below / one).as_posix() for one in paths if isinstance(one, str))
    return found


def _matches(name: str, pattern: str) -> bool:
    """Whether a path fits a pattern in which * stays within a folder and ** does not."""
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.fullmatch("".join(wild.get(part) or _plain(part) for part in parts), name) is not None


def _plain(part: str) -> str:
    """A regular expression for a part without asterisks."""
    return fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
