"""Drowsy drivers: a written file of the published one's shape, a stand-in for figshare, and simulated trials."""

import errno
import hashlib

import mne
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from eegxai_support.recordings import drowsiness, load_drowsiness

SHAPE = (2022, 30, 384)
SUBJECT = np.repeat(np.arange(1, 12), [2 * n for n in [*[92] * 10, 91]])
STATE = np.arange(len(SUBJECT)) % 2


def _content(**fields):
    signal = np.zeros(SHAPE, np.int8)
    signal[:] = np.arange(384) % 7
    signal[:, :, 0] = np.arange(2022)[:, None] % 100
    signal[:, :, 1] = np.arange(30)
    content = {"EEGsample": signal, "substate": STATE[:, None], "subindex": SUBJECT[:, None].astype(float)}
    return {name: values for name, values in (content | fields).items() if values is not None}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    file = tmp_path_factory.mktemp("drowsiness") / "dataset.mat"
    savemat(file, _content(), do_compression=True)
    return file


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache without recordings and a network that does not answer."""
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    monkeypatch.delenv("MNE_DATASETS_DROWSINESS_PATH", raising=False)
    monkeypatch.setattr("requests.head", _no_network)
    return tmp_path / "eeg-drowsiness"


def _no_network(*args, **kwargs):
    import requests

    raise requests.ConnectionError("no route to host")


@pytest.fixture
def figshare(empty_cache, dataset, monkeypatch):
    """Figshare's answers as its interface gives them; a test may change the file, its hash or an answer."""
    served = {"content": dataset.read_bytes(), "md5": hashlib.md5(dataset.read_bytes()).hexdigest(), "status": 200}
    item = {"name": "dataset.mat", "download_url": "https://ndownloader.figshare.com/files/1"}

    class Answer:
        def __init__(self, url, json):
            self.url, self.status_code, self.json = url, served["status"], lambda: json

        def raise_for_status(self):
            import requests

            if self.status_code >= 400:
                raise requests.HTTPError(f"{self.status_code} for {self.url}")

    def get(url, **kwargs):
        if url.startswith("https://doi.org/10.6084/m9.figshare.14273687"):
            return Answer("https://figshare.com/articles/dataset/EEG_driver_drowsiness_dataset/14273687", None)
        if url.startswith("https://api.figshare.com/v2/articles?doi="):
            return Answer(url, [{"id": 14273687}])
        assert url == "https://api.figshare.com/v2/articles/14273687/versions/3"
        return Answer(url, {"files": [item | {"computed_md5": served["md5"]}]})

    def download(self, url, output_file, pooch, **kwargs):
        if isinstance(served["content"], OSError):
            raise served["content"]
        with open(output_file, "wb") as file:
            file.write(served["content"])

    monkeypatch.setattr("requests.head", lambda *args, **kwargs: None)
    monkeypatch.setattr("requests.get", get)
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", download)
    return served


@pytest.fixture
def few(monkeypatch):
    """Simulated trials fewer than the recorded ones."""
    monkeypatch.setattr(drowsiness, "N_TRIALS", 44)


# ---- the file ------------------------------------------------------------------------------------------------------


def test_file_given_by_name(dataset, capsys):
    trials = load_drowsiness(str(dataset))
    assert capsys.readouterr().out == ""
    assert trials.signal.shape == SHAPE and trials.signal.dtype == np.float32
    np.testing.assert_array_equal(trials.signal, loadmat(dataset)["EEGsample"])
    np.testing.assert_array_equal(trials.label, STATE)
    np.testing.assert_array_equal(trials.metadata.subject, SUBJECT)
    assert trials.class_names == ("alert", "drowsy")
    assert trials.sfreq == 128 and trials.tmin == 0 and trials.truth is None
    assert [dataset.name] == [path.name for path in dataset.parent.iterdir()]  # nothing is written beside it


def test_old_names_stand_where_the_new_ones_do(dataset):
    info = load_drowsiness(dataset).info
    assert info.ch_names[12] == "T3" and info.ch_names[26] == "T6"
    at = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    montage = info.get_montage().get_positions()["ch_pos"]
    for old, new in (("T3", "T7"), ("T4", "T8"), ("T5", "P7"), ("T6", "P8"), ("Cz", "Cz")):
        # MNE moves a montage to head coordinates, which keeps distances.
        np.testing.assert_allclose(
            np.linalg.norm(montage[old] - montage["Fz"]), np.linalg.norm(at[new] - at["Fz"]), rtol=1e-6
        )


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.mat"):
        load_drowsiness(tmp_path / "nothing.mat")


