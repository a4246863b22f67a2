"""One attack on one model: which examples are attacked, the attack, and the artefact that holds every row."""

from __future__ import annotations

import json
import random
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, TIMING
from hardscale.artifacts.tables import write_table
from hardscale.attacks.base import attack
from hardscale.attacks.classifier_victim import classify
from hardscale.attacks.options import attack_options
from hardscale.attacks.results import AttackResult
from hardscale.console import Progress, say
from hardscale.errors import AttackError
from hardscale.evaluation.success import rescore
from hardscale.models.flops import backward_flops, forward_flops
from hardscale.models.load import load_classifier
from hardscale.seeds import derive_seed
from hardscale.settings import AttackSettings
from hardscale.tasks.data import load_split, load_task
from hardscale.tasks.example import Example

SUCCESS_RULE = "argmax != label"
_KEYS = {"cell", "defense", "round", "attack", "settings", "n_examples", "max_tokens", "seed", "shard", "shards"}


@dataclass(frozen=True)
class Target:
    """A correctly classified example: its class and the class that the attack drives it to."""

    example: Example
    prediction: int
    target: int


def run_attack_job(victim: Path, task: Path, spec: dict[str, Any], out: Path) -> None:
    """Attack the validation examples that a model classifies correctly and publish an ``attack`` artefact.

    The first ``n_examples`` validation rows are looked at; of those classified correctly, shard ``i`` of ``n`` attacks
    rows ``i::n``. With nothing to attack the table is empty.

    Args:
        victim: ``model`` artefact.
        task: ``task`` artefact.
        spec: ``cell defense round attack settings n_examples max_tokens seed shard shards``; ``shard`` counts from 1.
        out: folder to publish.

    Raises:
        AttackError: the spec is malformed, or the attack can not run on an example.
    """
    settings = check_spec(spec)
    model: Any
    model, tokenizer = load_classifier(victim)
    if torch.cuda.is_available():
        model.cuda()
    examples = load_split(task, "validation", tokenizer, spec["max_tokens"])[: spec["n_examples"]]
    correct = correct_ones(model, tokenizer, examples)
    mine = correct[spec["shard"] - 1 :: spec["shards"]]
    say(f"{spec['attack']}: {len(correct)} of {len(examples)} examples classified correctly, {len(mine)} attacked here")
    results, seconds = _attack(model, tokenizer, mine, settings, spec["attack"], spec["seed"])
    n_params = sum(parameter.numel() for parameter in model.parameters())
    predictions = rescore(model, tokenizer, [result.prompt_text for result in results])
    n_drawn = sum(len(result.n_evaluated) for result in results) * settings.n_candidates
    n_evaluated = sum(sum(result.n_evaluated) for result in results)
    rows = [
        row(one, result, prediction != one.example.label, settings.n_iterations, n_params, spec["seed"])
        for one, result, prediction in zip(mine, results, predictions, strict=True)
    ]
    with publishing(out, "attack", spec, {"victim": victim, "task": task}) as draft:
        write_table(draft.path / "attack.parquet", rows, ATTACK)
        write_table(draft.path / "timing.parquet", _timing(results, seconds), TIMING)
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
            candidates_filtered_share=1 - n_evaluated / n_drawn if settings.kind == "gcg" and n_drawn else None,
            n_rescored_otherwise=sum(
                known["success"] != result.successes[-1] for known, result in zip(rows, results, strict=True)
            ),
        )


def read_spec(text: str) -> dict[str, Any]:
    """The spec of a command line: one JSON object.

    Raises:
        AttackError: it is something else.
    """
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise AttackError(f"--spec: not JSON ({error})") from error
    if not isinstance(spec, dict):
        raise AttackError(f"--spec: found {type(spec).__name__}, must be an object")
    return spec


