"""Recordings, epochs and recorded results. Tests on real EEGBCI files need MNE_DATA and skip without."""

import errno
import os
import shutil
import sys
import types
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest

from eegxai_support.recordings import (
    bnci2014_001,
    eegbci,
    from_epochs,
    load_bnci2014_001,
    load_eegbci,
    load_motor_imagery,
    recorded,
    results,
    write_recorded,
)
from eegxai_support.simulate import EEGBCI_CHANNELS

CACHE = Path(os.environ.get("MNE_DATA", "/nonexistent"))
S042 = CACHE / "MNE-eegbci-data/files/eegmmidb/1.0.0/S042"
real = pytest.mark.skipif(
    not (S042 / "S042R04.edf").exists(), reason="MNE_DATA names no folder with EEGBCI's subject 42"
)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache without recordings and a network that does not answer at once."""
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    monkeypatch.delenv("MNE_DATASETS_EEGBCI_PATH", raising=False)
    monkeypatch.setattr("requests.head", _no_network)
    eegbci.physionet_answers.cache_clear()
    yield tmp_path
    eegbci.physionet_answers.cache_clear()


def _no_network(*args, **kwargs):
    import requests

    raise requests.ConnectionError("no route to host")


@pytest.fixture
def online(empty_cache, monkeypatch):
    monkeypatch.setattr("requests.head", lambda *args, **kwargs: None)
    return empty_cache


# ---- EEGBCI: the real files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s042():
    return load_eegbci(42, (4, 8, 12, 6, 10, 14), sfreq=80)


@real
def test_eegbci_four_classes(s042):
    assert s042.signal.shape == (90, 64, 240)
    assert s042.signal.dtype == np.float32
    assert s042.class_names == ("left fist", "right fist", "both fists", "both feet")
    assert s042.sfreq == 80 and s042.tmin == 1 and s042.times[-1] == pytest.approx(4 - 1 / 80)
    assert tuple(s042.info.ch_names) == EEGBCI_CHANNELS
    for run, trials in s042.split("run").items():
        assert len(trials) == 15
        assert set(trials.label) == ({0, 1} if run in (4, 8, 12) else {2, 3})
    assert set(s042.metadata.task) == {"imagined"}


@real
def test_eegbci_labels_follow_the_annotations(s042):
    raw = mne.io.read_raw_edf(S042 / "S042R10.edf", verbose=False)
    expected = [2 if name == "T1" else 3 for name in raw.annotations.description if name != "T0"]
    assert s042.split("run")[10].label.tolist() == expected


@real
def test_eegbci_shows_contralateral_desynchronisation(s042):
    """Imagining the right fist lowers mu power over the left hemisphere, and the reverse (S042, textbook)."""
    fists = s042.subset(s042.label < 2)
    frequency = np.fft.rfftfreq(240, 1 / 80)
    power = np.abs(np.fft.rfft(fists.signal)) ** 2
    mu = np.log(power[..., (frequency >= 8) & (frequency <= 13)].mean(-1))
    right_minus_left = mu[fists.label == 1].mean(0) - mu[fists.label == 0].mean(0)
    at = dict(zip(fists.info.ch_names, right_minus_left, strict=True))
    assert -0.8 < at["C3"] < -0.1
    assert 0.1 < at["C4"] < 0.8


@real
def test_eegbci_has_its_passband_reference_and_scale(s042):
    np.testing.assert_allclose(s042.signal.mean(axis=1), 0, atol=1e-5)
    frequency = np.fft.rfftfreq(240, 1 / 80)
    power = (np.abs(np.fft.rfft(s042.signal * np.hanning(240))) ** 2).mean(axis=(0, 1))
    inside = power[(frequency >= 8) & (frequency <= 30)].mean()
    assert power[(frequency > 0.5) & (frequency < 4)].max() < 0.01 * inside
    assert s042.unit == "standardised"
    assert 0.8 < s042.signal.std() < 1.5


@real
def test_eegbci_resampling_shifts_no_event():
    """Every second sample of the trials at 160 Hz, which hold nothing above 40 Hz."""
    options = {"h_freq": 30.0}
    fast, slow = load_eegbci(42, 4, **options), load_eegbci(42, 4, sfreq=80, **options)
    scale = (fast.signal[..., ::2] * slow.signal).sum() / (slow.signal**2).sum()
    error = fast.signal[..., ::2] - scale * slow.signal
    assert scale == pytest.approx(1, abs=0.01)
    assert error.std() < 0.01 * fast.signal.std()


@real
def test_eegbci_each_run_has_its_own_scale_and_keeps_its_topography(s042):
    raw = mne.io.read_raw_edf(S042 / "S042R08.edf", preload=True, verbose=False)
    raw.set_eeg_reference(verbose=False).filter(7, 38, verbose=False).resample(80, verbose=False)
    onset = [a["onset"] for a in raw.annotations if a["description"] != "T0"][3]
    expected = raw.get_data()[:, round((onset + 1) * 80) :][:, :240]
    ratio = s042.split("run")[8].signal[3] / expected
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)
    assert np.median(ratio) == pytest.approx(0.6745 / np.median(np.abs(raw.get_data())), rel=0.01)


@real
@pytest.mark.filterwarnings("ignore:All epochs were dropped", "ignore:epochs._get_data")
def test_eegbci_drops_trials_that_the_end_cuts_short_and_keeps_one_of_each_subject_and_run():
    trials = load_eegbci([42, 42], (4, 4), tmax=5.0, sfreq=80)
    assert trials.signal.shape[0] in (14, 15)
    with pytest.raises(ValueError, match="No trials"):
        load_eegbci(42, 4, tmin=300.0, tmax=301.0)


@real
def test_eegbci_executed_runs_of_two_subjects():
    trials = load_eegbci(iter([2, 7]), np.array([3]), sfreq=80)
    assert trials.class_names == ("left fist", "right fist")
    assert list(trials.split("subject")) == [2, 7]
    assert set(trials.metadata.task) == {"executed"}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A cache of one file that a test may damage."""
    path = tmp_path / (S042 / "S042R04.edf").relative_to(CACHE)
    path.parent.mkdir(parents=True)
    shutil.copy(S042 / "S042R04.edf", path)
    path.chmod(0o644)
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    return path


