"""Draw the rules of the default study for the README: docs/rulegraph.dot and, where Graphviz is installed, .svg."""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

_MERGED = {"figure": "figures", "adversarial_rounds": "adversarial_rounds"}


def simplified(dot: str) -> str:
    """A rule graph without rule ``all``, rules of one kind as one box, and no arrow that a longer way implies."""
    names = dict(re.findall(r'(\d+)\[label = "([\w]+)"', dot))
    kind = {
        key: next((short for stem, short in _MERGED.items() if name.startswith(stem)), name)
        for key, name in names.items()
    }
    edges = {(kind[a], kind[b]) for a, b in re.findall(r"(\d+) -> (\d+)", dot) if names[b] != "all"}
    edges = {(a, b) for a, b in edges if a != b}
    kept = sorted(edge for edge in edges if not _reaches(*edge, edges - {edge}))
    lines = [f"    {a} -> {b}" for a, b in kept]
    style = [
        "    rankdir=LR",
        '    node [shape=box, style="rounded,filled", fillcolor="#eef3f8", color="#4a6785"]',
        '    node [fontname="sans-serif", fontsize=11]',
        '    edge [color="#8aa0b6"]',
    ]
    return "\n".join(["digraph rules {", *style, *lines, "}"]) + "\n"


def _reaches(start: str, goal: str, edges: set[tuple[str, str]]) -> bool:
    seen, queue = set(), [start]
    while queue:
        node = queue.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            queue.extend(b for a, b in edges if a == node)
    return False


def main() -> None:
    """Parse arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/rulegraph.dot"))
    args = parser.parse_args()
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "--forceall"]
    args.out.write_text(simplified(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg", str(args.out), "-o", str(args.out.with_suffix(".svg"))], check=True)


if __name__ == "__main__":
    main()
