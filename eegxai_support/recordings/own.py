"""Trials from your own recording."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd

from eegxai_support.trials import METADATA_COLUMNS, Trials


def from_epochs(epochs: mne.BaseEpochs) -> Trials:
    """Make trials of your own epochs.

    Parameters
    ----------
    epochs : mne.Epochs or mne.EpochsArray
        EEG channels are taken, channels marked as bad left out. Filter, reference and reject beforehand.

    Returns
    -------
    Trials
        In µV. Classes are the names in ``epochs.event_id`` in the order of their codes. Metadata columns are kept;
        where they lack, subject is "unknown", session and run are 1.

    Raises
    ------
    TypeError
        `epochs` is not an Epochs object.
    ValueError
        No EEG channel, no epoch, or no montage.
    """
    if not isinstance(epochs, mne.BaseEpochs):
        raise TypeError(f"epochs is a {type(epochs).__name__}; expected mne.Epochs. Cut a Raw with mne.Epochs first.")
    picks = mne.pick_types(epochs.info, eeg=True, exclude="bads")
    if not len(picks):
        raise ValueError(f"epochs has no good EEG channel; its types are {sorted(set(epochs.get_channel_types()))}.")
    signal = epochs.get_data(picks=picks, units="uV", verbose=False)  # also drops bad epochs, so it comes first
    metadata = pd.DataFrame(index=range(len(signal))) if epochs.metadata is None else epochs.metadata.copy()
    for column, value in zip(METADATA_COLUMNS, ("unknown", 1, 1), strict=True):
        if column not in metadata:
            metadata[column] = value
    names = {code: name for name, code in sorted(epochs.event_id.items(), key=lambda item: item[1])}
    return Trials(
        signal=signal,
        unit="uV",
        label=np.searchsorted(list(names), epochs.events[:, 2]),
        info=mne.pick_info(epochs.info, picks),
        class_names=tuple(names.values()),
        metadata=metadata,
        tmin=epochs.tmin,
    )
