"""Study of the frequency domain: maps of linear networks by hand, folds, permutations within runs, jackknife."""

from itertools import permutations, product

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.signal import welch
from scipy.stats import pearsonr
from scipy.stats import t as student_t
from tiny_studies import CHANNELS, calls_of, gradients, linear_decoders, logits, number

import eegxai_support as xs
from studies import frequency

SEEDS = (0, 4)
FREQS = np.fft.rfftfreq(160, 1 / 80)
PAIRS = np.where((FREQS == 0) | (FREQS == 40), 1, 2) / 160
FILTER_BANK = {"8-12 Hz": (8, 12), "12-16 Hz": (12, 16), "28-32 Hz": (28, 32)}  # fewer than the study's, to be quick
BANDS = {"mu": (7, 13), "beta": (14, 30), **FILTER_BANK}
FOLDS = {"S007 fists": [(4,), (8,), (12,)], "S042 fists": [(4,), (8,), (12,)],
         "S042 four classes": [(4, 6), (8, 10), (12, 14)]}  # fmt: skip
FISTS = (3, 7, 11, 4, 8, 12)


@pytest.fixture
def study(recordings, monkeypatch):
    linear_decoders(monkeypatch)
    monkeypatch.setattr(frequency, "rounded", lambda table, _: table)
    monkeypatch.setattr(frequency, "FILTER_BANK", FILTER_BANK)
    with joblib.parallel_config(backend="sequential"):
        yield recordings


def subject_of(name: str) -> int:
    return int(name[1:4])


def imagined(study, name: str, **window) -> xs.Trials:
    """Return the imagined trials of a data set in the order of its runs."""
    runs = (4, 8, 12) if "fists" in name else (4, 8, 12, 6, 10, 14)
    return study.load_eegbci(subject_of(name), runs, sfreq=80, **window)


def fold_of(trials: xs.Trials, name: str) -> np.ndarray:
    return np.array([[run in runs for runs in FOLDS[name]].index(True) for run in trials.metadata["run"]])


def in_bands(values, bands):
    return np.stack([values[..., (FREQS >= low) & (FREQS <= high)].mean(-1) for low, high in bands.values()], axis=-1)


def expected_parts(study, name: str, combine=None) -> dict[str, np.ndarray]:
    """Return what each trial adds to the maps, (trial, output, channel, freq), by networks that have not seen it."""
    trials, models = imagined(study, name, tmin=1.5, tmax=3.5), iter(models_of(study, name))
    x, fold, n = trials.signal.astype(float), fold_of(trials, name), trials.n_classes
    combine = np.eye(n) - 1 / n if combine is None else combine
    parts = {
        kind: np.zeros((len(x), len(combine), len(CHANNELS), 81)) for kind in ("gradient", "first_order", "pattern")
    }
    for _ in SEEDS:
        for k in range(3):
            own = x[fold == k]
            spectrum = np.fft.rfft(own)
            gradient = np.einsum("ok, ktcs -> otcs", combine, gradients(next(models), own))
            along = PAIRS * np.real(np.exp(-1j * np.angle(spectrum)) * np.fft.rfft(gradient))
            size = [np.sqrt(np.mean([(trial**2).sum() for trial in output])) for output in along]
            amplitude = np.abs(spectrum) - np.abs(spectrum).mean(0)
            for o, output in enumerate(along):
                read = np.array([(output.mean(0) * trial).sum() for trial in amplitude])
                read /= np.sqrt(np.mean((read - read.mean()) ** 2))
                parts["gradient"][fold == k, o] += output / len(SEEDS)
                parts["first_order"][fold == k, o] += output / size[o] / len(SEEDS)
                parts["pattern"][fold == k, o] += read[:, None, None] * amplitude / len(SEEDS)
    return parts


