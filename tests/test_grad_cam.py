"""Grad-CAM against hand arithmetic of receptive fields, captum's layer map, and sources planted in time."""

import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from einops.layers.torch import Rearrange
from torch import nn

import eegxai_support.attribution.guided  # noqa: F401  (registers what guided Grad-CAM multiplies)
from eegxai_support.attribution import METHODS, attribute
from eegxai_support.attribution.grad_cam import last_convolution
from eegxai_support.model import UnsupportedOperation, receptive_fields

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import ATCNet, Deep4Net, EEGConformer, EEGNet, ShallowFBCSPNet
    from braindecode.visualization import layer_grad_cam

N_CHANNELS, N_TIMES, SFREQ = 3, 250, 125
SIZES = {"n_chans": N_CHANNELS, "n_outputs": 2, "n_times": N_TIMES, "drop_prob": 0.1}
POOL = {"pool_time_length": 2, "pool_time_stride": 2}
DEEP = POOL | {f"n_filters_{n}": 8 for n in (2, 3, 4)} | {f"filter_length_{n}": 5 for n in (2, 3, 4)}
NETWORKS = {
    "EEGNet": lambda: EEGNet(**SIZES, kernel_length=15, batch_norm_momentum=0.1),
    "ShallowFBCSPNet": lambda: ShallowFBCSPNet(
        **SIZES, n_filters_time=6, n_filters_spat=6, filter_time_length=13, pool_time_length=20, pool_time_stride=5
    ),
    "Deep4Net": lambda: Deep4Net(**SIZES, **DEEP, n_filters_time=6, n_filters_spat=6, filter_time_length=5),
}
AFTER_SPATIAL = {"EEGNet": "conv_spatial", "ShallowFBCSPNet": "conv_time_spat", "Deep4Net": "conv_time_spat"}
LATER = [
    ("EEGNet", "pool_1"), ("EEGNet", "conv_separable_point"), ("EEGNet", "pool_2"), ("ShallowFBCSPNet", "pool"),
    ("Deep4Net", "conv_2"), ("Deep4Net", "conv_3"), ("Deep4Net", "conv_4"),
]  # fmt: skip
SOURCES = (70, 180)  # samples; neither in the middle nor each other's mirror image
CHANNEL = 1


def build(name):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return NETWORKS[name]().eval()


def trials(source, n_trials, seed):
    """Noise, and in the trials of class 1 a 12 Hz burst of 0.1 s and of random phase in one channel."""
    rng = np.random.default_rng(seed)
    label, time = np.arange(n_trials) % 2, (np.arange(N_TIMES) - source) / SFREQ
    x = rng.standard_normal((n_trials, N_CHANNELS, N_TIMES))
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1))
    burst = np.exp(-4 * np.log(2) * (time / 0.1) ** 2) * np.cos(2 * np.pi * 12 * time + phase)
    x[:, CHANNEL] += 3 * label[:, None] * burst
    return x.astype("float32"), label


@cache  # no test changes one
def trained(name, source):
    model = build(name).train()
    x, label = map(torch.as_tensor, trials(source, 200, seed=1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for _ in range(15):
            for batch in torch.randperm(len(x)).split(32):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), label[batch]).backward()
                optimiser.step()
    return model.eval()


# Two sources for one network, so that no place is right whatever the map says; one of them each for the others.
PLACES = [("EEGNet", SOURCES[0]), ("EEGNet", SOURCES[1]), ("ShallowFBCSPNet", SOURCES[0]), ("Deep4Net", SOURCES[1])]


@pytest.fixture(scope="module", params=PLACES, ids=str)
def decoder(request):
    name, source = request.param
    return SimpleNamespace(name=name, source=source, model=trained(name, source), test=trials(source, 60, seed=2))


@pytest.fixture(scope="module")
def shallow():
    return build("ShallowFBCSPNet")


X = trials(SOURCES[0], 5, seed=3)[0]


def peak(course):
    """Return the middle of the samples where a time course is largest."""
    return np.flatnonzero(course == course.max()).mean()


# --- receptive fields -------------------------------------------------------------------------------------------------


