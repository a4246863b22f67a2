"""A real Slurm for the tests of this folder: started once a session, and only if a test asks for it."""

import os

import pytest
from cluster import Cluster
from configuration import Options, missing
from runs import end_controllers


def pytest_collection_modifyitems(items):
    for item in items:
        if "installed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slurm)


def require(accounting):
    absent = missing(accounting)
    if absent:
        reason = f"no Slurm here: {', '.join(absent)} not installed (see .ci/run for the packages)"
        if os.environ.get("HARDSCALE_REQUIRE_SLURM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def no_controller_is_left():
    """Also where a test fails halfway."""
    yield
    end_controllers()


@pytest.fixture(scope="session")
def installed():
    """Slurm is installed; otherwise the test is skipped, and fails with HARDSCALE_REQUIRE_SLURM=1."""
    require(accounting=False)


@pytest.fixture(scope="session")
def new_cluster(installed, tmp_path_factory):
    """Start a cluster: ``new_cluster(nodes=1, gpus=2)``; all are stopped at the end of the session."""
    started = []

    def start(**options):
        wanted = Options(**options)
        require(wanted.accounting)
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), wanted, owned=True)
        started.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in started:
        cluster.stop()


@pytest.fixture(scope="session")
def cluster(new_cluster):
    """Two nodes of two CPUs; no accounting: only squeue knows of jobs."""
    return new_cluster(nodes=2, cpus=2)


@pytest.fixture(scope="session")
def accounting_cluster(new_cluster):
    """Two nodes of two CPUs and a GPU each, with accounting: sacct works and accounts are checked (``test`` exists)."""
    return new_cluster(nodes=2, cpus=2, gpus=1, accounting=True)
