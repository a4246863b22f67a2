"""The state of every job, from made-up results, marks, notes, logs and queues."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from upkeep_kit import FakeSlurm, jobs_of, make, mark, note, quick_publishing, steps_of, write

from hardscale.artifacts.locks import Owner
from hardscale.launch import driver
from hardscale.ops.job_state import Seen, survey
from hardscale.ops.status import estimate, render, status

CELL = "password_match/nano/a/s0"
FINETUNE = f"finetune {CELL}"
FIRST_BLOCK = f"adversarial_rounds_01_02 {CELL}/adv"
ATTACK = f"attack {CELL}/none/00/gcg"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """An empty folder to work in, and a Slurm with nothing to do."""
    quick_publishing(monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def jobs(slurm):
    return jobs_of()


@pytest.fixture
def steps(jobs):
    return steps_of(jobs)


def look(jobs) -> dict[str, Seen]:
    return {seen.step.label: seen for seen in survey(jobs).seen}


def control(alive: bool) -> None:
    """A controller of this host, or one that is gone."""
    me = Owner.me()
    facts = {**vars(me), "pid": os.getppid(), "started": "gone"}
    if alive:
        from hardscale.artifacts.locks import process_start

        facts["started"] = process_start(os.getppid())
    write(".snakemake/controller.json", json.dumps(facts))


def test_an_empty_folder_is_all_waiting_and_has_no_estimate(jobs, steps):
    facts = status(survey(jobs))
    assert {state: sum(found[state] for found in facts["phases"].values()) for state in ("done", "waiting")} == {
        "done": 0,
        "waiting": len(steps),
    }
    assert facts["estimate"]["seconds"] is None
    assert "ETA unknown: no finished job yet of" in render(facts)
    assert facts["phases"]["rounds"]["waiting"] == 4
    assert facts["phases"]["attacks"]["waiting"] == 2 * (1 + 1 + 2)


def test_a_finished_study_says_so(jobs, steps):
    for step in steps.values():
        make(step)
    facts = status(survey(jobs))
    assert {state for found in facts["phases"].values() for state, n in found.items() if n} == {"done"}
    assert render(facts).endswith("finished")


def test_a_block_with_a_round_missing_is_not_done(jobs, steps):
    block = steps[FIRST_BLOCK]
    make(block)
    assert look(jobs)[FIRST_BLOCK].state == "done"
    Path(block.outputs[0]).unlink()
    assert look(jobs)[FIRST_BLOCK].state == "waiting"


def test_an_output_that_snakemake_did_not_see_finished_is_not_done(jobs, steps):
    make(steps[ATTACK])
    mark(steps[ATTACK])
    assert look(jobs)[ATTACK].state == "waiting"
    control(alive=False)
    assert look(jobs)[ATTACK].state == "waiting"
    control(alive=True)
    assert look(jobs)[ATTACK].state == "running"


@pytest.mark.parametrize("length", [3, 300])
def test_marks_are_read_whatever_the_length_of_their_path(slurm, length):
    jobs = jobs_of(name="n" * min(length, 60), attacks={"gcg": {"kind": "gcg"}, "random-token": {"kind": "gcg"}})
    step = max(steps_of(jobs).values(), key=lambda step: max(map(len, step.outputs)))
    mark(step)
    control(alive=True)
    assert look(jobs)[step.label].state == "running"


def test_a_distributed_job_is_queued_then_running_by_its_note(slurm, jobs, steps):
    note(steps[FINETUNE], 41)
    slurm.says((41, "PENDING", FINETUNE, "", "Resources"))
    queued = look(jobs)[FINETUNE]
    assert (queued.state, queued.live.slurm_id, queued.live.reason) == ("queued", 41, "Resources")
    slurm.says((41, "RUNNING", FINETUNE, "n[1-2]"))
    write(f"{steps[FINETUNE].state}/ranks/progress", f"[{FINETUNE}] finetune: 40/600 steps  2/s  ETA 04:40  loss 0.6\n")
    facts = status(survey(jobs))
    assert facts["running"] == [
        {
            "job": FINETUNE,
            "phase": "finetune",
            "slurm_id": 41,
            "node": "n[1-2]",
            "reason": "",
            "progress": f"[{FINETUNE}] finetune: 40/600 steps  2/s  ETA 04:40  loss 0.6",
        }
    ]
    assert "41 n[1-2]  finetune password_match/nano/a/s0  finetune: 40/600 steps  2/s  ETA 04:40" in render(facts)


def test_a_block_of_rounds_is_called_what_its_driver_calls_itself(jobs, steps):
    spec = jobs.specs.rounds(jobs.grid.blocks[0])(SimpleNamespace(lineage=f"{CELL}/adv"))
    assert steps[FIRST_BLOCK].distributed_label == driver._label("adversarial_rounds", spec)


def test_a_distributed_job_whose_job_ended_waits_for_its_next_driver(slurm, jobs, steps):
    note(steps[FINETUNE], 41)
    slurm.says((41, "TIMEOUT"))
    assert look(jobs)[FINETUNE].state == "waiting"
    slurm.says()
    assert look(jobs)[FINETUNE].state == "waiting"


def test_a_distributed_job_without_a_note_yet_is_known_by_its_comment(slurm, jobs, steps):
    slurm.says((7, "RUNNING", FINETUNE, "n1"))
    assert look(jobs)[FINETUNE].live.slurm_id == 7


def test_slurm_without_an_answer_is_told_and_ends_nothing(slurm, jobs, steps):
    note(steps[FINETUNE], 41)
    slurm.fails()
    facts = status(survey(jobs))
    assert [job["slurm_id"] for job in facts["running"]] == [41]
    assert "Slurm does not answer (squeue: slurm_load_jobs error: no contact)" in render(facts)


def test_slurm_without_an_answer_does_not_matter_where_it_was_never_used(slurm, jobs):
    slurm.fails()
    assert status(survey(jobs))["slurm_problem"] is None
    Path(".snakemake/slurm_logs").mkdir(parents=True)
    assert "no contact" in status(survey(jobs))["slurm_problem"]


def test_jobs_of_the_executor_are_found_by_mark_or_comment(slurm, jobs, steps):
    attacks = [step for step in steps.values() if step.rule == "attack"][:4]
    mark(attacks[0], "50")
    mark(attacks[1], "60_1")  # of an array, which an earlier version submitted
    comment, elsewhere = attacks[2].slurm_comment, attacks[3].slurm_comment
    slurm.says(
        (50, "RUNNING", "", "n1"),
        (61, "RUNNING", attacks[1].slurm_comment, "n2"),
        (70, "PENDING", comment, "", "Priority"),
        (80, "RUNNING", elsewhere, "n9", "", "/another/study"),
    )
    seen = look(jobs)
    found = [(seen[s.label].state, seen[s.label].live and seen[s.label].live.slurm_id) for s in attacks]
    assert found == [("running", 50), ("running", 61), ("queued", 70), ("waiting", None)]


def test_ranks_of_this_machine_are_seen(jobs, steps):
    ranks_folder = Path(steps[FINETUNE].state).absolute() / "ranks"
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", str(ranks_folder / "submitit")])
    try:
        write(ranks_folder / "rank0.pid", str(sleeper.pid))
        seen = look(jobs)[FINETUNE]
        assert (seen.state, seen.live.node, seen.live.slurm_id) == ("running", socket.gethostname(), None)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert look(jobs)[FINETUNE].state == "waiting"


def test_a_failure_names_the_last_error_and_its_log(jobs, steps):
    step = steps[FINETUNE]
    write(step.log, f"[{FINETUNE}] error: first\nnoise error: no\n[{FINETUNE}] error: loss is nan\nTraceback\n")
    facts = status(survey(jobs))
    assert facts["failed"] == [{"job": FINETUNE, "phase": "finetune", "error": "loss is nan", "log": step.log}]
    assert f"loss is nan\n      {step.log}" in render(facts)
    make(step)
    assert look(jobs)[FINETUNE].state == "done"


def test_a_log_can_not_move_the_cursor(jobs, steps):
    write(steps[FINETUNE].log, "error: \x1b[2Jgone\n")
    text = render(status(survey(jobs)))
    assert "\x1b" not in text
    assert "\\x1b[2Jgone" in text


def test_a_log_without_an_error_is_of_an_interrupted_job(jobs, steps):
    write(steps[FINETUNE].log, f"[{FINETUNE}] finetune: 40/600 steps\nrank 0 stopping\n")
    assert look(jobs)[FINETUNE].state == "waiting"


@pytest.mark.parametrize("how", ["returned non-zero exit status 1", "died with <Signals.SIGKILL: 9>"])
def test_a_job_that_died_without_a_word_is_known_by_snakemakes_log(jobs, steps, how):
    step = steps[ATTACK]
    command = f"set -euo pipefail;  python attack.py --out x --log {step.log} --code 12"
    write(".snakemake/log/2026-01-01T000000.1.snakemake.log", f"RuleException:\nCommand '{command}' {how}.\n")
    assert look(jobs)[ATTACK].error == f"the command {how}"
    assert look(jobs)[FINETUNE].state == "waiting"


def test_a_failure_on_slurm_is_known_by_snakemakes_log_or_by_slurm(slurm, jobs, steps):
    attacks = [step for step in steps.values() if step.rule == "attack"][:2]
    block = (
        "[Sun Nov 22 02:30:44 2026]\nError in rule attack:\n"
        "    message: SLURM-job '15' failed, SLURM status is: 'OUT_OF_MEMORY'. For further error details see the log.\n"
        f"    jobid: 5\n    output: {attacks[0].outputs[0]}\n    log: {attacks[0].log}, x.log (check log file(s))\n\n"
    )
    write(".snakemake/log/2026-01-01T000000.1.snakemake.log", block)
    comment = attacks[1].slurm_comment
    slurm.says((16, "NODE_FAIL", comment, "n3"))
    seen = look(jobs)
    assert seen[attacks[0].label].error == "SLURM-job '15' failed, SLURM status is: 'OUT_OF_MEMORY'"
    assert seen[attacks[1].label].error == "Slurm job 16 ended as NODE_FAIL on n3"
    log = write(f".snakemake/slurm_logs/rule_attack/{attacks[1].name.replace('/', '_')}/16.log", "srun: error")
    assert [job["log"] for job in status(survey(jobs))["failed"]] == [attacks[0].log, str(log)]
    slurm.says((16, "CANCELLED", comment, "n3"))
    assert look(jobs)[attacks[1].label].state == "waiting"
    slurm.says((16, "NODE_FAIL", comment, "n3"), (17, "PENDING", comment))
    assert look(jobs)[attacks[1].label].live.slurm_id == 17


def test_the_controller_is_named(jobs):
    assert "controller: none" in render(status(survey(jobs)))
    control(alive=True)
    assert f"controller: host {socket.gethostname()}, pid {os.getppid()}" in render(status(survey(jobs)))
    assert status(survey(jobs))["controller"]["alive"] is True
    control(alive=False)
    assert status(survey(jobs))["controller"]["alive"] is False
    Path(".snakemake/controller.json").unlink()
    write(".snakemake/locks/0.input.lock", "x")
    assert status(survey(jobs))["controller"]["alive"] is None


# --- the estimate ---------------------------------------------------------------------------------------------------


def finished(steps, seconds):
    """Every heavy job done, each rule's in its seconds a unit, one after another; tables are not."""
    for step in steps.values():
        if step.phase in seconds:
            make(step, seconds=seconds[step.phase] * step.units)
        elif step.phase == "tasks":
            make(step)


