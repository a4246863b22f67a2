"""A cheap look at a model's source before anything runs. No torch and no transformers here."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hardscale.errors import ModelError, StudyError
from hardscale.models.adapters import adapter_problem, quantized_problem
from hardscale.models.folders import (
    ADAPTER_WEIGHTS,
    folder_problem,
    gguf_header_problem,
    gguf_problem,
    tokenizer_problem,
)
from hardscale.models.sources import ModelSource, named_source, resolve_source
from hardscale.settings.defenses import External
from hardscale.settings.models import FamilySettings
from hardscale.untrusted import guarded

_REACH_SECONDS = 3.0
_WEIGHTS = "model*.safetensors"
GGUF_MISSING = "the package `gguf` is missing; install it with `pip install gguf`"


def check_source(family: str, scale: str, settings: FamilySettings, root: Path | None = None) -> str | None:
    """What keeps this model from being prepared, in one line with the next step; none when nothing is known to.

    A folder is looked at file by file, a hub model must be in the cache or the hub within reach (3 seconds, asked once
    a process).
    """
    try:
        source = resolve_source(family, scale, settings, root)
    except StudyError as error:
        return str(error)
    problem = _source_problem(source)
    return f"families.{family}.scales.{scale}: {problem}" if problem else None


def _source_problem(source: ModelSource) -> str | None:
    if source.kind == "path":
        return _of_place(source.where, folder_problem)
    if source.kind == "gguf":
        problem = _of_place(source.where, gguf_problem)
        if not problem and not importlib.util.find_spec("gguf"):
            problem = f"{source.where}: {GGUF_MISSING}"
        return problem or _of_place(source.where, gguf_header_problem)
    if source.kind == "hub":
        return hub_problem(source.where, source.revision)
    return None


def _of_place(where: str, look: Callable[[Path], str | None]) -> str | None:
    """What a look at a path of the study finds; a path that cannot be one is a finding too."""
    try:
        return look(guarded.expanded(where, "a model", ModelError))
    except ModelError as error:
        return str(error)


def check_external(name: str, settings: External, root: Path | None = None) -> str | None:
    """What keeps a defense that somebody else trained from being taken over; none when nothing is known to."""
    files = {"base": _WEIGHTS, "adapter": ADAPTER_WEIGHTS, "tokenizer": "tokenizer_config.json"}
    looks: dict[str, Callable[[Path], str | None]] = {
        "base": partial(folder_problem, with_tokenizer=False),
        "adapter": lambda folder: adapter_problem(folder) or quantized_problem(folder, settings.quantized_training),
    }
    for field, wanted in files.items():
        where = getattr(settings, field)
        if not where:
            continue
        key = f"defenses.{name}.{field}"
        try:
            source = named_source(key, where, root)
        except StudyError as error:
            return str(error)
        if source.kind == "hub":
            problem = hub_problem(source.where, source.revision, wanted)
        else:
            problem = _of_place(source.where, looks.get(field, tokenizer_problem))
        if problem:
            return f"{key}: {problem}"
    return None


def hub_problem(name: str, revision: str | None, wanted: str = _WEIGHTS) -> str | None:
    """Why a hub model cannot be had: not in the cache and the hub out of reach, or a name that cannot be one."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or ".." in name:
        return f"hub: {name!r} is not of the form org/name"
    try:
        if cached_snapshots(name, revision, wanted) or hub_is_reachable():
            return None
    except ModelError as error:
        return str(error)
    return unreachable(name, revision)


def unreachable(name: str, revision: str | None) -> str:
    """The line for a hub model that is neither cached nor within reach: what to fetch and how."""
    at = f" --revision {revision}" if revision else ""
    return (
        f"{name} is not in the Hugging Face cache and the hub is out of reach; where there is a network run "
        f"`hf download {name}{at}` and copy the cache here, or add `--local-dir FOLDER`, copy that and describe "
        "the model with `path: FOLDER` (source: models)"
    )


def cached_snapshots(name: str, revision: str | None, wanted: str = _WEIGHTS) -> list[Path]:
    """Snapshot folders of a hub model in the local cache that hold its weights, or other files of that pattern."""
    repository = _cache_folder() / f"models--{name.replace('/', '--')}"
    snapshots = [repository / "snapshots" / revision] if revision else sorted(repository.glob("snapshots/*"))
    reference = repository / "refs" / (revision or "main")
    if reference.is_file():
        commit = guarded.read_text(reference, "a reference of the hub's cache", error=ModelError).strip()
        snapshots = [repository / "snapshots" / commit]
    return [folder for folder in snapshots if any(folder.glob(wanted))]


def _cache_folder() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return guarded.expanded(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub", "the hub's cache", ModelError)


def hub_is_reachable() -> bool:
    """Whether the hub (``HF_ENDPOINT``) answers; false when ``HF_HUB_OFFLINE`` is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    return _answers(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")


@functools.cache
def _answers(url: str) -> bool:
    """Any HTTP answer counts. In a thread, because a name lookup obeys no timeout."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_REACH_SECONDS):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS)
    return answered.is_set()
