"""What chance reaches on each column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from eegxai_support.scoring.metrics import METRICS

BLOCK_POINTS = 2**16  # map points scored at once: few enough for a processor's cache
CANDIDATES = 500  # references and surrogates over all trials; the draws choose among them
CANDIDATES_PER_TRIAL = 10  # at least


def chance_levels(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    maps: torch.Tensor,
    reference: torch.Tensor,
    valid: torch.Tensor,
    label: np.ndarray | None,
    n_null: int,
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and 95 % interval, over the draws, of the mean score over trials under both nulls."""
    n = len(maps)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    n_candidates = min(n_null, max(CANDIDATES_PER_TRIAL, CANDIDATES // n))
    group = np.arange(n) if label is None else label
    tables: dict[str, list[np.ndarray]] = {"other_trial": [], "surrogate": []} if n > 1 else {"surrogate": []}
    for trial in tqdm(range(n), desc="Chance levels", leave=False, delay=2):
        repeat = np.full(n_candidates, trial)
        if n > 1:
            other = rng.choice(np.flatnonzero(group != group[trial]), n_candidates)
            tables["other_trial"].append(in_blocks(score, maps[repeat], reference[other]))
        surrogates = _surrogates(maps[trial], valid, n_candidates, generator)
        tables["surrogate"].append(in_blocks(score, surrogates, reference[repeat]))
    draw = rng.integers(n_candidates, size=(n_null, n))
    return {null: _summary(np.stack(table)[np.arange(n), draw]) for null, table in tables.items()}


def in_blocks(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], maps: torch.Tensor, reference: torch.Tensor
) -> np.ndarray:
    """Score a few pairs of maps at a time: shape (pair, 16)."""
    size = max(1, BLOCK_POINTS // maps[0].numel())
    blocks = zip(maps.split(size), reference.split(size), strict=True)
    return torch.cat([score(e.double(), r.double()) for e, r in blocks]).cpu().numpy()


def _summary(drawn: np.ndarray) -> dict[str, dict[str, float]]:
    """Summarise the mean over trials of scores (draw, trial, column)."""
    means = pd.DataFrame(torch.as_tensor(drawn).nanmean(dim=1).numpy(), columns=list(METRICS))
    summary = pd.DataFrame({"mean": means.mean(), "low": means.quantile(0.025), "high": means.quantile(0.975)})
    return summary.to_dict(orient="index")


def _surrogates(e: torch.Tensor, valid: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n images with the values of one image and, as far as these allow, its power spectrum."""
    values = e[valid].double()
    field = _random_phases(torch.zeros(e.shape).to(values).masked_scatter(valid, values - values.mean()), n, generator)
    ranked = values.sort().values.expand(n, -1)
    surrogates = torch.zeros_like(field)
    surrogates[:, valid] = torch.empty_like(ranked).scatter(1, field[:, valid].argsort(dim=1), ranked)
    return surrogates


def _random_phases(image: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n images with the power spectrum of one image."""
    # Phases of white noise, since independent ones break the symmetry that the spectrum of a real image has.
    noise = torch.randn((n, *image.shape), generator=generator, dtype=image.dtype).to(image.device)
    return torch.fft.irfft2(torch.fft.rfft2(image).abs() * torch.fft.rfft2(noise).sgn(), s=image.shape)
