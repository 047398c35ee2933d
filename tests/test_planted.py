"""Sources planted in real trials: nothing of the trials is changed, nothing of their classes is left."""

import warnings
from dataclasses import replace
from itertools import pairwise

import mne
import numpy as np
import pandas as pd
import pytest
import scipy
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

import eegxai_support as xs
from eegxai_support.simulate.noise import EstimatedNoise

CHANNELS = ("F3", "F4", "C3", "Cz", "C4", "Pz", "O1", "O2")
SILENT = -200.0  # dB


@pytest.fixture(scope="module")
def background():
    """Trials with two classes of their own that alpha at O1 tells apart, in three runs of 20, 17 and 11 trials."""
    rng, run = np.random.default_rng(0), np.repeat([1, 2, 3], [20, 17, 11])
    label = np.concatenate([rng.permutation(np.arange(n) % 2) for n in (20, 17, 11)])
    times = np.arange(160) / 160 + 0.5
    signal = 10 * rng.standard_normal((48, 8, 160))
    signal[:, 6] += 40 * label[:, None] * np.sin(2 * np.pi * 10 * times + rng.uniform(0, 6, (48, 1)))
    signal -= signal.mean(1, keepdims=True)
    metadata = pd.DataFrame({"subject": 4, "session": 2, "run": run, "onset": np.arange(48) * 2.5})
    names = {"ch_names": list(CHANNELS), "event_id": {"rest": 0, "alpha": 1}}
    return xs.from_array(signal, 160, names.pop("ch_names"), label, metadata=metadata, unit="uV", tmin=0.5, **names)


def planted(background, regime="spatial", **options):
    defaults = {"temporal": {"source": "Pz"}, "spatial": {"sources": ("C3", "C4")}, "suppressor": {"suppressor": "O2"}}
    return xs.simulate(regime, background=background, **defaults.get(regime, {}) | options)


@pytest.mark.parametrize("regime", ["temporal", "spectral", "spatial"])
def test_what_is_not_source_is_the_background(background, regime):
    before = background.signal.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the recording has the whole band
        trials = planted(background, regime, seed=3)
    np.testing.assert_allclose(trials.signal - trials.truth, background.signal, atol=2e-5)
    np.testing.assert_array_equal(background.signal, before)
    assert trials.info["ch_names"] == list(CHANNELS) and trials.sfreq == 160 and trials.unit == "uV"
    np.testing.assert_array_equal(trials.times, background.times)
    classes = np.array(background.class_names)[background.label]
    pd.testing.assert_frame_equal(trials.metadata, background.metadata.assign(background_class=classes))
    again = planted(background, regime, seed=3)
    np.testing.assert_array_equal(trials.signal, again.signal)
    assert not np.array_equal(planted(background, regime, seed=4).label, trials.label)


def test_a_source_is_where_and_when_it_is_in_simulated_trials(background):
    options = {"sources": ("C3", "C4"), "seed": 0}
    real = planted(background, **options)
    made = xs.simulate("spatial", ch_names=CHANNELS, sfreq=160, tmin=0.5, n_trials=8, **options)
    for k in range(2):
        one, other = (trials.truth[trials.label == k][0] for trials in (real, made))
        np.testing.assert_allclose(one / np.abs(one).max(), other / np.abs(other).max(), atol=1e-6)


