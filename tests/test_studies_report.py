"""Study of the report: which trials each case hands over, and what it takes from the receipt."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tiny_studies import Recordings, forget

import eegxai_support as xs
from eegxai_support.recordings import write_recorded
from studies import report

FREQUENCIES = (13.0, 17.0, 21.0)


def receipt(n_trials, peaks):
    decoder = {"accuracy": 0.75, "balanced_accuracy": 0.7, "chance": 0.5, "n_trials": n_trials, "p": 0.01, "low": 0.6}
    verdict = {"source": "eyes", "number": 0.8, "rule": "A rule.", "text": "It reads the eyes."}
    return {"decoder": decoder, "verdict": verdict, "peaks": peaks}


def flicker(subject, n_trials=24, snr=0.15):
    """A sine of the frequency of each class, and one of twice that, at two channels in noise."""
    rng, times = np.random.default_rng(subject), np.arange(288) / 96
    label = np.arange(n_trials) % 3
    light = np.array(FREQUENCIES)[label, None, None] * times
    signal = rng.standard_normal((n_trials, 2, 288)) + snr * (np.sin(2 * np.pi * light) + np.sin(4 * np.pi * light))
    metadata = pd.DataFrame({"subject": subject, "session": 1, "run": np.arange(n_trials) // 12})
    events = {f"{f:g} Hz": k for k, f in enumerate(FREQUENCIES)}
    return xs.from_array(signal, 96, ["O1", "O2"], label, event_id=events, metadata=metadata, unit="standardised")


@pytest.fixture
def asked(monkeypatch):
    """Stand in for reading and for the report; return what each was called with."""
    tiny, read, made = Recordings(), [], []

    def read_recording(paths, **options):
        read.append({"paths": [str(path) for path in paths], **options})
        subjects = sorted({int(Path(path).parent.name[-2:]) for path in paths})
        if "event_file" in options:
            trials = flicker(subjects[0])
        else:
            trials = tiny.load_eegbci(subjects, (4, 8, 12), sfreq=80)
        return SimpleNamespace(trials=trials, by_subject={subject: f"raw of {subject}" for subject in subjects})

    def make_report(model, trials, folder, **options):
        made.append({"model": model, "trials": trials, **options})
        subject = trials.metadata["subject"].iloc[0]
        found = {3: (13.0, 34.0, None), 12: (13.0, 17.0, 13.0)}.get(subject, (13.0, 17.0, 21.0))
        peaks = {
            f"{f:g} Hz": {"frequency": at, "frequency_level": 0.1} for f, at in zip(FREQUENCIES, found, strict=True)
        }
        (Path(folder) / "receipt.json").write_text(json.dumps(receipt(len(trials), peaks)))
        columns = "part kind power accuracy control drop drop_low drop_high p_holm only only_p".split()
        parts = pd.DataFrame([["eye blink", "components", *np.arange(9) / 10]], columns=columns)
        write_recorded(parts.assign(source="eyes"), Path(folder) / "tables" / "interventions.parquet", {})

    def fetch_ssvep(subject, folder, *, dataset):
        assert dataset == "kalunga2016"  # never the simulated ones
        return [Path(f"subject{subject:02d}/run{run}_raw.fif") for run in (1, 2)], ["1-eve.fif", "2-eve.fif"]

    for name, instead in (
        ("read_recording", read_recording),
        ("make_report", make_report),
        ("fetch_ssvep", fetch_ssvep),
    ):
        monkeypatch.setattr(xs, name, instead)
    forget()
    yield SimpleNamespace(read=read, made=made)
    forget()


def test_each_case_hands_over_its_trials_recordings_and_groups(asked):
    table = report.report_verdicts().set_index("case")
    cue, one, permuted = asked.made[:3]
    assert [it["model"] for it in asked.made] == ["EEGNet"] * 3 + ["ShallowFBCSPNet"] * 5
    assert [it["group"] for it in asked.made] == ["subject", "run", "run"] + ["run"] * 5
    assert set(cue["trials"].metadata["subject"]) == {*range(11, 21), 42} == set(cue["raw"])
    assert one["raw"] == permuted["raw"] == {7: "raw of 7"}
    windows = [(it["tmin"], it["tmax"], it["band"], it["group"]) for it in asked.read]
    assert windows[:3] == [(0, 3, (0.5, 38), "subject")] + 2 * [(1, 4, (7, 38), "run")]
    assert [Path(path).name for path in asked.read[1]["paths"]] == ["S007R04.edf", "S007R08.edf", "S007R12.edf"]
    assert all(it["events"] == {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3} for it in asked.read[3:])
    assert list(table.index[3:]) == [f"flicker, subject {s}" for s in (1, 3, 7, 8, 12)]
    assert table.loc["from the cue", ["accuracy", "p", "source", "rule"]].tolist() == [0.75, 0.01, "eyes", "A rule."]
    assert table["n_trials"].tolist() == [len(it["trials"]) for it in asked.made]


def test_labels_are_permuted_within_runs_and_in_that_case_alone(asked):
    report.report_parts()
    one, permuted = (it["trials"] for it in asked.made[1:3])
    np.testing.assert_array_equal(one.signal, permuted.signal)
    assert (one.label != permuted.label).any()
    assert pd.crosstab(one.metadata["run"], one.label).equals(pd.crosstab(permuted.metadata["run"], permuted.label))
    other = replace(one, label=np.arange(len(one)) % 2, metadata=one.metadata.assign(run=np.arange(len(one)) % 2))
    assert (report.permuted(other).label == other.label).all()  # runs of one class each: nothing to permute


def test_parts_are_those_of_each_case(asked):
    table = report.report_parts()
    assert table["case"].tolist() == ["from the cue", "one subject", "labels permuted"]
    assert table.loc[0, ["part", "power", "accuracy", "only_p"]].tolist() == ["eye blink", 0.0, 0.1, 0.8]


def test_a_peak_is_at_the_light_at_twice_its_frequency_or_elsewhere(asked):
    table = report.report_flicker().set_index(["subject", "class"])
    assert table.loc[1, "harmonic"].tolist() == [1, 1, 1] and table.loc[1, "peak"].tolist() == [13, 17, 21]
    assert table.loc[3, "harmonic"].tolist() == [1, 2, 0] and np.isnan(table.loc[(3, "21 Hz"), "peak"])
    assert table.loc[12, "harmonic"].tolist() == [1, 1, 0]
    for subject in (1, 3):
        right = [chosen(signal) == label for signal, label in zip(*signal_and_label(flicker(subject)), strict=True)]
        assert table.loc[subject, "by_power"].tolist() == [np.mean(right)] * 3
    assert 0.5 < table["by_power"].mean() < 1


def signal_and_label(trials):
    return trials.signal.astype(float), trials.label


def chosen(signal):
    """Choose by sums over samples of a window of 3 s, whose Fourier frequencies are thirds of a Hz."""
    times = np.arange(288) / 96

    def power(f):
        return abs((signal * np.exp(-2j * np.pi * f * times)).sum(1)) ** 2

    def stands_out(f):
        return np.mean(2 * power(f) / (power(f - 2 / 3) + power(f + 2 / 3)))

    return np.argmax([stands_out(f) + stands_out(2 * f) for f in FREQUENCIES])
