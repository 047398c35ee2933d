"""Facts that the test suites of captum, SHAP and zennit hold, and what precision, quadrature and draws may change."""

import warnings
from itertools import permutations
from math import factorial

import numpy as np
import pytest
import torch
from networks import build
from torch import nn
from torch.nn import functional as F

from eegxai_support.attribution import attribute

RNG = np.random.default_rng(0)
X, BASELINE = RNG.standard_normal((2, 3, 4, 8))
WEIGHT = torch.as_tensor(RNG.standard_normal((5, 4, 3)))


def explain(model, x, method="deep_lift", target=0, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(model, x, target, method, **options)


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.one = function, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.one * self.function(x).reshape(len(x), -1).sum(1, keepdim=True)


ACTIVATIONS = [
    nn.ReLU(), nn.ELU(), nn.LeakyReLU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.GELU(), nn.SiLU(), nn.Mish(),
    nn.CELU(), nn.SELU(), nn.Hardtanh(), nn.Hardswish(), nn.Hardsigmoid(), nn.Softsign(), nn.ReLU6(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda each: type(each).__name__)
def test_every_activation_has_the_slope_of_its_secant(activation):
    with torch.no_grad():
        x, baseline = torch.as_tensor(X), torch.as_tensor(BASELINE)
        expected = (activation(x) - activation(baseline)) / (x - baseline)
    result = explain(Applied(activation), X, baseline=BASELINE)
    np.testing.assert_allclose(result.multiplier, expected.numpy(), rtol=1e-9, atol=1e-12)


def test_a_relu_that_is_used_three_times_is_three_functions():
    """relu(relu(relu(x) - 1) + 1 - 2): each use has the secant of its own points."""
    relu = nn.ReLU()
    result = explain(Applied(lambda x: relu(relu(relu(2 * x) - 1) - 0.5)), X, baseline=BASELINE)
    z, z0, expected = 2 * X, 2 * BASELINE, 2.0
    for shift in (0, 1, 0.5):
        z, z0 = z - shift, z0 - shift
        y, y0 = np.maximum(z, 0), np.maximum(z0, 0)
        expected, z, z0 = expected * (y - y0) / np.where(z == z0, 1, z - z0), y, y0
    np.testing.assert_allclose(result.multiplier, expected, rtol=1e-9, atol=1e-12)


def layer(module, weight):
    with torch.no_grad():
        module.weight.copy_(weight)
    return module.requires_grad_(False)


def grouped(x):
    """Every input channel by itself, then the sum over them."""
    weight = WEIGHT.transpose(0, 1).reshape(20, 1, 3)
    return F.conv1d(x, weight, groups=4).unflatten(1, (4, 5)).sum(1)


def looped(x):
    return torch.stack([(x[..., i : i + 3].unsqueeze(1) * WEIGHT).sum((2, 3)) for i in range(6)], -1)


def by_fourier(x):
    spectrum = torch.einsum("bcf,ocf->bof", torch.fft.rfft(x, 10), torch.fft.rfft(WEIGHT.flip(2), 10))
    return torch.fft.irfft(spectrum, 10)[..., 2:8]


CONV_2D = layer(nn.Conv2d(1, 5, (4, 3), bias=False, dtype=torch.float64), WEIGHT[:, None])
CONVOLUTIONS = {
    "conv1d": lambda x: F.conv1d(x, WEIGHT),
    "torch.conv1d": lambda x: torch.conv1d(x, WEIGHT),
    "Conv1d": layer(nn.Conv1d(4, 5, 3, bias=False, dtype=torch.float64), WEIGHT),
    "conv2d over time": lambda x: F.conv2d(x[:, :, None], WEIGHT[:, :, None])[:, :, 0],
    "conv2d over both": lambda x: F.conv2d(x[:, None], WEIGHT[:, None])[:, :, 0],
    "Conv2d": lambda x: CONV_2D(x[:, None])[:, :, 0],
    "conv3d": lambda x: F.conv3d(x[:, :, None, None], WEIGHT[:, :, None, None])[:, :, 0, 0],
    "grouped": grouped,
    "transposed": lambda x: F.conv_transpose1d(x, WEIGHT.transpose(0, 1).flip(2))[..., 2:-2],
    "unfold and matmul": lambda x: WEIGHT.flatten(1) @ F.unfold(x[:, :, None], (1, 3)),
    "unfold and einsum": lambda x: torch.einsum("bctk,ock->bot", x.unfold(2, 3, 1), WEIGHT),
    "unfold and tensordot": lambda x: torch.tensordot(x.unfold(2, 3, 1), WEIGHT, ([1, 3], [1, 2])).mT,
    "unfold and linear": lambda x: F.linear(x.unfold(2, 3, 1).transpose(1, 2).flatten(2), WEIGHT.flatten(1)).mT,
    "sum of shifts": lambda x: sum(WEIGHT[:, :, k] @ x[..., k : k + 6] for k in range(3)),
    "rolled": lambda x: sum(WEIGHT[:, :, k] @ x.roll(-k, 2) for k in range(3))[..., :6],
    "a loop of products": looped,
    "by the spectrum": by_fourier,
}


@pytest.mark.parametrize("spelling", CONVOLUTIONS)
def test_a_convolution_has_one_map_however_it_is_spelled(spelling):
    result = explain(Applied(lambda x: F.elu(CONVOLUTIONS[spelling](x))), X, baseline=BASELINE)
    y, y0 = (F.conv1d(torch.as_tensor(each), WEIGHT) for each in (X, BASELINE))
    slope = (F.elu(y) - F.elu(y0)) / (y - y0)
    expected = F.conv_transpose1d(slope, WEIGHT)
    np.testing.assert_allclose(result.multiplier, expected.numpy(), rtol=1e-9, atol=1e-10)


def test_shapley_values_are_the_mean_over_all_orders():
    model, x = Applied(lambda x: x.sum(2).exp().prod(1) + x[:, 0, 0] * x[:, 1, 0]), X / 10

    def value(present):
        with torch.no_grad():
            given = torch.as_tensor(np.where(np.isin(np.arange(4), present)[:, None], x[0], 0))
            return float(model(given[None]))

    expected = np.zeros(4)
    for order in permutations(range(4)):
        for i, player in enumerate(order):
            expected[player] += (value(order[: i + 1]) - value(order[:i])) / factorial(4)
    values = explain(model, x, "kernel_shap").values[0].sum(1)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["EEGNet", "Deep4Net", "EEGConformer"])
def test_deep_lift_shap_with_one_baseline_is_deep_lift(name):
    model = build(name)
    x = RNG.standard_normal((3, 3, model.n_times)).astype("float32")
    one = explain(model, x, baseline=x[:1] / 2)
    shap = explain(model, x, "deep_lift_shap", baseline=x[:1] / 2)
    np.testing.assert_allclose(shap.values, one.values, atol=1e-6 * abs(one.values).max())


# --- float64 repairs rounding and nothing else ------------------------------------------------------------------------


class Normalised(nn.Module):
    def __init__(self, normalise, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.normalise, self.scale = nn.Linear(8, 8, bias=False), normalise, scale
        self.last = nn.Linear(32, 2)

    def forward(self, x):
        return self.scale * self.last(self.normalise(self.linear(x)).flatten(1))


def own_eps(x):
    return x * (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).rsqrt()


def fixed_eps(x):
    return x * (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).rsqrt()


@pytest.mark.parametrize("normalise", [nn.RMSNorm(8, elementwise_affine=False), lambda x: F.rms_norm(x, (8,)), own_eps])
def test_constants_that_follow_the_precision_stay_those_of_the_network(normalise):
    x = X.astype("float32")
    values = explain(Normalised(normalise), x).values
    exact = explain(Normalised(fixed_eps).double(), x).values
    np.testing.assert_allclose(values, exact, atol=1e-3 * abs(exact).max())


@pytest.mark.parametrize("method", ["deep_lift", "deep_lift_shap"])
def test_large_logits_are_computed_again_in_double_precision(method):
    model = Normalised(nn.LayerNorm(8, eps=1e-10), scale=1e4).eval()
    x, zeros = X.astype("float32"), np.zeros((1, 4, 8), "float32")
    result = explain(model, x, method, baseline=zeros)
    exact = explain(model.double(), x, method, baseline=zeros)
    assert result.values.dtype == np.float32
    np.testing.assert_allclose(result.values, exact.values, atol=1e-4 * abs(exact.values).max())
    assert (abs(result.delta) < 1e-3 * abs(exact.values.sum((1, 2)))).all()


# --- integrated gradients: a small delta is not enough ----------------------------------------------------------------


def cancelling(x):
    """Two channels of the same steep function with opposite signs: every quadrature has delta 0."""
    steep = torch.tanh(40 * (x - 0.7)).mean(2)
    return steep[:, 0] - steep[:, 1] + 0.5 * x[:, 2].mean(1)


def test_integrated_gradients_are_refined_until_the_map_settles():
    """Each channel has tanh(40 * 0.3) + tanh(40 * 0.7), whatever the delta says."""
    x = np.ones((2, 3, 4))
    result = explain(Applied(cancelling), x, "integrated_gradients")
    assert abs(result.delta).max() < 1e-9
    channel = np.tanh(12) + np.tanh(28)
    np.testing.assert_allclose(result.values.sum(2), [[channel, -channel, 0.5]] * 2, rtol=0.01)
    coarse = explain(Applied(cancelling), x, "integrated_gradients", n_steps=16, tol=np.inf)
    assert abs(coarse.delta).max() < 1e-9 and abs(coarse.values[:, 0].sum(1) / channel - 1).max() > 0.01


# --- random draws -----------------------------------------------------------------------------------------------------


def test_smooth_grad_states_how_far_its_sum_scatters():
    model, x = Applied(lambda x: x**3), np.repeat(X[:1], 300, 0)  # 300 copies are 300 independent draws
    result = explain(model, x, "smooth_grad", n_samples=20)
    scatter, claimed = result.values.sum((1, 2)).std(), np.sqrt((result.standard_error**2).mean())
    assert 0.85 < claimed / scatter < 1.15  # known to 4 %
    assert np.isnan(explain(model, X, "smooth_grad", n_samples=1).standard_error).all()
