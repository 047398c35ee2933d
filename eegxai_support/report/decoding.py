"""Which trials a network has not seen, and how well it decodes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from eegxai_support.decoders import (
    Accuracy,
    accuracy,
    build_decoder,
    permutation_p_value,
    predict,
    recipe,
    save,
    train,
)
from eegxai_support.decoders.weights import fill, read
from eegxai_support.model import model_size, name_of, output_kind, record_of
from eegxai_support.report.networks import describe
from eegxai_support.report.parts import Parts, fingerprint
from eegxai_support.trials import Trials

CROP = 2 / 3  # of the window, where that leaves a second: EEGNet on 30 trials of S007 gained 0.05 over whole windows
SHORTEST_CROP = 1.0  # s
UPDATES = 16_000  # trials a network is shown: 60 epochs of 267 trials
EPOCHS = 20, 60
ALPHA = 0.05
Prepare = Callable[[Trials], Trials]


@dataclass(frozen=True, eq=False)
class Fit:
    """A network and the trials that it is explained on.

    Parameters
    ----------
    model : torch.nn.Module
    index : ndarray of int
        Rows of the trials.
    group : object
        What was left out of its training; the group of the trials for a network that was given.
    seed : int
    """

    model: nn.Module
    index: np.ndarray
    group: object
    seed: int


@dataclass(frozen=True, eq=False)
class Decoding:
    """Networks, the trials that they have not seen, and what they say of them.

    Parameters
    ----------
    trials : Trials
        All of them, before `prepare`.
    prepare : callable
        From trials as recorded to trials as the networks take them.
    fits : list of Fit
        For every trial that is explained, one of each seed.
    groups : ndarray, shape (trial,)
        What may not stand on both sides of a split.
    origin, origin_text : str
        How it is known which trials the networks have not seen, as a word and as a sentence.
    training : DataFrame or None
        Loss and accuracy by group, seed and epoch, of networks that were trained here.
    """

    trials: Trials
    prepare: Prepare
    fits: list[Fit]
    groups: np.ndarray
    origin: str
    origin_text: str
    training: pd.DataFrame | None = None

    @cached_property
    def explained(self) -> np.ndarray:
        """Rows of the trials that are explained, in their order."""
        return np.unique(np.concatenate([fit.index for fit in self.fits]))

    @cached_property
    def folds(self) -> dict[object, list[Fit]]:
        """The fits of each fold, one of each seed."""
        return {fit.group: [each for each in self.fits if each.group == fit.group] for fit in self.fits}

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds of the networks."""
        return sorted({fit.seed for fit in self.fits})

    @cached_property
    def recorded(self) -> Trials:
        """All trials as recorded, in the window that the networks take: the middle of longer ones."""
        return middle(self.trials, self.fits[0].model)

    def prepared(self, recorded: Trials) -> Trials:
        """Return what the networks take of trials as `recorded`, in which parts may have been changed.

        The window is put back into the whole trials first: `prepare` may need these, for a scale or a filter.
        """
        whole, first = self.trials.signal.copy(), self._first
        whole[:, :, first : first + recorded.signal.shape[2]] = recorded.signal
        return middle(self.prepare(replace(self.trials, signal=whole, truth=None)), self.fits[0].model)

    @property
    def _first(self) -> int:
        return round((self.recorded.tmin - self.trials.tmin) * self.trials.sfreq)

    @cached_property
    def inputs(self) -> Trials:
        """All trials as the networks take them."""
        return self.prepared(self.recorded)

    def input_of(self, fit: Fit) -> Trials:
        """Return the trials of a fit as its network takes them."""
        return self.inputs.subset(fit.index)

    @cached_property
    def outputs(self) -> list[np.ndarray]:
        """What the network of each fit answers to its trials, (trial, output)."""
        return [predict(fit.model, self.input_of(fit)) for fit in self.fits]

    @cached_property
    def answers(self) -> str:
        """Kind of all these outputs, and so of those to changed trials, see `answer_kind`."""
        return answer_kind(np.concatenate(self.outputs))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per network and trial: trial, seed, group, label, predicted, p_true, log_odds."""
        label = self.trials.label
        rows = []
        for fit, outputs in zip(self.fits, self.outputs, strict=True):
            log_p = log_probability(outputs, self.answers)
            own = log_p[np.arange(len(log_p)), label[fit.index]]
            others = np.log(-np.expm1(np.minimum(own, -1e-12)))  # the logarithm of 1 - p, where p rounds to 1 as well
            columns = {"trial": fit.index, "seed": fit.seed, "group": self.groups[fit.index], "label": label[fit.index]}
            columns |= {"predicted": log_p.argmax(1), "p_true": np.exp(own), "log_odds": own - others}
            columns |= {f"log_p_{c}": log_p[:, c] for c in range(log_p.shape[1])}
            rows.append(pd.DataFrame(columns))
        return pd.concat(rows, ignore_index=True)

    @cached_property
    def together(self) -> pd.DataFrame:
        """Decision of all seeds together, the mean of their log-probabilities: trial, group, label, predicted.

        The map of that mean is the mean of the seeds' maps, which is what the report shows.
        """
        of_class = [column for column in self.predictions if column.startswith("log_p_")]
        table = self.predictions.groupby("trial", as_index=False).agg(
            dict.fromkeys(["group", "label"], "first") | dict.fromkeys(of_class, "mean")
        )
        return table[["trial", "group", "label"]].assign(predicted=table[of_class].to_numpy().argmax(1))

    @cached_property
    def accuracy(self) -> Accuracy:
        """Of all seeds together."""
        return accuracy(self.together["label"], self.together["predicted"], self.trials.n_classes)

    @cached_property
    def p_value(self) -> float:
        """Of the accuracy of all seeds together, labels permuted within groups."""
        return permutation_p_value(self.together["label"], self.together["predicted"], self.together["group"])

    @property
    def knows(self) -> bool:
        """Whether the networks decode better than chance."""
        return self.p_value < ALPHA and self.accuracy.balanced > self.accuracy.chance


def answer_kind(outputs: np.ndarray) -> str:
    """Say what outputs are, from those to many trials: of a few, logits may be between 0 and 1 by chance.

    A single output is of the second of two classes: its probability where all of them are between 0 and 1, as after a
    sigmoid, else its logit.

    Returns
    -------
    {"logits", "probabilities", "log_probabilities"}
    """
    if outputs.shape[1] == 1:
        return "probabilities" if ((outputs >= 0) & (outputs <= 1)).all() else "logits"
    return output_kind(torch.from_numpy(np.asarray(outputs, dtype=np.float64)))


def log_probability(outputs: np.ndarray, kind: str) -> np.ndarray:
    """Return log-probabilities, (trial, class), of outputs whose `answer_kind` is known."""
    outputs = torch.from_numpy(np.asarray(outputs, dtype=np.float64))
    if outputs.shape[1] == 1:
        outputs = torch.cat([1 - outputs if kind == "probabilities" else torch.zeros_like(outputs), outputs], 1)
    return (outputs.clamp(min=1e-300).log() if kind == "probabilities" else outputs.log_softmax(1)).numpy()


def middle(trials: Trials, model: nn.Module) -> Trials:
    """Return the middle of the trials, as long as what a network takes; trials that are no longer stay as they are."""
    n_times, wanted = trials.signal.shape[2], model_size(model, "n_times")
    if not wanted or wanted >= n_times:
        return trials  # a network that asks for more says so itself
    first = (n_times - wanted) // 2
    return trials.crop(trials.times[first], trials.times[first] + wanted / trials.sfreq)


def groups_of(trials: Trials, group: str) -> np.ndarray:
    """Return the group of each trial, made unique over subjects where runs are counted anew for each.

    Raises
    ------
    ValueError
        No such column, or one group only.
    """
    parts = trials.split(group)  # refuses columns that are not there or not complete
    within = {"run": ["subject", "session", "run"], "session": ["subject", "session"]}.get(group, [group])
    columns = [column for column in within if trials.metadata[column].nunique() > 1] or [group]
    groups = trials.metadata[columns].astype(str).agg(" · ".join, axis=1).to_numpy()
    if len(parts) < 2 and len(np.unique(groups)) < 2:
        others = [c for c in trials.metadata if trials.metadata[c].nunique() > 1]
        raise ValueError(
            f"All trials are of one {group}, so that none can be left out of the training. Name another column as group"
            f" ({', '.join(map(str, others[:8])) or 'the metadata has none with two values'}), or read the recording"
            " with group='blocks', which cuts it into consecutive blocks."
        )
    return groups


def train_left_out(
    name: str,
    trials: Trials,
    prepare: Prepare,
    groups: np.ndarray,
    *,
    seeds: list[int],
    epochs: int | None,
    max_groups: int,
    folder: Path,
    parts: Parts,
) -> Decoding:
    """Train a network for each group that is left out and each seed; weights that are there are read.

    Parameters
    ----------
    name : str
        See `build_decoder`.
    max_groups : int
        More groups than these are left out several at a time.
    folder : Path
        Of the weights.
    """
    prepared, fits, rows = prepare(trials), [], []
    folds = _folds(groups, max_groups)
    for fold, seed in tqdm([(f, s) for f in folds for s in seeds], desc="Training", unit="network", delay=2):
        tested = np.isin(groups, folds[fold])
        model, history = _trained(name, prepared.subset(~tested), seed, epochs, folder / f"{fold}-seed{seed}", parts)
        fits.append(Fit(model, np.flatnonzero(tested), fold, seed))
        rows.append(history.assign(group=fold, seed=seed))
    left_out = (
        f"{len(folds)} parts of {len(np.unique(groups))} groups"
        if len(folds) < len(np.unique(groups))
        else (f"{len(folds)} groups")
    )
    text = (
        f"Every trial is explained by {'networks' if len(seeds) > 1 else 'a network'} that did not see its group:"
        f" {left_out} were left out of the training in turn, with {len(seeds)} seed{'s' * (len(seeds) > 1)} each."
    )
    return Decoding(trials, prepare, fits, groups, "left-out groups", text, pd.concat(rows, ignore_index=True))


def _folds(groups: np.ndarray, max_groups: int) -> dict[str, list]:
    """Return which groups are left out together, by a name that can be that of a file."""
    values = list(pd.unique(groups))
    if len(values) <= max_groups:
        return {f"fold{k + 1}": [value] for k, value in enumerate(values)}
    return {f"fold{k + 1}": values[k::max_groups] for k in range(max_groups)}


def _trained(name: str, trials: Trials, seed: int, epochs: int | None, path: Path, parts: Parts):
    epochs = epochs or int(np.clip(UPDATES / len(trials), *EPOCHS))
    n_times = n_times_of(trials)
    options = recipe(name, trials.sfreq)
    model = build_decoder(name, trials, n_times=n_times, seed=seed, **options)
    key = parts.key("weights", name, seed, epochs, n_times, options, fingerprint(trials))
    weights, losses = path.with_suffix(".safetensors"), {}

    def fit() -> dict[str, pd.DataFrame]:
        losses["history"] = train(model, trials, epochs=epochs, seed=seed).history
        save(model, weights, key=key, network=describe(model), epochs=epochs, seed=seed)
        return losses

    history = parts.frames("history", key, compute=fit)["history"]
    if not losses:  # trained before: the weights were written first
        try:
            stored, metadata = read(weights)
            if metadata.get("key") != key:
                raise ValueError(f"{weights} holds the weights of another report.")
            fill(model, stored, metadata, weights)
        except (OSError, ValueError):
            history = fit()["history"]
    return model.eval(), history


def n_times_of(trials: Trials) -> int:
    """Return the samples of the crops that a network is trained on."""
    n_times = trials.signal.shape[2]
    crop = round(CROP * n_times)
    return crop if crop >= SHORTEST_CROP * trials.sfreq else n_times


def explained_by_one(model: nn.Module, trials: Trials, test: Trials | None, prepare: Prepare, group: str) -> Decoding:
    """Find the trials that a network was not trained on, among those given.

    Parameters
    ----------
    model : torch.nn.Module
    trials : Trials
        Those it may have been trained on where `test` is given, else those to explain.
    test : Trials, optional
        Known to be others.
    """
    record = record_of(model)
    if test is not None:
        groups, seen = _any_groups(test, group), _seen(model, test, prepare)
        if seen.any():
            raise ValueError(
                f"{seen.sum()} of {len(test)} test trials are among those that the {name_of(model)} was trained on."
                " Leave them out, or give all as trials: then only those are explained that it has not seen."
            )
        text = f"The {len(test)} trials that are explained were given as test trials."
        return Decoding(test, prepare, [Fit(model, np.arange(len(test)), "test", 0)], groups, "test trials", text)
    groups = _any_groups(trials, group)
    if record is None or not record.trials:
        text = (
            f"It is not known which trials the {name_of(model)} was trained on. If any of these were, what follows"
            " describes what it learnt by heart."
        )
        return Decoding(trials, prepare, [Fit(model, np.arange(len(trials)), "given", 0)], groups, "unknown", text)
    seen = _seen(model, trials, prepare)
    if seen.all():
        raise ValueError(
            f"All {len(trials)} trials are among those that the {name_of(model)} was trained on. Explain others: give"
            " them as test=, or give the network's name to train one for each group that is left out."
        )
    text = (
        f"{seen.sum()} of {len(seen)} trials are among those that the network says it was trained on; the others are"
        " explained."
        if seen.any()
        else "None of the trials is among those that the network says it was trained on, compared by content."
    )
    return Decoding(
        trials, prepare, [Fit(model, np.flatnonzero(~seen), "given", 0)], groups, "the model's record", text
    )


def _seen(model: nn.Module, trials: Trials, prepare: Prepare) -> np.ndarray:
    """Return which trials a network was trained on by its record, whole or in the window that it takes."""
    record = record_of(model)
    if record is None:
        return np.zeros(len(trials), bool)
    prepared = prepare(trials)
    return np.any([np.isin(each.fingerprints(), record.trials) for each in (prepared, middle(prepared, model))], axis=0)


def _any_groups(trials: Trials, group: str) -> np.ndarray:
    """Return groups of trials that need not be split: one group will do."""
    try:
        return groups_of(trials, group)
    except ValueError:
        if group not in trials.metadata:
            raise
        return trials.metadata[group].astype(str).to_numpy()
