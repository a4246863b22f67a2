"""Files of each split in a folder, found as the hub finds them. The preflight uses it: nothing heavy here.

The hub tells splits by what a README says, else by names: files ``data/SPLIT-00000-of-00002-HASH.parquet`` first, then
folders called by a split (``default/train/0000.parquet``), then files called by one. Here whatever it would mix up is
refused instead: several configurations, two copies of one shard, a shard that is missing, a file of two splits,
unrelated tables as one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from hardscale.errors import DataError
from hardscale.tasks.readme import described_splits
from hardscale.untrusted.guarded import shown

FORMATS = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".json", ".json.gz")
#: Names of a split, the first that is there is taken. UltraChat's end in ``_sft``.
SPLIT_NAMES = {
    "train": ("train", "train_sft"),
    "validation": ("validation", "valid", "val", "dev", "test", "test_sft"),
}
#: What the hub takes for a split in names of folders and files.
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
#: What may stand around such a word.
_AROUND = r"[-._ 0-9]"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<of>\d{5})(?P<rest>.*)")
_PART = re.compile(r"(?P<stem>.*?)(?P<number>\d{3,})")
#: Files of the hub that are JSON and no tables.
_NO_TABLES = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
#: Folders below each other, and files, that are looked through.
_DEPTH, _MOST_FILES = 8, 20_000


def is_table(name: str) -> bool:
    """Whether a file of this name is read as a table."""
    return name.lower().endswith(FORMATS) and name not in _NO_TABLES and not name.startswith(".")


def split_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of ``train`` and, if there is one, ``validation``, in reading order.

    Raises:
        DataError: there is no training table, or it is not clear which files are which split.
    """
    names = _tables(folder)
    if not names:
        raise DataError(
            f"{shown(folder)}: no train.parquet (or {', '.join(FORMATS[1:])}) in it; give a folder that has one"
        )
    splits = (
        described_splits(folder, names)
        or _sharded(names)
        or _by_folder(folder, names)
        or _by_file(folder, names)
        or _one(folder, names)
    )
    found = {}
    for split, known in SPLIT_NAMES.items():
        name = next((name for name in known if name in splits), None)
        if name:
            _check_forms(folder, splits[name])
            _check_shards(folder, splits[name])
            found[split] = tuple(folder / file for file in splits[name])
    if "train" not in found:
        raise DataError(f"{shown(folder)}: no split 'train'; found {_listed(splits)}; name one train")
    both = set(found["train"]) & set(found.get("validation", ()))
    if both:
        raise DataError(f"{shown(min(both))}: its name says training and validation; name it after one of them")
    return found


