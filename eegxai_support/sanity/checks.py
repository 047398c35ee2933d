"""Tables of how much of a map is left when what it explains is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import entropy
from torch import nn
from tqdm import tqdm

from eegxai_support.decoders import predict
from eegxai_support.model import model_size
from eegxai_support.sanity.weights import learned_by_level, randomize
from eegxai_support.scoring import pearson
from eegxai_support.trials import Trials

Explain = Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray]


def random_target(target, n_classes: int, seed: int) -> np.ndarray:
    """Draw a wrong class for each trial, uniformly over the other classes.

    Parameters
    ----------
    target : array-like of int, shape (trial,)
        True classes, 0 … `n_classes` − 1.
    n_classes : int
    seed : int

    Returns
    -------
    ndarray of int64, shape (trial,)

    Raises
    ------
    ValueError
        Fewer than two classes, or a target outside 0 … `n_classes` − 1.
    """
    target = _checked_target(target, n_classes)
    shift = np.random.default_rng(seed).integers(1, n_classes, size=target.shape)
    return (target + shift) % n_classes


def label_randomisation_test(explain: Explain, model: nn.Module, x, target, n_classes: int) -> pd.DataFrame:
    """Correlate the map for the true class with the map for every other class.

    A map of what the network uses for a class should change with the class. Use three classes or more: with two, the
    logits mirror each other, and signed maps flip their sign whether or not they depend on the class.

    Parameters
    ----------
    explain : callable
        ``explain(model, x, target)`` returns maps (trial, channel, time) for the classes `target` (trial,).
    model : torch.nn.Module
    x : ndarray, shape (trial, channel, time)
    target : array-like of int, shape (trial,)
        True classes.
    n_classes : int

    Returns
    -------
    DataFrame
        One row per trial and wrong class: trial, target, other, pearson (NaN where a map is constant).

    Raises
    ------
    ValueError
        See `random_target`.
    """
    target = _checked_target(target, n_classes)
    maps = explain(model, x, target)
    rows = []
    for shift in tqdm(range(1, n_classes), desc="Wrong labels", leave=False, delay=2):
        other = (target + shift) % n_classes
        similarity = pearson(explain(model, x, other), maps)
        rows.append(_rows(similarity, target=target, other=other)[["trial", "target", "other", "pearson"]])
    return pd.concat(rows, ignore_index=True)


def weight_randomisation_test(
    explain: Explain, model: nn.Module, x, target, seeds: Iterable[int], *, order: str = "cascading"
) -> pd.DataFrame:
    """Correlate each trial's map with the maps of the same network with random weights (MPRT).

    Parameters
    ----------
    explain : callable
        ``explain(model, x, target)`` returns maps (trial, channel, time).
    model : torch.nn.Module
    x : ndarray, shape (trial, channel, time)
    target : array-like of int, shape (trial,)
    seeds : iterable of int
        One randomisation each; their spread shows what a single draw would hide.
    order : {"cascading", "independent", "at_once"}
        See `randomize`.

    Returns
    -------
    DataFrame
        One row per seed, level and trial: seed, level (from 1), layer (name of the module replaced at that level),
        trial, pearson (NaN where a map is constant).

    Raises
    ------
    ValueError
        See `randomize`.
    """
    target, seeds, shape = np.asarray(target), list(seeds), np.shape(x)[1:]
    maps = explain(model, x, target)
    rows = []
    total = len(seeds) * len(learned_by_level(model, order, shape))
    with tqdm(total=total, desc="Random weights", leave=False, delay=2) as bar:
        for seed in seeds:
            levels = randomize(model, seed, order=order, shape=shape)
            for level, (layer, randomized) in enumerate(levels, start=1):
                similarity = pearson(explain(randomized, x, target), maps)
                rows.append(_rows(similarity, seed=seed, level=level, layer=layer))
                bar.update()
    return pd.concat(rows, ignore_index=True)


def smooth_mprt(
    explain: Explain,
    model: nn.Module,
    x,
    target,
    seeds: Iterable[int],
    *,
    order: str = "cascading",
    n_samples: int = 50,
    noise_level: float = 0.7,
    noise_seed: int = 0,
) -> pd.DataFrame:
    """Weight randomisation of maps that are averaged over noise added to the trial (sMPRT [1]_).

    Noise in a map lowers its correlation with any other map. Without averaging, a noisy method passes the test for
    its noise.

    Parameters
    ----------
    explain, model, x, target, seeds, order
        See `weight_randomisation_test`.
    n_samples : int
        Noises that each map is averaged over.
    noise_level : float
        Standard deviation of the noise in those of the trial, taken over channels and time. The source takes a tenth of
        the trial's range, which is about 0.7 standard deviations for a normal signal of 1000 samples.
    noise_seed : int
        Every network sees the same noise, so that the correlation drops for the weights alone. That of a trial depends
        on its place in `x` and not on the other trials.

    Returns
    -------
    DataFrame
        As `weight_randomisation_test`.

    Raises
    ------
    ValueError
        Fewer than one sample, a negative noise level, or as `randomize`.

    Notes
    -----
    The source correlates ranks of absolute maps, draws other noise for each network, adds a map without noise and
    resets weights to initial values; here maps keep their sign and are compared by Pearson correlation, as in the other
    tests, and weights are redrawn by `randomize`. Use order "at_once", or read the last level of a cascade: at those
    before it the layers next to the input are still the trained ones, for which a cascade from the output has been
    criticised [1]_, [2]_.

    References
    ----------
    .. [1] Hedström, A., et al. (2024). A fresh look at sanity checks for saliency maps. arXiv:2405.02383.
    .. [2] Binder, A., et al. (2023). Shortcomings of top-down randomization-based sanity checks. CVPR.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}; expected at least 1.")
    if not 0 <= noise_level < np.inf:
        raise ValueError(f"noise_level is {noise_level}; expected a finite number, 0 or above.")

    def smoothed(network, x, target):
        x = np.asarray(x)
        rngs = [np.random.default_rng([noise_seed, trial]) for trial in range(len(x))]
        scale = noise_level * x.std((1, 2), keepdims=True)
        maps = 0
        for _ in range(n_samples):
            noise = np.stack([rng.standard_normal(x.shape[1:], dtype=np.float32) for rng in rngs])
            maps = maps + explain(network, x + scale * noise, target)
        return maps / n_samples

    return weight_randomisation_test(smoothed, model, x, target, seeds, order=order)


