"""What cron mails: one page that says what was compared, what differs, what changed, and what the exit status means."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

from hardscale.ops.outcome import MEANING, Finding, exit_status
from hardscale.runtime.console import printable

_MOST_BAD, _MOST_GOOD, _MOST_CHANGES = 14, 6, 8
_WIDTH = 240
_DIGEST = re.compile(r"(content )?[0-9a-f]{12}")


def summary(
    title: str,
    date: datetime.datetime,
    findings: Sequence[Finding],
    changes: Sequence[str],
    since: str,
    places: Sequence[tuple[str, Path | str]] = (),
) -> str:
    """The page: under 40 lines, whatever was found.

    Args:
        title: study, mode and what the run was asked for.
        date: when it ran, UTC.
        findings: what was compared.
        changes: of the environment.
        since: what the changes are counted from.
        places: names and paths of what was written.
    """
    bad = [finding for finding in findings if not finding.good]
    good = [finding for finding in findings if finding.good]
    lines = [f"{title}, {date:%Y-%m-%d %H:%M} UTC: {len(good)} as expected, {len(bad)} not"]
    lines += [*_list(bad, _MOST_BAD), *_list(good, _MOST_GOOD)]
    lines.append(f"changed since {since}: {'nothing' if not changes else ''}".rstrip())
    lines += [f"  {change}" for change in changes[:_MOST_CHANGES]]
    lines += [f"  and {len(changes) - _MOST_CHANGES} more"] * (len(changes) > _MOST_CHANGES)
    lines += [f"{name}: {path}" for name, path in places]
    status = exit_status(findings)
    lines.append(f"exit {status}: {MEANING[status]}")
    return "\n".join(_cut(line) for line in lines)


def _list(findings: Sequence[Finding], most: int) -> list[str]:
    words = [finding.status if finding.good else finding.status.upper() for finding in findings]
    lines = [f"  {word:7s} {_line(finding)}" for word, finding in zip(words, findings, strict=True)]
    return [*lines[:most], *[f"  and {len(lines) - most} more in the record"] * (len(lines) > most)]


def _line(finding: Finding) -> str:
    if finding.good:
        return f"{finding.what}" + (f" ({finding.found})" if finding.found else "")
    told = finding.expected and not _DIGEST.fullmatch(finding.expected)  # a digest tells people nothing
    expected = f" (expected {finding.expected})" if told else ""
    return f"{finding.what}: {finding.found}{expected}"


def _cut(line: str) -> str:
    line = printable(" ".join(line.splitlines()))
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
