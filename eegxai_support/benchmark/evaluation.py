"""What a benchmark computes for one fit: accuracy, scores against the truth, and randomisation checks. No files."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from eegxai_support.attribution import attribute, make_baseline
from eegxai_support.benchmark.grid import DECODER, Fit, entered, options_of
from eegxai_support.decoders import Training, build_decoder, predict, save, train
from eegxai_support.decoders.weights import fill, read
from eegxai_support.model import UnsupportedOperation, best_device, device_of, wide
from eegxai_support.sanity import random_target, randomize
from eegxai_support.scoring import score_maps
from eegxai_support.simulate import simulate
from eegxai_support.trials import Trials

CHANCE = tuple(f"{null}_{level}" for null in ("other_trial", "surrogate") for level in ("mean", "low", "high"))
# A row that says nothing about a column holds what stands here; groups of pandas would leave out missing values.
EMPTY = {
    "regime": "", "snr_db": np.nan, "decoder": "", "seed": -1, "method": "", "dataset": -1, "check": "", "trials": "",
    "view": "", "metric": "", "value": np.nan, "n_valid": 0, "n_trials": 0, **dict.fromkeys(CHANCE, np.nan),
    "status": "ok", "seconds_per_trial": np.nan,
}  # fmt: skip


def evaluate_fit(
    fit: Fit, cells: Iterable[str] | None = None, weights: Path | None = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Train one decoder, explain it with every method, and score the maps.

    Parameters
    ----------
    fit : Fit
        From `read_grid`.
    cells : iterable of str, optional
        The cells to compute, all of ``fit.cells`` if None; each is taken when the one before is done.
    weights : path, optional
        Where the trained weights are kept; they are taken from there where the file is there and whole.

    Yields
    ------
    cell : str
        A label of ``fit.methods``, or "" for the decoder's accuracy.
    table : DataFrame
        As `run_benchmark` describes it. ``.attrs`` holds status, message (of the exception) and warnings, each once.
    """
    cells = fit.cells if cells is None else cells
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            experiment = experiment_of(fit, weights)
    except Exception:  # a network that cannot be built or trained costs its own cells, not the grid
        message = _traceback()
        yield from ((cell, _table(fit, cell, [{"status": "failed"}], message)) for cell in cells)
        return
    for cell in cells:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = _recorded(experiment, cell)
        table.attrs["warnings"] = sorted({str(it.message) for it in caught if issubclass(it.category, UserWarning)})
        yield cell, table


@dataclass(frozen=True)
class Experiment:
    """A trained decoder and the standardised trials that it is tested on and explained with."""

    fit: Fit
    model: nn.Module
    train: Trials
    scale: float

    def fresh(self, n_trials: int, *purpose: str | int) -> Trials:
        """Standardised trials of the fit's task that no other purpose sees."""
        return _standardised(_trials(self.fit, n_trials, *purpose), self.scale)

    @cached_property
    def data(self) -> list[Trials]:
        """Fresh data sets: their classes are as balanced as their number allows, whatever the decoder makes of them."""
        n_datasets, n_explained = self.fit.sizes["n_datasets"], self.fit.sizes["n_explained"]
        return [self.fresh(n_explained, "explained", k) for k in range(n_datasets)]

    @cached_property
    def predicted(self) -> list[np.ndarray]:
        """Predicted class of each trial of each data set."""
        return [predict(self.model, data.signal).argmax(1) for data in self.data]


def experiment_of(fit: Fit, weights: Path | None) -> Experiment:
    """Train the decoder of a fit, or take its weights from a file that holds them."""
    train_set, valid = (_trials(fit, fit.sizes[f"n_{name}"], name) for name in ("train", "valid"))
    scale = float(train_set.signal.std())
    train_set, valid = _standardised(train_set, scale), _standardised(valid, scale)
    model = build_decoder(fit.network["name"], train_set, seed=fit.seed, **fit.network["build"])
    if not _loaded(model, weights):
        training = train(model, train_set, valid, seed=fit.seed, **fit.network["train"])
        if weights is not None:
            _keep(training, weights)
    return Experiment(fit, model.to(best_device()), train_set, scale)


def _trials(fit: Fit, n_trials: int, *purpose: str | int) -> Trials:
    return simulate(fit.regime, n_trials=n_trials, snr_db=fit.snr_db, seed=fit.seed_of(*purpose), **fit.options)


