"""The same function with fewer operations, for as long as a model is explained."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import handle_torch_function, has_torch_function_unary
from torch.utils._pytree import tree_leaves

from eegxai_support.model.arithmetic import exact, wide
from eegxai_support.model.seeds import forked
from eegxai_support.model.state import copied, copy_of, model_size, unwrapped
from eegxai_support.model.trace import WEIGHTED, Trace, is_combined, is_plain, is_spatial, is_temporal

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def simplify(model: nn.Module, x: Tensor | None = None, extra: tuple[Tensor, ...] = ()) -> nn.Module:
    """Return a copy of a model that computes the same function with fewer operations.

    Dropout goes, batch norm goes into the convolution or linear layer before it, parametrised weights are computed
    once, and a temporal convolution before a spatial one over all channels becomes spatial filters before temporal
    ones, or a single convolution where that costs less. Nonlinear operations stay as they are. What may be joined is
    found by running the copy on noise and counting the uses of each tensor, not by the name of the architecture; the
    result is compared with the copy on the same noise.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (trial, channel, time) to its outputs; it is not changed.
    x : Tensor, shape (trial, channel, time), optional
        Tells the channels and samples of a model that does not declare them as ``n_chans`` and ``n_times``.
    extra : tuple of Tensor
        What the model takes after the trials, two rows each.

    Returns
    -------
    torch.nn.Module
        In eval mode, its parameters without gradients. What cannot be simplified is left as it is: a layer with hooks
        or that runs more than once, batch norm without running statistics, and the whole network where it decides by
        its data or its size is unknown. A model that cannot be copied is returned itself.
    """
    model = unwrapped(model)
    shape = (model_size(model, "n_chans"), model_size(model, "n_times")) if x is None else tuple(x.shape[1:])
    # A forward pass may do anything. Whatever goes wrong here, the network as it was given is right.
    if None not in shape:
        try:
            return _rewritten(copy_of(model), shape, extra)
        except Exception:
            pass
    return copied(model)


@torch.no_grad()
def _rewritten(model: nn.Module, shape: tuple[int, int], extra: tuple[Tensor, ...]) -> nn.Module:
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(model.parameters(), noise))
    extra = tuple(each.to(noise.device) for each in extra)
    with forked(noise.device), exact(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the network warns of belongs to its own calls
        given = model(noise.clone(), *extra)
        _replace(model, {module: nn.Identity() for module in model.modules() if is_plain(module, *DROPOUTS)})
        _replace(model, {module: ELU() for module in model.modules() if _is_plain_elu(module)})
        _replace(model, _replacements(Trace(model, noise.clone(), *extra)))
        # For what a trace cannot see, such as a weight that is also used elsewhere.
        for made, right in zip(tree_leaves(model(noise, *extra)), tree_leaves(given), strict=True):
            tolerance = sqrt(torch.finfo(right.dtype).eps)
            close = torch.allclose(made, right, rtol=tolerance, atol=tolerance * float(right.abs().max()))
            if made.shape != right.shape or not close:
                raise NotImplementedError("The network computes something else with its parts replaced.")
    return model


def _replace(model: nn.Module, replacements: dict[nn.Module, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = replacements.get(child, child)


def _is_plain_elu(module: nn.Module) -> bool:
    return is_plain(module, nn.ELU) and module.alpha == 1 and not module.inplace  # who works in place may count on it


@dataclass(eq=False)
class _Layer:
    """The weights of a convolution or linear layer and of the batch norm after it, in double precision on the CPU."""

    module: nn.Module
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, module: nn.Module, norm: nn.Module | None) -> _Layer:
        weight = wide(module.weight)
        bias = weight.new_zeros(len(weight)) if module.bias is None else wide(module.bias)
        if norm is not None:
            scale, shift = _affine(norm)
            weight, bias = weight * scale.view(-1, *(1,) * (weight.ndim - 1)), bias * scale + shift
        return cls(module, weight, bias)

    def plain(self) -> nn.Module:
        """Return a layer of torch's own class with these weights."""
        if not isinstance(self.module, nn.Linear):
            return _convolution(self.weight, self.bias, self.module, self.module.groups)
        layer = nn.Linear(*self.weight.shape[::-1], device="meta")
        return _with(layer, self.weight, self.bias, self.module.weight)


