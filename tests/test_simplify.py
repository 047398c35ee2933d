"""`simplify` against the network that it was given, in double precision, and what it leaves alone."""

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.overrides import TorchFunctionMode

from eegxai_support.decoders import InterpretableCNN
from eegxai_support.model import simplify
from eegxai_support.model.simplify import Stem, elu

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import braindecode.models as zoo

N_CHANNELS, N_TIMES = 22, 500
JOINED = ("EEGNet", "ATCNet", "AttentionBaseNet", "CTNet", "EEGITNet", "MSVTNet", "EEGConformer", "ShallowFBCSPNet",
          "Deep4Net", "InterpretableCNN")  # fmt: skip
OTHERS = ("EEGNeX", "EEGTCNet", "FBCNet", "IFNet", "SCCNet", "SincShallowNet", "SSTDPN", "EEGSimpleConv", "BDTCN",
          "SleepStagerBlanco2020")  # fmt: skip
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def with_statistics(model):
    """Give the batch norms what training would give them."""
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, BATCH_NORMS) and norm.running_mean is not None:
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(norm.weight, 0.5, 2, generator=generator)
            nn.init.normal_(norm.bias, generator=generator)
    return model.double().eval()


def build(name):
    sizes = {"n_chans": N_CHANNELS, "n_outputs": 3, "n_times": N_TIMES}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        if name == "InterpretableCNN":
            return with_statistics(InterpretableCNN(**sizes))
        return with_statistics(getattr(zoo, name)(**sizes, sfreq=125))


def value_and_gradient(model, x):
    x = x.clone().requires_grad_()
    outputs = model(x)
    return outputs.detach(), torch.autograd.grad(outputs[:, 0].sum(), x)[0]


def assert_same_function(simplified, model, shape=(3, N_CHANNELS, N_TIMES)):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
    for made, right in zip(value_and_gradient(simplified, x), value_and_gradient(model, x), strict=True):
        torch.testing.assert_close(made, right, rtol=1e-10, atol=1e-10 * float(right.abs().max()))


def n_of(model, *kinds):
    return sum(isinstance(module, kinds) for module in model.modules())


# --- braindecode ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*JOINED, *OTHERS])
def test_networks_compute_the_same(name):
    model = build(name)
    simplified = simplify(model)
    assert_same_function(simplified, model)
    assert bool(n_of(simplified, Stem)) == (name in JOINED)
    assert not any(p.requires_grad for p in simplified.parameters())


def test_nothing_but_the_nonlinear_and_linear_layers_is_left_of_eegnet():
    simplified = simplify(build("EEGNet"))
    assert n_of(simplified, *BATCH_NORMS, nn.Dropout) == 0
    assert not any(hasattr(module, "parametrizations") for module in simplified.modules())
    assert [name for name, _ in simplified.named_children()] == [name for name, _ in build("EEGNet").named_children()]
    assert isinstance(simplified.conv_temporal, Stem)
    assert isinstance(simplified.conv_spatial, nn.Identity)


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "InterpretableCNN"])
def test_simplifying_twice_changes_nothing(name):
    once = simplify(build(name))
    twice = simplify(once)
    x = torch.randn(2, N_CHANNELS, N_TIMES).double()
    assert torch.equal(once(x), twice(x))
    assert [type(module) for module in once.modules()] == [type(module) for module in twice.modules()]


def test_the_original_and_the_random_state_stay():
    model = build("EEGNet").train()
    hook = model.elu_1.register_forward_hook(lambda *call: None)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    types, random_state = [type(module) for module in model.modules()], torch.get_rng_state()
    simplified = simplify(model)
    assert not simplified.training
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert list(model.elu_1._forward_hooks) == [hook.id]
    assert sum(len(module._forward_hooks) for module in model.modules()) == 1
    assert [type(module) for module in model.modules()] == types
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_same_function(simplified, model.eval())  # its parametrised weights still work


def test_batch_size_and_type_are_free():
    simplified = simplify(build("EEGNet"))
    x = torch.randn(5, N_CHANNELS, N_TIMES).double()
    one_by_one = torch.cat([simplified(trial[None]) for trial in x])
    torch.testing.assert_close(simplified(x), one_by_one, rtol=1e-12, atol=1e-12)
    single = simplified.float()(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), one_by_one, rtol=1e-4, atol=1e-4)


# --- stems ------------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Layers in a row on trials (trial, 1, channel, time) or (trial, 1, time, channel), and a square at their end."""

    n_chans, n_times = 6, 40

    def __init__(self, *layers, turned=False):
        super().__init__()
        self.layers, self.turned = nn.Sequential(*layers), turned

    def forward(self, x):
        x = self.layers(x.mT[:, None] if self.turned else x[:, None])
        return (x**2).flatten(2).mean(2)