def _tables(folder: Path) -> list[str]:
    """Paths of all tables below a folder, sorted; a link back to where it came from is not followed again."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending = [(folder, 0)]
    while pending:
        place, depth = pending.pop()
        try:
            status = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{shown(place)}: the folder cannot be read ({error.strerror}); fix its rights") from None
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = place / entry.name
            if entry.name.startswith((".", "__")):
                continue
            if path.is_dir():
                if depth < _DEPTH:
                    pending.append((path, depth + 1))
            elif is_table(entry.name) and path.is_file():
                found.append(path.relative_to(folder).as_posix())
        if len(found) > _MOST_FILES:
            raise DataError(f"{shown(folder)}: more than {_MOST_FILES} tables; give the folder of one data set")
    return sorted(found)


# --- whose file it is -----------------------------------------------------------------------------------------------

Splits = dict[str, list[str]]


def _sharded(names: Sequence[str]) -> Splits:
    """``data/SPLIT-00000-of-00002.parquet``: any split, and no other file counts then."""
    found: Splits = {}
    for name in names:
        path = PurePosixPath(name)
        shard = _SHARD.fullmatch(_stem(path.name))
        if shard and path.parent == PurePosixPath("data"):
            found.setdefault(shard["stem"], []).append(name)
    return found


def _by_folder(folder: Path, names: Sequence[str]) -> Splits:
    """``train/0000.parquet``, ``CONFIGURATION/train/0000.parquet``: everything below a folder called by a split."""
    found: Splits = {}
    homes: dict[str, set[str]] = {}
    for name in names:
        parts = PurePosixPath(name).parts[:-1]
        for split in _KEYWORDS:
            depth = next((i for i, part in enumerate(parts) if _is_called(split, part)), None)
            if depth is not None:
                found.setdefault(split, []).append(name)
                homes.setdefault(split, set()).add("/".join(parts[:depth]))
    _check_one_home(folder, homes)
    return found


def _by_file(folder: Path, names: Sequence[str]) -> Splits:
    """``train.parquet``, ``NAME-train.csv``, ``train-00000-of-00002.parquet`` in one folder at any depth."""
    found: Splits = {}
    homes: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        for split in _KEYWORDS:
            if _is_called(split, path.name, whole=False):
                found.setdefault(split, []).append(name)
                homes.setdefault(split, set()).add(path.parent.as_posix())
    _check_one_home(folder, homes)
    return found


def _check_one_home(folder: Path, homes: dict[str, set[str]]) -> None:
    """Refuse a split from several folders: those are configurations, which the hub would put together."""
    places = set().union(*homes.values())
    if len(places) > 1:
        raise DataError(
            f"{shown(folder)}: several tables, in {_listed(places)}; give the folder of one of them as the source"
        )


def _one(folder: Path, names: Sequence[str]) -> Splits:
    """Names that tell no split: a single table, or the parts of a single one."""
    stems = {
        (PurePosixPath(name).parent, part["stem"] if (part := _parts(name)) else _stem(PurePosixPath(name).name))
        for name in names
    }
    if len(stems) == 1:
        return {"train": list(names)}
    raise DataError(
        f"{shown(folder)}: no train.parquet (or {', '.join(FORMATS[1:])}) in it, and {len(names)} tables that no name "
        "tells apart; name the splits train and validation, or give one file as the source"
    )


def _is_called(split: str, name: str, whole: bool = True) -> bool:
    """Whether a name has a split's word in it, apart from its neighbors; a folder may be called by the word alone."""
    ends = rf"({_AROUND}.*)?" if whole else rf"{_AROUND}.*"
    return any(re.fullmatch(rf"(.*{_AROUND})?{word}{ends}", name) for word in _KEYWORDS[split])


def _stem(name: str) -> str:
    return name[: -len(_suffix(name))]


def _suffix(name: str) -> str:
    return max((suffix for suffix in FORMATS if name.lower().endswith(suffix)), key=len)


def _parts(name: str) -> re.Match[str] | None:
    stem = _stem(PurePosixPath(name).name)
    return _SHARD.fullmatch(stem) or _PART.fullmatch(stem)


# --- whether it is whole --------------------------------------------------------------------------------------------


def _check_forms(folder: Path, names: Sequence[str]) -> None:
    """Refuse one split in two formats, or in a file beside shards: one of them would be read twice, or not at all."""
    kinds = {(PurePosixPath(name).parent, _suffix(name), bool(_parts(name))) for name in names}
    whole = [name for name in names if not _parts(name)]
    if len({kind[1] for kind in kinds}) > 1 or (whole and len(names) > len(whole)):
        raise DataError(
            f"{shown(folder)}: a split in several forms, {_listed(names)}; keep one of them, or give one as the source"
        )


def _check_shards(folder: Path, names: Sequence[str]) -> None:
    """Refuse a set of shards with a gap or with one of them twice."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for name in names:
        part = _parts(name)
        if part:
            of = part.groupdict().get("of") or ""
            key = (PurePosixPath(name).parent.as_posix(), part["stem"], of)
            groups.setdefault(key, []).append(int(part["number"]))
    for (parent, stem, of), numbers in groups.items():
        wanted = int(of) if of else max(numbers) + 1
        if of and len({key for key in groups if key[:2] == (parent, stem)}) > 1:
            raise DataError(f"{shown(folder / parent)}: shards {stem!r} of several divisions; keep those of one")
        if sorted(set(numbers)) != sorted(numbers):
            raise DataError(f"{shown(folder / parent)}: a file like {_first(names, stem)} twice; keep one")
        if set(numbers) != set(range(wanted)) and (of or 0 in numbers):
            raise DataError(
                f"{shown(folder / parent)}: {len(numbers)} of {wanted} files like {_first(names, stem)}; "
                "fetch the others too"
            )


def _first(names: Sequence[str], stem: str) -> str:
    return next(shown(name) for name in (PurePosixPath(name).name for name in names) if name.startswith(stem))


def _listed(names: Iterable[str]) -> str:
    found = [shown(name) or "." for name in sorted(names)]
    return ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
