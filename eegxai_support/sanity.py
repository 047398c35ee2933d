"""Sanity checks: a map has to change when the label or the weights that it explains are replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from eegxai_support.scoring import pearson

ORDERS = ("cascading", "independent")


def random_target(target, n_classes: int, seed: int) -> np.ndarray:
    """Draw a wrong class for each trial, uniformly over the other classes.

    Parameters
    ----------
    target : array-like of int, shape (trial,)
        True classes, 0 … `n_classes` − 1.
    n_classes : int
    seed : int

    Returns
    -------
    ndarray of int64, shape (trial,)

    Raises
    ------
    ValueError
        Fewer than two classes, or a target outside 0 … `n_classes` − 1.
    """
    target = _checked_target(target, n_classes)
    shift = np.random.default_rng(seed).integers(1, n_classes, size=target.shape)
    return (target + shift) % n_classes


def randomize(model: nn.Module, seed: int, *, order: str = "cascading") -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of a model whose learned weights are replaced by random ones, module by module.

    Every learned tensor of a module is redrawn at once: the original behind a parametrised weight (max-norm, weight
    norm), bare parameters, attention projections, the scale and shift of a normalisation and its running statistics.
    A tensor is drawn from the normal distribution with the mean and standard deviation of its trained values; where
    all of them are the same value, from one with mean 0 and that standard deviation, so that zeros stay zero. Running
    variances, which must stay positive, are permuted over the filters instead.

    Parameters
    ----------
    model : torch.nn.Module
        Declares its input as ``model.n_chans`` and ``model.n_times``. It is not changed.
    seed : int
        A seed gives the same values whatever the order or device, and each tensor the same values at every level.
    order : {"cascading", "independent"}
        cascading: from the output to the input, every level keeps what the levels before replaced.
        independent: each level replaces one module of the trained model.

    Yields
    ------
    name : str
        Qualified name of the module just replaced; "" is the model itself, where it owns parameters.
    model : torch.nn.Module
        A new copy in eval mode on the same device.

    Raises
    ------
    ValueError
        Unknown order, no input size, or no parameter that requires a gradient.

    Notes
    -----
    Randomisation is that of [1]_, [2]_ except for the distribution. Both reset to initial values, as
    ``reset_parameters`` does: this misses parametrised and bare parameters, takes PyTorch's default where the model has
    its own initialisation, and resets a normalisation to the identity, so that the signal that reaches the
    nonlinearities changes its scale and a map may change for that reason alone. Trained moments destroy what was
    learned by each weight and keep the scale, by one rule for every tensor of every architecture.

    The order is that of a forward pass with a zero input, not of registration; a module called twice counts where it is
    called last. Modules that are never called because a parent uses their weights (``conv_time`` and ``conv_spat`` of
    braindecode's ShallowFBCSPNet and Deep4Net, the output projection of ``nn.MultiheadAttention``) take the place of
    that parent, in registration order; those that nothing calls come with the model itself, nearest to the input.

    Parameters that do not require a gradient are fixed by design (a filter bank) and kept. Call
    ``model.requires_grad_(True)`` first where training froze some, and do not call it inside ``frozen``.

    References
    ----------
    .. [1] Adebayo, J., et al. (2018). Advances in Neural Information Processing Systems, 31.
    .. [2] Sujatha Ravindran, A., & Contreras-Vidal, J. (2023). Scientific Reports, 13, 17709.
    """
    if order not in ORDERS:
        raise ValueError(f"Unknown order {order!r}; expected one of {ORDERS}.")
    return _levels(model, _learned_by_module(model), _redrawn(model, seed), cascading=order == "cascading")


def label_randomisation_test(
    explain: Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray], model: nn.Module, x, target, n_classes: int
) -> pd.DataFrame:
    """Correlate the map for the true class with the map for every other class.

    A map of what the network uses for a class should change with the class. Use three classes or more: with two, the
    logits mirror each other, and signed maps flip their sign whether or not they depend on the class.

    Parameters
    ----------
    explain : callable
        ``explain(model, x, target)`` returns maps (trial, channel, time) for the classes `target` (trial,).
    model : torch.nn.Module
    x : ndarray, shape (trial, channel, time)
    target : array-like of int, shape (trial,)
        True classes.
    n_classes : int

    Returns
    -------
    DataFrame
        One row per trial and wrong class: trial, target, other, pearson (NaN where a map is constant).

    Raises
    ------
    ValueError
        See `random_target`.
    """
    target = _checked_target(target, n_classes)
    maps = explain(model, x, target)
    rows = []
    for shift in tqdm(range(1, n_classes), desc="Wrong labels", leave=False, delay=2):
        other = (target + shift) % n_classes
        similarity = pearson(explain(model, x, other), maps)
        rows.append(
            pd.DataFrame({"trial": np.arange(len(target)), "target": target, "other": other, "pearson": similarity})
        )
    return pd.concat(rows, ignore_index=True)


