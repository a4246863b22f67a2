"""What can be had from the Hugging Face hub right now: its local cache, and whether it answers.

Standard library only, and never a long wait: the preflight of a study uses it.
"""

from __future__ import annotations

import functools
import http.client
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from hardscale.tasks.locate import HubFile, HubTable

_TRUE = {"1", "ON", "YES", "TRUE"}
_ANSWER_SECONDS = 3.0
#: The datasets package hashes a configuration's settings when they are longer than this.
_LONGEST_READABLE_SUFFIX = 32


def offline() -> bool:
    """Whether the environment forbids asking the hub."""
    return any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


def reachable() -> bool:
    """Whether the hub answers within three seconds; false without asking when offline."""
    return not offline() and _answers(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


@functools.cache
def _answers(endpoint: str) -> bool:
    done, answers = threading.Event(), []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_ANSWER_SECONDS).close()
            answers.append("answered")
        except urllib.error.HTTPError:
            answers.append("answered, if not nicely")
        except (OSError, ValueError, http.client.HTTPException):
            pass
        done.set()

    # In a thread, because looking up a host name has no time limit of its own.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(_ANSWER_SECONDS)
    return bool(answers)


def datasets_cache() -> Path:
    """Where the datasets package keeps tables that it has fetched."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or cache_home / "huggingface")
    return Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()


def cached(table: HubTable) -> bool:
    """Whether the datasets package has fetched this table, in the wanted revision if one is pinned.

    The cache's layout is ``org___name/CONFIG/VERSION/REVISION/``, with the folder in the configuration's name.
    """
    owner, name = table.repo.split("/")
    wanted = f"{owner}___{name}".replace("_", "").lower()
    for place in datasets_cache().glob("*___*"):
        if place.name.replace("_", "").lower() == wanted:
            for fetched in place.glob("*/*/*"):
                right_folder = _names_folder(fetched.parts[-3], table.folder)
                right_revision = not table.revision or fetched.name == table.revision
                if fetched.is_dir() and not fetched.name.endswith(".incomplete") and right_folder and right_revision:
                    return True
    return False


def _names_folder(config: str, folder: str | None) -> bool:
    """Whether a cached configuration is that of a folder: ``NAME-data_dir=FOLDER``, or a hash where that is long."""
    suffix = f"data_dir={urllib.parse.quote_plus(folder or '')}"
    return not folder or config.endswith(f"-{suffix}") or len(suffix) > _LONGEST_READABLE_SUFFIX


def cached_file(wanted: HubFile) -> bool:
    """Whether the hub's cache holds a file of a data set, in the wanted revision if one is pinned."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or cache_home / "huggingface")
    place = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = place / f"datasets--{wanted.repo.replace('/', '--')}"
    reference = repository / "refs" / (wanted.revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else wanted.revision
    return commit is not None and (repository / "snapshots" / commit / wanted.file).is_file()


def absent_file_line(key: str, wanted: HubFile, root: Path | None) -> str:
    """Like :func:`absent_line`, of one file of a data set."""
    searched = f"not in the data root {root}" if root else "no data root is set"
    why = "offline mode is on" if offline() else "the hub cannot be reached"
    return (
        f"{key}: {wanted.file} of data set {wanted.repo} is not here: {searched}, not in the hub's cache, and {why}; "
        f"put it into a folder as {wanted.repo}/{wanted.file} and set HARDSCALE_DATA (or data.root in the study) to "
        "that folder, or run once with network"
    )


def absent_line(key: str, table: HubTable, root: Path | None) -> str:
    """The line for a table that is neither here nor to be had: what to fetch, and how to name its place."""
    folder = table.root_folders[0]
    searched = f"not in the data root {root} (as {' or '.join(table.root_folders)})" if root else "no data root is set"
    pinned = f" at revision {table.revision}" if table.revision else ""
    why = "offline mode is on" if offline() else "the hub cannot be reached"
    return (
        f"{key}: data set {table.name}{pinned} is not here: {searched}, not in the hub's cache, and {why}; put "
        f"{folder}/train.parquet and {folder}/validation.parquet into a folder and set HARDSCALE_DATA (or data.root in "
        "the study) to it, or run once with network"
    )
