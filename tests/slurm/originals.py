"""Whether functions of installed packages are those of their own files, in a process that uses them.

A program, too: ``python originals.py OUT PACKAGES SNAKEMAKE'S OPTIONS`` runs Snakemake in its own process, then
writes to OUT what was changed, one a line.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def changed(packages: tuple[str, ...]) -> list[str]:
    """Names of functions that are others than those that the files of loaded modules define or import."""
    # By the names that they are loaded under: Snakefiles run among the variables of a module of Snakemake's.
    modules = [(where, module) for where, module in sorted(sys.modules.items()) if where.split(".")[0] in packages]
    return [f"{where}.{name}" for where, module in modules for name in _changed_in(where, module)]


def _changed_in(where: str, module: ModuleType) -> Iterator[str]:
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return
    body = ast.parse(Path(file).read_bytes()).body
    yield from _changed_below(body, vars(module), file, where, "")
    for node in body:
        if isinstance(node, ast.ImportFrom):
            package = where if Path(file).name == "__init__.py" else where.rpartition(".")[0]
            yield from _changed_imports(node, module, package)


def _changed_below(body: list[ast.stmt], values: Any, file: str, where: str, prefix: str) -> Iterator[str]:
    # Of two definitions of one name, such as a property and its setter, the last one holds.
    for name, node in {node.name: node for node in body if isinstance(node, (*_FUNCTION, ast.ClassDef))}.items():
        value = values.get(name)
        if isinstance(node, ast.ClassDef):
            if not inspect.isclass(value) or value.__module__ != where:
                yield f"{prefix}{name}"
            else:
                yield from _changed_below(node.body, vars(value), file, where, f"{prefix}{name}.")
        elif not any(code.co_filename == file and code.co_name == name for code in _codes(value, node)):
            yield f"{prefix}{name}"


def _codes(value: Any, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[CodeType]:
    """The code of a function; below decorators only where its source has some."""
    while value is not None:
        if isinstance(value, property):
            value = value.fset if node.decorator_list and _is_setter(node) else value.fget
        elif isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        elif isinstance(value, functools.cached_property):
            value = value.func
        if inspect.isfunction(value):
            yield value.__code__
        value = getattr(value, "__wrapped__", None) if node.decorator_list else None


def _is_setter(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "setter" for each in node.decorator_list)


def _changed_imports(node: ast.ImportFrom, module: ModuleType, package: str) -> Iterator[str]:
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    origin = sys.modules.get(".".join([*above, *([node.module] if node.module else [])]))
    for alias in node.names:
        name = alias.asname or alias.name
        # What a later line binds anew is not asked for, and neither is a module.
        value, own = vars(module).get(name), getattr(origin, alias.name, None)
        if inspect.isfunction(own) and value is not own:
            yield name


def main() -> None:
    """Run Snakemake here, then write what was changed."""
    from snakemake.cli import main as snakemake

    out, packages, *options = sys.argv[1:]
    try:
        snakemake(options)
    finally:
        Path(out).write_text("".join(f"{name}\n" for name in changed(tuple(packages.split(",")))))


if __name__ == "__main__":
    main()
