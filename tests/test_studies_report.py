"""Study of the report: which trials each case hands over, and what it takes from the folder of a report."""

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
FOUND = {1: (13, 17, 21), 3: (13, 34, 10), 12: (13, 17, 21)}  # Hz, of the largest relevance of each class
EYES = "With nothing but 'eye blink' the accuracy is 0.70, without it 0.60."
BRAIN = "With nothing but 'brain too' the accuracy is 0.65, without it 0.61."
MIDDLE_BAND = "With nothing but '6-20 Hz' the accuracy is 0.63, without it 0.55."
SAID = {1: ("eyes", EYES), 2: ("brain", BRAIN), 3: ("nothing", "A rule."), 8: ("brain", MIDDLE_BAND)}
LEVEL, RELEVANCE = 0.5, {1: 0.8, 3: 0.8, 12: 0.4}
PARTS = ["part", "kind", "source", "power", "accuracy", "control", "drop", "drop_low", "drop_high", "p_holm", "left_p"]
PARTS += ["only", "only_p"]


def flicker(subject, n_trials=24, amplitude=0.15):
    """A sine of the frequency of each class, and one of twice that, at two channels in noise."""
    rng, times = np.random.default_rng(subject), np.arange(288) / 96
    label = np.arange(n_trials) % 3
    light = np.array(FREQUENCIES)[label, None, None] * times
    flickers = np.sin(2 * np.pi * light) + np.sin(4 * np.pi * light)
    signal = rng.standard_normal((n_trials, 2, 288)) + amplitude * flickers
    metadata = pd.DataFrame({"subject": subject, "session": 1, "run": np.arange(n_trials) // 12})
    events = {f"{f:g} Hz": k for k, f in enumerate(FREQUENCIES)}
    return xs.from_array(signal, 96, ["O1", "O2"], label, event_id=events, metadata=metadata, unit="standardised")


def spectra(subject):
    """Two groups whose mean has its largest value where `FOUND` says, though neither of them has; and other rows."""
    rows = []
    for f, at in zip(FREQUENCIES, FOUND.get(subject, FREQUENCIES), strict=True):
        value = RELEVANCE.get(subject, 0.4)
        for network, method, values in (
            ("trained", "deep_lift", ({at: value, 5: value + 0.1}, {at: value, 6: value + 0.1})),
            ("untrained", "deep_lift", ({7: 9}, {7: 9})),
            ("trained", "saliency", ({8: 9}, {8: 9})),
        ):
            for group, of_group in enumerate(values):
                freqs = np.arange(48) * 1.0
                table = pd.DataFrame({"frequency": freqs, "value": [of_group.get(each, 0) for each in freqs]})
                rows.append(table.assign(network=network, method=method, group=group, **{"class": f"{f:g} Hz"}))
    return pd.concat(rows)


def receipt(trials, said, subject):
    """As the report writes it: no frequency where the relevance does not pass the level."""
    shown = RELEVANCE.get(subject, 0.4) > LEVEL
    peaks = {
        f"{f:g} Hz": {"frequency": at if shown else None, "frequency_level": LEVEL, "method": "deep_lift"}
        for f, at in zip(FREQUENCIES, FOUND.get(subject, FREQUENCIES), strict=True)
    }
    n_trials = len(trials)
    decoder = {"accuracy": 0.75, "balanced_accuracy": 0.7, "chance": 0.5, "n_trials": n_trials, "p": 0.01, "low": 0.6}
    return {
        "decoder": decoder,
        "verdict": {"source": said[0], "rule": said[1], "number": 0.8, "text": ""},
        "peaks": peaks,
    }


def parts():
    """Blinks and a drift, which stand for eyes and for the drift, and two ways to find what is the brain's."""
    known = [("eye blink", "eyes", 0.6, 0.7), ("brain", "brain", 0.68, 0.58), ("below 0.5 Hz", "drift", 0.5, 0.72)]
    known += [("brain too", "brain", 0.61, 0.65), ("left", "", 0.4, 0.5), ("6-20 Hz", "", 0.55, 0.63)]
    rows = [
        {"part": part, "source": source, "accuracy": without, "only": only} for part, source, without, only in known
    ]
    return pd.DataFrame(rows).reindex(columns=PARTS)


@pytest.fixture(scope="module")
def asked():
    """Stand in for reading and for the report; return what each was called with, and the tables."""
    tiny, read, made = Recordings(), [], []

    def read_recording(paths, **options):
        read.append({"paths": [str(path) for path in paths], **options})
        subjects = sorted({int(Path(path).parent.name[-2:]) for path in paths})
        trials = flicker(subjects[0]) if "event_file" in options else tiny.load_eegbci(subjects, (4, 8, 12), sfreq=80)
        return SimpleNamespace(trials=trials, by_subject={subject: f"raw of {subject}" for subject in subjects})

    def make_report(model, trials, folder, **options):
        made.append({"model": model, "trials": trials, **options})
        subject, said = (
            trials.metadata["subject"].iloc[0],
            SAID.get(len(made), ("cannot tell", "'left' would do alone.")),
        )
        (Path(folder) / "receipt.json").write_text(json.dumps(receipt(trials, said, subject)))
        write_recorded(parts(), Path(folder) / "tables" / "interventions.parquet", {})
        write_recorded(spectra(subject), Path(folder) / "tables" / "spectra.parquet", {})

    def fetch_ssvep(subject, folder, *, dataset):
        assert dataset == "kalunga2016"  # never the simulated ones
        return [Path(f"subject{subject:02d}/run{run}_raw.fif") for run in (1, 2)], ["1-eve.fif", "2-eve.fif"]

    with pytest.MonkeyPatch.context() as patch:
        for instead in (read_recording, make_report, fetch_ssvep):
            patch.setattr(xs, instead.__name__, instead)
        forget()
        verdicts, table_of_parts, peaks = report.report_verdicts(), report.report_parts(), report.report_peaks()
        forget()
    return SimpleNamespace(read=read, made=made, verdicts=verdicts, parts=table_of_parts, peaks=peaks)


def test_each_case_hands_over_its_trials_recordings_and_groups(asked):
    table = asked.verdicts.set_index("case")
    cue, one, permuted = asked.made[:3]
    assert [it["model"] for it in asked.made] == ["EEGNet"] * 3 + ["ShallowFBCSPNet"] * 5  # once for all tables
    assert [it["group"] for it in asked.made] == ["subject", "run", "run"] + ["run"] * 5
    assert not any({"seeds", "methods", "quick"} & it.keys() for it in asked.made)  # three seeds, all methods
    assert set(cue["trials"].metadata["subject"]) == {*range(11, 21), 42} == set(cue["raw"])
    assert one["raw"] == permuted["raw"] == {7: "raw of 7"}
    windows = [(it["tmin"], it["tmax"], it["band"], it["group"]) for it in asked.read]
    assert windows[:3] == [(0, 3, (0.5, 38), "subject")] + 2 * [(1, 4, (7, 38), "run")]
    assert windows[3:] == 5 * [(2, 5, (5, 45), "run")]
    assert [Path(path).name for path in asked.read[1]["paths"]] == ["S007R04.edf", "S007R08.edf", "S007R12.edf"]
    assert all(it["events"] == {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3} for it in asked.read[3:])
    assert [it["trials"].metadata["subject"].iloc[0] for it in asked.made[3:]] == [1, 3, 7, 8, 12]
    assert list(table.index[3:]) == [f"flicker, subject {s}" for s in (1, 3, 7, 8, 12)]
    columns = ["accuracy", "balanced_accuracy", "chance", "p", "source", "rule", "number"]
    assert table.loc["from the cue", columns].tolist() == [0.75, 0.7, 0.5, 0.01, "eyes", EYES, 0.8]
    assert table["n_trials"].tolist() == [len(it["trials"]) for it in asked.made]


def test_a_verdict_has_the_accuracy_without_the_part_that_it_names(asked):
    table = asked.verdicts.set_index("case")[["part", "accuracy_without", "accuracy_alone"]]
    assert table.loc["from the cue"].tolist() == ["eye blink", 0.6, 0.7]
    assert table.loc["one subject"].tolist() == ["brain too", 0.61, 0.65]  # of two the one that the rule names
    assert table.iloc[-1].tolist() == ["6-20 Hz", 0.55, 0.63]
    assert table.iloc[2:-1].isna().all(axis=None)  # "nothing" and "cannot tell" are no part


def test_labels_are_permuted_within_runs_and_in_that_case_alone(asked):
    one, permuted = (it["trials"] for it in asked.made[1:3])
    np.testing.assert_array_equal(one.signal, permuted.signal)
    assert (one.label != permuted.label).any()
    assert pd.crosstab(one.metadata["run"], one.label).equals(pd.crosstab(permuted.metadata["run"], permuted.label))
    other = replace(one, label=np.arange(len(one)) % 2, metadata=one.metadata.assign(run=np.arange(len(one)) % 2))
    assert (report.permuted(other).label == other.label).all()  # runs of one class each: nothing to permute


def test_parts_are_those_of_every_case(asked):
    table = asked.parts
    cases = ["from the cue", "one subject", "labels permuted", *(f"flicker, subject {s}" for s in (1, 3, 7, 8, 12))]
    assert table["case"].tolist() == [case for case in cases for _ in range(len(parts()))]
    pd.testing.assert_frame_equal(table.loc[table["case"] == cases[-1], PARTS].reset_index(drop=True), parts())


def test_a_peak_is_at_the_light_at_twice_its_frequency_or_elsewhere(asked):
    table = asked.peaks.set_index(["case", "class"])
    of = {s: table.loc[f"flicker, subject {s}"] for s in (1, 3, 7, 8, 12)}
    assert all(it["light"].tolist() == [*FREQUENCIES] for it in of.values())
    for subject, found in FOUND.items():
        assert of[subject]["peak"].tolist() == [*found]  # of the mean over groups, of the method that the peaks are of
        assert of[subject]["relevance"].tolist() == pytest.approx([RELEVANCE[subject]] * 3)
    assert of[1]["harmonic"].tolist() == [1, 1, 1] and of[3]["harmonic"].tolist() == [1, 2, 0]
    assert of[1]["passed"].all() and of[3]["passed"].all() and not of[12]["passed"].any()
    assert of[3]["reported"].tolist() == [13, 34, 10] and of[12]["reported"].isna().all()
    assert set(table["level"]) == {LEVEL}


def test_power_alone_decides_by_what_stands_out_at_the_light_and_at_twice_its_frequency(asked):
    table = asked.peaks.groupby("case")[["by_power", "by_power_p"]].agg(["min", "max"])
    for subject in (1, 3):
        trials = flicker(subject)
        predicted = np.array([chosen(signal) for signal in trials.signal.astype(float)])
        p = xs.permutation_p_value(trials.label, predicted, trials.metadata["run"].to_numpy())
        expected = 2 * [np.mean(predicted == trials.label)] + 2 * [p]
        assert table.loc[f"flicker, subject {subject}"].tolist() == pytest.approx(expected)
    assert 0.5 < table["by_power"].to_numpy().mean() < 1


def chosen(signal):
    """Choose by sums over samples of a window of 3 s, whose Fourier frequencies are thirds of a Hz."""
    times = np.arange(288) / 96

    def power(f):
        return abs((signal * np.exp(-2j * np.pi * f * times)).sum(1)) ** 2

    def stands_out(f):
        return np.mean(2 * power(f) / (power(f - 2 / 3) + power(f + 2 / 3)))

    return np.argmax([stands_out(f) + stands_out(2 * f) for f in FREQUENCIES])
