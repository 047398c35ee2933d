"""What do decoders read in each band of frequency, and does the recording show the same?

The decoders within subjects are those of `studies.maps`: each map explains the 2 s from 1.5 to 3.5 s of imagined trials
that its decoder has not seen, whether it decodes them rightly or not. They explain logits less their mean over the
classes, since only differences between logits decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy.stats import permutation_test
from torch import nn

import eegxai_support as xs
from eegxai_support.spectral.correlations import jackknife
from studies.accuracy import (
    EXECUTED_RUNS,
    FEET_RUNS,
    FIST_EPOCHS,
    FIST_RUNS,
    FOUR_CLASS_EPOCHS,
    N_TIMES,
    SEEDS,
    SFREQ,
    pairs_of_runs,
)
from studies.form import Study, defaults, eegbci
from studies.maps import BANDS, WINDOW, rounded

FILTER_BANK = {f"{low}-{low + 4} Hz": (low, low + 4) for low in range(8, 36, 4)}
ALPHA = {"alpha": (7, 14)}
N_GROUPS = 10
DATA_SETS = {  # name: (subject, runs, epochs)
    "S007 fists": (7, FIST_RUNS + EXECUTED_RUNS, FIST_EPOCHS),
    "S042 fists": (42, FIST_RUNS + EXECUTED_RUNS, FIST_EPOCHS),
    "S042 four classes": (42, FIST_RUNS + FEET_RUNS, FOUR_CLASS_EPOCHS),
}


def frequency_maps(seeds=SEEDS) -> pd.DataFrame:
    """Maps of decoders over channel and band, mean over seeds and left-out trials, beside those of the recording."""
    bands, rows = BANDS | FILTER_BANK, []
    for name in DATA_SETS:
        recording = _imagined(name)
        network = {kind: parts.mean(0) for kind, parts in _network_parts(name, seeds, bands).items()}
        maps = network | {"perturbation": _perturbation(name, seeds, bands)} | _measured(recording, bands)
        keys = {"class_name": recording.class_names, "channel": recording.info.ch_names, "band": bands}
        index = pd.MultiIndex.from_product(keys.values(), names=keys)
        for kind, values in maps.items():
            table = pd.DataFrame({"value": values.ravel()}, index).reset_index()
            rows.append(table.assign(data_set=name, kind=kind))
    return rounded(pd.concat(rows, ignore_index=True), ["value"])


def map_comparison(seeds=SEEDS, n_permutations=99) -> pd.DataFrame:
    """Correlation over channel and filter bank of decoders' maps with the ERD contrast and with FBCSP.

    `r` compares the maps of all left-out trials; its 95 % interval is a jackknife over trials, the decoders held.
    `r_unseen` compares the maps of each fold with what the recording shows in that fold alone, which its decoders have
    not seen, and is the mean over folds; chance permutes the labels of the recording's trials within runs.
    """
    rows = []
    for name in DATA_SETS:
        recording, rng = _imagined(name), np.random.default_rng(0)
        parts, run = _network_parts(name, seeds, FILTER_BANK), recording.metadata["run"].to_numpy()
        folds = [np.flatnonzero(pairs_of_runs(recording) == fold) for fold in (1, 2, 3)]
        low, high = _jackknife_interval(parts, recording)
        permuted = (replace(recording, label=_permuted(recording.label, run, rng)) for _ in range(n_permutations))
        null = Parallel(n_jobs=-1)(delayed(_correlations)(parts, each, folds) for each in permuted)
        null = np.array([each["r"] for each in null])
        table = _correlations(parts, recording, [np.arange(len(recording))])
        r_unseen = _correlations(parts, recording, folds)["r"]
        p_value = (1 + (np.abs(null) >= np.abs(r_unseen.to_numpy())).sum(0)) / (1 + n_permutations)
        chance = dict(zip(("chance_low", "chance_high"), np.percentile(null, (2.5, 97.5), axis=0), strict=True))
        rows.append(table.assign(low=low, high=high, r_unseen=r_unseen, **chance, p_value=p_value, data_set=name))
    return pd.concat(rows, ignore_index=True)


def lateralisation(seeds=SEEDS) -> pd.DataFrame:
    """C3 minus C4 from 7 to 14 Hz: maps for right minus left fist, outputs against power, and the recording.

    Maps: mean over the left-out trials of what each trial adds, tested by flipping signs over trials. Output and
    recording: correlation of right minus left, of logits or labels, with log power, both permuted within runs.
    """
    rows = []
    for name in DATA_SETS:
        fits = _left_out(name, seeds, difference=True)
        trials = pd.concat(_lateral_trials(*fit) for fit in fits)
        groups = {key: group for key, group in trials.groupby(["seed", "fold"])}
        groups["all", "all"] = trials.groupby("trial").mean()
        for (seed, fold), group in groups.items():
            rows += [{"data_set": name, "seed": str(seed), "fold": str(fold), **row} for row in _lateral_tests(group)]
    return pd.DataFrame(rows)


def _recording(name: str) -> tuple[xs.Trials, int]:
    """Return the trials of a data set with two seconds before the cue, and the epochs that a decoder is trained for."""
    subject, runs, epochs = DATA_SETS[name]
    return xs.load_eegbci(subject, runs=runs, sfreq=SFREQ, tmin=-2.0), epochs


def _imagined(name: str) -> xs.Trials:
    trials, _ = _recording(name)
    return trials.subset(trials.metadata["task"] == "imagined")


def _left_out(name: str, seeds, *, difference=False) -> Iterator[tuple[int, int, nn.Module, xs.Trials, np.ndarray]]:
    """Each seed and fold: the decoder, the 2 s of the imagined trials that are left out, and their numbers.

    The decoder gives the logits less their mean, or the difference of the first two: right minus left fist.
    """
    recording, epochs = _recording(name)
    imagined = (recording.metadata["task"] == "imagined").to_numpy()
    fold_of = np.where(imagined, pairs_of_runs(recording), 0)
    readout = np.array([[-1, 1, 0, 0]])[:, : recording.n_classes] if difference else np.eye(recording.n_classes)
    for seed, fold in itertools.product(seeds, (1, 2, 3)):
        training = recording.subset(fold_of != fold).crop(1, 4)
        model = xs.build_decoder(
            "ShallowFBCSPNet", training, n_times=N_TIMES, seed=seed, **xs.RECIPES["ShallowFBCSPNet"]
        )
        xs.train(model, training, epochs=epochs, seed=seed, cache=True)
        number = np.flatnonzero(fold_of[imagined] == fold)
        yield seed, fold, _read_out(model, readout), recording.subset(fold_of == fold).crop(*WINDOW), number


def _read_out(model: nn.Module, readout: np.ndarray) -> nn.Module:
    """Return a model of combinations (output, class) of logits, without what all classes share."""
    combine = nn.Linear(*readout.shape[::-1], bias=False)
    combine.weight.data = torch.tensor(readout - readout.mean(1, keepdims=True), dtype=torch.float32)
    return nn.Sequential(model, combine)


def _parts(model: nn.Module, trials: xs.Trials) -> dict[str, np.ndarray]:
    """What each trial adds to a decoder's maps, which are the means over trials: (output, trial, channel, freq)."""
    gradient = xs.amplitude_gradients(model, trials.signal)
    size = np.sqrt((gradient**2).sum((2, 3)).mean(1))  # of the output's change per unit of noise on all amplitudes
    amplitude = np.abs(np.fft.rfft(trials.signal))
    amplitude -= amplitude.mean(0)
    output = np.einsum("ocf, tcf -> ot", gradient.mean(1), amplitude)  # as Haufe's patterns have it, linear
    output /= output.std(1, keepdims=True)
    first_order, pattern = gradient / size[:, None, None, None], output[:, :, None, None] * amplitude
    return {"gradient": gradient, "first_order": first_order, "pattern": pattern}


