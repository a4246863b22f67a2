"""Where the model of a (family, scale) comes from. No torch and no transformers here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardscale.errors import StudyError
from hardscale.models.ladder import BUILTIN_FAMILIES, BuiltinScale
from hardscale.settings.models import FamilySettings, HubScale, ScratchScale

_HUB_NAME = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class ModelSource:
    """A resolved source.

    Attributes:
        kind: where to look.
        where: hub name, folder or file; empty for scratch.
        revision: asked for in the study; none otherwise.
        pretrain_tokens: none when unknown.
        builtin: what is known of a builtin scale.
        scratch: shape of a model made here.
    """

    kind: Literal["scratch", "hub", "path", "gguf"]
    where: str
    revision: str | None = None
    pretrain_tokens: float | None = None
    builtin: BuiltinScale | None = None
    scratch: ScratchScale | None = None

    @property
    def label(self) -> str:
        """``hub:org/name``, ``path:FOLDER``, ``gguf:FILE`` or ``scratch``."""
        return f"{self.kind}:{self.where}" if self.where else self.kind


def resolve_source(family: str, scale: str, settings: FamilySettings, root: Path | None = None) -> ModelSource:
    """The source of one scale.

    Args:
        family: its name in the study.
        scale: its name in the family.
        settings: of the family.
        root: folder in hub layout; a model found there as ``org/name`` is used in place of the hub.

    Raises:
        StudyError: the family has no such scale.
    """
    if settings.source == "builtin":
        known = BUILTIN_FAMILIES.get(family, {})
        if scale not in known:
            raise StudyError(f"families.{family}: no builtin scale {scale!r}; known: {', '.join(known) or 'none'}")
        builtin = known[scale]
        return _hub(builtin.hub, None, builtin.pretrain_tokens, root, builtin)
    described = settings.scales.get(scale) if isinstance(settings.scales, dict) else None
    if isinstance(described, ScratchScale):
        return ModelSource("scratch", "", scratch=described)
    if isinstance(described, HubScale):
        if described.path:
            return ModelSource("path", described.path, pretrain_tokens=described.pretrain_tokens)
        if described.gguf:
            return ModelSource("gguf", described.gguf, pretrain_tokens=described.pretrain_tokens)
        return _hub(described.hub or "", described.revision, described.pretrain_tokens, root, None)
    raise StudyError(f"families.{family}.scales: no {scale!r}; known: {', '.join(settings.scales or []) or 'none'}")


def named_source(key: str, name: str, root: Path | None = None) -> ModelSource:
    """The source that a study names by one string: a folder, or ``hub:org/name[@revision]``.

    Raises:
        StudyError: it begins like a name on the hub and is none.
    """
    if not name.startswith("hub:"):
        return ModelSource("path", name)
    match = _HUB_NAME.fullmatch(name)
    if match is None or ".." in name:
        raise StudyError(f"{key}: {name!r} is not hub:org/name or hub:org/name@revision; fix it in the study")
    if root is not None and (root / match["repo"]).is_dir():
        return ModelSource("path", str(root / match["repo"]))
    return ModelSource("hub", match["repo"], match["revision"])


def _hub(
    name: str, revision: str | None, tokens: float | None, root: Path | None, builtin: BuiltinScale | None
) -> ModelSource:
    if root is not None and (root / name / "config.json").is_file():
        return ModelSource("path", str(root / name), pretrain_tokens=tokens, builtin=builtin)
    return ModelSource("hub", name, revision, tokens, builtin)
