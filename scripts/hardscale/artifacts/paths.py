"""Where artifacts, tables, figures and logs of a study lie, relative to ``results/<study>``.

A template's wildcards stand in braces: ``cell`` is ``task/family/scale/sSEED``, ``lineage`` is a cell and its defense,
``round`` has two digits or more. For an artifact the template names its folder; otherwise, a file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TASK = "tasks/{task}"
BASE = "base/{family}/{scale}"
#: A base model after this study's own pretraining.
PRETRAINED = "pretrained/{family}/{scale}"
#: Round 0 of the lineage ``CELL/none`` is the undefended model.
MODEL = "models/{lineage}/r{round}"
ATTACK = "attacks/{lineage}/r{round}/{part}"
UTILITY = "utility/{lineage}/r{round}"
LM_EVAL = "lm_eval/{lineage}/r{round}"
MT_BENCH = "mt_bench/{lineage}/r{round}"
#: Artifacts, in the order in which they are made.
ARTIFACTS = (TASK, BASE, PRETRAINED, MODEL, ATTACK, UTILITY, LM_EVAL, MT_BENCH)
TABLE = "tables/{name}"
FIGURE = "figures/{figure}.{suffix}"
LOG = "logs/{place}.log"
BENCHMARK = "benchmarks/{place}.tsv"
STATE = "state/{place}"

_COMPONENTS = {"cell": 4, "lineage": 5}
_ONE = r"[^/]+"


def fill(template: str, **wildcards: str) -> str:
    """A template with its wildcards filled in."""
    return template.format_map(wildcards)


def round_number(number: int) -> str:
    """The wildcard ``round`` of a round."""
    return f"{number:02d}"


def model(root: Path, lineage: str, number: int) -> Path:
    """The folder of a model after a round of its lineage."""
    return root / fill(MODEL, lineage=lineage, round=round_number(number))


def table(root: Path, name: str) -> Path:
    """A table's file, e.g. ``runs.parquet``."""
    return root / fill(TABLE, name=name)


def top(template: str) -> str:
    """The folder that holds everything of a template: what stands before its first wildcard."""
    return template.partition("{")[0].rpartition("/")[0]


def depth(template: str) -> int:
    """Components of a filled template."""
    return len(re.sub(r"\{(\w+)\}", lambda found: "/".join("x" * _COMPONENTS.get(found[1], 1)), template).split("/"))


def parse(template: str, path: str) -> dict[str, Any] | None:
    """The wildcards of a path relative to ``results/<study>``; None when the path is not of this template."""
    found = re.fullmatch(_pattern(template), path)
    return found.groupdict() if found else None


def _pattern(template: str) -> str:
    pieces = re.split(r"\{(\w+)\}", template)
    named = (f"(?P<{name}>{_ONE}(?:/{_ONE}){{{_COMPONENTS.get(name, 1) - 1}}})" for name in pieces[1::2])
    texts = map(re.escape, pieces[::2])
    return next(texts) + "".join(name + text for name, text in zip(named, texts, strict=True))
