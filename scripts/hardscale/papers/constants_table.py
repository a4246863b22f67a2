"""The table of docs/constants.md: constants of the scaling paper, what is so by default, and what its studies have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hardscale.artifacts.rounds_plan import chosen_rounds, paper_rounds
from hardscale.papers import values
from hardscale.papers.deviations import named_model, run_of, shown
from hardscale.papers.values import PublishedBlock
from hardscale.settings.chat import BehaviorSource, ChatTaskSettings, JudgeSettings
from hardscale.settings.defenses import AdversarialRounds
from hardscale.settings.headline import entry_for
from hardscale.settings.selection import UNDEFENDED, AnalysisSettings
from hardscale.settings.study import Study
from hardscale.settings.study_attacks import parse_attack
from hardscale.settings.tasks import TaskSettings
from hardscale.settings.training import FinetuneSettings
from hardscale.untrusted.literal import markdown

_NONE = "–"
#: Rounds after which success by size is shown.
SHOWN_ROUNDS = (1, 2, 3, 4, 5, 10)


class _ConstantRow(NamedTuple):
    """A constant: what it is called, its values as they are shown, those of the studies last, and its source."""

    name: str
    published: str
    default: str
    own: tuple[str, ...]
    source: str


def constants_table(studies: Sequence[Study]) -> str:
    """Every known constant of the published runs on classifiers and on StrongREJECT, in Markdown.

    Args:
        studies: a column each, those that follow the paper.
    """
    names = [f"{study.name}.yaml" for study in studies]
    head = ["constant", "paper", "by default", *names, "source"]
    rows = [[f"`{row.name}`", row.published, row.default, *row.own, row.source] for row in _rows(studies)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {row[0]} | {' | '.join(map(markdown, row[1:]))} |" for row in rows)]) + "\n"


def _rows(studies: Sequence[Study]) -> Iterator[_ConstantRow]:
    words = {f"words.{key.partition('.')[2]}": one for key, one in values.WORDS.items()}
    yield from _block("task", values.TASK, TaskSettings(), [_task(s, "imdb", "spam") for s in studies], studies)
    yield from _block("task", words, TaskSettings(), [_task(s, *values.WORD_TASKS) for s in studies], studies)
    yield from _block("finetune", values.FINETUNE, FinetuneSettings(), [s.finetune for s in studies], studies)
    yield from _rounds(studies)
    for kind, wanted in values.ATTACKS["classifiers"].items():
        default = parse_attack({"kind": kind}).for_victim(chat=False)
        yield from _block(f"attacks.{kind}", wanted, default, [_longest(s, kind) for s in studies], studies)
    for kind, (n, *_) in values.UNDEFENDED_ITERATIONS.items():
        own = tuple(shown(_shortest(study, kind).n_iterations) for study in studies)
        silent = shown(parse_attack({"kind": kind}).n_iterations)
        yield _ConstantRow(f"attacks.{kind}.n_iterations before any defense", str(n), silent, own, values.SCALING)
    yield from _headlines(studies)
    yield from _chat(studies)


def _block(
    name: str, wanted: PublishedBlock, default: Any, own: Sequence[Any], studies: Sequence[Study]
) -> Iterator[_ConstantRow]:
    """A row a setting of a block; ``own`` are the studies' blocks, None where a study has no such."""
    for key, one in wanted.items():
        values = tuple(
            _NONE if block is None else shown(named_model(study, _value(block, key)))
            for block, study in zip(own, studies, strict=True)
        )
        yield _ConstantRow(f"{name}.{key}", shown(one.value), shown(_value(default, key)), values, one.source)


def _rounds(studies: Sequence[Study]) -> Iterator[_ConstantRow]:
    """Adversarial training: the block, its attacks, its rounds by size, and the rounds that are evaluated."""
    blocks = [_defense(study, "gcg") for study in studies]
    yield from _block("rounds", values.DEFENSES["adversarial_rounds"], AdversarialRounds(), blocks, studies)
    for kind, (first, last) in values.RAMP.items():
        found = [_defense(study, kind) for study in studies]
        plain = AdversarialRounds().attack if kind == "gcg" else None
        for key, value in (("n_iterations", first), ("n_iterations_end", last)):
            own = tuple(_NONE if block is None else shown(getattr(block.attack, key)) for block in found)
            default = _NONE if plain is None else shown(getattr(plain, key))
            yield _ConstantRow(f"rounds.attack.{key} of {kind}", str(value), default, own, values.SCALING_CODE)
    for task, wanted in (("imdb", values.RAMP_END_OF_IMDB), ("spam", values.RAMP_END)):
        own = tuple(_ramp_end(study, task) for study in studies)
        yield _ConstantRow(
            f"rounds.attack.ramp_end on {task}", wanted, AdversarialRounds().attack.ramp_end, own, values.LEDGERS
        )
    for (family, kind), numbers in values.ROUNDS.items():
        own = tuple(_numbers(study, family, kind, list(numbers)) for study in studies)
        shown_numbers = ", ".join(f"{scale} {n}" for scale, n in numbers.items())
        yield _ConstantRow(f"rounds of {kind} on {family}", shown_numbers, _NONE, own, values.SCALING_CODE)
    own = tuple(_evaluated(study) for study in studies)
    longest = ", ".join(map(str, SHOWN_ROUNDS))
    yield _ConstantRow("evaluate.rounds hold", longest, ", ".join(map(str, paper_rounds(60))), own, values.PLOTS)