def efficient_mprt(
    explain: Explain, model: nn.Module, x, target, seeds: Iterable[int], *, n_bins: int = 100
) -> pd.DataFrame:
    r"""Rise in the complexity of each trial's map when all weights are randomised (eMPRT [1]_).

    A map of a trained network should be simpler than one of random weights. Nothing is compared between two maps, so
    noise in them does not help a method: its own noise is as complex before as after. With :math:`\xi` the entropy of
    a map's histogram, the rise is

    .. math:: (\xi(\hat{\mathbf{R}}) - \xi(\mathbf{R})) / \xi(\mathbf{R}).

    Parameters
    ----------
    explain, model, x, target, seeds
        See `weight_randomisation_test`.
    n_bins : int
        Bins of equal width between the lowest and the highest value of each map.

    Returns
    -------
    DataFrame
        One row per seed and trial: seed, trial, entropy (of the map of `model`, in nats), entropy_random and rise (NaN
        where the map of `model` is constant or a map holds NaN).

    Raises
    ------
    ValueError
        Fewer than two bins, or as `randomize`.

    Notes
    -----
    The histogram is that of the source: a map's own range, which makes the entropy indifferent to scale and sign, and
    indifferent to *where* the values are. Maps keep their sign. Weights are redrawn by `randomize`, where the source
    resets them to initial values.

    References
    ----------
    .. [1] Hedström, A., et al. (2024). A fresh look at sanity checks for saliency maps. arXiv:2405.02383.
    """
    if n_bins < 2:
        raise ValueError(f"n_bins is {n_bins}; expected at least 2.")
    target, rows = np.asarray(target), []
    before = _histogram_entropy(explain(model, x, target), n_bins)
    for seed in tqdm(list(seeds), desc="Random weights", leave=False, delay=2):
        ((_, randomized),) = randomize(model, seed, order="at_once", shape=np.shape(x)[1:])
        after = _histogram_entropy(explain(randomized, x, target), n_bins)
        rise = (after - before) / np.where(before > 0, before, np.nan)
        rows.append(_rows(rise, "rise", seed=seed, entropy=before, entropy_random=after))
    return pd.concat(rows, ignore_index=True)


