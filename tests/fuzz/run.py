"""Run the fuzzer: mutated studies, studies that must be refused, broken tables, models and templates.

What `make fuzz` calls. The last line counts; the exit status is 1 if something was found, and each find comes with the
command that repeats it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts")]

import refused  # noqa: E402
import studies  # noqa: E402

#: Modules of broken files, each with cases(seed, n) and check(case).
FILES = ("tables", "models", "templates")
#: Cases that a process takes at a time.
_SHARE = 50
#: Seconds between lines of progress: on a terminal, and in a log.
_TERMINAL, _LOG = 1.0, 30.0


@dataclass(frozen=True)
class Work:
    """Consecutive cases of a part: ``studies``, ``refused`` or one of FILES."""

    part: str
    seed: int
    first: int
    last: int
    total: int


def main() -> None:
    """Parse arguments, run, say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", type=int, default=20_000, help="mutated studies")
    parser.add_argument("--files", type=int, default=2_000, help="broken tables, models and templates, together")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", metavar="PART:NUMBER", help="one case, e.g. studies:17")
    args = parser.parse_args()
    if args.only:
        part, _, number = args.only.partition(":")
        found = run(Work(part, args.seed, int(number), int(number) + 1, int(number) + 1))
        print("\n".join(wrong for _, wrong in found) or "nothing wrong")
        raise SystemExit(bool(found))
    began = time.monotonic()
    counts = counted(args.studies, args.files)
    n_found = in_processes(list(shares(counts, args.seed)), args.processes)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    named = {"studies": "mutated studies", "refused": "studies to refuse"}
    told = ", ".join(f"{count:,} {named.get(part, part)}" for part, count in counts.items())
    print(f"fuzz: {n_found} found in {told}; seed {args.seed}, {minutes} min {seconds} s")
    raise SystemExit(bool(n_found))


def counted(n_studies: int, n_files: int) -> dict[str, int]:
    """Part -> its cases; files are shared out equally."""
    shared = {part: n_files // len(FILES) + (i < n_files % len(FILES)) for i, part in enumerate(FILES)}
    return {"studies": n_studies, "refused": len(refused.all_of_them()), **shared}


def shares(counts: dict[str, int], seed: int) -> Iterator[Work]:
    """The whole work in shares."""
    for part, total in counts.items():
        for first in range(0, total, _SHARE):
            yield Work(part, seed, first, min(first + _SHARE, total), total)


def run(work: Work) -> list[tuple[int, str]]:
    """Number and fault of each case of a share that is wrong."""
    found = []
    for number in range(work.first, work.last):
        wrong = check(work.part, work.seed, number, work.total)
        if wrong:
            found.append((number, wrong))
    return found


def check(part: str, seed: int, number: int, total: int) -> str | None:
    """What is wrong with a case; None if nothing is."""
    if part == "studies":
        return studies.check(studies.case(seed, number))
    if part == "refused":
        return refused.check(refused.all_of_them()[number])
    wrong: str | None = importlib.import_module(part).check(_cases(part, seed, total)[number])
    return wrong


@functools.cache
def _cases(part: str, seed: int, total: int) -> list[Any]:
    return list(importlib.import_module(part).cases(seed, total))


def in_processes(works: list[Work], n: int) -> int:
    """Run all shares, print what is found and how far it is; how much was found."""
    progress = Progress(sum(work.last - work.first for work in works))
    n_found = 0
    with ProcessPoolExecutor(n) as pool:
        pending: dict[Future[list[tuple[int, str]]], Work] = {pool.submit(run, work): work for work in works}
        while pending:
            for done in wait(pending, timeout=1, return_when=FIRST_COMPLETED).done:
                work = pending.pop(done)
                try:
                    found = done.result()
                except BrokenProcessPool:
                    progress.clear()
                    print(f"a process was killed, in or before {work.part} {work.first} to {work.last - 1}")
                    return n_found + 1
                n_found += len(found)
                for number, wrong in found:
                    progress.clear()
                    print(f"{work.part}:{number}, seed {work.seed}: {wrong}\n  again: {_again(work, number)}")
                progress.tell(work.last - work.first)
    progress.clear()
    return n_found


def _again(work: Work, number: int) -> str:
    return f".venv/bin/python tests/fuzz/run.py --seed {work.seed} --only {work.part}:{number}"


class Progress:
    """How far the run is: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.began = total, 0, time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.next = self.began + (_TERMINAL if self.terminal else _LOG)

    def tell(self, n: int) -> None:
        """``n`` cases more are done."""
        self.done += n
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + (_TERMINAL if self.terminal else _LOG)
        rate = self.done / (now - self.began)
        left = round((self.total - self.done) / rate)
        line = f"{self.done:,} of {self.total:,} cases, {rate:.0f} a second, {left // 60} min {left % 60:02d} s left"
        print(
            f"\r{line}\x1b[K" if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )

    def clear(self) -> None:
        """Make room for another line."""
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
