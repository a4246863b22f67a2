"""Write tables/summary.md: clean accuracy and attack success, ready to paste."""

import argparse
import json
from pathlib import Path

from hardscale import literal
from hardscale.analysis.outputs import replacing
from hardscale.analysis.summary import markdown, summary_table
from hardscale.artifacts.schemas import RUNS
from hardscale.artifacts.tables import read_table
from hardscale.console import console


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--spec", type=json.loads, required=True, help="analysis settings of the study")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "summary"):
        table = markdown(summary_table(read_table(args.runs, RUNS).to_pandas()))
        note = args.spec.get("caption_note", "")
        with replacing(args.out) as draft:
            draft.write_text(table + (f"\n{literal.markdown(note)}\n" if note else ""), encoding="utf-8")


if __name__ == "__main__":
    main()
