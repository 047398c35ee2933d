"""What networks use: class maps by channel, time, frequency and component, beside those of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from eegxai_support.attribution import Attribution, attribute
from eegxai_support.model import UnsupportedOperation
from eegxai_support.patterns import haufe_patterns
from eegxai_support.report.components import Components
from eegxai_support.report.decoding import Decoding, Fit
from eegxai_support.report.evidence import evidence
from eegxai_support.report.findings import TRAINED, UNTRAINED
from eegxai_support.report.parts import Frames, Parts, joined
from eegxai_support.sanity import randomize
from eegxai_support.sources import component_relevance
from eegxai_support.spectral import amplitude_gradients, frequency_relevance
from eegxai_support.trials import Trials

DEFAULT_METHODS = ("deep_lift", "integrated_gradients", "lrp_epsilon", "input_x_gradient", "saliency")
QUICK_METHODS = ("deep_lift", "saliency")
PATTERN = "haufe_pattern"  # of amplitude gradients: the one entry of the tables that is no method of `attribute`
N_PERMUTATIONS = 1000
FEWEST = 3  # trials of a group whose covariance makes a pattern: two lie on a line
LEVEL = 0.95  # of the surrogates
REST = "left by the components"
MEANS = {"channels", "times", "spectra", "sources"}


@dataclass(frozen=True, eq=False)
class Explaining:
    """What is explained, and how.

    Parameters
    ----------
    decoding : Decoding
    methods : tuple of str
        Keys of `METHODS`.
    components : Components or None
        Independent components of each subject.
    shown : ndarray of int
        Trials whose maps are kept to be browsed.
    seed : int
        Of the random weights and the permutations.
    """

    decoding: Decoding
    methods: tuple[str, ...]
    components: Components | None
    shown: np.ndarray
    seed: int

    def run(self, parts: Parts) -> Frames:
        """Explain each fold by the networks that have not seen it; return tables of `Findings`, and `maps`."""
        question = [self.methods, self.shown.tolist(), self.seed, self.components is not None]
        frames = []
        for fold, fits in tqdm(self.decoding.folds.items(), desc="Explaining", unit="fold", delay=2):
            frames.append(parts.frames("explain", fold, *question, compute=lambda fits=fits: self._fold(fits)))
        return joined(frames)

    def _fold(self, fits: list[Fit]) -> Frames:
        """Average over the seeds whatever is a mean over trials; the seeds explain the same ones."""
        tables = joined(self._fit(fit) for fit in fits)
        for name in MEANS & tables.keys():
            keys = [column for column in tables[name] if column not in ("value", "share", "net")]
            tables[name] = tables[name].groupby(keys, sort=False, as_index=False, dropna=False).mean()
        if "skipped" in tables:
            tables["skipped"] = tables["skipped"].drop_duplicates()
        if "maps" in tables:
            tables["maps"] = _mean_maps(tables["maps"])
        return tables

    def _fit(self, fit: Fit) -> Frames:
        given = self.decoding.input_of(fit)
        ((_, redrawn),) = randomize(fit.model, self.seed + fit.seed, order="at_once", shape=given.signal.shape[1:])
        networks = {TRAINED: fit.model, UNTRAINED: redrawn}
        frames = []
        for method in self.methods:
            try:
                frames += [self._of_method(fit, given, method, network, model) for network, model in networks.items()]
            except UnsupportedOperation as error:
                frames.append({"skipped": pd.DataFrame({"section": [f"method {method}"], "reason": [str(error)]})})
        for network, model in networks.items():
            frames.append(self._patterns(fit, given, network, model))
        return joined(frames)

    def _of_method(self, fit: Fit, given: Trials, method: str, network: str, model: nn.Module) -> Frames:
        map_ = attribute(model, given, evidence(given.label), method)
        about = {"method": method, "network": network}
        frames = {
            "channels": self._means(fit, map_.values.sum(2), "channel", given.info.ch_names, about),
            "times": self._means(fit, map_.values.sum(1), "time", given.times, about),
        }
        if map_.multiplier is not None:
            by_frequency = frequency_relevance(map_, given.signal).sum(1)
            frames["spectra"] = self._means(fit, by_frequency, "frequency", frequencies(given), about)
            if self.components is not None:
                frames["sources"] = self._sources(fit, map_, given, about)
        if network == TRAINED:
            frames["conservation"] = _conservation(map_, fit)
            shown = np.isin(fit.index, self.shown)
            frames["maps"] = pd.DataFrame(
                {"method": method, "trial": fit.index[shown], "map": [each.tobytes() for each in map_.values[shown]]}
            )
        return frames

    def _means(self, fit: Fit, values: np.ndarray, axis: str, places, about: dict) -> pd.DataFrame:
        """Return the means of values (trial, place) over the trials of each group and class, and of their shares."""
        share = shares(values)
        rows = []
        for group, label, chosen in self._cells(fit):
            columns = {**about, "group": group, "class": self.decoding.trials.class_names[label], axis: places}
            columns |= {"value": values[chosen].mean(0), "share": mean_share(share[chosen])}
            rows.append(pd.DataFrame(columns))
        return pd.concat(rows, ignore_index=True)

    def _cells(self, fit: Fit) -> Iterator[tuple[object, int, np.ndarray]]:
        """Group, class and rows within the fit of the trials that one mean is of."""
        groups, label = self.decoding.groups[fit.index], self.decoding.trials.label[fit.index]
        for group in pd.unique(groups):
            for each in np.unique(label[groups == group]):
                yield group, each, (groups == group) & (label == each)

    def _sources(self, fit: Fit, map_: Attribution, given: Trials, about: dict) -> pd.DataFrame:
        """Return relevance by kind of component, means over the trials of each group; each subject has its own."""
        kinds = [*dict.fromkeys(self.components.table["label"]), REST]
        values = np.full((len(given), len(kinds)), np.nan)
        for subject, ica in self.components.ica.items():
            rows = np.flatnonzero(given.metadata["subject"] == subject)
            part = replace(map_, values=map_.values[rows], multiplier=map_.multiplier[rows], baseline=_rows(map_, rows))
            relevance = component_relevance(part, given.signal[rows], ica)
            labels = np.array([*self.components.labels(subject), REST], object)
            values[rows] = relevance @ (labels[:, None] == np.array(kinds, object))
        share, groups = shares(values), self.decoding.groups[fit.index]
        rows = []
        for group in pd.unique(groups):
            chosen = (groups == group) & np.isfinite(values).all(1)
            if chosen.any():
                columns = {**about, "group": group, "kind": kinds, "share": mean_share(share[chosen])}
                rows.append(pd.DataFrame(columns | {"net": values[chosen].mean(0)}))
        return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()

    def _patterns(self, fit: Fit, given: Trials, network: str, model: nn.Module) -> Frames:
        """Haufe patterns of the mean amplitude gradient of each class: which amplitudes rise with the evidence.

        Each group has its own, of its own trials: an interval over groups is to show what differs between them.
        """
        try:
            gradients = amplitude_gradients(model, given.signal)
        except UnsupportedOperation as error:
            return {"skipped": pd.DataFrame({"section": [f"method {PATTERN}"], "reason": [str(error)]})}
        if len(gradients) == 1:
            gradients = np.concatenate([-gradients, gradients])
        against = (gradients.sum(0) - gradients) / (len(gradients) - 1)
        evidence_gradients, amplitude = gradients - against, np.abs(np.fft.rfft(given.signal))
        groups, of_class = self.decoding.groups[fit.index], self.decoding.trials.class_names
        about = {"method": PATTERN, "network": network}
        channels, spectra = [], []
        for group in pd.unique(groups):
            here = groups == group
            if here.sum() < FEWEST:
                continue
            patterns = haufe_patterns(evidence_gradients[:, here].mean(1), amplitude[here])
            for label in np.unique(self.decoding.trials.label[fit.index][here]):
                row = {**about, "group": group, "class": of_class[label]}
                for tables, axis, places, values in (
                    (channels, "channel", given.info.ch_names, patterns[label].sum(1)),
                    (spectra, "frequency", frequencies(given), patterns[label].sum(0)),
                ):
                    share = shares(values[None])[0]
                    tables.append(pd.DataFrame({**row, axis: places, "value": values, "share": share}))
        return {"channels": pd.concat(channels), "spectra": pd.concat(spectra)} if channels else {}

    def peaks(self, tables: Frames) -> pd.DataFrame:
        """Where the evidence of each class is largest, by channel, frequency and time, and what chance has.

        The spectrum of the evidence for a class is computed for all trials. Its largest mean over the trials of that
        class is compared with the largest means over as many trials drawn from each group whatever their class, which
        the relevance that all trials have alike cannot exceed. A frequency that does not pass their 95 % level is NaN.
        """
        known = set(tables["spectra"]["method"]) if "spectra" in tables else set()
        method = next((each for each in self.methods if each in known), None)
        if method is None:
            return pd.DataFrame(columns=["method", "class", "channel", "frequency", "time", "frequency_level"])
        rows = []
        for label, name in enumerate(self.decoding.trials.class_names):
            about = {"method": method, "class": name}
            for table, axis in (("channels", "channel"), ("times", "time")):
                mean = _trained_mean(tables[table], method, name, axis)
                about[axis] = mean.idxmax() if len(mean) else np.nan
            rows.append(about | self._peak_frequency(method, label))
        return pd.DataFrame(rows)

    def _peak_frequency(self, method: str, label: int) -> dict:
        decoding = self.decoding
        spectrum, freqs = 0.0, np.empty(0)
        row_of = {trial: row for row, trial in enumerate(decoding.explained)}
        for fit in decoding.fits:
            given = decoding.input_of(fit)
            freqs = frequencies(given)
            map_ = attribute(fit.model, given, evidence(np.full(len(given), label)), method)
            here = np.zeros((len(row_of), len(freqs)))
            here[[row_of[trial] for trial in fit.index]] = frequency_relevance(map_, given.signal).sum(1)
            spectrum = spectrum + here / len(decoding.seeds)
        true = decoding.trials.label[decoding.explained] == label
        observed, level = _above_permuted(spectrum, true, decoding.groups[decoding.explained], self.seed)
        k = int(observed.argmax())
        return {"frequency": freqs[k] if observed[k] > level else np.nan, "frequency_level": level}


def frequencies(trials: Trials) -> np.ndarray:
    """Return the frequencies of the Fourier transform of trials in Hz."""
    return np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)


def shares(values: np.ndarray) -> np.ndarray:
    """Return the share of each place in a trial's absolute values, (trial, place); NaN for a trial without any."""
    size = np.abs(values)
    total = size.sum(1, keepdims=True)
    return np.divide(size, total, out=np.full_like(size, np.nan), where=total > 0)


