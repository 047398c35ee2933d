"""Remove a part of the signal and ask the decoder again, beside controls that remove as much power.

A decoder gets worse whatever is taken from it, and the more the more is taken: strong parts, as eye movements are,
would always look important, and weak ones never. What counts is whether a part costs more than other parts of the same
power do. These are drawn from the same decomposition as the part. A part may hold so much of the signal that the rest
has no such power: then there is no control, and removal tells nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp
from tqdm import tqdm

from eegxai_support.decoders import predict
from eegxai_support.model import simplify, unwrapped
from eegxai_support.report.components import Components
from eegxai_support.report.decoding import answer_kind, log_probability
from eegxai_support.report.pieces import (
    LINE_WIDTH,
    Pieces,
    channel_pieces,
    component_pieces,
    frequency_pieces,
    line_frequency,
    stretches,
    time_pieces,
)
from eegxai_support.trials import Trials

DRIFT = 0.5  # Hz: below, electrodes and sweat change the potential, and of an evoked one there is the smaller part
SLOW = 6.0  # Hz: most power of eye movements is below
FAST = 30.0  # Hz: most power of muscles is above
MIDDLE = SLOW, 20.0  # Hz: where neither eyes nor muscles have much, and the rhythms of the cortex have most
EDGE = 0.1  # of a trial, at its beginning and at its end
NOT_BRAIN = ("eye blink", "muscle artifact", "heart beat", "channel noise")  # not "line noise": see `SOURCES`
# Mains have a frequency, which is a sharper test than a label. ICLabel gave "line noise" to 12 of 30 components of
# EEGBCI's S007, which carry alpha rhythm too, and nothing but that once the trials end at 38 Hz.
SOURCES = {"brain": "brain", "eye blink": "eyes", "muscle artifact": "muscle", "channel noise": "channel"}
LEFT = "left by the components"
ALL_BUT_BRAIN = "all that is not brain"
N_CONTROLS = 20
AFFINE = 1e-4  # of the largest value: what `prepare` may differ from a scale and an offset
BLOCK = 2**25  # values of changed trials that are predicted at once, 4 bytes each
COLUMNS = ["part", "kind", "source", "draw", "trial", "seed", "predicted", "correct", "log_odds", "power", "only"]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the signal: which pieces of a decomposition, subject by subject.

    Parameters
    ----------
    name, kind, source : str
        `source` is what the part would show the decoder to use, "" where it points to nothing by itself.
    members : list of ndarray of bool
        For each subject, which pieces belong to the part; empty where the subject has no such decomposition.
    """

    name: str
    kind: str
    source: str
    members: list[np.ndarray]


