"""A DeepSpeed engine that takes whole optimizer steps and lends its weights to attacks."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from hardscale.errors import TrainingError
from hardscale.models.parameters import frozen
from hardscale.runtime import pulse
from hardscale.runtime.instruction_set import is_pinned
from hardscale.settings.training import OptimizerSettings
from hardscale.training.batches import Batch, Classification, Objective, TokenRow, collate
from hardscale.training.distributed import Group
from hardscale.training.optimizers import build_optimizer
from hardscale.training.options import ZERO_FOLDER, RunOptions

#: Rows of one forward pass when nothing is asked for. Steps come sorted by length, so two halves hold less padding
#: than one whole: 18 % less time for 64 short prompts on a CPU.
_DEFAULT_MICRO_BATCH = 32

_Part = TypeVar("_Part")


class Engine:
    """One path for every training: ``deepspeed.initialize`` with our own optimizer, one rank or many.

    A step is :meth:`accumulate` on the step's rows (the same list on every rank), then :meth:`update`. The loss is the
    mean over all rows of the step, whatever the number of ranks and micro-batches. A training whose forward passes are
    its own takes :meth:`accumulate_parts` instead.

    Args:
        model: a transformers model that returns ``logits``, with ``config.pad_token_id``; any module where only
            :meth:`accumulate_parts` is used. Its parameters that want no gradient are left alone.
        settings: optimizer and schedule.
        factor: factor on the learning rate at each 0-based step of this engine.
        batch_size: most rows of a step, over all ranks.
        group: the ranks.
        options: ZeRO stage, precision, micro-batch.
        objective: the loss; classification by default.
        n_micro: micro-batches of a step on every rank; from the sizes of batch and micro-batch when absent.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerSettings,
        *,
        factor: Callable[[int], float],
        batch_size: int,
        group: Group,
        options: RunOptions,
        objective: Objective | None = None,
        n_micro: int | None = None,
    ) -> None:
        self.group, self.options = group, options
        self._settings = settings
        self._objective = objective or Classification()
        rows_per_rank = math.ceil(batch_size / group.world)
        most = math.ceil(rows_per_rank / n_micro) if n_micro else options.micro_batch or _DEFAULT_MICRO_BATCH
        #: Rows of a micro-batch, and micro-batches of a step on every rank.
        self.micro, self.n_micro = min(most, rows_per_rank), n_micro or math.ceil(rows_per_rank / most)
        self.n_params = sum(parameter.numel() for parameter in model.parameters())
        self.deepspeed = self._initialize(model, factor)
        self.module: nn.Module = self.deepspeed.module

    @property
    def adafactor_is_factored(self) -> bool | None:
        """Whether Adafactor factors its second moment; None for another optimizer."""
        return self._settings.factored if self._settings.kind == "adafactor" else None

    def _initialize(self, model: nn.Module, factor: Callable[[int], float]) -> Any:
        import deepspeed

        stage, settings = self.options.zero_stage, self._settings
        if self.adafactor_is_factored and stage >= 1:
            raise TrainingError(
                f"optimizer.factored: found true with ZeRO stage {stage}, whose partitions have no rows and columns; "
                "give --zero-stage 0, or set optimizer.factored: false or optimizer.kind: adamw in the study"
            )
        config = json.loads((ZERO_FOLDER / f"zero{stage}.json").read_text(encoding="utf-8"))
        config |= {"train_micro_batch_size_per_gpu": self.micro, "gradient_accumulation_steps": self.n_micro}
        config["bf16"] = {"enabled": self.options.dtype == "bfloat16"}
        # Always said: DeepSpeed clips at 1 where nothing is. Without ZeRO we clip ourselves, for it reports no norm
        # there; its second clipping at the same norm is rounding, by a root that makers' processors give differently.
        # It stays where nothing is pinned: a native result is what it was.
        config["gradient_clipping"] = 0.0 if is_pinned() and stage == 0 else settings.max_grad_norm or 0.0
        if stage >= 1:
            config["zero_allow_untested_optimizer"] = settings.kind == "adafactor"
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=build_optimizer([p for p in model.parameters() if p.requires_grad], settings),
            lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
            config=config,
        )
        if self.group.world == 1 and stage == 0:
            engine.enable_backward_allreduce = False  # nobody to reduce with; it would copy every gradient twice
        return engine

    # --- steps ------------------------------------------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return float(self.deepspeed.get_lr()[0])

    def accumulate(self, rows: Sequence[TokenRow], seed: int) -> list[torch.Tensor]:
        """Gradients of the mean loss over ``rows``; nothing is updated yet.

        Args:
            rows: all rows of the step, the same on every rank; least padding when sorted by length.
            seed: of this step's dropout.

        Returns:
            This rank's row losses (its rows are ``rows[rank::world]``, in order), as one tensor a micro-batch.
        """
        total = sum(self._objective.weight(row) for row in rows)
        losses: list[torch.Tensor] = []

        def mean_loss(forward: Callable[..., Any], part: Sequence[TokenRow]) -> torch.Tensor:
            batch = self.collate(part, rows[0])
            output = forward(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, **self._objective.forward_arguments
            )
            row_losses = self._objective.row_losses(output.logits, batch)
            losses.append(row_losses.detach()[: len(part)])
            return (row_losses * batch.weights).sum() / total

        self.accumulate_parts(self.parts(rows), mean_loss, seed)
        return losses

    def accumulate_parts(
        self, parts: Sequence[_Part], loss_of: Callable[[Callable[..., Any], _Part], torch.Tensor], seed: int
    ) -> list[torch.Tensor]:
        """Gradients of a sum of losses over all ranks and micro-batches; nothing is updated yet.

        Args:
            parts: this rank's micro-batches, :attr:`n_micro` on every rank.
            loss_of: told the forward pass and one of ``parts``; runs the pass exactly once and returns what this part
                adds to the loss, a scalar. What a mean is taken over is counted over all ranks and micro-batches.
            seed: of this step's dropout.

        Returns:
            What each part added, detached.
        """
        if len(parts) != self.n_micro:
            raise TrainingError(f"{len(parts)} micro-batches for an engine of {self.n_micro}; give as many")
        torch.manual_seed(seed + self.group.rank)
        self.module.train()
        # DeepSpeed averages over ranks and micro-batches; wanted here is the sum.
        scale = self.group.world * self.n_micro
        added = []
        for index, part in enumerate(parts):
            pulse.beat()
            loss = loss_of(self.deepspeed, part)
            self.deepspeed.backward(loss * scale)
            added.append(loss.detach())
            if index + 1 < self.n_micro:
                self.deepspeed.step()
        return added

    def parts(self, rows: Sequence[TokenRow]) -> list[Sequence[TokenRow]]:
        """Micro-batches of this rank: ``rows[rank::world]`` in order; the last may be short or empty."""
        mine = rows[self.group.rank :: self.group.world]
        return [mine[index * self.micro : (index + 1) * self.micro] for index in range(self.n_micro)]

    def collate(self, part: Sequence[TokenRow], filler: TokenRow) -> Batch:
        """A micro-batch as tensors on the device, filled up to :attr:`micro` rows with a token of ``filler``."""
        batch = collate(part, self.micro, _pad_id(self.module), filler.ids[0])
        if self.group.device.type == "cpu":
            return batch
        return Batch(*(getattr(batch, name).to(self.group.device) for name in Batch.__dataclass_fields__))

    def weight(self, row: TokenRow) -> int:
        """Weight of a row in the mean loss."""
        return self._objective.weight(row)

    def update(self) -> float:
        """Clip, step the optimizer and the schedule.

        Returns:
            The global gradient norm before clipping.
        """
        if self.options.zero_stage == 0:
            limit = self._settings.max_grad_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), limit)
            self.deepspeed.step()
            return float(norm)
        self.deepspeed.step()
        return float(self.deepspeed.get_global_grad_norm())

    # --- the weights between steps ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def frozen_module(self) -> Iterator[nn.Module]:
        """The module for attacks and evaluation: no parameter wants a gradient, eval mode; restored afterwards.

        Attacks must use what this yields, never the engine: a backward pass through the engine's outputs runs its
        gradient bookkeeping, which under ZeRO-3 silently divides gradients by the accumulation steps. Under ZeRO-3 a
        whole copy is yielded, so that ranks may run different numbers of forward passes.
        """
        if self.options.zero_stage == 3:
            copy = self._whole_copy()
            copy.requires_grad_(False)
            yield copy.eval()
            return
        with self.frozen_in_place() as module:
            yield module

    @contextlib.contextmanager
    def frozen_in_place(self, evaluation: bool = True) -> Iterator[nn.Module]:
        """As :meth:`frozen_module`, never a copy: under ZeRO-3 all ranks run equally many forward and backward passes.

        Args:
            evaluation: evaluation mode; else the mode that it is in.
        """
        with frozen(self.module, evaluation):
            yield self.module

    def _whole_copy(self) -> nn.Module:
        import deepspeed

        with torch.random.fork_rng():
            copy = type(self.module)(self.module.config)
        copy.to(device=self.group.device, dtype=next(self.module.parameters()).dtype)
        buffers = dict(self.module.named_buffers())
        with torch.no_grad():
            for (_, target), source in zip(copy.named_parameters(), self.module.parameters(), strict=True):
                with deepspeed.zero.GatheredParameters([source]):
                    target.copy_(source)
            for name, buffer in copy.named_buffers():
                buffer.copy_(buffers[name])
        return copy

    # --- optimizer state, for the next job or for a fresh start -----------------------------------------------------

    @property
    def base_optimizer(self) -> torch.optim.Optimizer:
        """The torch optimizer under DeepSpeed's wrapper."""
        return self.deepspeed.optimizer.optimizer if self.options.zero_stage else self.deepspeed.optimizer

    @property
    def optimized_tensors(self) -> list[torch.Tensor]:
        """What this rank's optimizer updates: the parameters, or its float32 partitions of them."""
        if self.options.zero_stage == 0:
            return [parameter for group in self.base_optimizer.param_groups for parameter in group["params"]]
        wrapper = self.deepspeed.optimizer
        whole = self.options.zero_stage < 3
        return list(wrapper.single_partition_of_fp32_groups if whole else wrapper.fp32_partitioned_groups_flat)

    @property
    def optimizer_state(self) -> dict[torch.Tensor, dict[str, Any]]:
        """State of each of :attr:`optimized_tensors`, to read and to replace."""
        return self.base_optimizer.state

    def reset_optimizer(self) -> None:
        """Forget the optimizer's state."""
        self.base_optimizer.state.clear()


def weights_dtype(options: RunOptions) -> torch.dtype:
    """Of the model that an engine with these options trains."""
    return torch.bfloat16 if options.dtype == "bfloat16" else torch.float32


def _pad_id(model: nn.Module) -> int:
    pad = getattr(model.config, "pad_token_id", None)
    if pad is None:
        raise TrainingError(f"{type(model).__name__}: config.pad_token_id is not set; prepare the model again")
    return int(pad)
