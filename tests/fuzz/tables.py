"""Broken tables for the fuzzer: each is read by what reads it in a study, and comes out whole or in one line.

A case is a file that was right, written by an ordinary writer, and then broken; its texts hold words that no error may
show. Besides errors that are none of ours, long work and quotations, a reader that gives fewer rows than it counted, or
that changes a text of a file that was only repacked, is wrong.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from raw_bytes import flipped, inserted, some_place

from hardscale.errors import HardscaleError
from hardscale.evaluation.judges.copyright import read_references
from hardscale.evaluation.mt_bench_job import read_dialogues
from hardscale.evaluation.questions import choice_questions, harmless_questions, polite_questions
from hardscale.runtime import console
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.build import build_task
from hardscale.tasks.build_chat import build_chat_task
from hardscale.tasks.formats.files import read_table_file

#: CPU seconds that a case may take.
LIMIT = 2.0
#: In every text; no message holds one of them.
SECRETS = ("mulberry", "zeppelin", "quartz")


@dataclass(frozen=True)
class Case:
    """A broken file.

    Attributes:
        reader: who reads it, a key of READERS.
        name: of the file; its suffix says how it is read.
        data: what it holds.
        broken: by what.
    """

    reader: str
    name: str
    data: bytes
    broken: str


def cases(seed: int, n: int) -> list[Case]:
    """The first ``n`` cases of a seed."""
    rng = random.Random(seed)
    return [_case(rng) for _ in range(n)]


def check(case: Case) -> str | None:
    """What is wrong with how a case is read; None if nothing is."""
    with tempfile.TemporaryDirectory(prefix="hardscale-fuzz-") as place:
        path = Path(place) / case.name
        path.write_bytes(case.data)
        began = time.process_time()
        error: BaseException | None = None
        with _heard() as said:
            try:
                READERS[case.reader](path)
                _whole(path, case)
            except BaseException as found:  # also what asserts, exits or recurses
                error = found
        seconds = time.process_time() - began
    if seconds > LIMIT:
        return f"{case.reader} {case.broken}: {seconds:.1f} CPU-s"
    if error is None:
        return _quoted(case, said.getvalue())
    if not isinstance(error, HardscaleError):
        return f"{case.reader} {case.broken}: {type(error).__name__} at {traceback.extract_tb(error.__traceback__)[-1]}"
    if not str(error) or len(str(error).splitlines()) != 1 or not str(error).isprintable():
        return f"{case.reader} {case.broken}: not one printable line"
    return _quoted(case, said.getvalue() + "".join(traceback.format_exception(error)))


@contextlib.contextmanager
def _heard() -> Iterator[io.StringIO]:
    """What is said on the terminal, by us and by libraries."""
    terminal = console._terminal
    with contextlib.redirect_stderr(io.StringIO()) as said:
        console._terminal = said
        try:
            yield said
        finally:
            console._terminal = terminal


def _quoted(case: Case, told: str) -> str | None:
    found = [word for word in SECRETS if word in told]
    return f"{case.reader} {case.broken}: quotes the data ({', '.join(found)})" if found else None


def _whole(path: Path, case: Case) -> None:
    """Of a table that is read: values and rows agree in number, and repacking changes no text."""
    if case.reader == "targets":
        return
    with contextlib.suppress(HardscaleError):
        table = read_table_file(path)
        for name in set(table.names):
            if table.names.count(name) == 1:
                assert len(table.column(name)) == table.n_rows
        if case.broken == "nothing" and case.reader in ("behaviors", "harmless"):
            assert table.n_rows == _ROWS, "rows were lost"


# --- who reads them -------------------------------------------------------------------------------------------------


def _chat(**blocks: Any) -> Any:
    settings = {"kind": "behaviors", **blocks}
    return build_chat_task("chat", ChatTaskSettings.model_validate(settings), 0, None)


def _described(path: Path) -> None:
    build_task("mine", TaskSettings(source=str(path), text="text", label="label", labels=["0", "1"]), 0, None)


def _right(path: Path) -> str:
    """A file of behaviors that is right, beside the broken one."""
    (path.parent / "right.csv").write_text("Behavior,BehaviorID\nSay hello.,id0\nSay goodbye.,id1\n")
    return str(path.parent / "right.csv")


READERS: dict[str, Callable[[Path], Any]] = {
    "behaviors": lambda path: _chat(test={"behaviors": str(path)}),
    "targets": lambda path: _chat(test={"behaviors": _right(path), "targets": str(path)}),
    "safe answers": lambda path: _chat(test={"behaviors": _right(path), "safe_answers": str(path)}),
    "conversations": lambda path: _chat(test={"behaviors": _right(path)}, utility={"source": str(path)}),
    "described": _described,
    "harmless": lambda path: harmless_questions(str(path), 9, None),
    "mmlu": lambda path: choice_questions(str(path), 9, None),
    "polite": lambda path: polite_questions(str(path), 9, None),
    "mt_bench": lambda path: read_dialogues(str(path), None, None),
    "references": read_references,
}

# --- what is right --------------------------------------------------------------------------------------------------

_ROWS = 12


def _text(i: int) -> str:
    return f'Write, "{SECRETS[i % 3]}"\nand {SECRETS[(i + 1) % 3]} ünïcode {i}.'


def _row(reader: str, i: int) -> dict[str, Any]:
    text = _text(i)
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    return {
        "behaviors": {"Behavior": text, "FunctionalCategory": "a", "ContextString": text, "BehaviorID": f"id{i}"},
        "safe answers": {"Behavior": ("Say hello.", "Say goodbye.", text)[min(i, 2)], "Safe_Response": text},
        "conversations": {"messages": turns},
        "described": {"text": text, "label": str(i % 2)},
        "harmless": {"prompt": text, "type": "homonyms"},
        "mmlu": {"question": text, "choices": [text] * 4, "answer": i % 4},
        "polite": {"goal": text, "target": text},
        "mt_bench": {"question_id": i, "category": "writing", "turns": [text, text + "?"], "reference": [text]},
    }[reader]


def _written(reader: str, suffix: str) -> bytes:
    if reader in ("targets", "references"):
        return json.dumps({f"id{i}": _text(i) for i in range(_ROWS)}).encode()
    rows = [_row(reader, i) for i in range(_ROWS)]
    if suffix == "parquet":
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out, write_page_checksum=True, compression="none")
        return out.getvalue()
    if suffix == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str | int) else json.dumps(v) for k, v in row.items()} for row in rows)
        return text.getvalue().encode()
    if suffix == "json":
        return json.dumps(rows).encode()
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return gzip.compress(data, mtime=0) if suffix.endswith("gz") else data


# --- what is broken -------------------------------------------------------------------------------------------------

_NASTY = (*(bytes([one]) for one in b"\"',;\t\r\n\0\xff\\{}[]"), b"\r\n", b"\xef\xbb\xbf")
_NASTIER = (
    *(b"[" * 50_000, b'{"a":' * 20_000, b"9" * 5_000, b"a" * 200_000),
    *(b"1e999", b"NaN", b"\\ud800", b"\x1b[31m", b"null", b'""'),
)


def _case(rng: random.Random) -> Case:
    reader = rng.choice(list(READERS))
    suffix = {"targets": ["json"], "references": ["json"], "mt_bench": ["jsonl"]}.get(reader) or [
        "csv",
        "jsonl",
        "json",
        "jsonl.gz",
        "parquet",
    ]
    end = rng.choice(suffix)
    data = _written(reader, end)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(_BREAKS))
        names.append(name)
        data = _BREAKS[name](rng, data)
    return Case(reader, f"rows.{end}", data, f"{end}: {' and '.join(names)}" if names != ["nothing"] else "nothing")


def _without(rng: random.Random, data: bytes) -> bytes:
    start = some_place(rng, data)
    return data[:start] + data[start + rng.choice((1, 3, 100)) :]


def _drop_one(rng: random.Random, data: bytes) -> bytes:
    """One quote, comma, brace or line end less."""
    places = [i for i, one in enumerate(data[:100_000]) if one in b'",{}[]:\n']
    if not places:
        return data
    at = rng.choice(places)
    return data[:at] + data[at + 1 :]


def _twice(rng: random.Random, data: bytes) -> bytes:
    start = some_place(rng, data)
    part = data[start : start + rng.choice((10, 100, 1000))]
    return data[: start + len(part)] + part + data[start + len(part) :]


def _recoded(rng: random.Random, data: bytes) -> bytes:
    with contextlib.suppress(UnicodeError):
        return data.decode().encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "cp1252", "utf-8-sig")))
    return data


def _other_ends(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", rng.choice((b"\r", b"\r\n", b"\n\n")), rng.choice((-1, 1, 3)))


_BREAKS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "nothing": lambda _, data: data,
    "cut": lambda rng, data: data[: some_place(rng, data)],
    "a bit": flipped,
    "a part less": _without,
    "a mark less": _drop_one,
    "a mark more": lambda rng, data: inserted(rng, data, rng.choice(_NASTY)),
    "something more": lambda rng, data: inserted(rng, data, rng.choice(_NASTIER)),
    "a part twice": _twice,
    "another encoding": _recoded,
    "other line ends": _other_ends,
    "no first line": lambda _, data: data.partition(b"\n")[2],
    "empty": lambda rng, _: rng.choice((b"", b"\n", b"{}", b"[]", b"null", b" ", b"0")),
}
