"""Planted clusters, networks with the same filters in another order, and noise."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

from eegxai_support.filters.clusters import cluster_filters, cluster_table, embed_filters, stability
from eegxai_support.scoring.intervals import mean_and_interval

PLANTED = np.repeat([0, 1, 2], 20)


@pytest.fixture(scope="module")
def features():
    """Three directions with noise; lengths differ, which the cosine does not see."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((3, 60))[PLANTED] + 0.5 * rng.standard_normal((60, 60))
    return directions * rng.uniform(0.1, 10, (60, 1))


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).standard_normal((200, 60))


# --- clusters ---------------------------------------------------------------------------------------------------------


def test_planted_clusters_are_found(features):
    assert adjusted_rand_score(PLANTED, cluster_filters(features)) == 1


def test_filters_of_no_cluster_are_left_out(features, noise):
    labels = cluster_filters(np.concatenate([features, noise]), min_cluster_size=10)
    assert adjusted_rand_score(PLANTED, labels[:60]) == 1
    assert (labels[60:] == -1).mean() > 0.75


def test_embedding_shows_planted_clusters_without_a_warning(features):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plane = embed_filters(features)
    assert plane.shape == (60, 2)
    distance = np.linalg.norm(plane[:, None] - plane, axis=2)
    same = PLANTED[:, None] == PLANTED
    assert distance[same].max() < distance[~same].min()
    np.testing.assert_array_equal(embed_filters(features), plane)
    np.testing.assert_array_equal(embed_filters(7 * features), plane)
    assert not np.array_equal(embed_filters(features, seed=1), plane)


def test_most_noise_falls_into_clusters_of_the_plane_but_not_of_the_features(noise):
    in_plane = HDBSCAN(5, copy=True).fit(embed_filters(noise)).labels_
    assert (in_plane >= 0).mean() > 0.5 > (cluster_filters(noise) >= 0).mean()


def test_table_against_loops(features):
    labels, rng = np.where(np.arange(60) == 59, 3, PLANTED - 1), np.random.default_rng(2)
    relevance = rng.standard_normal(60)
    origin = pd.DataFrame({"subject": np.arange(60) % 4, "repetition": np.arange(60) // 30})
    table = cluster_table(labels, relevance, features, origin).set_index("cluster")
    assert table.index.tolist() == [-1, 0, 1, 3]
    assert table["n_filters"].tolist() == [20, 20, 19, 1]
    assert table["n_subjects"].tolist() == [4, 4, 4, 1]
    assert table["n_repetitions"].tolist() == [1, 2, 1, 1]
    np.testing.assert_allclose(table["share"].sum(), 1)
    np.testing.assert_allclose(
        table["share"] * abs(relevance).sum(), [abs(relevance[labels == c]).sum() for c in table.index]
    )
    np.testing.assert_allclose(table["relevance"], [relevance[labels == c].mean() for c in table.index])
    pairs = [(i, j) for i in range(20) for j in range(i)]
    cosine = [features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j]) for i, j in pairs]
    np.testing.assert_allclose(table.loc[-1, "coherence"], np.mean(cosine))
    assert np.isnan(table.loc[3, "coherence"])


def test_table_refuses_other_lengths(features):
    with pytest.raises(ValueError, match=r"\(59,\), \(60,\), \(60, 60\) and \(60, 1\)"):
        cluster_table(PLANTED[1:], PLANTED, features, pd.DataFrame({"subject": PLANTED}))


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (embed_filters, {"n_neighbors": 60}, "n_neighbors is 60; expected at least 2 and fewer than the 60 filters"),
        (embed_filters, {"n_neighbors": 1}, "n_neighbors is 1"),
        (cluster_filters, {"min_cluster_size": 1}, "min_cluster_size is 1"),
        (cluster_filters, {"min_cluster_size": 61}, "no more than the 60 filters"),
    ],
)
def test_sizes_out_of_range(features, function, options, message):
    with pytest.raises(ValueError, match=message):
        function(features, **options)


@pytest.mark.parametrize("function", [embed_filters, cluster_filters])
@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_features_without_a_direction(features, function, value):
    bad = features.copy()
    bad[[7, 9]] = value
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match="2 filters, the first is 7, are zero or not fi"),
    ):
        function(bad)
    with pytest.raises(ValueError, match=r"shape \(60,\); expected \(filter, feature\)"):
        function(features[:, 0])


# --- stability --------------------------------------------------------------------------------------------------------


def networks(n_subjects=5, n_repetitions=3, n_filters=6, noise=0.0, seed=0):
    """Filters of each subject, for each repetition in another order, with other signs and noise."""
    rng = np.random.default_rng(seed)
    own, features = rng.standard_normal((n_subjects, n_filters, 40)), []
    for filters in own:
        for _ in range(n_repetitions):
            sign = rng.choice([-1, 1], (n_filters, 1))
            features.append(sign * rng.permutation(filters) + noise * rng.standard_normal(filters.shape) + 3)
    subject = np.repeat(np.arange(n_subjects), n_repetitions * n_filters)
    repetition = np.tile(np.repeat(np.arange(n_repetitions), n_filters), n_subjects)
    return np.concatenate(features), subject, repetition


def test_equal_filters_in_another_order_are_stable():
    table = stability(*networks()).set_index(["pair", "subject"])
    np.testing.assert_allclose(table.loc["same subject", "correlation"], 1)
    assert (table.loc["other subjects", "correlation"] < 0.5).all()
    assert (table.loc["same subject", "n_pairs"] == 3).all()
    assert (table.loc["other subjects", "n_pairs"] == 3 * 4 * 3).all()


def test_noise_is_as_stable_as_other_subjects():
    table = stability(*networks(noise=1e3))
    means = mean_and_interval(table, "pair", "correlation", unit="subject").set_index("pair")
    same = means.loc["same subject"]
    assert same["low"] < means.loc["other subjects", "mean"] < same["high"]


def test_order_of_filters_and_signs_do_not_count():
    features, subject, repetition = networks(noise=0.5)
    order = np.random.default_rng(3).permutation(len(features))
    shuffled = stability(-features[order], subject[order], repetition[order])
    expected = stability(features, subject, repetition)
    by = ["subject", "pair"]
    pd.testing.assert_frame_equal(*(table.sort_values(by, ignore_index=True) for table in (shuffled, expected)))


def test_stability_refuses():
    features, subject, repetition = networks(n_subjects=2)
    with pytest.raises(ValueError, match="two subjects and two repetitions"):
        stability(features, np.zeros_like(subject), repetition)
    with pytest.raises(ValueError, match="two subjects and two repetitions"):
        stability(features, subject, np.where(subject == 1, 0, repetition))
    with pytest.raises(ValueError, match="36 rows; expected 35, one per filter"):
        stability(features[1:], subject, repetition)
    features[4] = 0.1
    with pytest.raises(ValueError, match="1 filters, the first is 4, are constant"):
        stability(features, subject, repetition)
