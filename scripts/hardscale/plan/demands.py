"""What a study asks of each of its models: lengths of texts, and ranks in their vocabularies.

A length that a job would feed is bounded by a setting; with what comes on top (attack tokens, replies) it must be
within the model's window, whether positions there end in an error or go on beyond what the model was trained for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hardscale.models.fit import Demand, LengthDemand, Ranked, packed
from hardscale.settings.attack_base import AttackBase
from hardscale.settings.blocks import Settings, forms
from hardscale.settings.chat import ChatTaskSettings, ModelName
from hardscale.settings.defenses import External
from hardscale.settings.study import UNDEFENDED, Study
from hardscale.settings.training import ExposureSettings
from hardscale.tasks.templates import constructed_tasks

_Place = tuple[str, str, str]
_Cells = Sequence[tuple[str, str, str, int]]
_EXAMPLES = "longer examples are left out"
_PROMPTS = "longer prompts are left out"
_CUT = "longer texts are cut"
#: Tokens that a tokenizer may put around a text.
_AROUND = 4


class Demands:
    """What a study asks of its models.

    Args:
        study: validated.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._places: dict[_Place, list[tuple[str, str, str, int]]] = {}
        for cell in study.cells():
            place = (cell.task, cell.family, cell.scale)
            self._places.setdefault(place, []).append((*place, cell.seed))

    def models(self) -> list[tuple[str, str]]:
        """Family and scale of every model."""
        return list(dict.fromkeys([*((p[1], p[2]) for p in self._places), *self._study.other_models()]))

    @property
    def victims(self) -> set[tuple[str, str]]:
        """Chat models under attack."""
        return {(family, scale) for task, family, scale in self._places if self._study.is_chat(task)}

    @property
    def writers(self) -> set[tuple[str, str]]:
        """Models that write: chat models, and those that play a role."""
        return self.victims | set(self._study.other_models())

    def of(self, family: str, scale: str) -> list[Demand]:
        """What is asked of a model: as the cells' own, and in every role that it plays."""
        own = [
            demand
            for place, cells in self._places.items()
            if place[1:] == (family, scale)
            for demand in self._of_cells(place[0], cells)
        ]
        return [*own, *self._pretraining(family, scale), *self._roles(family, scale)]

    def of_model(self, wildcards: Any) -> str:
        """The same as one text: a resource of prepare_model, which never makes it run again."""
        return packed(list(dict.fromkeys(self.of(wildcards.family, wildcards.scale))))

    def of_externals(self) -> Iterator[tuple[str, str, list[Demand]]]:
        """Key and place of every base that somebody else trained, and what is asked of it."""
        for name, block in self._study.defenses.items():
            if not isinstance(block, External):
                continue
            for (task, _, _), cells in self._places.items():
                for form in forms(block, cells):
                    where = getattr(form, "base", None)
                    demands = list(self._attacks(task, cells, name))
                    if where and demands:
                        yield f"defenses.{name}.base", where, demands

    # --- cells ------------------------------------------------------------------------------------------------------

    def _of_cells(self, task: str, cells: _Cells) -> Iterator[Demand]:
        yield from self._training(task, cells)
        for name, block in self._study.defenses.items():
            trained = self._evaluated(cells, name)
            for form in forms(block, trained) if trained else ():
                yield from self._defense(task, f"defenses.{name}", form)
        for defense in [UNDEFENDED, *self._study.defenses]:
            if not (isinstance(self._study.defenses.get(defense), External) and self._has_base(defense)):
                yield from self._attacks(task, cells, defense)

    def _has_base(self, defense: str) -> bool:
        return bool(getattr(self._study.defenses[defense], "base", None))

    def _evaluated(self, cells: _Cells, defense: str) -> list[tuple[str, str, str, int]]:
        rows = [row for row in self._study.evaluate if defense in row.defenses]
        return [cell for cell in cells if any(row.where.matches(*cell) for row in rows)]

    def _text(self, task: str, *more: tuple[int, str]) -> LengthDemand:
        """The texts of a task, with what comes on top."""
        settings = self._study.tasks[task]
        added = tuple(sorted(((n, key) for n, key in more if n), reverse=True))
        longer = _PROMPTS if isinstance(settings, ChatTaskSettings) else _EXAMPLES
        return LengthDemand(
            f"tasks.{task}.max_tokens", settings.max_tokens, longer, added, _known_bound(task, settings)
        )

    def _training(self, task: str, cells: _Cells) -> Iterator[Demand]:
        settings = self._study.tasks[task]
        if isinstance(settings, ChatTaskSettings):
            yield self._text(task, (settings.max_new_tokens, f"tasks.{task}.max_new_tokens"))
            utility = self._study.utility
            if utility is not None:
                yield LengthDemand("utility.max_new_tokens", utility.max_new_tokens + 1, _CUT)
            if utility is not None and utility.mt_bench is not None:
                yield LengthDemand("utility.mt_bench.max_new_tokens", utility.mt_bench.max_new_tokens + 1, _CUT)
            return
        for form in forms(self._study.finetune, cells):
            yield self._text(task, _exposed("finetune", form.exposure))  # type: ignore[attr-defined]

    def _defense(self, task: str, key: str, form: Settings) -> Iterator[Demand]:
        """By the names of settings, which are the same in every block that has them."""
        has = vars(form)
        if "max_tokens" in has:
            yield LengthDemand(f"{key}.max_tokens", has["max_tokens"], _CUT)
        if "top_k" in has:
            yield Ranked(f"{key}.top_k", has["top_k"])
        if isinstance(has.get("attack"), AttackBase):
            yield self._text(task, _attack_tokens(f"{key}.attack", has["attack"]))
            yield from _ranked(f"{key}.attack", has["attack"])
        if "exposure" in has:
            yield self._text(task, _exposed(key, has["exposure"]))

    def _attacks(self, task: str, cells: _Cells, defense: str) -> Iterator[Demand]:
        """What attacks on the models of a defense ask of them."""
        for row in self._study.evaluate:
            attacked = [cell for cell in cells if defense in row.defenses and row.where.matches(*cell)]
            for name in row.attacks if attacked else ():
                for form in forms(self._study.attacks[name], attacked):
                    yield from self._attack(task, f"attacks.{name}", form)  # type: ignore[arg-type]

    def _attack(self, task: str, key: str, form: AttackBase) -> Iterator[Demand]:
        settings = self._study.tasks[task]
        reply = []
        if isinstance(settings, ChatTaskSettings):
            reply.append((settings.max_new_tokens, f"tasks.{task}.max_new_tokens"))
        yield self._text(task, *reply, _attack_tokens(key, form))
        if replies := form.facts.replies:
            yield self._text(task, (form.value(replies), f"{key}.{replies}"))
        yield from _ranked(key, form)

    # --- other models -----------------------------------------------------------------------------------------------

    def _pretraining(self, family: str, scale: str) -> Iterator[Demand]:
        pretrain = self._study.families[family].pretrain
        if pretrain is not None:
            form = pretrain.resolve("", family, scale, 0)
            yield LengthDemand(f"families.{family}.pretrain.max_tokens", form.max_tokens, _CUT)

    def _roles(self, family: str, scale: str) -> Iterator[Demand]:
        """What is asked of a model in attacks on others, and as a judge."""

        def is_it(other: Any) -> bool:
            return isinstance(other, ModelName) and (other.family, other.scale) == (family, scale)

        for i, judge in enumerate(self._study.judges):
            if is_it(judge.model):
                yield LengthDemand(f"judges.{i}.max_completion_tokens", judge.max_completion_tokens + 1, _CUT)
        for name, block in self._study.attacks.items():
            for form in self._study.forms(block):
                for role, does in form.facts.roles.items():
                    if is_it(getattr(form, role)) and does.writes:
                        yield LengthDemand(f"attacks.{name}.{does.writes}", form.value(does.writes) + 1, _CUT)
                    if is_it(getattr(form, role)) and does.continues:
                        yield from self._proposals(name, form)
        bench = self._study.utility.mt_bench if self._study.utility else None
        if bench is not None and is_it(bench.judge):
            yield LengthDemand("utility.mt_bench.max_reply_tokens", bench.max_reply_tokens + 1, _CUT)

    def _proposals(self, attack: str, form: AttackBase) -> Iterator[Demand]:
        """A sampler reads what the attack has of each task so far."""
        for task in dict.fromkeys(place[0] for place in self._places):
            if any(attack in row.attacks for row in self._study.evaluate):
                yield self._text(task, _attack_tokens(f"attacks.{attack}", form))


