"""`attribute`: from a model and trials to maps with their receipt."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature

import numpy as np
import torch
from torch import Tensor, nn

from eegxai_support.attribution.baselines import BASELINES, make_baseline
from eegxai_support.attribution.problem import METHODS, Maps, Method, Problem
from eegxai_support.attribution.result import Attribution, OnDemand, product
from eegxai_support.attribution.targets import checked_score
from eegxai_support.decoders.accuracy import Accuracy, accuracy
from eegxai_support.model import (
    Look,
    checked_batch_size,
    exact,
    frozen,
    look,
    model_input,
    name_of,
    probabilities,
    warn,
)
from eegxai_support.trials import unknown_name

DEFAULT_BATCH_SIZE = 64
CONFIDENT = 0.9
LARGE = 2**29  # bytes of a map above which its values are multiplied on demand
SURE = 4  # standard errors of a mean over random draws
N_TRIED = 16  # trials from which other baselines are made, to see what the network says of them


class BaselineWarning(UserWarning):
    """The network has an opinion at the baseline, and none at another one."""


def attribute(model, x, target, method, *, baseline=None, batch_size=None, extra=(), **options) -> Attribution:
    """Explain a network's output for each trial by a map over channels and time.

    Parameters
    ----------
    model : torch.nn.Module, or a fitted EEGClassifier, DataParallel or compiled model
        Maps (trial, channel, time) to (trial, output); (trial, 1, channel, time) and one number per trial are taken
        too. A copy of it is explained, in eval mode.
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
        Channels and sampling rate are compared with those of the model where both are known. The labels of Trials
        tell the receipt how well the network decodes them.
    target : int, array of int (trial,), tuple (int, int) or callable
        Which output is explained, before any softmax: one output, one per trial, the first minus the second of a
        pair, or a function of the outputs ``(row, output) -> (row,)`` that treats each row by itself. A function of
        two arguments is given the outputs and the index of each row's trial, ``(row,)``. A tuple of two is always a
        difference; give one class per trial as a list or an array.
    method : str
        A key of `METHODS`.
    baseline : {"zero", "trial_mean", "phase_scrambled"} or array (channel, time) or (trial, channel, time), optional
        What each trial is compared with; zeros if None. The names are those of `make_baseline`. "expected_gradients"
        and "deep_lift_shap" compare each trial with all baselines given, (n, channel, time).
    batch_size : int, optional
        Rows per forward pass, 64 if None. The result does not depend on it.
    extra : tuple of array-like, optional
        What the model takes after the trials, each with a row per trial: ``model(x, *extra)``. They are not explained;
        a baseline is seen with those of its trial.
    **options
        Of the method, each documented in the reference under the method's name:

        - integrated_gradients: ``n_steps``, ``max_steps``, ``tol``, ``path``
        - expected_gradients, kernel_shap: ``n_samples``, ``seed``
        - smooth_grad: ``n_samples``, ``noise_level``, ``seed``
        - lrp_epsilon, lrp_gamma, lrp_alpha_beta, lrp_z_plus: ``epsilon``, ``bias``, ``first_layer``, ``conditions``,
          ``rules``; ``gamma`` of lrp_gamma, ``alpha`` of lrp_alpha_beta
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
        together miss more than 1e-3 of the output (LRP). Or a map or an output is not finite, maps are zero
        everywhere, outputs are probabilities, or a trial's output depends on its batch or on chance.
    BaselineWarning
        The network is confident at a baseline that is not a trial, a class having a mean probability over 0.9 there,
        and not at another one, which is named.

    Raises
    ------
    TypeError
        No network or no trials, with what to give instead; half precision; outputs in a tuple or dict.
    ValueError
        Unknown method, target out of range or without training trials, `x` or `baseline` of the wrong shape, channels,
        order or rate, a baseline for a method without, or a model or target function that holds one row per trial.
    UnsupportedOperation
        The method has no rule for an operation of the network, which is named, or no meaning for the network; the
        outputs have no derivative.
    torch.OutOfMemoryError
        Not even a single row fits on a GPU; larger batches are halved without a word.

    Notes
    -----
    float32 is IEEE's while a network is explained: TF32, autocast and reduced matrix products are off, whatever the
    process allows elsewhere.
    """
    kind = _lookup(method)
    _check_options(method, kind, options)
    with torch.inference_mode(False), torch.enable_grad():
        seen = look(model, x, extra=extra)
        with frozen(seen.model), exact(seen.model):
            return _attribute(seen, target, method, kind, baseline, batch_size, options)


def _check_options(method: str, kind: Method, options: dict) -> None:
    _, *parameters = signature(kind.compute).parameters.values()
    taken = [each.name for each in parameters]
    unknown = [name for name in options if name not in taken]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in parameters):
        raise TypeError(f"{method} takes no option {unknown[0]!r}; expected {', '.join(taken) or 'none at all'}.")


def _attribute(seen: Look, target, method: str, kind: Method, baseline, batch_size, options: dict) -> Attribution:
    x, model = seen.x, seen.model
    batch_size = DEFAULT_BATCH_SIZE if batch_size is None else checked_batch_size(batch_size)
    asked, baseline = baseline, _checked_baseline(model, kind, method, baseline, x)
    if kind.uses_gradient:
        seen.require_gradient(method)
        if not isinstance(target, tuple) or seen.kind == "probabilities":  # a difference of logarithms is one of logits
            seen.warn_of_kind(method)
    score = None
    if kind.uses_target:
        score = checked_score(seen, target)
    compared = baseline if kind.many_baselines else baseline.expand_as(x)
    problem = Problem(model, x, compared, kind.many_baselines, score, batch_size, seen.extra)
    maps = kind.compute(problem, **options)
    if isinstance(maps, Tensor):
        maps = Maps(multiplier=maps) if kind.linear_in_input else Maps(values=maps)
    total, zero = problem.sums_and_zeros(maps)
    delta, change, share = _delta(problem, kind, maps, total)
    finite = total.isfinite() & share.isfinite()
    if kind.uses_target:
        finite &= problem.at_x.isfinite()
    if not finite.all():
        _warn_of_not_finite(method, model, finite)
    if kind.conserves:
        _warn_of_delta(method, model, delta, share, _tolerance(kind, maps, delta, share, options))
    if zero.any() and kind.uses_target:
        _warn_of_zeros(method, model, zero)
    confidence = _confidence(method, seen, problem, asked, baseline) if kind.needs_baseline else None
    evidence = {
        "baseline": baseline if kind.linear_in_input or kind.needs_baseline else None,
        "delta": None if delta is None else delta.to(x.dtype),
        "change": None if delta is None else change.to(x.dtype),
        "kept": None if maps.kept is None else maps.kept.to(x.dtype),
        "standard_error": maps.standard_error,
    }
    evidence = {name: None if number is None else _array(number) for name, number in evidence.items()}
    evidence |= {"method": method, "target": target, "report": maps.report, "network": name_of(model)}
    evidence |= {"n_zero": int(zero.sum()), "at_baseline": confidence, "decoder": _decoder(seen, problem)}
    if maps.multiplier is None:
        return Attribution(_array(maps.values), **evidence)
    x, evidence["multiplier"] = _array(x), _array(maps.multiplier)
    if x.nbytes > LARGE:
        return OnDemand(x, total.numpy(), **evidence)
    return Attribution(product(x, evidence["baseline"], evidence["multiplier"]), **evidence)


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
    baseline = baseline if isinstance(baseline, Tensor) else np.asarray(baseline)
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


def _warn_of_not_finite(method: str, model: nn.Module, finite: Tensor) -> None:
    warn(
        f"{method} on {type(model).__name__}: in {int((~finite).sum())} of {len(finite)} trials the map, or the output"
        f" at the trial or its baseline, is not finite; the first is trial {int((~finite).nonzero()[0])}. Look for a"
        " logarithm or root of zero or a division by zero, and choose a baseline away from it.",
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
        warn(
            f"{method} on {type(model).__name__}: in {int(missed.sum())} of {len(share)} trials the map"
            f" misses more than {tolerance[worst]:.2g} of the change of the output; worst is trial {worst}, delta"
            f" {delta[worst]:.3g}, {share[worst]:.2g} of the change. Do not trust these trials' maps.",
        )


def _delta(problem: Problem, kind: Method, maps: Maps, total: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return delta, what the maps account for and the share that delta is of it; no delta where nothing is promised."""
    if kind.conserves:
        at_x, at_baseline = problem.ends
        delta, share = problem.delta(total)
        return delta, at_x - at_baseline, share
    if maps.kept is None:
        return None, total, total
    return total + maps.kept.cpu() - problem.at_x, problem.at_x, total


