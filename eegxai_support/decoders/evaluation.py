"""Accuracy on trials that a decoder has not seen, with a baseline and p-values."""

from __future__ import annotations

from collections.abc import Callable

import mne
import numpy as np
import pandas as pd
from einops import rearrange
from tqdm import tqdm

from eegxai_support.decoders.inference import predict
from eegxai_support.decoders.models import build_decoder, recipe
from eegxai_support.decoders.training import train
from eegxai_support.model import needed
from eegxai_support.trials import Trials

RANK_TOLERANCE = 1e-10  # variances below this share of the largest are rounding
Classifier = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[Trials], Classifier]


def decoder_fit(name, *, epochs: int, n_times: int, seed: int = 0, stride: int = 20, **training) -> Fit:
    """Return a function that trains a network with its recipe and gives back its classifier.

    Parameters
    ----------
    name : str, class or function
        See `build_decoder`; the network's `recipe` at the rate of the trials, where it has one, sets its options.
    epochs, seed, **training
        Passed to `train`.
    n_times : int
        Samples of a crop.
    stride : int
        Samples between the crops whose logits are averaged for a test trial.
    """

    def fit(trials: Trials) -> Classifier:
        options = recipe(name, trials.sfreq) if isinstance(name, str) else {}
        model = build_decoder(name, trials, n_times=n_times, seed=seed, **options)
        train(model, trials, epochs=epochs, seed=seed, **training)
        return lambda signal: predict(model, signal, stride=stride).argmax(1)

    return fit


def csp_lda(n_components: int = 6) -> Fit:
    """Return a function that fits common spatial patterns and linear discriminant analysis.

    Log-variance of CSP components [1]_ with a shrunk covariance, the classical baseline for motor imagery.

    Parameters
    ----------
    n_components : int
        Spatial filters that are kept.

    Raises
    ------
    ModuleNotFoundError
        scikit-learn is not installed.

    References
    ----------
    .. [1] Blankertz et al. (2008). Optimizing spatial filters for robust EEG single-trial analysis.
       IEEE Signal Process. Mag. 25(1), 41-56.
    """
    with needed("csp_lda", extra="decoders"):
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # takes longer than a network's maps
        from sklearn.pipeline import make_pipeline

    def fit(trials: Trials) -> Classifier:
        trials.require_classes("csp_lda")
        signal = trials.signal.astype(float)
        csp = mne.decoding.CSP(n_components, reg="ledoit_wolf", log=True, rank={"eeg": _rank(signal)})
        pipeline = make_pipeline(csp, LinearDiscriminantAnalysis())
        with mne.use_log_level("ERROR"):
            pipeline.fit(signal, trials.label)
        return lambda signal: pipeline.predict(signal.astype(float))

    return fit


def _rank(signal: np.ndarray) -> int:
    """Rank of the signal: with an average reference one less than channels, with pairs of electrodes all of them."""
    channels = rearrange(signal, "trial channel time -> channel (trial time)")
    return int(np.linalg.matrix_rank(channels @ channels.T, rtol=RANK_TOLERANCE, hermitian=True))


def cross_validate(fit: Fit, trials: Trials, *, by="run", tested=None) -> pd.DataFrame:
    """Leave one group out at a time, fit on the rest, predict the group.

    Parameters
    ----------
    fit : callable
        Takes training trials, returns a function from a signal (trial, channel, time) to class labels: `csp_lda`,
        `decoder_fit` or your own.
    trials : Trials
    by : str or array-like, shape (trial,)
        Column of the metadata, or one value per trial: the groups that are left out in turn.
    tested : ndarray of bool, shape (trial,), optional
        Trials that are predicted; groups without one are only ever trained on. All by default.

    Returns
    -------
    DataFrame
        The metadata of the predicted trials with their label and predicted class; `accuracy` sums it up.

    Raises
    ------
    ValueError
        Trials of one group only, without labels, or with continuous ones.
    """
    trials.require_classes("cross_validate")
    group = trials.metadata[by].to_numpy() if isinstance(by, str) else np.asarray(by)
    tested = np.ones(len(trials), bool) if tested is None else np.asarray(tested, bool)
    folds = pd.unique(group[tested])
    if len(pd.unique(group)) < 2:
        raise ValueError(
            f"All trials are in one group ({group[0]}); leaving a group out needs at least two. Name a column of the"
            " metadata that tells recordings apart, by='session', or give a group per trial, by=array. Neighbours in"
            " time belong into one group."
        )
    tables = []
    for fold in tqdm(folds, desc="Cross-validation", unit="fold", leave=False, delay=2):
        test = trials.subset(tested & (group == fold))
        classify = fit(trials.subset(group != fold))
        tables.append(test.metadata.assign(label=test.label, predicted=classify(test.signal)))
    return pd.concat(tables, ignore_index=True)


def permutation_p_value(
    label, predicted, group, *, balanced: bool = False, n_permutations: int = 10_000, seed: int = 0
) -> float:
    """Return the p-value of an accuracy under label permutation within groups.

    The answers stay as they are, and so do the networks that gave them: the p-value asks whether these answers have to
    do with the labels. Another training might have given others; several seeds show how much so.

    Parameters
    ----------
    label : array-like of int, shape (trial,)
    predicted : array-like of int, shape (trial,) or (trial, seed)
        Of several networks, their mean accuracy is tested.
    group : array-like, shape (trial,)
        Labels are exchanged only within a group, such as a run: drifts from run to run are not evidence.
    balanced : bool
        Whether each class counts alike, however many trials it has.
    n_permutations, seed : int

    Returns
    -------
    float
        ``(1 + #{permuted ≥ observed}) / (1 + n_permutations)`` [1]_, never zero.

    Raises
    ------
    ValueError
        Arrays of different lengths, or labels that are no classes.

    References
    ----------
    .. [1] Phipson & Smyth (2010). Permutation P-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9(1), 39.
    """
    label, predicted, group = np.asarray(label), np.asarray(predicted), np.asarray(group)
    predicted = predicted[:, None] if predicted.ndim == 1 else predicted
    if label.dtype.kind not in "iu" or not len(label) == len(predicted) == len(group):
        raise ValueError(
            f"label ({label.dtype}), predicted and group have the lengths {len(label)}, {len(predicted)} and"
            f" {len(group)}; expected one whole number, one class and one group per trial."
        )
    rng = np.random.default_rng(seed)
    classes, of_class, n_of_class = np.unique(label, return_inverse=True, return_counts=True)
    weight = 1 / n_of_class if balanced else np.ones(len(classes))
    right = np.zeros(n_permutations + 1)  # the first is what was observed
    for value in np.unique(group):
        inside = group == value
        drawn = rng.permuted(np.tile(of_class[inside], (n_permutations, 1)), axis=1)
        drawn = np.concatenate([of_class[None, inside], drawn])
        # How much each trial would add to the sum if it were of each class, so that a permutation only looks it up.
        adds = (predicted[inside, :, None] == classes).sum(1) * weight
        right += adds[np.arange(inside.sum()), drawn].sum(1)
    rounding = 1e-9 * right[0]
    return float((right >= right[0] - rounding).sum() / (1 + n_permutations))
