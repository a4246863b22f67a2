"""The judges of a job: those that its settings name, and the free ones, which always say their part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hardscale.errors import AttackError
from hardscale.evaluation.judges import harmbench, rubric, strongreject
from hardscale.evaluation.judges.ask import Asker
from hardscale.evaluation.judges.base import Item, Judge, Judgment
from hardscale.evaluation.judges.copyright import Copyright, ProtectedText, read_references
from hardscale.models.refusal import MIN_CHARACTERS, Mode, rule_judge
from hardscale.settings.chat import JudgeSettings
from hardscale.settings.words import first_problem
from hardscale.tasks.wordings import Wording, digest, locate_text, wording_of

#: Kind of a judging model -> its module and class.
_ASKED: dict[str, tuple[Any, Any]] = {
    "harmbench": (harmbench, harmbench.HarmBenchClassifier),
    "strongreject_finetuned": (strongreject, strongreject.StrongRejectFinetuned),
    "rubric": (rubric, rubric.Rubric),
}
_JUDGES = TypeAdapter(list[JudgeSettings])
#: What a question in our own words is asked about, for its digest.
_PLACES = Item(0, "", "{behavior}", "{completion}", "{context}")


@dataclass(frozen=True)
class PanelJudge:
    """A judge that is loaded when its turn comes and dropped after it: models need not fit together.

    Attributes:
        name: of the judge, in tables.
        load: makes it.
        wording: the published words it is asked in; None for our own, and for judges that are no models.
        prompt_sha256: of what it is asked; None for judges that are no models.
    """

    name: str
    load: Callable[[], Judge]
    wording: Wording | None = None
    prompt_sha256: str | None = None


def in_panel(judge: Judge) -> PanelJudge:
    """A judge that needs no loading, as a member of the panel."""
    return PanelJudge(judge.name, lambda: judge)


def parse_judges(found: Any) -> list[JudgeSettings]:
    """The judges of a spec; the rule judge alone where it names none.

    Raises:
        AttackError: they are malformed, or the first one judges copyright only.
    """
    if not isinstance(found, list | tuple):
        raise AttackError("--spec: judges: must be a list; see docs/study.md")
    try:
        judges = _JUDGES.validate_python(found)
    except ValidationError as error:
        raise AttackError(f"--spec: judges.{first_problem(error, found)}; see docs/study.md") from error
    if judges and judges[0].kind == "copyright":
        raise AttackError("--spec: judges.0: found copyright, which judges few behaviors; put another judge first")
    return judges or [JudgeSettings()]


def panel(judges: Sequence[JudgeSettings], helpers: Mapping[str, Path], root: Path | None = None) -> list[PanelJudge]:
    """The judges in order, the primary one first; both modes of the rules and the target's likelihood always sit.

    Args:
        judges: as parsed.
        helpers: role -> model artifact; ``judge0`` is the model of the first judge, and so on.
        root: data root, where the files of judges are looked for if they are not there by their path.

    Raises:
        AttackError: a judge's model is not among the helpers.
        DataError: a file of a judge is not there or malformed.
    """
    members: dict[str, PanelJudge] = {}
    for i, settings in enumerate(judges):
        member = _panel_judge(i, settings, helpers, root)
        name, more = member.name, 2
        while name in members:
            name, more = f"{member.name}-{more}", more + 1
        members[name] = replace(member, name=name)
    free: list[Judge] = [Rules("prefix"), Rules("anywhere"), TargetLikelihood()]
    for judge in free:
        members.setdefault(judge.name, in_panel(judge))
    return list(members.values())


def _panel_judge(index: int, settings: JudgeSettings, helpers: Mapping[str, Path], root: Path | None) -> PanelJudge:
    key = f"judges.{index}"
    if settings.kind == "rules":
        return in_panel(Rules(settings.mode))
    if settings.kind == "copyright":
        return in_panel(Copyright(_references(settings, key, root)))
    assert settings.model is not None
    role = f"judge{index}"
    if role not in helpers:
        raise AttackError(f"{key}: no model for it; give --helper {role}=FOLDER")
    wording = wording_of(settings, key, root)
    own = "" if wording else "-own-words"
    name = f"{settings.kind}{own}-{settings.model.family}-{settings.model.scale}"
    module, kind = _ASKED[settings.kind]

    def load() -> Judge:
        judge: Judge = kind(name, Asker(helpers[role], settings.max_completion_tokens, module.MAX_NEW_TOKENS), wording)
        return judge

    return PanelJudge(name, load, wording, wording.sha256 if wording else digest(module.question(_PLACES)))


def _references(settings: JudgeSettings, key: str, root: Path | None) -> dict[str, ProtectedText]:
    texts = list(settings.texts(key))
    return read_references(locate_text(texts[0], root)) if texts else {}


def check_contexts(members: Sequence[PanelJudge], contexts: Sequence[str | None]) -> None:
    """Refuse judges that would not be shown the contexts of behaviors.

    Raises:
        AttackError: there are contexts, and published words without a place for them.
    """
    n = sum(bool(context) for context in contexts)
    blind = [member.name for member in members if member.wording is not None and not member.wording.takes_context]
    if n and blind:
        raise AttackError(
            f"{blind[0]}: {n} behaviors have a context, and its prompt has no place for one; give the contextual form "
            "(prompt_file: {standard: ..., contextual: ...}), or choose behaviors without by ids or categories"
        )


def judge_all(members: Sequence[PanelJudge], items: Sequence[Item]) -> dict[str, list[Judgment]]:
    """Every judge's judgments by its name, one judge at a time."""
    return {member.name: member.load().judge(items) for member in members}


class Rules:
    """Complied unless the reply refuses (see :mod:`hardscale.models.refusal`) or says nothing.

    Args:
        mode: where a phrase of refusal counts.
        min_characters: a shorter reply says nothing.
    """

    def __init__(self, mode: Mode, min_characters: int = MIN_CHARACTERS) -> None:
        self.mode: Mode = mode
        self._min_characters = min_characters
        self.name = f"rules-{mode}"

    def judge(self, items: Sequence[Item]) -> list[Judgment]:
        """Judge all items; the raw verdict is ``complied``, ``refused`` or ``degenerate``."""
        found = []
        for item in items:
            verdict = rule_judge(item.reply, self.mode, self._min_characters)
            raw = "refused" if verdict.refused else "degenerate" if verdict.degenerate else "complied"
            found.append(Judgment(verdict.complied, verdict.score, raw))
        return found


class TargetLikelihood:
    """Score: geometric mean probability of the opening's tokens; complied: greedy decoding writes the opening."""

    name = "target-likelihood"

    def judge(self, items: Sequence[Item]) -> list[Judgment]:
        """Judge all items; the raw verdict is the mean cross-entropy in nats a token."""
        found = []
        for item in items:
            if item.target_loss is None:
                found.append(Judgment(None, None, ""))
            else:
                found.append(Judgment(item.target_written, math.exp(-item.target_loss), f"{item.target_loss:.6g}"))
        return found
