"""Texts with markup, terminal codes, paths and quotes stay data, and are escaped wherever they are shown."""

import re

import pyarrow.parquet as pq

from tickets import HOSTILE, TEAMS, texts

#: As the report's JSON spells it.
SHOWN = r"&lt;script&gt;alert('note')&lt;/script&gt; a|b _c_"


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


def test_nothing_in_a_text_is_a_path_or_a_command(tickets):
    assert {path.name for path in tickets.folder.iterdir()} <= {
        "tickets.csv",
        "tickets.yaml",
        "my-model",
        "results",
        ".snakemake",
        "report.html",
    }


def test_hostile_text_of_a_study_is_escaped_in_report_summary_and_figures(tickets):
    done = tickets.snakemake(
        "--report", "report.html", "results/tickets/tables/summary.md", "results/tickets/figures/asr_vs_parameters.png"
    )
    assert done.status == 0, done.text
    html = (tickets.folder / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "</script> a|b" not in html
    assert SHOWN in html
    summary = (tickets.results / "tables" / "summary.md").read_text(encoding="utf-8")
    assert "<script>" not in summary
    assert "&lt;script&gt;" in summary
    for path in [*tickets.results.rglob("*.svg"), *tickets.results.rglob("*.csv")]:
        assert "<script" not in path.read_text(encoding="utf-8"), path


def test_no_cell_of_a_table_is_a_formula(tickets):
    for path in (tickets.results / "tables").glob("*.csv"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r'(^|,)"?[=@\t]', line), (path, line)
