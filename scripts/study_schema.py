"""Write the JSON schema of a study and its reference page."""

import argparse
from pathlib import Path

from hardscale.schema import reference_page, schema_text


def main() -> None:
    """Parse arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("workflow/schemas/study.schema.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs/study.md"))
    args = parser.parse_args()
    args.out.write_text(schema_text(), encoding="utf-8")
    args.docs.write_text(reference_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
