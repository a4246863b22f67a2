"""A page opened in a real browser: what it does to itself, and whom it calls."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Only a hang takes so long.
_LIMIT_SECONDS = 600
#: Runs once everything is loaded; tells when the page's own script and all images have come to an end.
_TELLER = """<script>
addEventListener("load", async () => {
  let fault = "";
  try { await (async () => { %(script)s })(); } catch (error) { fault = String(error); }
  const ended = (image) => image.complete || new Promise((done) => {
    image.addEventListener("load", done);
    image.addEventListener("error", done);
  });
  await Promise.all([...document.images].map(ended));
  await new Promise((done) => setTimeout(done, 0));  // handlers of the last image come first
  const seen = [fault, document.title, document.documentElement.outerHTML].join("\\u0000");
  await fetch("%(address)s", {method: "POST", mode: "no-cors", body: seen});
});
</script></body>"""


@dataclass(frozen=True)
class Seen:
    """What a page has become: its title and its elements as text."""

    title: str
    dom: str


def visit(html: str, folder: Path, script: str = "") -> Seen:
    """Open a page from a file and let it tell, once it is loaded and at rest, what it has become.

    Args:
        html: the page; it has a body.
        folder: where the file is put.
        script: the body of an asynchronous function that runs in the loaded page first.
    """
    assert CHROMIUM is not None
    head, body, tail = html.rpartition("</body>")
    assert body, "a page without a body"
    told: list[bytes] = []
    there = threading.Event()

    def listen(path: str, content: bytes) -> None:
        told.append(content)
        there.set()

    page = folder / "page.html"
    with _listening(listen) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page.write_text(f"{head}{_TELLER % {'script': script, 'address': address}}{tail}", encoding="utf-8")
        with _browsing(page, Path(profile)) as process:
            end = time.monotonic() + _LIMIT_SECONDS
            while not there.wait(0.5):
                assert process.poll() is None, f"the browser left with status {process.returncode}"
                assert time.monotonic() < end, f"the page told nothing in {_LIMIT_SECONDS} s"
    fault, title, dom = told[0].decode("utf-8", "replace").split("\0", 2)
    assert not fault, fault
    return Seen(title, dom)


@contextlib.contextmanager
def _browsing(page: Path, profile: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A browser with a page, until the caller has seen enough."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    # A port of its own choice for debuggers, which nobody uses: without one it would leave at once.
    options += [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    command = [str(CHROMIUM), *options, page.absolute().as_uri()]
    with (
        (profile / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has left, and its helpers with it
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def beacon() -> Iterator[tuple[str, list[str]]]:
    """An address, and the list of requests that reach it."""
    asked: list[str] = []
    with _listening(lambda path, content: asked.append(path)) as address:
        yield f"{address}x.png", asked


@contextlib.contextmanager
def _listening(heard: Callable[[str, bytes], None]) -> Iterator[str]:
    """An address of this machine; what is asked there, and sent to it, is passed on."""

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.send_response(204)
            self.end_headers()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
