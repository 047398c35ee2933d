"""Patterns, filters and groups of them: units, signs and the order of what they are made of."""

import sys
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import assert_close, info_of, of, seeds, tasks, trials_of, units

import eegxai_support as xs

pytestmark = pytest.mark.filterwarnings("ignore")  # of outputs and trials that are few
dtypes = st.sampled_from(("float32", "float64"))
LAYERS = xs.FilterLayers("temporal", "spatial", "norm")


@of("haufe_patterns", "pattern_interval")
@given(n=st.integers(8, 14), n_outputs=st.integers(1, 3), dtype=dtypes, unit=units, seed=seeds)
def test_patterns_follow_the_units_and_the_order_of_features(n, n_outputs, dtype, unit, seed):
    rng = np.random.default_rng(seed)
    features, filters = (rng.standard_normal((size, 4, 6)).astype(dtype) for size in (n, n_outputs))
    label, order, by_channel = np.arange(n) % 2, rng.permutation(n), rng.permutation(4)
    for classes in (None, label):
        groups = [label == k for k in (0, 1)] if classes is not None else [np.ones(n, bool)]
        centred = sum(each[:, None, None] * (features - features[each].mean(0, dtype=float)) for each in groups)
        centred = centred.reshape(n, -1)
        covariance = centred.T @ centred / (n - len(groups))
        by_hand = (filters.reshape(n_outputs, -1) @ covariance).reshape(filters.shape)
        found = xs.haufe_patterns(filters, features, label=classes)
        assert_close(found, by_hand.astype(dtype))
        # In units of feature times output: a covariance is quadratic in its features, and linear in the filters.
        assert_close(xs.haufe_patterns(filters, unit * features, label=classes), unit**2 * found)
        assert_close(xs.haufe_patterns(unit * filters, features, label=classes), unit * found)
        named = None if classes is None else np.array(["b", "a"])[label][order]
        again = xs.haufe_patterns(filters[:, by_channel], features[order][:, by_channel], label=named)
        assert_close(again, found[:, by_channel])
        shrunk = partial(xs.haufe_patterns, shrinkage="ledoit_wolf", output_covariance=True, label=classes)
        per_output = shrunk(filters, features)
        assert_close(shrunk(unit * filters, features), per_output / unit)
        assert_close(shrunk(filters, unit * features), per_output)

        interval = partial(xs.pattern_interval, n=20, seed=seed, label=classes)
        low, high = interval(filters, features)
        assert low.shape == high.shape == filters.shape and low.dtype == dtype and (low <= high).all()
        for end, scaled in zip((low, high), interval(filters, unit * features), strict=True):
            assert_close(scaled, unit**2 * end)
        for end, moved in zip((low, high), interval(filters[:, by_channel], features[:, by_channel]), strict=True):
            assert_close(moved, end[:, by_channel])


@of("pattern_cluster_test", "ClusterTest")
@settings(max_examples=2)
@given(n=st.integers(3, 6), n_channels=st.sampled_from((5, 4)), unit=units, seed=seeds)
def test_clusters_are_blind_to_amplitude_and_sign_and_the_order_of_subjects(n, n_channels, unit, seed):
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((n, n_channels, 5)) + 1
    test = partial(xs.pattern_cluster_test, info=info_of(n_channels), threshold=1.5)
    found = test(patterns)
    assert_close(found.t, patterns.mean(0) / (patterns.std(0, ddof=1) / np.sqrt(n)))
    assert ((found.p_value > 0) & (found.p_value <= 1)).all() and found.p_value.min() >= found.smallest_p_value
    np.testing.assert_array_equal(found.clusters.any(0), np.abs(found.t) > 1.5)
    for changed, sign in ((unit * patterns, 1), (-patterns, -1), (patterns[rng.permutation(n)], 1)):
        again = test(changed)
        assert_close(again.t, sign * found.t)
        assert_close(again.p_value, found.p_value)


