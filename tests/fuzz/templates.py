"""Broken and hungry chat templates for the fuzzer: each renders, or is refused in one line, in no time.

Right templates of several styles are put together with pieces that loop, grow, recurse, reach for what they must not,
and with marks of the language where they do not belong. What was not broken renders what transformers renders.
"""

from __future__ import annotations

import random
import resource
import time
import traceback
from dataclasses import dataclass

from hardscale.errors import HardscaleError
from hardscale.models.chat_templates import check_syntax, chosen_template
from hardscale.models.rendering import RenderingError, render

#: CPU seconds that a case may take, those of the process that renders it included.
LIMIT = 2.0
MESSAGES = [
    {"role": "user", "content": "Write the word apple."},
    {"role": "assistant", "content": "apple"},
    {"role": "user", "content": "And pear?"},
]
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "date_string": "26 Jul 2024"}
RIGHT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{{ bos_token }}{%- for message in messages %}{%- if message['role'] == 'user' %}[INST] "
    "{{ message['content'] | trim }} [/INST]{%- else %} {{ message['content'] + eos_token }}{%- endif %}{%- endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if (m['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
    "{{ ns.n }}",
    "{% macro turn(m) %}{{ m.role }}: {{ m.content }}\n{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "{% for m in messages %}{{ m | tojson }}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
)
PIECES = (
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ [0] * 10**8 }}",
    "{{ 7 ** (9 ** 9) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ 'x' | center(10**10) }}",
    "{% set n = namespace(x='aaaa') %}{% for i in range(70) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro b(n) %}{% if n %}{{ b(n - 1) }}{{ b(n - 1) }}{% endif %}{% endmacro %}{{ b(60) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends messages[0].content %}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ messages.clear() }}",
    "{{ messages.x.y }}",
    "{{ raise_exception(messages) }}",
    "{{ 1 // 0 }}",
    "{{ '\x1b[31m' }}",
    "{{ {}[[]] }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{% if true %}" * 200,
    "{{ '{:>9999999999}'.format(1) }}",
    "{{ cycler }}{{ lipsum(n=10**9) }}",
    "{% for i in range(99999) %}{{ messages }}{% endfor %}",
    "{{ strftime_now('%' * 9999) }}",
)
_MARKS = ("{%", "%}", "{{", "}}", "{#", "#}", "'", '"', "\0", "\ud800", "\u2028", "-", "|", "endfor", "\r", "((")


@dataclass(frozen=True)
class Case:
    """A template.

    Attributes:
        template: whatever stands where a template is looked for.
        broken: whether it was.
    """

    template: object
    broken: bool


def cases(seed: int, n: int) -> list[Case]:
    """The first ``n`` cases of a seed."""
    rng = random.Random(seed)
    return [_case(rng) for _ in range(n)]


def check(case: Case) -> str | None:
    """What is wrong with how a case is rendered; None if nothing is."""
    began, error, text = _spent(), None, ""
    try:
        source = chosen_template(case.template, "model")
        check_syntax(source, "model")
        text = render(source, MESSAGES, True, VARIABLES)
    except BaseException as found:
        error = found
    seconds, shown = _spent() - began, repr(case.template)[:160]
    if seconds > LIMIT:
        return f"{shown}: {seconds:.1f} CPU-s"
    if error is None:
        return None if case.broken or text == _expected(str(case.template)) else f"{shown}: renders {text!r:.200}"
    if not isinstance(error, HardscaleError | RenderingError):
        return f"{shown}: {type(error).__name__} at {traceback.extract_tb(error.__traceback__)[-1]}"
    if not case.broken:
        return f"{shown}: refused what is right: {error}"
    return None if str(error) and str(error).isprintable() else f"{shown}: not one printable line"


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _expected(template: str) -> str:
    """By transformers itself."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template([MESSAGES], chat_template=template, add_generation_prompt=True, **VARIABLES)
    return str(rendered[0])


def _case(rng: random.Random) -> Case:
    right = rng.choice(RIGHT)
    kind = rng.choice(("right", "piece", "piece", "mark", "mark", "mark", "less", "cut", "other"))
    if kind == "right":
        return Case(right, broken=False)
    if kind == "other":
        return Case(
            rng.choice((None, "", 3, {}, [], {"a": right, "b": right}, [{"name": 1}], ["x"], "x" * 10**6)), True
        )
    at = rng.randrange(len(right) + 1)
    if kind == "piece":
        return Case(right[:0] + rng.choice(PIECES) + right, broken=True)
    if kind == "mark":
        for _ in range(rng.choice((1, 1, 2, 5))):
            right = right[:at] + rng.choice(_MARKS) + right[at:]
            at = rng.randrange(len(right) + 1)
        return Case(right, broken=True)
    return Case(right[:at] + (right[at + rng.choice((1, 3, 9)) :] if kind == "less" else ""), broken=True)
