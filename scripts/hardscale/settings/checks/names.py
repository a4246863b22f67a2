"""Every name in a study means something there, and one thing only."""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING

from hardscale.models.ladder import BUILTIN_FAMILIES
from hardscale.settings.blocks import Overridable, Settings, Where
from hardscale.settings.chat import ChatTaskSettings, ModelName
from hardscale.settings.headline import parsed
from hardscale.settings.selection import UNDEFENDED
from hardscale.settings.tasks import CONSTRUCTED, PREFERENCE_TASKS, TEXT_TASKS

if TYPE_CHECKING:
    from hardscale.settings.study import Study

#: What the folder of a shard of an attack is called: ``gcg.1of2``.
_SHARD = re.compile(r".*\.\d+of\d+")
_DEFAULT_RANKS = "default"


def check_tasks(study: Study) -> None:
    """Tasks are built in or described, and their lists name each thing once."""
    built_in = (*CONSTRUCTED, *TEXT_TASKS, *PREFERENCE_TASKS)
    for name, task in study.tasks.items():
        if isinstance(task, ChatTaskSettings):
            for part, source in (("train", task.train), ("test", task.test)):
                if source is not None:
                    once(f"tasks.{name}.{part}.ids", source.ids or [])
                    once(f"tasks.{name}.{part}.categories", source.categories or [])
        elif task.kind is None and task.source is None and name not in built_in:
            raise ValueError(
                f"tasks.{name}: not a built-in task ({', '.join(built_in)}); "
                "describe it with source, text, label and labels, or give its kind"
            )
        elif task.kind is None and task.source is not None and task.text is None:
            raise ValueError(
                f"tasks.{name}: found source alone; give text, label and labels as well, or a kind "
                f"({', '.join(built_in)})"
            )
        else:
            once(f"tasks.{name}.labels", [label.strip() for label in task.labels or []])


def check_families(study: Study) -> None:
    """Builtin families and their scales exist; ranks are of scales that exist."""
    for name, family in study.families.items():
        if family.source == "builtin":
            known(f"families.{name}", name, BUILTIN_FAMILIES, "builtin family; describe others with source: models")
            for scale in family.scales or []:
                known(f"families.{name}.scales", scale, BUILTIN_FAMILIES[name])
            once(f"families.{name}.scales", family.scales or [])
    if not isinstance(study.ranks, int):
        # Of a builtin family also those that this study leaves out.
        scales = {scale for family in study.families for scale in (*study.scales(family), *_builtin(study, family))}
        if _DEFAULT_RANKS in scales and _DEFAULT_RANKS in study.ranks:
            raise ValueError(f"ranks.{_DEFAULT_RANKS}: a scale is called so, too; give that scale another name")
        for scale in study.ranks:
            known("ranks", scale, [_DEFAULT_RANKS, *sorted(scales)], "scale, or default")


def _builtin(study: Study, family: str) -> Iterable[str]:
    return BUILTIN_FAMILIES[family] if study.families[family].source == "builtin" else ()


def check_reserved(study: Study) -> None:
    """No attack or defense is called what paths or tables take for something else."""
    for key, names in (("defenses", study.defenses), ("attacks", study.attacks)):
        if UNDEFENDED in names:
            raise ValueError(f"{key}.{UNDEFENDED}: this name is kept for the undefended model; choose another one")
        for name in names:
            if _SHARD.fullmatch(name):
                raise ValueError(f"{key}.{name}: named like a shard of an attack (gcg.1of2); choose another name")


def check_rows(study: Study) -> None:
    """Rows of the grid and of the evaluation name what exists, each once."""
    for i, row in enumerate(study.grid):
        for task in row.tasks:
            known(f"grid.{i}.tasks", task, study.tasks)
        for family in row.families:
            known(f"grid.{i}.families", family, study.families)
            for scale in row.scales or []:
                known(f"grid.{i}.scales", scale, study.scales(family))
        for key in ("tasks", "families", "scales", "seeds"):
            once(f"grid.{i}.{key}", getattr(row, key) or [])
    for i, entry in enumerate(study.evaluate):
        for attack in entry.attacks:
            known(f"evaluate.{i}.attacks", attack, study.attacks)
        for defense in entry.defenses:
            known(f"evaluate.{i}.defenses", defense, [UNDEFENDED, *study.defenses])
        for key in ("attacks", "defenses"):
            once(f"evaluate.{i}.{key}", getattr(entry, key))
        if not isinstance(entry.rounds, str):
            once(f"evaluate.{i}.rounds", entry.rounds)


