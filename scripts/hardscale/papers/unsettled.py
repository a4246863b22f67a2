"""Where every study differs from the published runs, whatever its settings: words, data and rules that are our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hardscale.papers.values import WORD_TASKS
from hardscale.settings.chat import ChatTaskSettings, ModelName
from hardscale.settings.study import Study
from hardscale.settings.tasks import PREFERENCE_TASKS, TEXT_TASKS, TaskSettings, WordSource


class _Used(NamedTuple):
    """What a study does.

    Attributes:
        study: the study.
        attacks: every form of the attacks that some evaluation asks for on chat models that are trained against some.
        defenses: kinds of the defenses that some evaluation asks for.
        chats: whether there are chat models with training against requests.
        asks: whether there are some that are only asked, by size.
        tasks: the classification tasks by name, without those that a study describes itself.
    """

    study: Study
    attacks: list[Any]
    defenses: set[str]
    chats: bool
    asks: bool
    tasks: dict[str, TaskSettings]

    def of(self, *kinds: str) -> list[TaskSettings]:
        """The classification tasks of these kinds, all when none is named."""
        return [task for name, task in self.tasks.items() if not kinds or (task.kind or name) in kinds]

    def attack(self, kind: str, **wanted: Callable[[Any], bool]) -> bool:
        """Whether chat models are attacked so."""
        forms = [form for form in self.attacks if form.kind == kind]
        return any(all(test(getattr(form, key)) for key, test in wanted.items()) for form in forms)


def _is_model(value: Any) -> bool:
    return isinstance(value, ModelName)


#: Text, whether it is about chat models, and when it holds.
_DIFFERENCES: tuple[tuple[str, bool, Callable[[_Used], bool]], ...] = (
    ("instructions of tasks are in our words", False, lambda u: any(task.instruction is None for task in u.of())),
    (
        "an example is left out as too long by the tokenizer of its own family (published: by any of four)",
        False,
        lambda u: any(task.max_tokens is not None for task in u.of(*TEXT_TASKS, *PREFERENCE_TASKS)),
    ),
    (
        "words are of another list than the published one, where they have 7.2 letters on average (here 9.6)",
        False,
        lambda u: any(task.words == WordSource() for task in u.of(*WORD_TASKS)),
    ),
    (
        "prompts of chat models have the system text of their own templates, not that of the published code",
        True,
        lambda u: u.chats,
    ),
    (
        "references of C-AdvIPO belong to their own rows (in the published code to those of others, by an error)",
        True,
        lambda u: "c_advipo" in u.defenses,
    ),
    (
        "each step holds its share of adversarial rows, in an order of the study's seed (published: rows are drawn one "
        "by one), training takes the precision of its site (published: float16) and perturbations are in float32 "
        "(published: in the type of the embeddings)",
        True,
        lambda u: bool(u.defenses & {"c_advul", "c_advipo"}),
    ),
    ("GCG never stops early (published: by loss and a short reply)", True, lambda u: u.attack("gcg")),
    (
        "AutoDAN stops by its loss alone (published: also by a short reply)",
        True,
        lambda u: u.attack("autodan"),
    ),
    (
        "AutoDAN's mutator is asked in our words",
        True,
        lambda u: u.attack("autodan", mutator=_is_model),
    ),
    ("PAIR's attacker is told its task in our words", True, lambda u: u.attack("pair", attacker=_is_model)),
    (
        "the adaptive attack has our template and no restarts (published: 10)",
        True,
        lambda u: u.attack("adaptive"),
    ),
    ("templates are our own", True, lambda u: u.attack("templates")),
    (
        "harmless requests are our own list",
        True,
        lambda u: u.chats and u.study.utility is not None and u.study.utility.harmless is None,
    ),
    (
        "benchmarks are asked with the chat template (published: without)",
        True,
        lambda u: u.chats and u.study.utility is not None and u.study.utility.lm_eval is not None,
    ),
    (
        "MT-Bench's judge is asked in our words",
        True,
        lambda u: u.chats and u.study.utility is not None and u.study.utility.mt_bench is not None,
    ),
    ("requests have no answer prompt behind them", True, lambda u: u.asks),
)


def differences(study: Study) -> list[tuple[str, bool]]:
    """What holds for a study, and whether it is about chat models."""
    used = _used(study)
    return [(text, chat) for text, chat, holds in _DIFFERENCES if holds(used)]


def _used(study: Study) -> _Used:
    tasks = {name: study.tasks[name] for name in dict.fromkeys(cell.task for cell in study.cells())}
    trained = {name for name, task in tasks.items() if isinstance(task, ChatTaskSettings) and task.train}
    asked = {name for name, task in tasks.items() if isinstance(task, ChatTaskSettings)} - trained
    attacks: dict[str, None] = {}
    defenses: set[str] = set()
    for row in study.evaluate:
        cells = [c for c in study.cells() if row.where.matches(c.task, c.family, c.scale, c.seed)]
        if any(cell.task in trained for cell in cells):
            attacks.update(dict.fromkeys(row.attacks))
        if cells:
            defenses |= {study.defenses[name].kind for name in row.defenses if name in study.defenses}
    formed = [form for name in attacks for form in study.forms(study.attacks[name])]
    plain = {name: task for name, task in tasks.items() if isinstance(task, TaskSettings) and not task.source}
    return _Used(study, formed, defenses, bool(trained), bool(asked), plain)
