"""DeepLIFT by the rescale rule, at the level of torch functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from eegxai_support.attribution.operations import MAX_POOLS, Functions, require_eager, runs, same_memory, sloped, valued
from eegxai_support.attribution.problem import Maps, Problem, register
from eegxai_support.model import UnsupportedOperation, dtype_of

OTHER_COURSE = "a forward pass that takes another course for the trial than for its baseline"
MAXIMA = MAX_POOLS | {"amax", "max"}
BROADCAST = {"clamp", "clamp_max", "clamp_min", "clip", "float_power", "maximum", "minimum", "pow", "prelu", "rpow"}
ROUNDED = 1e-4  # relative delta above which float32 is not enough
TIE = 2 / 3  # power of the precision by which two maxima may differ, relative to the layer's largest, and be the same
ZERO = 1e-30  # what stands for the largest pooled magnitude of a layer where all are zero


class Entry(NamedTuple):
    """What a function did at the baseline."""

    name: str
    operands: tuple[Tensor, ...]
    result: Tensor


class Rescale(Functions):
    """Two passes: the first, at the baseline, is recorded; the second has the slopes between the two as derivatives."""

    method = "deep_lift"

    def __init__(self, tape: list[Entry] | None = None, pooled: Iterable[tuple[Tensor, Tensor]] = ()):
        super().__init__()
        self.tape = [] if tape is None else tape
        self.pooled = iter(pooled)  # operand and result of each maximum at the baseline in float64
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
            slope = secant(function, z.expand_as(y), z0, y, y0, apart=name not in BROADCAST)
        return sloped(z.expand_as(y), slope, y.clone() if same_memory(y, z) else y)

    def product(self, function, a, b, name):
        """Hold each operand at its midpoint for the other one."""
        if self.recording:
            return self._recorded(function(a.detach(), b.detach()), name, a, b)
        (a0, b0), _ = self._baseline(name, a, b)
        with torch.no_grad():
            y, a_mid, b_mid = function(a, b), (a + a0) / 2, (b + b0) / 2
        return valued(function(a, b_mid) + function(a_mid, b), y)

    def maximum(self, pick, x, name):
        """Share the change between the winner at the trial and the winner at the baseline.

        A constant baseline makes all positions of a window equal but for rounding, since each adds up the same terms
        in another order. In float32, rounding is as large as what tells positions truly apart, and relative to one
        feature it has no bound, because a feature may be the small difference of large terms. In float64, relative to
        the largest maximum of the layer, there are many orders of magnitude between the two, and `room` is one in
        their middle. Of positions that tie at the baseline the one counts where the trial is largest: adding to the
        baseline a summand of the size of `room`, in the order of the trial, decides ties and nothing else.
        """
        if self.recording:
            return self._recorded(pick(x.detach())[0], name, x)
        value, index = pick(x)
        (x0,), value0 = self._baseline(name, x)
        with torch.no_grad():
            exact, exact_value = self._exact(x, x0, value0)
            room = _largest(exact_value) * torch.finfo(exact.dtype).eps ** TIE
            tied = exact.expand_as(x).gather(-1, index.to(exact.device)) >= exact_value - room
            if tied.all():  # as everywhere at zeros without padding
                return value
            order = torch.atan(x / _largest(value)).to(exact.device)
            index0 = torch.where(tied, index.to(exact.device), pick(exact + room * order)[1]).to(index.device)
            x0 = x0.expand_as(x)
            step, value0 = x - x0, x0.gather(-1, index0)
            top = torch.maximum(value, value0)
            # From the baseline, the maximum first rises at the trial's position, then falls at the baseline's own.
            rise = _share(top - value0, step.gather(-1, index))
            fall = _share(value - top, step.gather(-1, index0))
            same = index == index0
            rise, fall = rise.masked_fill(same, 1), fall.masked_fill(same, 0)
        return valued(x.gather(-1, index) * rise + x.gather(-1, index0) * fall, value.detach())

    def _exact(self, x: Tensor, x0: Tensor, value0: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a maximum chooses from at the baseline and what it chooses, in float64 where that is known."""
        operand, result = next(self.pooled, (x0, value0))
        if not _one_row_or_all(operand, x):
            operand, result = x0, value0
        return (operand, result) if not x.is_cuda else (operand.to(x.device), result.to(x.device))

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
        fits = entry is not None and entry.name == name and all(map(_one_row_or_all, entry.operands, operands))
        if not fits:
            raise self.unsupported(OTHER_COURSE)
        return entry.operands, entry.result


