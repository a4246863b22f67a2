"""Compute of forward and backward passes: the convention of the papers, and an exact count. No torch here.

Convention (section on compute): a forward pass costs ``2 N T`` floating point operations for N parameters and T
tokens, a backward pass ``4 N T``, training ``6 N T``. It ignores attention over the context, counts the embedding
lookup as if it were a multiplication, and a gradient towards the inputs alone as if it were one towards the weights.

Exact: multiply-adds of the matrix products that are really done, two operations each. Norms, biases, activations,
softmax and the optimizer are left out; they are linear in the width while the products are quadratic.
"""

from __future__ import annotations

from dataclasses import dataclass


def forward_flops(n_params: int, n_tokens: int) -> float:
    """``2 N T``."""
    return 2.0 * n_params * n_tokens


def backward_flops(n_params: int, n_tokens: int) -> float:
    """``4 N T``."""
    return 4.0 * n_params * n_tokens


def training_flops(n_params: int, n_tokens: int) -> float:
    """``6 N T``: one forward and one backward pass over every token."""
    return 6.0 * n_params * n_tokens


def pretraining_flops(n_params: int, n_tokens: float) -> float:
    """``6 N D`` for a model of N generative parameters that saw D tokens."""
    return 6.0 * n_params * n_tokens


def attack_passes(attack_steps: int) -> int:
    """Forward and backward passes of the attack on one adversarial row (20 for ten steps).

    A pass is one sequence through the model. This and the next two are the formulas of the cost table of the paper on
    continuous attacks (section on efficiency): an adversarial row costs a forward and a backward pass for each step of
    its attack, and one of each for each of its two answers; a utility row one of each.
    """
    return 2 * attack_steps


def continuous_passes(n_steps: int, n_adversarial: int, n_utility: int, attack_steps: int, n_answers: int = 2) -> int:
    """Forward and backward passes of a whole continuous training.

    Args:
        n_steps: optimizer steps.
        n_adversarial: adversarial rows of a step.
        n_utility: utility rows of a step.
        attack_steps: 0 without an attack.
        n_answers: answers of an adversarial row that are trained on: towards one, away from the other.
    """
    return n_steps * (n_adversarial * (attack_passes(attack_steps) + 2 * n_answers) + 2 * n_utility)


def r2d2_passes(n_steps: int, n_cases: int, batch_size: int, gcg_steps: int, n_candidates: int) -> int:
    """Forward and backward passes of training on discrete suffixes.

    Args:
        n_steps: optimizer steps.
        n_cases: suffixes improved in a step.
        batch_size: rows trained on in a step, utility rows and one safe answer a case; the harmful answer of each
            case comes besides.
        gcg_steps: steps of the discrete attack on each case; each evaluates ``n_candidates`` and takes one gradient.
        n_candidates: replacements tried in one of them.
    """
    attack = gcg_steps * (n_candidates + 2)
    return n_steps * (n_cases * attack + 2 * (batch_size + n_cases))


@dataclass(frozen=True)
class ModelShape:
    """What an exact count needs to know about a decoder.

    Attributes:
        n_layers: transformer blocks.
        width: of the residual stream.
        intermediate: width inside the feed-forward part.
        n_heads: query heads.
        n_kv_heads: key and value heads.
        vocab: rows of the embedding matrix.
        tied: whether the unembedding is the embedding matrix.
        n_body_params: weights of all matrices that every token is multiplied by inside the blocks; no embeddings,
            norms, biases or head.
        head_dim: width of one head; ``width / n_heads`` when absent.
    """

    n_layers: int
    width: int
    intermediate: int
    n_heads: int
    n_kv_heads: int
    vocab: int
    tied: bool
    n_body_params: int
    head_dim: int | None = None

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.n_heads * (self.head_dim or self.width // self.n_heads)


def attended_positions(n_new_tokens: int, n_cached_tokens: int = 0) -> int:
    """Query-key pairs of a causal pass: token i of the new ones sees the cached ones, the i before it and itself."""
    return n_new_tokens * n_cached_tokens + n_new_tokens * (n_new_tokens + 1) // 2


def exact_forward_flops(
    shape: ModelShape, n_new_tokens: int, n_cached_tokens: int = 0, n_head_products: int = 0
) -> float:
    """Operations of one sequence's forward pass behind a prefix whose keys and values are cached.

    Every new token meets every body weight once (2 operations each); in every layer, each query-key pair costs one
    product of ``query_width`` for the score and one for the weighted value.

    Args:
        shape: the model.
        n_new_tokens: tokens that are run.
        n_cached_tokens: tokens before them that are not run again.
        n_head_products: outputs of the head, each a product of ``width``: labels x positions of a classifier,
            vocabulary x positions of a language model.
    """
    return float(_products(shape, n_new_tokens, n_head_products) + _attention(shape, n_new_tokens, n_cached_tokens))


def exact_input_gradient_flops(
    shape: ModelShape, n_new_tokens: int, n_cached_tokens: int = 0, n_head_products: int = 0
) -> float:
    """Operations of the backward pass from the loss to the input embeddings, no weight gradients.

    A weight product is undone by one product of the same size (so ``2 N T`` instead of ``4 N T``); the two attention
    products have two inputs each that both need a gradient, so attention costs twice its forward pass. Arguments as for
    :func:`exact_forward_flops`.
    """
    return float(_products(shape, n_new_tokens, n_head_products) + 2 * _attention(shape, n_new_tokens, n_cached_tokens))


def exact_token_gradient_flops(shape: ModelShape, n_attack_tokens: int) -> float:
    """Operations of turning embedding gradients into one score for every vocabulary entry and attack position."""
    return 2.0 * n_attack_tokens * shape.vocab * shape.width


def _products(shape: ModelShape, n_tokens: int, n_head_products: int) -> int:
    return 2 * shape.n_body_params * n_tokens + 2 * shape.width * n_head_products


def _attention(shape: ModelShape, n_new_tokens: int, n_cached_tokens: int) -> int:
    return 4 * shape.query_width * shape.n_layers * attended_positions(n_new_tokens, n_cached_tokens)
