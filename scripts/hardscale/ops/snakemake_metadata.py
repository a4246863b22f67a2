"""What Snakemake leaves in ``.snakemake``: marks of started jobs, locks, and the failures that its logs tell."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

SNAKEMAKE = Path(".snakemake")
_LOGS = 10
_LOG_BYTES = 4 << 20
#: A command of ours in a log, and what Python says of one that failed.
_COMMAND = re.compile(r"--log (\S+?)'?(?: [^\n]*)? (returned non-zero exit status \d+|died with <[^>\n]+>)")
_BLOCK = re.compile(r"^Error in rule [^\n]*\n((?: {4}[^\n]*\n)+)", re.MULTILINE)
_FIELD = re.compile(r"^ {4}(message|output|log): (.*)$", re.MULTILINE)


def started(folder: Path = SNAKEMAKE) -> dict[str, str | None]:
    """Outputs of jobs that were started and not seen to end -> the executor's number of the job, when it has one."""
    root = folder / "incomplete"
    found: dict[str, str | None] = {}
    for place, _, names in os.walk(root):
        for name in names:
            path = Path(place) / name
            # A name that is too long for one file is cut; all pieces but the last are folders that start with "@".
            code = "".join(part.removeprefix("@") for part in path.relative_to(root).parts)
            try:
                output = base64.urlsafe_b64decode(code).decode()
                found[output] = json.loads(path.read_text(encoding="utf-8") or "{}").get("external_jobid")
            except (OSError, ValueError, AttributeError):
                continue
    return found


def locked(folder: Path = SNAKEMAKE) -> bool:
    """Whether a Snakemake run holds the folder, or was killed while it did."""
    return any((folder / "locks").glob("*.lock"))


def failures(folder: Path = SNAKEMAKE) -> dict[str, str]:
    """What the newest runs' logs say of failed jobs: output or log of the job -> how it failed."""
    found: dict[str, str] = {}
    for path in sorted((folder / "log").glob("*.snakemake.log"), reverse=True)[:_LOGS]:
        text = _end(path, _LOG_BYTES)
        for log, how in _COMMAND.findall(text):
            found.setdefault(log, f"the command {how}")
        for block in _BLOCK.findall(text):
            fields = dict(_FIELD.findall(block))
            output = fields.get("output", "").split(",")[0].split(" (")[0].strip()
            if output:
                found.setdefault(output, fields.get("message", "").split(". For further")[0] or "the job failed")
    return found


def _end(path: Path, size: int) -> str:
    """The last bytes of a file as text; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_error(log: str) -> str | None:
    """The last error line of a job's log, without its prefix; None when it has none."""
    text = _end(Path(log), 64 << 10)
    found = re.findall(r"^(?:\[[^]\n]*\] )?error: (.*)$", text, re.MULTILINE)
    return found[-1].strip() if found else None


def last_line(path: str) -> str:
    """The last line of a text that says something of the job; empty when there is none."""
    lines = [line for line in _end(Path(path), 16 << 10).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("[") and "] " in line]
    return (said or lines or [""])[-1].strip()
