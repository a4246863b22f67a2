"""Continuous adversarial training of a classifier: every step attacks the embeddings of the rows that it trains on.

The scheme of "Efficient Adversarial Training in LLMs with Continuous Attacks" (arXiv 2405.15589, section 3) for a
classifier: the attack is untargeted, and the loss is the cross-entropy of the label with and without it. One training
publishes equal stages of its steps, numbered as the rounds of other defenses are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import Draft
from hardscale.artifacts.schemas import TERMS
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import write_table
from hardscale.attacks.codec import Codec
from hardscale.attacks.perturb import embedding_factor, mean_embedding_norm
from hardscale.errors import TrainingError
from hardscale.models.counts import model_shape
from hardscale.models.flop_counter import FlopCounter, PassCounts
from hardscale.models.flops import ModelShape, training_flops
from hardscale.models.load import load_classifier
from hardscale.runtime.console import say
from hardscale.settings.defenses import CAt
from hardscale.settings.words import from_spec
from hardscale.tasks.data import load_split, load_task
from hardscale.training.batches import Order, TokenRow
from hardscale.training.c_at_step import ClassifierStep
from hardscale.training.continuous.history import History
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.exposure import Exposure
from hardscale.training.finished_rounds import FinishedRounds
from hardscale.training.loop import TrainHistory, TrainPhase, train
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions
from hardscale.training.publish_model import Release, publish_model
from hardscale.training.session import Session

JOB = "c_at"


def c_at(
    spec: dict[str, Any], start: Path, task: Path, state: Path, outs: list[Path], group: Group, options: RunOptions
) -> None:
    """Train a classifier against attacks on its embeddings and publish its stages. Every rank calls it.

    Args:
        spec: ``cell``, ``defense``, ``seed``, ``ranks``, ``settings`` (resolved :class:`CAt`), ``max_tokens``,
            ``first_round`` (1) and ``last_round`` (the number of stages).
        start: ``model`` artifact of round 0.
        task: ``task`` artifact.
        state: private folder of this job.
        outs: one ``model`` artifact for each stage, in order.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.

    Raises:
        TrainingError: a start that is not round 0 of the cell, fewer steps than stages, a loss that is not finite.
        AttackError: the inner attack's loss is not finite.
    """
    _Training(spec, start, task, state, outs, group, options).run()


@dataclass
class _Progress:
    """Where the training stands.

    Attributes:
        stage: the stage being worked on.
        train_history: its training so far.
        terms: its rows of TERMS so far.
        n_fell: rows of it that the attack made the model misclassify.
        work: of all earlier stages, as :meth:`PassCounts.values`.
        n_seen_tokens: of all earlier stages.
    """

    stage: int = 1
    train_history: TrainHistory = field(default_factory=TrainHistory)
    terms: list[dict[str, Any]] = field(default_factory=list)
    n_fell: float = 0
    work: list[float] = field(default_factory=lambda: PassCounts().values())
    n_seen_tokens: int = 0

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "train_history": vars(self.train_history)}

    @classmethod
    def load(cls, values: dict[str, Any]) -> _Progress:
        """Of :meth:`dump`."""
        return cls(**{**values, "train_history": TrainHistory(**values["train_history"])})

    @property
    def history(self) -> History:
        """Of the stage."""
        return History(self.train_history.metrics, self.train_history.timing, self.terms)


class _Training:
    """One job: its data, its engine, its progress."""

    def __init__(
        self,
        spec: dict[str, Any],
        start: Path,
        task: Path,
        state: Path,
        outs: list[Path],
        group: Group,
        options: RunOptions,
    ) -> None:
        self.spec, self.seed, self.group = spec, int(spec["seed"]), group
        self.settings = from_spec(CAt, spec["settings"])
        self.n_stages = self.settings.checkpoints
        self.start, self.task, self.outs = start, task, dict(zip(range(1, self.n_stages + 1), outs, strict=True))
        _must_be_undefended(start, spec)
        self.session = Session(JOB, state, spec, {"start": start, "task": task}, group, options)
        self.shelf = FinishedRounds(state, self.outs, group)
        self.n_labels = len(load_task(task).labels)
        model, self.tokenizer = load_classifier(start, weights_dtype(options))
        self.codec = Codec(self.tokenizer, model.config.get_text_config().vocab_size)
        self.examples = load_split(task, "train", self.tokenizer, spec["max_tokens"])
        self.validation = load_split(task, "validation", self.tokenizer, spec["max_tokens"])[: self.settings.n_clean]
        self.exposure = Exposure(self.codec, self.settings.exposure, self.seed)
        self.order = Order(len(self.examples), self.settings.batch_size, self.seed)
        self.n_steps = self.settings.steps or self.order.n_steps(self.settings.epochs or 1)
        if self.n_steps < self.n_stages:
            raise TrainingError(
                f"checkpoints: found {self.n_stages} for {self.n_steps} steps; give at most one for each step"
            )
        embedding = model.get_input_embeddings()
        self.mean_norm, self.unit = mean_embedding_norm(embedding), embedding_factor(embedding)
        counter = FlopCounter(self._shape(model), trains_all=True)
        self.engine = Engine(
            model,
            self.settings.optimizer,
            factor=schedule(self.settings.optimizer, self.n_steps),
            batch_size=self.settings.batch_size,
            group=group,
            options=options,
        )
        self.step = ClassifierStep(self.settings, self.engine, counter, self.mean_norm, self.seed, self.unit)
        self.progress = self._begin()

    def _shape(self, model: Any) -> ModelShape:
        """As the counter counts: its head has an output for every label, where a language model has its vocabulary."""
        return replace(model_shape(model.config), vocab=self.n_labels)

    def _begin(self) -> _Progress:
        saved = self.session.restore(self.engine)
        if saved is None:
            self.shelf.clear()
            return _Progress()
        progress = _Progress.load(saved)
        self.shelf.must_hold(range(1, progress.stage))
        if self.group.leader:
            done = self._ends(progress.stage - 1) + len(progress.train_history.metrics)
            say(f"resuming after step {done} of {self.n_steps}")
        return progress

    def _ends(self, stage: int) -> int:
        """Steps of the whole training up to the end of a stage."""
        return self.n_steps * stage // self.n_stages

    def run(self) -> None:
        """Go through the stages."""
        self.shelf.publish_rounds(range(1, self.progress.stage))
        for stage in range(self.progress.stage, self.n_stages + 1):
            self._train(stage)
            self._publish(stage)
        self.session.finish()

    # --- one stage --------------------------------------------------------------------------------------------------

    def _train(self, stage: int) -> None:
        before, progress = self._ends(stage - 1), self.progress

        def gradients(step: int, rows: Sequence[TokenRow], dropout: int) -> list[torch.Tensor]:
            losses, tally = self.step.gradients(rows, before + step, dropout)
            progress.terms.append(tally.row(step + 1, len(rows)))
            progress.n_fell += tally.fell
            return losses

        phase = TrainPhase(
            f"{JOB} {stage}/{self.n_stages}",
            stage,
            self._ends(stage) - before,
            lambda step: self._rows(before + step),
            derive_seed(self.seed, "stage", stage),
            before,
            gradients=gradients,
            copies=2,
        )
        train(self.engine, self.session, phase, progress.train_history, progress.dump)
        self.session.save(self.engine, self._ends(stage), progress.dump())

    def _rows(self, step: int) -> list[TokenRow]:
        epoch, chosen = self.order.at(step)
        drawn = [self.examples[i] for i in chosen]
        encoded = self.codec.encode_prompts(self.exposure.texts(drawn, epoch))
        return [TokenRow(e.example_id, ids, e.label) for e, ids in zip(drawn, encoded, strict=True)]

    # --- publishing -------------------------------------------------------------------------------------------------

    def _publish(self, stage: int) -> None:
        spec, facts = self._stage_spec(stage), self._facts(stage)
        if not self.shelf.holds(stage, spec):
            release = Release(
                self.shelf.folder(stage),
                spec,
                {"task": self.task, "before": self.start if stage == 1 else self.shelf.folder(stage - 1)},
                facts,
                self.progress.train_history,
                add=self._add_terms,
            )
            clean = publish_model(self.engine, self.session, self.tokenizer, self.codec, self.validation, release)
            if self.group.leader:
                say(f"stage {stage}/{self.n_stages}: clean accuracy {clean:.3f}, published {self.outs[stage]}")
        self.shelf.publish_rounds([stage])
        self.group.barrier()
        work = PassCounts(*self.progress.work) + self.progress.history.work
        self.progress = _Progress(stage + 1, work=work.values(), n_seen_tokens=facts["n_seen_tokens"])

    def _add_terms(self, draft: Draft) -> None:
        write_table(draft.path / "terms.parquet", self.progress.terms, TERMS)

    def _stage_spec(self, stage: int) -> dict[str, Any]:
        of_the_job = ("first_round", "last_round")
        return {**{key: value for key, value in self.spec.items() if key not in of_the_job}, "round": stage}

    def _facts(self, stage: int) -> dict[str, Any]:
        """Compute of the stage by itself for training and attack, of all so far for the rest."""
        progress, n_params = self.progress, self.engine.n_params
        here, n_tokens = progress.history.work, progress.train_history.n_tokens
        work, trained = PassCounts(*progress.work) + here, training_flops(n_params, n_tokens)
        n_rows = sum(row["n_examples"] for row in progress.train_history.metrics)
        return {
            "cell": self.spec["cell"],
            "defense": self.spec["defense"],
            "round": stage,
            "n_labels": self.n_labels,
            "training_flops": trained,
            "generation_flops": here.flops(n_params) - trained,
            "defense_flops": work.flops(n_params),
            "defense_flops_exact": work.flops_exact,
            "n_forward_passes": int(work.forward_passes),
            "n_backward_passes": int(work.backward_passes),
            "n_seen_tokens": progress.n_seen_tokens + n_tokens,
            "attack_asr": progress.n_fell / n_rows,
            "n_adversarial": n_rows,
            "n_clean_in_set": n_rows,
            "mean_embedding_norm": self.mean_norm,
            "embedding_factor": self.unit,
            **progress.history.attack_facts(self.settings.attack),
        }


def _must_be_undefended(start: Path, spec: dict[str, Any]) -> None:
    facts = open_artifact(start, "model")["facts"]
    for key, value in {"round": 0, "cell": spec["cell"], "defense": "none"}.items():
        if facts.get(key) != value:
            raise TrainingError(
                f"{start}: its {key} is {facts.get(key)!r}; {spec['defense']!r} starts from {value!r}; give round 0 of "
                "the same cell"
            )
