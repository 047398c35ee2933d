"""The data type: what it takes, what it refuses, and what its selections keep together."""

import dataclasses

import mne
import numpy as np
import pandas as pd
import pytest

from eegxai_support.trials import Trials

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
    assert trials.subset([6, 2, 2]).metadata.age.tolist() == [6, 2, 2]


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
