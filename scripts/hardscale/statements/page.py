"""docs/results.md and the README's sentences, from stored runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hardscale.analysis.verdict import LEVEL
from hardscale.errors import DataError
from hardscale.statements.stored import NOTES_FILE, StoredRun
from hardscale.untrusted.literal import markdown

BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"
KEY = ("claim", "family", "task", "defense", "attack", "other", "position")
#: The study whose sentences the README has.
DEFAULT = "nano"
_SHOWN = [name for name in KEY if name not in ("family", "position")]
_INTRODUCTION = """# Results

<!-- written by scripts/results_page.py from docs/results/; edit the notes there, not this page -->

What studies said on the machines on which they were run. **Every number here is one machine's**: another processor
trains other models unless a study pins its instruction set ([numerics.md](numerics.md)). How a run comes here, and how
this page and the README's sentences are made again: [upkeep.md](upkeep.md), *Results in the repository*. Every column
and every kind of interval: [results/README.md](../results/README.md).

Tables of claims hold what a study says of *models like its own* ([claims.md](claims.md)): means over cells, which are
tasks at one scale, with all intervals of a run together covering at {level:.0%} (Bonferroni). Differences are shares,
slopes are log10 odds for ten times the parameters. *Undecided* is no evidence of absence: the interval includes the
number in question.
"""


#: What tells the claims over all models of a study apart.
MOST = 4


def readme_block(runs: Sequence[StoredRun]) -> str:
    """What stands between the README's markers: at most four sentences that every stored run supports."""
    rows = chosen(runs)
    if not rows:
        what = "No run of this version is stored yet" if not runs else "No claim is supported by every stored run"
        return (
            f"{what}, so nothing is claimed here. `make study` writes what yours supports to "
            "`results/nano/tables/claims.csv`."
        )
    family = over_models(runs[0])
    cells, models = (int(family[name].max()) for name in ("n_cells", "n_models"))
    where = "the one stored run supports" if len(runs) == 1 else f"each of the {len(runs)} stored runs supports"
    head = (
        f"What {where}. Estimates are means over models like the {models} of a run ({cells} cells of task and scale); "
        f"its {int(family['family_size'].max())} intervals hold together at {LEVEL:.0%}."
    )
    tail = f"The numbers are those of one machine ({markdown(runs[0].label)})."
    return "\n".join([head, "", *(f"* {sentence(row)}" for row in rows), "", tail])


def with_block(readme: str, block: str) -> str:
    """A README with the sentences between its markers.

    Raises:
        DataError: the markers are not there once each, in this order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise DataError(f"README.md: found no pair {BEGIN} … {END}; put each in a line of its own, once")
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def results_page(studies: Mapping[str, Sequence[StoredRun]], home: Path) -> str:
    """docs/results.md.

    Args:
        studies: study -> its runs.
        home: docs/results, for the notes of studies.
    """
    order = sorted(studies, key=lambda name: (name != DEFAULT, name))
    return "\n".join([_INTRODUCTION.format(level=LEVEL), *(_study(name, studies[name], home / name) for name in order)])


def _study(name: str, runs: Sequence[StoredRun], folder: Path) -> str:
    notes = folder / NOTES_FILE
    parts = [f"## {name}\n", notes.read_text(encoding="utf-8") if notes.is_file() else ""]
    if runs:
        parts += [_machines(runs), *([_claims(runs)] if any(len(over_models(run)) for run in runs) else [])]
        parts += [_summary(run) for run in runs]
    return "\n".join(part for part in parts if part)


def _machines(runs: Sequence[StoredRun]) -> str:
    """A row for each run: where, with what, which models, and how many claims came out how."""
    header = ["run", "machine", "Python", "PyTorch", "models", "supported", "refuted", "undecided"]
    rows = []
    for run in runs:
        counts = over_models(run)["outcome"].value_counts() if len(over_models(run)) else {}
        outcomes = [str(counts.get(name, 0)) for name in header[5:]]
        versions = [markdown(run.versions.get(name, "")) for name in ("python", "torch")]
        rows.append([run.name, markdown(run.label), *versions, f"`{run.models[:12]}`", *outcomes])
    return f"Runs; equal models have equal digests.\n\n{_table(header, rows)}"


def _claims(runs: Sequence[StoredRun]) -> str:
    """A row a claim over models, a column a run."""
    by_run = [{key(row): row for _, row in over_models(run).iterrows()} for run in runs]
    keys = list(dict.fromkeys(one for rows in by_run for one in rows))
    rows = []
    for one in keys:
        names = dict(zip(KEY, one, strict=True))
        said = [_said(rows_of[one]) if one in rows_of else "–" for rows_of in by_run]
        rows.append([*(markdown(str(names[name] or "")) for name in _SHOWN), *said])
    return f"Claims over models.\n\n{_table([*_SHOWN, *(run.name for run in runs)], rows)}"


def _said(row: pd.Series) -> str:
    digits = 2 if row["claim"] == "larger_is_more_robust" else 3
    low, high, value = (f"{row[name]:.{digits}f}" for name in ("family_low", "family_high", "estimate"))
    return f"**{row['outcome']}** {value} [{low}, {high}]"


def _summary(run: StoredRun) -> str:
    return f"<details><summary>Every model and attack: {run.name}</summary>\n\n{run.summary.strip()}\n\n</details>\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def without_blanks(text: str) -> str:
    """At most one blank line in a row, one newline at the end."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _points(low: float, high: float, value: float) -> str:
    """A difference of shares in percentage points with its interval."""
    digits = 1 if abs(value) < 0.1 else 0
    return f"{100 * value:.{digits}f} points [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def _more(row: pd.Series) -> str:
    return _points(row["family_low"], row["family_high"], row["estimate"])


