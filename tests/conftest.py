"""Finished studies that tests of several folders read; each is run once a session, and only if a test asks for it."""

import shutil

import pytest
from hypothesis import HealthCheck, settings

from study_runs import StudyRun, copy_sources
from tickets import ODD, describe_tickets

# No test judges by the clock: on a busy machine an example may take any time.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A copy of the sources of the workflow."""
    return copy_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def tiny(sources, tmp_path_factory):
    """studies/tiny.yaml, run from nothing."""
    run = StudyRun(sources, sources / "studies" / "tiny.yaml", tmp_path_factory.mktemp("tiny"))
    done = run.snakemake()
    assert done.status == 0, done.text
    return run


@pytest.fixture(scope="session")
def tickets(sources, tmp_path_factory):
    """A user's own table and model, described in a study, run to the table of runs and a figure in odd places."""
    place, brought = ODD
    folder = tmp_path_factory.mktemp("tickets") / place
    folder.mkdir()
    copy = shutil.copytree(sources, tmp_path_factory.mktemp("more") / "s{r}c", symlinks=True)
    run = StudyRun(copy, describe_tickets(folder, brought), folder)
    done = run.snakemake("results/tickets/tables/summary.md", "results/tickets/figures/asr_vs_parameters.png")
    assert done.status == 0, done.text
    return run
