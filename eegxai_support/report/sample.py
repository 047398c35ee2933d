"""A few explained trials with the numbers that were found for them, so that anybody can compute these again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import safetensors.numpy
import torch
from torch import nn

from eegxai_support.attribution import attribute
from eegxai_support.decoders import predict
from eegxai_support.files import SEAL_KEY, UNSEALED, DamagedFileError, read_sealed, sealed, to_json, write_whole
from eegxai_support.model import unwrapped
from eegxai_support.report.evidence import evidence
from eegxai_support.trials import Trials

LARGEST = 8  # trials in a sample: enough to notice another network, few enough for every method in seconds
OUTPUTS = "outputs"  # the row of a check that is no method's


@dataclass(frozen=True, eq=False)
class Sample:
    """Explained trials, and what was found for them.

    Parameters
    ----------
    trials : Trials
        At most 8, as the network took them, with their true classes.
    index : ndarray, shape (trial,)
        Which these are of all trials.
    outputs : ndarray, shape (trial, class)
        Logits.
    maps : dict of str to ndarray, shape (trial, channel)
        By method, the maps of the evidence for the true class, summed over time.
    methods : dict of str to dict
        The options of `attribute` for each method.
    weights : str
        The file of the network's weights, from the folder that the sample lies in.
    """

    trials: Trials
    index: np.ndarray
    outputs: np.ndarray
    maps: dict[str, np.ndarray]
    methods: dict[str, dict]
    weights: str


def write_sample(
    path: str | Path,
    model: nn.Module,
    trials: Trials,
    index: Iterable[int],
    methods: Iterable[str] | Mapping[str, dict],
    *,
    weights: str,
) -> None:
    """Write the sample of a report: trials, logits, and the maps of each method by channel.

    Everything is computed here, on the CPU, so that who computes it again does the same.

    Parameters
    ----------
    path : path
        A safetensors file.
    model : torch.nn.Module
        The network that explains these trials.
    trials : Trials
        As the network takes them.
    index : iterable of int
        Trials that the network explains; those after the eighth are left out.
    methods : iterable of str, or dict of str to dict
        Methods of `attribute`, with options that JSON can hold where there are any.
    weights : str
        The file that `save` wrote for this network, as a path from the folder of `path`.

    Notes
    -----
    The file holds ``signal`` (trial, channel, time), ``label``, ``index``, ``outputs`` (trial, class), ``map/METHOD``
    (trial, channel), and ``loc`` (channel, 12), the places of the electrodes as MNE has them. In its header stand
    ``ch_names``, ``sfreq``, ``tmin``, ``unit``, ``class_names``, ``methods`` and ``weights`` as JSON, and a seal.
    """
    index = np.fromiter(index, dtype=np.int64)[:LARGEST]
    methods = {name: dict(methods[name]) if isinstance(methods, Mapping) else {} for name in methods}
    shown = trials.subset(index)
    outputs, maps = _computed(model, shown, methods)
    loc = np.array([ch["loc"] for ch in shown.info["chs"]])
    arrays = {"signal": shown.signal, "label": shown.label, "index": index, "outputs": outputs, "loc": loc}
    arrays |= {f"map/{name}": values for name, values in maps.items()}
    header = {
        "ch_names": list(shown.info.ch_names),
        "sfreq": shown.sfreq,
        "tmin": shown.tmin,
        "unit": shown.unit,
        "class_names": list(shown.class_names),
        "methods": methods,
        "weights": weights,
    }
    header = {name: to_json(value) for name, value in header.items()} | {SEAL_KEY: UNSEALED}
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_whole(path, sealed(safetensors.numpy.save(arrays, header)))


def read_sample(path: str | Path) -> Sample:
    """Read what `write_sample` wrote.

    Raises
    ------
    DamagedFileError
        Its content is not what was written.
    """
    content = read_sealed(path, required=True)
    try:
        arrays = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        known = {name: json.loads(value) for name, value in header.items() if name != SEAL_KEY}
        info = mne.create_info(known["ch_names"], known["sfreq"], "eeg", verbose=False)
        for channel, loc in zip(info["chs"], arrays["loc"], strict=True):
            channel["loc"][:] = loc
        n = len(arrays["label"])
        metadata = pd.DataFrame({"subject": ["sample"] * n, "session": 1, "run": 1})
        trials = Trials(
            arrays["signal"], known["unit"], arrays["label"], info, known["class_names"], metadata, tmin=known["tmin"]
        )
        maps = {name: arrays[f"map/{name}"] for name in known["methods"]}
        return Sample(trials, arrays["index"], arrays["outputs"], maps, known["methods"], known["weights"])
    except Exception as error:  # a sealed file of something else
        raise DamagedFileError(f"{path} is no sample of a report ({type(error).__name__}: {error}).") from error


def check_sample(path: str | Path, model: nn.Module) -> pd.DataFrame:
    """Compute the numbers of a sample again.

    Parameters
    ----------
    path : path
        Written by `write_sample`.
    model : torch.nn.Module
        The network whose weights the sample names.

    Returns
    -------
    DataFrame
        A row for the outputs and one for each method, in the column ``what``; ``largest``, the largest absolute value
        that was written; ``difference``, the largest absolute difference from it; ``relative``, their ratio, which is
        infinite where a number was or is none.

    Raises
    ------
    DamagedFileError
        The file's content is not what was written.
    """
    sample = read_sample(path)
    outputs, maps = _computed(model, sample.trials, sample.methods)
    pairs = {OUTPUTS: (outputs, sample.outputs)} | {name: (maps[name], sample.maps[name]) for name in maps}
    return pd.DataFrame([{"what": name, **_compared(*pair)} for name, pair in pairs.items()])


def _computed(model: nn.Module, trials: Trials, methods: dict[str, dict]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return logits and, by method, maps summed over time, computed on the CPU."""
    model = unwrapped(model)
    place = next((each.device for each in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    try:
        model.cpu()
        outputs, target = predict(model, trials.signal), evidence(trials.label)
        maps = {
            name: attribute(model, trials.signal, target, name, **options).values.sum(2, dtype=np.float64)
            for name, options in methods.items()
        }
    finally:
        model.to(place)
    return outputs, maps


def _compared(found: np.ndarray, written: np.ndarray) -> dict[str, float]:
    largest = float(np.abs(written).max(initial=0))
    if np.array_equal(found, written, equal_nan=True):  # a map without a number then has none now, which is the same
        return {"largest": largest, "difference": 0.0, "relative": 0.0}
    difference = float(np.abs(found - written).max()) if found.shape == written.shape else np.inf
    relative = difference / largest if largest else np.inf
    return {"largest": largest, "difference": difference, "relative": relative if np.isfinite(relative) else np.inf}
