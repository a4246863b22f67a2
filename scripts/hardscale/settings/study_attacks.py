"""Every kind of attack and defense that a study may name, as one type each. No torch and no transformers here.

Attacks are the blocks of :mod:`hardscale.settings.attacks` themselves: to add one there is all there is to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag, TypeAdapter

from hardscale.settings import attacks
from hardscale.settings.attack_base import AttackBase, Facts
from hardscale.settings.blocks import Settings
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.defenses import R2D2, AdversarialRounds, CAdvIPO, CAdvUL, CAt, External
from hardscale.settings.tasks import TaskSettings

#: Defenses that train chat models; the others train classifiers.
CHAT_DEFENSES = ("c_advul", "c_advipo", "r2d2", "external")


def _kind(values: Any, otherwise: str) -> str:
    found = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    return str(found or otherwise)


def _task_kind(values: Any) -> str:
    return "behaviors" if _kind(values, "") == "behaviors" else "classification"


def _defense_kind(values: Any) -> str:
    return _kind(values, "adversarial_rounds")


def _attack_kind(values: Any) -> str:
    """The tag of a kind's block: the first of its kinds."""
    kind = _kind(values, "?")
    block = ATTACK_KINDS.get(kind)
    return kind if block is None else next(iter(block.kinds))


def _concrete(base: type[AttackBase]) -> Iterator[type[AttackBase]]:
    """The blocks of attacks that are defined where attacks are, in that order, each before what derives from it.

    Raises:
        TypeError: a block's facts are not those of its kinds.
    """
    for block in base.__subclasses__():
        if block.__module__ == attacks.__name__ and "kinds" in vars(block):
            if tuple(block.kinds) != get_args(block.model_fields["kind"].annotation):
                raise TypeError(f"{block.__name__}: `kinds` has {list(block.kinds)}, and `kind` is another")
            yield block
        yield from _concrete(block)


AnyTask = Annotated[
    Annotated[TaskSettings, Tag("classification")] | Annotated[ChatTaskSettings, Tag("behaviors")],
    Discriminator(_task_kind),
]
_Defense = (
    Annotated[AdversarialRounds, Tag("adversarial_rounds")]
    | Annotated[CAdvUL, Tag("c_advul")]
    | Annotated[CAdvIPO, Tag("c_advipo")]
    | Annotated[CAt, Tag("c_at")]
    | Annotated[R2D2, Tag("r2d2")]
    | Annotated[External, Tag("external")]
)


def _by_kind(union: Any) -> dict[str, Any]:
    """Kind -> block of a union of tagged blocks; a block may be of several kinds."""
    blocks = [get_args(tagged)[0] for tagged in get_args(union)]
    return {kind: block for block in blocks for kind in get_args(block.model_fields["kind"].annotation)}


#: Kind -> the settings block of such an attack.
ATTACK_KINDS: dict[str, type[AttackBase]] = {kind: block for block in _concrete(AttackBase) for kind in block.kinds}
#: Kind -> the settings block of such a defense.
DEFENSE_KINDS: dict[str, type[Settings]] = _by_kind(_Defense)
if TYPE_CHECKING:
    AnyAttack = AttackBase
else:
    _tagged = [Annotated[block, Tag(next(iter(block.kinds)))] for block in dict.fromkeys(ATTACK_KINDS.values())]
    AnyAttack = Annotated[
        Union[tuple(_tagged)],  # noqa: UP007 - of blocks that are not named here
        Discriminator(
            _attack_kind,
            custom_error_type="attack_kind",
            custom_error_message=f"kind must be one of {', '.join(map(repr, ATTACK_KINDS))}",
        ),
    ]
AnyDefense = Annotated[
    _Defense,
    Discriminator(
        _defense_kind,
        custom_error_type="defense_kind",
        custom_error_message=f"kind must be one of {', '.join(map(repr, DEFENSE_KINDS))}",
    ),
]
_TASK: TypeAdapter[Any] = TypeAdapter(AnyTask)
_ATTACK: TypeAdapter[Any] = TypeAdapter(AnyAttack)
#: Of kinds that are not ours: tables may come from elsewhere.
_UNKNOWN = Facts("", "")


def attack_facts(kind: object) -> Facts:
    """What is so of every attack of a kind; of a kind that is not known, nothing: its label and runner are empty."""
    block = ATTACK_KINDS.get(str(kind))
    return _UNKNOWN if block is None else block.kinds[str(kind)]


def attack_kinds(are: Callable[[Facts], bool]) -> list[str]:
    """The kinds of attacks of which something is so."""
    return [kind for kind in ATTACK_KINDS if are(attack_facts(kind))]


def parse_task(values: dict[str, Any]) -> TaskSettings | ChatTaskSettings:
    """The settings block of a task.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _TASK.validate_python(values)


def parse_attack(values: dict[str, Any]) -> AttackBase:
    """The settings block of an attack.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _ATTACK.validate_python(values)