def _warn_of_zeros(method: str, model: nn.Module, zero: Tensor) -> None:
    cause = (
        "Nothing in the layer speaks for the target there; relu=False keeps what speaks against it"
        if method == "grad_cam"
        else "The product of Grad-CAM, which keeps only what speaks for the target, and guided backpropagation is empty"
        if method == "guided_grad_cam"
        else "The trial is its own baseline, or the output does not answer to it: units that are off, or a softmax that"
        " is sure"
    )
    warn(
        f"{method} on {name_of(model)}: {int(zero.sum())} of {len(zero)} maps are zero everywhere, the first that of"
        f" trial {int(zero.nonzero()[0])}. {cause}. Leave these trials out of what is averaged over maps, or take"
        " another method.",
    )


def _decoder(seen: Look, problem: Problem) -> Accuracy | None:
    """Return how well the network decodes the trials that are explained, None where their labels are not known."""
    label = None if seen.trials is None else seen.trials.label
    if label is None or label.dtype.kind not in "iu" or seen.n_outputs < 2:
        return None
    trial = torch.arange(len(problem.x))
    with torch.no_grad():
        outputs = problem.in_batches(
            lambda rows: problem.outputs(problem.x[rows].to(problem.device), trial[rows]), len(trial)
        )
    return accuracy(label, outputs.argmax(1).cpu().numpy(), seen.n_outputs)


