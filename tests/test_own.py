"""Recordings that nobody here made: what is taken, what is left out with a word, what is refused with the remedy."""

import warnings

import mne
import numpy as np
import pandas as pd
import pytest

from eegxai_support.montages import electrode_info
from eegxai_support.recordings import from_array, from_epochs
from eegxai_support.trials import concatenate

NAMES = ("C3", "Cz", "C4")


def volts(n_trials=6, n_channels=3, n_times=50, sd=1e-5):
    return sd * np.random.default_rng(0).standard_normal((n_trials, n_channels, n_times))


def epochs_of(data, codes, event_id=None, ch_names=NAMES, ch_types="eeg", info=None, **options):
    info = mne.create_info(list(ch_names), 100.0, ch_types, verbose=False) if info is None else info
    events = np.stack([100 * np.arange(len(codes)), np.zeros(len(codes), int), codes], axis=1)
    return mne.EpochsArray(data, info, events, event_id=event_id, proj=False, verbose=False, **options)


def renamed(epochs, event_id):
    """What editing `event_id` leaves: MNE itself would refuse or drop events without a name."""
    epochs.event_id = event_id
    return epochs


@pytest.fixture(autouse=True)
def every_warning_is_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


# ---- labels --------------------------------------------------------------------------------------------------------


def test_codes_without_a_name_are_refused_or_left_out_on_request():
    data = volts()
    epochs = renamed(
        epochs_of(data, [1, 2, 3, 2, 1, 9], metadata=pd.DataFrame({"n": range(6)})), {"left": 1, "right": 3}
    )
    with pytest.raises(ValueError, match=r"2 \(2 times\), 9 \(1 times\).*'left': 1, 'right': 3.*unnamed='drop'"):
        from_epochs(epochs)
    trials = from_epochs(epochs, unnamed="drop")
    assert trials.label.tolist() == [0, 1, 0] and trials.class_names == ("left", "right")
    assert trials.metadata.n.tolist() == [0, 2, 4]
    np.testing.assert_allclose(trials.signal, 1e6 * data[[0, 2, 4]], rtol=1e-6)
    with pytest.raises(ValueError, match="expected 'raise' or 'drop'"):
        from_epochs(epochs, unnamed="ignore")


def test_labels_do_not_depend_on_the_order_in_which_event_id_names_them():
    event_id = {"tongue": 30, "left": 7, "feet": 12}
    codes = [12, 30, 7, 7, 12, 30]
    trials = from_epochs(epochs_of(volts(), codes, event_id))
    name_of = {code: name for name, code in event_id.items()}
    assert [trials.class_names[k] for k in trials.label] == [name_of[code] for code in codes]


def test_two_names_of_one_code_are_refused():
    epochs = renamed(epochs_of(volts(), [1, 2] * 3), {"left": 1, "hand": 1, "right": 2})
    with pytest.raises(ValueError, match="several names to one code"):
        from_epochs(epochs)


def test_classes_without_trials_are_left_out_with_a_warning_that_lists_them():
    epochs = renamed(epochs_of(volts(), [3, 5] * 3), {f"word {k}": k for k in range(1, 31)})
    with pytest.warns(
        UserWarning, match=r"no trial has them: the classes word 1, word 2, word 4, .* and 18 more"
    ) as it:
        trials = from_epochs(epochs)
    assert it[0].filename == __file__
    assert trials.class_names == ("word 3", "word 5") and trials.label.tolist() == [0, 1] * 3


def test_a_column_of_the_metadata_is_the_label():
    metadata = pd.DataFrame({"rt": [0.3, 0.25, 0.5, 0.4, 0.3, 0.2], "word": list("bababa")})
    epochs = epochs_of(volts(), [1] * 6, metadata=metadata)
    trials = from_epochs(epochs, label="rt")
    assert trials.n_classes == 0 and trials.label.dtype == np.float32
    np.testing.assert_allclose(trials.label, metadata.rt)
    trials = from_epochs(epochs, label="word")
    assert trials.class_names == ("a", "b") and trials.label.tolist() == [1, 0] * 3
    with pytest.raises(ValueError, match="Did you mean 'word'"):
        from_epochs(epochs, label="wrd")


