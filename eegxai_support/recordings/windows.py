"""Windows around the cue, cut the same way from every recording."""

from __future__ import annotations

import mne
import numpy as np


def windows(raw: mne.io.BaseRaw, events: np.ndarray, tmin: float, tmax: float) -> mne.Epochs:
    """Windows from `tmin` up to, not including, `tmax`; those that leave the recording are dropped."""
    n_times = round((tmax - tmin) * raw.info["sfreq"])
    last = tmin + (n_times - 1) / raw.info["sfreq"]
    return mne.Epochs(raw, events, tmin=tmin, tmax=last, baseline=None, preload=True, verbose=False)
