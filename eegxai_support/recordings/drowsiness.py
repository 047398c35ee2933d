"""Drowsy drivers: the set that Cui took from a driving simulator, and simulated trials of its shape."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from eegxai_support.files import write_whole
from eegxai_support.model import needed
from eegxai_support.montages import electrode_info
from eegxai_support.recordings.cache import cache_folder, download_error
from eegxai_support.recordings.matlab import read_mat
from eegxai_support.simulate import simulate
from eegxai_support.trials import Trials

CLASSES = ("alert", "drowsy")
# The names of the 10-20 system before 1991: T3, T4, T5 and T6 are T7, T8, P7 and P8 today.
CHANNELS = tuple(
    "Fp1 Fp2 F7 F3 Fz F4 F8 FT7 FC3 FCz FC4 FT8 T3 C3 Cz C4 T4 TP7 CP3 CPz CP4 TP8 T5 P3 Pz P4 T6 O1 Oz O2".split()
)
N_TRIALS, N_TIMES, SFREQ, N_SUBJECTS = 2022, 384, 128.0, 11
DOI = "10.6084/m9.figshare.14273687.v3"
FIELDS = ("EEGsample", "substate", "subindex")
# The stand-in: drowsiness slows the rhythm over the frontal midline.
FREQUENCIES = (10.0, 5.0)
SOURCE = "Fz"
SNR_DB = (-24.0, -12.0)  # of the first and the last subject: some are easy to read and some are not, as in recordings


def load_drowsiness(path: Path | str | None = None) -> Trials:
    """Load alert and drowsy trials of eleven drivers.

    Three seconds before a car began to drift in a driving simulator [1]_; drowsy is who then steered back late, alert
    who did so at once [2]_. The trials come filtered and cleaned of artefacts; nothing more is done to them here.

    Parameters
    ----------
    path : path, optional
        The file ``dataset.mat`` of figshare's article 14273687 (CC BY 4.0). By default the one in MNE's cache
        (``MNE_DATA``), downloaded on first use (181 MB): Pooch compares it with figshare's hash, and the SHA-256
        written beside it is compared at every later load. Where it cannot be had, simulated trials of the same shape
        are made. Which of the two were taken is printed.

    Returns
    -------
    Trials
        2022 trials, 30 channels with their old 10-20 names, 3 s at 128 Hz, classes alert and drowsy. The file names no
        unit; its values are taken for µV. Metadata: subject (1 to 11; leave one out to test across subjects), session
        and run (1).

        Simulated trials have ``truth``: a burst over the frontal midline, at 10 Hz where alert and 5 Hz where drowsy,
        from subject to subject stronger.

    Raises
    ------
    FileNotFoundError
        No file at `path`.
    ValueError
        The file is damaged or holds other data.

    References
    ----------
    .. [1] Cao et al. (2019), Scientific Data 6:19.
    .. [2] Cui et al. (2023), IEEE Transactions on Neural Networks and Learning Systems 34(10):7921-7933.
    """
    if path is not None:
        return _read(Path(path).expanduser())
    try:
        file = _fetch()
    except (OSError, ModuleNotFoundError) as error:
        why = os.strerror(error.errno).lower() if getattr(error, "errno", None) else error
        print(
            "Simulated trials, because the drowsiness recordings are neither in MNE's cache nor could be downloaded"
            f" ({why})."
        )
        return _simulated()
    digest = _checked_digest(file)
    trials = _read(file)
    with suppress(OSError):  # a cache that cannot be written to can still be read
        write_whole(_seal(file), f"{digest}  {file.name}\n")
    print(f"Real trials: EEG driver drowsiness, figshare {DOI}, {N_SUBJECTS} subjects.")
    return trials


def _fetch() -> Path:
    """Return the file in the cache, downloaded where it lacks."""
    file = cache_folder("DROWSINESS") / "eeg-drowsiness" / "dataset.mat"
    if file.exists():
        return file
    with needed("load_drowsiness", extra="recordings"):
        import pooch
    if not _figshare_answers():
        raise ConnectionError("no connection")
    log = pooch.get_logger()
    level = log.level
    log.setLevel("ERROR")
    try:
        repository = pooch.create(path=file.parent, base_url=f"doi:{DOI}/")
        repository.load_registry_from_doi()  # the hashes that figshare publishes
        repository.fetch(file.name, progressbar=True)
    except (OSError, ValueError, LookupError) as error:  # the last two where figshare answers something else
        raise download_error(error, "DROWSINESS", "the drowsiness recordings (181 MB)", str(error)) from error
    finally:
        log.setLevel(level)
    return file


def _figshare_answers() -> bool:
    """Any answer within seconds; the download itself would wait minutes for none."""
    with needed("load_drowsiness", extra="recordings"):
        import requests
    try:
        requests.head(f"https://doi.org/{DOI}", timeout=5)
    except OSError:
        return False
    return True


def _seal(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _checked_digest(file: Path) -> str:
    """Return the SHA-256 of a file in the cache; ValueError where another one was written beside it."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    seal = _seal(file)
    if seal.exists() and seal.read_text().split()[:1] != [digest]:
        raise ValueError(
            f"{file} is damaged: its SHA-256 is not the one in {seal.name}. Delete both and load it again; it will be"
            " downloaded anew."
        )
    return digest


