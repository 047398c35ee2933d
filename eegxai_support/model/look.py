"""Check what goes into a model."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

from eegxai_support.model.state import dtype_of, model_size


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


def _as_tensor(x) -> torch.Tensor:
    """Return an array as a tensor, without a copy where its memory allows."""
    if isinstance(x, np.ndarray):
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written to
        x = torch.as_tensor(x)
    return x.clone() if x.is_inference() else x
