"""Occlusion, ablation and KernelSHAP against loops, closed forms, brute-force Shapley values and captum."""

import warnings
from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, KernelShap, Occlusion, ShapleyValues
from torch import nn

import eegxai_support.attribution.perturbation
import eegxai_support.attribution.shapley  # noqa: F401
from eegxai_support.attribution import attribute

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import EEGNet

N_TRIALS, N_CHANNELS, N_TIMES = 3, 5, 64
RNG = np.random.default_rng(0)
X, BASELINE = RNG.standard_normal((2, N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")
PERTURBATIONS = ("occlusion", "channel_ablation", "window_ablation", "kernel_shap")


@pytest.fixture(scope="module")
def eegnet():
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = EEGNet(n_chans=N_CHANNELS, n_outputs=3, n_times=N_TIMES, kernel_length=16).train()
        with torch.no_grad():
            for _ in range(10):
                model(torch.randn(32, N_CHANNELS, N_TIMES))
    return model.eval()


class Interacting(nn.Module):
    """A smooth function in which all channels and samples interact."""

    def __init__(self, n_channels, n_times):
        super().__init__()
        rng = np.random.default_rng(1)
        self.weight = nn.Parameter(torch.as_tensor(rng.standard_normal((6, n_channels * n_times)) / n_channels))

    def forward(self, x):
        hidden = torch.tanh(x.flatten(1) @ self.weight.T)
        return torch.stack([hidden.prod(1) + hidden[:, 0] * hidden[:, 1], hidden.sum(1).exp()], 1)


def interacting(n_channels=4, n_times=17):
    x, baseline = np.random.default_rng(2).standard_normal((2, 3, n_channels, n_times))
    return Interacting(n_channels, n_times), x, baseline


def output(model, x, target=1):
    with torch.no_grad():
        return model(torch.as_tensor(x))[:, target].numpy()


class Counted:
    """The first output as a target that counts the rows of each pass."""

    def __init__(self):
        self.rows = []

    def __call__(self, outputs):
        self.rows.append(len(outputs))
        return outputs[:, 0]


# --- occlusion and ablation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "stride"), [((2, 5), (1, 3)), ((1, 17), (1, 1)), ((3, 4), (2, 4)), ((1, 1), (1, 1))]
)
def test_occlusion_is_the_mean_over_the_windows_that_cover_a_point(window, stride):
    model, x, baseline = interacting()
    total, covered = np.zeros_like(x), np.zeros_like(x)
    for last_channel in range(window[0], 4 + stride[0], stride[0]):
        for last_time in range(window[1], 17 + stride[1], stride[1]):
            part = np.s_[:, last_channel - window[0] : last_channel, last_time - window[1] : last_time]
            occluded = x.copy()
            occluded[part] = baseline[part]
            total[part] += (output(model, x) - output(model, occluded))[:, None, None]
            covered[part] += 1
    result = attribute(model, x, 1, "occlusion", baseline=baseline, window=window, stride=stride)
    np.testing.assert_allclose(result.values, total / covered, rtol=1e-10, atol=1e-12)
    assert result.multiplier is None and result.delta is None


@pytest.mark.parametrize(("window", "stride"), [((1, 7), (1, 3)), ((2, 16), (2, 16)), ((3, 10), (2, 5))])
def test_occlusion_equals_captum(eegnet, window, stride):
    captum = Occlusion(eegnet).attribute(
        torch.tensor(X), sliding_window_shapes=window, strides=stride, baselines=torch.tensor(BASELINE), target=2
    )
    ours = attribute(eegnet, X, 2, "occlusion", baseline=BASELINE, window=window, stride=stride).values
    np.testing.assert_allclose(ours, captum.numpy(), atol=1e-5 * float(abs(captum).max()))


def test_occlusion_covers_one_channel_and_a_tenth_of_the_trial_unless_told(eegnet):
    expected = attribute(eegnet, X, 0, "occlusion", window=(1, 7), stride=(1, 3)).values
    np.testing.assert_array_equal(attribute(eegnet, X, 0, "occlusion").values, expected)


def test_ablation_equals_captum(eegnet):
    channel, time = np.indices((N_CHANNELS, N_TIMES))
    for method, options, mask in (
        ("channel_ablation", {}, channel),
        ("window_ablation", {}, time // 7),
        ("window_ablation", {"length": 30}, time // 30),
    ):
        captum = FeatureAblation(eegnet).attribute(
            torch.tensor(X), baselines=torch.tensor(BASELINE), target=2, feature_mask=torch.as_tensor(mask)[None]
        )
        ours = attribute(eegnet, X, 2, method, baseline=BASELINE, **options).values
        np.testing.assert_allclose(ours, captum.numpy(), atol=1e-5 * float(abs(captum).max()))


class Additive(nn.Module):
    """f(x) = sum w sin(x): no part of the trial changes what another part does."""

    def __init__(self, n_channels, n_times):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.random.default_rng(3).standard_normal((n_channels, n_times))))

    def forward(self, x):
        return (self.weight * x.sin()).sum((1, 2))[:, None]


def test_where_nothing_interacts_every_method_finds_each_part():
    model, (x, baseline) = Additive(4, 12), np.random.default_rng(1).standard_normal((2, 3, 4, 12))
    point = model.weight.detach().numpy() * (np.sin(x) - np.sin(baseline))
    by_channel = np.broadcast_to(point.sum(2, keepdims=True), x.shape)
    by_time = np.broadcast_to(point.reshape(3, 4, 3, 4).sum((1, 3))[:, None].repeat(4, axis=2), x.shape)
    for method, options, expected in (
        ("occlusion", {"window": (1, 1)}, point),
        ("channel_ablation", {}, by_channel),
        ("window_ablation", {"length": 4}, by_time),
        ("kernel_shap", {}, by_channel / 12),
        ("kernel_shap", {"n_samples": 10}, by_channel / 12),
    ):
        values = attribute(model, x, 0, method, baseline=baseline, **options).values
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12, err_msg=method)