def _standardised(trials: Trials, scale: float) -> Trials:
    """Divide all channels by one number, which leaves their ratios, and with them the truth, as they are."""
    return replace(trials, signal=trials.signal / scale, truth=trials.truth / scale, unit="standardised")


def _loaded(model: nn.Module, weights: Path | None) -> bool:
    if weights is None:
        return False
    try:
        fill(model, *read(weights, seal_required=True), weights)
        return True
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # ValueError where it is damaged
        warnings.warn(f"The trained decoder {weights} cannot be used ({error}); training it again.", stacklevel=3)
    return False


def _keep(training: Training, weights: Path) -> None:
    """Save the weights; a disk that does not take them costs another training, not this fit."""
    try:
        save(training.model, weights, history=training.history.to_json(orient="records"))
    except OSError as error:
        warnings.warn(f"The trained decoder could not be kept in {weights.parent} ({error}).", stacklevel=3)


def _recorded(experiment: Experiment, cell: str) -> pd.DataFrame:
    """Return the table of a cell; an exception becomes its status."""
    try:
        rows = _decoder_rows(experiment) if cell == DECODER else _method_rows(experiment, cell)
        return _table(experiment.fit, cell, rows)
    except UnsupportedOperation as error:
        return _table(experiment.fit, cell, [{"status": "unsupported"}], str(error))
    except Exception:
        return _table(experiment.fit, cell, [{"status": "failed"}], _traceback())


def _table(fit: Fit, cell: str, rows: list[dict], message: str = "") -> pd.DataFrame:
    table = pd.DataFrame([{**EMPTY, **fit.place, "method": cell, **row} for row in rows])
    table.attrs = {"status": table["status"][0], "message": message, "warnings": []}
    return table


def _traceback() -> str:
    """Return the traceback of the exception at hand; where the files lie is the machine's own business."""
    text = traceback.format_exc()
    for folder in (Path(__file__).parents[2], sys.prefix):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _decoder_rows(experiment: Experiment) -> list[dict]:
    test = _trials(experiment.fit, experiment.fit.sizes["n_test"], "test")
    right = predict(experiment.model, test.signal / experiment.scale).argmax(1) == test.label
    values = {"accuracy": right.mean(), "ideal_accuracy": _ideal_accuracy(test)}
    count = {"n_valid": len(test), "n_trials": len(test)}
    return [
        {"check": "decoder", "trials": "test", "metric": metric, "value": float(value), **count}
        for metric, value in values.items()
    ]


def _ideal_accuracy(trials: Trials) -> float:
    try:
        return trials.ideal_accuracy
    except ValueError:  # not defined for these options
        return np.nan


def _method_rows(experiment: Experiment, label: str) -> list[dict]:
    rows, seconds = [], 0.0
    for dataset, (data, predicted) in enumerate(zip(experiment.data, experiment.predicted, strict=True)):
        start = time.perf_counter()
        maps = _explain(experiment, label, experiment.model, dataset, data.label)
        seconds += time.perf_counter() - start
        wrong = np.flatnonzero(predicted != data.label)
        of_predicted = maps.copy()
        if len(wrong):
            of_predicted[wrong] = _explain(experiment, label, experiment.model, dataset, predicted, wrong)
        rows += _accuracy_rows(experiment, dataset, maps, of_predicted)
        if dataset == 0 and len(wrong) < len(data):
            rows += _randomisation_rows(experiment, label, maps)
    per_trial = seconds / sum(map(len, experiment.data))
    return [{**row, "seconds_per_trial": per_trial} for row in rows]


def _explain(
    experiment: Experiment, label: str, model: nn.Module, dataset: int, target: np.ndarray, index=slice(None)
) -> np.ndarray:
    """Return maps of some trials of a data set; the draws of a method are the same for every model and target."""
    fit, data = experiment.fit, experiment.data[dataset]
    options = dict(fit.methods[label])
    method, baseline = options.pop("method"), options.pop("baseline")
    if isinstance(baseline, int):
        rng = np.random.default_rng(fit.seed_of("baseline"))
        baseline = experiment.train.signal[rng.choice(len(experiment.train), baseline, replace=False)]
    elif baseline is not None:
        baseline = make_baseline(data.signal, baseline, label=data.label, seed=fit.seed_of("baseline", dataset))[index]
    if "seed" in options_of(method):
        options["seed"] = fit.seed_of("method", fit.decoder, dataset)
    with entered(method) as name:
        return attribute(model, data.signal[index], target[index], name, baseline=baseline, **options).values


