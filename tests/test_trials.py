"""The data type: what it takes, what it refuses, and what its selections keep together."""

import copy
import dataclasses
import pickle

import mne
import numpy as np
import pandas as pd
import pytest
import torch

import eegxai_support as xs
from eegxai_support.simulate import simulate
from eegxai_support.trials import Trials, concatenate

NAMES = ["C3", "Cz", "C4"]


def _fields(**changes):
    """Eight trials of 3 channels and 20 samples at 10 Hz, from -0.5 s on; sample values tell trial and time."""
    info = mne.create_info(NAMES, 10.0, "eeg").set_montage("colin27_1005")
    trial, channel, time = np.indices((8, 3, 20))
    metadata = pd.DataFrame(
        {"subject": [1] * 8, "session": [1] * 8, "run": [8, 8, 4, 4, 8, 4, 12, 12], "age": range(8)},
        index=range(10, 18),
    )
    fields = {
        "signal": 1000.0 * trial + 100 * channel + time,
        "unit": "uV",
        "label": [0, 1, 0, 1, 0, 1, 0, 1],
        "info": info,
        "class_names": ["left", "right"],
        "metadata": metadata,
        "truth": -(1000.0 * trial + 100 * channel + time),
        "tmin": -0.5,
    }
    return fields | changes


@pytest.fixture
def trials():
    return Trials(**_fields())


def test_fields_are_normalised(trials):
    assert trials.signal.dtype == trials.truth.dtype == np.float32
    assert trials.label.dtype == np.int64
    assert trials.class_names == ("left", "right")
    assert list(trials.metadata.index) == list(range(8))
    assert len(trials) == 8 and trials.n_classes == 2 and trials.sfreq == 10
    np.testing.assert_allclose(trials.times, np.linspace(-0.5, 1.4, 20), atol=1e-12)
    assert repr(trials) == "Trials(8 trials × 3 channels × 20 samples at 10 Hz, uV; left 4, right 4)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        trials.unit = "standardised"


def test_a_class_without_trials_is_counted():
    trials = Trials(**_fields(class_names=("left", "right", "feet")))
    assert trials.n_classes == 3
    assert "feet 0" in repr(trials)


@pytest.mark.parametrize("mask", [np.arange(8) % 3 == 1, [1, 4, 7], np.array([1, 4, 7])])
def test_subset_keeps_rows_together(trials, mask):
    part = trials.subset(mask)
    assert (part.signal[:, 0, 0] / 1000).tolist() == [1, 4, 7]
    np.testing.assert_array_equal(part.truth, -part.signal)
    assert part.label.tolist() == [1, 0, 1]
    assert part.metadata.age.tolist() == [1, 4, 7]
    assert list(part.metadata.index) == [0, 1, 2]
    assert part.tmin == -0.5


def test_subset_follows_the_order_of_indices(trials):
    part = trials.subset([6, 2, 2])
    assert part.metadata.age.tolist() == [6, 2, 2]
    for name in ("signal", "label", "truth"):
        np.testing.assert_array_equal(getattr(part, name), getattr(trials, name)[[6, 2, 2]])


def test_subset_of_trials_without_truth():
    assert Trials(**_fields(truth=None)).subset([0, 1]).truth is None


def test_subset_errors(trials):
    with pytest.raises(ValueError, match=r"mask has shape \(7,\); expected \(8,\)"):
        trials.subset(np.ones(7, bool))
    with pytest.raises(ValueError, match="No trials"):
        trials.subset(np.zeros(8, bool))


def test_split_by_run_loses_and_doubles_no_trial(trials):
    runs = trials.split()
    assert list(runs) == [8, 4, 12]
    assert [part.metadata.age.tolist() for part in runs.values()] == [[0, 1, 4], [2, 3, 5], [6, 7]]
    assert list(trials.split("age")) == list(range(8))


def test_split_by_an_unknown_column(trials):
    with pytest.raises(ValueError, match="no column 'block'; it has subject, session, run, age"):
        trials.split("block")