def models_of(study, name: str) -> list:
    """Return the networks of a data set, by seed and then by fold."""
    n = 4 if "four" in name else 2
    return [m for m in study.trained if {k // 1000 for k in m.numbers} == {subject_of(name)} and len(m.weight) == n]


def power(x, bands) -> np.ndarray:
    freqs, density = welch(x, 80, nperseg=80)
    return np.stack([density[..., (freqs >= low) & (freqs <= high)].mean(-1) for low, high in bands.values()], axis=-1)


def erd(study, name: str, bands, chosen=slice(None), label=None) -> np.ndarray:
    """Return the change of power in percent from 2 s before the cue to the window, (class, channel, band)."""
    trials, maps = imagined(study, name, tmin=-2.0, tmax=4.0), []
    label = trials.label if label is None else label
    for k in range(trials.n_classes):
        own = trials.signal[chosen][label[chosen] == k].astype(float)
        maps.append(power(own[..., 280:440], bands).mean(0) / power(own[..., :160], bands).mean(0))  # from 1.5 s
    return 100 * (np.array(maps) - 1)


def contrast(maps: np.ndarray) -> np.ndarray:
    return np.array([own - np.mean(np.delete(maps, k, axis=0), axis=0) for k, own in enumerate(maps)])


def test_decoders_are_trained_without_the_imagined_runs_that_they_explain(study, monkeypatch):
    explained = calls_of(monkeypatch, "amplitude_gradients")
    for name in FOLDS:
        frequency._network_parts(name, SEEDS, BANDS)
    calls, trained = iter(explained), iter(study.trained)
    for name, folds in FOLDS.items():
        runs = FISTS if "fists" in name else (4, 8, 12, 6, 10, 14)
        for seed, left_out in product(SEEDS, folds):
            model, call = next(trained), next(calls)
            assert model.numbers == number(subject_of(name), set(runs) - set(left_out))
            assert call.args[0][0] is model
            assert set(study.numbers(call.args[1])) == number(subject_of(name), left_out)
            assert model.options == {"epochs": 60 if "fists" in name else 80, "seed": seed, "cache": True}
            assert model.shape[2] == 240 and call.args[1].shape[2] == model.n_times == 160
            own = imagined(study, name, tmin=1.5, tmax=3.5)
            own = own.subset(own.metadata["run"].isin(left_out).to_numpy())
            np.testing.assert_array_equal(call.args[1], own.signal)


@pytest.mark.parametrize("name", ["S007 fists", "S042 four classes"])
def test_maps_are_those_of_networks_that_have_not_seen_the_trials(study, monkeypatch, name):
    monkeypatch.setattr(frequency, "DATA_SETS", {name: frequency.DATA_SETS[name]})
    perturbed = calls_of(monkeypatch, "amplitude_perturbation")
    table = frequency.frequency_maps(seeds=SEEDS)
    parts = expected_parts(study, name)
    maps = {kind: in_bands(values.mean(0), BANDS) for kind, values in parts.items()}
    own = imagined(study, name, tmin=1.5, tmax=3.5)
    for k, call in enumerate(perturbed):
        assert set(study.numbers(call.args[1])) == set(own.metadata["number"][fold_of(own, name) == k % 3])
        assert call.args[0][0].numbers.isdisjoint(study.numbers(call.args[1]))
        assert call.kwargs == {"n_iterations": 100, "seed": SEEDS[k // 3]}
    assert len(perturbed) == 6
    maps["perturbation"] = in_bands(
        np.moveaxis(np.mean([c.result.correlation for c in perturbed], axis=0), 2, 0), BANDS
    )
    maps["erd"] = erd(study, name, BANDS)
    maps["erd_contrast"] = contrast(maps["erd"])
    maps["fbcsp"] = xs.filter_bank_csp(own, BANDS).contrast
    assert set(table["kind"]) == set(maps) and set(table["data_set"]) == {name}
    for kind, values in maps.items():
        found = table[table["kind"] == kind].set_index(["class_name", "channel", "band"])["value"]
        expected = [values[k, c, b] for k, c, b in np.ndindex(values.shape)]
        keys = product(own.class_names, CHANNELS, BANDS)
        scale = np.abs(values).max()
        np.testing.assert_allclose(found.loc[[*keys]], expected, rtol=1e-3, atol=1e-4 * scale, err_msg=kind)


def maps_of(study, name, parts, chosen, label) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Return both maps of each comparison, of some of the trials with these labels."""
    own = imagined(study, name, tmin=1.5, tmax=3.5)
    own = xs.Trials(own.signal, own.unit, label, own.info, own.class_names, own.metadata, tmin=own.tmin).subset(chosen)
    shown = {"erd_contrast": contrast(erd(study, name, FILTER_BANK, chosen, label))}
    shown["fbcsp"] = xs.filter_bank_csp(own, FILTER_BANK).contrast
    network = {kind: in_bands(parts[kind][chosen].mean(0), FILTER_BANK) for kind in ("first_order", "pattern")}
    return {(kind, name): (network[kind], shown[name]) for kind, name in product(network, shown)}


def correlations(study, name, parts, groups, label) -> dict[tuple, float]:
    """Return the correlation of each comparison and class, mean over groups of trials."""
    r = {}
    names = imagined(study, name).class_names
    for group in groups:
        for key, (network, shown) in maps_of(study, name, parts, group, label).items():
            for k, class_name in enumerate(names):
                r.setdefault((*key, class_name), []).append(np.corrcoef(network[k].ravel(), shown[k].ravel())[0, 1])
            r.setdefault((*key, "all"), []).append(np.corrcoef(network.ravel(), shown.ravel())[0, 1])
    return {key: np.mean(values) for key, values in r.items()}


def test_comparisons_have_unseen_folds_a_null_within_runs_and_a_jackknife(study, monkeypatch):
    name, made = "S007 fists", []
    compute = frequency._correlations

    def noted(parts, recording, groups):
        made.append(recording.label)
        return compute(parts, recording, groups)

    monkeypatch.setattr(frequency, "_correlations", noted)
    monkeypatch.setattr(frequency, "DATA_SETS", {name: frequency.DATA_SETS[name]})
    table = frequency.map_comparison(seeds=SEEDS, n_permutations=5).set_index(["kind", "measured", "class_name"])
    parts, trials = expected_parts(study, name), imagined(study, name)
    label, run, fold = trials.label, trials.metadata["run"].to_numpy(), fold_of(trials, name)
    everything, folds = np.arange(len(label)), [np.flatnonzero(fold == k) for k in range(3)]

    permuted = [each for each in made if len(each) == len(label) and not np.array_equal(each, label)]
    assert 3 <= len(permuted) <= 5  # one in six may be the same by chance: there are four trials in a run
    assert all(np.bincount(each[run == r]).tolist() == [2, 2] for each in permuted for r in (4, 8, 12))
    assert len({tuple(each) for each in permuted}) > 1
    null = [correlations(study, name, parts, folds, each) for each in permuted]

    r, unseen = (correlations(study, name, parts, groups, label) for groups in ([everything], folds))
    null += [unseen] * (5 - len(permuted))
    # Every tenth of the trials, sorted by class, so that each group takes from both.
    rank = [i for k in (0, 1) for i in everything if label[i] == k]
    left_out = [sorted(i for place, i in enumerate(rank) if place % 10 != k) for k in range(10)]
    jackknifed = [correlations(study, name, parts, [np.array(kept)], label) for kept in left_out]
    assert {*table.index} == {*r}
    for key, row in table.iterrows():
        assert row["r"] == pytest.approx(r[key], abs=1e-3)
        assert row["r_unseen"] == pytest.approx(unseen[key], abs=1e-3)
        z = [np.arctanh(each[key]) for each in jackknifed]
        error = np.sqrt(9 / 10 * sum((each - np.mean(z)) ** 2 for each in z))
        reach = student_t.ppf(0.975, 9) * error
        found = row[["low", "high"]].tolist()
        assert found == pytest.approx([np.tanh(np.arctanh(r[key]) + sign * reach) for sign in (-1, 1)], abs=5e-3)
        drawn = [each[key] for each in null]
        assert row["p_value"] == (1 + sum(abs(each) >= abs(unseen[key]) - 1e-6 for each in drawn)) / 6
        expected = np.percentile(drawn, [2.5, 97.5])
        assert row[["chance_low", "chance_high"]].tolist() == pytest.approx(expected, abs=1e-3)


def test_values_are_permuted_within_runs_and_every_order_is_as_likely():
    run = np.array([2, 1, 2, 1, 2, 3])
    values, rng, seen = np.arange(6), np.random.default_rng(0), {}
    for _ in range(3000):
        found = frequency._permuted(values, run, rng)
        for r in (1, 2, 3):
            assert sorted(found[run == r]) == [*values[run == r]]
        seen[tuple(found[run == 2])] = seen.get(tuple(found[run == 2]), 0) + 1
    assert {*seen} == {*permutations((0, 2, 4))}
    assert all(abs(n - 500) < 4 * np.sqrt(500 * 5 / 6) for n in seen.values())


def test_a_correlation_within_runs_knows_nothing_of_what_differs_between_runs():
    rng, run = np.random.default_rng(0), pd.Series([1, 1, 1, 1, 2, 2, 2, 2])
    a, b = pd.Series(rng.normal(size=8) + 10 * run), pd.Series(rng.normal(size=8) - 10 * run)
    r, p_value = frequency._correlation_within_runs(a, b, run)
    centred = [values - np.repeat(values.to_numpy().reshape(2, 4).mean(1), 4) for values in (a, b)]
    assert r == pytest.approx(pearsonr(*centred)[0])
    orders = [np.r_[one, other] for one, other in product(permutations(range(4)), permutations(range(4, 8)))]
    null = [np.corrcoef(centred[0], centred[1].to_numpy()[order])[0, 1] for order in orders]
    exact = np.mean(np.abs(null) >= abs(r) - 1e-12)
    assert p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 1e-4)
    shifted = frequency._correlation_within_runs(a + 3 * run, b - 7 * run, run)
    assert shifted == pytest.approx((r, p_value), abs=2e-2)


def sign_flips(values) -> float:
    """Return the two-sided p-value of a mean when every sign may be flipped, by all of them."""
    means = np.array([np.mean(np.array(signs) * values) for signs in product((-1, 1), repeat=len(values))])
    low, high = ((means <= np.mean(values) + 1e-9).mean(), (means >= np.mean(values) - 1e-9).mean())
    return min(1, 2 * min(low, high))


@pytest.mark.parametrize("name", ["S007 fists", "S042 four classes"])
def test_lateralisation_is_of_c3_minus_c4_for_right_minus_left(study, monkeypatch, name):
    monkeypatch.setattr(frequency, "DATA_SETS", {name: frequency.DATA_SETS[name]})
    table = frequency.lateralisation(seeds=SEEDS).set_index(["seed", "fold", "quantity"])
    own = imagined(study, name, tmin=1.5, tmax=3.5)
    alpha, fold, run = {"alpha": (7, 14)}, fold_of(own, name), own.metadata["run"].to_numpy()
    combine = np.array([[-1, 1, 0, 0][: own.n_classes]])
    logged = np.log(power(own.signal.astype(float), alpha))[..., 0]
    size, models = logged[:, 0] - logged[:, 1], models_of(study, name)
    by_trial = {kind: values[:, 0, 0] - values[:, 0, 1]
                for kind, parts in expected_parts(study, name, combine).items()
                for values in [in_bands(parts, alpha)[..., 0]]}  # fmt: skip
    out = np.mean(
        [[right_minus_left(models[3 * s + fold[i]], own.signal[i]) for i in range(len(own))] for s in (0, 1)], axis=0
    )
    chosen = np.arange(len(own))
    check_lateral(table.loc["all", "all"], by_trial, out, size, own.label, run, chosen)
    assert {*table.index.droplevel(2)} == {("all", "all"), *product(("0", "4"), "123")}
    for s, k in product((0, 1), range(3)):
        group, only = np.flatnonzero(fold == k), [right_minus_left(models[3 * s + k], trial) for trial in own.signal]
        rows = table.loc[str(SEEDS[s]), str(k + 1)]
        n_trials = dict.fromkeys(("first_order", "pattern", "output"), len(group))
        assert rows["n_trials"].to_dict() == n_trials | {"recording": sum(own.label[group] < 2)}
        r = within_runs(size[group], np.array(only)[group], run[group])
        assert rows.loc["output", "value"] == pytest.approx(r, abs=1e-3)


def right_minus_left(model, trial) -> float:
    left, right = logits(model, trial[None])[0, :2]
    return right - left


def within_runs(a, b, run) -> float:
    a, b = np.array(a, float), np.array(b, float)
    for r in np.unique(run):
        a[run == r] -= a[run == r].mean()
        b[run == r] -= b[run == r].mean()
    return pearsonr(a, b)[0]


def check_lateral(rows, by_trial, out, size, label, run, chosen) -> None:
    for kind in ("first_order", "pattern"):
        values = by_trial[kind][chosen]
        assert rows.loc[kind, "value"] == pytest.approx(values.mean(), rel=1e-2, abs=1e-4 * np.abs(values).max())
        if len(values) <= 12:
            assert rows.loc[kind, "p_value"] == pytest.approx(sign_flips(values), abs=2e-3)
    assert rows.loc["output", "value"] == pytest.approx(within_runs(size, out, run), abs=1e-3)
    fists = label < 2
    assert rows.loc["recording", "value"] == pytest.approx(within_runs(size[fists], label[fists], run[fists]), abs=1e-4)
    assert rows.loc["recording", "n_trials"] == fists.sum()
    assert ((rows["p_value"] > 0) & (rows["p_value"] <= 1)).all()
