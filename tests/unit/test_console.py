"""What a job shows: one line for an error, sparse progress off a terminal, the rest in the log."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(body: str, tmp_path, log=True):
    code = (
        "import sys, os; from pathlib import Path\nfrom hardscale.runtime.console import console, Progress, say\n"
        "from hardscale.errors import DataError\n"
        f"with console(Path({str(tmp_path / 'log.txt')!r}) if {log} else None, 'job'):\n"
        + textwrap.indent(body, "    ")
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "scripts"), "PATH": "/usr/bin:/bin"},
    )
    text = (tmp_path / "log.txt").read_text() if log else ""
    return done, text


def test_an_expected_error_is_one_line_and_status_1(tmp_path):
    done, log = run("raise DataError('a.csv: no column x')", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "[job] error: a.csv: no column x\n"
    assert "Traceback" in log


def test_an_unexpected_error_is_one_line_that_names_the_log(tmp_path):
    done, log = run("1 / 0", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "ZeroDivisionError" in done.stderr
    assert "log.txt" in done.stderr
    assert "Traceback" in log


def test_library_noise_goes_to_the_log(tmp_path):
    done, log = run("print('out'); os.system('echo child'); sys.stderr.write('err\\n'); say('told')", tmp_path)
    assert (done.stdout, done.stderr) == ("", "[job] told\n")
    for word in ("out", "child", "err", "told"):
        assert word in log


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    done, _ = run("raise DataError('bad \\x1b[2J\\x07 cell')", tmp_path)
    assert "\x1b" not in done.stderr
    assert "\\x1b[2J" in done.stderr


@pytest.mark.parametrize("log", [True, False])
def test_progress_off_a_terminal_is_sparse_with_rate_and_eta(tmp_path, log):
    body = "p = Progress(100, 'train', interval=0)\nfor n in (50, 25, 25): p.update(n, loss=0.5)\np.close(loss=0.25)"
    done, _ = run(body, tmp_path, log)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("[job] train: 50/100 steps  ")
    assert "ETA" in lines[0]
    assert lines[-1].startswith("[job] train: 100/100 steps in 00:0")
    quiet, _ = run("p = Progress(100, 'train')\nfor _ in range(100): p.update()\np.close()", tmp_path, log)
    assert len(quiet.stderr.splitlines()) == 1
