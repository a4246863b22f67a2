"""The job table: everything about a kind of job that does not depend on a study.

Rules, specs, code digests, the dispatch of ranks, estimates of resources, status, du, gc and cron read it.
:mod:`hardscale.plan.jobs` binds it to a study. Standard library only: drivers on a small head import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardscale.artifacts import paths
from hardscale.artifacts.manifest import MANIFEST

#: Stages of the workflow in their order, as ``status`` counts them.
PHASES = TASKS, BASES, FINETUNED, DEFENDED, MEASURED, TABLES, FIGURES = (
    *("tasks", "base models", "finetune", "rounds"),
    *("attacks", "tables", "figures"),
)


@dataclass(frozen=True)
class Training:
    """What a distributed job trains from and with.

    Attributes:
        inputs: option of the entry -> what it is, and ``+`` where it takes several.
        trainer: ``module:function``; None where the settings block of the defense names it.
        several: whether it publishes a model of each of several rounds.
    """

    inputs: Mapping[str, tuple[str, str | None]]
    trainer: str | None = None
    several: bool = False


@dataclass(frozen=True)
class JobKind:
    """A kind of job.

    Attributes:
        name: of its rule; where several rules share a kind, what their names begin with.
        phase: one of ``PHASES``.
        outputs: name of an output -> template of its file (:mod:`hardscale.artifacts.paths`).
        place: of its log and of Snakemake's benchmark file.
        entry: script below ``scripts``.
        wildcards: those that identify a job within its rule, in the order in which they stand in the first output.
        modules: code of every job of this kind; a job may add some, e.g. of its attack.
        estimates: name in a site file's corrections; None for jobs of fixed size.
        state: place of its private folder; None where it keeps none.
        training: of distributed jobs; None for others.
    """

    name: str
    phase: str
    outputs: Mapping[str, str]
    place: str
    entry: str
    wildcards: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    estimates: str | None = None
    state: str | None = None
    training: Training | None = None

    @property
    def artifact(self) -> bool:
        """Whether it publishes artifacts, of which a manifest stands for the folder."""
        return all(template.endswith(f"/{MANIFEST}") for template in self.outputs.values())


def _manifest(template: str, **filled: str) -> str:
    for name, value in filled.items():
        template = template.replace(f"{{{name}}}", value)
    return f"{template}/{MANIFEST}"


def _tables(*stems: str, suffixes: tuple[str, ...] = ("parquet", "csv")) -> dict[str, str]:
    """Output -> file of tables; if there is one table, its CSV output is named ``csv``."""
    names = {(suffix if suffix == "csv" else stem): f"{stem}.{suffix}" for stem in stems for suffix in suffixes}
    return {output: paths.fill(paths.TABLE, name=name) for output, name in names.items()}


_START = {"start": ("model artifact of round 0", None), "task": ("task artifact", None)}
_UNDEFENDED = {"lineage": "{cell}/none", "round": paths.round_number(0)}
_FIRST = {"round": paths.round_number(1)}
_SCALE, _LINEAGE, _EVALUATED = ("family", "scale"), ("lineage",), ("lineage", "round")

PREPARE_TASK = JobKind(
    name="prepare_task",
    phase=TASKS,
    outputs={"manifest": _manifest(paths.TASK)},
    place="prepare_task/{task}",
    entry="prepare_task.py",
    wildcards=("task",),
    modules=("hardscale.tasks.build",),
)
PREPARE_MODEL = JobKind(
    name="prepare_model",
    phase=BASES,
    outputs={"manifest": _manifest(paths.BASE)},
    place="prepare_model/{family}/{scale}",
    entry="prepare_model.py",
    wildcards=_SCALE,
    modules=("hardscale.models.prepare",),
    estimates="prepare_model",
)
PRETRAIN = JobKind(
    name="pretrain",
    phase=BASES,
    outputs={"manifest": _manifest(paths.PRETRAINED)},
    place="pretrain/{family}/{scale}",
    entry="pretrain.py",
    wildcards=_SCALE,
    modules=("hardscale.training.pretrain",),
    estimates="pretrain",
    state="pretrained/{family}/{scale}",
    training=Training(
        {"base": ("base_model artifact without weights", None), "task": ("task artifacts", "+")},
        "hardscale.training.pretrain:pretrain",
    ),
)
FINETUNE = JobKind(
    name="finetune",
    phase=FINETUNED,
    outputs={"manifest": _manifest(paths.MODEL, **_UNDEFENDED)},
    place="finetune/{cell}",
    entry="finetune.py",
    wildcards=("cell",),
    modules=("hardscale.training.finetune",),
    estimates="finetune",
    state="{cell}/none",
    training=Training(
        {"base": ("base_model artifact", None), "task": ("task artifact", None)},
        "hardscale.training.finetune:finetune",
    ),
)
IMPORT_MODEL = JobKind(
    name="import_model",
    phase=FINETUNED,
    outputs={"manifest": _manifest(paths.MODEL, **_UNDEFENDED)},
    place="adopt/{cell}",
    entry="import_model.py",
    wildcards=("cell",),
    modules=("hardscale.training.import_model",),
)
IMPORT_EXTERNAL = JobKind(
    name="import_external",
    phase=DEFENDED,
    outputs={"manifest": _manifest(paths.MODEL, **_FIRST)},
    place="adopt/{lineage}",
    entry="import_model.py",
    wildcards=_LINEAGE,
    modules=("hardscale.training.import_model",),
    estimates="continuous",
)
#: A defense that trains once and publishes one model.
CONTINUOUS = JobKind(
    name="continuous",
    phase=DEFENDED,
    outputs={"manifest": _manifest(paths.MODEL, **_FIRST)},
    place="continuous/{lineage}",
    entry="continuous.py",
    wildcards=_LINEAGE,
    estimates="continuous",
    state="{lineage}",
    training=Training(_START),
)
#: A defense of classifiers that trains once and publishes equal stages of it.
STAGES = JobKind(
    name="c_at",
    phase=DEFENDED,
    outputs={"stages": _manifest(paths.MODEL)},
    place="c_at/{lineage}",
    entry="c_at.py",
    wildcards=_LINEAGE,
    estimates="continuous",
    state="{lineage}",
    training=Training(_START, several=True),
)
ROUNDS = JobKind(
    name="adversarial_rounds",
    phase=DEFENDED,
    outputs={"rounds": _manifest(paths.MODEL)},
    place="adversarial_rounds/{lineage}/r{first}",
    entry="adversarial_rounds.py",
    wildcards=_LINEAGE,
    estimates="adversarial_rounds",
    state="{lineage}/r{first}",
    training=Training({**_START, "start": ("model artifact of the round before", None)}, several=True),
)
ATTACK = JobKind(
    name="attack",
    phase=MEASURED,
    outputs={"manifest": _manifest(paths.ATTACK)},
    place="attack/{lineage}/r{round}/{part}",
    entry="attack.py",
    wildcards=(*_EVALUATED, "part"),
    estimates="attack",
)
UTILITY = JobKind(
    name="utility",
    phase=MEASURED,
    outputs={"manifest": _manifest(paths.UTILITY)},
    place="utility/{lineage}/r{round}",
    entry="utility.py",
    wildcards=_EVALUATED,
    modules=("hardscale.evaluation.utility_job",),
    estimates="utility",
)
LM_EVAL = JobKind(
    name="lm_eval",
    phase=MEASURED,
    outputs={"manifest": _manifest(paths.LM_EVAL)},
    place="lm_eval/{lineage}/r{round}",
    entry="lm_eval_harness.py",
    wildcards=_EVALUATED,
    modules=("hardscale.evaluation.lm_eval_job", "hardscale.evaluation.lm_eval_worker"),
    estimates="utility",
)
MT_BENCH = JobKind(
    name="mt_bench",
    phase=MEASURED,
    outputs={"manifest": _manifest(paths.MT_BENCH)},
    place="mt_bench/{lineage}/r{round}",
    entry="mt_bench.py",
    wildcards=_EVALUATED,
    modules=("hardscale.evaluation.mt_bench_job",),
    estimates="utility",
)
COLLECT = JobKind(
    "collect", TABLES, _tables("runs"), "collect", "collect.py", modules=("hardscale.evaluation.collect",)
)
FIT = JobKind("fit", TABLES, _tables("fits"), "fit", "fit.py", modules=("hardscale.analysis.fit",))
CLAIMS = JobKind("claims", TABLES, _tables("claims"), "claims", "claims.py", modules=("hardscale.analysis.claims",))
COST = JobKind("cost", TABLES, _tables("cost"), "cost", "cost.py", modules=("hardscale.analysis.cost",))
SUMMARY = JobKind(
    name="summary",
    phase=TABLES,
    outputs={"table": paths.fill(paths.TABLE, name="summary.md")},
    place="summary",
    entry="summary.py",
    modules=("hardscale.analysis.summary",),
)
COLLECT_UTILITY = JobKind(
    name="collect_utility",
    phase=TABLES,
    outputs={
        f"{stem}_{suffix}": paths.fill(paths.TABLE, name=f"{stem}.{suffix}")
        for stem, suffixes in {
            **dict.fromkeys(("utility", "gains", "worst", "correlations"), ("parquet", "csv")),
            "losses": ("parquet",),
        }.items()
        for suffix in suffixes
    },
    place="collect_utility",
    entry="collect_utility.py",
    modules=(
        "hardscale.evaluation.chat_tables",
        "hardscale.analysis.gains",
        "hardscale.analysis.loss_correlation",
    ),
)
FIGURE = JobKind(
    name="figure",
    phase=FIGURES,
    outputs={suffix: paths.FIGURE.replace("{suffix}", suffix) for suffix in ("png", "svg")},
    place="figure/{figure}",
    entry="figure.py",
)

TABLE: dict[str, JobKind] = {
    kind.name: kind
    for kind in (
        *(PREPARE_TASK, PREPARE_MODEL, PRETRAIN, FINETUNE, IMPORT_MODEL),
        *(ROUNDS, IMPORT_EXTERNAL, CONTINUOUS, STAGES),
        *(ATTACK, UTILITY, LM_EVAL, MT_BENCH),
        *(COLLECT, FIT, CLAIMS, COST, SUMMARY, COLLECT_UTILITY, FIGURE),
    )
}
