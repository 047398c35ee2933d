"""DeepLIFT by the rescale rule, at the level of torch functions."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from eegxai_support.attribution.operations import Functions, require_eager, runs, same_memory, valued
from eegxai_support.attribution.problem import Maps, Problem, register

OTHER_COURSE = "a forward pass that takes another course for the trial than for its baseline"
TIE = 16  # roundings by which two maxima may differ and count as the same
ROUNDED = 1e-4  # relative delta above which float32 is not enough


class Entry(NamedTuple):
    """What a function did at the baseline."""

    name: str
    operands: tuple[Tensor, ...]
    result: Tensor


class Rescale(Functions):
    """Two passes: the first, at the baseline, is recorded; the second has the slopes between the two as derivatives."""

    method = "deep_lift"

    def __init__(self, tape: list[Entry] | None = None):
        super().__init__()
        self.tape = [] if tape is None else tape
        self.recording = tape is None
        self.position = 0
        self.start = torch.zeros((), requires_grad=True)

    def elementwise(self, function, z, name):
        """Take the slope of the secant."""
        if self.recording:
            return self._recorded(function(z.detach()), name, z)
        (z0,), y0 = self._baseline(name, z)
        with torch.no_grad():
            y = function(z)
            z0, wide = z0.expand_as(y), z.expand_as(y)
            slope = secant(function, wide, z0, y, y0)
        return valued(z * slope, y)

    def product(self, function, a, b, name):
        """Hold each operand at its midpoint for the other one."""
        if self.recording:
            return self._recorded(function(a.detach(), b.detach()), name, a, b)
        (a0, b0), _ = self._baseline(name, a, b)
        with torch.no_grad():
            y, a_mid, b_mid = function(a, b), (a + a0) / 2, (b + b0) / 2
        return valued(function(a, b_mid) + function(a_mid, b), y)

    def maximum(self, pick, x, name):
        """Share the change between the winner at the trial and the winner at the baseline."""
        if self.recording:
            value, index = pick(x.detach())
            return self._recorded(value, name, x, index)
        value, index = pick(x.detach())
        (x0, index0), value0 = self._baseline(name, x, index)
        with torch.no_grad():
            top = torch.maximum(value, value0)
            step = x - x0
            # From the baseline, the maximum first rises at the trial's position, then falls at the baseline's own.
            rise = _share(top - value0, step.gather(-1, index))
            fall = _share(value - top, step.gather(-1, index0))
            # Where positions tie at the baseline, as everywhere at zeros, the trial's winner is one of the baseline's.
            at_index = x0.gather(-1, index)
            same = value0 - at_index <= TIE * torch.finfo(x.dtype).eps * torch.maximum(value0.abs(), at_index.abs())
            rise, fall = rise.masked_fill(same, 1), fall.masked_fill(same, 0)
        return valued(x.gather(-1, index) * rise + x.gather(-1, index0) * fall, value)

    def log_sum_exp(self, x, dim):
        """Take the slopes of exponentials and logarithm, on a scale on which neither overflows."""
        value = x.detach().logsumexp(dim, keepdim=True)
        if self.recording:
            return self._recorded(value, "logsumexp", x)
        (x0,), value0 = self._baseline("logsumexp", x)
        with torch.no_grad():
            scale = torch.maximum(value, value0)  # the same in both passes, or the slopes would not fit together
            total, total0 = (value - scale).exp(), (value0 - scale).exp()
            term, term0 = (x - scale).exp(), (x0 - scale).exp()
            slope = secant(torch.exp, x - scale, x0 - scale, term, term0)
            slope = slope * secant(torch.log, total, total0, value - scale, value0 - scale)
        return valued((x.masked_fill(slope == 0, 0) * slope).sum(dim, keepdim=True), value)

    def before_change(self, x):
        """Copy what the tape holds of a tensor that is about to be overwritten."""
        for i, entry in enumerate(self.tape if self.recording else ()):
            if any(same_memory(operand, x) for operand in (*entry.operands, entry.result)):
                self.tape[i] = Entry(entry.name, tuple(o.clone() for o in entry.operands), entry.result.clone())

    def _recorded(self, result: Tensor, name: str, *operands: Tensor) -> Tensor:
        self.tape.append(Entry(name, tuple(operand.detach() for operand in operands), result.detach()))
        return valued(self.start, result)  # nothing before it needs to be kept

    def _baseline(self, name: str, *operands: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        entry = self.tape[self.position] if self.position < len(self.tape) else None
        self.position += 1
        if (
            entry is None
            or entry.name != name
            or any(o.shape != o0.shape for o, o0 in zip(operands, entry.operands, strict=False))
        ):
            raise self.unsupported(OTHER_COURSE)
        return entry.operands, entry.result


def secant(function: Callable, z: Tensor, z0: Tensor, y: Tensor, y0: Tensor) -> Tensor:
    """Return the slope of an elementwise function between two points, and its derivative where they nearly coincide."""
    step = z - z0
    # Where rounding y - y0 costs more than the derivative at the midpoint misses: at the cube root of the precision.
    near = ~(step.abs() > torch.finfo(z.dtype).eps ** (1 / 3) * torch.maximum(z.abs(), z0.abs()).clamp(max=1))
    slope = (y - y0) / step
    if not near.any():
        return slope
    with torch.enable_grad():
        middle = ((z + z0) / 2).requires_grad_()
        (derivative,) = torch.autograd.grad(function(middle).sum(), middle)
    # A root at 0 or a logarithm's -inf: the points are the same, and no slope is better than an infinite one.
    return torch.where(near, derivative.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), slope)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole == 0, 0, part / whole)


def multipliers(problem: Problem, x: Tensor, baseline: Tensor, trial: Tensor) -> Tensor:
    """Return the DeepLIFT multipliers of rows of trials against rows of baselines."""
    x, baseline = (rows.detach().to(problem.device).requires_grad_() for rows in (x, baseline))
    model = problem.simplified  # made before the modes begin
    with Rescale() as recorded:
        problem.value(baseline, trial, model)
    with Rescale(recorded.tape) as replayed:
        value = problem.value(x, trial, model)
    if replayed.position < len(recorded.tape):
        raise replayed.unsupported(OTHER_COURSE)
    return torch.autograd.grad(value.sum(), x)[0]


@register(
    "deep_lift",
    reference="Shrikumar et al. 2017, ICML",
    needs_baseline=True,
    conserves=True,
    linear_in_input=True,
    tolerance=1e-3,
    applies_to=runs(Rescale),
)
def deep_lift(problem: Problem) -> Tensor:
    """Return DeepLIFT multipliers by the rescale rule [1]_.

    The rule is applied to each torch function that the network calls, whatever module calls it and how often. An
    elementwise function has the slope of its secant between baseline and trial; a product of two activations is
    linear in each with the other one at its midpoint; a maximum is shared between the positions that win at the
    trial and at the baseline, by captum's rule, and where positions tie at the baseline, as at zeros, it is the
    trial's that counts. Everything else is linear, or decomposed into these: softmax into exponentials and
    the logarithm of their sum, layer norm into squares, a root and a product, attention into products and softmax.
    Each step conserves, hence so does the whole, to rounding.

    References
    ----------
    .. [1] Shrikumar, Greenside & Kundaje (2017). Learning important features through propagating activation
       differences. ICML.
    """
    require_eager("deep_lift", problem.model)
    maps = problem.by_batch(lambda trial: multipliers(problem, problem.x[trial], problem.baseline[trial], trial))
    if problem.x.dtype != torch.float64:
        _refine(problem, maps)
    return maps


def _refine(problem: Problem, maps: Tensor) -> None:
    """Compute in float64 the trials of which float32 loses too much, as normalisations at a baseline of zeros can."""
    _, share = problem.delta(problem.sums(Maps(multiplier=maps)))
    lost = (share > ROUNDED).nonzero()[:, 0]
    if not len(lost):
        return
    try:
        double = replace(problem, model=deepcopy(problem.simplified).double())
        double.simplified = double.model

        def exact(rows):
            ends = (end[lost[rows]].double() for end in (problem.x, problem.baseline))
            return multipliers(double, *ends, lost[rows]).to(maps)

        maps[lost] = double.in_batches(exact, len(lost), maps.device)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a model that cannot be copied, or it or its device cannot compute in float64
        return


@register(
    "deep_lift_shap",
    reference="Lundberg & Lee 2017, NeurIPS",
    needs_baseline=True,
    many_baselines=True,
    conserves=True,
    tolerance=1e-3,
    applies_to=runs(Rescale),
)
def deep_lift_shap(problem: Problem) -> Maps:
    """Return the mean over all baselines of the DeepLIFT maps [1]_, which sums to f(x) minus the mean of f(baseline).

    References
    ----------
    .. [1] Lundberg & Lee (2017). A unified approach to interpreting model predictions. NeurIPS.
    """
    require_eager("deep_lift_shap", problem.model)
    n = len(problem.baseline)

    def mean_map(trial):
        x, baseline = problem.x[trial], problem.baseline
        rows = torch.arange(n * len(trial))

        def values(part):
            which, against = rows[part] // n, rows[part] % n
            return multipliers(problem, x[which], baseline[against], trial[which]).cpu() * (
                x[which] - baseline[against]
            )

        mean = torch.zeros_like(x)
        for part in rows.split(problem.batch_size):
            mean.index_add_(0, part // n, values(part) / n)
        return mean

    return Maps(values=problem.by_batch(mean_map))