@pytest.mark.parametrize("column", [[0.3, np.nan] * 3, ["a", None] * 3])
def test_labels_that_are_missing_are_named(column):
    epochs = epochs_of(volts(), [1] * 6, metadata=pd.DataFrame({"y": column}))
    with pytest.raises(ValueError, match=r"The y of 3 of 6 trials is missing .* first of trial 1.*notna"):
        from_epochs(epochs, label="y")
    trials = from_epochs(epochs[epochs.metadata["y"].notna()], label="y")
    assert len(trials) == 3


# ---- amplitudes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "hint"),
    [(1e6, r"e\+06 µV; EEG has 0.1 to 1000 µV. Pass unit='uV'"), (1e3, "unit='mV'"), (1e9, "unit='nV'")],
)
def test_numbers_in_another_unit_than_volts_warn_with_the_likely_one(factor, hint):
    epochs = epochs_of(factor * volts(), [1, 2] * 3)
    with pytest.warns(UserWarning, match=hint):
        from_epochs(epochs)
    right = {1e6: "uV", 1e3: "mV", 1e9: "nV"}[factor]
    np.testing.assert_allclose(from_epochs(epochs, unit=right).signal, 1e6 * volts(), rtol=1e-6)


def test_numbers_without_a_unit_warn_and_can_be_declared():
    epochs = epochs_of(volts(sd=1.0), [1, 2] * 3)
    with pytest.warns(UserWarning, match="unit='uV'.*; or unit='standardised'"):
        from_epochs(epochs)
    trials = from_epochs(epochs, unit="standardised")
    assert trials.unit == "standardised"
    np.testing.assert_allclose(trials.signal, epochs.get_data(), rtol=1e-6)
    with pytest.warns(UserWarning, match="if they are in units of the converter"):
        from_epochs(epochs_of(volts(sd=1e12), [1, 2] * 3))
    with pytest.raises(ValueError, match="Unknown unit 'volt'"):
        from_epochs(epochs, unit="volt")


@pytest.mark.parametrize("n_right", [1, 3])
def test_one_recording_of_several_in_another_unit_is_named(n_right):
    right, wrong = epochs_of(volts(), [1, 2] * 3), epochs_of(1e6 * volts(), [1, 2] * 3)
    with pytest.warns(UserWarning, match=rf"in recordings {n_right + 1} of {n_right + 1}, .*xs\.concatenate"):
        from_epochs([right] * n_right + [wrong])
    joined = concatenate([from_epochs([right] * n_right), from_epochs(wrong, unit="uV")])
    np.testing.assert_allclose(joined.signal.std((1, 2)), 10, rtol=0.2)


def test_offsets_of_an_unfiltered_recording_are_no_amplitude():
    offset = 0.02 * np.arange(-1, 2)[:, None]  # V, of either sign, as electrodes of a BioSemi cap have
    with pytest.warns(UserWarning, match="2 of 3 channels are far from zero") as caught:
        assert from_epochs(epochs_of(volts() + offset, [1, 2] * 3)).unit == "uV"
    assert len(caught) == 1


def test_the_micro_sign_is_a_letter_of_units():
    for unit in ("uV", "µV", "μV"):
        assert from_array(1e6 * volts(), 100.0, NAMES, [0, 1] * 3, unit=unit).unit == "uV"


# ---- channels ------------------------------------------------------------------------------------------------------


def test_channels_that_are_typed_as_eeg_and_named_otherwise_warn():
    names = ("EOG-left", "Fp1", "EXG1", "ECG", "STI 014")
    with pytest.warns(UserWarning, match=r"EOG-left, EXG1, ECG, STI 014.*set_channel_types\(\{'EOG-left': 'misc'"):
        from_epochs(epochs_of(volts(n_channels=5), [1, 2] * 3, ch_names=names))
    from_epochs(
        epochs_of(volts(n_channels=5), [1, 2] * 3, ch_names=names, ch_types=["eog", "eeg", "eog", "ecg", "stim"])
    )


