"""Tiny random victims and a byte-level tokenizer for the tests of attacks."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

TEXTS = [
    "Is the review good or bad?\n\nThe film was a joy from start to end, said the man who saw it twice.\n\nAnswer:",
    "Are the passwords equal?\n\nSystem password: garden\nUser password: window\n---\n\n\nAnswer:",
    "the cat and the dog went to the house on the hill and then they said that it was good",
]
PROMPTS = [
    ("Is the review good?\n\nThe film was a joy from start to end", "\n\nAnswer:"),
    ("Are the passwords equal?\n\nSystem password: garden\nUser password: garden\n---\n", "\n\nAnswer:"),
    ("Good or bad? the cat and", " the dog went to the house\n\nAnswer:"),
    ("the man said:", "\n\nAnswer:"),
    ("Is the review good?\n\n", "The film was bad from start to end\n\nAnswer:"),
]
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "num_labels": 2,
}
CONFIGS = {
    "gpt_neox": (GPTNeoXConfig, {}),
    "llama": (LlamaConfig, {"num_key_value_heads": 2}),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 2}),
    "qwen3": (Qwen3Config, {"num_key_value_heads": 2, "head_dim": 8}),
    "mistral": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": None}),
    "bert": (BertConfig, {}),
}


@functools.cache
def byte_tokenizer(vocab_size: int = 400) -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's word rules, trained on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def config(kind: str = "gpt_neox", **changes: Any) -> Any:
    make, more = CONFIGS[kind]
    vocab = len(byte_tokenizer()) + 6  # rows that no token owns, as Pythia has
    return make(**{**_SIZES, "vocab_size": vocab, "pad_token_id": 0, **more, **changes})


def classifier(kind: str = "gpt_neox", seed: int = 0, **changes: Any) -> Any:
    """A random classifier whose logits react to single tokens."""
    torch.manual_seed(seed)
    return _loud(AutoModelForSequenceClassification.from_config(config(kind, **changes)))


def language_model(kind: str = "gpt_neox", seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return _loud(AutoModelForCausalLM.from_config(config(kind, **changes)))


def _loud(model: Any) -> Any:
    """Default initialization gives logits near zero; larger weights make the losses differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(6.0)
    return model.eval()


def plain_logits(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    """Class logits by the library's own forward of one text."""
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0]
