"""Decoders: building, training, caching, cross-validation, and the stillness of `frozen`."""

import errno
import importlib
import itertools
import sys
import warnings
from copy import deepcopy
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from eegxai_support import decoders
from eegxai_support.decoders import training
from eegxai_support.model import TrainingRecord, frozen, model_input, record_of, seeded
from eegxai_support.trials import Trials


def make_trials(n_trials=24, n_times=80, n_classes=2, noise=1.0, seed=0):
    """Class k adds a constant to channel k: learnable in a few epochs."""
    info = mne.create_info(["C3", "Cz", "C4", "Pz"], 80.0, "eeg").set_montage("colin27_1005")
    label = np.arange(n_trials) % n_classes
    signal = noise * np.random.default_rng(seed).standard_normal((n_trials, 4, n_times))
    signal[np.arange(n_trials), label] += 2
    metadata = pd.DataFrame({"subject": 1, "session": 0, "run": np.repeat(np.arange(4), n_trials // 4)})
    return Trials(signal, "uV", label, info, tuple("abcd"[:n_classes]), metadata)


TRIALS = make_trials()


def small_cnn(trials=TRIALS, n_times=64, seed=0, **options):
    return decoders.build_decoder("InterpretableCNN", trials, n_times=n_times, seed=seed, kernel_length=16, **options)


# --- building -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["EEGNet", "ShallowFBCSPNet", "Deep4Net", "EEGConformer", "InterpretableCNN", "DeepNet"]
)
def test_builds_and_returns_a_logit_per_class(name):
    trials = make_trials(n_trials=4, n_times=250, n_classes=3)
    assert decoders.predict(decoders.build_decoder(name, trials), trials.signal).shape == (4, 3)


def test_seed_decides_the_weights_and_the_callers_random_state_is_left_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, same, other = small_cnn(), small_cnn(), small_cnn(seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.conv_spatial.weight, same.conv_spatial.weight)
    assert not torch.equal(first.conv_spatial.weight, other.conv_spatial.weight)


@pytest.mark.parametrize("name", ["EEGnet", "eegnet"])
def test_unknown_decoder_names_the_nearest(name):
    with pytest.raises(ValueError, match=f"Unknown decoder '{name}'. Did you mean 'EEGNet'"):
        decoders.build_decoder(name, TRIALS)


def test_too_few_samples_for_the_network():
    with pytest.raises(ValueError, match="ShallowFBCSPNet cannot take 30 samples of 4 channels"):
        decoders.build_decoder("ShallowFBCSPNet", TRIALS, n_times=30)
    with pytest.raises(ValueError, match="n_times is 81 but the trials have only 80"):
        small_cnn(n_times=81)


class Readout(nn.Module):
    """A network of one's own, which knows its place among the channels."""

    def __init__(self, n_chans, n_outputs, chs_info, *, power=2):
        super().__init__()
        self.power, self.ch_names = power, [channel["ch_name"] for channel in chs_info]
        self.final_layer = nn.Linear(n_chans, n_outputs)

    def forward(self, x):
        return self.final_layer((x**self.power).mean(2))


OF_NO_USE = "not a network"


@pytest.mark.parametrize("name", [Readout, f"{__name__}:Readout", lambda **sizes: Readout(4, 2, sizes["chs_info"])])
def test_a_network_of_ones_own_is_given_the_sizes_that_it_takes(name):
    model = decoders.build_decoder(name, TRIALS, seed=3)
    assert isinstance(model, Readout) and model.ch_names == TRIALS.info.ch_names and not model.training
    assert torch.equal(model.final_layer.weight, decoders.build_decoder(Readout, TRIALS, seed=3).final_layer.weight)
    table = decoders.cross_validate(decoders.decoder_fit(name, epochs=1, n_times=80, device="cpu"), TRIALS)
    assert len(table) == len(TRIALS)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (Readout(4, 2, []), TypeError, "A Readout is a network already"),
        (f"{__name__}:OF_NO_USE", TypeError, "OF_NO_USE is a str; expected a name, a class or function"),
        (f"{__name__}:Nothing", ValueError, "names nothing .*'my_nets:Net'"),
        ("no_such_module:Net", ValueError, "cannot be imported .*no_such_module.*PYTHONPATH"),
        (":Net", ValueError, "names nothing"),
        (lambda channels, classes: None, TypeError, r"missing a required argument: 'channels'.*wrap it, as in"),
        (lambda n_chans: n_chans, TypeError, "returns a int; expected a torch.nn.Module"),
        (lambda n_chans: nn.Identity(), ValueError, r"returns \(1, 4, 80\) for one trial; expected \(1, 2\), a logit"),
        (lambda n_chans: nn.LSTM(80, 2), ValueError, r"returns a tuple for one trial; expected \(1, 2\)"),
    ],
)
def test_what_is_no_network_is_refused(name, error, message):
    with pytest.raises(error, match=message):
        decoders.build_decoder(name, TRIALS)


