"""lm-evaluation-harness in an interpreter of its own: where that is, where its tasks are, and asking it.

Its packages need not agree with ours: a worker that knows nothing of hardscale runs there and answers in JSON. No torch
and no transformers here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from hardscale.errors import DataError
from hardscale.tasks import hub
from hardscale.tasks.locate import check_root

#: Environment variable that names the interpreter.
PYTHON = "HARDSCALE_LM_EVAL_PYTHON"
_WORKER = Path(__file__).with_name("lm_eval_worker.py")
#: Variables that would show another interpreter the packages of this one.
_OF_THIS_INTERPRETER = ("PYTHONPATH", "PYTHONHOME")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def interpreter(named: str | None = None) -> Path:
    """The interpreter of the worker.

    Args:
        named: by the study; else ``HARDSCALE_LM_EVAL_PYTHON`` is looked at, else it is this one.
    """
    where = named or os.environ.get(PYTHON) or sys.executable
    found = shutil.which(where) if "/" not in where else None
    # Not resolved: the interpreter of a virtual environment is a link, and is that environment by its own place.
    return Path(found or where).expanduser().absolute()


def task_folder(include_path: str | None, root: Path | None) -> Path | None:
    """The folder of further tasks, from the working directory or from the data root; None where none is named.

    Raises:
        DataError: it is not there.
    """
    if include_path is None:
        return None
    check_root(root)
    places = [Path(include_path).expanduser(), *([root / include_path] if root else [])]
    for place in places:
        if place.is_dir():
            return place.absolute()
    looked = " or ".join(str(place) for place in places)
    raise DataError(
        f"utility.lm_eval.include_path: {include_path!r} is no folder (looked for {looked}); fix it in the study, or "
        "data.root"
    )


def ask_worker(
    python: Path, mode: Literal["check", "run"], request: dict[str, Any], timeout: float | None = None
) -> dict[str, Any]:
    """What the worker answers; ``error`` and ``message`` where it could not. See its own docstring for both.

    Args:
        python: the interpreter.
        mode: what to do.
        request: the question.
        timeout: seconds that it may take.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_THIS_INTERPRETER}
    if not hub.reachable():
        environment |= _OFFLINE
    with tempfile.TemporaryDirectory(prefix="hardscale-lm-eval-") as place:
        asked, answered = Path(place) / "request.json", Path(place) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = [str(python), str(_WORKER), mode, str(asked), str(answered)]
        # Its words go to the log of a job; a check before any job has none.
        voice = subprocess.DEVNULL if mode == "check" else None
        try:
            done = subprocess.run(command, env=environment, stdout=voice, stderr=voice, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return {"error": "failed", "message": f"no answer within {timeout:.0f} seconds"}
        except OSError as error:
            return {"error": "python", "message": error.strerror or str(error)}
        return _read(answered, done.returncode)


def _read(path: Path, status: int) -> dict[str, Any]:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"error": "failed", "message": f"it ended with status {status} and without an answer"}
    except ValueError as error:
        return {"error": "failed", "message": f"its answer is not JSON ({error})"}
    return answer if isinstance(answer, dict) else {"error": "failed", "message": "its answer is not a JSON object"}


def worker_problem(python: Path, answer: dict[str, Any]) -> str | None:
    """The line for an answer that is an error, with the next step; None for any other."""
    if "error" not in answer:
        return None
    message = " ".join(str(answer.get("message", "")).split())[:300]
    if answer["error"] == "import":
        return (
            f"utility.lm_eval: {python} has no usable lm_eval ({message}); install the packages of envs/lm-eval.yaml "
            f"there, or name another interpreter by utility.lm_eval.python or {PYTHON}"
        )
    if answer["error"] == "python":
        return f"utility.lm_eval: {python} cannot be run ({message}); name an interpreter by {PYTHON}"
    return f"utility.lm_eval: lm_eval in {python} failed ({message}); fix the tasks, or see docs/chat.md"