@real
def test_truncated_edf(copied):
    with copied.open("r+b") as file:
        file.truncate(copied.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"S042R04\.edf is damaged: its SHA-256 .* Delete the file"):
        load_eegbci(42, 4)


@real
def test_one_changed_bit_of_an_edf(copied):
    content = bytearray(copied.read_bytes())
    content[-1000] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match=r"S042R04\.edf is damaged"):
        load_eegbci(42, 4)


def test_published_hashes_cover_every_run():
    """MNE's list: 109 subjects, 14 runs, each a recording and its events."""
    published = eegbci.checksums()
    expected = {f"S{s:03d}/S{s:03d}R{run:02d}.edf" for s in range(1, 110) for run in eegbci.RUNS}
    assert expected <= set(published)
    assert all(len(bytes.fromhex(value)) == 32 for value in published.values())


@real
@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>" * 50])
def test_file_that_is_no_edf(copied, content):
    copied.write_bytes(content)
    with pytest.raises(ValueError, match=r"S042R04\.edf is damaged"):
        load_eegbci(42, 4)


@real
def test_other_sampling_rate(copied, monkeypatch):
    """Like subjects 88, 92 and 100: the same records, declared 1.25 s long, are 128 Hz."""
    monkeypatch.setattr(eegbci, "checksums", dict)
    with copied.open("r+b") as file:
        file.seek(244)
        file.write(b"1.25    ")
    with pytest.raises(ValueError, match="Subject 42 is sampled at 128 Hz"):
        load_eegbci(42, 4)


