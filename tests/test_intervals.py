"""Bootstrap intervals: against SciPy's, against a loop, and in cases with a known answer."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eegxai_support.scoring.intervals import bootstrap_interval, mean_and_interval

VALUES = np.random.default_rng(0).gamma(2, size=(40, 3))


def test_interval_is_that_of_scipy():
    n = 20_000
    low, high = bootstrap_interval(VALUES, n=n, level=0.9)
    theirs = stats.bootstrap(
        (VALUES,), np.mean, axis=0, n_resamples=n, confidence_level=0.9, method="percentile", batch=1000,
        random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    # Standard error of a 5 % quantile of n normal draws; both ends are drawn, hence the root of two.
    error = np.sqrt(2 * 0.05 * 0.95 / n) / stats.norm.pdf(stats.norm.ppf(0.05)) * VALUES.std(axis=0) / np.sqrt(40)
    assert (abs(low - theirs.low) < 5 * error).all()
    assert (abs(high - theirs.high) < 5 * error).all()


def test_trailing_axes_are_resampled_together():
    low, high = bootstrap_interval(VALUES[:, :, None])
    assert low.shape == high.shape == (3, 1)
    for column in range(3):
        np.testing.assert_allclose(bootstrap_interval(VALUES[:, column]), (low[column, 0], high[column, 0]))
    again = bootstrap_interval(VALUES, seed=0)
    np.testing.assert_array_equal(bootstrap_interval(VALUES), again)
    assert (np.array(bootstrap_interval(VALUES, seed=1)) != again).any()


def test_interval_of_two_trials():
    """The mean of two draws from 0 and 1 is 0, 0.5 or 1, with probabilities of a quarter, a half and a quarter."""
    assert bootstrap_interval([0.0, 1.0], level=0.4) == (0.5, 0.5)
    assert bootstrap_interval([0.0, 1.0], level=0.6) == (0.0, 1.0)
    assert bootstrap_interval([2.0]) == (2.0, 2.0)
    assert np.isnan(bootstrap_interval([np.nan, 1.0])).all()


@pytest.mark.parametrize(("values", "level", "message"), [([], 0.95, "at least one"), ([1.0], 95, "between 0 and 1")])
def test_interval_refuses(values, level, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, level=level)


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
        per_trial = table.groupby("trial").pearson.mean()
        low, high = bootstrap_interval(per_trial, n=400)
        hits += (both.low <= 0 <= both.high), (low <= 0 <= high)
    assert hits[0] / n > 0.86  # ten draws: a percentile interval is a little short of 95 %
    assert hits[1] / n < 0.6


def test_without_a_seed_only_trials_are_drawn():
    table = crossed(20, 4, np.random.default_rng(0)).drop(columns="seed")
    row = mean_and_interval(table, ["method"]).iloc[0]
    per_trial = table.groupby("trial").pearson.mean()
    assert row.n_draws == 1
    np.testing.assert_allclose((row.low, row.high), bootstrap_interval(per_trial))


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
