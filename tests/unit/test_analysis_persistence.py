"""How often an example is broken at least once: against drawing, and the way back."""

import numpy as np
import pytest

from hardscale.analysis.persistence import persistence, share_broken_once

RATES = np.array([0.1, 0.35, 0.2, 0.5])


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8, 1.0])
def test_it_is_the_share_of_what_the_thresholds_let_pass(kept: float) -> None:
    rng = np.random.default_rng(0)
    n = 400_000
    own = rng.random((n, 1)) * np.ones(4)
    broken = np.where(rng.random((n, 4)) < np.sqrt(kept), own, rng.random((n, 4))) < RATES
    assert share_broken_once(RATES, kept) == pytest.approx(broken.any(axis=1).mean(), abs=0.003)
    cov = np.cov(broken[:, 1], broken[:, 3])[0, 1]
    assert cov == pytest.approx(kept * (0.35 - 0.35 * 0.5), abs=0.003)


def test_the_ends_are_independence_and_frechets_bound() -> None:
    assert share_broken_once(RATES, 0.0) == pytest.approx(1 - np.prod(1 - RATES))
    assert share_broken_once(RATES, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.95])
def test_persistence_is_found_again_over_models(kept: float) -> None:
    curves = [(rates, n * share_broken_once(rates, kept), n) for rates, n in ((RATES, 100.0), (RATES / 2, 300.0))]
    assert persistence(curves) == pytest.approx(kept, abs=1e-4)


def test_counts_outside_the_range_are_its_ends_and_no_counts_say_nothing() -> None:
    assert persistence([(RATES, 100.0, 100.0)]) == 0.0
    assert persistence([(RATES, 50.0, 100.0)]) == 1.0
    assert persistence([]) is None
    assert persistence([(np.zeros(4), 0.0, 100.0), (np.ones(4), 100.0, 100.0), (RATES[:1], 10.0, 100.0)]) is None
