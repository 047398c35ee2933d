"""Trials and the few things that people do to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import mne
import numpy as np
import pandas as pd
import scipy

from eegxai_support.trials.checks import (
    METADATA_COLUMNS,
    UNITS,
    check_complete,
    check_signal,
    checked_label,
    checked_metadata,
    read_only,
    unknown_name,
)


@dataclass(frozen=True, eq=False, repr=False)
class Trials:
    """EEG trials with what is known about them: labels, channels, where and when they were recorded.

    One channel is enough, and channels need no position: only figures of heads ask for one. The arrays can only be
    read. To change them, use the methods, which return new trials, or `dataclasses.replace`.

    Parameters
    ----------
    signal : ndarray, shape (trial, channel, time)
        The recording, stored as float32. An array of that type is not copied: whoever made it can still write to it.
    unit : {"uV", "standardised"}
        Unit of `signal`.
    label : ndarray, shape (trial,), or None
        Class of each trial (int64), counted from 0 in the order of `class_names`; without class names a number for each
        trial that a network predicts (float32), such as a reaction time, or None where nothing is known.
    info : mne.Info
        Channel names, sampling rate and, where they are known, positions.
    class_names : tuple of str
        One name per class; empty where the trials have no classes.
    metadata : pandas.DataFrame
        One row per trial with at least the columns subject, session and run, in whatever case they are written.
    truth : ndarray, shape (trial, channel, time), optional
        Noise-free class-specific signal of simulated trials, in the unit of `signal`.
    tmin : float
        Time of the first sample in seconds, relative to the cue.

    Raises
    ------
    ValueError
        When the arrays disagree in shape, hold NaN or infinity, hold no trial, have a constant channel, have labels
        outside 0 … K−1, or when a trial's subject, session or run is missing.
    """

    signal: np.ndarray
    unit: str
    label: np.ndarray | None
    info: mne.Info
    class_names: tuple[str, ...]
    metadata: pd.DataFrame
    truth: np.ndarray | None = None
    tmin: float = 0.0

    def __post_init__(self):
        set_ = object.__setattr__  # the documented way to normalise a field of a frozen dataclass
        set_(self, "signal", read_only(np.asarray(self.signal, dtype=np.float32)))
        check_signal(self.signal, self.info.ch_names)
        if self.unit not in UNITS:
            raise ValueError(f"unit is {self.unit!r}; expected one of {UNITS}.")
        set_(self, "class_names", tuple(self.class_names))
        set_(self, "label", checked_label(self.label, len(self.signal), self.class_names))
        set_(self, "metadata", checked_metadata(self.metadata, len(self.signal)))
        if self.truth is not None:
            set_(self, "truth", read_only(np.asarray(self.truth, dtype=np.float32)))
            if self.truth.shape != self.signal.shape:
                raise ValueError(f"truth has shape {self.truth.shape}; expected that of signal, {self.signal.shape}.")

    def __setstate__(self, state):  # a copy or a pickle has arrays of its own, which could be written to
        arrays = {name: read_only(value) for name, value in state.items() if isinstance(value, np.ndarray)}
        self.__dict__.update(state | arrays)

    def __len__(self) -> int:
        return len(self.signal)

    def __repr__(self) -> str:
        sizes = zip(self.signal.shape, ("trial", "channel", "sample"), strict=True)
        shape = " × ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in sizes)
        if self.label is None:
            label = "no label"
        elif self.n_classes:
            counts = np.bincount(self.label, minlength=self.n_classes)
            label = ", ".join(f"{name} {n}" for name, n in zip(self.class_names, counts, strict=True))
        else:
            label = f"label {self.label.min():.3g} to {self.label.max():.3g}"
        return f"Trials({shape} at {self.sfreq:g} Hz, {self.unit}; {label})"

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
        """Number of classes, those without a trial included; 0 where the label is continuous or missing."""
        return len(self.class_names)

    def require_classes(self, name: str) -> None:
        """Refuse trials without classes on behalf of `name`, which needs the class of each.

        Raises
        ------
        ValueError
            The label is continuous or missing.
        """
        if not self.n_classes:
            kind = "no label" if self.label is None else "a continuous label"
            raise ValueError(
                f"{name} needs the class of each trial, and these trials have {kind}. Give them one:"
                " dataclasses.replace(trials, label=<integers from 0>, class_names=(<a name for each>,))."
            )

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
            label=None if self.label is None else self.label[index],
            metadata=self.metadata.iloc[index],
            truth=None if self.truth is None else self.truth[index],
        )

    def split(self, by: str = "run") -> dict[object, Trials]:
        """Return one set of trials per value of a metadata column, in order of appearance.

        Parameters
        ----------
        by : str
            A column of `metadata`, such as "run", "session" or "subject".

        Raises
        ------
        ValueError
            There is no such column, or it lacks the value of a trial, which would belong nowhere.
        """
        check_complete(self.metadata, by)
        column = self.metadata[by].to_numpy()
        return {value: self.subset(column == value) for value in pd.unique(column)}

    def fingerprints(self) -> tuple[str, ...]:
        """Return a hash of each trial's signal, which tells a trial from others wherever it stands."""
        return tuple(hashlib.blake2b(trial.tobytes(), digest_size=8).hexdigest() for trial in self.signal)

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

    def pick(self, ch_names: str | Iterable[str]) -> Trials:
        """Return some of the channels, in the order given.

        Parameters
        ----------
        ch_names : str or iterable of str
            One name or several.

        Raises
        ------
        ValueError
            A name that the trials do not have, or have but was given twice.
        """
        index = self._index(ch_names)
        return self.apply_matrix(np.eye(len(self.info.ch_names))[index], mne.pick_info(self.info, index))

    def rereference(self, reference: str | Iterable[str] = "average") -> Trials:
        """Return the trials against another reference.

        Parameters
        ----------
        reference : "average", str or iterable of str
            The mean over all channels, or the names of one or several whose mean is subtracted. A single reference
            channel is zero afterwards and left out; several stay, as in MNE.

        Raises
        ------
        ValueError
            An unknown channel, or a reference that leaves no channel.
        """
        n_channels = len(self.info.ch_names)
        index = range(n_channels) if reference == "average" else self._index(reference)
        if n_channels == 1:
            raise ValueError(f"{self.info.ch_names[0]} is the only channel; against itself nothing is left.")
        weight = np.isin(np.arange(n_channels), index) / len(index)
        keep = [c for c in range(n_channels) if weight[c] < 1]
        info = mne.pick_info(self.info, keep)
        with info._unlock():
            info["custom_ref_applied"] = mne.io.constants.FIFF.FIFFV_MNE_CUSTOM_REF_ON
        return self.apply_matrix((np.eye(n_channels) - weight)[keep], info)

    def apply_matrix(self, matrix: np.ndarray, info: mne.Info | None = None) -> Trials:
        """Return trials whose channels are linear combinations of these: of signal and truth alike.

        Bipolar derivations, spatial filters and the removal of independent components are such matrices.

        Parameters
        ----------
        matrix : ndarray, shape (new channel, channel)
        info : mne.Info, optional
            Of the new channels; that of the trials where their number stays.
        """
        matrix = np.asarray(matrix, dtype=np.float32)
        return replace(
            self,
            signal=matrix @ self.signal,
            info=self.info if info is None else info,
            truth=None if self.truth is None else matrix @ self.truth,
        )

    def standardise(
        self, by: str | Sequence[str] | None = METADATA_COLUMNS, *, mean: float | np.ndarray = 0.0, scale=None
    ) -> Trials:
        """Return the trials without their unit: divided by what is usual in their recording.

        One number for all channels of a recording keeps the topography as it was; the robust standard deviation, 1.48
        times the median absolute deviation, is hardly moved by artefacts.

        No label enters, but a scale that training and test trials share is known to both. By default each recording
        (subject, session and run) has its own, so that nothing passes between runs. Where runs are split between
        training and test, scale both by what the training trials alone tell, see the examples.

        Parameters
        ----------
        by : str, sequence of str or None
            Columns of `metadata`: trials with the same values share a scale. None for one scale of all trials.
        mean, scale : float or ndarray, shape (channel,)
            Subtracted, and divided by. With a `scale` of your own, `by` is not used.

        Raises
        ------
        ValueError
            A scale that is not positive.

        Examples
        --------
        >>> m, s = train.signal.mean((0, 2)), train.signal.std((0, 2))  # doctest: +SKIP
        >>> train, test = train.standardise(mean=m, scale=s), test.standardise(mean=m, scale=s)  # doctest: +SKIP
        """
        mean = np.reshape(np.asarray(mean, dtype=np.float32), (-1, 1))
        scale = self._robust_scale(by) if scale is None else np.reshape(scale, (-1, 1))
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError(
                f"The smallest scale is {np.min(scale):g}; expected finite numbers above 0, one or one per channel."
            )
        scale = scale.astype(np.float32)
        truth = None if self.truth is None else self.truth / scale
        return replace(self, signal=(self.signal - mean) / scale, truth=truth, unit="standardised")

    def _robust_scale(self, by: str | Sequence[str] | None) -> np.ndarray:
        """Return the robust standard deviation of each trial's group, shape (trial, 1, 1)."""
        columns = [by] if isinstance(by, str) else list(by or ())
        for column in columns:
            check_complete(self.metadata, column)
        group = self.metadata.groupby(columns, sort=False).ngroup() if columns else np.zeros(len(self))
        scale = np.empty((len(self), 1, 1))
        for value in np.unique(group):
            inside = self.signal[group == value]
            scale[group == value] = scipy.stats.median_abs_deviation(inside, axis=None, scale="normal")
        return scale

    def _index(self, ch_names: str | Iterable[str]) -> list[int]:
        names = [ch_names] if isinstance(ch_names, str) else list(ch_names)
        for name in names:
            if name not in self.info.ch_names:
                raise unknown_name("channel", name, self.info.ch_names)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Channels {names} were asked for; expected at least one, each once.")
        return [self.info.ch_names.index(name) for name in names]
