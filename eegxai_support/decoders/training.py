"""Train a decoder, and keep trained weights on disk by the content that made them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from eegxai_support.decoders.inference import predict
from eegxai_support.model import crop_view, model_input, model_size
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
) -> Training:
    """Train a decoder with AdamW, a cosine schedule and, where the trials are longer, random crops.

    Parameters
    ----------
    model : torch.nn.Module
        From `build_decoder`; trained in place. Each batch takes a fresh crop of ``model.n_times`` samples from each
        of its trials, at its own random start.
    train, valid : Trials
        `valid` turns on early stopping: the weights of the epoch with the lowest validation loss are kept, and
        training ends when it has not fallen for `patience` epochs.
    epochs : int
        Passes over the training trials.
    seed : int
        Seeds order, crops and dropout; the caller's random state is left alone.
    device : str or torch.device, optional
        Where to train; the GPU when there is one. The model comes back on the device it was on.
    batch_size, lr, weight_decay
        Trials per step and the settings of AdamW [1]_.
    patience : int
        Epochs without a lower validation loss before training stops.
    cache : bool
        Keep the trained weights in the user's cache (folder ``EEGXAI_CACHE`` where that is set) under a hash of
        model, trials, options and versions, and take them from there the next time.

    Returns
    -------
    Training

    Raises
    ------
    ValueError
        Trials of one class only, or trials that do not fit the model.

    References
    ----------
    .. [1] Loshchilov & Hutter (2019). Decoupled weight decay regularization. ICLR.
    """
    options = {
        "epochs": epochs,
        "seed": seed,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "patience": patience,
    }
    if len(np.unique(train.label)) < 2:
        raise ValueError(
            f"The training trials all belong to {train.class_names[train.label[0]]!r}; a decoder needs at least two"
            " classes. Check the runs and the events."
        )
    home = next(model.parameters()).device
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path = _cache_path(model, train, valid, device, options) if cache else None
    if path and (history := _from_cache(model, path)) is not None:
        return Training(model.eval(), history)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        history = _fit(model.to(device), train, valid, device, **options)
    model.to(home).eval()
    if path:
        _to_cache(model, history, path)
    return Training(model, history)


def _fit(model, train, valid, device, *, epochs, seed, batch_size, lr, weight_decay, patience) -> pd.DataFrame:
    windows = crop_view(model, torch.from_numpy(train.signal).to(device), stride=1)
    model_input(model, windows[:1, :, 0], name="train")
    label = torch.from_numpy(train.label).to(device)
    rng = torch.Generator().manual_seed(seed)
    n_steps = -(-len(train) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * n_steps)
    rows, best, best_loss, since = [], None, np.inf, 0
    description = f"Training {type(model).__name__}"
    for epoch in tqdm(range(1, epochs + 1), desc=description, unit="epoch", leave=False, delay=2):
        model.train()
        loss_sum = n_right = 0.0
        for batch in torch.randperm(len(label), generator=rng).to(device).tensor_split(n_steps):
            output = model(_random_crops(windows, batch, rng))
            loss = cross_entropy(output, label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(batch)
            n_right += (output.argmax(1) == label[batch]).sum().item()
        rows.append({"epoch": epoch, "train_loss": loss_sum / len(label), "train_accuracy": n_right / len(label)})
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


def _random_crops(windows: torch.Tensor, batch: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return one crop of each trial of a batch, shape (trial, channel, time), from all its crops."""
    start = torch.randint(windows.shape[2], (len(batch),), generator=rng).to(windows.device)
    return windows[batch, :, start]


@torch.no_grad()
def _validate(model, valid) -> dict[str, float]:
    output = torch.from_numpy(predict(model, valid.signal, stride=20))
    label = torch.from_numpy(valid.label)
    return {
        "valid_loss": cross_entropy(output, label).item(),
        "valid_accuracy": (output.argmax(1) == label).float().mean().item(),
    }


def save(model: nn.Module, path: str | Path, **metadata: str) -> None:
    """Write a model's weights to a safetensors file; a file is either whole or not there.

    Parameters
    ----------
    model : torch.nn.Module
    path : str or Path
    **metadata : str
        Kept in the file's header.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(weights, temporary, metadata=metadata)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(model: nn.Module, path: str | Path) -> nn.Module:
    """Read weights that `save` wrote into a model of the same architecture, and put it in eval mode.

    Raises
    ------
    ValueError
        The file is damaged or belongs to another architecture.
    """
    expected = {name: value.shape for name, value in model.state_dict().items()}
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). Train the decoder again.") from error
    if {name: value.shape for name, value in weights.items()} != expected:  # before anything is overwritten
        raise ValueError(
            f"{path} does not hold weights for this {type(model).__name__}. Build the decoder with the options it was"
            " trained with."
        )
    model.load_state_dict(weights)
    return model.eval()


def _cache_path(model, train, valid, device, options) -> Path:
    sizes = [model_size(model, "n_times"), *(p.requires_grad for p in model.parameters())]
    digest = hashlib.sha256(f"{nn.Module.__repr__(model)}{sizes}".encode())
    for value in model.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    for trials in (train, valid) if valid is not None else (train,):
        digest.update(repr(trials.signal.shape).encode() + trials.signal.tobytes() + trials.label.tobytes())
    versions = [version("torch"), version("braindecode")]
    digest.update(json.dumps([options, versions, device.type, valid is not None]).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):  # a change in how we train is a new version too
        digest.update(source.read_bytes())
    folder = Path(os.environ.get("EEGXAI_CACHE") or pooch.os_cache("eegxai"))
    return folder / f"{type(model).__name__}-{digest.hexdigest()[:20]}.safetensors"


def _from_cache(model, path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            history = pd.DataFrame(json.loads(file.metadata()["history"]))
        load(model, path)  # last: it checks the whole file before it overwrites anything
        return history
    except (SafetensorError, ValueError, KeyError, TypeError):
        warnings.warn(f"The cached decoder {path} is damaged; training it again.", stacklevel=3)
        return None


def _to_cache(model, history: pd.DataFrame, path: Path) -> None:
    try:
        save(model, path, history=history.to_json(orient="records"))
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"The trained decoder could not be kept in {path.parent} ({error}); it will be trained again next time."
            " Free some space there or set EEGXAI_CACHE to another folder.",
            stacklevel=3,
        )