def _read(file: Path) -> Trials:
    signal, state, subject = read_mat(file, FIELDS).values()
    state, subject = state.ravel(), subject.ravel()
    shape = N_TRIALS, len(CHANNELS), N_TIMES
    if signal.shape != shape or not len(state) == len(subject) == N_TRIALS:
        raise ValueError(
            f"In {file} EEGsample has shape {signal.shape}, with {len(state)} states and {len(subject)} subjects;"
            f" expected {shape} (trial, channel, time), 3 s at {SFREQ:g} Hz, and one of each per trial."
        )
    for name, values, expected in (("substate", state, range(2)), ("subindex", subject, range(1, N_SUBJECTS + 1))):
        if np.unique(values).tolist() != [*expected]:
            raise ValueError(
                f"In {file} {name} has the values {np.unique(values).tolist()}; expected {[*expected]}, each at least"
                " once."
            )
    n_alert, n_drowsy = pd.crosstab(state, subject).to_numpy()
    if (n_alert != n_drowsy).any():
        raise ValueError(
            f"In {file} the subjects have {n_alert.tolist()} alert and {n_drowsy.tolist()} drowsy trials; expected as"
            " many of the one as of the other from each."
        )
    return Trials(
        signal=signal,
        unit="uV",
        label=state,
        info=electrode_info(CHANNELS, SFREQ),
        class_names=CLASSES,
        metadata=pd.DataFrame({"subject": subject.astype(int), "session": 1, "run": 1}),
    )


def _simulated() -> Trials:
    """Trials of the same shape; subjects differ in background, order and signal-to-noise ratio."""
    pairs = [len(part) for part in np.array_split(np.arange(N_TRIALS // 2), N_SUBJECTS)]
    parts = [
        simulate(
            "spectral",
            n_trials=2 * n,
            snr_db=snr_db,
            seed=subject,
            frequencies=FREQUENCIES,
            source=SOURCE,
            ch_names=CHANNELS,
            sfreq=SFREQ,
            duration=N_TIMES / SFREQ,
            n_runs=1,
        )
        for subject, (n, snr_db) in enumerate(zip(pairs, np.linspace(*SNR_DB, N_SUBJECTS), strict=True), start=1)
    ]
    return replace(
        parts[0],
        signal=np.concatenate([part.signal for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        class_names=CLASSES,
        metadata=pd.concat([part.metadata.assign(subject=s) for s, part in enumerate(parts, start=1)]),
        truth=np.concatenate([part.truth for part in parts]),
        scenario=None,  # each subject has a law of its own
    )