def _accuracy_rows(experiment: Experiment, dataset: int, maps: np.ndarray, of_predicted: np.ndarray) -> list[dict]:
    """Score the maps of one data set against the truth, over three choices of trials and targets."""
    data, predicted = experiment.data[dataset], experiment.predicted[dataset]
    correct = predicted == data.label
    n_null = experiment.fit.sizes["n_null"] if dataset == 0 else 0
    rows = []
    for view, info in _views(data):
        scores = _scores(experiment, maps, data, info)
        by_prediction = scores.copy()
        if not correct.all():
            by_prediction.loc[~correct] = _scores(
                experiment, of_predicted[~correct], data.subset(~correct), info
            ).to_numpy()
        chance = _chance(experiment, maps[correct], data, correct, info, n_null) if n_null and correct.any() else {}
        place = {"dataset": dataset, "check": "accuracy", "view": view}
        rows += _summary(scores[correct], chance, trials="correct", **place)
        rows += _summary(scores, trials="all", **place)
        rows += _summary(by_prediction, trials="predicted", **place)
    return rows


def _views(data: Trials) -> tuple:
    return ("channel_time", None), ("scalp", data.info)


def _scores(experiment: Experiment, maps: np.ndarray, data: Trials, info) -> pd.DataFrame:
    maps = torch.as_tensor(maps, device=device_of(experiment.model))
    scores = score_maps(maps, torch.tensor(data.truth), info, n_null=0)
    if data.suppressor is not None and info is None:
        mass = wide(maps.abs()).sum(2)
        scores["suppressor_mass"] = (mass[:, data.info.ch_names.index(data.suppressor)] / mass.sum(1)).cpu().numpy()
    return scores


def _chance(experiment: Experiment, maps: np.ndarray, data: Trials, correct: np.ndarray, info, n_null: int) -> dict:
    """Chance levels of the correctly classified trials; without a second class there is no other trial to compare."""
    data = data.subset(correct)
    label = data.label if len(np.unique(data.label)) > 1 else None
    maps = torch.as_tensor(maps, device=device_of(experiment.model))
    seed = experiment.fit.seed_of("chance")
    chance = score_maps(maps, torch.tensor(data.truth), info, label=label, n_null=n_null, seed=seed).attrs["chance"]
    return {null: levels for null, levels in chance.items() if null == "surrogate" or label is not None}


def _randomisation_rows(experiment: Experiment, label: str, maps: np.ndarray) -> list[dict]:
    """Compare the maps of the first data set with those for a wrong class and those of a network that learned nothing.

    The first data set only, and its correctly classified trials, as the maps of the others say less. All are explained,
    so that a stochastic method draws for each trial what it drew for the map that is compared.
    """
    fit, data = experiment.fit, experiment.data[0]
    correct = experiment.predicted[0] == data.label
    other = random_target(data.label, data.n_classes, fit.seed_of("label"))
    ((_, untrained),) = randomize(experiment.model, fit.seed_of("weights", fit.decoder), order="at_once")
    randomised = {
        "label": _explain(experiment, label, experiment.model, 0, other),
        "weights": _explain(experiment, label, untrained, 0, data.label),
    }
    rows = []
    for check, after in randomised.items():
        for view, info in _views(data):
            pair = (torch.as_tensor(it[correct], device=device_of(experiment.model)) for it in (after, maps))
            scores = score_maps(*pair, info, protocol="randomisation", n_null=0)
            rows += _summary(scores, dataset=0, check=check, trials="correct", view=view)
    return rows


def _summary(scores: pd.DataFrame, chance: dict | None = None, **place) -> list[dict]:
    """Mean over trials of each metric, with the number of trials that have a score."""
    rows = []
    for metric, value, n_valid in zip(scores, scores.mean(), scores.notna().sum(), strict=True):
        row = {**place, "metric": metric, "value": value, "n_valid": n_valid, "n_trials": len(scores)}
        for null, levels in (chance or {}).items():
            row |= {f"{null}_{level}": at for level, at in levels.get(metric, {}).items()}
        rows.append(row)
    return rows
