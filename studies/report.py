"""Is the report right where the answer is known? It is asked about eyes, a brain, permuted labels and flicker.

EEGBCI from the cue on, broadband, across subjects: the eyes follow the target. One subject, 7-38 Hz, from a second
after the cue on: nothing but the motor cortex is known to tell left from right there. The same with permuted labels:
nothing does. Flicker: the visual cortex answers with the frequency of the light. Window, band, rate and network of the
flicker were chosen on these same recordings, and the rule that gives a drift to the eyes after EEGBCI's subjects 1 to
10 were seen, which is why these are left out here.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import eegxai_support as xs
from eegxai_support.recordings.eegbci import files_of
from eegxai_support.recordings.results import read_recorded
from eegxai_support.recordings.ssvep import folder_of
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
ROW = ("accuracy", "balanced_accuracy", "chance", "n_trials", "p")


def report_verdicts() -> pd.DataFrame:
    """What each report says: accuracy on trials that were left out, source, the rule that led to it and its number."""
    rows = []
    for case, (receipt, _) in _of_eegbci().items():
        rows.append({"case": case, **_decoder(receipt), **_verdict(receipt)})
    for subject, (receipt, _) in _of_flicker().items():
        rows.append({"case": f"flicker, subject {subject}", **_decoder(receipt), **_verdict(receipt)})
    return pd.DataFrame(rows)


def report_parts() -> pd.DataFrame:
    """Parts of the signal in the reports on EEGBCI: accuracy without each, without as much power elsewhere, alone."""
    columns = [
        "part",
        "kind",
        "power",
        "accuracy",
        "control",
        "drop",
        "drop_low",
        "drop_high",
        "p_holm",
        "only",
        "only_p",
    ]
    return pd.concat([parts[columns].assign(case=case) for case, (_, parts) in _of_eegbci().items()], ignore_index=True)


def report_flicker() -> pd.DataFrame:
    """Subjects who look at flicker: where the relevance of each class is largest, and how well power alone decodes.

    peak is NaN where no frequency is above the level of permuted labels, or where the decoder knows nothing; harmonic
    is 1 at the frequency of the light, 2 at twice that, and 0 elsewhere. Power alone: the largest ratio of the power at
    the frequency and at twice that to that of the neighbours, which needs no training.
    """
    rows = []
    for subject, (receipt, by_power) in _of_flicker().items():
        for name, peak in receipt["peaks"].items():
            light, found = float(name.split()[0]), peak["frequency"]
            harmonic = 0 if found is None else int(found / light) * (found in (light, 2 * light))
            found = {"class": name, "peak": found, "harmonic": harmonic, "level": peak["frequency_level"]}
            rows.append({"subject": subject, **_decoder(receipt), "by_power": by_power, **found})
    return pd.DataFrame(rows).astype({"peak": float})


def _decoder(receipt: dict) -> dict:
    return {name: receipt["decoder"][name] for name in ROW}


def _verdict(receipt: dict) -> dict:
    return {name: receipt["verdict"][name] for name in ("source", "number", "rule")}


@cache
def _of_eegbci() -> dict[str, tuple[dict, pd.DataFrame]]:
    """Return the receipt and the interventions of each case."""
    found = {}
    for case, asked in CASES.items():
        asked = dict(asked)
        paths = list(files_of(asked.pop("subjects"), RUNS).values())
        recording = xs.read_recording(paths, **READING, **asked)
        trials = permuted(recording.trials) if case == "labels permuted" else recording.trials
        found[case] = _reported(NETWORK, trials, recording.by_subject, group=asked["group"])
    return found


@cache
def _of_flicker() -> dict[int, tuple[dict, float]]:
    """Return the receipt of each subject, and the accuracy by power alone."""
    found = {}
    for subject in FLICKER["subjects"]:
        with tempfile.TemporaryDirectory() as folder:
            paths, event_files = xs.fetch_ssvep(subject, folder, dataset="kalunga2016")
            recording = xs.read_recording(
                paths, event_file=event_files, events=FLICKER["events"], group="run", **FLICKER["reading"]
            )
            receipt, _ = _reported(
                FLICKER["network"], recording.trials, recording.by_subject, group="run", epochs=FLICKER["epochs"]
            )
        right = recording.trials.label == by_power(recording.trials)
        found[subject] = receipt, float(right.mean())
    return found


def _reported(network: str, trials: xs.Trials, raws: dict, **options) -> tuple[dict, pd.DataFrame]:
    """Return the receipt of a report, and what its interventions cost."""
    with tempfile.TemporaryDirectory() as folder:
        xs.make_report(network, trials, folder, raw=raws, **options)
        receipt = json.loads((Path(folder) / "receipt.json").read_text(encoding="utf-8"))
        return receipt, read_recorded(Path(folder) / "tables" / "interventions.parquet")


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
    light = [float(name.split()[0]) for name in trials.class_names]
    scores = [sum(_ratio(power, np.abs(freqs - k * f).argmin()) for k in (1, 2)) for f in light]
    return np.argmax(scores, axis=0)


def _ratio(power: np.ndarray, at: int, beside: int = 2) -> np.ndarray:
    """Return power over that of two neighbours, mean over channels, (trial,)."""
    return (2 * power[..., at] / (power[..., at - beside] + power[..., at + beside])).mean(axis=1)


def _flicker_files() -> list[Path]:
    return sorted(path for subject in FLICKER["subjects"] for path in folder_of(subject).glob("*.fif"))


EEGBCI = eegbci({subject: RUNS for subject in (*FROM_THE_CUE["subjects"], *ONE_SUBJECT["subjects"])})
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
    tables={
        report_verdicts: lambda: [*EEGBCI(), *_flicker_files()],
        report_parts: EEGBCI,
        report_flicker: _flicker_files,
    },
)
