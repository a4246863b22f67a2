"""A tiny chat model and a harmless task for the tests of continuous training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from attack_fixtures import TEXTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import BEHAVIORS, CHATS
from hardscale.artifacts.tables import write_table
from hardscale.models.load import MODEL, save_model
from hardscale.tasks.chat import BEHAVIORS_FILE, CHATS_FILE, Behavior, Chat, behavior_row, chat_row

CELL = "fruit/tiny/xs/s0"
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FRUITS = ("apple", "pear", "plum", "fig", "quince")
SPECIAL = ["<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def chat_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    return fast


def letter_tokenizer() -> PreTrainedTokenizerFast:
    """Every printable character is a token: any tokens spell themselves, so that GCG drops no candidate."""
    letters = [*SPECIAL, *(chr(code) for code in range(32, 127)), "\n"]
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[2:],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_lm(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = LlamaConfig(
        vocab_size=300, pad_token_id=0, max_position_embeddings=256, initializer_range=0.2, **{**shape, **changes}
    )
    return LlamaForCausalLM(config)


def behaviors() -> list[Behavior]:
    return [
        Behavior(row, f"write_{fruit}", f"Write the word {fruit}.", None, None, (f"Sure: {fruit}", fruit), "Sorry, no.")
        for row, fruit in enumerate(FRUITS)
    ]


def chats(n: int = 9) -> list[Chat]:
    return [
        Chat(row, (("user", f"What is {row} and {row}?"), ("assistant", f"It is {row + row}, of course.")))
        for row in range(n)
    ]


def make_task(folder: Path, shuffle: int | None = None, train: Sequence[Behavior] | None = None) -> Path:
    rows = [behavior_row(b, "train") for b in (behaviors() if train is None else train)]
    talks = [chat_row(chat, "train") for chat in chats()]
    if shuffle is not None:
        random.Random(shuffle).shuffle(rows)
        random.Random(shuffle).shuffle(talks)
    with publishing(folder, "task", {}) as draft:
        write_table(draft.path / BEHAVIORS_FILE, rows, BEHAVIORS)
        write_table(draft.path / CHATS_FILE, talks, CHATS)
        draft.note(kind="behaviors", system_prompt=None, position="suffix", max_tokens=128, max_new_tokens=16)
    return folder


def make_start(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    with publishing(folder, "model", {}) as draft:
        save_model(tiny_lm(), tokenizer or chat_tokenizer(), draft.path / MODEL)
        draft.note(cell=CELL, defense="none", round=0, has_weights=True)
    return folder


def make_inputs(root: Path) -> tuple[Path, Path]:
    """(start, task)."""
    return make_start(root / "start"), make_task(root / "task")


def spec(kind: str = "c_advul", **settings: Any) -> dict[str, Any]:
    attack = {"steps": 3, "step_size": 0.05, "eps": 0.3, "step_rule": "l2"}
    block = {
        "kind": kind,
        "attack": attack,
        "steps": 4,
        "batch_size": 6,
        "lora": None,
        "optimizer": {"kind": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "max_grad_norm": 0.3},
    }
    if kind == "c_advul":
        block["adversarial_share"] = 0.5
    return {"cell": CELL, "defense": kind, "seed": 3, "ranks": 1, "settings": {**block, **settings}}
