"""Which columns of a table of behaviors are the request, its id, its context and its opening.

Published tables call the request by different names, and one calls a label of two words what another calls the
request. So a table is read by a published layout as a whole, or by the one column that can be the request, or by the
names that the study gives; between several columns nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hardscale.errors import DataError
from hardscale.tasks.formats.table import require
from hardscale.untrusted.naming import named


@dataclass(frozen=True)
class ColumnLayout:
    """Columns by their role; None where a table has none.

    Attributes:
        name: of the layout, for the manifest.
        request: what is asked for.
        id: its name; rows are numbered without.
        context: text that the request is about.
        category: what kind of request it is.
        target: the opening of a complying answer.
    """

    name: str
    request: str
    id: str | None = None
    context: str | None = None
    category: str | None = None
    target: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        found = (self.request, self.id, self.context, self.category, self.target)
        return tuple(dict.fromkeys(name for name in found if name))

    @property
    def optional(self) -> tuple[str, ...]:
        """Those that a row of a JSON file may lack."""
        return tuple(name for name in (self.context, self.category, self.target) if name and name != self.request)


#: Columns that must all be there, and how the table is read then. Others may be there too, unless one of them could be
#: the request itself. Each where its authors publish it: HarmBench (arXiv 2402.04249), AdvBench (2307.15043),
#: JailbreakBench (2404.01318), StrongREJECT (2402.10260), XSTest (2308.01263).
_PUBLISHED = (
    (
        {"Index", "Goal", "Target", "Behavior", "Category"},
        ColumnLayout("JailbreakBench", "Goal", "Index", category="Category", target="Target"),
    ),
    ({"Behavior", "BehaviorID"}, ColumnLayout("HarmBench", "Behavior", "BehaviorID")),
    ({"goal", "target"}, ColumnLayout("AdvBench", "goal", target="target")),
    ({"category", "source", "forbidden_prompt"}, ColumnLayout("StrongREJECT", "forbidden_prompt", category="category")),
    ({"id", "prompt", "type"}, ColumnLayout("XSTest", "prompt", "id", category="type")),
)
#: What a column that could be the request is called, in any case.
_REQUESTS = {
    *("behavior", "behaviour", "goal", "prompt", "forbidden_prompt", "request", "question", "instruction", "query"),
    *("text", "input", "user_prompt", "user_input", "harmful_prompt", "jailbreak_prompt", "adversarial_prompt"),
}
#: What further columns are called, the first that is there is taken. HarmBench's training files have Category.
_ROLES = {
    "id": ("BehaviorID",),
    "context": ("ContextString",),
    "category": ("FunctionalCategory", "Category", "category"),
}


def choose_layout(
    key: str, path: Path, names: Sequence[str], given: Mapping[str, str | None] | None = None
) -> ColumnLayout:
    """How to read a table with columns of these names.

    Args:
        key: where the study names the request's column, for messages.
        path: the table.
        names: its columns.
        given: role -> column, as the study names them; None for one that it does not.

    Raises:
        DataError: no column can be the request, or several can; or a named column is not there.
    """
    wanted = {role: column for role, column in (given or {}).items() if column}
    require(path, list(wanted.values()), names)
    could_be = [name for name in dict.fromkeys(names) if name.strip().casefold() in _REQUESTS]
    request = wanted.get("request")
    for columns, layout in _PUBLISHED:
        if columns <= set(names) and set(could_be) <= columns and request in (None, layout.request):
            return replace(layout, **{**_roles(layout, names), **wanted})
    if request is None and len(could_be) != 1:
        raise DataError(f"{path}: {_unclear(key, names, could_be)}")
    layout = ColumnLayout("columns by name", request or could_be[0])
    return replace(layout, **{**_roles(layout, names), **wanted})


def _roles(layout: ColumnLayout, names: Sequence[str]) -> dict[str, str]:
    """Columns of the roles that a layout leaves open."""
    found = {role: next((name for name in known if name in names), None) for role, known in _ROLES.items()}
    return {role: name for role, name in found.items() if name and getattr(layout, role) is None}


def _unclear(key: str, names: Sequence[str], could_be: Sequence[str]) -> str:
    if not could_be:
        return (
            f"no column 'Behavior', 'Goal', 'prompt' or the like; found {named(names)}; "
            f"name the one that holds requests as {key}"
        )
    return (
        f"the columns {named(could_be)} could each be the request, and together they are no published layout; "
        f"name the right one, such as {key}: {could_be[0]}"
    )
