"""Whether a victim's numbers are those of its model: compared once with plain forwards, before any is used.

A victim packs prompts of several lengths into one forward, reads stored prefixes and computes heads at some places
alone. Each of these is exact for most architectures and silently wrong for some, so the first prompts are also run by
the library's own forward of one prompt alone. What was run for it is no part of any count of operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from hardscale.attacks.packing import MicroBatch, RowBlock, Slice
from hardscale.errors import AttackError
from hardscale.models.outputs import FORWARD_ERRORS, failure, name_of, same_losses
from hardscale.models.window import window
from hardscale.runtime.console import say
from hardscale.runtime.memory import is_out_of_memory

if TYPE_CHECKING:
    from hardscale.attacks.victim import Victim

#: Tokens of each prompt whose losses are compared; a classifier's are those of its classes.
_N_COMPARED = 8
#: Tokens of a prompt that is compared: enough for any architecture to show what it does, and cheap.
_LONGEST = 512


class SelfCheck:
    """The comparison for one victim.

    Args:
        victim: its model is frozen meanwhile.
    """

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._done = False

    def packing(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compare a padded batch of a prompt and of a shorter one with plain forwards of each; the first call alone.

        Where parts of a forward differ from the whole, the victim is called whole from then on, and a line says so.

        Raises:
            AttackError: a batch of whole forwards differs too; or a language model reads tokens before their turn.
        """
        longest = max(prompts, key=len, default=())
        if self._done or len(longest) < 2:
            return
        self._done = True
        # Both keep the end: some classifiers pool at the end token, and fail without one.
        whole = list(longest[-min(_LONGEST, window(self._victim.model)) :])
        pair = [whole, whole[-max(len(whole) * 2 // 3, 2) :]]
        blocks = [RowBlock(0, torch.tensor([tokens])) for tokens in pair]
        if self._agrees(blocks):
            self._reads_forwards(whole)
            return
        if self._victim.in_parts:
            self._victim.call_whole()
            say(f"note: {self._name}: parts of its forward are not those of the whole, which is called, and slower")
            if self._agrees(blocks):
                self._reads_forwards(whole)
                return
        raise AttackError(
            f"{self._name}: a prompt's loss is another one in a padded batch than alone, so this architecture cannot "
            "be attacked here; use one that a prompt's neighbors do not change"
        )

    def storing(self, examples: Sequence[int]) -> None:
        """Compare forwards after stored prefixes with plain ones; where they differ, nothing is stored any more."""
        victim = self._victim
        lengths = {len(victim.cache.prefixes[example]): example for example in examples}
        more = _N_COMPARED + 2
        if not lengths or max(lengths) + more > min(_LONGEST, window(victim.model)):
            return
        chosen = [lengths[length] for length in sorted({min(lengths), max(lengths)})]
        prefixes = [list(victim.cache.prefixes[example]) for example in chosen]
        blocks = [
            RowBlock(example, torch.tensor([prefix + (2 * prefix)[: _N_COMPARED + 1 + i]]), len(prefix))
            for i, (example, prefix) in enumerate(zip(chosen, prefixes, strict=True))
        ]
        if not self._agrees(blocks):
            victim.forget()
            say(f"note: {self._name}'s forwards after stored prefixes are not those of whole prompts; none are stored")

    # --- the comparison ---------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return name_of(self._victim.model)

    def _same(self, found: torch.Tensor, wanted: torch.Tensor) -> bool:
        return same_losses(found, wanted, self._victim.model, self._victim.dtype)

    @torch.no_grad()
    def _agrees(self, blocks: Sequence[RowBlock]) -> bool:
        """Whether a packed forward of one row a block has the losses of plain ones; unknown counts as yes."""
        victim = self._victim
        n = min(_N_COMPARED, *(block.n_new - 1 for block in blocks))
        rows = [Slice(i, 0, 1) for i in range(len(blocks))]
        try:
            with victim.evaluating(), victim.autocast():
                found = victim.surprises(victim.laid_out(blocks, MicroBatch(rows, rows)), n)
                if not bool(torch.isfinite(found).all()):
                    return True  # reported where losses are used, with the example's name
                wanted = torch.stack([victim.plain_surprises(block.tokens[0].tolist(), n) for block in blocks])
        except FORWARD_ERRORS as error:
            if is_out_of_memory(error):
                return True  # the search itself takes fewer tokens at a time
            raise AttackError(failure(victim.model, "a forward of tokens and their mask alone", error)) from error
        return self._same(found, wanted)

    @torch.no_grad()
    def _reads_forwards(self, tokens: Sequence[int]) -> None:
        """Refuse a language model whose prediction of a token reads that token or later ones."""
        victim = self._victim
        with victim.evaluating(), victim.autocast():
            blind = victim.blind_surprise(tokens)
            if blind is None or not bool(torch.isfinite(blind)):
                return
            seeing = victim.plain_surprises(tokens, 1)
        if not self._same(blind[None], seeing):
            raise AttackError(
                f"{self._name}: what it says comes next changes with the tokens that do come next, so it does not "
                "write from left to right; use a causal language model"
            )
