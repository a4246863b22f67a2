"""``benchmarks/house.py`` counts what it says, in this checkout and in a small one whose numbers are known."""

import json
import subprocess
import sys

import pytest

from study_runs import ROOT

SCRIPT = ROOT / "benchmarks" / "house.py"
FILES = {
    "Snakefile": "from hardscale.plan.jobs import (\n    Jobs,\n)\n\nrule all:\n    input: Jobs.targets\n",
    "workflow/rules/attack.smk": "rule attack:\n    output: 'x'\n",
    "scripts/attack.py": "def main():\n    import hardscale.evaluation.chat_attack_job\n    import hardscale.errors\n",
    "scripts/hardscale/__init__.py": "",
    "scripts/hardscale/errors.py": "class Wrong: ...\n",
    "scripts/hardscale/plan/jobs.py": "from hardscale import errors\n\n\nclass Jobs: ...\n",
    "scripts/hardscale/evaluation/attack_job.py": "def run():\n    from hardscale.attacks import base\n",
    "scripts/hardscale/evaluation/chat_attack_job.py": "import hardscale.chat\n",
    "scripts/hardscale/chat.py": "class Jobs: ...\n",
    "scripts/hardscale/attacks/base.py": "# shared\n" * 301,
    "scripts/hardscale/attacks/gcg.py": "from hardscale.attacks.base import x\n",
    "scripts/hardscale/attacks/beast.py": "from hardscale.attacks.base import x\n",
    "scripts/hardscale/instruction_set.py": "NATIVE = 1\n",
    "scripts/hardscale/digest.py": "def closure(names, root):\n    return {n: '' for n in names if 'job' not in n}\n",
}


def counted(*roots):
    command = [sys.executable, str(SCRIPT), "--json", *(word for root in roots for word in ("--root", str(root)))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def small(tmp_path):
    """The layout of earlier versions: no rooms, the digest at the top."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_small_house_is_counted(small):
    assert counted(small)[str(small)] == {
        # attack.py, and of the modules that are named the two that the checkout's own digest covers
        "GCG job, code digest: files": 3,
        "GCG job, code digest: lines": 3 + 1 + 1,
        # attack.py, errors, attack_job, gcg, base, instruction_set: neither chat nor BEAST
        "GCG job, all imports: files": 6,
        "GCG job, all imports: lines": 3 + 1 + 2 + 1 + 301 + 1,
        # and the Snakefile, attack.smk, plan.jobs
        "from YAML to GCG rows: files": 9,
        "from YAML to GCG rows: lines": 309 + 6 + 2 + 4,
        "library: files": 10,
        "library: lines": 1 + 4 + 2 + 1 + 1 + 301 + 1 + 1 + 1 + 2,
        "library: median lines": 1.0,
        "library: most lines": 301,
        "library: files over 300 lines": 1,
        "library: files under 40 lines": 9,
        "library: class names twice": 1,
        # plan.jobs, chat_attack_job and chat
        "library: files with one importer": 3,
    }


def test_this_house_is_counted_beside_another(small):
    found = counted(small, ROOT)
    here = found[str(ROOT)]
    assert here.keys() == found[str(small)].keys()
    # Numbers move with every commit; what holds of all of them does not.
    assert 10 < here["GCG job, code digest: files"] < here["GCG job, all imports: files"]
    assert here["GCG job, all imports: files"] < here["from YAML to GCG rows: files"] < here["library: files"]
    table = subprocess.run(
        [sys.executable, str(SCRIPT), "--root", str(small), "--root", str(ROOT), "--names"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f"| library: files | 10 | {here['library: files']:,} |" in table
    assert "class Jobs: chat, plan.jobs" in table


def test_what_is_no_checkout_is_named(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), "--root", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