def temporal(n_in, n_out, length=7, *, turned=False, **options):
    return nn.Conv2d(n_in, n_out, (length, 1) if turned else (1, length), **options)


def spatial(n_in, n_out, *, turned=False, **options):
    return nn.Conv2d(n_in, n_out, (1, 6) if turned else (6, 1), **options)


def pair(*, turned=False, norms=True, groups=4, n_filters=8, **options):
    """Return a temporal and a spatial layer, each with its batch norm."""
    layers = [
        temporal(1, 4, turned=turned, **options),
        nn.BatchNorm2d(4),
        spatial(4, n_filters, turned=turned, groups=groups),
        nn.BatchNorm2d(n_filters),
    ]
    return layers if norms else layers[::2]


SHAPE = (3, 6, 40)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norms": False},
        {"padding": "same"},
        {"groups": 2},
        {"groups": 1, "n_filters": 3},
        {"groups": 1, "n_filters": 3, "norms": False, "bias": False},
    ],
    ids=str,
)
def test_temporal_before_spatial(options, turned):
    model = with_statistics(Linear(*pair(turned=turned, **options), turned=turned))
    simplified = simplify(model)
    assert isinstance(simplified.layers[0], Stem)
    assert_same_function(simplified, model, SHAPE)


@pytest.mark.parametrize("geometry", [{"padding": (0, 5)}, {"stride": (1, 3)}, {"dilation": (1, 2)},
                                      {"padding": (0, 2), "padding_mode": "circular"}], ids=str)  # fmt: skip
def test_the_temporal_filter_keeps_its_geometry(geometry):
    model = with_statistics(Linear(*pair(**geometry)))
    simplified = simplify(model)
    assert isinstance(simplified.layers[0], Stem)
    assert_same_function(simplified, model, SHAPE)


@pytest.mark.parametrize("turned", [False, True])
def test_spatial_before_temporal(turned):
    """The spatial layer's bias meets the zeros of the padding."""
    layers = spatial(1, 4, turned=turned), nn.BatchNorm2d(4), temporal(4, 8, turned=turned, groups=4, padding="same")
    model = with_statistics(Linear(*layers, nn.BatchNorm2d(8), turned=turned))
    simplified = simplify(model)
    assert isinstance(simplified.layers[0], Stem)
    assert_same_function(simplified, model, SHAPE)


@pytest.mark.parametrize(
    "layers",
    [
        (temporal(1, 4), nn.Conv2d(4, 4, (5, 1), groups=4)),  # not over all channels
        (temporal(1, 4), nn.Conv2d(4, 4, (6, 2), groups=4)),  # also over time
        (temporal(1, 4), spatial(4, 4, groups=4, stride=(1, 2))),
        (temporal(1, 4), nn.ELU(), spatial(4, 4, groups=4)),
        (nn.Conv2d(1, 4, (2, 7), padding=(1, 0)), nn.Conv2d(4, 4, (7, 1), groups=4)),
        (temporal(1, 1), spatial(1, 9)),  # more operations the other way round
    ],
)
def test_other_pairs_are_left(layers):
    model = with_statistics(Linear(*layers))
    simplified = simplify(model)
    assert n_of(simplified, Stem) == 0
    assert_same_function(simplified, model, SHAPE)


def test_batch_norm_goes_into_linear_layers_and_convolutions():
    class Mixed(nn.Module):
        n_chans, n_times = 6, 40

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv1d(6, 4, 5), nn.BatchNorm1d(4)
            self.linear, self.linear_norm = nn.Linear(36, 5), nn.BatchNorm1d(4)
            self.last, self.last_norm = weight_norm(nn.Linear(20, 3)), nn.BatchNorm1d(3)

        def forward(self, x):
            x = torch.tanh(self.norm(self.conv(x)))
            # This one normalises another axis than the linear layer's features.
            x = torch.tanh(self.linear_norm(self.linear(x)))
            return self.last_norm(self.last(x.flatten(1)))

    model = with_statistics(Mixed())
    simplified = simplify(model)
    assert isinstance(simplified.norm, nn.Identity)
    assert isinstance(simplified.last_norm, nn.Identity)
    assert not isinstance(simplified.linear_norm, nn.Identity)
    assert type(simplified.last) is nn.Linear
    assert_same_function(simplified, model, SHAPE)


# --- what is left alone -----------------------------------------------------------------------------------------------


def test_hooks_see_what_they_saw():
    model, seen = with_statistics(Linear(*pair())), []
    model.layers[1].register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    simplified = simplify(model)
    assert type(simplified.layers[1]) is nn.BatchNorm2d
    assert n_of(simplified, Stem) == 0
    x = torch.randn(SHAPE).double()
    seen.clear()
    model(x), simplified(x)
    torch.testing.assert_close(*seen, rtol=1e-12, atol=1e-12)


