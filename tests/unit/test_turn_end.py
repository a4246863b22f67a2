"""Where replies end: what templates end a turn with, as a token or as text, and replies of scripted models."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from chat_kit import CHATML, INST, chat_tokenizer
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
from hardscale.evaluation.lm_eval_worker import _end_at
from hardscale.models.chat import ChatTemplate
from hardscale.models.generate import end_tokens, reply
from hardscale.models.turn_end import TurnEnd, first_end, markers, turn_end
from real_pairs import CHAT_PAIRS, Pair, by_name, needs_tokenizers, tokenizer_of

#: What ends a turn of each real pair; all but the last are tokens there.
ENDS = {
    "llama2": "</s>",
    "llama2_not_legacy": "</s>",
    "mistral_old": "</s>",
    "mistral_new": "</s>",
    "zephyr": "</s>",
    "phi3": "<|end|>",
    "gemma3": "<end_of_turn>",
    "qwen3": "<|im_end|>",
    "zephyr_on_qwen3": "<|im_end|>",
    "mistral_old_on_gemma3": "<end_of_turn>",
    "chatml_on_llama2": "<|im_end|>",
}
#: A template whose turns end in a marker that is no end token of the tokenizer.
LLAMA3 = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] + "
    "'<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
#: Plain text: an end that is no token, an end before the next question alone, and none at all.
HUMAN = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '### Human: ' + m['content'] + '\n' }}"
    "{% else %}{{ '### Robot:' + m['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Robot:' }}{% endif %}"
)


def tokenizer_with(template: str, *added: str, special: bool = True) -> Any:
    tokenizer = chat_tokenizer(template)
    tokenizer.add_tokens([AddedToken(text, special=special, normalized=False) for text in added])
    return tokenizer


@pytest.mark.parametrize(
    ("written", "marks", "end"),
    [
        ("<|end|>\n<|endoftext|>", ["<|endoftext|>", "<|end|>"], "<|end|>"),
        (" </s>", ["</s>"], " </s>"),
        ("<|im_end|>\n", [], "<|im_end|>"),
        ("</s> ", ["</s>", "</s> x"], "</s>"),
        ("<|end|><|end|>more", ["<|end|>", "<|end|>more"], "<|end|>"),
        ("<|end|>more", ["<|end|>", "<|end|>more"], "<|end|>more"),
        (" \n", [], ""),
        ("", ["</s>"], ""),
    ],
)
def test_a_turn_ends_at_its_first_marker(written: str, marks: list[str], end: str) -> None:
    assert first_end(written, marks) == end


@needs_tokenizers
@pytest.mark.parametrize("pair", CHAT_PAIRS, ids=by_name)
def test_ends_of_real_pairs(pair: Pair) -> None:
    tokenizer, end = tokenizer_of(pair), ENDS[pair.name]
    assert ChatTemplate(tokenizer).end_of_turn.strip() == end
    if pair.name == "chatml_on_llama2":
        assert turn_end(tokenizer) == TurnEnd(texts=(end,))
    else:
        assert turn_end(tokenizer) == TurnEnd(tokens=frozenset([tokenizer.convert_tokens_to_ids(end)]))


def test_white_space_is_no_marker_of_a_turn() -> None:
    tokenizer = tokenizer_with(HUMAN, "\n", "\n\n", "    ", special=False)
    assert not {"\n", "\n\n", "    "} & markers(tokenizer).keys()
    assert turn_end(tokenizer) == TurnEnd(texts=("### Human:",))
    chatml = tokenizer_with(CHATML, "\n", "  ")
    assert turn_end(chatml) == TurnEnd(tokens=frozenset([chatml.convert_tokens_to_ids("<|im_end|>")]))
    assert ChatTemplate(chatml).end_of_turn == "<|im_end|>"


def test_ends_by_template() -> None:
    llama3 = tokenizer_with(LLAMA3, "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
    assert turn_end(llama3).tokens == {llama3.convert_tokens_to_ids("<|eot_id|>")}
    ordinary = tokenizer_with(LLAMA3, "<|eot_id|>", special=False)
    assert turn_end(ordinary).tokens == {ordinary.convert_tokens_to_ids("<|eot_id|>")}
    assert turn_end(tokenizer_with(LLAMA3)) == TurnEnd(texts=("<|eot_id|>",))
    inst = chat_tokenizer(INST)
    assert turn_end(inst).tokens == {inst.eos_token_id}
    assert turn_end(chat_tokenizer(None)) == turn_end(object()) == TurnEnd()
    assert turn_end(chat_tokenizer("{{ raise_exception('no talking') }}")) == TurnEnd()
    # The template may be exchanged.
    inst.chat_template = HUMAN
    assert turn_end(inst) == TurnEnd(texts=("### Human:",))


def test_the_end_tokens_of_a_model_are_all_there_are() -> None:
    tokenizer = tokenizer_with(LLAMA3, "<|eot_id|>")
    model = tiny_model(tokenizer, [5, 6])
    model.generation_config.eos_token_id = [7]
    assert end_tokens(model, tokenizer) == {
        5,
        6,
        7,
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<|eot_id|>"),
    }


def tiny_model(tokenizer: Any, eos: Any = None) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=1024,
            eos_token_id=eos,
            bos_token_id=None,
        )
    ).eval()


@pytest.mark.parametrize(("known", "wanted"), [(3, [3, 7]), ([9, 7], [7, 9]), (None, [7])])
def test_lm_eval_ends_replies_there_too(known: Any, wanted: list[int]) -> None:
    lm = SimpleNamespace(model=SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=known)))
    _end_at(lm, [7])
    assert lm.model.generation_config.eos_token_id == wanted
    _end_at(lm, [])
    assert lm.model.generation_config.eos_token_id == wanted


def scripted(tokenizer: Any, prompt: list[int], text: str) -> Any:
    """A model that writes a text after one prompt, whatever the forwards look like, and then spaces."""
    model = tiny_model(tokenizer)
    script = [*tokenizer(text, add_special_tokens=False)["input_ids"], *[tokenizer(" ")["input_ids"][0]] * 500]

    def write(_module: Any, _args: Any, options: dict[str, Any], output: Any) -> Any:
        n, width = int(options["attention_mask"].sum()), output.logits.shape[1]
        output.logits = torch.zeros_like(output.logits)
        for column in range(width):
            at = n - width + column + 1 - len(prompt)
            output.logits[0, column, script[max(at, 0)]] = 9.0
        return output

    model.register_forward_hook(write, with_kwargs=True)
    return model


@pytest.mark.parametrize(
    ("template", "added", "said", "kept"),
    [
        (LLAMA3, ("<|eot_id|>",), "Sure.<|eot_id|>More", "Sure."),
        (LLAMA3, (), "Sure.<|eot_id|>More", "Sure."),
        (LLAMA3, (), "Sure.<|eot_id", "Sure.<|eot_id"),
        (CHATML, (), "Sure.<|im_end|>\n<|im_start|>user", "Sure."),
        (HUMAN, ("\n", "    "), "Sure.\nAnd    so.\n### Human: x", "Sure.\nAnd    so.\n"),
        (HUMAN, (), "A\n### Robot: B", "A\n### Robot: B"),
    ],
)
def test_replies_end_where_the_turn_does(template: str, added: tuple[str, ...], said: str, kept: str) -> None:
    tokenizer = tokenizer_with(template, *added, special=bool(added) and not added[0].isspace())
    prompt = ChatTemplate(tokenizer).prompt_ids("Hello.")
    n = len(tokenizer(said, add_special_tokens=False)["input_ids"])
    [found] = reply(scripted(tokenizer, prompt, said), tokenizer, [prompt], n)
    assert found == kept
    # Ended, not only cut: far fewer tokens are written than might be.
    model, steps = scripted(tokenizer, prompt, said), []
    model.register_forward_hook(lambda *_: steps.append(1))
    [found] = reply(model, tokenizer, [prompt], 200)
    assert found.rstrip() == kept.rstrip()
    assert (len(steps) <= n + 2) == (kept != said)


@needs_tokenizers
@pytest.mark.parametrize("pair", [pair for pair in CHAT_PAIRS if pair.vocabulary == "llama2"], ids=by_name)
def test_replies_keep_the_space_of_their_first_word_behind_a_begin(pair: Pair) -> None:
    tokenizer = tokenizer_of(pair)
    prompt = ChatTemplate(tokenizer).rendered_ids(ChatTemplate(tokenizer).prompt("Hello.") + "Sure,")
    for said in ("here it is", ", no"):
        # A word of this vocabulary has its space before it, behind other text too.
        model = scripted(tokenizer, prompt, said)
        ids = tokenizer(said, add_special_tokens=False)["input_ids"]
        [found] = reply(model, tokenizer, [prompt], len(ids))
        assert found == tokenizer.decode(prompt + ids).removeprefix(tokenizer.decode(prompt)) and found[0] == " "
