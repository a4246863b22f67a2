"""The judges of a job: those that its settings name, and the free ones, which always say their part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hardscale.errors import AttackError
from hardscale.evaluation.judges import harmbench, rubric
from hardscale.evaluation.judges.ask import Asker
from hardscale.evaluation.judges.base import Item, Judge, Judgement
from hardscale.evaluation.judges.copyright import Copyright, read_references
from hardscale.evaluation.judges.rules import Rules
from hardscale.evaluation.judges.target_likelihood import TargetLikelihood
from hardscale.settings.chat import JudgeSettings


@dataclass(frozen=True)
class Seat:
    """A judge that is loaded when its turn comes and dropped after it: models need not fit together."""

    name: str
    load: Callable[[], Judge]


def seated(judge: Judge) -> Seat:
    """The seat of a judge that needs no loading."""
    return Seat(judge.name, lambda: judge)


def parse_judges(found: Any) -> list[JudgeSettings]:
    """The judges of a spec; the rule judge alone where it names none.

    Raises:
        AttackError: they are malformed, or the first one judges copyright only.
    """
    try:
        judges = [JudgeSettings.model_validate(one) for one in found]
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "must be a list"}
        key = ".".join(["judges", *(str(part) for part in first["loc"])])
        raise AttackError(f"--spec: {key}: {first['msg']}; see docs/study.md") from error
    if judges and judges[0].kind == "copyright":
        raise AttackError("--spec: judges.0: found copyright, which judges few behaviours; put another judge first")
    return judges or [JudgeSettings()]


def panel(judges: Sequence[JudgeSettings], helpers: Mapping[str, Path]) -> list[Seat]:
    """The judges in order, the primary one first; both modes of the rules and the target's likelihood always sit.

    Args:
        judges: as parsed.
        helpers: role -> model artefact; ``judge0`` is the model of the first judge, and so on.

    Raises:
        AttackError: a judge's model is not among the helpers.
    """
    seats: dict[str, Seat] = {}
    for i, settings in enumerate(judges):
        seat = _seat(i, settings, helpers)
        name, more = seat.name, 2
        while name in seats:
            name, more = f"{seat.name}-{more}", more + 1
        seats[name] = Seat(name, seat.load)
    free: list[Judge] = [Rules("prefix"), Rules("anywhere"), TargetLikelihood()]
    for judge in free:
        seats.setdefault(judge.name, seated(judge))
    return list(seats.values())


def _seat(index: int, settings: JudgeSettings, helpers: Mapping[str, Path]) -> Seat:
    if settings.kind == "rules":
        return seated(Rules(settings.mode))
    if settings.kind == "copyright":
        path = settings.references
        return Seat(Copyright.name, lambda: Copyright(read_references(Path(path)) if path else {}))
    assert settings.model is not None
    name, role = f"{settings.kind}-{settings.model.family}-{settings.model.scale}", f"judge{index}"
    if role not in helpers:
        raise AttackError(f"judges.{index}: no model for it; give --helper {role}=FOLDER")
    module, kind = (
        (harmbench, harmbench.HarmBenchClassifier) if settings.kind == "harmbench" else (rubric, rubric.Rubric)
    )

    def load() -> Judge:
        asker = Asker(helpers[role], settings.max_completion_tokens, module.MAX_NEW_TOKENS)
        return kind(name, asker, settings.prompt)

    return Seat(name, load)


def judge_all(seats: Sequence[Seat], items: Sequence[Item]) -> dict[str, list[Judgement]]:
    """Every judge's judgements by its name, one judge at a time."""
    return {seat.name: seat.load().judge(items) for seat in seats}
