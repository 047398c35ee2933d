"""Train a decoder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from eegxai_support.decoders.cache import cache_path, from_cache, to_cache
from eegxai_support.decoders.inference import in_crops
from eegxai_support.decoders.stem import training_pass
from eegxai_support.files import plain
from eegxai_support.model import (
    TrainingRecord,
    best_device,
    crop_view,
    device_of,
    dtype_of,
    look,
    seeded,
    shared,
    unwrapped,
)
from eegxai_support.trials import Trials


@dataclass(frozen=True, eq=False)
class Training:
    """A trained decoder and how it got there.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode.
    history : pandas.DataFrame
        One row per epoch: epoch, train_loss, train_accuracy and, with a validation group, valid_loss and
        valid_accuracy.
    """

    model: nn.Module
    history: pd.DataFrame


def train(
    model: nn.Module,
    train: Trials,
    valid: Trials | None = None,
    *,
    epochs: int,
    seed: int = 0,
    device: str | torch.device | None = None,
    batch_size: int = 16,
    lr: float = 1e-3,
    weight_decay: float = 1e-2,
    patience: int = 20,
    cache: bool = False,
    fast: bool = True,
) -> Training:
    """Train a decoder with AdamW, a cosine schedule and, where the trials are longer, random crops.

    Parameters
    ----------
    model : torch.nn.Module
        From `build_decoder`; trained in place, and given an attribute ``training_record`` that says on what. Each
        batch takes a fresh crop of ``model.n_times`` samples from each of its trials, at its own random start.
    train, valid : Trials
        `valid` turns on early stopping: the weights of the epoch with the lowest validation loss are kept, and
        training ends when it has not fallen for `patience` epochs.
    epochs : int
        Passes over the training trials.
    seed : int
        Seeds order, crops and dropout; the caller's random state is left alone.
    device : str or torch.device, optional
        Where to train, see `best_device`. The model comes back on the device it was on; after an exception, or where
        a key interrupts the training, also in the mode it was in, with the weights it had got to.
    batch_size, lr, weight_decay
        Trials per step and the settings of AdamW [1]_.
    patience : int
        Epochs without a lower validation loss before training stops.
    cache : bool
        Keep the trained weights in the user's cache (folder ``EEGXAI_CACHE`` where that is set) under a hash of
        model, source of its classes and of what trains it, trials, options and versions, and take them from there the
        next time.
    fast : bool
        Compute the temporal filters, batch norm and spatial filters that EEGNet and its relatives begin with in another
        order, see Notes. Where a network does not begin so, or the first batch gives anything else, nothing changes.

    Returns
    -------
    Training

    Notes
    -----
    The updates are the same either way but for rounding. Spatial filters first leave one signal of many for the
    temporal filters, and mean and variance of the batch follow from how the trials correlate with themselves at another
    time. On two cores an EEGNet of 64 × 560 samples trains about 8 times faster, see ``benchmarks/training.py``.

    Warns
    -----
    UserWarning
        A class of ``train.class_names`` has no training trial. Or the cache cannot be used, or what it holds is
        damaged; the decoder is trained all the same.

    Raises
    ------
    ValueError
        Trials of one class only, without labels or with continuous ones, or trials that do not fit the model; a loss
        that is no longer finite.

    References
    ----------
    .. [1] Loshchilov & Hutter (2019). Decoupled weight decay regularization. ICLR.
    """
    options = plain(
        {
            "epochs": epochs,
            "seed": seed,
            "batch_size": batch_size,
            "lr": lr,
            "weight_decay": weight_decay,
            "patience": patience,
            "fast": fast,
        }
    )
    model, record = unwrapped(model), _record(train, valid)
    device = best_device(device)
    path = cache_path(model, train, valid, device, options) if cache else None
    if path and (history := from_cache(model, path)) is not None:
        return Training(model.eval(), history)
    with _lent(model, device), seeded(options["seed"], device):
        history = _fit(model, train, valid, device, **options)
    model.eval().training_record = record
    if path:
        to_cache(model, history, path)
    return Training(model, history)


def _record(train: Trials, valid: Trials | None) -> TrainingRecord:
    """Return what the training trials are; refuse those of one class, and warn of classes without any."""
    train.require_classes("train")
    if valid is not None:
        valid.require_classes("train")
    n_trials = np.bincount(train.label, minlength=train.n_classes).tolist()
    names = train.class_names
    if np.count_nonzero(n_trials) < 2:
        raise ValueError(
            f"The training trials all belong to {names[int(np.argmax(n_trials))]!r}; a decoder needs at least two"
            " classes. Check the runs and the events."
        )
    scale = float(train.signal.std())
    seen = train.fingerprints() + (() if valid is None else valid.fingerprints())
    about = (tuple(train.info.ch_names), train.sfreq, train.unit, scale, names, tuple(n_trials), seen)
    record = TrainingRecord(*about)
    if record.never_seen:
        warnings.warn(
            f"No training trial belongs to {', '.join(map(repr, record.never_seen))}: the decoder learns never to"
            " answer so, and a map of that output explains nothing. Split the trials otherwise, or leave the class out"
            " of class_names.",
            stacklevel=3,
        )
    return record


@contextmanager
def _lent(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Move a model to a device for a while; what ends that early finds its modes as they were, too."""
    home, modes = device_of(model), [(module, module.training) for module in model.modules()]
    try:
        model.to(device)
        yield
    except BaseException:  # KeyboardInterrupt is no Exception
        for module, mode in modes:
            module.training = mode
        raise
    finally:
        model.zero_grad()
        model.to(home)


