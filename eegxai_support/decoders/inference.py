"""Ask a model without changing it."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange, reduce
from torch import nn

from eegxai_support.model import crop_view, device_of, exact, frozen, model_input


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
    with frozen(model), torch.no_grad(), exact(model):
        logits = torch.cat([model(batch.to(device_of(model)).clone()) for batch in x.split(batch_size)])
    return reduce(logits, "(trial crop) output -> trial output", "mean", trial=n_trials).cpu().numpy()
