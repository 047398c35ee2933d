"""Gradients that rectifiers let pass only one way."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eegxai_support.attribution.families import CLIPS, RECTIFIERS, depends, taken_apart
from eegxai_support.attribution.operations import require_eager, require_visible, runs
from eegxai_support.attribution.problem import Problem, register
from eegxai_support.attribution.traced import Pointwise, Traced
from eegxai_support.model import UnsupportedOperation

FAR = 1e3  # where a rectifier is its asymptote


class _Rectify(torch.autograd.Function):
    """The value of a rectifier, with the positive part of the gradient that arrives times a slope."""

    @staticmethod
    def forward(ctx, z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.mark_dirty(value)  # so that the result is no view, and the model may overwrite it
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (slope,) = ctx.saved_tensors
        return gradient.clamp(min=0) * slope, None, None


class Rectified(TorchFunctionMode):
    """Replace the derivative of every rectifier that a model calls or spells; refuse a model without one."""

    def __init__(self, method: str):
        super().__init__()
        self.method, self.found, self.traced = method, False, Traced()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        operands = self.traced.operands((args, kwargs))
        if not operands or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        require_visible(self.method, operands)
        name, in_place, given, options = taken_apart(function, args, dict(kwargs))
        calls = self.traced.call(function, name, in_place, given, options)
        if not calls and any(map(depends, operands)) and not all(map(depends, operands)):
            raise UnsupportedOperation(
                f"{self.method} has no rule for {name} of a comparison with activations, which may rectify. Write it"
                " with torch.relu or another rectifier of torch, or use gradient."
            )
        slope = calls[0].root.requires_grad and _slope(name, calls[0], len(operands)) if calls else None
        if slope:
            self.found = True
            root, rectified = calls[0].root, calls[0].function
            value = rectified(root.detach().clone())
            result = _Rectify.apply(
                root, value, slope * (value > 0 if self.method == "guided_backprop" else 1 + 0 * value)
            )
            result = given[0].copy_(result) if in_place else result
        else:
            result = function(*args, **kwargs)
        made = given[0] if in_place else result
        if calls and made.shape == calls[0].root.shape:
            self.traced[made] = calls
        return result

    def __exit__(self, error, *details):
        super().__exit__(error, *details)
        if error is None and not self.found:
            raise UnsupportedOperation(
                f"{self.method} has no meaning for a network without rectifiers (ReLU, ELU, GELU …): the map would be"
                " its gradient. Use gradient."
            )


def _slope(name: str, call: Pointwise, n_operands: int) -> float | None:
    """Return the slope far above zero of a function that rectifies, None of another.

    torch's own rectifiers are known by name. What clips may or may not rectify, and so may what is spelled in several
    calls that join two functions of an activation: they are asked for a few values. A rectifier is 0 at 0, and either
    exactly 0 below and the identity somewhere above (a clip may have an upper bound), or a line far above, and far
    less than that line below.
    """
    if name in RECTIFIERS:
        return 1.0
    if name not in CLIPS and n_operands < 2:
        return None
    with torch.no_grad():
        at = {z: call.function(torch.full_like(call.root, z)) for z in (-FAR, -3, 0, 0.5, 3, FAR)}
    slope = float(at[FAR].flatten()[0]) / FAR
    if at[0].any():
        return None
    if not (at[-3].any() or at[-FAR].any()) and any((at[z] == z).all() for z in (0.5, 3, FAR)):
        return 1.0
    line = slope > 0 and all(((at[z] / z - slope).abs() < 0.1 * slope).all() for z in (3, FAR))
    return slope if line and all((at[-z].abs() < 0.4 * at[z]).all() for z in (3, FAR)) else None


def _rectified_gradient(method: str, problem: Problem) -> Tensor:
    require_eager(method, problem.model)

    def gradient(trial):
        x = problem.x[trial].to(problem.device).requires_grad_()
        with Rectified(method):
            value = problem.value(x, trial)
        return torch.autograd.grad(value.sum(), x)[0]

    return problem.by_batch(gradient)


@register(
    "guided_backprop",
    reference="Springenberg et al. 2015, ICLR workshop",
    applies_to=runs(partial(Rectified, "guided_backprop")),
)
def guided_backprop(problem: Problem) -> Tensor:
    """Return the gradient with each rectifier passing only positive gradients of units with a positive output [1]_.

    For ReLU this is the published rule. ELU, GELU and the other rectifiers are treated alike, as in [2]_: their own
    derivative is replaced by 0 or 1. Functions that do not rectify (square, logarithm, tanh, sigmoid) keep theirs.
    The rule acts on each torch function that the network calls, whatever module calls it and how often, and on a
    rectifier that the network spells itself, such as ``x.clamp(min=0)``, ``x * (x > 0)`` or ``x * x.sigmoid()``.

    Parameters
    ----------
    problem : Problem

    Raises
    ------
    UnsupportedOperation
        The network calls no rectifier, or something that may be one but cannot be seen: an autograd.Function of its
        own, activation checkpointing, or a comparison that masks other activations than those compared.

    References
    ----------
    .. [1] Springenberg, Dosovitskiy, Brox & Riedmiller (2015). Striving for simplicity: the all convolutional net.
       ICLR workshop.
    .. [2] Cui et al. (2023). Towards best practice of interpreting deep learning models for EEG-based brain computer
       interfaces. Front. Comput. Neurosci. 17, 1232925.
    """
    return _rectified_gradient("guided_backprop", problem)


@register(
    "deconvolution",
    reference="Zeiler & Fergus 2014, ECCV",
    applies_to=runs(partial(Rectified, "deconvolution")),
)
def deconvolution(problem: Problem) -> Tensor:
    """Return the gradient with each rectifier passing only positive gradients, whatever its own output [1]_.

    Which functions count as rectifiers is as for `guided_backprop`.

    Parameters
    ----------
    problem : Problem

    Raises
    ------
    UnsupportedOperation
        The network calls no rectifier, or something that may be one but cannot be seen: an autograd.Function of its
        own, activation checkpointing, or a comparison that masks other activations than those compared.

    References
    ----------
    .. [1] Zeiler & Fergus (2014). Visualizing and understanding convolutional networks. ECCV.
    """
    return _rectified_gradient("deconvolution", problem)
