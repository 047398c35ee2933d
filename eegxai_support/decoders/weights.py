"""Keep the weights of a network in a file, with what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import is_zipfile

import safetensors.torch
import torch
from torch import nn

from eegxai_support.decoders.descriptions import NETWORK_KEY, describe
from eegxai_support.files import (
    SEAL_KEY,
    UNSEALED,
    DamagedFileError,
    expanded,
    read_sealed,
    sealed,
    to_json,
    write_whole,
)
from eegxai_support.model import TrainingRecord, record_of, unwrapped


def save(model: nn.Module, path: str | Path, **metadata) -> None:
    """Write a model's weights, with what it is and was trained on, to a safetensors file, which is whole or not there.

    A network of braindecode or of this package is described in the file's header, ``network``, so that ``eegxai report
    --model`` and `verify_receipt` need no code that builds it; one of your own, or one made by `adapted`, is not.

    Parameters
    ----------
    model : torch.nn.Module
    path : str or Path
    **metadata
        Kept in the file's header: text as it is, everything else as JSON. ``network`` stands in the place of the
        description; None says that there is none.

    Raises
    ------
    TypeError
        `metadata` holds what JSON cannot.
    """
    model = unwrapped(model)
    # Cloned, since the format has no weights that share memory.
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    if NETWORK_KEY not in metadata and (network := describe(model)):
        metadata = {NETWORK_KEY: network, **metadata}
    if record := record_of(model):
        metadata = {"training_record": record.to_json(), **metadata}
    metadata = {name: value if isinstance(value, str) else to_json(value) for name, value in metadata.items()}
    write_whole(path, sealed(safetensors.torch.save(weights, metadata | {SEAL_KEY: UNSEALED})))


def load(model: nn.Module, path: str | Path) -> nn.Module:
    """Read weights that `save` wrote into a model of the same architecture, and put it in eval mode.

    Its attribute ``training_record`` becomes that of the model that was saved, None where that had none.

    Raises
    ------
    ValueError
        The file is damaged or belongs to another architecture. A file of `save` holds its own hash, so that one changed
        bit is noticed; of another safetensors file, only its form is checked.
    """
    fill(model, *read(path), path)
    return model


def fill(model: nn.Module, weights: dict[str, torch.Tensor], metadata: dict[str, str], path: str | Path) -> None:
    """Put what `read` returned into a model of the same architecture; ValueError, and nothing done, for another."""
    expected = {name: value.shape for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    if found != expected:
        raise ValueError(
            f"{path} does not hold weights for this {type(model).__name__}: {_difference(found, expected)}. Build the"
            " decoder with the options it was trained with."
        )
    record = metadata.get("training_record")
    record = TrainingRecord.from_json(record) if record else None
    model.load_state_dict(weights)
    model.eval().training_record = record


def read(path: str | Path, *, seal_required: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return weights and metadata of one content: read twice, the file could be another one the second time."""
    path = expanded(path)
    try:
        content = read_sealed(path, required=seal_required)
    except DamagedFileError as error:
        raise DamagedFileError(f"{error} Train the decoder again.") from error
    try:
        weights = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except Exception as error:  # nobody says what a parser may raise for bytes that nobody vouches for
        remedy = (
            "It was written by torch.save: model.load_state_dict(torch.load(path, weights_only=True)) reads it, if it"
            " holds the weights alone."
            if is_zipfile(path)
            else "Train the decoder again."
        )
        raise DamagedFileError(f"{path} is no whole safetensors file ({error}). {remedy}") from error
    return weights, header.get("__metadata__", {})


def _difference(found: dict[str, torch.Size], expected: dict[str, torch.Size]) -> str:
    """Say which weights the file and the model do not share, two of a kind by name."""
    sizes = [name for name in expected if name in found and found[name] != expected[name]]
    kinds = {
        "it lacks": [name for name in expected if name not in found],
        "it has": sorted(found.keys() - expected.keys()),
        "of another size are": [f"{name}, {tuple(found[name])} for {tuple(expected[name])}" for name in sizes],
    }
    parts = [f"{what} {', '.join(names[:2])}{' …' * (len(names) > 2)}" for what, names in kinds.items() if names]
    return "; ".join(parts)