def test_no_electrode_of_a_standard_cap_is_taken_for_something_else():
    from eegxai_support.recordings.own import NOT_EEG

    for montage in mne.channels.get_builtin_montages():
        assert not [name for name in mne.channels.make_standard_montage(montage).ch_names if NOT_EEG.search(name)]


@pytest.mark.parametrize("loaded", [True, False])
def test_a_projector_that_is_not_applied_is_applied_to_a_copy(loaded):
    raw = mne.io.RawArray(volts(1, 4, 900)[0], electrode_info((*NAMES, "Pz"), 100.0), verbose=False)
    raw.set_eeg_reference(projection=True, verbose=False)
    events = np.array([[100, 0, 1], [300, 0, 2], [500, 0, 1]])
    epochs = mne.Epochs(raw, events, tmin=0, tmax=1, baseline=None, proj=False, preload=loaded, verbose=False)
    trials = from_epochs(epochs)
    before = 1e6 * epochs.get_data(verbose=False)
    np.testing.assert_allclose(trials.signal, before - before.mean(1, keepdims=True), atol=1e-4)
    assert not epochs.info["projs"][0]["active"] and np.abs(before.mean(1)).max() > 1
    applied = mne.Epochs(raw, events, tmin=0, tmax=1, baseline=None, proj=True, verbose=False)
    np.testing.assert_allclose(from_epochs(applied).signal, trials.signal, atol=1e-4)


def test_channels_are_renamed_in_the_trials_and_nowhere_in_the_epochs():
    epochs = epochs_of(volts(), [1, 2] * 3, ch_names=("EEG C3-Ref", "EEG Cz-Ref", "EEG C4-Ref"))
    epochs.set_eeg_reference(projection=True, verbose=False)
    for _ in range(2):  # a projector for channels of other names would do nothing, without a word
        trials = from_epochs(epochs)
        assert trials.info.ch_names == list(NAMES)
        np.testing.assert_allclose(trials.signal.mean(1), 0, atol=1e-5)
    assert epochs.info["projs"][0]["data"]["col_names"] == epochs.ch_names


@pytest.mark.parametrize("value", [0.0, 3e-6])
def test_a_constant_reference_channel_is_left_out_with_a_warning(value):
    data = volts()
    data[:, 1] = value + 1e-20 * np.random.default_rng(1).standard_normal(50)  # what a filter leaves of a constant
    with pytest.warns(UserWarning, match="record nothing: Cz"):
        trials = from_epochs(epochs_of(data, [1, 2] * 3))
    assert trials.info.ch_names == ["C3", "C4"]
    np.testing.assert_allclose(trials.signal, 1e6 * data[:, [0, 2]], rtol=1e-6)
    with pytest.raises(ValueError, match="Constant in every trial: C3, C4, Cz"):
        from_epochs(epochs_of(0 * data, [1, 2] * 3))


def test_a_channel_that_is_flat_in_one_recording_is_left_out_of_all():
    flat = volts()
    flat[:, 0] = 0
    with pytest.warns(UserWarning, match="record nothing: C3"):
        trials = from_epochs([epochs_of(volts(), [1, 2] * 3), epochs_of(flat, [1, 2] * 3)])
    assert trials.info.ch_names == ["Cz", "C4"] and len(trials) == 12


def test_current_source_densities_are_taken_without_a_unit():
    epochs = epochs_of(volts(n_channels=22), [1, 2] * 3, info=electrode_info(CAP, 100.0))
    density = mne.preprocessing.compute_current_source_density(epochs, sphere=(0, 0, 0, 0.095), verbose=False)
    trials = from_epochs(density)
    assert trials.unit == "standardised" and trials.info.ch_names == list(CAP)
    ratio = trials.signal / density.get_data()
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)


CAP = tuple("Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 FC1 FC2 CP1".split())


