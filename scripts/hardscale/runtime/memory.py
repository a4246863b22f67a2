"""How much goes through a model at once, and what happens when that does not fit its memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hardscale.runtime.console import say

#: What allocators say that have no error of their own: PyTorch's on the CPU, then cuBLAS.
_FULL = ("can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


@dataclass
class Budget:
    """Computed tokens of one forward, and into how many parts a forward is cut because they do not fit.

    Rows are packed as if all fitted and each part keeps the width of the whole, so that a row's numbers do not depend
    on the parts.

    Attributes:
        tokens: of a forward; None until the first user sets it by its device.
        halvings: how often memory ran out; a forward is cut in two so many times.
    """

    tokens: int | None = None
    halvings: int = 0

    def halve(self) -> None:
        """Forwards of half the size from now on, said in one line."""
        self.halvings += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"out of memory; continuing from the same point with batches 1/{2**self.halvings} as large")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that an allocation failed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _FULL)
