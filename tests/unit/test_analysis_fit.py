"""Lines of known slope are found again, by both methods, on complete and on ragged tables."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

from hardscale.analysis.fit import fit_all
from hardscale.analysis.fits_published import first_crossing, flops_for_target
from hardscale.analysis.logodds import from_log10_odds
from hardscale.analysis.outputs import write_csv
from hardscale.analysis.points import at_headline, usable, with_round_zero
from hardscale.artifacts.schemas import FITS, RUNS
from hardscale.artifacts.tables import read_table, write_table
from hardscale.errors import DataError

ROOT = Path(__file__).parents[2]
SCALES = {"s": 1_000_000, "m": 10_000_000, "l": 100_000_000}
KINDS = {"size", "attack_scaling", "defense_scaling", "offense_defense", "slope_of_slopes"}


def _runs(
    *, seeds: int = 2, rounds: int = 4, iterations: int = 6, n: int = 1_000_000, spread: float = 0.0
) -> pd.DataFrame:
    """A world where log10 odds = 2 - b log10(N) + s(N) log10(attack / pretrain) - 0.6 log10(1e6 defense / pretrain)."""
    rng = np.random.default_rng(0)
    rows = []
    for (scale, params), seed, round_ in itertools.product(SCALES.items(), range(seeds), range(rounds + 1)):
        pretrain = params * 1e9
        defense = pretrain * 1e-6 * 10**round_ if round_ else 0.0
        shift = rng.normal(scale=spread)
        for i in range(iterations + 1):
            flops = i * params * 1e3
            odds = -np.inf
            if i:
                # slope 2 - 0.2 log10 N in attack compute, pivot where the attack spends 1e-6 of pretraining
                steep = 2 - 0.2 * np.log10(params)
                odds = 0.5 - 0.3 * np.log10(params) / 2 + steep * np.log10(flops / pretrain / 1e-6) + shift
                odds -= 0.6 * round_
            k = round(n * float(from_log10_odds(odds)))
            rows.append(
                {
                    **dict.fromkeys(RUNS.names),
                    "study": "x",
                    "task": "t",
                    "family": "f",
                    "scale": scale,
                    "n_params": params,
                    "seed": seed,
                    "defense": "adv" if round_ else "none",
                    "defense_kind": "adversarial_rounds" if round_ else "none",
                    "round": round_,
                    "attack": "gcg",
                    "attack_kind": "gcg",
                    "position": "suffix",
                    "iteration": i,
                    "n_examples": n,
                    "n_attacked": n,
                    "n_success": k,
                    "asr": k / n,
                    "attack_flops_per_example": flops,
                    "defense_flops": defense,
                    "pretrain_flops": pretrain,
                }
            )
    return pd.DataFrame(rows)


def _pick(fits: pd.DataFrame, method: str, kind: str, **keys: object) -> pd.Series:
    chosen = fits[(fits["kind"] == kind) & (fits["method"] == method)]
    for name, value in keys.items():
        chosen = chosen[chosen[name] == value]
    assert len(chosen) == 1, (kind, keys, len(chosen))
    return chosen.iloc[0]


@pytest.fixture(scope="module")
def exact() -> pd.DataFrame:
    return fit_all(_runs(), {}, [0.05, 0.5])


@pytest.mark.parametrize("method", ["published", "binomial"])
def test_known_slopes_are_recovered(exact: pd.DataFrame, method: str) -> None:
    for scale, params in SCALES.items():
        steep = 2 - 0.2 * np.log10(params)
        attack = _pick(exact, method, "attack_scaling", scale=scale, defense="none")
        assert attack["slope"] == pytest.approx(steep, abs=2e-3)
        assert attack["n_points"] == 12
        assert attack["n_seeds"] == 2
        if method == "binomial":
            assert attack["ci_low"] <= attack["slope"] <= attack["ci_high"]
        defense = _pick(exact, method, "defense_scaling", scale=scale)
        assert defense["slope"] == pytest.approx(-0.6, abs=2e-3)
        assert defense["n_points"] == 8
        assert pd.isna(defense["round"])
    params = np.array(list(SCALES.values()), dtype=float)
    expected = np.polyfit(np.log10(params), -0.15 * np.log10(params) + (2 - 0.2 * np.log10(params)) * np.log10(6), 1)
    size = _pick(exact, method, "size", defense="none")
    assert size["slope"] == pytest.approx(expected[0], abs=2e-3)
    assert size["n_points"] == 6
    assert pd.isna(size["scale"])
    steeper = _pick(exact, method, "slope_of_slopes", defense="none")
    assert steeper["slope"] == pytest.approx(-0.2, abs=5e-3)
    assert steeper["intercept"] == pytest.approx(2, abs=5e-2)
    assert steeper["n_points"] == 3


def test_binomial_offense_defense_is_the_plane(exact: pd.DataFrame) -> None:
    for scale, params in SCALES.items():
        steep = 2 - 0.2 * np.log10(params)
        for target in (0.05, 0.5):
            fit = _pick(exact, "binomial", "offense_defense", scale=scale, target_asr=target)
            assert fit["slope"] == pytest.approx(0.6 / steep, abs=2e-3)
            # On the line the plane's log odds are those of the target.
            attack = fit["intercept"] + fit["slope"] * np.log10(params * 1e9 * 1e-5)
            odds = 0.5 - 0.15 * np.log10(params) + steep * (attack - np.log10(params * 1e3)) - 0.6
            assert float(from_log10_odds(odds)) == pytest.approx(target, rel=0.02)


def test_published_offense_defense_is_least_squares_of_crossings() -> None:
    runs = _runs(seeds=1, iterations=200)
    runs = runs[runs["scale"] == "s"]
    fit = _pick(fit_all(runs, {}, [0.07]), "published", "offense_defense", scale="s")
    x, y = [], []
    for _, rows in runs[(runs["scale"] == "s") & (runs["round"] >= 1)].groupby("round"):
        asr, flops = rows["asr"].to_numpy(), rows["attack_flops_per_example"].to_numpy()
        if (asr >= 0.07).any():
            y.append(np.log10(np.interp(0.07, asr, flops)))  # the curve rises, so inverse interpolation is the crossing
            x.append(np.log10(rows["defense_flops"].iloc[0]))
    ols = sm.OLS(y, sm.add_constant(x)).fit()
    assert fit["n_points"] == len(x) >= 3
    assert (fit["intercept"], fit["slope"]) == pytest.approx(tuple(ols.params))
    assert (fit["ci_low"], fit["ci_high"]) == pytest.approx(tuple(ols.conf_int()[1]))
    assert fit["estimand"] == "rounds that are broken"


@pytest.mark.parametrize(
    ("asr", "target", "expected"),
    [
        ([0, 0.2, 0.4], 0.1, 0.5),
        ([0, 0.2, 0.4], 0.2, 1.0),
        ([0, 0.2, 0.1, 0.4], 0.15, 0.75),
        ([0, 0.2, 0.4], 0.5, np.nan),
        ([0.3, 0.5], 0.2, 0.0),
    ],
)
def test_first_crossing(asr: list[float], target: float, expected: float) -> None:
    iterations = np.arange(len(asr), dtype=float)
    assert first_crossing(iterations, np.array(asr), target) == pytest.approx(expected, nan_ok=True)


def test_crossing_before_the_first_stored_iteration_starts_from_zero() -> None:
    iterations, asr, flops = np.array([12.0, 24.0]), np.array([0.4, 0.6]), np.array([1200.0, 2400.0])
    assert first_crossing(iterations, asr, 0.1) == pytest.approx(3.0)
    assert flops_for_target(iterations, asr, flops, 0.1) == pytest.approx(300.0)


def test_published_attack_scaling_is_textbook_least_squares_without_the_infinite() -> None:
    runs = _runs(seeds=2, rounds=0, n=50)
    runs["attack_flops_per_example"] *= np.where(runs["seed"] == 0, 1.0, 1.3)
    runs["n_attacked"] = np.where(runs["seed"] == 0, 50, 100)
    runs["n_success"] = runs["asr"] * runs["n_attacked"]
    runs.loc[(runs["seed"] == 0) & (runs["iteration"] == 1), ["asr", "n_success"]] = 0.0
    runs.loc[(runs["seed"] == 1) & (runs["iteration"] == 6), ["asr", "n_success"]] = [1.0, 100]
    rows = runs[(runs["scale"] == "s") & (runs["iteration"] >= 1)]
    with np.errstate(divide="ignore"):
        y = np.log10(rows["asr"] / (1 - rows["asr"])).to_numpy()
    per_iteration = 1e9 * (50 * 1.0 + 100 * 1.3) / 150  # whole sets averaged, then divided by the mean number attacked
    x = np.log10(rows["iteration"].to_numpy() * per_iteration / 1e15)
    kept = np.isfinite(y)
    assert 2 < kept.sum() < len(y)
    ols = sm.OLS(y[kept], sm.add_constant(x[kept])).fit()
    fit = _pick(fit_all(runs, {}, []), "published", "attack_scaling", scale="s")
    assert (fit["slope"], fit["intercept"]) == pytest.approx((ols.params[1], ols.params[0]))
    # Iterations are not independent points, so that the interval of least squares would be about nothing.
    assert pd.isna(fit["ci_low"]) and pd.isna(fit["ci_high"]) and pd.isna(fit["estimand"])
    assert fit["n_points"] == kept.sum()


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_saturated_cells_keep_finite_binomial_intervals(rate: float, seeds: int) -> None:
    runs = _runs(seeds=seeds, n=100)
    runs.loc[runs["iteration"] >= 1, "asr"] = rate
    runs["n_success"] = None
    fits = fit_all(runs, {}, [0.05])
    ours = fits[(fits["method"] == "binomial") & (fits["kind"] != "offense_defense")]
    assert np.isfinite(ours[["slope", "intercept", "ci_low", "ci_high"]].astype(float)).all().all()
    assert (ours["ci_low"] < ours["ci_high"]).all()
    theirs = fits[(fits["method"] == "published") & (fits["kind"] != "offense_defense")]
    assert theirs["slope"].isna().all()
    assert (theirs["n_points"] == 0).all()


def test_intervals_widen_with_differences_between_seeds() -> None:
    calm, rough = (fit_all(_runs(seeds=5, n=500, spread=s), {}, []) for s in (0.0, 0.4))
    for kind in ("size", "defense_scaling"):
        widths = []
        for fits in (calm, rough):
            rows = fits[(fits["kind"] == kind) & (fits["method"] == "binomial")]
            widths.append((rows["ci_high"] - rows["ci_low"]).astype(float).median())
        assert widths[1] > 1.5 * widths[0]


def test_row_kinds_schema_and_order() -> None:
    runs = _runs(seeds=1, rounds=2, iterations=3)
    fits = fit_all(runs.sample(frac=1, random_state=1), {}, [0.02])
    table = pa.Table.from_pandas(fits, preserve_index=False).cast(FITS)
    assert table.equals(pa.Table.from_pandas(fit_all(runs, {}, [0.02]), preserve_index=False).cast(FITS))
    assert set(fits["kind"]) == KINDS
    assert set(fits["method"]) == {"published", "binomial"}
    counts = fits[fits["method"] == "binomial"].groupby("kind").size()
    # Round 0 counts twice: as defense none and as round 0 of adv.
    assert counts.to_dict() == {
        "attack_scaling": 3 * 4,
        "size": 4,
        "slope_of_slopes": 4,
        "defense_scaling": 3,
        "offense_defense": 3,
    }


def test_round_zero_is_joined_only_where_the_defense_is_attacked() -> None:
    runs = usable(_runs(seeds=2, rounds=2, iterations=2))
    other = runs[runs["defense"] == "none"].assign(attack="random_token")
    third = runs[(runs["defense"] == "none") & (runs["seed"] == 0)].assign(seed=9)
    joined = with_round_zero(pd.concat([runs, other, third]))
    added = joined[(joined["defense"] == "adv") & (joined["round"] == 0)]
    assert set(added["attack"]) == {"gcg"}
    assert set(added["seed"]) == {0, 1}
    assert len(added) == len(runs[runs["defense"] == "none"])
    own = pd.concat([runs, added.assign(asr=0.5)])
    assert len(with_round_zero(own)) == len(own)


@pytest.mark.parametrize("method", ["published", "binomial"])
def test_one_round_of_unequal_seeds_makes_no_line_over_defense_compute(method: str) -> None:
    runs = _runs(rounds=1, spread=0.3)
    runs["defense_flops"] *= 1 + 1e-4 * runs["seed"]
    fits = fit_all(runs, {}, [0.05])
    for kind in ("defense_scaling", "offense_defense"):
        assert pd.isna(_pick(fits, method, kind, scale="m")["slope"])


def test_headline_iteration() -> None:
    rows = usable(_runs(seeds=1, rounds=0, iterations=5))
    assert set(at_headline(rows, {"gcg": 2})["iteration"]) == {2}
    assert set(at_headline(rows, {})["iteration"]) == {5}
    assert set(at_headline(rows, {"gcg": 99})["iteration"]) == {5}
    assert at_headline(rows[rows["iteration"] == 0], {}).empty


def test_headline_iteration_by_task_and_defense() -> None:
    runs = pd.concat([_runs(seeds=1, rounds=1, iterations=5).assign(task=task) for task in ("imdb", "harmless")])
    rows = with_round_zero(usable(runs))
    entries = {"gcg": 4, "gcg@none": 1, "harmless/gcg": 2, "harmless/gcg@adv": 3}
    shown = at_headline(rows, entries).groupby(["task", "defense"])["iteration"].unique().map(list).to_dict()
    assert shown == {
        ("imdb", "none"): [1],
        ("imdb", "adv"): [4],
        ("harmless", "none"): [2],
        ("harmless", "adv"): [3],
    }
    # Lines over sizes are fitted at just these iterations.
    fits = fit_all(runs, entries, [])
    alone = {
        key: fit_all(runs[(runs["iteration"] == i) & (runs["task"] == key[0])], {}, []) for key, (i,) in shown.items()
    }
    for (task, defense), part in alone.items():
        number = {"round": 1 if defense == "adv" else 0}
        for method in ("published", "binomial"):
            expected = _pick(part, method, "size", defense=defense, **number)["slope"]
            assert _pick(fits[fits["task"] == task], method, "size", defense=defense, **number)["slope"] == expected


def test_a_headline_leaves_out_models_that_were_attacked_less() -> None:
    rows = usable(_runs(seeds=2, rounds=0, iterations=5))
    short = rows[(rows["seed"] == 0) | (rows["iteration"] <= 3)]
    assert set(at_headline(short, {})["iteration"]) == {3}
    assert set(at_headline(short, {"gcg": 5})["seed"]) == {0}
    apart = short[(short["seed"] == 1) | (short["iteration"] > 3)]
    assert set(at_headline(apart, {})["iteration"]) == {3, 5}


def test_foreign_tables_are_read() -> None:
    runs = _runs(seeds=1, rounds=1, iterations=3)
    nullable = [field.name for field in RUNS if field.nullable]
    bare = runs.drop(columns=[name for name in nullable if name != "asr"])
    fits = fit_all(bare, {}, [0.05])
    assert _pick(fits, "binomial", "size", defense="none")["n_points"] == 3  # needs no compute
    no_compute = fits[fits["kind"].isin(["attack_scaling", "defense_scaling", "offense_defense", "slope_of_slopes"])]
    assert no_compute["slope"].isna().all()
    holes = runs.copy()
    holes.loc[holes["iteration"] == 3, "asr"] = None
    assert _pick(fit_all(holes, {}, []), "binomial", "attack_scaling", scale="s", defense="none")["n_points"] == 2
    holes["asr"] = None
    assert fit_all(holes, {}, []).empty


def test_impossible_numbers_are_refused() -> None:
    runs = _runs(seeds=1, rounds=0, iterations=1)
    with pytest.raises(DataError, match=r"missing column.*scale"):
        fit_all(runs.drop(columns="scale"), {}, [])
    with pytest.raises(DataError, match=r"asr 1\.5"):
        fit_all(runs.assign(asr=1.5), {}, [])
    with pytest.raises(DataError, match="n_success"):
        fit_all(runs.assign(n_success=runs["n_attacked"] + 1), {}, [])
    with pytest.raises(DataError, match="target_asr"):
        fit_all(runs, {}, [0.0])


def test_csv_neutralises_formulas(tmp_path: Path) -> None:
    bad = ["=1+1", "+1", "-1", "@x", "\tx"]
    write_csv(pd.DataFrame({"name": [*bad, "gcg"], "value": [-1.0] * 6}), tmp_path / "x.csv")
    back = pd.read_csv(tmp_path / "x.csv")
    assert back["name"].tolist() == [*(f"'{text}" for text in bad), "gcg"]
    assert (back["value"] == -1).all()


def test_entry(tmp_path: Path) -> None:
    runs = _runs(seeds=1, rounds=1, iterations=2).assign(attack="=gcg")
    write_table(tmp_path / "runs.parquet", pa.Table.from_pandas(runs, schema=RUNS, preserve_index=False), RUNS)
    command = [sys.executable, str(ROOT / "scripts" / "fit.py"), "--runs", str(tmp_path / "runs.parquet")]
    command += [
        "--out",
        str(tmp_path / "fits.parquet"),
        "--csv",
        str(tmp_path / "fits.csv"),
        "--log",
        str(tmp_path / "log"),
    ]
    command += ["--headline", "=gcg=1", "--target-asr", "0.1", "0.2"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    fits = read_table(tmp_path / "fits.parquet", FITS).to_pandas()
    assert set(fits["target_asr"].dropna()) == {0.1, 0.2}
    assert "'=gcg" in (tmp_path / "fits.csv").read_text()
    pq.write_table(pa.table({"task": ["t"]}), tmp_path / "runs.parquet")
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "missing column" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
