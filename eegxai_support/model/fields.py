"""Which samples of a trial the positions of a layer's output see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from eegxai_support.model.arithmetic import exact
from eegxai_support.model.errors import UnsupportedOperation
from eegxai_support.model.state import device_of, dtype_of, frozen
from eegxai_support.trials import unknown_name

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


def receptive_fields(
    model: nn.Module, layer: str, n_channels: int, n_times: int, extra: tuple[Tensor, ...] = ()
) -> ReceptiveFields:
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
    extra : tuple of Tensor
        Further inputs of the model; those of the first trial are taken.

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
    x, outputs = probe(model, {name: modules[name] for name in [*parents, layer]}, n_channels, n_times, extra)
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
    fields = fields_of(output, x)
    if fields is None:
        shape = f"shape {tuple(output.shape[1:])} for a trial" if isinstance(output, Tensor) else str(type(output))
        raise UnsupportedOperation(
            f"The output of layer {layer!r} of {type(model).__name__}, {shape}, has no axis whose positions move along"
            " the trial: time was summed up before, or each position sees all of the trial, or all up to one end of"
            " it. Use an earlier layer."
        )
    return fields


def probe(
    model: nn.Module, modules: dict, n_channels: int, n_times: int, extra: tuple[Tensor, ...] = ()
) -> tuple[Tensor, dict[str, list]]:
    """Return random trials and what the modules made of them, in the order in which they ran."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in (modules or {"": model}).values()):
        raise UnsupportedOperation(
            f"{type(model).__name__} is scripted, and what runs there shows no layer. Give the model as it was before"
            " torch.jit."
        )
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
        with frozen(model), torch.enable_grad(), exact(model):
            model(x.clone(), *(each[[0] * len(x)].to(x.device) for each in extra))
    finally:
        for handle in handles:
            handle.remove()
    return x, outputs


def fields_of(output, x: Tensor) -> ReceptiveFields | None:
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
