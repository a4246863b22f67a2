"""Which table a task reads, and where its files are. Standard library only: the preflight of a study uses it."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from hardscale.errors import DataError
from hardscale.settings.chat import BehaviorSource, ChatTaskSettings
from hardscale.settings.tasks import CONSTRUCTED, PREFERENCE_TASKS, TEXT_TASKS, TaskSettings
from hardscale.tasks.folders import FORMATS, is_table, split_files
from hardscale.untrusted.guarded import expanded, regular, shown

_BUILTIN_SOURCES = {
    "imdb": "hub:stanfordnlp/imdb",
    "spam": "hub:SetFit/enron_spam",
    "helpful": "hub:Anthropic/hh-rlhf/helpful-base",
    "harmless": "hub:Anthropic/hh-rlhf/harmless-base",
}
#: Plain folder names in a data root, beside the hub's own names.
_ROOT_FOLDERS = {
    "stanfordnlp/imdb": "imdb",
    "SetFit/enron_spam": "enron_spam",
    "Anthropic/hh-rlhf/helpful-base": "hh_rlhf_helpful",
    "Anthropic/hh-rlhf/harmless-base": "hh_rlhf_harmless",
}
_HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w.-]+(?:/[\w.-]+)*))?(?:@(?P<revision>[\w./-]+))?")
_HUB_FILE = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?/(?P<file>[\w.-]+(?:/[\w.-]+)*)")


@dataclass(frozen=True)
class LocalFiles:
    """Files of a table, in reading order; without validation files the training files are divided by content."""

    origin: str
    train: tuple[Path, ...]
    validation: tuple[Path, ...]


@dataclass(frozen=True)
class HubTable:
    """A table on the Hugging Face hub."""

    repo: str
    folder: str | None
    revision: str | None

    @property
    def name(self) -> str:
        """``org/name``, with the folder inside it if there is one."""
        return f"{self.repo}/{self.folder}" if self.folder else self.repo

    @property
    def root_folders(self) -> tuple[str, ...]:
        """What the table's folder may be called in a data root, the usual name first."""
        short = self.name.split("/", 1)[1]
        names = (_ROOT_FOLDERS.get(self.name, short), self.name, short)
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class HubFile:
    """One file of a data set on the Hugging Face hub."""

    repo: str
    file: str
    revision: str | None


def task_kind(name: str, settings: TaskSettings) -> str:
    """What a task is: its ``kind``, else ``described`` when it has a source, else its own name."""
    kind = settings.kind or ("described" if settings.source else name)
    known = (*CONSTRUCTED, *TEXT_TASKS, *PREFERENCE_TASKS, "described")
    if kind not in known:
        raise DataError(
            f"tasks.{name}: {kind!r} is not a task; give `kind` ({', '.join(known)}) or describe it by source"
        )
    if settings.source and kind in CONSTRUCTED:
        raise DataError(f"tasks.{name}: a {kind} task is generated and reads no source; remove `source`")
    return kind


def description(name: str, settings: TaskSettings) -> tuple[str, str, list[str]]:
    """Text column, label column and labels of a described task."""
    if settings.text and settings.label and settings.labels:
        return settings.text, settings.label, settings.labels
    raise DataError(
        f"tasks.{name}: a task with a source also needs text, label and labels, or `kind` with a built-in task"
    )


def locate(name: str, settings: TaskSettings, root: Path | None) -> LocalFiles | HubTable:
    """Where a task's table is: the files of its source, of its folder in the data root, else a name on the hub.

    A path is looked up from the working directory, then from the data root.

    Raises:
        DataError: a path or the root is missing, or a folder holds no training table.
    """
    kind = task_kind(name, settings)
    if kind == "described":
        description(name, settings)
    source = settings.source or _BUILTIN_SOURCES.get(kind)
    if not source:
        raise DataError(f"tasks.{name}: no source; give source, text, label and labels")
    return locate_table(f"tasks.{name}: source", source, root)


