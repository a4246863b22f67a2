"""The slope over sizes of several tasks together: one line through the means over tasks at each scale.

The log odds of a model are ``log((k + 1/2) / (n - k + 1/2))``, half a success and half a failure added; a scale's value
is the mean over tasks of the mean over seeds. Tasks of one scale may share a pretrained model and then move together:
as the scale is the unit, the scatter about the line holds what they share, and their number adds nothing that is not
there. The line and its interval are those of :mod:`hardscale.analysis.meta`, Student's t with scales - 2.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import logit

from hardscale.analysis.intervals import Estimate
from hardscale.analysis.logodds import LN10, log10_positive
from hardscale.analysis.meta import meta_line


def size_over_tasks(rows: pd.DataFrame, level: float = 0.95) -> Estimate:
    """Slope of log10 odds over log10 parameters, and its interval.

    Args:
        rows: ``task n_params n_success n_attacked``, one a model, of scales that all tasks have; three scales or more.
        level: of the interval.
    """
    k, n = rows["n_success"].to_numpy(float), rows["n_attacked"].to_numpy(float)
    p = (k + 0.5) / (n + 1)
    models = rows[["task", "n_params"]].assign(y=logit(p) / LN10, v=1 / (n * p * (1 - p)) / LN10**2)
    cells = models.groupby(["n_params", "task"]).agg(y=("y", "mean"), v=("v", "sum"), seeds=("v", "size"))
    cells["v"] /= cells["seeds"] ** 2
    scales = cells.groupby("n_params").agg(y=("y", "mean"), v=("v", "sum"), tasks=("v", "size"))
    x = log10_positive(scales.index.to_numpy(float))
    line = meta_line(np.asarray(x), scales["y"].to_numpy(), (scales["v"] / scales["tasks"] ** 2).to_numpy(), level)
    return line.slope, line.slope - line.half, line.slope + line.half


def shared_scales(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of scales that all tasks have."""
    tasks = rows.groupby("n_params")["task"].nunique()
    return rows[rows["n_params"].isin(tasks.index[tasks == rows["task"].nunique()])]