def check_spec(spec: dict[str, Any]) -> AttackSettings:
    """The attack's settings in a spec.

    Raises:
        AttackError: a key is missing or unknown, or a value is not allowed.
    """
    for what, keys in (("missing", _KEYS - set(spec)), ("unknown", set(spec) - _KEYS)):
        if keys:
            raise AttackError(f"--spec: {what} key(s) {', '.join(sorted(keys))}; allowed: {', '.join(sorted(_KEYS))}")
    if not 1 <= spec["shard"] <= spec["shards"]:
        raise AttackError(f"--spec: shard {spec['shard']} of {spec['shards']}; give 1 <= shard <= shards")
    try:
        return AttackSettings.model_validate(spec["settings"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise AttackError(f"--spec: settings.{key}: {first['msg']}; see docs/study.md") from error


def correct_ones(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[Target]:
    """The examples that are classified correctly without an attack, each with its most likely wrong class."""
    names = [str(example.example_id) for example in examples]
    logits = classify(model, tokenizer, [example.text for example in examples], names)
    found = []
    for example, scores in zip(examples, logits, strict=True):
        prediction = int(scores.argmax())
        if prediction == example.label:
            others = scores.clone()
            others[prediction] = -torch.inf
            found.append(Target(example, prediction, int(others.argmax())))
    return found


def _attack(
    model: Any, tokenizer: Any, mine: Sequence[Target], settings: AttackSettings, name: str, seed: int
) -> tuple[list[AttackResult], dict[int, float]]:
    """Results, and the wall seconds of each iteration."""
    prompts = [
        one.example.around(settings.position, random.Random(derive_seed(seed, "position", one.example.example_id)))
        for one in mine
    ]
    progress = Progress(settings.n_iterations * len(mine), name, "example-iteration")
    seconds: dict[int, float] = {}

    def note(iteration: int, alive: int, spent: float) -> None:
        seconds[iteration] = seconds.get(iteration, 0.0) + spent
        progress.update(alive, iteration=iteration)

    results = attack(
        model,
        tokenizer,
        prompts,
        [one.target for one in mine],
        labels=[one.example.label for one in mine],
        keys=[one.example.example_id for one in mine],
        n_iterations=settings.n_iterations,
        seed=seed,
        **attack_options(settings),
        callback=note,
    )
    progress.update(progress.total - progress.done)  # what examples that fell early did not need
    held = sum(result.successes[-1] for result in results)
    progress.close(**({"asr": held / len(results)} if results else {}))
    return results, seconds


def row(
    one: Target, result: AttackResult, success: bool, n_iterations: int, n_params: int, seed: int
) -> dict[str, Any]:
    """One row of ATTACK. After an early stop the last entry of every list is repeated, and nothing is evaluated."""
    missing = n_iterations - len(result.losses)

    def full(values: list[Any]) -> list[Any]:
        return values + values[-1:] * missing

    n_forward, n_backward = result.forward_tokens[-1], result.backward_tokens[-1]
    return {
        "example_id": one.example.example_id,
        "label": one.example.label,
        "clean_prediction": one.prediction,
        "adversarial_text": result.prompt_text,
        "adversarial_tokens": list(result.tokens),
        "success": success,
        "first_success": result.first_success,
        "losses": full(result.losses),
        "successes": full(result.successes),
        "n_evaluated": result.n_evaluated + [0] * missing,
        "forward_tokens": full(result.forward_tokens),
        "backward_tokens": full(result.backward_tokens),
        "flops_exact_by_iteration": full(result.flops_exact),
        "forward_passes": full(result.forward_passes),
        "backward_passes": full(result.backward_passes),
        "n_forward_tokens": n_forward,
        "n_backward_tokens": n_backward,
        "flops": forward_flops(n_params, n_forward) + backward_flops(n_params, n_backward),
        "seed": seed,
    }


def _timing(results: Sequence[AttackResult], seconds: dict[int, float]) -> list[dict[str, Any]]:
    """Rows of TIMING, one an iteration; tokens by the convention, so that they compare with the FLOPs."""
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    rows, before = [], 0
    for iteration, spent in sorted(seconds.items()):
        total = sum(result.forward_tokens[min(iteration, len(result.forward_tokens)) - 1] for result in results)
        rate = (total - before) / spent if spent > 0 else 0.0
        rows.append({"step": iteration, "seconds": spent, "tokens_per_second": rate, "memory_mb": memory})
        before = total
    return rows
