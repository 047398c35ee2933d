"""Filters read from weights against the impulse response of the network, patterns against planted sources."""

import warnings
from dataclasses import replace
from itertools import permutations, product

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from networks import build
from scipy.signal import freqz
from scipy.stats import kstest, multinomial
from torch import nn

from eegxai_support.decoders import predict
from eegxai_support.filters import (
    FILTER_LAYERS,
    FilterLayers,
    Filters,
    ablate_units,
    filter_patterns,
    match_patterns,
    read_filters,
    unit_activations,
)
from eegxai_support.filters.activations import _paired
from eegxai_support.model import UnsupportedOperation
from eegxai_support.montages import MONTAGE
from eegxai_support.trials import Trials

RNG = np.random.default_rng(0)
SFREQ, N_TIMES = 100.0, 120
CHANNELS = ["C3", "Cz", "C4", "Pz", "Fz"]
COVARIANCE = np.cov(RNG.standard_normal((8, 40)))


def trials_of(signal, label=None, sfreq=SFREQ):
    info = mne.create_info(CHANNELS[: signal.shape[1]], sfreq, "eeg").set_montage(MONTAGE)
    label = np.arange(len(signal)) % 3 if label is None else label
    metadata = pd.DataFrame({"subject": 1, "session": 0, "run": 0}, index=range(len(signal)))
    return Trials(signal, "standardised", label, info, ("left", "right", "feet"), metadata)


class SpatialFirst(nn.Module):
    """A new architecture: 1-D convolutions, channels as inputs, batch norm between, each unit reading two filters."""

    def __init__(self, between=None):
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv1d(5, 4, 1), between or nn.BatchNorm1d(4), nn.Conv1d(4, 6, 7, groups=2, padding=3), nn.ReLU(True)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.blocks(x).mean(2))


NEW_LAYERS = FilterLayers("blocks.2", "blocks.0", "blocks.1")


