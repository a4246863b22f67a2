"""Tiny models and task artifacts for the model tests."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import EXAMPLES
from hardscale.artifacts.tables import write_table
from hardscale.models.prepare import prepare_model
from hardscale.models.tokenizers import pieces_tokenizer
from hardscale.settings.models import FamilySettings

PIECES = ["Equal?\n\n", "System: ", "\nUser: ", "\n---\n", "\n\nAnswer:"]
SCRATCH = FamilySettings.model_validate(
    {
        "source": "scratch",
        "scales": {"xs": {"n_layers": 2, "width": 16, "n_heads": 2}},
        "embedding_std": 0.5,
        "max_positions": 64,
    }
)


def make_task(folder: Path, pieces: list[str] = PIECES) -> Path:
    with publishing(folder, "task", {}) as draft:
        rows = [
            {"example_id": i, "chunks": [pieces[0], f"word {i}", pieces[-1]], "modifiable": 1, "label": i % 2}
            for i in range(8)
        ]
        write_table(draft.path / "train.parquet", rows, EXAMPLES)
        draft.note(pieces=pieces)
    return folder


def make_language_model(folder: Path, kind: str = "llama", with_tokenizer: bool = True) -> Path:
    tokenizer = pieces_tokenizer(PIECES, 400)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    torch.manual_seed(0)
    model = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=1)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**shape, num_key_value_heads=1, tie_word_embeddings=True)),
        "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**shape)),
    }[kind]()
    model.save_pretrained(folder)
    if with_tokenizer:
        tokenizer.save_pretrained(folder)
    return folder


def path_family(folder: Path, **extra: object) -> FamilySettings:
    return FamilySettings.model_validate({"source": "models", "scales": {"s": {"path": str(folder), **extra}}})


def prepared_path(tmp_path: Path, kind: str = "llama") -> Path:
    origin = make_language_model(tmp_path / f"origin-{kind}", kind)
    out = tmp_path / f"base-{kind}"
    prepare_model("mine", "s", path_family(origin), [], out, 0)
    return out


def prepared_scratch(tmp_path: Path) -> Path:
    out = tmp_path / "base-scratch"
    prepare_model("nano", "xs", SCRATCH, [make_task(tmp_path / "task")], out, 0)
    return out
