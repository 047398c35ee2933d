"""What a network does with each tensor, seen in one forward pass, and which layers follow each other."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from eegxai_support.model.seeds import forked
from eegxai_support.model.state import frozen, is_braindecode

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
# What a tensor tells about itself but not about its values.
READS_NO_VALUES = {
    "__get__", "__len__", "dim", "element_size", "get_device", "is_complex", "is_contiguous", "is_floating_point",
    "ndimension", "nelement", "numel", "size", "storage_offset", "stride", "type",
}  # fmt: skip


class Trace(TorchFunctionMode):
    """One forward pass, and whose output goes to whom and to nobody else.

    Attributes
    ----------
    calls : dict
        Layers that may be joined and ran once, with their input and output.
    next : dict
        From such a layer to the one that alone takes its output.
    output : object
        Of the model.
    """

    def __init__(self, model: nn.Module, *inputs: Tensor):
        super().__init__()
        self.uses, self.n_calls, self.calls, self.alive = Counter(), Counter(), {}, []
        modules = list(model.modules())
        self.joinable = {module for module in modules if is_plain(module, *WEIGHTED, _BatchNorm) or is_combined(module)}
        shown = {module for module in modules if is_hooked(module)} | {model}
        handles = [module.register_forward_hook(self._shown if module in shown else self._called) for module in modules]
        try:
            with self:
                self.output = model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        self.calls = {module: call for module, call in self.calls.items() if self.n_calls[module] == 1}
        taker = {id(given): module for module, (given, _) in self.calls.items()}
        outputs = {module: id(made) for module, (_, made) in self.calls.items()}
        self.next = {module: taker[made] for module, made in outputs.items() if self.uses[made] == 1 and made in taker}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given, made = self._tensors((args, kwargs)), self._tensors(result)
        if made or result is None:
            self.uses.update(map(id, given))
        elif given and function.__name__ not in READS_NO_VALUES:
            raise NotImplementedError(f"The network decides by its data ({function.__name__}).")
        return result

    def _tensors(self, tree) -> list[Tensor]:
        tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
        self.alive += tensors  # an id is unique only while its tensor lives
        return tensors

    def _called(self, module: nn.Module, given: tuple, made) -> None:
        self.n_calls[module] += 1
        if len(given) == 1 and module in self.joinable:
            self.calls[module] = given[0], made

    def _shown(self, module: nn.Module, given: tuple, made) -> None:
        """Count what a user's hook or the caller sees as used: it has to stay."""
        self.uses.update(map(id, self._tensors((given, made))))


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Tell whether a module without hooks computes what a class of torch computes, be it of a subclass."""
    return (
        not is_hooked(module)
        and "forward" not in vars(module)
        and any(
            isinstance(module, kind)
            and all(
                getattr(type(module), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward")
            )
            for kind in kinds
        )
    )


def is_combined(module: nn.Module) -> bool:
    """Tell whether a module is braindecode's temporal and spatial convolution in one, without hooks."""
    return is_braindecode(module, "CombinedConv") and not is_hooked(module) and "forward" not in vars(module)


def is_hooked(module: nn.Module) -> bool:
    """Tell whether anybody sees or changes what goes into a module or comes out of it."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def is_temporal(layer: nn.Conv2d, time: int) -> bool:
    """Tell whether a layer filters each channel over time, where `time` is the axis of time."""
    space = 3 - time
    padding = 0 if isinstance(layer.padding, str) else layer.padding[space]
    return (layer.kernel_size[space], layer.stride[space], padding) == (1, 1, 0)


def is_spatial(layer: nn.Conv2d, time: int, n_channels: int) -> bool:
    """Tell whether a layer weights all channels at each time, where `time` is the axis of time."""
    kernel = (n_channels, 1) if time == 3 else (1, n_channels)
    return (
        layer.kernel_size == kernel
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding in ((0, 0), "valid")
        and n_channels > 1
    )


class LinearStem(NamedTuple):
    """How a network begins: filters over time, batch norm, and for each filter some over the channels."""

    temporal: nn.Conv2d
    norm: nn.BatchNorm2d
    spatial: nn.Conv2d
    time: int  # the axis of time in (trial, 1, channel, time) or (trial, 1, time, channel)


def linear_stems(model: nn.Module, x: Tensor) -> list[LinearStem]:
    """Return such stems of a model that get the trials as they are: one, one of each branch, or none.

    Parameters
    ----------
    model : torch.nn.Module
        Runs once, in eval mode.
    x : Tensor, shape (trial, channel, time)
    """
    try:
        with frozen(model), forked(x.device), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the network warns of belongs to its own calls
            trace = Trace(model, x)
    except Exception:  # a forward pass may do anything, and so may a trace of it
        return []
    found = []
    for temporal, (given, _) in trace.calls.items():
        norm = trace.next.get(temporal)
        for time in (3, 2):
            stem = LinearStem(temporal, norm, trace.next.get(norm), time)
            if _is_stem(stem, x.shape[1]) and torch.equal(given.squeeze(1) if time == 3 else given.squeeze(1).mT, x):
                found.append(stem)
    return found


def _is_stem(stem: LinearStem, n_channels: int) -> bool:
    temporal, norm, spatial, time = stem
    return (
        isinstance(temporal, nn.Conv2d)
        and isinstance(norm, _BatchNorm)
        and isinstance(spatial, nn.Conv2d)
        and is_temporal(temporal, time)
        and temporal.kernel_size[time - 2] > 1
        and (temporal.in_channels, temporal.bias) == (1, None)
        and temporal.stride == temporal.dilation == (1, 1)
        and temporal.padding_mode == "zeros"
        and norm.track_running_stats
        and norm.momentum is not None
        and is_spatial(spatial, time, n_channels)
        and spatial.groups == spatial.in_channels
    )
