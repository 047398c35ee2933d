"""Ranking of methods against SciPy, published quantiles, and data sets whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, friedmanchisquare, rankdata

from eegxai_support.benchmark.ranking import critical_difference, rank_methods
from eegxai_support.viz.leaderboard import joined


def scores(means, n_seeds=3, n_datasets=8, block_sd=1.0, noise_sd=0.1, seed=0):
    """Scores of methods on data sets that differ much more from each other than the methods do."""
    rng = np.random.default_rng(seed)
    rows = []
    for snr_db in (-10, 0):
        for draw in range(n_seeds):
            for dataset in range(n_datasets):
                level = block_sd * rng.standard_normal()
                for method, mean in means.items():
                    for decoder in ("a", "b"):
                        value = mean + level + noise_sd * rng.standard_normal()
                        rows.append((snr_db, draw, dataset, decoder, method, value))
    return pd.DataFrame(rows, columns=["snr_db", "seed", "dataset", "decoder", "method", "metric"])


@pytest.fixture(scope="module")
def table():
    return scores({"low": 0.0, "high": 0.2, "middle": 0.1, "middle too": 0.1})


def test_best_method_comes_first_and_pairs_cancel_what_data_sets_share(table):
    ranking = rank_methods(table, "metric")
    assert (ranking["method"].iloc[0], ranking["method"].iloc[-1]) == ("high", "low")
    by_method = ranking.set_index("method")
    assert by_method.loc["high", "behind"] == 0
    assert by_method.loc["low", "behind"] == pytest.approx(0.2, abs=4 * 0.1 / np.sqrt(48))
    width = by_method["high"] - by_method["low"]
    paired = by_method["behind_high"] - by_method["behind_low"]
    assert (paired.drop("high") < width.drop("high") / 4).all()
    assert by_method.loc["low", "behind_low"] > 0


def test_ranks_and_friedman_are_those_of_scipy(table):
    ranking = rank_methods(table, "metric")
    blocks = table.groupby(["snr_db", "seed", "dataset", "method"])["metric"].mean().unstack()
    expected = dict(zip(blocks.columns, rankdata(-blocks, axis=1).mean(axis=0), strict=True))
    assert ranking.set_index("method")["rank"].to_dict() == pytest.approx(expected)
    assert ranking.attrs["friedman_p"] == pytest.approx(friedmanchisquare(*blocks.to_numpy().T).pvalue)
    assert ranking.attrs["n_blocks"] == 48


def test_lower_can_be_better(table):
    ranking = rank_methods(table, "metric", higher_is_better=False)
    assert ranking["method"][0] == "low" and (ranking["behind"] >= 0).all()


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_intervals_are_those_of_a_bootstrap_within_strata(higher_is_better):
    """SciPy resamples several samples, here the strata, each by itself.

    The strata lie far apart: blocks drawn over all of them would have an interval ten times as wide. The methods lie so
    near each other that none is ahead on every block, so that a distance without its sign is another one.
    """
    table = scores({"a": 0.0, "b": 0.05, "c": 0.1}, block_sd=0.1, noise_sd=0.3)
    table["metric"] += 5.0 * table["seed"] + table["snr_db"]
    ranking = rank_methods(table, "metric", higher_is_better=higher_is_better).set_index("method")
    blocks = table.groupby(["snr_db", "seed", "dataset", "method"])["metric"].mean().unstack()
    best = "c" if higher_is_better else "a"
    behind = (1 if higher_is_better else -1) * blocks.rsub(blocks[best], axis=0)
    assert ranking["behind"].to_dict() == pytest.approx(behind.mean().to_dict())
    for values, low, high in ((blocks, "low", "high"), (behind, "behind_low", "behind_high")):
        for method in blocks.columns.drop(best):
            strata = [each.to_numpy() for _, each in values[method].groupby(level=["snr_db", "seed"])]
            expected = bootstrap(
                strata, lambda *parts, axis: np.concatenate(parts, axis).mean(axis), method="percentile", rng=0
            ).confidence_interval
            room = 0.05 * (expected.high - expected.low)
            assert ranking.loc[method, [low, high]].tolist() == pytest.approx(list(expected), abs=room)


@pytest.mark.parametrize(("n_methods", "quantile"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_the_published_quantiles(n_methods, quantile):
    """Demšar 2006, table 5a."""
    expected = quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * 30))
    assert critical_difference(n_methods, 30) == pytest.approx(expected, rel=1e-3)


def test_interval_covers_the_mean():
    """Over many experiments, the 95 % interval of a method's mean holds the true one about as often."""
    covered = []
    for seed in range(100):
        ranking = rank_methods(scores({"a": 0.0, "b": 0.3, "c": 1.0}, block_sd=0.3, seed=seed), "metric", n=500)
        row = ranking.set_index("method").loc["b"]
        covered.append(row["low"] <= 0.3 <= row["high"])
    assert 0.87 <= np.mean(covered) <= 0.99


def test_blocks_without_every_method_are_left_out(table):
    broken = table.copy()
    broken.loc[(broken["method"] == "low") & (broken["seed"] == 0), "metric"] = np.nan
    assert rank_methods(broken, "metric").attrs["n_blocks"] == 32


def test_too_little_to_rank_is_an_error(table):
    with pytest.raises(ValueError, match="2 methods have a metric on 48 common blocks"):
        rank_methods(table.query("method in ['low', 'high']"), "metric")


def test_missing_column_is_named(table):
    with pytest.raises(ValueError, match=r"Unknown column 'metrik'\. Did you mean 'metric'"):
        rank_methods(table, "metrik")
    with pytest.raises(ValueError, match="Unknown column 'regime'"):
        rank_methods(table, "metric", block=("regime", "snr_db", "seed", "dataset"))


def test_seeded(table):
    pd.testing.assert_frame_equal(rank_methods(table, "metric"), rank_methods(table, "metric"))
    other = rank_methods(table, "metric", seed=1)
    assert not other["low"].equals(rank_methods(table, "metric")["low"])


def test_joined_runs_are_the_longest():
    ranks = np.array([1.0, 2.0, 2.5, 4.5, 4.6])
    brute = [
        (i, j)
        for i in range(5)
        for j in range(i + 1, 5)
        if ranks[j] - ranks[i] < 2
        and (j == 4 or ranks[j + 1] - ranks[i] >= 2)
        and (i == 0 or ranks[j] - ranks[i - 1] >= 2)
    ]
    assert joined(ranks, 2.0) == brute == [(0, 2), (3, 4)]
