"""Every kind of attack and defense that a study may name, as one type each. No torch and no transformers here."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import Discriminator, Tag, TypeAdapter

from hardscale.settings.attacks import (
    Adaptive,
    AttackBase,
    AttackSettings,
    AutoDan,
    Beast,
    Direct,
    EmbeddingAttack,
    InContext,
    Pair,
    Prefill,
    Templates,
)
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.tasks import TaskSettings

#: Attacks that rewrite a request to a chat model and have no meaning for a classifier.
CHAT_ONLY = ("autodan", "pair", "direct", "prefill", "in_context", "adaptive", "templates")


def _kind(values: Any, otherwise: str) -> str:
    found = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    return str(found or otherwise)


def _task_kind(values: Any) -> str:
    return "behaviors" if _kind(values, "") == "behaviors" else "classification"


def _attack_kind(values: Any) -> str:
    kind = _kind(values, "?")
    return "gcg" if kind == "random_token" else kind


AnyTask = Annotated[
    Annotated[TaskSettings, Tag("classification")] | Annotated[ChatTaskSettings, Tag("behaviors")],
    Discriminator(_task_kind),
]
_Attack = (
    Annotated[AttackSettings, Tag("gcg")]
    | Annotated[Beast, Tag("beast")]
    | Annotated[AutoDan, Tag("autodan")]
    | Annotated[Pair, Tag("pair")]
    | Annotated[EmbeddingAttack, Tag("embedding")]
    | Annotated[Direct, Tag("direct")]
    | Annotated[Prefill, Tag("prefill")]
    | Annotated[InContext, Tag("in_context")]
    | Annotated[Adaptive, Tag("adaptive")]
    | Annotated[Templates, Tag("templates")]
)


def _by_kind(union: Any) -> dict[str, Any]:
    """Kind -> block of a union of tagged blocks; a block may be of several kinds."""
    blocks = [get_args(tagged)[0] for tagged in get_args(union)]
    return {kind: block for block in blocks for kind in get_args(block.model_fields["kind"].annotation)}


#: Kind -> the settings block of such an attack.
ATTACK_KINDS: dict[str, type[AttackBase]] = _by_kind(_Attack)
AnyAttack = Annotated[
    _Attack,
    Discriminator(
        _attack_kind,
        custom_error_type="attack_kind",
        custom_error_message=f"kind must be one of {', '.join(map(repr, ATTACK_KINDS))}",
    ),
]
_TASK: TypeAdapter[Any] = TypeAdapter(AnyTask)
_ATTACK: TypeAdapter[Any] = TypeAdapter(AnyAttack)


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
