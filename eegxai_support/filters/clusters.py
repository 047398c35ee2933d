"""Filters of many networks: which are alike, and whether a network trained again learns them again."""

from __future__ import annotations

import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from eegxai_support.model import needed

ROUNDING = 1e-12  # share of a vector's length below which nothing but rounding is left


def embed_filters(features, *, n_neighbors: int = 15, seed: int = 0) -> np.ndarray:
    """Lay filters out in a plane, those with similar features side by side: UMAP [1]_ with the cosine distance.

    The plane is for looking. It shows separate heaps for noise too, and the gaps between them have no scale:
    `cluster_filters` works on the features.

    Parameters
    ----------
    features : array-like, shape (filter, feature)
        Such as `ConceptRelevance.activation` of several networks.
    n_neighbors : int
        Neighbours of a filter that count, at least 2 and fewer than there are filters.
    seed : int
        Equal seeds give equal planes.

    Returns
    -------
    ndarray of float32, shape (filter, 2)

    Raises
    ------
    ValueError
        A filter whose features are all zero or not finite, or too few filters.
    ModuleNotFoundError
        umap-learn or scikit-learn is not installed.

    Notes
    -----
    The first call of a process compiles UMAP, which takes many times as long as the embedding of a few hundred filters.

    References
    ----------
    .. [1] McInnes, Healy & Melville (2018). UMAP: uniform manifold approximation and projection for dimension
       reduction. arXiv:1802.03426
    """
    with needed("embed_filters", extra="filters"):
        from sklearn.metrics.pairwise import cosine_distances

    unit = _unit(features)
    if not 2 <= n_neighbors < len(unit):
        raise ValueError(f"n_neighbors is {n_neighbors}; expected at least 2 and fewer than the {len(unit)} filters.")
    distance = cosine_distances(unit)
    neighbours = np.argsort(distance, axis=1)[:, :n_neighbors]
    # UMAP would find the same neighbours, but compile for that as long as for all else.
    known = neighbours, np.take_along_axis(distance, neighbours, axis=1).astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*transforming new data|Tensorflow not installed")
        with needed("embed_filters", extra="filters"):
            from umap import UMAP  # takes seconds

        options = {"min_dist": 0, "random_state": seed, "n_jobs": 1, "precomputed_knn": known}
        n_threads = torch.get_num_threads()
        try:
            return UMAP(n_neighbors, metric="cosine", **options).fit_transform(unit)
        finally:
            torch.set_num_threads(n_threads)  # which Numba changes


def cluster_filters(features, *, min_cluster_size: int = 5) -> np.ndarray:
    """Find clusters of filters with similar features: HDBSCAN [1]_ with the cosine distance.

    The features are clustered, not their embedding: UMAP draws neighbours together until noise falls into clusters.

    Parameters
    ----------
    features : array-like, shape (filter, feature)
    min_cluster_size : int
        Fewest filters of a cluster, at least 2. Among noise small clusters occur by chance.

    Returns
    -------
    ndarray of int, shape (filter,)
        Cluster of each filter, counted from 0; -1 where a filter is in none.

    Raises
    ------
    ValueError
        A filter whose features are all zero or not finite, or fewer filters than a cluster needs.
    ModuleNotFoundError
        scikit-learn is not installed.

    References
    ----------
    .. [1] Campello, Moulavi & Sander (2013). Density-based clustering based on hierarchical density estimates. PAKDD,
       LNCS 7819, 160-172.
    """
    with needed("cluster_filters", extra="filters"):
        from sklearn.cluster import HDBSCAN

    unit = _unit(features)
    if not 2 <= min_cluster_size <= len(unit):
        raise ValueError(
            f"min_cluster_size is {min_cluster_size}; expected at least 2 and no more than the {len(unit)} filters."
        )
    return HDBSCAN(min_cluster_size, metric="cosine", copy=True).fit(unit).labels_


