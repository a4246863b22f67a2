"""What the preflight found, one line each. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hardscale.untrusted.literal import one_line

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line: how bad, what it is about, and for all that is not ok which key or variable to set."""

    level: Level
    topic: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4}  {self.topic}: {one_line(self.text)}"


def ok(topic: str, text: str) -> Finding:
    """All is well."""
    return Finding("ok", topic, text)


def warn(topic: str, text: str) -> Finding:
    """It will run, perhaps not as one wishes."""
    return Finding("warn", topic, text)


def fail(topic: str, text: str) -> Finding:
    """It will not run."""
    return Finding("FAIL", topic, text)


def verdict(findings: list[Finding]) -> str:
    """The last line."""
    counts = {level: sum(finding.level == level for finding in findings) for level in ("ok", "warn", "FAIL")}
    if counts["FAIL"]:
        things = "thing" if counts["FAIL"] == 1 else "things"
        return f"slurm-check: {counts['FAIL']} {things} to mend before a study can run here"
    warnings = f", {counts['warn']} to know about" if counts["warn"] else ""
    return f"slurm-check: ready ({counts['ok']} ok{warnings})"
