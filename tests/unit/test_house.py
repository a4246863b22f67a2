"""The house: one of each, every package in its place."""

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "scripts" / "hardscale"
TREES = {path.relative_to(LIBRARY).as_posix(): ast.parse(path.read_text("utf-8")) for path in LIBRARY.rglob("*.py")}
#: Where files and folders get their names: whole files; folders, once more if need be; a lease that is judged while it
#: is moved aside; and a link, which is no file.
RENAMING = {"artifacts/atomic.py", "artifacts/retry.py", "artifacts/lease.py", "plan/input_names.py"}


def defined(kind, private=False):
    """Where the classes or functions of a name are defined, at the top of a module; the public ones alone, or all."""
    found = defaultdict(list)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, kind) and (private or not node.name.startswith("_")):
                found[node.name].append(name)
    return found


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]


def renames(node):
    """``draft.replace(path)``, ``path.rename(other)``, ``os.replace(a, b)``; text and tables are replaced otherwise."""
    owner = node.func.value
    of_system = isinstance(owner, ast.Name) and owner.id in ("os", "shutil")
    if node.func.attr == "move":
        return of_system
    return node.func.attr in ("replace", "rename", "renames") and (
        of_system or (len(node.args) == 1 and not node.keywords)
    )


def test_there_is_a_library_to_look_at():
    assert len(TREES) > 200 and "artifacts/atomic.py" in TREES


def test_no_class_has_the_name_of_another():
    assert {name: places for name, places in defined(ast.ClassDef, private=True).items() if len(places) > 1} == {}


def test_every_package_has_a_place_in_the_contract_of_imports():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [contract] = [one for one in settings["contracts"] if one["type"] == "layers"]
    named = [name.strip() for layer in contract["layers"] for name in layer.split("|")]
    there = {path.parent.name for path in LIBRARY.glob("*/__init__.py")} | {
        path.stem for path in LIBRARY.glob("*.py") if path.stem != "__init__"
    }
    assert contract["containers"] == ["hardscale"] and contract["exhaustive"]
    assert sorted(named) == sorted(there)


def test_locks_of_files_are_taken_in_one_module():
    assert {name for name, tree in TREES.items() if any("flock" in node.func.attr for node in calls(tree))} == {
        "artifacts/locks.py"
    }


def test_files_get_their_names_in_one_module():
    assert {name for name, tree in TREES.items() if any(map(renames, calls(tree)))} == RENAMING


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("at_headline", "analysis/points.py"),
        ("entry_for", "settings/headline.py"),
        ("replacing", "artifacts/atomic.py"),
        ("exact_forward_flops", "models/flops.py"),
    ],
)
def test_what_there_is_one_of_is_defined_once(name, place):
    assert defined(ast.FunctionDef)[name] == [place]
