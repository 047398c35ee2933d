"""Gradients averaged over random draws, each trial with its own generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eegxai_support.attribution.problem import Maps, Problem, register

DENSE = 5  # draws per baseline from which on those of the same baseline are the better neighbours


@register("smooth_grad", reference="Smilkov et al. 2017, arXiv:1706.03825")
def smooth_grad(problem: Problem, *, n_samples: int = 50, noise_level: float = 0.7, seed: int = 0) -> Tensor:
    """Average the gradient over Gaussian noise added to the trial [1]_.

    Parameters
    ----------
    problem : Problem
    n_samples : int
        Noises per trial.
    noise_level : float
        Standard deviation of the noise in those of the trial, taken over channels and time. The source advises 0.1 to
        0.2 of the trial's range; a tenth is about 0.7 standard deviations for a normal signal of 1000 samples.
    seed : int

    References
    ----------
    .. [1] Smilkov, Thorat, Kim, Viégas & Wattenberg (2017). SmoothGrad: removing noise by adding noise.
       arXiv:1706.03825.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}; expected at least 1.")
    if not 0 <= noise_level < np.inf:
        raise ValueError(f"noise_level is {noise_level}; expected a finite number, 0 or above.")

    def mean_gradient(trial):
        x = problem.x[trial, None]
        scale = noise_level * x.std((1, 2, 3), correction=0, keepdim=True)
        generators, total = list(problem.draws(seed, trial)), 0
        for draw in torch.arange(n_samples).split(max(1, problem.batch_size // len(trial))):
            shape = len(draw), *x.shape[2:]
            noise = np.stack([each.standard_normal(shape, dtype="float32") for each in generators])
            points = (x + scale * torch.as_tensor(noise).to(x)).flatten(0, 1)
            gradient = problem.gradient(points, trial.repeat_interleave(len(draw)))
            total = total + gradient.unflatten(0, (len(trial), len(draw))).sum(1)
        return total / n_samples

    return problem.by_batch(mean_gradient)


@register(
    "expected_gradients",
    reference="Erion et al. 2021, Nature Machine Intelligence",
    needs_baseline=True,
    many_baselines=True,
    conserves=True,
    tolerance=1e-2,
)
def expected_gradients(problem: Problem, *, n_samples: int = 100, seed: int = 0) -> Maps:
    """Average integrated gradients over all baselines by drawing a baseline and a position for each gradient [1]_.

    A draw is ``(x - b) * grad f(b + alpha (x - b))``. The positions are stratified: one in each of `n_samples` equal
    parts of (0, 1). Each baseline is drawn as often as any other, once over in every run of consecutive parts. The
    method is also known as GradientSHAP.

    Parameters
    ----------
    problem : Problem
    n_samples : int
        Draws per trial, rounded up to a multiple of the number of baselines where it is larger than that.
    seed : int

    References
    ----------
    .. [1] Erion, Janizek, Sturmfels, Lundberg & Lee (2021). Improving performance of deep learning models with
       axiomatic attribution priors and expected gradients. Nature Machine Intelligence 3, 620-631.
    """
    if n_samples < 2:
        raise ValueError(f"n_samples is {n_samples}; expected at least 2, to tell how far the draws scatter.")
    n_baselines = len(problem.baseline)
    if n_samples > n_baselines:
        n_samples = -(-n_samples // n_baselines) * n_baselines
    error = torch.zeros(len(problem.x), dtype=torch.float64)

    def mean_draw(trial):
        draws = [_draw(n_baselines, n_samples, rng) for rng in problem.draws(seed, trial)]
        chosen, alpha = (torch.as_tensor(np.stack(each)) for each in zip(*draws, strict=True))
        x, at_once = problem.x[trial, None].to(problem.device), max(1, problem.batch_size // len(trial))
        mean, totals = 0, []
        for baseline, position in zip(chosen.split(at_once, 1), alpha.split(at_once, 1), strict=True):
            start = problem.baseline[baseline].to(problem.device)
            step = x - start
            points = (start + position.to(x)[:, :, None, None] * step).flatten(0, 1)
            gradient = problem.gradient(points, trial.repeat_interleave(baseline.shape[1]))
            step *= gradient.unflatten(0, baseline.shape)
            mean = mean + step.sum(1) / n_samples
            totals.append(step.sum((2, 3), dtype=torch.float64).cpu())
        at_baseline = torch.stack([problem.scores_at_baselines(int(each)) for each in trial])
        error[trial] = _standard_error(torch.cat(totals, 1), at_baseline.double().cpu(), chosen)
        return mean

    return Maps(values=problem.by_batch(mean_draw), standard_error=error)


def _draw(n_baselines: int, n_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return which baseline and which position each draw takes, each (n_samples,), positions in ascending order."""
    n_rounds = -(-n_samples // n_baselines)
    chosen = rng.permuted(np.tile(np.arange(n_baselines), (n_rounds, 1)), axis=1).ravel()[:n_samples]
    return chosen, (np.arange(n_samples) + rng.random(n_samples)) / n_samples


def _standard_error(total: Tensor, at_baseline: Tensor, chosen: Tensor) -> Tensor:
    """Return the standard error of the mean of `total`, (trial, draw), from what its neighbours differ by, (trial,).

    Half the mean squared difference of neighbours is their variance where they come from the same distribution, and
    more than that where there is a trend, so the standard error is rather too large than too small.
    """
    n_samples, n_baselines = total.shape[1], at_baseline.shape[1]
    # The mean of a draw over its position is f(x) - f(b). Without it only the scatter from the position is left.
    rest = total + at_baseline.gather(1, chosen)
    if n_samples >= DENSE * n_baselines:
        rounds = (-1, n_baselines)
        rest = rest.unflatten(1, rounds).gather(2, chosen.unflatten(1, rounds).argsort(2))
    variance = rest.diff(dim=1).square().flatten(1).mean(1) / 2
    if n_samples < n_baselines:  # drawn without replacement
        variance += (1 - n_samples / n_baselines) * at_baseline.var(1)
    return (variance / n_samples).sqrt()
