"""The preflight of a task's data, before anything runs: cheap, and without torch, datasets or pyarrow."""

from __future__ import annotations

from pathlib import Path

from hardscale.errors import DataError
from hardscale.settings import CONSTRUCTED, TaskSettings
from hardscale.tasks import hub
from hardscale.tasks.locate import HubTable, locate, task_kind


def check_source(name: str, settings: TaskSettings, root: Path | None) -> str | None:
    """One line that says why a task's data can not be had, or None when nothing speaks against it.

    Looks whether files exist, whether the data root or the hub's cache has the table, and whether the hub answers
    within three seconds. It opens no table.
    """
    try:
        if task_kind(name, settings) in CONSTRUCTED:
            return _check_words(name, settings)
        place = locate(name, settings, root)
    except DataError as error:
        return str(error)
    if isinstance(place, HubTable) and not hub.cached(place) and not hub.reachable():
        return hub.absent_line(name, place, root)
    return None


def _check_words(name: str, settings: TaskSettings) -> str | None:
    if task_kind(name, settings) != "password_match":
        return None
    from hardscale.tasks.password_match import too_few_words

    return too_few_words(name, settings)
