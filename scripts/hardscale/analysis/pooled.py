"""Differences on the same examples pooled over models: what is known of these models, and of models like them.

Models are grouped in cells, which are what is replicated: a task at one scale, whose seeds belong together. The
estimate is the mean over cells of the mean over a cell's seeds. Two questions, two variances of that one estimate:

*these models*, another draw of examples. A validation example is met by every model of its task, so what it adds to
all of them is summed first: ``V_e = n / (n - 1) x sum_i (sum_m w_m (d_mi - d_m) / n_m)^2``, with ``w_m`` the weight of
a model, ``d_m`` its mean and ``i`` an example of one task. Two more examples of each model, of difference +1 and -1,
keep it above 0 where none differs (as Bonett and Price, *JEBS* 37 (2012) 479-488, do for one pair of proportions).
Interval: normal quantile.

*models like them*, another draw of cells, seeds and examples. Cells vary by their own nature and by what their seeds
and examples add, all of which is in the spread of their means, ``V_c = s^2 / K``; but for what an example adds to
several cells alike, ``X = max(0, V_e - V_b)``, with ``V_b`` as ``V_e`` where the examples of each cell count as others
(two-way clustering: Cameron, Gelbach and Miller, *JBES* 29 (2011) 238-249). ``V = V_c + X``. Interval: Student's t with
Satterthwaite's ``(K - 1) (V / V_c)^2`` degrees of freedom, ``X`` being known far better than ``V_c``; never shorter
than that of these models. None below three cells, where it would say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from hardscale.analysis.intervals import Interval
from hardscale.errors import DataError

#: Differences of two more examples that each model is given, for its variance alone.
_ADDED = np.array([-1.0, 1.0])
#: Two cells leave one degree of freedom, whose interval is 13 standard errors to either side.
FEWEST_CELLS = 3


@dataclass(frozen=True)
class ModelDifference:
    """Success of one attack minus another's, or of one model minus another's, example by example.

    Attributes:
        cell: what the model is a replicate of; models of one cell differ in nothing but the seed.
        task: whose examples they are.
        example_ids: ``(n,)`` integers, 0 or above.
        values: ``(n,)`` differences in -1..1, in the same order.
    """

    cell: Hashable
    task: str
    example_ids: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """A mean difference over models.

    Attributes:
        estimate: mean over cells of the mean over seeds.
        of_examples: ``V_e``, the variance over examples with the models as they are.
        of_cells: ``V_c``, the variance over cells; None below three cells.
        shared: ``X``, what examples add to several cells alike.
        n_cells: cells.
        n_models: models.
        n: pairs of all models.
    """

    estimate: float
    of_examples: float
    of_cells: float | None
    shared: float
    n_cells: int
    n_models: int
    n: int

    def these_models(self, level: float = 0.95) -> Interval:
        """Interval of the mean difference of exactly these models."""
        return _around(self.estimate, self._half_of_these(level))

    def models_like_them(self, level: float = 0.95) -> Interval | None:
        """Interval of the mean difference of models drawn as these were; None below three cells."""
        if self.of_cells is None:
            return None
        variance = self.of_cells + self.shared
        half = 0.0
        if self.of_cells > 0:
            degrees = (self.n_cells - 1) * (variance / self.of_cells) ** 2
            half = float(student.ppf(0.5 + level / 2, degrees) * np.sqrt(variance))
        return _around(self.estimate, max(half, self._half_of_these(level)))

    def _half_of_these(self, level: float) -> float:
        return float(norm.ppf(0.5 + level / 2) * np.sqrt(self.of_examples))


def _around(estimate: float, half: float) -> Interval:
    """Differences of rates lie in -1..1."""
    return max(-1.0, estimate - half), min(1.0, estimate + half)


def pool(differences: Sequence[ModelDifference]) -> Pooled:
    """Pool the differences of several models; see the module.

    Raises:
        DataError: there are none, or one has no examples.
    """
    if not differences or any(not len(one.values) for one in differences):
        raise DataError("pooled difference: every model needs at least one example; leave the others out")
    seeds = Counter(one.cell for one in differences)
    weights = [1 / (len(seeds) * seeds[one.cell]) for one in differences]
    means = [float(one.values.mean()) for one in differences]
    of_cell = np.array(
        [np.mean([m for one, m in zip(differences, means, strict=True) if one.cell == c]) for c in seeds]
    )
    by_example = _examples_variance(differences, weights, [one.task for one in differences])
    by_both = _examples_variance(differences, weights, [(one.task, one.cell) for one in differences])
    of_cells = float(of_cell.var(ddof=1)) / len(of_cell) if len(of_cell) >= FEWEST_CELLS else None
    shared = max(0.0, by_example - by_both)
    n = sum(len(one.values) for one in differences)
    return Pooled(float(of_cell.mean()), by_example, of_cells, shared, len(seeds), len(differences), n)


def _examples_variance(
    differences: Sequence[ModelDifference], weights: Sequence[float], units: Sequence[Hashable]
) -> float:
    """Variance over examples; those of equal id and unit move together."""
    total = 0.0
    for unit in dict.fromkeys(units):
        own = [(one, w) for one, w, u in zip(differences, weights, units, strict=True) if u == unit]
        ids = np.unique(np.concatenate([one.example_ids for one, _ in own]))
        influence, added = np.zeros(len(ids)), 0.0
        for one, weight in own:
            values = np.concatenate([_ADDED, one.values])
            moved = weight * (values - values.mean()) / len(values)
            added += float((moved[: len(_ADDED)] ** 2).sum())
            influence[np.searchsorted(ids, one.example_ids)] += moved[len(_ADDED) :]
        n = len(ids) + len(_ADDED)
        total += (float((influence**2).sum()) + added) * n / (n - 1)
    return total