SECONDS = {"base models": 1.0, "finetune": 100.0, "rounds": 50.0, "attacks": 10.0}


def test_the_rest_is_the_work_left_by_the_jobs_at_a_time(slurm, jobs, steps):
    finished(steps, SECONDS)
    assert estimate(survey(jobs).seen).seconds == 0
    attacks = [step for step in steps.values() if step.rule == "attack" and "/adv/" in step.name]
    for step in attacks:
        Path(step.outputs[0]).unlink()
    slurm.says(*[(number, "RUNNING", step.slurm_comment, "n1") for number, step in enumerate(attacks, 90)])
    found = estimate(survey(jobs).seen)
    assert found.work_seconds == pytest.approx(20)
    assert found.parallel == 2
    assert found.seconds == pytest.approx(10)


def test_a_chain_of_jobs_takes_at_least_its_length(jobs, steps):
    finished(steps, SECONDS)
    for step in (steps[f"adversarial_rounds_03_04 {CELL}/adv"], steps[f"attack {CELL}/adv/04/gcg"]):
        for output in step.outputs:
            Path(output).unlink()
    now = time.time()
    for step in steps.values():  # all else ran at once
        if Path(step.benchmark).exists():
            os.utime(step.benchmark, (now, now))
    found = estimate(survey(jobs).seen)
    assert found.parallel > 2
    assert found.work_seconds == found.seconds == pytest.approx(2 * 50 + 10)


