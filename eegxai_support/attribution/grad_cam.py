"""Grad-CAM with its time axis found in the network and laid on the trial by receptive fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from eegxai_support.attribution.problem import METHODS, Problem, UnsupportedOperation, register
from eegxai_support.attribution.simplify import is_braindecode
from eegxai_support.decoders import device_of, dtype_of, frozen
from eegxai_support.trials import unknown_name

REFERENCE = "Selvaraju et al. 2017, ICCV"
# What saturates or is cut off at one scale of the input passes at another, and the unit of the input is not known.
PROBE_SCALES = 10.0 ** np.arange(-4, 3)
N_POSITIONS = 8  # probed along an axis; the receptive fields lie on two lines, so that a few positions give all
SEEN = 1e-6  # of the largest gradient; less is the rounding of Fourier transforms


@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """Which samples of the trial the positions of a layer's output see.

    Parameters
    ----------
    time_axis : int
        The axis of the output whose positions follow each other in time.
    channel_axis : int or None
        The axis whose position c sees channel c only, where there is one.
    start, end : ndarray, shape (position,)
        First and last sample of each position's receptive field. They lie on lines: where padding fills up a field,
        it reaches beyond the trial.
    """

    time_axis: int
    channel_axis: int | None
    start: np.ndarray
    end: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Middle of each receptive field in samples, shape (position,)."""
        return (self.start + self.end) / 2


def has_convolution(model: nn.Module) -> bool:
    """Tell whether a network has a layer that Grad-CAM was made for."""
    return any(map(_is_convolution, model.modules()))


@register("grad_cam", reference=REFERENCE, applies_to=has_convolution)
def grad_cam(problem: Problem, *, layer: str | None = None, relu: bool = True) -> Tensor:
    """Return the layer's filters, each weighted by its mean gradient, summed and laid on the trial [1]_.

    Positions are points in time and, before the spatial filters, channels; all else that the layer computes at a
    position is its filters. Each position stands at the centre of its receptive field in the trial, with straight
    lines between the centres, constant from the outer centres to the ends of their receptive fields, and zero where
    the layer does not see the trial. After the spatial filters no channels are left: the map is then the same on all
    of them.

    Parameters
    ----------
    problem : Problem
    layer : str, optional
        Qualified name of a layer, as in ``model.named_modules()``; the last convolution whose output has more than
        one position in time if None.
    relu : bool
        Keep only what speaks for the target, as in the paper.

    Raises
    ------
    ValueError
        Unknown layer.
    UnsupportedOperation
        The layer never runs or runs more than once, its positions are not in time, or no layer's are.

    References
    ----------
    .. [1] Selvaraju et al. (2017). Grad-CAM: visual explanations from deep networks via gradient-based localization.
       ICCV, 618-626. arXiv:1610.02391
    """
    n_channels, n_times = problem.x.shape[1:]
    if layer is None:
        layer, fields = last_convolution(problem.model, n_channels, n_times)
    else:
        fields = receptive_fields(problem.model, layer, n_channels, n_times)

    def maps(trial):
        cam = _class_activation(problem, layer, fields, trial)
        return _laid_on_trial(cam.relu() if relu else cam, fields, n_times).expand(-1, n_channels, -1)

    return problem.by_batch(maps)


def _guided_applies(model: nn.Module) -> bool:
    return has_convolution(model) and METHODS["guided_backprop"].applies_to(model)


@register("guided_grad_cam", reference=REFERENCE, applies_to=_guided_applies)
def guided_grad_cam(problem: Problem, *, layer: str | None = None) -> Tensor:
    """Return guided backpropagation times Grad-CAM; `layer` is that of Grad-CAM."""
    return METHODS["guided_backprop"].compute(problem) * grad_cam(problem, layer=layer)


def last_convolution(model: nn.Module, n_channels: int, n_times: int) -> tuple[str, ReceptiveFields]:
    """Find the last convolution whose output has more than one position in time; its name and receptive fields.

    Last in the order in which they run: of branches side by side, the one that runs last.

    Raises
    ------
    UnsupportedOperation
        There is none.
    """
    convolutions = {name: module for name, module in model.named_modules() if _is_convolution(module)}
    x, outputs = probe(model, convolutions, n_channels, n_times)
    for name in reversed(outputs):
        fields = _fields(outputs[name][0], x) if len(outputs[name]) == 1 else None
        if fields is not None:
            return name, fields
    raise UnsupportedOperation(
        f"Grad-CAM needs a convolution that runs once and has more than one position in time; {type(model).__name__}"
        f" has none ({', '.join(convolutions) or 'no convolution at all'})."
    )


