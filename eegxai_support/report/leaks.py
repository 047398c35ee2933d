"""What stands on both sides of a split: the same samples, or a label that the order of the trials tells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eegxai_support.decoders.accuracy import class_weights
from eegxai_support.trials import Trials

SHARED = 0.05  # of a trial: fewer samples in common are the rim of a window
VALUES = 32  # bits of quantised values agree by chance, of so many not
STRETCHES = 4  # of a recording: what drifts slowly is told by the quarter, and a fixed random sequence is not
ORDER_P = 0.01
ROUNDING = 1e-9  # of a mean of weights
RECORDING = ["subject", "session", "run"]


def shared_samples(trials: Trials, group) -> pd.DataFrame:
    """Find trials of different groups that hold the same samples.

    Windows that overlap, trials that were loaded twice, augmented copies of before the split: a network may know them.
    The comparison is exact, of sums of the bits over all channels and of `VALUES` values at least, and finds an overlap
    at any shift. A baseline that was subtracted from each trial hides it; so the column "onset" of the metadata, where
    there is one, in seconds from the beginning of the recording, is compared too.

    Parameters
    ----------
    trials : Trials
        As recorded: after a standardisation by group, the same samples differ.
    group : array-like, shape (trial,)
        What may not stand on both sides of a split.

    Returns
    -------
    DataFrame
        A row per trial with a twin: trial, other (the trial of another group that shares most) and share of its
        samples.
    """
    group = np.asarray(group)
    pairs = pd.concat([_same_bits(trials), _same_time(trials)], ignore_index=True)
    pairs = pairs[(group[pairs["trial"]] != group[pairs["other"]]) & (pairs["share"] >= SHARED)]
    pairs = pairs.sort_values(["trial", "share", "other"], ascending=[True, False, True])
    return pairs.drop_duplicates("trial").reset_index(drop=True)


def _same_bits(trials: Trials) -> pd.DataFrame:
    n_trials, n_channels, n_times = trials.signal.shape
    length = min(n_times, -(-VALUES // n_channels) + 1)  # two at least, of which it can be told that something changes
    n_windows = n_times - length + 1
    rng = np.random.default_rng(0)
    of_channel, of_lag = (rng.integers(2**63, size=n, dtype=np.uint64) * 2 + 1 for n in (n_channels, length))
    bits = np.empty((n_trials, n_windows), np.uint64)
    for row, signal in zip(bits, trials.signal, strict=True):
        sample = of_channel @ np.ascontiguousarray(signal).view(np.uint32).astype(np.uint64)  # modulo 2 to the 64
        row[:] = sum(weight * sample[lag : lag + n_windows] for lag, weight in enumerate(of_lag))
        flat = np.lib.stride_tricks.sliding_window_view(signal, length, axis=1).std(axis=(0, 2)) == 0
        row[flat | (sample[:n_windows] == sample[1 : n_windows + 1] if length > 1 else flat)] = 0  # padding
    seen = pd.DataFrame({"bits": bits.ravel(), "trial": np.repeat(np.arange(n_trials), n_windows)})
    seen = seen[seen["bits"] > 0].drop_duplicates()
    seen = seen[seen.duplicated("bits", keep=False)]
    pairs = seen.merge(seen.rename(columns={"trial": "other"}), on="bits")
    n_shared = pairs[pairs["trial"] != pairs["other"]].groupby(["trial", "other"]).size()
    share = (n_shared + length - 1) / n_times  # an overlap of so many windows in a row
    return share.rename("share").reset_index()


def _same_time(trials: Trials) -> pd.DataFrame:
    """Compare the onsets of trials of one recording."""
    columns = ["trial", "other", "share"]
    if "onset" not in trials.metadata or trials.metadata["onset"].dtype.kind not in "iuf":
        return pd.DataFrame(columns=columns).astype({"trial": int, "other": int, "share": float})
    table = trials.metadata[[*RECORDING, "onset"]].assign(trial=np.arange(len(trials)))
    pairs = table.merge(table.rename(columns={"trial": "other", "onset": "its"}), on=RECORDING)
    pairs = pairs[pairs["trial"] != pairs["other"]]
    share = 1 - (pairs["onset"] - pairs["its"]).abs() * trials.sfreq / trials.signal.shape[2]
    return pairs.assign(share=share).loc[share > 0, columns]


def _order(trials: Trials, recording: np.ndarray) -> np.ndarray | None:
    """Return how many trials of its recording stand before each, by their onsets, else as they are given.

    None where there are no onsets and trials stand sorted by class: they may have been sorted after the recording.
    """
    onset = trials.metadata.get("onset")
    if onset is not None and onset.dtype.kind in "iuf" and onset.notna().all():
        return onset.reset_index(drop=True).groupby(recording).rank(method="first").to_numpy() - 1
    place = pd.Series(recording).groupby(recording).cumcount().to_numpy()
    label = pd.Series(trials.label).groupby(recording)
    n_stretches = 1 + label.diff().fillna(0).ne(0).groupby(recording).sum()
    tells = (label.nunique() > 1) & (label.size() > label.nunique())  # one class, or one trial of each, has no order
    return None if tells.any() and (n_stretches == label.nunique())[tells].all() else place


def order_accuracy(trials: Trials, group, seed: int = 0) -> dict | None:
    """Say how well the place of a trial in its recording tells the class, by other groups.

    Where the classes follow each other in blocks, everything that changes slowly tells them: gel that dries, a subject
    who tires. Each trial is given the class of which its quarter of a recording has most in the trials of other groups,
    as a share of all trials of that class. Quarters, since a fixed random sequence, which is the same in every run,
    tells nothing that drifts.

    Returns
    -------
    dict or None
        Balanced accuracy, and p that it is chance, by permutation within recordings. None where it is not known in
        which order the trials were recorded.
    """
    group = np.unique(np.asarray(group), return_inverse=True)[1]
    recording = trials.metadata.groupby(RECORDING, sort=False).ngroup().to_numpy()
    order = _order(trials, recording)
    if order is None:
        return None
    quarter = np.minimum((order / np.bincount(recording)[recording] * STRETCHES).astype(int), STRETCHES - 1)
    share = 1 / np.bincount(trials.label, minlength=trials.n_classes).clip(1)

    def accuracy(label: np.ndarray) -> float:
        counts = np.zeros((group.max() + 1, STRETCHES, trials.n_classes))
        np.add.at(counts, (group, quarter, label), share[label])
        others = counts.sum(axis=0) - counts  # of each group: the trials of all others
        right = others.argmax(axis=2)[group, quarter] == label
        return float((right * class_weights(label)).mean())

    observed, label, rng = accuracy(trials.label), trials.label.copy(), np.random.default_rng(seed)
    null = []
    for _ in range(999):
        for each in np.unique(recording):
            inside = np.flatnonzero(recording == each)
            label[inside] = trials.label[rng.permutation(inside)]
        null.append(accuracy(label))
    return {"accuracy": observed, "p": (1 + sum(it >= observed - ROUNDING for it in null)) / 1000}
