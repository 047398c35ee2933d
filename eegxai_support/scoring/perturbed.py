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
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.attribution.targets import checked_score
from eegxai_support.model import Look, checked_batch_size, device_of, exact, frozen, look, model_input, shared, wide
from eegxai_support.scoring.chance import phase_surrogates
from eegxai_support.trials import unknown_name

MAPS = ("own", "surrogate", "random")
LINKS = {"softmax": lambda outputs: outputs.softmax(1), "sigmoid": torch.sigmoid, "identity": lambda outputs: outputs}


@dataclass(frozen=True)
class Perturbed:
    """A model, trials and targets, the maps that explain them, and what points become that are taken away."""

    model: nn.Module
    x: Tensor
    baseline: Tensor
    score: Callable[[Tensor, Tensor], Tensor]  # from outputs and their trials to the explained number of each
    target: np.ndarray  # how a table calls it, shape (trial,)
    link: str | None  # from outputs to probabilities; None where what is explained has none
    maps: dict[str | None, np.ndarray]  # by method; the one key is None where the caller gave an array
    batch_size: int

    @classmethod
    def checked(
        cls, model: nn.Module, x, target, maps, baseline, batch_size: int, link: str | None = "identity"
    ) -> Perturbed:
        """Check everything before the first long computation; signals go to the model's device."""
        batch_size, seen = checked_batch_size(batch_size), look(model, x)
        model, x = seen.model, seen.x
        baseline = x.new_zeros(1, 1, 1) if baseline is None else _checked_baseline(model, x, baseline)
        by_method = maps if isinstance(maps, Mapping) else {None: maps}
        if not by_method or any(isinstance(values, Mapping) for values in by_method.values()):
            raise ValueError("maps is an empty dict or a dict of dicts; expected one array for each method.")
        names = {key: "maps" if key is None else f"maps[{key!r}]" for key in by_method}
        arrays = {key: checked_maps(by_method[key], x.shape, name) for key, name in names.items()}
        score, named = checked_score(seen, target), _named(target, len(x))
        link = _checked_link(link, seen) if named.dtype.kind in "iu" else None
        device = device_of(model)
        return cls(model, x.to(device), baseline.to(device), score, named, link, arrays, batch_size)

    def of_each_method(self, test: Callable[[np.ndarray], pd.DataFrame]) -> pd.DataFrame:
        """Return the table of the maps, or those of several methods below each other with a column method."""
        tables = {method: test(maps) for method, maps in self.maps.items()}
        if None in tables:
            return tables[None]
        return pd.concat(tables, names=["method"]).reset_index(level="method").reset_index(drop=True)

    def outputs(self, trial: np.ndarray, deleted: Callable[[slice], Tensor]) -> np.ndarray:
        """Return what is explained of perturbed trials, and its probability.

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

        def perturbed(rows: slice) -> Tensor:
            # Rows of one trial read it from the processor's cache, without a copy for each.
            alike = (trial[rows] == trial[rows][0]).all()
            at = torch.from_numpy(trial[rows][:1] if alike else trial[rows]).to(self.x.device)
            baseline = self.baseline if self.baseline.numel() == 1 else self.baseline[at]
            return torch.where(deleted(rows), baseline, self.x[at])

        return self._of_each(trial, perturbed)

    def outputs_without_patches(self, trial: np.ndarray, channel: Tensor, start: Tensor, stop: Tensor) -> np.ndarray:
        """Return what `outputs` does of trials without a stretch of one channel, each given for each row."""
        n_channels, n_times = self.x.shape[1:]
        at = torch.from_numpy(trial).to(self.x.device)

        def perturbed(rows: slice) -> Tensor:
            made, length = self.x[at[rows]], stop[rows] - start[rows]
            row = torch.arange(len(made), device=made.device).repeat_interleave(length)
            first = (start[rows] - length.cumsum(0) + length).repeat_interleave(length)
            time = first + torch.arange(len(first), device=made.device)
            where = row, channel[rows].repeat_interleave(length), time
            baseline = self.baseline.expand(len(self.x), n_channels, n_times)
            made[where] = baseline[at[rows][row], *where[1:]]
            return made

        return self._of_each(trial, perturbed)

    def outputs_of(self, signal: Tensor, trial=slice(None)) -> np.ndarray:
        """Return what is explained of each `trial`, and its probability or NaN, shape (2, trial)."""
        index = np.arange(len(self.x))[trial]
        return self._of_each(index, lambda rows: signal[rows].clone())

    def _of_each(self, trial: np.ndarray, signal: Callable[[slice], Tensor]) -> np.ndarray:
        """Return what is explained of any number of rows, `signal` giving those of a slice, for the model to keep."""
        result = np.empty((2, len(trial)))
        with exact(self.model), frozen(self.model), torch.no_grad():
            for first in tqdm(range(0, len(trial), self.batch_size), desc="Perturbed trials", leave=False, delay=2):
                rows = slice(first, first + self.batch_size)
                result[:, rows] = self._explained(self.model(signal(rows)), torch.from_numpy(trial[rows]))
        return result

    def _explained(self, outputs: Tensor, trial: Tensor) -> np.ndarray:
        # A target function may hold tensors of the model's type on its device.
        explained = self.score(outputs, trial).cpu().double()
        if self.link is None:
            return np.stack([explained, np.full(len(trial), np.nan)])
        return np.stack([explained, self.score(LINKS[self.link](wide(outputs)).cpu(), trial)])

    def compared(self, maps: np.ndarray, seed: int) -> Iterator[tuple[slice, int, str, np.ndarray]]:
        """Yield what `compared_maps` does for a batch of trials after the other: trials, number and name, maps."""
        for first in range(0, len(maps), self.batch_size):
            rows = slice(first, min(first + self.batch_size, len(maps)))
            for number, (name, compared) in enumerate(compared_maps(maps[rows], seed, first)):
                yield rows, number, name, compared

    def table(self, axes: dict[str, Iterable], **columns: np.ndarray) -> pd.DataFrame:
        """Return a row for each combination of the axes, `trial` among them, with what is explained."""
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
        smooth[i] = phase_surrogates(shared(one_map), 1, torch.Generator().manual_seed(draw))[0].numpy()
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


def checked_maps(maps, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return maps as an array of floating-point numbers, of the shape of the trials and finite."""
    if isinstance(maps, Tensor):
        maps = maps.detach().to(torch.promote_types(maps.dtype, torch.float32)).cpu().numpy()  # NumPy has no bfloat16
    maps = np.asarray(maps)
    if maps.shape != tuple(shape):
        raise ValueError(f"{name} has shape {maps.shape}; expected that of the trials, {tuple(shape)}.")
    if n_missing := (~np.isfinite(maps)).sum():
        raise ValueError(f"{name} holds NaN or infinity at {n_missing} points. Drop those trials first.")
    # Whole numbers may have no negative to rank by; draws are written into a map through its flat view.
    return np.ascontiguousarray(maps, np.result_type(maps, np.float32))


