"""Do the maps of decoders of imagined movement keep what they promise, and do they change with the weights?

Every map explains the 2 s from 1.5 to 3.5 s of trials that its decoder has not seen and classifies correctly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from torch import nn

import eegxai_support as xs
from studies.accuracy import (
    EXECUTED_RUNS,
    FEET_RUNS,
    FIST_EPOCHS,
    FIST_RUNS,
    FOUR_CLASS_EPOCHS,
    N_TIMES,
    NETWORKS,
    SEEDS,
    SFREQ,
    pairs_of_runs,
)
from studies.form import Study, defaults, eegbci

MAPS = ("saliency", "input_x_gradient", "integrated_gradients", "deep_lift", "random")
WINDOW = (1.5, 3.5)  # s after the cue
BANDS = {"mu": (7, 13), "beta": (14, 30)}


def trial_map_receipts(networks=NETWORKS) -> pd.DataFrame:
    """Share of the change of the output that single-trial maps of subject 7 miss, by decoder and method."""
    rows = []
    for name in networks:
        parts = list(_fist_maps(name))
        for method in MAPS[1:4]:
            share = np.concatenate([abs(maps[method].sum((1, 2)) - change) / abs(change) for maps, change, _ in parts])
            n_warned = int((share > xs.METHODS[method].tolerance).sum())
            row = {"median_delta": np.median(share), "max_delta": share.max(), "n_trials": len(share)}
            rows.append({"decoder": name, "method": method, **row, "n_warned": n_warned})
    return pd.DataFrame(rows)


def trial_map_agreement() -> pd.DataFrame:
    """Correlation of the absolute values of two methods' maps over each trial of subject 7, ShallowFBCSPNet."""
    r = []
    for maps, _, trials in _fist_maps("ShallowFBCSPNet"):
        sizes = np.abs([*maps.values(), trials.signal]).reshape(len(maps) + 1, len(trials), -1)
        r += [np.corrcoef(sizes[:, trial]) for trial in range(len(trials))]
    names = [*MAPS, "the trial"]
    pairs = pd.MultiIndex.from_product([names, names], names=["method_a", "method_b"]).to_frame(index=False)
    low, high = np.percentile(r, (2.5, 97.5), axis=0)
    return pairs.assign(mean=np.mean(r, axis=0).ravel(), low=low.ravel(), high=high.ravel())


def trial_channel_maps() -> pd.DataFrame:
    """Mean absolute map on each channel over the trials of subject 7, ShallowFBCSPNet, largest channel 1."""
    parts = list(_fist_maps("ShallowFBCSPNet"))
    rows = []
    for method in MAPS:
        value = np.abs(np.concatenate([maps[method] for maps, _, _ in parts])).mean((0, 2))
        channel = parts[0][2].info.ch_names
        rows.append(pd.DataFrame({"method": method, "channel": channel, "value": value / value.max()}))
    return pd.concat(rows, ignore_index=True)


def randomisation(seeds=SEEDS, n_draws=5) -> pd.DataFrame:
    """Label and cascading weight randomisation of the maps of subject 42's four-class decoders."""
    draw, tables = itertools.count(), []
    for model, trials, number in _four_class_decoders(seeds):
        for method in MAPS:
            explain = _explainer(method, draw)
            label = xs.label_randomisation_test(explain, model, trials.signal, trials.label, trials.n_classes)
            weights = xs.weight_randomisation_test(explain, model, trials.signal, trials.label, range(n_draws))
            both = pd.concat([label.assign(check="label", level=0, layer=""), weights.assign(check="weights")])
            tables.append(both.assign(method=method, trial=number[both["trial"]]))
    summary = xs.mean_and_interval(pd.concat(tables), ["check", "method", "level", "layer"])
    return summary.rename(columns={"mean": "pearson"})


def scores(seeds=SEEDS, n_draws=3) -> pd.DataFrame:
    """Twelve metrics and four SSIM of subject 42's maps after all weights are redrawn against those before."""
    draw, tables, chance = itertools.count(), [], []
    for model, trials, number in _four_class_decoders(seeds):
        for method, redraw in itertools.product(MAPS, range(n_draws)):
            explain = _explainer(method, draw)
            ((_, redrawn),) = xs.randomize(model, redraw, order="at_once")
            before, after = (explain(m, trials.signal, trials.label) for m in (model, redrawn))
            table = xs.score_maps(after, before, protocol="randomisation", label=trials.label)
            table = table.assign(method=method, trial=number, seed=redraw)
            tables.append(table.melt(["method", "trial", "seed"], var_name="metric"))
            null = pd.DataFrame(table.attrs["chance"]["surrogate"]).T.add_prefix("chance_")
            chance.append(null.rename_axis("metric").reset_index().assign(method=method))
    summary = xs.mean_and_interval(pd.concat(tables), ["method", "metric"], "value")
    summary = summary.rename(columns={"mean": "value", "n_trials": "n_valid"})
    null = pd.concat(chance).groupby(["method", "metric"]).mean().rename(columns={"chance_mean": "chance"})
    return summary.join(null, on=["method", "metric"]).assign(protocol="randomisation")


