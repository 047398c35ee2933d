"""Integrated gradients with a quadrature that is refined trial by trial."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eegxai_support.attribution.problem import Problem, register

PATHS = ("linear", "power", "exponential")
TRIED = ("linear", "exponential")  # where no path is asked for
SPAN = 8.0  # logarithm of how much denser the nodes are at the baseline than at the trial, spread exponentially
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

    Gauss-Legendre quadrature, first with the nodes evenly spread and with the nodes spread as exp(8 t), then, with the
    spread that has the smaller delta, with twice the nodes and so on up to `max_steps`; the last time with both where
    the delta is still above `tol`. A trial is left as it is once its relative delta is below `tol` and two of its maps
    differ by less than `tol` in L1, relative to the map: a small delta alone says nothing about a map, in which errors
    of both signs cancel. Of a trial's maps the finest whose delta is below `tol` is kept, or else the one with the
    smallest delta. What is guaranteed is the delta, which is reported; that the last two quadratures agree is strong
    evidence, but no bound on what both of them miss.

    exp(8 t) crowds the nodes next to the baseline, where log-power changes fastest when the baseline is zero: equal
    numbers of them lie in equal ratios of amplitudes. Smoother networks do better without. Each trial is refined by
    itself, so no map depends on the other trials.

    A part of the network that is affine in the trials, as the filters of most decoders are, makes a line of a line. It
    is passed at the two ends alone, and the gradient comes back through it once for all nodes.

    Parameters
    ----------
    problem : Problem
    n_steps, max_steps : int
        Nodes of the first and of the finest quadrature.
    tol : float
        Relative delta and change of the map at which a trial is left as it is; ``numpy.inf`` for `n_steps` nodes, the
        first spread and no refinement.
    path : {"linear", "exponential", "power"}, optional
        Use only one spread; "power" is t⁴.

    References
    ----------
    .. [1] Sundararajan, Taly & Yan (2017). Axiomatic attribution for deep networks. ICML.
    """
    if path not in (None, *PATHS):
        raise ValueError(f"path is {path!r}; expected one of {PATHS}, or None for the better of {TRIED}.")
    if not 1 <= n_steps <= max_steps:
        raise ValueError(f"n_steps is {n_steps} and max_steps {max_steps}; expected 1 <= n_steps <= max_steps.")
    paths = TRIED if path is None else (path,)
    every = torch.arange(len(problem.x))
    with tqdm(desc="integrated_gradients", total=len(every), unit="trial", delay=2, leave=False) as bar:

        def of_batch(rows):
            maps = []
            for trial in every[rows].split(max(1, problem.batch_size // n_steps)):
                maps.append(_refined(Line(problem, trial), paths, n_steps, max_steps, tol))
                bar.update(len(trial))
            return torch.cat(maps)

        return problem.in_batches(of_batch, len(every), problem.x.device)


def _refined(line: Line, paths: tuple[str, ...], n_steps: int, max_steps: int, tol: float) -> Tensor:
    """Return the mean gradient along the line of each trial, by as many nodes as it needs."""
    trial, step = line.trial, line.of_trials
    best = torch.full_like(step, torch.nan)
    error = torch.full((len(best),), torch.nan, dtype=torch.float64)
    change = torch.full_like(error, torch.inf)  # of the map from one quadrature to the next, relative, in L1
    spread = torch.full((len(best),), -1)  # position in `paths` of the best map
    nodes = n_steps
    while nodes <= max_steps:
        for each, path in enumerate(paths):
            finished = (error <= tol) & (change <= tol)
            # Where max pooling makes the gradient jump, no spread is better at every number of nodes: at last, all.
            asked = (spread == each) | (nodes == n_steps) | ((2 * nodes > max_steps) & ~(error <= tol))
            open_ = (~finished & asked).nonzero()[:, 0]
            if not len(open_):
                continue
            candidate = line.mean_gradient(open_, *_nodes(nodes, path))
            total = (candidate * step[open_]).sum((1, 2), dtype=torch.float64)
            _, candidate_error = line.problem.delta(total, trial[open_])
            difference, size = ((maps * step[open_]).abs().sum((1, 2)) for maps in (candidate - best[open_], candidate))
            # A first map has nothing to differ from, and a map of zeros does not differ from another.
            known = difference.isfinite()
            change[open_[known]] = (difference / size).nan_to_num(nan=0.0)[known].double()
            # Where f itself is not finite the error is NaN: the first finite map stays.
            better = candidate_error < error[open_]
            # Of maps whose delta is small enough it says no more which is the better one, but the nodes do.
            better |= (nodes > n_steps) & (candidate_error <= tol)
            better |= ~best[open_].isfinite().flatten(1).all(1)
            index = open_[better]
            best[index], error[index], spread[index] = candidate[better], candidate_error[better], each
        nodes *= 2
    return best


class Line:
    """The straight lines from baselines to some trials, behind the part of the network that is affine in them.

    There a line is a line as well, so this part is needed at the two ends alone, and the way back through it once for
    the mean of all gradients.

    Parameters
    ----------
    problem : Problem
    trial : Tensor of int, shape (trial,)
    """

    def __init__(self, problem: Problem, trial: Tensor):
        self.problem, self.trial, self.behind = problem, trial, None
        x, baseline = problem.x[trial], problem.baseline[trial]
        self.of_trials = x - baseline
        self.x = self.end = x.detach().to(problem.device).requires_grad_()
        self.start = baseline.to(problem.device)
        if problem.parts is not None:
            self.behind = problem.parts.behind
            self.end = problem.outputs(self.x, trial, problem.parts.before)
            self.start = problem.outputs(self.start, trial, problem.parts.before)
        # Points along a line are made and summed up with their axes as they lie in memory, the trials' first.
        order = sorted(range(self.end.ndim), key=lambda axis: (axis > 0, -self.end.stride(axis)))
        self.order, self.inverse = order, np.argsort(order).tolist()
        self.start = self.start.permute(order).contiguous()
        self.step = self.end.detach().permute(order) - self.start

    def mean_gradient(self, which: Tensor, node: np.ndarray, weight: np.ndarray) -> Tensor:
        """Return the weighted mean of the gradient of f over the nodes of some of the trials, (which, channel, time).

        At most `batch_size` rows go through the network at a time.
        """
        node, weight = (torch.as_tensor(each).to(self.step) for each in (node, weight))
        mean, batch_size = torch.zeros_like(self.step), self.problem.batch_size
        for rows in which.split(max(1, batch_size // len(node))):
            start, step, trial = (each[rows, None] for each in (self.start, self.step, self.trial))
            for alpha, share in zip(node.split(batch_size), weight.split(batch_size), strict=True):
                points = torch.addcmul(start, alpha.view(-1, *(1,) * (step.ndim - 2)), step)
                of_points = trial.expand(-1, len(alpha)).flatten()
                points = points.flatten(0, 1).permute(self.inverse)
                gradient = self.problem.gradient(points, of_points, model=self.behind).permute(self.order)
                mean[rows] += (share @ gradient.reshape(len(rows), len(alpha), -1)).view_as(mean[rows])
        mean = mean.permute(self.inverse)
        return torch.autograd.grad(self.end, self.x, mean, retain_graph=True)[0][which].to(self.of_trials.device)


def _nodes(n_steps: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return positions along the line in (0, 1) and weights that sum to 1."""
    node, weight = np.polynomial.legendre.leggauss(n_steps)
    node, weight = (node + 1) / 2, weight / 2
    if path == "power":
        node, weight = node**4, weight * 4 * node**3
    elif path == "exponential":
        node, weight = np.expm1(SPAN * node) / np.expm1(SPAN), weight * np.exp(SPAN * node)
    return node, weight / weight.sum()