def spatial_first(between=None, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = SpatialFirst(between).to(dtype).train()
        for _ in range(20):
            model(3 * torch.randn(16, 5, N_TIMES, dtype=dtype))
    return model.eval()


def network(name, dtype=torch.float64):
    return spatial_first(dtype=dtype) if name == "new" else build(name, dtype)


def read(name, model):
    return read_filters(model, NEW_LAYERS if name == "new" else None, SFREQ)


def impulse_responses(model, layer, n_channels, n_units):
    """Answer of the units to an impulse in each channel in the middle of a trial, shape (unit, channel, position)."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    x = torch.zeros(1 + n_channels, n_channels, N_TIMES, dtype=torch.float64)
    x[range(1, 1 + n_channels), range(n_channels), N_TIMES // 2] = 1
    with torch.no_grad():
        model(x)
    handle.remove()
    response = kept[0][1:] - kept[0][:1]
    return response.reshape(n_channels, n_units, -1).numpy().swapaxes(0, 1)


ALL = [*FILTER_LAYERS, "new"]


@pytest.mark.parametrize("name", ALL)
def test_reading_is_the_reversed_impulse_response(name):
    model = network(name)
    filters = read(name, model)
    response = impulse_responses(model, filters.layer, filters.spatial.shape[2], len(filters.spatial))
    n_taps, padding = filters.kernels.shape[1], model.get_submodule(second(model, name)).padding
    first = N_TIMES // 2 - (n_taps - 1) + max(padding)
    expected = np.einsum("ukc,kt->uct", filters.spatial, filters.kernels)[:, :, ::-1]
    inside = response[:, :, first : first + n_taps]
    np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(np.abs(response).sum(), np.abs(inside).sum(), rtol=1e-12)  # and nothing elsewhere


def second(model, name):
    """Return the temporal convolution, whose padding tells where the response stands."""
    return (NEW_LAYERS if name == "new" else FILTER_LAYERS[type(model).__name__]).temporal


@pytest.mark.parametrize("name", ALL)
def test_reading_leaves_the_model_as_it_was(name):
    model = network(name, torch.float32).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    filters = read(name, model)
    assert model.training and all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert filters.kernels.dtype == filters.spatial.dtype == np.float32


def test_weights_are_those_that_the_network_uses():
    model = build("EEGNet")
    with torch.no_grad():
        model.conv_spatial.parametrizations.weight.original.mul_(100)
    filters = read_filters(model, sfreq=SFREQ)
    scale = (
        model.bnorm_temporal.weight / (model.bnorm_temporal.running_var + model.bnorm_temporal.eps).sqrt()
    ).detach()
    norm = np.linalg.norm(filters.spatial / scale.numpy()[:, None], axis=(1, 2))
    np.testing.assert_allclose(norm, 1, rtol=1e-5)  # the max-norm


@pytest.mark.parametrize(("name", "layer", "shape"), [
    ("EEGNet", "conv_spatial", (16, 8, 3)), ("ShallowFBCSPNet", "conv_time_spat", (4, 4, 3)),
    ("Deep4Net", "conv_time_spat", (4, 4, 3)), ("InterpretableCNN", "conv_temporal", (8, 8, 3)),
    ("new", "blocks.2", (6, 12, 5)),
])  # fmt: skip
def test_which_kernels_a_unit_reads(name, layer, shape):
    filters = read(name, network(name))
    assert (filters.layer, filters.spatial.shape) == (layer, shape)
    n_read = (filters.spatial != 0).any(2).sum(1)
    dense = {"ShallowFBCSPNet": 4, "Deep4Net": 4, "new": 2}
    assert (n_read == dense.get(name, 1)).all()


class Own(nn.Module):
    """Somebody's own network, made for trials of one length: two convolutions, then Flatten and Linear."""

    def __init__(self, temporal, spatial, norm, n_features, axis=False, order=("temporal", "norm", "spatial")):
        super().__init__()
        self.temporal, self.norm, self.spatial, self.axis, self.order = temporal, norm, spatial, axis, order
        self.head = nn.Sequential(nn.ELU(), nn.AvgPool2d((1, 30), 10), nn.Flatten(), nn.Linear(n_features, 3))

    def forward(self, x):
        if self.axis:
            x = x.unsqueeze(1)
        for name in self.order:
            x = getattr(self, name)(x)
        return self.head(x if x.ndim == 4 else x.unsqueeze(2))


class Kept(nn.Module):
    """Keeps what it computed first: another length or another number of trials has to be a copy's."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 4, dtype=torch.float64))
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = self.scale.view(-1, *(1 for _ in x.shape[2:])).expand_as(x[0])
        return x * self.kept


class MaxNorm(nn.Conv2d):
    """EEGNet's constraint as most write it: each forward pass shrinks the stored weight."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, 2, 0, 0.3)
        return super().forward(x)


class MaxNormInPassing(nn.Conv2d):
    """The stored weight stays as it is."""

    def forward(self, x):
        return self._conv_forward(x, torch.renorm(self.weight, 2, 0, 0.3), self.bias)


def own(spatial=None, norm=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        spatial = nn.Conv2d(4, 6, (5, 1)) if spatial is None else spatial
        model = Own(nn.Conv2d(1, 4, (1, 9), padding="same"), spatial, norm or nn.BatchNorm2d(4), 60, True, **options)
        return model.double().eval()


def axis_wanted():
    model = own()
    model.axis = False
    return model


def old_norm(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = own(norm(nn.Conv2d(4, 6, (5, 1))))
    with torch.no_grad():  # as an optimiser, or load_state_dict, leaves the weight that is kept
        for name, parameter in model.spatial.named_parameters():
            parameter.mul_(3 if name in ("weight_g", "weight_orig") else 1)
    return model


def one_dimensional(temporal, spatial, order):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        temporal, spatial = nn.Conv1d(*temporal, 9, padding="same", groups=temporal[0]), nn.Conv1d(*spatial, 1)
        first, last = (temporal, spatial) if order[0] == "temporal" else (spatial, temporal)
        n_features = last.out_channels * 10
        return Own(temporal, spatial, nn.BatchNorm1d(first.out_channels), n_features, False, order).double().eval()


TEMPORAL_FIRST, SPATIAL_FIRST = ("temporal", "norm", "spatial"), ("spatial", "norm", "temporal")
OWN = {
    "flatten and linear": own,
    "an axis of one": axis_wanted,
    "max-norm of the stored weight": lambda: own(MaxNorm(4, 6, (5, 1))),
    "max-norm in passing": lambda: own(MaxNormInPassing(4, 6, (5, 1))),
    "weight norm with a hook": lambda: old_norm(nn.utils.weight_norm),
    "spectral norm with a hook": lambda: old_norm(nn.utils.spectral_norm),
    "keeps what it computed": lambda: own(norm=Kept()),
    "1-D, spatial first": lambda: one_dimensional((4, 8), (5, 4), SPATIAL_FIRST),
    "1-D, kernels of each channel's own": lambda: one_dimensional((5, 10), (10, 6), TEMPORAL_FIRST),
    "1-D, the same sizes, temporal first": lambda: one_dimensional((5, 5), (5, 5), TEMPORAL_FIRST),
    "1-D, the same sizes, spatial first": lambda: one_dimensional((5, 5), (5, 5), SPATIAL_FIRST),
}


@pytest.mark.parametrize("kind", OWN)
def test_networks_of_ones_own_are_read_as_they_run(kind):
    """Before their first forward pass, without a word about the length, and left as they were."""
    model = OWN[kind]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    filters = read_filters(model, FilterLayers("temporal", "spatial", "norm"), SFREQ)
    assert getattr(model.norm, "kept", None) is None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.axis = model.axis or kind == "an axis of one"
    with torch.no_grad():  # what the first pass changes is there when the impulses come
        model(torch.zeros(1, 5, N_TIMES, dtype=torch.float64))
    response = impulse_responses(model, filters.layer, 5, len(filters.spatial))
    expected = np.einsum("ukc,kt->uct", filters.spatial, filters.kernels)[:, :, ::-1]
    inside = response[:, :, N_TIMES // 2 - 4 : N_TIMES // 2 + 5]
    np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_the_length_is_asked_for_where_it_matters():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(N_TIMES).double())

        def forward(self, x):
            return x + self.weight

    model = own()
    model.positions, model.order = Positions(), ("positions", *model.order)
    layers = FilterLayers("temporal", "spatial", "norm")
    with pytest.raises(ValueError, match=r"5 channels and 18 samples \(RuntimeError: .*as n_times="):
        read_filters(model, layers, SFREQ)
    assert read_filters(model, layers, SFREQ, n_times=N_TIMES).layer == "spatial"
    with pytest.raises(ValueError, match="if it is not 60, as n_times="):
        read_filters(model, layers, SFREQ, n_times=60)


def test_networks_that_never_ran_are_refused():
    with pytest.raises(ValueError, match="learns its sizes from its first trials"):
        read_filters(own(nn.LazyConv2d(6, (5, 1))), FilterLayers("temporal", "spatial", "norm"), SFREQ)


def test_units_without_a_derivative_are_refused():
    model = own()
    model.temporal.register_forward_hook(lambda module, given, output: output.detach())
    with pytest.raises(UnsupportedOperation, match="no derivative"):
        read_filters(model, FilterLayers("temporal", "spatial", "norm"), SFREQ)


def test_sampling_rate_of_the_model_is_the_default():
    model = network("new")
    model.sfreq = 250
    assert read_filters(model, NEW_LAYERS).sfreq == 250


def test_frequency_response_is_that_of_freqz():
    filters = read_filters(build("EEGNet", torch.float64), sfreq=SFREQ)
    freqs, gain = filters.frequency_response(64)
    for kernel, actual in zip(filters.kernels, gain, strict=True):
        expected_freqs, response = freqz(kernel, worN=64 // 2 + 1, fs=SFREQ, include_nyquist=True)
        np.testing.assert_allclose(freqs, expected_freqs)
        np.testing.assert_allclose(actual, np.abs(response), rtol=0, atol=1e-12)


def test_a_unit_answers_most_to_its_kernel_as_drawn():
    filters = read_filters(build("InterpretableCNN", torch.float64), sfreq=SFREQ)
    model, n_taps = build("InterpretableCNN", torch.float64), filters.kernels.shape[1]
    x = np.zeros((1, 3, N_TIMES))
    x[0, :, 40 : 40 + n_taps] = filters.spatial[0, 0][:, None] * filters.kernels[0]
    activations, _ = unit_activations(model, x, filters.layer)
    assert activations[0, 0].argmax() == 40
    np.testing.assert_allclose(np.diff(filters.times), 1 / SFREQ)
    assert filters.times.sum() == pytest.approx(0)


def random_filters(n_units=3, n_kernels=4):
    rng = np.random.default_rng(1)
    return Filters(rng.standard_normal((n_kernels, 9)), rng.standard_normal((n_units, n_kernels, 5)), SFREQ, "conv")


@pytest.mark.parametrize("name", ["EEGNet", "InterpretableCNN"])
def test_units_of_one_kernel_are_read_entirely(name):
    filters = read_filters(build(name, torch.float64), sfreq=SFREQ)
    np.testing.assert_allclose(filters.share, 1)
    exact = np.einsum("ukc,kt->uct", filters.spatial, filters.kernels)
    np.testing.assert_allclose(filters.unit_filters[:, :, None] * filters.unit_kernels[:, None], exact, atol=1e-12)


def test_rank_one_reading_is_the_best():
    """Alternating least squares from many starts finds no better one; the share is what it leaves in."""
    rng = np.random.default_rng(2)
    filters = random_filters()
    for unit, exact in enumerate(np.einsum("ukc,kt->uct", filters.spatial, filters.kernels)):
        errors = []
        for kernel in rng.standard_normal((20, 9)):
            for _ in range(500):
                weight = exact @ kernel / (kernel @ kernel)
                kernel = weight @ exact / (weight @ weight)
            errors.append(((exact - np.outer(weight, kernel)) ** 2).sum())
        found = np.outer(filters.unit_filters[unit], filters.unit_kernels[unit])
        assert ((exact - found) ** 2).sum() == pytest.approx(min(errors), rel=1e-9)
        assert filters.share[unit] == pytest.approx(1 - min(errors) / (exact**2).sum(), rel=1e-9)
        weights = filters.unit_filters[unit]
        assert weights[np.abs(weights).argmax()] > 0
        assert np.linalg.norm(filters.unit_kernels[unit]) == pytest.approx(1)


def test_patterns_equal_the_explicit_covariance():
    filters, trials = random_filters(), trials_of(np.random.default_rng(3).standard_normal((6, 5, 40)) + 5)
    patterns = filter_patterns(filters, trials)
    for unit, pattern in enumerate(patterns):
        filtered = [
            [np.correlate(row, filters.unit_kernels[unit], "valid") for row in trial]
            for trial in trials.signal.astype(float)
        ]
        covariance, weights = np.cov(np.hstack(filtered)), filters.unit_filters[unit]
        np.testing.assert_allclose(pattern, covariance @ weights / (weights @ covariance @ weights), rtol=1e-9)


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_pattern_of_a_planted_source_is_its_topography():
    """The filter that cancels a noise source looks different; noise in another band does not count at all."""
    topography, noise = np.array([1, 0.8, 0.2, 0, -0.3]), np.array([1, 0.9, 0.6, 0.3, 0.1])
    time = np.arange(400) / SFREQ
    # All combinations of four phases: over these the three sources have no correlation at all.
    phases = np.pi / 2 * np.array(list(product(range(4), repeat=3)))[..., None]
    ten, ten_noise = np.sin(2 * np.pi * 10 * time + phases[:, 0]), np.sin(2 * np.pi * 10 * time + phases[:, 1])
    thirty = np.sin(2 * np.pi * 30 * time + phases[:, 2])
    signal = topography[:, None] * ten[:, None] + 2 * noise[:, None] * (ten_noise + 5 * thirty)[:, None]
    weights = np.linalg.pinv(np.stack([topography, noise], axis=1))[0]
    kernel = np.hanning(50) * np.cos(2 * np.pi * 10 * np.arange(50) / SFREQ)
    filters = Filters(kernel[None], weights[None, None], SFREQ, "conv")
    pattern, weights = filter_patterns(filters, trials_of(signal))[0], filters.unit_filters[0]
    assert abs(cosine(pattern, topography)) == pytest.approx(1)  # the sign is arbitrary
    assert abs(cosine(weights, topography)) == pytest.approx(np.sqrt(1 - cosine(noise, topography) ** 2))


def test_patterns_ignore_an_offset():
    """To the rounding of float32 near the offset."""
    filters, signal = random_filters(), np.random.default_rng(5).standard_normal((6, 5, 40))
    expected = filter_patterns(filters, trials_of(signal))
    np.testing.assert_allclose(filter_patterns(filters, trials_of(signal + 100)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"spatial": np.ones((3, 4, 2))}, {"sfreq": 50.0}, {"kernels": np.ones((4, 41))}])
def test_trials_that_do_not_fit_the_filters(change):
    filters = replace(random_filters(), **change)
    with pytest.raises(ValueError, match=r"5 channels and 40 samples at 100 Hz; expected the \d channels"):
        filter_patterns(filters, trials_of(np.random.default_rng(6).standard_normal((6, 5, 40))))


def test_errors_of_reading():
    model = network("new")
    with pytest.raises(ValueError, match="SpatialFirst keeps its filters is not known"):
        read_filters(model, sfreq=SFREQ)
    with pytest.raises(ValueError, match="pass sfreq"):
        read_filters(model, NEW_LAYERS)
    with pytest.raises(ValueError, match="layer"):
        read_filters(model, replace(NEW_LAYERS, temporal="blocks.9"), SFREQ)
    with pytest.raises(TypeError, match="'head' is a Linear; expected a convolution"):
        read_filters(model, replace(NEW_LAYERS, temporal="head"), SFREQ)
    with pytest.raises(ValueError, match="neither reads the trial for the other"):
        read_filters(model, FilterLayers("blocks.0", "blocks.2"), SFREQ)
    with pytest.raises(ValueError, match="are not what the weights"):
        read_filters(model, replace(NEW_LAYERS, norm=None), SFREQ)
    with pytest.raises(ValueError, match="are not what the weights"):
        read_filters(spatial_first(nn.ELU()), replace(NEW_LAYERS, norm=None), SFREQ)
    with pytest.raises(ValueError, match=r"shape \(4, 10\); expected one axis longer than 1"):
        read_filters(build("SCCNet"), FilterLayers("spatial_filt_conv", "spatial_conv"), SFREQ)
    with pytest.raises(ValueError, match="n_fft is 8; expected at least the 9 taps"):
        random_filters().frequency_response(8)


@pytest.mark.parametrize(("name", "layer"), [
    ("EEGNet", "conv_spatial"), ("EEGNet", "pool_1"), ("ShallowFBCSPNet", "conv_time_spat"), ("Deep4Net", "pool_2"),
    ("InterpretableCNN", "activation"), ("new", "blocks.2"),
])  # fmt: skip
def test_activations_are_the_output_of_the_layer_at_each_trial(name, layer):
    """One trial at a time, and an impulse excites the units around its time."""
    model, kept = network(name), []
    x = torch.as_tensor(np.random.default_rng(7).standard_normal((5, 5 if name == "new" else 3, N_TIMES)))
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    with torch.no_grad():
        for trial in x:
            model(trial[None])
    handle.remove()
    activations, times = unit_activations(model, x, layer, batch_size=2)
    np.testing.assert_allclose(activations, torch.cat(kept).flatten(2), rtol=1e-9, atol=1e-12)
    assert not model.get_submodule(layer)._forward_hooks
    x = torch.zeros(2, *x.shape[1:], dtype=torch.float64)
    x[1, :, 50] = 1e3
    answer, _ = unit_activations(model, x, layer)
    excited = times[np.flatnonzero(np.abs(answer[1] - answer[0]).max(0) > 1e-9)]
    assert abs((excited[0] + excited[-1]) / 2 - 50) <= np.diff(times).max()


def test_activations_of_filters_are_correlations_with_the_trial():
    model, x = build("ShallowFBCSPNet", torch.float64), np.random.default_rng(8).standard_normal((2, 3, N_TIMES))
    filters = read_filters(model, sfreq=SFREQ)
    activations, times = unit_activations(model, x, filters.layer)
    constant = unit_activations(model, np.zeros_like(x), filters.layer)[0]
    n_taps = filters.kernels.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(x, n_taps, axis=2)
    expected = np.einsum("ukc,kt,ncpt->nup", filters.spatial, filters.kernels, windows, optimize=True)
    np.testing.assert_allclose(activations - constant, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(times, np.arange(len(times)) + (n_taps - 1) / 2)


def test_errors_of_activations():
    model, x = build("EEGNet"), np.random.default_rng(9).standard_normal((2, 3, N_TIMES))
    with pytest.raises(UnsupportedOperation, match=r"\(8, 3, 121\) for a trial, with time on axis 2; expected units"):
        unit_activations(model, x, "conv_temporal")
    with pytest.raises(UnsupportedOperation, match="time on axis 0; expected units"):
        unit_activations(TimeFirst(), x, "permute")
    with pytest.raises(ValueError, match="layer"):
        unit_activations(model, x, "conv_9")
    with pytest.raises(ValueError, match="expects 120"):
        unit_activations(model, x[..., :100], "conv_spatial")
    assert not any(module._forward_hooks for module in model.modules())


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.permute = nn.Flatten(2)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.permute(x.transpose(1, 2)).mean(1))


@pytest.mark.parametrize(("name", "layer"), [("EEGNet", "conv_spatial"), ("new", "blocks.2"), ("Deep4Net", "pool_2")])
def test_ablation_is_the_network_with_one_unit_held(name, layer):
    """One unit and one forward pass of all trials at a time."""
    model, n_channels = network(name, torch.float32), 5 if name == "new" else 3
    trials = trials_of(np.random.default_rng(10).standard_normal((31, n_channels, N_TIMES)))
    mean = unit_activations(model, trials.signal, layer)[0].mean((0, 2))
    table = ablate_units(model, trials, layer, batch_size=7)
    intact = (predict(model, trials.signal).argmax(1) == trials.label).mean()
    assert list(table["unit"]) == [-1, *range(len(mean))]
    assert table["accuracy"][0] == intact and table.loc[0, ["drop", "drop_low", "drop_high"]].isna().all()
    for unit, value in enumerate(mean):

        def hold(_, __, output, unit=unit, value=value):
            output = output.clone()
            output[:, unit] = float(value)
            return output

        handle = model.get_submodule(layer).register_forward_hook(hold)
        accuracy = (predict(model, trials.signal).argmax(1) == trials.label).mean()
        handle.remove()
        row = table.loc[1 + unit]
        assert row["accuracy"] == accuracy and row["drop"] == pytest.approx(intact - accuracy)
        assert row["low"] < accuracy < row["high"] and row["drop_low"] < row["drop"] < row["drop_high"]
    assert not any(module._forward_hooks for module in model.modules())


class PowerOfTwo(nn.Module):
    """Class 0, 1 or 2 by the power of the first of two units; the second is not read."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[..., None]

    def forward(self, x):
        power = (self.conv(x)[:, 0] ** 2).mean(1, keepdim=True)
        return torch.cat([1 - power, -((power - 3) ** 2) + 3, power - 6], dim=1)


def test_only_the_unit_that_is_read_matters():
    label = np.arange(60) % 3
    signal = np.random.default_rng(11).choice([-1, 1], (60, 3, 50)) * np.sqrt([0.1, 3, 15])[label][:, None, None]
    table = ablate_units(PowerOfTwo(), trials_of(signal, label), "conv").set_index("unit")
    assert table["accuracy"].tolist() == [1, pytest.approx(1 / 3), 1]
    assert table["drop"][0] == pytest.approx(2 / 3) and table["drop_low"][0] > 0.5
    assert table["drop"][1] == 0 and table["drop_low"][1] < 0 < table["drop_high"][1]


def test_paired_interval_of_a_published_table():
    """Fagerland, Lydersen & Laake (2014), Stat. Med. 33(16), 2850: airway data, 1, 1, 7 and 12 pairs."""
    first = np.repeat([True, True, False, False], [1, 1, 7, 12])
    second = np.repeat([True, False, True, False], [1, 1, 7, 12])
    np.testing.assert_allclose(_paired(first, second, 0.95), (-0.508, -0.013), atol=5e-4)


def test_paired_interval_covers_the_difference():
    """Over all tables of 20 pairs, weighted with their probability: near 95 % for a unit that is rarely needed."""
    n, (both, lost, won) = 20, (0.7, 0.15, 0.05)
    grid = [(a, b, c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)]
    covered = 0
    for a, b, c in grid:
        counts = [a, b, c, n - a - b - c]
        low, high = _paired(np.repeat([1, 1, 0, 0], counts) > 0, np.repeat([1, 0, 1, 0], counts) > 0, 0.95)
        covered += (low <= lost - won <= high) * multinomial.pmf(counts, n, [both, lost, won, 1 - both - lost - won])
    assert covered >= 0.95


class Shortcut(SpatialFirst):
    def forward(self, x):
        return self.head(torch.cat([self.blocks(x)[:, :5] + x, x[:, :1]], dim=1).mean(2))


def test_errors_of_ablation():
    trials = trials_of(np.random.default_rng(12).standard_normal((6, 5, N_TIMES)))
    with pytest.raises(ValueError, match="level is 95"):
        ablate_units(network("new", torch.float32), trials, "blocks.2", level=95)
    with pytest.raises(UnsupportedOperation, match="shortcut"):
        ablate_units(Shortcut(), trials, "blocks.2")


def test_matches_are_the_best_of_all_assignments():
    rng = np.random.default_rng(13)
    patterns, reference = rng.standard_normal((5, 8)), rng.standard_normal((3, 8))
    table = match_patterns(patterns, reference, COVARIANCE, n=5)
    correlation = np.abs(np.corrcoef(patterns, reference)[:5, 5:])
    best = max(correlation[list(chosen), range(3)].sum() for chosen in permutations(range(5), 3))
    assert table["correlation"].sum() == pytest.approx(best)
    np.testing.assert_allclose(table["correlation"], correlation[table["unit"], table["reference"]])
    assert table["correlation"].is_monotonic_decreasing and sorted(table["reference"]) == [0, 1, 2]


@pytest.mark.parametrize(("n_units", "n_references"), [(5, 3), (3, 5)])
def test_chance_is_that_of_random_filters(n_units, n_references):
    """Assign the patterns of each draw by trying all assignments."""
    draw = np.random.default_rng(14)
    patterns, reference = draw.standard_normal((n_units, 8)), draw.standard_normal((n_references, 8))
    table = match_patterns(patterns, reference, COVARIANCE, n=20, seed=3)
    rng, drawn = np.random.default_rng(3), np.zeros((20, n_references))
    for row in drawn:
        random = rng.standard_normal((n_units, 8)) @ COVARIANCE
        correlation = np.abs(np.corrcoef(random, reference)[:n_units, n_units:])
        if n_units > n_references:
            pairs = [list(zip(chosen, range(3), strict=True)) for chosen in permutations(range(5), 3)]
        else:
            pairs = [list(zip(range(3), chosen, strict=True)) for chosen in permutations(range(5), 3)]
        for unit, matched in max(pairs, key=lambda pair: sum(correlation[it] for it in pair)):
            row[matched] = correlation[unit, matched]
    chance = drawn[:, table["reference"]]
    np.testing.assert_allclose(table["chance"], chance.mean(0))
    np.testing.assert_allclose(table["chance_95"], np.quantile(chance, 0.95, axis=0))
    n_above = (chance >= table["correlation"].to_numpy()).sum(0)
    np.testing.assert_allclose(table["p_value"], (1 + n_above) / 21)
    means = drawn.sum(1) / 3
    assert table.attrs["chance"] == pytest.approx(means.mean())
    assert table.attrs["p_value"] == pytest.approx((1 + (means >= table["correlation"].mean()).sum()) / 21)


def test_match_finds_what_is_the_same_up_to_sign_scale_and_reference():
    reference = np.random.default_rng(15).standard_normal((3, 8))
    table = match_patterns(-3 * reference[[2, 0, 1]] + 5, reference, COVARIANCE, n=200)
    np.testing.assert_allclose(table["correlation"], 1)
    assert dict(zip(table["unit"], table["reference"], strict=True)) == {0: 2, 1: 0, 2: 1}
    assert (table["p_value"] == 1 / 201).all() and table.attrs["p_value"] == 1 / 201


def test_p_values_of_chance_are_uniform():
    """Patterns that are themselves random filters seen through the covariance."""
    reference, rng = np.random.default_rng(16).standard_normal((2, 8)), np.random.default_rng(1)
    p_values = [
        match_patterns(rng.standard_normal((4, 8)) @ COVARIANCE, reference, COVARIANCE, n=99, seed=seed).attrs[
            "p_value"
        ]
        for seed in range(200)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("patterns", "reference", "covariance", "n", "match"), [
    (np.ones(8), np.eye(8), COVARIANCE, 10, "patterns have shape"),
    (np.eye(8), np.eye(7), COVARIANCE, 10, "reference have shape"),
    (np.ones((2, 8)), np.eye(8), COVARIANCE, 10, "same value on all channels"),
    (np.eye(8), np.full((2, 8), np.nan), COVARIANCE, 10, "reference hold NaN"),
    (np.eye(8), np.eye(8), COVARIANCE[:7], 10, r"covariance has shape \(7, 8\)"),
    (np.eye(8), np.eye(8), COVARIANCE, 0, "n is 0"),
    (np.eye(8), np.eye(8), np.zeros((8, 8)), 10, "patterns of random filters hold"),
])  # fmt: skip
def test_errors_of_matching(patterns, reference, covariance, n, match):
    with pytest.raises(ValueError, match=match):
        match_patterns(patterns, reference, covariance, n=n)


class Wrapped(nn.Module):
    """For (trial, 1, channel, time), keeping a tensor of the number of trials that it saw first."""

    def __init__(self):
        super().__init__()
        self.inner, self.kept = spatial_first(dtype=torch.float32), None

    def forward(self, x):
        if self.kept is None:
            self.kept = 2 * torch.ones(len(x), 1, 1)
        return self.inner(x.squeeze(1) * self.kept[:1])


def test_units_of_any_network_are_seen_without_leaving_a_trace():
    model, trials = Wrapped().train(), trials_of(RNG.standard_normal((6, 5, N_TIMES)))
    activations, _ = unit_activations(nn.DataParallel(model), trials, "inner.blocks.2")
    expected, _ = unit_activations(spatial_first(dtype=torch.float32), 2 * trials.signal, "blocks.2")
    np.testing.assert_allclose(activations, expected, rtol=1e-5, atol=1e-5)
    accuracy = ablate_units(model, trials, "inner.blocks.2")["accuracy"]
    halved = ablate_units(spatial_first(dtype=torch.float32), replace(trials, signal=2 * trials.signal), "blocks.2")
    np.testing.assert_array_equal(accuracy, halved["accuracy"])
    assert model.training and model.kept is None


def test_one_output_has_no_accuracy():
    model = nn.Sequential(spatial_first(dtype=torch.float32), nn.Linear(3, 1))
    with pytest.raises(ValueError, match="has one output, which decides between no classes"):
        ablate_units(model, trials_of(RNG.standard_normal((6, 5, N_TIMES))), "0.blocks.2")
