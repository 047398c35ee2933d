"""Decoders: building, training, caching, cross-validation, and the stillness of `frozen`."""

import errno
import itertools
import warnings
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from eegxai_support import decoders
from eegxai_support.decoders import inference, training
from eegxai_support.model import frozen, model_input
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


def test_crops_are_contiguous_pieces_of_their_own_trial():
    ramp = torch.arange(3 * 2 * 80.0).reshape(3, 2, 80)
    model = nn.Identity()
    model.n_times = 64
    batch = torch.tensor([2, 0, 2])
    crops = training._random_crops(inference.crop_view(model, ramp, 1), batch, torch.Generator().manual_seed(0))
    for crop, trial in zip(crops, batch, strict=True):
        start = int(crop[0, 0] - ramp[trial, 0, 0])
        assert torch.equal(crop, ramp[trial, :, start : start + 64])


def test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss():
    valid = make_trials(noise=3.0, seed=1)
    result = decoders.train(small_cnn(), TRIALS, valid, epochs=60, lr=5e-2, patience=4, device="cpu")
    losses = result.history["valid_loss"]
    assert len(losses) < 60 and losses.idxmin() == len(losses) - 5
    assert {"epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"} == set(result.history)
    logits = torch.from_numpy(decoders.predict(result.model, valid.signal, stride=20))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(valid.label)).item()
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

    monkeypatch.setattr(training, "save_file", full)
    with pytest.warns(UserWarning, match="No space left on device.*EEGXAI_CACHE"):
        result = train_cached()
    assert len(result.history) == 2 and not list(cache.iterdir())


def test_save_and_load_keep_every_weight(tmp_path):
    trials = make_trials(n_times=128)
    model, other = (decoders.build_decoder("EEGNet", trials, seed=seed) for seed in (0, 1))
    decoders.save(model, tmp_path / "weights.safetensors")
    decoders.load(other, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(decoders.predict(model, trials.signal), decoders.predict(other, trials.signal))


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
