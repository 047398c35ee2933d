"""Trials cut out of recordings: filtered, resampled, cut; with a count of the events that became none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from eegxai_support.model import warn
from eegxai_support.recordings.reading.events import chosen
from eegxai_support.recordings.reading.opened import load, noted, readable

BEYOND = "beyond the ends of the recording"


@dataclass(frozen=True)
class Cut:
    """How trials are cut: the arguments of `read_recording` of these names, of which what cannot be is refused."""

    tmin: float | None = None
    tmax: float | None = None
    baseline: tuple[float | None, float | None] | None = None
    band: tuple[float | None, float | None] | None = None
    resample: float | None = None

    def __post_init__(self):
        if None not in (self.tmin, self.tmax) and not self.tmin < self.tmax:
            raise ValueError(f"The window runs from {self.tmin:g} to {self.tmax:g} s; expected tmin before tmax.")
        for name, unit in (("band", "Hz"), ("baseline", "s")):
            pair = getattr(self, name)
            if pair is None:
                continue
            if isinstance(pair, str) or len(pair) != 2:
                raise ValueError(f"{name} is {pair!r}; expected its two ends in {unit}, None for an open one.")
            if None not in pair and not pair[0] < pair[1]:
                raise ValueError(f"{name} runs from {pair[0]:g} to {pair[1]:g} {unit}; expected the lower end first.")
        if self.band and min(edge for edge in (*self.band, np.inf) if edge is not None) <= 0:
            raise ValueError(f"band is {self.band}; expected edges above 0 Hz, None for an open side.")
        if self.resample is not None and self.resample <= 0:
            raise ValueError(f"resample is {self.resample:g} Hz; expected a rate above 0.")

    def fits(self, sfreq: float) -> None:
        """Refuse what recordings of this sampling rate cannot give."""
        rate = self.resample or sfreq
        if rate > sfreq:
            raise ValueError(
                f"resample is {rate:g} Hz, above the recording's {sfreq:g} Hz; expected that at most. There is nothing"
                " to be had above: leave it out."
            )
        if self.band and self.band[1] is not None and self.band[1] >= rate / 2:
            raise ValueError(
                f"The band ends at {self.band[1]:g} Hz; expected less than {rate / 2:g} Hz, half of the sampling rate"
                f" {rate:g} Hz. Take a lower edge, or None to leave that side open."
            )

    def filtered(self, inst, path: Path, notes: list[str]):
        """Filter and resample a recording, or epochs, in place; load it only where one of the two is asked for."""
        self.fits(inst.info["sfreq"])
        if not (self.band and any(self.band)) and self.resample is None:
            return inst
        load(inst, path)
        _check_finite(inst, path)
        with noted(notes, path.name):
            if self.band and any(self.band):
                inst.filter(*self.band, verbose="WARNING")
                low, high = (f"{edge:g}" if edge else "open" for edge in self.band)
                notes.append(f"Filtered by a zero-phase FIR filter of MNE, pass-band {low} to {high} Hz.")
            if self.resample is not None and self.resample != inst.info["sfreq"]:
                notes.append(f"Resampled from {inst.info['sfreq']:g} to {self.resample:g} Hz.")
                inst.resample(self.resample, verbose="WARNING")
        return inst

    def based(self, epochs: mne.BaseEpochs, notes: list[str]) -> mne.BaseEpochs:
        """Subtract the baseline in place."""
        if self.baseline is None:
            return epochs
        first, last = epochs.times[[0, -1]]
        start, stop = (end if given is None else given for given, end in zip(self.baseline, (first, last), strict=True))
        if start < first - 0.5 / epochs.info["sfreq"] or stop > last + 1 / epochs.info["sfreq"]:
            raise ValueError(
                f"The baseline runs from {start:g} to {stop:g} s, the window from {first:g} to {last:g} s; expected the"
                " baseline inside of it. Begin the window earlier, with tmin."
            )
        epochs.apply_baseline((max(start, first), min(stop, last)), verbose=False)
        notes.append(f"The mean from {start:g} to {stop:g} s was subtracted from each channel of each trial.")
        return epochs


@dataclass(frozen=True, eq=False)
class Part:
    """Epochs of one file, the events of it that were dropped as (class, reason), and its widest band."""

    epochs: mne.BaseEpochs | None  # None where no event is left
    dropped: Counter
    wide: mne.io.BaseRaw | mne.BaseEpochs


def cut_raw(raw, table: pd.DataFrame, path: Path, classes: list[str], cut: Cut, notes: list[str]) -> Part:
    """Cut trials out of a continuous recording, whose own data stay as they are."""
    if not len(table):
        notes.append(f"{path.name}: no event of the classes.")
        return Part(None, Counter(), raw)
    if cut.tmax is None:
        gap = f" Events are {np.diff(table.onset).min():.3g} s apart at least." if len(table) > 1 else ""
        raise ValueError(
            f"{path} is a continuous recording, and tmax is missing: the end of the window, in seconds after the"
            f" event.{gap}"
        )
    eeg = raw.copy().pick(mne.pick_types(raw.info, eeg=True), verbose=False)
    cut.filtered(eeg, path, notes)
    tmin, sfreq = cut.tmin or 0.0, eeg.info["sfreq"]
    n_times = round((cut.tmax - tmin) * sfreq)
    if n_times < 2:
        raise ValueError(
            f"From {tmin:g} to {cut.tmax:g} s there are {n_times} samples at {sfreq:g} Hz; expected two at least."
        )
    sample = eeg.time_as_index(table.onset, use_rounding=True) + eeg.first_samp
    if (twice := pd.Series(sample).duplicated()).any():
        raise ValueError(
            f"{path} has two events of the classes {', '.join(classes)} at {table.onset[twice].iloc[0]:.6g} s; a trial"
            " has one class. Leave one of the classes out, or mend the events."
        )
    start, end = sample + round(tmin * sfreq) - eeg.first_samp, eeg.n_times - n_times
    beyond = (start < 0) | (start > end)  # MNE drops some of these, and raises for those that are farther away
    dropped = Counter((name, BEYOND) for name in table["class"][beyond])
    if beyond.all():
        notes.append(f"{path.name}: none of {len(table)} events became a trial{_because(dropped)}.")
        return Part(None, dropped, raw)
    n_events, table, sample = len(table), table[~beyond], sample[~beyond]
    event_id = {name: k for k, name in enumerate(classes, start=1)}
    events = np.column_stack([sample, np.zeros(len(sample), int), table["class"].map(event_id)])
    with noted(notes, path.name), readable(path):
        epochs = mne.Epochs(  # whose event_id keeps the classes that this file lacks: they have one order in all
            eeg, events, event_id, tmin, tmin + (n_times - 1) / sfreq, baseline=None, preload=True,
            metadata=table.drop(columns=["event", "class"]), on_missing="ignore", verbose="ERROR",
        )  # fmt: skip
    dropped += Counter((name, why[0]) for name, why in zip(table["class"], epochs.drop_log, strict=True) if why)
    notes.append(f"{path.name}: {len(epochs)} of {n_events} events became trials{_because(dropped)}.")
    notes.append(
        f"Trials run from {tmin:g} to {cut.tmax:g} s after the event, without the last sample: {n_times} samples at"
        f" {sfreq:g} Hz."
    )
    if len(table) > 1 and (gap := np.diff(table.onset).min()) < cut.tmax - tmin:
        notes.append(
            f"{path.name}: neighbouring trials share samples, since events are as little as {gap:.3g} s apart."
        )
    if not len(epochs):
        return Part(None, dropped, raw)
    _check_finite(epochs, path)
    return Part(cut.based(epochs, notes), dropped, raw)


def cut_epochs(
    insts: list[mne.BaseEpochs], paths: list[Path], wanted: Mapping | None, cut: Cut, notes: list[str]
) -> tuple[list[Part], list[str]]:
    """Choose, filter, resample and crop epochs; return them with the names of the classes."""
    if wanted is None:
        codes = {name: code for inst in reversed(insts) for name, code in inst.event_id.items()}
        present = {name for inst in insts for name, _ in _names(inst)}
        wanted = {name: name for name in sorted(codes, key=codes.get) if name in present}
        if len(wanted) < 2:
            raise ValueError(
                f"{paths[0]} names one class only, {', '.join(wanted) or 'none'}; a decoder needs two at least. If they"
                " stand in the codes of its events, name them with events."
            )
        notes.append(f"Classes as the file names them: {', '.join(wanted)}.")
    by_code = any(isinstance(key, int) for key in wanted.values())
    tables = []
    for inst in insts:
        named = pd.DataFrame(_names(inst), columns=["name", "code"])
        tables.append(pd.DataFrame({"onset": range(len(inst)), "event": named["code" if by_code else "name"]}))
    event_id = {name: k for k, name in enumerate(wanted, start=1)}
    parts = []
    for inst, table, path in zip(insts, chosen(tables, wanted, paths), paths, strict=True):
        dropped = Counter(
            ("unknown", f"{why[0]}, before the file was written")
            for why in inst.drop_log
            if why and why != ("IGNORED",)
        )
        if dropped:
            notes.append(f"{path.name}: {dropped.total()} epochs had been dropped before it was written.")
        if not len(table):
            notes.append(f"{path.name}: no epoch of the classes.")
            parts.append(Part(None, dropped, inst))
            continue
        wide = inst[table.onset.to_numpy()]
        wide.events[:, 2], wide.event_id = table["class"].map(event_id), event_id
        notes.append(f"{path.name}: {len(wide)} of {len(inst)} epochs are trials.")
        parts.append(Part(_shortened(wide.copy(), path, cut, notes), dropped, wide))
    return parts, list(wanted)


def _shortened(epochs: mne.BaseEpochs, path: Path, cut: Cut, notes: list[str]) -> mne.BaseEpochs:
    _check_finite(epochs, path)
    if cut.band and any(cut.band):
        said = (
            "Epochs were filtered after they had been cut, so that up to a filter's length at either end is not theirs;"
            " give the continuous recording where you have it."
        )
        notes.append(said)
        warn(said)
    cut.filtered(epochs, path, notes)
    first, last = epochs.times[[0, -1]]
    step = 1 / epochs.info["sfreq"]
    tmin = first if cut.tmin is None else cut.tmin
    tmax = last + step if cut.tmax is None else cut.tmax
    if tmin < first - step / 2 or tmax > last + 1.5 * step or tmax - tmin < 1.5 * step:
        raise ValueError(
            f"The window runs from {tmin:g} to {tmax:g} s; the epochs of {path} from {first:g} to {last + step:g} s."
            " Expected two samples at least inside of them."
        )
    if cut.tmin is not None or cut.tmax is not None:
        epochs.crop(max(tmin, first), min(tmax - step, last), verbose=False)
        notes.append(f"Cropped to {tmin:g} to {tmax:g} s, without the last sample: {len(epochs.times)} samples.")
    return cut.based(epochs, notes)


def _names(epochs: mne.BaseEpochs) -> list[tuple[str, int]]:
    name_of = {code: name for name, code in epochs.event_id.items()}
    return [(name_of.get(code, str(code)), int(code)) for code in epochs.events[:, 2]]


def enough(parts: list[Part], classes: list[str], n_min: int = 2) -> pd.DataFrame:
    """Return what was dropped as a table; refuse a class that is left with less than two trials."""
    kept = Counter(classes[code - 1] for part in parts if part.epochs is not None for code in part.epochs.events[:, 2])
    dropped = sum((part.dropped for part in parts), Counter())
    for name in classes:
        if kept[name] < n_min:
            of_it = Counter({key: n for key, n in dropped.items() if key[0] == name})
            raise ValueError(
                f"The class {name!r} has {kept[name]} trial{'s' * (kept[name] != 1)}{_because(of_it)}; expected {n_min}"
                " at least, and many more to learn from. Leave the class out, or look at the window and at what was"
                " dropped."
            )
    rows = [{"class": name, "reason": why, "n": n} for (name, why), n in sorted(dropped.items())]
    return pd.DataFrame(rows, columns=["class", "reason", "n"])


def _because(dropped: Counter) -> str:
    said = ", ".join(f"{n} of {name} ({why})" for (name, why), n in sorted(dropped.items()))
    return f"; dropped: {said}" if said else ""


def _check_finite(inst, path: Path) -> None:
    for pick in mne.pick_types(inst.info, eeg=True):  # one by one, as all may be half of the memory
        bad = ~np.isfinite(inst.get_data(picks=[pick], verbose=False)[..., 0, :])
        if not bad.any():
            continue
        *trial, sample = np.argwhere(bad)[0]
        where = f"trial {trial[0]}, " if trial else ""
        raise ValueError(
            f"{path} holds NaN or infinite values, first in {where}channel {inst.ch_names[pick]} at"
            f" {inst.times[sample]:.3g} s. Leave the channel out with exclude, interpolate it, or cut that"
            " part away."
        )
