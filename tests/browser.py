"""A page opened in a real browser: what it does to itself, and whom it calls."""

from __future__ import annotations

import contextlib
import http.server
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Only a hang takes so long.
_LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Seen:
    """What a page has become: its title and its elements as text."""

    title: str
    dom: str


def visit(page: Path) -> Seen:
    """Open a page and let its scripts run until nothing is left to do."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
        ]
        command = [CHROMIUM, *options, "--virtual-time-budget=20000", "--dump-dom", page.absolute().as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_SECONDS, check=True)
    dom = done.stdout.decode("utf-8", "replace")
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    return Seen(title[1] if title else "", dom)


@contextlib.contextmanager
def beacon() -> Iterator[tuple[str, list[str]]]:
    """An address, and the list of requests that reach it."""
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/x.png", asked
        finally:
            server.shutdown()
