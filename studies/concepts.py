"""What do the filters of EEGNet stand for, in decoders above chance?

Filters are those of the spatial layer. Networks are trained again from other seeds and with other trials left out,
those of some subjects or of a run, and all numbers are of the trials left out. Relevance is LRP's, of right minus left,
with the sign that speaks for the trial's own class.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from tqdm import tqdm

import eegxai_support as xs
from studies.accuracy import SEEDS
from studies.form import Study
from studies.shortcut import ACROSS, FRONTAL, RECORDINGS, WITHIN, across, within
from studies.shortcut import CONFIGURATION as SHORTCUT

DECODERS = ("broadband", *WITHIN)
LAYER = "conv_spatial"
BANDS = {"delta": (0, 4), "theta": (4, 8), "alpha": (8, 12), "beta": (12, 30), "gamma": (30, 41)}
EQUAL_SHARE = 1 / 16  # of the relevance of a network with 16 filters
MIN_CLUSTER_SIZE = 5
NETWORK = ["fold", "seed"]
CONFIGURATION = SHORTCUT | {
    "layer": LAYER,
    "relevance_bands": BANDS,
    "share_above": EQUAL_SHARE,
    "min_cluster_size": MIN_CLUSTER_SIZE,
}


def concept_filters(seeds=SEEDS) -> pd.DataFrame:
    """Relevance and cluster of the filters that hold more than an equal share of the relevance of their network.

    Filters are clustered by the relevance of each channel and band in their reference trials. `frontal` and `delta` are
    the shares of this relevance on frontal channels and below 4 Hz; `x` and `y` are the place in UMAP's plane.
    """
    return pd.concat([_clustered(name, seeds)[0] for name in DECODERS], ignore_index=True)


def concept_clusters(seeds=SEEDS) -> pd.DataFrame:
    """Size, relevance and coherence of the clusters of `concept_filters`; -1 holds the filters of none."""
    tables = []
    for name in DECODERS:
        filters, relevance, _ = _clustered(name, seeds)
        table = xs.cluster_table(filters["cluster"], filters["relevance"], _features(relevance), filters[NETWORK])
        tables.append(table.assign(decoder=name))
    return pd.concat(tables, ignore_index=True)


def concept_topographies(seeds=SEEDS) -> pd.DataFrame:
    """Relevance and power of each channel and band in the reference trials of each cluster, mean over its filters."""
    channels = next(within(DECODERS[-1], seeds[0]))[1].info.ch_names
    tables = []
    for name in DECODERS:
        filters, *values = _clustered(name, seeds)
        for quantity, value in zip(("relevance", "power"), values, strict=True):
            for cluster in filters["cluster"].unique():
                mean = value[filters["cluster"] == cluster].mean(0).astype(np.float32)
                table = pd.DataFrame(mean, pd.Index(channels, name="channel"), list(BANDS)).reset_index()
                table = table.melt("channel", var_name="band")
                tables.append(table.assign(decoder=name, cluster=cluster, quantity=quantity))
    return pd.concat(tables, ignore_index=True)


def concept_stability(seeds=SEEDS) -> pd.DataFrame:
    """How alike the filters of two networks are that differ in the seed, beside networks of other subjects or folds.

    Mean absolute correlation of matched filters, all sixteen of each network. Within subjects, networks that leave out
    the same of the three runs are compared, and the others are those of the other subject. Across subjects the others
    are of other folds. Among the others the same seed gives the same initial weights.
    """
    tables = []
    for decoder in ("broadband", "untrained"):
        filters, relevance, _ = _filters(decoder, seeds)
        table = xs.stability(_features(relevance), filters["fold"], filters["seed"])
        tables.append(table.assign(decoder=decoder, subject="fold " + table["subject"].astype(str)))
    parts = [_filters(name, seeds) for name in WITHIN]
    filters, features = pd.concat([p[0] for p in parts]), _features(np.concatenate([p[1] for p in parts]))
    for _, rows in filters.groupby("fold").indices.items():
        part = filters.iloc[rows]
        table = xs.stability(features[rows], part["decoder"], part["seed"])
        tables.append(table.assign(decoder=table["subject"]))
    return pd.concat(tables).groupby(["decoder", "subject", "pair"], sort=False).mean().reset_index()


def concept_regions(seeds=SEEDS[:1]) -> pd.DataFrame:
    """Relevance of regions and bands for and against the trial's own class, mean over trials."""
    tables = []
    for name in tqdm((*DECODERS, "untrained"), desc="regions"):
        for seed in seeds:
            for model, test in _networks(name, seed):
                x = test.signal
                map_ = xs.attribute(xs.simplify(model, x), x, (1, 0), "lrp_epsilon")
                relevance = _own_class(test)[:, None, None] * xs.frequency_relevance(map_, x)
                tables.append(xs.region_relevance(relevance, test.info, _freqs(test), BANDS).assign(decoder=name))
    keys = ["decoder", "region", "band"]
    return pd.concat(tables).groupby(keys, sort=False)[["positive", "negative"]].mean().reset_index()