def offline(n_times):
    raise RuntimeError("Failed to download the weights.\nTry again later")


def patched(n_chans, n_outputs, n_times):
    return nn.Sequential(nn.Unflatten(2, (-1, 25)), nn.Flatten(), nn.Linear(n_chans * n_times, n_outputs))


@pytest.mark.parametrize(
    ("name", "reason", "is_length"),
    [
        ("ShallowFBCSPNet", "Output size is too small", True),
        ("SleepStagerBlanco2020", "Output size is too small", True),
        ("BENDR", "requires chs_info to match BENDR_CHANNEL_ORDER", False),
        ("FBCNet", "lowpass frequency 40.0 must be less than Nyquist", False),
        (patched, "must be divisible|unflatten", False),
        (offline, r"Failed to download the weights\.$", False),
    ],
)
def test_advice_follows_the_cause(name, reason, is_length):
    with pytest.raises(ValueError, match=reason) as error:
        decoders.build_decoder(name, TRIALS, n_times=40)
    assert ("Use longer trials" in str(error.value)) == is_length


def test_recipes_keep_their_length_in_seconds():
    assert all(decoders.recipe(name, 80) == options for name, options in decoders.RECIPES.items())
    lengths = {"kernel_length", "filter_time_length", "pool_time_length", "pool_time_stride"}
    for name, options in decoders.RECIPES.items():
        for sfreq in (100, 128, 250, 1000):
            scaled = decoders.recipe(name, sfreq)
            assert {k: v for k, v in scaled.items() if k not in lengths} == {
                k: v for k, v in options.items() if k not in lengths
            }
            for key in lengths & options.keys():
                assert abs(scaled[key] / sfreq - options[key] / 80) <= 0.5 / sfreq + 1e-12 and isinstance(
                    scaled[key], int
                )
    assert decoders.recipe("InterpretableCNN", 128) == {"kernel_length": 64}  # as published
    assert decoders.recipe("Deep4Net", 250) == {}


def test_decoder_fit_takes_the_recipe_at_the_rate_of_the_trials(monkeypatch):
    built = []
    monkeypatch.setattr("eegxai_support.decoders.evaluation.train", lambda model, *_, **__: built.append(model))
    trials = make_trials(8, n_times=500)
    info = mne.create_info(trials.info.ch_names, 250.0, "eeg").set_montage("colin27_1005")
    decoders.decoder_fit("EEGNet", epochs=1, n_times=250)(replace(trials, info=info))
    assert built[0].kernel_length == 100


def test_deep_net_has_the_sizes_of_the_paper_and_computes_it():
    """62 channels, 250 samples: 224 features before the hidden layer; the same numbers by loops over NumPy arrays."""
    model = decoders.DeepNet(62, 4, 250)
    assert model.hidden[0].weight.shape == (32, 224)
    small = decoders.DeepNet(2, 3, 150, n_filters=3).double().eval()
    x = np.random.default_rng(0).standard_normal((2, 150))
    h = x[None]  # (filter, channel, time)
    convolutions = [m for m in small.temporal if isinstance(m, torch.nn.Conv2d)]
    for layer, conv in enumerate(convolutions):
        kernel, bias = conv.weight.detach().numpy()[:, :, 0], conv.bias.detach().numpy()
        windows = np.lib.stride_tricks.sliding_window_view(h, 5, axis=2)
        h = np.maximum(np.einsum("ictk,oik->oct", windows, kernel) + bias[:, None, None], 0)
        if layer < 4:
            n = h.shape[2] // 2
            h = h[:, :, : 2 * n].reshape(*h.shape[:2], n, 2).max(axis=3)
    spatial = small.spatial[0]
    h = np.einsum("ict,oic->ot", h, spatial.weight.detach().numpy()[..., 0]) + spatial.bias.detach().numpy()[:, None]
    h = np.maximum(h, 0).ravel()
    for linear in (small.hidden[0], small.final_layer):
        h = linear.weight.detach().numpy() @ h + linear.bias.detach().numpy()
        h = np.maximum(h, 0) if linear is small.hidden[0] else h
    np.testing.assert_allclose(small(torch.as_tensor(x[None])).detach().numpy()[0], h, rtol=1e-10)


