"""The stem of EEGNet and its relatives in training: spatial filters first, the same updates."""

import copy

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.models import ATCNet, EEGITNet, EEGNet, MSVTNet, ShallowFBCSPNet
from torch import nn
from torch.nn.functional import cross_entropy, pad

import eegxai_support as xs
from eegxai_support.decoders import stem
from eegxai_support.decoders.stem import filtered, lagged_moments, training_pass
from eegxai_support.model import linear_stems

N_CHANNELS, N_TIMES = 6, 96
SHAPES = [
    (40, 8, (4, 4)),
    (50, 7, (3, 3)),
    (50, 8, (3, 4)),
    (50, 8, (0, 0)),
    (12, 16, (8, 8)),
    (9, 9, (0, 0)),
    (5, 2, (1, 0)),
]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trials(n_trials=24, n_times=N_TIMES, dtype="float32"):
    """Trials of two classes: a rhythm on some channels, on top of noise that is strong where it is slow."""
    rng = np.random.default_rng(0)
    label = np.arange(n_trials) % 2
    signal = rng.standard_normal((n_trials, N_CHANNELS, n_times)).cumsum(2)
    signal -= signal.mean(2, keepdims=True)
    signal += 3 * label[:, None, None] * np.sin(0.8 * np.arange(n_times)) * (np.arange(N_CHANNELS) < 3)[:, None]
    metadata = pd.DataFrame({"subject": 0, "session": 0, "run": np.arange(n_trials) // 8})
    info = mne.create_info([f"E{channel}" for channel in range(N_CHANNELS)], 64.0, "eeg")
    return xs.Trials((signal / 5).astype(dtype), "standardised", label, info, ("a", "b"), metadata)


def eegnet(n_times=N_TIMES, **options):
    torch.manual_seed(1)
    return EEGNet(N_CHANNELS, 2, n_times, kernel_length=16, batch_norm_momentum=0.1, **options)


@pytest.mark.parametrize(("n_times", "length", "padding"), SHAPES)
def test_moments_are_sums_over_every_place_of_the_window(n_times, length, padding):
    x = noise(3, 4, n_times)
    window = pad(x, padding).unfold(2, length, 1)
    first, second = lagged_moments(x, length, padding)
    torch.testing.assert_close(first, window.sum((1, 2)), rtol=0, atol=1e-11)
    torch.testing.assert_close(second, torch.einsum("bctj,bctk->bjk", window, window), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("n_times", "length", "padding"), SHAPES)
def test_filtered_signals_are_those_of_a_convolution(n_times, length, padding):
    x, kernel = noise(3, 2, 4, n_times).requires_grad_(), noise(2, length, seed=1).requires_grad_()
    made = filtered(x, kernel, padding)
    right = torch.stack(
        [nn.functional.conv2d(pad(x[:, f, None], padding), kernel[f][None, None, None])[:, 0] for f in range(2)], 1
    )
    weight = noise(*right.shape, seed=2)
    torch.testing.assert_close(made, right, rtol=0, atol=1e-12)
    made, right = (torch.autograd.grad((it * weight).sum(), (x, kernel)) for it in (made, right))
    torch.testing.assert_close(made, right, rtol=0, atol=1e-11)


def assert_same(fast, plain, *, atol):
    """Compare weights, running statistics and history."""
    assert fast.model.state_dict().keys() == plain.model.state_dict().keys()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(
            fast.model.state_dict()[name], value, rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )
    pd.testing.assert_frame_equal(fast.history, plain.history, rtol=0, atol=atol)


def both(build, train, valid=None, **options):
    """Train a network either way."""
    return [xs.train(build(), train, valid, fast=fast, **options) for fast in (True, False)]


def without_affine_norm():
    model = eegnet()
    model.bnorm_temporal = nn.BatchNorm2d(8, affine=False)
    return model


def with_a_bias_behind():
    model = eegnet()
    model.conv_spatial = nn.Conv2d(8, 24, (N_CHANNELS, 1), groups=8)
    model.bnorm_1, model.conv_separable_depth = nn.Identity(), nn.Conv2d(24, 16, (1, 15), padding=(0, 7))
    return model


NETWORKS = {  # with the samples they take and the stems they have
    "EEGNet": (eegnet, N_TIMES, 1),
    "EEGNet with an odd kernel": (lambda: EEGNet(N_CHANNELS, 2, N_TIMES, kernel_length=15), N_TIMES, 1),
    "EEGNet with four filters a kernel": (lambda: eegnet(D=4, F1=3), N_TIMES, 1),
    "EEGNet without affine norm": (without_affine_norm, N_TIMES, 1),
    "EEGNet with a bias behind": (with_a_bias_behind, N_TIMES, 1),
    "ATCNet": (
        lambda: ATCNet(n_chans=N_CHANNELS, n_outputs=2, n_times=256, sfreq=64.0, input_window_seconds=4),
        256,
        1,
    ),
    "EEGITNet": (lambda: EEGITNet(n_chans=N_CHANNELS, n_outputs=2, n_times=256), 256, 3),
    "MSVTNet": (lambda: MSVTNet(n_chans=N_CHANNELS, n_outputs=2, n_times=256), 256, 4),
    "ShallowFBCSPNet": (lambda: ShallowFBCSPNet(n_chans=N_CHANNELS, n_outputs=2, n_times=256), 256, 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_is_that_of_the_plain_network(name):
    build, n_times, n_stems = NETWORKS[name]
    torch.manual_seed(0)
    plain = build().double().train()
    windows, label = noise(20, N_CHANNELS, n_times).cumsum(2)[:, :, None], torch.arange(20) % 2
    assert len(linear_stems(plain, windows[:2, :, 0])) == n_stems
    model = copy.deepcopy(plain)
    outputs = training_pass(model, windows, label, fast=True)
    assert isinstance(outputs, stem._FastPass) == (n_stems > 0)
    optimizers = [torch.optim.AdamW(each.parameters()) for each in (model, plain)]
    for step in range(6):
        batch = torch.randperm(20, generator=torch.Generator().manual_seed(step))[:7]
        losses = []
        for optimizer, forward in zip(optimizers, (outputs, lambda x, _: plain(x)), strict=True):
            torch.manual_seed(step)  # the same units drop out
            losses.append(cross_entropy(forward(windows[batch, :, 0], batch), label[batch]))
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        torch.testing.assert_close(*losses, rtol=0, atol=1e-9)
        for (key, made), right in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(made, right, rtol=0, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("n_times", [N_TIMES, 80], ids=["trials", "crops"])
@pytest.mark.parametrize("validated", [False, True])
def test_training_gives_the_same_either_way(n_times, validated):
    train = trials(dtype="float64")
    valid = train.subset(np.arange(len(train)) < 8) if validated else None
    fast, plain = both(lambda: eegnet(n_times).double(), train, valid, epochs=6)
    assert_same(fast, plain, atol=1e-7)
    assert fast.history["train_loss"].iloc[-1] < fast.history["train_loss"].iloc[0]


def test_the_loss_is_the_same_over_twenty_epochs_in_single_precision():
    fast, plain = both(eegnet, trials(), epochs=20)
    assert abs(fast.history["train_loss"] - plain.history["train_loss"]).max() < 1e-3
    assert fast.history["train_loss"].iloc[-1] < 0.8 * fast.history["train_loss"].iloc[0]


class OtherwiseInTraining(EEGNet):
    """In training it hears twice as loud, which no trace in eval mode shows."""

    def forward(self, x):
        return super().forward(2 * x if self.training else x)


class Louder(EEGNet):
    def forward(self, x):
        return super().forward(2 * x)


def hooked(model):
    model.bnorm_temporal.register_forward_hook(lambda *_: None)
    return model


def counted_as_average(model):
    model.bnorm_temporal.momentum = None
    return model


def with_filters_mixed(model):
    model.conv_spatial = nn.Conv2d(8, 16, (N_CHANNELS, 1))
    return model


def with_a_bias_of_zero(model):
    model.conv_temporal.bias = nn.Parameter(torch.zeros(8))
    return model


def not_to_be_copied(model):
    model.lock = (it for it in ())
    return model


OTHERS = {  # with the stems that a look finds
    "otherwise in training": (lambda: OtherwiseInTraining(N_CHANNELS, 2, N_TIMES), 1),
    "not to be copied": (lambda: not_to_be_copied(eegnet()), 1),
    "louder": (lambda: Louder(N_CHANNELS, 2, N_TIMES), 0),
    "hooked": (lambda: hooked(eegnet()), 0),
    "counted as average": (lambda: counted_as_average(eegnet()), 0),
    "filters mixed": (lambda: with_filters_mixed(eegnet()), 0),
    "a bias of zero": (lambda: with_a_bias_of_zero(eegnet()), 0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_that_computes_anything_else_is_trained_as_it_is(name):
    build, n_stems = OTHERS[name]
    torch.manual_seed(0)
    model = build().train()
    windows = noise(8, N_CHANNELS, N_TIMES, dtype=torch.float32)[:, :, None]
    assert len(linear_stems(model, windows[:2, :, 0])) == n_stems
    before = {key: value.clone() for key, value in model.state_dict().items()}
    outputs = training_pass(model, windows, torch.arange(8) % 2, fast=True)
    assert not isinstance(outputs, stem._FastPass)
    torch.manual_seed(3)
    made = outputs(windows[:, :, 0], torch.arange(8))
    for key, value in before.items():
        model.state_dict()[key].copy_(value)
    torch.manual_seed(3)
    torch.testing.assert_close(made, model(windows[:, :, 0]), rtol=0, atol=0)


def test_looking_for_a_stem_leaves_no_trace():
    model = eegnet().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    windows = noise(8, N_CHANNELS, N_TIMES, dtype=torch.float32)[:, :, None]
    outputs = training_pass(model, windows, torch.arange(8) % 2, fast=True)
    assert isinstance(outputs, stem._FastPass)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_layers_compute_as_before_after_training_and_after_what_ends_it():
    model, train = eegnet(), trials()
    xs.train(model, train, epochs=1)
    assert not any("forward" in vars(module) for module in model.modules())
    model.final_layer.register_forward_pre_hook(lambda module, given: 1 / 0 if module.training else None)
    with pytest.raises(ZeroDivisionError):
        xs.train(model, train, epochs=1)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(("length", "n_times", "kept"), [(16, 96, True), (64, 96, False), (16, 97, False)])
def test_moments_are_kept_where_trials_return_whole_and_are_larger(length, n_times, kept):
    windows = noise(8, N_CHANNELS, n_times, dtype=torch.float32).unfold(2, 96, 1)
    model = EEGNet(N_CHANNELS, 2, 96, kernel_length=length).train()
    (part,) = training_pass(model, windows, torch.arange(8) % 2, fast=True).stems
    assert (part.known is not None) == kept


def test_train_uses_the_fast_stem_unless_told_otherwise(monkeypatch):
    calls = []
    monkeypatch.setattr(stem._FastPass, "__call__", lambda self, x, trial: calls.append(trial) or self.model(x))
    monkeypatch.setattr(stem, "_is_same_when_fast", lambda *_: True)
    xs.train(eegnet(), trials(), epochs=2, batch_size=8)
    assert [len(trial) for trial in calls] == [8] * 6
    xs.train(eegnet(), trials(), epochs=2, batch_size=8, fast=False)
    assert len(calls) == 6
