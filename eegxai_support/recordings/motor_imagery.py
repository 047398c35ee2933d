"""Motor imagery from whichever source is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy

from eegxai_support.recordings import eegbci
from eegxai_support.recordings.bnci2014_001 import load_bnci2014_001
from eegxai_support.simulate import simulate
from eegxai_support.trials import Trials, unknown_name

DATASETS = ("auto", "eegbci", "bnci2014_001", "simulated")
TRIALS_PER_RUN = 15  # of EEGBCI
# The fallback: bursts inside the usual pass-bands, strong enough for a network to learn from a few dozen trials.
FALLBACK_FREQUENCIES = (10.0, 14.0, 20.0, 28.0)
FALLBACK_SNR_DB = 3.0


def load_motor_imagery(dataset: str = "auto", subjects: int | Iterable[int] | None = None, **options) -> Trials:
    """Load motor trials from whichever source is at hand, in one call.

    Parameters
    ----------
    dataset : {"auto", "eegbci", "bnci2014_001", "simulated"}
        "auto" takes EEGBCI where MNE's cache has it or it can be downloaded, simulated trials otherwise, and
        prints which. That PhysioNet did not answer is remembered until the process ends or EEGBCI is loaded by
        name; after any other failure the download is tried again.
    subjects : int or iterable of int, optional
        By default 42 of EEGBCI, 3 of BNCI2014_001, which is loaded one subject at a time.
    **options
        Further arguments of `load_eegbci` or `load_bnci2014_001`. Simulated trials take those of `load_eegbci` and
        have the channels, samples, sampling rate, subjects, runs and trials per run of its recordings, and as many
        classes, three at least.

    Returns
    -------
    Trials

    Raises
    ------
    ValueError
        Unknown data set, or more than one subject of BNCI2014_001; further errors are the loaders'.
    """
    if dataset not in DATASETS:
        raise unknown_name("dataset", dataset, DATASETS)
    default = 3 if dataset == "bnci2014_001" else 42
    subjects = eegbci.numbers(default if subjects is None else subjects)
    if dataset == "bnci2014_001":
        if len(subjects) > 1:
            raise ValueError(f"subjects are {subjects}; BNCI2014_001 is loaded one subject at a time.")
        return load_bnci2014_001(*subjects, **options)
    if dataset == "auto":
        dataset, reason = _at_hand(subjects, eegbci.numbers(options.get("runs", (4, 8, 12))))
        print(reason)
    return (eegbci.load_eegbci if dataset == "eegbci" else _simulated_eegbci)(subjects, **options)


def _at_hand(subjects: tuple[int, ...], runs: tuple[int, ...]) -> tuple[str, str]:
    """Source that "auto" takes and the sentence that says so."""
    try:
        eegbci.fetch(subjects, runs)
    except (OSError, ModuleNotFoundError) as error:
        no_number = str(error) if isinstance(error, ModuleNotFoundError) else "no connection"
        why = os.strerror(error.errno).lower() if getattr(error, "errno", None) else no_number
        return "simulated", (
            "Simulated trials, because the EEGBCI recordings are neither in MNE's cache nor could be downloaded"
            f" ({why})."
        )
    subject = f"subject{'s' if len(subjects) > 1 else ''} {', '.join(map(str, subjects))}"
    run = f"run{'s' if len(runs) > 1 else ''} {', '.join(map(str, runs))}"
    return "eegbci", f"Real trials: PhysioNet EEGBCI, {subject}, {run}."


def _simulated_eegbci(
    subjects: tuple[int, ...],
    runs: int | Iterable[int] = (4, 8, 12),
    *,
    tmin: float = 1.0,
    tmax: float = 4.0,
    l_freq: float | None = 7.0,
    h_freq: float | None = 38.0,
    sfreq: float | None = None,
) -> Trials:
    """Trials shaped as those of `load_eegbci`; the pass-band changes nothing, the bursts lie within it."""
    runs = eegbci.numbers(runs)
    keys = list(eegbci.files_of(subjects, runs))
    n_classes = max(3, len({name for run in runs for name in eegbci.RUNS[run][1]}))
    parts = [
        simulate(
            "spectral",
            n_trials=TRIALS_PER_RUN,
            snr_db=FALLBACK_SNR_DB,
            seed=1000 * subject + run,  # a run holds the same trials whatever is loaded with it
            frequencies=FALLBACK_FREQUENCIES[:n_classes],
            sfreq=sfreq or eegbci.SFREQ,
            duration=tmax - tmin,
            tmin=tmin,
            n_runs=1,
        )
        for subject, run in keys
    ]
    signal = np.concatenate([part.signal for part in parts])
    scale = scipy.stats.median_abs_deviation(signal, axis=None, scale="normal")
    rows = [{"subject": s, "session": 1, "run": r, "task": "simulated"} for s, r in keys for _ in parts[0].label]
    return replace(
        parts[0],
        signal=signal / scale,
        unit="standardised",
        label=np.concatenate([part.label for part in parts]),
        metadata=pd.DataFrame(rows),
        truth=np.concatenate([part.truth for part in parts]) / scale,
    )