def data_randomisation_test(
    explain: Explain,
    model: nn.Module,
    x,
    target,
    fit: Callable[[Trials, int], nn.Module],
    trials: Trials,
    seeds: Iterable[int],
) -> pd.DataFrame:
    """Correlate each trial's map with that of networks that learned permuted labels [1]_.

    A network can learn labels without meaning by heart. A map that looks the same for it does not show what the labels
    have to do with the trials. A network that is trained again on the true labels tells how alike maps of two trainings
    are at best: compare the two correlations, not one of them with zero.

    Parameters
    ----------
    explain : callable
        ``explain(model, x, target)`` returns maps (trial, channel, time).
    model : torch.nn.Module
        Trained on `trials`.
    x : ndarray, shape (trial, channel, time)
        Trials to explain, preferably others than `trials`.
    target : array-like of int, shape (trial,)
    fit : callable
        ``fit(trials, seed)`` returns a new trained network.
    trials : Trials
        What `model` was trained on. Their labels are permuted within each run of each subject and session.
    seeds : iterable of int
        One permutation each, and two trainings: on the true and on the permuted labels. Leave out the seed that `model`
        was trained with, which would give it back.

    Returns
    -------
    DataFrame
        One row per seed, kind of labels and trial: seed, labels ("true" or "permuted"), accuracy (of the new network on
        its own training labels; far above chance where it did learn them, NaN for a single output), trial, pearson
        (NaN where a map is constant).

    Raises
    ------
    ValueError
        No run has trials of two classes, so that no label can be exchanged.

    References
    ----------
    .. [1] Adebayo, J., et al. (2018). Advances in Neural Information Processing Systems, 31.
    """
    target, rows = np.asarray(target), []
    maps = explain(model, x, target)
    for seed in tqdm(list(seeds), desc="Permuted labels", leave=False, delay=2):
        for labels, training in {"true": trials, "permuted": _permuted(trials, seed)}.items():
            network = fit(training, seed)
            similarity = pearson(explain(network, x, target), maps)
            rows.append(_rows(similarity, seed=seed, labels=labels, accuracy=_accuracy(network, training)))
    return pd.concat(rows, ignore_index=True)


def _rows(values: np.ndarray, name: str = "pearson", **columns) -> pd.DataFrame:
    return pd.DataFrame({**columns, "trial": np.arange(len(values)), name: values})


def _histogram_entropy(maps, n_bins: int) -> np.ndarray:
    """Entropy of the histogram of each map, in nats; NaN where a map is not finite."""
    maps = np.asarray(maps, dtype=float)
    finite = np.isfinite(maps).all(axis=(1, 2))
    # From zero on, bins of a nearly constant map are still wider than what rounding leaves.
    counts = (np.histogram(m - m.min(), n_bins)[0] if ok else [np.nan] for m, ok in zip(maps, finite, strict=True))
    return np.array([entropy(count) for count in counts])


def _permuted(trials: Trials, seed: int) -> Trials:
    trials.require_classes("data_randomisation_test")
    label, rng = trials.label.copy(), np.random.default_rng(seed)
    runs = trials.metadata.groupby(["subject", "session", "run"], dropna=False).indices.values()
    if all(len(np.unique(label[run])) == 1 for run in runs):
        raise ValueError("Every run holds one class only, so permuting labels within runs changes none of them.")
    for run in runs:
        label[run] = rng.permutation(label[run])
    return replace(trials, label=label)


def _accuracy(model: nn.Module, trials: Trials) -> float:
    """Accuracy on trials that may be longer than the model's input; then over crops that overlap by three quarters."""
    n_times = model_size(model, "n_times") or trials.signal.shape[2]
    logits = predict(model, trials.signal, stride=max(1, n_times // 4))
    if logits.shape[1] == 1:  # decides nothing
        return np.nan
    return float((logits.argmax(axis=1) == trials.label).mean())


def _checked_target(target, n_classes: int) -> np.ndarray:
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; a wrong class needs at least 2.")
    target = np.asarray(target)
    if not np.isin(target, np.arange(n_classes)).all():
        raise ValueError(f"target has the values {np.unique(target).tolist()}; expected integers 0 … {n_classes - 1}.")
    return target.astype(np.int64)
