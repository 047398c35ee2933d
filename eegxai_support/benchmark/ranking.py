"""Rank methods on blocks that they share, and say how far apart two of them must be to count as different."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

from eegxai_support.scoring.intervals import times_drawn
from eegxai_support.trials import unknown_name

LEVEL = 0.95


def rank_methods(
    scores: pd.DataFrame,
    metric: str,
    *,
    block: Sequence[str] = ("snr_db", "seed", "dataset"),
    stratum: Sequence[str] = ("snr_db", "seed"),
    higher_is_better: bool = True,
    n: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank methods by their mean score over simulated data sets.

    Parameters
    ----------
    scores : DataFrame
        Columns method, `metric` and those of `block`; several rows of a method in a block, such as those of several
        decoders, are averaged. NaN where a score does not exist.
    metric : str
        Column that is compared.
    block : sequence of str
        Columns that together name a data set. All methods are compared on the same ones.
    stratum : sequence of str
        Columns of `block` whose values are part of the design: data sets are drawn within each combination.
    higher_is_better : bool
        Rank 1 is the highest score, or the lowest.
    n : int
        Bootstrap samples.
    seed : int

    Returns
    -------
    DataFrame
        One row per method, the best mean rank first. Columns:

        - method, value (mean over blocks), low, high (95 % bootstrap interval over blocks)
        - behind, behind_low, behind_high: how far behind the method with the best mean value, with the paired interval
        - rank: mean rank over blocks, 1 the best; methods that tie share their ranks

        ``.attrs`` holds n_blocks; friedman_p, the p-value of Friedman's test that all methods rank alike; and
        critical_difference, the distance that two mean ranks must have to differ at 5 % over all pairs (Nemenyi) [1]_.

    Raises
    ------
    ValueError
        A column that is missing, or fewer than three methods or two blocks in common.

    Notes
    -----
    Only blocks with a score of every method count. The intervals say what other data sets of the same kind would give
    for these decoders; whether retrained decoders would agree is told by the spread over their seeds. Data sets that
    share decoders are not independent for Friedman's test and the critical difference: without "dataset" in `block`,
    the trained decoders are the blocks, which is the careful reading.

    References
    ----------
    .. [1] Demšar, J. (2006). Statistical comparisons of classifiers over multiple data sets. Journal of Machine
       Learning Research, 7, 1-30.
    """
    for name in ("method", metric, *block):
        if name not in scores:
            raise unknown_name("column", name, scores.columns)
    table = scores.pivot_table(index=list(block), columns="method", values=metric, dropna=False).dropna()
    n_blocks, n_methods = table.shape
    if n_methods < 3 or n_blocks < 2:
        raise ValueError(
            f"{n_methods} methods have a {metric} on {n_blocks} common blocks; ranking needs three methods and two"
            " blocks at least. Leave out methods that lack scores."
        )
    values = table.to_numpy(dtype=float)
    strata = table.groupby(level=list(stratum), observed=True).ngroup().to_numpy()
    means = _bootstrapped(values, strata, n, np.random.default_rng(seed))
    sign = 1 if higher_is_better else -1
    best = (sign * values.mean(axis=0)).argmax()
    behind = sign * (means[:, [best]] - means)
    ranks = (-sign * table).rank(axis=1)
    ranking = pd.DataFrame(
        {
            "method": table.columns,
            "value": values.mean(axis=0),
            **_interval(means),
            "behind": sign * (values[:, [best]] - values).mean(axis=0),
            **{f"behind_{end}": limit for end, limit in _interval(behind).items()},
            "rank": ranks.mean().to_numpy(),
        }
    ).sort_values("rank", ignore_index=True)
    ranking.attrs = {
        "n_blocks": n_blocks,
        "friedman_p": float(friedmanchisquare(*values.T).pvalue),
        "critical_difference": critical_difference(n_methods, n_blocks),
    }
    return ranking


def critical_difference(n_methods: int, n_blocks: int) -> float:
    """Distance of mean ranks at which two of several methods differ at 5 % (Nemenyi)."""
    quantile = studentized_range.ppf(LEVEL, n_methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks)))


def _bootstrapped(values: np.ndarray, strata: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Means over blocks drawn with replacement within each stratum, shape (n, method)."""
    weight = np.zeros((n, len(values)))
    for level in np.unique(strata):
        inside = np.flatnonzero(strata == level)
        weight[:, inside] = times_drawn(rng, len(inside), n)
    return weight @ values / len(values)


def _interval(means: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    return {"low": low, "high": high}
