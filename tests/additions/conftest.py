"""A study with everything that is added, run once for all tests of this folder."""

from __future__ import annotations

import shutil

import pytest
import yaml
from additions_kit import ADDITIONS, STUDY, Checkout

from study_runs import ROOT, StudyRun, copy_sources


@pytest.fixture(scope="session")
def added(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy with the figure and the task, and a study of both and of the family, run to the table and the figure."""
    folder = copy_sources(tmp_path_factory.mktemp("added"))
    (folder / "docs").mkdir()
    for page in (ROOT / "docs").glob("*.md"):
        shutil.copy2(page, folder / "docs")
    for addition in ("figure", "task"):
        shutil.copytree(ADDITIONS / addition, folder, dirs_exist_ok=True)
    work = tmp_path_factory.mktemp("work")
    (work / "added.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    run = StudyRun(folder, work / "added.yaml", work)
    done = run.snakemake("results/added/tables/runs.parquet", "results/added/figures/success_by_iteration.png")
    assert done.status == 0, done.text
    return Checkout(folder, run)
