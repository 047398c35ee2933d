"""Recordings of any format to trials: the same trials from each, a note of all that was done, and what is refused."""

import hashlib
import os
import shutil
import types
import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from conftest import hide
from refusals import on_the_page
from scipy.io import savemat

import eegxai_support as xs
from eegxai_support.recordings.reading.opened import readable

SFREQ, GAP = 100.0, 250  # Hz; samples from event to event
NAMES, TYPES = ("C3", "Cz", "C4", "EOG"), ("eeg", "eeg", "eeg", "eog")
CODES = np.array([1, 2, 2, 1, 1, 2, 1, 2, 2, 1, 2, 1])
ONSET = 100 + GAP * np.arange(len(CODES))
N_TIMES = ONSET[-1] + GAP
EVENTS = np.column_stack([ONSET, 0 * ONSET, CODES])
CLASSES = {"left": 1, "right": 2}
WINDOW = {"tmin": 0.2, "tmax": 1.2}

CACHE = Path(os.environ.get("MNE_DATA", "/nonexistent"))
S007 = CACHE / "MNE-eegbci-data/files/eegmmidb/1.0.0/S007"
SSVEP = CACHE / "ssvep_exo/subject12"
real_eegbci = pytest.mark.skipif(not S007.exists(), reason="MNE_DATA names no folder with EEGBCI's subject 7")
real_ssvep = pytest.mark.skipif(not SSVEP.exists(), reason="MNE_DATA names no folder with the SSVEP recordings")


def volts(seed=0, n_channels=4):
    """Noise of 10 µV, and a count of whole µV in it that every format can hold."""
    return 1e-6 * np.random.default_rng(seed).integers(-30, 31, (n_channels, N_TIMES)).astype(float)


def recording(data=None, names=NAMES, types=TYPES, annotated=True, **info):
    made = mne.create_info(list(names), SFREQ, list(types), verbose=False)
    for name, value in info.items():
        made[name] = value
    raw = mne.io.RawArray(volts(n_channels=len(names)) if data is None else data, made, verbose=False)
    if annotated:
        raw.set_annotations(mne.Annotations(ONSET / SFREQ, 0, np.where(CODES == 1, "left", "right")))
    return raw


def saved(raw, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, overwrite=True, verbose=False)
    return path


def epochs_of(raw, tmin=-0.5, tmax=1.5, **options):
    return mne.Epochs(raw, EVENTS, CLASSES, tmin, tmax, baseline=None, preload=True, verbose=False, **options)


def expected(data=None, channels=3, first=20, last=120):
    """The trials by slices: no reader, no time in seconds."""
    data = volts() if data is None else data
    return 1e6 * np.stack([data[:channels, start + first : start + last] for start in ONSET])


def read(*args, **options):
    return xs.read_recording(*args, **({"annotations": ("left", "right")} | WINDOW | options))


