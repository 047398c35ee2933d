"""The maps of the book: which trials are explained, by a decoder that has not seen them, for which difference."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tagged
from tagged import CHANNELS, N_IN_RUN, label_of, numbers_in, numbers_of

import eegxai_support as xs
from studies import maps

FISTS, FOUR = (4, 8, 12, 3, 7, 11), (4, 8, 12, 6, 10, 14)
IMAGINED, PAIRS = [(4,), (8,), (12,)], [(4, 6), (8, 10), (12, 14)]
METHODS = ["saliency", "input_x_gradient", "integrated_gradients", "deep_lift", "random"]
WINDOW = (1.5, pytest.approx(3.5 - 1 / 80))


def right_of(subject, runs):
    """Return the trials that the decoders classify correctly: all but the first of a run."""
    return [n for n in numbers_of(subject, runs) if n % 10]


def logits_of(number, n_classes):
    """Return the output of every decoder, wrong for the first trial of a run; trial 0 is all zeros."""
    if number == 0:
        return np.linspace(0.5, 0, n_classes)
    logits = np.random.default_rng(number).uniform(-1, 0, n_classes)
    logits[(label_of(number) + (number % 10 == 0)) % n_classes] = 1 + number % 97 / 97
    return logits


def map_of(number, method):
    """Return the map of a trial, which misses a known share of the change of right minus left."""
    values = np.random.default_rng([number, METHODS.index(method)]).standard_normal((len(CHANNELS), 160))
    return values + (right_minus_left(number) * (1 + missed(number, method)) - values.sum()) / values.size


def right_minus_left(number):
    (left, right), (left_0, right_0) = logits_of(number, 2), logits_of(0, 2)
    return right - left - (right_0 - left_0)


def missed(number, method):
    return xs.METHODS[method].tolerance * (number % 10 - 2.5) if method in METHODS[1:4] else 0.0


class Network:
    """What a decoder was built and trained with; `redrawn` is the seed of other weights."""

    def __init__(self, **built):
        self.built, self.trained, self.redrawn = built, None, None


@pytest.fixture
def calls(monkeypatch):
    """Hand the study networks that know the classes, and return what it explained."""
    log = []

    def build_decoder(name, trials, *, n_times, seed, **options):
        return Network(name=name, n_times=n_times, seed=seed, options=options, n_classes=trials.n_classes)

    def train(model, trials, *, epochs, seed, cache):
        model.trained = {"numbers": numbers_in(trials.signal), "epochs": epochs, "seed": seed}
        assert tagged.window_of(trials.signal) == (1.0, pytest.approx(4 - 1 / 80))

    def predict(model, signal):
        return np.array([logits_of(n, model.built["n_classes"]) for n in numbers_in(signal)])

    def attribute(model, signal, target, method, **options):
        entry = {"model": model, "numbers": numbers_in(signal), "target": target, "method": method, "options": options}
        log.append({**entry, "window": tagged.window_of(signal)})
        values = np.array([map_of(n, method) for n in entry["numbers"]])
        return SimpleNamespace(values=values if model.redrawn is None else -values, **entry)

    monkeypatch.setattr(xs, "load_eegbci", tagged.load_eegbci)
    for stand_in in (build_decoder, train, predict, attribute):
        monkeypatch.setattr(xs, stand_in.__name__, stand_in)
    return log


def check_fist_maps(calls, decoders, methods=METHODS):
    """Every imagined run of subject 7 left out in turn, right minus left on its correctly classified trials."""
    expected = itertools.product(decoders, IMAGINED, methods)
    for (decoder, out, method), entry in zip(expected, calls, strict=True):
        assert (entry["method"], entry["target"], entry["window"]) == (method, (1, 0), WINDOW)
        assert entry["numbers"] == right_of(7, out)
        check_model(entry["model"], decoder, 0, 60, numbers_of(7, set(FISTS) - set(out)))


def check_model(model, decoder, seed, epochs, trained):
    assert (model.built["name"], model.built["n_times"], model.built["seed"]) == (decoder, 160, seed)
    assert model.built["options"] == xs.RECIPES[decoder]
    assert (sorted(model.trained["numbers"]), model.trained["epochs"]) == (sorted(trained), epochs)
    assert model.trained["seed"] == seed


def test_receipts_compare_a_map_with_the_change_of_right_minus_left(calls):
    table = maps.trial_map_receipts()
    check_fist_maps(calls, ["EEGNet", "ShallowFBCSPNet"])
    expected = itertools.product(["EEGNet", "ShallowFBCSPNet"], METHODS[1:4])
    for (decoder, method), row in zip(expected, table.itertuples(), strict=True):
        share = np.abs([missed(n, method) for n in right_of(7, (4, 8, 12))])
        assert (row.decoder, row.method, row.n_trials) == (decoder, method, 3 * (N_IN_RUN - 1))
        np.testing.assert_allclose((row.median_delta, row.max_delta), (np.median(share), share.max()), rtol=1e-6)
        assert row.n_warned == (share > xs.METHODS[method].tolerance).sum() > 0


def test_agreement_is_of_absolute_values_over_one_trial(calls):
    table = maps.trial_map_agreement().set_index(["method_a", "method_b"])
    check_fist_maps(calls, ["ShallowFBCSPNet"])
    signal = tagged.load_eegbci(7, FISTS, sfreq=80).crop(1.5, 3.5).signal
    sizes = {}
    for n in right_of(7, (4, 8, 12)):
        sizes[n] = {method: abs(map_of(n, method)).ravel() for method in METHODS}
        sizes[n]["the trial"] = abs(signal[numbers_of(7, FISTS).index(n)]).ravel()
    for a, b in itertools.product([*METHODS, "the trial"], repeat=2):
        r = [np.corrcoef(each[a], each[b])[0, 1] for each in sizes.values()]
        row = table.loc[(a, b)]
        expected = np.mean(r), *np.quantile(r, (0.025, 0.975))
        np.testing.assert_allclose((row["mean"], row["low"], row["high"]), expected, atol=1e-6)


def test_channel_maps_are_mean_sizes_beside_the_largest(calls):
    table = maps.trial_channel_maps()
    check_fist_maps(calls, ["ShallowFBCSPNet"])
    assert table["method"].unique().tolist() == METHODS
    for method, rows in table.groupby("method"):
        size = sum(abs(map_of(n, method)).sum(1) for n in right_of(7, (4, 8, 12)))
        assert rows["channel"].tolist() == list(CHANNELS)
        np.testing.assert_allclose(rows["value"], size / size.max())


@pytest.fixture
def averaged(monkeypatch):
    """Return the tables whose mean and interval a study asks for."""
    tables, mean_and_interval = [], xs.mean_and_interval
    monkeypatch.setattr(
        xs, "mean_and_interval", lambda table, *by: tables.append(table) or mean_and_interval(table, *by)
    )
    return tables


def folds_and_seeds():
    return itertools.product((0, 1, 2), PAIRS)


def check_four_class_call(entry, seed, out, method):
    """All correctly classified trials of a pair of runs, each explained for its own class."""
    assert entry["numbers"] == right_of(42, out) and entry["window"] == WINDOW
    assert list(entry["target"]) == [label_of(n) for n in entry["numbers"]]
    assert entry["method"] == method
    check_model(entry["model"], "ShallowFBCSPNet", seed, 80, numbers_of(42, set(FOUR) - set(out)))
    options = {"n_steps": 32, "tol": np.inf} if method == "integrated_gradients" else {}
    assert {key: value for key, value in entry["options"].items() if key != "seed"} == options


def test_randomisation_explains_what_is_classified_correctly(calls, averaged, monkeypatch):
    checks = []

    def test_of(name, extra):
        def test(explain, model, signal, label, how):
            explain(model, signal, label)
            numbers = numbers_in(signal)
            checks.append((name, [*how] if name == "weights" else how))
            return pd.DataFrame({"trial": range(len(numbers)), "pearson": numbers, "seed": 0, **extra})

        return test

    monkeypatch.setattr(xs, "label_randomisation_test", test_of("label", {}))
    monkeypatch.setattr(xs, "weight_randomisation_test", test_of("weights", {"level": 1, "layer": "last"}))
    table = maps.randomisation()
    expected = itertools.product(folds_and_seeds(), METHODS, ("label", "weights"))
    for ((seed, out), method, check), entry, done in zip(expected, calls, checks, strict=True):
        check_four_class_call(entry, seed, out, method)
        assert done == (check, 4 if check == "label" else [0, 1, 2, 3, 4])
    check_random_control(calls)
    # A trial has the same number in every fold and seed: its place among all trials of the subject.
    for each in averaged:
        assert [numbers_of(42, FOUR)[trial] for trial in each["trial"]] == each["pearson"].tolist()
    assert table[["check", "method", "level"]].drop_duplicates().shape[0] == len(table) == 2 * len(METHODS)
    assert (table["n_trials"] == len(right_of(42, FOUR))).all()
    np.testing.assert_allclose(table["pearson"], np.mean(right_of(42, FOUR)))


def check_random_control(calls):
    """The control never repeats itself: two maps of one draw would agree."""
    seeds = [entry["options"]["seed"] for entry in calls if entry["method"] == "random"]
    assert len(set(seeds)) == len(seeds) > 1
    assert not any("seed" in entry["options"] for entry in calls if entry["method"] != "random")


def test_scores_compare_maps_of_redrawn_weights_with_those_before(calls, averaged, monkeypatch):
    scored = []

    def randomize(model, seed, *, order):
        assert order == "at_once"
        redrawn = Network(**model.built)
        redrawn.trained, redrawn.redrawn = model.trained, seed
        return [("all", redrawn)]

    def score_maps(values, truth, *, protocol, label):
        np.testing.assert_array_equal(values, -truth)  # the maps of the redrawn network beside those before
        before, after = calls[-2:]
        assert before["model"].redrawn is None and before["numbers"] == after["numbers"]
        np.testing.assert_array_equal(truth, [map_of(n, before["method"]) for n in before["numbers"]])
        assert (protocol, list(label)) == ("randomisation", [label_of(n) for n in before["numbers"]])
        scored.append(after["model"].redrawn)
        table = pd.DataFrame({"Pearson_raw": before["numbers"], "SSIM_raw": np.ones(len(label))})
        levels = {"mean": float(len(scored)), "low": -1.0, "high": 1.0}
        table.attrs["chance"] = {"surrogate": dict.fromkeys(table, levels), "other_trial": {key: {} for key in table}}
        return table

    monkeypatch.setattr(xs, "randomize", randomize)
    monkeypatch.setattr(xs, "score_maps", score_maps)
    table = maps.scores().set_index(["method", "metric"])
    pairs = itertools.product(folds_and_seeds(), METHODS, (0, 1, 2))
    for k, ((seed, out), method, redraw) in enumerate(pairs):
        for entry in calls[2 * k : 2 * k + 2]:
            check_four_class_call(entry, seed, out, method)
        assert scored[k] == redraw
    assert len(scored) == 9 * 5 * 3 and len(calls) == 2 * len(scored)
    check_random_control(calls)
    (averages,) = averaged
    of_trial = averages.query("metric == 'Pearson_raw'")
    assert [numbers_of(42, FOUR)[trial] for trial in of_trial["trial"]] == of_trial["value"].tolist()
    for position, method in enumerate(METHODS):
        # Chance is the mean over seeds, folds and redraws of one method: the counts of `score_maps` are its stand-in.
        counts = [15 * fold + 3 * position + redraw + 1 for fold in range(9) for redraw in range(3)]
        row = table.loc[(method, "Pearson_raw")]
        np.testing.assert_allclose(row["value"], np.mean(right_of(42, FOUR)))
        assert (row["chance"], row["n_valid"]) == (pytest.approx(np.mean(counts)), len(right_of(42, FOUR)))
        assert (row["chance_low"], row["chance_high"], row["protocol"]) == (-1, 1, "randomisation")


def test_rounded_values_keep_eight_binary_digits():
    table = pd.DataFrame({"value": [1.0, -3.14159, 1e-7, 0.0, 123456.0], "kept": [0.1] * 5})
    rounded = maps.rounded(table, ["value"])
    np.testing.assert_allclose(rounded["value"], table["value"], rtol=2**-8)
    assert (rounded["kept"] == 0.1).all() and table["value"][1] == -3.14159
