"""The jobs of a study: what they make, what they read, what they are told and the code that they run."""

from __future__ import annotations

from hardscale.plan.chat_grid import ChatGrid
from hardscale.plan.demands import Demands
from hardscale.plan.grid import StudyGrid
from hardscale.plan.helpers import AttackHelpers
from hardscale.plan.inputs import JobInputs
from hardscale.plan.measures import UtilityJobs
from hardscale.plan.outputs import Outputs
from hardscale.plan.paths import manifests
from hardscale.plan.specs import CodeDigests, Specs
from hardscale.settings.study import Study, data_root


class Jobs:
    """Everything that the rules ask of a study.

    Attributes:
        holdings: what it holds.
        chat: what chat models and continuous defenses add to that.
        exhibits: its tables and figures.
        inputs: what each job reads.
        helpers: further models of its attacks.
        demands: what the study asks of its models.
        specs: what each job is told.
        codes: the code that each job runs.
        measures: what is measured of chat models by jobs of their own.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.data_root = str(data_root(study) or "")
        self.grid = StudyGrid(study)
        self.layout = self.grid.layout
        self.chat = ChatGrid(self.grid)
        self.outputs_of = Outputs(self.grid, self.chat)
        self.inputs = JobInputs(self.grid)
        self.helpers = AttackHelpers(self.grid)
        self.demands = Demands(study)
        self.specs = Specs(self.grid)
        self.codes = CodeDigests(self.grid)
        self.measures = UtilityJobs(self.grid, self.chat)

    @property
    def phases(self) -> list[str]:
        """The files of rules that the study needs."""
        more = ["continuous", "utility"] if self.chat.needed else []
        return ["data", "models", "train", "adversarial", *more, "attack", "analysis", "figures", "ops"]

    def targets(self) -> list[str]:
        """Every model, attack, table and figure: what rule ``all`` asks for, so that deleting any one rebuilds it."""
        folders = [*self.grid.prepared_folders(), *self.grid.model_folders(), *self.grid.attack_folders()]
        folders += [*self.chat.utility_folders(), *self.measures.folders()]
        return [*manifests(folders), *self.outputs_of.tables(), *self.outputs_of.figures()]