@of("group_map")
@settings(max_examples=2)
@given(n=st.integers(6, 8), n_channels=st.sampled_from((5, 4)), unit=units, seed=seeds)
def test_maps_of_groups_are_blind_to_the_scale_of_each_and_the_order_of_all(n, n_channels, unit, seed):
    rng = np.random.default_rng(seed)
    maps, null = rng.standard_normal((n, 2, n_channels, 5)) + 1, rng.standard_normal((n, 19, 2, n_channels, 5))
    test = partial(xs.group_map, info=info_of(n_channels), threshold=1.5, n_permutations=512)
    found = test(maps, null=null).all
    order, scale = rng.permutation(n), unit * rng.lognormal(0, 1, (n, 1, 1, 1))
    for changed, its_null, sign in (
        (scale * maps, unit * null, 1),
        (maps[order], null[order], 1),
        (maps[:, ::-1], null[:, :, ::-1], -1),  # the other class minus this one
    ):
        again = test(changed, null=its_null).all
        assert_close(again.mean, sign * found.mean)
        assert_close(again.effect_size, sign * found.effect_size)
        np.testing.assert_array_equal(again.prevalence, found.prevalence)
        # All flips of so few signs are taken; which maps are drawn for the null's test hangs on the order.
        assert_close(test(changed).all.test.p_value, test(maps).all.test.p_value)
    assert (found.effect_low < found.effect_size).all() and (found.effect_size < found.effect_high).all()
    assert (found.prevalence_low <= found.prevalence_high).all()


@of("match_patterns")
@given(n_units=st.integers(1, 4), n_reference=st.integers(1, 3), unit=units, seed=seeds)
def test_matches_are_blind_to_signs_amplitudes_and_references(n_units, n_reference, unit, seed):
    rng = np.random.default_rng(seed)
    patterns, reference = rng.standard_normal((n_units, 5)), rng.standard_normal((n_reference, 5))
    mixing = rng.standard_normal((5, 5))
    found = xs.match_patterns(patterns, reference, mixing @ mixing.T, n=9)
    r = np.abs(np.corrcoef(patterns, reference)[:n_units, n_units:])
    assert np.allclose(found["correlation"], [r[u, k] for u, k in zip(found["unit"], found["reference"], strict=True)])
    assert len(found) == min(n_units, n_reference) == found["unit"].nunique() == found["reference"].nunique()
    assert found["chance"].between(0, 1).all() and found["p_value"].between(0.1, 1).all()
    sign = rng.choice([-1, 1], (n_units, 1))
    again = xs.match_patterns(unit * (sign * patterns + 3), reference / unit, unit * mixing @ mixing.T, n=9)
    pd.testing.assert_frame_equal(again, found, check_exact=False, rtol=1e-9)


@of("read_filters", "filter_patterns", "Filters", "FilterLayers", "ablate_units", "predict")
@settings(max_examples=3)
@given(task=tasks(), unit=units, seed=seeds)
def test_filters_follow_the_unit_and_the_order_of_channels(task, unit, seed):
    rng = np.random.default_rng(seed)
    n_channels, dtype = task.x.shape[1], task.x.dtype
    order, label = rng.permutation(n_channels), rng.integers(task.n_classes, size=12)
    signal = rng.standard_normal((12, n_channels, task.x.shape[2])).astype("float32")
    found = xs.read_filters(task.model, LAYERS)
    assert found.kernels.shape == (2, 5) and found.spatial.shape == (4, 2, n_channels) and found.kernels.dtype == dtype
    moved, scaled = (xs.read_filters(each.model, LAYERS) for each in (task.channels(order), task.in_unit(unit)))
    assert_close(moved.spatial, found.spatial[..., order])
    assert_close(scaled.kernels * unit, found.kernels)

    trials = trials_of(signal, label, task.n_classes)
    patterns = xs.filter_patterns(found, trials)
    permuted = trials_of(signal[::-1, order], label[::-1], task.n_classes)
    louder = trials_of(unit * signal, label, task.n_classes)
    assert_close(xs.filter_patterns(moved, permuted), patterns[:, order], "float32")
    # For an output of the rank-one reading, whose kernel has norm 1 and keeps no unit.
    assert_close(xs.filter_patterns(found, louder), patterns, "float32")
    filtered = np.stack([[np.correlate(c, found.unit_kernels[0], "valid") for c in trial] for trial in signal])
    covariance = np.cov(np.hstack(filtered.astype(float)))
    w = found.unit_filters[0].astype(float)
    assert_close(patterns[0], covariance @ w / (w @ covariance @ w), "float32")

    table = xs.ablate_units(task.model, trials, "behind", batch_size=5)
    again = xs.ablate_units(task.channels(order).model, permuted, "behind", batch_size=64)
    pd.testing.assert_frame_equal(again, table)
    assert list(table["unit"]) == [-1, 0, 1, 2, 3]
    assert (table["low"] <= table["accuracy"] + 1e-12).all() and (table["accuracy"] <= table["high"] + 1e-12).all()
    assert np.isclose(table["accuracy"][0], (xs.predict(task.model, signal).argmax(1) == label).mean())
    drop = table[1:]
    assert (drop["drop_low"] <= drop["drop_high"]).all() and drop[["drop_low", "drop", "drop_high"]].abs().max(
        None
    ) <= 1


