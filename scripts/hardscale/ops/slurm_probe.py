"""Runs on a node: what it sees of the head's folder, of Python, of the library, of the data and of the disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hardscale.artifacts.atomic import write_whole

ANSWER = "answer.json"
#: Environment variables that name a file or folder which jobs read.
PLACES = ("HARDSCALE_DATA", "HARDSCALE_SITE")


def look() -> dict[str, Any]:
    """Facts about this node."""
    answer: dict[str, Any] = {
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "python": sys.version.split()[0],
        "time": time.time(),
        "free_mb": shutil.disk_usage(".").free // 10**6,
        "places": {name: [os.environ.get(name, ""), Path(os.environ.get(name, "")).exists()] for name in PLACES},
    }
    try:
        import torch

        import hardscale.settings.study

        answer["torch"] = str(torch.__version__)
        answer["gpus"] = torch.cuda.device_count()
        answer["library"] = str(Path(hardscale.settings.study.__file__).parent)
    except Exception as error:  # whatever is wrong with an installation
        answer["error"] = f"{type(error).__name__}: {error}"
    return answer


def main(folder: Path) -> None:
    """Write the answer, whole or not at all."""
    write_whole(folder / ANSWER, json.dumps(look()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