@pytest.mark.parametrize(
    ("ch_names", "expected"),
    [
        (("EEG F3-Ref", "EEG Fp1-LE", "Fc5."), ("F3", "Fp1", "FC5")),
        (("EEG Fpz-Cz", "EEG Pz-Oz", "EEG F4-A1"), ("EEG Fpz-Cz", "EEG Pz-Oz", "F4")),
        (("F4-A1", "F4-M1", "E1"), ("F4-A1", "F4-M1", "E1")),  # two derivations of one electrode keep their names
        (("A", "B", "C"), ("A", "B", "C")),
    ],
)
def test_names_that_differ_by_decoration_are_located_and_shown(ch_names, expected):
    with mne.utils.catch_logging(verbose="INFO") as log:
        trials = from_epochs(epochs_of(volts(), [1, 2] * 3, ch_names=ch_names))
    said = log.getvalue()
    assert tuple(trials.info.ch_names) == expected
    standard = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    for old, channel in zip(ch_names, trials.info["chs"], strict=True):
        located = np.isfinite(channel["loc"][:3]).all() and channel["loc"][:3].any()
        assert located == (channel["ch_name"] in standard)
        if channel["ch_name"] != old:
            assert f"{old} → {channel['ch_name']}" in said


def test_positions_of_a_file_are_kept_and_its_names_too():
    info = mne.create_info(["Fc5.", "Cz..", "O1.."], 100.0, "eeg")
    info["chs"][0]["loc"][:3] = [0.01, 0.02, 0.03]
    trials = from_epochs(epochs_of(volts(), [1, 2] * 3, info=info))
    assert trials.info.ch_names == info.ch_names
    np.testing.assert_array_equal(trials.info["chs"][0]["loc"][:3], info["chs"][0]["loc"][:3])
    assert np.isnan(trials.info["chs"][1]["loc"][:3]).all()


def test_positions_in_millimetres_are_no_positions():
    info = electrode_info(NAMES, 100.0)
    expected = [channel["loc"][:3].copy() for channel in info["chs"]]
    for channel in info["chs"]:
        channel["loc"][:3] *= 1000
    trials = from_epochs(epochs_of(volts(), [1, 2] * 3, info=info))
    np.testing.assert_allclose([channel["loc"][:3] for channel in trials.info["chs"]], expected, atol=1e-6)


def test_bipolar_channels_without_positions_are_trials():
    trials = from_epochs(epochs_of(volts(n_channels=1), [1, 2] * 3, ch_names=("Fpz-Cz",)))
    assert trials.signal.shape == (6, 1, 50)
    assert repr(trials) == "Trials(6 trials × 1 channel × 50 samples at 100 Hz, uV; 1 3, 2 3)"


# ---- several recordings, windows, arrays ---------------------------------------------------------------------------


def test_several_epochs_are_joined_with_their_metadata():
    data = volts()
    first = epochs_of(data, [1, 2] * 3, {"left": 1, "right": 2}, metadata=pd.DataFrame({"Subject": list("aaabbb")}))
    second = epochs_of(data[:4, ::-1], [3, 2, 3, 2], {"feet": 3, "right": 2}, ch_names=NAMES[::-1])
    trials = from_epochs([first, second])
    assert trials.class_names == ("left", "right", "feet")
    assert trials.label.tolist() == [0, 1, 0, 1, 0, 1, 2, 1, 2, 1]
    np.testing.assert_allclose(trials.signal[6:], 1e6 * data[:4], rtol=1e-6)
    assert trials.metadata.subject.tolist() == [*"aaabbb", *["unknown"] * 4]
    assert trials.metadata.run.tolist() == [1] * 6 + [2] * 4
    assert list(trials.metadata.columns) == ["subject", "session", "run"]
    with pytest.raises(ValueError, match="list of epochs is empty"):
        from_epochs([])


def test_runs_without_a_number_are_named():
    metadata = pd.DataFrame({"Run": [1.0, 1.0, np.nan, 2.0, 2.0, np.nan]})
    with pytest.raises(ValueError, match=r"The run of 2 of 6 trials is missing .* first of trial 2.*fillna"):
        from_epochs(epochs_of(volts(), [1, 2] * 3, metadata=metadata))