def receptive_fields(model: nn.Module, layer: str, n_channels: int, n_times: int) -> ReceptiveFields:
    """Find which samples of a trial each position of a layer's output sees.

    The gradients of a few positions with respect to random trials are zero outside the receptive field. A single
    gradient may miss a part of it, behind a rectifier or a max pool; what counts is what any filter sees in any of
    the trials. The fields of all positions are then read off two lines, one through the starts and one through the
    ends.

    Parameters
    ----------
    model : torch.nn.Module
    layer : str
        Qualified name of a layer, as in ``model.named_modules()``.
    n_channels, n_times : int
        Size of a trial.

    Returns
    -------
    ReceptiveFields

    Raises
    ------
    ValueError
        Unknown layer.
    UnsupportedOperation
        The layer never runs or runs more than once, or its positions are not in time.
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        raise unknown_name("layer", layer, filter(None, modules))
    parts = layer.split(".")
    parents = [".".join(parts[:n]) for n in range(1, len(parts))]
    x, outputs = probe(model, {name: modules[name] for name in [*parents, layer]}, n_channels, n_times)
    if layer not in outputs:
        running = [name for name in parents if name in outputs]
        hint = f"its parent {running[-1]!r}, which does" if running else "a layer that does"
        raise UnsupportedOperation(f"Layer {layer!r} of {type(model).__name__} never runs; use {hint}.")
    if len(outputs[layer]) > 1:
        raise UnsupportedOperation(
            f"Layer {layer!r} of {type(model).__name__} runs {len(outputs[layer])} times in a forward pass; use a layer"
            " that runs once."
        )
    output = outputs[layer][0]
    fields = _fields(output, x)
    if fields is None:
        shape = f"shape {tuple(output.shape[1:])} for a trial" if isinstance(output, Tensor) else str(type(output))
        raise UnsupportedOperation(
            f"The output of layer {layer!r} of {type(model).__name__}, {shape}, has no axis whose positions move along"
            " the trial: time was summed up before, or each position sees all of the trial, or all up to one end of"
            " it. Use an earlier layer."
        )
    return fields


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) or is_braindecode(module, "CombinedConv")


def probe(model: nn.Module, modules: dict, n_channels: int, n_times: int) -> tuple[Tensor, dict[str, list]]:
    """Return random trials and what the modules made of them, in the order in which they ran."""
    noise = np.random.default_rng(0).standard_normal((len(PROBE_SCALES), n_channels, n_times))
    x = torch.as_tensor(noise * PROBE_SCALES[:, None, None]).to(device_of(model), dtype_of(model)).requires_grad_()
    outputs = {}

    def keep(name, output):  # a copy, since the next layer may work in place
        outputs.setdefault(name, []).append(output.clone() if isinstance(output, Tensor) else output)

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in modules.items()
    ]
    try:
        with frozen(model), torch.enable_grad():
            model(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return x, outputs


def _fields(output, x: Tensor) -> ReceptiveFields | None:
    """Return the receptive fields of an output, or None where no axis of it is time."""
    if not isinstance(output, Tensor) or not output.requires_grad or output.shape[:1] != x.shape[:1]:
        return None
    axes = [axis for axis in range(1, output.ndim) if output.shape[axis] > 1]
    moved = {axis: _movement(_seen(output, x, axis, [0, output.shape[axis] - 1])) for axis in axes}
    time_axis = max(moved, key=moved.get, default=None)
    if time_axis is None or moved[time_axis] == 0:
        return None
    position = _spread(output.shape[time_axis])
    lines = _lines(position, *_extent(_seen(output, x, time_axis, position)))
    if lines is None:
        return None
    channel_axis = next((axis for axis in axes if axis != time_axis and _is_channel_axis(output, x, axis)), None)
    step, start, end = lines
    position = np.arange(output.shape[time_axis])
    return ReceptiveFields(time_axis, channel_axis, start + step * position, end + step * position)


def _spread(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, N_POSITIONS).round().astype(int))


def _seen(output: Tensor, x: Tensor, axis: int, positions) -> np.ndarray:
    """Tell which samples any filter sees at positions of an axis in any trial, shape (position, channel, time)."""
    # Random weights, because the gradients of the filters must not cancel.
    weight = torch.as_tensor(np.random.default_rng(1).standard_normal(tuple(output.shape))).to(output)
    seen = []
    for position in positions:
        total = (output.select(axis, position) * weight.select(axis, position)).sum()
        gradient = torch.autograd.grad(total, x, retain_graph=True)[0].abs()
        seen.append((gradient > SEEN * gradient.amax((1, 2), keepdim=True)).any(0).cpu().numpy())
    return np.stack(seen)


def _extent(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last sample that each position sees, NaN where it sees only padding."""
    seen = seen.any(1)
    start, end = seen.argmax(1), seen.shape[1] - 1 - seen[:, ::-1].argmax(1)
    return np.where(seen.any(1), (start, end), np.nan)


