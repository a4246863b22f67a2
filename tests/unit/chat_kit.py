"""Tiny chat tokenizers, tasks and models for the tests of chat models; behaviors are harmless and made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from attack_fixtures import byte_tokenizer
from tokenizers import processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hardscale.models.prepare import prepare_model
from hardscale.models.tokenizers import END_OF_TEXT
from hardscale.settings.models import FamilySettings
from hardscale.settings.study_attacks import parse_task
from hardscale.tasks.build import prepare_task

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN_CHATML = CHATML[CHATML.index("{% for") :]
INST = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
NO_GENERATION_PROMPT = PLAIN_CHATML[: PLAIN_CHATML.index("{% if add_gen")]
TRIMMING = PLAIN_CHATML.replace("m['content']", "m['content'] | trim")
SHOUTING = PLAIN_CHATML.replace("m['content']", "m['content'] | upper")
FORGETFUL = PLAIN_CHATML.replace("m['content']", "('x' if m['role'] == 'user' else m['content'])")

BEHAVIORS = [
    {"Behavior": f"Write the word {word}.", "ContextString": context, "FunctionalCategory": kind, "BehaviorID": name}
    for name, word, kind, context in [
        ("apple", "apple", "standard", ""),
        ("bread", "bread", "standard", ""),
        ("cloud", "cloud", "contextual", "Clouds are white.\nRain is wet."),
        ("daisy", "daisy", "copyright", ""),
    ]
]
TARGETS = {row["BehaviorID"]: [f"Sure, here is {row['BehaviorID']}", "Of course"] for row in BEHAVIORS}
MESSAGES = [
    [
        {"role": "user", "content": f"What comes after {i}?"},
        {"role": "assistant", "content": f"After {i} comes {i + 1}."},
    ]
    for i in range(40)
]


def chat_tokenizer(template: str | None = CHATML, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with chat markers; with ``bos`` it begins every text with ``<s>`` by itself."""
    plain = byte_tokenizer()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=type(plain.backend_tokenizer).from_str(plain.backend_tokenizer.to_str()),
        eos_token="<|im_end|>",
        bos_token="<s>",
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    if bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    tokenizer.chat_template = template
    return tokenizer


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_files(root: Path) -> Path:
    """A data root with ``mine/``: behaviors, targets and safe answers of a training and a test split, and chats."""
    folder = root / "mine"
    train = [{**row, "BehaviorID": f"t_{row['BehaviorID']}"} for row in BEHAVIORS]
    for row in train:
        row["Behavior"] = row["Behavior"].replace("word", "nice word")
    write_csv(folder / "train.csv", train)
    write_csv(folder / "test.csv", BEHAVIORS)
    write_csv(folder / "safe.csv", [{"Behavior": row["Behavior"], "Safe_Response": "I'd rather not."} for row in train])
    (folder / "targets.json").write_text(json.dumps(TARGETS | {f"t_{k}": v for k, v in TARGETS.items()}))
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in MESSAGES))
    return root


def chat_settings(**changes: Any) -> Any:
    files = {"targets": "mine/targets.json"}
    return parse_task(
        {
            "kind": "behaviors",
            "train": {"behaviors": "mine/train.csv", "safe_answers": "mine/safe.csv", **files},
            "test": {"behaviors": "mine/test.csv", **files},
            "utility": {"source": "mine/chats.jsonl", "n_validation": 4},
            **changes,
        }
    )


def make_chat_task(folder: Path, **changes: Any) -> Path:
    """A published chat task of four behaviors a split and forty short conversations."""
    make_files(folder.parent / "data")
    prepare_task("chat", chat_settings(**changes), 0, folder.parent / "data", folder)
    return folder


def make_chat_base(folder: Path, template: str | None = CHATML, seed: int = 0) -> Path:
    """A ``base_model`` artifact: a random two-layer Llama with a chat tokenizer."""
    import torch

    tokenizer = chat_tokenizer(template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 3,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    origin = folder.parent / f"{folder.name}-origin"
    LlamaForCausalLM(config).save_pretrained(origin)
    tokenizer.save_pretrained(origin)
    family = FamilySettings.model_validate({"source": "models", "scales": {"s": {"path": str(origin)}}})
    prepare_model("mine", "s", family, [], folder, 0)
    return folder