def _convolution(weight: Tensor, bias: Tensor, like: nn.Module, groups: int) -> nn.Module:
    """Return a convolution that moves over its input as `like` does."""
    kind = next(kind for kind in WEIGHTED if isinstance(like, kind))
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    geometry = {name: getattr(like, name) for name in names}
    layer = kind(weight.shape[1] * groups, len(weight), groups=groups, device="meta", **geometry)
    return _with(layer, weight, bias, like.weight)


def _with(layer: nn.Module, weight: Tensor, bias: Tensor, like: Tensor) -> nn.Module:
    """Give a layer that was made without memory its weights."""
    layer.weight, layer.bias = (nn.Parameter(each.to(like), requires_grad=False) for each in (weight, bias))
    return layer


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand of a batch norm."""
    scale = (wide(norm.running_var) + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * wide(norm.weight)
    shift = -wide(norm.running_mean) * scale
    return scale, shift if norm.bias is None else shift + wide(norm.bias)


def _replacements(trace: Trace) -> dict[nn.Module, nn.Module]:
    """Return what takes each layer's place: of layers that are joined, the first computes all."""
    norms = {module for module in trace.calls if isinstance(module, _BatchNorm) and module.running_mean is not None}
    replacements = {norm: Affine(norm) for norm in norms}
    pairs, layers, last = {}, {}, {}
    for module, (_, output) in trace.calls.items():
        if isinstance(module, _BatchNorm):
            continue
        norm = trace.next.get(module)
        norm = norm if norm in norms and (is_combined(module) or output.ndim == module.weight.ndim) else None
        if norm is not None:
            replacements[norm] = nn.Identity()
        if is_combined(module):
            pairs[module] = _Layer.of(module.conv_time, None), _Layer.of(module.conv_spat, norm)
            continue
        layers[module], last[module] = _Layer.of(module, norm), norm or module
        if norm is not None or hasattr(module, "parametrizations"):
            replacements[module] = layers[module].plain()
    for module, layer in layers.items():
        second = layers.get(trace.next.get(last[module]))
        if second is not None:
            pairs[module] = layer, second
    for module, (first, second) in pairs.items():
        stem = _stem(first, second, trace.calls[module][0].shape)
        if stem is not None:
            replacements[module] = stem
            if not is_combined(module):
                replacements[second.module] = nn.Identity()
    return replacements


