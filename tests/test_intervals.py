"""Bootstrap intervals: against SciPy's, against a loop, and in cases with a known answer."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eegxai_support.scoring.intervals import mean_and_interval


def scipy_interval(values, *, n, level=0.95):
    """Return both ends of SciPy's percentile interval of the mean."""
    rng = np.random.default_rng(1)
    options = {"n_resamples": n, "confidence_level": level, "method": "percentile", "batch": 1000, "rng": rng}
    return tuple(stats.bootstrap((np.asarray(values),), np.mean, **options).confidence_interval)


def test_interval_over_trials_is_that_of_scipy():
    values, n = np.random.default_rng(0).gamma(2, size=40), 20_000
    table = pd.DataFrame({"method": "m", "trial": range(40), "pearson": values})
    row = mean_and_interval(table, "method", n=n, level=0.9).iloc[0]
    # Standard error of a 5 % quantile of n normal draws; both ends are drawn, hence the root of two.
    error = np.sqrt(2 * 0.05 * 0.95 / n) / stats.norm.pdf(stats.norm.ppf(0.05)) * values.std() / np.sqrt(40)
    np.testing.assert_allclose((row.low, row.high), scipy_interval(values, n=n, level=0.9), rtol=0, atol=5 * error)


def test_interval_of_two_trials():
    """The mean of two draws from 0 and 1 is 0, 0.5 or 1, with probabilities of a quarter, a half and a quarter."""
    table = pd.DataFrame({"method": "m", "trial": [0, 1], "pearson": [0.0, 1.0]})
    for level, ends in ((0.4, [0.5, 0.5]), (0.6, [0.0, 1.0])):
        assert mean_and_interval(table, ["method"], level=level)[["low", "high"]].iloc[0].tolist() == ends


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, np.nan])
def test_level_is_a_share(level):
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        mean_and_interval(crossed(3, 2, np.random.default_rng(0)), "method", level=level)


def test_one_column_or_a_list_of_one_is_the_same_and_a_group_may_be_missing_its_name():
    table = crossed(5, 2, np.random.default_rng(0))
    pd.testing.assert_frame_equal(mean_and_interval(table, "method"), mean_and_interval(table, ["method"]))
    nameless = mean_and_interval(pd.concat([table, table.assign(method=None)]), "method")
    assert nameless["method"].isna().tolist() == [False, True]
    assert nameless["mean"][0] == nameless["mean"][1]


def crossed(n_trials, n_draws, rng):
    """Return a table with an effect of the trial, one of the draw, and noise."""
    value = rng.normal(size=n_trials)[:, None] + 2 * rng.normal(size=n_draws) + rng.normal(size=(n_trials, n_draws))
    rows = itertools.product(range(n_trials), range(n_draws))
    return pd.DataFrame(rows, columns=["trial", "seed"]).assign(method="m", pearson=value.ravel())


def test_mean_and_interval_against_a_loop():
    table = crossed(12, 7, np.random.default_rng(0)).sample(frac=0.7, random_state=0)
    cells = table.pivot(index="trial", columns="seed", values="pearson").to_numpy()
    row = mean_and_interval(table, ["method"], n=20_000).iloc[0]
    assert (row.n_trials, row.n_draws) == cells.shape
    assert row["mean"] == pytest.approx(table.groupby("trial").pearson.mean().mean())
    rng, means = np.random.default_rng(1), []
    for _ in range(4000):
        chosen = cells[rng.integers(12, size=12)][:, rng.integers(7, size=7)]
        known = np.isfinite(chosen).any(axis=1)
        means.append(np.nanmean(chosen[known], axis=1).mean())
    spread = np.std(means)
    np.testing.assert_allclose([row.low, row.high], np.quantile(means, (0.025, 0.975)), rtol=0, atol=0.2 * spread)


def test_interval_covers_the_mean_over_trials_and_draws():
    """All trials share the draws, so that trials alone would cover the true mean, zero, far too seldom."""
    rng, n = np.random.default_rng(0), 200
    hits = np.zeros(2)
    for _ in range(n):
        table = crossed(30, 10, rng)
        both = mean_and_interval(table, ["method"], n=400).iloc[0]
        trials = mean_and_interval(table.drop(columns="seed"), ["method"], n=400).iloc[0]
        hits += (both.low <= 0 <= both.high), (trials.low <= 0 <= trials.high)
    assert hits[0] / n > 0.86  # ten draws: a percentile interval is a little short of 95 %
    assert hits[1] / n < 0.6


def test_without_a_seed_only_trials_are_drawn():
    table = crossed(20, 4, np.random.default_rng(0)).drop(columns="seed")
    row = mean_and_interval(table, ["method"], n=20_000).iloc[0]
    per_trial = table.groupby("trial").pearson.mean()
    assert row.n_draws == 1
    spread = per_trial.std() / np.sqrt(20)
    np.testing.assert_allclose((row.low, row.high), scipy_interval(per_trial, n=20_000), rtol=0, atol=0.1 * spread)


def test_rows_without_a_seed_are_one_draw():
    """As where the tables of two tests stand below each other and only one of them has draws."""
    drawn = crossed(20, 4, np.random.default_rng(0))
    fixed = drawn[drawn.seed == 0].drop(columns="seed").assign(method="fixed")
    both = mean_and_interval(pd.concat([fixed, drawn]), ["method"])
    pd.testing.assert_frame_equal(both[:1], mean_and_interval(fixed, ["method"]))
    assert both.n_draws.tolist() == [1, 4]


def test_groups_keep_their_order_and_nan_is_left_out():
    table = pd.DataFrame(
        {
            "method": ["b", "b", "a", "a", "none"],
            "level": 1,
            "trial": [0, 1, 0, 1, 0],
            "rise": [1.0, 3.0, 5.0, np.nan, np.nan],
        }
    )
    summary = mean_and_interval(table, ["method", "level"], "rise")
    assert list(summary) == ["method", "level", "mean", "low", "high", "n_trials", "n_draws"]
    assert summary[["method", "mean", "n_trials"]].to_numpy().tolist() == [["b", 2.0, 2], ["a", 5.0, 1]]
    assert (summary.low[1], summary.high[1]) == (5.0, 5.0)
    with pytest.raises(ValueError, match="no column pearson"):
        mean_and_interval(table, ["method"])


def test_units_are_drawn_whole():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"subject": np.repeat(range(10), 50), "trial": range(500), "map": "own"})
    table["r"] = rng.normal(size=10)[table["subject"]]  # all trials of a subject agree
    trials, subjects = (mean_and_interval(table, ["map"], "r", unit=unit).iloc[0] for unit in ("trial", "subject"))
    assert (trials["n_trials"], subjects["n_subjects"]) == (500, 10)
    np.testing.assert_allclose(trials["mean"], subjects["mean"])
    ratio = (subjects["high"] - subjects["low"]) / (trials["high"] - trials["low"])
    np.testing.assert_allclose(ratio, np.sqrt(50), rtol=0.15)
    with pytest.raises(ValueError, match="no column run; it has subject, trial, map, r"):
        mean_and_interval(table, ["map"], "r", unit="run")