@pytest.mark.parametrize(
    ("window", "samples", "tmin"),
    [((0, 1), range(5, 15), 0.0), ((-0.5, 1.5), range(20), -0.5), ((0.32, 0.58), [8, 9, 10], 0.3)],
)
def test_crop_leaves_the_last_sample_out(trials, window, samples, tmin):
    cropped = trials.crop(*window)
    assert cropped.signal[0, 0].tolist() == list(samples)
    np.testing.assert_array_equal(cropped.truth, -cropped.signal)
    assert cropped.tmin == pytest.approx(tmin)
    np.testing.assert_allclose(cropped.times, trials.times[list(samples)], atol=1e-12)


@pytest.mark.parametrize("window", [(-1, 1), (0, 2), (1, 0), (0.5, 0.5)])
def test_crop_outside_the_trials(trials, window):
    with pytest.raises(ValueError, match=r"Cannot crop .* run from -0.5 to 1.5 s"):
        trials.crop(*window)


def _with(value, where):
    signal = _fields()["signal"]
    signal[where] = value
    return signal


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signal": np.zeros((8, 60))}, r"shape \(8, 60\); expected three axes"),
        ({"signal": np.zeros((0, 3, 20))}, "No trials"),
        ({"signal": _fields()["signal"].transpose(1, 0, 2)}, r"transpose\(1, 0, 2\)"),
        ({"signal": np.zeros((8, 20, 3))}, r"expected \(trial, channel, time\) with 3 channels"),
        ({"signal": _with(np.nan, (2, 1, 5))}, "1 NaN or infinite values, the first in trial 2, channel Cz, sample 5"),
        ({"signal": _with(-np.inf, (7, 2))}, "20 NaN or infinite values, the first in trial 7, channel C4, sample 0"),
        ({"signal": _with(4.0, (slice(None), 1))}, "Constant in every trial: Cz"),
        ({"unit": "V"}, r"unit is 'V'; expected one of \('uV', 'standardised'\)"),
        ({"label": [0, 1]}, r"label has shape \(2,\); expected \(8,\)"),
        ({"label": [1, 2] * 4}, r"values \[1, 2\]; expected integers 0 … 1.*return_inverse"),
        ({"label": [0, 0.5] * 4}, "expected integers"),
        ({"metadata": pd.DataFrame({"subject": [1] * 8, "run": 1})}, r"at least \['subject', 'session', 'run'\]"),
        ({"metadata": _fields()["metadata"].iloc[:5]}, "5 rows .* expected 8"),
        ({"label": None}, r"class_names are \('left', 'right'\) but label is None. Without labels class_names is \(\)"),
        ({"class_names": ()}, r"class_names is empty and label holds int64; expected a finite float.*astype\(float\)"),
        ({"class_names": (), "label": [0.5] * 7 + [np.nan]}, "label holds float64 or NaN; expected a finite float"),
        ({"truth": np.zeros((8, 3, 19))}, r"truth has shape \(8, 3, 19\); expected that of signal, \(8, 3, 20\)"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        Trials(**_fields(**changes))


def test_a_channel_that_is_constant_in_some_trials_is_taken():
    Trials(**_fields(signal=_with(4.0, (slice(1, None), 1))))


# ---- one channel, no positions, no classes -------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 2])
def test_one_and_two_channels_without_positions_are_trials(n_channels):
    info = mne.create_info(["Fpz-Cz", "Pz-Oz"][:n_channels], 10.0, "eeg")
    trials = Trials(**_fields(info=info, signal=_fields()["signal"][:, :n_channels], truth=None))
    assert trials.subset([3, 1]).crop(0, 1).signal.shape == (2, n_channels, 10)
    assert repr(trials).startswith(f"Trials(8 trials × {n_channels} channel{'s' * (n_channels > 1)} × 20 samples")


@pytest.mark.parametrize(("label", "shown"), [(np.linspace(0.25, 0.5, 8), "label 0.25 to 0.5"), (None, "no label")])
def test_a_continuous_and_a_missing_label(label, shown):
    trials = Trials(**_fields(label=label, class_names=()))
    assert trials.n_classes == 0 and repr(trials).endswith(f"; {shown})")
    part = trials.subset([6, 2]).crop(0, 1).standardise()
    run = trials.split()[4]
    joined = concatenate([trials, run])
    if label is None:
        assert part.label is run.label is joined.label is None
    else:
        assert trials.label.dtype == np.float32
        np.testing.assert_allclose(part.label, label[[6, 2]], rtol=1e-6)
        np.testing.assert_allclose(run.label, label[[2, 3, 5]], rtol=1e-6)
        np.testing.assert_allclose(joined.label[8:], run.label)
    with pytest.raises(ValueError, match=r"csp_lda needs the class of each trial, and these trials have .*replace\("):
        trials.require_classes("csp_lda")


@pytest.mark.parametrize(
    "use",
    [
        lambda t: xs.build_decoder("ShallowFBCSPNet", t),
        lambda t: xs.cross_validate(xs.csp_lda(2), t),
        lambda t: xs.csp_lda(2)(t),
        lambda t: xs.filter_bank_csp(t, {"mu": (2, 4)}),
        lambda t: xs.event_related_desynchronisation(t, {"mu": (2, 4)}),
        lambda t: xs.train(torch.nn.Linear(1, 1), t, epochs=1),
    ],
)
@pytest.mark.parametrize("label", [np.linspace(0.25, 0.5, 8), None])
def test_what_compares_classes_refuses_trials_without_them(use, label):
    trials = Trials(**_fields(label=label, class_names=()))
    with pytest.raises(ValueError, match=r"class(es)? (of|for) each trial|comparison of classes"):
        use(trials)


def test_trials_with_classes_have_what_is_required(trials):
    assert trials.require_classes("train") is None


# ---- arrays that can only be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [lambda t: t, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("name", ["signal", "label", "truth"])
def test_writing_to_an_array_changes_nothing(trials, of, name):
    trials = of(trials)
    before = getattr(trials, name).copy()
    with pytest.raises(ValueError, match="read-only"):
        exec(f"trials.{name} -= 1", {"trials": trials})
    np.testing.assert_array_equal(getattr(trials, name), before)


def test_a_float32_array_is_not_copied_and_stays_its_makers():
    signal = _fields()["signal"].astype(np.float32)
    trials = Trials(**_fields(signal=signal))
    assert np.shares_memory(trials.signal, signal)
    signal[0, 0, 0] = 7.0  # its maker can still write to it
    assert trials.signal[0, 0, 0] == 7.0


# ---- metadata ------------------------------------------------------------------------------------------------------


def test_metadata_in_capitals_is_taken():
    metadata = _fields()["metadata"].rename(columns=str.capitalize)
    trials = Trials(**_fields(metadata=metadata))
    assert list(trials.metadata) == ["subject", "session", "run", "Age"]
    assert list(trials.split()) == [8, 4, 12]
    both = Trials(**_fields(metadata=_fields()["metadata"].assign(Run=0)))
    assert list(both.split()) == [8, 4, 12]  # the one that is spelled as it should be


def test_a_missing_run_is_named_and_never_lost():
    metadata = _fields()["metadata"].astype({"run": float, "age": float}).reset_index(drop=True)
    metadata.loc[[2, 5], "age"] = np.nan
    trials = Trials(**_fields(metadata=metadata))
    for group in (trials.split, trials.standardise):
        with pytest.raises(ValueError, match="The age of 2 of 8 trials is missing in the metadata, first of trial 2"):
            group("age")
    metadata.loc[3, "run"] = np.nan
    with pytest.raises(ValueError, match="The run of 1 of 8 trials is missing in the metadata, first of trial 3"):
        Trials(**_fields(metadata=metadata))


# ---- verbs ---------------------------------------------------------------------------------------------------------


def _random(seed=0, n_channels=4, **changes):
    rng = np.random.default_rng(seed)
    names = ["C3", "Cz", "C4", "Pz"][:n_channels]
    info = mne.create_info(names, 10.0, "eeg").set_montage("colin27_1005")
    signal, truth = 10 * rng.standard_normal((2, 8, n_channels, 20))
    return Trials(**_fields(**{"signal": signal, "truth": truth, "info": info} | changes))


@pytest.mark.parametrize("reference", ["average", ["C3", "C4"], "Cz", ["Pz"], ["Pz", "Cz", "C3", "C4"]])
def test_rereference_is_mnes(reference):
    trials = _random()
    epochs = mne.EpochsArray(trials.signal.astype(float), trials.info, verbose=False)
    channels = [reference] if reference == "Cz" else reference
    expected = mne.set_eeg_reference(epochs, channels, copy=True, verbose=False)[0]
    left = [c for c in expected.ch_names if channels == "average" or len(channels) > 1 or c not in channels]
    again = trials.rereference(reference)
    assert again.info.ch_names == left and again.info["custom_ref_applied"] == expected.info["custom_ref_applied"]
    np.testing.assert_allclose(again.signal, expected.get_data(picks=left), atol=1e-5)
    swapped = dataclasses.replace(trials, signal=trials.truth, truth=trials.signal).rereference(reference)
    np.testing.assert_array_equal(again.truth, swapped.signal)
    assert trials.info["custom_ref_applied"] == 0


def test_a_reference_that_is_not_there_or_leaves_nothing():
    with pytest.raises(ValueError, match=r"Unknown channel 'cz'\. Did you mean 'Cz'"):
        _random().rereference("cz")
    for reference in ("average", "C3"):
        with pytest.raises(ValueError, match="C3 is the only channel; against itself nothing is left"):
            _random(n_channels=1).rereference(reference)


def test_pick_takes_channels_in_the_order_asked_for(trials):
    picked = trials.pick(["C4", "C3"])
    assert picked.info.ch_names == ["C4", "C3"]
    np.testing.assert_array_equal(picked.signal, trials.signal[:, [2, 0]])
    np.testing.assert_array_equal(picked.truth, trials.truth[:, [2, 0]])
    np.testing.assert_array_equal(picked.info["chs"][0]["loc"], trials.info["chs"][2]["loc"])
    assert trials.pick("Cz").signal.shape == (8, 1, 20)
    for wrong, message in ((["C3", "C3"], "each once"), ([], "at least one"), (["FCz"], "Unknown channel 'FCz'")):
        with pytest.raises(ValueError, match=message):
            trials.pick(wrong)


def _robust(x):
    """Return the standard deviation of the normal distribution that has the median absolute deviation of `x`."""
    return np.median(np.abs(x - np.median(x))) / 0.6744897501960817


def test_standardise_divides_each_recording_by_its_own_number():
    metadata = pd.DataFrame({"subject": [1, 2] * 4, "session": 1, "run": [1] * 4 + [2] * 4})
    trials = _random(metadata=metadata)
    loud = np.where(metadata.subject == 2, 5.0, 1.0)[:, None, None]
    trials = dataclasses.replace(trials, signal=loud * trials.signal, truth=loud * trials.truth)
    result = trials.standardise()
    assert result.unit == "standardised"
    for _, mine in metadata.groupby(["subject", "run"]).indices.items():
        np.testing.assert_allclose(result.signal[mine], trials.signal[mine] / _robust(trials.signal[mine]), rtol=1e-5)
        np.testing.assert_allclose(result.truth[mine], trials.truth[mine] / _robust(trials.signal[mine]), rtol=1e-5)
    for _, mine in metadata.groupby("subject").indices.items():
        by_subject = trials.standardise("subject").signal[mine]
        np.testing.assert_allclose(by_subject, trials.signal[mine] / _robust(trials.signal[mine]), rtol=1e-5)
    np.testing.assert_allclose(trials.standardise(None).signal, trials.signal / _robust(trials.signal), rtol=1e-5)


def test_the_scale_of_one_run_does_not_depend_on_another():
    """What leaks where a scale is shared between training and test."""
    trials = _random()
    loud = np.where(trials.metadata.run == 12, 100.0, 1.0)[:, None, None]
    changed = dataclasses.replace(trials, signal=loud * trials.signal)
    for run in (8, 4):
        before, after = (t.standardise().split()[run].signal for t in (trials, changed))
        np.testing.assert_array_equal(before, after)
        assert np.abs(changed.standardise(None).split()[run].signal).max() < 0.9 * np.abs(before).max()


def test_standardise_by_what_the_training_trials_tell():
    train, test = _random(0), _random(1)
    mean, scale = train.signal.mean((0, 2)), train.signal.std((0, 2))
    np.testing.assert_allclose(train.standardise(mean=mean, scale=scale).signal.mean((0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(train.standardise(mean=mean, scale=scale).signal.std((0, 2)), 1, rtol=1e-6)
    result = test.standardise(mean=mean, scale=scale)
    np.testing.assert_allclose(result.signal, (test.signal - mean[:, None]) / scale[:, None], rtol=1e-5)
    np.testing.assert_allclose(result.truth, test.truth / scale[:, None], rtol=1e-6)
    for wrong in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="expected finite numbers above 0"):
            test.standardise(scale=wrong)
    with pytest.raises(ValueError, match="no column 'block'"):
        test.standardise("block")


def test_concatenate_merges_classes_by_name_and_channels_by_name():
    first = _random(0, class_names=("left", "right"))
    second = _random(1, class_names=("right", "feet")).pick(["Pz", "Cz", "C3", "C4"])
    with second.info._unlock():
        second.info["lowpass"], second.info["highpass"] = 3.0, 0.5
    joined = concatenate(part for part in (first, second))
    assert joined.class_names == ("left", "right", "feet") and joined.label.tolist() == [0, 1] * 4 + [1, 2] * 4
    assert joined.info.ch_names == first.info.ch_names and len(joined) == 16
    for name in ("signal", "truth"):
        np.testing.assert_array_equal(getattr(joined, name)[8:], getattr(_random(1), name))
    assert joined.metadata.age.tolist() == [*range(8)] * 2 and list(joined.metadata.index) == [*range(16)]
    assert (joined.info["highpass"], joined.info["lowpass"], joined.tmin) == (0.5, 3.0, -0.5)
    np.testing.assert_array_equal(joined.info["chs"][0]["loc"], first.info["chs"][0]["loc"])


def test_splitting_and_concatenating_is_reordering(trials):
    joined = concatenate(trials.split().values())
    order = [0, 1, 4, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(joined.signal, trials.signal[order])
    assert joined.label.tolist() == trials.label[order].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pick(["C3", "Cz"]), r"do not share the channels C4, Pz.*trials\.pick"),
        (
            lambda t: dataclasses.replace(t, unit="standardised"),
            r"are in uV, those of part 1 standardised.*standardise\(\)",
        ),
        (lambda t: t.crop(-0.5, 1), r"have samples 20, those of part 1 15.*trials\.crop"),
        (lambda t: dataclasses.replace(t, tmin=0.0), r"begin at \(s\) -0.5, those of part 1 0.0"),
        (
            lambda t: dataclasses.replace(t, label=None, class_names=()),
            "have labels of classes, those of part 1 missing",
        ),
        (lambda t: dataclasses.replace(t, truth=None), r"have a truth True, those of part 1 False.*truth=None"),
    ],
)
def test_recordings_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        concatenate([_random(0), change(_random(1))])


def test_nothing_to_concatenate():
    with pytest.raises(ValueError, match="at least one set of trials"):
        concatenate([])


def test_recordings_of_another_rate_are_refused():
    info = mne.create_info(["C3", "Cz", "C4", "Pz"], 20.0, "eeg")
    with pytest.raises(ValueError, match=r"sampled at \(Hz\) 10.0, those of part 1 20.0"):
        concatenate([_random(0), _random(1, info=info)])


def test_verbs_never_leave_a_law_that_no_longer_holds():
    """The truth goes along; the ideal decoder, who knows the noise as it was drawn, is silent from then on."""
    trials = simulate("spectral", n_trials=8, ch_names=("C3", "Cz", "C4"))
    assert 0 <= trials.ideal_accuracy <= 1
    for changed in (trials.rereference(), trials.pick(["Cz", "C4", "C3"]), trials.standardise()):
        np.testing.assert_array_equal(changed.ideal_map, np.abs(changed.truth))
        with pytest.raises(ValueError, match="ideal decoder knows the law"):
            changed.ideal_log_likelihood()
    joined = concatenate([trials, simulate("spectral", n_trials=8, ch_names=("C3", "Cz", "C4"), snr_db=-10)])
    assert type(joined) is Trials and joined.truth.shape == joined.signal.shape
