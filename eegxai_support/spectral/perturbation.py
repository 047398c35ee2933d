"""What a network does when the amplitudes or phases of its input change."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.model import checked_batch_size, copied, device_of, exact, frozen, look, shared, simplify
from eegxai_support.spectral.correlations import N_LAGS, PerturbationSums, first_order_effect
from eegxai_support.spectral.gradients import phase_factor, spectral_gradients
from eegxai_support.trials import unknown_name

SCALES = {"additive": 1.0, "multiplicative": 0.02, "phase": np.pi}
METHODS = ("perturbation", "first_order")
MAPS = ("correlation", "p_value", "low", "high")
N_GROUPS = 10  # of trials, left out in turn for the interval
ROUND = 10  # iterations between two looks at the reliability


@dataclass(frozen=True, eq=False)
class AmplitudeEffect:
    """How the outputs of a network, or the units of a layer, follow the amplitudes or phases of its input.

    Parameters
    ----------
    correlation : ndarray, shape (channel, freq, output)
        Between the perturbation and the change of the output, over trials and iterations; NaN for an output that
        never changes.
    p_value : ndarray, shape (channel, freq, output)
        Two-sided, not corrected for the number of channels and frequencies. Of "perturbation" for no effect in these
        very trials: with many iterations the smallest effect is beyond doubt. Of "first_order" for no mean effect in
        trials like these.
    low, high : ndarray, shape (channel, freq, output)
        95 % interval for trials like these and, of "perturbation", other noise, by a jackknife over groups of
        consecutive trials; NaN for a single trial.
    accuracy_kept : float
        Accuracy on perturbed trials divided by that on the trials as they are. NaN for "first_order" and for a network
        with one output.
    reliability : ndarray, shape (output,)
        Correlation that two independent maps of so many iterations would have, from two halves of the iterations; 0
        where these correlate negatively. 1 for "first_order".
    n_iterations : int
        Iterations that were run; 0 for "first_order".
    """

    correlation: np.ndarray
    p_value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    accuracy_kept: float
    reliability: np.ndarray
    n_iterations: int


def amplitude_perturbation(
    model: nn.Module,
    x,
    *,
    n_iterations: int = 400,
    kind: str = "additive",
    method: str = "perturbation",
    scale: float | None = None,
    layer: str | None = None,
    label=None,
    target_reliability: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> AmplitudeEffect:
    r"""Correlate random changes of each amplitude, or phase, with the changes of a network's outputs.

    In every iteration each trial is Fourier transformed, its spectrum is perturbed, and the network sees the trial that
    is rebuilt from it [1]_. The correlation runs over all trials and iterations. Where the noise is small,

    .. math:: \rho_i = \frac{\langle g_i \rangle}{\sqrt{\langle \sum_j g_j^2 \rangle}},

    with :math:`g` the amplitude gradient of a trial and :math:`\langle\cdot\rangle` the mean over trials: the
    covariance of :math:`\eta_i` with :math:`\sum_j g_j \eta_j` is :math:`\sigma^2 \langle g_i \rangle`, since the
    noise of two amplitudes is independent, and the variance of that sum is
    :math:`\sigma^2 \langle \sum_j g_j^2 \rangle`. "first_order" computes this without any noise. For factors,
    :math:`g_i A_i` takes the place of :math:`g_i`.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (trial, channel, time) to (trial, output). Explained in eval mode and given back as it was.
    x : ndarray or Tensor, shape (trial, channel, time)
    n_iterations : int
        Perturbations of every trial, at most. "first_order" makes none, and uses none of `scale`, `label`,
        `target_reliability` and `seed`.
    kind : {"additive", "multiplicative", "phase"}
        Normal noise added to each amplitude, which stops at zero, and the change that is left is what is correlated;
        factors with a normal distribution around 1, none below zero; or uniform shifts of each phase, the same in all
        channels, whose size is correlated.
    method : {"perturbation", "first_order"}
    scale : float, optional
        Standard deviation of the noise in units of ``numpy.fft.rfft(x)`` (1 by default) or of the factors (0.02), or
        the largest shift in radians (π).
    layer : str, optional
        Qualified name of a layer, as in ``model.named_modules()``, whose output (trial, unit, ...) takes the place of
        the network's. The change of a unit is that of its mean over positions; where phases move, the
        correlation over positions of what it was and what it is.
    label : array of int, shape (trial,), optional
        Classes 0, 1, … that `accuracy_kept` refers to; what the network says of the trials as they are if None.
    target_reliability : float, optional
        Stop as soon as two halves of the iterations agree so well that the maps of all outputs have this reliability.
    seed : int
    batch_size : int
        Trials per forward pass, at most. Neither the result nor the noise depends on it.

    Returns
    -------
    AmplitudeEffect
        Correlations of shape (channel, freq, output), with ``freq = time // 2 + 1`` as in `numpy.fft.rfft`.

    Warns
    -----
    UserWarning
        `target_reliability` was not reached, or additive noise is larger than most amplitudes.

    Raises
    ------
    ValueError
        Unknown kind, method or layer; an argument out of range; "first_order" of phase shifts, which is zero, since
        what is correlated is the size of a shift; `x` or `label` of the wrong shape.

    Notes
    -----
    Where the noise would take an amplitude below zero, the change that is left depends on the amplitude. Its expected
    value is subtracted before the correlation, since trials with small amplitudes may differ in their outputs too; the
    code of 2018 did not. "first_order" knows no such stop: outside the pass-band of a filter, where amplitudes are
    smaller than the noise, the methods differ.

    The null of "perturbation" permutes iterations: the noise of each is paired with the changes of the same trials in
    the five before, which it cannot have caused, and the null is pooled over channels and frequencies. "first_order"
    tests a mean of zero over groups of trials by Student's t.

    Sums are kept for ten groups of consecutive trials, and for two halves of the iterations, nothing for every trial.
    An interval leaves out one group at a time, on Fisher's scale. Give trials in the order of recording: neighbours may
    depend on each other, but classes have to be mixed, or the interval is too wide. It is too narrow where a few trials
    have far larger gradients than the others.

    References
    ----------
    .. [1] Schirrmeister et al. (2017). Deep learning with convolutional neural networks for EEG decoding and
       visualization. Hum. Brain Mapp. 38(11), 5391-5420, appendix A.5.2.
    """
    scale = _checked_scale(kind, method, scale, n_iterations)
    if target_reliability is not None and not 0 < target_reliability < 1:
        raise ValueError(f"target_reliability is {target_reliability}; expected a correlation between 0 and 1.")
    seen = look(model, x)
    if method == "first_order":
        seen.require_gradient("The first-order effect")
    model, x = seen.model, seen.x
    batches = _batches(x, label, checked_batch_size(batch_size))
    with torch.inference_mode(False), torch.enable_grad(), exact(model), torch.no_grad(), frozen(model):
        respond, device = _responder(model, x, layer), device_of(model)
        if method == "first_order":
            return AmplitudeEffect(**_first_order(batches, respond, device, kind), accuracy_kept=np.nan, n_iterations=0)
        if kind == "additive":
            _warn_of_loud_noise(batches[0].x, scale)
        sums, n_right = None, np.zeros(2)
        for first in tqdm(range(0, n_iterations, ROUND), desc="amplitude_perturbation", delay=2, leave=False):
            iterations = range(first, min(first + ROUND, n_iterations))
            seeds = {i: np.random.SeedSequence((seed, i)).generate_state(len(x), np.uint64) for i in iterations}
            for batch in batches:
                for iteration, perturbation, change, right in _iterate(batch, respond, device, kind, scale, seeds):
                    sums = sums or PerturbationSums(min(N_GROUPS, len(x)), perturbation, change)
                    sums.add(iteration % 2, batch.group, perturbation, change, batch.earlier)
                    batch.earlier.appendleft(change)
                    n_right += right
            if target_reliability is not None and _least(sums.reliability()) >= target_reliability:
                break
        effect = sums.effect()
    if target_reliability is not None and not _least(effect["reliability"]) >= target_reliability:
        warnings.warn(
            f"After {n_iterations} iterations the maps have a reliability of {_least(effect['reliability']):.3f}, less"
            f" than the {target_reliability} asked for. Raise n_iterations, or use method='first_order'.",
            stacklevel=2,
        )
    if kind == "phase":  # one shift for all channels
        effect |= {name: effect[name].repeat(x.shape[1], axis=0) for name in MAPS}
    kept = float(n_right[1] / n_right[0]) if n_right[0] else np.nan
    return AmplitudeEffect(**effect, accuracy_kept=kept, n_iterations=iterations[-1] + 1)


def _checked_scale(kind: str, method: str, scale: float | None, n_iterations: int) -> float:
    if kind not in SCALES:
        raise unknown_name("kind", kind, SCALES)
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if kind == "phase" and method == "first_order":
        raise ValueError(
            "The size of a phase shift has no first-order effect: shifts to either side cancel. Use"
            " method='perturbation', or amplitude_gradients(..., quantity='phase') for one trial."
        )
    scale = SCALES[kind] if scale is None else scale
    if n_iterations < 1 or not 0 < scale < np.inf or (kind == "phase" and scale > np.pi):
        raise ValueError(
            f"n_iterations is {n_iterations} and scale {scale}; expected at least one iteration and a positive scale,"
            " of phase shifts at most pi."
        )
    return scale


def _least(reliability: np.ndarray) -> float:
    """Return the smallest reliability, without outputs that never change, which have none."""
    return np.fmin.reduce(reliability)


@dataclass
class _Batch:
    """Consecutive trials of one group, and what the last iterations changed in them."""

    x: Tensor
    group: int
    trials: slice
    label: np.ndarray | None
    earlier: deque = field(default_factory=partial(deque, maxlen=N_LAGS))


def _batches(x: Tensor, label, size: int) -> list[_Batch]:
    if label is not None and (np.shape(label) != (len(x),) or np.asarray(label).dtype.kind not in "iu"):
        raise ValueError(
            f"label has shape {np.shape(label)} and type {np.asarray(label).dtype}; expected ({len(x)},) integers, one"
            " class per trial."
        )
    bounds = np.linspace(0, len(x), min(N_GROUPS, len(x)) + 1).astype(int)
    trials = [
        (group, slice(first, min(first + size, end)))
        for group, (start, end) in enumerate(pairwise(bounds))
        for first in range(start, end, size)
    ]
    return [_Batch(x[rows], group, rows, None if label is None else np.asarray(label)[rows]) for group, rows in trials]


def _responder(model: nn.Module, x: Tensor, layer: str | None) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a function from trials to the outputs, (trial, output), and to the units, (trial, unit, position)."""
    if layer is None:
        simplified = simplify(model, x)

        def respond(rows: Tensor) -> tuple[Tensor, Tensor]:
            outputs = simplified(rows)
            return outputs, outputs[..., None]

        return respond
    copy = copied(model)
    modules = dict(copy.named_modules())
    if layer not in modules:
        raise unknown_name("layer", layer, filter(None, modules))

    def respond_in_layer(rows: Tensor) -> tuple[Tensor, Tensor]:
        ran = []

        def keep(module, given, output):  # a copy, since what follows a layer may change its output in place
            ran.append(output.clone() if isinstance(output, Tensor) else torch.empty(0))

        with modules[layer].register_forward_hook(keep):
            outputs = copy(rows)
        if len(ran) != 1 or ran[0].ndim < 2 or len(ran[0]) != len(rows):
            raise ValueError(
                f"Layer {layer!r} of {type(model).__name__} ran {len(ran)} times for {len(rows)} trials and returned"
                f" {[tuple(output.shape) for output in ran]}; expected one tensor (trial, unit, ...)."
            )
        return outputs, ran[0][..., None].flatten(2)

    return respond_in_layer


