"""Ask a model without changing it."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from einops import reduce
from torch import nn

from eegxai_support.model import checked_batch_size, crop_view, device_of, dtype_of, frozen, model_input


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
    crops = crop_view(model, shared(x), stride) if stride else model_input(model, x)[:, :, None]
    n_crops = crops.shape[2]
    for crop in range(n_crops if stride else 0):
        model_input(model, crops[:, :, crop])
    # A copy of all crops would take n_times / stride times the memory of the trials, so each batch makes its own.
    rows = torch.arange(len(crops) * n_crops).split(checked_batch_size(batch_size))
    with frozen(model), torch.no_grad():
        logits = torch.cat([model(_crops(crops, each).to(device_of(model), dtype_of(model))) for each in rows])
    return reduce(logits, "(trial crop) output -> trial output", "mean", crop=n_crops).cpu().numpy()


def _crops(crops: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return some rows of "(trial crop) channel time", copied, from all crops (trial, channel, crop, time)."""
    rows = rows.to(crops.device)
    return crops[rows // crops.shape[2], :, rows % crops.shape[2]]


def shared(x) -> torch.Tensor:
    """Return an array as a tensor that shares its memory; it is only read, so a read-only one is as good."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.as_tensor(x)
