"""Tables by the format that their file's name says: csv, json, jsonl (these also as .gz) and parquet."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from hardscale.errors import DataError
from hardscale.tasks.formats.csv_table import parse_csv
from hardscale.tasks.formats.json_table import parse_document, parse_lines
from hardscale.tasks.formats.parquet_table import WHAT, read_parquet
from hardscale.tasks.formats.table import Table
from hardscale.untrusted.guarded import opened, shown, text_problem

_PARSERS = {".csv": parse_csv, ".json": parse_document, ".jsonl": parse_lines, ".ndjson": parse_lines}
#: Text of a table at most, unpacked: it is held in memory several times. Parquet has no such limit.
MAX_TEXT_BYTES = 512 * 1024**2
_UTF8_MARK = b"\xef\xbb\xbf"


def read_table_file(path: Path) -> Table:
    """The table in a file.

    Raises:
        DataError: the file is unreadable, malformed or of no known format; the line names row or line, never a value.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return read_parquet(path)
    packed = suffixes[-1:] == [".gz"]
    parse = _PARSERS.get(suffixes[-2 if packed else -1] if len(suffixes) > packed else "")
    if parse is None:
        raise DataError(f"{shown(path)}: a table is json, csv, jsonl or parquet by its name")
    return parse(path, _text(path, packed))


def _text(path: Path, packed: bool) -> str:
    """Text of a file, as UTF-8 with line ends as they are, a mark before it left out."""
    with opened(path, WHAT, max_bytes=None if packed else MAX_TEXT_BYTES) as file:
        try:
            stream = gzip.GzipFile(fileobj=file) if packed else file
            content = stream.read(MAX_TEXT_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            reason = "cut off or damaged" if packed else getattr(error, "strerror", None) or "an error of the disk"
            raise DataError(
                f"{shown(path)}: not a readable {'gz ' if packed else ''}file ({reason}); fetch it again"
            ) from None
    if len(content) > MAX_TEXT_BYTES:
        raise DataError(
            f"{shown(path)}: more than {MAX_TEXT_BYTES:,} bytes unpacked; give the table as parquet, or a part of it"
        )
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    problem = text_problem(content, byte_order_mark=True)
    if problem:
        raise DataError(f"{shown(path)}: not a readable {kind} file: {problem}, allowed is UTF-8; save it again")
    return content.removeprefix(_UTF8_MARK).decode("utf-8")
