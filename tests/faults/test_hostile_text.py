"""Texts with markup, terminal codes, paths and quotes stay data, and are escaped wherever they are shown."""

import html
import json
import re

import pyarrow.parquet as pq
import pytest

import browser
from tickets import HOSTILE, ODD, SECRET, TEAMS, texts

TARGETS = ("results/tickets/tables/summary.md", "results/tickets/figures/asr_vs_parameters.png")
#: As the report's JSON spells it.
SHOWN = r"&lt;script&gt;alert('note')&lt;/script&gt; a|b _c_"
#: Looks at every result of the report as a person would who clicks through it, then at the captions all at once.
CLICKS = """
while (!app) await new Promise((done) => setTimeout(done, 10));
for (const path of Object.keys(results)) {
  app.showResultInfo(path);
  await new Promise((drawn) => app.setState({}, drawn));
}
const all = document.createElement("div");
all.id = "captions";
all.innerHTML = Object.values(results).map((result) => result.caption).join("");
document.body.append(all);
"""


@pytest.fixture(scope="module")
def report(tickets):
    """The report of the study with a hostile note."""
    done = tickets.snakemake("--report", "report.html", *TARGETS)
    assert done.status == 0, done.text
    return tickets.folder / "report.html"


def test_hostile_texts_are_attacked_unchanged(tickets):
    task = pq.read_table(tickets.results / "tasks" / "tickets" / "validation.parquet").to_pylist()
    parts = {row["example_id"]: row for row in task}
    folder = tickets.results / "attacks" / "tickets" / "mine" / "small" / "s0" / "none" / "r00" / "gcg"
    rows = pq.read_table(folder / "attack.parquet").to_pylist()
    assert rows
    for row in rows:
        body, team = texts()[row["example_id"]]
        assert body.startswith(HOSTILE)
        before, after = "".join(parts[row["example_id"]]["chunks"][:2]), parts[row["example_id"]]["chunks"][2]
        assert before.endswith(body)
        assert row["adversarial_text"].startswith(before)
        assert row["adversarial_text"].endswith(after)
        assert TEAMS[row["label"]] == team


def test_nothing_in_a_text_is_a_path_or_a_command(tickets, report):
    ours = {"tickets.yaml", "secret.txt", "results", ".snakemake", "report.html"}
    assert {path.name for path in tickets.folder.iterdir()} <= ours | {ODD[1]}
    assert {path.name for path in (tickets.folder / ODD[1]).iterdir()} == {"tickets.csv", "my-model"}


def test_hostile_text_of_a_study_is_escaped_in_report_summary_and_figures(tickets, report):
    text = report.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "</script> a|b" not in text
    assert SHOWN in text
    summary = (tickets.results / "tables" / "summary.md").read_text(encoding="utf-8")
    assert "<script>" not in summary
    assert "&lt;script&gt;" in summary
    for path in [*tickets.results.rglob("*.svg"), *tickets.results.rglob("*.csv")]:
        assert "<script" not in path.read_text(encoding="utf-8"), path


def test_the_report_shows_no_file_and_the_note_as_it_stands(tickets, report):
    text = report.read_text(encoding="utf-8")
    assert SECRET not in text
    assert SECRET not in (tickets.results / "tables" / "summary.md").read_text(encoding="utf-8")
    results = json.loads(re.search(r"^ *var results = (\{.*\});$", text, re.MULTILINE)[1])
    (caption,) = [found["caption"] for found in results.values() if "differs from the paper" in found["caption"]]
    shown = caption.partition("differs from the paper:</strong> ")[2].partition("<p><strong>Not as published")[0]
    assert set(re.findall(r"<(/?\w+)", shown)) == {"/p"}
    note = html.unescape(re.sub(r"\s+", " ", shown))
    for words in (
        ".. raw:: html <script>document.title = 'owned'</script><img src=x onerror=",
        f".. include:: {tickets.folder / 'secret.txt'} .. image:: ",
        "`click <javascript:document.title='owned'>`_ $10^{-3}$ {wildcards.x} {{ 7*7 }} {{}} <results>",
    ):
        assert words in note


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here to open the report in")
def test_the_report_runs_nothing_in_a_real_browser(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    with browser.beacon() as (address, asked):
        text = text.replace("http://127.0.0.1:9/x.png", address)
        seen = browser.visit(text, tmp_path, CLICKS)
        assert seen.title == "Snakemake Report"
        assert "This study differs from the paper" in seen.dom.partition('id="captions"')[2]
        assert SECRET not in seen.dom
        assert not asked
        # The same page with the note as a careless report would hold it: the browser would have told.
        head, body, tail = text.rpartition("</body>")
        careless = f"<img src='{address}'><img src=x onerror=\"document.title = 'owned'\">"
        assert browser.visit(f"{head}{careless}{body}{tail}", tmp_path, CLICKS).title == "owned"
        assert asked == ["/x.png"]


def test_no_cell_of_a_table_is_a_formula(tickets):
    for path in (tickets.results / "tables").glob("*.csv"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r'(^|,)"?[=@\t]', line), (path, line)