@pytest.mark.parametrize("options", [{}, {"use_mne_epochs": True}])
def test_windows_of_braindecode_keep_names_runs_and_values(options):
    from braindecode.datasets import BaseConcatDataset, RawDataset
    from braindecode.preprocessing import create_windows_from_events

    def record(run):
        raw = mne.io.RawArray(volts(1, 4, 1000)[0], mne.create_info([*NAMES, "EOG"], 100.0, ["eeg"] * 3 + ["eog"]))
        raw.set_annotations(mne.Annotations([1, 3, 5], [1, 1, 1], ["right", "left", "right"]))
        return RawDataset(raw, {"subject": "a", "run": run})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = BaseConcatDataset([record(8), record(4)])
        windows = create_windows_from_events(
            data, preload=True, mapping={"right": 7, "left": 3}, trial_start_offset_samples=0, **options
        )
    trials = from_epochs(windows)
    assert trials.class_names == ("left", "right") and trials.label.tolist() == [1, 0, 1] * 2
    assert trials.metadata.run.tolist() == [8] * 3 + [4] * 3 and set(trials.metadata.subject) == {"a"}
    assert trials.info.ch_names == [*NAMES]
    np.testing.assert_allclose(trials.signal[1], 1e6 * windows[1][0][:3], rtol=1e-6)
    assert from_epochs(windows.datasets[1]).label.tolist() == [1, 0, 1]
    windows.transform = lambda x: 2 * x
    np.testing.assert_allclose(from_epochs(windows).signal, 2 * trials.signal, rtol=1e-6)


def test_windows_with_a_continuous_target_or_none():
    from braindecode.datasets import BaseConcatDataset, RawDataset
    from braindecode.preprocessing import create_fixed_length_windows

    def windows(**options):
        raw = mne.io.RawArray(volts(1, 3, 1000)[0], mne.create_info([*NAMES], 100.0, "eeg"), verbose=False)
        data = BaseConcatDataset([RawDataset(raw, {"subject": 1, "age": 30.5}, **options)])
        return create_fixed_length_windows(
            data, window_size_samples=200, window_stride_samples=200, on_last_window="drop"
        )

    trials = from_epochs(windows(target_name="age"))
    assert trials.n_classes == 0 and trials.label.tolist() == [30.5] * 5
    assert from_epochs(windows()).label is None


def test_arrays_become_trials():
    signal = 1e6 * volts()
    trials = from_array(signal, 100.0, ["EEG C3-Ref", "Cz", "C4"], ["left", "right"] * 3, tmin=-0.1)
    assert trials.class_names == ("left", "right") and trials.label.tolist() == [0, 1] * 3
    assert trials.info.ch_names == [*NAMES] and trials.tmin == -0.1 and trials.sfreq == 100
    np.testing.assert_allclose(trials.signal, signal, rtol=1e-6)
    assert from_array(signal, 100.0, NAMES).label is None
    assert from_array(signal, 100.0, NAMES, [2, 5] * 3).class_names == ("2", "5")
    assert from_array(signal, 100.0, NAMES, np.linspace(0, 1, 6)).n_classes == 0
    matlab = from_array(signal, 100.0, NAMES, [1.0, 2.0] * 3, event_id={"right": 2, "left": 1})
    assert matlab.class_names == ("left", "right") and matlab.label.tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"signal": np.zeros((3, 50))}, r"signal has shape \(3, 50\); expected three axes"),
        ({"signal": volts().transpose(1, 0, 2)}, r"transpose\(1, 0, 2\)"),
        ({"label": [0, 1]}, r"label has shape \(2,\); expected \(6,\)"),
        ({"label": [1, 2] * 3, "event_id": {"left": 1}}, r"without a name in event_id: 2 \(3 times\)"),
        ({"signal": np.full((6, 3, 50), np.nan)}, "900 NaN or infinite values"),
    ],
)
def test_arrays_that_are_no_trials(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_array(**{"signal": 1e6 * volts(), "sfreq": 100.0, "ch_names": NAMES} | arguments)


def test_what_is_no_epochs_is_refused_with_what_to_call():
    raw = mne.io.RawArray(volts(1)[0], mne.create_info([*NAMES], 100.0, "eeg"), verbose=False)
    with pytest.raises(TypeError, match=r"is a RawArray; .*Cut a Raw with mne\.Epochs first; .* from_array"):
        from_epochs(raw)
    with pytest.raises(TypeError, match="is a str"):
        from_epochs("sub-01_epo.fif")
