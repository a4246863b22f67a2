"""Every 95 % interval covers what it names in 92 to 98 % of draws, more only where counts are saturated."""

import os

import pandas as pd
import pytest

from interval_coverage import cases, table_of


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return table_of(cases(), draws=1000, processes=os.cpu_count() or 1)


@pytest.mark.long
def test_every_interval_covers_what_it_names(measured: pd.DataFrame) -> None:
    low = measured[measured["coverage"] < 0.92]
    assert low.empty, low.to_string()
    assert measured["estimand"].isin(["these models", "models like them"]).all()


@pytest.mark.long
def test_none_is_wider_than_it_need_be(measured: pd.DataFrame) -> None:
    wide = measured[(measured["coverage"] > 0.98) & ~measured["saturated"]]
    assert wide.empty, wide.to_string()
