"""Gradients that rectifiers let pass only one way."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eegxai_support.attribution.operations import RECTIFIERS, depends, function_name, runs
from eegxai_support.attribution.problem import Problem, UnsupportedOperation, register


class _Rectify(torch.autograd.Function):
    """The value of a rectifier, with the positive part of the gradient that arrives."""

    @staticmethod
    def forward(ctx, z: Tensor, value: Tensor, guided: bool) -> Tensor:
        ctx.save_for_backward(value > 0 if guided else None)
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (open_gate,) = ctx.saved_tensors
        gradient = gradient.clamp(min=0)
        return gradient if open_gate is None else gradient * open_gate, None, None


class Rectified(TorchFunctionMode):
    """Replace the derivative of every rectifier that a model calls; refuse a model without one."""

    def __init__(self, method: str):
        super().__init__()
        self.method, self.found = method, False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name, _ = function_name(function)
        if name not in RECTIFIERS or not args or not depends(args[0]):
            return function(*args, **kwargs)
        self.found = True
        kwargs.pop("inplace", None)
        value = function(args[0].detach().clone(), *args[1:], **kwargs)
        return _Rectify.apply(args[0], value, self.method != "deconvolution")

    def __exit__(self, error, *details):
        super().__exit__(error, *details)
        if error is None and not self.found:
            raise UnsupportedOperation(
                f"{self.method} has no meaning for a network without rectifiers (ReLU, ELU, GELU …): the map would be"
                " its gradient. Use gradient."
            )


def _rectified_gradient(method: str, problem: Problem) -> Tensor:
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

    References
    ----------
    .. [1] Zeiler & Fergus (2014). Visualizing and understanding convolutional networks. ECCV.
    """
    return _rectified_gradient("deconvolution", problem)
