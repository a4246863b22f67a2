"""What every block of a study file is made of: refused keys, values that never change, overrides by cell.

A block says what can be set, the default (the paper's constant) and what is allowed. No torch and no transformers in
this package: the Snakefile loads it in every job and in every dry run. Sections that its modules name are those of
"Effects of Scale on Language Model Robustness" (arXiv 2407.18213) where they name no other paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from hardscale.settings.bounds import Name, Seed, TaskName, size
from hardscale.settings.words import first_problem


class Settings(BaseModel):
    """A block of a study: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)

    @model_validator(mode="wrap")
    @classmethod
    def _rest_of_nested_blocks(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Keys missing from a nested block take this block's default, not the nested class's.

        So ``optimizer: {learning_rate: 1e-4}`` changes the learning rate of a defense and not its optimizer too. What
        was left out does not count as given.
        """
        if not isinstance(values, dict):
            return handler(values)
        nested = {
            name: deep_merge(default, values[name])
            for name, default in cls.nested_defaults(values).items()
            if isinstance(values.get(name), dict)
        }
        block = handler({**values, **nested})
        for name in nested:
            getattr(block, name).model_fields_set.intersection_update(values[name])
        return block

    @classmethod
    def nested_defaults(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:  # noqa: ARG003
        """What a block with these values has in its nested blocks by default besides their own defaults."""
        fields = cls.model_fields.items()
        return {n: f.default.model_dump(exclude_unset=True) for n, f in fields if isinstance(f.default, Settings)}


class Where(Settings):
    """Which cells an override applies to; a key left out matches every cell."""

    task: Annotated[list[TaskName], size(100)] | None = None
    family: Annotated[list[Name], size(100)] | None = None
    scale: Annotated[list[Name], size(100)] | None = None
    seed: Annotated[list[Seed], size(1_000)] | None = None

    def matches(self, task: str, family: str, scale: str, seed: int) -> bool:
        """Whether the cell with these four coordinates is selected."""
        pairs = ((self.task, task), (self.family, family), (self.scale, scale), (self.seed, seed))
        return all(allowed is None or value in allowed for allowed, value in pairs)


class Override(Settings):
    """Other values for some cells: ``{where: {scale: [14m]}, set: {rounds: 60}}``. Later overrides win."""

    where: Where
    set: Annotated[dict[str, Any], size(100, least=0)]


class Overridable(Settings):
    """A block whose values may differ by cell."""

    overrides: Annotated[list[Override], size(1_000, least=0)] = Field(
        default_factory=list, description="Other values for some cells; later ones win."
    )

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> Overridable:
        """Build every overridden block once, so that a bad override is refused while the study loads."""
        for i, override in enumerate(self.overrides):
            try:
                self._with(override.set)
            except ValidationError as error:
                raise ValueError(f"overrides.{i}.set.{first_problem(error, override.set)}") from error
        return self

    def _with(self, values: dict[str, Any]) -> Overridable:
        merged = deep_merge(self.model_dump(exclude={"overrides"}, exclude_unset=True), values)
        return type(self).model_validate(merged)

    def resolve(self, task: str, family: str, scale: str, seed: int) -> Any:
        """The block as it holds for one cell, overrides applied and removed."""
        values: dict[str, Any] = {}
        for override in self.overrides:
            if override.where.matches(task, family, scale, seed):
                values = deep_merge(values, override.set)
        return self._with(values)


def forms(block: Settings, cells: Iterable[tuple[str, str, str, int]]) -> Iterator[Settings]:
    """A block as it holds for some (task, family, scale, seed), overrides applied: each different form once."""
    overrides = block.overrides if isinstance(block, Overridable) else []
    if not overrides:
        yield block
        return
    chosen = {tuple(override.where.matches(*cell) for override in overrides): cell for cell in cells}
    for _, cell in sorted(chosen.items()):
        yield block.resolve(*cell)  # type: ignore[attr-defined]


def deep_merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = deep_merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
