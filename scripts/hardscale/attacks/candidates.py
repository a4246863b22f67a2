"""Candidates of GCG: which single-token replacements are tried, and which of them survive as text."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from hardscale.attacks.codec import Codec
from hardscale.attacks.places import Layout, survive_alone
from hardscale.attacks.starts import MOST_TRIES, first_layout
from hardscale.errors import AttackError

#: Entries of the score matrix held at once while tokens are ranked.
_RANKED_ENTRIES = 2**25


def initial_layout(
    codec: Codec, before: str, after: str, text: str, n_tokens: int, rng: random.Random, name: str
) -> Layout:
    """The prompt with the first attack text; see :func:`hardscale.attacks.starts.first_layout`.

    Raises:
        AttackError: nothing tried tokenizes cleanly; names the example.
    """
    found = first_layout(codec, before, after, text, n_tokens, rng)
    if found is None:
        raise AttackError(
            f"example {name}: no attack text of {n_tokens} tokens stays apart from its neighbors when the prompt is "
            f"tokenized ({MOST_TRIES:,} tried); choose another position"
        )
    return found


def ranked_tokens(gradients: torch.Tensor, embeddings: torch.Tensor, allowed: torch.Tensor, top_k: int) -> torch.Tensor:
    """At each position, the ``top_k`` allowed tokens whose one-hot entry has the most negative gradient.

    With ``x = onehot @ E`` the gradient of the loss at the one-hot entries is ``g @ E.T``, ``g`` being the gradient at
    the embeddings; no forward of one-hot vectors is needed.

    Args:
        gradients: shape ``(examples, positions, hidden)``.
        embeddings: ``E``, shape ``(vocabulary, hidden)``.
        allowed: which tokens may be inserted, bool, shape ``(vocabulary,)``.
        top_k: tokens kept at each position; fewer where fewer are allowed.

    Returns:
        token ids on the CPU, shape ``(examples, positions, k)``, ascending: their order carries no meaning, and so
        float noise between equal runs cannot change it.
    """
    n_examples, n_positions, _ = gradients.shape
    k = min(top_k, int(allowed.sum()))
    step = max(_RANKED_ENTRIES // (n_positions * embeddings.shape[0]), 1)
    parts = []
    for start in range(0, n_examples, step):
        scores = gradients[start : start + step].float() @ embeddings.float().T
        scores.masked_fill_(~allowed, float("inf"))
        parts.append(scores.topk(k, dim=-1, largest=False).indices.sort(dim=-1).values)
    return torch.cat(parts).cpu()


def sample_replacements(
    current: Sequence[int], pool: torch.Tensor, n_candidates: int, rng: random.Random
) -> torch.Tensor:
    """Copies of the attack tokens with one token replaced, drawn without replacement from a pool.

    Args:
        current: the attack tokens.
        pool: tokens that may be put at each position, shape ``(positions, k)``.
        n_candidates: copies wanted; the whole pool where it is smaller.
        rng: of the example.

    Returns:
        shape ``(n, positions)``.
    """
    n_positions, k = pool.shape
    drawn = torch.tensor(rng.sample(range(n_positions * k), min(n_candidates, n_positions * k)))
    positions = drawn // k
    candidates = torch.tensor(list(current)).repeat(len(drawn), 1)
    candidates[torch.arange(len(drawn)), positions] = pool[positions, drawn % k]
    return candidates


def surviving(
    codec: Codec, layouts: Sequence[Layout], currents: Sequence[Sequence[int]], candidates: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[list[str]]]:
    """The candidates that are the same tokens when read from text, for many examples in a few tokenizer calls.

    A candidate is kept when it differs from the current attack tokens, its tokens survive decoding and encoding alone
    (where that can be told: :func:`hardscale.attacks.places.survive_alone`), and the whole prompt, tokenized from its
    text, is the tokens before, the candidate and the tokens after.

    Returns:
        for each example the kept candidates, shape ``(kept, positions)``, in order, and their texts.
    """
    rows = [
        (example, row)
        for example, (current, part) in enumerate(zip(currents, candidates, strict=True))
        for row in part.tolist()
        if row != list(current)
    ]
    alone = survive_alone(codec, [row for _, row in rows])
    rows = [row for row, survives in zip(rows, alone, strict=True) if survives]
    rows_left = [
        (example, row, text.removeprefix(layouts[example].shared))
        for (example, row), text in zip(rows, codec.spell([row for _, row in rows]), strict=True)
        if text.startswith(layouts[example].shared)
    ]
    prompts = [layouts[e].before + text + layouts[e].after for e, _, text in rows_left]
    kept: list[list[list[int]]] = [[] for _ in layouts]
    kept_texts: list[list[str]] = [[] for _ in layouts]
    heads, tails = [list(x.head) for x in layouts], [list(x.tail) for x in layouts]
    for (example, row, text), ids in zip(rows_left, codec.encode_prompts(prompts), strict=True):
        if ids == heads[example] + row + tails[example]:
            kept[example].append(row)
            kept_texts[example].append(text)
    width = [part.shape[1] for part in candidates]
    return [
        torch.tensor(part, dtype=torch.long).reshape(-1, n) for part, n in zip(kept, width, strict=True)
    ], kept_texts