@pytest.mark.parametrize("snr_db", [-7.0, 3.0])
def test_the_ratio_is_that_of_the_background_measured(background, snr_db):
    trials = planted(background, snr_db=snr_db)
    noise = background.signal.astype(float)
    variance = noise.transpose(1, 0, 2).reshape(8, -1).var(axis=1)
    support = np.abs(trials.truth) >= 0.05 * np.abs(trials.truth).max(axis=(1, 2), keepdims=True)
    # Both classes have the same support of time; a mean over classes, as the definition has it, is one over trials here
    # only where classes are equally many: so over one trial of each.
    one = [np.flatnonzero(trials.label == k)[0] for k in range(2)]
    power = np.square(trials.truth[one], dtype=float)[support[one]].mean()
    under = np.broadcast_to(variance[:, None], trials.truth.shape[1:])[None].repeat(2, axis=0)[support[one]].mean()
    assert 10 * np.log10(power / under) == pytest.approx(snr_db, abs=1e-3)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_new_labels_are_as_independent_of_run_and_old_class_as_can_be(background, n_classes):
    for seed in range(5):
        sources = ("C3", "C4", "Cz", "Pz")[:n_classes]
        order = np.random.default_rng(seed).permutation(48) if seed else np.arange(48)
        trials = planted(background.subset(order), sources=sources, seed=seed)
        strata = pd.crosstab([trials.metadata["run"], trials.metadata["background_class"]], trials.label)
        runs = pd.crosstab(trials.metadata["run"], trials.label)
        for table in (strata, runs, pd.DataFrame([np.bincount(trials.label)])):
            assert table.shape[1] == n_classes
            assert (table.max(axis=1) - table.min(axis=1)).max() <= 1


def test_nothing_of_the_old_classes_is_left_in_the_new_ones(background):
    """Over 20 draws, the old classes are decoded from log-power and the new ones are not."""
    power = np.log(background.signal.var(axis=2))
    run = background.metadata["run"].to_numpy()

    def decoded(label):
        model = LinearDiscriminantAnalysis()
        return (cross_val_predict(model, power, label, groups=run, cv=LeaveOneGroupOut()) == label).mean()

    assert decoded(background.label) > 0.9
    found = [decoded(planted(background, snr_db=SILENT, seed=seed).label) for seed in range(20)]
    half = scipy.stats.t.ppf(0.975, 19) * np.std(found, ddof=1) / np.sqrt(20)
    assert abs(np.mean(found) - 0.5) < half + 1 / 48  # labels that are balanced lean to the other side by one trial


def test_fewer_trials_keep_the_share_of_each_run_and_class(background):
    trials = planted(background, n_trials=24, seed=1)
    before = pd.crosstab(background.metadata["run"], background.label).to_numpy() / 2
    found = pd.crosstab(trials.metadata["run"], trials.metadata["background_class"]).to_numpy()
    assert len(trials) == 24 and np.abs(found - before[:, ::-1]).max() <= 1  # columns by name: alpha, rest
    rows = [np.flatnonzero((background.metadata["onset"] == onset).to_numpy())[0] for onset in trials.metadata["onset"]]
    assert all(a < b for a, b in pairwise(rows))
    np.testing.assert_allclose(trials.signal - trials.truth, background.signal[rows], atol=2e-5)
    with pytest.raises(ValueError, match=r"49 trials in a background of 48; expected .* both sides of a split"):
        planted(background, n_trials=49)


def test_a_suppressor_holds_the_shared_noise_and_nothing_of_the_recording(background):
    trials = planted(background, "suppressor", shared_rms=50.0, snr_db=-20)
    rest = trials.signal - trials.truth
    shared = rest[:, 7]
    assert np.corrcoef(shared.ravel(), background.signal[:, 7].ravel())[0, 1] == pytest.approx(0, abs=0.05)
    others = rest[:, :7] - background.signal[:, :7]
    for channel in range(7):
        gain = (others[:, channel] * shared).sum() / (shared**2).sum()
        assert np.abs(others[:, channel] - gain * shared).max() < 1e-3
    assert shared.std() == pytest.approx(50, rel=0.2) and not trials.truth[:, 7].any()


