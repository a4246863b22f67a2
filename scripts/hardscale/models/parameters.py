"""A model's parameters as a whole: frozen for a while, or gathered from the ranks that hold their parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def frozen(model: torch.nn.Module, evaluation: bool = True) -> Iterator[None]:
    """No parameter gradients inside, and evaluation mode where asked; both as they were after, also after an error."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training = [(module, module.training) for module in model.modules()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        if evaluation:
            model.eval()
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        for module, flag in training:
            module.training = flag


@contextlib.contextmanager
def whole_weight(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """A parameter's full value; under DeepSpeed's ZeRO-3 it is gathered (every rank has to come here)."""
    if hasattr(weight, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight], enabled=True):
            yield weight.detach().clone()
    else:
        yield weight.detach()