def locate_table(key: str, source: str, root: Path | None) -> LocalFiles | HubTable:
    """Where a table is that a study names at ``key``: a file, a folder, a folder of the data root, or the hub.

    Raises:
        DataError: a path or the root is missing, or a folder holds no training table.
    """
    check_root(root)
    if source.startswith("hub:"):
        table = _hub_table(key, source)
        folders = [(root / name, f"root:{name}") for name in table.root_folders] if root else []
        found = next((pair for pair in folders if pair[0].is_dir()), None)
        return _folder_files(*found) if found else table
    places = _places(key, source, root)
    for place in places:
        kind = _kind(place)
        if kind == "folder":
            return _folder_files(place, origin=source)
        if kind == "file":
            regular(place, "a table")
            if not is_table(place.name):
                raise DataError(f"{place}: a table is a file {', '.join(FORMATS)}, a folder, or hub:org/name")
            return LocalFiles(source, (place,), ())
    looked = " or ".join(str(place) for place in places)
    raise DataError(f"{key} {source!r} is not there (looked for {looked}); fix the path in the study")


def locate_file(key: str, source: str, root: Path | None) -> Path | HubFile:
    """Where a file is that a study names at ``key``: a path, a path below the data root, or on the hub.

    Raises:
        DataError: it is neither here nor a name on the hub.
    """
    check_root(root)
    places = [] if source.startswith("hub:") else _places(key, source, root)
    hub = _HUB_FILE.fullmatch(source)
    if source.startswith("hub:"):
        if hub is None or ".." in source:
            raise DataError(f"{key}: {source!r} is not hub:org/name/file or hub:org/name@revision/file")
        names = (hub["repo"], hub["repo"].split("/")[1])
        places = [root / name / hub["file"] for name in names] if root else []
    for place in places:
        if _kind(place):
            return regular(place, "a file of the study")
    if hub:
        return HubFile(hub["repo"], hub["file"], hub["revision"])
    looked = " or ".join(str(place) for place in places)
    raise DataError(f"{key}: {source!r} is not there (looked for {looked}); fix the path in the study, or data.root")


def locate_chat(
    name: str, settings: ChatTaskSettings, root: Path | None
) -> dict[str, Path | HubFile | LocalFiles | HubTable]:
    """Where everything is that a chat task reads, by its key in the study.

    Raises:
        DataError: something is neither here nor a name on the hub.
    """
    found: dict[str, Path | HubFile | LocalFiles | HubTable] = {}
    for split in ("train", "test"):
        block: BehaviorSource | None = getattr(settings, split)
        for field in ("behaviors", "targets", "safe_answers") if block else ():
            source = getattr(block, field)
            if source:
                key = f"tasks.{name}.{split}.{field}"
                found[key] = locate_file(key, source, root)
    if settings.utility:
        key = f"tasks.{name}.utility.source"
        found[key] = locate_table(f"{key}:", settings.utility.source, root)
    return found


def chat_files(name: str, settings: ChatTaskSettings, root: Path | None) -> list[Path]:
    """The files on this machine that a chat task reads.

    Raises:
        DataError: one is neither here nor a name on the hub; the line names its key.
    """
    files: list[Path] = []
    for place in locate_chat(name, settings, root).values():
        if isinstance(place, LocalFiles):
            files += [*place.train, *place.validation]
        elif isinstance(place, Path):
            files.append(place)
    return list(dict.fromkeys(files))


def _places(key: str, source: str, root: Path | None) -> list[Path]:
    """Where a path is looked for: from the working directory, then from the data root."""
    path = expanded(source, key)
    return [path, *([root / path] if root else [])]


def _kind(place: Path) -> str | None:
    """Whether a folder or anything else is there; None for nothing.

    Raises:
        DataError: that cannot be said, as for a link to itself or a place whose folder is closed.
    """
    try:
        return "folder" if stat.S_ISDIR(place.stat().st_mode) else "file"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{shown(place)}: cannot be looked at ({error.strerror}); give a path that can") from None


def check_root(root: Path | None) -> None:
    """Refuse a data root that is no folder.

    Raises:
        DataError: it is none.
    """
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: the data root is not a folder; fix data.root in the study, or HARDSCALE_DATA")


def _hub_table(key: str, source: str) -> HubTable:
    match = _HUB.fullmatch(source)
    if match is None or ".." in source:
        raise DataError(f"{key} {source!r} is not hub:org/name, hub:org/name/folder or hub:org/name@revision")
    return HubTable(match["repo"], match["folder"], match["revision"])


def _folder_files(folder: Path, origin: str) -> LocalFiles:
    splits = split_files(folder)
    return LocalFiles(origin, splits["train"], splits.get("validation", ()))
