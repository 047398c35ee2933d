"""What is explained of the outputs: from a target to a number for each row."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from eegxai_support.model import Look, name_of, record_of, same


def score_of(target, n_trials: int, n_outputs: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn a target into the function that picks the explained number of each row.

    Parameters
    ----------
    target : int, array of int (trial,), tuple (int, int) or callable
        See `attribute`.
    n_trials, n_outputs : int

    Returns
    -------
    callable
        ``(outputs, trial) -> (row,)``.

    Raises
    ------
    TypeError, ValueError
        A target of another form, or out of range.
    """
    if callable(target):
        return partial(_called, target, _takes_trial(target))
    index = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
    if index.shape in ((n_trials, n_outputs), (n_trials, 1)) and n_trials > 1:
        remedy = "target[:, 0]" if index.shape[1] == 1 else "target.argmax(1), where it marks one output a trial"
        raise ValueError(f"target has shape {index.shape}; expected {n_trials} indices, one per trial: {remedy}.")
    if index.dtype.kind not in "iu":
        whole = index.dtype.kind == "f" and bool((index == index.round()).all())
        raise TypeError(
            f"target is {target!r}; expected an output's index, one index per trial, a pair of indices for a"
            f" difference, or a function of the outputs.{' Give it as integers: target.astype(int).' * whole}"
        )
    if index.size and not 0 <= index.min() <= index.max() < n_outputs:
        from_one = index.ndim == 1 and (index.min(), index.max()) == (1, n_outputs)
        remedy = " Counted from 1? Give target - 1." * bool(from_one)
        raise ValueError(f"target {target!r} is out of range: the model has the outputs 0 … {n_outputs - 1}.{remedy}")
    if isinstance(target, tuple) and index.shape == (2,):
        return lambda outputs, trial: outputs[:, target[0]] - outputs[:, target[1]]
    if index.shape not in ((), (n_trials,)):
        raise ValueError(f"target has shape {index.shape}; expected one index, or {n_trials}, one per trial.")
    per_trial = torch.as_tensor(np.broadcast_to(index, n_trials).astype(np.int64))
    return lambda outputs, trial: outputs.gather(1, per_trial[trial.cpu()].to(outputs.device)[:, None])[:, 0]


def checked_score(seen: Look, target) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what `score_of` does, of a target that means something for this model.

    Raises
    ------
    TypeError, ValueError
        As `score_of` and `check_rows_apart`; a class that the model was trained without.
    """
    score = score_of(target, len(seen.x), seen.n_outputs)
    check_rows_apart(target, seen.outputs, len(seen.x))
    _check_learned(seen.model, target)
    return score


def check_rows_apart(target, outputs: Tensor, n_trials: int) -> None:
    """Refuse a target function that gives a row another number at another place, since it holds a row per trial.

    Parameters
    ----------
    target : object
        As in `score_of`; what is no function of the outputs alone passes.
    outputs : Tensor, shape (2, output)
    n_trials : int
        With as many rows such a function may work.

    Raises
    ------
    ValueError
        With what to do instead.
    """
    if not callable(target) or _takes_trial(target):
        return
    trial = torch.arange(len(outputs))
    try:
        score, swapped = (_called(target, False, each, trial) for each in (outputs, outputs.flip(0)))
    except RuntimeError as error:
        if not _works(target, outputs[torch.arange(n_trials) % len(outputs)]):
            raise
        raise ValueError(
            f"The target function fails on {len(outputs)} rows of outputs ({str(error).splitlines()[0]}). It gets as"
            " many rows as a method likes, a trial more than once among them. Where it needs what belongs to each"
            " trial, let it take their indices too: lambda outputs, trial: ..."
        ) from error
    if not same(swapped.flip(0), score):
        raise ValueError(
            "The target function gives a trial another number at another place in the batch: it holds one row per trial"
            " itself, and methods put trials in other places. Let it take the indices of the trials too:"
            " lambda outputs, trial: torch.cosine_similarity(outputs, images[trial])."
        )


def _works(target: Callable, outputs: Tensor) -> bool:
    try:
        target(outputs)
    except RuntimeError:
        return False
    return True


def _check_learned(model: nn.Module, target) -> None:
    """Refuse classes that the model was never shown: it has no opinion of them that could be explained."""
    record = record_of(model)
    if record is None or callable(target):
        return
    asked = np.unique(np.asarray(target.cpu() if isinstance(target, Tensor) else target))
    missing = [record.class_names[k] for k in asked if k < len(record.n_trials) and not record.n_trials[k]]
    if missing:
        raise ValueError(
            f"The {name_of(model)} was trained without a trial of {', '.join(missing)}: what it says of that class is"
            " left from its first weights. Train it with such trials, or explain the other classes."
        )


def _takes_trial(target: Callable) -> bool:
    """Tell whether a target function takes the indices of the trials beside the outputs."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some functions written in C tell nothing
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(needed) > 1


def _called(target: Callable, takes_trial: bool, outputs: Tensor, trial: Tensor) -> Tensor:
    score = target(outputs, trial.to(outputs.device)) if takes_trial else target(outputs)
    if not isinstance(score, Tensor) or score.shape != trial.shape:
        raise ValueError(
            f"The target function returned {getattr(score, 'shape', type(score))} for outputs of shape"
            f" {tuple(outputs.shape)}; expected a tensor of shape {tuple(trial.shape)}, one number per row."
        )
    if outputs.requires_grad and not score.requires_grad:
        raise ValueError("The target function cuts its result off the outputs; leave out detach, item and no_grad.")
    return score