@of("reference_trials")
@given(n=st.integers(1, 7), n_filters=st.integers(1, 4), share=st.floats(0.05, 1), unit=units, seed=seeds)
def test_reference_trials_are_the_fewest_that_hold_the_share(n, n_filters, share, unit, seed):
    relevance = np.random.default_rng(seed).standard_normal((n, n_filters))
    found = xs.reference_trials(relevance, share)
    for column, chosen in zip(np.abs(relevance).T, found, strict=True):
        assert list(column[chosen]) == sorted(column, reverse=True)[: len(chosen)]
        assert column[chosen[:-1]].sum() <= share * column.sum() * (1 + 1e-12)
        assert column[chosen].sum() > share * column.sum() or len(chosen) == n
    assert all(map(np.array_equal, xs.reference_trials(-unit * relevance, share), found))
    assert all(not len(each) for each in xs.reference_trials(0 * relevance, share))


@of("cluster_filters", "cluster_table", "stability")
@settings(max_examples=2)
@given(n=st.sampled_from((3, 4)), unit=units, seed=seeds)
def test_groups_of_filters_are_blind_to_amplitude_and_order(n, unit, seed):
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((3, 6))
    features = np.repeat(centre, 2 * n, axis=0) + 0.05 * rng.standard_normal((6 * n, 6))
    order, size = rng.permutation(6 * n), rng.uniform(0.5, 2, (6 * n, 1))
    labels, again = (
        xs.cluster_filters(each, min_cluster_size=3) for each in (features, (unit * size * features)[order])
    )
    together = labels[:, None] == labels
    np.testing.assert_array_equal(again[:, None] == again, together[order][:, order])
    table = pd.DataFrame({"subject": np.arange(6 * n) % 2, "repetition": np.arange(6 * n) // 2 % n})
    relevance = rng.standard_normal(6 * n)
    groups = xs.cluster_table(labels, relevance, features, table)
    assert groups["n_filters"].sum() == 6 * n and np.isclose(groups["share"].sum(), 1)
    assert groups["coherence"].dropna().between(-1, 1 + 1e-12).all()
    moved = xs.cluster_table(labels[order], unit * relevance[order], (size * features)[order], table.iloc[order])
    pd.testing.assert_frame_equal(moved, groups.assign(relevance=unit * groups["relevance"]))

    how = xs.stability(features, table["subject"], table["repetition"])
    how = how.set_index(["pair", "subject"]).sort_index()
    assert how["correlation"].between(0, 1 + 1e-12).all()
    assert list(how["n_pairs"]) == [n * n] * 2 + [n * (n - 1) // 2] * 2
    louder = xs.stability((-unit * size * features + 1)[order], *(table[c].to_numpy()[order] for c in table))
    pd.testing.assert_frame_equal(louder.set_index(["pair", "subject"]).sort_index(), how)


class NoUMAP:
    """Return the nearest neighbours instead of a plane: to compile the real one takes ten seconds."""

    def __init__(self, n_neighbors, *, precomputed_knn, **options):
        self.known = precomputed_knn

    def fit_transform(self, unit):
        assert np.allclose(np.linalg.norm(unit, axis=1), 1)
        return np.stack([unit[self.known[0][:, 1], 0], self.known[1][:, 1]], axis=1)


@of("embed_filters")
@given(n=st.integers(6, 12), unit=units, seed=seeds)
def test_the_neighbours_of_a_filter_are_blind_to_amplitude_and_order(n, unit, seed):
    rng = np.random.default_rng(seed)
    features, order, size = rng.standard_normal((n, 4)), rng.permutation(n), rng.uniform(0.5, 2, (n, 1))
    with patch.dict(sys.modules, umap=SimpleNamespace(UMAP=NoUMAP)):
        plane, again = (xs.embed_filters(each, n_neighbors=3) for each in (features, (unit * size * features)[order]))
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.argsort(-vectors @ vectors.T, axis=1)[:, 1]
    assert_close(plane[:, 0], vectors[nearest, 0])
    assert np.allclose(again, plane[order], atol=1e-6)  # the distances are float32