@pytest.fixture(autouse=True)
def every_warning_is_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One recording in many forms; file names that say nothing about who and when."""
    folder = tmp_path_factory.mktemp("forms")
    raw = recording()
    saved(raw, folder / "a_raw.fif")
    saved(recording(annotated=False), folder / "bare_raw.fif")
    stim = np.zeros((1, N_TIMES))
    stim[0, ONSET] = CODES
    saved(recording(np.vstack([volts(), stim]), (*NAMES, "STI"), (*TYPES, "stim"), False), folder / "stim_raw.fif")
    epochs_of(raw).save(folder / "a-epo.fif", verbose=False)
    mne.write_events(folder / "a-eve.fif", EVENTS, verbose=False)
    mne.write_events(folder / "a-eve.txt", EVENTS, verbose=False)
    table = pd.DataFrame({"onset": ONSET / SFREQ, "duration": 0, "trial_type": np.where(CODES == 1, "left", "right")})
    table.assign(value=CODES, block=np.repeat([1, 2, 3], 4)).to_csv(folder / "a_events.tsv", sep="\t", index=False)
    write_brainvision(folder / "a")
    write_eeglab(folder / "a.set", volts())
    write_eeglab(folder / "e.set", np.stack([volts()[:, start - 50 : start + 150] for start in ONSET]))
    return folder


def write_brainvision(stem):
    """The three files of a BrainVision recording, by their definition: µV in float32, one marker a line."""
    volts().T.astype("<f4").tofile(stem.with_suffix(".eeg"))
    channels = "".join(f"Ch{k}={name},,1,V\n" for k, name in enumerate(NAMES, start=1))
    stem.with_suffix(".vhdr").write_text(
        "BrainVision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}.eeg\nMarkerFile={stem.name}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(NAMES)}\nSamplingInterval={1e6 / SFREQ:g}\n"
        f"[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}"
    )
    marks = "".join(f"Mk{k + 2}=Stimulus,S{CODES[k]:3d},{ONSET[k] + 1},1,0\n" for k in range(len(CODES)))
    stem.with_suffix(".vmrk").write_text(
        "BrainVision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0\nMk99=Response,R  1,40,1,0\n{marks}"
    )


def write_eeglab(path, data):
    """A .set file with its data inside, in µV; three axes are epochs."""
    epoched = data.ndim == 3
    n_times, xmin = data.shape[-1], -0.5 if epoched else 0.0
    latency = 1.0 + (50 + n_times * np.arange(len(CODES)) if epoched else ONSET)
    event = [
        {"type": "left" if code == 1 else "right", "latency": when, "duration": 0, "epoch": k}
        for k, (code, when) in enumerate(zip(CODES, latency, strict=True), start=1)
    ]
    epoch = [{"event": k, "eventtype": each["type"], "eventlatency": 0.0} for k, each in enumerate(event, start=1)]
    fields = {
        "setname": "a", "nbchan": len(NAMES), "trials": len(data) if epoched else 1, "pnts": n_times, "srate": SFREQ,
        "xmin": xmin, "xmax": xmin + (n_times - 1) / SFREQ, "times": 1000 * (xmin + np.arange(n_times) / SFREQ),
        "data": 1e6 * (data.transpose(1, 2, 0) if epoched else data), "icawinv": [], "icasphere": [], "icaweights": [],
        "icaact": [], "ref": "common", "event": event, "epoch": epoch if epoched else [],
        "chanlocs": [{"labels": name, "type": kind.upper()} for name, kind in zip(NAMES, TYPES, strict=True)],
    }  # fmt: skip
    savemat(path, {"EEG": fields}, appendmat=False, oned_as="row")


# ---- the same trials from every form -------------------------------------------------------------------------------


def test_trials_are_slices_of_the_recording_in_microvolts(folder):
    made = read(folder / "a_raw.fif")
    np.testing.assert_allclose(made.trials.signal, expected(), rtol=1e-6)
    assert made.trials.unit == "uV" and made.trials.class_names == ("left", "right")
    assert made.trials.label.tolist() == (CODES - 1).tolist()
    assert made.trials.tmin == pytest.approx(0.2) and made.trials.times[-1] == pytest.approx(1.19)
    np.testing.assert_allclose(made.trials.metadata.onset, ONSET / SFREQ)
    assert made.raw.ch_names == list(NAMES) and made.trials.info.ch_names == list(NAMES[:3])
    np.testing.assert_allclose(made.raw.get_data(), volts(), atol=1e-12)
    assert made.files == ((str(folder / "a_raw.fif"), sha256(folder / "a_raw.fif")),)
    assert made.dropped.empty and list(made.dropped.columns) == ["class", "reason", "n"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a_raw.fif", {}),
        ("a.vhdr", {"events": CLASSES, "annotations": None}),
        ("a.set", {}),
        ("stim_raw.fif", {"events": CLASSES, "annotations": None}),
        ("bare_raw.fif", {"events": CLASSES, "annotations": None, "event_file": "a-eve.fif"}),
        ("bare_raw.fif", {"events": CLASSES, "annotations": None, "event_file": "a-eve.txt"}),
        ("bare_raw.fif", {"events": CLASSES, "annotations": None, "event_file": "a_events.tsv"}),
        ("bare_raw.fif", {"event_file": "a_events.tsv"}),
        ("a-epo.fif", {}),
        ("a-epo.fif", {"annotations": None}),
        ("a-epo.fif", {"events": CLASSES, "annotations": None}),
        ("e.set", {}),
        ("e.set", {"annotations": None}),
    ],
)
def test_every_form_gives_the_same_trials(folder, name, options):
    if "event_file" in options:
        options = options | {"event_file": folder / options["event_file"]}
    made = read(folder / name, **options)
    np.testing.assert_allclose(made.trials.signal, expected(), rtol=1e-5, atol=1e-4)
    assert made.trials.class_names == ("left", "right") and made.trials.label.tolist() == (CODES - 1).tolist()
    assert made.trials.times[[0, -1]] == pytest.approx([0.2, 1.19])
    assert "EOG" in made.raw.ch_names
    assert {"subject", "session", "run"} <= set(made.trials.metadata)
    assert dict(made.files)[str(folder / name)] == sha256(folder / name)
    if "event_file" in options:
        assert str(options["event_file"]) in dict(made.files)
    if name == "a.vhdr":
        assert {Path(path).suffix for path, _ in made.files} == {".vhdr", ".vmrk", ".eeg"}


def test_edf_gives_the_same_trials(tmp_path):
    pytest.importorskip("edfio")
    mne.export.export_raw(tmp_path / "a.edf", recording(), physical_range=(-40, 40), verbose=False)
    made = read(tmp_path / "a.edf")
    np.testing.assert_allclose(made.trials.signal, expected(), atol=2e-3)  # 80 µV in 16 bits
    assert made.raw.get_channel_types() == list(TYPES)  # EDF knows no EOG: its name says so
    assert any("EOG (eog)" in note for note in made.notes)


def test_columns_of_a_table_of_events_are_kept(folder):
    made = read(folder / "bare_raw.fif", event_file=folder / "a_events.tsv", group="block")
    assert made.trials.metadata.block.tolist() == np.repeat([1, 2, 3], 4).tolist()


def test_classes_may_have_names_of_their_own(folder):
    made = read(folder / "a_raw.fif", annotations={"hand right": "right", "hand left": "left"}).trials
    assert made.class_names == ("hand right", "hand left") and made.label.tolist() == (2 - CODES).tolist()


def test_codes_of_a_table_are_numbers_also_where_one_is_missing(folder, tmp_path):
    table = pd.read_csv(folder / "a_events.tsv", sep="\t", dtype=object)
    table.loc[3, "value"] = "n/a"
    table.assign(trial_type=CODES, event="x").to_csv(tmp_path / "e.tsv", sep="\t", index=False)
    keep = np.arange(12) != 3
    made = read(folder / "bare_raw.fif", annotations=None, events=CLASSES, event_file=tmp_path / "e.tsv").trials
    assert made.label.tolist() == (CODES[keep] - 1).tolist()
    made = read(folder / "bare_raw.fif", annotations=["1", "2"], event_file=tmp_path / "e.tsv").trials
    assert made.label.tolist() == (CODES - 1).tolist()


@pytest.mark.parametrize("dated", [True, False])
def test_the_first_sample_of_a_part_shifts_no_event(tmp_path, dated):
    """Events of MNE count from the beginning of the whole recording, annotations from its date or from the part."""
    raw = recording()
    if dated:
        raw.set_meas_date(1e9)
        raw.set_annotations(mne.Annotations(ONSET / SFREQ, 0, np.where(CODES == 1, "left", "right"), orig_time=1e9))
    part = saved(raw.crop(3.0, None), tmp_path / "part_raw.fif")
    mne.write_events(tmp_path / "a-eve.fif", EVENTS[ONSET >= 300], verbose=False)
    by_name = read(part)
    by_code = read(part, annotations=None, events=CLASSES, event_file=tmp_path / "a-eve.fif")
    for made in (by_name, by_code):
        np.testing.assert_allclose(made.trials.signal, expected()[ONSET >= 300], rtol=1e-6)


@real_eegbci
def test_eegbci_gives_what_its_loader_gives():
    files = [S007 / f"S007R{run:02d}.edf" for run in (4, 8)]
    made = xs.read_recording(
        files, annotations=("T1", "T2"), tmin=1, tmax=4, band=(7, 38), resample=80, reference="average", group="run"
    ).trials
    loaded = xs.load_eegbci(7, (4, 8), sfreq=80)
    assert made.info.ch_names == loaded.info.ch_names and (made.label == loaded.label).all()
    assert (made.metadata[["subject", "session", "run"]] == loaded.metadata[["subject", "session", "run"]]).all(
        axis=None
    )
    for run, trials in made.split("run").items():
        same = loaded.split("run")[run].signal
        factor = np.median(trials.signal / same)  # the loader divides each run by one number
        np.testing.assert_allclose(trials.signal, factor * same, atol=1e-5 * same.std() * factor)


@real_ssvep
def test_ssvep_gives_what_its_loader_gives():
    options = {"events": {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3}, "tmin": 2, "tmax": 5, "band": (5, 45)}
    made = xs.read_recording(
        [SSVEP / f"run{run}_raw.fif" for run in (1, 2)], event_file=[SSVEP / f"run{run}-eve.fif" for run in (1, 2)],
        unit="standardised", group="run", **options,
    ).trials  # fmt: skip
    loaded = xs.load_ssvep(12, (1, 2), rest=False)
    assert made.class_names == loaded.class_names and (made.label == loaded.label).all()
    assert (made.metadata[["subject", "run"]] == loaded.metadata[["subject", "run"]]).all(axis=None)
    for run, trials in made.split("run").items():
        same = loaded.split("run")[run].signal
        factor = np.median(trials.signal / same)
        np.testing.assert_allclose(trials.signal, factor * same, atol=1e-5 * same.std() * factor)


# ---- what is done on the way ---------------------------------------------------------------------------------------


def test_the_band_is_filtered_before_trials_are_cut(tmp_path):
    """A rhythm inside the band stays, those outside go, at the ends of trials too; `raw` keeps all."""
    time = np.arange(N_TIMES) / SFREQ
    slow, kept, fast = (1e-5 * np.sin(2 * np.pi * frequency * time) for frequency in (1.3, 10, 35))
    gains = np.array([1.0, 2.0, -1.0, 0.5])[:, None]
    whole = gains * (slow + kept + fast)
    made = read(saved(recording(whole), tmp_path / "a_raw.fif"), band=(4, 20))
    np.testing.assert_allclose(made.trials.signal[1:-1], expected(gains * kept)[1:-1], atol=0.1)
    np.testing.assert_allclose(made.raw.get_data(), whole, atol=1e-9)
    assert made.trials.info["lowpass"] == 20 and any("pass-band 4 to 20 Hz" in note for note in made.notes)
    open_below = read(tmp_path / "a_raw.fif", band=(None, 20)).trials
    np.testing.assert_allclose(open_below.signal[1:-1], expected(gains * (slow + kept))[1:-1], atol=0.1)
    open_above = read(tmp_path / "a_raw.fif", band=(4, None)).trials
    np.testing.assert_allclose(open_above.signal[1:-1], expected(gains * (kept + fast))[1:-1], atol=0.1)


def test_resampling_shifts_no_event(tmp_path):
    time = np.arange(N_TIMES) / SFREQ
    slow = 1e-5 * np.sin(2 * np.pi * 3.3 * time) * np.ones((4, 1)) * np.array([1, 2, 3, 4])[:, None]
    made = read(saved(recording(slow), tmp_path / "a_raw.fif"), resample=50)
    assert made.trials.sfreq == 50 and made.raw.info["sfreq"] == 100 and made.trials.signal.shape == (12, 3, 50)
    np.testing.assert_allclose(made.trials.signal[1:-1], expected(slow)[1:-1, :, ::2], atol=0.1)
    assert "Resampled from 100 to 50 Hz." in made.notes


def test_the_reference_is_changed_in_trials_and_in_raw(folder):
    made = read(folder / "a_raw.fif", reference="average")
    data = volts()
    np.testing.assert_allclose(made.trials.signal, expected(data[:3] - data[:3].mean(0)), atol=1e-4)
    np.testing.assert_allclose(made.raw.get_data()[3], data[3], atol=1e-12)
    assert "Re-referenced to the average of the 3 good EEG channels." in made.notes
    with pytest.warns(UserWarning, match="record nothing: Cz"):
        made = read(folder / "a_raw.fif", reference=["Cz"])
    np.testing.assert_allclose(made.trials.signal, expected(data[:3] - data[1])[:, ::2], atol=1e-4)
    assert any("record nothing: Cz" in note for note in made.notes)


def test_the_baseline_is_subtracted(folder):
    made = read(folder / "a_raw.fif", tmin=-0.2, baseline=(None, 0)).trials.signal
    slices = expected(first=-20)
    np.testing.assert_allclose(made, slices - slices[..., :21].mean(2, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(read(folder / "a-epo.fif", tmin=-0.2, baseline=(-0.2, 0)).trials.signal, made, atol=1e-4)


def test_numbers_in_microvolts_are_taken_so_and_raw_is_in_volts(tmp_path, capfd):
    path = saved(recording(1e6 * volts()), tmp_path / "a_raw.fif")
    made = read(path, unit="uV", reference="average", band=(5, 30), resample=80)
    assert capfd.readouterr() == ("", "")  # what there is to say stands in the notes
    made = read(path, unit="uV")
    np.testing.assert_allclose(made.trials.signal, expected(), rtol=1e-5)
    np.testing.assert_allclose(made.raw.get_data(), volts(), rtol=1e-5)
    with pytest.warns(UserWarning, match="Taken as V.*Pass unit='uV'") as caught:
        made = read(path)
    assert caught[0].filename == __file__ and any("Pass unit='uV'" in note for note in made.notes)
    epochs_of(recording(1e6 * volts())).save(tmp_path / "a-epo.fif", verbose=False)
    np.testing.assert_allclose(read(tmp_path / "a-epo.fif", unit="uV").raw.get_data().max(), 30e-6, rtol=1e-5)


def test_channels_are_renamed_left_out_and_placed_with_a_note(tmp_path):
    names = ("EEG C3-Ref", "Fc5.", "weird", "EXG1", "Fz..")
    path = saved(recording(names=names, types=["eeg"] * 5), tmp_path / "a_raw.fif")
    made = read(path, rename={"weird": "Pz"}, exclude=["FZ"])
    assert made.trials.info.ch_names == ["C3", "FC5", "Pz"] and made.raw.ch_names == ["C3", "FC5", "Pz", "EXG1"]
    assert made.raw.get_channel_types() == ["eeg", "eeg", "eeg", "misc"]
    places = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    for name, channel in zip(made.trials.info.ch_names, made.trials.info["chs"], strict=True):
        assert np.linalg.norm(channel["loc"][:3]) == pytest.approx(np.linalg.norm(places[name]), rel=0.4)
    np.testing.assert_allclose(made.trials.signal, expected(volts(n_channels=5)), rtol=1e-5)
    for said in ("weird → Pz", "EEG C3-Ref → C3, Fc5. → FC5", "Left out as asked: Fz..", "EXG1 (misc)", "3 of 3"):
        assert any(said in note for note in made.notes), said


@pytest.mark.parametrize("from_file", [False, True])
def test_a_montage_places_what_it_knows(tmp_path, from_file):
    path = saved(recording(names=("EEG FPZ-Ref", "oz", "mine", "EOG")), tmp_path / "a_raw.fif")
    montage = "biosemi64"
    if from_file:
        places = mne.channels.make_standard_montage("biosemi64").get_positions()["ch_pos"]
        lines = [f"{name} {x:.6f} {y:.6f} {z:.6f}" for name, (x, y, z) in places.items()]
        montage = tmp_path / "cap.sfp"
        montage.write_text("\n".join(lines))
    made = read(path, montage=montage)
    assert made.trials.info.ch_names == ["Fpz", "Oz", "mine"]
    front, back, nowhere = (channel["loc"][:3] for channel in made.trials.info["chs"])
    assert front[1] > 0.05 and back[1] < -0.05 and not np.nansum(np.abs(nowhere))
    assert (
        any("2 of 3" in note and str(montage) in note for note in made.notes)
        and "Without a position: mine." in made.notes
    )


@pytest.mark.parametrize("name", ["1005", "1020", "postfixed"])
def test_a_montage_is_found_by_the_name_that_mne_gave_it_before(folder, name):
    warnings.simplefilter("error", FutureWarning)  # which MNE gives for the old name, and next an error
    now = mne.create_info(["C3", "Cz", "C4"], SFREQ, "eeg").set_montage(f"colin27_{name}")
    made = read(folder / "a_raw.fif", montage=f"standard_{name}")
    places = [[channel["loc"][:3] for channel in info["chs"]] for info in (made.trials.info, now)]
    np.testing.assert_allclose(*places, atol=1e-6)
    assert any(f"the montage colin27_{name}" in note for note in made.notes)


def test_bad_parts_and_ends_drop_trials_which_are_counted(tmp_path):
    raw = recording()
    raw.annotations.append(ONSET[2] / SFREQ, 0.5, "BAD_blink").append(ONSET[5] / SFREQ, 0.5, "bad muscle")
    raw.annotations.append((N_TIMES - 50) / SFREQ, 0, "left")
    made = read(saved(raw, tmp_path / "a_raw.fif"))
    keep = np.setdiff1d(np.arange(12), [2, 5])
    np.testing.assert_allclose(made.trials.signal, expected()[keep], rtol=1e-5)
    np.testing.assert_allclose(made.trials.metadata.onset, ONSET[keep] / SFREQ)
    found = {tuple(row) for row in made.dropped.to_numpy().tolist()}
    assert found == {
        ("right", "BAD_blink", 1), ("right", "bad muscle", 1), ("left", "beyond the ends of the recording", 1)
    }  # fmt: skip
    assert any("10 of 13 events became trials" in note and "BAD_blink" in note for note in made.notes)


def test_runs_are_joined_whatever_their_order_of_channels_gains_and_bad_channels(tmp_path):
    first, second = recording(volts(1)), recording(volts(2)[[2, 0, 1, 3]], ("C4", "C3", "Cz", "EOG"))
    second.info["bads"] = ["C4"]
    for raw, unit in ((first, 1e-6), (second, 1e-9)):
        for channel in raw.info["chs"]:
            channel["cal"] = unit
    paths = [saved(first, tmp_path / "r1_raw.fif"), saved(second, tmp_path / "r2_raw.fif")]
    made = read(paths, group="run")
    assert made.trials.info.ch_names == ["C3", "Cz"] and made.trials.metadata.run.tolist() == [1] * 12 + [2] * 12
    np.testing.assert_allclose(made.trials.signal[:12], expected(volts(1), 2), rtol=1e-5)
    np.testing.assert_allclose(made.trials.signal[12:], expected(volts(2), 2), rtol=1e-5)
    assert made.raw.n_times == 2 * N_TIMES and made.raw.info["bads"] == ["C4"]
    np.testing.assert_allclose(made.raw.get_data(), np.hstack([volts(1), volts(2)]), atol=1e-11)
    assert any("r1_raw.fif: kept out of its trials, since bad in another recording: C4" in n for n in made.notes)


def test_every_subject_has_a_recording_of_its_own(tmp_path):
    paths = [saved(recording(volts(seed)), tmp_path / f"sub-0{who}_run-{run}_raw.fif")
             for seed, (who, run) in enumerate([(1, 1), (2, 1), (1, 2)])]  # fmt: skip
    made = read(paths)
    assert list(made.by_subject) == [1, 2]
    np.testing.assert_allclose(made.by_subject[1].get_data(), np.hstack([volts(0), volts(2)]), atol=1e-11)
    np.testing.assert_allclose(made.by_subject[2].get_data(), volts(1), atol=1e-11)
    assert made.raw.n_times == 3 * N_TIMES and made.by_subject[1].n_times == 2 * N_TIMES


def test_epochs_of_one_file_may_be_of_several_subjects(tmp_path):
    epochs = epochs_of(recording(volts(3)))
    epochs.metadata = pd.DataFrame({"subject": np.repeat(["a", "b"], 6), "run": 1})
    epochs.save(tmp_path / "both-epo.fif", verbose=False)
    made = read(tmp_path / "both-epo.fif")
    assert {f"The epochs' metadata says the {name} of each." for name in ("subject", "run")} <= set(made.notes)
    assert not any(note.startswith(("Runs are", "Subject ")) for note in made.notes)
    whole = epochs.get_data(copy=False)
    for subject, rows in (("a", slice(6)), ("b", slice(6, 12))):
        np.testing.assert_allclose(made.by_subject[subject].get_data(copy=False), whole[rows], atol=1e-11)


def test_events_are_known_by_the_last_part_of_their_names_where_one_alone_has_it(tmp_path):
    raw = recording()
    kinds = {"left": "Comment/left", "right": "Comment/right"}
    raw.annotations.rename(kinds)
    made = read(saved(raw, tmp_path / "kinds_raw.fif"))
    assert made.trials.class_names == ("left", "right") and len(made.trials) == 12
    raw.annotations.description[np.flatnonzero(raw.annotations.description == "Comment/left")[0]] = "Stimulus/left"
    with pytest.raises(ValueError, match="several classes the same event"):
        read(tmp_path / "kinds_raw.fif", annotations={"a": "left", "b": "Comment/left", "c": "right"})
    with pytest.raises(ValueError, match=r"asks for 'left', which is not in .*Comment/left"):
        read(saved(raw, tmp_path / "kinds_raw.fif"))


def test_gains_that_differ_are_joined(tmp_path):
    pytest.importorskip("edfio")
    for name, span in (("run1", 40), ("run2", 80)):
        mne.export.export_raw(tmp_path / f"{name}.edf", recording(), physical_range=(-span, span), verbose=False)
    made = read([tmp_path / "run1.edf", tmp_path / "run2.edf"], group="run")
    np.testing.assert_allclose(made.raw.get_data(), np.hstack([volts(), volts()]), atol=3e-9)
    assert len(made.raw.annotations.description[made.raw.annotations.description == "left"]) == 12


def test_an_order_of_classes_is_kept_where_a_run_lacks_one(tmp_path):
    first, second = recording(), recording()
    first.set_annotations(first.annotations[first.annotations.description == "right"])
    paths = [saved(first, tmp_path / "run1_raw.fif"), saved(second, tmp_path / "run2_raw.fif")]
    made = read(paths)
    assert made.trials.class_names == ("left", "right")
    assert made.trials.label.tolist() == [1] * 6 + (CODES - 1).tolist()


# ---- who and when --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "his_id", "subject", "run"),
    [
        ("S007R04_raw.fif", None, 7, 4),
        ("sub-12_ses-2_task-x_run-03_raw.fif", None, 12, 3),
        ("subject05/run2_raw.fif", None, 5, 2),
        ("anything_raw.fif", "S12", 12, 1),
        ("subject05/run2_raw.fif", "S05", 5, 2),
        ("subject05/run2_raw.fif", "S06", "unknown", 2),
        ("anything_raw.fif", "X", "unknown", 1),
        ("anything_raw.fif", None, "unknown", 1),
        ("sub-ann_raw.fif", None, "ann", 1),
        ("classes3_raw.fif", None, "unknown", 1),
    ],
)
def test_subject_and_run_are_read_where_one_thing_says_so(tmp_path, name, his_id, subject, run):
    raw = recording(subject_info=None if his_id is None else {"his_id": his_id})
    made = read(saved(raw, tmp_path / "data" / name))
    assert set(made.trials.metadata.subject) == {subject} and set(made.trials.metadata.run) == {run}
    assert any(note.startswith(f"Subject {subject}, ") and Path(name).name in note for note in made.notes)


def test_two_files_of_one_name_are_two_runs(tmp_path):
    paths = [saved(recording(), tmp_path / part / "run1_raw.fif") for part in ("x", "y")]
    assert read(paths, group="run").trials.metadata.run.tolist() == [1] * 12 + [2] * 12


def test_blocks_are_consecutive_in_time(folder):
    made = read(folder / "a_raw.fif", group="blocks", n_blocks=5)
    assert made.trials.metadata.blocks.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5]
    assert (np.diff(made.trials.metadata.onset) > 0).all()
    assert any("5 blocks of 2 to 3 trials" in note for note in made.notes)


def test_trials_that_share_samples_are_noted(folder):
    assert any("share samples" in note for note in read(folder / "a_raw.fif", tmin=0, tmax=2.51).notes)
    assert not any("share samples" in note for note in read(folder / "a_raw.fif", tmin=0, tmax=2.5).notes)


# ---- epochs --------------------------------------------------------------------------------------------------------


def test_epochs_keep_metadata_and_say_what_was_dropped_before(tmp_path):
    raw = recording()
    raw.annotations.append(ONSET[0] / SFREQ, 0.2, "BAD_start")
    metadata = pd.DataFrame({"Subject": [4] * 6 + [5] * 6, "word": list("abcdefghijkl")})
    epochs_of(raw, metadata=metadata).save(tmp_path / "a-epo.fif", verbose=False)
    made = read(tmp_path / "a-epo.fif", annotations=None, group="subject")
    assert made.trials.metadata.word.tolist() == list("bcdefghijkl")
    assert made.trials.metadata.subject.tolist() == [4] * 5 + [5] * 6
    assert made.dropped.to_numpy().tolist() == [["unknown", "BAD_start, before the file was written", 1]]


def test_epochs_are_filtered_with_a_warning_and_cropped_after(folder):
    with pytest.warns() as caught:
        made = read(folder / "a-epo.fif", band=(5, 30))
    assert any("after they had been cut" in str(each.message) for each in caught)
    assert any("after they had been cut" in note for note in made.notes)
    assert made.trials.signal.shape == (12, 3, 100) and made.trials.info["highpass"] == 5
    assert made.raw.tmin == -0.5 and made.raw.info["highpass"] == 0
    at_half = read(folder / "a-epo.fif", resample=50)
    assert at_half.trials.signal.shape == (12, 3, 50) and at_half.raw.info["sfreq"] == 100


def test_epochs_of_several_files_are_joined(tmp_path, folder):
    renumbered = epochs_of(recording(volts(3)))
    renumbered.events[:, 2], renumbered.event_id = 10 + CODES, {"left": 11, "right": 12}
    renumbered.save(tmp_path / "b-epo.fif", verbose=False)
    made = read([folder / "a-epo.fif", tmp_path / "b-epo.fif"], group="run")
    np.testing.assert_allclose(made.trials.signal, np.concatenate([expected(), expected(volts(3))]), rtol=1e-5)
    assert made.trials.label.tolist() == 2 * (CODES - 1).tolist() and len(made.raw) == 24


# ---- BIDS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    mne_bids = pytest.importorskip("mne_bids")
    root = tmp_path_factory.mktemp("bids")
    raw = mne.io.read_raw_fif(saved(recording(), root.parent / "for_bids_raw.fif"), verbose=False)
    raw.info["line_freq"] = 50
    raw.set_montage("colin27_1005", on_missing="ignore", verbose=False)
    for subject in ("01", "02"):
        path = mne_bids.BIDSPath(subject=subject, session="2", task="x", run="1", datatype="eeg", root=root)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mne_bids.write_raw_bids(raw, path, format="BrainVision", verbose=False, allow_preload=False)
    return root


def test_a_bids_data_set_its_subject_and_its_path_are_read(bids, monkeypatch):
    from mne_bids import BIDSPath

    warnings.simplefilter("ignore")  # an EOG without a place, to MNE-BIDS
    made = read(bids, group="subject")
    assert made.trials.metadata.subject.tolist() == [1] * 12 + [2] * 12
    assert set(made.trials.metadata.session) == {2} and set(made.trials.metadata.run) == {1}
    np.testing.assert_allclose(made.trials.signal[:12], expected(), atol=1e-3)
    assert made.raw.get_channel_types()[-1] == "eog"
    assert {"01", "02"} <= {part for path, _ in made.files for part in Path(path).name.split("sub-")[-1].split("_")[:1]}
    assert any(path.endswith("_events.tsv") for path, _ in made.files)
    path = BIDSPath(
        subject="02", session="2", task="x", run="1", datatype="eeg", root=bids, extension=".vhdr", suffix="eeg"
    )
    for one in (bids / "sub-02", path, path.fpath):
        assert set(read(one).trials.metadata.subject) == {2}
    monkeypatch.chdir(bids)
    assert set(read("sub-02").trials.metadata.subject) == {2}


def test_bids_without_its_package_says_what_to_install(bids, monkeypatch):
    warnings.simplefilter("ignore")
    hide(monkeypatch, "mne_bids")
    with pytest.raises(ModuleNotFoundError, match=r'needs mne_bids.*pip install "eegxai-support\[bids\]"'):
        read(bids)
    (file,) = (bids / "sub-01/ses-2/eeg").glob("*.vhdr")
    made = read(file, annotations=None, events={"left": 1, "right": 2})
    assert any('pip install "eegxai-support[bids]"' in note for note in made.notes)


# ---- what cannot be used -------------------------------------------------------------------------------------------


def part_of(path, share):
    content = path.read_bytes()
    cut = path.with_name(f"cut_{path.name}")
    cut.write_bytes(content[: int(share * len(content))])
    return cut


def text_as(folder, name):
    (folder / name).write_text("What a pity, this is text.\n" * 20)
    return folder / name


def with_nan(folder):
    data = volts()
    data[1, 300] = np.nan
    return saved(recording(data), folder / "nan_raw.fif")


def other_rate(folder):
    return saved(recording().resample(50, verbose=False), folder / "slow_raw.fif")


A, BARE = "a_raw.fif", "bare_raw.fif"
BY_CODE = {"annotations": None, "events": CLASSES}
# fault: what is read (a name, or a function of the folder), options, what the error says
FAULTS = {
    "no file": ("b_raw.fif", {}, "does not exist; near it.*a_raw.fif"),
    "no folder": ("nowhere/b.fif", {}, "does not exist, nor its folder"),
    "no path": (lambda f: [], {}, "paths is empty"),
    "a path twice": (lambda f: [f / A, f / A], {}, "more than once"),
    "a folder": (".", {}, r"is a folder; expected a recording.*holds.*a\.set.*give those"),
    "an ending of no format": (lambda f: text_as(f, "x.xyz"), {}, r"ending '\.xyz'; expected one of \.fif"),
    "text called fif": (lambda f: text_as(f, "text_raw.fif"), {}, r"cannot be read as \.fif.*Is it whole"),
    "text called edf": (lambda f: text_as(f, "x.edf"), {}, r"cannot be read as \.edf"),
    "text called set": (lambda f: text_as(f, "x.set"), {}, r"cannot be read as \.set"),
    "text called vhdr": (lambda f: text_as(f, "x.vhdr"), {}, r"cannot be read as \.vhdr"),
    "an empty file": (lambda f: part_of(f / A, 0), {}, r"cannot be read as \.fif"),
    "a truncated recording": (lambda f: part_of(f / A, 0.5), {}, r"cannot be read as \.fif.*copy it again"),
    "truncated epochs": (lambda f: part_of(f / "a-epo.fif", 0.5), {}, r"cannot be read as \.fif"),
    "a part of a recording": ("a.vmrk", {}, r"part of a recording.*Give .*a\.vhdr"),
    "data of a recording": ("a.eeg", {}, r"part of a recording.*Give .*a\.vhdr"),
    "events as the recording": ("a-eve.fif", {}, "holds events; expected a recording.*event_file"),
    "epochs and a recording": (lambda f: [f / A, f / "a-epo.fif"], {}, "is continuous and .* holds epochs"),
    "no classes named": (A, {"annotations": None},
        r"left \(6\), right \(6\).*annotations=\('left', 'right'\) \(--annot"),
    "no codes named": ("stim_raw.fif", {"annotations": None}, r"1 \(6\), 2 \(6\).*--events class_A=1,class_B=2"),
    "no events at all": (BARE, {"annotations": None}, r"neither annotations nor.*a-eve\.fif.*--event-file"),
    "codes and names": (A, {"events": CLASSES}, "Both events and annotations"),
    "one class": (A, {"annotations": ["left"]}, "left is the only class"),
    "two names of a code": (A, {"annotations": None, "events": {"a": 1, "b": 1, "c": 2}},
        "several names to the code 1"),
    "codes as a list": (A, {"annotations": None, "events": [1, 2]}, r"events is \[1, 2\]; expected names and codes"),
    "codes that are no numbers": (A, {"annotations": None, "events": {"a": "x", "b": 1}},
        r"codes \['x', 1\]; expected"),
    "annotation not there": (A, {"annotations": ["left", "rihgt"]}, r"'rihgt', which is not in.*left \(6\).*'right'"),
    "code not there": ("a.vhdr", {"annotations": None, "events": {"a": 1, "b": 7}},
        r"7, which is not in.*1 \(6\), 2 \(6\)"),
    "name not in epochs": ("a-epo.fif", {"annotations": ["left", "up"]}, r"'up', which is not in.*left \(6\)"),
    "code not in epochs": ("a-epo.fif", {"annotations": None, "events": {"a": 1, "b": 9}}, "9, which is not in"),
    "event file not there": (BARE, BY_CODE | {"event_file": "b-eve.fif"}, "does not exist; near it.*a-eve.fif"),
    "event file of text": (BARE, BY_CODE | {"event_file": "x.xyz-eve.fif"}, "cannot be read as events"),
    "event file of a longer recording": (BARE, BY_CODE | {"event_file": "long-eve.fif"},
        "2 of 14 events.*another rec"),
    "table without onset": (BARE, {"event_file": "wrong.tsv"}, "lacks onset"),
    "event files too few": (lambda f: [f / A, f / BARE], BY_CODE | {"event_file": "a-eve.fif"},
        "1 event files for 2"),
    "event file for epochs": ("a-epo.fif", BY_CODE | {"event_file": "a-eve.fif"}, "holds epochs.*leave event_file"),
    "two classes at one time": (BARE, BY_CODE | {"event_file": "twice-eve.fif"}, "two events .* at 1 s"),
    "class with one trial": (BARE, BY_CODE | {"event_file": "one-eve.fif"}, "'right' has 1 trial; expected 2"),
    "no end of the window": (A, {"tmax": None}, "tmax is missing.*2.5 s apart"),
    "window inverted": (A, {"tmin": 1, "tmax": 0.5}, "from 1 to 0.5 s; expected tmin before tmax"),
    "window of no length": (A, {"tmin": 1, "tmax": 1}, "expected tmin before tmax"),
    "window of one sample": (A, {"tmin": 0, "tmax": 0.01}, "there are 1 samples at 100 Hz"),
    "window beyond the end": (A, {"tmin": 100, "tmax": 101},
        "'left' has 0 trials; dropped: 6 of left .beyond the ends"),
    "window beyond the epochs": ("a-epo.fif", {"tmax": 2}, "epochs of .* from -0.5 to 1.51 s"),
    "baseline outside": (A, {"baseline": (-0.5, 0)}, "baseline runs from -0.5 to 0 s, the window from 0.2"),
    "baseline inverted": (A, {"baseline": (0.5, 0.3)}, "baseline runs from 0.5 to 0.3 s"),
    "band above half the rate": (A, {"band": (5, 60)}, "band ends at 60 Hz; expected less than 50 Hz"),
    "band above half the new rate": (A, {"band": (5, 30), "resample": 50},
        "less than 25 Hz, half of the sampling rate 50"),
    "band inverted": (A, {"band": (30, 5)}, "band runs from 30 to 5 Hz"),
    "band of one edge": (A, {"band": (30,)}, r"band is \(30,\); expected its two ends"),
    "band below zero": (A, {"band": (-1, 5)}, "expected edges above 0 Hz"),
    "rate above the recording's": (A, {"resample": 200}, "200 Hz, above the recording's 100 Hz"),
    "rate below zero": (A, {"resample": 0}, "expected a rate above 0"),
    "rates that differ": (lambda f: [f / A, other_rate(f)], {}, "at 100 Hz, slow_raw.fif at 50 Hz; expected one"),
    "unknown reference": (A, {"reference": ["TP9"]}, "Unknown reference channel 'TP9'"),
    "empty reference": (A, {"reference": []}, "reference is empty"),
    "unknown montage": (A, {"montage": "biosemi46"}, "Unknown montage 'biosemi46'. Did you mean 'biosemi64'"),
    "montage of no channel": (A, {"montage": "GSN-HydroCel-128"}, "has none of the EEG channels C3, Cz, C4"),
    "file of no montage": (A, {"montage": "wrong.tsv"}, "cannot be read as positions"),
    "montage file not there": (A, {"montage": "cap.sfp"}, "does not exist"),
    "rename of no channel": (A, {"rename": {"C33": "C4"}}, "Unknown channel in rename 'C33'. Did you mean 'C3'"),
    "rename to one name": (A, {"rename": {"C3": "C4"}}, "several channels the name C4"),
    "exclude of no channel": (A, {"exclude": ["Oz"]}, "Unknown channel in exclude 'Oz'"),
    "exclude of everything": (A, {"exclude": ["C3", "Cz", "C4"]}, "all 3 EEG channels"),
    "no EEG": (lambda f: saved(recording(types=["eog"] * 4), f / "eog_raw.fif"), {}, r"no EEG channel; .*\['eog'\]"),
    "all bad": (lambda f: saved(recording(bads=["C3", "Cz", "C4"]), f / "bad_raw.fif"), {},
        "All 3 EEG channels .* bad"),
    "channels that differ": (lambda f: [f / A, saved(recording(names=("C3", "Cz", "Pz",
        "EOG")), f / "other_raw.fif")], {},
        "do not share the EEG channels C4, Pz"),
    "unknown unit": (A, {"unit": "volt"}, "Unknown unit 'volt'"),
    "NaN, filtered": (with_nan, {"band": (5, 30)}, "NaN.*channel Cz at 3 s"),
    "NaN, as it is": (with_nan, {"tmin": -0.6}, "NaN.*trial 1, channel Cz at -0.5 s"),
    "group that is no column": (A, {"group": "sesion"}, "Unknown group 'sesion'. Did you mean 'session'"),
    "group of one value": (A, {"group": "run"}, r"All 12 trials have the run 1;.*group='blocks'"),
    "blocks too many": (A, {"group": "blocks", "n_blocks": 7}, "n_blocks is 7; expected 2 to 6"),
}  # fmt: skip


@pytest.fixture(scope="module")
def faulty(folder, tmp_path_factory):
    """A folder of its own, since faults leave files."""
    there = tmp_path_factory.mktemp("faults")
    for path in folder.iterdir():
        shutil.copy(path, there)
    text_as(there, "x.xyz-eve.fif")
    (there / "wrong.tsv").write_text("time\ttrial_type\n1.0\tleft\n")
    late = EVENTS[:2] + np.array([N_TIMES, 0, 0])
    mne.write_events(there / "long-eve.fif", np.vstack([EVENTS, late]), verbose=False)
    mne.write_events(
        there / "twice-eve.fif", np.vstack([EVENTS[:1], EVENTS[:1] + np.array([0, 0, 1]), EVENTS[1:]]), verbose=False
    )
    mne.write_events(there / "one-eve.fif", EVENTS[[0, 1, 3]], verbose=False)
    return there


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_remedy(faulty, fault):
    what, options, message = FAULTS[fault]
    paths = what(faulty) if callable(what) else faulty / what
    for name in ("event_file", "montage"):
        if "." in str(options.get(name, "")):
            options = options | {name: faulty / options[name]}
    warnings.simplefilter("ignore", RuntimeWarning)  # what a reader says before it fails
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        read(paths, **options)
    *_, last = raised.traceback
    assert "eegxai_support" in str(last.path), f"raised in {last.path}"
    assert on_the_page("Reading a recording", fault, str(raised.value)), raised.value


def test_a_reader_that_is_not_installed_is_named_with_its_extra(faulty, monkeypatch):
    """MNE falls back on SciPy for .set files up to MATLAB's format 7; the newer ones are HDF5."""
    (faulty / "new.set").write_bytes((b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM").ljust(512, b"\0"))
    hide(monkeypatch, "pymatreader")
    with pytest.raises(ModuleNotFoundError, match=r'without pymatreader.*pip install "eegxai-support\[formats\]"'):
        read(faulty / "new.set")
    hide(monkeypatch, "antio")
    with pytest.raises(ModuleNotFoundError, match=r"ant\.cnt cannot be read without antio"), readable(Path("ant.cnt")):
        mne.io.read_raw_ant(text_as(faulty, "ant.cnt"))  # which MNE's read_raw tries after another reader


def test_a_recording_that_stopped_early_is_read_as_far_as_it_goes_with_a_warning(tmp_path):
    pytest.importorskip("edfio")
    mne.export.export_raw(tmp_path / "a.edf", recording(), physical_range=(-40, 40), verbose=False)
    with pytest.warns(RuntimeWarning, match=r"cut_a\.edf: Number of records"):
        made = read(part_of(tmp_path / "a.edf", 0.7))
    assert 2 <= len(made.trials) < 12 and any("Number of records" in note for note in made.notes)


# ---- the SSVEP loader ----------------------------------------------------------------------------------------------


def flicker(seed):
    """A run as the data set has them: eight channels, a stimulus channel, eight trials of 6.5 s in each class."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.tile([1, 2, 3, 4], 2))
    data = rng.standard_normal((9, 256 * (7 * len(codes) + 2)))
    time = np.arange(5 * 256) / 256
    data[8] = 0
    for k, code in enumerate(codes):
        start = 256 * (1 + 7 * k)
        data[8, start : start + 10] = code
        frequency = {2: 13, 3: 21, 4: 17}.get(code)
        if frequency:
            data[:8, start : start + len(time)] += 2 * np.sin(2 * np.pi * frequency * time)
    names = ["Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4", "stim"]
    return mne.io.RawArray(data, mne.create_info(names, 256.0, ["eeg"] * 8 + ["stim"]), verbose=False)


@pytest.fixture
def kalunga(monkeypatch, tmp_path):
    """MOABB's data set, and an empty cache."""
    module = types.ModuleType("moabb.datasets")

    class Kalunga2016:
        def get_data(self, subjects):
            return {subjects[0]: {"0": {"0": flicker(0), "1": flicker(1)}}}

    module.Kalunga2016 = Kalunga2016
    monkeypatch.setitem(__import__("sys").modules, "moabb.datasets", module)
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    return module


def peak(trials, name):
    power = (np.abs(np.fft.rfft(trials.signal[trials.label == trials.class_names.index(name)])) ** 2).mean((0, 1))
    return np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)[power.argmax()]


def test_ssvep_from_moabb_has_its_flicker(kalunga):
    trials = xs.load_ssvep(12)
    assert trials.signal.shape == (16, 8, 768) and trials.class_names == ("13 Hz", "17 Hz", "21 Hz", "rest")
    assert {name: peak(trials, name) for name in xs.SSVEP_FREQUENCIES} == xs.SSVEP_FREQUENCIES
    assert trials.metadata.run.tolist() == [1] * 8 + [2] * 8 and set(trials.metadata.subject) == {12}
    frequency = [xs.SSVEP_FREQUENCIES.get(trials.class_names[k], np.nan) for k in trials.label]
    np.testing.assert_array_equal(trials.metadata.frequency, frequency)
    assert trials.unit == "standardised" and trials.tmin == 2
    part = xs.load_ssvep(12, 2, tmin=2, tmax=4, sfreq=128, rest=False)
    assert part.signal.shape == (6, 8, 256) and part.class_names == tuple(xs.SSVEP_FREQUENCIES)
    assert {name: peak(part, name) for name in xs.SSVEP_FREQUENCIES} == xs.SSVEP_FREQUENCIES


def test_ssvep_errors(kalunga, monkeypatch):
    for options, message in (
        ({"subject": 13}, "subject is 13; expected one of 1 to 12"),
        ({"runs": 3}, "run is 3; subject 12 has the runs 1, 2"),
        ({"tmin": 2, "tmax": 2}, "expected tmin before tmax"),
        ({"sfreq": 512}, "at most the recording's 256 Hz"),
        ({"h_freq": 64, "sfreq": 128}, "h_freq is 64 Hz; expected less than 64 Hz"),
    ):
        with pytest.raises(ValueError, match=message):
            xs.load_ssvep(**({"subject": 12} | options))

    def offline(self, subjects):
        raise OSError("no route to host")

    monkeypatch.setattr(kalunga.Kalunga2016, "get_data", offline)
    with pytest.raises(ConnectionError, match=r"subject 12 are neither in .* nor could be downloaded \(no route"):
        xs.load_ssvep(12)
    hide(monkeypatch, "moabb")
    with pytest.raises(ModuleNotFoundError, match=r'load_ssvep needs moabb.*: pip install "eegxai-support\[data\]"'):
        xs.load_ssvep(12)


def test_ssvep_codes_are_moabbs():
    datasets = pytest.importorskip("moabb.datasets", exc_type=ImportError)
    from eegxai_support.recordings.ssvep import CODES as ours

    assert {name.removesuffix(" Hz"): code for name, code in ours.items()} == dict(datasets.Kalunga2016().event_id)


@real_ssvep
def test_ssvep_shows_the_flicker_or_its_harmonic():
    """Power against its neighbours 2/3 Hz away, averaged over channels and trials: physics knows where it peaks."""
    trials = xs.load_ssvep(12)
    frequency = np.fft.rfftfreq(768, 1 / 256)
    for k, flicker_at in enumerate(xs.SSVEP_FREQUENCIES.values()):
        power = (np.abs(np.fft.rfft(trials.signal[trials.label == k])) ** 2).mean((0, 1))
        ratio = 2 * power[2:-2] / (power[:-4] + power[4:])
        inside = (frequency[2:-2] > 8) & (frequency[2:-2] < 44)
        best = frequency[2:-2][inside][ratio[inside].argmax()]
        assert best in (flicker_at, 2 * flicker_at) and ratio[inside].max() > 4
