"""Files of an SSVEP recording, as a laboratory would hand them over, from whichever source is at hand."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import mne
import numpy as np

from eegxai_support.files import expanded
from eegxai_support.model import needed
from eegxai_support.montages import EEGBCI_CHANNELS
from eegxai_support.recordings.cache import cache_folder
from eegxai_support.recordings.ssvep import CODES, SFREQ, SSVEP_FREQUENCIES, check_subject, folder_of, runs_of
from eegxai_support.simulate.head import dipole_topography
from eegxai_support.simulate.noise import background
from eegxai_support.trials import unknown_name

DATASETS = ("auto", "kalunga2016", "simulated")
CHANNELS = ("Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4")
# The stand-in: as many trials, as long and as far apart as in a run of subject 12.
N_RUNS, TRIALS_PER_CLASS, TRIAL, PAUSE = 3, 8, 5.0, 4.0
RESPONSE = 4.0  # µV at Oz, of an oscillation that takes BUILD_UP to arrive; its second harmonic has half of that
BUILD_UP = 1.0  # s
PER_MICROVOLT = 1e-3  # numbers in the real files are about this size, and are no volts


def fetch_ssvep(
    subject: int = 12, folder: str | os.PathLike = ".", *, dataset: str = "auto"
) -> tuple[list[Path], list[Path]]:
    """Return the files of a subject who looks at flickering LEDs, for `read_recording`.

    Parameters
    ----------
    subject : int
        1 to 12.
    folder : path
        Where files are written that are not in MNE's cache yet.
    dataset : {"auto", "kalunga2016", "simulated"}
        "auto" takes the recordings of Kalunga et al. where the cache has them or they can be downloaded, see
        `load_ssvep`, and simulated ones otherwise, and prints which. Those have the channels, rate, events and trials
        of the real ones: noise of the whole cortex, and in it, from a second after the cue on, an oscillation under Oz
        of the frequency that the class is named for, with its second harmonic.

    Returns
    -------
    recordings, event_files : list of Path
        FIF, one of each for a run: ``subject12/run1_raw.fif`` and ``subject12/run1-eve.fif``. Codes of the events: 2
        (13 Hz), 4 (17 Hz), 3 (21 Hz) and 1 (rest).

    Raises
    ------
    ValueError
        Unknown subject or data set.
    ConnectionError, ModuleNotFoundError, OSError
        Of "kalunga2016", see `load_ssvep`.
    """
    if dataset not in DATASETS:
        raise unknown_name("dataset", dataset, DATASETS)
    check_subject(subject)
    folder = expanded(folder) / f"subject{subject:02d}"
    if dataset == "simulated":
        return _written(_simulated(subject), folder)
    try:
        if dataset == "auto" and not _at_hand(subject):
            raise ConnectionError("they are not in MNE's cache, and zenodo.org does not answer.")
        runs = runs_of(subject)
    except (OSError, ModuleNotFoundError) as error:
        if dataset != "auto":
            raise
        print(f"Simulated recordings of flicker, because the real ones cannot be had: {error}")
        return _written(_simulated(subject), folder)
    if dataset == "auto":
        print(f"Real recordings: Kalunga et al. (2016), subject {subject}, {len(runs)} runs.")
    cached = folder_of(subject)
    return _paths(runs, cached) if cached.is_dir() else _written(runs, folder)


def _at_hand(subject: int) -> bool:
    """Tell whether it is worth while to ask MOABB, which tries for a minute where there is no network."""
    of_moabb = cache_folder("SSVEPEXO") / "MNE-ssvepexo-data"
    return folder_of(subject).is_dir() or any(of_moabb.rglob(f"subject{subject:02d}_*.fif")) or zenodo_answers()


@cache
def zenodo_answers() -> bool:
    """Any answer within seconds."""
    with needed("fetch_ssvep", extra="recordings"):
        import requests
    try:
        requests.head("https://zenodo.org", timeout=5)
    except OSError:
        return False
    return True


def _paths(runs, folder: Path) -> tuple[list[Path], list[Path]]:
    return [folder / f"run{run}_raw.fif" for run in runs], [folder / f"run{run}-eve.fif" for run in runs]


def _written(runs: dict[int, tuple[mne.io.BaseRaw, np.ndarray]], folder: Path) -> tuple[list[Path], list[Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    recordings, event_files = _paths(runs, folder)
    for (raw, events), recording, event_file in zip(runs.values(), recordings, event_files, strict=True):
        raw.save(recording, overwrite=True, verbose="ERROR")
        mne.write_events(event_file, events, overwrite=True, verbose="ERROR")
    return recordings, event_files


def _simulated(subject: int) -> dict[int, tuple[mne.io.BaseRaw, np.ndarray]]:
    return {run: _simulated_run(np.random.default_rng([subject, run])) for run in range(1, N_RUNS + 1)}


def _simulated_run(rng: np.random.Generator) -> tuple[mne.io.BaseRaw, np.ndarray]:
    codes = rng.permutation(np.repeat(list(CODES.values()), TRIALS_PER_CLASS))
    onset = np.round(SFREQ * (PAUSE + (TRIAL + PAUSE) * np.arange(len(codes)))).astype(int)
    n_times, time = onset[-1] + round(SFREQ * (TRIAL + PAUSE)), np.arange(round(SFREQ * TRIAL)) / SFREQ
    noise = background(EEGBCI_CHANNELS, "sphere", int(n_times), SFREQ).draw(1, rng)[0]
    field = dipole_topography("Oz", "radial", EEGBCI_CHANNELS)
    field = RESPONSE * field / field[EEGBCI_CHANNELS.index("Oz")]
    frequency_of = {CODES[name]: frequency for name, frequency in SSVEP_FREQUENCIES.items()}
    for code, first in zip(codes, onset, strict=True):
        if code in frequency_of:
            phase = 2 * np.pi * (frequency_of[code] * time + rng.uniform())
            answer = np.clip(time / BUILD_UP - 1, 0, 1) * (np.sin(phase) + np.sin(2 * phase) / 2)
            noise[:, first : first + len(time)] += np.outer(field, answer)
    picks = [EEGBCI_CHANNELS.index(name) for name in CHANNELS]
    raw = mne.io.RawArray(PER_MICROVOLT * noise[picks], mne.create_info(list(CHANNELS), SFREQ, "eeg"), verbose="ERROR")
    return raw, np.column_stack([onset, 0 * onset, codes])
