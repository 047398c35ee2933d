"""What the weights of decoders hold, beside filter-bank CSP, ablation and the P300; tables of book/results.

The decoders of motor imagery are trained within a subject, on all fist runs but the first imagined one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import mne
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from torch import nn

import eegxai_support as xs
from studies.accuracy import EXECUTED_RUNS, FIST_EPOCHS, FIST_RUNS, N_TIMES, SEEDS, SFREQ
from studies.maps import WINDOW

LEFT_OUT = FIST_RUNS[0]
BANDS = {"mu": (7, 13), "beta": (13, 30)}
NETWORKS = {  # at 80 Hz
    "EEGNet": xs.RECIPES["EEGNet"],
    "ShallowFBCSPNet": xs.RECIPES["ShallowFBCSPNet"],
    "Deep4Net": {
        "filter_time_length": 13,
        **dict.fromkeys(("pool_time_length", "pool_time_stride"), 2),
        **dict.fromkeys(("filter_length_2", "filter_length_3", "filter_length_4"), 5),
    },
    "InterpretableCNN": {"kernel_length": 32},
}
P300 = {
    "sfreq": 80,
    "network": {"F1": 4, "D": 1, "F2": 4, "kernel_length": 40, "drop_prob": 0.25, "batch_norm_momentum": 0.1},
    "training": {"epochs": 40, "batch_size": 64, "lr": 2e-3},
    "sessions": {"training": 10, "unseen": 11},
}
REGIONS = {"centro-parietal": "(C|CP|P)(z|[1-4])", "parieto-occipital": "(PO|O|I)(z|[1-9])|P[5-8]|TP[78]"}
STEP = 4  # samples of the recorded P300 maps, 50 ms


def filter_matches(subjects=(7, 42), networks=tuple(NETWORKS), seeds=SEEDS) -> pd.DataFrame:
    """Patterns of units against those of filter-bank CSP on the same training trials, in the band of a unit's peak."""
    rows = []
    for subject in subjects:
        seen, unseen = _motor_trials(subject)
        csp = xs.filter_bank_csp(seen, BANDS).patterns[1]  # right fist against left
        covariance = {name: np.cov(np.hstack(_filtered(seen, *band))) for name, band in BANDS.items()}
        for decoder, seed, model in _motor_decoders(seen, networks, seeds):
            filters = xs.read_filters(model, sfreq=SFREQ)
            row = {"subject": subject, "decoder": decoder, "seed": seed}
            row |= {"accuracy": _accuracy(model, unseen), "share": filters.share.mean()}
            frequency, patterns = peak_frequency(filters), xs.filter_patterns(filters, seen)
            for (band, (low, high)), reference in zip(BANDS.items(), csp, strict=True):
                inside = (frequency >= low) & (frequency < high)
                rows.append(row | {"band": band, "n_units": inside.sum()})
                if inside.any():
                    rows[-1] |= xs.match_patterns(patterns[inside], reference, covariance[band]).attrs
    return pd.DataFrame(rows)


def filter_ablation(subjects=(7, 42), networks=("EEGNet", "ShallowFBCSPNet"), seeds=SEEDS) -> pd.DataFrame:
    """Accuracy on the run left out with each unit held at its mean, unit -1 being none, and where the unit peaks."""
    tables = []
    for subject in subjects:
        seen, unseen = _motor_trials(subject)
        for decoder, seed, model in _motor_decoders(seen, networks, seeds):
            filters = xs.read_filters(model, sfreq=SFREQ)
            unit = {"unit": range(len(filters.share)), "frequency": peak_frequency(filters), "share": filters.share}
            table = xs.ablate_units(model, unseen.crop(*WINDOW), filters.layer).merge(pd.DataFrame(unit), how="left")
            tables.append(table.assign(subject=subject, decoder=decoder, seed=seed))
    return pd.concat(tables, ignore_index=True)


def p300_relevance(seeds=SEEDS) -> pd.DataFrame:
    """Held-out session, by seed, channel and 50 ms: relevance for target minus non-target, pattern and measured effect.

    Relevance: integrated gradients, mean over target trials, summed over the samples of a window. The others are means
    over its samples. Pattern: covariance of the signal with the network's output in SD. Effect: target less non-target.
    """
    tables = []
    for seed, model, unseen in _p300_decoders(seeds):
        output = xs.predict(model, unseen.signal) @ (-1, 1)
        target = unseen.label == 1
        maps = {
            "relevance": xs.attribute(model, unseen.signal[target], (1, 0), "integrated_gradients").values.mean(0),
            "pattern": np.tensordot((output - output.mean()) / output.std(), unseen.signal, 1) / len(output),
            "effect": unseen.signal[target].mean(0) - unseen.signal[~target].mean(0),
        }
        windows = {name: values.reshape(len(values), -1, STEP).mean(-1).ravel() for name, values in maps.items()}
        windows["relevance"] *= STEP
        grid = pd.MultiIndex.from_product(
            [unseen.info.ch_names, unseen.times.reshape(-1, STEP).mean(-1)], names=["channel", "time"]
        )
        tables.append(pd.DataFrame(windows, grid).reset_index().assign(seed=seed))
    return pd.concat(tables, ignore_index=True)


