"""The P300 speller: a written recording whose answer is known, and the real one where MNE_DATA names it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from eegxai_support.recordings import load_p300
from eegxai_support.simulate import EEGBCI_CHANNELS

FOLDER = Path(os.environ.get("MNE_DATA", "/nonexistent")) / "bci2_iib"
real = pytest.mark.skipif(
    not (FOLDER / "AAS011R02.mat").exists(), reason="MNE_DATA names no folder with BCI Competition II, data set IIb"
)
CODES = np.tile([3, 7, 12, 1, 8, 5], 4)  # of 24 flashes, the second half another character
ONSETS = 42 * np.arange(24) + np.repeat([2001, 4000], 12)
FREQUENCY = 8.0
N_TIMES = 40 * 240
AMPLITUDE = np.linspace(-30000, 30000, 64)  # the mean over channels is zero: the average reference changes nothing


def _recording():
    """Write a sine of its own amplitude in each channel, far from the ends of the run."""
    time = np.arange(N_TIMES) / 240
    flashing, code, target = np.zeros((3, len(time)), np.uint8)
    for onset, number in zip(ONSETS, CODES, strict=True):
        flashing[onset : onset + 24] = 1
        code[onset : onset + 24] = number
        target[onset : onset + 24] = number in (3, 8)
    signal = np.round(np.outer(np.sin(2 * np.pi * FREQUENCY * time), AMPLITUDE)).astype(np.int16)
    states = {"Flashing": flashing, "StimulusCode": code, "StimulusType": target}
    return {"signal": signal, **{name: values[:, None] for name, values in states.items()}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bci2_iib")
    recording = _recording()
    for name in ("AAS010R01", "AAS010R02", "AAS011R05"):
        savemat(folder / f"{name}.mat", recording)
    (folder / "notes.mat").write_text("not one of the competition's")
    return folder


def _changed(tmp_path, **fields):
    """Return a folder of one recording with other fields; None leaves one out."""
    recording = {name: values for name, values in (_recording() | fields).items() if values is not None}
    savemat(tmp_path / "AAS010R01.mat", recording)
    return tmp_path


def test_labels_and_metadata(folder):
    trials = load_p300(folder, 10, 1, sfreq=80)
    assert trials.signal.shape == (24, 64, 64)
    assert trials.class_names == ("non-target", "target")
    assert tuple(trials.info.ch_names) == EEGBCI_CHANNELS
    assert trials.unit == "standardised" and trials.sfreq == 80 and trials.tmin == 0
    np.testing.assert_array_equal(trials.label, np.isin(CODES, (3, 8)))
    np.testing.assert_array_equal(trials.metadata.code, CODES)
    np.testing.assert_array_equal(trials.metadata.character, np.repeat([1, 2], 12))
    assert list(trials.metadata) == ["subject", "session", "run", "character", "code"]


@pytest.mark.parametrize(("tmin", "sfreq"), [(0.0, 240), (-0.1, 120)])
def test_a_trial_begins_with_the_flash(folder, tmin, sfreq):
    """A sine inside the pass-band has its phase at the flash; the scale is the median absolute value over 0.6745."""
    trials = load_p300(folder, 10, 1, tmin=tmin, sfreq=sfreq)
    sine = np.sin(2 * np.pi * FREQUENCY * (ONSETS[:, None, None] / 240 + trials.times)) * AMPLITUDE[:, None]
    whole_run = np.sin(2 * np.pi * FREQUENCY * np.arange(N_TIMES) / 240)[:, None] * AMPLITUDE
    expected = 0.6745 * sine / np.median(np.abs(whole_run - np.median(whole_run)))
    assert trials.tmin == pytest.approx(tmin)
    # The pass-band of MNE's filter is flat to 0.2 % at either edge.
    np.testing.assert_allclose(trials.signal, expected, atol=0.005 * np.abs(expected).max())


def test_sessions_and_runs(folder):
    trials = load_p300(str(folder), sfreq=60, h_freq=20)
    assert trials.metadata.groupby(["session", "run"]).size().to_dict() == {(10, 1): 24, (10, 2): 24, (11, 5): 24}
    assert list(load_p300(folder, 10, sfreq=60).split("run")) == [1, 2]
    assert set(load_p300(folder, [10], iter([2]), sfreq=60).metadata.run) == {2}


def test_default_folder_is_in_mnes_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    monkeypatch.delenv("MNE_DATASETS_BCI2_IIB_PATH", raising=False)
    with pytest.raises(FileNotFoundError, match=r"bci2_iib holds no file .*bbci\.de/competition/ii"):
        load_p300()
    (tmp_path / "bci2_iib").mkdir()
    shutil.copy(folder / "AAS010R01.mat", tmp_path / "bci2_iib")
    assert len(load_p300(sessions=10, sfreq=60)) == 24


def test_trials_that_the_end_cuts_short_are_left_out(folder):
    assert len(load_p300(folder, 10, 1, tmax=(N_TIMES - ONSETS[20]) / 240, sfreq=60)) == 21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sessions": 12},
            r"Asked for session 12, all runs; .* holds sessions \[10, 11\] and of this one the runs \[\]",
        ),
        ({"runs": (1, 2)}, r"Asked for session 11, runs \[1, 2\]; .* the runs \[5\]"),
        ({"sessions": ()}, "expected at least one"),
        ({"tmin": 0.8}, "expected tmin before tmax"),
        ({"sfreq": 100}, "sfreq is 100 Hz; expected 240 Hz divided by a whole number"),
        ({"sfreq": 0}, "divided by a whole number"),
        ({"sfreq": 48}, "h_freq is 20 Hz; expected at most 16 Hz"),
    ],
)
def test_impossible_requests(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_p300(folder, **arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"StimulusType": None}, "holds no StimulusType; expected signal, Flashing"),
        ({"signal": np.zeros((N_TIMES, 8))}, r"signal has shape \(9600, 8\).*expected \(sample, 64\)"),
        ({"StimulusCode": np.zeros((100, 1))}, r"StimulusCode': \(100,\).*one value of each other field per sample"),
        ({"Flashing": np.ones((N_TIMES, 1))}, "holds no flash"),
        ({"Flashing": np.arange(N_TIMES)[:, None] // 10 % 2}, "every 20 samples; expected every 42, 175 ms at 240 Hz"),
    ],
)
def test_files_with_other_content(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        load_p300(_changed(tmp_path, **fields), 10)


def test_files_that_are_not_matlabs(tmp_path):
    file = tmp_path / "AAS010R01.mat"
    file.write_bytes(b"an error page" * 50)
    with pytest.raises(ValueError, match=r"AAS010R01\.mat is no MATLAB file or damaged"):
        load_p300(tmp_path, 10)
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    file.write_bytes(header + b"\x00" * 512)
    with pytest.raises(ValueError, match=r"format 7\.3.*Save it from MATLAB with the option '-v7'"):
        load_p300(tmp_path, 10)


# ---- the real recording --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speller():
    return load_p300(FOLDER, runs=(1, 2), sfreq=120)


@real
def test_speller_spells_what_the_subject_attended_to(speller):
    """Column and row of the targets name a letter of the matrix; the words are the competition's."""
    letters = []
    targets = speller.metadata[speller.label == 1]
    for _, flashes in targets.groupby(["session", "run", "character"]):
        column, row = sorted(set(flashes.code))
        letters.append("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[6 * (row - 7) + column - 1])
        assert len(flashes) == 30
    assert "".join(letters) == "CATDOGHATHAT"
    assert np.bincount(speller.label).tolist() == [1800, 360]


@real
def test_speller_shows_the_p300(speller):
    """Targets less others are highest over the vertex, 300 ms after the flash."""
    difference = speller.signal[speller.label == 1].mean(0) - speller.signal[speller.label == 0].mean(0)
    channel, sample = np.unravel_index(difference.argmax(), difference.shape)
    assert speller.info.ch_names[channel] == "Cz"
    assert 0.25 < speller.times[sample] < 0.35


@real
def test_speller_is_decoded_across_sessions(speller):
    parts = speller.split("session")
    features = {
        s: part.signal.reshape(len(part), 64, 16, 6).mean(3).reshape(len(part), -1) for s, part in parts.items()
    }
    decoder = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features[10], parts[10].label)
    assert roc_auc_score(parts[11].label, decoder.decision_function(features[11])) > 0.75
