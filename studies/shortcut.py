"""Was it the brain? Decoders of left and right fist that may read the eyes instead.

The target appears at the left or right of the screen, and the eyes follow it. Decoders across subjects are trained on
three quarters of the subjects, in four folds, and every number is of trials of the others. Decoders within a subject
are those of `studies.accuracy`: every number is of imagined runs that are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import mne
import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

import eegxai_support as xs
from eegxai_support import Attribution
from studies.accuracy import (
    EXECUTED_RUNS,
    FIST_EPOCHS,
    FIST_RUNS,
    N_TIMES,
    SEEDS,
    SFREQ,
    SUBJECTS,
    folds_of_subjects,
)
from studies.form import Study, defaults, eegbci
from studies.maps import WINDOW, rounded

EPOCHS = 25
FROM_THE_CUE = {"tmin": 0.0, "tmax": 3.0, "l_freq": 0.5, "h_freq": 38.0}
AFTER_1_S = {"tmin": 1.0, "tmax": 4.0, "l_freq": 7.0, "h_freq": 38.0}
ICA_TRIALS = {"tmin": 0.0, "tmax": 4.0, "l_freq": 1.0, "h_freq": 79.0}
N_COMPONENTS = 30  # so that the samples of a subject are thirty times the weights
CHOSEN = (7, 42)
FRONTAL = ("Fp1", "Fpz", "Fp2", "AF7", "AF3", "AFz", "AF4", "AF8", "F7", "F5", "F3", "F1", "Fz", "F2", "F4", "F6", "F8")
FRONTAL += ("FT7", "FT8")
POSTERIOR = ("P7", "P5", "P3", "P1", "Pz", "P2", "P4", "P6", "P8", "PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2")
POSTERIOR += ("TP7", "TP8")  # as many
EYES, OTHERS = "eye components", "as many other components"
METHODS = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "deep_lift",
    "lrp_epsilon",
    "lrp_gamma",
    "guided_backprop",
    "grad_cam",
    "channel_ablation",
    "random",
)
LOW = 6.0  # Hz
RECORDINGS = eegbci({subject: FIST_RUNS + EXECUTED_RUNS * (subject in CHOSEN) for subject in SUBJECTS})
CONFIGURATION = {
    "sfreq": SFREQ,
    "n_times": N_TIMES,
    "recipes": xs.RECIPES,
    "epochs": EPOCHS,
    "epochs_within_a_subject": FIST_EPOCHS,
    "windows": {"across subjects": FROM_THE_CUE, "late": AFTER_1_S, "ICA": ICA_TRIALS, "maps within a subject": WINDOW},
    "n_components": N_COMPONENTS,
    "channels": {"frontal": FRONTAL, "posterior": POSTERIOR},
    "methods": METHODS,
    "low": LOW,
    "defaults": defaults(xs.load_eegbci, xs.train),
}


def shortcut_accuracy(seeds=SEEDS, seeds_without=SEEDS[:2]) -> pd.DataFrame:
    """Accuracy of decoders with and without frontal channels or eye components, removed in the test or in training too.

    `decoder` says what was removed from training and test trials alike, `removed` what from the test trials only:
    channels are set to zero and are no part of the reference. As many posterior channels and other components are the
    controls. Decoders that were trained without a part, the names that start with "no", have `seeds_without`.
    """
    rows, without = [], [name for name in ACROSS if name.startswith("no ")]
    decoders = _decoders([name for name in (*ACROSS, *WITHIN) if name not in without], seeds)
    for name, seed, model, test in itertools.chain(decoders, _decoders(without, seeds_without)):
        for subject, trials in test.split("subject").items():
            for removed, signal in _removed(name, subject, trials).items():
                right = xs.predict(model, signal, stride=20).argmax(1) == trials.label
                row = {"decoder": name, "seed": seed, "subject": subject, "removed": removed}
                rows.append({**row, "n_trials": len(right), "n_right": right.sum()})
    keys = ["decoder", "seed", "subject", "removed"]
    table = pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum()  # over the folds within a subject
    return table.assign(accuracy=table["n_right"] / table["n_trials"])


def shortcut_maps(seeds=SEEDS) -> pd.DataFrame:
    """What each method's map puts on frontal channels, eye components and low frequencies, by subject and seed.

    Maps explain right minus left; a value of a channel is the sum over time, of a frequency that over channels, and for
    amplitude gradients of absolute values. `share` is of absolute values over channels, components or frequencies, mean
    over the trials that have any. `net` counts what speaks for the true class as positive and
    what speaks against it as negative, mean over trials; `net_total` is that of the whole map. "untrained" is the same
    network before training: what a map shows of the trials, whatever the network knows.
    """
    draw, rows = itertools.count(), []
    for name, seed, model, test in _decoders(("broadband", "untrained", "late", *WITHIN), seeds):
        for subject, trials in test.split("subject").items():
            shares = pd.DataFrame(_shares(model, trials, subject, draw))
            rows.append(shares.assign(decoder=name, seed=seed, subject=subject))
    keys = ["decoder", "seed", "subject", "method", "quantity"]
    # Over the folds within a subject, which have the same number of trials.
    values = ["share", "net", "net_total"]
    return rounded(pd.concat(rows).groupby(keys, sort=False, as_index=False)[values].mean(), values)


def shortcut_topographies(seeds=SEEDS[:1]) -> pd.DataFrame:
    """Share of each channel in the maps of `shortcut_maps`, mean over trials and subjects, one seed."""
    draw, rows = itertools.count(), []
    for name, _, model, test in _decoders(("broadband", "untrained", "late", *WITHIN), seeds):
        for trials in test.split("subject").values():
            for method, by_channel, _, _ in _maps(model, trials, draw):
                size = np.abs(by_channel)[np.any(by_channel, axis=1)]
                columns = {"channel": trials.info.ch_names, "value": (size / size.sum(1, keepdims=True)).mean(0)}
                rows.append(pd.DataFrame(columns).assign(decoder=name, method=method))
    return pd.concat(rows).groupby(["decoder", "method", "channel"], sort=False, as_index=False)["value"].mean()


def eye_components(subjects=SUBJECTS) -> pd.DataFrame:
    """Label of every subject's independent components and their share of the power that the decoders see."""
    tables = []
    for subject in subjects:
        ica, labels = _components(subject)
        for name in ("broadband", "late"):
            trials = variant(name).subset(variant(name).metadata["subject"] == subject)
            power = [
                np.square(trials.signal - xs.remove_components(trials, ica, [c]).signal).sum() for c in labels.index
            ]
            share = np.array(power) / np.square(trials.signal).sum()
            tables.append(labels.assign(subject=subject, decoder=name, power=share))
    return pd.concat(tables, ignore_index=True)


