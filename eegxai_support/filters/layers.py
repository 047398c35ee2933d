"""The temporal and spatial filters in a network's weights, their frequency response and their patterns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from scipy.signal import oaconvolve
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from eegxai_support.filters.units import Units, are_units, run_units
from eegxai_support.model import copied, exact, frozen, model_size, unwrapped
from eegxai_support.trials import Trials, unknown_name


@dataclass(frozen=True)
class FilterLayers:
    """Where a network keeps its temporal and its spatial filters.

    Parameters
    ----------
    temporal, spatial : str
        Qualified names of two convolutions, as in ``model.named_modules()``, the first over time alone and the second
        over the EEG channels alone. Which of them runs first follows from their weights.
    norm : str, optional
        Name of the batch norm between them.
    """

    temporal: str
    spatial: str
    norm: str | None = None


FILTER_LAYERS = {
    "EEGNet": FilterLayers("conv_temporal", "conv_spatial", "bnorm_temporal"),
    "ShallowFBCSPNet": FilterLayers("conv_time_spat.conv_time", "conv_time_spat.conv_spat"),
    "Deep4Net": FilterLayers("conv_time_spat.conv_time", "conv_time_spat.conv_spat"),
    "InterpretableCNN": FilterLayers("conv_temporal", "conv_spatial"),
}


@dataclass(frozen=True, eq=False)
class Filters:
    r"""What the units of a network's first layers compute from a trial.

    But for a constant, unit :math:`u` at the position that begins with sample :math:`t` is

    .. math:: \sum_k \sum_c \sum_j w_{ukc} \, h_{kj} \, x_{c, t+j}

    with the kernels :math:`h` and the spatial weights :math:`w`. Networks correlate, they do not convolve: a kernel is
    written as the piece of signal that it answers to most, its first tap at the earliest sample, and can be drawn
    over `times` beside the trial. The impulse response of a unit is the kernel reversed.

    Parameters
    ----------
    kernels : ndarray, shape (kernel, tap)
        Temporal filters. A network that filters in space first has one for each pair of a unit and a spatial filter
        that it reads; one with kernels of each channel's own has them channel by channel.
    spatial : ndarray, shape (unit, kernel, channel)
        Weight that a unit gives each channel behind each kernel, zero where it does not read it, with the scale of
        the batch norm between the two filters.
    sfreq : float
        Sampling rate in Hz.
    layer : str
        Module whose output holds the units, on axis 1, behind both filters and before any nonlinearity.
    """

    kernels: np.ndarray
    spatial: np.ndarray
    sfreq: float
    layer: str

    @property
    def times(self) -> np.ndarray:
        """Time of each tap in seconds, relative to the middle of the kernel, shape (tap,)."""
        n_taps = self.kernels.shape[1]
        return (np.arange(n_taps) - (n_taps - 1) / 2) / self.sfreq

    def frequency_response(self, n_fft: int = 512) -> tuple[np.ndarray, np.ndarray]:
        """Return by how much each kernel multiplies the amplitude of a sinusoid.

        Parameters
        ----------
        n_fft : int
            Samples of the transform, at least those of a kernel: the frequencies lie ``sfreq / n_fft`` apart. More of
            them draw a smoother curve; what a kernel can tell apart is ``sfreq`` over its taps.

        Returns
        -------
        freqs : ndarray, shape (freq,)
            From 0 Hz to half the sampling rate.
        gain : ndarray, shape (kernel, freq)

        Raises
        ------
        ValueError
            A transform shorter than a kernel.
        """
        if n_fft < self.kernels.shape[1]:
            raise ValueError(f"n_fft is {n_fft}; expected at least the {self.kernels.shape[1]} taps of a kernel.")
        return np.fft.rfftfreq(n_fft, 1 / self.sfreq), np.abs(np.fft.rfft(self.kernels, n_fft))

    @property
    def unit_kernels(self) -> np.ndarray:
        """Temporal part of the best rank-one reading of each unit, of norm 1, shape (unit, tap)."""
        return self._rank_one[0]

    @property
    def unit_filters(self) -> np.ndarray:
        """Spatial part of the best rank-one reading of each unit, shape (unit, channel).

        The largest weight of a filter is positive, which fixes the sign of both parts.
        """
        return self._rank_one[1]

    @property
    def share(self) -> np.ndarray:
        """Share of each unit's squared weights that the rank-one reading holds, shape (unit,); NaN without weights.

        1 where a unit reads one kernel, as in EEGNet and InterpretableCNN. Far below 1 the unit is no spatial filter
        followed by a kernel, and the reading leaves most of it out.
        """
        return self._rank_one[2]

    @cached_property
    def _rank_one(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spatial, size, temporal = np.linalg.svd(
            np.einsum("ukc,kt->uct", self.spatial, self.kernels), full_matrices=False
        )
        unit_filters, unit_kernels = spatial[:, :, 0] * size[:, :1], temporal[:, 0]
        largest = np.abs(unit_filters).argmax(1, keepdims=True)
        sign = np.sign(np.take_along_axis(unit_filters, largest, 1))
        with np.errstate(invalid="ignore"):  # a unit that was pruned
            return sign * unit_kernels, sign * unit_filters, size[:, 0] ** 2 / (size**2).sum(1)


def read_filters(
    model: nn.Module, layers: FilterLayers | None = None, sfreq: float | None = None, *, n_times: int | None = None
) -> Filters:
    """Read the temporal and spatial filters of a network from its weights.

    The network runs first, on a copy, as far as these two layers. Weights are those that it used there, with their
    max-norm or other parametrisation, wherever that is computed. They are compared with the gradients of the network's
    own units: what the reading leaves out, such as a nonlinearity between the filters or a batch norm that is not
    named, raises an error.

    Parameters
    ----------
    model : torch.nn.Module
        Takes (trial, channel, time) or (trial, 1, channel, time).
    layers : FilterLayers, optional
        Needed for an architecture that is not in `FILTER_LAYERS`.
    sfreq : float, optional
        Sampling rate in Hz; that of the model by default.
    n_times : int, optional
        Samples of a trial; those that the model declares by default, else two kernels. What follows the two layers does
        not run, so that it matters only where they or what is before them was made for one length.

    Returns
    -------
    Filters
        In the precision of the model.

    Raises
    ------
    ValueError
        Unknown architecture or module, no sampling rate, a network that does not run, two convolutions of which none
        takes the other's output, or units that differ from what the weights say.
    TypeError
        A named module that is no convolution.
    UnsupportedOperation
        The units have no derivative to compare with.
    """
    model = unwrapped(model)
    layers = layers or _layers_of(model)
    sfreq = sfreq or model_size(model, "sfreq")
    if sfreq is None:
        raise ValueError(f"{type(model).__name__} does not know its sampling rate; pass sfreq in Hz.")
    if any(map(is_lazy, model.parameters())):
        raise ValueError(
            f"{type(model).__name__} learns its sizes from its first trials, and has seen none: call it once."
        )
    model = copied(model)
    _may_be_first(model, layers)
    with torch.inference_mode(False), frozen(model), exact(model):
        units = run_units(model, layers.temporal, layers.spatial, n_times)
        with torch.no_grad():
            kernels, spatial = _weights(model, layers, units)
        agrees = are_units(units, kernels, spatial)
    if not agrees:
        raise ValueError(
            f"The units of {units.layer!r} in {type(model).__name__} are not what the weights of {layers} make of a"
            " trial. Name the batch norm between the two, if there is one; with a nonlinearity between them, a dilation"
            " or another filter before them, the unit cannot be read as kernels and spatial filters."
        )
    return Filters(kernels, spatial, float(sfreq), units.layer)


def filter_patterns(filters: Filters, trials: Trials) -> np.ndarray:
    r"""Return the pattern of each unit: how the signal that it extracts appears on the channels.

    A spatial filter is not a pattern: it also has weights that cancel noise [1]_. With :math:`\Sigma` the covariance of
    the channels behind the unit's kernel, over trials and time, and :math:`w` its spatial filter, the pattern is
    :math:`\Sigma w / (w^\top \Sigma w)`. Kernel and filter are those of the rank-one reading, `Filters.unit_kernels`
    and `Filters.unit_filters`; where `Filters.share` is far below 1 it stands for a part of the unit only.

    Parameters
    ----------
    filters : Filters
    trials : Trials
        Recorded at the sampling rate of the filters, at least as long as a kernel. Samples are used where a kernel lies
        within the trial.

    Returns
    -------
    ndarray, shape (unit, channel)
        In the unit of the signal for an output of 1. The sign is that of `Filters.unit_filters`.

    Raises
    ------
    ValueError
        Trials of other channels or another sampling rate than the filters', or shorter than a kernel.

    References
    ----------
    .. [1] Haufe et al. (2014). On the interpretation of weight vectors of linear models in multivariate neuroimaging.
       NeuroImage 87, 96-110.
    """
    _check_trials(filters, trials)
    kernels = filters.unit_kernels[None].astype(float)
    sources = np.matmul(filters.unit_filters.astype(float), trials.signal)  # filter in space first: a row per unit
    output = oaconvolve(sources, kernels[..., ::-1], mode="valid", axes=2)
    output -= output.mean((0, 2), keepdims=True)
    # The covariance with the filtered channels is that of the output, filtered by the reversed kernel, with the raw.
    covariance = np.einsum("nut,nct->uc", oaconvolve(output, kernels, axes=2), trials.signal, optimize=True)
    with np.errstate(invalid="ignore"):
        return covariance / (output**2).sum((0, 2))[:, None]


def _layers_of(model: nn.Module) -> FilterLayers:
    if (name := type(model).__name__) not in FILTER_LAYERS:
        raise ValueError(
            f"Where {name} keeps its filters is not known ({', '.join(FILTER_LAYERS)} are). Pass layers="
            "FilterLayers(temporal, spatial) with the names of its two convolutions."
        )
    return FILTER_LAYERS[name]


def _weights(model: nn.Module, layers: FilterLayers, units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernels (kernel, tap) and the spatial weights (unit, kernel, channel)."""
    temporal, spatial = (model.get_submodule(name) for name in (layers.temporal, layers.spatial))
    kernels, filters = (_array(units.weights[name]) for name in (layers.temporal, layers.spatial))
    first = _may_be_first(model, layers, units.first)[0]
    if first == layers.temporal:
        dense = np.zeros((len(filters), spatial.in_channels, filters.shape[2]), filters.dtype)
        np.put_along_axis(dense, _inputs(spatial)[..., None], filters, 1)
        # Channels are an axis that all kernels leave as it is, or inputs of which each kernel reads its own.
        own = np.eye(temporal.in_channels, dtype=filters.dtype)[_inputs(temporal)[:, 0]]
        return kernels[:, 0], dense * own * _scale(model, layers.norm, temporal)[:, None]
    scale, inputs = _scale(model, layers.norm, spatial), _inputs(temporal)
    read = (filters.reshape(len(scale), -1) * scale[:, None])[inputs]  # (unit, input, channel)
    own = np.eye(len(kernels), dtype=kernels.dtype)[:, :, None, None]  # a unit reads only its own kernels
    return kernels.reshape(-1, kernels.shape[2]), (own * read).reshape(len(read), -1, read.shape[2])


