"""Input functions: files that cannot be derived from the output's path.

Every method that takes ``wildcards`` is an input function of a rule.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hardscale.errors import DataError
from hardscale.models.folders import SMALL_FILES, WEIGHTS_INDEX
from hardscale.plan.grid import StudyGrid
from hardscale.plan.input_names import plain_names
from hardscale.plan.paths import Lineage, manifest, manifests, parse_part, undefended
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.models import HubScale
from hardscale.settings.study import Cell, data_root
from hardscale.tasks.locate import LocalFiles, chat_files, locate
from hardscale.tasks.wordings import locate_text


class JobInputs:
    """The artifacts, and the user's own files, that the jobs of a study read."""

    def __init__(self, grid: StudyGrid) -> None:
        self._grid, self._study, self._layout = grid, grid.study, grid.layout

    @plain_names
    def task_files(self, wildcards: Any) -> list[str]:
        """The user's own files that a task is read from, so that an edit of them is seen; none for other tasks.

        A file that is missing is left to the checks before the first job, which say so in words.
        """
        settings = self._study.tasks[wildcards.task]
        if isinstance(settings, ChatTaskSettings):
            with contextlib.suppress(DataError):
                return [str(path) for path in chat_files(wildcards.task, settings, data_root(self._study))]
            return []
        if not settings.source or settings.source.startswith("hub:"):
            return []
        with contextlib.suppress(DataError):
            place = locate(wildcards.task, settings, data_root(self._study))
            if isinstance(place, LocalFiles):
                return [str(path) for path in (*place.train, *place.validation)]
        return []

    @plain_names
    def model_files(self, wildcards: Any) -> list[str]:
        """The user's own files that a model is read from; none for models of the hub and models made here."""
        scales = self._study.families[wildcards.family].scales
        scale = scales[wildcards.scale] if isinstance(scales, dict) else None
        if not isinstance(scale, HubScale):
            return []
        files = [Path(scale.gguf).expanduser()] if scale.gguf else []
        if scale.path:
            folder = Path(scale.path).expanduser()
            files = [*(folder / name for name in (*SMALL_FILES, WEIGHTS_INDEX)), *sorted(folder.glob("*.safetensors"))]
        return [str(path) for path in files if path.is_file()]

    def base_tasks(self, wildcards: Any) -> list[str]:
        """Tasks that a scratch family's tokenizer (and pretraining) is made from; none for other families."""
        if self._study.families[wildcards.family].source != "scratch":
            return []
        tasks = dict.fromkeys(cell.task for cell in self._grid.cells if cell.family == wildcards.family)
        return manifests(self._layout.task(task) for task in tasks)

    @plain_names
    def attack_files(self, wildcards: Any) -> list[str]:
        """The user's own files of an attack and its judges, so that an edit of them is seen."""
        if not self._study.is_chat(wildcards.lineage.split("/")[0]):
            return []
        cell, attack = Lineage.parse(wildcards.lineage).cell, parse_part(wildcards.part)[0]
        texts = list(self._grid.attack_settings(attack, cell).texts(f"attacks.{attack}").values())
        texts += [text for i, judge in enumerate(self._study.judges) for text in judge.texts(f"judges.{i}")]
        files: dict[str, None] = {}
        for text in texts:
            with contextlib.suppress(DataError):  # the checks before the first job say what is missing
                files[str(locate_text(text, data_root(self._study)))] = None
        return list(files)

    def cell_base(self, wildcards: Any) -> str:
        """The model that a cell starts from."""
        return self._base(Cell.parse(wildcards.cell))

    def cell_task(self, wildcards: Any) -> str:
        """The task of a cell."""
        return manifest(self._layout.task(wildcards.cell.split("/")[0]))

    def lineage_base(self, wildcards: Any) -> str:
        """The model that the cell of a lineage starts from."""
        return self._base(Lineage.parse(wildcards.lineage).cell)

    def lineage_task(self, wildcards: Any) -> str:
        """The task of a lineage."""
        return manifest(self._layout.task(wildcards.lineage.split("/")[0]))

    def _base(self, cell: Cell) -> str:
        return manifest(self._grid.base(cell.family, cell.scale))

    def block_start(self, first: int) -> Any:
        """Input function: the model before round ``first``."""

        def start(wildcards: Any) -> str:
            lineage = Lineage.parse(wildcards.lineage)
            key = undefended(lineage.cell).key if first == 1 else lineage.key
            return manifest(self._layout.model(key, first - 1))

        return start
