"""Text of a study stays text for whoever reads it: docutils, Markdown, spreadsheets, terminals."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

import pandas as pd
import pytest
from docutils.core import publish_parts
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hardscale.analysis.outputs import write_csv
from hardscale.analysis.summary import markdown
from hardscale.untrusted import literal

#: Everything that Python, docutils, HTML or a terminal takes for the end of a line.
SEPARATORS = [
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    " \r ",
    "\t",
]
MARKUP = [
    *(".. raw:: html", "   <script>alert(1)</script>", ".. include:: /etc/hostname", ".. |x| replace:: y", ".. _a: b"),
    *(":raw-html:`<b>`", "|x|", "`a <javascript:1>`_", "Figures_", "a__", "*a*", "**b**", "``c``", "[1]_", "::"),
    *("http://a.example/x", "www.a.example", "a@b.example", "# head", "- item", "1. item", "> quote", "```", "~~s~~"),
    *("<!--", "<script", "</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![a](b)"),
    *("[a]: b", "=====", "&lt;", "&#60;", "&amp;", "$10^{-3}$", r"$\invalid", "_^{}", "{0}", "{wildcards.x}"),
    *("{{ 7*7 }}", "{% raw %}", "%s", "=1+1", "+1", "-1", "@x", "\\", "\\n", "a|b", "'", '"', "7b", "0.5", "é ☃ 你好"),
]
#: Control characters, and how they are shown.
CONTROLS = {"\x1b[31m": "\\x1b[31m", "\x07": "\\x07", "\x00": "\\x00", "\u202e": "\\u202e", "\ud800": "\\ud800"}
PARTS = st.lists(st.sampled_from([*SEPARATORS, " ", *MARKUP, *CONTROLS]), max_size=12)


def shown(parts: list[str]) -> str:
    """What people should read: separators as blanks, controls as escapes, everything else as it stands."""
    words = [" " if part in SEPARATORS else CONTROLS.get(part, part) for part in parts]
    return " ".join(word for word in "".join(words).split(" ") if word)


class Page(HTMLParser):
    """The text of a page and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_comment(self, data):
        self.tags.add("comment")

    def handle_data(self, data):
        self.text += data


@given(PARTS)
def test_docutils_sees_one_paragraph_of_text(parts):
    caption = f"Before.\n\n**Note:** {literal.restructured(''.join(parts))}\n\n.. _Figures: javascript:f()\n"
    settings = {"halt_level": 2, "report_level": 2}
    page = Page(publish_parts(caption, writer="html", settings_overrides=settings)["body"])
    assert page.tags <= {"p", "strong"}
    assert " ".join(page.text.split()) == f"Before. Note: {shown(parts)}".strip()


@given(PARTS)
def test_markdown_sees_one_paragraph_of_text(parts):
    page = Page(github().render(literal.markdown("".join(parts))))
    assert page.tags <= {"p"}
    assert page.text.strip() == shown(parts)


@given(st.lists(PARTS.filter(lambda parts: "\ud800" not in parts), min_size=1, max_size=3))
def test_a_table_keeps_its_rows_and_the_text_of_its_cells(rows):
    frame = pd.DataFrame({"name": ["".join(parts) for parts in rows], "asr": "0.500 [0.400, 0.600]"})
    page = github().render(markdown(frame))
    assert Page(page).tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    cells = [Page(part).text.strip() for part in page.split("<td>")[1:]]
    assert cells == [text for parts in rows for text in (shown(parts), "0.500 [0.400, 0.600]")]


def github() -> MarkdownIt:
    """A reader of Markdown with the extensions that GitHub's has."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def test_the_reader_of_the_tests_above_would_see_markup():
    page = github().render("| a |\n| --- |\n| ~~x~~ <b>y</b> [z](w) *v* |\n")
    assert {"s", "b", "a", "em"} <= Page(page).tags


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", " =", *"\uff1d\uff0b\uff0d\uff20"])
def test_no_cell_begins_like_a_formula_and_no_text_is_lost(start, tmp_path):
    frame = pd.DataFrame({"name": [f"{start}1", "plain", "a=b"], "number": [-1, 0, 1]})
    write_csv(frame, tmp_path / "t.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline="")))
    assert [row["name"] for row in rows] == [f"'{start}1", "plain", "a=b"]
    assert [row["number"] for row in rows] == ["-1", "0", "1"]
