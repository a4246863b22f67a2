"""Prepare a task: generate or read its examples and publish them as a folder with two parquet tables.

Example:
    python scripts/prepare_task.py --out /tmp/task --spec '{"name": "password_match", "settings": {}, "seed": 0}'
"""

from __future__ import annotations

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
import os
from pathlib import Path

from pydantic import ValidationError

from hardscale.artifacts.manifest import artifact_folder
from hardscale.errors import StudyError
from hardscale.runtime.console import console, say
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.study_attacks import parse_task
from hardscale.settings.tasks import TaskSettings
from hardscale.settings.words import first_problem
from hardscale.tasks.build import prepare_task
from hardscale.tasks.data import load_task


def read_spec(text: str) -> tuple[str, TaskSettings | ChatTaskSettings, int]:
    """Name, settings and seed of a JSON object ``{"name", "settings", "seed"}``."""
    try:
        spec = json.loads(text)
        return str(spec["name"]), parse_task(spec.get("settings", {})), int(spec["seed"])
    except ValidationError as error:
        raise StudyError(f"--spec: settings.{first_problem(error, spec['settings'])}; see docs/study.md") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(f'--spec: expected JSON {{"name": …, "settings": {{…}}, "seed": …}} ({error!r})') from error


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="JSON object with name, settings and seed")
    parser.add_argument("--out", required=True, type=artifact_folder, help="folder to publish")
    parser.add_argument(
        "--root", default=os.environ.get("HARDSCALE_DATA"), help="data root in hub layout; '' for the hub"
    )
    parser.add_argument("--log", type=Path, help="file for everything that is not progress")
    args = parser.parse_args()
    with console(args.log, label="prepare_task"):
        name, settings, seed = read_spec(args.spec)
        prepare_task(name, settings, seed, Path(args.root).expanduser() if args.root else None, args.out)
        facts = load_task(args.out).facts
        what = "behaviors" if isinstance(settings, ChatTaskSettings) else "examples"
        say(f"{name}: {facts['n_train']} training and {facts['n_validation']} validation {what} ({facts['source']})")


if __name__ == "__main__":
    main()
