"""Numbers of a study that must fit each other, in every cell as it will be run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hardscale.models.ladder import BUILTIN_FAMILIES
from hardscale.settings.attack_base import PROMPT, VOCABULARY, AttackBase
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.checks.finals import every_final, finals, row_cells
from hardscale.settings.defenses import Defense, training_attack
from hardscale.settings.headline import entry_for
from hardscale.settings.models import PretrainSettings
from hardscale.settings.tasks import CONSTRUCTED, TaskSettings
from hardscale.settings.training import FinetuneSettings

if TYPE_CHECKING:
    from hardscale.settings.study import Cell, Study

#: Key, value, upper bound and what that is.
_Limit = tuple[str, int, int, str]
#: Where nothing but the data or the model tells a bound.
_UNKNOWN = 10**9
_FEWER = "fewer than a prompt may have there"


def check_sizes(study: Study) -> None:
    """No batch above the examples, no warmup beyond the steps, no attack longer than a prompt, and the like."""
    for key, form, cells in every_final(study):
        firsts = {(c.task, c.family, c.scale): c for c in reversed(cells)}  # seeds have no sizes
        for cell in reversed(firsts.values()):
            for name, value, most, what in _limits(study, form, cell):
                if value > most:
                    raise ValueError(
                        f"{key}.{name}: found {value:,} for {cell.key}, allowed are at most {most:,}: {what}"
                    )


def _limits(study: Study, form: Any, cell: Cell) -> Iterator[_Limit]:
    """The bounds of a block as it holds for a cell."""
    if isinstance(form, Defense) and form.victims == "chat":
        yield from _chat_training(study, form, cell)
    elif isinstance(form, FinetuneSettings | Defense):
        yield from _classifier_training(study, form, cell)
    elif isinstance(form, PretrainSettings):
        if "warmup_steps" in form.model_fields_set:
            yield "warmup_steps", form.warmup_steps, form.steps, "its steps"
    elif isinstance(form, AttackBase):
        yield from _attack_text(study, "", form, cell)


def _classifier_training(study: Study, form: FinetuneSettings | Defense, cell: Cell) -> Iterator[_Limit]:
    """By the names of settings, which are the same in every block that has them."""
    has, n_train = vars(form), _n_train(study, cell)
    if "set_size" in has:
        yield "batch_size", has["batch_size"], has["set_size"], "its set_size"
    elif "batch_size" in has:
        yield "batch_size", has["batch_size"], n_train, "the n_train of its task"
    if "n_new_examples" in form.model_fields_set:
        yield "n_new_examples", has["n_new_examples"], n_train, "the n_train of its task"
    if "steps" in has:
        per_epoch = math.ceil(n_train / has.get("batch_size", 1))
        steps = has["steps"] or math.ceil((has.get("epochs") or 1) * per_epoch - 1e-9)
        yield "optimizer.warmup_steps", has["optimizer"].warmup_steps, max(steps, 1), "its steps"
        if "checkpoints" in has:
            yield "checkpoints", has["checkpoints"], max(steps, 1), "its steps"
    if "exposure" in has and has["exposure"].probability:
        yield "exposure.max_tokens", has["exposure"].max_tokens, _longest(study, cell) - 1, _FEWER
    if isinstance(has.get("attack"), AttackBase):
        yield from _attack_text(study, "attack.", has["attack"], cell)


def _chat_training(study: Study, form: Defense, cell: Cell) -> Iterator[_Limit]:
    has = vars(form)
    if "pool_size" in has:
        yield "cases_per_step", has["cases_per_step"], has["pool_size"], "its pool_size"
    if "n_attack_tokens" in has:
        yield "n_attack_tokens", has["n_attack_tokens"], has["max_tokens"] - 1, "fewer than its max_tokens"
    if has.get("micro_batch") is not None:
        yield "micro_batch", has["micro_batch"], has["batch_size"], "its batch_size"
    if has.get("steps") is not None:
        yield "optimizer.warmup_steps", has["optimizer"].warmup_steps, has["steps"], "its steps"
    attack = training_attack(form)
    if attack is not None and attack.positions == "suffix":
        yield "attack.n_suffix_tokens", attack.n_suffix_tokens, has["max_tokens"] - 1, "fewer than its max_tokens"
    if "top_k" in has:
        yield "top_k", has["top_k"], _vocabulary(study, cell), "the model's vocabulary"


def _attack_text(study: Study, key: str, form: AttackBase, cell: Cell) -> Iterator[_Limit]:
    """What an attack writes must be shorter than a prompt may be; it takes no more tokens than there are."""
    for name, value, bound in form.limits():
        if bound == PROMPT:
            yield f"{key}{name}", value, _longest(study, cell) - 1, _FEWER
        elif bound == VOCABULARY:
            yield f"{key}{name}", value, _vocabulary(study, cell), "the model's vocabulary"
        else:
            yield f"{key}{name}", value, form.value(bound), f"its {bound}"


def _n_train(study: Study, cell: Cell) -> int:
    """Training examples of a cell's task at most; those of a chat task are not known here."""
    task = study.tasks[cell.task]
    return task.n_train if isinstance(task, TaskSettings) else _UNKNOWN


