"""What a run leaves behind: rows, a figure, one page of mail; and what changed around it."""

import datetime
from pathlib import Path

import pytest

from hardscale.artifacts.tables import read_table
from hardscale.figures.style import save
from hardscale.ops import drift
from hardscale.ops.cron import summary
from hardscale.ops.drift import DRIFT_RECORD as COLUMNS
from hardscale.ops.drift import MOST_ROWS, append, draw
from hardscale.ops.outcome import DAMAGED, DRIFT, MEANING, OK, Finding, exit_status

DAY = datetime.datetime(2026, 11, 22, 5, 30, tzinfo=datetime.UTC)
SAME = Finding("tables/runs.parquet", "same", "abc", "abc")
WITHIN = Finding("rate", "within", "5/10", "6/10", 0.1)
DRIFTED = Finding("attacks/gcg", "drift", "abc", "3 row(s)", 0.5)
BROKEN = Finding("models/m", "damaged", found="bytes differ")


@pytest.mark.parametrize(
    ("findings", "status"),
    [([SAME, WITHIN], OK), ([SAME, DRIFTED], DRIFT), ([DRIFTED, BROKEN], DAMAGED), ([], OK)],
)
def test_the_exit_status_says_the_worst(findings, status):
    assert exit_status(findings) == status


def test_runs_are_appended_row_by_row(tmp_path):
    path = tmp_path / "drift" / "drift.parquet"
    append(path, DAY, "check", [SAME], [])
    append(path, DAY + datetime.timedelta(days=7), "sample", [SAME, DRIFTED], ["torch 1 -> 2"], seed=202648)
    rows = read_table(path, COLUMNS).to_pylist()
    assert [(row["mode"], row["what"], row["status"], row["exit"]) for row in rows] == [
        ("check", "tables/runs.parquet", "same", OK),
        ("sample", "attacks/gcg", "drift", DRIFT),
        ("sample", "tables/runs.parquet", "same", DRIFT),
    ]
    assert rows[1]["date"] == DAY + datetime.timedelta(days=7)
    assert (rows[1]["max_difference"], rows[1]["changes"], rows[1]["seed"]) == (0.5, ["torch 1 -> 2"], 202648)


def test_a_long_list_is_cut_but_not_its_worst(tmp_path):
    table = append(tmp_path / "d.parquet", DAY, "check", [SAME] * MOST_ROWS + [BROKEN], [])
    assert table.num_rows == MOST_ROWS
    assert table.to_pylist()[0]["status"] == "damaged"


def test_the_figure_has_a_point_a_run_and_a_line_where_the_environment_changed(tmp_path):
    path = tmp_path / "drift.parquet"
    for day, mode, finding, changes in (
        (0, "check", SAME, []),
        (1, "sample", DRIFTED, ["torch 1 -> 2"]),
        (2, "check", BROKEN, ["torch 1 -> 2"]),
        (3, "full", SAME, ["torch 1 -> 2", "code a -> b"]),
    ):
        record = append(path, DAY + datetime.timedelta(days=day), mode, [finding, SAME], changes)
    (ax,) = draw(record, "a_$study$").axes
    points = [(line.get_marker(), list(line.get_ydata())) for line in ax.lines if line.get_marker() != "None"]
    assert points == [("o", [2, 0]), ("X", [1]), ("s", [2])]  # full 0, sample 1, check 2
    assert len([line for line in ax.lines if line.get_marker() == "None"]) == 2
    save(draw(record, "s"), png=tmp_path / "a.png")
    save(draw(record, "s"), png=tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("n", [0, 1, 300])
def test_the_page_is_short_and_ends_with_the_meaning_of_the_status(n):
    findings = [DRIFTED, BROKEN] * n + [SAME] * n
    changes = [f"package{i} 1 -> 2" for i in range(n)]
    places = [("record", Path("r")), ("figure", Path("f")), ("log", Path("l"))]
    lines = summary("tiny: check", DAY, findings, changes, "the pin of 2026-11-01", places).splitlines()
    assert len(lines) < 40
    assert lines[0] == f"tiny: check, 2026-11-22 05:30 UTC: {n} as expected, {2 * n} not"
    status = DAMAGED if n else OK
    assert lines[-1] == f"exit {status}: {MEANING[status]}"
    if n == 1:
        assert "  DRIFT   attacks/gcg: 3 row(s) (expected abc)" in lines
        assert "  package0 1 -> 2" in lines


def test_hostile_words_stay_on_their_line():
    text = summary("x", DAY, [Finding("a\nb", "drift", "\x1b[31m", "z" * 900)], [], "now")
    assert len(text.splitlines()) == 4
    assert "\x1b" not in text


def test_changes_are_named_both_ways():
    before = {"torch": "2.13.0", "GPU": "none", "gone": "1"}
    now = {"torch": "2.14.0", "GPU": "1 x H100", "driver": "550"}
    assert drift.changes(before, now) == [
        "driver none -> 550",
        "gone 1 -> none",
        "GPU none -> 1 x H100",
        "torch 2.13.0 -> 2.14.0",
    ]
    assert drift.changes(now, now) == []


def test_facts_name_this_machine():
    import platform

    import torch

    facts = drift.host_facts()
    assert facts["python"] == platform.python_version()
    assert torch.__version__.startswith(facts["torch"].partition("+")[0])
    assert facts["kernel"].endswith(platform.release())
    assert {"CPU", "GPU", "driver", "libc", "code", "snakemake", "deepspeed"} <= facts.keys()


def test_a_gpu_and_its_driver_are_read(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 550.54'\necho 'NVIDIA H100, 550.54'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    facts = drift.host_facts()
    assert (facts["GPU"], facts["driver"]) == ("2 x NVIDIA H100", "550.54")
    assert drift.has_gpu(facts)
    assert not drift.has_gpu({"torch": "2"})