def test_the_law_of_noise_that_is_known_is_estimated():
    """Of simulated noise covariance and spectra are known, and with them the best decoder."""
    options = {"sources": ("C3", "C4"), "snr_db": -12}
    made = xs.simulate("spatial", n_trials=400, ch_names=CHANNELS, sfreq=160, seed=1, **options)
    background = replace(made, signal=made.signal - made.truth, truth=None)
    found = EstimatedNoise.of(background.signal, 160.0)
    known = made.scenario.noise
    cov, truth = (noise.axes * noise.spectrum.mean(axis=1) @ noise.axes.T for noise in (found, known))
    assert np.linalg.norm(cov - truth) < 0.05 * np.linalg.norm(truth)
    np.testing.assert_allclose(found.channel_variance, background.signal.var(axis=(0, 2)), rtol=1e-4)
    trials = xs.simulate("spatial", background=background, seed=2, **options)
    assert trials.planted and not made.planted
    best = replace(trials.scenario, noise=known).log_likelihood(trials.signal).argmax(1)
    near = trials.estimated_log_likelihood().argmax(1)
    assert (best == near).mean() > 0.97 and 0.6 < (best == trials.label).mean() < 1
    with pytest.raises(ValueError, match=r"planted in a recording.*estimated_log_likelihood"):
        _ = trials.ideal_accuracy
    with pytest.raises(ValueError, match="law of a simulated background is known"):
        made.estimated_log_likelihood()
    with pytest.raises(ValueError, match="as they were drawn"):
        trials.crop(0.2, 0.8).estimated_log_likelihood()


def test_artefacts_come_on_top(background):
    trials = planted(background, blink_rate=1.0, muscle_rate=1.0, n_trials=48)
    rest = trials.signal - trials.truth - background.signal
    assert trials.artefacts and np.abs(rest).max() > 20
    with pytest.raises(ValueError, match="as they were drawn"):
        trials.estimated_log_likelihood()


def test_channels_keep_the_names_that_the_recording_gives_them(background):
    names = {name: f"EEG {name}-Ref" for name in CHANNELS}
    info = background.info.copy()
    mne.rename_channels(info, names)
    other = replace(background, info=info)
    trials = planted(other, "suppressor")
    assert trials.info.ch_names == list(names.values()) and trials.suppressor == "EEG O2-Ref"
    np.testing.assert_array_equal(trials.signal, planted(background, "suppressor").signal)


def test_a_background_without_classes_or_unit_will_do(background):
    unlabelled = replace(background, label=None, class_names=())
    trials = planted(unlabelled)
    assert (
        "background_class" not in trials.metadata
        and pd.crosstab(trials.metadata["run"], trials.label).diff(axis=1)[1].abs().max() <= 1
    )
    scaled = background.standardise()
    trials = planted(scaled, snr_db=0)
    assert trials.unit == "standardised" and 0.1 < np.abs(trials.truth).max() < 10
    assert trials.estimated_log_likelihood().shape == (48, 2)
    with pytest.raises(ValueError, match="blink_rate in a background whose unit is 'standardised'"):
        planted(scaled, blink_rate=0.1)
    with pytest.raises(ValueError, match="a suppressor in a background whose unit is 'standardised'"):
        planted(scaled, "suppressor")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sfreq": 250.0}, "sfreq beside a background; expected the background alone"),
        ({"ch_names": CHANNELS}, "ch_names beside a background"),
        ({"n_trials": 0}, "0 trials in a background of 48"),
        ({"snr_db": np.inf}, "snr_db is inf"),
    ],
)
def test_what_the_background_decides_is_refused(background, options, message):
    with pytest.raises(ValueError, match=message):
        planted(background, **options)


def test_a_channel_without_a_place_is_named(background):
    info = background.info.copy()
    mne.rename_channels(info, {"F3": "E7"})
    with pytest.raises(ValueError, match="E7 are no electrodes of the 10-05 system"):
        planted(replace(background, info=info))


def test_a_source_where_the_recording_was_filtered_is_noticed(background):
    info = background.info.copy()
    with info._unlock():
        info["highpass"], info["lowpass"] = 7.0, 38.0
    with pytest.warns(UserWarning, match=r"of the source's power lies outside the background's pass-band, 7-38 Hz"):
        planted(replace(background, info=info))
