"""Models that somebody else trained: a checkpoint, or an adapter on one, merged into plain weights."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hardscale.errors import ModelError
from hardscale.models import hub
from hardscale.models.adapters import adapter_problem, quantized_problem, quantized_training
from hardscale.models.finite import check_finite
from hardscale.models.folders import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    SMALL_FILES,
    TOKENIZER_FILES,
    folder_problem,
    tokenizer_problem,
    weight_files,
)
from hardscale.models.load import named_as, read_config, read_language_model, save_model
from hardscale.models.merge import merged, resized_rows
from hardscale.models.prepare import take_over
from hardscale.models.sources import named_source
from hardscale.settings.defenses import External
from hardscale.untrusted import guarded

#: The card may say how it was trained; tokenizers come with a vocabulary of their own.
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "README.md", *TOKENIZER_FILES)


@dataclass(frozen=True)
class SourcePlace:
    """A folder on this machine, what the study calls it, and the commit that it is of if it came from the hub."""

    folder: Path
    name: str
    commit: str | None


def assemble(settings: External, own: Path, root: Path | None, folder: Path) -> dict[str, Any]:
    """Write the model that a study describes into ``folder`` as plain weights with a tokenizer.

    Without an adapter weights are linked. With one they are merged in float32 and stored in the base's type.

    Args:
        settings: of the defense.
        own: model folder of the cell's own base, for what the study does not name.
        root: folder in hub layout, looked at before the hub.
        folder: an empty one.

    Returns:
        Where each part came from.

    Raises:
        ModelError: a part is missing, pickled, quantized or asks for remote code, or the parts do not fit together.
        StudyError: a name is none.
    """
    base = _place("base", settings.base, root, hub.MODEL_FILES) if settings.base else None
    adapter = _place("adapter", settings.adapter, root, ADAPTER_FILES) if settings.adapter else None
    tokenizer = _place("tokenizer", settings.tokenizer, root, TOKENIZER_FILES) if settings.tokenizer else None
    origin = base.folder if base else own
    spoken = tokenizer.folder if tokenizer else origin if tokenizer_problem(origin) is None else own
    problems = [("base", folder_problem(origin, with_tokenizer=False)), ("tokenizer", tokenizer_problem(spoken))]
    if adapter:
        problems.append(("adapter", adapter_problem(adapter.folder)))
        problems.append(("adapter", quantized_problem(adapter.folder, settings.quantized_training)))
    for what, problem in problems:
        if problem:
            raise ModelError(f"{what}: {problem}")
    check_finite(weight_files(origin))
    given: dict[str, Any] = {"base": base, "adapter": adapter, "tokenizer": tokenizer}
    facts = {what: {"source": p.name, "commit": p.commit} for what, p in given.items() if p}
    with named_as({folder: origin}):
        if not adapter:
            _lay(origin, spoken, folder)
            return facts
        facts["adapter"] |= _merge(origin, spoken, adapter.folder, folder, named=tokenizer is not None)
    check_finite(weight_files(folder))
    return facts


def _lay(origin: Path, spoken: Path, folder: Path) -> None:
    """A model folder with the tokenizer of another one."""
    take_over(origin, folder, [name for name in SMALL_FILES if name not in TOKENIZER_FILES])
    for name in TOKENIZER_FILES:
        if (spoken / name).is_file():
            shutil.copyfile(spoken / name, folder / name)


def _merge(origin: Path, spoken: Path, adapter: Path, folder: Path, named: bool) -> dict[str, Any]:
    """Save the base with the adapter merged into its weights, and a tokenizer; what is to be known of it.

    Args:
        origin: folder of the base.
        spoken: folder of the tokenizer.
        adapter: its folder.
        folder: to write.
        named: whether the study names that tokenizer.
    """
    check_finite([adapter / ADAPTER_WEIGHTS])
    with tempfile.TemporaryDirectory(dir=folder.parent) as place, named_as({Path(place): origin}):
        _lay(origin, spoken, Path(place))
        model, tokenizer = read_language_model(Path(place), torch.float32)
        stored = read_config(Path(place)).dtype or torch.float32
        rows = resized_rows(model, adapter)
        if rows is not None and not named and tokenizer_problem(adapter) is None:
            raise ModelError(
                f"adapter: {guarded.shown(adapter)}: trained with {rows:,} tokens, unlike its base, and has a "
                "tokenizer of its own; say which one is spoken (tokenizer: the adapter's folder)"
            )
        whole, done = merged(model, adapter)
        save_model(whole.to(stored), tokenizer, folder)
    trained_on = quantized_training(adapter)
    return {**done, **({"trained_on": trained_on, "merged_into": "weights without quantization"} if trained_on else {})}


def _place(what: str, name: str, root: Path | None, patterns: tuple[str, ...]) -> SourcePlace:
    source = named_source(what, name, root)
    if source.kind == "path":
        return SourcePlace(guarded.expanded(source.where, what, ModelError), name, None)
    folder, commit = hub.fetch(source.where, source.revision, patterns)
    return SourcePlace(folder, name, commit)