def mean_share(share: np.ndarray) -> np.ndarray:
    """Return the mean over the trials that have shares; NaN where none has."""
    known = share[np.isfinite(share).all(1)]
    return known.mean(0) if len(known) else np.full(share.shape[1], np.nan)


def trials_to_show(decoding: Decoding, n: int) -> np.ndarray:
    """Choose trials to browse: of every group and class in turn, as many of each as there are places."""
    table = pd.DataFrame({"trial": decoding.explained})
    table["cell"] = list(zip(decoding.groups[table["trial"]], decoding.trials.label[table["trial"]], strict=True))
    return np.sort(table.assign(turn=table.groupby("cell").cumcount()).sort_values("turn", kind="stable")["trial"][:n])


def _rows(map_: Attribution, rows: np.ndarray) -> np.ndarray | None:
    return map_.baseline if map_.baseline is None or len(map_.baseline) == 1 else map_.baseline[rows]


def _conservation(map_: Attribution, fit: Fit) -> pd.DataFrame:
    """One row per trial: what the map misses, NaN where its method promises nothing."""
    nothing = np.full(len(fit.index), np.nan)
    delta = nothing if map_.delta is None else map_.delta
    change = nothing if map_.change is None else map_.change
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(delta) / np.abs(change)
    columns = {"method": map_.method, "trial": fit.index, "seed": fit.seed, "delta": delta, "change": change}
    return pd.DataFrame(columns | {"relative": relative})


def _mean_maps(maps: pd.DataFrame) -> pd.DataFrame:
    """Average the maps of one trial over the seeds, as bytes of float32."""
    means = maps.groupby(["method", "trial"], sort=False)["map"].agg(
        lambda each: np.mean([np.frombuffer(one, np.float32) for one in each], axis=0).astype(np.float32).tobytes()
    )
    return means.reset_index()


def _trained_mean(table: pd.DataFrame, method: str, class_name: str, axis: str) -> pd.Series:
    rows = table[(table["method"] == method) & (table["network"] == TRAINED) & (table["class"] == class_name)]
    return rows.groupby(axis, sort=False)["value"].mean()


def _above_permuted(spectrum: np.ndarray, true: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Return the mean spectrum of the trials of a class, and the level of the largest of permuted means."""
    rng, drawn = np.random.default_rng(seed), np.empty((N_PERMUTATIONS, len(true)))
    for group in np.unique(groups):
        inside = groups == group
        drawn[:, inside] = rng.permuted(np.tile(true[inside], (N_PERMUTATIONS, 1)), axis=1)
    largest = (drawn @ spectrum).max(1) / true.sum()
    return spectrum[true].mean(0), float(np.quantile(largest, LEVEL))
