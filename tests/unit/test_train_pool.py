"""The pool's sampling against brute force, and the sets of the published schedule."""

import itertools
import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare

from hardscale.settings.defenses import AdversarialRounds
from hardscale.training.pool import (
    PoolEntry,
    attack_iterations,
    draw_new,
    draw_set,
    draw_without_replacement,
    log_weights,
    loss_ranks,
    set_sizes,
)


def entry(loss=None, round=1):
    return PoolEntry(0, round, "text", 1, True, loss)


def test_loss_ranks_are_ranks_and_never_trained_is_highest():
    losses = [0.5, None, 0.1, 0.3, None]
    assert loss_ranks(losses).tolist() == [2, 3, 0, 1, 4]


def test_argsort_switch_gives_the_published_indices():
    losses = [0.5, None, 0.1, 0.3, None]
    assert loss_ranks(losses, "argsort").tolist() == [2, 3, 0, 1, 4]
    losses = [0.3, 0.1, 0.2]
    assert loss_ranks(losses).tolist() == [2, 0, 1]
    assert loss_ranks(losses, "argsort").tolist() == [1, 2, 0]


def test_log_weights_follow_the_formula():
    losses, alpha, decay = [0.4, 0.9, None], 0.3, 0.7
    rank = [0, 1, 2]
    rho = [(1 - alpha) * i + alpha * r for i, r in enumerate(rank)]
    expected = [decay * (value - max(rho)) for value in rho]
    assert np.allclose(log_weights(losses, alpha, decay, "true"), expected)
    assert log_weights([], 0.5, 0.005, "true").tolist() == []


def test_the_weight_is_that_of_the_loss_rank():
    losses = [0.9, 0.1, 0.5]
    assert np.argsort(log_weights(losses, 1.0, 1.0, "true")).tolist() == [1, 2, 0]  # by loss alone
    assert np.argsort(log_weights(losses, 0.0, 1.0, "true")).tolist() == [0, 1, 2]  # by age alone


def test_a_set_is_drawn_by_the_study_s_weight():
    pool = [entry(loss=float(-i)) for i in range(40)]  # the newest has the smallest loss
    of_loss, of_age = (
        draw_set(pool, 50, AdversarialRounds(set_size=10, loss_rank_weight=weight, sampling_decay=50), 0).adversarial
        for weight in (1.0, 0.0)
    )
    assert sorted(of_loss) == list(range(8)) and sorted(of_age) == list(range(32, 40))


def test_the_old_name_of_the_weight_is_refused_with_the_new_one():
    with pytest.raises(ValidationError, match=r"recency_weight: is called loss_rank_weight now.*loss_rank_weight: 0.3"):
        AdversarialRounds(recency_weight=0.3)


def test_the_ramp_of_imdb_ends_one_round_later():
    plain, later = (
        AdversarialRounds(rounds=5, attack={"kind": "gcg", "ramp_end": end}) for end in ("last_round", "one_later")
    )
    assert [attack_iterations(plain, i) for i in range(1, 6)] == [8, 22, 36, 50, 64]
    assert [attack_iterations(later, i) for i in range(1, 6)] == [8, 19, 30, 41, 52]
    assert attack_iterations(AdversarialRounds(rounds=1, attack={"kind": "gcg", "ramp_end": "one_later"}), 1) == 8
    flat = AdversarialRounds(rounds=3, attack={"kind": "gcg", "n_iterations": 32, "n_iterations_end": None})
    assert [attack_iterations(flat, i) for i in (1, 2, 3)] == [32, 32, 32]
    # Where it is not asked for, no spec tells of it.
    assert "ramp_end" not in plain.model_dump()["attack"] and later.model_dump()["attack"]["ramp_end"] == "one_later"


def exact_order_probabilities(weights, n):
    """P(ordered sample) = product of w_i / (what is left), by enumeration."""
    found = {}
    for order in itertools.permutations(range(len(weights)), n):
        left, p = sum(weights), 1.0
        for i in order:
            p *= weights[i] / left
            left -= weights[i]
        found[order] = p
    return found


def test_draws_without_replacement_have_the_sequential_distribution():
    log_weight = log_weights([0.4, 0.9, None, 0.2], 0.5, 0.8, "true")
    exact = exact_order_probabilities(np.exp(log_weight).tolist(), 2)
    rng, n = np.random.default_rng(0), 20_000
    counts = dict.fromkeys(exact, 0)
    for _ in range(n):
        counts[tuple(draw_without_replacement(log_weight, 2, rng))] += 1
    assert math.isclose(sum(exact.values()), 1.0)
    assert chisquare(list(counts.values()), [p * n for p in exact.values()]).pvalue > 0.001


def test_tiny_weights_are_still_drawn():
    log_weight = np.array([-5_000.0, -4_000.0, 0.0])
    assert draw_without_replacement(log_weight, 3, np.random.default_rng(0)) == [2, 1, 0]


def test_published_set_sizes():
    settings = AdversarialRounds()
    sizes = [set_sizes(200 * r, 20_000, settings) for r in range(1, 6)]
    assert sizes == [(200, 800), (400, 600), (600, 400), (800, 200), (800, 200)]


@pytest.mark.parametrize(("pool", "train", "expected"), [(5, 4, (5, 4)), (100, 4, (80, 4)), (0, 50, (0, 50))])
def test_small_splits(pool, train, expected):
    assert set_sizes(pool, train, AdversarialRounds(set_size=100)) == expected


def test_sets_hold_distinct_examples_and_depend_on_the_seed_alone():
    settings = AdversarialRounds(set_size=30, n_new_examples=10)
    pool = [entry(loss=i / 10 if i % 2 else None) for i in range(40)]
    one, same, other = (draw_set(pool, 50, settings, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert len(set(one.adversarial)) == 24 and len(set(one.clean)) == 6
    new = draw_new(50, 10, 1)
    assert len(set(new)) == 10 and max(new) < 50
    assert len(draw_new(4, 10, 1)) == 4
