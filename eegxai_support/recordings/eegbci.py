"""PhysioNet's EEG Motor Movement/Imagery Database (EEGBCI)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files as resources
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import scipy
from tqdm import tqdm

from eegxai_support.model import needed
from eegxai_support.montages import MONTAGE
from eegxai_support.recordings.cache import cache_folder, download_error
from eegxai_support.recordings.windows import windows
from eegxai_support.trials import METADATA_COLUMNS, Trials

CLASSES = ("left fist", "right fist", "both fists", "both feet")
# Each task was recorded three times, four runs apart: run -> (task, classes of the annotations T1 and T2).
RUNS = {
    first + 4 * repeat: (task, classes)
    for first, task, classes in (
        (3, "executed", CLASSES[:2]),
        (4, "imagined", CLASSES[:2]),
        (5, "executed", CLASSES[2:]),
        (6, "imagined", CLASSES[2:]),
    )
    for repeat in range(3)
}
URL = "https://physionet.org/files/eegmmidb/1.0.0/"
SFREQ = 160.0


def load_eegbci(
    subjects: int | Iterable[int],
    runs: int | Iterable[int] = (4, 8, 12),
    *,
    tmin: float = 1.0,
    tmax: float = 4.0,
    l_freq: float | None = 7.0,
    h_freq: float | None = 38.0,
    sfreq: float | None = None,
) -> Trials:
    """Load motor trials of PhysioNet's EEG Motor Movement/Imagery Database.

    What MNE's cache (``MNE_DATA``) lacks is downloaded. Each run by itself is band-pass filtered (MNE's zero-phase
    FIR filter), re-referenced to the common average, resampled and divided by one number, the robust standard
    deviation over its channels and samples. One number, not one per channel, keeps the topography as it was.

    Parameters
    ----------
    subjects : int or iterable of int
        1 to 109.
    runs : int or iterable of int
        Left or right fist: 3, 7, 11 executed and 4, 8, 12 imagined. Both fists or both feet: 5, 9, 13 executed and
        6, 10, 14 imagined.
    tmin, tmax : float
        Window in seconds after the cue; the sample at `tmax` is left out.
    l_freq, h_freq : float or None
        Edges of the pass-band in Hz; None leaves that side open.
    sfreq : float, optional
        Sampling rate to resample to, in Hz; by default the recording's 160 Hz.

    Returns
    -------
    Trials
        64 channels, unit "standardised", classes in the order of `CLASSES`, those of `runs` only. Metadata:
        subject, session (1), run, task ("executed" or "imagined"). Trials that the end of a run cuts short are left
        out.

    Raises
    ------
    ValueError
        Unknown subject or run, an impossible window or band, a damaged file, a subject not sampled at 160 Hz.
    ConnectionError
        The recordings are not in the cache and cannot be downloaded.
    OSError
        The cache cannot be written, for example because the disk is full.
    ModuleNotFoundError
        A recording is to be downloaded, and pooch or requests is not installed.

    References
    ----------
    .. [1] Schalk et al. (2004), IEEE Transactions on Biomedical Engineering 51(6):1034-1043.
    .. [2] Goldberger et al. (2000), Circulation 101(23):e215-e220.
    """
    subjects, runs = numbers(subjects), numbers(runs)
    rate = SFREQ if sfreq is None else sfreq
    if not tmin < tmax:
        raise ValueError(f"The window runs from {tmin:g} to {tmax:g} s; expected tmin before tmax.")
    if h_freq is not None and h_freq >= rate / 2:
        raise ValueError(f"h_freq is {h_freq:g} Hz; expected less than {rate / 2:g} Hz, half the sampling rate.")
    physionet_answers.cache_clear()  # whoever asks for these recordings by name means to try again
    files = fetch(subjects, runs)
    class_names = tuple(c for c in CLASSES if any(c in RUNS[run][1] for run in runs))
    signals, labels, metadata = [], [], []
    for (subject, run), path in tqdm(files.items(), desc="EEGBCI", unit="run", leave=False, delay=2):
        raw = _read_edf(path, subject)
        raw.filter(l_freq, h_freq, verbose=False)
        raw.set_eeg_reference("average", verbose=False)
        if rate != SFREQ:
            raw.resample(rate, verbose=False)
        events, _ = mne.events_from_annotations(raw, {"T1": 1, "T2": 2}, verbose=False)
        epochs = windows(raw, events, tmin, tmax)
        task, classes = RUNS[run]
        signals.append(
            epochs.get_data(verbose=False) / scipy.stats.median_abs_deviation(raw.get_data(), axis=None, scale="normal")
        )
        labels.extend(class_names.index(classes[code - 1]) for code in epochs.events[:, 2])
        metadata.extend([{"subject": subject, "session": 1, "run": run, "task": task}] * len(epochs))
    return Trials(
        signal=np.concatenate(signals),
        unit="standardised",
        label=labels,
        info=epochs.info,
        class_names=class_names,
        metadata=pd.DataFrame(metadata, columns=[*METADATA_COLUMNS, "task"]),
        tmin=epochs.tmin,
    )


def fetch(subjects: tuple[int, ...], runs: tuple[int, ...]) -> dict[tuple[int, int], Path]:
    """Download what the cache lacks; return the file of each subject and run."""
    files = files_of(subjects, runs)
    missing = [key for key, path in files.items() if not path.exists()]
    if not missing:
        return files
    with needed("load_eegbci", extra="recordings"):
        import pooch
    if not physionet_answers():
        raise ConnectionError(_no_download(missing, "physionet.org does not answer"))
    log, folder = pooch.get_logger(), cache_folder("EEGBCI")
    level = log.level
    log.setLevel("ERROR")
    try:
        # Pooch moves a file into place only when its hash is right, so that a broken download leaves nothing behind.
        for subject, run in tqdm(missing, desc="Downloading EEGBCI", unit="run", leave=False):
            mne.datasets.eegbci.load_data(subject, run, path=folder, update_path=False, verbose="ERROR")
    except (OSError, ValueError) as error:  # ValueError is Pooch's where the file that arrived has another hash
        what = f"EEGBCI (about {2.6 * len(missing):.0f} MB)"
        raise download_error(error, "EEGBCI", what, _no_download(missing, error)) from error
    finally:
        log.setLevel(level)
    return files


def numbers(value: int | Iterable[int]) -> tuple[int, ...]:
    """Each number once, in the order given."""
    numbers = tuple(dict.fromkeys(np.atleast_1d(list(value) if isinstance(value, Iterable) else value).tolist()))
    if not numbers:
        raise ValueError("No subject or no run was given; expected at least one.")
    return numbers


def files_of(subjects: tuple[int, ...], runs: tuple[int, ...]) -> dict[tuple[int, int], Path]:
    """Return where the cache keeps, or would keep, the file of each subject and run."""
    for subject in subjects:
        if subject not in range(1, 110):
            raise ValueError(f"subject is {subject!r}; expected one of 1 to 109.")
    for run in runs:
        if run not in RUNS:
            raise ValueError(f"run is {run!r}; expected one of 3 to 14. Runs 1 and 2 are rest, without classes.")
    base = cache_folder("EEGBCI") / "MNE-eegbci-data" / "files" / "eegmmidb" / "1.0.0"
    return {(s, r): base / f"S{s:03d}" / f"S{s:03d}R{r:02d}.edf" for s in subjects for r in runs}


@cache
def physionet_answers() -> bool:
    """Any answer within seconds; the download itself would wait minutes for none."""
    with needed("load_eegbci", extra="recordings"):
        import requests
    try:
        requests.head(URL, timeout=5)
    except OSError:
        return False
    return True


def _no_download(missing: list[tuple[int, int]], reason: object) -> str:
    names = ", ".join(f"S{s:03d}R{r:02d}" for s, r in missing[:6]) + (", …" if len(missing) > 6 else "")
    return (
        f"EEGBCI recordings {names} are not in {cache_folder('EEGBCI')} and could not be downloaded from {URL}"
        f" ({reason}). Check the network, set MNE_DATA to the folder that holds MNE-eegbci-data, or use"
        " load_motor_imagery('simulated')."
    )


def _read_edf(path: Path, subject: int) -> mne.io.BaseRaw:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != checksums().get(f"{path.parent.name}/{path.name}", found):
        raise ValueError(
            f"{path} is damaged: its SHA-256 is not the published one. Delete the file and load it again; it will be"
            " downloaded anew."
        )
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    mne.datasets.eegbci.standardize(raw)
    raw.set_montage(MONTAGE, verbose=False)
    if raw.info["sfreq"] != SFREQ:
        raise ValueError(
            f"Subject {subject} is sampled at {raw.info['sfreq']:g} Hz in {path.name}; expected {SFREQ:g} Hz."
            " Its timing differs from the other subjects': leave it out."
        )
    return raw


@cache
def checksums() -> dict[str, str]:
    """SHA-256 of every file, from MNE's list for downloads; what lies in the cache MNE does not check."""
    published = resources("mne").joinpath("data", "eegbci_checksums.txt")
    # MNE does not promise where the list lies: without it files go unchecked, which this package's tests would show.
    return dict(line.split() for line in published.read_text().splitlines()) if published.is_file() else {}