def _may_be_first(model: nn.Module, layers: FilterLayers, ran_first: str | None = None) -> list[str]:
    """Return which of two convolutions can come first, by what each takes and makes, if only one did by their order."""
    temporal, spatial = (_convolution(model, name) for name in (layers.temporal, layers.spatial))
    of_one_channel = temporal.in_channels == temporal.groups and 1 in (temporal.in_channels, prod(spatial.kernel_size))
    fits = {
        layers.temporal: of_one_channel and spatial.in_channels == temporal.out_channels,
        layers.spatial: spatial.groups == 1 and temporal.in_channels == spatial.out_channels,
    }
    first = [name for name, fit in fits.items() if fit and ran_first in (None, name)]
    if first:
        return first
    raise ValueError(
        f"{layers.temporal!r} takes {temporal.in_channels} inputs and makes {temporal.out_channels} outputs,"
        f" {layers.spatial!r} {spatial.in_channels} and {spatial.out_channels}: neither reads the trial for the other."
        " Name the two convolutions that follow each other at the beginning of the network. A convolution over time"
        " that also mixes the EEG channels has no separate kernels."
    )


def _convolution(model: nn.Module, name: str) -> nn.Module:
    module = _module(model, name)
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        remedy = " Give the model as it was before torch.jit." * isinstance(module, torch.jit.ScriptModule)
        raise TypeError(f"{name!r} is a {type(module).__name__}; expected a convolution.{remedy}")
    if sum(size > 1 for size in module.kernel_size) > 1:
        raise ValueError(
            f"The filters of {name!r} have the shape {tuple(module.kernel_size)}; expected one axis longer than 1, time"
            " or EEG channels. Filters over both at once have no separate kernels."
        )
    return module


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if name not in modules:
        raise unknown_name("layer", name, filter(None, modules))
    return modules[name]