def _longest(study: Study, cell: Cell) -> int:
    """Tokens of a prompt at most, where the task bounds them, or a model that is made here."""
    family = study.families[cell.family]
    window = family.max_positions if family.source == "scratch" else _UNKNOWN
    return min(study.tasks[cell.task].max_tokens or _UNKNOWN, window)


def _vocabulary(study: Study, cell: Cell) -> int:
    """Tokens of a cell's vocabulary, where the study alone tells it."""
    family = study.families[cell.family]
    if family.source == "scratch":
        return family.tokenizer.vocab_size
    return BUILTIN_FAMILIES[cell.family][cell.scale].vocab if family.source == "builtin" else _UNKNOWN


def check_examples(study: Study) -> None:
    """Rows of the evaluation look at no more examples than there are, in no more shards than examples."""
    for i, row in enumerate(study.evaluate):
        if row.shards > row.n_examples:
            raise ValueError(
                f"evaluate.{i}.shards: found {row.shards:,} for n_examples: {row.n_examples:,}; give at most one each"
            )
        for name in sorted({cell.task for cell in row_cells(study, row)}):
            most, key = _n_examples(study, name)
            if row.n_examples > most and "n_examples" in row.model_fields_set:
                raise ValueError(
                    f"evaluate.{i}.n_examples: found {row.n_examples:,}, and {key} is {most:,}; give at most so many"
                )


def _n_examples(study: Study, name: str) -> tuple[int, str]:
    task = study.tasks[name]
    if isinstance(task, TaskSettings):
        return task.n_validation, f"tasks.{name}.n_validation"
    assert isinstance(task, ChatTaskSettings)
    bounds = [n for n in (task.test.n, len(task.test.ids) if task.test.ids else None) if n is not None]
    return min(bounds, default=_UNKNOWN), f"tasks.{name}.test.{'n' if task.test.n in bounds else 'ids'}"


def check_headlines(study: Study) -> None:
    """Every entry of the headline counts for some cells, and the attack has that iteration in all of them."""
    headline = study.analysis.headline_iteration
    unused = dict.fromkeys(headline)
    for row in study.evaluate if headline else ():
        for attack in row.attacks:
            for form, cells in finals(study, f"attacks.{attack}", row_cells(study, row)):
                firsts = {cell.task: cell for cell in reversed(cells)}
                for defense in row.defenses:
                    for task, cell in reversed(firsts.items()):
                        key = entry_for(headline, task, attack, defense)
                        if key is None:
                            continue
                        unused.pop(key, None)
                        if headline[key] > form.n_iterations:
                            raise ValueError(
                                f"analysis.headline_iteration.{key}: found {headline[key]:,}, and the attack has "
                                f"n_iterations: {form.n_iterations:,} for {cell.key}; give at most so many"
                            )
    for key in unused:
        raise ValueError(
            f"analysis.headline_iteration.{key}: no row of `evaluate` runs this attack where this entry counts; "
            "leave it out"
        )


def constructed(name: str, task: TaskSettings) -> bool:
    """Whether a task is made here, without any file."""
    return (task.kind or ("described" if task.text else name)) in CONSTRUCTED
