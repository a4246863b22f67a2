"""The jobs of a study: the job table (:mod:`hardscale.plan.table`) bound to what the study holds.

Rules take what they need by name, e.g. ``JOBS.finetune.outputs.manifest``; everything else that has to know of jobs
(status, gc, cron, the estimates of a cluster) goes through :meth:`Jobs.all`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from hardscale.artifacts import paths
from hardscale.plan import table
from hardscale.plan.chat_grid import ChatGrid
from hardscale.plan.demands import Demands
from hardscale.plan.estimates import ResourceEstimates
from hardscale.plan.grid import RoundBlock, StudyGrid
from hardscale.plan.helpers import AttackHelpers
from hardscale.plan.inputs import JobInputs
from hardscale.plan.job import Job, plain_function
from hardscale.plan.measures import UtilityJobs
from hardscale.plan.outputs import Outputs
from hardscale.plan.paths import Lineage, manifests
from hardscale.plan.site import Site
from hardscale.plan.specs import CodeDigests, Specs
from hardscale.plan.table import JobKind
from hardscale.settings.study import Study, data_root


class Jobs:
    """Every job of a study.

    Args:
        study: validated.
        site: the cluster that resources are estimated for; that of the environment when None.

    Attributes:
        grid: what the study holds.
        chat: what chat models and continuous defenses add to that.
        outputs_of: its tables and figures.
        inputs: what each job reads.
        helpers: further models of its attacks.
        demands: what the study asks of its models.
        specs: what each job is told.
        codes: the code that each job runs.
        measures: what is measured of chat models by jobs of their own.
    """

    def __init__(self, study: Study, site: Site | None = None) -> None:
        self.study, self._site = study, site
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

    @cached_property
    def _estimates(self) -> ResourceEstimates:
        return ResourceEstimates(self.study, site=self._site)

    def needs(self, job: Job) -> ResourceEstimates:
        """What a job asks of a machine."""
        return self._estimates.of(job.kind, job.beside)

    def root(self, _wildcards: object = None) -> str:
        """The study's folder, as a function: ``snakemake --lint`` takes a plain string for a path prefix."""
        return str(self.layout.root)

    @property
    def leases(self) -> str:
        """Folder of the attack jobs' leases."""
        return f"{self.layout.root}/{paths.fill(paths.STATE, place='leases')}"

    def log_of(self, place: str) -> str:
        """Log of a rule outside the job table."""
        return f"{self.layout.root}/{paths.fill(paths.LOG, place=place)}"

    @property
    def phases(self) -> list[str]:
        """Names of the rule files that the Snakefile includes for this study."""
        more = ["continuous", "utility"] if self.chat.needed else []
        return ["data", "models", "train", "adversarial", *more, "attack", "analysis", "figures", "ops"]

    def targets(self) -> list[str]:
        """Every model, attack, table and figure: what rule ``all`` asks for, so that deleting any one rebuilds it."""
        folders = [*self.grid.prepared_folders(), *self.grid.model_folders(), *self.grid.attack_folders()]
        folders += [*self.chat.utility_folders(), *self.measures.folders()]
        return [*manifests(folders), *self.outputs_of.tables(), *self.outputs_of.figures()]

    def all(self) -> Iterator[Job]:
        """Every rule of the study, in the order of the workflow."""
        yield from (self.prepare_task, self.prepare_model, self.pretrain, self.finetune, self.import_model)
        yield from self.adversarial_rounds
        yield from (self.import_external, self.continuous)
        yield from self.c_at
        yield from (self.attack, self.utility, self.lm_eval, self.mt_bench)
        yield from (self.collect, self.fit, self.claims, self.cost, self.summary)
        if self.chat.cells:
            yield self.collect_utility
        yield from self.figures

    # --- before attacks and defenses --------------------------------------------------------------------------------

    @cached_property
    def prepare_task(self) -> Job:
        """Data of a task as parquet."""
        tasks = dict.fromkeys(cell.task for cell in self.grid.cells)
        instances = [SimpleNamespace(task=task) for task in tasks]
        files = SimpleNamespace(files=self.inputs.task_files)
        return self._job(table.PREPARE_TASK, instances, files=files, spec=self.specs.task, code=self.codes.task)

    @cached_property
    def prepare_model(self) -> Job:
        """A model before finetuning."""
        return self._job(
            table.PREPARE_MODEL,
            lambda: self._scales,
            inputs=SimpleNamespace(tasks=self.inputs.base_tasks),
            files=SimpleNamespace(files=self.inputs.model_files),
            spec=self.specs.model,
        )

    @cached_property
    def pretrain(self) -> Job:
        """Pretraining of a scratch family."""
        return self._job(
            table.PRETRAIN,
            lambda: [w for w in self._scales if self.study.families[w.family].pretrain is not None],
            inputs=SimpleNamespace(base=self.prepare_model.outputs.manifest, tasks=self.inputs.base_tasks),
            spec=self.specs.pretrain,
        )

    @cached_property
    def _scales(self) -> list[Any]:
        """Every model: of cells, of judges, and those that play a role in an attack."""
        found = dict.fromkeys((cell.family, cell.scale) for cell in self.grid.cells)
        found.update(dict.fromkeys(self.measures.raters))
        if self.helpers.needed:
            for lineage, _, part in self.grid.attacks():
                found.update(dict.fromkeys(self.helpers.scales(lineage, part).values()))
        return [SimpleNamespace(family=family, scale=scale) for family, scale in found]

    @cached_property
    def finetune(self) -> Job:
        """The undefended classifier of a cell."""
        return self._of_cells(table.FINETUNE, chat=False, spec=self.specs.finetune)

    @cached_property
    def import_model(self) -> Job:
        """A chat model as it is."""
        return self._of_cells(table.IMPORT_MODEL, chat=True, spec=self.specs.import_model)

    def _of_cells(self, kind: JobKind, chat: bool, spec: Any) -> Job:
        cells = [SimpleNamespace(cell=cell.key) for cell in self.grid.cells if self.study.is_chat(cell.task) == chat]
        inputs = SimpleNamespace(base=self.inputs.cell_base, task=self.inputs.cell_task)
        return self._job(kind, cells, inputs=inputs, spec=spec)

    # --- defenses ---------------------------------------------------------------------------------------------------

    @cached_property
    def adversarial_rounds(self) -> list[Job]:
        """Blocks of rounds; those of equal rounds are a rule."""
        return [self._of_block(table.ROUNDS, block, self.specs.rounds(block)) for block in self.grid.blocks]

    @cached_property
    def c_at(self) -> list[Job]:
        """Trainings in stages; those of equally many stages are a rule."""
        return [self._of_block(table.STAGES, block, self.specs.stages) for block in self.chat.c_at_blocks]

    @cached_property
    def continuous(self) -> Job:
        """Defenses that train once and publish one model."""
        inputs = SimpleNamespace(start=self.inputs.block_start(1), task=self.inputs.lineage_task)
        return self._of_lineages(table.CONTINUOUS, self.chat.trained(), inputs, self.specs.defense)

    @cached_property
    def import_external(self) -> Job:
        """Defenses that somebody else trained."""
        inputs = SimpleNamespace(base=self.inputs.lineage_base, task=self.inputs.lineage_task)
        return self._of_lineages(table.IMPORT_EXTERNAL, self.chat.external(), inputs, self.specs.import_external)

    def _of_block(self, kind: JobKind, block: RoundBlock, spec: Any) -> Job:
        inputs = SimpleNamespace(start=self.inputs.block_start(block.first), task=self.inputs.lineage_task)
        return self._of_lineages(kind, block.lineages, inputs, spec, block)

    def _of_lineages(
        self,
        kind: JobKind,
        lineages: list[Lineage],
        inputs: SimpleNamespace,
        spec: Any,
        block: RoundBlock | None = None,
    ) -> Job:
        instances = [SimpleNamespace(lineage=lineage.key) for lineage in lineages]
        code = None if kind.modules else self.codes.defense
        more: dict[str, Any] = {"rounds": block, "rule": block.name} if block is not None else {}
        return self._job(kind, instances, inputs=inputs, spec=spec, code=code, lineages=lineages, **more)

    # --- measures ---------------------------------------------------------------------------------------------------

    @cached_property
    def attack(self) -> Job:
        """One attack on one model, whole or a shard of it."""
        return self._job(
            table.ATTACK,
            lambda: (
                SimpleNamespace(lineage=lineage, round=paths.round_number(number), part=part)
                for lineage, number, part in self.grid.attacks()
            ),
            # Snakemake calls a function for every job of a plan; a study of thousands of attacks may need none.
            inputs=self._evaluated(helpers=self.helpers.models if self.helpers.needed else []),
            files=SimpleNamespace(texts=self.inputs.attack_files if self.chat.cells else []),
            spec=self.specs.attack,
            code=self.codes.attack,
            beside=self.helpers.beside,
        )

    @cached_property
    def utility(self) -> Job:
        """What an evaluated chat model is good for."""
        instances = self._models if self.study.utility is not None else list
        return self._job(table.UTILITY, instances, inputs=self._evaluated(), spec=self.specs.utility)

    @cached_property
    def lm_eval(self) -> Job:
        """Benchmarks by lm-evaluation-harness."""
        instances = self._models if self.measures.lm_eval is not None else list
        files = SimpleNamespace(files=self.measures.lm_eval_files)
        return self._job(
            table.LM_EVAL, instances, inputs=self._evaluated(), files=files, spec=self.measures.lm_eval_spec
        )

    @cached_property
    def mt_bench(self) -> Job:
        """MT-Bench by another model."""
        return self._job(
            table.MT_BENCH,
            self._models if self.measures.mt_bench is not None else list,
            inputs=self._evaluated(judge=self.measures.rating_models()),
            files=SimpleNamespace(files=self.measures.mt_bench_files),
            spec=self.measures.mt_bench_spec,
            beside=lambda _: self.measures.raters,
        )

    def _evaluated(self, **more: Any) -> SimpleNamespace:
        """What is read of a model, and more."""
        victim = f"{self.layout.root}/{table.ROUNDS.outputs['rounds']}"
        return SimpleNamespace(victim=victim, task=self.inputs.lineage_task, **more)

    def _models(self) -> Iterator[Any]:
        for key, number in self.chat.evaluated_models():
            yield SimpleNamespace(lineage=key, round=paths.round_number(number))

    # --- tables and figures -----------------------------------------------------------------------------------------

    @cached_property
    def collect(self) -> Job:
        """The table of all runs."""
        # An attack is rerun when its model changes, so it stands for the facts of its model too.
        attacks = manifests(self.grid.attack_folders())
        return self._once(table.COLLECT, self.specs.collect, attacks=attacks)

    @cached_property
    def fit(self) -> Job:
        """Scaling laws."""
        return self._once(table.FIT, self.specs.headline, runs=self.collect.outputs.runs)

    @cached_property
    def claims(self) -> Job:
        """What the study supports. The table of runs names a digest of every attack's rows."""
        return self._once(table.CLAIMS, self.specs.headline, runs=self.collect.outputs.runs)

    @cached_property
    def cost(self) -> Job:
        """What defenses cost."""
        return self._once(table.COST, self.specs.collect, models=self.grid.defended_models())

    @cached_property
    def summary(self) -> Job:
        """A table to read."""
        return self._once(table.SUMMARY, self.specs.analysis, runs=self.collect.outputs.runs)

    @cached_property
    def collect_utility(self) -> Job:
        """Tables of chat models."""
        return self._once(
            table.COLLECT_UTILITY,
            self.specs.collect,
            attacks=manifests(self.chat.attack_folders()),
            utility=manifests(self.chat.utility_folders()),
            measures=manifests(self.measures.folders()),
        )

    @cached_property
    def figures(self) -> list[Job]:
        """A rule a figure: the path of a caption cannot hold a wildcard."""
        return [self._figure(name) for name in self.outputs_of.figure_names]

    def _figure(self, name: str) -> Job:
        inputs = SimpleNamespace(
            runs=self.collect.outputs.runs, fits=self.fit.outputs.fits, tables=self.outputs_of.tables_of(name)
        )
        instances = [SimpleNamespace(figure=name)]
        more: dict[str, Any] = {
            "rule": f"{table.FIGURE.name}_{name}",
            "spec": self.specs.analysis,
            "code": self.codes.figure,
        }
        return self._job(table.FIGURE, instances, inputs=inputs, **more)

    def _once(self, kind: JobKind, spec: Any, **inputs: Any) -> Job:
        return self._job(kind, [SimpleNamespace()], inputs=SimpleNamespace(**inputs), spec=spec)

    def _job(self, kind: JobKind, instances: Any, **more: Any) -> Job:
        """A rule of a kind; its code is that of the kind's modules unless told otherwise."""
        made = instances if callable(instances) else lambda: instances
        code = more.pop("code", None) or self.codes.of(*kind.modules)
        given = {"spec": plain_function(more.pop("spec", None)), "code": plain_function(code)}
        for name in more.keys() & {"inputs", "files"}:
            given[name] = SimpleNamespace(**{key: plain_function(value) for key, value in vars(more.pop(name)).items()})
        return Job(kind, str(self.layout.root), more.pop("rule", kind.name), made, **given, **more)
