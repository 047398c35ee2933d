"""What does EEGNet read in a P300 speller, and does it need it? One session is held out, the other trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from torch import nn

import eegxai_support as xs
from eegxai_support.recordings.cache import cache_folder
from studies.accuracy import SEEDS
from studies.form import Study, defaults

P300 = {
    "sfreq": 80,
    "network": {"F1": 4, "D": 1, "F2": 4, "kernel_length": 40, "drop_prob": 0.25, "batch_norm_momentum": 0.1},
    "training": {"epochs": 40, "batch_size": 64, "lr": 2e-3},
    "sessions": {"training": 10, "unseen": 11},
    "runs": (1, 2),
}
REGIONS = {"centro-parietal": "(C|CP|P)(z|[1-4])", "parieto-occipital": "(PO|O|I)(z|[1-9])|P[5-8]|TP[78]"}
STEP = 4  # samples of the recorded P300 maps, 50 ms


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


def regions(channels) -> dict[str, np.ndarray]:
    """Return which channels belong to each region, shape (channel,)."""
    inside = {name: np.array([re.fullmatch(known, c) is not None for c in channels]) for name, known in REGIONS.items()}
    return {**inside, "other": ~np.any([*inside.values()], axis=0), "all": np.ones(len(channels), bool)}


def _p300_decoders(seeds) -> Iterator[tuple[int, nn.Module, xs.Trials]]:
    trials, sessions = xs.load_p300(runs=P300["runs"], sfreq=P300["sfreq"]), P300["sessions"]
    seen, unseen = (trials.subset((trials.metadata["session"] == s).to_numpy()) for s in sessions.values())
    for seed in seeds:
        model = xs.build_decoder("EEGNet", seen, seed=seed, **P300["network"])
        yield seed, xs.train(model, seen, seed=seed, cache=True, **P300["training"]).model, unseen


def _auc(model: nn.Module, trials: xs.Trials, kept: np.ndarray) -> float:
    return roc_auc_score(trials.label, xs.predict(model, trials.signal * kept[:, None]) @ (-1, 1))


def _recordings() -> list[Path]:
    return sorted((cache_folder("BCI2_IIB") / "bci2_iib").glob("*.mat"))


STUDY = Study(
    configuration={"p300": P300, "regions": REGIONS, "step": STEP, "defaults": defaults(xs.load_p300, xs.train)},
    tables=dict.fromkeys((p300_relevance, p300_regions), _recordings),
)
