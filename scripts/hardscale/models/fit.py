"""Whether a model can do what a study asks of it: read texts of a length, rank tokens of a vocabulary.

What is asked is a list of demands that the study makes of one model; the model's limits are read from its
configuration, before any job where that lies at hand, and first thing in the job that fetches it elsewhere. The lines
are the same. No torch and no transformers here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardscale.errors import ModelError, StudyError
from hardscale.models.check import cached_snapshots
from hardscale.models.gguf_header import config_of, read_header
from hardscale.models.model_config import CONFIG, read_model_config
from hardscale.models.sources import ModelSource, named_source, resolve_source
from hardscale.models.window import Window, vocabulary_of, window_of
from hardscale.settings.models import FamilySettings
from hardscale.untrusted import guarded


@dataclass(frozen=True)
class Ability:
    """What a model's configuration says of it; None where it does not, or is not at hand.

    Attributes:
        window: tokens it reads.
        vocabulary: rows of its embedding matrix; of a model that is made here, at most.
    """

    window: Window | None = None
    vocabulary: int | None = None


@dataclass(frozen=True)
class LengthDemand:
    """Texts that a model is to read.

    Attributes:
        key: the setting that bounds them.
        found: its value; None where it sets no bound.
        longer: what happens to texts beyond the bound, for the message.
        more: tokens that come on top, and the settings that say so.
        known: what the texts are known not to exceed besides, if anything.
    """

    key: str
    found: int | None
    longer: str
    more: tuple[tuple[int, str], ...] = ()
    known: int | None = None

    @property
    def total(self) -> float:
        """Tokens altogether, by the setting."""
        return float("inf") if self.found is None else self.found + sum(n for n, _ in self.more)

    def problem(self, model: str, ability: Ability) -> str | None:
        """The line where the texts are longer than the model's window."""
        window = ability.window
        if window is None or self.total <= window.tokens:
            return None
        if self.known is not None and self.known + sum(n for n, _ in self.more) <= window.tokens:
            return None
        added = "".join(f", with {n:,} of {key}" for n, key in self.more)
        if self.found is None:
            found = "found null (no bound)" + added
        else:
            found = f"found {self.found:,}" + (f"{added} {self.total:,.0f} tokens" if self.more else "")
        room = window.tokens - sum(n for n, _ in self.more)
        name = self.key.rpartition(".")[2]
        fix = f"set {name}: {room} or less ({self.longer})"
        if room < 1:
            fix = f"lower {max(self.more)[1]}, which leaves no room"
        return f"{self.key}: {found}, but {model} reads {window.tokens:,} ({window.key}); {fix}, or use another model"


@dataclass(frozen=True)
class Ranked:
    """Tokens that an attack keeps at each position, of the model's vocabulary."""

    key: str
    found: int

    @property
    def total(self) -> int:
        """Tokens kept."""
        return self.found

    def problem(self, model: str, ability: Ability) -> str | None:
        """The line where the vocabulary has fewer."""
        if ability.vocabulary is None or self.found <= ability.vocabulary:
            return None
        most = ability.vocabulary
        return (
            f"{self.key}: found {self.found:,}, but {model} knows {most:,} tokens; set "
            f"{self.key.rpartition('.')[2]}: {most} or less"
        )


Demand = LengthDemand | Ranked


def problems(demands: Iterable[Demand], model: str, ability: Ability) -> list[str]:
    """A line for each setting that a model cannot meet; of several for one setting, that of the largest demand."""
    worst: dict[str, Demand] = {}
    for demand in demands:
        if demand.key not in worst or demand.total > worst[demand.key].total:
            worst[demand.key] = demand
    return [line for demand in worst.values() if (line := demand.problem(model, ability))]


def packed(demands: Sequence[Demand]) -> str:
    """Demands as one JSON text, for a job; see :func:`unpacked`."""
    return json.dumps([asdict(demand) for demand in demands], sort_keys=True)


def unpacked(text: str) -> list[Demand]:
    """The demands of a JSON text.

    Raises:
        ModelError: it is none of :func:`packed`.
    """
    try:
        rows = json.loads(text)
        return [
            LengthDemand(**{**row, "more": tuple((n, key) for n, key in row["more"])})
            if "more" in row
            else Ranked(**row)
            for row in rows
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"--demands: not what the workflow writes ({type(error).__name__}); leave it out") from error


def ability_of(family: str, scale: str, settings: FamilySettings, root: Path | None = None) -> Ability:
    """What is known of a scale before it is prepared; nothing of what lies on the hub alone, or is broken."""
    try:
        source = resolve_source(family, scale, settings, root)
    except StudyError:
        return Ability()  # said by who looks at sources
    if source.kind == "scratch":
        return Ability(
            Window(settings.max_positions, f"families.{family}.max_positions"), settings.tokenizer.vocab_size
        )
    known = _ability(source)
    if source.builtin is not None and known == Ability():
        return Ability(Window(source.builtin.window, "as it was trained"), source.builtin.vocab)
    return known


def ability_of_name(name: str, root: Path | None) -> Ability:
    """The same of a model that a study names by one string."""
    try:
        return _ability(named_source("", name, root))
    except StudyError:
        return Ability()


def config_at_hand(
    family: str, scale: str, settings: FamilySettings, root: Path | None
) -> tuple[Path | None, dict[str, Any]]:
    """The folder of a scale and its configuration; none and an empty one of what is not there before it is prepared.

    Raises:
        StudyError: the family has no such scale.
        ModelError: the configuration cannot be read.
    """
    return _config_of(resolve_source(family, scale, settings, root))


def _ability(source: ModelSource) -> Ability:
    try:
        _, config = _config_of(source)
    except (ModelError, OSError):
        return Ability()  # said by who looks at sources
    return Ability(window_of(config), vocabulary_of(config))


def _config_of(source: ModelSource) -> tuple[Path | None, dict[str, Any]]:
    if source.kind == "scratch":
        return None, {}
    if source.kind == "gguf":
        return None, config_of(read_header(guarded.expanded(source.where, "a .gguf model", ModelError)))
    if source.kind == "path":
        folder = guarded.expanded(source.where, "a model folder", ModelError)
        return folder, read_model_config(folder)
    snapshots = cached_snapshots(source.where, source.revision, CONFIG)
    return (snapshots[-1], read_model_config(snapshots[-1])) if snapshots else (None, {})
