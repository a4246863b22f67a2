"""The table of docs/chat.md: what was published for chat models, what is so by default, and what one study has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hardscale.papers import values
from hardscale.papers.deviations import named_model, run_of, shown
from hardscale.papers.values import PublishedBlock
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.blocks import Settings
from hardscale.settings.chat import BehaviorSource, ChatTaskSettings, JudgeSettings, UtilitySource
from hardscale.settings.perturbation import Perturbation
from hardscale.settings.study import Study
from hardscale.settings.study_attacks import parse_attack
from hardscale.settings.study_defenses import DEFENSE_KINDS
from hardscale.settings.utility import LmEvalSettings, MtBenchSettings, UtilitySettings
from hardscale.untrusted.literal import markdown

#: The table stands between these lines.
BEGIN, END = "<!-- published: begin -->", "<!-- published: end -->"
_HEADER = "| key | published | ours by default | in {} | source |\n| --- | --- | --- | --- | --- |\n"
_TRAINED = ("c_advul", "c_advipo")


class _Part(NamedTuple):
    """A block of settings.

    Attributes:
        name: what it is called.
        wanted: what was published.
        default: the block as it is where a study says nothing.
        own: the block of the study; None where it has no such.
    """

    name: str
    wanted: PublishedBlock
    default: Any
    own: Any


def published_table(study: Study) -> str:
    """Every known setting of the published run on chat models, in Markdown; ``study`` is the last but one column."""
    rows = [row for part in _parts(study) for row in _rows(study, part)]
    return _HEADER.format(f"{study.name}.yaml") + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows(study: Study, part: _Part) -> Iterator[tuple[str, ...]]:
    for key, one in part.wanted.items():
        values = (one.value, _value(part.default, key), named_model(study, _value(part.own, key)))
        yield (f"`{part.name}.{key}`", *(markdown(shown(value)) for value in values), markdown(one.source))


def _value(block: Any, key: str) -> Any:
    for name in key.split("."):
        block = getattr(block, name, None)
    return block


def _parts(study: Study) -> Iterator[_Part]:
    [task] = [task for task in study.tasks.values() if isinstance(task, ChatTaskSettings) and run_of(task) == "chat"]
    source = BehaviorSource(behaviors="behaviors.csv")
    plain = ChatTaskSettings(kind="behaviors", train=source, test=source, utility=UtilitySource())
    yield _Part("task", values.CHAT_TASKS["chat"], plain, task)
    for kind in _TRAINED:
        radius = values.Published("0.1 Gemma, Phi-3; 0.075 Zephyr; 0.05 Mistral, Llama-2", values.EPS)
        wanted = {**values.DEFENSES[kind], **values.INNER, "attack.eps": radius}
        yield _Part(
            kind, wanted, DEFENSE_KINDS[kind].model_validate({"kind": kind}), _first(study.defenses.values(), kind)
        )
    for kind, wanted in values.ATTACKS["chat"].items():
        default = parse_attack({"kind": kind}).for_victim(chat=True)
        own = _first(study.attacks.values(), kind).for_victim(chat=True)
        if "position" in wanted:
            default, own = (block.model_copy(update={"position": task.position}) for block in (default, own))
        yield _Part(kind, wanted, default, own)
    unbounded = [b for b in study.attacks.values() if isinstance(b, EmbeddingAttack) and b.perturbation == _UNBOUNDED]
    yield _Part("embedding", values.UNBOUNDED, EmbeddingAttack(kind="embedding"), unbounded[0])
    measured = UtilitySettings(
        lm_eval=LmEvalSettings(), mt_bench=MtBenchSettings(questions="questions.jsonl", judge="a:b")
    )
    yield _Part("utility", values.UTILITY["chat"], _without_judge(measured), study.utility)
    yield _Part("judges.0", values.FIRST_JUDGE["chat"], JudgeSettings(), study.judges[0])


_UNBOUNDED: Perturbation = EmbeddingAttack(kind="embedding").perturbation


def _without_judge(measured: UtilitySettings) -> UtilitySettings:
    """MT-Bench's judge has no default."""
    assert measured.mt_bench is not None
    return measured.model_copy(update={"mt_bench": measured.mt_bench.model_copy(update={"judge": None})})


def _first(blocks: Any, kind: str) -> Any:
    """The first block of a kind."""
    found: list[Settings] = [block for block in blocks if block.kind == kind]
    return found[0]


def with_table(page: str, table: str) -> str:
    """A page whose table between the two lines is this one.

    Raises:
        ValueError: the page has no such lines.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"