def _known_bound(name: str, settings: Any) -> int | None:
    """Tokens that no example of a constructed task exceeds, where ``max_tokens`` was left at its default.

    No tokenizer makes more tokens of a text than it has bytes, but for the few that it puts around every text.
    """
    if isinstance(settings, ChatTaskSettings) or "max_tokens" in settings.model_fields_set:
        return None
    template, word = constructed_tasks().get(settings.kind or name), "x" * settings.words.max_length
    if template is None or not template.of_words:
        return None
    chunks = template.chunks((word,) * (len(template.constants) - 1), settings.instruction, settings.answer_prompt)
    return len("".join(chunks).encode()) + _AROUND


def _exposed(key: str, exposure: ExposureSettings) -> tuple[int, str]:
    return (exposure.max_tokens if exposure.probability else 0), f"{key}.exposure.max_tokens"


def _attack_tokens(key: str, form: AttackBase) -> tuple[int, str]:
    """Tokens that an attack puts beside a text, and the setting that says so; none where no setting does."""
    setting, n_tokens = form.added_tokens()
    return n_tokens, f"{key}.{setting}"


def _ranked(key: str, form: AttackBase) -> Iterator[Ranked]:
    """How many tokens of a vocabulary an attack ranks, where it does."""
    if form.ranking:
        yield Ranked(f"{key}.{form.ranking}", form.value(form.ranking))