def _headlines(studies: Sequence[Study]) -> Iterator[_ConstantRow]:
    for (task, kind, defended), iteration in values.HEADLINES.items():
        own = tuple(_headline(study, task, kind, defended) for study in studies)
        what = f"headline_iteration of {kind} on {task}{', defended' if defended else ''}"
        yield _ConstantRow(what, str(iteration), "the last", own, values.PLOTS)
    default = shown(AnalysisSettings().target_asr)
    own = tuple(shown(study.analysis.target_asr) for study in studies)
    yield _ConstantRow("analysis.target_asr", shown(values.TARGET_ASR), default, own, values.PLOTS)


def _chat(studies: Sequence[Study]) -> Iterator[_ConstantRow]:
    tasks = [next((task for task in study.tasks.values() if run_of(task) == "strongreject"), None) for study in studies]
    plain = ChatTaskSettings(kind="behaviors", test=BehaviorSource(behaviors="behaviors.csv"))
    yield from _block("strongreject", values.CHAT_TASKS["strongreject"], plain, tasks, studies)
    judges = [study.judges[0] if task is not None else None for task, study in zip(tasks, studies, strict=True)]
    yield from _block("judges.0", values.FIRST_JUDGE["strongreject"], JudgeSettings(), judges, studies)


# --- what a study has -----------------------------------------------------------------------------------------------


def _value(block: Any, key: str) -> Any:
    for name in key.split("."):
        block = getattr(block, name, None)
    return block


def _task(study: Study, *kinds: str) -> TaskSettings | None:
    found = (
        task for name, task in study.tasks.items() if isinstance(task, TaskSettings) and (task.kind or name) in kinds
    )
    return next(found, None)


def _of_kind(study: Study, kind: str) -> list[Any]:
    return [block.for_victim(chat=False) for block in study.attacks.values() if block.kind == kind]


def _longest(study: Study, kind: str) -> Any:
    """The attack of a kind that defended models meet."""
    return max(_of_kind(study, kind), key=lambda block: block.n_iterations, default=None)


def _shortest(study: Study, kind: str) -> Any:
    return min(_of_kind(study, kind), key=lambda block: block.n_iterations, default=None)


def _defense(study: Study, kind: str) -> AdversarialRounds | None:
    """The first defense whose training attack is of a kind."""
    found = (b for b in study.defenses.values() if isinstance(b, AdversarialRounds) and b.attack.kind == kind)
    return next(found, None)


def _resolved(study: Study, kind: str, task: str, family: str, scale: str) -> AdversarialRounds | None:
    """That defense as it holds for a cell; None where the study has none of the kind."""
    block = _defense(study, kind)
    if block is None or family not in study.families:
        return None
    form: AdversarialRounds = block.resolve(task, family, scale, 0)
    return form.model_copy(update={"attack": form.attack.resolve(task, family, scale, 0)})


def _ramp_end(study: Study, task: str) -> str:
    cell = next((cell for cell in study.cells() if cell.task == task), None)
    form = _resolved(study, "gcg", cell.task, cell.family, cell.scale) if cell else None
    return _NONE if form is None else form.attack.ramp_end


def _numbers(study: Study, family: str, kind: str, scales: Sequence[str]) -> str:
    forms = [(scale, _resolved(study, kind, next(iter(study.tasks)), family, scale)) for scale in scales]
    return ", ".join(f"{scale} {form.rounds}" for scale, form in forms if form is not None) or _NONE


def _evaluated(study: Study) -> str:
    """Rounds of the longest training that every task's long GCG is run after."""
    name, block = next((name, b) for name, b in study.attacks.items() if b is _raw_longest(study, "gcg"))
    defense = _defense(study, "gcg")
    assert defense is not None and block.kind == "gcg"
    own = next(key for key, one in study.defenses.items() if one is defense)
    most = max(
        _resolved(study, "gcg", c.task, c.family, c.scale).rounds  # type: ignore[union-attr]
        for c in study.cells()
        if not study.is_chat(c.task)
    )
    rows = [row for row in study.evaluate if name in row.attacks and own in row.defenses]
    held = set.intersection(*(set(chosen_rounds(row.rounds, most)) for row in rows))
    return ", ".join(map(str, sorted(held)))


def _raw_longest(study: Study, kind: str) -> Any:
    """The first attack of a kind with the most iterations, as the study has it."""
    found = [block for block in study.attacks.values() if block.kind == kind]
    return max(found, key=lambda block: block.n_iterations)


def _headline(study: Study, task: str, kind: str, defended: bool) -> str:
    """The iteration at which a study shows attacks of a kind, behind the text, on a task's models."""
    found: dict[str, None] = {}
    for row in study.evaluate:
        if not any(row.where.matches(c.task, c.family, c.scale, c.seed) for c in study.cells() if c.task == task):
            continue
        defenses = [name for name in row.defenses if (name != UNDEFENDED) == defended]
        # The long GCG is that of defended models; undefended ones meet it as their round 0 alone.
        start = not defended and len(row.defenses) > 1
        for attack in row.attacks if defenses and not start else ():
            block = study.attacks[attack]
            if block.kind == kind and block.position in (None, "suffix"):
                entry = entry_for(study.analysis.headline_iteration, task, attack, defenses[0])
                found[str(study.analysis.headline_iteration[entry]) if entry else "the last"] = None
    return " or ".join(found) or _NONE
