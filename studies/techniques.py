"""What do seven techniques of attribution agree on, beside a random control and two products, and what do they miss?

Two sets of trials: alert and drowsy drivers, one subject left out at a time, and left and right fist from the cue on, a
quarter of the subjects left out at a time. Every number is the mean over the explained trials of one subject, whom the
decoder has not seen; a map explains the logit of the class that the decoder predicts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

import eegxai_support as xs
from eegxai_support.recordings.cache import cache_folder
from studies.accuracy import FIST_RUNS, SFREQ, SUBJECTS, folds_of_subjects
from studies.form import Study, defaults, eegbci
from studies.maps import rounded
from studies.shortcut import EPOCHS, FROM_THE_CUE

TECHNIQUES = (
    "gradient",
    "input_x_gradient",
    "deconvolution",
    "guided_backprop",
    "deep_lift",
    "lrp_epsilon",
    "integrated_gradients",
    "random",
)
KERNEL_SECONDS = {"InterpretableCNN": 0.5, "EEGNet": 0.4}
TRAINING = {"drowsiness": {"epochs": 3, "lr": 3e-3, "batch_size": 8}, "fists": {"epochs": EPOCHS}}
N_EXPLAINED = 12  # trials of a subject, evenly spaced


def technique_accuracy() -> pd.DataFrame:
    """Accuracy on every subject, all trials, by decoders that have not seen the subject."""
    rows = []
    for keys, model, trials in _unseen_subjects():
        right = xs.predict(model, trials.signal).argmax(1) == trials.label
        rows.append({**keys, "accuracy": right.mean(), "n_trials": len(right), "simulated": trials.truth is not None})
    return pd.DataFrame(rows)


def technique_sensitivity() -> pd.DataFrame:
    """Correlation of maps with the losses of the logit over patches of five lengths and over channels, by subject."""
    return _tests()["sensitivity"]


def technique_deletion() -> pd.DataFrame:
    """What the deletion of the points or channels that stand out takes from the logit and probability, by subject."""
    return _tests()["deletion"]


def technique_agreement() -> pd.DataFrame:
    """Correlation of the maps of two methods over the points of a trial, signs kept, by subject."""
    return _tests()["agreement"]


@cache
def _tests() -> dict[str, pd.DataFrame]:
    """All three tests of the same maps, which take longest."""
    drops = ["deleted", "logit_drop", "probability", "probability_drop"]
    tables = {"sensitivity": [], "deletion": [], "agreement": []}
    for keys, model, x, target, maps in _explained():
        tested = xs.sensitivity_test(model, x, target, maps)
        deleted = xs.deletion_test(model, x, target, maps)
        r = np.mean([np.corrcoef([m.ravel() for m in trial]) for trial in zip(*maps.values(), strict=True)], axis=0)
        pairs = pd.MultiIndex.from_product([maps, maps], names=["method_a", "method_b"]).to_frame(index=False)
        for name, table in {
            "sensitivity": tested.groupby(["method", "map", "share"], sort=False)["correlation"].mean().reset_index(),
            "deletion": deleted.groupby(["method", "part", "map"], sort=False)[drops].mean().reset_index(),
            "agreement": pairs.assign(correlation=r.ravel()),
        }.items():
            tables[name].append(table.assign(**keys, n_trials=len(x)))
    values = {"sensitivity": ["correlation"], "deletion": drops, "agreement": ["correlation"]}
    return {name: rounded(pd.concat(parts, ignore_index=True), values[name]) for name, parts in tables.items()}


@cache
def _trials(data: str) -> xs.Trials:
    return xs.load_drowsiness() if data == "drowsiness" else xs.load_eegbci(SUBJECTS, sfreq=SFREQ, **FROM_THE_CUE)


def _unseen_subjects() -> Iterator[tuple[dict, nn.Module, xs.Trials]]:
    """Each set of trials, network and subject: a decoder that was trained on others, and the subject's trials."""
    for data, training in TRAINING.items():
        trials = _trials(data)
        fold = trials.metadata["subject"].to_numpy() if data == "drowsiness" else folds_of_subjects(trials)
        for network, seconds in KERNEL_SECONDS.items():
            options = xs.RECIPES.get(network, {}) | {"kernel_length": round(seconds * trials.sfreq)}
            for left_out in tqdm(np.unique(fold), desc=f"{data}, {network}"):
                seen = trials.subset(fold != left_out)
                model = xs.build_decoder(network, seen, **options)
                xs.train(model, seen, cache=True, **training)
                for subject, tested in trials.subset(fold == left_out).split("subject").items():
                    yield {"data": data, "network": network, "subject": subject}, model, tested


def _explained() -> Iterator[tuple[dict, nn.Module, np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """The same with trials to explain, the classes that are predicted for them, and their maps by method."""
    draw = itertools.count()
    for keys, model, trials in _unseen_subjects():
        x = trials.signal[np.linspace(0, len(trials) - 1, N_EXPLAINED).round().astype(int)]
        model, target = xs.simplify(model, x), xs.predict(model, x).argmax(1)
        maps = {method: _map(model, x, target, method, draw) for method in TECHNIQUES}
        yield keys, model, x, target, maps | {f"{method} x input": maps[method] * x for method in TECHNIQUES[2:4]}


def _map(model: nn.Module, x: np.ndarray, target: np.ndarray, method: str, draw: Iterator[int]) -> np.ndarray:
    """Return maps of trials.

    The random control draws anew at every call: one draw for all subjects would be one control, however many they are.
    """
    options = {"n_steps": 32, "tol": np.inf, "path": "linear"} if method == "integrated_gradients" else {}
    if method == "random":
        options["seed"] = next(draw)
    return xs.attribute(model, x, target, method, **options).values


def _recordings() -> list[Path]:
    """Return the fists', and the drivers' where they are at hand: else those are simulated."""
    drivers = (cache_folder("DROWSINESS") / "eeg-drowsiness").glob("dataset.mat")
    return [*eegbci(dict.fromkeys(SUBJECTS, FIST_RUNS))(), *drivers]


STUDY = Study(
    configuration={
        "sfreq": SFREQ,
        "recipes": xs.RECIPES,
        "trials_explained_per_subject": N_EXPLAINED,
        "methods": TECHNIQUES,
        "kernel_seconds": KERNEL_SECONDS,
        "training": TRAINING,
        "fists_window": FROM_THE_CUE,
        "defaults": defaults(xs.load_eegbci, xs.train),
    },
    tables=dict.fromkeys(
        (technique_accuracy, technique_sensitivity, technique_deletion, technique_agreement), _recordings
    ),
)
