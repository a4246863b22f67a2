"""Keep the small tables of finished runs in the repository, and write docs/results.md and the README's sentences."""

import argparse
import sys
from pathlib import Path

from hardscale.artifacts.atomic import replacing
from hardscale.errors import DataError
from hardscale.runtime.console import console
from hardscale.statements.page import DEFAULT, readme_block, results_page, with_block, without_blanks
from hardscale.statements.stored import store, stored_runs


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", type=Path, nargs="*", default=[], metavar="RESULTS", help="results/<study> to keep")
    parser.add_argument("--name", help="of the added run; its processor and instruction set when absent")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a page is out of date")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="of the repository")
    args = parser.parse_args()
    with console(None, "results"):
        if args.name and len(args.add) != 1:
            raise DataError("--name: names one run; add one at a time")
        home, readme = args.root / "docs" / "results", args.root / "README.md"
        for results in args.add:
            print(f"stored {store(results, home, args.name)}")
        runs = stored_runs(home)
        pages = {
            args.root / "docs" / "results.md": without_blanks(results_page(runs, home)),
            readme: with_block(readme.read_text(encoding="utf-8"), readme_block(runs.get(DEFAULT, []))),
        }
        old = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
        for path in old:
            print(f"{path}: {'out of date; run scripts/results_page.py' if args.check else 'written'}")
            if not args.check:
                with replacing(path) as draft:
                    draft.write_text(pages[path], encoding="utf-8")
    if args.check and old:
        sys.exit(1)


if __name__ == "__main__":
    main()