def _decoder(name: str, trials: xs.Trials, left_out, *, epochs: int, seed: int) -> tuple[nn.Module, xs.Trials]:
    """Return a decoder trained without some trials, and the 2 s of those that the maps explain."""
    model = xs.build_decoder(name, trials, n_times=N_TIMES, seed=seed, **xs.RECIPES[name])
    xs.train(model, trials.subset(~left_out), epochs=epochs, seed=seed, cache=True)
    return model, trials.subset(left_out).crop(*WINDOW)


def _right(model: nn.Module, trials: xs.Trials) -> np.ndarray:
    return xs.predict(model, trials.signal).argmax(1) == trials.label


def rounded(table: pd.DataFrame, columns) -> pd.DataFrame:
    """Round some columns to 0.2 %, to keep the file small."""
    table = table.copy()
    for name in columns:
        mantissa, exponent = np.frexp(table[name].to_numpy(np.float32))
        table[name] = np.ldexp(np.round(256 * mantissa), exponent - 8)
    return table


def _fist_maps(name: str) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, xs.Trials]]:
    """Maps of right minus left fist and what they should sum to, each imagined run of subject 7 left out in turn."""
    everything = xs.load_eegbci(7, runs=FIST_RUNS + EXECUTED_RUNS, sfreq=SFREQ)
    for run in FIST_RUNS:
        left_out = (everything.metadata["run"] == run).to_numpy()
        model, trials = _decoder(name, everything, left_out, epochs=FIST_EPOCHS, seed=0)
        trials = trials.subset(_right(model, trials))
        score = xs.predict(model, np.stack([*trials.signal, np.zeros_like(trials.signal[0])])) @ (-1, 1)
        yield {m: xs.attribute(model, trials.signal, (1, 0), m).values for m in MAPS}, score[:-1] - score[-1], trials


def _four_class_fits(seeds) -> Iterator[tuple[nn.Module, xs.Trials, np.ndarray]]:
    """Each seed and fold of subject 42: the decoder, the left-out trials and their numbers."""
    everything = xs.load_eegbci(42, runs=FIST_RUNS + FEET_RUNS, sfreq=SFREQ)
    pair = pairs_of_runs(everything)
    for seed, fold in itertools.product(seeds, np.unique(pair)):
        model, trials = _decoder("ShallowFBCSPNet", everything, pair == fold, epochs=FOUR_CLASS_EPOCHS, seed=seed)
        yield model, trials, np.flatnonzero(pair == fold)


def _four_class_decoders(seeds) -> Iterator[tuple[nn.Module, xs.Trials, np.ndarray]]:
    """Like `_four_class_fits`, with the correctly classified trials only."""
    for model, trials, number in _four_class_fits(seeds):
        right = _right(model, trials)
        yield model, trials.subset(right), number[right]


def _explainer(method: str, draw: Iterator[int]):
    """Return ``explain(model, x, target)``; the random control draws anew at every call."""
    options = {"integrated_gradients": {"n_steps": 32, "tol": np.inf}}.get(method, {})

    def explain(model, x, target):
        noise = {"seed": next(draw)} if method == "random" else {}
        return xs.attribute(model, x, target, method, **options, **noise).values

    return explain


STUDY = Study(
    configuration={
        "sfreq": SFREQ,
        "n_times": N_TIMES,
        "recipes": xs.RECIPES,
        "window": WINDOW,
        "maps": MAPS,
        "epochs": {"fists": FIST_EPOCHS, "four classes": FOUR_CLASS_EPOCHS},
        "defaults": defaults(xs.load_eegbci, xs.train),
    },
    tables={
        **dict.fromkeys(
            (trial_map_receipts, trial_map_agreement, trial_channel_maps), eegbci({7: FIST_RUNS + EXECUTED_RUNS})
        ),
        **dict.fromkeys((randomisation, scores), eegbci({42: FIST_RUNS + FEET_RUNS})),
    },
)
