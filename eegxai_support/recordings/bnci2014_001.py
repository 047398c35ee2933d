"""Data set 2a of BCI Competition IV (BNCI2014_001 in MOABB)."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pandas as pd

from eegxai_support.model import needed
from eegxai_support.recordings.cache import cache_folder, download_error
from eegxai_support.recordings.windows import windows
from eegxai_support.trials import Trials

CLASSES = ("feet", "left_hand", "right_hand", "tongue")  # MOABB's names, in its alphabetical order


def load_bnci2014_001(
    subject: int = 3, *, tmin: float = -0.5, tmax: float = 4.0, l_freq: float = 4.0, h_freq: float = 38.0
) -> Trials:
    """Load motor imagery of data set 2a of BCI Competition IV through MOABB.

    Preprocessing of braindecode's tutorials: EEG channels in µV, band-pass, exponential moving standardisation
    (factor 0.001, the first 1000 samples together) of each run.

    Parameters
    ----------
    subject : int
        1 to 9.
    tmin, tmax : float
        Window in seconds after the cue; imagery ends at 4 s. The sample at `tmax` is left out.
    l_freq, h_freq : float
        Edges of the pass-band in Hz.

    Returns
    -------
    Trials
        22 channels at 250 Hz, unit "standardised", classes feet, left hand, right hand, tongue. Metadata: subject,
        session ("0train" or "1test"), run.

    Raises
    ------
    ModuleNotFoundError
        MOABB or braindecode is not installed.
    ValueError
        Unknown subject.
    ConnectionError
        The recordings are neither in the cache nor can be downloaded.
    OSError
        The cache cannot be written, for example because the disk is full.

    References
    ----------
    .. [1] Tangermann et al. (2012), Frontiers in Neuroscience 6:55.
    """
    if subject not in range(1, 10):
        raise ValueError(f"subject is {subject!r}; expected one of 1 to 9.")
    with warnings.catch_warnings():  # both packages ask MNE for montages by names that it has given up
        warnings.simplefilter("ignore")
        with needed("load_bnci2014_001", extra="data"):
            from braindecode.preprocessing import exponential_moving_standardize
            from moabb.datasets import BNCI2014_001

        dataset = BNCI2014_001()
        try:
            sessions = dataset.get_data([subject])[subject]
        except OSError as error:
            what = f"BNCI2014_001, subject {subject},"
            no_download = (
                f"{what} is neither in {cache_folder('BNCI')} nor could be downloaded ({error})."
                " Check the network, or use load_motor_imagery('simulated')."
            )
            raise download_error(error, "BNCI", what, no_download) from error
    cue = dataset.interval[0]  # the stimulus channel marks the beginning of the trial, the cue comes later
    parts, metadata = [], []
    for session, session_runs in sessions.items():
        for run, raw in session_runs.items():
            events = mne.find_events(raw, shortest_event=0, verbose=False)
            raw = raw.copy().load_data(verbose=False).pick("eeg")
            raw.apply_function(lambda volt: 1e6 * volt, channel_wise=False)
            raw.filter(l_freq, h_freq, verbose=False)
            raw.apply_function(
                exponential_moving_standardize, channel_wise=False, factor_new=1e-3, init_block_size=1000
            )
            parts.append(windows(raw, events, cue + tmin, cue + tmax))
            metadata.extend([{"subject": subject, "session": session, "run": run}] * len(parts[-1]))
    label = {dataset.event_id[name]: i for i, name in enumerate(CLASSES)}
    return Trials(
        signal=np.concatenate([epochs.get_data(verbose=False) for epochs in parts]),
        unit="standardised",
        label=[label[code] for epochs in parts for code in epochs.events[:, 2]],
        info=parts[0].info,
        class_names=tuple(name.replace("_", " ") for name in CLASSES),
        metadata=pd.DataFrame(metadata),
        tmin=tmin,
    )