def test_a_kind_that_has_never_finished_makes_the_estimate_unknown(jobs, steps):
    finished(steps, SECONDS)
    for step in steps.values():
        if step.rule == "attack" and step.kind[-1] == "gcg" and "/b/" in step.name:
            Path(step.outputs[0]).unlink()
    found = estimate(survey(jobs).seen)
    assert (found.seconds, found.work_seconds) == (None, None)
    assert found.why_unknown == "no finished job yet of attack nano b gcg (2 left)"


def test_a_shard_and_a_block_count_by_their_share(jobs, steps):
    finished(steps, SECONDS)
    shard = steps[f"attack {CELL}/none/00/random-token.2of2"]
    Path(shard.outputs[0]).unlink()
    assert estimate(survey(jobs).seen).work_seconds == pytest.approx(5)


# --- the entry ------------------------------------------------------------------------------------------------------


def test_the_entry_prints_text_and_json_quickly_and_without_torch(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-X", "importtime", str(root / "scripts/status.py"), "--directory", str(tmp_path)]
    done = subprocess.run([*command, "--json"], cwd=root, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert (facts["study"], facts["directory"]) == ("nano", str(tmp_path))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "transformers", "pandas", "pyarrow", "snakemake", "submitit"}
    assert list(tmp_path.iterdir()) == []
