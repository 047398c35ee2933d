"""What chance reaches on each column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from eegxai_support.scoring.formulas import unit
from eegxai_support.scoring.metrics import METRICS

BLOCK_POINTS = 2**17  # map points scored at once: few enough for a processor's cache
CANDIDATES = 500  # references and surrogates over all trials; the draws choose among them
CANDIDATES_PER_TRIAL = 10  # at least


def chance_levels(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    maps: torch.Tensor,
    reference: torch.Tensor,
    surrogates: Callable[[int, int, torch.Generator], torch.Tensor],
    label: np.ndarray | None,
    n_null: int,
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and 95 % interval, over the draws, of the mean score over trials under both nulls.

    ``surrogates(trial, n, generator)`` draws n surrogates of the map of a trial.
    """
    n = len(maps)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(seed))
    n_candidates = min(n_null, max(CANDIDATES_PER_TRIAL, CANDIDATES // n))
    group = np.arange(n) if label is None else label
    nulls = ("other_trial", "surrogate") if n > 1 else ("surrogate",)
    # Of the scores that there are, over the trials so far: the draws of all trials would take far more than the maps.
    total, n_scores = ({null: np.zeros((n_null, len(METRICS))) for null in nulls} for _ in range(2))
    for trial in tqdm(range(n), desc="Chance levels", leave=False, delay=2):
        one = slice(trial, trial + 1)
        pairs = {"surrogate": (surrogates(trial, n_candidates, generator), reference[one])}
        if n > 1:
            other = rng.permutation(np.flatnonzero(group != group[trial]))[:n_candidates]
            pairs["other_trial"] = maps[one], reference[other]
        for null, pair in pairs.items():
            candidates = in_blocks(score, *pair)
            drawn = rng.choice(candidates, n_null)
            total[null] += np.nan_to_num(drawn)
            n_scores[null] += ~np.isnan(drawn)
    return {null: _summary(total[null], n_scores[null]) for null in nulls}


def in_blocks(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], maps: torch.Tensor, reference: torch.Tensor
) -> np.ndarray:
    """Score a few pairs of maps at a time, or the one map of a side against all of the other's: shape (pair, ...)."""
    size = max(1, BLOCK_POINTS // maps[0].numel())
    n_pairs = max(len(maps), len(reference))
    blocks = [side.split(size) * (n_pairs if len(side) == 1 else 1) for side in (maps, reference)]
    return torch.cat([score(e.double(), r.double()) for e, r in zip(*blocks, strict=False)]).cpu().numpy()


def _summary(total: np.ndarray, n_scores: np.ndarray) -> dict[str, dict[str, float]]:
    """Summarise the mean over trials of scores, from their sum and number (draw, column)."""
    means = np.divide(total, n_scores, out=np.full_like(total, np.nan), where=n_scores > 0)
    means = pd.DataFrame(means, columns=list(METRICS))
    summary = pd.DataFrame({"mean": means.mean(), "low": means.quantile(0.025), "high": means.quantile(0.975)})
    return summary.to_dict(orient="index")


def phase_surrogates(e: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n maps with the values of one map (channel, time) and, as far as these allow, its power spectrum."""
    e = e.double()
    # Only the order of the field's values matters, for which float32 is enough.
    centred = unit((e - e.mean()).flatten()).float().reshape(e.shape)
    return _in_order_of(_random_phases(centred, n, generator).flatten(1), e.flatten()).unflatten(1, e.shape)


def moran_surrogates(e: torch.Tensor, modes: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n maps with the values of one map (channel,) and, as far as these allow, its power in each spatial mode."""
    sign = 2 * torch.randint(2, (n, len(e)), generator=generator) - 1
    return _in_order_of(sign * (modes.T @ (e - e.mean())) @ modes.T, e)


def _in_order_of(field: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Put the values (point,) in the order of each row of the field (n, point)."""
    order = torch.from_numpy(field.numpy().argsort(axis=1))  # twice as fast as torch's
    return torch.empty(field.shape, dtype=values.dtype).scatter(1, order, values.sort().values.expand(field.shape))


def _random_phases(image: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n images with the power spectrum of one image."""
    # Phases of white noise, since independent ones break the symmetry that the spectrum of a real image has.
    noise = torch.randn((n, *image.shape), generator=generator, dtype=image.dtype)
    return torch.fft.irfft2(torch.fft.rfft2(image).abs() * torch.fft.rfft2(noise).sgn(), s=image.shape)
