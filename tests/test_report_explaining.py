"""Stages of the report that train, explain and test, on trials whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import eegxai_support as xs
from eegxai_support.decoders import train
from eegxai_support.report import decoding as stages
from eegxai_support.report.decoding import (
    Decoding,
    Fit,
    answer_kind,
    explained_by_one,
    groups_of,
    log_probability,
    train_left_out,
)
from eegxai_support.report.evidence import evidence
from eegxai_support.report.explaining import Explaining, _above_permuted, mean_share, shares, trials_to_show
from eegxai_support.report.parts import Parts, fingerprint
from eegxai_support.report.question import unchanged
from eegxai_support.report.receipts import Receipts, area_against_random

SFREQ, N_TIMES = 64.0, 64
CHANNELS = ["C3", "Cz", "C4", "Oz"]
FREQUENCIES = 8.0, 12.0, 20.0


def flicker(n_trials=36, n_classes=3, amplitude=2.0, seed=0, runs=3):
    """Noise, and at Oz a sine of the class's frequency, of random phase."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_trials) % n_classes
    times, phase = np.arange(N_TIMES) / SFREQ, rng.uniform(0, 2 * np.pi, n_trials)
    signal = 5 * rng.standard_normal((n_trials, len(CHANNELS), N_TIMES))
    wave = np.sin(2 * np.pi * np.array(FREQUENCIES)[label][:, None] * times + phase[:, None])
    signal[:, -1] += 5 * amplitude * wave
    metadata = pd.DataFrame({"subject": "s", "session": 1, "run": np.arange(n_trials) * runs // n_trials})
    names = {f"{freq:g} Hz": c for c, freq in enumerate(FREQUENCIES[:n_classes])}
    return xs.from_array(signal, SFREQ, CHANNELS, label, event_id=names, metadata=metadata)


class Power(nn.Module):
    """Power at Oz of sine and cosine of each class's frequency: what an ideal observer of `flicker` reads."""

    def __init__(self, n_classes=3):
        super().__init__()
        times = torch.arange(N_TIMES) / SFREQ
        phases = 2 * torch.pi * torch.tensor(FREQUENCIES[:n_classes])[:, None] * times
        self.waves = nn.Parameter(torch.stack([phases.sin(), phases.cos()]) / N_TIMES)

    def forward(self, x):
        return torch.einsum("pct,nt->pnc", self.waves, x[:, -1]).square().sum(0)


def decoded(trials, models, group="run"):
    fits = [Fit(model.eval(), np.arange(len(trials)), "all", seed) for seed, model in enumerate(models)]
    return Decoding(trials, lambda t: t, fits, groups_of(trials, group), "test trials", "given")


def explained(decoding, methods=("deep_lift",), n_shown=4):
    return Explaining(decoding, methods, None, trials_to_show(decoding, n_shown), seed=0)


def linear(n_classes=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(len(CHANNELS) * N_TIMES, n_classes))


@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_evidence_is_the_own_output_against_the_mean_of_the_others(n_classes):
    outputs, label = torch.randn(8, n_classes), np.arange(8) % max(2, n_classes)
    trial = torch.tensor([3, 0, 7, 7, 1, 2, 5, 4])
    found = evidence(label)(outputs, trial)
    for row, each in enumerate(trial):
        values, own = outputs[row].tolist(), int(label[each])
        if n_classes == 1:
            expected = values[0] if own else -values[0]
        else:
            expected = values[own] - np.mean([value for c, value in enumerate(values) if c != own])
        assert float(found[row]) == pytest.approx(expected, rel=1e-5)


def test_log_probabilities_of_every_kind_of_output():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for kind, outputs in {"logits": logits, "probabilities": p, "log_probabilities": np.log(p)}.items():
        assert answer_kind(outputs) == kind
        np.testing.assert_allclose(np.exp(log_probability(outputs, kind)), p, rtol=1e-6)
    assert answer_kind(p[:, :1]) == "probabilities"
    np.testing.assert_allclose(np.exp(log_probability(p[:, :1], "probabilities")), np.c_[1 - p[:, 0], p[:, 0]])
    one = np.exp(log_probability(logits[:, :1], answer_kind(logits[:, :1])))
    np.testing.assert_allclose(one[:, 1], 1 / (1 + np.exp(-logits[:, 0])))
    np.testing.assert_allclose(one.sum(1), 1)


def test_means_are_those_of_a_loop_over_trials():
    trials, models = flicker(), [linear(seed=1), linear(seed=2)]
    decoding = decoded(trials, models)
    methods = ("deep_lift", "saliency")
    tables = explained(decoding, methods).run(_no_parts())
    group = decoding.groups
    for method in methods:
        for run in np.unique(group):
            for label, name in enumerate(trials.class_names):
                rows = np.flatnonzero((group == run) & (trials.label == label))
                maps = [xs.attribute(m, trials.subset(rows), evidence(trials.label[rows]), method) for m in models]
                by_channel = np.stack([each.values.sum(2) for each in maps])
                by_time = np.stack([each.values.sum(1) for each in maps])
                size = np.abs(by_channel)
                where = {"method": method, "network": "trained", "group": run, "class": name}
                found = _rows(tables["channels"], where)
                assert list(found["channel"]) == CHANNELS
                np.testing.assert_allclose(found["value"], by_channel.mean((0, 1)), rtol=1e-4, atol=1e-6)
                np.testing.assert_allclose(found["share"], (size / size.sum(2, keepdims=True)).mean((0, 1)), rtol=1e-4)
                np.testing.assert_allclose(
                    _rows(tables["times"], where)["value"], by_time.mean((0, 1)), rtol=1e-4, atol=1e-6
                )
    shown = tables["maps"].query("method == 'saliency'").iloc[0]
    one = [xs.attribute(m, trials.subset([shown["trial"]]), 0, "saliency").values.shape for m in models]
    assert np.frombuffer(shown["map"], np.float32).size == np.prod(one[0])


def test_a_map_to_browse_is_the_mean_over_the_seeds():
    trials, models = flicker(), [linear(seed=1), linear(seed=2)]
    tables = explained(decoded(trials, models)).run(_no_parts())
    for _, row in tables["maps"].iterrows():
        one = trials.subset([row["trial"]])
        maps = [xs.attribute(m, one, evidence(one.label), "deep_lift").values[0] for m in models]
        np.testing.assert_allclose(np.frombuffer(row["map"], np.float32), np.mean(maps, 0).ravel(), atol=1e-6)


def test_the_network_with_random_weights_is_another_one():
    tables = explained(decoded(flicker(), [Power()])).run(_no_parts())
    spectra = tables["spectra"].query("method == 'deep_lift'").groupby(["network", "frequency"])["share"].mean()
    assert spectra["trained"][list(FREQUENCIES)].sum() > 0.9
    assert spectra["untrained"][list(FREQUENCIES)].sum() < 0.5


def test_the_peak_of_each_class_is_where_physics_puts_it():
    decoding = decoded(flicker(), [Power()])
    explaining = explained(decoding)
    peaks = explaining.peaks(explaining.run(_no_parts()))
    assert list(peaks["frequency"]) == list(FREQUENCIES)
    assert set(peaks["channel"]) == {"Oz"}
    assert (peaks["frequency_level"] > 0).all()


def test_without_a_difference_between_classes_a_frequency_stands_out_in_one_of_twenty():
    rng, passed = np.random.default_rng(0), 0
    true, groups = np.arange(36) % 3 == 0, np.arange(36) // 12
    for seed in range(400):
        spectrum = 10 * groups[:, None] + rng.exponential(size=(36, 20)) * np.linspace(1, 9, 20)
        observed, level = _above_permuted(spectrum, true, groups, seed)
        passed += observed.max() > level
    assert 8 <= passed <= 34  # of 400; 20 are expected, and fewer or more have a probability below 0.5 %


def test_the_pattern_of_amplitudes_is_at_the_frequencies_of_the_classes():
    trials = flicker(n_trials=120)
    tables = explained(decoded(trials, [Power()])).run(_no_parts())
    rows = tables["spectra"].query("method == 'haufe_pattern' and network == 'trained'")
    for name, freq in zip(trials.class_names, FREQUENCIES, strict=True):
        mean = rows[rows["class"] == name].groupby("frequency")["value"].mean()
        assert mean.idxmax() == freq


def test_every_group_has_a_pattern_of_its_own_trials():
    trials, model = flicker(n_trials=36), Power()
    decoding = decoded(trials, [model])
    rows = explained(decoding).run(_no_parts())["channels"].query("method == 'haufe_pattern' and network == 'trained'")
    for run in np.unique(decoding.groups):
        x = trials.signal[decoding.groups == run]
        gradients = xs.amplitude_gradients(model, x).mean(1)
        amplitude = np.abs(np.fft.rfft(x)).astype(float)
        for label, name in enumerate(trials.class_names):
            weights = gradients[label] - np.delete(gradients, label, axis=0).mean(0)
            outputs = (amplitude * weights).sum((1, 2))
            covariance = np.tensordot(outputs - outputs.mean(), amplitude, 1) / (len(x) - 1)
            found = rows[(rows["group"] == run) & (rows["class"] == name)].set_index("channel")["value"]
            np.testing.assert_allclose(found[CHANNELS], covariance.sum(1), rtol=1e-4)


def test_a_group_of_two_trials_has_no_pattern_and_ends_no_report():
    trials = flicker(n_trials=36)
    few = replace(trials, metadata=trials.metadata.assign(run=np.r_[np.zeros(34, int), 1, 1]))
    rows = explained(decoded(few, [Power()])).run(_no_parts())["channels"]
    assert rows.groupby("method")["group"].nunique().to_dict() == {"deep_lift": 2, "haufe_pattern": 1}


def test_shares_of_a_map_without_relevance_are_nan():
    found = shares(np.array([[1.0, -3.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found[0], [0.25, 0.75])
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(mean_share(found), found[0])
    assert np.isnan(mean_share(found[1:])).all()


def test_trials_to_show_take_every_group_and_class_in_turn():
    decoding = decoded(flicker(), [linear()])
    shown = trials_to_show(decoding, 9)
    assert len({(decoding.groups[i], decoding.trials.label[i]) for i in shown}) == 9
    assert len(trials_to_show(decoding, 1000)) == 36


def test_no_network_is_trained_on_the_trials_that_it_explains(tmp_path, monkeypatch):
    trials, training = flicker(n_classes=2), []

    def spied(model, given, **options):
        training.append((model, given))
        return train(model, given, epochs=1)

    monkeypatch.setattr(stages, "train", spied)
    decoding = _left_out(trials, tmp_path, seeds=[3, 4])
    assert len(decoding.fits) == len(training) == 6 and decoding.seeds == [3, 4]
    for fit, (_, given) in zip(decoding.fits, training, strict=True):
        tested = decoding.groups[fit.index]
        assert not set(tested) & set(given.metadata["run"].astype(str))
        assert len(given) + len(fit.index) == len(trials)
    assert sorted(np.concatenate([fit.index for fit in decoding.fits if fit.seed == 3])) == list(range(len(trials)))
    assert len(decoding.predictions) == 2 * len(trials)


def test_many_groups_are_left_out_several_at_a_time(tmp_path):
    trials = flicker(n_classes=2, runs=9)
    decoding = _left_out(trials, tmp_path, max_groups=3)
    assert len(decoding.folds) == 3 and "3 parts of 9 groups" in decoding.origin_text
    groups = [set(decoding.groups[fit.index]) for fit in decoding.fits]
    assert not groups[0] & groups[1] and set.union(*groups) == set(decoding.groups)


def test_weights_are_read_again_and_damaged_ones_trained_again(tmp_path, monkeypatch):
    trials = flicker(n_classes=2)
    first = _left_out(trials, tmp_path)
    path = tmp_path / "weights" / "fold2-seed0.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    calls = []
    monkeypatch.setattr(stages, "train", lambda *a, **k: calls.append(1) or train(*a, **k))
    again = _left_out(trials, tmp_path)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first.predictions, again.predictions)
    pd.testing.assert_frame_equal(first.training, again.training)


def test_other_trials_are_another_question(tmp_path):
    trials = flicker(n_classes=2)
    first = _left_out(trials, tmp_path)
    other = _left_out(replace(trials, label=1 - trials.label), tmp_path)
    assert not first.predictions["log_odds"].equals(other.predictions["log_odds"])


def test_seeds_decide_together_by_the_mean_of_their_logarithms():
    trials = flicker(n_classes=2)
    models = [linear(2, seed) for seed in range(3)]
    decoding = decoded(trials, models)
    logits = np.mean([log_probability(xs.predict(m, trials), "logits") for m in models], axis=0)
    np.testing.assert_array_equal(decoding.together["predicted"], logits.argmax(1))
    assert decoding.accuracy == xs.accuracy(trials.label, logits.argmax(1), 2)
    table = decoding.predictions
    own = np.take_along_axis(log_probability(xs.predict(models[1], trials), "logits"), trials.label[:, None], 1)[:, 0]
    rows = table[table["seed"] == 1]
    np.testing.assert_allclose(rows["p_true"], np.exp(own), rtol=1e-6)
    np.testing.assert_allclose(rows["log_odds"], np.log(np.exp(own) / (1 - np.exp(own))), rtol=1e-4)


def test_a_network_says_which_trials_it_was_trained_on():
    trials = flicker(n_classes=2)
    runs = trials.metadata["run"].to_numpy()
    model = linear(2)
    xs.train(model, trials.subset(runs < 2), epochs=1)
    decoding = explained_by_one(model, trials, None, lambda t: t, "run")
    np.testing.assert_array_equal(decoding.explained, np.flatnonzero(runs == 2))
    assert decoding.origin == "the model's record" and "24 of 36" in decoding.origin_text
    with pytest.raises(ValueError, match="All 24 trials are among those that the Sequential was trained on"):
        explained_by_one(model, trials.subset(runs < 2), None, lambda t: t, "run")
    others = explained_by_one(model, flicker(n_classes=2, seed=9), None, lambda t: t, "run")
    assert others.origin_text.startswith("None of the trials")


def test_trials_that_were_cropped_for_the_training_are_known_whole():
    trials = flicker(n_classes=2)
    window = trials.crop(trials.times[10], trials.times[54])
    options = {"filter_time_length": 9, "pool_time_length": 9, "pool_time_stride": 5}
    model = xs.build_decoder("ShallowFBCSPNet", window, seed=0, **options)
    xs.train(model, window.subset(np.arange(12)), epochs=1)
    found = explained_by_one(model, trials, None, unchanged, "run")
    assert found.explained.tolist() == list(range(12, len(trials)))
    with pytest.raises(ValueError, match="12 of 36 test trials are among those"):
        explained_by_one(model, trials, trials, unchanged, "run")


def test_where_nothing_tells_what_a_network_has_seen_the_first_line_says_so():
    decoding = explained_by_one(linear(2), flicker(n_classes=2), None, lambda t: t, "run")
    assert decoding.origin == "unknown" and decoding.origin_text.startswith("It is not known which trials")
    test = flicker(n_classes=2, n_trials=12)
    assert explained_by_one(linear(2), flicker(n_classes=2), test, lambda t: t, "run").origin == "test trials"


def test_one_group_cannot_be_left_out():
    trials = flicker(n_classes=2, runs=1)
    with pytest.raises(ValueError, match=r"All trials are of one run.*group='blocks'"):
        groups_of(trials, "run")
    with pytest.raises(ValueError, match="hand"):
        groups_of(trials, "hand")


def test_runs_of_two_subjects_are_different_groups():
    a, b = flicker(n_classes=2), flicker(n_classes=2, seed=1)
    b = replace(b, metadata=b.metadata.assign(subject="other"))
    assert len(np.unique(groups_of(xs.concatenate([a, b]), "run"))) == 6


def test_every_map_is_tested_and_random_maps_are_the_measure():
    decoding = decoded(flicker(), [Power()])
    tables = Receipts(decoding, ("deep_lift", "random"), seed=0, quick=True).run(_no_parts())
    gain = area_against_random(tables["faithfulness"]).groupby("method")["difference"].median()
    assert gain["deep_lift"] > 0.15 > abs(gain["random"])
    sanity = tables["sanity"].groupby(["method", "test"])["pearson"].median()
    assert sanity["deep_lift", "labels"] < 0.5
    assert set(tables["sanity"]["trial"]) <= set(decoding.explained)
    own = tables["robustness"].query("map == 'own' and method == 'deep_lift'")["correlation"]
    assert own.median() > 0.9


def test_an_area_against_random_is_that_of_the_curves():
    share = np.array([0.0, 0.5, 1.0])
    curves = [("own", [4.0, 0.0, 0.0]), ("surrogate", [4.0, 2.0, 0.0]), ("random", [4.0, 3.0, 0.0])]
    rows = [
        pd.DataFrame(
            {"method": "m", "map": name, "trial": 0, "target": "t", "share": share, "logit": y, "probability": y}
        )
        for name, y in curves
    ]
    # areas 1 and 2 of a loss of 4
    assert area_against_random(pd.concat(rows))["difference"].tolist() == [0.25]


def test_parts_are_read_again_only_for_the_same_question(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"numbers": pd.DataFrame({"a": [len(calls)]}), "names": pd.DataFrame({"b": ["x"]})}

    for question, more, expected in (("q", 1, 1), ("q", 1, 1), ("q", 2, 2), ("r", 1, 3), ("q", 1, 1)):
        found = Parts(tmp_path, question).frames("stage", more, compute=compute)
        assert found["numbers"]["a"].tolist() == [expected] and found["names"]["b"].tolist() == ["x"]


@pytest.mark.parametrize("harm", ["table gone", "list gone", "table damaged", "list damaged"])
def test_a_part_that_is_not_whole_is_computed_again(tmp_path, harm):
    parts = Parts(tmp_path, "q")
    parts.frames("stage", compute=lambda: {"t": pd.DataFrame({"a": [1.5]})})
    (path,) = tmp_path.glob("*.parquet" if harm.startswith("table") else "*.json")
    if harm.endswith("gone"):
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    found = parts.frames("stage", compute=lambda: {"t": pd.DataFrame({"a": [2.5]})})
    assert found["t"]["a"].tolist() == [2.5] or (harm == "list damaged" and _is_json(path))


def test_every_change_of_the_trials_changes_their_fingerprint():
    trials = flicker(n_classes=2)
    signal = trials.signal.copy()
    signal[3, 1, 7] = np.nextafter(signal[3, 1, 7], 0)
    others = [
        replace(trials, signal=signal),
        replace(trials, label=1 - trials.label),
        replace(trials, unit="standardised"),
        replace(trials, tmin=0.5),
        replace(trials, class_names=("x", "y")),
        replace(trials, metadata=trials.metadata.assign(run=trials.metadata["run"] + 1)),
        trials.pick(CHANNELS[::-1]),
    ]
    assert len({fingerprint(each) for each in [trials, *others]}) == len(others) + 1
    assert fingerprint(flicker(n_classes=2)) == fingerprint(trials)


def _is_json(path):
    try:
        return isinstance(json.loads(path.read_text()), list)
    except ValueError:
        return False


def _rows(table, where):
    return table[np.logical_and.reduce([table[column] == value for column, value in where.items()])]


def _no_parts():
    class Nothing:
        def frames(self, *key, compute):
            return compute()

    return Nothing()


def _left_out(trials, folder, *, seeds=(0,), max_groups=5):
    return train_left_out(
        "InterpretableCNN", trials, lambda t: t, groups_of(trials, "run"), seeds=list(seeds), epochs=1,
        max_groups=max_groups, folder=folder / "weights", parts=Parts(folder / ".parts", "q"),
    )  # fmt: skip