def _movement(outer: np.ndarray) -> float:
    """Return how far the start or the end of the receptive field moves from the first position to the last."""
    return np.nan_to_num(np.abs(np.diff(_extent(outer)))).max()


def _lines(position: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[float, float, float] | None:
    """Return the step from position to position and the start and end of position 0, None where they are no lines.

    Padding cuts the fields off at the ends of the trial, and what a max pool hides makes them shorter, never longer.
    The lines therefore have the mean step of the fields that are not cut off, and lie outside of all of them. Where
    all are cut off on one side, their centres are not known.
    """
    known = np.isfinite(start)
    position, start, end = position[known], start[known], end[known]
    if min(np.ptp(start), np.ptp(end)) == 0:
        return None
    whole = [(start, start > start.min()), (end, end < end.max())]
    n_steps = sum(np.diff(position[uncut]).sum() for _, uncut in whole)
    if n_steps:
        step = sum(np.diff(edge[uncut]).sum() for edge, uncut in whole) / n_steps
    elif len(position) < 4:  # too few to leave out the outer ones
        step = max((np.diff(edge) / np.diff(position)).max() for edge in (start, end))
    else:
        return None
    first, last = (start - step * position).min(), (end - step * position).max()
    off = np.maximum(
        start - (first + step * position).clip(start.min()), (last + step * position).clip(max=end.max()) - end
    )
    return (step, first, last) if step > 0 and off.max() <= max(step, 1) else None


def _is_channel_axis(output: Tensor, x: Tensor, axis: int) -> bool:
    position, n_channels = _spread(output.shape[axis]), x.shape[1]
    if output.shape[axis] != n_channels:
        return False
    return np.array_equal(_seen(output, x, axis, position).any(2), position[:, None] == np.arange(n_channels))


def _class_activation(problem: Problem, layer: str, fields: ReceptiveFields, trial: Tensor) -> Tensor:
    """Return the weighted sum of the filters at each position, shape (trial, 1 or channel, position)."""
    activation = []

    def replace(module, args, output):
        activation.append(output.detach().requires_grad_())
        return activation[0].clone()  # what comes next may work in place

    handle = problem.model.get_submodule(layer).register_forward_hook(replace)
    try:
        value = problem.value(problem.x[trial].to(problem.device), trial, problem.model)
    finally:
        handle.remove()
    gradient = torch.autograd.grad(value.sum(), activation[0])[0]
    axes = [fields.time_axis] if fields.channel_axis is None else [fields.channel_axis, fields.time_axis]
    filters = [axis for axis in range(1, gradient.ndim) if axis not in axes]
    cam = gradient.mean(axes, keepdim=True).mul(activation[0].detach()).permute(0, *filters, *axes)
    return cam.reshape(len(trial), -1, gradient.shape[axes[0]] if len(axes) > 1 else 1, len(fields.start)).sum(1)


def _laid_on_trial(cam: Tensor, fields: ReceptiveFields, n_times: int) -> Tensor:
    """Interpolate a map (trial, channel, position) between the centres of the receptive fields."""
    time, last = np.arange(n_times), len(fields.start) - 1
    at = np.interp(time, fields.centre, np.arange(last + 1))
    left = np.minimum(at.astype(int), last - 1)
    weight = torch.as_tensor(at - left).to(cam)
    on_trial = torch.lerp(cam[..., left], cam[..., left + 1], weight)
    return on_trial * torch.as_tensor((fields.start[0] <= time) & (time <= fields.end[-1])).to(cam)
