"""Trials from your own recording."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import mne
import numpy as np
import pandas as pd
from torch.utils.data import Subset

from eegxai_support.model.inputs import eeg_picks, projected
from eegxai_support.montages import located
from eegxai_support.trials import (
    METADATA_COLUMNS,
    Trials,
    check_complete,
    check_shape,
    concatenate,
    flat_channels,
    stacked,
    unknown_name,
    with_usual_names,
)

MICROVOLT = {"V": 1e6, "mV": 1e3, "uV": 1.0, "nV": 1e-3}  # how many µV each is
WINDOWS = ("EEGWindowsDataset", "WindowsDataset")
EEG_RANGE = 0.1, 1000.0  # µV, what the standard deviation of a channel within a trial can be
TYPICAL = 10.0  # µV
OFFSET = 10.0  # standard deviations within a trial by which its mean is no longer a slow wave but the amplifier's
# Channels that are not EEG and that readers without a type for them call EEG.
NOT_EEG = re.compile(
    r"eog|emg|ecg|ekg|[vh]eo|exg|\baux|\bbip\d|chin|gsr|resp|thor|abdo|flow|snore|pleth|ppg|s[ap]o2|\bsti\b|stim|trig"
    r"|status",
    re.IGNORECASE,
)


@dataclass
class _Recording:
    """What one set of epochs, windows or one array holds, before anything is checked."""

    signal: np.ndarray
    info: mne.Info
    label: np.ndarray | None  # names of classes, numbers or nothing
    class_names: tuple[str, ...]
    metadata: pd.DataFrame
    tmin: float


def from_epochs(epochs, *, label: str | None = None, unit: str = "V", unnamed: str = "raise") -> Trials:
    """Make trials of your own epochs, of one recording or several.

    Parameters
    ----------
    epochs : mne.BaseEpochs, braindecode WindowsDataset, EEGWindowsDataset or BaseConcatDataset, or a list of these
        EEG channels are taken, or those of a current source density; channels marked as bad are left out. Filter and
        reject beforehand. Projectors that are not yet applied, such as an average reference, are applied to a copy.
    label : str, optional
        Column of the metadata to learn instead of the events: floats are a continuous target, everything else names
        classes. Windows of braindecode are labelled by their target.
    unit : {"V", "mV", "uV", "nV", "standardised"}
        What the numbers in the object are. MNE means volts; "standardised" for numbers without a unit.
    unnamed : {"raise", "drop"}
        Whether epochs whose event code has no name in ``event_id`` are refused or left out.

    Returns
    -------
    Trials
        In µV, or standardised: those without a unit as they are, current source densities by `Trials.standardise`.
        Classes are the names in ``event_id`` in the order of their codes, those that no trial has left out. Metadata
        columns are kept; where they lack, subject is "unknown", session is 1, and run counts the recordings from 1.
        Where no channel has a position in metres, electrodes whose names are of the 10-05 system, such as
        "EEG Fp1-Ref" or "Fc5.", get its name and place, which is logged.

    Raises
    ------
    TypeError
        `epochs` is something else.
    ValueError
        No EEG channel or no epoch; event codes without a name; recordings that do not fit together.

    Warns
    -----
    UserWarning
        Amplitudes that EEG does not have, the offset of an amplifier that is far larger than the EEG on it, channels
        that record nothing (left out, such as a reference that is kept as zeros), channels whose names say that they
        are not EEG, classes without a trial.

    See Also
    --------
    from_array, eegxai_support.concatenate
    """
    if unnamed not in ("raise", "drop"):
        raise ValueError(f"unnamed is {unnamed!r}; expected 'raise' or 'drop'.")
    return _trials([_read(each, label, unnamed) for each in _each(epochs)], unit)


def from_array(
    signal: np.ndarray,
    sfreq: float,
    ch_names: Iterable[str],
    label=None,
    *,
    event_id: Mapping[str, int] | None = None,
    unit: str = "uV",
    metadata: pd.DataFrame | None = None,
    tmin: float = 0.0,
) -> Trials:
    """Make trials of an array.

    Parameters
    ----------
    signal : ndarray, shape (trial, channel, time)
    sfreq : float
        Sampling rate in Hz.
    ch_names : iterable of str
        Channels whose names are of the 10-05 system get its positions.
    label : array-like, shape (trial,), optional
        Integers or names of classes; floats are a continuous target unless `event_id` names them.
    event_id : mapping of str to int, optional
        Names of the classes, as in MNE.
    unit : {"V", "mV", "uV", "nV", "standardised"}
        Of `signal`.
    metadata : pandas.DataFrame, optional
        One row per trial.
    tmin : float
        Time of the first sample in seconds, relative to the cue.

    Returns
    -------
    Trials
        See `from_epochs`.

    Raises
    ------
    ValueError
        The arrays disagree in shape, or labels have no name in `event_id`.

    Warns
    -----
    UserWarning
        See `from_epochs`.
    """
    info = mne.create_info(list(ch_names), sfreq, "eeg", verbose=False)
    signal = stacked(signal, "signal")
    check_shape(signal, info.ch_names)
    label = None if label is None else np.asarray(label)
    if label is not None and label.shape != (len(signal),):
        raise ValueError(f"label has shape {label.shape}; expected ({len(signal)},), one per trial.")
    metadata = pd.DataFrame(index=range(len(signal))) if metadata is None else metadata
    if event_id is None:
        return _trials([_Recording(signal, info, *_classes(label), metadata, tmin)], unit)
    label, class_names, _ = _named(label, event_id, "raise")
    return _trials([_Recording(signal, info, label, class_names, metadata, tmin)], unit)


def _each(epochs) -> Iterator:
    """Walk through lists and concatenated data sets."""
    if isinstance(epochs, (list, tuple)) or hasattr(epochs, "datasets"):
        for each in getattr(epochs, "datasets", epochs):
            yield from _each(each)
    else:
        yield epochs


def _read(epochs, label: str | None, unnamed: str) -> _Recording:
    if not isinstance(epochs, mne.BaseEpochs):
        return _read_windows(epochs, label, unnamed)
    epochs, picks = projected(epochs), eeg_picks(epochs.info, csd=True)
    signal = epochs.get_data(picks=picks, verbose=False)  # also drops bad epochs, so it comes first
    metadata = pd.DataFrame(index=range(len(signal))) if epochs.metadata is None else epochs.metadata
    info = mne.pick_info(epochs.info, picks)
    if label is not None:
        return _Recording(signal, info, *_classes(_column(metadata, label)), metadata, epochs.tmin)
    codes, class_names, keep = _named(epochs.events[:, 2], epochs.event_id, unnamed)
    return _Recording(signal if keep.all() else signal[keep], info, codes, class_names, metadata[keep], epochs.tmin)


def _read_windows(windows, label: str | None, unnamed: str) -> _Recording:
    """Read what a network would get: `windows` applies its transform."""
    if not _are_windows(windows):
        remedy = (
            "Take all and choose then: from_epochs(subset.dataset).subset(subset.indices)."
            if isinstance(windows, Subset)
            else "Cut a Raw with mne.Epochs first; an array goes to from_array."
        )
        raise TypeError(
            f"epochs is a {type(windows).__name__}; expected mne.Epochs, windows of braindecode or a list of them."
            f" {remedy}"
        )
    held = windows.windows if hasattr(windows, "windows") else windows.raw
    rows = [windows[index][:2] for index in range(len(windows))]
    info = held.info
    if windows.targets_from == "channels":  # which are then no part of the signal
        info = mne.pick_info(info, [c for c, kind in enumerate(held.get_channel_types()) if kind != "misc"])
    picks = eeg_picks(info, csd=True)
    signal = np.stack([np.asarray(x)[picks] for x, _ in rows])
    described = {} if windows.description is None else dict(windows.description)
    metadata = (held.metadata if isinstance(held, mne.BaseEpochs) else windows.metadata).assign(**described)
    info = mne.pick_info(info, picks)
    if label is not None:
        return _Recording(signal, info, *_classes(_column(metadata, label)), metadata, 0.0)
    target = np.array([np.squeeze(y) for _, y in rows])
    mapping = dict(windows.window_kwargs[0][1]).get("mapping") if getattr(windows, "window_kwargs", None) else None
    if (target == -1).all():  # braindecode's word for none
        return _Recording(signal, info, None, (), metadata, 0.0)
    if not mapping:
        return _Recording(signal, info, *_classes(target), metadata, 0.0)
    codes, class_names, keep = _named(target, mapping, unnamed)
    return _Recording(signal if keep.all() else signal[keep], info, codes, class_names, metadata[keep], 0.0)


def _are_windows(given) -> bool:
    """Tell braindecode's windows by name: who has some has imported braindecode, and no one else needs it."""
    kinds = type(given).__mro__
    return any(kind.__name__ in WINDOWS and kind.__module__.startswith("braindecode.") for kind in kinds)


