"""Draw one figure of a study from its result tables."""

from __future__ import annotations

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
from pathlib import Path

from hardscale.runtime.console import console


def main() -> None:
    """Arguments -> one figure as PNG, SVG and, if asked, PDF."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="figure: a module of hardscale/figures")
    parser.add_argument("--runs", required=True, type=Path, help="runs.parquet")
    parser.add_argument("--fits", required=True, type=Path, help="fits.parquet")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="further tables that the figure is made of")
    parser.add_argument("--spec", default="{}", help="JSON of the study's analysis block and `scratch_families`")
    parser.add_argument("--png", required=True, type=Path)
    parser.add_argument("--svg", required=True, type=Path)
    parser.add_argument("--pdf", type=Path)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, f"figure {args.name}"):
        from hardscale.artifacts.schemas import FITS, RUNS
        from hardscale.artifacts.tables import read_table
        from hardscale.figures.about import figure_drawer
        from hardscale.figures.spec import FigureSpec
        from hardscale.figures.style import save

        draw = figure_drawer(args.name)
        runs, fits = read_table(args.runs, RUNS).to_pandas(), read_table(args.fits, FITS).to_pandas()
        more = {path.stem: read_table(path).to_pandas() for path in args.tables}
        spec = FigureSpec.model_validate(json.loads(args.spec))
        save(draw(runs, fits, spec, more) if more else draw(runs, fits, spec), args.png, args.svg, args.pdf)


if __name__ == "__main__":
    main()
