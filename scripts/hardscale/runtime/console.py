"""What a job shows: one line for an error, a bar for long work, everything else in the log file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TextIO

from hardscale.errors import HardscaleError
from hardscale.untrusted.literal import one_line, visible

_INTERVAL_SECONDS = 15.0
_terminal: TextIO = sys.stderr
_label = ""


def printable(text: str) -> str:
    """Text of our own lines in which nothing can move a terminal's cursor or color it: controls become escapes."""
    return "\n".join("".join(c if c.isprintable() else visible(c) for c in line) for line in text.split("\n"))


def say(message: str) -> None:
    """One line on the terminal, and in the log when there is one: of a message of several lines, all in one."""
    prefix = f"[{_label}] " if _label else ""
    line = printable(" ".join(f"{prefix}{message}".splitlines()))
    for stream in dict.fromkeys((_terminal, sys.stderr)):
        with contextlib.suppress(OSError):  # a line that finds no place, on a full disk, is not worth the work
            print(line, file=stream, flush=True)


@contextlib.contextmanager
def console(log: Path | None, label: str) -> Iterator[None]:
    """Run a job: library output goes to ``log``, progress and errors to the terminal as well.

    A :class:`HardscaleError` ends the process with status 1 and its one line; any other exception with its type and
    the place of the log. With ``log=None`` library output stays on the terminal, and so does the trace of what was not
    expected.
    """
    global _terminal, _label
    _label = label
    _quiet_libraries()
    if log is not None:
        handle = _opened(log)
        sys.stdout.flush()
        sys.stderr.flush()
        _terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)
    try:
        yield
    except HardscaleError as error:
        if log is not None:
            _trace()
        say(f"error: {error}")
        _leave(1)
    except KeyboardInterrupt:
        say("interrupted")
        _leave(130)
    except MemoryError:
        _trace()
        say(f"error: out of memory; see {log}" if log else "error: out of memory")
        _leave(1)
    except Exception as error:
        _trace()
        where = f"; the full trace is in {log}" if log else ""
        say(f"error: {type(error).__name__}: {one_line(str(error))[:500]}{where}")
        _leave(1)


def _opened(log: Path) -> int:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        say(f"error: {log}: the log cannot be written ({error.strerror}); fix the place, then run again")
        _leave(1)


def _trace() -> None:
    with contextlib.suppress(OSError):
        traceback.print_exc()


def _leave(status: int) -> NoReturn:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    raise SystemExit(status)


def _quiet_libraries() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELIZM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.captureWarnings(True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


class Progress:
    """Progress of long work: a bar on a TTY, a line every quarter of a minute elsewhere; always rate and ETA."""

    def __init__(self, total: int, label: str, unit: str = "step", interval: float = _INTERVAL_SECONDS) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done = 0
        self._start = self._last = time.monotonic()
        self._tty = _terminal.isatty()
        self._interval = 0.5 if self._tty else interval
        self._shown = False

    def update(self, n: int = 1, **figures: float) -> None:
        """Count ``n`` more units done; ``figures`` are shown beside the rate."""
        self.done += n
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            self._show(now, figures)

    def _show(self, now: float, figures: dict[str, float]) -> None:
        elapsed = now - self._start
        rate = self.done / elapsed if elapsed > 0 else 0.0
        left = (self.total - self.done) / rate if rate else 0.0
        parts = [f"{self.label}: {self.done}/{self.total} {self.unit}s", f"{rate:.3g}/s", f"ETA {_clock(left)}"]
        parts += [f"{name} {value:.4g}" for name, value in figures.items()]
        line = "  ".join(parts)
        if self._tty:
            width = 24
            full = round(width * self.done / max(self.total, 1))
            print(
                f"\r\x1b[2K[{_label}] |{'█' * full}{'·' * (width - full)}| {line}", end="", file=_terminal, flush=True
            )
            self._shown = True
        else:
            say(line)

    def close(self, **figures: float) -> None:
        """Say how much was done in what time."""
        if self._shown:
            print("\r\x1b[2K", end="", file=_terminal, flush=True)
        elapsed = time.monotonic() - self._start
        extra = "".join(f"  {name} {value:.4g}" for name, value in figures.items())
        say(f"{self.label}: {self.done}/{self.total} {self.unit}s in {_clock(elapsed)}{extra}")