def _in_bands(values: np.ndarray, bands: dict[str, tuple[float, float]]) -> np.ndarray:
    """Average the last axis, freq, over each band."""
    freqs = np.fft.rfftfreq(N_TIMES, 1 / SFREQ)
    return np.stack([values[..., (freqs >= low) & (freqs <= high)].mean(-1) for low, high in bands.values()], axis=-1)


def _network_parts(name: str, seeds, bands) -> dict[str, np.ndarray]:
    """What each left-out trial adds to the maps, mean over seeds, (trial, class, channel, band)."""
    recording = _imagined(name)
    shape = len(recording), recording.n_classes, len(recording.info.ch_names), len(bands)
    parts = {kind: np.zeros(shape) for kind in ("gradient", "first_order", "pattern")}
    for _, _, model, trials, number in _left_out(name, seeds):
        for kind, values in _parts(model, trials).items():
            parts[kind][number] += _in_bands(values, bands).swapaxes(0, 1) / len(seeds)
    return parts


def _perturbation(name: str, seeds, bands) -> np.ndarray:
    """Mean over seeds and folds of the map that 100 perturbations of each trial make, (class, channel, band)."""
    maps = [
        xs.amplitude_perturbation(model, trials.signal, n_iterations=100, seed=seed).correlation
        for seed, _, model, trials, _ in _left_out(name, seeds)
    ]
    return _in_bands(np.moveaxis(np.mean(maps, axis=0), 2, 0), bands)


def _measured(recording: xs.Trials, bands) -> dict[str, np.ndarray]:
    """ERD in percent, its difference from the mean of the other classes, and FBCSP, (class, channel, band)."""
    erd = xs.event_related_desynchronisation(recording, bands, active=WINDOW)
    others = (erd.sum(0) - erd) / (len(erd) - 1)
    fbcsp = xs.filter_bank_csp(recording.crop(*WINDOW), bands).contrast
    return {"erd": erd, "erd_contrast": erd - others, "fbcsp": fbcsp}