def _fit(model, train, valid, device, *, epochs, seed, batch_size, lr, weight_decay, patience, fast) -> pd.DataFrame:
    windows = crop_view(model, shared(train.signal).to(device, dtype_of(model)), stride=1)
    _check_form(model, windows[:2, :, 0])
    label = torch.tensor(train.label, device=device)
    outputs = training_pass(model.train(), windows, label, fast=fast)
    rng = torch.Generator().manual_seed(seed)
    n_steps = -(-len(train) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_steps)
    rows, best, best_loss, since = [], None, np.inf, 0
    description = f"Training {type(model).__name__}"
    for epoch in tqdm(range(1, epochs + 1), desc=description, unit="epoch", leave=False, delay=2):
        model.train()
        order = torch.randperm(len(label), generator=rng).to(device)
        start = torch.randint(windows.shape[2], (len(label),), generator=rng).to(device)
        losses, right = [], []  # read once an epoch: each look at a number makes a GPU wait
        for batch, begin in zip(order.tensor_split(n_steps), start.tensor_split(n_steps), strict=True):
            output = outputs(windows[batch, :, begin], batch)
            loss = cross_entropy(output, label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach() * len(batch))
            right.append((output.argmax(1) == label[batch]).sum())
        train_loss, train_accuracy = (sum(torch.stack(each).tolist()) / len(label) for each in (losses, right))
        if not np.isfinite(train_loss):
            raise ValueError(
                f"The loss of the {type(model).__name__} is {train_loss} in epoch {epoch}, and so will its outputs be."
                f" Lower lr ({lr:g}), or give trials of an ordinary size (now with a standard deviation of"
                f" {train.signal.std():.2g}), as Trials.standardise does; a logarithm or root of zero does it, too."
            )
        rows.append({"epoch": epoch, "train_loss": train_loss, "train_accuracy": train_accuracy})
        if valid is None:
            continue
        rows[-1] |= _validate(model, valid)
        since += 1
        if rows[-1]["valid_loss"] < best_loss:
            best_loss, since = rows[-1]["valid_loss"], 0
            best = {name: value.clone() for name, value in model.state_dict().items()}
        if since >= patience:
            break
    if best is not None:
        model.load_state_dict(best)
    return pd.DataFrame(rows)


def _check_form(model: nn.Module, trials: torch.Tensor) -> None:
    """Refuse a model that every other function would have to adapt: what is trained is the model itself."""
    form = look(model, trials, name="train").form
    if form:
        raise ValueError(
            f"The {type(model).__name__} does not map (trial, channel, time) to (trial, class). Train it in that form:"
            f" model = xs.adapted(model, {form})."
        )


@torch.no_grad()
def _validate(model, valid) -> dict[str, float]:
    crops = crop_view(model, shared(valid.signal).to(dtype_of(model)), stride=20)
    output = torch.from_numpy(in_crops(model, crops, batch_size=256))
    label = torch.tensor(valid.label)
    return {
        "valid_loss": cross_entropy(output, label).item(),
        "valid_accuracy": (output.argmax(1) == label).float().mean().item(),
    }