def test_a_hook_that_changes_an_output_still_does():
    model = with_statistics(Linear(*pair()))
    model.layers[0].register_forward_hook(lambda module, args, output: output.clamp(min=0))
    assert_same_function(simplify(model), model, SHAPE)


def test_a_hook_on_a_container_sees_what_it_saw():
    first = nn.Sequential(*pair()[:2])
    model, seen = with_statistics(Linear(first, *pair()[2:])), []
    first.register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    simplified = simplify(model)
    x = torch.randn(SHAPE).double()
    seen.clear()
    model(x), simplified(x)
    torch.testing.assert_close(*seen, rtol=1e-12, atol=1e-12)


class Branches(nn.Module):
    """A convolution whose output more than one layer takes."""

    n_chans, n_times = 6, 40

    def __init__(self, join):
        super().__init__()
        self.conv, self.norm, self.other, self.join = nn.Conv1d(6, 4, 5), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 1), join

    def forward(self, x):
        return self.join(self, self.conv(x)).flatten(2).mean(2)


def in_place(self, x):
    x += 1
    return self.norm(x)


@pytest.mark.parametrize(
    "join",
    [
        lambda self, x: self.norm(x) + x,
        lambda self, x: self.norm(x) * self.other(x),
        lambda self, x: self.norm(x) + torch.stack([x, x]).sum(0),
        lambda self, x: self.norm(self.norm(x)),
        lambda self, x: self.norm(x) * self.conv.weight.sum(),
        lambda self, x: self.norm(x) if x.mean() > 100 else x,
        in_place,
    ],
)
def test_outputs_that_are_used_elsewhere(join):
    model = with_statistics(Branches(join))
    simplified = simplify(model)
    assert type(simplified.norm) is not nn.Identity
    assert_same_function(simplified, model, SHAPE)


def test_one_layer_in_two_places():
    shared = nn.Conv2d(4, 4, (1, 3), padding="same")
    model = with_statistics(Linear(temporal(1, 4), shared, nn.BatchNorm2d(4), nn.ELU(), shared, nn.BatchNorm2d(4)))
    simplified = simplify(model)
    assert simplified.layers[1] is simplified.layers[4]
    assert_same_function(simplified, model, SHAPE)


def test_batch_norm_without_running_statistics():
    layers = pair()
    layers[1] = nn.BatchNorm2d(4, track_running_stats=False)
    model = with_statistics(Linear(*layers))
    simplified = simplify(model)
    assert type(simplified.layers[1]) is nn.BatchNorm2d
    assert_same_function(simplified, model, SHAPE)


def test_layers_with_a_forward_of_their_own():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    layers = pair()
    layers[0] = Doubled(1, 4, (1, 7))
    model = with_statistics(Linear(*layers))
    model.layers[3].forward = lambda x: x.abs()
    simplified = simplify(model)
    assert type(simplified.layers[0]) is Doubled
    assert_same_function(simplified, model, SHAPE)


def test_random_networks_and_broken_ones_are_only_copied():
    class Noisy(Linear):
        def forward(self, x):
            return super().forward(x) + torch.randn(1)

    class Broken(Linear):
        def forward(self, x):
            raise RuntimeError("not today")

    for kind in (Noisy, Broken):
        model, state = with_statistics(kind(*pair())), torch.get_rng_state()
        simplified = simplify(model)
        assert simplified is not model
        assert [type(module) for module in simplified.modules()] == [type(module) for module in model.modules()]
        assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_cannot_be_copied_is_used_itself():
    model = with_statistics(Linear(*pair()))
    model.lock = threading.Lock()  # which nothing can copy
    assert simplify(model) is model


def test_size_unknown():
    model = with_statistics(Linear(*pair()))
    model.n_times = None
    assert n_of(simplify(model), Stem) == 0
    simplified = simplify(model, torch.zeros(1, 6, 40))
    assert n_of(simplified, Stem) == 1
    for each in (simplify(model), simplified):
        assert_same_function(each, model, SHAPE)


def test_faster_elu_is_as_accurate_and_seen_by_function_modes():
    """Against double precision, from the smallest numbers to where it saturates, and its derivative."""
    x = torch.cat([-torch.logspace(-30, 2, 5000), torch.logspace(-30, 2, 100), torch.zeros(1)]).requires_grad_()
    exact = torch.nn.functional.elu(x.detach().double())
    y = elu(x)
    assert ((y.double() - exact).abs() <= 4 * torch.finfo(torch.float32).eps * exact.abs()).all()
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient.double(), torch.exp(x.detach().double().clamp(max=0)), rtol=0, atol=3e-7)
    called = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called.append(function.__name__)
            return function(*args, **(kwargs or {}))

    with Mode():
        elu(x)
    assert called == ["elu"]
