"""Steady-state visual evoked potentials: the exoskeleton data set of Kalunga et al. (2016)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import scipy
from mne.utils import use_log_level

from eegxai_support.model import needed
from eegxai_support.montages import MONTAGE
from eegxai_support.recordings.cache import cache_folder, download_error
from eegxai_support.recordings.eegbci import numbers
from eegxai_support.recordings.windows import windows
from eegxai_support.trials import METADATA_COLUMNS, Trials

SSVEP_FREQUENCIES = {"13 Hz": 13.0, "17 Hz": 17.0, "21 Hz": 21.0}
"""Flicker of the LED that is looked at, in Hz, by the name of the class in `load_ssvep`."""

CODES = {"13 Hz": 2, "17 Hz": 4, "21 Hz": 3, "rest": 1}  # as in MOABB; the authors once had 3 and 4 the other way round
SFREQ = 256.0
N_SUBJECTS = 12
RUN_NAME = re.compile(r"run(\d+)_raw\.fif")


def load_ssvep(
    subject: int,
    runs: int | Iterable[int] | None = None,
    *,
    tmin: float = 2.0,
    tmax: float = 5.0,
    l_freq: float | None = 5.0,
    h_freq: float | None = 45.0,
    sfreq: float | None = None,
    rest: bool = True,
) -> Trials:
    """Load trials of a subject who looks at flickering LEDs.

    A voice names one of three LEDs, which flicker at 13, 17 and 21 Hz, or a point between them (rest); the subject
    looks there for 5 s [1]_. The cortex answers with the frequency of the light and its multiples: what a decoder has
    to use is known from physics. Each run by itself is band-pass filtered (MNE's zero-phase FIR filter) and divided
    by one number, the robust standard deviation over its channels and samples. The reference stays the mastoid: in an
    average over eight occipital electrodes most of the response would be gone.

    Parameters
    ----------
    subject : int
        1 to 12.
    runs : int or iterable of int, optional
        By default all, two to five.
    tmin, tmax : float
        Window in seconds after the cue begins; the sample at `tmax` is left out. The voice and the turn of the eyes
        take up to 2 s, and the trial ends at 5 s. In a window of whole seconds each flicker has a frequency of the
        Fourier transform to itself.
    l_freq, h_freq : float or None
        Edges of the pass-band in Hz, None for an open side. By default the three frequencies and their second harmonics
        (26, 34 and 42 Hz) lie within.
    sfreq : float, optional
        Sampling rate to resample to, in Hz; by default the recording's 256 Hz.
    rest : bool
        Whether rest is a class, or its trials are left out.

    Returns
    -------
    Trials
        Oz, O1, O2, PO3, POz, PO7, PO8 and PO4, unit "standardised" (the numbers in the files are no volts), classes
        "13 Hz", "17 Hz", "21 Hz" and "rest". Metadata: subject, session (1), run, frequency (Hz, NaN at rest).

    Raises
    ------
    ValueError
        Unknown subject or run, an impossible window, band or rate.
    ConnectionError
        The recordings are neither in MNE's cache (``MNE_DATA``) nor can be downloaded.
    OSError
        The cache cannot be written, for example because the disk is full.
    ModuleNotFoundError
        The recordings are to be downloaded, and MOABB is not installed.

    Notes
    -----
    Files in ``ssvep_exo`` of the cache are taken first, as ``subject12/run1_raw.fif`` with its events in
    ``run1-eve.fif``. Otherwise MOABB's ``Kalunga2016`` downloads them from Zenodo (CC BY 4.0); there was no network
    where this was written, so that this way was tried with a stand-in for MOABB only.

    References
    ----------
    .. [1] Kalunga et al. (2016), Neurocomputing 191:55-68.
    """
    check_subject(subject)
    rate = SFREQ if sfreq is None else sfreq
    if not tmin < tmax:
        raise ValueError(f"The window runs from {tmin:g} to {tmax:g} s; expected tmin before tmax.")
    if not 0 < rate <= SFREQ:
        raise ValueError(f"sfreq is {rate:g} Hz; expected at most the recording's {SFREQ:g} Hz.")
    if h_freq is not None and h_freq >= rate / 2:
        raise ValueError(f"h_freq is {h_freq:g} Hz; expected less than {rate / 2:g} Hz, half the sampling rate.")
    there = runs_of(subject)
    wanted = tuple(there) if runs is None else numbers(runs)
    if unknown := [run for run in wanted if run not in there]:
        raise ValueError(f"run is {unknown[0]!r}; subject {subject} has the runs {', '.join(map(str, there))}.")
    class_names = tuple(name for name in CODES if rest or name != "rest")
    name_of = {code: name for name, code in CODES.items()}
    signals, names, metadata = [], [], []
    for run in wanted:
        raw, events = there[run]
        raw.load_data(verbose=False).filter(l_freq, h_freq, verbose=False)
        if rate != SFREQ:
            raw, events = raw.resample(rate, events=events, verbose=False)
        epochs = windows(raw, events[np.isin(events[:, 2], [CODES[name] for name in class_names])], tmin, tmax)
        scale = scipy.stats.median_abs_deviation(raw.get_data(), axis=None, scale="normal")
        signals.append(epochs.get_data(verbose=False) / scale)
        names.extend(name_of[code] for code in epochs.events[:, 2])
        metadata.extend([{"subject": subject, "session": 1, "run": run}] * len(epochs))
    metadata = pd.DataFrame(metadata, columns=METADATA_COLUMNS)
    return Trials(
        signal=np.concatenate(signals),
        unit="standardised",
        label=[class_names.index(name) for name in names],
        info=epochs.info,
        class_names=class_names,
        metadata=metadata.assign(frequency=[SSVEP_FREQUENCIES.get(name, np.nan) for name in names]),
        tmin=epochs.tmin,
    )


def check_subject(subject: int) -> None:
    """Refuse a subject that the data set does not have."""
    if subject not in range(1, N_SUBJECTS + 1):
        raise ValueError(f"subject is {subject!r}; expected one of 1 to {N_SUBJECTS}.")


def folder_of(subject: int) -> Path:
    """Return where the cache has the files of a subject."""
    return cache_folder("SSVEPEXO") / "ssvep_exo" / f"subject{subject:02d}"


def runs_of(subject: int) -> dict[int, tuple[mne.io.BaseRaw, np.ndarray]]:
    """Return the recording and the events of each run, from the cache or by MOABB."""
    folder = folder_of(subject)
    return _from_folder(folder) if folder.is_dir() else _from_moabb(subject)


def _from_folder(folder: Path) -> dict[int, tuple[mne.io.BaseRaw, np.ndarray]]:
    """Return the recording and the events of each run."""
    names = {path: RUN_NAME.fullmatch(path.name) for path in folder.iterdir()}
    found = {int(name[1]): path for path, name in names.items() if name}
    if not found:
        raise ValueError(f"{folder} holds no run1_raw.fif; put the recordings there, or delete it.")
    runs = {}
    for run, path in sorted(found.items()):
        raw = mne.io.read_raw_fif(path, verbose="ERROR")
        events = mne.read_events(path.with_name(f"run{run}-eve.fif"), verbose="ERROR")
        runs[run] = _placed(raw), events
    return runs


def _from_moabb(subject: int) -> dict[int, tuple[mne.io.BaseRaw, np.ndarray]]:
    with warnings.catch_warnings():  # MOABB asks MNE for montages by names that it has given up
        warnings.simplefilter("ignore")
        with needed("load_ssvep", extra="data"):
            from moabb.datasets import Kalunga2016

        try:
            (session,) = Kalunga2016().get_data([subject])[subject].values()
        except OSError as error:
            what = f"the SSVEP recordings of subject {subject}"
            no_download = (
                f"{what} are neither in {cache_folder('SSVEPEXO')} nor could be downloaded ({error}). Check the"
                " network, or set MNE_DATA to the folder that holds them."
            )
            raise download_error(error, "SSVEPEXO", what, no_download) from error
    runs = {}
    for run, raw in enumerate(session.values(), start=1):
        events = mne.find_events(raw, shortest_event=0, verbose=False)
        runs[run] = _placed(raw.copy().load_data(verbose=False).pick("eeg")), events
    return runs


def _placed(raw: mne.io.BaseRaw) -> mne.io.BaseRaw:
    with use_log_level("ERROR"):
        return raw.set_montage(MONTAGE)
