"""From maps of single subjects to a statement about a group: test, size of the effect, and how many show it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import mne
import numpy as np
import scipy
from scipy import stats

from eegxai_support.montages import located, scalp_positions
from eegxai_support.patterns import ClusterTest, pattern_cluster_test

ALPHA = 0.05  # of the test within each unit
LEVEL = 0.95  # of all intervals
FEWEST_CHANNELS = 3  # that make a triangle of neighbours
ROUNDING = 1e-9  # of a sum of t
FEWEST = 6  # units: the signs of fewer have too few flips for a p-value below 0.05


@dataclass(frozen=True, eq=False)
class GroupEffect:
    """What some units have in common, for each channel and each time, frequency or whatever the second axis is.

    Parameters
    ----------
    units : tuple
        Names of the subjects or sessions.
    mean : ndarray, shape (channel, place)
        Of the scaled maps, less that of the null.
    test : ClusterTest
        t, p-values and clusters over units.
    effect_size, effect_low, effect_high : ndarray, shape (channel, place)
        Hedges' g of one sample: the mean over the standard deviation over units, corrected for their number, with a
        95 % interval of each point by itself.
    prevalence, prevalence_low, prevalence_high : ndarray, shape (channel, place), or None
        Share of the population in which a test within the unit would find the effect, the most probable value and a
        95 % interval; None without a null, or where it has too few draws.
    """

    units: tuple
    mean: np.ndarray
    test: ClusterTest
    effect_size: np.ndarray
    effect_low: np.ndarray
    effect_high: np.ndarray
    prevalence: np.ndarray | None
    prevalence_low: np.ndarray | None
    prevalence_high: np.ndarray | None


@dataclass(frozen=True, eq=False)
class GroupMap:
    """What a group shows, with all units and with those alone whose decoder is above chance.

    Parameters
    ----------
    all : GroupEffect
    above_chance : GroupEffect or None
        None where it was not asked for, or where fewer than two units are left.
    left_out : tuple
        Names of the units that are not above chance.
    """

    all: GroupEffect
    above_chance: GroupEffect | None
    left_out: tuple


def group_map(
    maps,
    info: mne.Info,
    null=None,
    *,
    units=None,
    above_chance=None,
    threshold: float | None = None,
    n_permutations: int = 1024,
    seed: int = 0,
) -> GroupMap:
    r"""Test over subjects or sessions where relevance differs between classes, or from that of permuted labels.

    Relevance against zero means nothing: a network answers to something in every trial, and its map is not zero there
    whatever its labels were. So a map is compared with another of the same unit, that of the other class, or those of
    decoders that were trained on permuted labels.

    Networks are more or less sure, and their maps larger or smaller for it. Each unit's maps are divided by one number,
    the root mean square over both classes, channels and places, and so is each draw of the null: signs and shapes stay.

    To leave out subjects whose decoder is at chance selects by the same trials that are explained, and to keep them
    averages over maps of decoders that know nothing. Give `above_chance`, and report both.

    Parameters
    ----------
    maps : array-like, shape (unit, 2, channel, place) or (unit, channel, place)
        Mean maps of each unit: of two classes, whose difference, second minus first, is tested; or one, which needs a
        null. Places are times or frequencies; a third axis of (unit, channel) may be left out where there is a null.
    info : mne.Info
        EEG channels, three or more, in the order of the maps, with positions or with names of the 10-05 system.
    null : array-like, shape (unit, draw, ...), optional
        Maps of the same form of decoders that were trained on permuted labels, several for each unit.
    units : sequence, optional
        Names; by default numbers from 1.
    above_chance : array-like of bool, shape (unit,), optional
        Whether the unit's decoder is above chance, such as p < 0.05.
    threshold, n_permutations, seed
        See `pattern_cluster_test`.

    Returns
    -------
    GroupMap

    Raises
    ------
    ValueError
        One map a unit and no null; other shapes, NaN, a unit without any relevance, fewer than three channels or one
        without a place, or what `pattern_cluster_test` refuses.

    Warns
    -----
    UserWarning
        Fewer than six units, of which no test can say more than p = 0.06.

    Notes
    -----
    Clusters of a difference between classes are tested by flipping signs of whole units [1]_, see
    `pattern_cluster_test`. A map less the mean of its null is not symmetric about zero where relevance is skewed, and
    flipped signs would find an effect in 44 % of groups of lognormal maps that have none. There the same sums over
    clusters are compared with those after drawing anew, within each unit, which of its map and the null's is taken for
    the map: under the null hypothesis all are alike, and the level is exact.

    Hedges' g [2]_ has the standard error :math:`\sqrt{1/n + g^2/2n}`. Prevalence [3]_: within each unit the map's
    distance from the mean of itself and its null is ranked among those of the null's draws, which under the null
    hypothesis is a test of exact level where these are 19 or more; of n units k are significant, and the posterior of
    :math:`\gamma` is that of :math:`k \sim \mathrm{Binomial}(n, \alpha + (1 - \alpha)\gamma)` under a uniform prior.
    At each point by itself.

    References
    ----------
    .. [1] Maris & Oostenveld (2007). Nonparametric statistical testing of EEG- and MEG-data. Journal of Neuroscience
       Methods 164(1), 177-190.
    .. [2] Hedges (1981). Distribution theory for Glass's estimator of effect size and related estimators. Journal of
       Educational Statistics 6(2), 107-128.
    .. [3] Ince, Paton, Kay & Schyns (2021). Bayesian inference of population prevalence. eLife 10:e62461.
    """
    maps, null = _checked(maps, null)
    if maps.shape[-2] < FEWEST_CHANNELS:
        raise ValueError(
            f"The maps have {maps.shape[-2]} channels; clusters over the head need {FEWEST_CHANNELS} or more."
        )
    info = located(info)
    scalp_positions(info)  # refuses electrodes that have no place
    names = tuple(range(1, len(maps) + 1)) if units is None else tuple(units)
    known = np.ones(len(maps), bool) if above_chance is None else np.asarray(above_chance)
    for what, given in (("units", names), ("above_chance", known)):
        if len(given) != len(maps):
            raise ValueError(f"{what} has {len(given)} entries; expected {len(maps)}, one for the maps of each unit.")
    if known.dtype != bool:
        raise ValueError(f"above_chance holds {known.dtype} numbers; expected True or False, such as p < 0.05.")
    if len(maps) < FEWEST:
        warnings.warn(
            f"Of {len(maps)} units no p-value falls below {0.5 ** (len(maps) - 1):.2g}, whatever they show. Take"
            f" {FEWEST} or more.",
            stacklevel=2,
        )
    contrast = _contrast(maps, names, maps.ndim == 4)
    drawn = None if null is None else np.stack([_contrast(each, names, maps.ndim == 4) for each in null], axis=1)

    def effect(chosen: np.ndarray) -> GroupEffect:
        own = None if drawn is None else drawn[chosen]
        of = tuple(name for name, it in zip(names, chosen, strict=True) if it)
        return _effect(contrast[chosen], own, of, info, threshold, n_permutations, seed)

    some = effect(known) if above_chance is not None and known.sum() > 1 else None
    left_out = tuple(name for name, it in zip(names, known, strict=True) if not it)
    return GroupMap(effect(np.ones(len(maps), bool)), some, left_out)


def _checked(maps, null) -> tuple[np.ndarray, np.ndarray | None]:
    """Return maps of three or four axes, and the null with its draws first."""
    maps, null = np.asarray(maps, float), None if null is None else np.asarray(null, float)
    if null is not None and null.ndim == maps.ndim + 1 and maps.ndim == 2:
        maps, null = maps[..., None], null[..., None]
    if maps.ndim not in (3, 4) or (maps.ndim == 4 and maps.shape[1] != 2):
        raise ValueError(
            f"maps have shape {maps.shape}; expected (unit, 2, channel, place), the mean maps of two classes, or (unit,"
            " channel, place) with a null."
        )
    if maps.ndim == 3 and null is None:
        raise ValueError(
            "One map a unit could be tested against zero only, which says that a network answers to something, and it"
            " always does. Give the maps of two classes, (unit, 2, channel, place), or null=, maps of decoders that"
            " were trained on permuted labels."
        )
    if null is not None:
        if null.ndim != maps.ndim + 1 or null.shape[:1] + null.shape[2:] != maps.shape:
            raise ValueError(f"null has shape {null.shape}; expected (unit, draw, ...) of maps of shape {maps.shape}.")
        null = np.moveaxis(null, 1, 0)
    for name, values in (("maps", maps), ("null", null)):
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"{name} hold NaN or infinity. Leave those trials out before the mean is taken.")
    return maps, null


def _contrast(maps: np.ndarray, names: tuple, of_classes: bool) -> np.ndarray:
    """Return scaled maps, (unit, channel, place); of two classes, second minus first."""
    size = np.sqrt(np.square(maps).mean(axis=tuple(range(1, maps.ndim)), keepdims=True))
    if empty := [str(name) for name, it in zip(names, size.ravel(), strict=True) if it == 0]:
        raise ValueError(f"The maps of {', '.join(empty)} are zero everywhere. Leave these units out.")
    scaled = maps / size
    return scaled[:, 1] - scaled[:, 0] if of_classes else scaled


def _effect(contrast, drawn, units, info, threshold, n_permutations, seed) -> GroupEffect:
    values = contrast if drawn is None else contrast - drawn.mean(axis=1)
    n = len(values)
    options = {"threshold": threshold, "n_permutations": n_permutations, "seed": seed}
    if drawn is None:
        test = pattern_cluster_test(values, info, **options)
    else:
        test = _redrawn_test(np.concatenate([contrast[:, None], drawn], axis=1), info, **options)
    g = values.mean(0) / values.std(0, ddof=1) * (1 - 3 / (4 * (n - 1) - 1))
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(1 / n + g**2 / (2 * n))
    prevalence = _prevalence(contrast, drawn) if drawn is not None else (None, None, None)
    return GroupEffect(units, values.mean(0), test, g, g - half, g + half, *prevalence)


def _redrawn_test(alike: np.ndarray, info: mne.Info, threshold, n_permutations: int, seed: int) -> ClusterTest:
    """Test clusters by drawing which of the maps of each unit, (unit, 1 + draw, channel, place), is taken for its own.

    The difference from the mean of the others is that from the mean of all, but for a factor that t does not see.
    """
    n, n_maps, *shape = alike.shape
    with mne.use_log_level("error"):
        neighbours = mne.channels.find_ch_adjacency(info, "eeg")[0]
        adjacency = mne.stats.combine_adjacency(neighbours, shape[1]).tocsr()
    limit = stats.t.ppf(0.975, n - 1) if threshold is None else threshold
    centred = (alike - alike.mean(axis=1, keepdims=True)).reshape(n, n_maps, -1)

    def clusters(chosen: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        values = centred[np.arange(n), chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.nan_to_num(values.mean(0) / values.std(0, ddof=1) * np.sqrt(n), posinf=0, neginf=0)
        found = [part for sign in (1, -1) for part in _connected(np.flatnonzero(sign * t > limit), adjacency)]
        return t, found, np.array([np.abs(t[part]).sum() for part in found])

    t, found, sums = clusters(np.zeros(n, int))
    rng = np.random.default_rng(seed)
    drawn = (clusters(rng.integers(n_maps, size=n))[2].max(initial=0) for _ in range(n_permutations - 1))
    largest = np.array([sums.max(initial=0), *drawn])
    p_value, masks = np.ones(t.size), np.zeros((len(found), t.size), bool)
    for mask, part, size in zip(masks, found, sums, strict=True):
        mask[part] = True
        p_value[part] = (largest >= size - ROUNDING * size).mean()
    smallest = 1 / min(n_permutations, n_maps**n)
    return ClusterTest(t.reshape(shape), p_value.reshape(shape), masks.reshape(-1, *shape), smallest)


def _connected(points: np.ndarray, adjacency) -> list[np.ndarray]:
    """Return the points that are neighbours of each other, cluster by cluster."""
    n_parts, part = scipy.sparse.csgraph.connected_components(adjacency[points][:, points], directed=False)
    return [points[part == k] for k in range(n_parts)]


def _prevalence(contrast: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray | None, ...]:
    n, n_values = len(contrast), drawn.shape[1] + 1
    alpha = np.floor(ALPHA * n_values) / n_values  # the level that ranks among so many have
    if alpha == 0:
        return None, None, None
    values = np.concatenate([contrast[:, None], drawn], axis=1)
    distance = np.abs(values - values.mean(axis=1, keepdims=True))
    p_value = (distance >= distance[:, :1]).mean(axis=1)
    k = (p_value <= alpha + 1e-12).sum(axis=0)
    most_probable = np.clip((k / n - alpha) / (1 - alpha), 0, 1)
    posterior = stats.beta(k + 1, n - k + 1)  # of the share of significant tests, which is alpha at least
    below = posterior.cdf(alpha)
    ends = [posterior.ppf(below + q * (1 - below)) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    return most_probable, *((end - alpha) / (1 - alpha) for end in ends)
