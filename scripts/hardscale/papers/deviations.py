"""Where a study differs from the published runs that it follows: setting by setting, and in what no setting changes.

A value is looked at as the jobs will have it, overrides applied, in the cells that some evaluation asks for. No torch
and no transformers here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hardscale.papers import unsettled, values
from hardscale.papers.values import Between, Model, Published, PublishedBlock, Run, StudyFile
from hardscale.settings.attack_base import AttackBase
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.blocks import Settings, forms
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.defenses import AdversarialRounds, CAdvIPO, CAdvUL
from hardscale.settings.study import UNDEFENDED, Cell, Study
from hardscale.settings.study_attacks import AnyTask
from hardscale.settings.tasks import PREFERENCE_TASKS, TEXT_TASKS

_PAPERS_TASKS = (*values.WORD_TASKS, *TEXT_TASKS, *PREFERENCE_TASKS)


class Deviation(NamedTuple):
    """A setting whose value is not the published one.

    Attributes:
        place: block of the study that holds it.
        key: within the block.
        found: as the study has it.
        published: what was published.
        source: where.
        chat: whether it is about chat models.
    """

    place: str
    key: str
    found: str
    published: str
    source: str
    chat: bool


def run_of(task: AnyTask) -> Run:
    """The published run that a task follows: chat models are asked by size where nothing is trained against."""
    if not isinstance(task, ChatTaskSettings):
        return "classifiers"
    return "chat" if task.train else "strongreject"


def deviations(study: Study) -> list[Deviation]:
    """Every setting of a study that differs from the published run, each once."""
    found = [*_tasks(study), *_finetune(study), *_defenses(study), *_attacks(study), *_measures(study)]
    return list(dict.fromkeys(found))


def lines(study: Study, chat: bool | None = None) -> list[str]:
    """The same in words, settings of equal blocks together, and then what no setting changes.

    Args:
        study: the study.
        chat: only what is about chat models, or only what is not; all when absent.
    """
    values: dict[tuple[str, str, str], list[str]] = {}
    for one in deviations(study):
        if chat in (None, one.chat):
            values.setdefault((one.place, one.key, one.published), []).append(one.found)
    places: dict[str, list[str]] = {}
    for (place, key, wanted), found in values.items():
        places.setdefault(f"{key} {' or '.join(found)} ({wanted})", []).append(place)
    blocks: dict[str, list[str]] = {}
    for said, where in places.items():
        blocks.setdefault(_together(where), []).append(said)
    settings = [f"{where}: {', '.join(said)}" for where, said in blocks.items()]
    return settings + [text for text, about_chat in unsettled.differences(study) if chat in (None, about_chat)]


def _together(places: Sequence[str]) -> str:
    """``defenses.a``, or ``defenses.{a, b}`` of several blocks of a section."""
    sections: dict[str, list[str]] = {}
    for place in places:
        section, _, name = place.partition(".")
        sections.setdefault(section, []).append(name)
    return ", ".join(
        section if names == [""] else f"{section}.{names[0] if len(names) == 1 else '{' + ', '.join(names) + '}'}"
        for section, names in sections.items()
    )


# --- what is run ----------------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """Cells of one task in a row of evaluations."""

    task: str
    cells: list[Cell]
    attacks: list[str]
    defenses: list[str]
    n_examples: int


def _asked(study: Study) -> Iterator[_Asked]:
    cells = study.cells()
    for row in study.evaluate:
        by_task: dict[str, list[Cell]] = {}
        for cell in cells:
            if row.where.matches(cell.task, cell.family, cell.scale, cell.seed):
                by_task.setdefault(cell.task, []).append(cell)
        for task, found in by_task.items():
            yield _Asked(task, found, row.attacks, row.defenses, row.n_examples)


def _hub(study: Study, family: str, scale: str) -> str:
    """Name on the hub of a scale's model; empty for another source."""
    scales = study.families[family].scales
    described = scales.get(scale) if isinstance(scales, dict) else None
    return str(getattr(described, "hub", None) or "")