def _confidence(method: str, seen: Look, problem: Problem, asked, baseline: Tensor) -> float | None:
    """Return the largest mean probability of a class over the baselines.

    Warn where it says that the baseline is an opinion and there is a baseline that is none: where all are, as for many
    networks of log-power, nobody can act on it, and the receipt states the number all the same.
    """
    if seen.n_outputs < 2:
        return None
    confidence = _largest_mean(problem, seen.kind, baseline)
    shared = asked is None or isinstance(asked, str) or np.ndim(asked) == 2
    if not (shared and confidence > CONFIDENT) or problem.many:
        return confidence
    trials = problem.x[:N_TRIED].numpy()
    for name in BASELINES:
        if name == (asked or "zero"):
            continue
        other = _largest_mean(problem, seen.kind, torch.as_tensor(make_baseline(trials, name)))
        if other <= CONFIDENT:
            warn(
                f"{method} on {name_of(problem.model)}: at the baseline the network already gives one class a"
                f" probability of {confidence:.3f}, so the map explains the distance from that opinion. It has less of"
                f" one ({other:.2f}) at baseline={name!r}: compare with that.",
                BaselineWarning,
            )
            break
    return confidence


def _largest_mean(problem: Problem, kind: str, baseline: Tensor) -> float:
    there = replace(problem, baseline=baseline)
    there.simplified = problem.simplified  # which takes longer to make than a few baselines to run
    return float(probabilities(there.at_baselines, kind).mean(0).max())