@real
def test_auto_takes_what_is_in_the_cache(capsys):
    trials = load_motor_imagery(subjects=42, runs=(4, 6), sfreq=80, tmin=0, tmax=2, l_freq=8)
    assert capsys.readouterr().out == "Real trials: PhysioNet EEGBCI, subject 42, runs 4, 6.\n"
    assert trials.signal.shape == (30, 64, 160)


# ---- EEGBCI: requests and downloads that fail ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "subject is 0; expected one of 1 to 109"),
        ({"subjects": [1, 110]}, "subject is 110"),
        ({"subjects": []}, "expected at least one"),
        ({"subjects": 1, "runs": 2}, "run is 2; expected one of 3 to 14"),
        ({"subjects": 1, "runs": (4, 15)}, "run is 15"),
        ({"subjects": 1, "tmin": 4.0}, "expected tmin before tmax"),
        ({"subjects": 1, "sfreq": 60}, "less than 30 Hz, half the sampling rate"),
    ],
)
def test_impossible_requests(empty_cache, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_eegbci(**arguments)


def test_no_network(empty_cache):
    with pytest.raises(ConnectionError, match=r"S001R04, S001R08.*does not answer.*load_motor_imagery\('simulated'\)"):
        load_eegbci(1)


def test_no_space_for_the_cache(online, monkeypatch):
    """The disk fills while the file arrives; Pooch leaves nothing behind."""

    def full(self, url, output_file, pooch, **kwargs):
        Path(output_file).write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    with pytest.raises(OSError, match=r"Cannot write EEGBCI .*No space left.*MB free.*set MNE_DATA") as raised:
        load_eegbci(1, 4)
    assert raised.value.errno == errno.ENOSPC
    assert not [path for path in online.rglob("*") if path.is_file()]


def test_wrong_content_from_the_server(online, monkeypatch):
    """Another hash than published: three attempts, a clear error, no file."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(
        "pooch.HTTPDownloader.__call__",
        lambda self, url, output_file, pooch, **kwargs: Path(output_file).write_bytes(b"an error page"),
    )
    with pytest.raises(ConnectionError, match=r"S001R04 are not in .*could not be downloaded"):
        load_eegbci(1, 4)
    assert not [path for path in online.rglob("*") if path.is_file()]


def test_loading_neither_asks_nor_writes_mnes_configuration(online, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("MNE's configuration was written")

    def write(self, url, output_file, pooch, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("mne.datasets.utils.set_config", refuse)
    monkeypatch.setattr("builtins.input", refuse)
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", write)
    with pytest.raises(OSError, match="Read-only file system"):
        load_eegbci(1, 4)


# ---- whichever source is at hand -----------------------------------------------------------------------------------


def test_auto_falls_back_says_so_and_does_not_wait_twice(empty_cache, monkeypatch, capfd):
    trials = load_motor_imagery(subjects=[42, 7], sfreq=80)
    captured = capfd.readouterr()
    assert captured.out == (
        "Simulated trials, because the EEGBCI recordings are neither in MNE's cache nor could be downloaded"
        " (no connection).\n"
    )
    assert captured.err == ""
    assert trials.truth is not None and set(trials.metadata.task) == {"simulated"}

    def asked(*args, **kwargs):
        raise AssertionError("asked again")

    monkeypatch.setattr("requests.head", asked)
    load_motor_imagery(subjects=1, sfreq=80)
    with pytest.raises(AssertionError, match="asked again"):  # by name: the user means to try again
        load_motor_imagery("eegbci", subjects=1)


def test_auto_falls_back_on_a_full_disk(online, monkeypatch, capsys):
    def full(self, url, output_file, pooch, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    load_motor_imagery(sfreq=80)
    assert "(no space left on device)" in capsys.readouterr().out


def test_fallback_has_the_shape_of_the_recordings():
    trials = load_motor_imagery("simulated", [42, 7], sfreq=80)
    assert trials.signal.shape == (90, 64, 240)
    assert trials.n_classes == 3
    assert tuple(trials.info.ch_names) == EEGBCI_CHANNELS
    assert trials.tmin == 1 and trials.unit == "standardised"
    assert trials.metadata.groupby(["subject", "run"]).size().to_dict() == {
        (subject, run): 15 for subject in (42, 7) for run in (4, 8, 12)
    }
    assert np.median(np.abs(trials.signal)) == pytest.approx(0.6745, rel=1e-3)
    assert len(np.unique(trials.signal[:, 0, 0])) == 90  # no two runs share a trial


def test_fallback_of_four_classes_and_other_windows():
    trials = load_motor_imagery("simulated", 42, runs=(4, 6), tmin=0.0, tmax=2.0)
    assert trials.signal.shape == (30, 64, 320)
    assert trials.n_classes == 4


def test_fallback_run_holds_the_same_trials_whatever_is_loaded_with_it():
    """Up to the scale that all trials share."""
    alone = load_motor_imagery("simulated", 42, runs=8, sfreq=80)
    among = load_motor_imagery("simulated", (41, 42), runs=(4, 8), sfreq=80)
    among = among.subset((among.metadata.subject == 42) & (among.metadata.run == 8))
    np.testing.assert_array_equal(alone.label, among.label)
    ratio = alone.signal / among.signal
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-4)


@pytest.mark.parametrize("name", ["EEG-BCI", "EEGBCI"])
def test_unknown_dataset_names_the_nearest(name):
    with pytest.raises(ValueError, match=rf"Unknown dataset '{name}'\. Did you mean 'eegbci'"):
        load_motor_imagery(name)


# ---- BCI Competition IV 2a, through a stand-in for MOABB -----------------------------------------------------------


def _bnci_raw(seed):
    """One run as MOABB gives it: 22 EEG and 3 EOG channels in V and a stimulus channel, trials of 6 s."""
    names = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()
    info = mne.create_info([*names, "EOG1", "EOG2", "EOG3", "stim"], 250.0, ["eeg"] * 22 + ["eog"] * 3 + ["stim"])
    data = 1e-5 * np.random.default_rng(seed).normal(size=(26, 250 * 8 * 9))
    data[-1] = 0
    for trial in range(8):
        data[-1, 250 * (8 * trial + 3)] = trial % 4 + 1
    raw = mne.io.RawArray(data, info, verbose=False)
    return raw.set_montage("colin27_1005", on_missing="ignore")


class _Dataset:
    interval = (2, 6)
    event_id = types.MappingProxyType({"left_hand": 1, "right_hand": 2, "feet": 3, "tongue": 4})

    def get_data(self, subjects):
        runs = {"0train": {"0": _bnci_raw(0), "1": _bnci_raw(1)}, "1test": {"0": _bnci_raw(2)}}
        return {subjects[0]: runs}


@pytest.fixture
def moabb(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import braindecode.preprocessing  # noqa: F401  # it looks into the real MOABB, so before the stand-in
    module = types.ModuleType("moabb.datasets")
    module.BNCI2014_001 = _Dataset
    monkeypatch.setitem(sys.modules, "moabb.datasets", module)
    return module


def test_bnci2014_001(moabb, recwarn):
    trials = load_bnci2014_001()
    assert not recwarn.list
    assert trials.signal.shape == (24, 22, 1125)
    assert trials.class_names == ("feet", "left hand", "right hand", "tongue")
    assert trials.label[:5].tolist() == [1, 2, 0, 3, 1]
    assert trials.tmin == -0.5 and trials.times[-1] == pytest.approx(4 - 1 / 250)
    assert {session: len(part) for session, part in trials.split("session").items()} == {"0train": 16, "1test": 8}
    assert trials.unit == "standardised"


def test_bnci2014_001_takes_one_subject_in_any_form(moabb):
    for subjects in (2, [2], np.array([2])):
        assert set(load_motor_imagery("bnci2014_001", subjects, tmin=0, tmax=1).metadata.subject) == {2}
    with pytest.raises(ValueError, match=r"subjects are \(1, 2\); BNCI2014_001 is loaded one subject at a time"):
        load_motor_imagery("bnci2014_001", (1, 2))


def test_bnci2014_001_is_standardised_by_a_moving_mean_and_variance(moabb):
    """Braindecode's recursion, sample by sample, on the filtered run."""
    raw = _bnci_raw(0).pick("eeg")
    raw.filter(4.0, 38.0, verbose=False)
    data = 1e6 * raw.get_data()[:3, :6000]
    mean_sum = square_sum = weight = 0.0
    expected = np.empty_like(data)
    for t in range(data.shape[1]):
        mean_sum = data[:, t] + (1 - 1e-3) * mean_sum
        weight = 1 + (1 - 1e-3) * weight
        centred = data[:, t] - mean_sum / weight
        square_sum = centred**2 + (1 - 1e-3) * square_sum
        expected[:, t] = centred / np.maximum(1e-4, np.sqrt(square_sum / weight))
    # The second trial begins at 11 s and its window 1.5 s later, after the block that is standardised as a whole.
    first = round(250 * (11 + 2 - 0.5))
    signal = load_bnci2014_001().signal[1, :3]
    np.testing.assert_allclose(signal, expected[:, first : first + 1125], rtol=1e-4, atol=1e-4)


def test_bnci2014_001_errors(moabb, monkeypatch):
    with pytest.raises(ValueError, match="subject is 10; expected one of 1 to 9"):
        load_bnci2014_001(10)

    def offline(self, subjects):
        raise OSError("no route to host")

    monkeypatch.setattr(_Dataset, "get_data", offline)
    with pytest.raises(ConnectionError, match=r"subject 3, is neither in .* nor could be downloaded \(no route"):
        load_motor_imagery("bnci2014_001")

    def full(self, subjects):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_Dataset, "get_data", full)
    with pytest.raises(OSError, match=r"Cannot write BNCI2014_001, subject 3, .*No space left.*set MNE_DATA") as raised:
        load_bnci2014_001()
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.setitem(sys.modules, "moabb.datasets", None)
    with pytest.raises(ImportError, match=r'load_bnci2014_001 needs moabb.*: pip install "eegxai-support\[data\]"'):
        load_bnci2014_001()