def by_hand(*layers):
    """Step, start and end of position 0 after layers of (operation, kernel, stride, padding, dilation)."""
    step, start, end = 1, 0, 0
    for _, kernel, stride, padding, dilation in layers:
        start -= padding * step
        end += ((kernel - 1) * dilation - padding) * step
        step *= stride
    return step, start, end


STACKS = {
    "one": [("conv", 5, 1, 0, 1)],
    "even kernel, padded": [("conv", 8, 1, 4, 1)],
    "strided": [("conv", 7, 2, 3, 1), ("max", 3, 3, 0, 1)],
    "dilated": [("conv", 3, 1, 2, 2), ("conv", 3, 2, 4, 4)],
    "deep": [("conv", 9, 1, 0, 1), ("max", 3, 3, 0, 1), ("conv", 5, 1, 2, 1), ("avg", 4, 4, 1, 1)],
    "causal": [("conv", 4, 1, 3, 1), ("conv", 4, 1, 6, 2), ("avg", 2, 2, 0, 1)],
}


def stack(layers, time_axis):
    """Spatial filters, then the layers along time, a rectifier after each convolution."""

    def along(n, other=1):
        return (n, other) if time_axis == 2 else (other, n)

    order = "b 1 t c" if time_axis == 2 else "b 1 c t"
    modules, n_filters = [Rearrange(f"b c t -> {order}"), nn.Conv2d(1, 8, along(1, N_CHANNELS))], 8
    for operation, kernel, stride, padding, dilation in layers:
        sizes = {"kernel_size": along(kernel), "stride": along(stride), "padding": along(padding, 0)}
        if operation == "conv":
            modules += [nn.Conv2d(n_filters, n_filters, **sizes, dilation=along(dilation)), nn.ReLU()]
        else:
            modules += [{"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[operation](**sizes)]
    return nn.Sequential(*modules), nn.Sequential(*modules, nn.Flatten(), nn.LazyLinear(2))


@pytest.mark.parametrize("time_axis", [2, 3])
@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_receptive_fields_of_convolution_stacks(layers, time_axis):
    torch.manual_seed(0)
    features, model = stack(layers, time_axis)
    model(torch.as_tensor(X))
    fields = receptive_fields(model, str(len(features) - 1), N_CHANNELS, N_TIMES)
    step, start, end = by_hand(*layers)
    position = np.arange(features(torch.as_tensor(X)).shape[time_axis])
    assert (fields.time_axis, fields.channel_axis) == (time_axis, None)
    np.testing.assert_array_equal(fields.start, start + step * position)
    np.testing.assert_array_equal(fields.end, end + step * position)
    np.testing.assert_array_equal(fields.centre, (start + end) / 2 + step * position)


@pytest.mark.parametrize(
    ("modules", "layer", "time_axis", "channel_axis"),
    [
        ([nn.Conv1d(3, 4, 5)], "0", 2, None),
        ([nn.Conv1d(3, 4, 5), Rearrange("b f t -> b t f")], "1", 1, None),
        ([nn.Conv1d(3, 250, 5)], "0", 2, None),
        ([Rearrange("b c t -> b 1 c t"), nn.Conv2d(1, 4, (1, 5))], "1", 3, 2),
        ([Rearrange("b c t -> b 1 t c"), nn.Conv2d(1, 3, (5, 1))], "1", 2, 3),
        ([Rearrange("b c t -> b 1 t c"), nn.Conv2d(1, 3, (5, 2), padding=(0, 1))], "1", 2, None),
    ],
)
def test_which_axis_is_time_and_which_is_channels(modules, layer, time_axis, channel_axis):
    model = nn.Sequential(*modules, nn.Flatten(), nn.LazyLinear(2))
    model(torch.as_tensor(X))
    fields = receptive_fields(model, layer, N_CHANNELS, N_TIMES)
    assert (fields.time_axis, fields.channel_axis) == (time_axis, channel_axis)
    np.testing.assert_array_equal(fields.centre, np.arange(N_TIMES - 4) + 2)


@pytest.mark.parametrize(
    ("name", "layer", "layers"),
    [
        ("EEGNet", "conv_temporal", [("conv", 15, 1, 7, 1)]),
        ("EEGNet", "conv_spatial", [("conv", 15, 1, 7, 1)]),
        ("EEGNet", "pool_2", [("conv", 15, 1, 7, 1), ("avg", 4, 4, 0, 1), ("conv", 16, 1, 8, 1), ("avg", 8, 8, 0, 1)]),
        ("ShallowFBCSPNet", "conv_time_spat", [("conv", 13, 1, 0, 1)]),
        ("ShallowFBCSPNet", "pool", [("conv", 13, 1, 0, 1), ("avg", 20, 5, 0, 1)]),
        ("Deep4Net", "conv_4", [("conv", 5, 1, 0, 1), *[("max", 2, 2, 0, 1), ("conv", 5, 1, 0, 1)] * 3]),
    ],
)
def test_receptive_fields_of_networks(name, layer, layers):
    fields = receptive_fields(build(name), layer, N_CHANNELS, N_TIMES)
    step, start, end = by_hand(*layers)
    assert (fields.start[0], fields.end[0]) == (start, end)
    np.testing.assert_array_equal(np.diff(fields.centre), step)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_the_default_is_the_last_convolution_with_a_time_axis():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conformer = EEGConformer(
            n_chans=N_CHANNELS, n_outputs=2, n_times=N_TIMES, n_filters_time=8, num_layers=1, num_heads=2
        )
        atcnet = ATCNet(n_chans=N_CHANNELS, n_outputs=2, n_times=500, sfreq=125, input_window_seconds=4)
    for model, n_times, layer in (
        (build("EEGNet"), N_TIMES, "conv_separable_point"),
        (build("ShallowFBCSPNet"), N_TIMES, "conv_time_spat"),
        (build("Deep4Net"), N_TIMES, "conv_4"),
        (conformer, N_TIMES, "patch_embedding.projection.0"),
        (atcnet, 500, "conv_block.conv3"),  # its later ones come after attention, which sees all of the trial
    ):
        name, fields = last_convolution(model, N_CHANNELS, n_times)
        assert name == layer
        np.testing.assert_array_equal(fields.centre, receptive_fields(model, layer, N_CHANNELS, n_times).centre)


# --- the map ----------------------------------------------------------------------------------------------------------


def test_equals_captum_where_positions_are_samples():
    """Centres at whole samples, one apart: nothing is interpolated."""
    for name, layer in (*AFTER_SPATIAL.items(), ("EEGNet", "conv_temporal")):
        model = build(name)
        captum = LayerGradCam(model, model.get_submodule(layer)).attribute(torch.as_tensor(X), 1).detach().numpy()
        captum = captum[:, 0] if layer == "conv_temporal" else captum.reshape(len(X), 1, -1)
        centre = receptive_fields(model, layer, N_CHANNELS, N_TIMES).centre.astype(int)
        inside = (centre >= 0) & (centre < N_TIMES)
        result = attribute(model, X, 1, "grad_cam", layer=layer, relu=False).values[:, :, centre[inside]]
        expected = np.broadcast_to(captum[..., inside], result.shape)
        np.testing.assert_allclose(result, expected, atol=1e-5 * abs(expected).max())
        rectified = attribute(model, X, 1, "grad_cam", layer=layer).values[:, :, centre[inside]]
        np.testing.assert_array_equal(rectified, result.clip(0))


def test_between_the_centres_and_beyond(shallow):
    """Straight lines between the centres, constant to the ends of the outer receptive fields, then zero."""
    fields = receptive_fields(shallow, "pool", N_CHANNELS, N_TIMES)
    captum = LayerGradCam(shallow, shallow.pool).attribute(torch.as_tensor(X), 1).detach().numpy().reshape(len(X), -1)
    time = np.arange(N_TIMES)
    expected = np.stack([np.interp(time, fields.centre, cam) for cam in captum])
    seen_to = int(fields.end[-1])
    expected[:, seen_to + 1 :] = 0
    result = attribute(shallow, X, 1, "grad_cam", layer="pool", relu=False).values
    np.testing.assert_allclose(result, np.repeat(expected[:, None], N_CHANNELS, 1), atol=1e-6 * abs(expected).max())
    assert seen_to < N_TIMES - 1 and (result[:, :, seen_to + 1 :] == 0).all() and (result[:, :, seen_to] != 0).all()


def test_braindecode_writes_time_on_the_channel_axis(shallow):
    theirs = layer_grad_cam(shallow, torch.as_tensor(X), 1, shallow.pool).numpy()
    ours = attribute(shallow, X, 1, "grad_cam", layer="pool", relu=False).values
    assert theirs.std(2).max() < 1e-5 * theirs.std(1).mean()
    assert ours.std(1).max() < 1e-5 * ours.std(2).mean()


def test_a_source_at_the_convolution_after_the_spatial_filters(decoder):
    x, label = decoder.test
    values = attribute(decoder.model, x[label == 1], 1, "grad_cam", layer=AFTER_SPATIAL[decoder.name]).values
    assert abs(peak(values.mean((0, 1))) - decoder.source) / SFREQ <= 0.05


def test_a_source_is_on_its_channel_before_the_spatial_filters():
    x, label = trials(SOURCES[0], 60, seed=2)
    values = attribute(trained("EEGNet", SOURCES[0]), x[label == 1], 1, "grad_cam", layer="conv_temporal").values
    channel, time = np.unravel_index(values.mean(0).argmax(), values.shape[1:])
    assert channel == CHANNEL
    assert abs(time - SOURCES[0]) / SFREQ <= 0.05


@torch.no_grad()
def symmetric(name):
    """Give a network positive filters that are symmetric in time: none of them delays what it passes on."""
    model = build(name)
    for weight in model.parameters():
        if weight.ndim == 4:
            n_times = max(weight.shape[2:])
            window = torch.hann_window(n_times + 2, periodic=False)[1:-1] / weight[0].numel()
            weight.copy_(window.reshape([1, 1, *(n_times if n == n_times else 1 for n in weight.shape[2:])]))
    final = model.final_layer.conv_classifier.weight
    final.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand_as(final))
    return model


def pulses(model, layer):
    """Return trials with a short pulse each, at every time between the outer centres of a layer; times; centres."""
    centre = receptive_fields(model, layer, N_CHANNELS, N_TIMES).centre
    source = np.arange(max(50, centre[0]), min(200, centre[-1]))
    x = np.exp(-0.5 * ((np.arange(N_TIMES) - source[:, None]) / 3) ** 2)[:, None].repeat(N_CHANNELS, 1)
    return x.astype("float32"), source, centre


@pytest.mark.parametrize(("name", "layer"), [*AFTER_SPATIAL.items(), *LATER])
def test_a_pulse_peaks_within_half_a_step_at_every_layer(name, layer):
    model = symmetric(name)
    x, source, centre = pulses(model, layer)
    values = attribute(model, x, 1, "grad_cam", layer=layer).values[:, 0, : int(centre[-1]) + 1]  # constant beyond
    assert np.abs([peak(course) for course in values] - source).max() <= (centre[1] - centre[0]) / 2


@pytest.mark.parametrize(("name", "layer"), [("ShallowFBCSPNet", "pool"), ("Deep4Net", "conv_4")])
def test_a_pulse_does_not_where_the_map_is_stretched(name, layer):
    model = symmetric(name)
    x, source, centre = pulses(model, layer)
    captum = LayerGradCam(model, model.get_submodule(layer)).attribute(torch.as_tensor(x), 1)
    stretched = nn.functional.interpolate(captum.detach().reshape(len(x), 1, -1), N_TIMES, mode="linear")[:, 0]
    assert np.abs([peak(course) for course in stretched.numpy()] - source).max() > 2 * (centre[1] - centre[0])


# --- what it leaves alone, and what it refuses ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_no_trial_depends_on_the_others(name):
    model = build(name)
    together = attribute(model, X, 1, "grad_cam").values
    assert together.shape == X.shape and together.dtype == np.float32
    in_pairs = attribute(model, X, 1, "grad_cam", batch_size=2).values
    alone = np.concatenate([attribute(model, X[[n]], 1, "grad_cam").values for n in range(len(X))])
    for other in (in_pairs, alone):
        np.testing.assert_allclose(other, together, atol=1e-5 * together.max())


def test_targets_per_trial(shallow):
    both = np.stack([attribute(shallow, X, target, "grad_cam").values for target in (0, 1)])
    label = np.arange(len(X)) % 2
    result = attribute(shallow, X, label, "grad_cam").values
    np.testing.assert_allclose(result, both[label, np.arange(len(X))], atol=1e-5 * both.max())


@pytest.mark.parametrize("failing", [False, True])
def test_the_model_is_given_back_as_it_was(failing):
    model = build("EEGNet").train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    attributes, random_state = [set(vars(module)) for module in model.modules()], torch.get_rng_state()

    def target(outputs):
        if failing:
            raise RuntimeError("stop")
        return outputs[:, 1]

    if failing:
        with pytest.raises(RuntimeError, match="stop"):
            attribute(model, X, target, "grad_cam")
    else:
        attribute(model, X, target, "grad_cam")
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert attributes == [set(vars(module)) for module in model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_an_activation_in_place_changes_nothing():
    torch.manual_seed(0)
    layers = [nn.Conv1d(N_CHANNELS, 4, 5), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2)]
    model = nn.Sequential(*layers)
    model(torch.as_tensor(X))
    in_place = attribute(model, X, 0, "grad_cam", layer="0", relu=False).values
    layers[1].inplace = False
    np.testing.assert_array_equal(in_place, attribute(model, X, 0, "grad_cam", layer="0", relu=False).values)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Conv1d(N_CHANNELS, N_CHANNELS, 3)

    def forward(self, x):
        return self.shared(self.shared(x)).mean(2)[:, :2]


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(N_TIMES, 2)

    def forward(self, x):
        return self.recurrent(x)[0].mean(1)


@pytest.mark.parametrize(
    ("model", "layer", "error", "message"),
    [
        ("ShallowFBCSPNet", "conv_time", ValueError, "Unknown layer 'conv_time'. Did you mean 'conv_time_spat'"),
        ("ShallowFBCSPNet", "conv_time_spat.conv_time", UnsupportedOperation, "never runs; .* 'conv_time_spat'"),
        ("ShallowFBCSPNet", "conv_time_spat.conv_spat", UnsupportedOperation, "never runs; .* 'conv_time_spat'"),
        ("ShallowFBCSPNet", "final_layer", UnsupportedOperation, "'final_layer' of ShallowFBCSPNet, shape .2,."),
        (Twice(), "shared", UnsupportedOperation, "'shared' of Twice runs 2 times"),
        (Twice(), None, UnsupportedOperation, "Twice has none .shared."),
        (Tuple(), "recurrent", UnsupportedOperation, "'recurrent' of Tuple, <class 'tuple'>"),
        (Tuple(), None, UnsupportedOperation, "no convolution at all"),
        (nn.Sequential(nn.Conv1d(3, 2, 250), nn.Flatten()), "0", UnsupportedOperation, "time was summed up"),
        (nn.Sequential(nn.GroupNorm(1, 3), nn.Conv1d(3, 2, 245), nn.Flatten()), "1", UnsupportedOperation, "sees all"),
    ],
)
def test_layers_without_a_map(model, layer, error, message):
    model = build(model) if isinstance(model, str) else model
    with pytest.raises(error, match=message):
        attribute(model, X, 0, "grad_cam", layer=layer)


def test_it_applies_to_networks_with_convolutions(shallow):
    for method in (METHODS["grad_cam"], METHODS["guided_grad_cam"]):
        assert not method.applies_to(Tuple())
        assert not (method.conserves or method.linear_in_input or method.needs_baseline)
        assert method.uses_target
    assert METHODS["grad_cam"].applies_to(shallow) and METHODS["grad_cam"].applies_to(build("EEGNet"))


def test_guided_grad_cam_is_a_product():
    model = build("EEGNet")
    guided = attribute(model, X, 1, "guided_backprop").values
    for options in ({}, {"layer": "conv_spatial"}):
        cam = attribute(model, X, 1, "grad_cam", **options).values
        np.testing.assert_array_equal(attribute(model, X, 1, "guided_grad_cam", **options).values, guided * cam)
