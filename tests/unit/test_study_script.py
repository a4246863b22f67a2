"""What `make study` says last: where figures, tables and the report are."""

import importlib.util
import sys
from pathlib import Path

import pytest

from hardscale.plan.jobs import Jobs
from hardscale.settings.study import parse_study, read_yaml

ROOT = Path(__file__).parents[2]
TINY = ROOT / "studies" / "tiny.yaml"


def test_the_last_lines_name_where_the_workflow_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("study_script", ROOT / "scripts" / "study.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(script, "_snakemake", lambda args, *options: ran.append(options))
    monkeypatch.setattr(sys, "argv", ["study.py", "--study", str(TINY)])
    script.main()
    said = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ") or ":" in line
    )
    jobs = Jobs(parse_study(read_yaml(TINY), "tiny.yaml"))
    figures, tables = said["figures:"].split(" ")[0], said["tables:"].split(" ")[0]
    assert all(str(path).startswith(figures) for job in jobs.figures for path in vars(job.outputs).values())
    assert str(jobs.collect.outputs.runs).startswith(tables)
    assert ran[-1][:2] == ("--report", said["report:"])
