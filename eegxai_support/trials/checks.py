"""What trials refuse, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np
import pandas as pd

UNITS = ("uV", "standardised")
METADATA_COLUMNS = ("subject", "session", "run")
FLAT = 1e-6  # of the median channel's standard deviation: what is below records nothing


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written to: ``trials.signal -= …`` would change the data before it fails."""
    view = array.view()
    view.flags.writeable = False
    return view


def stacked(signal, name: str) -> np.ndarray:
    """Return an array; refuse trials of several lengths, which NumPy cannot hold in one."""
    try:
        return np.asarray(signal)
    except ValueError as error:
        shapes = ", ".join(map(str, dict.fromkeys(np.shape(each) for each in signal)))
        raise ValueError(
            f"{name} holds trials of the shapes {shapes}; expected one. Cut them to the shortest,"
            " np.stack([trial[:, :n_times] for trial in trials]), or cut windows of one length out of each."
        ) from error


def check_shape(signal: np.ndarray, ch_names: list[str]) -> None:
    """Refuse arrays that are not trials of these channels, with the reason."""
    if signal.ndim != 3:
        raise ValueError(f"signal has shape {signal.shape}; expected three axes (trial, channel, time).")
    if 0 in signal.shape:
        raise ValueError(f"No trials: signal has shape {signal.shape}. Check the selection that led here.")
    n_channels = len(ch_names)
    if signal.shape[1] != n_channels:
        order = (
            " The first axis has that length: reorder with signal.transpose(1, 0, 2)."
            if signal.shape[0] == n_channels
            else ""
        )
        raise ValueError(
            f"signal has shape {signal.shape}; expected (trial, channel, time) with {n_channels} channels.{order}"
        )


def check_signal(signal: np.ndarray, ch_names: list[str]) -> None:
    """Refuse what no decoder can use, with the reason."""
    check_shape(signal, ch_names)
    bad = ~np.isfinite(signal)
    if bad.any():
        trial, channel, time = np.argwhere(bad)[0]
        raise ValueError(
            f"signal holds {bad.sum()} NaN or infinite values, the first in trial {trial}, channel"
            f" {ch_names[channel]}, sample {time}. Drop or repair those trials first."
        )
    constant = np.flatnonzero(signal.max(axis=(0, 2)) == signal.min(axis=(0, 2)))
    if len(constant):
        names = ", ".join(ch_names[c] for c in constant)
        raise ValueError(f"Constant in every trial: {names}. Drop or interpolate the channel first.")


def flat_channels(signal: np.ndarray) -> np.ndarray:
    """Return the numbers of the channels that record nothing, such as a reference that a file keeps as zeros."""
    with np.errstate(invalid="ignore"):  # infinity is refused later, by its place
        deviation = signal.std(axis=(0, 2))
    return np.flatnonzero(deviation <= FLAT * np.median(deviation))


def checked_label(label, n_trials: int, class_names: tuple[str, ...]) -> np.ndarray | None:
    """Return classes as int64, a continuous target as float32, None as it is."""
    n_classes = len(class_names)
    if label is None:
        if n_classes:
            raise ValueError(f"class_names are {class_names} but label is None. Without labels class_names is ().")
        return None
    label = np.asarray(label)
    if label.shape != (n_trials,):
        raise ValueError(f"label has shape {label.shape}; expected ({n_trials},), one per trial.")
    if not n_classes:
        if label.dtype.kind != "f" or not np.isfinite(label).all():
            raise ValueError(
                f"class_names is empty and label holds {label.dtype}{' or NaN' * (label.dtype.kind == 'f')}; expected"
                " a finite float for each trial. Name the classes in class_names, or pass label.astype(float) for a"
                " continuous target."
            )
        return read_only(label.astype(np.float32))
    if not np.isin(label, np.arange(n_classes)).all():
        raise ValueError(
            f"label has the values {np.unique(label).tolist()}; expected integers 0 … {n_classes - 1}, one for each"
            f" of {class_names}. np.unique(label, return_inverse=True)[1] renumbers them."
        )
    return read_only(label.astype(np.int64))


def checked_metadata(metadata: pd.DataFrame, n_trials: int) -> pd.DataFrame:
    """Return metadata with its usual names and rows counted from 0."""
    metadata = with_usual_names(metadata)
    missing = [c for c in METADATA_COLUMNS if c not in metadata]
    if missing or len(metadata) != n_trials:
        raise ValueError(
            f"metadata has {len(metadata)} rows and the columns {list(metadata.columns)}; expected {n_trials}"
            f" rows, one per trial, and at least {list(METADATA_COLUMNS)}."
        )
    for column in METADATA_COLUMNS:
        check_complete(metadata, column)
    return metadata.reset_index(drop=True)


def with_usual_names(metadata: pd.DataFrame) -> pd.DataFrame:
    """Return metadata whose columns subject, session and run are spelled so: other tables write Subject or RUN."""
    found = {name: [c for c in metadata if str(c).lower() == name] for name in METADATA_COLUMNS}
    return metadata.rename(columns={columns[0]: name for name, columns in found.items() if len(columns) == 1})


def check_complete(metadata: pd.DataFrame, column: str) -> None:
    """Refuse a column that would leave trials out of every group."""
    if column not in metadata:
        raise ValueError(f"metadata has no column {column!r}; it has {', '.join(map(str, metadata.columns))}.")
    missing = np.flatnonzero(metadata[column].isna())
    if len(missing):
        raise ValueError(
            f"The {column} of {len(missing)} of {len(metadata)} trials is missing in the metadata, first of trial"
            f" {missing[0]}. Fill it in with metadata[{column!r}].fillna(…), or leave those trials out with"
            f" epochs[epochs.metadata[{column!r}].notna()]."
        )


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not known, with the nearest one that is, whatever its case."""
    known = {str(k).lower(): str(k) for k in known}
    near = get_close_matches(str(name).lower(), known, n=1, cutoff=0.4)
    hint = f"Did you mean {known[near[0]]!r}?" if near else f"Known: {', '.join(known.values()) or 'none'}."
    return ValueError(f"Unknown {kind} {name!r}. {hint}")