def test_interpretable_cnn_is_the_papers_formula():
    model = small_cnn().double()
    model.bnorm.running_mean.uniform_(-1, 1)
    model.bnorm.running_var.uniform_(0.5, 2)
    x = TRIALS.signal[:1, :, :64].astype(float)
    p = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    features = []
    for k in range(32):
        spatial = p["conv_spatial.weight"][k // 2, 0, :, 0] @ x[0] + p["conv_spatial.bias"][k // 2]
        temporal = np.correlate(spatial, p["conv_temporal.weight"][k, 0, 0], "valid") + p["conv_temporal.bias"][k]
        scale = p["bnorm.weight"][k] / np.sqrt(p["bnorm.running_var"][k] + 1e-5)
        features.append(np.mean((np.maximum(temporal, 0) - p["bnorm.running_mean"][k]) * scale + p["bnorm.bias"][k]))
    expected = p["final_layer.weight"] @ features + p["final_layer.bias"]
    np.testing.assert_allclose(decoders.predict(model, x)[0], expected, rtol=1e-10)


# --- asking without changing --------------------------------------------------------------------------------------


def test_frozen_gives_the_model_back_as_it_was():
    model = small_cnn()
    model.train()
    model.bnorm.eval()
    model.conv_spatial.bias.requires_grad_(False)
    model.conv_spatial.weight.grad = grad = torch.ones_like(model.conv_spatial.weight)
    statistics = model.bnorm.running_mean.clone()
    with pytest.raises(KeyError), frozen(model):
        x = torch.randn(2, 4, 64, requires_grad=True)
        model(x).sum().backward()
        assert x.grad.abs().sum() > 0
        assert not any(m.training for m in model.modules())
        raise KeyError
    assert model.training and model.conv_temporal.training and not model.bnorm.training
    assert not model.conv_spatial.bias.requires_grad and model.conv_spatial.weight.requires_grad
    assert model.conv_spatial.weight.grad is grad and torch.equal(grad, torch.ones_like(grad))
    assert model.conv_temporal.weight.grad is None
    assert torch.equal(statistics, model.bnorm.running_mean)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 64)), r"\(4, 64\); expected \(trial, channel, time\)"),
        (np.zeros((0, 4, 64)), "at least one trial"),
        (np.zeros((4, 3, 64)), "3 channels but the model expects 4.*order"),
        (np.zeros((2, 4, 60)), "60 samples but the model expects 64.*build the decoder for this length"),
        (np.zeros((2, 4, 80)), "80 samples but the model expects 64.*Crop"),
        (np.full((2, 4, 64), np.nan), "NaN or infinity, first in trial 0"),
    ],
)
def test_model_input_refuses(x, message):
    with pytest.raises(ValueError, match=message):
        model_input(small_cnn(), x)


def test_predict_averages_crops_and_does_not_depend_on_the_batch():
    model = small_cnn()
    by_hand = [decoders.predict(model, TRIALS.signal[:, :, start : start + 64]) for start in (0, 8, 16)]
    together = decoders.predict(model, TRIALS.signal, stride=8)
    np.testing.assert_allclose(together, np.mean(by_hand, axis=0), atol=1e-5)
    np.testing.assert_allclose(decoders.predict(model, TRIALS.signal, stride=8, batch_size=5), together, atol=1e-5)


