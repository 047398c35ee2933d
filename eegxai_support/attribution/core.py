"""`attribute`, and what it returns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from eegxai_support.attribution.baselines import BASELINES, make_baseline
from eegxai_support.attribution.problem import METHODS, Maps, Method, Problem, score_of
from eegxai_support.model import checked_batch_size, copied, device_of, exact, frozen, model_input
from eegxai_support.trials import unknown_name

DEFAULT_BATCH_SIZE = 64
CONFIDENT = 0.9
LARGE = 2**29  # bytes of a map above which its values are multiplied on demand
MIXED = 1e-2  # share of the output by which it may change with the company of another trial
SURE = 4  # standard errors of a mean over random draws


class BaselineWarning(UserWarning):
    """The network has an opinion at the baseline."""


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
        What the trials were compared with, for methods that compare; all baselines where a method takes many.
    delta : ndarray, shape (trial,), optional
        ``values.sum((1, 2)) - (f(x) - f(baseline))`` for methods that conserve, else None; f(baseline) is the mean
        over the baselines where a method takes many.
    method : str
        Key of `METHODS`.
    target : object
        The target as it was given.
    standard_error : ndarray, shape (trial,), optional
        Of the sum of a map that is a mean over random draws.
    report : pandas.DataFrame, optional
        Where the relevance went, a row per layer, for the methods that start with ``lrp_``.
    """

    values: np.ndarray
    multiplier: np.ndarray | None = None
    baseline: np.ndarray | None = None
    delta: np.ndarray | None = None
    method: str = ""
    target: object = None
    standard_error: np.ndarray | None = None
    report: pd.DataFrame | None = None


class OnDemand(Attribution):
    """An `Attribution` whose values are multiplied when they are first asked for, to save the memory of large ones.

    Parameters
    ----------
    x : ndarray, shape (trial, channel, time)
        The trials, not copied.
    total : ndarray, shape (trial,)
        What the values of each trial sum to.
    **fields
        Of `Attribution`, but for `values`.
    """

    def __init__(self, x: np.ndarray, total: np.ndarray, **fields):
        vars(self).update({"x": x, "total": total, **fields})

    @cached_property
    def values(self) -> np.ndarray:
        """The maps, ``multiplier * (x - baseline)``."""
        values = _product(self.x, self.baseline, self.multiplier)
        total, before = np.nan_to_num(values.sum((1, 2), dtype=np.float64)), np.nan_to_num(self.total)
        if not np.allclose(total, before, rtol=0, atol=1e-6 * np.abs(before).max()):
            raise RuntimeError(
                "The trials were changed after `attribute` explained them, so their maps can no longer be multiplied."
                " Read `values` first, or give `attribute` a copy."
            )
        return values