def across(name: str, seed: int) -> Iterator[tuple[nn.Module, xs.Trials]]:
    """Each fold of subjects: a decoder that was trained on the others, and the trials of the fold."""
    trials = variant(name)
    fold_of = folds_of_subjects(trials)
    for fold in range(4):
        training = trials.subset(fold_of != fold)
        model = xs.build_decoder("EEGNet", training, seed=seed, **xs.RECIPES["EEGNet"])
        if name != "untrained":
            xs.train(model, training, epochs=EPOCHS, seed=seed, cache=True)
        yield model, trials.subset(fold_of == fold)


def within(name: str, seed: int) -> Iterator[tuple[nn.Module, xs.Trials]]:
    """Each imagined run of a subject: a decoder that was trained on the others, and the 2 s that maps explain."""
    trials = xs.load_eegbci(WITHIN[name], runs=EXECUTED_RUNS + FIST_RUNS, sfreq=SFREQ)
    for left_out in FIST_RUNS:
        tested = trials.metadata["run"] == left_out
        training = trials.subset(~tested)
        model = xs.build_decoder("EEGNet", training, n_times=N_TIMES, seed=seed, **xs.RECIPES["EEGNet"])
        xs.train(model, training, epochs=FIST_EPOCHS, seed=seed, cache=True)
        yield model, trials.subset(tested).crop(*WINDOW)


@cache
def variant(name: str) -> xs.Trials:
    """Return the trials that a decoder across subjects is trained and tested on."""
    window, change = ACROSS[name]
    trials = xs.load_eegbci(SUBJECTS, sfreq=SFREQ, **window)
    return change(trials) if change else trials


def without_channels(trials: xs.Trials, channels) -> xs.Trials:
    """Leave channels out and take the average of the others as reference."""
    kept = [i for i, name in enumerate(trials.info.ch_names) if name not in channels]
    signal = trials.signal[:, kept]
    return replace(trials, signal=signal - signal.mean(axis=1, keepdims=True), info=mne.pick_info(trials.info, kept))


def without_components(trials: xs.Trials, kind: str) -> xs.Trials:
    """Remove eye components of each subject, or as many others, from trials of many."""
    signal = np.empty_like(trials.signal)
    for subject, part in trials.split("subject").items():
        chosen = (trials.metadata["subject"] == subject).to_numpy()
        signal[chosen] = xs.remove_components(part, _components(subject)[0], _chosen(subject, kind)).signal
    return replace(trials, signal=signal)


ACROSS = {  # decoder: (window and pass-band, what is done to all trials, in training and test)
    "broadband": (FROM_THE_CUE, None),
    "untrained": (FROM_THE_CUE, None),
    "late": (AFTER_1_S, None),
    "no frontal channels": (FROM_THE_CUE, lambda trials: without_channels(trials, FRONTAL)),
    "no posterior channels": (FROM_THE_CUE, lambda trials: without_channels(trials, POSTERIOR)),
    "no eye components": (FROM_THE_CUE, lambda trials: without_components(trials, EYES)),
    "no other components": (FROM_THE_CUE, lambda trials: without_components(trials, OTHERS)),
}
WITHIN = {f"S{subject:03d}": subject for subject in CHOSEN}


