"""Text of a study or of data where something else could read it as more: it is always shown as it stands.

One function for each reader. Most begin with :func:`one_line`: most markup starts with a line of its own.
"""

from __future__ import annotations

import re

#: ASCII punctuation that is markup in GitHub's Markdown wherever it stands in a line.
_MARKDOWN = re.compile(r"[\\`*_\[\]~$#!|@]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
#: What begins a list, a heading or a rule, and what becomes a link by itself.
_MARKDOWN_START = re.compile(r"^(\d*)([.)]|[-+=])(?=[\s=+-]|$)")
_MARKDOWN_LINK = re.compile(r"(?<=:)//|(?<=\bwww)\.", re.IGNORECASE)
#: Readers of reStructuredText take a backslash before any of these for the character itself.
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
#: A spreadsheet takes a cell that begins so for a formula; wide forms of these are the same to some.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def one_line(text: str) -> str:
    """The text on one line: white space and whatever ends a line become one blank, other controls visible escapes."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else visible(c) for c in text).split())


def visible(character: str) -> str:
    """A control character as the escape that Python writes for it."""
    return character.encode("unicode_escape").decode("ascii")


def restructured(text: str) -> str:
    """The text inside a paragraph of reStructuredText (a caption)."""
    return _PUNCTUATION.sub(r"\\\g<0>", one_line(text))


def markdown(text: str) -> str:
    """The text as a cell of a table, or as a paragraph, of GitHub's Markdown."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", one_line(text))
    for character, entity in _ENTITIES.items():
        escaped = escaped.replace(character, entity)
    escaped = _MARKDOWN_LINK.sub(lambda found: "".join(f"\\{c}" for c in found[0]), escaped)
    return _MARKDOWN_START.sub(r"\1\\\2", escaped)


def cell(text: str) -> str:
    """The text as a cell of a CSV file, which no spreadsheet takes for a formula: an apostrophe stands before it."""
    return f"'{text}" if _FORMULA.match(text) else text
