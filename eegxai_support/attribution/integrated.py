"""Integrated gradients with a quadrature that is refined trial by trial."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eegxai_support.attribution.problem import Problem, register

PATHS = ("linear", "power")
TOLERANCE = 1e-2


@register(
    "integrated_gradients",
    reference="Sundararajan et al. 2017, ICML",
    needs_baseline=True,
    conserves=True,
    linear_in_input=True,
    tolerance=TOLERANCE,
)
def integrated_gradients(
    problem: Problem, *, n_steps: int = 16, max_steps: int = 512, tol: float = TOLERANCE, path: str | None = None
) -> Tensor:
    """Average the gradient over the straight line from baseline to trial [1]_.

    Gauss-Legendre quadrature, first with the nodes evenly spread and with the nodes spread as t⁴, then, with the
    spread that has the smaller delta, with twice the nodes and so on up to `max_steps`. A trial is left as it is once
    its relative delta is below `tol` and two of its maps differ by less than `tol` in L1, relative to the map: a small
    delta alone says nothing about a map, in which errors of both signs cancel. Of a trial's maps the finest whose delta
    is below `tol` is kept, or else the one with the smallest delta. What is guaranteed is the delta, which is reported;
    that the last two quadratures agree is strong evidence, but no bound on what both of them miss.

    t⁴ crowds the nodes next to the baseline, where log-power changes fastest when the baseline is zero; smoother
    networks do better without. Each trial is refined by itself, so no map depends on the other trials.

    Parameters
    ----------
    problem : Problem
    n_steps, max_steps : int
        Nodes of the first and of the finest quadrature.
    tol : float
        Relative delta and change of the map at which a trial is left as it is; ``numpy.inf`` for `n_steps` nodes, the
        first spread and no refinement.
    path : {"linear", "power"}, optional
        Use only one of the two spreads.

    References
    ----------
    .. [1] Sundararajan, Taly & Yan (2017). Axiomatic attribution for deep networks. ICML.
    """
    if path not in (None, *PATHS):
        raise ValueError(f"path is {path!r}; expected one of {PATHS}, or None for the better of the two.")
    if not 1 <= n_steps <= max_steps:
        raise ValueError(f"n_steps is {n_steps} and max_steps {max_steps}; expected 1 <= n_steps <= max_steps.")
    best = torch.full_like(problem.x, torch.nan)
    error = torch.full((len(best),), torch.nan, dtype=torch.float64)
    change = torch.full_like(error, torch.inf)  # of the map from one quadrature to the next, relative, in L1
    spread = torch.full((len(best),), -1)  # position in PATHS of the best map
    paths, nodes = range(len(PATHS)) if path is None else [PATHS.index(path)], n_steps
    with tqdm(desc="integrated_gradients", unit="gradient", delay=2, leave=False) as bar:
        while nodes <= max_steps:
            for each in paths:
                finished = (error <= tol) & (change <= tol)
                unfinished = (~finished & ((spread == each) | (nodes == n_steps))).nonzero()[:, 0]
                for trial in unfinished.split(max(1, problem.batch_size // nodes)) if len(unfinished) else ():
                    candidate = _mean_gradient(problem, trial, *_nodes(nodes, PATHS[each]), bar)
                    step = problem.x[trial] - problem.baseline[trial]
                    total = (candidate * step).sum((1, 2), dtype=torch.float64)
                    _, candidate_error = problem.delta(total, trial)
                    difference, size = (
                        (maps * step).abs().sum((1, 2)) for maps in (candidate - best[trial], candidate)
                    )
                    # A first map has nothing to differ from, and a map of zeros does not differ from another.
                    known = difference.isfinite()
                    change[trial[known]] = (difference / size).nan_to_num(nan=0.0)[known].double()
                    # Where f itself is not finite the error is NaN: the first finite map stays.
                    better = candidate_error < error[trial]
                    # Of maps whose delta is small enough it says no more which is the better one, but the nodes do.
                    better |= (nodes > n_steps) & (candidate_error <= tol)
                    better |= ~best[trial].isfinite().flatten(1).all(1)
                    index = trial[better]
                    best[index], error[index], spread[index] = candidate[better], candidate_error[better], each
            nodes *= 2
    return best


def _nodes(n_steps: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return positions along the line in (0, 1) and weights that sum to 1."""
    node, weight = np.polynomial.legendre.leggauss(n_steps)
    node, weight = (node + 1) / 2, weight / 2
    return (node, weight) if path == "linear" else (node**4, weight * 4 * node**3)


def _mean_gradient(problem: Problem, trial: Tensor, node: np.ndarray, weight: np.ndarray, bar: tqdm) -> Tensor:
    """Return the weighted mean of the gradient over the nodes of each trial, at most `batch_size` rows at a time."""
    start = problem.baseline[trial, None]
    step = problem.x[trial, None] - start
    mean = torch.zeros_like(problem.x[trial])
    for alpha, share in zip(
        torch.as_tensor(node).to(step).split(problem.batch_size),
        torch.as_tensor(weight).to(step).split(problem.batch_size),
        strict=True,
    ):
        points = (start + alpha[:, None, None] * step).flatten(0, 1)
        gradient = problem.gradient(points, trial.repeat_interleave(len(alpha)))
        gradient = gradient.unflatten(0, (len(trial), len(alpha)))
        mean += torch.einsum("n,tnce->tce", share.to(gradient.device), gradient).to(mean.device)
        bar.update(len(points))
    return mean
