"""`attribute`, what it returns, and the register of methods."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.attribution.simplify import explaining
from eegxai_support.decoders import model_input
from eegxai_support.trials import unknown_name

METHODS: dict[str, Method] = {}
DEFAULT_BATCH_SIZE = 64
SMALL_CHANGE = 1e-2  # a change of the output below this share of the outputs themselves is lost in their rounding


class UnsupportedOperation(NotImplementedError):
    """A method has no meaning or no rule for an operation of the network; the message names it."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attribution maps and the evidence for them.

    Parameters
    ----------
    values : ndarray, shape (trial, channel, time)
        The maps.
    multiplier : ndarray, shape (trial, channel, time), optional
        ``values = multiplier * (x - baseline)`` for methods that are linear in their input, else None.
    baseline : ndarray, shape (1 or trial, channel, time), optional
        What the trials were compared with, for methods that compare.
    delta : ndarray, shape (trial,), optional
        ``values.sum((1, 2)) - (f(x) - f(baseline))`` for methods that conserve, else None.
    method : str
        Key of `METHODS`.
    target : object
        The target as it was given.
    """

    values: np.ndarray
    multiplier: np.ndarray | None = None
    baseline: np.ndarray | None = None
    delta: np.ndarray | None = None
    method: str = ""
    target: object = None


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method explains: a scalar function of the trials and the points to compare.

    Parameters
    ----------
    model : torch.nn.Module
        Held still by `explaining`.
    x, baseline : Tensor, shape (trial, channel, time)
    score : callable
        ``(outputs, trial) -> (row,)``: the explained number of each row, `trial` the row's trial index.
    batch_size : int
        Rows per forward pass.
    """

    model: nn.Module
    x: Tensor
    baseline: Tensor
    score: Callable[[Tensor, Tensor], Tensor]
    batch_size: int

    def value(self, x: Tensor, trial: Tensor) -> Tensor:
        """Return f of each row of `x`, shape (row,)."""
        return self.score(self.model(x), trial)

    def gradient(self, x: Tensor, trial: Tensor) -> Tensor:
        """Return the gradient of f at each row of `x`, shape (row, channel, time)."""
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.value(x, trial).sum(), x)[0]

    def by_batch(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Concatenate ``function(trial)`` over batches of trial indices."""
        trials = torch.arange(len(self.x), device=self.x.device).split(self.batch_size)
        return torch.cat([function(trial) for trial in tqdm(trials, unit="batch", delay=2, leave=False)])

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The function at the trials and at their baselines, each (trial,), in float64."""
        with torch.no_grad():
            return tuple(
                self.by_batch(lambda trial, end=end: self.value(end[trial], trial)).double()
                for end in (self.x, self.baseline)
            )

    def delta(self, multiplier: Tensor, trial: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return what a map misses of f(x) - f(baseline), and its share of that change, each (trial,).

        The share is of the change or of 1 % of the outputs, whichever is larger.
        """
        total = (multiplier * (self.x[trial] - self.baseline[trial])).sum((1, 2), dtype=torch.float64)
        at_x, at_baseline = (end[trial] for end in self.ends)
        delta = total - (at_x - at_baseline)
        floor = SMALL_CHANGE * torch.maximum(at_x.abs(), at_baseline.abs())
        scale = torch.maximum((at_x - at_baseline).abs(), floor).clamp(min=torch.finfo(self.x.dtype).tiny)
        return delta, delta.abs() / scale


@dataclass(frozen=True, eq=False)
class Method:
    """What `attribute` needs to know about a method.

    Parameters
    ----------
    compute : callable
        ``(problem, **options) -> Tensor (trial, channel, time)``: the multiplier of a method that is
        linear in its input, else the values.
    reference : str
        Where the method comes from.
    needs_baseline : bool
        The method compares each trial with a baseline.
    conserves : bool
        The values of a trial sum to f(x) - f(baseline); implies `needs_baseline` and `linear_in_input`.
    uses_target : bool
        The map depends on the target.
    linear_in_input : bool
        ``values = multiplier * (x - baseline)``.
    tolerance : float
        Relative delta above which a conserving method warns; an option `tol` takes its place.
    applies_to : callable
        ``model -> bool``.
    """

    compute: Callable[..., Tensor]
    reference: str
    needs_baseline: bool = False
    conserves: bool = False
    uses_target: bool = True
    linear_in_input: bool = False
    tolerance: float = 1e-3
    applies_to: Callable[[nn.Module], bool] = lambda model: True


def register(name: str, **properties) -> Callable:
    """Enter the decorated function into `METHODS` as the `compute` of a method."""

    def enter(compute):
        METHODS[name] = Method(compute, **properties)
        return compute

    return enter


def attribute(model, x, target, method, *, baseline=None, batch_size=None, **options) -> Attribution:
    """Explain a network's output for each trial by a map over channels and time.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (trial, channel, time) to (trial, output). It is explained in eval mode and given back as it was.
    x : ndarray or Tensor, shape (trial, channel, time)
    target : int, array of int (trial,), tuple (int, int) or callable
        Which output is explained, before any softmax: one output, one per trial, the first minus the second of a
        pair, or a function of the outputs ``(row, output) -> (row,)`` that treats each row by itself. A tuple of two
        is always a difference; give one class per trial as a list or an array.
    method : str
        A key of `METHODS`.
    baseline : ndarray or Tensor, shape (channel, time) or (trial, channel, time), optional
        What each trial is compared with; zeros if None.
    batch_size : int, optional
        Rows per forward pass, 64 if None. The result does not depend on it.
    **options
        Of the method: ``n_steps``, ``max_steps``, ``tol`` and ``path`` of "integrated_gradients", ``seed`` of "random".

    Returns
    -------
    Attribution
        float32, or float64 for a float64 model.

    Warns
    -----
    UserWarning
        A trial's map misses more of f(x) - f(baseline) than the method should: its relative delta exceeds 1e-3
        ("deep_lift") or ``tol`` ("integrated_gradients"). Or a map or an output is not finite.

    Raises
    ------
    ValueError
        Unknown method, target out of range, `x` or `baseline` of the wrong shape, a baseline for a method without.
    UnsupportedOperation
        The method has no rule for an operation of the network.
    """
    kind = _lookup(method)
    if not kind.applies_to(model):
        raise UnsupportedOperation(f"{method} does not apply to {type(model).__name__}.")
    if baseline is not None and not kind.needs_baseline:
        raise ValueError(f"{method} takes no baseline; leave it out, or use one of {_names('needs_baseline')}.")
    x = model_input(model, x)
    baseline = _checked_baseline(model, baseline, x)
    batch_size = DEFAULT_BATCH_SIZE if batch_size is None else checked_batch_size(batch_size)
    with explaining(model):
        score = _score(target, *_output_shape(model, x)) if kind.uses_target else None
        problem = Problem(model, x, baseline.expand_as(x), score, batch_size)
        values = multiplier = kind.compute(problem, **options)
        delta, share = problem.delta(multiplier) if kind.conserves else (None, None)
    if kind.linear_in_input:
        values = multiplier * (x - baseline)
    finite = is_finite(values) & share.isfinite() if kind.conserves else is_finite(values)
    if not finite.all():
        _warn_of_not_finite(method, model, finite)
    if kind.conserves:
        _warn_of_delta(method, model, delta, share, options.get("tol", kind.tolerance))
    return Attribution(
        values=values.cpu().numpy(),
        multiplier=multiplier.cpu().numpy() if kind.linear_in_input else None,
        baseline=baseline.cpu().numpy() if kind.linear_in_input else None,
        delta=delta.cpu().numpy().astype(values.cpu().numpy().dtype) if kind.conserves else None,
        method=method,
        target=target,
    )


def _lookup(method: str) -> Method:
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    return METHODS[method]


def _names(flag: str) -> str:
    return ", ".join(name for name, method in METHODS.items() if getattr(method, flag))


def checked_batch_size(batch_size: int) -> int:
    """Return `batch_size` if it is a positive integer."""
    if operator.index(batch_size) < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    return operator.index(batch_size)


def _checked_baseline(model, baseline, x: Tensor) -> Tensor:
    """Return the baseline with three axes, the first of length 1 or one per trial."""
    if baseline is None:
        return x.new_zeros(1, *x.shape[1:])
    baseline = torch.as_tensor(baseline)
    baseline = model_input(model, baseline[None] if baseline.ndim == 2 else baseline, name="baseline")
    if len(baseline) not in (1, len(x)) or baseline.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"baseline has shape {tuple(baseline.shape)}; expected {tuple(x.shape[1:])}, or {tuple(x.shape)} for one"
            " baseline per trial."
        )
    return baseline


def _output_shape(model, x: Tensor) -> tuple[int, int]:
    """Return the numbers of trials and of outputs."""
    with torch.no_grad():
        output = model(x[:1])
    if output.ndim != 2:
        raise ValueError(
            f"The model returns shape {tuple(output.shape)} for one trial; expected (1, output). Average dense"
            " predictions over time first."
        )
    return len(x), output.shape[1]


def _score(target, n_trials: int, n_outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn a target into the function that picks the explained number of each row."""
    if callable(target):
        return partial(_called, target)
    index = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
    if index.dtype.kind not in "iu":
        raise TypeError(
            f"target is {target!r}; expected an output's index, one index per trial, a pair of indices for a"
            " difference, or a function of the outputs."
        )
    if index.size and not 0 <= index.min() <= index.max() < n_outputs:
        raise ValueError(f"target {target!r} is out of range: the model has the outputs 0 … {n_outputs - 1}.")
    if isinstance(target, tuple) and index.shape == (2,):
        return lambda outputs, trial: outputs[:, target[0]] - outputs[:, target[1]]
    if index.shape not in ((), (n_trials,)):
        raise ValueError(f"target has shape {index.shape}; expected one index, or {n_trials}, one per trial.")
    per_trial = torch.as_tensor(np.broadcast_to(index, n_trials).astype(np.int64))
    return lambda outputs, trial: outputs.gather(1, per_trial.to(trial.device)[trial, None])[:, 0]


def _called(target: Callable, outputs: Tensor, trial: Tensor) -> Tensor:
    score = target(outputs)
    if not isinstance(score, Tensor) or score.shape != trial.shape:
        raise ValueError(
            f"The target function returned {getattr(score, 'shape', type(score))} for outputs of shape"
            f" {tuple(outputs.shape)}; expected a tensor of shape {tuple(trial.shape)}, one number per row."
        )
    return score


def is_finite(maps: Tensor) -> Tensor:
    """Return whether all points of each map are finite, shape (trial,)."""
    return maps.isfinite().flatten(1).all(1)


def _warn_of_not_finite(method: str, model: nn.Module, finite: Tensor) -> None:
    warnings.warn(
        f"{method} on {type(model).__name__}: in {int((~finite).sum())} of {len(finite)} trials the map, or the output"
        f" at the trial or its baseline, is not finite; the first is trial {int((~finite).nonzero()[0])}. Look for a"
        " logarithm or root of zero or a division by zero, and choose a baseline away from it.",
        stacklevel=3,
    )


def _warn_of_delta(method: str, model: nn.Module, delta: Tensor, share: Tensor, tolerance: float) -> None:
    share = share.nan_to_num(nan=0.0, posinf=0.0)  # trials that are not finite have a warning of their own
    worst = int(share.argmax())
    if share[worst] > tolerance:
        warnings.warn(
            f"{method} on {type(model).__name__}: in {int((share > tolerance).sum())} of {len(share)} trials the map"
            f" misses more than {tolerance:g} of the change of the output; worst is trial {worst}, delta"
            f" {delta[worst]:.3g}, {share[worst]:.2g} of the change. Do not trust these trials' maps.",
            stacklevel=3,
        )
