"""A training against attacks on a chat model: builds it, takes its steps, publishes it; resumable, on any ranks."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from hardscale.artifacts.seeds import derive_seed
from hardscale.attacks.perturb import embedding_factor, mean_embedding_norm
from hardscale.errors import TrainingError
from hardscale.models.chat import ChatTemplate, load_chat_model
from hardscale.models.counts import generative_parameters, model_shape
from hardscale.models.flop_counter import FlopCounter, Length, PassCounts
from hardscale.runtime import pulse
from hardscale.runtime.console import say
from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.training import faults
from hardscale.training.continuous.history import History, take_steps
from hardscale.training.continuous.lora import add_lora, load_nf4
from hardscale.training.continuous.objective import NAMES, ContinuousObjective, Preference, Unlikelihood
from hardscale.training.continuous.publish import TrainedFrom, compute_facts, publish
from hardscale.training.continuous.references import (
    REFERENCES,
    References,
    reference_sequences,
    references,
    save_references,
    saved_references,
)
from hardscale.training.continuous.rows import Conversation, Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.continuous.step import ContinuousStep, StepSums
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.optimizers import schedule
from hardscale.training.options import RunOptions
from hardscale.training.session import Session, memory_mb

JOB = "continuous"
#: Rows of a micro-batch as published, where means are taken over it.
_PUBLISHED_MICRO_BATCH = 8


class Rows(Protocol):
    """The data of a training."""

    template: ChatTemplate
    n_steps: int

    def rows(self, step: int) -> list[Triple | Conversation]:
        """The rows of a 0-based step, in drawn order."""

    def seen(self) -> list[Triple]:
        """The triples that training will see, each once."""

    def facts(self) -> dict[str, Any]:
        """What the published model says of them."""


class ContinuousTraining:
    """One job: its data, its engine, its progress.

    Args:
        source: spec, inputs and output.
        settings: of the defense; another training says here what its steps minimize.
        data: the rows of every step.
        tokenizer: of the model.
        state: private folder of the job.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.
    """

    def __init__(
        self,
        source: TrainedFrom,
        settings: CAdvUL | CAdvIPO,
        data: Rows,
        tokenizer: Any,
        state: Path,
        group: Group,
        options: RunOptions,
    ) -> None:
        self.seed, self.source, self.state, self.group = int(source.spec["seed"]), source, state, group
        self.settings, self.data, self.tokenizer = settings, data, tokenizer
        self.session = Session(JOB, state, source.spec, source.inputs, group, options)
        self._build(options)
        self.history = History()
        saved = self.session.restore(self.engine)
        if saved:
            self.resume(saved)

    # --- what kinds of training differ in ---------------------------------------------------------------------------

    def rows(self, step: int) -> tuple[list[Triple | Conversation], StepSums]:
        """The rows of a 0-based step, the same on every rank, and what this rank did to make them."""
        return self.data.rows(step), StepSums()

    def progress(self) -> dict[str, Any]:
        """The state of the training besides the engine, as JSON."""
        return {"history": vars(self.history)}

    def data_facts(self) -> dict[str, Any]:
        """What the published model says of its data and its attack."""
        return self.data.facts()

    def resume(self, saved: dict[str, Any]) -> None:
        """Take up what :meth:`progress` said."""
        self.history = History(**saved["history"])

    # --- the model --------------------------------------------------------------------------------------------------

    def _build(self, options: RunOptions) -> None:
        """The model, what is measured of it before it changes, and the engine that changes it."""
        settings, device = self.settings, self.group.device
        lm: Any
        if settings.quantize:
            lm = load_nf4(self.source.start, device)
        else:
            lm, _ = load_chat_model(self.source.start, weights_dtype(options))
        self.shape, self.n_params = model_shape(lm.config), generative_parameters(lm.config)
        module = ScoredLM(lm).to(device).eval()
        embedding = lm.get_input_embeddings()
        mean_norm, unit = mean_embedding_norm(embedding), embedding_factor(embedding)
        self.pad_id = int(self.tokenizer.pad_token_id)
        self._check(module)
        self.objective = self._objective(module)
        if settings.lora:
            add_lora(lm, settings.lora, derive_seed(self.seed, "lora"))
        n_trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        if settings.normalize == "microbatch_mean" or settings.micro_batch:
            options = dataclasses.replace(options, micro_batch=settings.micro_batch or _PUBLISHED_MICRO_BATCH)
        self.engine = Engine(
            module,
            settings.optimizer,
            factor=schedule(settings.optimizer, self.data.n_steps),
            batch_size=settings.batch_size,
            group=self.group,
            options=options,
        )
        n_adapter = n_trained if settings.lora else 0
        counter = FlopCounter(
            self.shape, n_adapter_params=n_adapter, trains_all=settings.lora is None, reads_last=False
        )
        self.step = ContinuousStep(
            settings, self.objective, self.engine, counter, mean_norm, self.pad_id, self.seed, unit
        )
        self.facts = {"mean_embedding_norm": mean_norm, "embedding_factor": unit, "n_trained_params": n_trained}

    def _check(self, module: ScoredLM) -> None:
        """Whether the model's losses are those of plain forwards, by the first row; every rank asks."""
        rows = self.data.rows(0)
        if not rows:
            return module.check(range(min(16, self.shape.vocab)), self.pad_id)  # any tokens show it
        tokens = (*rows[0].prompt, *rows[0].away) if isinstance(rows[0], Triple) else rows[0].ids
        return module.check(tokens[: self.settings.max_tokens], self.pad_id)

    def _objective(self, module: ScoredLM) -> ContinuousObjective:
        if isinstance(self.settings, CAdvUL):
            return Unlikelihood(self.settings)
        return Preference(self.settings, self._references(module, self.settings))

    def _references(self, module: ScoredLM, settings: CAdvIPO) -> References:
        """Of the triples that training will see, kept in the state for a later start."""
        digest = self.session.digest
        kept = self.group.gather(saved_references(self.state, digest) if self.group.leader else None)[0]
        if kept is not None:
            return kept
        triples = self.data.seen()
        found = references(module, triples, Preference(settings, {}), self.group, self.pad_id)
        if self.group.leader:
            save_references(self.state, found, digest)
            say(f"reference log-probabilities of {len(triples)} rows computed")
        self.group.barrier()
        return found

    # --- training ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Take the steps that are left and publish."""
        take_steps(
            self.engine,
            self.session,
            self.history,
            self.data.n_steps,
            self._take,
            self.progress,
        )
        facts = {
            **self.facts,
            **compute_facts(self.history, self.n_params, self._besides()),
            **self.history.attack_facts(self.settings.attack),
            "template_sha256": self.data.template.sha256,
            **self.data_facts(),
        }
        if facts["eps_unused"] and self.group.leader:
            say(
                f"note: no perturbation left the ball of eps (the largest is {facts['max_ratio']:.3g} of it), so eps "
                "had no part in this training; larger or more steps would reach it"
            )
        publish(self.engine, self.session, self.settings.lora, self.source, self.history, facts)
        self.session.finish()
        if self.group.leader:
            (self.state / REFERENCES).unlink(missing_ok=True)

    def _besides(self) -> PassCounts:
        """Compute of the reference log-probabilities."""
        if not isinstance(self.settings, CAdvIPO):
            return PassCounts()
        lines = reference_sequences(self.data.seen())
        counter = FlopCounter(self.shape, reads_last=False)
        return counter.attack([Length(len(line.ids), line.n_labels) for line in lines], 1, 0)

    def _take(self, step: int) -> tuple[bool, bool]:
        """One step; whether to stop and to save, agreed by all ranks."""
        began = time.perf_counter()
        pulse.beat()
        faults.trip(JOB, "step", step + 1, self.group.rank)
        (rows, mine), learning_rate = self.rows(step), self.engine.learning_rate
        self.step.accumulate(rows, step, mine)
        if faults.wanted("nan", JOB, "step", step + 1, self.group.rank):
            mine.sums[0] = math.nan
        tally, (stop, save) = self._together(mine)
        if not all(map(math.isfinite, tally.sums)):
            self._refuse(mine, step)
        norm = self.engine.update()
        if not math.isfinite(norm):
            raise TrainingError(f"{JOB}: gradient norm is {norm} at step {step + 1}; lower the learning rate")
        self._note(step, rows, tally, learning_rate, norm, time.perf_counter() - began)
        return stop, save

    def _together(self, mine: StepSums) -> tuple[StepSums, tuple[bool, bool]]:
        """What all ranks did in a step and whether any wants to stop or to save."""
        values, votes = mine.values(), self.session.votes()
        largest = [mine.largest if rank == self.group.rank else 0.0 for rank in range(self.group.world)]
        told = self.group.sum(torch.tensor([*values, *votes, *largest], dtype=torch.float64)).tolist()
        n = len(values)
        return StepSums.of(told[:n], max(told[n + 2 :])), (told[n] > 0, told[n + 1] > 0)

    def _refuse(self, mine: StepSums, step: int) -> None:
        bad = sorted({name for part in self.group.gather(mine.bad) for name in part})
        shown = ", ".join(bad[:8]) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        raise TrainingError(
            f"{JOB}: loss is not finite at step {step + 1} ({shown or 'no row stands out'}); lower the learning rate, "
            "or look at these rows"
        )

    def _note(
        self,
        step: int,
        rows: Sequence[Triple | Conversation],
        tally: StepSums,
        learning_rate: float,
        norm: float,
        seconds: float,
    ) -> None:
        counts, n_tokens = self.objective.counts(rows), self.objective.n_tokens(rows)
        by_part = self.settings.normalize == "microbatch_mean"
        self.history.metrics.append(
            {
                "round": 1,
                "step": step + 1,
                "loss": tally.total if by_part else self.objective.total(tally.sums, counts),
                "learning_rate": learning_rate,
                "grad_norm": norm,
                "n_tokens": n_tokens,
                "n_examples": len(rows),
            }
        )
        self.history.timing.append(
            {
                "step": step + 1,
                "seconds": seconds,
                "tokens_per_second": n_tokens / seconds,
                "memory_mb": memory_mb(self.group),
                "batch_halvings": None,
            }
        )
        self.history.terms.append(_terms_row(step, rows, tally, self.objective, counts))


def _terms_row(
    step: int,
    rows: Sequence[Triple | Conversation],
    tally: StepSums,
    objective: ContinuousObjective,
    counts: Sequence[int],
) -> dict[str, Any]:
    """A row of TERMS."""
    n_adversarial = sum(isinstance(row, Triple) for row in rows)
    attacked, tokens = tally.attacked, tally.tokens
    means = objective.means(tally.sums, counts)
    return {
        "step": step + 1,
        "n_adversarial": n_adversarial,
        "n_utility": len(rows) - n_adversarial,
        **{name: int(value) for name, value in vars(tally.work).items()},
        "flops_exact": tally.work.flops_exact,
        **dict(zip(NAMES, means, strict=True)),
        "attack_loss_first": tally.first / attacked if attacked else None,
        "attack_loss_last": tally.last / attacked if attacked else None,
        "projected_share": tally.projected / tokens if tokens else None,
        "max_ratio": tally.largest if tokens else None,
        "mean_ratio": tally.ratios / tokens if tokens else None,
    }