def _product(x: np.ndarray, baseline: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    values = x - baseline
    values *= multiplier
    return values


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
    baseline : {"zero", "trial_mean", "phase_scrambled"} or array (channel, time) or (trial, channel, time), optional
        What each trial is compared with; zeros if None. The names are those of `make_baseline`. "expected_gradients"
        and "deep_lift_shap" compare each trial with all baselines given, (n, channel, time).
    batch_size : int, optional
        Rows per forward pass, 64 if None. The result does not depend on it.
    **options
        Of the method, each documented in the reference under the method's name:

        - integrated_gradients: ``n_steps``, ``max_steps``, ``tol``, ``path``
        - expected_gradients, kernel_shap: ``n_samples``, ``seed``
        - smooth_grad: ``n_samples``, ``noise_level``, ``seed``
        - lrp_epsilon, lrp_gamma, lrp_alpha_beta, lrp_z_plus: ``epsilon``, ``bias``, ``first_layer``, ``conditions``;
          ``gamma`` of lrp_gamma, ``alpha`` of lrp_alpha_beta
        - grad_cam, guided_grad_cam: ``layer``; ``relu`` of grad_cam
        - occlusion: ``window``, ``stride``; window_ablation: ``length``; random: ``seed``

    Returns
    -------
    Attribution
        float32, or float64 for a float64 model.

    Warns
    -----
    UserWarning
        A trial's map misses more of f(x) - f(baseline) than the method should: its relative delta exceeds the method's
        `tolerance`, ``tol`` (integrated_gradients), or four standard errors (expected_gradients). Input and biases
        together miss more than 1e-3 of the output (LRP). Or a map or an output is not finite.
    BaselineWarning
        The network is already confident at a baseline that is not a trial: the softmax of its outputs exceeds 0.9.

    Raises
    ------
    ValueError
        Unknown method, target out of range, `x` or `baseline` of the wrong shape, a baseline for a method without.
    UnsupportedOperation
        The method has no rule for an operation of the network, which is named, or no meaning for the network.
    torch.OutOfMemoryError
        Not even a single row fits on a GPU; larger batches are halved without a word.
    """
    kind = _lookup(method)
    with torch.inference_mode(False), torch.enable_grad(), exact(model), frozen(model):
        return _attribute(model, x, target, method, kind, baseline, batch_size, options)


def _attribute(model, x, target, method: str, kind: Method, baseline, batch_size, options: dict) -> Attribution:
    x = model_input(model, x).cpu()
    batch_size = DEFAULT_BATCH_SIZE if batch_size is None else checked_batch_size(batch_size)
    given, baseline = baseline, _checked_baseline(model, kind, method, baseline, x)
    explained = copied(model)  # so that nothing that happens in its forward passes stays
    n_outputs = _n_outputs(explained, x)
    score = score_of(target, len(x), n_outputs) if kind.uses_target else None
    compared = baseline if kind.many_baselines else baseline.expand_as(x)
    problem = Problem(explained, x, compared, kind.many_baselines, score, batch_size)
    maps = kind.compute(problem, **options)
    if isinstance(maps, Tensor):
        maps = Maps(multiplier=maps) if kind.linear_in_input else Maps(values=maps)
    total = problem.sums(maps)
    delta, share = problem.delta(total) if kind.conserves else (None, total)
    finite = total.isfinite() & share.isfinite()
    if not finite.all():
        _warn_of_not_finite(method, model, finite)
    if kind.conserves:
        _warn_of_delta(method, model, delta, share, _tolerance(kind, maps, delta, share, options))
    if kind.needs_baseline and (given is None or isinstance(given, str) or np.ndim(given) == 2):
        _warn_of_confidence(method, replace(problem, baseline=baseline))
    evidence = {
        "baseline": baseline if kind.linear_in_input or kind.needs_baseline else None,
        "delta": None if delta is None else delta.to(x.dtype),
        "standard_error": maps.standard_error,
    }
    evidence = {name: None if number is None else _array(number) for name, number in evidence.items()}
    evidence |= {"method": method, "target": target, "report": maps.report}
    if maps.multiplier is None:
        return Attribution(_array(maps.values), **evidence)
    x, evidence["multiplier"] = _array(x), _array(maps.multiplier)
    if x.nbytes > LARGE:
        return OnDemand(x, total.numpy(), **evidence)
    return Attribution(_product(x, evidence["baseline"], evidence["multiplier"]), **evidence)


def _lookup(method: str) -> Method:
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    return METHODS[method]


def _names(flag: str) -> str:
    return ", ".join(name for name, method in METHODS.items() if getattr(method, flag))


def _checked_baseline(model, kind: Method, method: str, baseline, x: Tensor) -> Tensor:
    """Return the baselines, (1 or trial, channel, time), or of any number where a method takes many."""
    if baseline is not None and not kind.needs_baseline:
        raise ValueError(f"{method} takes no baseline; leave it out, or use one of {_names('needs_baseline')}.")
    if baseline is None:
        return x.new_zeros(1, *x.shape[1:])
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            raise unknown_name("baseline", baseline, BASELINES)
        if kind.many_baselines:
            raise ValueError(f"{method} compares each trial with many baselines; give an array (n, channel, time).")
        return torch.as_tensor(make_baseline(x.cpu().numpy(), baseline)).to(x.device)
    baseline = torch.as_tensor(baseline)
    baseline = model_input(model, baseline[None] if baseline.ndim == 2 else baseline, name="baseline").to(x.device)
    if baseline.shape[1:] != x.shape[1:] or not (kind.many_baselines or len(baseline) in (1, len(x))):
        raise ValueError(
            f"baseline has shape {tuple(baseline.shape)}; expected {tuple(x.shape[1:])}, or {tuple(x.shape)} for one"
            " baseline per trial."
        )
    return baseline


def _array(number: Tensor) -> np.ndarray:
    """Return a tensor as an array; NumPy has no bfloat16, and half precision ends here."""
    return (number if number.dtype == torch.float64 else number.float()).cpu().numpy()


def _n_outputs(model: nn.Module, x: Tensor) -> int:
    """Return the number of outputs; warn where a trial's output depends on the other trials of its batch."""
    pair = x[:2].to(device_of(model))
    with torch.no_grad():
        alone = model(pair[:1].clone())
        if not isinstance(alone, Tensor):
            raise TypeError(f"The model returns {type(alone).__name__}; expected a tensor (trial, output). Wrap it.")
        if alone.ndim != 2:
            hint = "Keep the axis of trials." if alone.ndim < 2 else "Average dense predictions over time first."
            raise ValueError(
                f"The model returns shape {tuple(alone.shape)} for one trial; expected (1, output). {hint}"
            )
        if len(pair) == 2 and (model(pair.clone())[:1] - alone).abs().max() > MIXED * alone.abs().max():
            warnings.warn(
                f"{type(model).__name__} gives the first trial another output when the second one is in the same batch."
                " Its maps depend on `batch_size` and on the other trials; look for statistics over the batch.",
                stacklevel=4,
            )
    return alone.shape[1]


def _warn_of_not_finite(method: str, model: nn.Module, finite: Tensor) -> None:
    warnings.warn(
        f"{method} on {type(model).__name__}: in {int((~finite).sum())} of {len(finite)} trials the map, or the output"
        f" at the trial or its baseline, is not finite; the first is trial {int((~finite).nonzero()[0])}. Look for a"
        " logarithm or root of zero or a division by zero, and choose a baseline away from it.",
        stacklevel=4,
    )


def _tolerance(kind: Method, maps: Maps, delta: Tensor, share: Tensor, options: dict) -> Tensor:
    """Return the relative delta above which each trial is reported, shape (trial,)."""
    tolerance = torch.full_like(share, options.get("tol", kind.tolerance))
    if maps.standard_error is None:
        return tolerance
    scale = (delta / share).abs().nan_to_num(nan=1.0)  # the change that the share is of
    return torch.maximum(tolerance, SURE * maps.standard_error.cpu() / scale)


def _warn_of_delta(method: str, model: nn.Module, delta: Tensor, share: Tensor, tolerance: Tensor) -> None:
    share = share.nan_to_num(nan=0.0, posinf=0.0)  # trials that are not finite have a warning of their own
    missed = share > tolerance
    if missed.any():
        worst = int((share / tolerance).argmax())
        warnings.warn(
            f"{method} on {type(model).__name__}: in {int(missed.sum())} of {len(share)} trials the map"
            f" misses more than {tolerance[worst]:.2g} of the change of the output; worst is trial {worst}, delta"
            f" {delta[worst]:.3g}, {share[worst]:.2g} of the change. Do not trust these trials' maps.",
            stacklevel=4,
        )


def _warn_of_confidence(method: str, problem: Problem) -> None:
    """Warn where the baseline is not neutral: the map then explains the distance to an opinion."""
    outputs = problem.at_baselines
    if outputs.shape[1] < 2:
        return
    probability, label = outputs.softmax(1).max(1)
    if probability.max() > CONFIDENT:
        surest = int(probability.argmax())
        warnings.warn(
            f"{method} on {type(problem.model).__name__}: at the baseline the softmax already gives output"
            f" {label[surest]} a probability of {probability[surest]:.3f}. The map explains the distance from that"
            " opinion, not from no opinion; compare with another baseline, such as trials of the other class.",
            BaselineWarning,
            stacklevel=4,
        )
