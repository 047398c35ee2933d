"""EEGBCI without EEG: every trial says which it is and which samples it holds, in whatever array it turns up.

A study is handed these trials, and its calls are compared with what they should get: which trials a decoder was trained
on, which it was tested on, which were explained, and in which window.
"""

import mne
import numpy as np
import pandas as pd

import eegxai_support as xs

CHANNELS = ("C3", "Cz", "C4", "Fz")
N_IN_RUN = 6
CLASSES = ("left fist", "right fist", "both fists", "both feet")
FIST_RUNS, FEET_RUNS = (3, 4, 7, 8, 11, 12), (5, 6, 9, 10, 13, 14)
EXECUTED = (3, 5, 7, 9, 11, 13)


def numbers_of(subject, runs):
    """Return the numbers of all trials of some runs, in the order in which they are loaded."""
    return [1000 * subject + 10 * run + k for run in runs for k in range(N_IN_RUN)]


def label_of(number):
    """Return the class of a trial, as its number has it."""
    return number % 10 % 2 + 2 * (number // 10 % 100 in FEET_RUNS)


def load_eegbci(subjects, runs=(4, 8, 12), *, tmin=1.0, tmax=4.0, l_freq=7.0, h_freq=38.0, sfreq=160.0):
    subjects = [subjects] if isinstance(subjects, int) else list(subjects)
    numbers = np.array([n for subject in subjects for n in numbers_of(subject, runs)])
    times = np.arange(round((tmax - tmin) * sfreq)) / sfreq + tmin
    signal = np.random.default_rng(0).standard_normal((len(numbers), len(CHANNELS), len(times)))
    signal[:, 0] = numbers[:, None] + 0.5 * (np.arange(len(times)) % 2)
    signal[:, 1] = times
    metadata = {"subject": numbers // 1000, "session": 1, "run": numbers // 10 % 100}
    task = np.where(np.isin(metadata["run"], EXECUTED), "executed", "imagined")
    return xs.Trials(
        signal=signal,
        unit="standardised",
        label=[label_of(n) for n in numbers],
        info=mne.create_info(list(CHANNELS), sfreq, "eeg"),
        class_names=CLASSES if set(runs) & set(FEET_RUNS) else CLASSES[:2],
        metadata=pd.DataFrame({**metadata, "task": task}),
        tmin=tmin,
    )


def numbers_in(signal):
    """Return the numbers of the trials in an array (trial, channel, time); 0 for a trial of zeros."""
    return np.floor(signal[:, 0, 0]).astype(int).tolist()


def window_of(signal):
    """Return first and last time in an array (trial, channel, time), in seconds."""
    return signal[0, 1, 0].round(4).item(), signal[0, 1, -1].round(4).item()
