"""Adversarial training in rounds (section 5): attack, pool, mix, train, publish; a block of rounds a job."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import Draft
from hardscale.artifacts.schemas import POOL
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import read_table, write_table
from hardscale.attacks.codec import Codec
from hardscale.errors import TrainingError
from hardscale.models.counts import model_shape
from hardscale.models.flop_counter import FlopCounter, Length, PassCounts
from hardscale.models.flops import training_flops
from hardscale.models.load import load_classifier
from hardscale.runtime.console import Progress as Bar
from hardscale.runtime.console import say
from hardscale.settings.defenses import AdversarialRounds
from hardscale.settings.words import from_spec
from hardscale.tasks.data import load_split, load_task
from hardscale.tasks.example import Example
from hardscale.training import faults
from hardscale.training.batches import Order, TokenRow
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine, weights_dtype
from hardscale.training.examples import Attacked, Generation
from hardscale.training.exposure import Exposure
from hardscale.training.finished_rounds import FinishedRounds
from hardscale.training.loop import TrainPhase, train
from hardscale.training.optimizer_state import CARRY, read_optimizer_state, write_optimizer_state
from hardscale.training.optimizers import rounds_schedule
from hardscale.training.options import RunOptions
from hardscale.training.pool import PoolEntry, RoundSet, attack_iterations, draw_new, draw_set, pool_rows, set_sizes
from hardscale.training.progress import RoundsProgress
from hardscale.training.publish_model import Release, publish_model
from hardscale.training.session import Session

JOB = "adversarial_rounds"
#: Facts of a round in the order of :meth:`PassCounts.values`: what all rounds up to it did.
_WORK = ("n_forward_passes", "n_backward_passes", "n_forward_tokens", "n_backward_tokens", "defense_flops_exact")


def adversarial_rounds(
    spec: dict[str, Any], start: Path, task: Path, state: Path, outs: list[Path], group: Group, options: RunOptions
) -> None:
    """Train rounds ``first_round`` to ``last_round`` and publish each. Every rank of the distributed job calls it.

    The published rounds do not depend on how rounds are cut into blocks.

    Args:
        spec: ``cell``, ``defense``, ``seed``, ``ranks``, ``settings`` (resolved :class:`AdversarialRounds`),
            ``first_round``, ``last_round``, ``max_tokens``; ``keep_rounds``: rounds whose weights are published (all).
        start: ``model`` artifact of the round before the first.
        task: ``task`` artifact.
        state: private folder of this job.
        outs: one ``model`` artifact for each round, in order.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.
    """
    _Block(spec, start, task, state, outs, group, options).run()


class _Block:
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
        self.spec, self.seed, self.group, self.state = spec, int(spec["seed"]), group, state
        self.first, self.last = int(spec["first_round"]), int(spec["last_round"])
        self.outs = dict(zip(range(self.first, self.last + 1), outs, strict=True))
        self.settings = from_spec(AdversarialRounds, spec["settings"])
        self.start, self.inputs = start, {"start": start, "task": task}
        facts = open_artifact(start, "model")["facts"]
        _must_follow(start, facts, self.first, spec)
        self.session = Session(JOB, state, spec, self.inputs, group, options)
        self.shelf = FinishedRounds(state, self.outs, group)
        self.n_labels = len(load_task(task).labels)
        model, self.tokenizer = load_classifier(start, weights_dtype(options))
        self.codec = Codec(self.tokenizer, model.config.get_text_config().vocab_size)
        self.examples = load_split(task, "train", self.tokenizer, spec["max_tokens"])
        self.validation = load_split(task, "validation", self.tokenizer, spec["max_tokens"])[: self.settings.n_clean]
        self.exposure = Exposure(self.codec, self.settings.exposure, self.seed)
        shape = replace(model_shape(model.config), vocab=self.n_labels)  # its head has an output for every label
        self.counter = FlopCounter(shape, trains_all=True)
        self.engine = self._engine(model, options)
        self.progress = self._begin(facts)

    # --- steps of the schedule --------------------------------------------------------------------------------------

    def _n_steps(self, round_number: int) -> int:
        """Optimizer steps of a round; known beforehand, for the schedule."""
        n_pool = round_number * min(self.settings.n_new_examples, len(self.examples))
        n_set = sum(set_sizes(n_pool, len(self.examples), self.settings))
        return Order(n_set, self.settings.batch_size, 0).n_steps(self.settings.epochs)

    def _steps_before(self, round_number: int) -> int:
        return sum(self._n_steps(earlier) for earlier in range(1, round_number))

    def _engine(self, model: Any, options: RunOptions) -> Engine:
        steps = [self._n_steps(number) for number in range(1, self.settings.rounds + 1)]
        factor = rounds_schedule(self.settings, steps, self._steps_before(self.first))
        return Engine(
            model,
            self.settings.optimizer,
            factor=factor,
            batch_size=self.settings.batch_size,
            group=self.group,
            options=options,
        )

    # --- starting, going on -----------------------------------------------------------------------------------------

    def _begin(self, facts: dict[str, Any]) -> RoundsProgress:
        saved = self.session.restore(self.engine)
        if saved is not None:
            progress = RoundsProgress.load(saved)
            self.shelf.must_hold(range(self.first, progress.round))
            if self.group.leader:
                done = len(progress.history.metrics)
                say(f"resuming in round {progress.round} of {self.settings.rounds} after step {done}")
            return progress
        self.shelf.clear()
        if self.first == 1:
            return RoundsProgress(1)
        if self.settings.carry_optimizer:
            read_optimizer_state(self.engine, self.start / CARRY, self.group)
        rows = read_table(self.start / "pool.parquet", POOL).to_pylist()
        return RoundsProgress(
            self.first,
            pool=[PoolEntry(**row) for row in rows],
            defense_flops=facts["defense_flops"],
            earlier_work=[facts[name] for name in _WORK],
            n_seen_tokens=facts["n_seen_tokens"],
        )

    def run(self) -> None:
        """Go through the rounds."""
        self.shelf.publish_rounds(range(self.first, self.progress.round))
        for number in range(self.progress.round, self.last + 1):
            if not self.progress.trained:
                self._train(number)
            self._publish(number)
            self._advance(number)
        self.session.finish()

    # --- one round --------------------------------------------------------------------------------------------------

    def _train(self, number: int) -> None:
        progress, seed = self.progress, derive_seed(self.seed, "round", number)
        if progress.chosen is None:
            self._attack(number, seed)
        chosen = progress.chosen
        assert chosen is not None
        order = Order(len(chosen), self.settings.batch_size, seed)

        def rows(step: int) -> list[TokenRow]:
            epoch, places = order.at(step)
            return self._rows(chosen, places, number * self.settings.epochs + epoch)

        def remember(batch: Any, losses: list[float]) -> None:
            for row, loss in zip(batch, losses, strict=True):
                if row.pool_index is not None:
                    progress.pool[row.pool_index].last_loss = loss
            done = self.counter.training([Length(len(row.ids), 1) for row in batch])
            progress.work = (PassCounts(*progress.work) + done).values()

        before = self._steps_before(number)
        label = f"round {number}/{self.settings.rounds}"
        phase = TrainPhase(label, number, order.n_steps(self.settings.epochs), rows, seed, before, remember)
        train(self.engine, self.session, phase, progress.history, progress.dump)
        progress.trained = True
        self.session.save(self.engine, before + phase.n_steps, progress.dump())

    def _attack(self, number: int, seed: int) -> None:
        faults.trip(JOB, "attack", number, self.group.rank)
        progress, settings = self.progress, self.settings
        n_iterations = attack_iterations(settings, number)
        new = [self.examples[i] for i in draw_new(len(self.examples), settings.n_new_examples, seed)]
        attack = derive_seed(seed, "attack") if settings.attack.seed is None else settings.attack.seed
        generation = Generation(self.tokenizer, self.codec, new, settings.attack, n_iterations, attack, self.session)
        bar = Bar(len(new), f"round {number}/{settings.rounds} attack", "example") if self.group.leader else None
        if bar and progress.attacked:
            bar.done = len(progress.attacked.outcomes)

        def note(n_examples: int) -> None:
            if bar:
                bar.update(n_examples)
            assert progress.attacked is not None
            n_attacked = len(progress.pool) + len(progress.attacked.outcomes)
            faults.trip(JOB, "examples", n_attacked, self.group.rank)

        while progress.chosen is None:
            with self.engine.frozen_module() as module:
                progress.attacked = progress.attacked or generation.begin(module, self.n_labels)
                stop, save = generation.go_on(module, progress.attacked, note)
            n_done = len(progress.attacked.outcomes)
            if n_done == len(new):
                self._take_up(progress.attacked, new, number, seed)
                if bar:
                    bar.close(iterations=n_iterations, success=progress.attack_asr)
            if stop or save:
                self.session.save(self.engine, self._steps_before(number), progress.dump())
            if stop:
                self.session.leave(f"in round {number} after {n_done} of {len(new)} examples attacked")

    def _take_up(self, attacked: Attacked, new: list[Example], number: int, seed: int) -> None:
        """Put a round's examples into the pool and draw its set."""
        progress = self.progress
        progress.pool.extend(attacked.entries(new, number))
        progress.generation_flops, progress.attack_asr = attacked.flops(self.engine.n_params), attacked.success_share
        progress.work, progress.starts = attacked.work.values(), attacked.starts
        progress.chosen = draw_set(progress.pool, len(self.examples), self.settings, seed)
        progress.attacked = None

    def _rows(self, chosen: RoundSet, places: list[int], epoch: int) -> list[TokenRow]:
        """Rows at some places of the set: first its adversarial part, then its clean part."""
        n = len(chosen.adversarial)
        pool_indices = [chosen.adversarial[i] for i in places if i < n]
        entries = [self.progress.pool[i] for i in pool_indices]
        clean = [self.examples[chosen.clean[i - n]] for i in places if i >= n]
        encoded = self.codec.encode_prompts([*(e.text for e in entries), *self.exposure.texts(clean, epoch)])
        known = [(entry.example_id, entry.label) for entry in entries] + [(e.example_id, e.label) for e in clean]
        places_in_pool = [*pool_indices, *[None] * len(clean)]
        rows = zip(known, encoded, places_in_pool, strict=True)
        return [TokenRow(example_id, ids, label, index) for (example_id, label), ids, index in rows]

    # --- publishing -------------------------------------------------------------------------------------------------

    def _publish(self, number: int) -> None:
        spec = self._round_spec(number)
        if self.shelf.holds(number, spec):
            self.shelf.publish_rounds([number])
            self.group.barrier()
            return
        hands_over = number == self.last < self.settings.rounds and self.settings.carry_optimizer
        if hands_over:
            write_optimizer_state(self.engine, self.state / CARRY, self.group, round=number)
        progress = self.progress
        release = Release(
            self.shelf.folder(number),
            spec,
            {"task": self.inputs["task"], "before": self._before(number)},
            self._facts(number),
            progress.history,
            keep_weights=number in self.spec.get("keep_rounds", range(self.first, self.last + 1)),
            add=functools.partial(self._add_files, hands_over),
        )
        clean = publish_model(self.engine, self.session, self.tokenizer, self.codec, self.validation, release)
        self.shelf.publish_rounds([number])
        if self.group.leader:
            say(f"round {number}/{self.settings.rounds}: clean accuracy {clean:.3f}, published {self.outs[number]}")
        self.group.barrier()

    def _before(self, number: int) -> Path:
        """The model that a round went on from."""
        return self.start if number == self.first else self.shelf.folder(number - 1)

    def _round_spec(self, number: int) -> dict[str, Any]:
        """What makes a round, whatever block it is trained in."""
        of_the_block = ("first_round", "last_round", "keep_rounds")
        return {**{key: value for key, value in self.spec.items() if key not in of_the_block}, "round": number}

    def _facts(self, number: int) -> dict[str, Any]:
        progress = self.progress
        trained = training_flops(self.engine.n_params, progress.history.n_tokens)
        assert progress.chosen is not None
        return {
            "cell": self.spec["cell"],
            "defense": self.spec["defense"],
            "round": number,
            "n_labels": self.n_labels,
            "training_flops": trained,
            "generation_flops": progress.generation_flops,
            "defense_flops": progress.defense_flops + trained + progress.generation_flops,
            "n_seen_tokens": progress.n_seen_tokens + progress.history.n_tokens,
            **dict(zip(_WORK, (PassCounts(*progress.earlier_work) + PassCounts(*progress.work)).values(), strict=True)),
            "attack_asr": progress.attack_asr,
            "attack_starts": progress.starts,
            "n_adversarial": len(progress.chosen.adversarial),
            "n_clean_in_set": len(progress.chosen.clean),
        }

    def _add_files(self, hands_over: bool, draft: Draft) -> None:
        write_table(draft.path / "pool.parquet", pool_rows(self.progress.pool), POOL)
        if hands_over:
            shutil.copytree(self.state / CARRY, draft.path / CARRY)

    def _advance(self, number: int) -> None:
        facts, pool = self._facts(number), self.progress.pool
        self.progress = RoundsProgress(
            number + 1,
            pool=pool,
            defense_flops=facts["defense_flops"],
            earlier_work=[facts[name] for name in _WORK],
            n_seen_tokens=facts["n_seen_tokens"],
        )
        if not self.settings.carry_optimizer:
            self.engine.reset_optimizer()


def _must_follow(start: Path, facts: dict[str, Any], first: int, spec: dict[str, Any]) -> None:
    wanted = {"round": first - 1, "cell": spec["cell"], "defense": "none" if first == 1 else spec["defense"]}
    for key, value in wanted.items():
        if facts.get(key) != value:
            raise TrainingError(
                f"{start}: its {key} is {facts.get(key)!r}; round {first} of {spec['defense']!r} starts from {value!r}"
            )
