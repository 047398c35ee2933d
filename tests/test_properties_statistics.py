"""Scores, sanity checks and statistics: their ranges, what leaves them as they are, and their sums by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import TOLERANCE, Net, assert_close, info_of, of, seeds, tasks, trials_of, units

import eegxai_support as xs

pytestmark = pytest.mark.filterwarnings("ignore")  # of few and small trials
dtypes = st.sampled_from(("float32", "float64"))
counts = st.integers(2, 5)


def maps_of(rng, *shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


# --- accuracy and its company -----------------------------------------------------------------------------------------


@of("Accuracy", "accuracy", "permutation_p_value")
@given(n=st.integers(1, 30), n_classes=st.integers(2, 5), seed=seeds)
def test_accuracies_are_shares_and_the_names_of_classes_mean_nothing(n, n_classes, seed):
    rng = np.random.default_rng(seed)
    label, predicted = rng.integers(n_classes, size=(2, n))
    renamed, order = rng.permutation(n_classes), rng.permutation(n)
    found = xs.accuracy(label, predicted, n_classes)
    right = [label[i] == predicted[i] for i in range(n)]
    assert found.accuracy == sum(right) / n and found.n_trials == n and found.chance == 1 / n_classes
    of_class = [[r for r, k in zip(right, label, strict=True) if k == each] for each in range(n_classes)]
    assert np.isclose(found.balanced, np.mean([sum(each) / len(each) for each in of_class if each]), atol=1e-12)
    assert found.majority == max(map(len, of_class)) / n
    again = xs.accuracy(renamed[label][order], renamed[predicted][order], n_classes)
    assert np.allclose(*([x.accuracy, x.balanced, x.chance, x.majority] for x in (found, again)), rtol=1e-12)

    group, options = rng.integers(2, size=n), {"n_permutations": 19, "seed": seed}
    p = xs.permutation_p_value(label, predicted, group, **options)
    assert 20 * p == pytest.approx(round(20 * p)) and 0 < p <= 1
    assert xs.permutation_p_value(renamed[label], renamed[predicted], group, **options) == p
    assert xs.permutation_p_value(0 * label, predicted, group, **options) == 1  # no label can be exchanged


@of("mean_and_interval")
@given(n_trials=counts, n_draws=st.integers(1, 3), unit=units, seed=seeds)
def test_intervals_lie_within_the_values_and_follow_their_unit(n_trials, n_draws, unit, seed):
    rng = np.random.default_rng(seed)
    values = maps_of(rng, n_trials, n_draws)
    trial, draw = (each.ravel() for each in np.indices(values.shape))
    table = pd.DataFrame({"trial": trial, "seed": draw, "method": "a", "pearson": values.ravel()})
    summary = partial(xs.mean_and_interval, by="method", n=50)
    (found,) = summary(table).itertuples()
    assert values.min() - 1e-12 <= found.low <= found.high <= values.max() + 1e-12
    assert np.isclose(found.mean, values.mean()) and (found.n_trials, found.n_draws) == values.shape
    assert_same(summary(table.sample(frac=1, random_state=seed % 99)), summary(table))
    (scaled,) = summary(table.assign(pearson=unit * table["pearson"])).itertuples()
    assert (scaled.low, scaled.mean, scaled.high) == (unit * found.low, unit * found.mean, unit * found.high)
    (mirrored,) = summary(table.assign(pearson=-table["pearson"])).itertuples()
    assert np.allclose((-mirrored.high, -mirrored.low), (found.low, found.high))


@of("area_under_curve")
@given(n_trials=counts, n_shares=st.integers(2, 6), unit=units, seed=seeds)
def test_areas_are_mean_heights(n_trials, n_shares, unit, seed):
    rng = np.random.default_rng(seed)
    share = np.sort(rng.choice(np.linspace(0, 1, 11), n_shares, replace=False))
    heights = maps_of(rng, n_trials, n_shares)
    trial, place = (each.ravel() for each in np.indices(heights.shape))
    curves = pd.DataFrame({"map": "own", "trial": trial, "share": share[place], "logit": unit * heights.ravel()})
    found = xs.area_under_curve(curves.assign(probability=0.25).sample(frac=1, random_state=1)).sort_values("trial")
    widths = np.diff(share)
    by_hand = [sum(w * (row[i] + row[i + 1]) / 2 for i, w in enumerate(widths)) for row in heights]
    assert np.allclose(found["logit"] / unit * np.ptp(share), by_hand) and np.allclose(found["probability"], 0.25)
    assert list(found["trial"]) == list(range(n_trials))


@of("rank_methods")
@given(n_methods=st.integers(3, 5), n_blocks=st.integers(2, 5), unit=units, seed=seeds)
def test_ranks_depend_on_order_alone(n_methods, n_blocks, unit, seed):
    rng = np.random.default_rng(seed)
    values = maps_of(rng, n_blocks, n_methods)
    block, method = (each.ravel() for each in np.indices(values.shape))
    table = pd.DataFrame({"dataset": block, "snr_db": 0, "seed": 0, "score": values.ravel()})
    table["method"] = np.array(list("abcde"))[method]
    rank = partial(xs.rank_methods, metric="score", n=20)
    found = rank(table)
    place = np.array([[1 + (row > each).sum() for each in row] for row in values]).mean(0)
    assert np.allclose(found.set_index("method")["rank"].sort_index(), place)
    assert (found["low"] <= found["high"]).all() and 0 <= found.attrs["friedman_p"] <= 1
    scaled = rank(table.assign(score=unit * table["score"]).sample(frac=1, random_state=1))
    assert_same(scaled[["method", "rank"]], found[["method", "rank"]])
    assert np.array_equal(scaled[["value", "low", "high", "behind"]], unit * found[["value", "low", "high", "behind"]])
    lowest = rank(table.assign(score=-table["score"]), higher_is_better=False)
    assert_same(lowest[["method", "rank", "behind"]], found[["method", "rank", "behind"]])


# --- maps against a reference -----------------------------------------------------------------------------------------


@of("score_maps", "METRICS")
@given(n_trials=st.integers(1, 4), n_channels=st.sampled_from((4, 1, 2, 5)), dtype=dtypes, unit=units, seed=seeds)
def test_scores_are_within_bounds_and_blind_to_amplitude_and_company(n_trials, n_channels, dtype, unit, seed):
    rng = np.random.default_rng(seed)
    maps, reference = maps_of(rng, 2, n_trials, n_channels, 24, dtype=dtype)
    order = rng.permutation(n_trials)
    for protocol in ("accuracy", "randomisation"):
        for info in (None, info_of(n_channels)):
            score = partial(xs.score_maps, info=info, protocol=protocol, n_null=0)
            found = score(maps, reference)
            assert list(found) == list(xs.METRICS) and len(found) == n_trials
            bounds = pd.DataFrame({name: (m.low, m.high) for name, m in xs.METRICS.items()})
            assert not ((found < bounds.loc[0] - 1e-12) | (found > bounds.loc[1] + 1e-12)).any(axis=None)
            assert np.allclose(score(unit * maps, reference / unit), found, atol=1e-12, equal_nan=True)
            again = score(maps[order], reference[order])
            assert np.allclose(again, found.iloc[order], atol=1e-12, equal_nan=True)
            own = score(np.abs(maps), np.abs(maps)).to_numpy()
            assert np.allclose(own[np.isfinite(own)], 1)
    chance = xs.score_maps(maps, reference, n_null=5, seed=seed).attrs["chance"]
    assert set(chance) == ({"other_trial", "surrogate"} if n_trials > 1 else {"surrogate"})
    for level in (each for null in chance.values() for each in null.values()):
        assert np.isnan(level["mean"]) or level["low"] <= level["high"]
    raw = [np.corrcoef(m.ravel(), r.ravel())[0, 1] for m, r in zip(maps.astype(float), np.abs(reference), strict=True)]
    assert np.allclose(xs.score_maps(maps, reference, n_null=0)["Pearson_raw"], raw)


@of("process_maps")
@given(n_trials=counts, n_channels=counts, n_times=st.integers(12, 30), dtype=dtypes, unit=units, seed=seeds)
def test_processed_maps_are_blind_to_amplitude_and_company(n_trials, n_channels, n_times, dtype, unit, seed):
    rng = np.random.default_rng(seed)
    maps, order = maps_of(rng, n_trials, n_channels, n_times, dtype=dtype), rng.permutation(n_trials)
    by_channel = rng.permutation(n_channels)
    points, channels = xs.process_maps(maps)
    assert points.shape == maps.shape and channels.shape == (n_trials, n_channels, 1) and points.min() >= -1
    for found, expected in zip(xs.process_maps(unit * maps), (points, channels), strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(xs.process_maps(maps[order][:, by_channel]), (points, channels), strict=True):
        assert_close(found, expected[order][:, by_channel])
    z = (maps[0].astype(float) - maps[0].mean(dtype=float)) / maps[0].std(dtype=float)
    at = int(rng.integers(n_times))
    window = np.maximum(z - 2, -1)[:, max(0, at - 5) : at + 5]
    assert_close(points[0, :, at], window.mean(1))


# --- sanity checks ----------------------------------------------------------------------------------------------------


def gradient(model, x, target, unit=1.0):
    """Explain by the gradient times the trial."""
    x = torch.as_tensor(x).requires_grad_()
    model(x.to(model.last.weight.dtype)).gather(1, torch.as_tensor(target)[:, None]).sum().backward()
    return unit * (x.grad * x).detach().numpy()


def constant(model, x, target):
    return np.asarray(x)


@of("random_target")
@given(n=st.integers(1, 20), n_classes=st.integers(2, 5), seed=seeds)
def test_random_targets_are_other_classes(n, n_classes, seed):
    target = np.random.default_rng(seed).integers(n_classes, size=n)
    wrong = xs.random_target(target, n_classes, seed)
    assert wrong.dtype == np.int64 and wrong.shape == (n,) and (wrong != target).all()
    assert wrong.min() >= 0 and wrong.max() < n_classes
    np.testing.assert_array_equal(xs.random_target(target[: n // 2], n_classes, seed), wrong[: n // 2])


@of("label_randomisation_test", "weight_randomisation_test", "smooth_mprt", "efficient_mprt", "data_randomisation_test")
@settings(max_examples=3)
@given(task=tasks(), unit=units, seed=seeds)
def test_sanity_checks_are_blind_to_the_amplitude_of_maps_and_the_company_of_trials(task, unit, seed):
    model, x, target, rng = task.model, task.x, task.target, np.random.default_rng(seed)
    n, few = len(x), np.arange(rng.integers(1, len(x) + 1))
    label = np.arange(8) // 2 % task.n_classes
    trials = trials_of(maps_of(rng, 8, *x.shape[1:]), label, task.n_classes)

    def trained(trials, seed):
        seed += int(trials.label @ np.arange(8))
        return Net(model.n_chans, model.n_times, task.n_classes, seed).to(model.last.weight.dtype)

    def asked(test, *more, **options):
        return lambda explain, rows=slice(None): test(explain, model, x[rows], target[rows], *more, **options)

    tests = {
        "label": asked(xs.label_randomisation_test, task.n_classes),
        "weight": asked(xs.weight_randomisation_test, [seed]),
        "smooth": asked(xs.smooth_mprt, [seed], order="at_once", n_samples=2),
        "efficient": asked(xs.efficient_mprt, [seed], n_bins=20),
        "data": asked(xs.data_randomisation_test, trained, trials, [1]),
    }
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    for name, test in tests.items():
        value = "rise" if name == "efficient" else "pearson"
        found, again, unmoved = test(gradient), test(gradient, few), test(constant)[value]
        assert found["trial"].nunique() == n and len(found) % n == 0
        assert_same(test(partial(gradient, unit=unit)), found)
        rows = found[found["trial"].isin(few)].reset_index(drop=True)
        numbers = rows.select_dtypes("number")
        np.testing.assert_allclose(again[numbers.columns], numbers, rtol=0, atol=TOLERANCE[x.dtype])
        assert list(again.columns) == list(found.columns) and again["trial"].max() == few.max()
        if value == "pearson":
            assert found[value].between(-1 - 1e-9, 1 + 1e-9).all() and np.allclose(unmoved, 1)
        else:
            assert (found[value] >= -1).all() and (unmoved == 0).all()
            assert found["entropy"].between(0, np.log(20) + 1e-9).all()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items()) and not model.training
    assert tests["label"](gradient).eval("target != other").all()


@of("randomize")
@given(task=tasks(most=1), seed=seeds)
def test_randomised_weights_are_those_of_the_seed_at_every_level(task, seed):
    model = task.model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    levels, alone = (
        {name: each.state_dict() for name, each in xs.randomize(model, seed, order=order)}
        for order in ("cascading", "independent")
    )
    assert list(levels) == list(alone) == ["last", "behind", "spatial", "norm", "temporal"]
    replaced = []
    for name, state in levels.items():
        replaced.append(f"{name}.")
        for key, value in state.items():
            if key.endswith("num_batches_tracked") or not key.startswith(tuple(replaced)):
                assert torch.equal(value, before[key])
            elif before[key].any():
                assert not torch.equal(value, before[key])
            if key.startswith(f"{name}."):
                assert torch.equal(value, alone[name][key])
    ((_, last),) = xs.randomize(model, seed, order="at_once")
    assert all(torch.equal(value, levels["temporal"][key]) for key, value in last.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@of("roar")
@given(n=st.integers(4, 8), n_channels=counts, unit=units, seed=seeds)
def test_what_is_removed_follows_from_the_order_of_the_map(n, n_channels, unit, seed):
    rng = np.random.default_rng(seed)
    signal, maps = maps_of(rng, 2, 2, n, n_channels, 20, dtype="float32")
    label = np.arange(n) % 2
    train, test = (trials_of(each, label, 2) for each in signal)
    seen = []

    def fit(trials):
        def classify(x):
            seen.append((trials.signal, x))
            return (x.mean((1, 2)) > 0).astype(int)

        return classify

    table = xs.roar(fit, train, test, *maps, shares=(0.25, 1.0))
    assert list(table["share"].unique()) == [0, 0.25, 1] and len(table) == 3 * 3 * n
    (_, intact), (holes, test_holes), (_, nothing) = seen[:3]
    np.testing.assert_array_equal(intact, test.signal)
    assert_close(nothing, np.broadcast_to(test.signal.mean(2, keepdims=True), nothing.shape))
    for x, m, found in ((train.signal, maps[0], holes), (test.signal, maps[1], test_holes)):
        highest = m >= np.quantile(m, 0.75, axis=(1, 2), keepdims=True)
        np.testing.assert_array_equal(found != x, highest)
    assert_same(xs.roar(fit, train, test, *(unit * maps), shares=(0.25, 1.0)), table)
