"""Trials in the many forms in which people have them, checked against the model that is to see them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import mne
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from eegxai_support.model.errors import warn
from eegxai_support.model.record import record_of
from eegxai_support.model.state import dtype_of, model_size
from eegxai_support.montages import canonical_names
from eegxai_support.trials import Trials, stacked

SCALE = 100.0  # times the scale of the training trials, or a part of it: another unit, not another person


@dataclass(frozen=True, eq=False)
class Given:
    """A signal and what its container knows about it.

    Parameters
    ----------
    signal : array-like, shape (trial, channel, time)
    info : mne.Info, optional
        Names of the channels and sampling rate.
    trials : Trials, optional
    """

    signal: object
    info: mne.Info | None = None
    trials: Trials | None = None


def given(x, name: str = "x") -> Given:
    """Take trials out of what people keep them in.

    Parameters
    ----------
    x : array-like, Trials, mne.Epochs, or a torch or braindecode dataset of windows
        Epochs are taken in µV with their projectors applied, their good EEG channels only, as by `from_epochs`; a
        dataset as it gives them, the signal being the first thing that each item holds.
    name : str
        What the error messages call it.

    Raises
    ------
    TypeError
        Something else, with what to pass instead.
    ValueError
        Epochs without a good EEG channel.
    """
    if isinstance(x, Trials):
        return Given(x.signal, x.info, x)
    if isinstance(x, mne.BaseEpochs):
        x, picks = projected(x), eeg_picks(x.info)
        return Given(x.get_data(picks=picks, units="uV", verbose=False), mne.pick_info(x.info, picks))
    if isinstance(x, list | tuple) and any(isinstance(each, mne.BaseEpochs) for each in x):
        raise TypeError(f"{name} is a {type(x).__name__} of epochs. Give the trials that xs.from_epochs makes of it.")
    if isinstance(x, DataLoader):
        raise TypeError(
            f"{name} is a DataLoader, which may shuffle its trials away from their targets. Pass its dataset, or the"
            " array torch.cat([batch[0] for batch in loader])."
        )
    if isinstance(x, Dataset):
        part = x.datasets[0] if getattr(x, "datasets", None) else x
        source = getattr(part, "windows", getattr(part, "raw", None))
        items = [x[i] for i in range(len(x))]
        signal = stacked([np.asarray(item[0] if isinstance(item, tuple | list) else item) for item in items], name)
        if signal.ndim == 4 and signal.shape[1] == 1:  # a dataset cannot be told to drop an axis
            signal = signal[:, 0]
        return Given(signal, getattr(source, "info", None))
    if isinstance(x, mne.io.BaseRaw | mne.Evoked | str | dict) or x is None:
        raise TypeError(
            f"{name} is {type(x).__name__}; expected trials: an array or tensor (trial, channel, time), Trials,"
            " mne.Epochs or a dataset of windows. Cut a Raw with mne.Epochs first."
        )
    return Given(x)


def projected(epochs: mne.BaseEpochs) -> mne.BaseEpochs:
    """Return epochs with all projectors applied, such as an average reference; a copy where one was not."""
    if all(projector["active"] for projector in epochs.info["projs"]):
        return epochs
    return epochs.copy().load_data().apply_proj(verbose=False)


def eeg_picks(info: mne.Info, *, csd: bool = False) -> np.ndarray:
    """Return the indices of the good EEG channels, or, with `csd`, of current source densities where there are none.

    Raises
    ------
    ValueError
        There is none.
    """
    picks = mne.pick_types(info, eeg=True, exclude="bads")
    if csd and not len(picks):
        picks = mne.pick_types(info, csd=True, exclude="bads")
    if not len(picks):
        kinds = sorted(set(info.get_channel_types()))
        remedy = (
            "Give trials of them: xs.from_epochs(epochs)."
            if "csd" in kinds
            else "Where they are wrong, set them: epochs.set_channel_types({name: 'eeg'}), of windows on the raw of"
            " each data set."
        )
        raise ValueError(f"epochs has no good EEG channel; its types are {kinds}. {remedy}")
    return picks


def model_input(model: nn.Module, x, *, name: str = "x", any_length: bool = False) -> Tensor:
    """Check trials against a model and give them the model's type; they stay on their device.

    Parameters
    ----------
    model : torch.nn.Module
        ``model.n_chans`` and ``model.n_times`` are compared with `x` where the model has them, and where `x` knows its
        channels and sampling rate, those that the model was built for (``chs_info``, ``sfreq``) or trained on.
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
        float64 stays float64 where the model is float64; everything else becomes the model's type.
    name : str
        What the error messages call the array.
    any_length : bool
        The trials are to be cut into crops and need not have the model's length.

    Returns
    -------
    Tensor, shape (trial, channel, time), detached

    Raises
    ------
    TypeError
        No trials, or nothing that an array of numbers can be made of.
    ValueError
        Wrong number of axes, channels or samples, other channels or another order or rate than the model's, no trials,
        NaN or infinity.

    Warns
    -----
    UserWarning
        The trials are of quite another size than those that the model was trained on.
    """
    source = x if isinstance(x, Given) else given(x, name)
    x = _as_tensor(source.signal, name).detach().to(dtype_of(model))
    if x.ndim == 4 and x.shape[1] == 1:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; expected (trial, channel, time). Give {name}[:, 0]: a network for"
            " (trial, 1, channel, time) gets its extra axis by itself."
        )
    if x.ndim > 3 and 0 not in x.shape:
        form = ", ".join(map(str, x.shape[1:-1]))
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; expected (trial, channel, time). Join the axes before the last, such"
            f" as bands or a sequence of windows, {name}.reshape(len({name}), -1, {x.shape[-1]}), and let the model"
            f" part them: xs.adapted(model, input=lambda x: x.unflatten(1, ({form})))."
        )
    if x.ndim != 3 or 0 in x.shape:
        single = f" Of a single trial, {name}[None] makes one of a set." * (x.ndim == 2)
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; expected (trial, channel, time) with at least one trial.{single}"
        )
    for axis, attribute, hint in (
        (1, "n_chans", "Is the order (trial, channel, time)?"),
        (2, "n_times", "Crop the trials with Trials.crop, or build the decoder for this length."),
    ):
        expected = model_size(model, attribute)
        if expected is not None and x.shape[axis] != expected and not (any_length and axis == 2):
            what = "channels" if axis == 1 else "samples"
            raise ValueError(f"{name} has {x.shape[axis]} {what} but the model expects {expected}. {hint}")
    if source.info is not None:
        _check_recording(model, source.info, name)
    if source.trials is not None:
        _check_classes(model, source.trials, name)
    finite = x.sum((1, 2)).isfinite()  # sums, since a test of each point takes as much memory as x
    if not finite.all():
        trial = int((~finite).nonzero()[0])
        raise ValueError(f"{name} holds NaN or infinity, first in trial {trial}. Drop or repair those trials first.")
    return x


def warn_of_scale(model: nn.Module, x: Tensor) -> None:
    """Warn where trials are in another unit than those that the model was trained on, as far as their size tells."""
    if (record := record_of(model)) is None or not record.scale > 0:
        return
    factor = float(x.std()) / record.scale if x.numel() > 1 else 0.0
    if factor and not 1 / SCALE < factor < SCALE:
        warn(
            f"The trials have a standard deviation of {float(x.std()):.3g}; those that the {type(model).__name__} was"
            f" trained on had {record.scale:.3g} ({record.unit}). Multiply them by {1 / factor:.2g}, or give them in"
            " that unit: a network is explained on trials like those it knows.",
        )


def extra_inputs(model: nn.Module, extra, n_trials: int) -> tuple[Tensor, ...]:
    """Check what else the model takes for each trial; real numbers get its type."""
    if isinstance(extra, Tensor | np.ndarray):
        raise TypeError("extra is one array; expected a tuple of them, one per further input: extra=(array,).")
    tensors = tuple(_as_tensor(each, f"extra[{i}]").detach() for i, each in enumerate(extra))
    for i, each in enumerate(tensors):
        if each.ndim < 1 or len(each) != n_trials:
            raise ValueError(
                f"extra[{i}] has shape {tuple(each.shape)}; expected {n_trials} rows, one per trial. What is the same"
                " for all trials belongs into the model, or is repeated here."
            )
    return tuple(each.to(dtype_of(model)) if each.is_floating_point() else each for each in tensors)


def _check_recording(model: nn.Module, info: mne.Info, name: str) -> None:
    record, declared = record_of(model), model_size(model, "chs_info")
    if record is not None:
        expected = list(record.ch_names)
    else:
        expected = [ch["ch_name"] for ch in declared or () if isinstance(ch, dict) and "ch_name" in ch]
    ours, theirs = map(_plain, (expected, info.ch_names))
    if expected and ours != theirs:
        same = sorted(ours) == sorted(theirs)
        remedy = (
            "The same channels in another order: reorder them, Trials.pick(names) does."
            if same
            else "Pick the model's channels, or build and train it for these."
        )
        raise ValueError(
            f"{name} has the channels {_named(info.ch_names)} but the {type(model).__name__} was made for"
            f" {_named(expected)}. {remedy}"
        )
    sfreq = record.sfreq if record is not None else model_size(model, "sfreq")
    if sfreq is not None and not np.isclose(sfreq, info["sfreq"], rtol=1e-3):
        raise ValueError(
            f"{name} is sampled at {info['sfreq']:g} Hz but the {type(model).__name__} was made for {sfreq:g} Hz: its"
            " kernels would stand for other frequencies. Resample the recording, or train a model at this rate."
        )


def _check_classes(model: nn.Module, trials: Trials, name: str) -> None:
    record = record_of(model)
    if record is None or not trials.class_names or not record.class_names:
        return
    number = {class_name: k for k, class_name in enumerate(record.class_names)}
    moved = [each for k, each in enumerate(trials.class_names) if number.get(each, k) != k]
    if moved:  # trials that lack a class of the training number the others anew
        raise ValueError(
            f"The classes of {name} are {_named(trials.class_names)} in this order, those of the model"
            f" {_named(record.class_names)}: label {trials.class_names.index(moved[0])} is {moved[0]} for the one and"
            " another class for the other. Number them as the model does: names = list(model.training_record"
            ".class_names); dataclasses.replace(trials, class_names=names, label=[names.index(trials.class_names[k])"
            " for k in trials.label])."
        )


def _plain(names) -> list[str]:
    """Return names without what a file writes around them: `from_epochs` takes "EEG F3-Ref" for F3."""
    return [(known or name).lower() for name, known in zip(names, canonical_names(names), strict=True)]


def _named(names) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} … ({len(names)})"


def shared(x) -> Tensor:
    """Return an array as a tensor that shares its memory; it is only read, so a read-only one is as good.

    What torch does not take, such as a signal backwards in time or the byte order of another machine, is copied.
    """
    if isinstance(x, np.ndarray) and (min(x.strides, default=0) < 0 or not x.dtype.isnative):
        x = x.astype(x.dtype.newbyteorder("="), order="C")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.as_tensor(x)


def _as_tensor(x, name: str) -> Tensor:
    """Return an array as a tensor, without a copy where its memory allows."""
    if not isinstance(x, Tensor):
        x = stacked(x, name)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"{name} holds {x.dtype}; expected real numbers in an array (trial, channel, time).")
        x = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
    x = shared(x)
    if x.is_complex():
        raise TypeError(f"{name} holds complex numbers; expected real ones in an array (trial, channel, time).")
    return x.clone() if x.is_inference() else x