def test_bnci2014_001_matches_moabbs_description():
    """The stand-in above has the interval and codes of the real class, where MOABB is installed."""
    datasets = pytest.importorskip("moabb.datasets", exc_type=ImportError)
    dataset = datasets.BNCI2014_001()
    assert tuple(dataset.interval) == _Dataset.interval
    assert dict(dataset.event_id) == dict(_Dataset.event_id)
    assert set(bnci2014_001.CLASSES) == set(dataset.event_id)


# ---- your own epochs -----------------------------------------------------------------------------------------------


def _epochs(metadata=None, types_=("eeg", "eeg", "eog", "eeg")):
    info = mne.create_info(["Cz", "C3", "EOG", "C4"], 100.0, list(types_))
    if "eeg" in types_:
        info.set_montage("colin27_1005", on_missing="ignore")
    data = 1e-6 * np.random.default_rng(0).normal(size=(5, 4, 50))
    events = np.stack([np.arange(5) * 100, np.zeros(5, int), [7, 3, 7, 7, 3]], axis=1)
    event_id = {"rest": 7, "move": 3}
    return mne.EpochsArray(data, info, events, tmin=-0.1, event_id=event_id, metadata=metadata, verbose=False)


def test_from_epochs():
    epochs = _epochs()
    trials = from_epochs(epochs)
    assert trials.class_names == ("move", "rest")
    assert trials.label.tolist() == [1, 0, 1, 1, 0]
    assert trials.info.ch_names == ["Cz", "C3", "C4"]
    assert trials.unit == "uV" and trials.tmin == pytest.approx(-0.1)
    np.testing.assert_allclose(trials.signal, 1e6 * epochs.get_data()[:, [0, 1, 3]], rtol=1e-6)
    assert trials.metadata.iloc[0].to_dict() == {"subject": "unknown", "session": 1, "run": 1}