@cache
def _filters(name: str, seeds) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a row per filter, and relevance and power of its reference trials, shape (filter, channel, band)."""
    rows, relevance, power = [], [], []
    for seed in tqdm(seeds, desc=name):
        for fold, (model, test) in enumerate(_networks(name, seed)):
            own = _own_class(test)
            concept = xs.concept_relevance(xs.simplify(model, test.signal), test.signal, (1, 0), LAYER)
            mean = (own[:, None] * concept.relevance).mean(0)
            size = np.abs(concept.relevance).sum(0)
            in_band = np.array([(low <= _freqs(test)) & (_freqs(test) < high) for low, high in BANDS.values()], float)
            for f, (trials, maps) in enumerate(zip(concept.reference, concept.maps, strict=True)):
                x = test.signal[trials]
                relevance.append((own[trials, None, None] * xs.frequency_relevance(maps, x)).mean(0) @ in_band.T)
                power.append(np.square(np.abs(np.fft.rfft(x))).mean(0) @ in_band.T)
                rows.append((name, fold, seed, f, mean[f], size[f] / size.sum(), len(trials)))
    columns = ["decoder", *NETWORK, "filter", "relevance", "share", "n_reference"]
    return pd.DataFrame(rows, columns=columns), np.array(relevance), np.array(power)


@cache
def _clustered(name: str, seeds) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the filters with more than an equal share, as `_filters` does, with their clusters."""
    filters, relevance, power = _filters(name, seeds)
    kept = (filters["share"] > EQUAL_SHARE).to_numpy()
    filters, relevance, power = filters[kept].reset_index(drop=True), relevance[kept], power[kept]
    features, size = _features(relevance), np.abs(relevance).sum((1, 2))
    channels = next(_networks(name, seeds[0]))[1].info.ch_names
    x, y = xs.embed_filters(features).T
    return (
        filters.assign(
            cluster=xs.cluster_filters(features, min_cluster_size=MIN_CLUSTER_SIZE),
            x=x,
            y=y,
            frontal=np.abs(relevance[:, np.isin(channels, FRONTAL)]).sum((1, 2)) / size,
            delta=np.abs(relevance[:, :, 0]).sum(1) / size,
        ),
        relevance,
        power,
    )


def _networks(name: str, seed: int):
    return (across if name in ACROSS else within)(name, seed)


def _own_class(trials: xs.Trials) -> np.ndarray:
    return np.where(trials.label == 1, 1, -1)


def _freqs(trials: xs.Trials) -> np.ndarray:
    return np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)


def _features(relevance: np.ndarray) -> np.ndarray:
    return relevance.reshape(len(relevance), -1)


STUDY = Study(
    configuration=CONFIGURATION,
    tables=dict.fromkeys(
        (concept_filters, concept_clusters, concept_topographies, concept_stability, concept_regions), RECORDINGS
    ),
)
