"""Real tokenizers with the chat templates of the models that use them, and tiny random models of their architectures.

The tokenizers are read from the folder that ``HARDSCALE_TOKENIZERS`` names (``gpt_neox``, ``llama2``, ``gemma3``,
``qwen3``, each with a ``tokenizer.json``); without it the tests that need them skip and say so. Llama-2's vocabulary
stands for those of Mistral, Zephyr and Phi-3, which are of its kind.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("HARDSCALE_TOKENIZERS", "")
needs_tokenizers = pytest.mark.skipif(
    not FOLDER, reason="needs real tokenizers: HARDSCALE_TOKENIZERS names no folder with gpt_neox, llama2, ..."
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set system = false %}{% endif %}{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + turn['content'] %}"
    "{% else %}{% set content = turn['content'] %}{% endif %}"
    "{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif turn['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
#: Mistral-7B-Instruct's first template: no space before an answer.
MISTRAL_OLD = (
    "{{ bos_token }}{% for turn in messages %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}"
    "{% if turn['role'] == 'user' %}{{ '[INST] ' + turn['content'] + ' [/INST]' }}"
    "{% elif turn['role'] == 'assistant' %}{{ turn['content'] + eos_token + ' ' }}"
    "{% else %}{{ raise_exception('only user and assistant turns') }}{% endif %}{% endfor %}"
)
#: Its later one: a space before instructions and answers, none after the end token.
MISTRAL_NEW = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set turns = messages %}{%- endif %}{{- bos_token }}{%- for turn in turns %}"
    "{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('turns must alternate') }}{%- endif %}"
    "{%- if turn['role'] == 'user' %}{%- if loop.first and system is defined %}"
    "{{- ' [INST] ' + system + '\\n\\n' + turn['content'] + ' [/INST]' }}"
    "{%- else %}{{- ' [INST] ' + turn['content'] + ' [/INST]' }}{%- endif %}"
    "{%- elif turn['role'] == 'assistant' %}{{- ' ' + turn['content'] + eos_token }}"
    "{%- else %}{{- raise_exception('only user and assistant turns') }}{%- endif %}{%- endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: Phi-3's added tokens as its files have them: what stands between markers and text is swallowed (``rstrip``).
_PHI3_ADDED = (
    ("<|endoftext|>", False, True),
    ("<|assistant|>", True, True),
    *((f"<|placeholder{i}|>", True, True) for i in range(1, 5)),
    ("<|system|>", True, True),
    ("<|end|>", True, True),
    *((f"<|placeholder{i}|>", True, True) for i in range(5, 7)),
    ("<|user|>", True, True),
)


@dataclass(frozen=True)
class Pair:
    """A tokenizer and a template.

    Attributes:
        name: of the pair.
        vocabulary: folder below ``HARDSCALE_TOKENIZERS``.
        template: chat template; None for a model without one, ``"own"`` for the one in the tokenizer's folder.
        architecture: of :func:`tiny_model`.
        legacy: of a SentencePiece vocabulary: a space before every stretch of text between special tokens, as
            ``legacy: true`` files do; False: before the first alone.
        added: Phi-3's added tokens.
        bos: whether the tokenizer puts its BOS before every text.
        eos: the tokenizer's end token; its file's own when None.
    """

    name: str
    vocabulary: str
    template: str | None
    architecture: str
    legacy: bool = True
    added: bool = False
    bos: bool = True
    eos: str | None = None


PAIRS = (
    Pair("llama2", "llama2", LLAMA2, "llama"),
    Pair("llama2_not_legacy", "llama2", LLAMA2, "llama", legacy=False),
    Pair("mistral_old", "llama2", MISTRAL_OLD, "mistral"),
    Pair("mistral_new", "llama2", MISTRAL_NEW, "mistral", legacy=False),
    Pair("zephyr", "llama2", ZEPHYR, "mistral"),
    Pair("phi3", "llama2", PHI3, "phi3", added=True, bos=False, eos="<|endoftext|>"),
    Pair("gemma3", "gemma3", "own", "gemma3"),
    Pair("qwen3", "qwen3", "own", "qwen3"),
    Pair("pythia", "gpt_neox", None, "gpt_neox"),
)
#: Templates on vocabularies that they were not made for: their markers are ordinary text there.
CROSSED = (
    Pair("zephyr_on_qwen3", "qwen3", ZEPHYR, "qwen3"),
    Pair("mistral_old_on_gemma3", "gemma3", MISTRAL_OLD, "gemma3"),
    Pair("chatml_on_llama2", "llama2", CHATML, "llama"),
)
ALL_PAIRS = PAIRS + CROSSED
CHAT_PAIRS = tuple(pair for pair in ALL_PAIRS if pair.template is not None)


def by_name(pair: Pair) -> str:
    """Name of a pair, for ``pytest.mark.parametrize``."""
    return pair.name


@functools.cache
def tokenizer_of(pair: Pair) -> Any:
    """The fast tokenizer of a pair; one instance a process."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    folder = Path(FOLDER) / pair.vocabulary
    config = {}
    if (folder / "tokenizer_config.json").is_file():
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if pair.vocabulary == "llama2":
        description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if not pair.legacy:
            description["normalizer"] = None
            description["pre_tokenizer"] = {
                "type": "Metaspace",
                "replacement": "▁",
                "prepend_scheme": "first",
                "split": False,
            }
        if not pair.bos:
            description["post_processor"] = None
        backend = Tokenizer.from_str(json.dumps(description))
    else:
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if pair.added:
        for content, rstrip, special in _PHI3_ADDED:
            token = AddedToken(content, rstrip=rstrip, normalized=False, special=special)
            backend.add_special_tokens([token])
    eos = pair.eos or {"gpt_neox": "<|endoftext|>", "qwen3": "<|im_end|>"}.get(pair.vocabulary) or config["eos_token"]
    if pair.name == "gemma3":
        eos = "<end_of_turn>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token={"llama2": "<s>", "gemma3": "<bos>", "gpt_neox": "<|endoftext|>"}.get(pair.vocabulary),
        eos_token=eos,
        pad_token={"llama2": "<unk>", "gemma3": "<pad>", "qwen3": "<|endoftext|>"}.get(pair.vocabulary, eos),
        unk_token="<unk>" if pair.vocabulary in ("llama2", "gemma3") else None,
        clean_up_tokenization_spaces=False,
    )
    if pair.template == "own":
        tokenizer.chat_template = config["chat_template"]
    elif pair.template is not None:
        tokenizer.chat_template = pair.template
    return tokenizer


def tiny_config(architecture: str, vocabulary: int, **more: Any) -> Any:
    """A configuration of an architecture, 2 layers of 16."""
    from transformers import AutoConfig

    kind = {"gemma3": "gemma3_text"}.get(architecture, architecture)
    wanted = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        **({} if kind == "gpt_neox" else {"num_key_value_heads": 1, "head_dim": 8}),
        **more,
    }
    return AutoConfig.for_model(kind, **wanted)


def tiny_model(pair: Pair, seed: int = 0) -> Any:
    """A random language model of a pair's architecture and vocabulary, in float32 and evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    n = max(tokenizer_of(pair).get_vocab().values()) + 1
    return AutoModelForCausalLM.from_config(tiny_config(pair.architecture, n)).eval()
