"""Every kind of task and attack that a study may name, as one type each. No torch and no transformers here.

Attacks are the blocks of :mod:`hardscale.settings.attacks` themselves: to add one there is all there is to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag, TypeAdapter

from hardscale.settings import attacks
from hardscale.settings.attack_base import AttackBase, Facts
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.tasks import TaskSettings


def _kind(values: Any, otherwise: str) -> str:
    found = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    return str(found or otherwise)


def _task_kind(values: Any) -> str:
    return "behaviors" if _kind(values, "") == "behaviors" else "classification"


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
#: Kind -> the settings block of such an attack.
ATTACK_KINDS: dict[str, type[AttackBase]] = {kind: block for block in _concrete(AttackBase) for kind in block.kinds}
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