def _correlations(parts: dict[str, np.ndarray], recording: xs.Trials, groups: list[np.ndarray]) -> pd.DataFrame:
    """Correlation of maps over channel and band, of each class and over all of them, mean over groups of trials."""
    rows = []
    for group in groups:
        measured = _measured(recording.subset(group), FILTER_BANK)
        for kind, name in itertools.product(("first_order", "pattern"), ("erd_contrast", "fbcsp")):
            network, shown = parts[kind][group].mean(0), measured[name]
            pairs = dict(zip(recording.class_names, zip(network, shown, strict=True), strict=True))
            for class_name, (a, b) in (pairs | {"all": (network, shown)}).items():
                r = np.corrcoef(a.ravel(), b.ravel())[0, 1]
                rows.append({"kind": kind, "measured": name, "class_name": class_name, "r": r})
    return pd.DataFrame(rows).groupby(["kind", "measured", "class_name"], sort=False, as_index=False)["r"].mean()


def _jackknife_interval(parts: dict[str, np.ndarray], recording: xs.Trials) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of each correlation, from leaving out every tenth trial of each class.

    A bootstrap would not do: trials drawn twice make noisier maps, and its correlations lie below the estimate.
    """
    group = np.empty(len(recording), int)
    group[np.argsort(recording.label, kind="stable")] = np.arange(len(recording)) % N_GROUPS
    kept = [np.arange(len(recording)), *(np.flatnonzero(group != k) for k in range(N_GROUPS))]
    whole, *left_out = (torch.tensor(_correlations(parts, recording, [trials])["r"].to_numpy()) for trials in kept)
    low, high, _ = jackknife(whole, torch.stack(left_out))
    return low.numpy(), high.numpy()


def _permuted(values: np.ndarray, run: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute within runs; two random sort keys do it in one step."""
    order = np.empty(len(run), int)
    order[np.lexsort((np.arange(len(run)), run))] = np.lexsort((rng.random(len(run)), run))
    return values[order]


def _lateral_trials(seed: int, fold: int, model: nn.Module, trials: xs.Trials, number: np.ndarray) -> pd.DataFrame:
    """What each left-out trial adds to C3 minus C4 of the maps, its output, and its log power at C3 minus C4."""
    c3, c4 = map(trials.info.ch_names.index, ("C3", "C4"))
    power = np.log(xs.band_power(trials, ALPHA))[..., 0]
    maps = {kind: _in_bands(values[0], ALPHA)[..., 0] for kind, values in _parts(model, trials).items()}
    columns = {kind: maps[kind][:, c3] - maps[kind][:, c4] for kind in ("first_order", "pattern")}
    columns |= {"output": xs.predict(model, trials.signal)[:, 0], "power": power[:, c3] - power[:, c4]}
    run = trials.metadata["run"].to_numpy()
    return pd.DataFrame(columns).assign(seed=seed, fold=fold, trial=number, run=run, label=trials.label)


def _lateral_tests(table: pd.DataFrame) -> list[dict]:
    rows = []
    for kind in ("first_order", "pattern"):
        test = permutation_test((table[kind].to_numpy(),), np.mean, permutation_type="samples", rng=0)
        rows.append({"quantity": kind, "value": test.statistic, "p_value": test.pvalue, "n_trials": len(table)})
    fists = table[table["label"] < 2]
    for quantity, trials, column in (("output", table, "output"), ("recording", fists, "label")):
        r, p_value = _correlation_within_runs(trials["power"], trials[column], trials["run"])
        rows.append({"quantity": quantity, "value": r, "p_value": p_value, "n_trials": len(trials)})
    return rows


def _correlation_within_runs(a: pd.Series, b: pd.Series, run: pd.Series, n_permutations=9999) -> tuple[float, float]:
    """Correlation after each run's mean is removed, and its two-sided p-value under permutation within runs."""
    a, b = ((values - values.groupby(run).transform("mean")).to_numpy() for values in (a, b))
    rng, run = np.random.default_rng(0), run.to_numpy()
    size = np.sqrt((a @ a) * (b @ b))
    null = np.array([a @ _permuted(b, run, rng) for _ in range(n_permutations)]) / size
    r = a @ b / size
    return r, (1 + (np.abs(null) >= np.abs(r)).sum()) / (1 + n_permutations)


STUDY = Study(
    configuration={
        "sfreq": SFREQ,
        "n_times": N_TIMES,
        "recipes": xs.RECIPES,
        "window": WINDOW,
        "data_sets": DATA_SETS,
        "bands": BANDS,
        "filter_bank": FILTER_BANK,
        "alpha": ALPHA,
        "n_groups": N_GROUPS,
        "defaults": defaults(xs.load_eegbci, xs.train),
    },
    tables=dict.fromkeys(
        (frequency_maps, map_comparison, lateralisation),
        eegbci({7: FIST_RUNS + EXECUTED_RUNS, 42: FIST_RUNS + EXECUTED_RUNS + FEET_RUNS}),
    ),
)
