"""Distributed jobs: environment, progress, the first error, death of a rank, of the driver, requeueing."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hardscale.errors import TrainingError
from hardscale.launch import rank as rank_module
from hardscale.launch.arguments import outputs, parser, read_spec
from hardscale.launch.driver import run_ranks
from hardscale.launch.local import LocalRanks
from hardscale.launch.watch import late_rank
from waiting import HANG_SECONDS, wait_until

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "scripts"


@pytest.fixture(autouse=True)
def light_worker(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))


def launched(job, tmp_path, ranks=2, **more):
    run_ranks([job, str(tmp_path)], ranks, tmp_path / "state", "local", "test", worker="launch_worker", **more)


def ranks_alive(tmp_path):
    mark = os.fsencode(str(tmp_path / "state"))
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if rank_module.lives(pid)]


def test_ranks_get_their_environment_and_the_terminal_shows_rank_0(tmp_path, monkeypatch):
    log = tmp_path / "job.log"
    terminal = io.StringIO()
    monkeypatch.setattr("hardscale.runtime.console._terminal", terminal)
    launched("works", tmp_path, threads=3, log=log)
    meeting = tmp_path / "state" / "ranks" / "meeting"
    assert [(tmp_path / f"rank{r}").read_text() for r in range(2)] == [f"2 {r} {meeting} 3" for r in range(2)]
    assert terminal.getvalue().count("[test] a line for the terminal") == 1
    text = log.read_text()
    assert "a library's line of rank 0" in text and "a library's line of rank 1" in text
    assert not (tmp_path / "state").exists()
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "3"


def test_the_first_error_ends_the_others_and_is_the_message(tmp_path):
    with pytest.raises(TrainingError, match=r"rank 1 of 2 failed; its last line: loss is not finite at step 3"):
        launched("fails", tmp_path)
    assert not ranks_alive(tmp_path)  # the other one would never end


@pytest.mark.parametrize("job", ["hangs in a collective", "hangs before a meeting"])
def test_the_rank_that_others_wait_for_in_vain_is_named_with_its_place(job, tmp_path):
    log = tmp_path / "job.log"
    place = r"rank 1 of 2 made no progress .* it was in stand_still, .*launch_worker.py:\d+; the stacks .*job.log"
    with pytest.raises(TrainingError, match=place):
        launched(job, tmp_path, log=log)
    assert not ranks_alive(tmp_path)
    first, second = log.read_text().split("--- rank1.log\n")
    waits_in = "in all_reduce" if job == "hangs in a collective" else "/training/meeting.py"
    assert "Timeout (" in first and waits_in in first and "stand_still" not in first
    assert "Timeout (" in second and "in stand_still" in second


def test_stacks_name_no_rank_when_all_wait_for_each_other_or_nothing_is_known(tmp_path):
    waiting = (
        "Timeout (0:00:03)!\nThread 0x00007f00 (most recent call first):\n"
        '  File "/x/torch/distributed/distributed_c10d.py", line 9 in all_reduce\n'
        '  File "/x/train.py", line 7 in main\n\nThread 0x00007f01 (most recent call first):\n'
        '  File "/x/train.py", line 3 in run\n'
    )
    (tmp_path / "rank0.log").write_text("a line\n" + waiting + "error: timed out\n")
    (tmp_path / "rank1.log").write_text(waiting)
    assert late_rank(tmp_path, 3) is None
    # An old dump of work that then went on counts no more than the last one.
    (tmp_path / "rank2.log").write_text(waiting + waiting.replace("torch/distributed", "mine").replace("all", "ill"))
    assert late_rank(tmp_path, 3) == (2, "run, /x/train.py:3")


def test_stacks_that_come_late_are_waited_for_to_their_end(tmp_path, monkeypatch):
    head = "Timeout (0:00:03)!\nThread 0x00007f00 (most recent call first):\n"
    helper = f'{head}  File "/x/prefetch.py", line 3 in fetch\n'
    whole = f'{helper}\nThread 0x00007f01 (most recent call first):\n  File "/x/train.py", line 7 in step\n'
    (tmp_path / "rank0.log").write_text(f'{head}  File "/x/torch/distributed/c10d.py", line 9 in all_reduce\n')
    states = iter(["", helper, whole])

    def write_more(seconds):
        (tmp_path / "rank1.log").write_text(next(states, whole))

    monkeypatch.setattr("hardscale.launch.watch.time.sleep", write_more)
    watch = LocalRanks.__new__(LocalRanks)
    watch.ranks_folder, watch.ranks = tmp_path, 2
    assert watch._late_rank() == (1, "step, /x/train.py:7")


def test_with_one_rank_the_error_is_as_the_rank_said_it(tmp_path):
    with pytest.raises(TrainingError, match=r"^loss is not finite at step 3"):
        launched("fails", tmp_path, ranks=1)
    with pytest.raises(TrainingError, match=r"^ValueError: a bug"):
        launched("crashes", tmp_path, ranks=1)


def test_a_killed_rank_is_named_with_its_last_line(tmp_path):
    log = tmp_path / "job.log"
    with pytest.raises(TrainingError, match=r"rank 1 of 2 died without an error message.*last line: about to die"):
        launched("dies", tmp_path, log=log)
    assert not ranks_alive(tmp_path)
    assert "a library's line of rank 1" in log.read_text()


def test_code_85_starts_the_distributed_job_again(tmp_path):
    launched("again", tmp_path, ranks=1)
    assert (tmp_path / "second").exists()


def test_debug_runs_in_this_process_and_alone(tmp_path, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("OMP_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    run_ranks(["works", str(tmp_path)], 1, tmp_path / "state", "debug", "test", worker="launch_worker")
    assert (tmp_path / "rank0").exists()
    with pytest.raises(TrainingError, match="ranks: 2"):
        run_ranks(["works", str(tmp_path)], 2, tmp_path / "state", "debug", "test", worker="launch_worker")


def driver(job, tmp_path):
    code = (
        "import sys; from pathlib import Path; from hardscale.runtime.console import console\n"
        "from hardscale.launch.driver import run_ranks\n"
        f"with console(None, 'test'): run_ranks([{job!r}, {str(tmp_path)!r}], 2, Path({str(tmp_path / 'state')!r}),"
        " 'local', 'test', worker='launch_worker')"
    )
    paths = os.pathsep.join([str(SCRIPTS), str(HERE)])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (tmp_path / "rank0").exists() and (tmp_path / "rank1").exists(), "the ranks", [process])
    return process


@pytest.mark.parametrize(("signum", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_driver_that_is_told_to_stop_lets_ranks_save(tmp_path, signum, whole_group):
    process = driver("saves", tmp_path)
    (os.killpg if whole_group else os.kill)(process.pid, signum)
    assert process.wait(HANG_SECONDS) == 128 + signum
    assert (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists()
    assert not ranks_alive(tmp_path)


def test_ranks_notice_that_their_driver_was_killed(tmp_path):
    process = driver("saves", tmp_path)
    process.kill()
    process.wait()
    wait_until(lambda: (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists())
    wait_until(lambda: not ranks_alive(tmp_path))


def test_a_second_driver_waits_for_the_orphans_of_the_first(tmp_path):
    process = driver("saves", tmp_path)
    process.kill()
    process.wait()
    launched("works", tmp_path)  # would meet the old ranks otherwise
    assert (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists()
    assert not ranks_alive(tmp_path)


def test_a_driver_imports_nothing_heavy():
    code = (
        "import sys; import hardscale.launch.driver, submitit; from pathlib import Path\n"
        "heavy = [m for m in ('torch', 'numpy', 'pandas', 'pydantic', 'pyarrow', 'transformers') if m in sys.modules]\n"
        "print(heavy, Path('/proc/self/status').read_text().split('VmRSS:')[1].split()[0])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True
    )
    heavy, memory_kb = out.stdout.decode().rsplit(" ", 1)
    assert heavy == "[]"
    assert int(memory_kb) < 60_000


def test_specs_are_json_or_a_file(tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps({"ranks": 2}))
    assert read_spec(str(tmp_path / "spec.json")) == read_spec(' {"ranks": 2}') == {"ranks": 2}
    for wrong in ("nowhere.json", "{broken"):
        with pytest.raises(TrainingError, match="--spec"):
            read_spec(wrong)


def test_options_of_the_three_jobs():
    common = ["--spec", "{}", "--task", "t", "--state", "s"]
    rounds = parser("adversarial_rounds").parse_args([*common, "--start", "m/manifest.json", "--out", "models"])
    assert rounds.start == Path("m")
    spec = {"first_round": 9, "last_round": 10}
    assert outputs("adversarial_rounds", spec, rounds.out) == [Path("models/r09"), Path("models/r10")]
    assert outputs("finetune", {}, Path("out")) == [Path("out")]
    several = parser("pretrain").parse_args([*common, "--base", "b", "--out", "o", "--task", "a", "b"])
    assert several.task == [Path("a"), Path("b")]
    assert parser("finetune").parse_args([*common, "--base", "b", "--out", "o"]).zero_stage == 0
