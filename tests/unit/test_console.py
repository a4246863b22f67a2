"""What a job shows: one line for an error, sparse progress off a terminal, the rest in the log."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
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


def test_work_that_an_earlier_run_did_counts_as_done_and_not_for_the_rate(tmp_path):
    body = "import time\np = Progress(101, 'train', interval=0)\np.done = 99\ntime.sleep(0.5)\np.update()\np.close()"
    first, last = run(body, tmp_path)[0].stderr.splitlines()
    assert first.startswith("[job] train: 100/101 steps  ")
    rate = re.search(r" ([\d.]+)step/s ", first)
    assert rate is None or float(rate[1]) <= 2.0  # below one a second it is seconds a step
    assert last == "[job] train: 100/101 steps in 00:00"


def test_the_environment_does_not_stop_the_counting(tmp_path, monkeypatch):
    body = "os.environ['TQDM_DISABLE'] = '1'\np = Progress(3, 'train')\np.update(2)\np.close()"
    assert run(body, tmp_path)[0].stderr == "[job] train: 2/3 steps in 00:00\n"


@pytest.mark.parametrize("columns", [0, 60, 100])
def test_a_terminal_shows_one_line_that_changes_and_is_cleared(tmp_path, columns):
    """With no more columns than it has; a terminal of unknown width is as wide as need be."""
    code = (
        "import time\nfrom hardscale.runtime import console\nconsole._BAR_SECONDS = 0\n"
        "with console.console(None, 'job'):\n"
        "    first = console.Progress(9, 'never closed')\n    first.update()\n"
        "    p = console.Progress(4, 'train {x}')\n"
        "    for i in range(4): time.sleep(0.01); p.update(loss=i / 3)\n"
        "    p.close(loss=1.0)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30 if columns else 0, columns, 0, 0))
    env = {"PYTHONPATH": str(ROOT / "scripts"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, env=env)
    os.close(theirs)
    text = ""
    while True:
        try:
            text += os.read(ours, 65536).decode()
        except OSError:  # the last writer is gone
            break
    os.close(ours)
    shown = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\n", "\r").split("\r") if line.strip()]
    bars = [line for line in shown if line.startswith("[job] train {x} |")]
    assert len(bars) == 4 and "\x1b" not in text
    assert all("█" in bar for bar in bars)
    assert all(len(bar) < columns for bar in bars) or not columns
    if columns != 60:
        assert all("ETA" in bar and f"{n}/4 steps" in bar for n, bar in enumerate(bars, 1))
        assert bars[-1].endswith(", loss 1")
    assert "[job] train {x}: 4/4 steps in 00:00  loss 1" in shown[-1]
    assert text.replace("\r\n", "\n").count("\n") == 1
