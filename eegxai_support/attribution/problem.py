"""What a method explains, and the register of methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.model import device_of, free_memory, is_out_of_memory, same, simplify

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
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)

    def outputs(self, x: Tensor, trial: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return the outputs at each row of `x`, (row, output), `trial` being those whose further inputs go with them.

        By the simplified model, or by `model`.
        """
        extra = (each[trial.to(each.device)].to(x.device) for each in self.extra)
        return (model or self.simplified)(x.clone(), *extra)  # a model may write into its input

    def value(self, x: Tensor, trial: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return f of each row of `x`, shape (row,), by the simplified model or by `model`."""
        return self.score(self.outputs(x, trial, model), trial)

    def values(self, x: Tensor, trial: Tensor) -> Tensor:
        """Return f of each of any number of rows, shape (row,), without gradients."""
        with torch.no_grad():
            return self.in_batches(lambda rows: self.value(x[rows].to(self.device), trial[rows]), len(x))

    def gradient(self, x: Tensor, trial: Tensor) -> Tensor:
        """Return the gradient of f at each of any number of rows, shape (row, channel, time)."""

        def gradient(rows):
            leaf = x[rows].detach().to(self.device).requires_grad_()
            return torch.autograd.grad(self.value(leaf, trial[rows]).sum(), leaf)[0]

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
        """The outputs at all baselines, with the first trial's further inputs, shape (baseline, output)."""
        return self._outputs_at_baselines(0)

    def scores_at_baselines(self, trial: int) -> Tensor:
        """Return f of a trial at all baselines, with its own further inputs, shape (baseline,)."""
        outputs = self._outputs_at_baselines(trial) if self.extra else self.at_baselines
        return self.score(outputs, torch.full((len(outputs),), trial))

    def _outputs_at_baselines(self, trial: int) -> Tensor:
        own = torch.full((len(self.baseline),), trial)
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


def score_of(target, n_trials: int, n_outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn a target into the function that picks the explained number of each row.

    Parameters
    ----------
    target : int, array of int (trial,), tuple (int, int) or callable
        See `attribute`.
    n_trials, n_outputs : int

    Returns
    -------
    callable
        ``(outputs, trial) -> (row,)``.

    Raises
    ------
    TypeError, ValueError
        A target of another form, or out of range.
    """
    if callable(target):
        return partial(_called, target, _takes_trial(target))
    index = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
    if index.shape in ((n_trials, n_outputs), (n_trials, 1)) and n_trials > 1:
        remedy = "target[:, 0]" if index.shape[1] == 1 else "target.argmax(1), where it marks one output a trial"
        raise ValueError(f"target has shape {index.shape}; expected {n_trials} indices, one per trial: {remedy}.")
    if index.dtype.kind not in "iu":
        whole = index.dtype.kind == "f" and bool((index == index.round()).all())
        raise TypeError(
            f"target is {target!r}; expected an output's index, one index per trial, a pair of indices for a"
            f" difference, or a function of the outputs.{' Give it as integers: target.astype(int).' * whole}"
        )
    if index.size and not 0 <= index.min() <= index.max() < n_outputs:
        from_one = index.ndim == 1 and (index.min(), index.max()) == (1, n_outputs)
        remedy = " Counted from 1? Give target - 1." * bool(from_one)
        raise ValueError(f"target {target!r} is out of range: the model has the outputs 0 … {n_outputs - 1}.{remedy}")
    if isinstance(target, tuple) and index.shape == (2,):
        return lambda outputs, trial: outputs[:, target[0]] - outputs[:, target[1]]
    if index.shape not in ((), (n_trials,)):
        raise ValueError(f"target has shape {index.shape}; expected one index, or {n_trials}, one per trial.")
    per_trial = torch.as_tensor(np.broadcast_to(index, n_trials).astype(np.int64))
    return lambda outputs, trial: outputs.gather(1, per_trial[trial.cpu()].to(outputs.device)[:, None])[:, 0]


def check_rows_apart(target, outputs: Tensor, n_trials: int) -> None:
    """Refuse a target function that gives a row another number at another place, since it holds a row per trial.

    Parameters
    ----------
    target : object
        As in `score_of`; what is no function of the outputs alone passes.
    outputs : Tensor, shape (2, output)
    n_trials : int
        With as many rows such a function may work.

    Raises
    ------
    ValueError
        With what to do instead.
    """
    if not callable(target) or _takes_trial(target):
        return
    trial = torch.arange(len(outputs))
    try:
        score, swapped = (_called(target, False, each, trial) for each in (outputs, outputs.flip(0)))
    except RuntimeError as error:
        if not _works(target, outputs[torch.arange(n_trials) % len(outputs)]):
            raise
        raise ValueError(
            f"The target function fails on {len(outputs)} rows of outputs ({str(error).splitlines()[0]}). It gets as"
            " many rows as a method likes, a trial more than once among them. Where it needs what belongs to each"
            " trial, let it take their indices too: lambda outputs, trial: ..."
        ) from error
    if not same(swapped.flip(0), score):
        raise ValueError(
            "The target function gives a trial another number at another place in the batch: it holds one row per trial"
            " itself, and methods put trials in other places. Let it take the indices of the trials too:"
            " lambda outputs, trial: torch.cosine_similarity(outputs, images[trial])."
        )


def _works(target: Callable, outputs: Tensor) -> bool:
    try:
        target(outputs)
    except RuntimeError:
        return False
    return True


def _takes_trial(target: Callable) -> bool:
    """Tell whether a target function takes the indices of the trials beside the outputs."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some functions written in C tell nothing
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(needed) > 1


def _called(target: Callable, takes_trial: bool, outputs: Tensor, trial: Tensor) -> Tensor:
    score = target(outputs, trial.to(outputs.device)) if takes_trial else target(outputs)
    if not isinstance(score, Tensor) or score.shape != trial.shape:
        raise ValueError(
            f"The target function returned {getattr(score, 'shape', type(score))} for outputs of shape"
            f" {tuple(outputs.shape)}; expected a tensor of shape {tuple(trial.shape)}, one number per row."
        )
    if outputs.requires_grad and not score.requires_grad:
        raise ValueError("The target function cuts its result off the outputs; leave out detach, item and no_grad.")
    return score
