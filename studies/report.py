"""Is the report right where the answer is known? It is asked about eyes, a brain, permuted labels and flicker.

EEGBCI from the cue on, broadband, across subjects: the eyes follow the target. One subject, 7-38 Hz, from a second
after the cue on: nothing but the motor cortex is known to tell left from right there. The same with permuted labels:
nothing does. Flicker: the visual cortex answers with the frequency of the light. Window, band, rate and network of the
flicker were chosen on these same recordings, of subjects 12, 8, 3, 1 and 7. The rules of the verdict were made on
decoders of EEGBCI's subjects 1 to 10, among others, which is why these are left out of the first case, and with the
numbers of all these reports at hand: what the reports say now is no test of the rules. That is what `battery` is for.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import eegxai_support as xs
from eegxai_support.recordings.eegbci import files_of
from eegxai_support.recordings.results import read_recorded
from eegxai_support.recordings.ssvep import folder_of
from eegxai_support.report.findings import TRAINED
from studies.form import Study, defaults, eegbci

RUNS, PERMUTED_BY = (4, 8, 12), 0
READING = {
    "annotations": {"left": "T1", "right": "T2"},
    "resample": 80,
    "montage": "colin27_1005",
    "reference": "average",
}
FROM_THE_CUE = {"subjects": (*range(11, 21), 42), "tmin": 0.0, "tmax": 3.0, "band": (0.5, 38.0), "group": "subject"}
ONE_SUBJECT = {"subjects": (7,), "tmin": 1.0, "tmax": 4.0, "band": (7.0, 38.0), "group": "run"}
CASES = {"from the cue": FROM_THE_CUE, "one subject": ONE_SUBJECT, "labels permuted": ONE_SUBJECT}
FLICKER = {
    "subjects": (1, 3, 7, 8, 12),
    "events": {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3},
    "reading": {"unit": "standardised", "tmin": 2.0, "tmax": 5.0, "band": (5.0, 45.0), "resample": 96},
    "network": "ShallowFBCSPNet",
    "epochs": 60,
}
NETWORK = "EEGNet"


@dataclass(frozen=True, eq=False)
class Report:
    """What is taken from the folder of a report, and the trials that it is on."""

    trials: xs.Trials
    receipt: dict
    parts: pd.DataFrame  # what the removal of each part costs
    spectra: pd.DataFrame


def report_verdicts() -> pd.DataFrame:
    """What each report says: accuracy on trials that were left out, source, the rule that led to it and its number.

    `part` is the part of the signal that the rule names, with the accuracy without it and with nothing else; none where
    no part decided.
    """
    rows = []
    for case, made in {**_on_eegbci(), **_on_flicker()}.items():
        verdict = {name: made.receipt["verdict"][name] for name in ("source", "rule", "number")}
        rows.append({"case": case, **_decoder(made), **verdict, **_part_of(verdict, made.parts)})
    return pd.DataFrame(rows)


def report_parts() -> pd.DataFrame:
    """Parts of the signal: accuracy without each, without as much power elsewhere, and with nothing else."""
    columns = "part kind source power accuracy control drop drop_low drop_high p_holm left_p only only_p".split()
    reports = {**_on_eegbci(), **_on_flicker()}
    return pd.concat([made.parts[columns].assign(case=case) for case, made in reports.items()], ignore_index=True)


def report_peaks() -> pd.DataFrame:
    """Subjects who look at flicker: where the relevance of each class is largest, and how well power alone decodes.

    `peak` is the frequency with the largest relevance, mean over the class's trials, which were left out, and over
    seeds. `passed` says whether it is above the level of permuted labels; `harmonic` is 1 at the frequency of the
    light, 2 at twice that, 0 elsewhere. `reported` is what the page shows: NaN below the level, or where the decoder
    knows nothing. Power alone, the largest ratio of the power at the frequency and at twice that to that of the
    neighbours, needs no training: where it decodes and the network does not, the network has missed what is there.
    Accuracies and p-values are of all trials of the subject.
    """
    rows = []
    for case, made in _on_flicker().items():
        predicted, trials = by_power(made.trials), made.trials
        decoded = {name: made.receipt["decoder"][name] for name in ("accuracy", "p")} | {
            "by_power": float((predicted == trials.label).mean()),
            "by_power_p": xs.permutation_p_value(trials.label, predicted, trials.metadata["run"].to_numpy()),
        }
        rows += [{"case": case, **decoded, **_peak(made, name)} for name in trials.class_names]
    return pd.DataFrame(rows)


def _decoder(made: Report) -> dict:
    columns = ("n_trials", "accuracy", "balanced_accuracy", "chance", "p")
    return {name: made.receipt["decoder"][name] for name in columns}


def _part_of(verdict: dict, parts: pd.DataFrame) -> dict:
    named = parts["part"].map(lambda part: f"'{part}'" in verdict["rule"])
    of_it = parts[named & (verdict["source"] != "cannot tell")].nsmallest(1, "accuracy")
    columns = {"part": "part", "accuracy": "accuracy_without", "only": "accuracy_alone"}
    found = of_it[[*columns]].rename(columns=columns).to_dict("records")
    return found[0] if found else {}


def _peak(made: Report, name: str) -> dict:
    """Return where the relevance of a class is largest, and whether that is above the level."""
    light, told = frequency_of(name), made.receipt["peaks"][name]
    of_class = made.spectra.set_index(["network", "method", "class"]).sort_index().loc[TRAINED, told["method"], name]
    # Groups have as many trials of a class each, so that the mean over groups is that over trials.
    relevance = of_class.groupby("frequency")["value"].mean()
    peak = float(relevance.idxmax())
    return {
        "class": name,
        "light": light,
        "peak": peak,
        "relevance": relevance.max(),
        "level": told["frequency_level"],
        "passed": relevance.max() > told["frequency_level"],
        "harmonic": {light: 1, 2 * light: 2}.get(peak, 0),
        "reported": np.nan if told["frequency"] is None else told["frequency"],
    }


@cache
def _on_eegbci() -> dict[str, Report]:
    """Return the report of each case."""
    found = {}
    for case, asked in CASES.items():
        asked = dict(asked)
        paths = list(files_of(asked.pop("subjects"), RUNS).values())
        recording = xs.read_recording(paths, **READING, **asked)
        trials = permuted(recording.trials) if case == "labels permuted" else recording.trials
        found[case] = _report(NETWORK, trials, recording.by_subject, group=asked["group"])
    return found


@cache
def _on_flicker() -> dict[str, Report]:
    """Return the report on each subject."""
    found, options = {}, {"group": "run", "epochs": FLICKER["epochs"]}
    for subject in FLICKER["subjects"]:
        with tempfile.TemporaryDirectory() as folder:
            paths, event_files = xs.fetch_ssvep(subject, folder, dataset="kalunga2016")
            reading = {"events": FLICKER["events"], "group": "run", **FLICKER["reading"]}
            recording = xs.read_recording(paths, event_file=event_files, **reading)
            made = _report(FLICKER["network"], recording.trials, recording.by_subject, **options)
        found[f"flicker, subject {subject}"] = made
    return found


def _report(network: str, trials: xs.Trials, raws: dict, **options) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        xs.make_report(network, trials, folder, raw=raws, **options)
        tables = (read_recorded(Path(folder) / "tables" / f"{name}.parquet") for name in ("interventions", "spectra"))
        return Report(trials, json.loads((Path(folder) / "receipt.json").read_text(encoding="utf-8")), *tables)


def permuted(trials: xs.Trials) -> xs.Trials:
    """Return the trials with labels that are permuted within each run."""
    label, run, rng = trials.label.copy(), trials.metadata["run"].to_numpy(), np.random.default_rng(PERMUTED_BY)
    for each in np.unique(run):
        label[run == each] = rng.permutation(label[run == each])
    return replace(trials, label=label)


def by_power(trials: xs.Trials) -> np.ndarray:
    """Return the class whose frequency and second harmonic stand out most from their neighbours, (trial,)."""
    power = np.square(np.abs(np.fft.rfft(trials.signal)))
    freqs = np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)
    light = [frequency_of(name) for name in trials.class_names]
    scores = [sum(_ratio(power, np.abs(freqs - k * f).argmin()) for k in (1, 2)) for f in light]
    return np.argmax(scores, axis=0)


def frequency_of(name: str) -> float:
    """Return the flicker of a class in Hz."""
    return float(name.split()[0])


def _ratio(power: np.ndarray, at: int, beside: int = 2) -> np.ndarray:
    """Return power over that of two neighbours, mean over channels, (trial,)."""
    return (2 * power[..., at] / (power[..., at - beside] + power[..., at + beside])).mean(axis=1)


def _flicker_files() -> list[Path]:
    return sorted(path for subject in FLICKER["subjects"] for path in folder_of(subject).glob("*.fif"))


EEGBCI = eegbci({subject: RUNS for subject in (*FROM_THE_CUE["subjects"], *ONE_SUBJECT["subjects"])})


def _all_files() -> list[Path]:
    return [*EEGBCI(), *_flicker_files()]


STUDY = Study(
    configuration={
        "cases": CASES,
        "reading": READING,
        "runs": RUNS,
        "permuted by": PERMUTED_BY,
        "network": NETWORK,
        "flicker": FLICKER,
        "defaults": defaults(xs.make_report),
    },
    tables={report_verdicts: _all_files, report_parts: _all_files, report_peaks: _flicker_files},
)
