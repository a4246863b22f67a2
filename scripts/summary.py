"""Write tables/summary.md: clean accuracy and attack success, ready to paste."""

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
from pathlib import Path

from hardscale.analysis.summary import markdown, summary_table
from hardscale.artifacts.atomic import replacing
from hardscale.artifacts.schemas import RUNS
from hardscale.artifacts.tables import read_table
from hardscale.runtime.console import console
from hardscale.untrusted import literal


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--spec", type=json.loads, required=True, help="analysis settings of the study")
    parser.add_argument("--deviations", type=json.loads, default=[], help="where the study differs from published runs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "summary"):
        runs = read_table(args.runs, RUNS).to_pandas()
        table = markdown(summary_table(runs, args.spec.get("headline_iteration")))
        note = args.spec.get("caption_note", "")
        parts = [table, *([f"{literal.markdown(note)}\n"] if note else []), *_differences(args.deviations)]
        with replacing(args.out) as draft:
            draft.write_text("\n".join(parts), encoding="utf-8")


def _differences(lines: list[str]) -> list[str]:
    """A list of what is not as published."""
    if not lines:
        return []
    return [
        "Not as published (published values in brackets):\n",
        "\n".join(f"- {literal.markdown(x)}" for x in lines) + "\n",
    ]


if __name__ == "__main__":
    main()
