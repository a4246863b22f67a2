"""Write the JSON schema of a study, its reference page, and the tables of published settings of the other pages."""

import argparse
from pathlib import Path

from hardscale.papers.chat_table import published_table, with_table
from hardscale.papers.constants_table import constants_table
from hardscale.settings.schema import reference_page, schema_text
from hardscale.settings.study import parse_study, read_yaml

SCALING = [Path("studies/pythia.yaml"), Path("studies/qwen.yaml")]


def main() -> None:
    """Parse arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("workflow/schemas/study.schema.json"))
    parser.add_argument("--docs", type=Path, default=Path("docs/study.md"))
    parser.add_argument("--chat-docs", type=Path, default=Path("docs/chat.md"))
    parser.add_argument("--chat-study", type=Path, default=Path("studies/chat.yaml"))
    parser.add_argument("--constants-docs", type=Path, default=Path("docs/constants.md"))
    parser.add_argument("--scaling-studies", type=Path, nargs="+", default=SCALING)
    args = parser.parse_args()
    args.out.write_text(schema_text(), encoding="utf-8")
    args.docs.write_text(reference_page(), encoding="utf-8")
    study = parse_study(read_yaml(args.chat_study), str(args.chat_study))
    page = args.chat_docs.read_text(encoding="utf-8")
    args.chat_docs.write_text(with_table(page, published_table(study)), encoding="utf-8")
    studies = [parse_study(read_yaml(path), str(path)) for path in args.scaling_studies]
    page = args.constants_docs.read_text(encoding="utf-8")
    args.constants_docs.write_text(with_table(page, constants_table(studies)), encoding="utf-8")


if __name__ == "__main__":
    main()