def remove_parts(
    fits: Iterable,
    trials: Trials,
    components: Components | None = None,
    prepare: Callable[[Trials], Trials] | None = None,
    *,
    channels: Iterable[str] = (),
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict trials with parts of the signal removed, with those parts alone, and with as powerful others removed.

    Parameters
    ----------
    fits : iterable
        Each with a `model`, the rows `index` of `trials` that it has not seen, and a `seed`.
    trials : Trials
        As recorded, before `prepare`.
    components : Components, optional
        Subjects without are left out of what is said about components.
    prepare : callable, optional
        From `trials` to what the models take. Where it only scales and shifts each channel of a trial, as a
        standardisation does, scale and shift are those of the whole trial, so that nothing changes but the part.
    channels : iterable of str
        Channels to test alone; those with the largest relevance.
    n_controls : int
        Draws for each part.
    seed : int

    Returns
    -------
    DataFrame
        `COLUMNS`, a row per part, draw, trial and seed. draw is -1 for the part itself; kind is "components", "band",
        "edge", "channel" or "joint"; power is the share of the signal's that was removed, or kept where `only`.
        Controls lack trials of subjects whose other pieces have too little power, and parts all draws that nobody has.
    """
    fits = list(fits)
    explained = np.unique(np.concatenate([fit.index for fit in fits]))
    shown = trials.subset(explained)
    subject = shown.metadata["subject"].to_numpy()
    rows_of = [np.flatnonzero(subject == each) for each in pd.unique(subject)]
    prepared = _Prepared.of(prepare, trials, explained)
    predictors = [
        (simplify(unwrapped(fit.model), torch.from_numpy(prepared(shown.signal[:2], [0, 1]))), fit.seed,
         np.searchsorted(explained, fit.index)) for fit in fits
    ]  # fmt: skip
    total = float(np.square(shown.signal, dtype=np.float64).sum())
    whole = prepared(shown.signal, slice(None))
    kind = answer_kind(np.concatenate([predict(model, whole[rows]) for model, _, rows in predictors]))
    descriptions, numbers = [], []
    changed = _changed(shown, rows_of, components, tuple(channels), n_controls, seed)
    at_once = max(1, BLOCK // shown.signal.size)
    for block in iter(lambda: list(islice(changed, at_once)), []):
        ready = []
        for description, signal, present in block:
            power = np.square(signal if description["only"] else shown.signal - signal, dtype=np.float64).sum() / total
            try:
                ready.append((description | {"power": power}, prepared(signal, slice(None)), present))
            except ValueError:  # trials of nothing else than the part may be none, such as one channel and zeros
                continue
        for model, model_seed, rows in predictors if ready else ():
            outputs = predict(model, np.concatenate([signal[rows] for _, signal, _ in ready]))
            outputs = log_probability(outputs, kind)
            for (description, _, present), log_p in zip(ready, np.split(outputs, len(ready)), strict=True):
                here = rows[present[rows]]
                judged = _judged(log_p[present[rows]], shown.label[here])
                descriptions.append(description | {"seed": model_seed})
                numbers.append(judged | {"trial": explained[here]})
    return _table(descriptions, numbers)


def _table(descriptions: list[dict], numbers: list[dict]) -> pd.DataFrame:
    """Put arrays of many networks together, each with what is the same for all its rows."""
    length = [len(each["trial"]) for each in numbers]
    same = pd.DataFrame(descriptions).loc[np.repeat(np.arange(len(length)), length)].reset_index(drop=True)
    columns = {name: np.concatenate([each[name] for each in numbers]) for name in numbers[0]}
    return same.assign(**columns)[COLUMNS]


def _judged(log_p: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a network answers, whether rightly, and how surely: log p - log (1 - p) of the true class."""
    row, others = np.arange(len(label)), log_p.copy()
    others[row, label] = -np.inf
    predicted = log_p.argmax(axis=1)
    log_odds = log_p[row, label] - logsumexp(others, axis=1)
    return {"predicted": predicted, "correct": predicted == label, "log_odds": log_odds}


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Takes changed trials to what a network takes, at the scale of the whole ones where that is possible."""

    prepare: Callable[[Trials], Trials] | None
    trials: Trials
    explained: np.ndarray
    gain: np.ndarray | None
    offset: np.ndarray | None

    @classmethod
    def of(cls, prepare, trials: Trials, explained: np.ndarray) -> _Prepared:
        if prepare is None:
            return cls(None, trials, explained, np.float32(1), np.float32(0))
        ready = prepare(trials).signal
        if ready.shape != trials.signal.shape:
            return cls(prepare, trials, explained, None, None)
        fitted = [_line(trials.signal[row], ready[row]) for row in explained]
        gain, offset, off = (np.array(each) for each in zip(*fitted, strict=True))
        if off.max() > AFFINE * max(np.abs(ready[row]).max() for row in explained):
            return cls(prepare, trials, explained, None, None)
        return cls(prepare, trials, explained, gain.astype(np.float32), offset.astype(np.float32))

    def __call__(self, signal: np.ndarray, rows) -> np.ndarray:
        if self.gain is not None:
            gain, offset = (each if np.ndim(each) == 0 else each[rows] for each in (self.gain, self.offset))
            return signal * gain + offset
        whole = self.trials.signal.copy()
        whole[self.explained[rows]] = signal
        return self.prepare(replace(self.trials, signal=whole, truth=None)).signal[self.explained[rows]]


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the gain and offset of each channel that take x to y, (channel, 1), and the largest that they are off.

    In float64: over many samples, rounding in the mean of a channel with an offset would look like a change.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    centre = x.mean(axis=1, keepdims=True)
    spread = np.square(x - centre).sum(axis=1, keepdims=True)
    gain = ((x - centre) * y).sum(axis=1, keepdims=True) / np.where(spread > 0, spread, np.inf)
    offset = y.mean(axis=1, keepdims=True) - gain * centre
    return gain, offset, np.abs(gain * x + offset - y).max()


def _changed(shown: Trials, rows_of: list, components, channels, n_controls: int, seed: int) -> Iterator[tuple]:
    """Yield every change: its description, the changed trials, and which of them it concerns."""
    decompositions = {}
    makers = _parts(shown, rows_of, components, channels)
    bar = tqdm(makers, desc="Removed parts", unit="part", leave=False, delay=2)
    for number, (make, part) in enumerate(bar):
        if make not in decompositions:
            decompositions.clear()  # one at a time: each holds the trials once more
            decompositions[make] = [make(i) for i in range(len(rows_of))]
        pieces = decompositions[make]
        own = [each.astype(float) for each in part.members]
        fields = {"part": part.name, "kind": part.kind, "source": part.source}
        if not any(piece.holds(weights) for piece, weights in zip(pieces, own, strict=True) if len(weights)):
            continue  # nothing but rounding, as what components leave of trials that they were all fitted to
        signal, present = _summed(shown, rows_of, pieces, own, removed=True)
        if part.kind == "joint":
            yield fields | {"draw": -1, "only": False}, _without_bands(shown, signal), present
            continue
        yield fields | {"draw": -1, "only": False}, signal, present
        some = [each if each.any() else None for each in own]
        yield fields | {"draw": -1, "only": True}, *_summed(shown, rows_of, pieces, some, removed=False)
        for draw in range(n_controls):
            weights = [
                piece.as_powerful(members, np.random.default_rng([seed, number, draw, s])) if len(members) else []
                for s, (piece, members) in enumerate(zip(pieces, part.members, strict=True))
            ]
            signal, present = _summed(shown, rows_of, pieces, weights, removed=True)
            if present.any():
                yield fields | {"draw": draw, "only": False}, signal, present


def _summed(shown: Trials, rows_of, pieces, weights, *, removed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return trials without, or of, a weighted sum of pieces of each subject, and the trials where there is one."""
    signal, present = shown.signal.copy(), np.zeros(len(shown), bool)
    for rows, piece, weight in zip(rows_of, pieces, weights, strict=True):
        if weight is None or not len(weight):
            continue
        part = piece.combined(weight)
        signal[rows] = signal[rows] - part if removed else part
        present[rows] = True
    return signal, present


def _without_bands(shown: Trials, signal: np.ndarray) -> np.ndarray:
    """Return trials without the bands that are no brain's: drift and mains."""
    frequency = _frequencies(shown)
    removed = np.any([inside for _, source, inside in _bands(shown, frequency) if source], axis=0)
    return signal - frequency_pieces(signal).combined(removed)


def _frequencies(shown: Trials) -> np.ndarray:
    n_times = shown.signal.shape[2]
    return np.arange(n_times) * shown.sfreq / (2 * n_times)


def _parts(shown: Trials, rows_of: list, components: Components | None, channels) -> list[tuple[Callable, Part]]:
    """List the parts, those of one decomposition after the other, each with what makes the pieces of a subject."""
    signals = [shown.signal[rows] for rows in rows_of]
    subjects = [shown.metadata["subject"].iloc[rows[0]] for rows in rows_of]
    found = []
    if components is not None and any(subject in components.ica for subject in subjects):
        icas = [components.ica.get(subject) for subject in subjects]

        def by_component(i: int) -> Pieces | None:
            return None if icas[i] is None else component_pieces(signals[i].astype(np.float64), icas[i])

        labels = [
            np.append(components.labels(subject), LEFT) if subject in components.ica else np.array([], object)
            for subject in subjects
        ]
        present = pd.unique(np.concatenate(labels))
        found += [
            (by_component, Part(label, "components", SOURCES.get(label, ""), [each == label for each in labels]))
            for label in present
        ]
        joint = [np.isin(each.astype(str), NOT_BRAIN) for each in labels]
        if any(each.any() for each in joint):
            found.append((by_component, Part(ALL_BUT_BRAIN, "joint", "", joint)))
    n_times = shown.signal.shape[2]

    def by_frequency(i: int) -> Pieces:
        return frequency_pieces(signals[i])

    for name, source, inside in _bands(shown, _frequencies(shown)):
        if inside.any() and not inside.all():
            found.append((by_frequency, Part(name, "band", source, [inside] * len(rows_of))))

    def by_time(i: int) -> Pieces:
        return time_pieces(signals[i])

    n_stretches = stretches(n_times)[-1] + 1
    at = (np.arange(n_stretches) + 0.5) / n_stretches
    for name, inside in ((f"first {EDGE:.0%}", at < EDGE), (f"last {EDGE:.0%}", at > 1 - EDGE)):
        if inside.any():
            found.append((by_time, Part(name.replace("%", " %"), "edge", "edge", [inside] * len(rows_of))))

    names = shown.info.ch_names
    for channel in channels if len(names) > 2 else ():
        members = np.arange(len(names)) == 0  # what the channel alone records is the first piece
        made = partial(_by_channel, signals, names.index(channel))
        found.append((made, Part(f"{channel} alone", "channel", "channel", [members] * len(rows_of))))
    return found


def _by_channel(signals: list[np.ndarray], channel: int, i: int) -> Pieces:
    return channel_pieces(signals[i].astype(np.float64), channel)


def _bands(shown: Trials, frequency: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield the bands that are removed: name, source, and which frequencies are inside."""
    # In the cosine transform the lowest two of a short trial are its mean and its slope, whatever their frequency.
    yield f"below {DRIFT:g} Hz", "drift", (frequency < DRIFT) | (np.arange(len(frequency)) < 2)
    yield f"below {SLOW:g} Hz", "", frequency < SLOW
    yield f"{MIDDLE[0]:g}-{MIDDLE[1]:g} Hz", "", (frequency >= MIDDLE[0]) & (frequency <= MIDDLE[1])
    yield f"above {FAST:g} Hz", "", frequency > FAST
    mains = line_frequency(shown.signal, shown.info)
    if mains is not None:
        distance = np.abs(frequency - mains * np.maximum(1, np.round(frequency / mains)))
        yield f"line, {mains:g} Hz", "line", distance <= LINE_WIDTH
