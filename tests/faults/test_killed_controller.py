"""A controller killed in the middle: the same command resumes, and a job that lived on is not done twice."""

import os
import shutil
import signal
import subprocess

from hardscale.artifacts.locks import read_owner
from study_runs import environment
from waiting import HANG_SECONDS, wait_until

TABLES = ["results/tickets/tables/runs.parquet", "results/tickets/tables/runs.csv"]
EQUAL = ["tables/runs.parquet", "tables/runs.csv", "attacks/tickets/mine/small/s0/none/r00/gcg/attack.parquet"]


def test_a_killed_controller_and_its_orphan(tickets, tmp_path):
    shutil.copytree(tickets.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    again = tickets.elsewhere(tmp_path)
    for name in ("attacks", "tables", "figures"):
        shutil.rmtree(again.results / name)
    command = again.command("--rerun-incomplete", *TABLES)
    texts = [tmp_path / "first.txt", tmp_path / "second.txt"]
    runs = []

    def start():
        with texts[len(runs)].open("w") as out:
            run = subprocess.Popen(command, cwd=again.sources, env=environment(tmp_path), stdout=out, stderr=out)
        runs.append(run)
        return run

    def attacker():
        """The process that makes the attack artifact, as soon as it has signed for it."""
        found = list((again.results / "state" / "leases").glob("*.lease"))
        return found and read_owner(found[0])

    first = start()
    orphan = wait_until(attacker, "the attack", [first])
    os.kill(orphan.pid, signal.SIGSTOP)
    try:
        other = again.snakemake("--rerun-incomplete", *TABLES)
        assert other.status == 75
        other.refused("another controller works", f"pid {first.pid}", f"kill {first.pid}")
        assert again.snakemake("-n", *TABLES).status == 0

        first.kill()
        first.wait()
        assert any((tmp_path / ".snakemake" / "locks").iterdir())
        second = start()
        wait_until(lambda: "waiting for it" in texts[1].read_text(), "the second attack", [second])
    finally:
        os.kill(orphan.pid, signal.SIGCONT)
    assert second.wait(HANG_SECONDS) == 0, texts[1].read_text()
    said = texts[1].read_text()
    assert "ended without unlocking it; unlocked" in said
    assert "another job has published it" in said and "rows published" not in said
    assert not list((again.results / "state" / "leases").glob("*.lease"))
    for name in EQUAL:
        assert (again.results / name).read_bytes() == (tickets.results / name).read_bytes(), name
