"""What the faithfulness tests share: outputs of perturbed trials, and the maps that are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import nn
from tqdm import tqdm

from eegxai_support.decoders import device_of, model_input, predict
from eegxai_support.scoring.chance import phase_surrogates

MAPS = ("own", "surrogate", "random")


@dataclass(frozen=True)
class Problem:
    """A model, the trials and classes that maps explain, and what points become that are taken away."""

    model: nn.Module
    x: torch.Tensor
    baseline: torch.Tensor
    target: np.ndarray
    batch_size: int

    @classmethod
    def checked(cls, model: nn.Module, x, target, baseline, batch_size: int) -> Problem:
        """Check the arrays against the model and each other; signals go to the model's device."""
        x = model_input(model, x)
        baseline = torch.zeros_like(x) if baseline is None else _like_x(model, x, baseline, "baseline")
        target = np.asarray(target)
        if target.shape != (len(x),) or target.dtype.kind not in "iu":
            raise ValueError(
                f"target has shape {target.shape} and type {target.dtype}; expected whole numbers of shape"
                f" ({len(x)},), the class that each map explains."
            )
        n_classes = predict(model, x[:1]).shape[1]
        if not ((target >= 0) & (target < n_classes)).all():
            raise ValueError(
                f"target has the classes {np.unique(target).tolist()}; the model has the outputs 0 … {n_classes - 1}."
            )
        device = device_of(model)
        return cls(model, x.to(device), baseline.to(device), target, batch_size)

    def test(self, maps, test: Callable[[np.ndarray], pd.DataFrame]) -> pd.DataFrame:
        """Return the table of some maps, or those of a dict of them below each other with a column method."""
        if not isinstance(maps, Mapping):
            return test(_like_x(self.model, self.x, maps, "maps").cpu().numpy())
        tables = {name: self.test(values, test) for name, values in maps.items()}
        return pd.concat(tables, names=["method"]).reset_index(level="method").reset_index(drop=True)

    def outputs(
        self, trial: np.ndarray, replaced: Callable[[slice], torch.Tensor], *, inverted: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logit and softmax probability of the target class of perturbed trials.

        Parameters
        ----------
        trial : ndarray of int, shape (row,)
            The trial that each row perturbs.
        replaced : callable
            Takes a slice of the rows, returns which points become those of the baseline: bool, broadcast to
            (row, channel, time), on the device of the signals.
        inverted : bool
            Start from the baseline, and replace its points by those of the trial.

        Returns
        -------
        logit, probability : ndarray of float64, shape (row,)
        """
        start, end = (self.baseline, self.x) if inverted else (self.x, self.baseline)
        logits = []
        for first in tqdm(range(0, len(trial), self.batch_size), desc="Perturbed trials", leave=False, delay=2):
            rows = slice(first, first + self.batch_size)
            at = torch.from_numpy(trial[rows]).to(start.device)
            mixed = torch.where(replaced(rows), end[at], start[at])
            logits.append(predict(self.model, mixed, batch_size=self.batch_size))
        return self._of_target(np.concatenate(logits), trial)

    def intact_outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return logit and probability of the target class of the trials as they are, each (trial,)."""
        logits = predict(self.model, self.x, batch_size=self.batch_size)
        return self._of_target(logits, np.arange(len(logits)))

    def _of_target(self, logits: np.ndarray, trial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picked = np.arange(len(trial)), self.target[trial]
        logits = logits.astype(float)
        return logits[picked], softmax(logits, axis=1)[picked]

    def table(self, axes: dict[str, Iterable], **columns: np.ndarray) -> pd.DataFrame:
        """Return a row for each combination of the axes, `trial` among them, with the class explained."""
        table = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
        table.insert(table.columns.get_loc("trial") + 1, "target", self.target[table["trial"]])
        return table.assign(**{name: np.ravel(values) for name, values in columns.items()})


def compared_maps(maps: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the maps as they are, and with their values in other places: smooth (surrogate) and not (random)."""
    yield "own", maps
    generators = [torch.Generator().manual_seed(int(trial_rng(seed, i, 0).integers(2**62))) for i in range(len(maps))]
    drawn = [phase_surrogates(torch.from_numpy(e), 1, g)[0].numpy() for e, g in zip(maps, generators, strict=True)]
    yield "surrogate", np.stack(drawn).astype(maps.dtype)
    yield (
        "random",
        np.stack([trial_rng(seed, i, 1).permutation(e.ravel()).reshape(e.shape) for i, e in enumerate(maps)]),
    )


def ranks(scores: np.ndarray, seed: int) -> np.ndarray:
    """Return the place of each point among those of its trial, 0 for the highest score; ties in random order.

    Parameters
    ----------
    scores : ndarray, shape (trial, channel, time)
    seed : int

    Returns
    -------
    ndarray of int32, shape (trial, channel, time)
    """
    place = np.empty(scores.shape, dtype=np.int32)
    for i, score in enumerate(scores):
        order = np.lexsort((trial_rng(seed, i, 2).random(score.size), -score.ravel()))
        place[i].ravel()[order] = np.arange(score.size)
    return place


def n_points(shares: np.ndarray, size: int) -> np.ndarray:
    """Return the number of points nearest to each share of `size`."""
    return np.round(shares * size).astype(int)


def checked_shares(shares: Iterable[float], *, low: float, high: float) -> np.ndarray:
    """Return shares as an increasing array."""
    values = np.asarray(list(shares), dtype=float)
    if not len(values) or not ((values >= low) & (values <= high)).all() or (np.diff(values) <= 0).any():
        raise ValueError(f"shares are {values.tolist()}; expected increasing numbers from {low:g} to {high:g}.")
    return values


def _like_x(model: nn.Module, x: torch.Tensor, values, name: str) -> torch.Tensor:
    values = model_input(model, values, name=name)
    if values.shape != x.shape:
        raise ValueError(f"{name} has shape {tuple(values.shape)}; expected that of x, {tuple(x.shape)}.")
    return values


def trial_rng(seed: int, trial: int, purpose: int) -> np.random.Generator:
    """Return the random numbers of one trial, whatever the other trials are."""
    return np.random.default_rng([seed, trial, purpose])
