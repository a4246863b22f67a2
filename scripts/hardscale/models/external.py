"""Models that somebody else trained: a checkpoint, or an adapter on one, merged into plain weights."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from hardscale.errors import ModelError
from hardscale.models import hub
from hardscale.models.folders import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    SMALL_FILES,
    TOKENIZER_FILES,
    adapter_problem,
    folder_problem,
    tokenizer_problem,
)
from hardscale.models.load import read_config, read_language_model, save_model
from hardscale.models.prepare import take_over
from hardscale.models.sources import named_source
from hardscale.settings.defenses import External


@dataclass(frozen=True)
class Place:
    """A folder on this machine, what the study calls it, and the commit that it is of if it came from the hub."""

    folder: Path
    name: str
    commit: str | None


def assemble(settings: External, own: Path, root: Path | None, folder: Path) -> dict[str, Any]:
    """Write the model that a study describes into ``folder`` as plain weights with a tokenizer.

    Without an adapter weights are linked. With one they are merged in float32 and stored in the base's type.

    Args:
        settings: of the defence.
        own: model folder of the cell's own base, for what the study does not name.
        root: folder in hub layout, looked at before the hub.
        folder: an empty one.

    Returns:
        Where each part came from.

    Raises:
        ModelError: a part is missing, pickled, quantised or asks for remote code, or the parts do not fit together.
        StudyError: a name is none.
    """
    base = _place("base", settings.base, root, hub.MODEL_FILES) if settings.base else None
    adapter = _place("adapter", settings.adapter, root, (ADAPTER_CONFIG, ADAPTER_WEIGHTS)) if settings.adapter else None
    tokenizer = _place("tokenizer", settings.tokenizer, root, TOKENIZER_FILES) if settings.tokenizer else None
    origin = base.folder if base else own
    spoken = tokenizer.folder if tokenizer else origin if tokenizer_problem(origin) is None else own
    problems = [("base", folder_problem(origin, with_tokenizer=False)), ("tokenizer", tokenizer_problem(spoken))]
    if adapter:
        problems.append(("adapter", adapter_problem(adapter.folder)))
    for what, problem in problems:
        if problem:
            raise ModelError(f"{what}: {problem}")
    if adapter:
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            _lay(origin, spoken, Path(place))
            _merge(Path(place), adapter.folder, folder)
    else:
        _lay(origin, spoken, folder)
    given = {"base": base, "adapter": adapter, "tokenizer": tokenizer}
    return {what: {"source": p.name, "commit": p.commit} for what, p in given.items() if p}


def _lay(origin: Path, spoken: Path, folder: Path) -> None:
    """A model folder with the tokenizer of another one."""
    take_over(origin, folder, [name for name in SMALL_FILES if name not in TOKENIZER_FILES])
    for name in TOKENIZER_FILES:
        if (spoken / name).is_file():
            shutil.copyfile(spoken / name, folder / name)


def _merge(whole: Path, adapter: Path, folder: Path) -> None:
    """Save the model in ``whole`` with the adapter merged into its weights."""
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise ModelError(
            f"adapter: {adapter}: the package `peft` is missing; install it with `pip install peft`"
        ) from error
    model, tokenizer = read_language_model(whole, torch.float32)
    stored = read_config(whole).dtype or torch.float32
    try:
        handle = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu")
        _check_whole(adapter, set(get_peft_model_state_dict(handle, save_embedding_layers=False)))
        merged = handle.merge_and_unload(safe_merge=True)
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"adapter: {adapter}: does not fit its base ({reason}); give the base it was made on"
        ) from error
    save_model(merged.to(stored), tokenizer, folder)


def _check_whole(adapter: Path, loaded: set[str]) -> None:
    """PEFT passes over tensors that it finds no layer for, and draws those that it finds no tensor for."""
    with safe_open(adapter / ADAPTER_WEIGHTS, "pt") as file:
        odd = sorted(loaded ^ set(file.keys()))
    if odd:
        raise ModelError(
            f"adapter: {adapter}: {len(odd)} tensors have no counterpart in the base, such as {odd[0]}; "
            "give the base it was made on"
        )


def _place(what: str, name: str, root: Path | None, patterns: tuple[str, ...]) -> Place:
    source = named_source(what, name, root)
    if source.kind == "path":
        return Place(Path(source.where).expanduser(), name, None)
    folder, commit = hub.fetch(source.where, source.revision, patterns)
    return Place(folder, name, commit)
