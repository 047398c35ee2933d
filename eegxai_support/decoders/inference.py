"""Ask a model without changing it, and check what goes in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange, reduce
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


def model_input(model: nn.Module, x, *, name: str = "x") -> torch.Tensor:
    """Check an array of trials against a model and give it the model's type; it stays on its device.

    Parameters
    ----------
    model : torch.nn.Module
        ``model.n_chans`` and ``model.n_times`` are compared with `x` where the model has them.
    x : ndarray or Tensor, shape (trial, channel, time)
        float64 stays float64 where the model is float64; everything else becomes the model's type.
    name : str
        What the error messages call the array.

    Returns
    -------
    Tensor, shape (trial, channel, time), detached

    Raises
    ------
    ValueError
        Wrong number of axes, channels or samples, no trials, NaN or infinity.
    """
    x = _as_tensor(x).detach().to(dtype_of(model))
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (trial, channel, time) with at least one trial.")
    for axis, attribute, hint in (
        (1, "n_chans", "Is the order (trial, channel, time)?"),
        (2, "n_times", "Crop the trials with Trials.crop, or build the decoder for this length."),
    ):
        expected = model_size(model, attribute)
        if expected is not None and x.shape[axis] != expected:
            what = "channels" if axis == 1 else "samples"
            raise ValueError(f"{name} has {x.shape[axis]} {what} but the model expects {expected}. {hint}")
    finite = x.sum((1, 2)).isfinite()  # sums, since a test of each point takes as much memory as x
    if not finite.all():
        trial = int((~finite).nonzero()[0])
        raise ValueError(f"{name} holds NaN or infinity, first in trial {trial}. Drop or repair those trials first.")
    return x


def predict(model: nn.Module, x, *, stride: int | None = None, batch_size: int = 256) -> np.ndarray:
    """Return the logits of a model in eval mode.

    Parameters
    ----------
    model : torch.nn.Module
    x : ndarray or Tensor, shape (trial, channel, time)
    stride : int, optional
        Average the logits over crops of ``model.n_times`` samples that start every `stride` samples. Without it the
        trials must have the model's length.
    batch_size : int
        Crops per forward pass.

    Returns
    -------
    ndarray, shape (trial, class)
    """
    n_trials = len(x)
    if stride:
        crops = crop_view(model, torch.as_tensor(x), stride)
        x = rearrange(crops, "trial channel crop time -> (trial crop) channel time")
    x = model_input(model, x)
    with frozen(model), torch.no_grad():
        logits = torch.cat([model(batch.to(device_of(model)).clone()) for batch in x.split(batch_size)])
    return reduce(logits, "(trial crop) output -> trial output", "mean", trial=n_trials).cpu().numpy()


def crop_view(model: nn.Module, x: torch.Tensor, stride: int) -> torch.Tensor:
    """Return every crop of the model's length that starts at a multiple of `stride`, without copying.

    Shape (trial, channel, crop, time). Raises ValueError where the trials are shorter than the model's input.
    """
    n_times = model_size(model, "n_times")
    if x.ndim != 3 or x.shape[2] < (n_times or 0):
        raise ValueError(
            f"The trials have shape {tuple(x.shape)}; expected (trial, channel, time) with at least {n_times} samples."
            " Load longer trials, or build the decoder for this length."
        )
    return x.unfold(2, n_times or x.shape[2], stride)


def _as_tensor(x) -> torch.Tensor:
    """Return an array as a tensor, without a copy where its memory allows."""
    if isinstance(x, np.ndarray):
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written to
        x = torch.as_tensor(x)
    return x.clone() if x.is_inference() else x


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
