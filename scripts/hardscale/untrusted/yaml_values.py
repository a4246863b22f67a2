"""YAML as studies are written in it, read strictly: the values of a text, or one line that says what is wrong with it.

Much that YAML can say has no meaning in a study, and much of the rest is read as something else than what was meant: a
key twice in a mapping, ``010`` as 8, ``1:30`` as 90, ``1e-3`` as a text, dates, tags that make objects, aliases that
grow without bound. Here a plain scalar is null, true or false, a decimal number, or a text; what YAML 1.1 takes for
another kind of number or for a date is a text, which no number's place takes.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hardscale.errors import StudyError
from hardscale.untrusted.guarded import depth_exceeds, read_text, shown

#: A study takes a few thousand bytes.
MAX_BYTES = 256 * 1024
#: Mappings and lists within each other; studies have fewer than 10.
MAX_DEPTH = 30
#: Values of a file, those behind an alias counted wherever it stands.
MAX_VALUES = 100_000
_LONGEST_NUMBER = 40
_LONGEST_KEY = 200

# The parser of the C library where it is built in: the other one takes a second for 100 kB.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = ("", "~", "null", "Null", "NULL")
#: As YAML 1.1 has them, so that another reader finds the same in the file.
_TRUTHS = {
    spelling: truth
    for words, truth in ((("yes", "true", "on"), True), (("no", "false", "off"), False))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
#: One way alone to read a run of digits: with two, the matcher tries each split of a long one.
_REAL = re.compile(r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_MERGE = "<<"
_OTHER_TEXT = "tag:yaml.org,2002:str"
_other = yaml.resolver.Resolver()


def read_yaml_file(path: Path, what: str) -> Any:
    """The value of a YAML file.

    Args:
        path: of the file.
        what: the role it plays, for messages.

    Raises:
        StudyError: no regular file, too large, not UTF-8, or see :func:`parse_yaml`.
    """
    return parse_yaml(read_text(path, what, max_bytes=MAX_BYTES, error=StudyError), shown(path))


def parse_yaml(text: str, where: str, *, any_keys: bool = False) -> Any:
    """The value of a YAML text.

    Args:
        text: one document.
        where: the file, for messages.
        any_keys: of a file that is not ours: numbers and the like as keys are taken as they are written.

    Raises:
        StudyError: it is no YAML, or is none that a study needs; with its line.
    """
    try:
        return _Reader(text, where, any_keys).value()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = error.problem or error.context or "it cannot be parsed"
        raise StudyError(f"{where}: not valid YAML{place}: {shown(reason)}; fix the file") from error
    except yaml.reader.ReaderError as error:
        raise StudyError(f"{where}: not valid YAML: {_reader_problem(error)}; fix the file") from error


def _reader_problem(error: yaml.reader.ReaderError) -> str:
    if isinstance(error.character, int):
        return f"a character that it may not hold, U+{error.character:04X}"
    return "a character that it may not hold"


class _Reader:
    """One text, event by event: the parser keeps no more of it than where it stands."""

    def __init__(self, text: str, where: str, any_keys: bool) -> None:
        self._parser = _Parser(text)
        self._where = where
        self._any_keys = any_keys
        #: Anchor -> value and number of values in it; None while it is being read.
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._depth = 0
        self._values = 0

    def value(self) -> Any:
        self._parser.get_event()  # the stream's start
        if self._parser.check_event(yaml.StreamEndEvent):
            raise StudyError(f"{self._where}: found an empty file, expected a mapping of keys")
        self._parser.get_event()  # the document's start
        value = self._node(self._parser.get_event())
        self._parser.get_event()  # the document's end
        if not self._parser.check_event(yaml.StreamEndEvent):
            self._refuse(self._parser.get_event(), "a second document (---); one file holds one")
        return value

    def _node(self, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            self._refuse(event, "a tag (!); values here have none, put a text with a ! in quotes")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = self._values
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                self._too_deep(event)
            value = self._list() if isinstance(event, yaml.SequenceStartEvent) else self._mapping()
            self._depth -= 1
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._values - before)
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            self._refuse(event, f"*{_short(event.anchor)} without an anchor &{_short(event.anchor)} before it")
        known = self._anchors[event.anchor]
        if known is None:
            self._refuse(event, f"*{_short(event.anchor)} inside of itself")
        value, size = known
        self._count(event, size)
        if depth_exceeds(value, MAX_DEPTH - self._depth):
            self._too_deep(event)
        return value

    def _count(self, event: Any, more: int) -> None:
        self._values += more
        if self._values > MAX_VALUES:
            self._refuse(event, f"more than {MAX_VALUES:,} values, counted wherever an alias (*) repeats them")

    def _list(self) -> list[Any]:
        values = []
        while not isinstance(event := self._parser.get_event(), yaml.SequenceEndEvent):
            values.append(self._node(event))
        return values

    def _mapping(self) -> dict[str, Any]:
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := self._parser.get_event(), yaml.MappingEndEvent):
            key = self._key(event)
            line = event.start_mark.line + 1
            if key in lines:
                raise StudyError(
                    f"{self._where}: the key {key!r} is in one mapping twice, in line {lines[key]} and in line "
                    f"{line}; keep one"
                )
            lines[key] = line
            value_event = self._parser.get_event()
            value = self._node(value_event)
            if key == _MERGE and event.implicit[0]:
                merged = self._merged(value_event, value)
            else:
                own[key] = value
        return {**merged, **own}

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            what = "an alias" if isinstance(event, yaml.AliasEvent) else "a list or a mapping"
            self._refuse(event, f"{what} as a key; keys are texts")
        value = self._node(event)
        if self._any_keys and not isinstance(value, str):
            value = str(event.value)
        if not isinstance(value, str):
            self._refuse(event, f"{_short(event.value) or 'nothing'} as a key, which is no text; put it in quotes")
        if len(value) > _LONGEST_KEY:
            self._refuse(event, f"a key of {len(value):,} characters; at most {_LONGEST_KEY} are read")
        if not value.isprintable() or not value.strip():
            self._refuse(event, f"the key {value[:40]!r}, which is blank or has characters that cannot be shown")
        return value

    def _merged(self, event: Any, value: Any) -> dict[str, Any]:
        parts = value if isinstance(value, list) else [value]
        if not parts or not all(isinstance(part, dict) for part in parts):
            self._refuse(event, "<< with something else than a mapping or a list of mappings")
        together: dict[str, Any] = {}
        for part in reversed(parts):
            together.update(part)
        return together

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self._refuse(event, "a text with a NUL or half of a surrogate pair")
        if not event.implicit[0]:  # in quotes, or a block of lines
            return text
        if text in _NULL:
            return None
        if text in _TRUTHS:
            return _TRUTHS[text]
        if _NOT_FINITE.fullmatch(text):
            self._refuse(event, f"{_short(text)}; numbers are finite")
        if _WHOLE.fullmatch(text) or (_REAL.fullmatch(text) and not re.fullmatch(r"[-+]?0[0-9_]+", text)):
            return self._number(event, text)
        if not _readable_elsewhere(text):
            self._refuse(event, f"{_short(text)}, a date or a number to YAML that is none; put it in quotes")
        return text

    def _number(self, event: Any, text: str) -> int | float:
        if len(text) > _LONGEST_NUMBER:
            self._refuse(event, f"a number of {len(text):,} characters; at most {_LONGEST_NUMBER} are read")
        if _WHOLE.fullmatch(text):
            return int(text)
        number = float(text)
        if not math.isfinite(number):
            self._refuse(event, f"{_short(text)}; numbers are finite")
        return number

    def _too_deep(self, event: Any) -> NoReturn:
        self._refuse(event, f"mappings and lists nested deeper than {MAX_DEPTH}; write it flatter")

    def _refuse(self, event: Any, what: str) -> NoReturn:
        raise StudyError(f"{self._where}: line {event.start_mark.line + 1}: found {what}")


def _readable_elsewhere(text: str) -> bool:
    """Whether other readers, Snakemake's above all, do not end in a trace at a plain text like 2024-99-99 or 0x_."""
    if not text[0].isdigit() and text[0] not in "+-.":
        return True
    if len(text) > _LONGEST_NUMBER:
        return _other.resolve(yaml.ScalarNode, text, (True, False)) == _OTHER_TEXT
    try:
        yaml.load(text, yaml.FullLoader)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return False
    except yaml.YAMLError:
        return True
    return True


def _short(text: str) -> str:
    return shown(text if len(text) <= 40 else f"{text[:37]}...")
