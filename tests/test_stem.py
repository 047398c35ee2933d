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
SHAPES = [(40, 8, (4, 4)), (50, 7, (3, 3)), (50, 8, (3, 4)), (50, 8, (0, 0)), (12, 16, (8, 8)), (9, 9, (0, 0)), (5, 2, (1, 0))]


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
