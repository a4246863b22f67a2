"""A process of its own in which chat templates, code of strangers, are run within limits. Imports nothing of ours.

Each line of standard input asks for one rendering, each line of standard output answers it. The environment is that of
transformers' ``apply_chat_template``: what it renders is the same. Time that one rendering may take is told by a timer
that ends the process, whatever code it is in; memory by the operating system.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import signal
import sys
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

#: CPU seconds of a rendering, bytes of memory of the process, and characters beyond what went in, times some.
CPU_SECONDS, MEMORY_BYTES, MOST_CHARACTERS, GROWTH = 0.8, 512 * 1024**2, 1_000_000, 20


class GenerationTag(jinja2.ext.Extension):
    """The tag by which templates mark what a model writes; here it marks nothing."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own attribute

    def parse(self, parser: Any) -> Any:
        """The marked part as it is, called as a block so that names within it stay its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Any) -> Any:
        return caller()


class Namespace(jinja2.utils.Namespace):
    """A namespace that keeps no name with an underscore at its head."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        """As Jinja's own."""
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class Dictionary:
    """What templates may do with ``dict``."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """A new one."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """One of keys alone."""
        return dict.fromkeys(*args, **kwargs)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError("chat templates keep no names with an underscore at their head")


def _raise_exception(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(str(message))


def _to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, **more)


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": Dictionary(),
        "namespace": Namespace,
    }
    return made


_ENVIRONMENT = environment()


@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)


def answer(line: str) -> dict[str, str]:
    """``{"text": rendered}`` or ``{"error": reason}`` for a request ``{"source": ..., "values": ...}``."""
    try:
        asked = json.loads(line)
        text = _compiled(asked["source"]).render(**asked["values"])
        if len(text) > MOST_CHARACTERS + GROWTH * len(line):
            return {"error": f"it renders {len(text):,} characters"}
    except MemoryError:
        return {"error": "it takes too much memory"}
    except RecursionError:
        return {"error": "it is nested or calls itself too deeply"}
    except Exception as error:
        reason = "".join(c for c in " ".join(str(error).split()) if c.isprintable())
        return {"error": reason[:200] or type(error).__name__}
    return {"text": text}


def main() -> None:
    """Answer until standard input ends."""
    for limit, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is told, and ends the input
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        found = json.dumps(answer(line))
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.write(found + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
