"""What a model is: its device, type and sizes; and how to hold it still or copy it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Hold a model still while it is explained, and give it back as it was.

    Inside the context every module is in eval mode, no parameter requires or collects a gradient and
    batch-norm statistics do not move. Training flags, ``requires_grad`` and ``.grad`` are restored on
    the way out, also after an exception. Input gradients work as usual.

    Parameters
    ----------
    model : torch.nn.Module
    """
    training = [(module, module.training) for module in model.modules()]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    model.eval()
    for p, _, _ in parameters:
        p.requires_grad_(False)
    try:
        yield model
    finally:
        for module, mode in training:
            module.training = mode
        for p, requires_grad, grad in parameters:
            p.requires_grad_(requires_grad)
            p.grad = grad


def copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without parameter gradients; a model that cannot be copied is returned itself."""
    try:
        return copy_of(model)
    except Exception:
        return model


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode without parameter gradients."""
    return deepcopy(model).eval().requires_grad_(False)


def is_braindecode(module: nn.Module, *names: str) -> bool:
    """Tell braindecode's layers by name, since importing braindecode takes seconds."""
    return type(module).__name__ in names and type(module).__module__.startswith("braindecode.")


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of a model's real parameters; float32 where it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's parameters; the CPU where it has none."""
    return next(model.parameters(), torch.empty(0)).device


def model_size(model: nn.Module, attribute: str) -> int | None:
    """Size that a braindecode model declares; its properties raise ValueError where it was not given."""
    try:
        return getattr(model, attribute, None)
    except ValueError:
        return None
