"""Every kind of defense that a study may name, from the blocks themselves. No torch and no transformers here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag

from hardscale.settings.defenses import AdversarialRounds, Defense


def _blocks(base: type[Defense]) -> list[type[Defense]]:
    """Every block below a base that has a kind of its own, in the order in which they are defined."""
    below = [block for child in base.__subclasses__() for block in [child, *_blocks(child)]]
    return [block for block in below if get_args(block.model_fields["kind"].annotation)]


#: Kind -> the settings block of such a defense.
DEFENSE_KINDS: dict[str, type[Defense]] = {
    kind: block for block in _blocks(Defense) for kind in get_args(block.model_fields["kind"].annotation)
}


def _kind(values: Any) -> str:
    found = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    return str(found or AdversarialRounds.model_fields["kind"].default)


if TYPE_CHECKING:
    AnyDefense = Defense
else:
    #: Any of them, told apart by ``kind``.
    AnyDefense = Annotated[
        Union[tuple(Annotated[block, Tag(kind)] for kind, block in DEFENSE_KINDS.items())],  # noqa: UP007
        Discriminator(
            _kind,
            custom_error_type="defense_kind",
            custom_error_message=f"kind must be one of {', '.join(map(repr, DEFENSE_KINDS))}",
        ),
    ]


def defenses_that_train_on(what: str, victims: str | None = None) -> frozenset[str]:
    """Kinds of the defenses that train against perturbations of a sort, of some victims or of all."""
    return frozenset(
        kind for kind, block in DEFENSE_KINDS.items() if block.trains_on == what and victims in (None, block.victims)
    )
