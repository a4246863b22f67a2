"""What the modules of a package say about themselves, read from their files without importing them.

Such a module assigns one call of keywords, ``ABOUT = About(place=10, victims="chat")``, whose values are literals:
numbers, texts, truth values, and tuples of these. Whoever plans a study reads them without loading what the modules
need.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from hardscale.errors import StudyError

_ROOT = Path(__file__).parents[1]
_T = TypeVar("_T")


def declared(
    package: str, variable: str, form: type[_T], function: str, *, always: bool = False, root: Path = _ROOT
) -> dict[str, _T]:
    """Name of each module of a package that describes itself, in alphabetical order, with what it says.

    Args:
        package: its name inside ``hardscale``.
        variable: what such a module assigns.
        form: the class that is called there; it raises ValueError or TypeError for what is not allowed.
        function: what such a module also defines.
        always: whether every module that defines the function has to describe itself.
        root: folder of the library.

    Raises:
        StudyError: a module lacks one of the two, or says something else; the line names its file.
    """
    mark = re.compile(rf"^(?:{variable}\b|def {function}\()" if always else rf"^{variable}\b", re.MULTILINE)
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((root / package).glob("*.py"))}
    return {path.stem: _read(path, text, variable, form, function) for path, text in texts.items() if mark.search(text)}


def _read(path: Path, text: str, variable: str, form: type[_T], function: str) -> _T:
    """What one module says."""
    wanted = f"{variable} = {form.__name__}(...)"
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise StudyError(f"{path}: line {error.lineno}: {error.msg}") from error
    calls = list(_assigned(tree, variable))
    if len(calls) != 1:
        raise StudyError(f"{path}: found {len(calls)} assignments of {variable}; give one, `{wanted}`")
    if not any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body):
        raise StudyError(f"{path}: it has {variable} and no function `{function}`; give both, or neither")
    (call,) = calls
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != form.__name__:
        raise StudyError(f"{path}: line {call.lineno}: {variable} is not a call; write `{wanted}`")
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise StudyError(f"{path}: line {call.lineno}: give every value of {variable} by its keyword")
    try:
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except ValueError as error:
        raise StudyError(f"{path}: line {call.lineno}: {variable} may hold literals alone ({error})") from error
    try:
        return form(**values)
    except (ValueError, TypeError) as error:
        raise StudyError(f"{path}: line {call.lineno}: {variable}: {error}") from error


def _assigned(tree: ast.Module, variable: str) -> Iterator[ast.expr]:
    """The values that a module assigns to a variable at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
            yield value
