"""One attack on one model: which examples are attacked, the attack, and the artifact that holds every row."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, TIMING
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import write_table
from hardscale.attacks.base import run_attack
from hardscale.attacks.classifier_victim import classify
from hardscale.attacks.results import AttackResult, Helper
from hardscale.evaluation.attack_rows import Clock, attack_row, summed_notes, timing_rows
from hardscale.evaluation.attack_spec import check_spec, eps_facts, load_helpers, search_facts
from hardscale.models.load import load_classifier
from hardscale.models.outputs import embeddings_as
from hardscale.runtime.console import say
from hardscale.runtime.memory import Budget
from hardscale.settings.attack_base import AttackBase
from hardscale.tasks.data import load_split, load_task
from hardscale.tasks.example import Example

SUCCESS_RULE = "argmax != label"


@dataclass(frozen=True)
class Target:
    """A correctly classified example: its class and the class that the attack drives it to."""

    example: Example
    prediction: int
    target: int


def run_attack_job(
    victim: Path,
    task: Path,
    spec: dict[str, Any],
    out: Path,
    helpers: Mapping[str, Path] | None = None,
    root: Path | None = None,  # noqa: ARG001 - the same call as for a chat model; no attack here reads files
) -> None:
    """Attack the validation examples that a model classifies correctly and publish an ``attack`` artifact.

    The first ``n_examples`` validation rows are looked at; of those classified correctly, shard ``i`` of ``n`` attacks
    rows ``i::n``. With nothing to attack the table is empty.

    Args:
        victim: ``model`` artifact.
        task: ``task`` artifact.
        spec: ``cell defense round attack settings n_examples max_tokens seed shard shards``; ``shard`` counts from 1.
        out: folder to publish.
        helpers: role -> folder of a language model that the attack uses (``sampler`` of BEAST).
        root: data root; unused.

    Raises:
        AttackError: the spec is malformed, or the attack cannot run on an example.
    """
    settings, helpers = check_spec(spec).for_victim(chat=False), helpers or {}
    model: Any
    model, tokenizer = load_classifier(victim)
    if torch.cuda.is_available():
        model.cuda()
    examples = load_split(task, "validation", tokenizer, spec["max_tokens"])[: spec["n_examples"]]
    budget = Budget()
    correct = correct_ones(model, tokenizer, examples, budget)
    mine = correct[spec["shard"] - 1 :: spec["shards"]]
    say(f"{spec['attack']}: {len(correct)} of {len(examples)} examples classified correctly, {len(mine)} attacked here")
    others = load_helpers(helpers)
    results, seconds = _attack(model, tokenizer, mine, settings, others, spec, budget)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    texts = [result.prompt_text for result in results]
    predictions = rescore(model, tokenizer, texts, [result.perturbation for result in results])
    rows = [
        attack_row(
            one.example.example_id,
            one.example.label,
            one.prediction,
            result,
            prediction != one.example.label,
            n_iterations=settings.n_iterations,
            n_params=n_params,
            seed=spec["seed"],
        )
        for one, result, prediction in zip(mine, results, predictions, strict=True)
    ]
    with publishing(out, "attack", spec, {"victim": victim, "task": task, **helpers}) as draft:
        write_table(draft.path / "attack.parquet", rows, ATTACK)
        write_table(draft.path / "timing.parquet", timing_rows(results, seconds, budget), TIMING)
        draft.note(
            n_examples=len(examples),
            n_attacked=len(correct),
            n_rows=len(rows),
            n_params=n_params,
            labels=list(load_task(task).labels),
            position=settings.position,
            attack=spec["attack"],
            attack_kind=settings.kind,
            seed=spec["seed"],
            success_rule=SUCCESS_RULE,
            candidates_filtered_share=_filtered_share(settings, results),
            n_rescored_otherwise=sum(
                known["success"] != result.successes[-1] for known, result in zip(rows, results, strict=True)
            ),
            **eps_facts(settings, summed_notes(results)),
            **search_facts(settings),
            **({"notes": notes} if (notes := summed_notes(results)) else {}),
        )


def _filtered_share(settings: AttackBase, results: Sequence[AttackResult]) -> float | None:
    """Share of the replacements drawn that were other tokens when read from text; None where none are drawn."""
    if not settings.facts.replaces:
        return None
    n_drawn = sum(len(result.n_evaluated) for result in results) * settings.value(settings.facts.replaces)
    return 1 - sum(sum(result.n_evaluated) for result in results) / n_drawn if n_drawn else None


def correct_ones(model: Any, tokenizer: Any, examples: Sequence[Example], budget: Budget | None = None) -> list[Target]:
    """The examples that are classified correctly without an attack, each with its most likely wrong class."""
    names = [str(example.example_id) for example in examples]
    logits = classify(model, tokenizer, [example.text for example in examples], names, budget)
    found = []
    for example, scores in zip(examples, logits, strict=True):
        prediction = int(scores.argmax())
        if prediction == example.label:
            others = scores.clone()
            others[prediction] = -torch.inf
            found.append(Target(example, prediction, int(others.argmax())))
    return found


def _attack(
    model: Any,
    tokenizer: Any,
    mine: Sequence[Target],
    settings: AttackBase,
    helpers: Mapping[str, Helper],
    spec: dict[str, Any],
    budget: Budget,
) -> tuple[list[AttackResult], dict[int, float]]:
    """Results, and the wall seconds of each iteration."""
    name, seed = spec["attack"], spec["seed"]
    position = settings.position or "suffix"
    prompts = [
        one.example.around(position, random.Random(derive_seed(seed, "position", one.example.example_id)))
        for one in mine
    ]
    clock = Clock(settings.n_iterations, len(mine), name)
    results = run_attack(
        settings,
        model,
        tokenizer,
        prompts,
        [one.target for one in mine],
        labels=[one.example.label for one in mine],
        keys=[one.example.example_id for one in mine],
        seed=seed,
        helpers=helpers,
        tokens_per_batch=budget,
        callback=clock.note,
    )
    clock.close(results)
    return results, clock.seconds


@torch.no_grad()
def rescore(
    model: Any, tokenizer: Any, texts: Sequence[str], perturbations: Sequence[torch.Tensor | None] | None = None
) -> list[int]:
    """The predicted class of each text: tokenized alone, forwarded alone, no packing, no stored prefix.

    Slow on purpose: it shares nothing with the attacks but the model and the tokenizer, so it can hold them to account.
    A tie goes to the lower class.

    Args:
        model: a classifier.
        tokenizer: its tokenizer.
        texts: whole prompts.
        perturbations: what is added to the embeddings of each, shape ``(tokens, hidden)``, None for nothing.
    """
    predictions = []
    for text, delta in zip(texts, perturbations or [None] * len(texts), strict=True):
        inputs = dict(tokenizer(text, return_tensors="pt").to(model.device))
        with _shifted(model, delta):
            predictions.append(int(model(**inputs).logits[0].argmax()))
    return predictions


def _shifted(model: Any, delta: torch.Tensor | None) -> contextlib.AbstractContextManager[None]:
    """Within this context, ``delta`` is added to the embeddings of the one forward pass."""
    if delta is None:
        return contextlib.nullcontext()
    return embeddings_as(model.get_input_embeddings(), lambda embeds: embeds + delta.to(embeds))
