"""Gradients that rectifiers let pass only one way."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eegxai_support.attribution.operations import RECTIFIERS, depends, function_name, require_eager, runs
from eegxai_support.attribution.problem import Problem, register
from eegxai_support.model import UnsupportedOperation


class _Rectify(torch.autograd.Function):
    """The value of a rectifier, with the positive part of the gradient that arrives where the gate is open."""

    @staticmethod
    def forward(ctx, z: Tensor, value: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(gate)
        ctx.mark_dirty(value)  # so that the result is no view, and the model may overwrite it
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (gate,) = ctx.saved_tensors
        return gradient.clamp(min=0) * gate, None, None


class Rectified(TorchFunctionMode):
    """Replace the derivative of every rectifier that a model calls; refuse a model without one."""

    def __init__(self, method: str):
        super().__init__()
        self.method, self.found = method, False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name, in_place = function_name(function)
        if name not in RECTIFIERS:
            return function(*args, **kwargs)
        z, *rest = (kwargs.pop("input"), *args) if "input" in kwargs else args
        in_place |= kwargs.pop("inplace", False)
        value = function(z.detach().clone(), *rest, **kwargs)
        if depends(z):
            self.found = True
            value = _Rectify.apply(
                z, value, value > 0 if self.method == "guided_backprop" else torch.ones_like(value, dtype=torch.bool)
            )
        return z.copy_(value) if in_place else value

    def __exit__(self, error, *details):
        super().__exit__(error, *details)
        if error is None and not self.found:
            raise UnsupportedOperation(
                f"{self.method} has no meaning for a network without rectifiers (ReLU, ELU, GELU …): the map would be"
                " its gradient. Use gradient."
            )


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
    The rule acts on each torch function that the network calls, whatever module calls it and how often.

    Parameters
    ----------
    problem : Problem

    Raises
    ------
    UnsupportedOperation
        The network calls no rectifier.

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
        The network calls no rectifier.

    References
    ----------
    .. [1] Zeiler & Fergus (2014). Visualizing and understanding convolutional networks. ECCV.
    """
    return _rectified_gradient("deconvolution", problem)
