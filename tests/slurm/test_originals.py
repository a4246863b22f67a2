"""During a run on Slurm, functions of Snakemake's Slurm plugins are those of their own files."""

import importlib
import sys
from pathlib import Path

import pytest
from originals import changed
from runs import OnSlurm

#: Packages of which nothing may be changed; ``snakemake`` and the ``snakemake_interface_…`` can be named, too.
PACKAGES = ("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_slurm_jobstep")
#: scripts/hardscale/launch/silent_looks.py says why, and until when.
MENDED = ["snakemake_executor_plugin_slurm.Executor.check_active_jobs"]


def changed_in_a_run(study: OnSlurm, out: Path, *options: str) -> list[str]:
    command = study.command(*options)
    study.command = lambda *_: [  # type: ignore[method-assign]
        sys.executable, str(Path(__file__).with_name("originals.py")), str(out), ",".join(PACKAGES),
        *command[command.index("snakemake") + 1 :],
    ]  # fmt: skip
    assert study.finish() == 0, study.said
    return out.read_text().splitlines()


@pytest.mark.parametrize("options", [("--dry-run",), ("--until", "prepare_task")], ids=["plan", "run"])
def test_nothing_but_what_is_told_is_changed(options, sources, cluster, tmp_path):
    from study_runs import StudyRun

    study = OnSlurm(StudyRun(sources, sources / "studies/tiny.yaml", tmp_path), cluster.env)
    found = changed_in_a_run(study, tmp_path / "changed", *options)
    assert found == ([] if "--dry-run" in options else MENDED)


def test_what_nobody_touched_is_unchanged():
    for name in (*PACKAGES, "snakemake.cli"):
        importlib.import_module(name)
    assert changed(PACKAGES) == []
    assert changed(("snakemake", "snakemake_interface_executor_plugins", "snakemake_interface_common")) == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("snakemake_executor_plugin_slurm.Executor", "run_jobs"),
        ("snakemake_executor_plugin_slurm.Executor", "__post_init__"),
        ("snakemake_executor_plugin_slurm", "Executor"),
        ("snakemake_executor_plugin_slurm", "query_job_status"),
        ("snakemake_executor_plugin_slurm.utils", "pending_jobs_for_rule"),
        ("snakemake_executor_plugin_slurm_jobstep.Executor", "run_job"),
    ],
)
def test_a_changed_function_is_found(owner, name, monkeypatch):
    holder = importlib.import_module(owner.removesuffix(".Executor"))
    if owner.endswith(".Executor"):
        holder = holder.Executor
    plain = getattr(holder, name)

    def other(*_, **__):
        return plain

    other.__wrapped__ = plain
    monkeypatch.setattr(holder, name, other)
    assert f"{owner}.{name}" in changed(PACKAGES)
