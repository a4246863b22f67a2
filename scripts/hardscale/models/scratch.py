"""Small GPT-NeoX models made here: configuration and an initialization that depends on nothing but its seed."""

from __future__ import annotations

import torch
from torch import nn
from transformers import GPTNeoXConfig

from hardscale.artifacts.seeds import derive_seed
from hardscale.settings.models import FamilySettings, ScratchScale


def scratch_config(
    settings: FamilySettings, scale: ScratchScale, vocab_size: int, pad_token_id: int, n_labels: int = 2
) -> GPTNeoXConfig:
    """A Pythia-like decoder of the given shape: full rotary embeddings, no dropout, feed-forward width ``4 * width``.

    Args:
        settings: of the family (longest context, standard deviation of the weights).
        scale: layers, width and heads.
        vocab_size: tokens the family's tokenizer knows.
        pad_token_id: of padding, which is also the end of text.
        n_labels: classes of the head.
    """
    return GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=scale.width,
        num_hidden_layers=scale.n_layers,
        num_attention_heads=scale.n_heads,
        intermediate_size=4 * scale.width,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
        max_position_embeddings=settings.max_positions,
        initializer_range=settings.init_std,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        classifier_dropout=0.0,
        tie_word_embeddings=False,
        bos_token_id=pad_token_id,
        eos_token_id=pad_token_id,
        pad_token_id=pad_token_id,
        num_labels=n_labels,  # type: ignore[call-arg]
    )


@torch.no_grad()
def initialize_(model: nn.Module, seed: int, std: float, embedding_std: float) -> None:
    """Fill every parameter in place: matrices ``N(0, std^2)``, embeddings ``N(0, embedding_std^2)``, norms 1, biases 0.

    Each parameter has its own stream, keyed by its name: a language model and a classifier of one seed share their
    body, and the global random state is neither read nor changed. Values are drawn in float32 on the CPU, so dtype and
    device of the model do not change them.
    """
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in embeddings:
            normal_(parameter, seed, name, embedding_std)
        elif parameter.dim() >= 2:
            normal_(parameter, seed, name, std)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


@torch.no_grad()
def normal_(parameter: torch.Tensor, seed: int, name: str, std: float) -> None:
    """Fill one parameter with ``N(0, std^2)`` from the stream of ``(seed, name)``."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "parameter", name))
    parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * std)
