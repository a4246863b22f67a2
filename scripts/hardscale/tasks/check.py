"""The preflight of a task's data, before anything runs: cheap, and without torch, datasets or pyarrow."""

from __future__ import annotations

import importlib
from pathlib import Path

from hardscale.errors import DataError
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.tasks import CONSTRUCTED, TaskSettings
from hardscale.tasks import hub
from hardscale.tasks.locate import HubFile, HubTable, locate, locate_chat, task_kind


def check_source(name: str, settings: TaskSettings | ChatTaskSettings, root: Path | None) -> str | None:
    """One line that says why a task's data cannot be had, or None when nothing speaks against it.

    Looks whether files exist, whether the data root or the hub's cache has the table, and whether the hub answers
    within three seconds. It opens no table.
    """
    try:
        if isinstance(settings, ChatTaskSettings):
            return _check_chat(name, settings, root)
        kind = task_kind(name, settings)
        if kind in CONSTRUCTED:
            problem = getattr(importlib.import_module(f"hardscale.tasks.{kind}"), "problem", None)
            return problem(name, settings) if problem else None
        place = locate(name, settings, root)
    except DataError as error:
        return str(error)
    if isinstance(place, HubTable) and not hub.cached(place) and not hub.reachable():
        return hub.absent_line(f"tasks.{name}", place, root)
    return None


def _check_chat(name: str, settings: ChatTaskSettings, root: Path | None) -> str | None:
    for key, place in locate_chat(name, settings, root).items():
        if isinstance(place, HubFile) and not hub.cached_file(place) and not hub.reachable():
            return hub.absent_file_line(key, place, root)
        if isinstance(place, HubTable) and not hub.cached(place) and not hub.reachable():
            return hub.absent_line(key, place, root)
    return None
