"""Files of flicker for `read_recording`: the real ones where they are, else simulated ones, and which it was."""

import mne
import numpy as np
import pytest

import eegxai_support as xs
from eegxai_support.recordings import ssvep_files

CLASSES = {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return xs.fetch_ssvep(12, tmp_path_factory.mktemp("flicker"), dataset="simulated")


def test_simulated_trials_have_the_flicker_of_their_class(simulated):
    """The largest ratio of the power to that of its neighbours is at the flicker, as in the real recordings."""
    files, events = simulated
    trials = xs.read_recording(
        files, event_file=events, events=CLASSES, tmin=2, tmax=5, band=(5, 45), unit="standardised", group="run"
    ).trials
    assert trials.signal.shape == (72, 8, 768) and trials.class_names == tuple(xs.SSVEP_FREQUENCIES)
    assert np.bincount(trials.label).tolist() == [24] * 3 and trials.metadata["run"].nunique() == 3
    frequency = np.fft.rfftfreq(768, 1 / 256)
    for label, flicker in enumerate(xs.SSVEP_FREQUENCIES.values()):
        power = (np.abs(np.fft.rfft(trials.signal[trials.label == label])) ** 2).mean((0, 1))
        ratio = 2 * power[2:-2] / (power[:-4] + power[4:])
        inside = (frequency[2:-2] > 8) & (frequency[2:-2] < 44)
        assert frequency[2:-2][inside][ratio[inside].argmax()] in (flicker, 2 * flicker)


def test_simulated_files_have_the_form_of_the_real_ones(simulated):
    files, events = simulated
    assert [path.name for path in files] == [f"run{run}_raw.fif" for run in (1, 2, 3)]
    raw = mne.io.read_raw_fif(files[0], verbose="ERROR")
    assert raw.info["sfreq"] == 256 and tuple(raw.ch_names) == ssvep_files.CHANNELS
    assert not raw.get_montage()
    codes = mne.read_events(events[0], verbose="ERROR")[:, 2]
    assert np.bincount(codes).tolist() == [0, 8, 8, 8, 8]
    runs = [mne.read_events(path, verbose="ERROR")[:, 2].tolist() for path in events]
    assert runs[0] != runs[1] != runs[2]


def test_files_in_the_cache_are_taken_and_nothing_is_written(simulated, tmp_path, monkeypatch, capsys):
    cache = simulated[0][0].parent.parent
    monkeypatch.setenv("MNE_DATA", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "ssvep_exo").symlink_to(cache)
    files, events = xs.fetch_ssvep(12, tmp_path / "out")
    assert [path.resolve() for path in files] == [path.resolve() for path in simulated[0]]
    assert all(path.exists() for path in events) and not (tmp_path / "out").exists()
    assert capsys.readouterr().out == "Real recordings: Kalunga et al. (2016), subject 12, 3 runs.\n"


def test_without_recordings_it_simulates_and_says_so(tmp_path, monkeypatch, capsys):
    def offline(subject):
        raise ConnectionError("no route to host.")

    monkeypatch.setenv("MNE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(ssvep_files, "runs_of", offline)
    monkeypatch.setattr(ssvep_files, "zenodo_answers", lambda: True)
    monkeypatch.setattr(ssvep_files, "N_RUNS", 1)
    files, events = xs.fetch_ssvep(3, tmp_path)
    assert capsys.readouterr().out.startswith(
        "Simulated recordings of flicker, because the real ones cannot be had: no"
    )
    assert files == [tmp_path / "subject03/run1_raw.fif"] and events[0].exists()
    with pytest.raises(ConnectionError, match="no route"):
        xs.fetch_ssvep(3, tmp_path, dataset="kalunga2016")


def test_what_is_downloaded_is_written_as_files(tmp_path, monkeypatch):
    made = {4: ssvep_files._simulated_run(np.random.default_rng(0))}
    monkeypatch.setattr(ssvep_files, "runs_of", lambda subject: made)
    monkeypatch.setenv("MNE_DATA", str(tmp_path / "nothing"))
    (file,), (event_file,) = xs.fetch_ssvep(1, tmp_path, dataset="kalunga2016")
    assert file == tmp_path / "subject01/run4_raw.fif"
    np.testing.assert_allclose(mne.io.read_raw_fif(file, verbose="ERROR").get_data(), made[4][0].get_data(), rtol=1e-6)
    np.testing.assert_array_equal(mne.read_events(event_file, verbose="ERROR"), made[4][1])


def test_without_an_answer_nothing_is_tried(tmp_path, monkeypatch, capsys):
    def never(subject):
        raise AssertionError("tried")

    monkeypatch.setenv("MNE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(ssvep_files, "runs_of", never)
    monkeypatch.setattr(ssvep_files, "zenodo_answers", lambda: False)
    monkeypatch.setattr(ssvep_files, "N_RUNS", 1)
    xs.fetch_ssvep(3, tmp_path)
    assert capsys.readouterr().out.endswith("they are not in MNE's cache, and zenodo.org does not answer.\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject": 13}, "subject is 13; expected one of 1 to 12"),
        ({"dataset": "kalunga"}, "Did you mean 'kalunga2016'"),
    ],
)
def test_fetch_ssvep_refuses(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        xs.fetch_ssvep(folder=tmp_path, **options)
    assert not list(tmp_path.iterdir())
