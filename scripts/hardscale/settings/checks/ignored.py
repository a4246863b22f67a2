"""Settings that a study gives and nothing would look at: refused, so that no one believes that they did something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hardscale.settings.attack_base import AttackBase
from hardscale.settings.blocks import Override, Settings
from hardscale.settings.chat import JudgeSettings
from hardscale.settings.checks.finals import every_final
from hardscale.settings.checks.names import overridable
from hardscale.settings.checks.sizes import constructed
from hardscale.settings.defenses import CAdvIPO, CAdvUL, CAt, Continuous
from hardscale.settings.perturbation import Perturbation
from hardscale.settings.tasks import TaskSettings
from hardscale.settings.training import FinetuneSettings, OptimizerSettings

if TYPE_CHECKING:
    from hardscale.settings.study import Study

#: Block, when, its keys that then nothing looks at, and why; attacks say it of themselves.
_RULES: tuple[tuple[type[Settings] | tuple[type[Settings], ...], Callable[[Any], bool], tuple[str, ...], str], ...] = (
    ((FinetuneSettings, Continuous, CAt), lambda b: b.steps is not None, ("epochs",), "steps is given"),
    (OptimizerSettings, lambda b: b.kind != "adamw", ("betas",), "kind: adafactor has none"),
    (OptimizerSettings, lambda b: b.kind == "adamw", ("factored",), "kind: adamw has nothing to factor"),
    (Perturbation, lambda b: b.positions != "suffix", ("n_suffix_tokens",), "positions is no suffix"),
    (Perturbation, lambda b: b.eps is None, ("eps_mode", "norm"), "eps: null is no ball"),
    ((CAdvUL, CAdvIPO), lambda b: b.attack is None, ("dropout_in_attack",), "attack: null is no attack"),
    (CAdvUL, lambda b: b.away_weight == 0, ("away_loss", "away_cutoff"), "away_weight is 0"),
    (CAdvUL, lambda b: b.toward_weight == 0, ("toward_cutoff",), "toward_weight is 0"),
    (JudgeSettings, lambda b: not b.asks, ("max_completion_tokens",), "this judge is no model"),
)
_OF_SCRATCH = ("tokenizer", "init_std", "embedding_std", "max_positions", "pretrain")


def check_ignored(study: Study) -> None:
    """Nothing that the study gives is without a reader: in a block as it stands, in what an override sets."""
    blocks = [*overridable(study), *((f"judges.{i}", judge) for i, judge in enumerate(study.judges))]
    for key, block in blocks:
        for path, why in _without_reader(block):
            raise ValueError(f"{key}.{'.'.join(path)}: nothing looks at it where {why}; leave out one of both")
    overrides = {key: block.overrides for key, block in overridable(study)}
    for key, form, cells in every_final(study):
        for i, override in enumerate(overrides[key]):
            cell = cells[0]
            if not override.where.matches(cell.task, cell.family, cell.scale, cell.seed):
                continue
            for path, why in _without_reader(form):
                if _sets(override.set, path):
                    raise ValueError(
                        f"{key}.overrides.{i}.set.{'.'.join(path)}: nothing looks at it where {why}, as for "
                        f"{cell.key}; leave out one of both"
                    )


def check_unread_parts(study: Study) -> None:
    """Tasks and families hold nothing that those of their kind do not look at."""
    for name, task in study.tasks.items():
        if isinstance(task, TaskSettings):
            _check_task(name, task)
    for name, family in study.families.items():
        given = [key for key in _OF_SCRATCH if key in family.model_fields_set and getattr(family, key) is not None]
        if family.source != "scratch" and given:
            raise ValueError(f"families.{name}.{given[0]}: source: {family.source} does not look at it; leave it out")
        _check_described(name, family.scales)


def _without_reader(block: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that a block gives and nothing looks at, and why."""
    for place, one in _blocks((), block):
        for kind, applies, names, why in _RULES:
            if isinstance(one, kind) and applies(one):
                yield from (((*place, name), why) for name in names if _asks(one, name))
        for names, why in one.unread() if isinstance(one, AttackBase) else ():
            yield from (((*place, name), why) for name in names if _asks(one, name))


def _asks(block: Settings, name: str) -> bool:
    """Whether a block is given a key that asks for something: null does not, nor does false where it is the default."""
    value = getattr(block, name)
    off = value is None or (value is False and type(block).model_fields[name].default is False)
    return name in block.model_fields_set and not off


def _sets(values: Any, path: tuple[str, ...]) -> bool:
    for step in path:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True


def _blocks(place: tuple[str, ...], block: Settings) -> Iterator[tuple[tuple[str, ...], Settings]]:
    """A block and the blocks in it, as far as the study gives them."""
    yield place, block
    for name in type(block).model_fields:
        inner = getattr(block, name)
        if isinstance(inner, Settings) and name in block.model_fields_set:
            yield from _blocks((*place, name), inner)


def _check_task(name: str, task: TaskSettings) -> None:
    made = constructed(name, task)
    keys = ("source", "max_words", "validation_fraction", "text", "label", "labels") if made else ("words",)
    given = [key for key in keys if key in task.model_fields_set and getattr(task, key) is not None]
    if given:
        raise ValueError(f"tasks.{name}.{given[0]}: a task of this kind does not look at it; leave it out")


def _check_described(name: str, scales: Any) -> None:
    for scale, described in scales.items() if isinstance(scales, dict) else ():
        if getattr(described, "revision", None) and not described.hub:
            raise ValueError(f"families.{name}.scales.{scale}.revision: found without hub; leave it out")


def check_overrides(study: Study) -> None:
    """Overrides set what differs by cell: no kind, no overrides; those of pretraining differ by scale alone."""
    for key, block in overridable(study):
        for i, override in enumerate(block.overrides):
            _check_override(f"{key}.overrides.{i}", override, of_scale=key.endswith(".pretrain"))


def _check_override(key: str, override: Override, of_scale: bool) -> None:
    if not override.set:
        raise ValueError(f"{key}.set: found an empty mapping; give what differs there, or leave the override out")
    for name in ("kind", "overrides"):
        if name in override.set:
            raise ValueError(f"{key}.set.{name}: this cannot differ by cell; give a block of its own another name")
    if of_scale:
        given = [name for name in ("task", "seed") if getattr(override.where, name) is not None]
        if given:
            raise ValueError(f"{key}.where.{given[0]}: pretraining differs by family and scale alone; leave it out")


def check_parts(study: Study) -> None:
    """Parts of the study for one kind of task are given only where there is such a task."""
    chat = {study.is_chat(cell.task) for cell in study.cells()}
    given = study.model_fields_set
    if True not in chat:
        for key in ("utility", "judges"):
            if key in given and getattr(study, key):
                raise ValueError(f"{key}: found in a study without a chat task in its grid; leave it out")
    if False not in chat and "finetune" in given:
        raise ValueError("finetune: found in a study without a classification task in its grid; leave it out")