def _one_more_alert():
    state = STATE.copy()
    state[1] = 0
    return state


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"substate": None}, "holds no substate; expected EEGsample, substate, subindex"),
        ({"EEGsample": np.zeros((4, 30, 384))}, r"shape \(4, 30, 384\), with 2022 states.*3 s at 128 Hz"),
        ({"EEGsample": np.zeros((2022, 30, 2))}, r"expected \(2022, 30, 384\) \(trial, channel, time\)"),
        ({"subindex": SUBJECT[:5]}, "2022 states and 5 subjects"),
        ({"substate": STATE + 1}, r"substate has the values \[1, 2\]; expected \[0, 1\]"),
        ({"subindex": np.minimum(SUBJECT, 10)}, r"subindex has the values \[1, .*10\]; expected .*11\]"),
        ({"substate": _one_more_alert()}, r"have \[93, 92, .*\] alert and \[91, 92, .*as many of the one"),
    ],
)
def test_files_with_other_content(tmp_path, fields, message):
    signal = np.broadcast_to(np.zeros(1, np.int8), SHAPE)
    file = tmp_path / "dataset.mat"
    savemat(file, _content(**({"EEGsample": signal} | fields)), do_compression=True)
    with pytest.raises(ValueError, match=message):
        load_drowsiness(file)


# ---- the cache -----------------------------------------------------------------------------------------------------


def test_downloaded_once_and_compared_with_its_own_hash(figshare, empty_cache, monkeypatch, capsys):
    first = load_drowsiness()
    assert capsys.readouterr().out == (
        "Real trials: EEG driver drowsiness, figshare 10.6084/m9.figshare.14273687.v3, 11 subjects.\n"
    )
    file, seal = empty_cache / "dataset.mat", empty_cache / "dataset.mat.sha256"
    assert seal.read_text() == f"{hashlib.sha256(figshare['content']).hexdigest()}  dataset.mat\n"
    assert sorted(path.name for path in empty_cache.iterdir()) == [file.name, seal.name]

    monkeypatch.setattr("requests.head", _no_network)
    np.testing.assert_array_equal(load_drowsiness().signal, first.signal)
    assert capsys.readouterr().out.startswith("Real trials")

    damaged = bytearray(figshare["content"])
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"is damaged: its SHA-256 is not the one in dataset\.mat\.sha256"):
        load_drowsiness()


def test_a_file_that_fails_the_checks_is_not_sealed(empty_cache):
    empty_cache.mkdir()
    (empty_cache / "dataset.mat").write_bytes(b"an error page" * 50)
    with pytest.raises(ValueError, match="is no MATLAB file or damaged"):
        load_drowsiness()
    assert [path.name for path in empty_cache.iterdir()] == ["dataset.mat"]


def test_a_cache_that_cannot_be_written_to_is_read(empty_cache, dataset, monkeypatch):
    empty_cache.mkdir()
    (empty_cache / "dataset.mat").symlink_to(dataset)

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("eegxai_support.recordings.drowsiness.write_whole", refuse)
    assert len(load_drowsiness()) == 2022
    assert [path.name for path in empty_cache.iterdir()] == ["dataset.mat"]


# ---- without it ----------------------------------------------------------------------------------------------------


def test_no_network(empty_cache, few, capfd):
    trials = load_drowsiness()
    captured = capfd.readouterr()
    assert captured.out == (
        "Simulated trials, because the drowsiness recordings are neither in MNE's cache nor could be downloaded"
        " (no connection).\n"
    )
    assert captured.err == ""
    assert trials.truth is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content": OSError(errno.ENOSPC, "No space left on device")}, "(no space left on device)"),
        ({"content": b"an error page"}, "does not match the known hash"),
        ({"status": 403}, "(403 for https://figshare.com/articles/dataset/EEG_driver_drowsiness_dataset/14273687)"),
    ],
)
def test_downloads_that_fail(figshare, empty_cache, few, capsys, change, reason):
    figshare.update(change)
    assert load_drowsiness().truth is not None
    assert reason in capsys.readouterr().out
    assert not [path for path in empty_cache.rglob("*") if path.is_file()]


def test_simulated_trials_have_the_shape_of_the_recorded_ones(empty_cache, few):
    trials = load_drowsiness()
    assert trials.signal.shape == (44, 30, 384)
    assert trials.sfreq == 128 and trials.unit == "uV"
    assert tuple(trials.info.ch_names) == drowsiness.CHANNELS
    assert trials.class_names == ("alert", "drowsy")
    counts = trials.metadata.assign(state=trials.label).groupby(["subject", "state"]).size()
    assert counts.to_dict() == {(subject, state): 2 for subject in range(1, 12) for state in (0, 1)}
    assert len(np.unique(trials.signal[:, 0, 0])) == 44  # no two subjects share a trial


def test_simulated_drowsiness_is_known(empty_cache, few):
    """The truth is strongest at Fz and at the frequency of its class."""
    trials = load_drowsiness()
    frequency = np.fft.rfftfreq(384, 1 / 128)
    power = (np.abs(np.fft.rfft(trials.truth)) ** 2).mean(axis=1)
    expected = np.array(drowsiness.FREQUENCIES)[trials.label]
    np.testing.assert_allclose(frequency[power.argmax(axis=1)], expected, atol=1 / 3)
    assert {trials.info.ch_names[c] for c in np.abs(trials.truth).max(axis=2).argmax(axis=1)} == {"Fz"}
    with pytest.raises(ValueError, match="ideal decoder knows the law"):  # there is one for each subject
        trials.ideal_log_likelihood()


def test_all_simulated_trials():
    trials = drowsiness._simulated()
    assert trials.signal.shape == SHAPE == trials.truth.shape
    assert np.bincount(trials.metadata.subject)[1:].tolist() == [184] * 10 + [182]