def _decoders(names, seeds) -> Iterator[tuple[str, int, nn.Module, xs.Trials]]:
    for name, seed in tqdm(list(itertools.product(names, seeds)), desc="decoders"):
        for model, test in (across if name in ACROSS else within)(name, seed):
            yield name, seed, model, test


@cache
def _components(subject: int) -> tuple[mne.preprocessing.ICA, pd.DataFrame]:
    """Return the independent components of a subject's imagined fists, broadband, and their labels."""
    trials = xs.load_eegbci(subject, **ICA_TRIALS)
    ica = xs.fit_ica(trials, n_components=N_COMPONENTS)
    return ica, xs.label_components(ica, trials)


def _chosen(subject: int, kind: str) -> np.ndarray:
    """Return the eye components of a subject, or as many of the others, those that explain most variance."""
    is_eye = (_components(subject)[1]["label"] == "eye blink").to_numpy()
    return np.flatnonzero(is_eye) if kind == EYES else np.flatnonzero(~is_eye)[: is_eye.sum()]


def _removed(name: str, subject: int, trials: xs.Trials) -> dict[str, np.ndarray]:
    """The test trials of a subject as they are and, for decoders that have seen them whole, with parts removed."""
    if name.startswith("no "):
        return {"nothing": trials.signal}
    changed = {"nothing": trials.signal}
    for part, channels in (("frontal channels", FRONTAL), ("posterior channels", POSTERIOR)):
        kept = ~np.isin(trials.info.ch_names, channels)
        changed[part] = kept[:, None] * (trials.signal - trials.signal[:, kept].mean(axis=1, keepdims=True))
    for part in (EYES, OTHERS):
        changed[part] = xs.remove_components(trials, _components(subject)[0], _chosen(subject, part)).signal
    return changed


def _maps(
    model: nn.Module, trials: xs.Trials, draw: Iterator[int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None, Attribution | None]]:
    """Every method's map of right minus left: by channel, by frequency where it has them, and its attribution.

    The random control draws anew at every call: one draw for all subjects would be one control, however many they are.
    """
    x, fast = trials.signal, xs.simplify(model, trials.signal)
    for method in METHODS:
        noise = {"seed": next(draw)} if method == "random" else {}
        map_ = xs.attribute(fast, x, (1, 0), method, **noise)
        linear = map_.multiplier is not None
        yield method, map_.values.sum(2), xs.frequency_relevance(map_, x).sum(1) if linear else None, map_
    left, right = xs.amplitude_gradients(model, x)
    gradient, amplitude = right - left, np.abs(np.fft.rfft(x))
    mean = gradient.mean(0, keepdims=True)
    for method, values in {
        "amplitude gradient x amplitude": gradient * amplitude,
        "mean amplitude gradient": mean,
        "Haufe pattern of the amplitudes": xs.haufe_patterns(mean, amplitude),
    }.items():
        yield method, np.abs(values).sum(2), np.abs(values).sum(1), None
    filters = xs.read_filters(model)
    yield "spatial filters", filters.unit_filters, None, None
    yield "patterns of the spatial filters", xs.filter_patterns(filters, trials), None, None
    yield "power of the trials", np.square(x).sum(2), np.square(amplitude).sum(1), None


def _shares(model: nn.Module, trials: xs.Trials, subject: int, draw: Iterator[int]) -> Iterator[dict]:
    """What every map puts on frontal channels, on each kind of component, and below 6 Hz."""
    ica, labels = _components(subject)
    frontal = np.isin(trials.info.ch_names, FRONTAL)
    low = np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq) < LOW
    kinds = {kind: np.flatnonzero(labels["label"] == kind) for kind in labels.columns[3:]}
    sign = 2 * trials.label - 1  # of right minus left
    for method, by_channel, by_frequency, map_ in _maps(model, trials, draw):
        parts = {"frontal channels": (by_channel, frontal)}
        if by_frequency is not None:
            parts[f"below {LOW:g} Hz"] = by_frequency, low
        if map_ is not None and map_.multiplier is not None:
            by_component = xs.component_relevance(map_, trials.signal, ica)
            parts |= {kind: (by_component, columns) for kind, columns in kinds.items()}
            parts["left by the components"] = by_component, [-1]
        for quantity, (values, chosen) in parts.items():
            size, row = np.abs(values), {"method": method, "quantity": quantity}
            some = size.sum(1) > 0  # Grad-CAM may find nothing that speaks for the class
            row["share"] = (size[some][:, chosen].sum(1) / size[some].sum(1)).mean() if some.any() else np.nan
            if map_ is not None and method not in ("saliency", "grad_cam", "random"):  # a sign for every trial
                row["net"] = sign @ values[:, chosen].sum(1) / len(trials)
                row["net_total"] = sign @ values.sum(1) / len(trials)
            yield row


STUDY = Study(
    configuration=CONFIGURATION,
    tables={
        **dict.fromkeys((shortcut_accuracy, shortcut_maps, shortcut_topographies), RECORDINGS),
        eye_components: eegbci(dict.fromkeys(SUBJECTS, FIST_RUNS)),
    },
)