def test_from_epochs_keeps_metadata_and_leaves_bad_channels_out():
    epochs = _epochs(metadata=pd.DataFrame({"subject": list("abcde"), "age": range(5)}))
    epochs.info["bads"] = ["C3"]
    trials = from_epochs(epochs[["rest"]])
    assert trials.info.ch_names == ["Cz", "C4"]
    assert trials.metadata.subject.tolist() == ["a", "c", "d"]
    assert trials.metadata.age.tolist() == [0, 2, 3]
    assert set(trials.metadata.run) == {1}
    assert "run" not in epochs.metadata  # the caller's table is untouched


def test_from_epochs_that_are_not_loaded():
    volts = 1e-5 * np.random.default_rng(0).normal(size=(2, 500))
    raw = mne.io.RawArray(volts, mne.create_info(["C3", "C4"], 100.0, "eeg"))
    raw.set_montage("colin27_1005")
    events = np.array([[100, 0, 1], [200, 0, 2], [499, 0, 1]])
    trials = from_epochs(mne.Epochs(raw, events, tmin=0, tmax=0.5, baseline=None, verbose=False))
    assert trials.signal.shape == (2, 2, 51)
    assert trials.class_names == ("1", "2")


@pytest.mark.parametrize(
    ("epochs", "error", "message"),
    [
        (np.zeros((2, 3, 4)), TypeError, "is a ndarray; expected mne.Epochs"),
        (_epochs(types_=("misc",) * 4), ValueError, "no good EEG channel"),
        (_epochs()[[]], ValueError, "No trials"),
    ],
)
@pytest.mark.filterwarnings("ignore:epochs._get_data")
def test_from_epochs_errors(epochs, error, message):
    with pytest.raises(error, match=message):
        from_epochs(epochs)


