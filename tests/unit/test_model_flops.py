"""FLOP counts against hand counts and against PyTorch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPTNeoXConfig, LlamaConfig

from hardscale.models.counts import model_shape
from hardscale.models.flops import (
    ModelShape,
    attended_positions,
    backward_flops,
    exact_forward_flops,
    exact_input_gradient_flops,
    exact_token_gradient_flops,
    forward_flops,
    pretraining_flops,
    training_flops,
)

TOKENS = 7
CONFIGS = {
    "gpt_neox": GPTNeoXConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        pad_token_id=0,
    ),
    "llama": LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=80,
        pad_token_id=0,
    ),
}


def counted(work):
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return counter.get_total_flops()


def unmasked_surplus(shape: ModelShape, n: int) -> int:
    """The counter sees the whole attention square; half of it lies above the diagonal."""
    return 4 * shape.query_width * shape.n_layers * (n * n - n * (n + 1) // 2)


def build(name, factory=AutoModelForSequenceClassification):
    model = factory.from_config(CONFIGS[name], attn_implementation="eager").eval().requires_grad_(False)
    return model, model_shape(CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_of_a_classifier(name):
    model, shape = build(name)
    flops = counted(lambda: model(torch.ones(1, TOKENS, dtype=torch.long), use_cache=False))
    expected = exact_forward_flops(shape, TOKENS, n_head_products=2 * TOKENS) + unmasked_surplus(shape, TOKENS)
    # transformers' rotary embedding multiplies frequencies by positions once: one tiny product on top
    assert 0 <= flops - expected <= 2 * shape.query_width * TOKENS


@pytest.mark.parametrize("name", CONFIGS)
def test_one_token_behind_a_cache(name):
    model, shape = build(name, AutoModelForCausalLM)
    cache = model(torch.ones(1, TOKENS, dtype=torch.long), use_cache=True).past_key_values
    flops = counted(lambda: model(torch.ones(1, 1, dtype=torch.long), past_key_values=cache))
    expected = exact_forward_flops(shape, 1, TOKENS, n_head_products=shape.vocab)
    assert 0 <= flops - expected <= 2 * shape.query_width


@pytest.mark.parametrize("name", CONFIGS)
def test_gradient_towards_the_inputs(name):
    model, shape = build(name)
    embeddings = torch.randn(1, TOKENS, shape.width, requires_grad=True)
    output = model(inputs_embeds=embeddings, attention_mask=torch.ones(1, TOKENS), use_cache=False).logits.sum()
    flops = counted(lambda: torch.autograd.grad(output, embeddings))
    expected = exact_input_gradient_flops(shape, TOKENS, n_head_products=2 * TOKENS)
    assert flops == expected + 2 * unmasked_surplus(shape, TOKENS)


def test_convention():
    assert forward_flops(10, 3) == 60
    assert backward_flops(10, 3) == 120
    assert training_flops(10, 3) == forward_flops(10, 3) + backward_flops(10, 3)
    assert pretraining_flops(7_628_800, 299_892_736_000) == 6 * 7_628_800 * 299_892_736_000


@pytest.mark.parametrize(("new", "cached"), [(1, 0), (5, 0), (1, 9), (4, 6)])
def test_attended_positions_by_counting(new, cached):
    assert attended_positions(new, cached) == sum(cached + i + 1 for i in range(new))


def test_a_cached_prefix_costs_what_running_it_apart_costs():
    shape = ModelShape(2, 8, 32, 2, 2, 50, False, 1_000)
    whole = exact_forward_flops(shape, 10)
    assert whole == exact_forward_flops(shape, 6) + exact_forward_flops(shape, 4, 6)


def test_exact_by_hand():
    shape = ModelShape(
        n_layers=2, width=8, intermediate=32, n_heads=2, n_kv_heads=1, vocab=50, tied=True, n_body_params=1_000
    )
    assert exact_forward_flops(shape, 3) == 2 * 1_000 * 3 + 2 * 4 * 8 * (1 + 2 + 3)
    assert exact_input_gradient_flops(shape, 3) == 2 * 1_000 * 3 + 2 * 8 * 8 * (1 + 2 + 3)
    assert exact_token_gradient_flops(shape, 10) == 2 * 10 * 50 * 8
    assert ModelShape(1, 8, 32, 2, 2, 50, True, 10, head_dim=16).query_width == 32