def _less(row: pd.Series) -> str:
    """The same of a fall, as a positive number."""
    return _points(-row["family_high"], -row["family_low"], -row["estimate"])


def _slope(row: pd.Series) -> str:
    return f"{row['estimate']:.2f} [{row['family_low']:.2f}, {row['family_high']:.2f}]"


def _size(row: pd.Series) -> str:
    after = "undefended" if row["defense"] == "none" else f"after `{row['defense']}`"
    return (
        f"Larger models are harder to break, {after}: the log10 odds of success of `{row['attack']}` change by "
        f"{_slope(row)} for ten times the parameters."
    )


#: Claim -> its sentence, in the order in which a README has room for them.
_SENTENCES: dict[str, Callable[[pd.Series], str]] = {
    "defense_lowers_asr": lambda row: (
        f"Training with `{row['defense']}` lowers the success of `{row['attack']}` by {_less(row)}."
    ),
    "rounds_beat_continuous": lambda row: (
        f"After `{row['defense']}` the success of `{row['attack']}` is lower than after `{row['other']}` of no less "
        f"compute, by {_less(row)}."
    ),
    "larger_is_more_robust": _size,
    "gcg_beats_random_token": lambda row: (
        f"`{row['attack']}` breaks more than `{row['other']}` at equal compute{_defended(row)}, by {_more(row)}."
    ),
    "gradient_helps": lambda row: (
        f"The gradient helps: `{row['attack']}` breaks more than the same search without it{_defended(row)}, by "
        f"{_more(row)}."
    ),
    "defense_keeps_accuracy": lambda row: (
        f"Training with `{row['defense']}` costs less than {-100 * row['against']:.0f} points of clean accuracy: it "
        f"changes by {_more(row)}."
    ),
    "more_iterations_help": lambda row: (
        f"More attack compute helps: `{row['attack']}` breaks more than at {row['other']}, half of its last, by "
        f"{_more(row)}."
    ),
    "defense_costs_accuracy": lambda row: f"Training with `{row['defense']}` costs {_less(row)} of clean accuracy.",
}


def _defended(row: pd.Series) -> str:
    return "" if row["defense"] == "none" else f", after `{row['defense']}` too"


def over_models(run: StoredRun) -> pd.DataFrame:
    """What a run says of models like its own: one row a claim, the family that is corrected as a whole."""
    if "family_size" not in run.claims.columns:
        return run.claims.iloc[:0]
    return run.claims[run.claims["family_size"].notna()]


def key(row: pd.Series) -> tuple[Any, ...]:
    """What names a claim in every run of its study."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in KEY)


def supported(runs: Sequence[StoredRun]) -> list[pd.Series]:
    """Claims over models that every run supports, with the numbers of the first run, in the order of the table."""
    if not runs:
        return []
    held = [{key(row) for _, row in over_models(run).iterrows() if row["outcome"] == "supported"} for run in runs]
    everywhere = set.intersection(*held)
    return [row for _, row in over_models(runs[0]).iterrows() if key(row) in everywhere]


def sentence(row: pd.Series) -> str:
    """A claim as a sentence with its numbers: those of the corrected interval."""
    return _SENTENCES[row["claim"]](row)


def chosen(runs: Sequence[StoredRun], most: int = MOST) -> list[pd.Series]:
    """Of the supported claims at most one of each kind, undefended models first, in the order of the sentences."""
    rows = supported(runs)
    found = []
    for claim in _SENTENCES:
        of_claim = sorted((row for row in rows if row["claim"] == claim), key=lambda row: row["defense"] != "none")
        found += of_claim[:1]
    return found[:most]
