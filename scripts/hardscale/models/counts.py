"""Parameter counts and shapes from a configuration alone: models are built on the meta device, without memory."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from hardscale.errors import ModelError
from hardscale.models.flops import ModelShape
from hardscale.untrusted import guarded


def has_classifier(config: PretrainedConfig) -> bool:
    """Whether transformers has a sequence classifier of this architecture."""
    return _known(AutoModelForSequenceClassification, config)


def has_language_model(config: PretrainedConfig) -> bool:
    """Whether transformers has a causal language model of this architecture."""
    return _known(AutoModelForCausalLM, config)


def classifier_parameters(config: PretrainedConfig, n_labels: int = 2) -> int:
    """All parameters of the sequence classifier: the N of every x-axis.

    Input embeddings are in, the unembedding is out, the head of ``n_labels`` rows is in.

    Raises:
        ModelError: transformers has no sequence classifier of this architecture.
    """
    return sum(
        p.numel() for p in _on_meta(AutoModelForSequenceClassification, config, num_labels=n_labels).parameters()
    )


def generative_parameters(config: PretrainedConfig) -> int:
    """Parameters of the language model without an untied unembedding: the N of pretraining.

    Raises:
        ModelError: transformers has no language model of this architecture.
    """
    model = _on_meta(AutoModelForCausalLM, config)
    head = model.get_output_embeddings()
    kept = {id(p) for p in model.parameters()} - {id(p) for p in (head.parameters() if head is not None else ())}
    embeddings = model.get_input_embeddings()
    kept |= {id(p) for p in embeddings.parameters()}  # a tied unembedding is the embedding: it stays
    return sum(p.numel() for p in model.parameters() if id(p) in kept)


def language_model_parameters(config: PretrainedConfig) -> int:
    """All parameters of the language model, an untied unembedding included."""
    return sum(p.numel() for p in _on_meta(AutoModelForCausalLM, config).parameters())


def model_shape(config: PretrainedConfig) -> ModelShape:
    """What :mod:`hardscale.models.flops` needs to know. Mixtures of experts are counted as if every expert ran.

    Raises:
        ModelError: transformers does not know the architecture.
    """
    text = config.get_text_config()
    width, heads = text.hidden_size, text.num_attention_heads
    body = _on_meta(AutoModel, config)
    embeddings = {id(p) for module in body.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    return ModelShape(
        n_layers=text.num_hidden_layers,
        width=width,
        intermediate=getattr(text, "intermediate_size", None) or getattr(text, "ffn_dim", None) or 4 * width,
        n_heads=heads,
        n_kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        vocab=text.vocab_size,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        n_body_params=sum(p.numel() for p in body.parameters() if p.dim() >= 2 and id(p) not in embeddings),
        head_dim=getattr(text, "head_dim", None),
    )


def _on_meta(factory: type, config: PretrainedConfig, **changes: int) -> PreTrainedModel:
    name = factory.__name__.removeprefix("Auto")
    if not _known(factory, config):
        raise ModelError(
            f"model_type {config.model_type!r}: transformers has no {name} of it; use a decoder such as gpt_neox, "
            "llama or qwen2"
        )
    try:
        config = type(config).from_dict({**config.to_dict(), **changes})
        with torch.device("meta"):
            return factory.from_config(config, trust_remote_code=False)  # type: ignore[attr-defined]
    except Exception as error:  # whatever half-valid settings lead an architecture into
        reason = guarded.shown(" ".join(str(error).split())[:160]) or type(error).__name__
        raise ModelError(
            f"model_type {config.model_type!r}: no {name} can be made of its configuration ({reason}); give a folder "
            "written by save_pretrained"
        ) from error


def _known(factory: type, config: PretrainedConfig) -> bool:
    return type(config) in factory._model_mapping  # type: ignore[attr-defined]
