"""Changes to the text of a study file: what breaks YAML, what YAML reads otherwise than meant, what costs a reader."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from raw_bytes import flipped, inserted, some_place

#: Put anywhere.
MARKS = (
    *(bytes([one]) for one in b"\0\t\r\n\x1b\x07\x7f\x85:-#[]{}'\"|>&*!%@`,?\\"),
    *(b"\xff", b"\xfe", b"\xc3", b"\xe2\x80\xa8", b"\xc2\x85", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\r\n", b"---\n", b"...\n", b"<<: ", b"? ", b"!!", b"{{", b"}}"),
)
#: Put in the place of a value.
SCALARS = (
    *(b"12:30:45", b"190:20:30", b"2001-01-01", b"2001-99-99", b"2001-01-01T99:00:00", b"0o17", b"017", b"0b1", b"1_0"),
    *(
        b".inf",
        b"-.INF",
        b".nan",
        b"1e5",
        b"1.e+400",
        b"9" * 5000,
        b"0x" + b"f" * 5000,
        b"~",
        b"null",
        b"yes",
        b"off",
        b"=",
    ),
    *(b"!!int x", b"!!float x", b"!!python/object/apply:os.system [id]", b"!!python/name:os.system", b"!!timestamp x"),
    *(
        b"!!binary x",
        b"!!binary aGk=",
        b"!!set {a, b}",
        b"!!omap [a: 1]",
        b"!!pairs [a: 1]",
        b"!!str",
        b"!foo x",
        b"*nosuch",
    ),
    *(b"&a [*a]", b"&a {b: *a}", b"<<", b"{<<: 1}", b"{<<: [1]}", b"|\n  x", b">-\n  x", b'"\\ud800"', b'"\\x00"'),
    *(
        b'"\\x1b[31m"',
        b'"\\L"',
        b"'",
        b'"',
        b"[",
        b"{",
        b"? x",
        b"{? [a]: b}",
        b"{[a]: b}",
        b"{{a: b}: c}",
        b"{a: 1, a: 2}",
    ),
    *(
        b"0001-01-01 00:00:00 +99:99",
        b"9999-12-31T23:59:59-23:59",
        b"!!null x",
        b"!!bool x",
        b"!!merge x",
        b"%YAML 9.9",
    ),
)
#: Lines at the end.
TAILS = (
    *(
        b"name: twice\n",
        b"seed: 0\nseed: 1\n",
        b"? - a\n  - b\n: c\n",
        b"---\nname: second\n",
        b"...\nname: x\n",
        b"\tname: x\n",
    ),
    *(
        b"<<: {name: x}\n",
        b"<<: 1\n",
        b"1: x\n",
        b"null: x\n",
        b"true: x\n",
        b"2001-01-01: x\n",
        b"1.5: x\n",
        b": x\n",
        b"[a]: x\n",
    ),
    *(
        b'"\\e[31mkey": 1\n',
        b'"a\\nb": 1\n',
        b'"\\u2028": 1\n',
        b'"": 1\n',
        b"'{x}': 1\n",
        b"extends: [a]\n",
        b"extends: .\n",
    ),
    *(
        b"extends: /dev/zero\n",
        b"extends: /etc/passwd\n",
        b"extends: nosuch.yaml\n",
        b"extends: ~nosuchuser/x.yaml\n",
        b"extends: ''\n",
    ),
    *(
        b"x: &x [*x]\n",
        b"x: &x {y: *x}\n",
        b"<<: &m {<<: *m}\n",
        b"x: " + b"[" * 500 + b"]" * 500 + b"\n",
        b"\0\n",
        b"#\0\n",
    ),
)
BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n".encode() for i in range(1, 12)
)
MERGE_BOMB = b"m0: &m0 {x: 1}\n" + b"".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n".encode() for i in range(1, 9)
)
HUGE: tuple[bytes, ...] = (
    *(
        b"x: " + b"[" * 20_000 + b"\n",
        b"x: " + b"{a: " * 20_000 + b"\n",
        b"- " * 20_000 + b"x\n",
        b"? " * 5_000 + b"x\n",
    ),
    *(b"x: " + b"a" * 1_000_000 + b"\n", b"x: " + b"9" * 100_000 + b"\n", b"a" * 2_000 + b": x\n", BOMB, MERGE_BOMB),
    *(b"#" * 1_000_000 + b"\n", b"\n" * 200_000, b" " * 200_000 + b"x\n", b'x: "' + b"\\x41" * 50_000 + b'"\n'),
    *(
        b"".join(b"k%d: 1\n" % i for i in range(5_000)),
        b"x: [" + b"1, " * 20_000 + b"1]\n",
        b"x: 1:" + b"59:" * 4_000 + b"1\n",
    ),
    *(
        b"".join(b" " * i + b"k:\n" for i in range(600)),
        b"x: 0." + b"1" * 100_000 + b"\n",
        b"x: 1e" + b"9" * 5_000 + b"\n",
    ),
)


def mutated(rng: random.Random, text: bytes) -> tuple[bytes, str]:
    """A study's text with a few things changed, and their names."""
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(CHANGES))
        text = CHANGES[name](rng, text)
        names.append(name)
    return text, "; ".join(names)


def _lines(rng: random.Random, text: bytes) -> bytes:
    """A line gone, twice, elsewhere, or further in."""
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[i]
    elif how == 1:
        lines.insert(j, lines[i])
    elif how == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif how == 3:
        lines[i] = rng.choice((b" ", b"  ", b"\t", b"    ", b"- ")) + lines[i]
    else:
        lines[i] = lines[i].lstrip()
    return b"".join(lines)


def _value(rng: random.Random, text: bytes) -> bytes:
    """Another value behind a colon."""
    found = list(re.finditer(rb"(?<=: )[^\n,{}\[\]]+", text))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start()] + rng.choice(SCALARS) + text[match.end() :]


def _key(rng: random.Random, text: bytes) -> bytes:
    """Another key before a colon."""
    found = list(re.finditer(rb"[a-z0-9_-]+(?=:)", text))
    if not found:
        return text
    match, other = rng.choice(found), rng.choice(found)
    return text[: match.start()] + rng.choice((*SCALARS, other[0], other[0])) + text[match.end() :]


def _encoded(rng: random.Random, text: bytes) -> bytes:
    try:
        codec = rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037", "utf-7"))
        return text.decode().encode(codec, "replace")
    except UnicodeError:
        return text


CHANGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "a bit": flipped,
    "cut": lambda rng, text: text[: some_place(rng, text)],
    "beheaded": lambda rng, text: text[some_place(rng, text) :],
    "a mark": lambda rng, text: inserted(rng, text, rng.choice(MARKS)),
    "lines": _lines,
    "a value": _value,
    "a key": _key,
    "a tail": lambda rng, text: text + b"\n" + rng.choice(TAILS),
    "something huge": lambda rng, text: rng.choice((text + b"\n" + rng.choice(HUGE), rng.choice(HUGE))),
    "another encoding": _encoded,
    "other line ends": lambda rng, text: text.replace(b"\n", rng.choice((b"\r", b"\r\n", b"\n\n", b"\xc2\x85"))),
    "nothing left": lambda rng, text: rng.choice(
        (b"", b"\n", b"#\n", b"---\n", b"null", b"[]", b"{}", b"1", b"x", b"\0")
    ),
}
