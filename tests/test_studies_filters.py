"""Study of filters: tables of tiny simulated trials against what is worked out here, trial by trial."""

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_studies import CHANNELS, by_crops, calls_of, number

import eegxai_support as xs
from studies import filters

TRAINED, TESTED = (3, 7, 11, 8, 12), (4,)
KERNELS = {10: "mu", 20: "beta", 12: "mu", 34: None, 16: "beta"}  # Hz: the band of a unit that peaks there


def known_filters(model, layers=None, sfreq=None):
    """Five units, each with a kernel of one frequency; the third reads two kernels, so that a part of it is lost."""
    t = np.arange(80) / 80
    kernels = np.array([np.cos(2 * np.pi * f * t) for f in KERNELS])
    spatial = np.random.default_rng(0).normal(size=(5, len(CHANNELS)))[:, None] * np.eye(5)[..., None]
    spatial[2, 3] = np.roll(spatial[2, 2], 1) / 5
    return xs.Filters(kernels, spatial, 80.0, "units")


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [(np.cos(2 * np.pi * 10 * np.arange(64) / 80), 10), (np.ones(64), 0), ((-1.0) ** np.arange(64), 40)],
)
def test_a_unit_peaks_at_the_frequency_of_its_kernel(kernel, expected):
    read = xs.Filters(kernel[None], np.ones((1, 1, 2)), 80.0, "units")
    assert filters.peak_frequency(read) == pytest.approx([expected], abs=80 / 512)


@pytest.fixture
def motor(recordings, monkeypatch):
    monkeypatch.setattr(xs, "read_filters", known_filters)
    return recordings


def test_decoders_of_motor_imagery_leave_out_the_first_imagined_run_and_are_scored_there(motor, monkeypatch):
    predicted = calls_of(monkeypatch, "predict")
    calls_of(monkeypatch, "match_patterns", lambda *_: pd.DataFrame())  # which takes long and is not the question here
    table = filters.filter_matches(subjects=(7, 42), networks=("EEGNet", "ShallowFBCSPNet"), seeds=(0, 3))
    keys = [(s, n, seed) for s in (7, 42) for n in ("EEGNet", "ShallowFBCSPNet") for seed in (0, 3)]
    assert [*table.groupby(["subject", "decoder", "seed"], sort=False).groups] == keys
    assert len(motor.trained) == len(predicted) == len(keys)
    for (subject, name, seed), model, call in zip(keys, motor.trained, predicted, strict=True):
        assert model.numbers == number(subject, TRAINED)
        assert type(model).__name__ == name
        assert model.options == {"epochs": 60, "seed": seed, "cache": True}
        assert model.shape[2] == 240 and model.n_times == 160  # 3 s at 80 Hz, in crops of 2 s
        assert call.args[0] is model and set(motor.numbers(call.args[1])) == number(subject, TESTED)
        of = table.query("subject == @subject and decoder == @name and seed == @seed")
        right = by_crops(model, call.args[1]).argmax(1) == [0, 1, 0, 1]
        assert of["accuracy"].unique() == [right.mean()]
    alike = [model for key, model in zip(keys, motor.trained, strict=True) if key[1] == "EEGNet" and key[0] == 7]
    assert not torch.equal(*(model.conv_spatial.weight for model in alike))  # seeds give other initial weights


def test_patterns_are_compared_with_csp_of_the_same_band_and_the_training_trials(motor, monkeypatch):
    reference = np.random.default_rng(1).normal(size=(2, 2, 4, len(CHANNELS)))  # class, band, component, channel
    fitted = calls_of(monkeypatch, "filter_bank_csp", lambda *args: xs.FilterBankCSP(reference, None, None))
    patterns = np.random.default_rng(2).normal(size=(5, len(CHANNELS)))
    made, matched = (
        calls_of(monkeypatch, "filter_patterns", lambda *_: patterns),
        calls_of(monkeypatch, "match_patterns"),
    )
    table = filters.filter_matches(subjects=(7,), networks=("EEGNet",), seeds=(0,))
    (csp,), (read,) = fitted, made
    assert set(csp.args[0].metadata["number"]) == set(read.args[1].metadata["number"]) == number(7, TRAINED)
    assert csp.args[1] == {"mu": (7, 13), "beta": (13, 30)}
    for (b, band), call, (_, row) in zip(enumerate(("mu", "beta")), matched, table.iterrows(), strict=True):
        units = [u for u, known in enumerate(KERNELS.values()) if known == band]
        np.testing.assert_array_equal(call.args[0], patterns[units])
        np.testing.assert_array_equal(call.args[1], reference[1, b])  # of the right fist, the second class
        low, high = {"mu": (7, 13), "beta": (13, 30)}[band]
        seen = motor.load_eegbci(7, TRAINED, sfreq=80).signal.astype(float)
        each = [mne.filter.filter_data(trial, 80, low, high, verbose="ERROR") for trial in seen]
        mean = np.mean([trial.mean(1) for trial in each], axis=0)
        covariance = sum((trial - mean[:, None]) @ (trial - mean[:, None]).T for trial in each)
        np.testing.assert_allclose(call.args[2], covariance / (len(seen) * seen.shape[2] - 1), rtol=1e-6)
        assert (row["band"], row["n_units"]) == (band, 2)
        assert row[["correlation", "chance", "p_value"]].to_dict() == call.result.attrs
    share = [1 / (1 + 1 / 25) if u == 2 else 1 for u in range(5)]  # the part of the third unit that is no outer product
    assert table["share"].to_numpy() == pytest.approx(np.mean(share), abs=0.02)


def test_a_band_in_which_no_unit_peaks_has_no_match(motor, monkeypatch):
    monkeypatch.setattr(filters, "BANDS", {"beta": (13, 30), "none": (21, 24)})
    table = filters.filter_matches(subjects=(7,), networks=("EEGNet",), seeds=(0,)).set_index("band")
    assert table["n_units"].to_dict() == {"beta": 2, "none": 0}
    assert table["correlation"].notna().to_dict() == {"beta": True, "none": False}


def test_units_are_ablated_on_the_window_of_the_run_left_out(motor, monkeypatch):
    def ablate(model, trials, layer):
        return pd.DataFrame({"unit": range(-1, 5), "accuracy": 0.5, "drop": range(6)})

    ablated = calls_of(monkeypatch, "ablate_units", ablate)
    table = filters.filter_ablation(subjects=(7, 42), networks=("EEGNet",), seeds=(0, 1))
    assert [(m.numbers, m.options["seed"]) for m in motor.trained] == [
        (number(s, TRAINED), seed) for s in (7, 42) for seed in (0, 1)
    ]
    for model, call in zip(motor.trained, ablated, strict=True):
        given, trials, layer = call.args
        assert given is model and layer == "units"
        assert set(trials.metadata["number"]) == number(trials.metadata["subject"].iloc[0], TESTED)
        np.testing.assert_allclose(trials.times[[0, -1]], [1.5, 3.5 - 1 / 80])
    first = table.query("subject == 42 and seed == 1").set_index("unit")
    assert first["drop"].to_dict() == {unit: unit + 1 for unit in range(-1, 5)}
    assert np.isnan(first.loc[-1, "frequency"]) and np.isnan(first.loc[-1, "share"])
    np.testing.assert_allclose(first.loc[0:, "frequency"], [*KERNELS], atol=80 / 512 + 0.5)  # half a bin of a kernel
    assert first["share"].idxmin() == 2
