"""Fifty random kills of anything that works on a study; the tables are those of an undisturbed run."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from runs import TABLES, OnSlurm, QueueWatch, wait_until_nothing_lives

N_KILLS = int(os.environ.get("HARDSCALE_KILLS", "50"))


def workers_below(folder):
    """Processes that work on the study: controller, drivers, ranks, attacks and the shells around them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                here = os.fsencode(str(folder)) in line or (entry / "cwd").resolve() == folder
                if here and line:
                    found.append(int(entry.name))
    return found


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_fifty_kills_of_anything_change_no_table(tiny, cluster, tmp_path):
    study = OnSlurm(tiny.elsewhere(tmp_path), cluster.env)
    watch, chance, kills = QueueWatch(cluster), random.Random(8), 0
    watch.start()
    controller = study.start()
    finished = 0
    while kills < N_KILLS:
        time.sleep(chance.uniform(2, 12))
        if controller.poll() is not None:
            finished += controller.returncode == 0
            if controller.returncode == 0:  # done before the kills were: make the attacks and tables again
                for path in sorted(study.run.results.glob("attacks/**/manifest.json")):
                    path.unlink()
            controller = study.start()
            continue
        victims = workers_below(tmp_path)
        victim = controller.pid if chance.random() < 0.4 or not victims else chance.choice(sorted(victims))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            kills += 1
    if controller.poll() is None:
        controller.send_signal(signal.SIGKILL)
        controller.wait()
    status = study.finish()
    watch.stop()
    assert status == 0, study.said
    assert kills == N_KILLS
    assert max(watch.most.values()) == 1, watch.most
    assert study.tables() == {name: (tiny.results / "tables" / name).read_bytes() for name in TABLES}
    verified = study.run.snakemake("verify")
    assert verified.status == 0, verified.text
    wait_until_nothing_lives(cluster, tmp_path)
