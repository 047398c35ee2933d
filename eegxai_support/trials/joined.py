"""Trials of several recordings in one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from eegxai_support.trials.data import Trials


def concatenate(parts: Iterable[Trials]) -> Trials:
    """Join trials of several recordings into one set.

    Parameters
    ----------
    parts : iterable of Trials
        Of the same channels, sampling rate, unit and window. Where only the order of the channels differs, the first
        part's is taken.

    Returns
    -------
    Trials
        In the order of the parts. Classes are those of all parts by their names, in the order in which they appear.
        Positions are the first part's; the pass-band is what all parts hold. Simulated trials keep their truth, not
        the law that each part was drawn from.

    Raises
    ------
    ValueError
        The parts differ in what they must share, or have different kinds of labels.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("There is nothing to concatenate; expected at least one set of trials.")
    first = parts[0]
    for number, part in enumerate(parts):
        _check_joins(first, part, number)
    class_names = tuple(dict.fromkeys(name for part in parts for name in part.class_names))
    parts = [part if part.info.ch_names == first.info.ch_names else part.pick(first.info.ch_names) for part in parts]
    info = first.info.copy()
    with info._unlock():
        info["highpass"] = max(part.info["highpass"] for part in parts)
        info["lowpass"] = min(part.info["lowpass"] for part in parts)
    labels = [
        np.array([class_names.index(n) for n in p.class_names])[p.label] if class_names else p.label for p in parts
    ]
    return Trials(
        signal=np.concatenate([part.signal for part in parts]),
        unit=first.unit,
        label=None if first.label is None else np.concatenate(labels),
        info=info,
        class_names=class_names,
        metadata=pd.concat([part.metadata for part in parts]),
        truth=None if first.truth is None else np.concatenate([part.truth for part in parts]),
        tmin=first.tmin,
    )


def _check_joins(first: Trials, part: Trials, number: int) -> None:
    """Refuse a part that cannot stand in one array with the first, and say what would mend it."""
    if other := sorted(set(first.info.ch_names) ^ set(part.info.ch_names)):
        raise ValueError(
            f"Part {number} and the first do not share the channels {', '.join(other)}. Take those that all parts have:"
            " trials.pick([…])."
        )
    for what, ours, theirs, remedy in (
        ("are sampled at (Hz)", first.sfreq, part.sfreq, "Resample one of them before its trials are cut."),
        ("are in", first.unit, part.unit, "Bring both to the same with trials.standardise()."),
        ("have samples", first.signal.shape[2], part.signal.shape[2], "Cut them to the same with trials.crop(…)."),
        ("begin at (s)", round(first.tmin, 6), round(part.tmin, 6), "Cut them to the same with trials.crop(…)."),
        ("have labels", _kind(first), _kind(part), "Give both the same kind with dataclasses.replace."),
        ("have a truth", first.truth is not None, part.truth is not None, "Leave it out: replace(trials, truth=None)."),
    ):
        if ours != theirs:
            raise ValueError(f"The first part's trials {what} {ours}, those of part {number} {theirs}. {remedy}")


def _kind(trials: Trials) -> str:
    return "of classes" if trials.n_classes else "missing" if trials.label is None else "continuous"
