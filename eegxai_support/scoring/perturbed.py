"""What the faithfulness tests share: outputs of perturbed trials, and the maps that are compared.

Each trial draws from ``default_rng([seed, trial, purpose])``, whatever the other trials are: 0 for the surrogate, 1 for
the random map, 2 for ties, 3 for patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import nn
from tqdm import tqdm

from eegxai_support.decoders import predict
from eegxai_support.model import device_of, model_input
from eegxai_support.scoring.chance import phase_surrogates

MAPS = ("own", "surrogate", "random")


@dataclass(frozen=True)
class Perturbed:
    """A model, trials and classes, the maps that explain them, and what points become that are taken away."""

    model: nn.Module
    x: torch.Tensor
    baseline: torch.Tensor
    target: np.ndarray
    maps: dict[str | None, np.ndarray]  # by method; the one key is None where the caller gave an array
    batch_size: int

    @classmethod
    def checked(cls, model: nn.Module, x, target, maps, baseline, batch_size: int) -> Perturbed:
        """Check everything before the first long computation; signals go to the model's device."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
        x = model_input(model, x)
        baseline = x.new_zeros(1, 1, 1) if baseline is None else _like_x(model, x, baseline, "baseline")
        target = np.asarray(target)
        if target.shape != (len(x),) or target.dtype.kind not in "iu":
            raise ValueError(
                f"target has shape {target.shape} and type {target.dtype}; expected whole numbers of shape"
                f" ({len(x)},), the class that each map explains."
            )
        by_method = maps if isinstance(maps, Mapping) else {None: maps}
        if not by_method or any(isinstance(values, Mapping) for values in by_method.values()):
            raise ValueError("maps is an empty dict or a dict of dicts; expected one array for each method.")
        names = {key: "maps" if key is None else f"maps[{key!r}]" for key in by_method}
        arrays = {key: _like_x(model, x, by_method[key], name).cpu().numpy() for key, name in names.items()}
        n_classes = predict(model, x[:1]).shape[1]
        if not ((target >= 0) & (target < n_classes)).all():
            raise ValueError(
                f"target has the classes {np.unique(target).tolist()}; the model has the outputs 0 … {n_classes - 1}."
            )
        device = device_of(model)
        return cls(model, x.to(device), baseline.to(device), target, arrays, batch_size)

    def of_each_method(self, test: Callable[[np.ndarray], pd.DataFrame]) -> pd.DataFrame:
        """Return the table of the maps, or those of several methods below each other with a column method."""
        tables = {method: test(maps) for method, maps in self.maps.items()}
        if None in tables:
            return tables[None]
        return pd.concat(tables, names=["method"]).reset_index(level="method").reset_index(drop=True)

    def outputs(self, trial: np.ndarray, deleted: Callable[[slice], torch.Tensor]) -> np.ndarray:
        """Return logit and softmax probability of the target class of perturbed trials.

        Parameters
        ----------
        trial : ndarray of int, shape (row,)
            The trial that each row perturbs.
        deleted : callable
            Takes a slice of the rows, returns which points become those of the baseline: bool, broadcast to
            (row, channel, time), on the device of the signals.

        Returns
        -------
        ndarray of float64, shape (2, row)
        """
        outputs = np.empty((2, len(trial)))
        for first in tqdm(range(0, len(trial), self.batch_size), desc="Perturbed trials", leave=False, delay=2):
            rows = slice(first, first + self.batch_size)
            # Rows of one trial read it from the processor's cache, without a copy for each.
            alike = (trial[rows] == trial[first]).all()
            at = torch.from_numpy(trial[rows][:1] if alike else trial[rows]).to(self.x.device)
            baseline = self.baseline if self.baseline.numel() == 1 else self.baseline[at]
            outputs[:, rows] = self.outputs_of(torch.where(deleted(rows), baseline, self.x[at]), trial[rows])
        return outputs

    def outputs_of(self, signal: torch.Tensor, trial=slice(None)) -> np.ndarray:
        """Return logit and softmax probability of the target class of each `trial`, shape (2, trial)."""
        logits = predict(self.model, signal, batch_size=self.batch_size).astype(float)
        picked = np.arange(len(logits)), self.target[trial]
        return np.stack([logits[picked], softmax(logits, axis=1)[picked]])

    def table(self, axes: dict[str, Iterable], **columns: np.ndarray) -> pd.DataFrame:
        """Return a row for each combination of the axes, `trial` among them, with the class explained."""
        table = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
        table.insert(table.columns.get_loc("trial") + 1, "target", self.target[table["trial"]])
        return table.assign(**{name: np.ravel(values) for name, values in columns.items()})


def compared_maps(maps: np.ndarray, seed: int, first: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the maps as they are, and with their values in other places: smooth (surrogate) and not (random).

    `first` is the number of the first trial, from which the draws of each follow.
    """
    yield "own", maps
    smooth, shuffled = np.empty_like(maps), np.empty_like(maps)
    for i, one_map in enumerate(maps):
        draw = int(np.random.default_rng([seed, first + i, 0]).integers(2**62))
        smooth[i] = phase_surrogates(torch.from_numpy(one_map), 1, torch.Generator().manual_seed(draw))[0].numpy()
        shuffled[i].ravel()[:] = np.random.default_rng([seed, first + i, 1]).permutation(one_map.ravel())
    yield "surrogate", smooth
    yield "random", shuffled


def ranks(scores: np.ndarray, seed: int, first: int = 0) -> np.ndarray:
    """Return the place of each point among those of its trial, 0 for the highest score; ties in random order.

    Parameters
    ----------
    scores : ndarray of float, shape (trial, channel, time)
    seed, first : int
        See `compared_maps`.

    Returns
    -------
    ndarray of int32, shape (trial, channel, time)
    """
    place = np.empty(scores.shape, dtype=np.int32)
    for i, score in enumerate(scores):
        order = np.lexsort((np.random.default_rng([seed, first + i, 2]).random(score.size), -score.ravel()))
        place[i].ravel()[order] = np.arange(score.size)
    return place


def checked_shares(shares: Iterable[float], *, zero: bool = True) -> np.ndarray:
    """Return shares as an increasing array; 0 is refused where `zero` is False."""
    values = np.asarray(list(shares), dtype=float)
    inside = len(values) and (values[0] >= 0 if zero else values[0] > 0) and values[-1] <= 1
    if not inside or not (np.diff(values) > 0).all():
        expected = "from 0 to 1" if zero else "above 0, up to 1"
        raise ValueError(f"shares are {values.tolist()}; expected increasing numbers {expected}.")
    return values


def _like_x(model: nn.Module, x: torch.Tensor, values, name: str) -> torch.Tensor:
    values = model_input(model, values, name=name)
    if values.shape != x.shape:
        raise ValueError(f"{name} has shape {tuple(values.shape)}; expected that of x, {tuple(x.shape)}.")
    return values