def check_roles(study: Study) -> None:
    """Models that play a role in an attack or as a judge exist."""
    for key, other in study.roles():
        known(f"{key}.family", other.family, study.families)
        known(f"{key}.scale", other.scale, study.scales(other.family))


def check_wheres(study: Study) -> None:
    """Every ``where`` names what exists, each once: those of blocks inside of blocks, too."""
    scales = sorted({scale for family in study.families for scale in study.scales(family)})
    seeds = sorted({seed for row in study.grid for seed in row.seeds})
    for key, where in wheres(study):
        for name in where.task or []:
            known(f"{key}.task", name, study.tasks)
        for name in where.family or []:
            known(f"{key}.family", name, study.families)
        for name in where.scale or []:
            known(f"{key}.scale", name, scales)
        for seed in where.seed or []:
            known(f"{key}.seed", str(seed), map(str, seeds))
        for part in ("task", "family", "scale", "seed"):
            once(f"{key}.{part}", getattr(where, part) or [])


def check_analysis(study: Study) -> None:
    """What figures look at exists, and each target is there once."""
    for key in study.analysis.headline_iteration:
        entry = parsed(key)
        known("analysis.headline_iteration", entry.attack, study.attacks)
        if entry.task is not None:
            known(f"analysis.headline_iteration.{key}", entry.task, study.tasks, "tasks")
        if entry.defense is not None:
            known(f"analysis.headline_iteration.{key}", entry.defense, [UNDEFENDED, *study.defenses], "defenses")
    once("analysis.target_asr", study.analysis.target_asr)
    if study.judges[0].kind == "copyright":
        raise ValueError("judges.0: found copyright, which judges few behaviors; put another judge first")
    judges = [judge.model_dump_json() for judge in study.judges]
    for i, judge in enumerate(judges):
        if judge in judges[:i]:
            raise ValueError(f"judges.{i}: the same as judges.{judges.index(judge)}; give each judge once")


def wheres(study: Study) -> Iterator[tuple[str, Where]]:
    """Key and selection of every override and every row of the evaluation."""
    for key, block in overridable(study):
        for i, override in enumerate(block.overrides):
            yield f"{key}.overrides.{i}.where", override.where
    for i, row in enumerate(study.evaluate):
        yield f"evaluate.{i}.where", row.where


def overridable(study: Study) -> Iterator[tuple[str, Overridable]]:
    """Key and block of everything in a study that may differ by cell, wherever it stands."""
    pending: deque[tuple[str, object]] = deque([("", study)])
    while pending:
        key, value = pending.popleft()
        if isinstance(value, Overridable):
            yield key, value
        if isinstance(value, Settings) and not isinstance(value, Where | ModelName):
            pending += [(f"{key}.{name}".lstrip("."), getattr(value, name)) for name in type(value).model_fields]
        elif isinstance(value, dict):
            pending += [(f"{key}.{name}", one) for name, one in value.items()]


def known(key: str, name: str, allowed: Iterable[str], what: str = "") -> None:
    """Refuse a name that is not one of ``allowed``.

    Args:
        key: its place in the study.
        name: as the study gives it.
        allowed: the names that exist.
        what: of what kind these are, for the message.

    Raises:
        ValueError: it is another one.
    """
    names = list(allowed)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    raise ValueError(f"{key}: {name!r} is not one of {shown or 'none'}{f' ({what})' if what else ''}{hint}")


def once(key: str, values: Iterable[Hashable]) -> None:
    """Refuse a list that holds a value twice.

    Raises:
        ValueError: it does.
    """
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{key}: {value!r} is there twice; give it once")
        seen.add(value)
