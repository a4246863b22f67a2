"""What must hold for a study as a whole, in the order in which it is looked at: later checks rely on earlier ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hardscale.checks import homes
from hardscale.settings.checks import extent, ignored, names, pairs, sizes

if TYPE_CHECKING:
    from hardscale.settings.study import Study

CHECKS: tuple[Callable[[Study], None], ...] = (
    names.check_tasks,
    names.check_families,
    names.check_reserved,
    names.check_rows,
    extent.check_cells,
    names.check_wheres,
    extent.check_extent,
    extent.check_wheres_match,
    ignored.check_overrides,
    pairs.check_pairs,
    names.check_roles,
    names.check_analysis,
    ignored.check_ignored,
    ignored.check_unread_parts,
    ignored.check_parts,
    extent.check_rounds,
    extent.check_jobs,
    pairs.check_positions,
    pairs.check_balls,
    pairs.check_chat_training,
    pairs.check_losses,
    homes.check_homes,
    sizes.check_sizes,
    sizes.check_examples,
    sizes.check_headlines,
)


def check_study(study: Study) -> None:
    """Refuse what is empty, unknown or contradictory.

    Raises:
        ValueError: with the key, what was found, and what is allowed.
    """
    try:
        for check in CHECKS:
            check(study)
    finally:
        study.memory.clear()