def _by_model(study: Study, cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(_hub(study, cell.family, cell.scale), []).append(cell)
    return found


def _keys(cells: Iterable[Cell]) -> list[tuple[str, str, str, int]]:
    return [(cell.task, cell.family, cell.scale, cell.seed) for cell in cells]


# --- the parts of a study -------------------------------------------------------------------------------------------


def _tasks(study: Study) -> Iterator[Deviation]:
    for name in dict.fromkeys(cell.task for cell in study.cells()):
        task = study.tasks[name]
        if isinstance(task, ChatTaskSettings):
            wanted = dict(values.CHAT_TASKS[run_of(task)])
            if task.train is not None and task.train.safe_answers:
                wanted.pop("safe_answer")  # of no effect beside a table of them
            yield from _compared(study, f"tasks.{name}", task, wanted, True)
        elif (task.kind or name) in _PAPERS_TASKS:
            words = values.WORDS if (task.kind or name) in values.WORD_TASKS else {}
            yield from _compared(study, f"tasks.{name}", task, {**values.TASK, **words}, False)


def _finetune(study: Study) -> Iterator[Deviation]:
    cells = [cell for cell in study.cells() if not study.is_chat(cell.task)]
    for form in forms(study.finetune, _keys(cells)) if cells else ():
        yield from _compared(study, "finetune", form, values.FINETUNE, False)


def _defenses(study: Study) -> Iterator[Deviation]:
    for asked in _asked(study):
        for name in asked.defenses:
            if name == UNDEFENDED or study.defenses[name].kind not in values.DEFENSES:
                continue
            for hub, cells in _by_model(study, asked.cells).items():
                for form in _trained(study.defenses[name], _keys(cells)):
                    yield from _defense(study, f"defenses.{name}", form, hub, cells, asked.task)


def _trained(block: Any, keys: Sequence[tuple[str, str, str, int]]) -> Iterator[Any]:
    """A defense as it holds for some cells, overrides of the attack within it applied, too: each form once."""
    inner = block.attack if isinstance(block, AdversarialRounds) else None
    if inner is None or not inner.overrides:
        yield from forms(block, keys)
        return
    overrides = [*block.overrides, *inner.overrides]
    chosen = {tuple(override.where.matches(*key) for override in overrides): key for key in keys}
    for _, key in sorted(chosen.items()):
        form = block.resolve(*key)
        yield form.model_copy(update={"attack": form.attack.resolve(*key)})


def _defense(study: Study, place: str, form: Any, hub: str, cells: list[Cell], task: str) -> Iterator[Deviation]:
    wanted = dict(values.DEFENSES[form.kind])
    if isinstance(form, CAdvUL | CAdvIPO):
        if form.attack is None:
            wanted["attack"] = Published("10 signed steps", values.UL)
        else:
            radius = values.EPS_BY_MODEL.get(hub, values.EPS_OF_OTHERS)
            wanted |= {**values.INNER, "attack.eps": Published(radius, values.EPS)}
        if form.steps is not None:
            wanted.pop("epochs")  # of no effect beside steps
    if isinstance(form, AdversarialRounds):
        form = form.model_copy(update={"attack": form.attack.for_victim(chat=False)})
        wanted |= _of_rounds(form, (study.tasks[task].kind or task) == "imdb")
        yield from _numbers_of_rounds(study, place, form, cells)
    allowed = {
        key
        for kind, changes, models in values.ABLATIONS
        if kind == form.kind and (not models or hub in models) and _is_ablation(form, changes)
        for key in changes
    }
    left = {key: one for key, one in wanted.items() if key not in allowed}
    yield from _compared(study, place, form, left, isinstance(form, CAdvUL | CAdvIPO) or form.kind == "r2d2")


def _is_ablation(form: Settings, changes: Mapping[str, Any]) -> bool:
    return all(_equal(_value(form, key), value) for key, value in changes.items())


def _of_rounds(form: AdversarialRounds, imdb: bool) -> PublishedBlock:
    """The attack of training in rounds, on IMDB or on another task."""
    block = values.ATTACKS["classifiers"].get(form.attack.kind, {})
    first, last = values.RAMP[form.attack.kind]
    ramp: dict[str, Any] = {"n_iterations": first, "n_iterations_end": last}
    wanted = {f"attack.{key}": one for key, one in block.items() if key != "n_iterations"}
    if form.attack.n_iterations_end is not None:
        ramp["ramp_end"] = values.RAMP_END_OF_IMDB if imdb else values.RAMP_END
    return {**wanted, **{f"attack.{key}": Published(one, values.SCALING_CODE) for key, one in ramp.items()}}


def _numbers_of_rounds(study: Study, place: str, form: AdversarialRounds, cells: list[Cell]) -> Iterator[Deviation]:
    known = {(cell.family, cell.scale) for cell in cells}
    for family, scale in sorted(known):
        rounds = values.ROUNDS.get((family, form.attack.kind), {}).get(scale)
        mine = study.defenses[place.partition(".")[2]].resolve(*_keys(c for c in cells if c.scale == scale)[0])
        if rounds is not None and mine.rounds != rounds:
            yield Deviation(place, f"rounds ({scale})", str(mine.rounds), str(rounds), values.SCALING_CODE, False)


def _attacks(study: Study) -> Iterator[Deviation]:
    for asked in _asked(study):
        run, chat = run_of(study.tasks[asked.task]), study.is_chat(asked.task)
        plain, guarded = values.EXAMPLES[run]
        allowed = plain if UNDEFENDED in asked.defenses else guarded
        if asked.n_examples not in allowed:
            shown = " or ".join(map(str, allowed))
            yield Deviation("evaluate", "n_examples", str(asked.n_examples), shown, values.SCALING, chat)
        for name in asked.attacks:
            block = study.attacks[name]
            for hub, cells in _by_model(study, asked.cells).items():
                for form in forms(block, _keys(cells)):
                    assert isinstance(form, AttackBase)
                    yield from _attack(study, f"attacks.{name}", form.for_victim(chat), asked, run, hub)


def _attack(study: Study, place: str, form: AttackBase, asked: _Asked, run: Run, hub: str) -> Iterator[Deviation]:
    chat = run != "classifiers"
    if isinstance(form, EmbeddingAttack):
        wanted = _of_embedding(form, asked, hub) if run == "chat" else {}
    else:
        wanted = dict(values.ATTACKS[run].get(form.kind, {}))
    if UNDEFENDED in asked.defenses and run == "classifiers" and "n_iterations" in wanted:
        n = wanted["n_iterations"]
        wanted["n_iterations"] = n._replace(others=values.UNDEFENDED_ITERATIONS.get(form.kind, ()))
    if form.position is None:
        form = form.model_copy(update={"position": study.tasks[asked.task].position})
    yield from _compared(study, place, form, wanted, chat)


def _of_embedding(form: EmbeddingAttack, asked: _Asked, hub: str) -> PublishedBlock:
    """What the attack in embedding space was: unbounded, or as in training and in its ball."""
    if form.ball == "own" and form.perturbation.eps is None:
        return values.UNBOUNDED
    inner = {
        key.replace("attack.", "perturbation."): one
        for key, one in values.INNER.items()
        if key.startswith("attack.") and key != "attack.steps"
    }
    if form.ball == "training":
        return {key: one for key, one in inner.items() if key.rpartition(".")[2] not in ("eps_mode", "norm")}
    radius = values.EPS_BY_MODEL.get(hub, values.EPS_OF_OTHERS)
    inner["perturbation.eps"] = Published(radius, f"{values.EPS}; that of the training")
    if any(name != UNDEFENDED for name in asked.defenses):
        inner["ball"] = Published("training", values.PAPER)
    return inner


def _measures(study: Study) -> Iterator[Deviation]:
    runs = dict.fromkeys(run_of(study.tasks[cell.task]) for cell in study.cells())
    for run in runs:
        if run in values.FIRST_JUDGE:
            yield from _compared(study, "judges.0", study.judges[0], values.FIRST_JUDGE[run], True)
        if run in values.UTILITY and study.utility is not None:
            yield from _compared(study, "utility", study.utility, values.UTILITY[run], True)


# --- one block ------------------------------------------------------------------------------------------------------


def _compared(study: Study, place: str, form: Settings, wanted: PublishedBlock, chat: bool) -> Iterator[Deviation]:
    """The settings of a block that are not as published; those of a part that it has not are left out."""
    for key, one in wanted.items():
        if not _has(form, key):
            continue
        value = named_model(study, _value(form, key))
        if not any(_equal(value, other) for other in (one.value, *one.others)):
            yield Deviation(place, key, shown(value), shown(one.value), one.source, chat)


def _has(form: Settings, key: str) -> bool:
    """Whether the part that a key is in is there."""
    head, _, rest = key.partition(".")
    return not rest or ((part := getattr(form, head)) is not None and _has(part, rest))


def _value(form: Any, key: str) -> Any:
    for name in key.split("."):
        form = getattr(form, name, None)
    return form


def named_model(study: Study, value: Any) -> Any:
    """A model of the study as its name on the hub, or where that is not known as the study calls it."""
    family, scale = getattr(value, "family", None), getattr(value, "scale", None)
    if family is None or scale is None:
        return value
    return Model(_hub(study, family, scale) or f"{family} {scale}")


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Between):
        return isinstance(value, int | float) and wanted.low < value <= wanted.high
    if isinstance(wanted, StudyFile):
        return value is not None
    if isinstance(value, Settings):
        value = value.model_dump()
    if isinstance(value, tuple) and not isinstance(value, Model):
        value = list(value)
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def shown(value: Any) -> str:
    """A value as captions and docs have it."""
    if isinstance(value, Model | StudyFile):
        return value.name
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, Settings):
        value = value.model_dump()
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items())
    return repr(value) if value != str(value).strip() else str(value)
