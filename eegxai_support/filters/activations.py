"""What the units of a layer do in each trial, and how much the accuracy depends on each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest, norm
from torch import Tensor, nn
from tqdm import tqdm

from eegxai_support.model import (
    UnsupportedOperation,
    device_of,
    exact,
    frozen,
    is_out_of_memory,
    look,
    receptive_fields,
)
from eegxai_support.trials import Trials

INTACT = -1  # in the place of a unit: the network as it is


def unit_activations(model: nn.Module, x, layer: str, *, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return what the units of a layer put out in each trial, and when.

    Parameters
    ----------
    model : torch.nn.Module
    x : ndarray or Tensor, shape (trial, channel, time)
    layer : str
        Qualified name of a layer behind the spatial filters, as in ``model.named_modules()``: units on axis 1 of its
        output, time on one of the others. `Filters.layer` is one, the pooling layers that follow are others.
    batch_size : int
        Trials per forward pass.

    Returns
    -------
    activations : ndarray, shape (trial, unit, position)
    times : ndarray, shape (position,)
        Middle of each position's receptive field, in samples of the trial. With padding it may lie outside of it.

    Raises
    ------
    ValueError
        Unknown layer, or trials that do not fit the model.
    UnsupportedOperation
        The layer never runs or runs more than once, its positions are not in time, or units and time are not all that
        its output has.
    """
    seen, kept = look(model, x), []
    model, x = seen.model, seen.x
    fields = receptive_fields(model, layer, *x.shape[1:])

    def keep(_, __, output):
        rest = [size for axis, size in enumerate(output.shape) if axis not in (0, 1, fields.time_axis)]
        if fields.time_axis == 1 or max(rest, default=1) > 1:
            raise UnsupportedOperation(
                f"The output of layer {layer!r} has the shape {tuple(output.shape[1:])} for a trial, with time on axis"
                f" {fields.time_axis - 1}; expected units first and, besides time, no other axis. Use a layer behind"
                " the spatial filters."
            )
        kept.append(output.flatten(2).clone().cpu())  # the next layer may work in place

    with frozen(model), exact(model), torch.no_grad(), model.get_submodule(layer).register_forward_hook(keep):
        for batch in tqdm(x.split(batch_size), desc="Activations", unit="batch", leave=False, delay=2):
            model(batch.to(device_of(model)).clone())
    return torch.cat(kept).numpy(), fields.centre


def ablate_units(
    model: nn.Module, trials: Trials, layer: str, *, level: float = 0.95, batch_size: int = 16
) -> pd.DataFrame:
    """Measure how much the accuracy falls when a unit is held still.

    Each unit in turn is held at its mean over trials and time. At zero it would say something that it may never say
    on trials, and what follows would answer to that.

    Parameters
    ----------
    model : torch.nn.Module
    trials : Trials
        Not those it was trained on. Accuracy counts every trial alike: take as many of each class.
    layer : str
        As in `unit_activations`. All that reaches the output has to pass through it.
    level : float
        Confidence of the intervals, between 0 and 1.
    batch_size : int
        Trials per forward pass. The layers behind the units compute each as often as there are units, those before
        them once.

    Returns
    -------
    DataFrame
        A row for the intact network, its unit -1, then one per unit: unit, accuracy, low, high, drop, drop_low and
        drop_high. `low` and `high` are Wilson's interval [1]_; `drop` is the accuracy of the intact network less that
        without the unit, with the interval of Bonett and Price [2]_ for the same trials seen twice. Unlike those of
        the bootstrap they have a width also where all trials are right or none changes. They take trials as
        independent: with several subjects, make one table for each.

    Raises
    ------
    ValueError
        Unknown layer, trials that do not fit the model, a model with one output, or a level outside 0 … 1.
    UnsupportedOperation
        As `unit_activations`; or a path leads around the layer.

    References
    ----------
    .. [1] Wilson (1927). Probable inference, the law of succession, and statistical inference. Journal of the American
       Statistical Association 22(158), 209-212.
    .. [2] Bonett & Price (2012). Adjusted Wald confidence interval for a difference of binomial proportions based on
       paired data. Journal of Educational and Behavioral Statistics 37(4), 479-488.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95.")
    seen = look(model, trials)
    if seen.n_outputs == 1:
        raise ValueError(
            f"{type(model).__name__} has one output, which decides between no classes. Where it is the logit of the"
            " second of two: xs.adapted(model, output=lambda z: torch.cat([torch.zeros_like(z), z], dim=1))."
        )
    activations, _ = unit_activations(model, trials, layer, batch_size=batch_size)
    right = _right(seen.model, seen.x, trials.label, layer, activations.mean((0, 2)), batch_size)
    rows = []
    for unit, without in enumerate(right, start=INTACT):
        interval = binomtest(int(without.sum()), len(without)).proportion_ci(level, method="wilson")
        drop = (
            (np.nan,) * 3 if unit == INTACT else (right[0].mean() - without.mean(), *_paired(right[0], without, level))
        )
        rows.append((unit, without.mean(), *interval, *drop))
    return pd.DataFrame(rows, columns=["unit", "accuracy", "low", "high", "drop", "drop_low", "drop_high"])


def _right(model: nn.Module, x: Tensor, label: np.ndarray, layer: str, mean: np.ndarray, batch_size: int) -> np.ndarray:
    """Tell which trials are classified rightly, shape (1 + unit, trial): first by the intact network."""
    n_units = len(mean)
    mean, units = torch.as_tensor(mean).to(device_of(model)), torch.arange(n_units)

    def hold(_, __, output):
        variants = output.unsqueeze(0).repeat(1 + n_units, *(1 for _ in output.shape))
        variants[1 + units, :, units] = mean.view(-1, *(1 for _ in output.shape[1:]))
        return variants.flatten(0, 1)

    predicted = []
    with frozen(model), exact(model), torch.no_grad(), model.get_submodule(layer).register_forward_hook(hold):
        for batch in tqdm(x.split(batch_size), desc="Ablation", unit="batch", leave=False, delay=2):
            logits = _all_variants(model, batch.to(device_of(model)).clone(), layer, 1 + n_units)
            predicted.append(logits.argmax(-1).cpu().numpy())
    return np.concatenate(predicted, axis=1) == label


def _all_variants(model: nn.Module, batch: Tensor, layer: str, n_variants: int) -> Tensor:
    """Return logits (variant, trial, class) of a network whose layer makes several variants of each trial."""
    try:
        return model(batch).view(n_variants, len(batch), -1)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise UnsupportedOperation(
            f"What follows layer {layer!r} of {type(model).__name__} does not take its units alone"
            f" ({str(error).splitlines()[0]}). Use a layer that everything passes through, not one inside a block with"
            " a shortcut around it."
        ) from error


def _paired(intact: np.ndarray, without: np.ndarray, level: float) -> tuple[float, float]:
    """Return Bonett and Price's interval for the difference of two proportions over the same trials."""
    n = len(intact) + 2
    lost, won = ((intact & ~without).sum() + 1) / n, ((without & ~intact).sum() + 1) / n
    half = norm.ppf((1 + level) / 2) * np.sqrt((lost + won - (lost - won) ** 2) / n)
    return max(-1.0, lost - won - half), min(1.0, lost - won + half)