def cluster_table(labels, relevance, features, table: pd.DataFrame) -> pd.DataFrame:
    """Describe clusters of filters.

    Parameters
    ----------
    labels : array-like of int, shape (filter,)
        From `cluster_filters`.
    relevance : array-like, shape (filter,)
        Of each filter, such as the mean over trials of ``ConceptRelevance.relevance``.
    features : array-like, shape (filter, feature)
        What was clustered.
    table : DataFrame
        A row per filter that says where it is from, such as the columns subject and repetition.

    Returns
    -------
    DataFrame
        A row per cluster, -1 first: cluster, n_filters, for each column of `table` the number of its values in the
        cluster (n_subjects, n_repetitions), relevance (mean, signed), share (of the absolute relevance of all
        filters), and coherence, the mean cosine similarity of two filters of the cluster, NaN for a single one.

    Raises
    ------
    ValueError
        Inputs of different lengths, or a filter whose features are all zero or not finite.
    """
    labels, relevance, unit = np.asarray(labels), np.asarray(relevance), _unit(features)
    if not labels.shape == relevance.shape == (len(table),) == (len(unit),):
        raise ValueError(
            f"labels, relevance, features and table have the shapes {labels.shape}, {relevance.shape}, {unit.shape} and"
            f" {table.shape}; expected a row per filter in each."
        )
    rows = []
    for cluster in np.unique(labels):
        inside = labels == cluster
        n, values = inside.sum(), relevance[inside]
        coherence = (np.square(unit[inside].sum(0)).sum() - n) / (n * (n - 1)) if n > 1 else np.nan
        counts = {f"n_{column}s": table.loc[inside, column].nunique() for column in table}
        share = np.abs(values).sum() / np.abs(relevance).sum()
        numbers = {"relevance": values.mean(), "share": share, "coherence": coherence}
        rows.append({"cluster": cluster, "n_filters": n, **counts, **numbers})
    return pd.DataFrame(rows)


def stability(features, subject, repetition) -> pd.DataFrame:
    """Tell how alike the filters of two networks are that were trained again for the same subject.

    A network may learn the same filters in another order, so each filter of one network is matched with one of the
    other, by the assignment with the largest sum of absolute correlations [1]_. The best of many matches is never zero:
    networks of different subjects show how large it is without the subject.

    Parameters
    ----------
    features : array-like, shape (filter, feature)
    subject, repetition : array-like, shape (filter,)
        The network that each filter belongs to.

    Returns
    -------
    DataFrame
        Two rows per subject, for its networks paired with each other and with those of other subjects: subject, pair
        ("same subject" or "other subjects"), correlation (mean over the pairs of the mean absolute correlation of
        matched filters) and n_pairs. Give the rows of "same subject" to `mean_and_interval` for an interval over
        subjects; each pair of "other subjects" counts for two of them, so that theirs would be half as wide as it
        should be.

    Raises
    ------
    ValueError
        Inputs of different lengths, a filter whose features are constant or not finite, fewer than two subjects, or a
        subject with a single repetition.

    Notes
    -----
    Features that are computed from trials, such as activations, are more alike within a subject even in untrained
    networks, since the trials are the same; the table of untrained networks shows by how much.

    References
    ----------
    .. [1] Li, Yosinski, Clune, Lipson & Hopcroft (2016). Convergent learning: do different neural networks learn the
       same representations? ICLR. arXiv:1511.07543
    """
    unit, key = _unit(features, centred=True), pd.DataFrame({"subject": subject, "repetition": repetition})
    if len(key) != len(unit):
        raise ValueError(f"subject and repetition have {len(key)} rows; expected {len(unit)}, one per filter.")
    networks = list(key.groupby(["subject", "repetition"], sort=False).indices.items())
    n_repetitions = pd.Series([name for (name, _), _ in networks]).value_counts()
    if len(n_repetitions) < 2 or n_repetitions.min() < 2:
        raise ValueError(
            f"Stability needs two subjects and two repetitions of each; got {n_repetitions.to_dict()} repetitions."
        )
    rows = []
    for ((one, _), filters), ((other, _), others) in combinations(networks, 2):
        matched = _matched(np.abs(unit[filters] @ unit[others].T))
        pair = "same subject" if one == other else "other subjects"
        rows += [(name, pair, matched) for name in dict.fromkeys((one, other))]
    table = pd.DataFrame(rows, columns=["subject", "pair", "correlation"])
    groups = table.groupby(["subject", "pair"], sort=False)["correlation"]
    return groups.agg(correlation="mean", n_pairs="size").reset_index()


def _matched(similarity: np.ndarray) -> float:
    return similarity[linear_sum_assignment(similarity, maximize=True)].mean()


def _unit(features, centred: bool = False) -> np.ndarray:
    """Return each filter's features with length 1, as float64; refuse those that have no direction."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2:
        raise ValueError(f"features have shape {features.shape}; expected (filter, feature).")
    vectors = features - features.mean(1, keepdims=True) if centred else features
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    lost = ~(length > ROUNDING * np.linalg.norm(features, axis=1, keepdims=True))  # NaN and infinity are lost too
    if lost.any():
        kind = "constant" if centred else "zero"
        raise ValueError(
            f"The features of {lost.sum()} filters, the first is {lost.argmax()}, are {kind} or not finite: no"
            " filter is similar to them. Leave them out."
        )
    return vectors / length
