"""The house in numbers: what one has to read for an attack, how large files are, which names stand for two things.

Everything is counted from the sources of a checkout, with nothing imported from it but its own module of code digests
(standard library only), so that other versions can stand beside this one:

    git worktree add /tmp/before 4862e0d
    python benchmarks/house.py --root /tmp/before --root .

Measures, always of files with something in them (an empty ``__init__.py`` is none), lines as ``wc -l`` counts them:

GCG job, code digest     ``scripts/attack.py`` and the modules that the code digest of a GCG job on a classifier covers
GCG job, all imports     the same entry and everything of the library that it imports, anywhere in a file; not what only
                         an attack on a chat model needs
from YAML to GCG rows    the Snakefile, ``workflow/rules/attack.smk``, everything of the library that either imports (to
                         read a study, to plan it, to start its jobs), and all that the job imports
library                  ``scripts/hardscale``
class names twice        names of classes at the top of more than one file of the library
one importer             files of the library that exactly one other file imports: of the library, an entry, a rule
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGE = "hardscale"
LONG, SHORT = 300, 40
#: What a GCG job on a classifier runs, by the names that its digest is taken of; the first of each that is there.
_JOB = (("evaluation.attack_job",), ("attacks.gcg",), ("runtime.instruction_set", "instruction_set"))
_DIGEST = ("artifacts/digest.py", "digest.py")
#: The other branch of the entry.
_NOT_FOR_CLASSIFIERS = frozenset({f"{PACKAGE}.evaluation.chat_attack_job"})
#: Imports of the Snakefile and of rules, which are no Python that could be parsed as a whole.
_IMPORT = re.compile(r"^\s*(?:from\s+\w[\w.]*\s+import\s+(?:\([^)]*\)|[^(\n]+)|import\s+\w[^\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class House:
    """A checkout.

    Attributes:
        root: its folder.
        files: module name -> file of the library, without files that are empty.
    """

    root: Path
    files: dict[str, Path]

    @classmethod
    def at(cls, root: Path) -> House:
        """The checkout in a folder.

        Raises:
            SystemExit: there is none.
        """
        library = root / "scripts" / PACKAGE
        if not (root / "Snakefile").is_file() or not library.is_dir():
            raise SystemExit(f"error: {root}: no checkout, must hold a Snakefile and scripts/{PACKAGE}")
        files = {}
        for path in sorted(library.rglob("*.py")):
            parts = path.relative_to(library.parent).with_suffix("").parts
            if path.read_bytes().strip():
                files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return cls(root, files)

    @property
    def entries(self) -> list[Path]:
        """Scripts, the Snakefile and the rules: what imports the library and is no part of it."""
        rules = sorted((self.root / "workflow").rglob("*.smk"))
        return [*sorted((self.root / "scripts").glob("*.py")), self.root / "Snakefile", *rules]

    def imports(self, path: Path) -> set[str]:
        """Modules of the library that a file imports."""
        return {name for name in _imported(path) if name in self.files}

    def closure(self, starts: Iterable[str], without: frozenset[str] = frozenset()) -> set[Path]:
        """Files of modules and of everything that they import."""
        found: set[str] = set()
        waiting = list(starts)
        while waiting:
            name = waiting.pop()
            if name in found or name in without or name not in self.files:
                continue
            found.add(name)
            waiting += self.imports(self.files[name])
        return {self.files[name] for name in found}

    def named(self) -> list[str]:
        """The modules that the digest of a GCG job is taken of."""
        choices = [[f"{PACKAGE}.{name}" for name in names] for names in _JOB]
        found = [next((name for name in names if name in self.files), None) for names in choices]
        missing = [names[0] for names, one in zip(choices, found, strict=True) if one is None]
        if missing:
            raise SystemExit(f"error: {self.root}: no module {', '.join(missing)}; say in {__file__} where it went")
        return [name for name in found if name is not None]


@cache
def _imported(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8")
    trees = [ast.parse(text)] if path.suffix == ".py" else _import_lines(text)
    found: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _import_lines(text: str) -> list[ast.Module]:
    return [ast.parse(match[0].strip()) for match in _IMPORT.finditer(text)]


def lines(path: Path) -> int:
    """Lines of a file."""
    return path.read_text(encoding="utf-8").count("\n")


def digest_files(house: House) -> set[Path]:
    """The entry and the files that the code digest of a GCG job covers, as that checkout's own code says."""
    library = house.root / "scripts" / PACKAGE
    path = next((library / name for name in _DIGEST if (library / name).is_file()), None)
    if path is None:
        raise SystemExit(f"error: {house.root}: no {' or '.join(_DIGEST)} in scripts/{PACKAGE}")
    covered = _load(path).closure(tuple(house.named()), library)
    return {house.root / "scripts" / "attack.py", *(house.files[name] for name in covered if name in house.files)}


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"digest_of_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job_files(house: House) -> set[Path]:
    """The entry and everything that an attack on a classifier by GCG imports."""
    entry = house.root / "scripts" / "attack.py"
    return {entry, *house.closure([*house.imports(entry), *house.named()], _NOT_FOR_CLASSIFIERS)}


