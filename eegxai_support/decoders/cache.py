"""Trained weights by the content that made them, in the user's cache."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from eegxai_support.decoders.named import source_digest
from eegxai_support.decoders.weights import fill, read, save
from eegxai_support.files import expanded, remove_partial_files, to_json
from eegxai_support.model import model_size, needed
from eegxai_support.provenance import package_digest, versions
from eegxai_support.trials import Trials

INTERNAL = {*vars(nn.Module()), "training_record"}  # attributes that say nothing about the function of a module
TRAINED_BY = ("montages", "trials", "model", "decoders")  # the rooms that training reaches
LIBRARIES = ("torch", "braindecode")  # what it computes with


def cache_path(
    model: nn.Module, train: Trials, valid: Trials | None, device: torch.device, options: dict
) -> Path | None:
    """Return where the trained weights are kept, None where it cannot be told what the model computes."""
    sizes = [model_size(model, "n_times"), *(p.requires_grad for p in model.parameters())]
    digest = hashlib.sha256(f"{nn.Module.__repr__(model)}{sizes}".encode())
    try:
        digest.update(_function(model).encode())
    except ValueError as error:
        warnings.warn(
            f"{type(model).__name__} is trained without the cache: {error} A change of its code would go unnoticed."
            " Define it in a file or a notebook.",
            stacklevel=3,
        )
        return None
    for value in itertools.chain(model.state_dict().values(), model.buffers()):  # the latter hold those not persistent
        digest.update(f"{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for trials in (train, valid) if valid is not None else (train,):
        digest.update(repr(trials.signal.shape).encode() + trials.signal.tobytes() + trials.label.tobytes())
        digest.update(repr((trials.info.ch_names, trials.sfreq, trials.unit, trials.class_names)).encode())
    digest.update(to_json([options, versions(LIBRARIES), device.type, valid is not None]).encode())
    digest.update(package_digest(*TRAINED_BY).encode())  # a change in how we train is a new version, too
    return _folder() / f"{type(model).__name__}-{digest.hexdigest()[:20]}.safetensors"


def _folder() -> Path:
    if given := os.environ.get("EEGXAI_CACHE"):
        return expanded(given)
    with needed("train(cache=True) without EEGXAI_CACHE", extra="recordings"):
        import pooch
    return pooch.os_cache("eegxai")


def _function(model: nn.Module) -> str:
    """Return what a model computes besides its weights: the source of its classes, and what else its modules hold.

    Its printed form names the layers, but neither what `forward` does with them nor a number that it multiplies by.
    """
    held = [{k: v for k, v in vars(module).items() if k not in INTERNAL} for module in model.modules()]
    functions = [value for each in held for value in each.values() if inspect.isroutine(value)]
    source = source_digest([*map(type, model.modules()), *functions])
    with np.printoptions(threshold=sys.maxsize):
        return source + re.sub("0x[0-9a-f]+", "", repr(held))  # an address says nothing


def from_cache(model: nn.Module, path: Path) -> pd.DataFrame | None:
    """Fill a model with the weights of a file and return the history of their training; None where that cannot be."""
    try:
        weights, metadata = read(path, seal_required=True)
        history = pd.DataFrame(json.loads(metadata["history"]))
        fill(model, weights, metadata, path)  # last: before, something may yet be wrong
        return history
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError):  # or a whole file of something else
        why = "is damaged"
    except OSError as error:  # another user's, or no file at all
        why = f"cannot be read ({error})"
    warnings.warn(f"The cached decoder {path} {why}; training it again.", stacklevel=3)
    return None


def to_cache(model: nn.Module, history: pd.DataFrame, path: Path) -> None:
    """Keep a trained model and its history; a cache that takes neither costs a warning, not the training."""
    try:
        remove_partial_files(path.parent)
        save(model, path, history=history.to_dict("list"))  # pandas' own JSON would round
    except OSError as error:
        warnings.warn(
            f"The trained decoder could not be kept in {path.parent} ({error}); it will be trained again next time."
            " Free some space there or set EEGXAI_CACHE to another folder.",
            stacklevel=3,
        )