class Maxima(Rescale):
    """A pass at the baseline that records maxima only."""

    def maximum(self, pick, x, name):
        """Record from what the maximum is taken."""
        return super()._recorded(pick(x.detach())[0], name, x)

    def _recorded(self, result: Tensor, name: str, *operands: Tensor) -> Tensor:
        return valued(self.start, result)


class Constants(TorchFunctionMode):
    """Hold what torch takes from the type of its input at what it is for another type."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.eps = torch.finfo(dtype).eps

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.__name__ == "rms_norm" and kwargs.get("eps", (*args, None, None, None)[3]) is None:
            args, kwargs = args[:3], {**kwargs, "eps": self.eps}
        return function(*args, **kwargs)


def secant(function: Callable, z: Tensor, z0: Tensor, y: Tensor, y0: Tensor, apart: bool = False) -> Tensor:
    """Return the slope of an elementwise function between two points, and its derivative where they nearly coincide.

    `z` and `y` have one shape, to which `z0` and `y0` are broadcast. `apart` says that the function may be taken of
    some of the numbers alone.
    """
    step = z - z0
    # Where rounding y - y0 costs more than the derivative at the midpoint misses: at the cube root of the precision.
    reach = z0.abs().clamp_(max=1).mul_(torch.finfo(z.dtype).eps ** (1 / 3))
    near = (step.abs() > reach).logical_not_()
    slope = (y - y0).div_(step)
    where = near.nonzero(as_tuple=True) if apart else ...
    middle = (z[where] + z0.expand_as(z)[where]) / 2
    if not middle.numel() or not (apart or near.any()):
        return slope
    with torch.enable_grad():
        middle.requires_grad_()
        (derivative,) = torch.autograd.grad(function(middle).sum(), middle)
    # A root at 0 or a logarithm's -inf: the points are the same, and no slope is better than an infinite one.
    derivative = derivative.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return slope.index_put_(where, derivative) if apart else torch.where(near, derivative, slope)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole == 0, 0, part / whole).clamp(0, 1)  # beyond only where rounding decides


def _largest(value: Tensor) -> Tensor:
    """Return the largest finite magnitude of each row, with the axes of `value`."""
    finite = value.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs()
    return finite.amax(tuple(range(1, value.ndim)), keepdim=True).clamp(min=ZERO)


def _one_row_or_all(recorded: Tensor, x: Tensor) -> bool:
    """Whether a tensor of the baseline has the shape of the trials' one, but for an axis of one row for all."""
    sizes = {pair for pair in zip(recorded.shape, x.shape, strict=False) if pair[0] != pair[1]}
    return recorded.ndim == x.ndim and len(sizes) <= 1 and all(size == 1 for size, _ in sizes)


class Lift:
    """DeepLIFT of a problem, with what all batches share.

    A baseline that all trials share is passed through the network once, not once per trial. That is right as long as
    each tensor on the way has an axis of trials and nothing else, which the second pass checks. Where trials share an
    axis with, say, frequency bands, the tensors of one row cannot be matched with those of many without knowing the
    order, and the baseline is repeated.

    Parameters
    ----------
    problem : Problem
    constants : torch.dtype, optional
        Type whose precision torch's functions take for their constants; the model's if None.
    """

    def __init__(self, problem: Problem, constants: torch.dtype | None = None):
        self.problem, self.model = problem, problem.simplified  # made before the modes begin
        self.dtype = dtype_of(self.model)
        self.constants = constants or self.dtype
        self.one_row = True
        self.at_x = torch.full((len(problem.x),), torch.nan, dtype=torch.float64)

    @cached_property
    def exact(self) -> Lift | None:
        """The same in float64 on the CPU, with the same constants; None for a model that cannot be copied."""
        try:
            double = replace(self.problem, model=deepcopy(self.model).cpu().double())
        except Exception:
            return None
        double.simplified = double.model
        return Lift(double, self.constants)

    def multipliers(self, x: Tensor, baseline: Tensor, trial: Tensor) -> Tensor:
        """Return the multipliers of rows of trials against as many rows of baselines, or against a single one."""
        one_row = self.one_row and len(baseline) == 1
        x, start = (self._leaf(rows) for rows in (x, baseline.expand_as(x)))
        with Rescale() as recorded:
            self._value(start, trial, one_row)
        pools = any(entry.name in MAXIMA for entry in recorded.tape)
        pooled = self.exact.maxima(start, trial, one_row) if pools and self._rounds else ()
        try:
            with Rescale(recorded.tape, pooled) as replayed:
                value = self._value(x, trial)
            if replayed.position < len(recorded.tape):
                raise replayed.unsupported(OTHER_COURSE)
        except UnsupportedOperation:
            if not one_row:
                raise
            self.one_row = False
            return self.multipliers(x, baseline, trial)
        if not replayed.decomposed:  # into functions that may be wrong together with their rules
            self.at_x[trial] = value.detach().cpu().double()
        return torch.autograd.grad(value.sum(), x)[0]

    def maxima(self, baseline: Tensor, trial: Tensor, one_row: bool) -> list[tuple[Tensor, Tensor]]:
        """Return what each maximum chooses from and chooses at the baseline; nothing where float64 fails."""
        start = self._leaf(baseline)
        try:
            with Maxima() as recorded:
                self._value(start, trial, one_row)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            return []
        return [(entry.operands[0], entry.result) for entry in recorded.tape]

    @property
    def _rounds(self) -> bool:
        return self.dtype != torch.float64 and self.exact is not None

    def _leaf(self, rows: Tensor) -> Tensor:
        return rows.detach().to(self.problem.device).to(self.dtype).requires_grad_()

    def _value(self, rows: Tensor, trial: Tensor, one_row: bool = False) -> Tensor:
        with Constants(self.constants):
            return self.problem.value(rows, trial, _first_row_for_all(self.model) if one_row else self.model)


