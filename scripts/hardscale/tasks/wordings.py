"""Reading words of others that a study names, and putting texts into their places. No torch and no transformers here.

A source is a whole text file, or one text in a JSON file (``path.json#key``) or in Python source (``path.py#NAME``,
``path.py#Class.NAME``, ``path.py#NAME.key``), so that the files of a published repository serve as they are. Python
source is parsed, never run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.errors import DataError
from hardscale.settings.chat import JudgeSettings
from hardscale.settings.wordings import BEHAVIOR, COMPLETION, CONTEXT, Named
from hardscale.tasks.locate import locate_file
from hardscale.untrusted.guarded import parse_json, read_text, shown

#: Files that hold several texts.
_SEVERAL = (".json", ".py")
_MOST_BYTES = 1024**2
_WHAT = "words of others"


@dataclass(frozen=True)
class Wording:
    """A judge's prompt with places for texts.

    Attributes:
        standard: for behaviors without a context.
        contextual: for those with one; None where ``standard`` is for both.
        system: of a judge that is a chat model, its system prompt, ``""`` for none: it is asked through its template.
    """

    standard: str
    contextual: str | None = None
    system: str | None = None

    @property
    def sha256(self) -> str:
        """Digest of what there is of the three, joined by the unit separator."""
        return digest(*(form for form in (self.standard, self.contextual, self.system) if form is not None))

    @property
    def takes_context(self) -> bool:
        """Whether a context has a place."""
        return self.contextual is not None or holds(self.standard, CONTEXT)

    def filled(self, behavior: str, completion: str, context: str | None) -> str:
        """The prompt about one completion."""
        form = self.contextual if context and self.contextual is not None else self.standard
        return filled(form, {BEHAVIOR: behavior, COMPLETION: completion, CONTEXT: context or ""})


def digest(*texts: str) -> str:
    """SHA-256 of texts, joined by the unit separator."""
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()


def filled(form: str, texts: Mapping[tuple[str, ...], str]) -> str:
    """A text with others in their places, all at once: what those hold is not looked at, and braces are characters."""
    known = {name: text for names, text in texts.items() for name in names}
    return re.sub(r"\{(" + "|".join(known) + r")\}", lambda place: known[place[1]], form)


def holds(form: str, names: tuple[str, ...]) -> bool:
    """Whether a text has a place of one of these names."""
    return any(f"{{{name}}}" in form for name in names)


def check_places(key: str, form: str, *wanted: tuple[str, ...]) -> None:
    """Refuse a text that lacks a place.

    Raises:
        DataError: it does.
    """
    for names in wanted:
        if not holds(form, names):
            places = " or ".join(f"{{{name}}}" for name in names)
            raise DataError(
                f"{key}: the text has no place {places}; give the prompt as it was published, places included"
            )


def judge_wording(key: str, standard: str, contextual: str | None = None, system: str | None = None) -> Wording:
    """A judge's prompt of its forms; ``key`` is where the study has them.

    Raises:
        DataError: a place is missing.
    """
    check_places(key, standard, BEHAVIOR, COMPLETION)
    if contextual is not None:
        check_places(f"{key}.contextual", contextual, BEHAVIOR, COMPLETION, CONTEXT)
    return Wording(standard, contextual, system)


def wording_of(settings: JudgeSettings, key: str, root: Path | None) -> Wording | None:
    """The published words that a judge is asked in; None where it is asked in our own, or is no model.

    Args:
        settings: of the judge.
        key: its place in the study.
        root: data root.

    Raises:
        DataError: their file is not there, cannot be read, or holds something else.
    """
    templated = "" if settings.kind == "rubric" else None
    if settings.prompt is not None:
        return judge_wording(f"{key}.prompt", settings.prompt, system=templated)
    texts = {text.key: read_named(text, root) for text in settings.texts(key)} if settings.asks else {}
    parts = {name.rpartition(".")[2]: text for name, text in texts.items()}
    if not parts:
        return None
    place = next(iter(texts)).removesuffix(".standard")
    standard = parts.get("standard", next(iter(texts.values())))
    return judge_wording(place, standard, parts.get("contextual"), parts.get("system", templated))


def check_judge(settings: JudgeSettings, key: str, root: Path | None) -> None:
    """Refuse a judge whose words or reference texts are not there.

    Raises:
        DataError: see :func:`wording_of`.
    """
    wording_of(settings, key, root)
    for text in settings.texts(key):
        locate_text(text, root)


# --- reading --------------------------------------------------------------------------------------------------------


def locate_text(text: Named, root: Path | None) -> Path:
    """The file of a text.

    Raises:
        DataError: it is not there.
    """
    path, _ = _split(text.source)
    if text.packaged:
        return _in_package(text, path)
    if path.startswith("hub:"):
        raise DataError(f"{text.key}: found {shown(text.source)!r}; give a path, or a path below data.root")
    found = locate_file(text.key, path, root)
    assert isinstance(found, Path)
    return found


def read_named(text: Named, root: Path | None) -> str:
    """A text as it is, its spaces included; the line break that ends a text file is no part of it.

    Raises:
        DataError: the file is not there or cannot be read, or does not hold the text.
    """
    place = locate_text(text, root)
    path, member = _split(text.source)
    content = read_text(place, _WHAT, max_bytes=_MOST_BYTES)
    if text.whole:
        return content
    if not path.endswith(_SEVERAL):
        return re.sub(r"\r?\n\Z", "", content)
    if member is None:
        raise DataError(f"{text.key}: {shown(place)} holds several texts; name one: {shown(path)}#NAME")
    found = _in_json(content, place, member) if path.endswith(".json") else _in_python(content, place, member)
    if not isinstance(found, str):
        raise DataError(f"{text.key}: {shown(place)} has no text named {shown(member)}; look for its name in the file")
    return found


def _split(source: str) -> tuple[str, str | None]:
    path, sign, member = source.rpartition("#")
    return (path, member) if sign and path.endswith(_SEVERAL) else (source, None)


def _in_package(text: Named, source: str) -> Path:
    """The file of ``package:path``; nothing of the package is imported."""
    package, sign, path = source.partition(":")
    if not (sign and package.isidentifier() and path) or ".." in Path(path).parts or Path(path).is_absolute():
        raise DataError(f"{text.key}: found {shown(text.source)!r}; give package:path of a file in it")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    reason = f"the package {package} has no {shown(path)}" if folders else f"no package {package} is installed"
    raise DataError(f"{text.key}: {reason}; install it where jobs run, or name a file by prompt_file")


def _in_json(content: str, place: Path, member: str) -> Any:
    return _walk(parse_json(content, shown(place), _WHAT), member.split("."))


def _in_python(content: str, place: Path, member: str) -> Any:
    try:
        body: list[ast.stmt] = ast.parse(content).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(
            f"{shown(place)}: is no Python source; name a text file, or a source that holds the text"
        ) from error
    names = member.split(".")
    while len(names) > 1 and (inner := _class(body, names[0])) is not None:
        body, names = inner, names[1:]
    value = _assigned(body, names[0])
    try:
        return None if value is None else _walk(ast.literal_eval(value), names[1:])
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _class(body: list[ast.stmt], name: str) -> list[ast.stmt] | None:
    return next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _assigned(body: list[ast.stmt], name: str) -> ast.expr | None:
    """What a name is last given by a plain assignment."""
    found = None
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found = node.value  # type: ignore[attr-defined]
    return found


def _walk(value: Any, keys: list[str]) -> Any:
    for key in keys:
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value
