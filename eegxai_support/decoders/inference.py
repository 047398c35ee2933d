"""Ask a model without changing it."""

from __future__ import annotations

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

from eegxai_support.model import (
    checked_batch_size,
    crop_view,
    device_of,
    exact,
    extra_inputs,
    frozen,
    look,
    model_input,
    unwrapped,
)


def predict(model, x, *, stride: int | None = None, batch_size: int = 256, extra=()) -> np.ndarray:
    """Return the outputs of a model in eval mode.

    Parameters
    ----------
    model : torch.nn.Module, or a fitted EEGClassifier, DataParallel or compiled model
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
    stride : int, optional
        Average the outputs over crops of ``model.n_times`` samples that start every `stride` samples. Without it the
        trials must have the model's length.
    batch_size : int
        Crops per forward pass.
    extra : tuple of array-like
        What the model takes after the trials, each with a row per trial.

    Returns
    -------
    ndarray, shape (trial, output)
        What the model returns: logits, for most.

    Raises
    ------
    TypeError, ValueError
        As `attribute`, for what is no model, no trials, or does not fit.
    """
    module, batch_size = unwrapped(model), checked_batch_size(batch_size)
    x = model_input(module, x, any_length=bool(stride))
    crops = crop_view(module, x, stride) if stride else x[:, :, None]
    extra = extra_inputs(module, extra, len(x))
    seen = look(module, crops[:2, :, 0], extra=[each[:2] for each in extra])
    with exact(seen.model):
        return in_crops(seen.model, crops, batch_size, extra)


def in_crops(model: nn.Module, crops: Tensor, batch_size: int, extra: tuple[Tensor, ...] = ()) -> np.ndarray:
    """Return the mean output over the crops of each trial, all of them (trial, channel, crop, time), in batches."""
    n_crops, device = crops.shape[2], device_of(model)
    # A copy of all crops would take n_times / stride times the memory of the trials, so each batch makes its own.
    batches = torch.arange(len(crops) * n_crops, device=crops.device).split(batch_size)

    def outputs(rows: Tensor) -> Tensor:
        trial = rows // n_crops
        return model(crops[trial, :, rows % n_crops].to(device), *(each[trial.cpu()].to(device) for each in extra))

    with frozen(model), torch.no_grad():
        all_outputs = torch.cat([outputs(rows) for rows in batches])
    return reduce(all_outputs, "(trial crop) output -> trial output", "mean", crop=n_crops).cpu().numpy()
