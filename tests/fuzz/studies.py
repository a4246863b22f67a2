"""Mutated studies for the fuzzer: each loads as every command loads it, or is refused in lines of our own.

A case is a valid study of this repository, or README's, with its values or the text of its file changed. Wrong are:
errors that are none of ours, long work, lines with words of libraries or with what a terminal obeys, and whatever loads
although :mod:`nonsense` says that no study may say it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import random
import re
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutate_text
import mutate_values
import nonsense
import plain_study
import yaml

from hardscale.ops.cli import study_from_files
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import Study

ROOT = Path(__file__).parents[2]
#: CPU seconds that a case may take.
LIMIT = 2.0
#: Bytes of memory that it may take.
MEMORY = 1024**3
#: Characters that a line of an error may have.
LONGEST = 1_000
#: One case in so many is planned as well.
PLANNED = 5
#: Words of the libraries that read and check, of Python, and names of our classes.
FOREIGN = re.compile(
    r"pydantic|Input should|Value error|type=|input_|validation error|Traceback|Error\b|Exception|object at 0x|<class"
    r"|\bNoneType\b|\bdict\b|\bstr\b|\bint\b|datetime\.|tagged-union|function-|literal_error|b'(?:bytes|hi)"
    r"|!!python|File \""
    r"|\b(?:Task|Chat\w*|Family|Finetune|Attack|Optimizer|Data|Judge|Utility|Analysis|Exposure|Lora|Pretrain)Settings\b"
    r"|\b(?:AdversarialRounds|EmbeddingAttack|AttackInTraining|EvaluateRow|GridRow|HubScale|ScratchScale|WordSource)\b"
    r"|\b(?:BehaviorSource|UtilitySource|InnerAttack|ModelName|JudgeForms|RatingForms|CAdvUL|CAdvIPO|AutoDan|CAt)\b"
)


class Hang(BaseException):
    """A case that took too long."""


@dataclass(frozen=True)
class Case:
    """A broken study.

    Attributes:
        base: the file that was right, below the repository's root.
        data: what it holds now.
        broken: by what.
        planned: whether its jobs are looked at as well.
    """

    base: str
    data: bytes
    broken: str
    planned: bool = False


@functools.cache
def bases() -> dict[str, bytes]:
    """Valid studies by their place."""
    found = {f"studies/{path.name}": path.read_bytes() for path in sorted((ROOT / "studies").glob("*.yaml"))}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tickets = re.search(r"```yaml\n(name: tickets\n.*?)```", readme, re.DOTALL)
    assert tickets, "README.md no longer has the study of tickets"
    return {"config.yaml": (ROOT / "config.yaml").read_bytes(), **found, "studies/tickets.yaml": tickets[1].encode()}


@functools.cache
def _values(base: str, whole: bool) -> dict[str, Any]:
    with _folder() as place:
        loaded = yaml.safe_load((place / base).read_bytes())
        return plain_study.load(place / base) | {"extends": None} if whole else loaded


def values(base: str, whole: bool) -> dict[str, Any]:
    """A base as values of the caller's own, alone or with what it extends."""
    return mutate_values.unshared(_values(base, whole))


def written(values: dict[str, Any]) -> bytes:
    """The file of a study's values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def cases(seed: int, n: int) -> Iterator[Case]:
    """The first ``n`` cases of a seed."""
    return (case(seed, i) for i in range(n))


def case(seed: int, i: int) -> Case:
    """A case by its number."""
    rng = random.Random(f"studies {seed} {i}")
    base = rng.choice(list(bases()))
    if rng.random() < 0.25:
        data, broken = mutate_text.mutated(rng, bases()[base])
    else:
        others = [_values(other, True) for other in bases()]
        changed, broken = mutate_values.mutated(rng, _values(base, rng.random() < 0.5), others)
        data = written(changed)
    return Case(base, data, broken, planned=i % PLANNED == 0)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes every value where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        """So that no change comes in twice."""
        return True


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder with the studies as they are."""
    with tempfile.TemporaryDirectory(prefix="hardscale-fuzz-") as name:
        (Path(name) / "studies").mkdir()
        for base, data in bases().items():
            (Path(name) / base).write_bytes(data)
        yield Path(name)


def check(case: Case) -> str | None:
    """What is wrong with how a case is read; None if nothing is."""
    wrong = outcome(case)[1]
    return f"{case.base}, {case.broken}: {wrong}" if wrong else None


def outcome(case: Case) -> tuple[str | None, str | None]:
    """What is said of a case that is refused, None if it loads; and what is wrong with that, None if nothing is."""
    with _folder() as place, contextlib.redirect_stderr(io.StringIO()) as said:
        path = place / case.base
        path.write_bytes(case.data)
        began = time.process_time()
        error: BaseException | None = None
        try:
            with _limited():
                study = study_from_files([path])
                if case.planned:
                    _plan(study)
        except BaseException as found:  # also what asserts, exits or recurses
            error = found
        seconds = time.process_time() - began
        if isinstance(error, KeyboardInterrupt):
            raise error
        wrong = _judged(error, seconds, said.getvalue())
        if wrong is None and error is None:
            wrong = _accepted(path)
    return said.getvalue() if error else None, wrong


def _plan(study: Study) -> None:
    """What the Snakefile asks before it says what there is to do."""
    jobs = Jobs(study)
    assert jobs.targets()
    jobs.grid.cell_pattern()
    jobs.grid.lineage_pattern()


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Stop what goes on and on, or takes more and more memory; called in the main thread."""

    def stop(number: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    memory = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, memory[1]))
    signal.setitimer(signal.ITIMER_PROF, 2 * LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, memory)


def _judged(error: BaseException | None, seconds: float, said: str) -> str | None:
    if isinstance(error, Hang) or seconds > LIMIT:
        return f"{seconds:.1f} CPU-s"
    if error is None:
        return f"loads, but says {said[:200]!r}" if said else None
    if not isinstance(error, SystemExit):
        return f"{type(error).__name__} at {traceback.extract_tb(error.__traceback__)[-1]}: {str(error)[:200]!r}"
    if error.code != 2 or not said.endswith("\n") or not said.strip():
        return f"exit status {error.code!r}, says {said[:200]!r}"
    return next((wrong for line in said[:-1].split("\n") if (wrong := misleading(line))), None)


def misleading(line: str) -> str | None:
    """What is wrong with a line of an error; None if nothing is."""
    if not line.startswith("error: "):
        return f"a line that begins otherwise: {line[:200]!r}"
    if not line.isprintable():
        return f"a line with control characters: {line[:200]!r}"
    if len(line) > LONGEST:
        return f"a line of {len(line)} characters: {line[:200]!r}"
    found = FOREIGN.search(line)
    return f"words of a library ({found[0]!r}): {line[:300]!r}" if found else None


def _accepted(path: Path) -> str | None:
    """What no study may say and this one does, or keys that stand twice."""
    twice = plain_study.twice(path)
    found = [f"{key} stands twice" for key in twice] or nonsense.found(plain_study.load(path))
    return f"accepted: {found[0][:300]}" if found else None
