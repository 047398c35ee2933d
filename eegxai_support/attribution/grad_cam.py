"""Grad-CAM with its time axis found in the network and laid on the trial by receptive fields."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from eegxai_support.attribution.problem import METHODS, Problem, register
from eegxai_support.model import (
    ReceptiveFields,
    UnsupportedOperation,
    fields_of,
    is_braindecode,
    probe,
    receptive_fields,
)

REFERENCE = "Selvaraju et al. 2017, ICCV"


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
        layer, fields = last_convolution(problem.model, n_channels, n_times, problem.extra)
    else:
        fields = receptive_fields(problem.model, layer, n_channels, n_times, problem.extra)

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


def last_convolution(
    model: nn.Module, n_channels: int, n_times: int, extra: tuple[Tensor, ...] = ()
) -> tuple[str, ReceptiveFields]:
    """Find the last convolution whose output has more than one position in time; its name and receptive fields.

    Last in the order in which they run: of branches side by side, the one that runs last.

    Raises
    ------
    UnsupportedOperation
        There is none.
    """
    convolutions = {name: module for name, module in model.named_modules() if _is_convolution(module)}
    x, outputs = probe(model, convolutions, n_channels, n_times, extra)
    for name in reversed(outputs):
        fields = fields_of(outputs[name][0], x) if len(outputs[name]) == 1 else None
        if fields is not None:
            return name, fields
    raise UnsupportedOperation(
        f"Grad-CAM needs a convolution that runs once and has more than one position in time; {type(model).__name__}"
        f" has none ({', '.join(convolutions) or 'no convolution at all'})."
    )


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) or is_braindecode(module, "CombinedConv")


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
