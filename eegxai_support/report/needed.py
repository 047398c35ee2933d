"""What removals show: the accuracy that a part costs, against what as powerful others cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from eegxai_support.decoders import accuracy, permutation_p_value
from eegxai_support.decoders.accuracy import class_weights
from eegxai_support.scoring.intervals import times_drawn

FEWEST_GROUPS = 5  # fewer say nothing on how much groups differ: then trials are resampled
FEWEST_DRAWS = 3  # to say how much as powerful parts differ
N_PERMUTATIONS = N_BOOTSTRAP = 2000


def interventions(removals: pd.DataFrame, trials: pd.DataFrame, *, n_channels: int = 1, seed: int = 0) -> pd.DataFrame:
    r"""Say for each part what its removal costs, and whether it costs more than as powerful parts do.

    The null hypothesis is that the part matters no more than other parts of its power. Two things are then left to
    chance: which other parts were drawn, and which trials were recorded. A test of trials against the mean of the draws
    rejects too often, since of two parts that differ by nothing but luck one is always above the mean, and with enough
    trials visibly so. The rank of the part among the draws never gets below one in their number, 1/21 for twenty, and
    does not survive a correction for the number of parts. So two tests must both reject: Crawford & Howell's [1]_ of
    one case against a small sample, here of draws, and a paired t test over trials. A part that is no more important
    fails at least the one that looks at its luck, so their larger p-value holds the level without a correction [2]_.

    Both compare the probability of the true class. Of right and wrong answers alone 45 trials tell little, while
    log-odds grow without bound where a network is sure, and shrink with the power whatever is removed.

    Every class counts alike, however many trials it has: all accuracies here are balanced ones.

    Parameters
    ----------
    removals : DataFrame
        From `remove_parts`.
    trials : DataFrame
        With the columns trial, group and label. With `FEWEST_GROUPS` groups or more these are what is resampled and
        what the paired test counts; else trials are.
    n_channels : int
        From how many channels those that were removed alone are the most striking: their p-values count for so many.
    seed : int

    Returns
    -------
    DataFrame
        A row per part: part, kind, source, power (share of the signal's), accuracy without it, with a 95 % interval;
        control (mean accuracy without as powerful parts); drop = control - accuracy; p that it is above zero by
        chance, and p_holm, corrected for all parts; left_p that the accuracy without the part is chance; only, the
        accuracy with nothing but the part, and only_p that it is chance; unit ("group" or "trial"), n_draws.
        NaN where there is no control, or the part was never alone.

    References
    ----------
    .. [1] Crawford, J. R., & Howell, D. C. (1998). Comparing an individual's test score against norms derived from
       small samples. The Clinical Neuropsychologist, 12(4), 482-486.
    .. [2] Berger, R. L. (1982). Multiparameter hypothesis testing and acceptance sampling. Technometrics, 24(4),
       295-300.
    """
    columns = trials.set_index("trial")[["group", "label"]]
    group, label = (removals["trial"].map(columns[name]) for name in ("group", "label"))
    removals = removals.assign(group=group, label=label, p_true=expit(removals["log_odds"]))
    unit = "group" if removals["group"].nunique() >= FEWEST_GROUPS else "trial"
    rows = []
    for part, table in removals.groupby("part", sort=False):
        row = {"part": part, **table[["kind", "source"]].iloc[0]} | _removed(table, unit, seed)
        only = table[table["only"]]
        row |= {"only": balanced_accuracy(only), "only_p": above_chance(only, seed), "unit": unit}
        rows.append(row)
    made = pd.DataFrame(rows)
    made["p"] = np.minimum(1, made["p"] * np.where(made["kind"] == "channel", n_channels, 1))
    return made.assign(p_holm=_holm(made["p"]))


def _removed(table: pd.DataFrame, unit: str, seed: int) -> dict:
    """Return accuracy without a part, and how much lower it is than without as powerful ones."""
    whole = table[~table["only"]]
    part, control = whole[whole["draw"] < 0], whole[whole["draw"] >= 0]
    row = {"power": part["power"].iloc[0], "left_p": above_chance(part, seed), "n_draws": control["draw"].nunique()}
    row |= _interval(part, "accuracy", "correct", unit, seed)
    names = [f"{name}{end}" for name in ("control", "drop") for end in ("", "_low", "_high")]
    row |= dict.fromkeys([*names, "p"], np.nan)
    if row["n_draws"] < FEWEST_DRAWS:
        return row
    keys = ["trial", "seed"]
    mean = control.groupby(keys)[["correct", "p_true"]].mean()
    paired = part.merge(mean, on=keys, suffixes=("", "_control"))  # trials of subjects that have controls
    paired["drop"] = paired["correct_control"] - paired["correct"].astype(float)
    row |= _interval(paired, "control", "correct_control", unit, seed) | _interval(paired, "drop", "drop", unit, seed)
    draws = pd.concat([_alike(draw, "p_true") for _, draw in control.groupby("draw")])
    return row | {"p": costs_more(_alike(paired, "p_true", "p_true_control"), draws, unit)}


def _alike(table: pd.DataFrame, *values: str) -> pd.DataFrame:
    """Weigh values so that in their mean over rows every class counts alike."""
    weight = class_weights(table["label"].to_numpy())
    return table.assign(**{name: table[name] * weight for name in values})


def balanced_accuracy(answers: pd.DataFrame) -> float:
    """Return the mean over classes of the share of right answers; NaN without any.

    Parameters
    ----------
    answers : DataFrame
        label and predicted.
    """
    return accuracy(answers["label"], answers["predicted"]).balanced if len(answers) else np.nan


def costs_more(paired: pd.DataFrame, control: pd.DataFrame, unit: str) -> float:
    """Return the p-value that a part costs no more than as powerful ones, see `interventions`.

    Parameters
    ----------
    paired : DataFrame
        A row per trial and seed: p_true without the part, p_true_control, its mean over draws, and the column `unit`.
    control : DataFrame
        A row per draw, trial and seed: p_true.
    unit : str
    """
    lost = (paired["p_true_control"] - paired["p_true"]).groupby(paired[unit]).mean()
    return max(_above_zero(lost), _below(paired["p_true"].mean(), control.groupby("draw")["p_true"].mean()))


def _interval(table: pd.DataFrame, name: str, value: str, unit: str, seed: int) -> dict:
    """Return the mean over classes of a class's mean, with a 95 % interval: units and seeds are drawn anew.

    Each sample has its own number of trials of a class, so that its mean is a ratio; a class that it lacks is left out.
    """
    axes = [pd.factorize(table[column]) for column in ("label", unit, "seed")]
    cells = np.zeros((2, *(len(values) for _, values in axes)))  # of what is averaged, and how many there are
    numbers = np.stack([table[value].to_numpy(float), np.ones(len(table))])
    np.add.at(cells, (slice(None), *(codes for codes, _ in axes)), numbers)
    rng = np.random.default_rng(seed)
    units, seeds = (times_drawn(rng, size, N_BOOTSTRAP) for size in cells.shape[2:])
    total, number = np.einsum("bu,xcus,bs->xbc", units, cells, seeds, optimize=True)
    means = np.nanmean(np.where(number > 0, total / np.maximum(number, 1), np.nan), axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    total, number = cells.sum((2, 3))
    return {name: float((total / number).mean()), f"{name}_low": low, f"{name}_high": high}


def _above_zero(values: pd.Series) -> float:
    """Return the p-value of a one-sided t test of the mean."""
    if len(values) < 2 or np.ptp(values) == 0:  # nothing that varies: all the same evidence, or none
        return float(values.mean() <= 0)
    return float(stats.ttest_1samp(values, 0, alternative="greater").pvalue)


def _below(case: float, sample: pd.Series) -> float:
    """Return the p-value that one case is below a small sample by chance, by Crawford & Howell."""
    n, spread = len(sample), sample.std()
    if spread == 0:
        return float(case >= sample.iloc[0])
    return float(stats.t.cdf((case - sample.mean()) / (spread * np.sqrt(1 + 1 / n)), n - 1))


def above_chance(table: pd.DataFrame, seed: int = 0) -> float:
    """Return the p-value of the mean balanced accuracy over seeds under permutation of labels within groups.

    Parameters
    ----------
    table : DataFrame
        trial, seed, group, label and predicted.
    seed : int

    Returns
    -------
    float
        See `permutation_p_value`; NaN without trials.
    """
    if not len(table):
        return np.nan
    answers = table.pivot_table("predicted", "trial", "seed", aggfunc="first")
    known = table.drop_duplicates("trial").set_index("trial").loc[answers.index]
    return permutation_p_value(
        known["label"], answers, known["group"], balanced=True, n_permutations=N_PERMUTATIONS, seed=seed
    )


def _holm(p: Iterable[float]) -> np.ndarray:
    """Return p-values corrected by Holm for as many tests as there are; NaN stays."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")  # NaN last
    n_tests = np.isfinite(p).sum()
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.maximum.accumulate(np.minimum(1, p[order] * np.maximum(1, n_tests - np.arange(len(p)))))
    return corrected
