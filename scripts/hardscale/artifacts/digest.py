"""A digest of the code that a job runs: what must change for its result to be made again.

The digest covers the import closure, inside this package, of the modules named for one instance (the GCG module for
a GCG job, not the registry of all attacks). Comments, docstrings and formatting do not count. Neither do modules in
which no number is computed: settings blocks (their values reach a job through its spec, so what is computed of them
stands in the module that computes), messages, job launching, how files are put in place, what a plan reads of modules.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import sys
from functools import cache
from pathlib import Path

PACKAGE = "hardscale"
ROOT = Path(__file__).parents[1]
_NEUTRAL = (
    *("settings", "plan", "ops", "launch", "errors", "runtime.console", "runtime.stopping", "runtime.pulse"),
    *("artifacts.declared", "artifacts.digest", "artifacts.publish", "artifacts.manifest", "artifacts.retry"),
    *("artifacts.atomic", "artifacts.locks", "artifacts.lease", "evaluation.lm_eval_tool"),
)


def _neutral(module: str) -> bool:
    name = module.removeprefix(f"{PACKAGE}.")
    return any(name == neutral or name.startswith(f"{neutral}.") for neutral in _NEUTRAL)


def module_file(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module of this package, or none if there is no such module."""
    base = root.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported_modules(tree: ast.Module) -> set[str]:
    """Modules of this package that a source file imports anywhere in it, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == PACKAGE}


def imported_libraries(source: str) -> set[str]:
    """Top-level names of what a source file imports from outside this package and the standard library."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name.split(".")[0] for name in found} - sys.stdlib_module_names - {PACKAGE}


def normalized(tree: ast.Module) -> str:
    """A source's syntax tree as text, without docstrings, comments, positions and formatting; the tree loses them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, include_attributes=False)


@cache
def _read(path: Path) -> tuple[str, frozenset[str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return hashlib.sha256(normalized(tree).encode()).hexdigest(), frozenset(imported_modules(tree))


@cache
def closure(modules: tuple[str, ...], root: Path = ROOT) -> dict[str, str]:
    """Every module reached from ``modules`` by static imports, with the digest of its normalized source."""
    digests: dict[str, str] = {}
    queue = list(modules)
    while queue:
        module = queue.pop()
        path = module_file(module, root)
        if path is None or module in digests or _neutral(module):
            continue
        digests[module], imports = _read(path)
        queue.extend(imports)
    return digests


@cache
def code_digest(*modules: str, root: Path = ROOT) -> str:
    """Short digest of the import closure of ``modules``.

    Raises:
        ValueError: a named module does not exist.
    """
    for module in modules:
        if module_file(module, root) is None:
            raise ValueError(f"no module {module} under {root}")
    parts = [f"{name}={value}" for name, value in sorted(closure(modules, root).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def versions_digest(*modules: str, root: Path = ROOT) -> str:
    """Short digest of the installed versions of all libraries that the import closure of ``modules`` imports."""
    files = [path for name in closure(modules, root) if (path := module_file(name, root)) is not None]
    names = set().union(*(imported_libraries(path.read_text(encoding="utf-8")) for path in files))
    parts = []
    for name in sorted(names):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{name}={importlib.metadata.version(name)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
