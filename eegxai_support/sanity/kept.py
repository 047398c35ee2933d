"""Tensors that a network computed from its weights and keeps for the next forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Run = Callable[[nn.Module], object]
OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def duplicate(model: nn.Module) -> nn.Module:
    """Return a deep copy, also of a model that keeps tensors with a history, which torch does not copy."""
    kept = (leaf for module in model.modules() for leaf in tree_leaves(vars(module)) if isinstance(leaf, Tensor))
    return deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf})


def kept_tensors(model: nn.Module) -> list[tuple[str, str]]:
    """Return module and attribute of what a model holds besides its parameters and the buffers of torch's own layers.

    Constants are among them, and what an earlier forward pass computed.
    """
    return [
        (name, key)
        for name, module in model.named_modules()
        if not type(module).__module__.startswith("torch.nn.")
        for key in (*vars(module), *module._buffers)
        if key not in OF_EVERY_MODULE and _tensors(module, key)
    ]


def forget(model: nn.Module, run: Run) -> list[tuple[str, str]]:
    """Take from a model what it makes again by itself, and return what is left of `kept_tensors`.

    Weights that are replaced have no effect where a forward pass goes on with what an earlier one computed from them.
    How a network tells that it has to compute is not known; whether it does, once a tensor is gone, can be seen.

    Parameters
    ----------
    model : torch.nn.Module
        A copy, which is changed.
    run : callable
        Runs a model on some trials.
    """
    left = []
    for name, key in kept_tensors(model):
        if not any(_is_made_again(model, name, key, take, run) for take in (_empty, _delete)):
            left.append((name, key))
    return left


def warn_of_idle(model: nn.Module, variants: Iterable[tuple[str, str, nn.Module]], left: list, run: Run) -> None:
    """Warn of weights whose replacement changes nothing in the outputs while their module keeps a tensor.

    Parameters
    ----------
    model : torch.nn.Module
    variants : iterable of (str, str, torch.nn.Module)
        A module that runs, one of its learned tensors, and a copy of the model in which this tensor is another.
    left : list of (str, str)
        From `forget`.
    run : callable
    """
    outputs, idle = tree_leaves(run(model)), []
    for module, tensor, variant in variants:
        holds = any(not name or f"{module}.".startswith(f"{name}.") for name, _ in left)
        if holds and all(map(torch.equal, tree_leaves(run(variant)), outputs)):
            idle.append(tensor)
    if idle:
        kept = ", ".join(f"{name}.{key}".lstrip(".") for name, key in left)
        warnings.warn(
            f"Replacing {', '.join(idle)} of {type(model).__name__} changes none of its outputs. It keeps {kept}: was it"
            " computed from that in an earlier forward pass? Load the weights into a new network that has not run,"
            " and randomize that one.",
            stacklevel=4,
        )


def _is_made_again(model: nn.Module, name: str, key: str, take: Callable, run: Run) -> bool:
    copy = duplicate(model)
    take(copy.get_submodule(name), key)
    try:
        run(copy)
    except Exception:  # it cannot do without
        return False
    if not _tensors(copy.get_submodule(name), key):
        return False
    take(model.get_submodule(name), key)
    return True


def _tensors(module: nn.Module, key: str) -> list[Tensor]:
    value = module._buffers.get(key, vars(module).get(key))
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)]


def _empty(module: nn.Module, key: str) -> None:
    if key in module._buffers:
        module._buffers[key] = None
    else:
        value = vars(module)[key]
        vars(module)[key] = type(value)() if isinstance(value, dict | list) else None


def _delete(module: nn.Module, key: str) -> None:
    """As a cached property wants it, or a network that asks whether it has the attribute."""
    del (module._buffers if key in module._buffers else vars(module))[key]
