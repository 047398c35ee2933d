"""How far a mean over trials would move with other trials, and with other random draws."""

from __future__ import annotations

import numpy as np
import pandas as pd


def mean_and_interval(
    table: pd.DataFrame,
    by: str | list[str],
    value: str = "pearson",
    *,
    unit: str = "trial",
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Average a table over random draws and trials, with a bootstrap interval over both.

    Values are averaged within a trial, then over trials. For the interval trials are drawn with replacement and, where
    the table has a column seed, so are the seeds, independently [1]_: all trials of a seed share its random weights or
    labels, so that trials alone would promise too much. Groups with the same trials are drawn together.

    Parameters
    ----------
    table : DataFrame
        Of the randomisation or faithfulness tests, or any with the columns `unit`, `value` and those of `by`, and
        perhaps seed. Trials of different recordings or folds need different numbers.
    by : str or list of str
        Columns that tell apart what is averaged, such as method and level.
    value : str
        Column to average. NaN is left out, and so is a group of nothing else.
    unit : str
        Column that says which rows are drawn together. Trials of one subject or one simulated data set are not
        independent: with several of them, name that column.
    n : int
        Number of bootstrap samples.
    level : float
        Share of the bootstrap means inside the interval, between 0 and 1.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        One row per group, in order of appearance: the columns of `by`, mean, low, high, the number of units (n_trials,
        or as `unit` is named) and n_draws. With one draw the interval speaks for that draw only; with a few it is
        narrower than it should be.

    Raises
    ------
    ValueError
        A column that the table lacks, or a level outside 0 … 1.

    Notes
    -----
    The ends are percentiles of the bootstrap means. How often each trial is drawn is multinomial, so that all means are
    two matrix products; ``scipy.stats.bootstrap`` draws along one axis only.

    References
    ----------
    .. [1] Owen, A. B. (2007). The pigeonhole bootstrap. Annals of Applied Statistics, 1(2), 386-411.
    """
    by = [by] if isinstance(by, str) else list(by)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95.")
    if missing := [column for column in [*by, unit, value] if column not in table]:
        raise ValueError(f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")
    draws = table["seed"].fillna(-1) if "seed" in table else -1  # rows without a seed are one draw of their own
    columns = [*by, "mean", "low", "high", f"n_{unit}s", "n_draws"]
    rows = []
    for key, group in table.assign(seed=draws).dropna(subset=value).groupby(by, sort=False, dropna=False):
        cells = group.pivot_table(value, unit, "seed").to_numpy()
        interval = np.nanquantile(_crossed_means(cells, n, seed), [(1 - level) / 2, (1 + level) / 2])
        rows.append((*key, np.nanmean(cells, axis=1).mean(), *interval, *cells.shape))
    return pd.DataFrame(rows, columns=columns)


def _crossed_means(cells: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Bootstrap means of cells (trial, draw), NaN where a trial lacks a draw; NaN where nothing was drawn."""
    rng, present = np.random.default_rng(seed), np.isfinite(cells)
    trials, draws = (times_drawn(rng, size, n) for size in cells.shape)
    with np.errstate(invalid="ignore"):
        of_trial = (np.where(present, cells, 0) @ draws.T) / (present @ draws.T)
        known = np.isfinite(of_trial)
        return (np.where(known, of_trial, 0) * trials.T).sum(0) / (known * trials.T).sum(0)


def times_drawn(rng: np.random.Generator, n_units: int, n: int) -> np.ndarray:
    """How often each unit is in each of `n` samples with replacement, shape (n, unit)."""
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n)
