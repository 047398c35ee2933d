"""The same function with fewer operations, for as long as a model is explained."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def simplify(model: nn.Module) -> nn.Module:
    """Return a copy of a model that computes the same function with fewer operations."""
    model = deepcopy(model).eval().requires_grad_(False)
    for layer in model.modules():
        forward = _faster(layer)
        if forward is not None and "forward" not in vars(layer):
            layer.forward = forward
    return model


def is_braindecode(module: nn.Module, *names: str) -> bool:
    """Tell braindecode's layers by name, since importing braindecode takes seconds."""
    return type(module).__name__ in names and type(module).__module__.startswith("braindecode.")


@torch.no_grad()
def _faster(layer: nn.Module):
    """Return a function that computes what the layer computes, or None."""
    if type(layer) in BATCH_NORM and layer.running_mean is not None:
        scale = (layer.running_var + layer.eps).rsqrt()
        scale = scale if layer.weight is None else scale * layer.weight
        shift = -layer.running_mean * scale
        return partial(_affine, scale, shift if layer.bias is None else shift + layer.bias)
    if is_braindecode(layer, "CombinedConv"):
        temporal, spatial = layer.conv_time.weight[:, 0, :, 0], layer.conv_spat.weight[:, :, 0]
        weight = torch.einsum("ht,fhc->fct", temporal, spatial)[:, :, None]
        bias = layer(weight.new_zeros(1, 1, temporal.shape[1], spatial.shape[2]))[0, :, 0, 0]
        return partial(_convolve, weight.contiguous(memory_format=torch.channels_last), bias)
    return None


def _affine(scale: Tensor, shift: Tensor, x: Tensor) -> Tensor:
    feature = (-1,) + (1,) * (x.ndim - 2)
    return torch.addcmul(shift.view(feature), x, scale.view(feature))


def _convolve(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """Convolve (trial, 1, time, channel) to (trial, filter, time, 1)."""
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return nn.functional.conv2d(x, weight, bias).permute(0, 1, 3, 2)