class Largest(TorchDispatchMode):
    """Remember the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() // 4 == result.numel():
            self.numel = max(self.numel, result.numel())
        return result


def test_crops_are_made_a_batch_at_a_time():
    trials = make_trials(n_trials=8, n_times=400)
    model = decoders.build_decoder(Readout, trials, n_times=100)
    model.n_times = 100
    with Largest() as largest:
        together = decoders.predict(model, trials.signal, stride=1, batch_size=16)
    assert largest.numel <= max(trials.signal.size, 16 * 4 * 100)  # all crops together: 301 times 8 trials
    by_hand = [decoders.predict(model, trials.signal[:, :, k : k + 100]) for k in range(301)]
    np.testing.assert_allclose(together, np.mean(by_hand, axis=0), rtol=1e-5)


def test_a_trial_that_is_not_finite_is_named_among_crops():
    signal = TRIALS.signal.copy()
    signal[5, 0, 70] = np.nan
    with pytest.raises(ValueError, match="first in trial 5"):
        decoders.predict(small_cnn(), signal, stride=8)


# --- training -----------------------------------------------------------------------------------------------------


def test_learns_and_repeats_to_the_bit():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    runs = [decoders.train(small_cnn(), TRIALS, epochs=15, lr=1e-2, device="cpu") for _ in range(2)]
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(runs[0].model.state_dict().values(), runs[1].model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    pd.testing.assert_frame_equal(runs[0].history, runs[1].history)
    assert runs[0].history["train_loss"].iloc[-1] < runs[0].history["train_loss"].iloc[0]
    fresh = make_trials(40, seed=1)
    assert (decoders.predict(runs[0].model, fresh.signal, stride=8).argmax(1) == fresh.label).mean() > 0.9
    assert not runs[0].model.training


def test_each_batch_gets_a_random_crop_of_each_of_its_trials_with_its_label(monkeypatch):
    seen = []
    ramp = np.arange(TRIALS.signal.size, dtype="float32").reshape(TRIALS.signal.shape)
    n_trials, _, n_times = ramp.shape
    model = small_cnn()
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0]) if module.training else None)
    monkeypatch.setattr(training, "cross_entropy", lambda output, label: seen.append(label) or output.sum() * 0)
    decoders.train(model, replace(TRIALS, signal=ramp), epochs=2, batch_size=5, device="cpu")
    crops, label = torch.cat(seen[::2]).numpy(), torch.cat(seen[1::2]).numpy()
    trial, start = (
        np.divmod(crops[:, 0, 0].astype(int) // n_times, ramp.shape[1])[0],
        crops[:, 0, 0].astype(int) % n_times,
    )
    for crop, which, begin in zip(crops, trial, start, strict=True):
        np.testing.assert_array_equal(crop, ramp[which, :, begin : begin + model.n_times])
    np.testing.assert_array_equal(label, TRIALS.label[trial])
    for epoch in (slice(n_trials), slice(n_trials, None)):
        assert sorted(trial[epoch]) == list(range(n_trials))
        assert len(set(start[epoch])) > n_trials / 4
    assert not np.array_equal(start[trial[:n_trials].argsort()], start[n_trials:][trial[n_trials:].argsort()])


def test_the_history_counts_every_trial_once_however_large_its_batch_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(TRIALS.signal[0].size, 2))
    trials = TRIALS.subset(np.arange(len(TRIALS)) < 13)
    output, label = model(torch.from_numpy(trials.signal)).detach(), torch.from_numpy(trials.label)
    (row,) = decoders.train(model, trials, epochs=1, batch_size=8, lr=0.0, device="cpu").history.to_dict("records")
    assert row["train_loss"] == pytest.approx(nn.functional.cross_entropy(output, label).item(), rel=1e-5)
    assert row["train_accuracy"] == pytest.approx((output.argmax(1) == label).float().mean().item())


def test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss():
    valid = make_trials(noise=3.0, seed=1)
    result = decoders.train(small_cnn(), TRIALS, valid, epochs=60, lr=5e-2, patience=4, device="cpu")
    losses = result.history["valid_loss"]
    assert len(losses) < 60 and losses.idxmin() == len(losses) - 5
    assert {"epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"} == set(result.history)
    logits = torch.from_numpy(decoders.predict(result.model, valid.signal, stride=20))
    loss = nn.functional.cross_entropy(logits, torch.tensor(valid.label)).item()
    assert loss == pytest.approx(losses.min(), rel=1e-5)


def test_training_refuses_one_class_and_short_trials():
    with pytest.raises(ValueError, match="all belong to 'a'"):
        decoders.train(small_cnn(), TRIALS.subset(TRIALS.label == 0), epochs=1)
    short = TRIALS.crop(0, 0.5)
    with pytest.raises(ValueError, match=r"\(24, 4, 40\); expected .* at least 64 samples"):
        decoders.train(small_cnn(), short, epochs=1)
    with pytest.raises(ValueError, match="at least 64 samples"):
        decoders.train(small_cnn(), TRIALS, short, epochs=1)
    with pytest.raises(ValueError, match="at least 64 samples"):
        decoders.predict(small_cnn(), short.signal, stride=8)


class Interrupted(Readout):
    """Stops in the middle of training, and remembers where it has been."""

    def forward(self, x):
        if self.training and getattr(self, "reason", None):
            raise self.reason
        return super().forward(x)

    def to(self, *args, **kwargs):
        self.places = [*getattr(self, "places", []), *args]
        return super().to(*args, **kwargs)


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_interrupted_training_leaves_mode_device_and_random_state(reason):
    model = nn.Sequential(decoders.build_decoder(Interrupted, TRIALS), nn.BatchNorm1d(2))
    model.train()
    model[1].eval()
    model[0].reason = reason
    model[0].final_layer.bias.requires_grad_(False)
    before = torch.random.get_rng_state()
    with pytest.raises(type(reason)):
        decoders.train(model, TRIALS, epochs=1, device="cpu")
    assert model.training and model[0].training and not model[1].training
    assert not model[0].final_layer.bias.requires_grad
    assert torch.equal(before, torch.random.get_rng_state())
    assert record_of(model) is None


def test_a_model_comes_back_to_the_device_it_was_on():
    model = decoders.build_decoder(Interrupted, TRIALS)
    decoders.train(model, TRIALS, epochs=1, device="cpu")
    model.reason = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        decoders.train(model, TRIALS, epochs=1, device="cpu")
    assert model.places == [torch.device("cpu")] * 4  # there and back, each time
    assert all(p.grad is None for p in model.parameters())


class Driver:
    """A machine with three accelerators, as far as their random states go."""

    def __init__(self):
        self.states, self.asked = {0: "a", 1: "b", 2: "c"}, []

    def get_rng_state(self, device):
        self.asked.append(device.index)
        return self.states[device.index]

    def set_rng_state(self, state, device):
        self.states[device.index] = state


class DriversGenerator:
    """A generator of its own on one of them, whose state is its seed."""

    def __init__(self, device):
        assert device == torch.device("cuda:1")

    def manual_seed(self, seed):
        self.seed = seed
        return self

    def get_state(self):
        return self.seed


def test_a_seed_touches_the_device_that_is_used_and_no_other(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(torch, "get_device_module", lambda device=None: driver)
    monkeypatch.setattr(torch, "Generator", DriversGenerator)
    before = torch.random.get_rng_state()
    with seeded(7, "cuda:1"):
        assert driver.states == {0: "a", 1: 7, 2: "c"}
        assert torch.random.initial_seed() == 7
    assert driver.states == {0: "a", 1: "b", 2: "c"} and driver.asked == [1]
    assert torch.equal(before, torch.random.get_rng_state())


def test_trials_that_can_only_be_read_train_without_a_warning():
    assert not TRIALS.signal.flags.writeable
    torch.set_warn_always(True)  # else once in the life of a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            decoders.train(small_cnn(), TRIALS, TRIALS, epochs=1, device="cpu")
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("label", [None, np.linspace(0, 1, 24)])
def test_trials_without_classes_are_refused(label):
    trials = replace(TRIALS, label=label, class_names=())
    for use in (
        lambda: decoders.build_decoder("EEGNet", trials),
        lambda: decoders.train(small_cnn(), trials, epochs=1),
        lambda: decoders.train(small_cnn(), TRIALS, trials, epochs=1),
        lambda: decoders.cross_validate(decoders.csp_lda(), trials),
        lambda: decoders.csp_lda()(trials),
    ):
        with pytest.raises(ValueError, match="needs the class of each trial"):
            use()


def test_a_class_without_a_training_trial_is_named():
    seen = replace(TRIALS, class_names=("left", "right", "feet", "tongue"))
    model = decoders.build_decoder(Readout, seen)
    with pytest.warns(UserWarning, match="No training trial belongs to 'feet', 'tongue'"):
        decoders.train(model, seen, epochs=1, device="cpu")
    assert record_of(model).never_seen == ("feet", "tongue")


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EEGXAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def train_cached(trials=TRIALS, **options):
    return decoders.train(small_cnn(), trials, epochs=2, cache=True, device="cpu", **options)


def test_cache_gives_the_same_training_without_training(cache, monkeypatch):
    first = train_cached()
    monkeypatch.setattr(training, "_fit", None)  # a second training would fail
    again = train_cached()
    assert torch.equal(first.model.final_layer.weight, again.model.final_layer.weight)
    pd.testing.assert_frame_equal(first.history, again.history)


NET = """
from torch import nn

