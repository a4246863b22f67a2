"""Rendering chat templates, which are code of strangers: in a process of its own, within time, memory and length."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from hardscale.models import render_worker
from hardscale.models.chat_templates import chosen_template

_lock = threading.Lock()
_process: subprocess.Popen[str] | None = None
_owner = 0
#: Templates that ended the process: they are not tried again.
_stopped: set[str] = set()


#: Templates that write today's date would differ from day to day.
_DATE = "26 Jul 2024"
_DATE_MACRO = "{%- macro strftime_now(format) -%}" + _DATE + "{%- endmacro -%}"
Message = tuple[str, str]


class RenderingError(ValueError):
    """A template refuses what it is given, or takes more than it may."""


def render(
    source: str, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool, variables: Mapping[str, Any]
) -> str:
    """A conversation as a template writes it: what transformers' ``apply_chat_template`` gives.

    Args:
        source: of the template.
        messages: with ``role`` and ``content``.
        add_generation_prompt: whether it goes on to where a reply begins.
        variables: further names that the template may use, such as the special tokens.

    Raises:
        RenderingError: the template is malformed, raises, takes more CPU time than it may, or writes without end.
    """
    given = {"messages": list(messages), "tools": None, "documents": None, **variables}
    line = json.dumps({"source": source, "values": {**given, "add_generation_prompt": add_generation_prompt}})
    with _lock:
        found = _asked(source, line)
    if "error" in found:
        raise RenderingError(found["error"])
    return str(found["text"])


def _asked(source: str, line: str) -> dict[str, str]:
    if source not in _stopped:
        process = _running()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.write(line + "\n")
            process.stdin.flush()
        answered = process.stdout.readline()
        if answered.endswith("\n"):
            found: dict[str, str] = json.loads(answered)
            return found
        _stop()
        _stopped.add(source)
    return {"error": f"it takes more than {render_worker.CPU_SECONDS:g} s of CPU time, or ends its process"}


def _running() -> subprocess.Popen[str]:
    """The process of this one: not that of a parent that was forked."""
    global _process, _owner
    if _process is None or _owner != os.getpid() or _process.poll() is not None:
        _process = subprocess.Popen(
            [sys.executable, "-P", render_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        _owner = os.getpid()
    return _process


@atexit.register
def _stop() -> None:
    """End the process, if there is one of ours."""
    global _process
    process, _process = _process, None
    if process is None or _owner != os.getpid():
        return
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.kill()
    process.wait()


def rendered(tokenizer: Any, turns: Sequence[Message], reply: bool) -> str:
    """A conversation as the tokenizer's template writes it, with the special tokens that it writes.

    Args:
        tokenizer: with a chat template.
        turns: (role, content) pairs.
        reply: whether it goes on to where a reply begins.

    Raises:
        ModelError: the tokenizer has no template, or several without a default.
        RenderingError: the template refuses these turns, or takes more than it may.
    """
    source = chosen_template(tokenizer.chat_template, tokenizer.name_or_path or type(tokenizer).__name__)
    messages = [{"role": role, "content": content} for role, content in turns]
    variables = {**tokenizer.special_tokens_map, "date_string": _DATE}
    return render(_DATE_MACRO + source if "strftime_now" in source else source, messages, reply, variables)