def _column(metadata: pd.DataFrame, label: str) -> pd.Series:
    if label not in metadata:
        raise unknown_name("column of the metadata", label, metadata.columns)
    check_complete(metadata, label)
    return metadata[label]


def _classes(label: np.ndarray | pd.Series | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return numbers as they are, categories in their order, all else as classes in alphabetical or numerical order."""
    if isinstance(label, pd.Series):
        if isinstance(label.dtype, pd.CategoricalDtype):
            return label.cat.codes.to_numpy(), tuple(map(str, label.cat.categories))
        label = label.to_numpy()
    if label is None or label.dtype.kind == "f":
        return label, ()
    if label.dtype == object and len({*map(type, label)}) > 1:  # which have no order among themselves
        label = label.astype(str)
    names, index = np.unique(label, return_inverse=True)
    return index, tuple(map(str, names))


def _named(codes: np.ndarray, event_id: Mapping[str, int], unnamed: str):
    """Return the class of each trial, the classes' names in the order of their codes, and which trials have one."""
    names = {code: name for name, code in sorted(event_id.items(), key=lambda item: item[1])}
    if len(names) < len(event_id):
        raise ValueError(f"event_id gives several names to one code: {dict(event_id)}. Give each code one name.")
    keep = np.isin(codes, list(names))
    if unnamed == "raise" and not keep.all():
        counts = ", ".join(f"{code} ({n} times)" for code, n in sorted(Counter(codes[~keep].tolist()).items()))
        raise ValueError(
            f"Event codes without a name in event_id: {counts}; it names {dict(event_id)}. Name them, or leave their"
            " trials out: unnamed='drop' of from_epochs does; of arrays, take those where np.isin(label, codes)."
        )
    return np.searchsorted(list(names), codes[keep]), tuple(names.values()), keep


def _trials(recordings: list[_Recording], unit: str) -> Trials:
    """Check recordings, each once, and join them."""
    unit = unit.replace("µ", "u").replace("μ", "u")  # the micro sign and the Greek letter
    if unit != "standardised" and unit not in MICROVOLT:
        raise unknown_name("unit", unit, [*MICROVOLT, "standardised"])
    if not recordings:
        raise ValueError("No trials: the list of epochs is empty.")
    flat = {each.info.ch_names[c] for each in recordings if each.signal.size for c in flat_channels(each.signal)}
    if flat.issuperset(recordings[0].info.ch_names):
        raise ValueError(f"Constant in every trial: {', '.join(sorted(flat))}. Is this the right part of the file?")
    _warn_of_channels(recordings[0].info.ch_names, flat)
    parts = [_part(each, run, flat, unit) for run, each in enumerate(recordings, start=1)]
    _warn_of_scale(parts, unit)
    trials = concatenate(parts) if len(parts) > 1 else parts[0]
    _warn_of_offset(trials)
    return _without_empty_classes(trials)


def _part(recording: _Recording, run: int, flat: set[str], unit: str) -> Trials:
    info = recording.info
    keep = [c for c, name in enumerate(info.ch_names) if name not in flat]
    density = "csd" in info.get_channel_types()
    factor = 1.0 if density else MICROVOLT.get(unit, 1.0)
    signal = recording.signal if len(keep) == len(info.ch_names) else recording.signal[:, keep]
    metadata = with_usual_names(recording.metadata)
    metadata = metadata.assign(
        **{c: v for c, v in zip(METADATA_COLUMNS, ("unknown", 1, run), strict=True) if c not in metadata}
    )
    trials = Trials(
        # In the type of the recording, and rounded once: trials that were made epochs come back to the bit.
        signal=np.multiply(signal, factor, out=np.empty(signal.shape, np.float32), casting="same_kind"),
        unit="standardised" if density or unit == "standardised" else "uV",
        label=recording.label,
        info=located(mne.pick_info(info, keep)),
        class_names=recording.class_names,
        metadata=metadata,
        tmin=recording.tmin,
    )
    return trials.standardise() if density else trials


# The level of each warning's stack is that of the caller of from_epochs or from_array.


def _warn_of_channels(ch_names: list[str], flat: set[str]) -> None:
    if flat:
        warnings.warn(
            f"Left out, since they record nothing: {', '.join(sorted(flat))}. Was one the reference, then an average"
            " over all electrodes counts it: re-reference before epochs are handed over.",
            stacklevel=4,
        )
    if others := [name for name in ch_names if NOT_EEG.search(name) and name not in flat]:
        types = ", ".join(f"{name!r}: 'misc'" for name in others)
        warnings.warn(
            f"Typed as EEG, but named otherwise: {', '.join(others)}. A decoder would read them. If they are no EEG,"
            f" leave them out: epochs.set_channel_types({{{types}}}).",
            stacklevel=4,
        )


def _warn_of_scale(parts: list[Trials], unit: str) -> None:
    """Compare each recording with what EEG has, within trials: offsets of an unfiltered recording do not count."""
    deviations = [float(np.median(part.signal.std(axis=2))) for part in parts if part.unit == "uV"]
    odd = [k for k, deviation in enumerate(deviations) if not EEG_RANGE[0] <= deviation <= EEG_RANGE[1]]
    if not odd:
        return
    deviation = deviations[odd[0]]
    if len(odd) < len(parts):  # no unit is right for all of them
        numbers = ", ".join(str(k + 1) for k in odd[:8]) + " …" * (len(odd) > 8)
        which = f"in recordings {numbers} of {len(parts)}, "
        remedy = "Make trials of each with the unit that it has, and join them with xs.concatenate."
    else:
        which, remedy = "", f"Pass {_likely_units(deviation / MICROVOLT[unit])}."
    warnings.warn(
        f"Taken as {unit}, {which}the standard deviation is {deviation:.2g} µV; EEG has {EEG_RANGE[0]:g} to"
        f" {EEG_RANGE[1]:g} µV. {remedy}",
        stacklevel=4,
    )


def _likely_units(number: float) -> str:
    """Return the units in which numbers of this standard deviation would be EEG, as arguments with a reason."""
    likely = min(MICROVOLT, key=lambda name: abs(np.log(number * MICROVOLT[name] / TYPICAL)))
    hints = []
    if EEG_RANGE[0] <= number * MICROVOLT[likely] <= EEG_RANGE[1]:
        hints.append(f"unit={likely!r}, if the numbers are in {likely}: that makes {number * MICROVOLT[likely]:.2g} µV")
    if 0.2 < number < 5:
        hints.append("unit='standardised', if they have no unit")
    return "; or ".join(hints or ["unit='standardised', if they are in units of the converter"])


def _warn_of_offset(trials: Trials) -> None:
    offset, deviation = np.median(trials.signal.mean(2), axis=0), np.median(trials.signal.std(2), axis=0)
    far = np.flatnonzero(np.abs(offset) > OFFSET * deviation)
    if len(far):
        worst = far[np.argmax(np.abs(offset[far]) / deviation[far])]
        warnings.warn(
            f"{len(far)} of {len(offset)} channels are far from zero: {trials.info.ch_names[worst]} lies at"
            f" {offset[worst]:.2g} with a standard deviation of {deviation[worst]:.2g} within trials. That is an offset"
            " of the amplifier, and a map that starts at zeros explains it. High-pass filter the recording before it is"
            " cut, raw.filter(0.5, None), or subtract the mean of each trial.",
            stacklevel=4,
        )


def _without_empty_classes(trials: Trials) -> Trials:
    if not trials.n_classes:
        return trials
    present = np.unique(trials.label)
    if len(present) == trials.n_classes:
        return trials
    empty = [name for number, name in enumerate(trials.class_names) if number not in present]
    shown = ", ".join(empty[:10]) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
    warnings.warn(f"Left out, since no trial has them: the classes {shown}.", stacklevel=4)
    return replace(
        trials,
        label=np.searchsorted(present, trials.label),
        class_names=tuple(trials.class_names[number] for number in present),
    )
