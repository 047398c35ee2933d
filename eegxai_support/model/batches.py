"""Rows in batches, trials in crops."""

from __future__ import annotations

import operator

import torch
from torch import nn

from eegxai_support.model.state import model_size


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


def checked_batch_size(batch_size: int) -> int:
    """Return `batch_size` if it is a positive integer."""
    if operator.index(batch_size) < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    return operator.index(batch_size)
