"""What a job shows: one line for an error, a bar for long work, everything else in the log file."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from hardscale.errors import HardscaleError
from hardscale.untrusted.literal import one_line, visible

if TYPE_CHECKING:
    from tqdm import tqdm

_INTERVAL_SECONDS, _BAR_SECONDS = 15.0, 0.5
_COLUMNS = 500  # no line is so long
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s  {rate_fmt}  ETA {remaining}{postfix}"
_BAR = "{desc} |{bar:24}| {n_fmt}/{total_fmt} {unit}s  {rate_fmt}  ETA {remaining}{postfix}"
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
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.captureWarnings(True)


@functools.cache
def _bar_type() -> type[tqdm[Any]]:
    """Tqdm without its watching thread and its lock for other processes, which ranks and forks do not need.

    It is imported here, as it costs a tenth of a second that most commands do not need.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0

    Bar.set_lock(threading.RLock())
    return Bar


def _size() -> dict[str, int | bool]:
    """Where a bar learns its width: from the terminal, each time that it is drawn, or from us where that has none."""
    with contextlib.suppress(OSError, ValueError):
        if os.get_terminal_size(_terminal.fileno()).columns:
            return {"dynamic_ncols": True}
    return {"ncols": _COLUMNS, "nrows": 2}


class _Lines:
    """What a bar that is not on a terminal writes to: every state of it becomes a line of ours."""

    def write(self, text: str) -> None:
        if line := text.strip():
            say(line)

    def flush(self) -> None:
        """Lines are flushed as they are said."""


class Progress:
    """Progress of long work: a bar on a TTY, a line every quarter of a minute elsewhere; always rate and ETA.

    Args:
        total: units of the whole work.
        label: what is done.
        unit: what is counted, in the singular.
        interval: seconds between two lines.
    """

    def __init__(self, total: int, label: str, unit: str = "step", interval: float = _INTERVAL_SECONDS) -> None:
        self.total, self.label, self.unit = total, label, unit
        tty = _terminal.isatty()
        self._bar = _bar_type()(
            total=total,
            desc=f"[{_label}] {label}" if tty else label,
            unit=unit,
            file=_terminal if tty else _Lines(),
            mininterval=_BAR_SECONDS if tty else interval,
            miniters=0,  # the clock is looked at with every update
            smoothing=0,  # the rate is the mean over the whole work
            bar_format=_BAR if tty else _LINE,
            **_size(),
            ascii=False,
            leave=False,
            delay=1e-9,  # nothing is shown before anything is done
            position=0,
            disable=False,  # whatever the environment says: it counts
        )

    @property
    def done(self) -> int:
        """Units done; set it to what an earlier run did, which the rate leaves out."""
        return self._bar.n

    @done.setter
    def done(self, n: int) -> None:
        self._bar.n = self._bar.last_print_n = self._bar.initial = n

    def update(self, n: int = 1, **figures: float) -> None:
        """Count ``n`` more units done; ``figures`` are shown beside the rate."""
        self._bar.postfix = ", ".join(_words(figures))
        self._bar.update(n)

    def close(self, **figures: float) -> None:
        """Say how much was done in what time."""
        took = self._bar.format_interval(self._bar.format_dict["elapsed"])
        self._bar.close()
        say("  ".join([f"{self.label}: {self.done}/{self.total} {self.unit}s in {took}", *_words(figures)]))


def _words(figures: dict[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in figures.items()]
