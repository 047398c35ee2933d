"""Shapley values of the channels."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from eegxai_support.attribution.perturbation import values_without
from eegxai_support.attribution.problem import Problem, register


@register(
    "kernel_shap",
    reference="Lundberg & Lee 2017, NeurIPS; Covert & Lee 2021, AISTATS",
    needs_baseline=True,
    conserves=True,
    uses_gradient=False,
)
def kernel_shap(problem: Problem, *, n_samples: int = 1024, seed: int = 0) -> Tensor:
    """Divide the change of the output among the channels by their Shapley values [1]_.

    The players are the channels; one that is absent holds the baseline. The Shapley values are the weighted least
    squares solution over coalitions, with the Shapley kernel as weight and the sum held at f(x) - f(baseline) [2]_.
    They are exact where `n_samples` suffices for all ``2 ** n_channels - 2`` coalitions. Otherwise the smallest and
    the largest coalitions, which weigh most, are all taken, and the others are drawn in pairs of a coalition and its
    complement. All trials share the coalitions. A channel's value is spread evenly over its samples.

    Parameters
    ----------
    problem : Problem
    n_samples : int
        Coalitions at most, per trial; at least two per channel, and two more.
    seed : int
        Of the draws.

    References
    ----------
    .. [1] Lundberg & Lee (2017). A unified approach to interpreting model predictions. NeurIPS.
    .. [2] Covert & Lee (2021). Improving KernelSHAP: practical Shapley value estimation via linear regression.
       AISTATS.
    """
    n_channels, n_times = problem.x.shape[1:]
    if n_samples < 2 * n_channels + 2:
        raise ValueError(f"n_samples is {n_samples}; expected at least {2 * n_channels + 2} for {n_channels} channels.")
    coalition, weight = _coalitions(n_channels, n_samples, np.random.default_rng(seed))
    share = coalition.mean(1, keepdims=True)
    # With u = shapley - change / n_channels the constraint is that u sums to 0. Taking its mean from each row of the
    # design makes u indifferent to a constant, and the shortest solution, which pinv finds, sums to 0.
    root = np.sqrt(weight)[:, None]
    solve = torch.as_tensor(np.linalg.pinv(root * (coalition - share), rcond=1e-10) * root.T)
    ends = np.array([[True], [False]]).repeat(n_channels, 1)
    absent, share = torch.as_tensor(~np.concatenate([ends, coalition])), torch.as_tensor(share[:, 0])

    def maps(trial):
        always = torch.ones(1, n_times, dtype=torch.bool)
        value = values_without(problem, trial, absent, always)[:, :, 0].double().cpu()
        full, empty, value = value[:, :1], value[:, 1:2], value[:, 2:]
        shapley = (full - empty) / n_channels + (value - empty - share * (full - empty)) @ solve.T
        return (shapley / n_times).to(problem.x.dtype)[:, :, None].repeat(1, 1, n_times)

    return problem.by_batch(maps)


def _coalitions(n_channels: int, n_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions, bool (coalition, channel), and their weights in the Shapley kernel, which sum to 1."""
    size = np.arange(1, n_channels)
    mass = 1 / (size * (n_channels - size))  # of all coalitions of a size together
    mass /= mass.sum()
    taken, weights, left = [np.empty((0, n_channels), bool)], [np.empty(0)], n_samples
    for small in range(1, n_channels // 2 + 1):
        both = 1 if 2 * small == n_channels else 2  # this size and its complement's
        count, share = both * comb(n_channels, small), both * mass[small - 1]
        inner = slice(small - 1, n_channels - small)
        rest = mass[inner].sum()
        # All of one channel and all but one are always taken, since they determine the solution.
        if small > 1 and count * rest > left * share:
            drawn = _drawn(size[inner], mass[inner] / rest, n_channels, left // 2, rng)
            taken.append(drawn)
            weights.append(np.full(len(drawn), rest / len(drawn)))
            break
        members = np.array(list(combinations(range(n_channels), small)))
        coalition = (members[:, :, None] == np.arange(n_channels)).any(1)
        taken += [coalition, ~coalition][:both]
        weights.append(np.full(count, share / count))
        left -= count
    return np.concatenate(taken), np.concatenate(weights)


def _drawn(size, probability, n_channels: int, n_pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n_pairs` random coalitions and their complements, bool (2 * n_pairs, channel)."""
    rank = rng.permuted(np.tile(np.arange(n_channels), (n_pairs, 1)), axis=1)
    coalition = rank < rng.choice(size, (n_pairs, 1), p=probability)
    return np.concatenate([coalition, ~coalition])