def weight_randomisation_test(
    explain: Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray],
    model: nn.Module,
    x,
    target,
    seeds: Iterable[int],
    *,
    order: str = "cascading",
) -> pd.DataFrame:
    """Correlate each trial's map with the maps of the same network with random weights.

    Parameters
    ----------
    explain : callable
        ``explain(model, x, target)`` returns maps (trial, channel, time).
    model : torch.nn.Module
    x : ndarray, shape (trial, channel, time)
    target : array-like of int, shape (trial,)
    seeds : iterable of int
        One randomisation each; their spread shows what a single draw would hide.
    order : {"cascading", "independent"}
        See `randomize`.

    Returns
    -------
    DataFrame
        One row per seed, level and trial: seed, level (from 1), layer (name of the module replaced at that level),
        trial, pearson (NaN where a map is constant).

    Raises
    ------
    ValueError
        See `randomize`.
    """
    target, seeds = np.asarray(target), list(seeds)
    maps = explain(model, x, target)
    rows = []
    with tqdm(total=len(seeds) * len(_learned_by_module(model)), desc="Random weights", leave=False, delay=2) as bar:
        for seed in seeds:
            for level, (layer, randomized) in enumerate(randomize(model, seed, order=order), start=1):
                similarity = pearson(explain(randomized, x, target), maps)
                trial = np.arange(len(similarity))
                rows.append(
                    pd.DataFrame({"seed": seed, "level": level, "layer": layer, "trial": trial, "pearson": similarity})
                )
                bar.update()
    return pd.concat(rows, ignore_index=True)


def _checked_target(target, n_classes: int) -> np.ndarray:
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; a wrong class needs at least 2.")
    target = np.asarray(target)
    if not np.isin(target, np.arange(n_classes)).all():
        raise ValueError(f"target has the values {np.unique(target).tolist()}; expected integers 0 … {n_classes - 1}.")
    return target.astype(np.int64)


def _levels(
    model: nn.Module, learned: dict[str, list[str]], redrawn: dict[str, torch.Tensor], *, cascading: bool
) -> Iterator[tuple[str, nn.Module]]:
    replaced = []
    for module, tensors in learned.items():
        replaced = [*replaced, *tensors] if cascading else tensors
        randomized = deepcopy(model).eval()
        state = randomized.state_dict()
        for name in replaced:
            state[name].copy_(redrawn[name])
        yield module, randomized


def _learned_by_module(model: nn.Module) -> dict[str, list[str]]:
    """Names of the learned tensors of each module that has any, from the output to the input."""
    last_call = _last_call(model)

    def place(module: str) -> int:
        while module not in last_call:
            module = module.rpartition(".")[0]
        return last_call[module]

    learned: dict[str, list[str]] = {}
    for name in _learned(model):
        # A parametrised weight lives in a child of its module: "conv.parametrizations.weight.original".
        module = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        learned.setdefault(module, []).append(name)
    return {module: learned[module] for module in reversed(sorted(learned, key=place))}


def _learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that training moves, and the running statistics that it leaves behind."""
    learned = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not learned:
        raise ValueError(
            "No parameter of the model requires a gradient, so none counts as learned. Call randomize outside frozen,"
            " or model.requires_grad_(True) first."
        )
    running = {
        name: b for name, b in model.named_buffers() if name.rpartition(".")[2] in ("running_mean", "running_var")
    }
    return learned | running


def _last_call(model: nn.Module) -> dict[str, int]:
    """Position of each called module in a forward pass (that of its last call)."""
    try:
        shape = (1, model.n_chans, model.n_times)
    except (AttributeError, ValueError) as error:
        raise ValueError(
            "randomize follows a forward pass, so the model must declare its input: set model.n_chans and"
            " model.n_times."
        ) from error
    copy = deepcopy(model).eval()
    calls: list[str] = []
    for name, module in copy.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    parameter = next(copy.parameters())
    with torch.no_grad():
        copy(torch.zeros(shape, device=parameter.device, dtype=parameter.dtype))
    return {name: position for position, name in enumerate(calls)}


def _redrawn(model: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: _redraw(name, value.cpu(), generator) for name, value in _learned(model).items()}


def _redraw(name: str, value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if name.rpartition(".")[2] == "running_var":
        return value[torch.randperm(len(value), generator=generator)]
    mean, std = value.mean(), value.std(correction=0)
    if value.min() == value.max():
        mean, std = torch.zeros_like(mean), mean.abs()
    return mean + std * torch.randn(value.shape, generator=generator, dtype=value.dtype)