@pytest.mark.parametrize("method", ["occlusion", "channel_ablation"])
def test_a_channel_that_the_network_does_not_read_gets_nothing(method):
    model, x, baseline = interacting()
    with torch.no_grad():
        model.weight.view(6, 4, 17)[:, 2] = 0
    values = attribute(model, x, 0, method, baseline=baseline).values
    # Differences of two outputs, which a processor may round otherwise at another place of a batch.
    largest = np.abs(output(model, x, 0)).max()
    np.testing.assert_allclose(values[:, 2], 0, atol=8 * np.finfo(float).eps * largest)
    assert (values[:, [0, 1, 3]] != 0).all()


@pytest.mark.parametrize("method", PERTURBATIONS)
def test_no_result_depends_on_the_batch_and_no_batch_is_larger(method):
    model, x, baseline = interacting()
    together = attribute(model, x, [0, 1, 0], method, baseline=baseline).values
    for size in (1, 7):
        apart = attribute(model, x, [0, 1, 0], method, baseline=baseline, batch_size=size).values
        np.testing.assert_allclose(apart, together, rtol=1e-12, atol=1e-12)
        counted = Counted()
        attribute(model, x, counted, method, baseline=baseline, batch_size=size)
        assert max(counted.rows[2:]) == size  # at the door a target sees two rows, in both orders
    alone = attribute(model, x[:1], 0, method, baseline=baseline[:1]).values
    np.testing.assert_allclose(alone, together[:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("occlusion", {"window": 5}, r"window is 5; expected \(channels, samples\)"),
        ("occlusion", {"window": (1, 0)}, r"window is \(1, 0\)"),
        ("occlusion", {"window": (6, 1)}, r"to \(5, 64\)"),
        ("occlusion", {"window": (1, 2.5)}, r"whole numbers"),
        ("occlusion", {"window": (1, 8), "stride": (1, 9)}, r"stride is \(1, 9\).* to \(1, 8\)"),
        ("occlusion", {"stride": (0, 1)}, r"stride is \(0, 1\)"),
        ("window_ablation", {"length": 0}, "length is 0; expected a whole number of samples, 1 … 64"),
        ("window_ablation", {"length": 65}, "length is 65"),
        ("window_ablation", {"length": 2.0}, "length is 2.0"),
        ("kernel_shap", {"n_samples": 11}, "n_samples is 11; expected at least 12 for 5 channels"),
    ],
)
def test_bad_options(eegnet, method, options, message):
    with pytest.raises(ValueError, match=message):
        attribute(eegnet, X, 0, method, **options)


# --- Shapley values ---------------------------------------------------------------------------------------------------


def shapley(value, n_players):
    """Shapley (1953): the mean over all orders of what a player adds to those before it."""
    result = np.zeros((len(value(())), n_players))
    for player in range(n_players):
        others = [other for other in range(n_players) if other != player]
        for size in range(n_players):
            weight = factorial(size) * factorial(n_players - size - 1) / factorial(n_players)
            for coalition in combinations(others, size):
                result[:, player] += weight * (value((*coalition, player)) - value(coalition))
    return result