def _array(weight: Tensor) -> np.ndarray:
    """Return the weight of a convolution, shape (output, input of its group, tap or channel)."""
    return weight.detach().flatten(2).cpu().numpy()


def _inputs(module: nn.Module) -> np.ndarray:
    """Return which inputs each output of a grouped convolution reads, shape (output, input of its group)."""
    n_inputs = module.in_channels // module.groups
    group = np.arange(module.out_channels) // (module.out_channels // module.groups)
    return group[:, None] * n_inputs + np.arange(n_inputs)


def _scale(model: nn.Module, norm: str | None, first: nn.Module) -> np.ndarray:
    """Return by how much a batch norm multiplies each output of the first convolution."""
    zeros = first.weight.new_zeros(1, first.out_channels, *(1 for _ in first.kernel_size))
    if norm is None:
        return _array(zeros + 1)[0, :, 0]
    module = _module(model, norm)
    return _array(module(zeros + 1) - module(zeros))[0, :, 0]


def _check_trials(filters: Filters, trials: Trials) -> None:
    _, n_channels, n_times = trials.signal.shape
    expected, n_taps = filters.spatial.shape[2], filters.kernels.shape[1]
    if n_channels != expected or not np.isclose(trials.sfreq, filters.sfreq) or n_times < n_taps:
        raise ValueError(
            f"The trials have {n_channels} channels and {n_times} samples at {trials.sfreq:g} Hz; expected the"
            f" {expected} channels and {filters.sfreq:g} Hz of the filters, and at least the {n_taps} samples of a"
            " kernel. Take trials as the network was trained on."
        )
