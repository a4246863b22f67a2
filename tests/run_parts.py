"""Run the parts of the quick test suite side by side, and say on one last line what came of all of them.

Each part writes to a log of its own. Until all have ended there is a line when one ends and one every minute; then the
ends of the logs of those that failed; last, alone, ``N passed, N failed, N skipped``.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
QUICK = ("-m", "not long and not gpu")
#: Name -> arguments of pytest. Those that run studies, and those on a cluster, wait a lot; unit tests fill the gaps.
PARTS: dict[str, tuple[str, ...]] = {
    "unit": ("-n", "2", "--dist", "worksteal", "tests/unit"),
    "studies": (
        "tests",
        *(f"--ignore=tests/{name}" for name in ("unit", "slurm", "dag", "e2e/test_chats.py")),
    ),
    "chats": ("tests/e2e/test_chats.py", "tests/dag"),
    "slurm": ("tests/slurm",),
}
#: These yield to the others.
_NICE = {"unit": 5}
_LINES_OF_A_FAILED_LOG = 400
_MINUTE = 60.0
#: Exit statuses of pytest after which its report says it all: all passed, some failed.
_COUNTED = (0, 1)


@dataclass
class Part:
    """One run of pytest."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    report: Path

    def counts(self) -> Counter[str]:
        """Tests by outcome; a part that crashed, was killed, or left no report is one failure more."""
        found = counts_of(self.report)
        status = self.process.returncode
        if not sum(found.values()) or status not in _COUNTED or (status == 1 and not found["failed"]):
            found["failed"] += 1
        return found


def counts_of(report: Path) -> Counter[str]:
    """What a JUnit report says; a test whose set-up or end failed has failed, as often as it did."""
    found = Counter(passed=0, failed=0, skipped=0)
    try:
        suites = list(ElementTree.parse(report).iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return found
    for suite in suites:
        total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        found.update(passed=max(total - failed - skipped, 0), failed=failed, skipped=skipped)
    return found


def last_line(found: Counter[str]) -> str:
    """The last line."""
    return f"{found['passed']} passed, {found['failed']} failed, {found['skipped']} skipped"


def start(name: str, arguments: Sequence[str], logs: Path) -> Part:
    """Start a part."""
    log, report = logs / f"{name}.log", logs / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *QUICK, *arguments, f"--junit-xml={report}"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["nice", "-n", str(_NICE.get(name, 0)), *command],
            cwd=ROOT,
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is passed on once: a second one would cut short what the first began
        )
    return Part(name, process, log, report)


def stop_with_us(parts: Sequence[Part]) -> None:
    """Interrupt the parts when this process is told to stop: pytest then ends what its tests started."""
    told: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        told.append(signum)
        for part in parts if len(told) == 1 else ():
            part.process.send_signal(signal.SIGINT)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)


def watch(parts: Sequence[Part]) -> None:
    """Wait for all parts; say which are at work, and how each ended."""
    began = said = time.monotonic()
    running = list(parts)
    while running:
        for part in [part for part in running if part.process.poll() is not None]:
            running.remove(part)
            said = time.monotonic()
            print(f"{_clock(said - began)} {part.name}: {last_line(part.counts())} ({part.log})", flush=True)
        if running and time.monotonic() - said >= _MINUTE:
            said = time.monotonic()
            print(f"{_clock(said - began)} at work: {', '.join(map(_progress, running))}", flush=True)
        time.sleep(0.2)


def _progress(part: Part) -> str:
    shares = re.findall(r"\[ *(\d+%)\]", part.log.read_text(encoding="utf-8", errors="replace"))
    return f"{part.name} {shares[-1] if shares else '0%'}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"


def show_failed(parts: Sequence[Part]) -> None:
    """The ends of the logs of parts that failed: pytest's own account of each failure stands there."""
    for part in parts:
        if part.counts()["failed"]:
            lines = part.log.read_text(encoding="utf-8", errors="replace").splitlines()
            print(f"\n===== {part.name} ({part.log})")
            print("\n".join(lines[-_LINES_OF_A_FAILED_LOG:]), flush=True)


def main() -> int:
    """Run the parts; 0 when every test passed or was skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--logs", type=Path, default=ROOT / "build" / "tests")
    arguments = parser.parse_args()
    names = arguments.parts or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    arguments.logs.mkdir(parents=True, exist_ok=True)
    parts = [start(name, PARTS[name], arguments.logs.absolute()) for name in names]

    stop_with_us(parts)
    watch(parts)
    show_failed(parts)
    found = sum((part.counts() for part in parts), Counter())
    (arguments.logs / "summary.txt").write_text(f"{last_line(found)}\n", encoding="utf-8")
    print(last_line(found))
    return int(found["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
