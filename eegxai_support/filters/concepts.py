"""What each filter of a network stands for: its relevance, the trials that show it, and what it sees in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.attribution import METHODS, Attribution, attribute
from eegxai_support.model import UnsupportedOperation, look, wide
from eegxai_support.trials import unknown_name


@dataclass(frozen=True, eq=False)
class ConceptRelevance:
    """How much each filter of a layer contributes to each trial, and the trials that show what it stands for.

    Parameters
    ----------
    relevance : ndarray of float64, shape (trial, filter)
        Relevance that arrives at each filter, summed over its positions, in units of the output.
    reference : list of ndarray of int
        The reference trials of each filter, the most relevant first; none for a filter without relevance.
    activation : ndarray, shape (filter, position)
        Activation of each filter, averaged over its reference trials; NaN where there are none. After the spatial
        filters the positions are points in time.
    maps : list of Attribution or None
        Of each filter, the maps of its reference trials, in the order of `reference`, conditional on the filter.
    """

    relevance: np.ndarray
    reference: list[np.ndarray]
    activation: np.ndarray
    maps: list[Attribution | None]


def concept_relevance(
    model, x, target, layer: str, *, method: str = "lrp_epsilon", share: float = 0.2, batch_size: int = 64, **options
) -> ConceptRelevance:
    """Return the relevance of each filter of a layer, its reference trials, and what it sees in them.

    Concept relevance propagation [1]_: the relevance of the output is handed down to `layer`, and a filter gets what
    arrives at its positions. Over the filters of a layer that all relevance passes through, the relevance of a trial
    and the biases above the layer add up to its output. The maps of a filter hand on its part alone: each sums to the
    filter's relevance less what biases from the layer down keep, whatever other branches the network has. Over the
    filters those of a trial add up to what passes through the layer, the whole map where nothing flows around it.

    Parameters
    ----------
    model : torch.nn.Module, or what `attribute` takes for one
        Maps (trial, channel, time) to (trial, output).
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
    target : int, array of int (trial,), tuple (int, int) or callable
        As for `attribute`.
    layer : str
        Qualified name of a layer, as in ``model.named_modules()``, with its filters on axis 1 of the output. A batch
        norm that LRP folds into the layer belongs to it.
    method : str
        A method of LRP.
    share : float
        Of a filter's absolute relevance that its reference trials hold, as for `reference_trials`.
    batch_size : int
        Trials per pass.
    **options
        Of the method.

    Returns
    -------
    ConceptRelevance
        The relevance is not normalised, so that filters can be ranked by it.

    Raises
    ------
    ValueError
        Unknown layer, another method than LRP, or a share outside 0 … 1.
    UnsupportedOperation
        No relevance arrives at the layer, or it runs more than once per trial.

    Notes
    -----
    The relevance takes one pass for all filters; the maps take another one for each filter, over its reference trials.

    References
    ----------
    .. [1] Achtibat et al. (2023). From attribution maps to human-understandable explanations through concept relevance
       propagation. Nature Machine Intelligence 5, 1006-1019.
    """
    if not method.startswith("lrp_") or method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(m for m in METHODS if 'lrp_' in m)}.")
    seen = look(model, x)
    model, x = seen.model, seen.x
    if layer not in dict(model.named_modules()):
        raise unknown_name("layer", layer, filter(None, dict(model.named_modules())))
    _check_share(share)
    options |= {"method": method, "batch_size": batch_size}
    layer, relevance = _filter_relevance(model, x, target, layer, options)
    reference = reference_trials(relevance, share)
    maps, activation = [], []
    for f, trials in enumerate(tqdm(reference, desc="Concepts", unit="filter", leave=False, delay=2)):
        each = _of_filter(model, x[trials], _of_trials(target, trials), layer, f, options) if len(trials) else None
        maps.append(each and each[0])
        activation.append(np.nan if each is None else each[1])
    return ConceptRelevance(relevance, reference, np.stack(np.broadcast_arrays(*activation)), maps)


def reference_trials(relevance, share: float = 0.2) -> list[np.ndarray]:
    """Choose the trials that show best what a filter stands for: relevance maximisation.

    Parameters
    ----------
    relevance : array-like, shape (trial, filter)
    share : float
        Above 0 and at most 1. Of each filter the fewest trials are taken whose absolute relevance together exceeds
        this share of all trials' (1: every trial with relevance).

    Returns
    -------
    list of ndarray of int
        Trial indices of each filter, the most relevant first; empty for a filter without relevance.

    Raises
    ------
    ValueError
        A share outside 0 … 1, or relevance without two axes or with NaN or infinity.

    References
    ----------
    .. [1] Achtibat et al. (2023). From attribution maps to human-understandable explanations through concept relevance
       propagation. Nature Machine Intelligence 5, 1006-1019.
    """
    _check_share(share)
    size = np.abs(relevance)
    if size.ndim != 2 or not np.isfinite(size).all():
        raise ValueError(f"relevance has shape {size.shape}; expected finite values (trial, filter).")
    order = np.argsort(-size, axis=0, kind="stable")
    cumulated = np.take_along_axis(size, order, axis=0).cumsum(axis=0)
    n_kept = np.minimum(1 + (cumulated <= share * cumulated[-1]).sum(axis=0), (size > 0).sum(axis=0))
    return [column[:n] for column, n in zip(order.T, n_kept, strict=True)]


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; expected a share of the relevance, above 0 and at most 1.")


def _of_trials(target, trials: np.ndarray):
    difference = isinstance(target, tuple) and len(target) == 2
    if difference or np.ndim(target) == 0:
        return target
    return target[trials] if isinstance(target, torch.Tensor) else np.asarray(target)[trials]


def _filter_relevance(model: nn.Module, x, target, layer: str, options: dict) -> tuple[str, np.ndarray]:
    """Return the relevance (trial, filter) that arrives at a layer, or at the batch norm that it is folded with."""
    arrived: dict[str, list[Tensor]] = {}

    def note(name, activation, multiplier):
        by_filter = wide((multiplier * activation).reshape(*activation.shape[:2], -1)).sum(2)
        arrived.setdefault(name, []).append(by_filter.cpu())

    with _watched(model, layer, note):
        attribute(model, x, target, **options)
    if not arrived:
        raise UnsupportedOperation(
            f"No relevance of {options['method']} arrives at filters of layer {layer!r} of {type(model).__name__}: it"
            " does not run by itself, its output is not used, or it is no tensor (trial, filter, ...). Name the layer"
            " around or after it."
        )
    name = layer if layer in arrived else next(iter(arrived))
    relevance = torch.cat(arrived[name]).numpy()
    if len(relevance) != len(x):
        raise UnsupportedOperation(
            f"Layer {layer!r} of {type(model).__name__} gave {len(relevance)} rows for {len(x)} trials; use a layer"
            " that runs once and keeps the axis of trials."
        )
    return name, relevance


def _of_filter(model: nn.Module, x, target, layer: str, f: int, options: dict) -> tuple[Attribution, np.ndarray]:
    """Return the maps of trials conditional on a filter, and the filter's mean activation (position,)."""
    sums = []

    def note(name, activation, multiplier):
        sums.append(activation[:, f].flatten(1).sum(0) if activation.ndim > 2 else activation[:, [f]].sum(0))

    with _watched(model, layer, note):
        maps = attribute(model, x, target, conditions={layer: f}, **options)
    return maps, sum(sums).cpu().numpy() / len(x)


@contextmanager
def _watched(model: nn.Module, layer: str, note: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Call ``note(name, activation, multiplier)`` for each batch whose relevance arrives at the layer.

    And where it arrives at a batch norm right after the layer, which is all that it does where the two are folded.
    """
    made = []  # by the layer, in its last forward pass

    def hook(module, args, output, name):
        if name == layer:
            made[:] = [output]
        elif not (made and args[0] is made[0]):
            return
        if isinstance(output, Tensor) and output.ndim > 1 and output.requires_grad:
            activation = output.clone()  # what comes next may work in place
            output.register_hook(lambda multiplier: note(name, activation.detach(), multiplier))

    handles = [
        module.register_forward_hook(lambda *call, name=name: hook(*call, name))
        for name, module in model.named_modules()
        if name == layer or isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
