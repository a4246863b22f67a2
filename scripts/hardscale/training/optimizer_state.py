"""The optimizer's state, handed from one block of rounds to the next inside the published folder.

Safetensors and JSON only: a published folder may come from somewhere else, and nothing in it is unpickled. One file a
rank, with what that rank's optimizer holds: under ZeRO a partition with its float32 weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hardscale.errors import TrainingError
from hardscale.training.distributed import Group
from hardscale.training.engine import Engine
from hardscale.training.session import seal, sealed

CARRY = "carry"


def write_optimizer_state(engine: Engine, folder: Path, group: Group, **facts: Any) -> None:
    """Write the optimizer's state and float32 weights; every rank calls it."""
    if group.leader:
        folder.mkdir(parents=True, exist_ok=True)
    group.barrier()
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, float | int | None] = {}
    for index, tensor in enumerate(engine.optimized_tensors):
        tensors[f"{index}"] = _own(tensor)
        for name, value in engine.optimizer_state.get(tensor, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = _own(value)
            else:
                numbers[f"{index}.{name}"] = value
    save_file(tensors, folder / _name(group.rank), metadata={"numbers": json.dumps(numbers)})
    seal(folder, group, **_setup(engine, group), **facts)


def read_optimizer_state(engine: Engine, folder: Path, group: Group) -> None:
    """Put a carried state into an engine of the same optimizer, ZeRO stage and number of ranks.

    Raises:
        TrainingError: there is none, it is damaged, or it was written by another setup.
    """
    facts = sealed(folder)
    if facts is None:
        raise TrainingError(f"{folder}: no whole optimizer state to resume from; delete {folder.parent} and run again")
    wanted = _setup(engine, group)
    differing = [f"{key} {facts.get(key)!r}, now {value!r}" for key, value in wanted.items() if facts.get(key) != value]
    if differing:
        raise TrainingError(
            f"{folder}: written with {'; '.join(differing)}; run with the same, or delete the rounds and run again"
        )
    with safe_open(folder / _name(group.rank), framework="pt", device="cpu") as file:
        numbers = json.loads((file.metadata() or {}).get("numbers", "{}"))
        names = list(file.keys())
        for index, tensor in enumerate(engine.optimized_tensors):
            with torch.no_grad():
                tensor.copy_(file.get_tensor(f"{index}"))
            prefix = f"{index}."
            state = {}
            for name in names:
                if name.startswith(prefix):
                    value = file.get_tensor(name)
                    state[name.removeprefix(prefix)] = value if value.dim() == 0 else value.to(tensor.device)
            state.update({k.removeprefix(prefix): v for k, v in numbers.items() if k.startswith(prefix)})
            if state:
                engine.optimizer_state[tensor] = state


def _setup(engine: Engine, group: Group) -> dict[str, Any]:
    return {
        "ranks": group.world,
        "zero_stage": engine.options.zero_stage,
        "optimizer": type(engine.base_optimizer).__name__,
    }


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _name(rank: int) -> str:
    return f"rank{rank:04d}.safetensors"
