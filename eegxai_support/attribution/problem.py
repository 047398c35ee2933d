"""What a method explains, and the register of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.attribution.parted import Parts, parted
from eegxai_support.model import (
    device_of,
    free_memory,
    is_out_of_memory,
    same,
    simplify,
)

METHODS: dict[str, Method] = {}
N_COMPARED = 2  # trials on which a simplified model has to equal the model
SMALL_CHANGE = 1e-2  # a change of the output below this share of the outputs themselves is lost in their rounding


@dataclass(eq=False)
class Problem:
    """A scalar function of each trial, and the points to compare.

    Parameters
    ----------
    model : torch.nn.Module
        A copy in eval mode of the model that is explained.
    x : Tensor, shape (trial, channel, time)
    baseline : Tensor, shape (trial, channel, time), or (n, channel, time) where `many`
        `x` and `baseline` stay on the CPU; what a batch needs goes to the model's device.
    many : bool
        Each trial is compared with all baselines.
    score : callable
        ``(outputs, trial) -> (row,)``: the explained number of each row, `trial` the row's trial index.
    batch_size : int
        Rows per forward pass; halved when a GPU runs out of memory.
    extra : tuple of Tensor
        Further inputs of the model, a row per trial, on the CPU.
    """

    model: nn.Module
    x: Tensor
    baseline: Tensor
    many: bool
    score: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    extra: tuple[Tensor, ...] = ()

    @cached_property
    def simplified(self) -> nn.Module:
        """The same function with fewer operations, for what needs no layer; the model itself where they differ."""
        trial = torch.arange(N_COMPARED) % len(self.x)
        rows = self.x[trial].to(self.device)
        faster = simplify(self.model, self.x, tuple(each[trial] for each in self.extra))
        with torch.no_grad():
            right, made = (self.outputs(rows, trial, network) for network in (self.model, faster))
        return faster if same(made, right, torch.finfo(right.dtype).eps ** 0.5) else self.model

    @cached_property
    def parts(self) -> Parts | None:
        """The simplified model as what is affine in the trials and what comes behind it; None where nothing is."""
        trial = torch.arange(N_COMPARED) % len(self.x)
        extra = tuple(each[trial].to(self.device) for each in self.extra)
        return parted(self.simplified, self.x[trial].to(self.device), extra)

    @cached_property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    def outputs(self, x: Tensor, trial: Tensor, model: Callable[..., Tensor] | None = None) -> Tensor:
        """Return the outputs at each row of `x`, (row, output), `trial` being those whose further inputs go with them.

        By the simplified model, or by `model`, be it a part of it.
        """
        extra = (each[trial.to(each.device)].to(x.device) for each in self.extra)
        return (model or self.simplified)(x.clone(), *extra)  # a model may write into its input

    def value(self, x: Tensor, trial: Tensor, model: Callable[..., Tensor] | None = None) -> Tensor:
        """Return f of each row of `x`, shape (row,), by the simplified model or by `model`."""
        return self.score(self.outputs(x, trial, model), trial)

    def values(self, x: Tensor, trial: Tensor) -> Tensor:
        """Return f of each of any number of rows, shape (row,), without gradients."""
        with torch.no_grad():
            return self.in_batches(lambda rows: self.value(x[rows].to(self.device), trial[rows]), len(x))

    def gradient(self, x: Tensor, trial: Tensor, note: Callable = lambda trial, value: None, model=None) -> Tensor:
        """Return the gradient of f at each of any number of rows, shape (row, channel, time).

        ``note(trial, value)`` is told what f is there. With `model`, the rows are what it takes.
        """

        def gradient(rows):
            leaf = x[rows].detach().to(self.device).requires_grad_()
            value = self.value(leaf, trial[rows], model)
            note(trial[rows], value.detach())
            return torch.autograd.grad(value.sum(), leaf)[0]

        return self.in_batches(gradient, len(x))

    def in_batches(self, function: Callable[[slice], Tensor], n_rows: int, device=None) -> Tensor:
        """Concatenate ``function(rows)`` over slices of at most `batch_size` rows."""
        result, start = None, 0
        while start < n_rows:
            rows = slice(start, min(start + self.batch_size, n_rows))
            try:
                part = function(rows)
            except RuntimeError as error:
                if self.batch_size == 1 or not is_out_of_memory(error):
                    raise
                part = None  # the error holds what the pass had in memory until this block ends
            if part is None:
                self.batch_size //= 2
                free_memory()
                continue
            if rows == slice(0, n_rows) and device in (None, part.device):
                return part
            if result is None:
                result = part.new_empty(n_rows, *part.shape[1:], device=device)
            result[rows] = part
            start = rows.stop
        return result

    def by_batch(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Concatenate ``function(trial)`` over batches of trial indices, in the memory where `x` is."""
        trials = torch.arange(len(self.x))
        with tqdm(total=len(trials), unit="trial", delay=2, leave=False) as bar:

            def shown(rows):
                part = function(trials[rows])
                bar.update(rows.stop - rows.start)
                return part

            return self.in_batches(shown, len(trials), self.x.device)

    def draws(self, seed: int, trial: Tensor) -> Iterator[np.random.Generator]:
        """Return a random generator for each trial, so that no trial's draws depend on the batch."""
        return (np.random.default_rng((seed, int(each))) for each in trial)

    @cached_property
    def at_baselines(self) -> Tensor:
        """The outputs at all baselines, shape (baseline, output).

        With the further inputs of each one's trial, where there are as many; else with those of the first.
        """
        of_each = not self.many and len(self.baseline) == len(self.x)
        return self._outputs_at_baselines(torch.arange(len(self.x)) if of_each else 0)

    def scores_at_baselines(self, trial: int) -> Tensor:
        """Return f of a trial at all baselines, with its own further inputs, shape (baseline,)."""
        outputs = self._outputs_at_baselines(trial) if self.extra else self.at_baselines
        return self.score(outputs, torch.full((len(outputs),), trial))

    def _outputs_at_baselines(self, trial: int | Tensor) -> Tensor:
        own = torch.as_tensor(trial).expand(len(self.baseline))
        with torch.no_grad():
            return self.in_batches(
                lambda rows: self.outputs(self.baseline[rows].to(self.device), own[rows]), len(self.baseline)
            )

    @cached_property
    def at_x(self) -> Tensor:
        """The function at the trials, shape (trial,) in float64."""
        return self.values(self.x, torch.arange(len(self.x))).cpu().double()

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The function at the trials and at their baselines, the mean of many, each (trial,) in float64."""
        if not self.many:
            return self.at_x, self._at_own_baseline().cpu().double()
        with torch.no_grad():
            mean = [self.scores_at_baselines(each).cpu().double().mean() for each in range(len(self.x))]
        return self.at_x, torch.stack(mean)

    def _at_own_baseline(self) -> Tensor:
        trial = torch.arange(len(self.x))
        if self.baseline.stride(0) or self.extra:
            return self.values(self.baseline, trial)
        with torch.no_grad():  # one row that all trials share
            output = self.outputs(self.baseline[:1].to(self.device), trial[:1])
            return self.score(output.expand(len(trial), -1), trial)

    def sums(self, maps: Maps) -> Tensor:
        """Return the sum of each map, shape (trial,) in float64, without holding all values."""
        return self.sums_and_zeros(maps)[0]

    def sums_and_zeros(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Return the sum of each map and whether it is zero everywhere, each (trial,), without holding all values."""
        sums = torch.empty(len(self.x), dtype=torch.float64)
        zero = torch.empty(len(self.x), dtype=torch.bool)
        for start in range(0, len(sums), self.batch_size):
            rows = slice(start, start + self.batch_size)
            if maps.multiplier is None:
                values = maps.values[rows]
            else:
                values = maps.multiplier[rows] * (self.x[rows] - self.baseline[rows])
            sums[rows] = values.flatten(1).sum(1, dtype=torch.float64)
            zero[rows] = ~values.flatten(1).any(1)
        return sums, zero

    def delta(self, total: Tensor, trial: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return what maps that sum to `total` miss of f(x) - f(baseline), and its share of it, each (trial,).

        The share is of the change or of 1 % of the outputs, whichever is larger.
        """
        at_x, at_baseline = (end[trial] for end in self.ends)
        delta = total.cpu() - (at_x - at_baseline)
        floor = SMALL_CHANGE * torch.maximum(at_x.abs(), at_baseline.abs())
        scale = torch.maximum((at_x - at_baseline).abs(), floor).clamp(min=torch.finfo(self.x.dtype).tiny)
        return delta, delta.abs() / scale


@dataclass(frozen=True, eq=False)
class Maps:
    """What a method found: the multiplier where the values are ``multiplier * (x - baseline)``, else the values.

    Parameters
    ----------
    multiplier, values : Tensor, shape (trial, channel, time), optional
        One of the two.
    standard_error : Tensor, shape (trial,), optional
        Of the sum of each map, where it is a mean over random draws.
    kept : Tensor, shape (trial,), optional
        What of the output did not go to the trial but stayed with biases and constants, in float64; None where the
        method promises nothing of the kind.
    report : pandas.DataFrame, optional
        A row per layer.
    """

    multiplier: Tensor | None = None
    values: Tensor | None = None
    standard_error: Tensor | None = None
    kept: Tensor | None = None
    report: pd.DataFrame | None = field(default=None)


@dataclass(frozen=True, eq=False)
class Method:
    """What `attribute` needs to know about a method.

    Parameters
    ----------
    compute : callable
        ``(problem, **options) -> Maps``, or a Tensor (trial, channel, time): the multiplier of a method that is
        linear in its input, else the values.
    reference : str
        Where the method comes from.
    needs_baseline : bool
        The method compares each trial with a baseline.
    many_baselines : bool
        The method compares each trial with every baseline given, whatever their number.
    conserves : bool
        The values of a trial sum to f(x) - f(baseline); implies `needs_baseline`.
    uses_target : bool
        The map depends on the target.
    uses_gradient : bool
        The outputs need a derivative with respect to the trials.
    linear_in_input : bool
        ``values = multiplier * (x - baseline)``.
    tolerance : float
        Relative delta above which a conserving method warns; an option `tol` takes its place.
    applies_to : callable
        ``model -> bool``.
    """

    compute: Callable[..., Tensor | Maps]
    reference: str
    needs_baseline: bool = False
    many_baselines: bool = False
    conserves: bool = False
    uses_target: bool = True
    uses_gradient: bool = True
    linear_in_input: bool = False
    tolerance: float = 1e-3
    applies_to: Callable[[nn.Module], bool] = lambda model: True


def register(name: str, **properties) -> Callable:
    """Enter the decorated function into `METHODS` as a method; `attribute` then takes its name.

    The function is called with a `Problem` and the options that `attribute` was given, and returns a tensor
    (trial, channel, time), the values or, where the method is linear in its input, the multiplier; or `Maps`.

    Parameters
    ----------
    name : str
        Key of `METHODS`. A function of the same module may take it again, as does the cell of a notebook that is run
        twice.
    **properties
        Of `Method`; ``reference`` is needed.

    Returns
    -------
    callable
        Decorator that returns the function as it is.

    Raises
    ------
    ValueError
        The name is that of another module's method.
    """

    def enter(compute):
        taken = METHODS[name].compute.__module__ if name in METHODS else compute.__module__
        if taken != compute.__module__:
            raise ValueError(f"{name!r} is the name of a method of {taken}; register yours under another one.")
        METHODS[name] = Method(compute, **properties)
        return compute

    return enter