def _first_row_for_all(model: nn.Module) -> Callable[..., Tensor]:
    """Return a model that computes the first row only and repeats its outputs, where it is given nothing but rows."""

    def outputs(x, *others):
        if others:
            return model(x, *others)
        first = model(x[:1])
        return first.expand(len(x), *first.shape[1:]).clone()

    return outputs


def _refined(problem: Problem, compute: Callable[[Lift, Tensor], Tensor], values: Callable) -> Tensor:
    """Return ``compute(lift, trial)`` of all trials, in float64 where float32 loses too much of the change.

    Normalisations at a baseline of zeros can lose it. A network may be another function in float64, where its forward
    pass asks for the precision of its input: a map is replaced only by one that misses less of the change of the
    output of the network as it was given. ``values(maps, trial)`` are the values that sum to the change.
    """
    lift = Lift(problem)
    maps = problem.by_batch(lambda trial: compute(lift, trial))
    if not lift.at_x.isnan().any():
        problem.at_x = lift.at_x  # which the receipt asks for, and need not be computed again
    if not lift._rounds:
        return maps
    every = torch.arange(len(maps))
    total = problem.in_batches(lambda rows: _total(values(maps[rows], every[rows])), len(maps))
    _, share = problem.delta(total)
    lost = (share > ROUNDED).nonzero()[:, 0]

    def replaced(rows):
        trial = lost[rows]
        exact = compute(lift.exact, trial).to(maps)
        _, exact_share = problem.delta(_total(values(exact, trial)), trial)
        better = exact_share < share[trial]
        maps[trial[better]] = exact[better]
        return better

    try:
        lift.exact.problem.in_batches(replaced, len(lost))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a model that cannot compute in float64
        pass
    return maps


def _total(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1, dtype=torch.float64)


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
    trial and at the baseline, by captum's rule, and of positions that tie at the baseline, as at zeros, it is the one
    where the trial is largest that counts. Ties are decided in float64, so that rounding has no say in them.
    Everything else is linear, or decomposed into these: softmax into exponentials and
    the logarithm of their sum, layer norm into squares, a root and a product, attention into products and softmax.
    Each step conserves, hence so does the whole, to rounding. A trial of which float32 loses more than 1e-4 of the
    change of the output is computed again in float64, on the CPU.

    References
    ----------
    .. [1] Shrikumar, Greenside & Kundaje (2017). Learning important features through propagating activation
       differences. ICML.
    """
    require_eager("deep_lift", problem.model)
    shared = problem.baseline.stride(0) == 0

    def compute(lift, trial):
        return lift.multipliers(problem.x[trial], problem.baseline[:1] if shared else problem.baseline[trial], trial)

    return _refined(problem, compute, lambda maps, trial: maps * (problem.x[trial] - problem.baseline[trial]))


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

    def compute(lift, trial):
        mean = problem.x.new_zeros(len(trial), *problem.x.shape[1:], dtype=lift.dtype)
        for row in torch.arange(n * len(trial)).split(lift.problem.batch_size):
            against, which = row // len(trial), row % len(trial)  # a full batch of trials has one baseline
            baseline = problem.baseline[against[:1] if against[0] == against[-1] else against]
            x = problem.x[trial[which]]
            values = lift.multipliers(x, baseline, trial[which]).to(mean.device) * (x - baseline)
            mean.index_add_(0, which, values / n)
        return mean

    return Maps(values=_refined(problem, compute, lambda maps, trial: maps))