# ---- recorded results ----------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    checkout, package = tmp_path / "book" / "results", tmp_path / "package"
    monkeypatch.setattr(results, "FOLDERS", (checkout, package))
    return checkout, package


def test_recorded_results_come_back_with_their_provenance(folders):
    checkout, package = folders
    frame = pd.DataFrame({"subject": [1, 2], "accuracy": np.array([0.5, 0.75], dtype=np.float32), "name": ["a", "b"]})
    write_recorded(frame, package / "accuracy.parquet", {"command": "packaged"})
    assert recorded("accuracy").attrs == {"command": "packaged"}
    provenance = {"command": "make results", "versions": {"mne": "1.13"}, "seeds": [0, 1, 2]}
    write_recorded(frame, checkout / "accuracy.parquet", provenance)
    back = recorded("accuracy")  # the checkout's comes first
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == provenance
    assert frame.attrs == {}


def test_unknown_recorded_result_lists_what_exists(folders):
    with pytest.raises(ValueError, match="Known: none"):
        recorded("accuracy")
    write_recorded(pd.DataFrame({"a": [1]}), folders[0] / "accuracy.parquet", {})
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        recorded("acuracy")
    with pytest.raises(ValueError, match="Known: accuracy"):
        recorded("zzz")


def test_recorded_result_is_written_whole_or_not_at_all(folders):
    path = folders[0] / "table.parquet"
    write_recorded(pd.DataFrame({"a": [1]}), path, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_recorded(pd.DataFrame({"a": [2]}), path, {"not": {"json"}})
    assert recorded("table")["a"].tolist() == [1]
    assert [p.name for p in folders[0].iterdir()] == ["table.parquet"]