class Own(nn.Module):
    def __init__(self, n_chans, n_outputs, {argument}=1):
        super().__init__()
        self.{argument} = {argument}
        self.final_layer = nn.Linear(n_chans, n_outputs)

    def forward(self, x):
        return self.final_layer({forward})
"""


def test_cache_notices_what_forward_does(cache, tmp_path, monkeypatch):
    """The printed form of these networks is the same."""
    monkeypatch.syspath_prepend(tmp_path)
    for k, forward in enumerate(("x.mean(2)", "x.std(2)", "x.mean(2)")):
        (tmp_path / "own_net.py").write_text(NET.format(argument="scale", forward=forward))
        importlib.invalidate_caches()
        sys.modules.pop("own_net", None)
        decoders.train(decoders.build_decoder("own_net:Own", TRIALS), TRIALS, epochs=1, cache=True, device="cpu")
        assert len(list(cache.iterdir())) == min(k + 1, 2)
    model = decoders.build_decoder("own_net:Own", TRIALS, scale=2)
    decoders.train(model, TRIALS, epochs=1, cache=True, device="cpu")
    assert len(list(cache.iterdir())) == 3


def test_a_network_whose_source_cannot_be_had_is_trained_without_the_cache(cache):
    namespace = {"__name__": "typed"}
    exec(NET.format(argument="scale", forward="x.mean(2)"), namespace)
    with pytest.warns(UserWarning, match="Own is trained without the cache: The source of typed:Own cannot be read"):
        result = decoders.train(namespace["Own"](4, 2), TRIALS, epochs=1, cache=True, device="cpu")
    assert len(result.history) == 1 and not cache.exists()


def test_cache_notices_data_options_and_initial_weights(cache):
    train_cached()
    train_cached(lr=1e-2)
    train_cached(trials=replace(TRIALS, signal=TRIALS.signal + 1e-3))
    decoders.train(small_cnn(seed=1), TRIALS, epochs=2, cache=True, device="cpu")
    decoders.train(small_cnn(n_times=48), TRIALS, epochs=2, cache=True, device="cpu")  # same weights, shorter crops
    assert len(list(cache.iterdir())) == 5


def test_damaged_cache_file_is_made_again_with_a_warning(cache):
    first = train_cached()
    [path] = cache.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match="damaged; training it again"):
        again = train_cached()
    assert torch.equal(first.model.final_layer.weight, again.model.final_layer.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_cached()


def test_cache_file_without_a_history_does_not_leak_its_weights(cache):
    first = train_cached()
    [path] = cache.iterdir()
    decoders.save(first.model, path)
    with pytest.warns(UserWarning, match="damaged; training it again"):
        again = train_cached()
    assert torch.equal(first.model.final_layer.weight, again.model.final_layer.weight)


def test_full_disk_costs_the_cache_not_the_training(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("eegxai_support.files.os.fsync", full)
    with pytest.warns(UserWarning, match="No space left on device.*EEGXAI_CACHE"):
        result = train_cached()
    assert len(result.history) == 2 and not list(cache.iterdir())


def test_save_and_load_keep_every_weight(tmp_path):
    trials = make_trials(n_times=128)
    model, other = (decoders.build_decoder("EEGNet", trials, seed=seed) for seed in (0, 1))
    decoders.save(model, tmp_path / "weights.safetensors")
    decoders.load(other, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(decoders.predict(model, trials.signal), decoders.predict(other, trials.signal))


def test_a_network_knows_what_it_was_trained_on(tmp_path, cache):
    model, fresh = small_cnn(), small_cnn()
    assert record_of(model) is None
    decoders.train(model, TRIALS, epochs=1, device="cpu", cache=True)
    record = record_of(model)
    scale = pytest.approx(TRIALS.signal.std(), rel=1e-5)
    about = ("C3", "Cz", "C4", "Pz"), 80.0, "uV", scale, ("a", "b"), (12, 12), TRIALS.fingerprints()
    assert record == TrainingRecord(*about)
    assert record_of(deepcopy(model)) == record and TrainingRecord.from_json(record.to_json()) == record
    decoders.save(model, tmp_path / "weights.safetensors")
    assert record_of(decoders.load(fresh, tmp_path / "weights.safetensors")) == record
    cached = small_cnn()
    decoders.train(cached, TRIALS, epochs=1, device="cpu", cache=True)
    assert record_of(cached) == record
    decoders.save(small_cnn(), tmp_path / "untrained.safetensors")
    assert record_of(decoders.load(fresh, tmp_path / "untrained.safetensors")) is None


def test_weights_that_two_layers_share_are_saved(tmp_path):
    model, other = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    model[1].weight = model[0].weight
    decoders.save(model, tmp_path / "weights.safetensors")
    decoders.load(other, tmp_path / "weights.safetensors")
    assert torch.equal(other[0].weight, model[0].weight) and torch.equal(other[1].weight, model[0].weight)


def test_load_refuses_another_architecture_and_leaves_the_model_alone(tmp_path):
    decoders.save(small_cnn(), tmp_path / "weights.safetensors")
    model = small_cnn(n_spatial=8)
    before = model.conv_spatial.weight.clone()
    with pytest.raises(ValueError, match="does not hold weights for this InterpretableCNN"):
        decoders.load(model, tmp_path / "weights.safetensors")
    assert torch.equal(before, model.conv_spatial.weight)


# --- evaluation ---------------------------------------------------------------------------------------------------


def test_cross_validation_never_trains_on_the_group_it_tests():
    seen = []

    def fit(trials):
        seen.append(set(trials.metadata["run"]))
        return lambda signal: np.zeros(len(signal), int)

    tested = (TRIALS.metadata["run"] < 2).to_numpy()
    table = decoders.cross_validate(fit, TRIALS, tested=tested)
    assert seen == [{1, 2, 3}, {0, 2, 3}]
    assert table["run"].tolist() == [0] * 6 + [1] * 6
    assert table["label"].tolist() == TRIALS.label[:12].tolist()


def test_cross_validation_never_trains_on_the_rest_of_a_group_it_tests():
    """Trials of the group that are not asked for are as near to the tested ones as any."""
    seen = []

    def fit(trials):
        seen.append(set(trials.metadata["run"]))
        return lambda signal: np.zeros(len(signal), int)

    tested = np.arange(len(TRIALS)) % 6 == 0  # one trial of each run
    assert len(decoders.cross_validate(fit, TRIALS, tested=tested)) == 4
    assert seen == [{0, 1, 2, 3} - {run} for run in range(4)]


def test_cross_validation_needs_two_groups():
    with pytest.raises(ValueError, match="one group"):
        decoders.cross_validate(decoders.csp_lda(), TRIALS, by="session")


def test_decoder_fit_classifies_left_out_runs():
    fit = decoders.decoder_fit("InterpretableCNN", epochs=15, n_times=64, lr=1e-2, stride=8, device="cpu")
    table = decoders.cross_validate(fit, TRIALS, by=TRIALS.metadata["run"] // 2)
    assert (table["label"] == table["predicted"]).mean() > 0.8


def test_csp_lda_finds_a_difference_in_variance():
    trials = make_trials(n_trials=60)
    signal = np.random.default_rng(1).standard_normal(trials.signal.shape)
    signal[trials.label == 1, 2] *= 3
    table = decoders.cross_validate(decoders.csp_lda(n_components=2), replace(trials, signal=signal))
    assert (table["label"] == table["predicted"]).mean() > 0.95


@pytest.mark.parametrize("n_channels", [1, 2])
def test_csp_lda_takes_one_and_two_channels(n_channels):
    """Two bipolar channels have rank 2; the one with less variance tells the classes apart."""
    label = np.arange(60) % 2
    signal = np.random.default_rng(0).standard_normal((60, n_channels, 80))
    signal[label == 1, 0] *= 2
    signal[:, 1:] *= 10
    info = mne.pick_info(TRIALS.info, range(n_channels))
    metadata = pd.DataFrame({"subject": 1, "session": 0, "run": np.repeat(np.arange(4), 15)})
    trials = Trials(signal, "uV", label, info, ("a", "b"), metadata)
    table = decoders.cross_validate(decoders.csp_lda(), trials)
    assert (table["label"] == table["predicted"]).mean() > 0.95


def test_an_accuracy_stands_beside_what_needs_no_learning():
    label = np.repeat([0, 1], [50, 10])
    always = decoders.accuracy(label, np.zeros(60, int), 2)
    assert (always.accuracy, always.balanced, always.chance) == (50 / 60, 0.5, 0.5)
    assert always.majority == always.accuracy and always.n_trials == 60
    assert "0.83 (balanced 0.50, chance 0.50, largest class 0.83, 60 trials)" in str(always)
    label, predicted = np.random.default_rng(0).integers(0, 3, (2, 200))
    result = decoders.accuracy(label, predicted)
    assert result.balanced == pytest.approx(balanced_accuracy_score(label, predicted)) and result.chance == 1 / 3
    unseen = decoders.accuracy([0, 0, 1], [0, 3, 1], 4)  # a class that no trial has, but a decoder may name
    assert (unseen.balanced, unseen.chance) == (0.75, 0.25)
    assert decoders.accuracy([0, 2], [2, 2]).chance == 1 / 3  # of classes 0 to 2, one of which nothing names here


@pytest.mark.parametrize(
    ("label", "predicted", "n_classes", "message"),
    [
        ([0, 1], [0], None, r"\(2,\) and predicted \(1,\); expected \(trial,\) twice"),
        ([0, 1], [[1, 0], [1, 0]], None, "argmax"),
        ([], [], None, "one class per trial"),
        ([0, 2], [0, 1], 2, "whole numbers from 0 below 2"),
        ([0.5, 1], [0, 1], None, "whole numbers from 0"),
        (["a"], ["a"], None, "whole numbers from 0"),
    ],
)
def test_an_accuracy_of_something_else_is_refused(label, predicted, n_classes, message):
    with pytest.raises(ValueError, match=message):
        decoders.accuracy(label, predicted, n_classes)


def test_a_p_value_of_something_else_is_refused():
    with pytest.raises(ValueError, match="the lengths 3, 3 and 2"):
        decoders.permutation_p_value([0, 1, 1], [0, 1, 1], [0, 0])
    with pytest.raises(ValueError, match=r"label \(float64\)"):
        decoders.permutation_p_value([0.0, 1.5], [0, 1], [0, 0])


def test_permutation_p_value_against_every_permutation():
    label = np.array([0, 0, 1, 1, 0, 1, 1])
    predicted = np.array([0, 1, 1, 1, 0, 1, 0])
    group = np.array([0, 0, 0, 0, 1, 1, 1])
    observed = (label == predicted).sum()
    counts = [
        (np.array(a) == predicted[:4]).sum() + (np.array(b) == predicted[4:]).sum()
        for a in itertools.permutations(label[:4])
        for b in itertools.permutations(label[4:])
    ]
    exact = np.mean(np.array(counts) >= observed)
    sampled = decoders.permutation_p_value(label, predicted, group, n_permutations=20_000)
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))
    assert decoders.permutation_p_value(label, label, group, n_permutations=9) >= 0.1