def _stem(first: _Layer, second: _Layer, shape: torch.Size) -> Stem | None:
    """Join a temporal and a spatial convolution, in whichever order, if that saves operations.

    Without a channel's own filter, ``sum_c s_c (w * x_c) = w * sum_c s_c x_c``: the temporal filter w can wait until
    the spatial filter s has left one signal of many.
    """
    a, b = first.module, second.module
    if not (isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d) and a.in_channels == 1):
        return None
    for time in (3, 2):
        n_channels = shape[5 - time]
        if is_temporal(a, time) and is_spatial(b, time, n_channels):
            return _temporal_first(first, second, time)
        if is_spatial(a, time, n_channels) and is_temporal(b, time) and b.groups == b.in_channels:
            # With several filters per input a depthwise convolution is 20 times slower: each gets an input of its own.
            spatial, offset = (
                each.repeat_interleave(len(second.bias) // len(first.bias), 0)
                for each in (first.weight.flatten(1), first.bias)
            )
            spatial, bias, at_input = spatial.to(b.weight), second.bias, offset[:, None].to(b.weight)
            if b.padding in ((0, 0), "valid"):  # else a constant makes other numbers at the edges
                bias, at_input = bias + offset * second.weight.flatten(1).sum(1), None
            return Stem(_convolution(second.weight, bias, b, len(offset)), time, spatial, at_input)
    return None


def _temporal_first(first: _Layer, second: _Layer, time: int) -> Stem | None:
    """Join a temporal convolution and the spatial one after it, the cheaper way of two or not at all."""
    temporal, spatial = first.weight, second.weight.flatten(2)
    n_filters, n_terms, n_channels = spatial.shape
    # Which temporal features each spatial filter adds up, shape (filter, term).
    of = torch.arange(len(temporal)).view(-1, n_terms)
    of = of.repeat_interleave(n_filters // len(of), 0)
    bias = second.bias + (spatial.sum(2) * first.bias[of]).sum(1)
    length = temporal[0].numel()
    given = len(temporal) * n_channels * length + n_filters * n_terms * n_channels
    merged, separate = n_filters * n_channels * length, n_filters * n_terms * (n_channels + length)
    if min(merged, separate) >= given:
        return None
    if merged < separate:
        weight = torch.einsum("fnc,fntu->fctu", spatial, temporal[of].squeeze(2))
        return Stem(_convolution(weight, bias, first.module, groups=1), time)
    bias = nn.functional.pad(bias[:, None], (0, n_terms - 1)).flatten()
    layer = _convolution(temporal[of].flatten(0, 1), bias, first.module, len(bias))
    return Stem(layer, time, spatial.flatten(0, 1).to(layer.weight), n_terms=n_terms)


class ELU(nn.Module):
    """`torch.nn.ELU`, more than twice as fast on a CPU in single precision, where torch's ``expm1`` is slow."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x above zero, exp(x) - 1 below."""
        return elu(x)


def elu(x: Tensor) -> Tensor:
    """Return the ELU, as a torch function that function modes see under its name."""
    if has_torch_function_unary(x):
        return handle_torch_function(elu, (x,), x)
    return nn.functional.elu(x) if x.is_cuda or x.dtype != torch.float32 else _FastELU.apply(x)


class _FastELU(torch.autograd.Function):
    """With t = tanh(x / 2), exp(x) - 1 is 2 t / (1 - t): as accurate as ``expm1``, also near zero."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        t = x.clamp(max=0).div_(2).tanh_()
        y = x.clamp(min=0).addcdiv_(t, 1 - t, value=2)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return y.clamp(max=0).add_(1).mul_(gradient)


class Affine(nn.Module):
    """Batch norm in eval mode."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        scale, shift = _affine(norm)
        self.register_buffer("scale", scale.to(norm.running_mean))
        self.register_buffer("shift", shift.to(norm.running_mean))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input scaled and shifted by feature, axis 1."""
        feature = (-1,) + (1,) * (x.ndim - 2)
        return torch.addcmul(self.shift.view(feature), x, self.scale.view(feature))


class Stem(nn.Module):
    """Spatial filters over all EEG channels, then temporal ones; or both in one convolution.

    Parameters
    ----------
    temporal : torch.nn.Conv2d
        One filter per spatial filter, or filters over all channels.
    time : {2, 3}
        The axis of time in the input (trial, 1, channel, time) or (trial, 1, time, channel).
    spatial : Tensor, shape (filter, channel), optional
    offset : Tensor, shape (filter, 1), optional
        Added to the spatially filtered signals.
    n_terms : int
        Outputs of `temporal` that are added up to one feature.
    """

    def __init__(self, temporal, time, spatial=None, offset=None, n_terms=1):
        super().__init__()
        self.temporal, self.time, self.n_terms = temporal, time, n_terms
        self.register_buffer("spatial", spatial)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of trials (trial, 1, channel, time), or (trial, 1, time, channel)."""
        x = x.squeeze(1) if self.time == 3 else x.squeeze(1).mT
        last = not x.is_cuda  # a CPU convolves 4 times faster with the features last in memory
        if self.spatial is not None and last and not torch.is_grad_enabled():
            # A gradient would come back with its channels last, and have to be put in order again.
            x = (x.mT @ self.spatial.mT.expand(len(x), -1, -1)).mT
        elif self.spatial is not None:
            x = self.spatial.expand(len(x), -1, -1) @ x
        if self.offset is not None:
            x = x + self.offset
        x = x.unsqueeze(5 - self.time)
        if last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.temporal(x)
        return x if self.n_terms == 1 else x.unflatten(1, (-1, self.n_terms)).sum(2)
