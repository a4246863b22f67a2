"""Tiny artifacts for the training tests, and ranks made by forking: no import is paid twice, any may be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401 - seconds of imports that ZeRO makes when it starts
import torch
from transformers import GPTNeoXConfig, GPTNeoXForSequenceClassification

from hardscale.artifacts.manifest import read_manifest
from hardscale.models.prepare import prepare_model
from hardscale.settings.models import FamilySettings
from hardscale.settings.tasks import TaskSettings, WordSource
from hardscale.tasks.build import prepare_task
from hardscale.training.batches import TokenRow
from hardscale.training.distributed import start_group
from waiting import HANG_SECONDS

CELL = "password_match/nano/xs/s0"
FINETUNE = {
    "cell": CELL,
    "seed": 5,
    "ranks": 1,
    "max_tokens": 1000,
    "settings": {
        "steps": 8,
        "batch_size": 6,
        "n_clean": 24,
        "optimizer": {"kind": "adamw", "learning_rate": 2e-3, "warmup_steps": 2},
        "exposure": {"probability": 0.5, "max_tokens": 3},
    },
}
GCG = {"kind": "gcg", "n_iterations": 1, "n_iterations_end": 3, "n_candidates": 4, "top_k": 8, "n_attack_tokens": 3}
ROUNDS = {
    "rounds": 3,
    "attack": GCG,
    "n_new_examples": 5,
    "set_size": 14,
    "batch_size": 5,
    "n_clean": 24,
    "optimizer": {"kind": "adafactor", "learning_rate": 1e-3, "schedule": "linear"},
    "exposure": {"probability": 0.5, "max_tokens": 3},
}


def finetune_spec(**settings: Any) -> dict[str, Any]:
    return {**FINETUNE, "settings": {**FINETUNE["settings"], **settings}}


def rounds_spec(first: int, last: int, **settings: Any) -> dict[str, Any]:
    spec = {"cell": CELL, "defense": "adv", "seed": 3, "ranks": 1, "max_tokens": 1000, "first_round": first}
    return {**spec, "last_round": last, "settings": {**ROUNDS, **settings}}


def make_base(root: Path) -> tuple[Path, Path]:
    """(base, task) of a one-layer family on 30 + 24 PasswordMatch examples."""
    words = WordSource(source="letters", min_length=3, max_length=4, n_words=80)
    task = TaskSettings(instruction="Equal?\n\n", words=words, n_train=30, n_validation=24)
    prepare_task("password_match", task, 0, None, root / "task")
    shape = {"n_layers": 1, "width": 16, "n_heads": 2}
    family = FamilySettings.model_validate({"source": "scratch", "scales": {"xs": shape}, "embedding_std": 0.5})
    prepare_model("nano", "xs", family, [root / "task"], root / "base", 0)
    return root / "base", root / "task"


def tiny_model(n_labels: int = 3, dropout: float = 0.0) -> GPTNeoXForSequenceClassification:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=n_labels,
        pad_token_id=0,
        hidden_dropout=dropout,
        attention_dropout=dropout,
    )
    return GPTNeoXForSequenceClassification(config)


def tiny_rows(n: int, seed: int, n_labels: int = 3) -> list[TokenRow]:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 9, (n,), generator=rng).tolist()
    ids = [torch.randint(1, 40, (length,), generator=rng).tolist() for length in lengths]
    return [TokenRow(i, row, i % n_labels) for i, row in enumerate(ids)]


def files_of(folder: Path) -> dict[str, str]:
    """Hashes of what equality of two artifacts is about."""
    return {name: entry["sha256"] for name, entry in read_manifest(folder)["files"].items()}


#: How long a rank may take to say why it ends, after another one has.
_LAST_WORDS_SECONDS = 30.0


class DiedError(Exception):
    """A forked rank ended in another way than by returning."""


def in_ranks(
    function: Callable[..., Any], *arguments: Any, world: int = 1, fault: str | None = None, codes: bool = False
) -> list[Any]:
    """``function(group, *arguments)`` in forked ranks; its results in rank order, or the exit codes.

    Raises:
        DiedError: a rank did not return (with the exit codes of all).
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        meeting = Path(place) / uuid.uuid4().hex
        made = [
            context.Process(target=_rank, args=(function, arguments, rank, world, meeting, fault))
            for rank in range(world)
        ]
        for process in made:
            process.start()
        _wait(made)
        ended = [process.exitcode for process in made]
        if codes:
            return ended
        if any(ended):
            said = [path.read_text() for path in sorted(Path(place).glob("*.error"))]
            raise DiedError(f"exit codes {ended}\n" + "\n".join(said))
        return [json.loads((Path(place) / f"{rank}.json").read_text()) for rank in range(world)]


def _wait(made: list[Any]) -> None:
    for process in made:
        process.join(HANG_SECONDS)
        if process.exitcode != 0:
            for other in made:
                other.join(_LAST_WORDS_SECONDS)
                if other.is_alive():
                    os.kill(other.pid, signal.SIGKILL)
                    other.join()


def _rank(
    function: Callable[..., Any], arguments: tuple[Any, ...], rank: int, world: int, meeting: Path, fault: str | None
) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    if fault:
        os.environ["HARDSCALE_FAULT"] = fault
    try:
        result = function(start_group(1, meeting), *arguments)
        (meeting.parent / f"{rank}.json").write_text(json.dumps(result))
        sys.stdout.flush()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        (meeting.parent / f"{rank}.error").write_text(traceback.format_exc())
        code = 1
    os._exit(code)