def _checked_baseline(model: nn.Module, x: Tensor, baseline) -> Tensor:
    baseline = model_input(model, baseline, name="baseline")
    if baseline.shape != x.shape:
        raise ValueError(f"baseline has shape {tuple(baseline.shape)}; expected that of x, {tuple(x.shape)}.")
    return baseline


def _checked_link(link: str | None, seen: Look) -> str:
    """Return the link from outputs to probabilities, by what the outputs are if it is not given."""
    if link is not None and link not in LINKS:
        raise unknown_name("link", link, LINKS)
    if seen.n_outputs == 1 and link in (None, "softmax"):
        raise ValueError(
            "The model has one output, whose softmax is always 1. Pass link='sigmoid' where it is the logit of a"
            " probability, link='identity' where it is a probability or another number."
        )
    # The softmax of log-probabilities is the probabilities.
    return link or ("identity" if seen.kind == "probabilities" else "softmax")


def _named(target, n_trials: int) -> np.ndarray:
    """Return what tables call a target, shape (trial,): its index where it is one."""
    if callable(target):
        return np.full(n_trials, getattr(target, "__name__", repr(target)), dtype=object)
    index = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
    if isinstance(target, tuple) and len(target) == 2:  # a difference, as for `attribute`
        return np.full(n_trials, str(tuple(index.tolist())), dtype=object)
    return np.broadcast_to(index, n_trials)
