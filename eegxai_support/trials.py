"""The one data type that every other module takes and returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

import mne
import numpy as np
import pandas as pd

UNITS = ("uV", "standardised")
METADATA_COLUMNS = ("subject", "session", "run")


@dataclass(frozen=True, eq=False, repr=False)
class Trials:
    """Labelled EEG trials with the electrode positions that figures need.

    Parameters
    ----------
    signal : ndarray, shape (trial, channel, time)
        The recording, stored as float32.
    unit : {"uV", "standardised"}
        Unit of `signal`.
    label : ndarray of int64, shape (trial,)
        Class of each trial, counted from 0 in the order of `class_names`.
    info : mne.Info
        Channel names, sampling rate and a montage with a position for every channel.
    class_names : tuple of str
        One name per class.
    metadata : pandas.DataFrame
        One row per trial with at least the columns subject, session and run.
    truth : ndarray, shape (trial, channel, time), optional
        Noise-free class-specific signal of simulated trials, in the unit of `signal`.
    tmin : float
        Time of the first sample in seconds, relative to the cue.

    Raises
    ------
    ValueError
        When the arrays disagree in shape, hold NaN or infinity, hold no trial, have a constant
        channel, have labels outside 0 … K−1, or when the montage is missing.
    """

    signal: np.ndarray
    unit: str
    label: np.ndarray
    info: mne.Info
    class_names: tuple[str, ...]
    metadata: pd.DataFrame
    truth: np.ndarray | None = None
    tmin: float = 0.0

    def __post_init__(self):
        set_ = object.__setattr__  # the documented way to normalise a field of a frozen dataclass
        set_(self, "signal", np.asarray(self.signal, dtype=np.float32))
        _check_signal(self.signal, self.info.ch_names)
        if self.unit not in UNITS:
            raise ValueError(f"unit is {self.unit!r}; expected one of {UNITS}.")
        set_(self, "class_names", tuple(self.class_names))
        set_(self, "label", _checked_label(self.label, len(self.signal), self.class_names))
        set_(self, "metadata", _checked_metadata(self.metadata, len(self.signal)))
        _check_montage(self.info)
        if self.truth is not None:
            set_(self, "truth", np.asarray(self.truth, dtype=np.float32))
            if self.truth.shape != self.signal.shape:
                raise ValueError(f"truth has shape {self.truth.shape}; expected that of signal, {self.signal.shape}.")

    def __len__(self) -> int:
        return len(self.signal)

    def __repr__(self) -> str:
        _, n_channels, n_times = self.signal.shape
        counts = np.bincount(self.label, minlength=self.n_classes)
        per_class = ", ".join(f"{name} {n}" for name, n in zip(self.class_names, counts, strict=True))
        return (
            f"Trials({len(self)} trials × {n_channels} channels × {n_times} samples at {self.sfreq:g} Hz,"
            f" {self.unit}; {per_class})"
        )

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return float(self.info["sfreq"])

    @property
    def times(self) -> np.ndarray:
        """Time of each sample in seconds, relative to the cue, shape (time,)."""
        return self.tmin + np.arange(self.signal.shape[2]) / self.sfreq

    @property
    def n_classes(self) -> int:
        """Number of classes, those without a trial included."""
        return len(self.class_names)

    def subset(self, mask) -> Trials:
        """Return the trials that `mask` selects, in its order.

        Parameters
        ----------
        mask : array-like
            Booleans, one per trial, or trial indices.
        """
        mask = np.asarray(mask)
        if mask.dtype == bool and mask.shape != (len(self),):
            raise ValueError(f"mask has shape {mask.shape}; expected ({len(self)},), one value per trial.")
        index = np.flatnonzero(mask) if mask.dtype == bool else mask.astype(int)
        return replace(
            self,
            signal=self.signal[index],
            label=self.label[index],
            metadata=self.metadata.iloc[index],
            truth=None if self.truth is None else self.truth[index],
        )

    def split(self, by: str = "run") -> dict[object, Trials]:
        """Return one set of trials per value of a metadata column, in order of appearance.

        Parameters
        ----------
        by : str
            A column of `metadata`, such as "run", "session" or "subject".
        """
        if by not in self.metadata:
            raise ValueError(f"metadata has no column {by!r}; it has {', '.join(self.metadata.columns)}.")
        column = self.metadata[by].to_numpy()
        return {value: self.subset(column == value) for value in pd.unique(column)}

    def crop(self, tmin: float, tmax: float) -> Trials:
        """Return the samples from `tmin` up to, not including, `tmax` (seconds)."""
        first, last = np.round((np.array([tmin, tmax]) - self.tmin) * self.sfreq).astype(int)
        n_times = self.signal.shape[2]
        if not 0 <= first < last <= n_times:
            end = self.tmin + n_times / self.sfreq
            raise ValueError(f"Cannot crop to {tmin:g}-{tmax:g} s: the trials run from {self.tmin:g} to {end:g} s.")
        return replace(
            self,
            signal=self.signal[:, :, first:last],
            truth=None if self.truth is None else self.truth[:, :, first:last],
            tmin=self.tmin + first / self.sfreq,
        )


def _check_signal(signal: np.ndarray, ch_names: list[str]) -> None:
    """Refuse what no decoder can use, with the reason."""
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


def _checked_label(label, n_trials: int, class_names: tuple[str, ...]) -> np.ndarray:
    label = np.asarray(label)
    if label.shape != (n_trials,):
        raise ValueError(f"label has shape {label.shape}; expected ({n_trials},), one per trial.")
    n_classes = len(class_names)
    if not np.isin(label, np.arange(n_classes)).all():
        raise ValueError(
            f"label has the values {np.unique(label).tolist()}; expected integers 0 … {n_classes - 1}, one for each"
            f" of {class_names}. np.unique(label, return_inverse=True)[1] renumbers them."
        )
    return label.astype(np.int64)


def _checked_metadata(metadata: pd.DataFrame, n_trials: int) -> pd.DataFrame:
    missing = [c for c in METADATA_COLUMNS if c not in metadata]
    if missing or len(metadata) != n_trials:
        raise ValueError(
            f"metadata has {len(metadata)} rows and the columns {list(metadata.columns)}; expected {n_trials}"
            f" rows, one per trial, and at least {list(METADATA_COLUMNS)}."
        )
    return metadata.reset_index(drop=True)


def _check_montage(info: mne.Info) -> None:
    position = np.array([channel["loc"][:3] for channel in info["chs"]])
    located = np.isfinite(position).all(axis=1) & (position != 0).any(axis=1)
    if not located.all():
        names = ", ".join(np.array(info.ch_names)[~located][:8])
        raise ValueError(
            f"No montage position for {(~located).sum()} channels ({names}). Set one, for example"
            " info.set_montage('colin27_1005', match_case=False)."
        )


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not known, with the nearest one that is, whatever its case."""
    known = {str(k).lower(): str(k) for k in known}
    near = get_close_matches(str(name).lower(), known, n=1, cutoff=0.4)
    hint = f"Did you mean {known[near[0]]!r}?" if near else f"Known: {', '.join(known.values()) or 'none'}."
    return ValueError(f"Unknown {kind} {name!r}. {hint}")