@pytest.mark.parametrize("n_channels", [1, 2, 5, 6])
def test_kernel_shap_equals_brute_force_where_all_coalitions_are_taken(n_channels):
    model, x, baseline = interacting(n_channels, 4)

    def value(coalition):
        present = np.isin(np.arange(n_channels), coalition)[:, None]
        return output(model, np.where(present, x, baseline))

    n_samples = max(2**n_channels - 2, 2 * n_channels + 2)
    result = attribute(model, x, 1, "kernel_shap", baseline=baseline, n_samples=n_samples)
    expected = np.repeat(shapley(value, n_channels)[:, :, None] / 4, 4, axis=2)
    np.testing.assert_allclose(result.values, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)


def test_kernel_shap_equals_captum(eegnet):
    mask = torch.arange(N_CHANNELS)[None, :, None].repeat(1, 1, N_TIMES)
    given = {"baselines": torch.tensor(BASELINE), "target": 1, "feature_mask": mask}
    captum = ShapleyValues(eegnet).attribute(torch.tensor(X), **given).numpy()
    ours = attribute(eegnet, X, 1, "kernel_shap", baseline=BASELINE).values
    np.testing.assert_allclose(ours * N_TIMES, captum, atol=1e-5 * abs(captum).max())


def test_kernel_shap_equals_captums_on_a_linear_network():
    """captum draws coalitions at random: only without interactions is its answer the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 1)).double()
    x, baseline = torch.as_tensor(np.random.default_rng(2).standard_normal((2, 2, 4, 5)))
    mask = torch.arange(4)[None, :, None].expand(1, 4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several trials at once are slow
        captum = KernelShap(model).attribute(x, baselines=baseline, feature_mask=mask, n_samples=200).numpy()
    ours = attribute(model, x, 0, "kernel_shap", baseline=baseline).values
    np.testing.assert_allclose(ours * 5, captum, atol=1e-5 * abs(captum).max())


class Game(nn.Module):
    """A value for each coalition of many channels, those that are present being 1, of a given order."""

    def __init__(self, n_channels, order):
        super().__init__()
        rng = np.random.default_rng(4)
        self.gain = nn.Parameter(torch.as_tensor(rng.standard_normal((n_channels,) * order)))

    def forward(self, x):
        present, value = x[:, :, 0], self.gain.expand(len(x), *self.gain.shape)
        while value.ndim > 1:
            value = torch.einsum("n...c,nc->n...", value, present)
        return value[:, None]


def shapley_of_gains(gain):
    """Each product of distinct players is divided evenly among them."""
    result = np.zeros(len(gain))
    for players, value in np.ndenumerate(gain):
        result[list(set(players))] += value / len(set(players))
    return result


@pytest.mark.parametrize(("n_channels", "n_samples"), [(12, 26), (12, 60), (13, 500), (40, 100)])
def test_kernel_shap_of_pairwise_interactions_is_exact_with_few_coalitions(n_channels, n_samples):
    """What two channels add together is even about half of the channels; complements cancel it."""
    model = Game(n_channels, order=2)
    ones = np.ones((1, n_channels, 1))
    counted = Counted()
    values = attribute(model, ones, counted, "kernel_shap", n_samples=n_samples).values[0, :, 0]
    np.testing.assert_allclose(values, shapley_of_gains(model.gain.detach().numpy()), rtol=1e-9, atol=1e-9)
    assert sum(counted.rows[2:]) <= n_samples + 4  # both ends, for the map and for the delta; two at the door


def test_kernel_shap_converges():
    model, ones = Game(12, order=3), np.ones((1, 12, 1))
    expected = shapley_of_gains(model.gain.detach().numpy())

    def error(n_samples):
        options = {"method": "kernel_shap", "n_samples": n_samples}
        drawn = np.array([attribute(model, ones, 0, **options, seed=seed).values[0, :, 0] for seed in range(20)])
        np.testing.assert_allclose(drawn.sum(1), expected.sum(), rtol=1e-9)
        return np.sqrt(((drawn - expected) ** 2).mean())

    assert error(1600) < error(100) / 4  # draws alone would give 1 / 4
    assert error(2**12 - 2) < 1e-10


def test_kernel_shap_knows_its_seed():
    model, ones = Game(12, order=3), np.ones((2, 12, 1))
    first, again, other = (
        attribute(model, ones, 0, "kernel_shap", n_samples=100, seed=seed).values for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first[0], first[1], rtol=1e-12)  # all trials share the coalitions
    assert abs(first - other).max() > 1e-3