def p300_regions(seeds=SEEDS) -> pd.DataFrame:
    """Held-out session, by region: relevance with its interval over target trials and seeds, and AUC by intervention.

    AUC with the region's channels at zero, and with all others at zero; range over seeds. Region "all": all channels.
    The latency is where the relevance, summed over the region, is largest.
    """
    rows, aucs = [], []
    for seed, model, unseen in _p300_decoders(seeds):
        target = unseen.label == 1
        relevance = xs.attribute(model, unseen.signal[target], (1, 0), "integrated_gradients").values
        for name, inside in regions(unseen.info.ch_names).items():
            of_region = relevance[:, inside].sum(1)
            rows.append(pd.DataFrame({"region": name, "seed": seed, "trial": np.flatnonzero(target)}))
            rows[-1]["relevance"] = of_region.sum(1)
            auc = {"auc_alone": inside, "auc_without": ~inside if name != "all" else inside}
            auc = {part: _auc(model, unseen, kept) for part, kept in auc.items()}
            aucs.append({"region": name, "latency": unseen.times[of_region.mean(0).argmax()], **auc})
    summary = xs.mean_and_interval(pd.concat(rows), "region", "relevance").set_index("region")
    spread = pd.DataFrame(aucs).groupby("region").agg(["mean", "min", "max"])
    spread.columns = ["_".join(column) for column in spread.columns]
    return summary.rename(columns={"mean": "relevance"}).join(spread).reset_index()


def peak_frequency(filters: xs.Filters) -> np.ndarray:
    """Return the frequency in Hz at which each unit's kernel answers most."""
    gain = np.abs(np.fft.rfft(filters.unit_kernels, 512))
    return np.fft.rfftfreq(512, 1 / filters.sfreq)[gain.argmax(1)]


def regions(channels) -> dict[str, np.ndarray]:
    """Return which channels belong to each region, shape (channel,)."""
    inside = {name: np.array([re.fullmatch(known, c) is not None for c in channels]) for name, known in REGIONS.items()}
    return {**inside, "other": ~np.any([*inside.values()], axis=0), "all": np.ones(len(channels), bool)}


def _motor_trials(subject: int) -> tuple[xs.Trials, xs.Trials]:
    trials = xs.load_eegbci(subject, runs=FIST_RUNS + EXECUTED_RUNS, sfreq=SFREQ)
    left_out = (trials.metadata["run"] == LEFT_OUT).to_numpy()
    return trials.subset(~left_out), trials.subset(left_out)


def _motor_decoders(seen: xs.Trials, networks, seeds) -> Iterator[tuple[str, int, nn.Module]]:
    for name in networks:
        for seed in seeds:
            model = xs.build_decoder(name, seen, n_times=N_TIMES, seed=seed, **NETWORKS[name])
            yield name, seed, xs.train(model, seen, epochs=FIST_EPOCHS, seed=seed, cache=True).model


def _p300_decoders(seeds) -> Iterator[tuple[int, nn.Module, xs.Trials]]:
    trials, sessions = xs.load_p300(sfreq=P300["sfreq"]), P300["sessions"]
    seen, unseen = (trials.subset((trials.metadata["session"] == s).to_numpy()) for s in sessions.values())
    for seed in seeds:
        model = xs.build_decoder("EEGNet", seen, seed=seed, **P300["network"])
        yield seed, xs.train(model, seen, seed=seed, cache=True, **P300["training"]).model, unseen


def _accuracy(model: nn.Module, trials: xs.Trials) -> float:
    return (xs.predict(model, trials.signal, stride=20).argmax(1) == trials.label).mean()


def _auc(model: nn.Module, trials: xs.Trials, kept: np.ndarray) -> float:
    return roc_auc_score(trials.label, xs.predict(model, trials.signal * kept[:, None]) @ (-1, 1))


def _filtered(trials: xs.Trials, low: float, high: float) -> np.ndarray:
    return mne.filter.filter_data(trials.signal.astype(float), trials.sfreq, low, high, verbose="ERROR")
