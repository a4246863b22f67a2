"""The jobs of a study that measure chat models by other means: lm-evaluation-harness and MT-Bench."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import canonical_json
from hardscale.errors import DataError
from hardscale.evaluation.lm_eval_tool import PYTHON, task_folder
from hardscale.plan.chat_grid import ChatGrid
from hardscale.plan.grid import StudyGrid
from hardscale.plan.input_names import plain_names
from hardscale.plan.paths import Lineage, manifests
from hardscale.runtime.instruction_set import KEY
from hardscale.settings.chat import ModelName
from hardscale.settings.study import data_root
from hardscale.settings.utility import LmEvalSettings, MtBenchSettings
from hardscale.tasks.locate import locate_file

#: Measure -> template of its artifact.
_FOLDERS = {"lm_eval": paths.LM_EVAL, "mt_bench": paths.MT_BENCH}


class UtilityJobs:
    """What the rules of further measures ask of a study.

    Args:
        grid: all that the study holds.
        chat: of chat models.
    """

    def __init__(self, grid: StudyGrid, chat: ChatGrid) -> None:
        self._grid, self._study, self._chat = grid, grid.study, chat

    # --- what exists ------------------------------------------------------------------------------------------------

    @property
    def lm_eval(self) -> LmEvalSettings | None:
        """Settings of lm-evaluation-harness; None where nothing is measured with it."""
        return self._study.utility.lm_eval if self._study.utility and self._chat.cells else None

    @property
    def mt_bench(self) -> MtBenchSettings | None:
        """Settings of MT-Bench; None where nothing is measured with it."""
        return self._study.utility.mt_bench if self._study.utility and self._chat.cells else None

    @property
    def kinds(self) -> list[str]:
        """Measures that the study asks for: ``lm_eval``, ``mt_bench``."""
        return [name for name in ("lm_eval", "mt_bench") if getattr(self, name) is not None]

    def folders(self, *kinds: str) -> Iterator[Path]:
        """The folder of every job of these kinds, or of all: one for each evaluated chat model."""
        for kind in kinds or self.kinds:
            for key, number in self._chat.evaluated_models():
                yield self._grid.layout.measure(_FOLDERS[kind], key, number)

    # --- specs and inputs -------------------------------------------------------------------------------------------

    def lm_eval_spec(self, wildcards: Any) -> str:
        """Spec of lm_eval. Where the interpreter lies is no part of it."""
        assert self.lm_eval is not None
        return self._spec(wildcards, self.lm_eval.model_dump(exclude={"python"}))

    def mt_bench_spec(self, wildcards: Any) -> str:
        """Spec of mt_bench."""
        assert self.mt_bench is not None
        seed = self._grid.seed(Lineage.parse(wildcards.lineage).cell, "mt_bench")
        return self._spec(wildcards, self.mt_bench.model_dump(), seed=seed)

    def _spec(self, wildcards: Any, settings: dict[str, Any], **more: Any) -> str:
        lineage = Lineage.parse(wildcards.lineage)
        spec = {"cell": lineage.cell.key, "defense": lineage.defense, "round": int(wildcards.round)}
        return canonical_json({**spec, KEY: self._study.instruction_set, "settings": settings, **more})

    @plain_names
    def lm_eval_files(self, wildcards: Any = None) -> list[str]:  # noqa: ARG002
        """The user's own files of tasks for lm-evaluation-harness, so that an edit of them is seen."""
        assert self.lm_eval is not None
        with contextlib.suppress(DataError):
            folder = task_folder(self.lm_eval.include_path, data_root(self._study))
            return sorted(str(path) for path in folder.rglob("*") if path.is_file()) if folder else []
        return []

    @plain_names
    def mt_bench_files(self, wildcards: Any = None) -> list[str]:  # noqa: ARG002
        """The file of questions, where it is the user's own."""
        assert self.mt_bench is not None
        with contextlib.suppress(DataError):
            place = locate_file("utility.mt_bench.questions", self.mt_bench.questions, data_root(self._study))
            return [str(place)] if isinstance(place, Path) else []
        return []

    @property
    def raters(self) -> list[tuple[str, str]]:
        """Family and scale of the model that rates; none where a function does, or nothing is rated."""
        judge = self.mt_bench.judge if self.mt_bench else None
        return [(judge.family, judge.scale)] if isinstance(judge, ModelName) else []

    def rating_models(self, wildcards: Any = None) -> list[str]:  # noqa: ARG002
        """Inputs of mt_bench besides its victim: the model that rates."""
        return manifests(self._grid.base(family, scale) for family, scale in self.raters)

    def name_interpreter(self) -> None:
        """Let the jobs of lm_eval find the interpreter that the study names; here and not in their parameters.

        If it were a parameter, moving the interpreter would rerun every measurement.
        """
        if self.lm_eval and self.lm_eval.python:
            os.environ[PYTHON] = self.lm_eval.python
