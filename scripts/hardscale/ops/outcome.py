"""What a reproduction finds, and the exit status that tells cron."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hardscale.errors import HardscaleError

#: Exit statuses. 75 is the EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later.
OK, DAMAGED, USAGE, DRIFT, BUSY = 0, 1, 2, 3, 75
MEANING = {
    OK: "nothing drifted",
    DAMAGED: "an artifact is damaged or missing, or a job failed: repair, then run again",
    USAGE: "the command cannot be run as it was given",
    DRIFT: "drift: results differ from what they are compared with",
    BUSY: "another controller runs here: nothing was compared, try again later",
}

#: Statuses of a finding; ``within``: other numbers, but inside what chance explains.
SAME, WITHIN, DIFFERS, BROKEN, MISSING, FAILED = "same", "within", "drift", "damaged", "missing", "failed"
_REPAIR = frozenset({BROKEN, MISSING, FAILED})


@dataclass(frozen=True)
class Finding:
    """One thing that was compared.

    Attributes:
        what: a table or an artifact, relative to the results of the study.
        status: one of the statuses above.
        expected: what it was compared with, in words or as a digest.
        found: what is there now.
        max_difference: largest difference of two numbers, where numbers were compared.
    """

    what: str
    status: str
    expected: str = ""
    found: str = ""
    max_difference: float | None = None

    @property
    def good(self) -> bool:
        """Whether nobody needs to look at it."""
        return self.status in (SAME, WITHIN)


class StoppedError(HardscaleError):
    """The command ends before anything is compared, with an exit status of its own."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


def exit_status(findings: Iterable[Finding]) -> int:
    """What must be repaired comes before what differs: a difference next to damage says little."""
    statuses = {finding.status for finding in findings}
    if statuses & _REPAIR:
        return DAMAGED
    return DRIFT if DIFFERS in statuses else OK