def _iterate(batch: _Batch, respond, device: torch.device, kind: str, scale: float, seeds: dict[int, np.ndarray]):
    """Yield each iteration, its perturbation, the change it made, and how many trials are right before and after."""
    x, generator = batch.x.to(device), torch.Generator()  # drawn on the CPU, the noise is the same on every device
    perturb = _perturbation(kind, torch.fft.rfft(x), scale)
    outputs, before = respond(x.clone())  # a network may change its input in place
    decided = outputs.argmax(1)
    label = decided if batch.label is None else shared(batch.label).to(decided)
    if outputs.shape[1] == 1:  # decides nothing
        label = label - 1
    n_right = (decided == label).sum().item()
    positions = kind == "phase" and before.shape[-1] > 1
    for iteration, trial_seeds in seeds.items():
        perturbation, added = perturb(trial_seeds[batch.trials].tolist(), generator)
        outputs, after = respond(x + torch.fft.irfft(added, n=x.shape[-1]))
        change = _similarity(before, after) if positions else (after - before).mean(-1)
        yield iteration, perturbation, change, (n_right, (outputs.argmax(1) == label).sum().item())


def _perturbation(kind: str, spectrum: Tensor, scale: float) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return a function from the seeds of the trials to what changes and what that adds to the spectrum."""

    def shifted(seeds, generator):
        shift = _noise(seeds, spectrum[0, :1], generator, "uniform_", -scale, scale)
        return shift.abs(), spectrum * (torch.polar(torch.ones_like(shift), shift) - 1)

    if kind == "phase":
        return shifted
    # No amplitude falls below zero: what is left of the noise then is the perturbation.
    if kind == "additive":
        least, direction = -spectrum.abs(), phase_factor(spectrum)
    else:
        least, direction = -torch.ones_like(spectrum.real), spectrum
    expected = _expected_change(least / scale) * scale
    # Real times complex would make the real factor complex first.
    real, imag = direction.real.contiguous(), direction.imag.contiguous()

    def scaled(seeds, generator):
        change = torch.maximum(_noise(seeds, spectrum[0], generator, "normal_", 0, scale), least)
        return change - expected, torch.complex(change * real, change * imag)

    return scaled


def _expected_change(least: Tensor) -> Tensor:
    """Return the mean of a standard normal variable that stops at `least`."""
    return torch.exp(-least.square() / 2) / sqrt(2 * pi) + least * torch.special.ndtr(least)


def _warn_of_loud_noise(x: Tensor, scale: float) -> None:
    median = torch.fft.rfft(x).abs().median().item()
    if scale > median:
        warnings.warn(
            f"The noise has a standard deviation of {scale:g}, but half of the amplitudes are below {median:.2g}. Are"
            " the trials in volts? Give microvolts, or a smaller scale.",
            stacklevel=3,
        )


def _noise(seeds: list[int], like: Tensor, generator: torch.Generator, distribution: str, *parameters) -> Tensor:
    """Return one draw for each seed, so that it does not depend on the batch."""
    noise = torch.empty(len(seeds), *like.shape, dtype=like.real.dtype)
    for row, seed in zip(noise, seeds, strict=True):
        getattr(row, distribution)(*parameters, generator=generator.manual_seed(seed))
    return noise.to(like.device)


def _similarity(before: Tensor, after: Tensor) -> Tensor:
    """Return the correlation of each unit's positions, shape (trial, unit)."""
    before, after = (maps - maps.mean(-1, keepdim=True) for maps in (before, after))
    return torch.cosine_similarity(before, after, dim=-1)


def _first_order(batches: list[_Batch], respond, device: torch.device, kind: str) -> dict[str, np.ndarray]:
    """Add up, for each group of trials, the gradients by what would be perturbed, and their squares."""
    gradients, squares = [0] * (batches[-1].group + 1), [0] * (batches[-1].group + 1)
    for batch in tqdm(batches, desc="amplitude_perturbation", delay=2, leave=False):
        x = batch.x.to(device)
        gradient = spectral_gradients(lambda rows: respond(rows)[1].mean(-1), x, "amplitude")
        if kind == "multiplicative":
            gradient *= torch.fft.rfft(x).abs()
        gradients[batch.group] += gradient.sum(1).cpu().double()
        squares[batch.group] += gradient.square().sum((1, 2, 3)).cpu().double()
    counts = np.bincount([batch.group for batch in batches], weights=[len(batch.x) for batch in batches])
    effect = first_order_effect(torch.stack(gradients), torch.stack(squares), torch.as_tensor(counts))
    return {name: values.astype(gradient.cpu().numpy().dtype) for name, values in effect.items()}