def chain_files(house: House) -> set[Path]:
    """Everything between a study's file and the rows of a GCG attack."""
    workflow = {house.root / "Snakefile", house.root / "workflow" / "rules" / "attack.smk"}
    planning = house.closure(name for path in workflow for name in house.imports(path))
    return workflow | planning | job_files(house)


def twice(house: House) -> dict[str, list[str]]:
    """Names of classes in more than one file -> modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in house.files.items():
        for name in {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)}:
            places[name].append(module.removeprefix(f"{PACKAGE}."))
    return {name: modules for name, modules in sorted(places.items()) if len(modules) > 1}


def one_importer(house: House) -> list[str]:
    """Modules that exactly one file imports."""
    counts: Counter[str] = Counter()
    for path in (*house.files.values(), *house.entries):
        counts.update(name for name in house.imports(path) if house.files[name] != path)
    return sorted(name.removeprefix(f"{PACKAGE}.") for name, count in counts.items() if count == 1)


def measures(house: House) -> dict[str, float]:
    """Every number by its name."""
    sizes = [lines(path) for path in house.files.values()]
    found: dict[str, float] = {}
    parts: dict[str, Callable[[House], set[Path]]] = {
        "GCG job, code digest": digest_files,
        "GCG job, all imports": job_files,
        "from YAML to GCG rows": chain_files,
    }
    for name, files in parts.items():
        paths = files(house)
        found[f"{name}: files"] = len(paths)
        found[f"{name}: lines"] = sum(map(lines, paths))
    found["library: files"], found["library: lines"] = len(sizes), sum(sizes)
    found["library: median lines"], found["library: most lines"] = statistics.median(sizes), max(sizes)
    found[f"library: files over {LONG} lines"] = sum(size > LONG for size in sizes)
    found[f"library: files under {SHORT} lines"] = sum(size < SHORT for size in sizes)
    found["library: class names twice"] = len(twice(house))
    found["library: files with one importer"] = len(one_importer(house))
    return found


def main() -> None:
    """Parse arguments and print a table in Markdown, a column a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--root", type=Path, action="append", help="a checkout; repeat. This one when absent")
    parser.add_argument("--names", action="store_true", help="also list class names twice and files with one importer")
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args()
    houses = [House.at(root.resolve()) for root in args.root or [here]]
    found = [measures(house) for house in houses]
    if args.json:
        print(json.dumps({str(house.root): numbers for house, numbers in zip(houses, found, strict=True)}, indent=1))
        return
    print("| | " + " | ".join(str(house.root) for house in houses) + " |")
    print("|---|" + "---|" * len(houses))
    for name in found[0]:
        print(f"| {name} | " + " | ".join(f"{numbers[name]:,}" for numbers in found) + " |")
    for house in houses if args.names else ():
        print(f"\n{house.root}")
        print("\n".join(f"  class {name}: {', '.join(modules)}" for name, modules in twice(house).items()))
        print(f"  one importer: {', '.join(one_importer(house))}")


if __name__ == "__main__":
    main()
