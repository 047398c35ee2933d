"""SmoothGrad and expected gradients against closed forms, captum and their own standard error."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from torch import nn

import eegxai_support.attribution.sampling  # noqa: F401
from eegxai_support.attribution import attribute

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import EEGNet

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 2, 6)) * [[[1]], [[2]], [[5]], [[10]]]
POOL = RNG.standard_normal((7, 2, 6))


class Cubic(nn.Module):
    """f(x) = sum a x³ + b x²."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.as_tensor(a)), nn.Parameter(torch.as_tensor(b))

    def forward(self, x):
        return (self.a * x**3 + self.b * x**2).sum((1, 2))[:, None]


A, B = np.random.default_rng(1).standard_normal((2, 2, 6))
CUBIC, QUADRATIC = Cubic(A, B), Cubic(0 * A, B)


class Smooth(nn.Module):
    """A smooth function in which everything interacts."""

    def __init__(self, n_hidden=8):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(np.random.default_rng(2).standard_normal((n_hidden, 12)) / 3))

    def forward(self, x):
        hidden = torch.tanh(x.flatten(1) @ self.weight.T)
        return torch.stack([hidden.sum(1) + hidden[:, 0] * hidden[:, 1], hidden[:, 2:].prod(1)], 1)


class Recorded:
    """The first output as a target that keeps the outputs of each pass that is differentiated."""

    def __init__(self):
        self.outputs = []

    def __call__(self, outputs):
        if outputs.requires_grad:
            self.outputs.append(outputs.detach())
        return outputs[:, 0]


# --- SmoothGrad -------------------------------------------------------------------------------------------------------


def noise_of(trial, seed, n_samples, shape):
    """Draw as `Problem.draws` promises: a generator per trial, seeded by the seed and the trial's index."""
    return np.random.default_rng((seed, trial)).standard_normal((n_samples, *shape), dtype="float32")


def test_smooth_grad_is_the_mean_gradient_at_noisy_trials():
    result = attribute(CUBIC, X, 0, "smooth_grad", n_samples=9, noise_level=0.4, seed=3)
    for trial, x in enumerate(X):
        points = x + 0.4 * x.std() * noise_of(trial, 3, 9, x.shape)
        np.testing.assert_allclose(result.values[trial], (3 * A * points**2 + 2 * B * points).mean(0), rtol=1e-10)
    assert result.multiplier is None and result.delta is None


def test_the_standard_error_of_smooth_grad_is_that_of_a_mean():
    """The gradient of sum b x² at a trial with noise s e sums to 2 sum b (x + s e), with variance 4 s² sum b²."""
    result = attribute(QUADRATIC, X, 0, "smooth_grad", n_samples=400, noise_level=0.4)
    expected = 2 * 0.4 * X.std((1, 2)) * np.sqrt((B**2).sum() / 400)
    np.testing.assert_allclose(result.standard_error, expected, rtol=5 / np.sqrt(2 * 400))


def test_smooth_grad_of_a_cubic_has_the_expected_value():
    """E[3 a (x + s e)² + 2 b (x + s e)] = 3 a (x² + s²) + 2 b x."""
    n_samples = 4000
    values = attribute(CUBIC, X, 0, "smooth_grad", n_samples=n_samples, noise_level=0.5).values
    s = 0.5 * X.std((1, 2), keepdims=True)
    variance = (s * (6 * A * X + 2 * B)) ** 2 + 2 * (3 * A * s**2) ** 2  # of c e + d e², in closed form
    z = (values - 3 * A * (X**2 + s**2) - 2 * B * X) / np.sqrt(variance / n_samples)
    assert abs(z).max() < 5 and 0.5 < z.std() < 1.5


def test_smooth_grad_without_noise_is_the_gradient_and_noise_follows_the_trial():
    gradient = attribute(CUBIC, X, 0, "gradient").values
    np.testing.assert_allclose(attribute(CUBIC, X, 0, "smooth_grad", noise_level=0).values, gradient, rtol=1e-12)
    once, twice = (attribute(QUADRATIC, scale * X, 0, "smooth_grad").values for scale in (1, 2))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-10)  # the gradient of a quadratic is linear


def test_smooth_grad_equals_captum_on_the_same_noise(monkeypatch):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = EEGNet(n_chans=2, n_outputs=3, n_times=64, kernel_length=16).eval()
    x = np.random.default_rng(1).standard_normal((1, 2, 64)).astype("float32")
    noise = torch.as_tensor(noise_of(0, 5, 6, (2, 64)))
    monkeypatch.setattr(torch, "normal", lambda mean, std: mean + std * noise)
    captum = NoiseTunnel(Saliency(model)).attribute(
        torch.tensor(x), target=1, abs=False, nt_type="smoothgrad", nt_samples=6, stdevs=0.7 * float(x.std())
    )
    ours = attribute(model, x, 1, "smooth_grad", n_samples=6, noise_level=0.7, seed=5).values
    np.testing.assert_allclose(ours, captum.numpy(), atol=1e-5 * float(abs(captum).max()))


# --- expected gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 4, 50])
def test_expected_gradients_of_a_quadratic_are_as_near_as_the_strata_allow(rounds):
    """(x - b) ∫ grad = b (x - b) (x + b); in n rounds the mean position of a baseline is within 1 / 2 n of the half."""
    result = attribute(QUADRATIC, X, 0, "expected_gradients", baseline=POOL, n_samples=rounds * len(POOL))
    step = X[:, None] - POOL
    expected = (B * step * (X[:, None] + POOL)).mean(1)
    furthest = (2 * abs(B) * step**2).mean(1) / (2 * rounds)
    np.testing.assert_array_less(abs(result.values - expected), furthest)
    change = (B * X**2).sum((1, 2)) - (B * POOL**2).sum((1, 2)).mean()
    np.testing.assert_allclose(result.delta, result.values.sum((1, 2)) - change, atol=1e-10)
    np.testing.assert_array_equal(result.baseline, POOL)


def test_expected_gradients_of_a_linear_network_have_no_error():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double()
    result = attribute(model, X, 0, "expected_gradients", baseline=POOL, n_samples=21)
    weight = model[1].weight.detach().numpy().reshape(2, 6)
    np.testing.assert_allclose(result.values, weight * (X - POOL.mean(0)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.standard_error, 0, atol=1e-12)


def test_expected_gradients_with_one_baseline_converge_to_integrated_gradients():
    model = Smooth()
    exact = attribute(model, X, 0, "integrated_gradients", baseline=POOL[0], n_steps=256, path="linear", tol=np.inf)

    def error(n_samples):
        drawn = attribute(model, X, 0, "expected_gradients", baseline=POOL[0], n_samples=n_samples)
        return np.sqrt(((drawn.values - exact.values) ** 2).mean())

    assert error(1600) < error(100) / 16  # strata give 1 / 64, independent draws 1 / 4


@pytest.mark.parametrize(("n_samples", "n_drawn"), [(5, 5), (7, 7), (8, 14), (35, 35)])
def test_draws_are_balanced_over_the_pool_and_stratified_along_the_path(n_samples, n_drawn):
    """With x = 0 the model is shown (1 - alpha) b, and b = (baseline's number, 1) tells both."""
    pool, model, recorded = np.ones((7, 2, 6)), nn.Sequential(nn.AvgPool1d(6), nn.Flatten()), Recorded()
    pool[:, 0] = np.arange(7)[:, None]
    attribute(model, np.zeros((1, 2, 6)), recorded, "expected_gradients", baseline=pool, n_samples=n_samples)
    shown = torch.cat(recorded.outputs).numpy()
    baseline, alpha = np.round(shown[:, 0] / shown[:, 1]), 1 - shown[:, 1]
    np.testing.assert_array_equal(np.sort(np.floor(alpha * n_drawn)), np.arange(n_drawn))
    counts = np.bincount(baseline.astype(int), minlength=7)
    assert counts.sum() == n_drawn and counts.max() - counts.min() <= (n_drawn < 7)


@pytest.mark.parametrize(
    ("n_baselines", "n_samples"), [(1, 20), (4, 12), (4, 60), (25, 20), (30, 30), (60, 20), (2000, 20)]
)
def test_the_standard_error_is_honest(n_baselines, n_samples):
    """400 copies of a trial are 400 independent estimates of the same number."""
    rng = np.random.default_rng(7)
    x, pool = rng.standard_normal((1, 2, 6)).repeat(400, axis=0), rng.standard_normal((n_baselines, 2, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor does a trial of the 400 warn
        result = attribute(Smooth(), x, 0, "expected_gradients", baseline=pool, n_samples=n_samples)
    error, claimed = np.sqrt((result.delta**2).mean()), np.sqrt((result.standard_error**2).mean())
    assert error < 1.1 * claimed  # the error of 400 is known to 4 %
    assert (abs(result.delta) < 2 * result.standard_error).mean() > 0.9
    # Nor much larger than it must be: draws of one baseline differ by a trend, too, 2.5 to 2.9 times the error here.
    assert claimed < (1.25 if n_baselines >= n_samples else 4) * error
    assert abs(result.delta.mean()) < 4 * error / np.sqrt(400)  # without bias


class Step(nn.Module):
    """Constant but for a jump, which no gradient sees."""

    def forward(self, x):
        return (x.sum((1, 2)) > 0).to(x)[:, None] + 0 * x.sum((1, 2))[:, None]


def test_expected_gradients_warn_beyond_their_standard_error():
    with pytest.warns(UserWarning, match="expected_gradients on Step: in 2 of 2 trials"):
        attribute(Step(), np.ones((2, 2, 6)), 0, "expected_gradients", baseline=-np.ones((3, 2, 6)))


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["smooth_grad", "expected_gradients"])
def test_no_result_depends_on_the_batch_and_no_batch_is_larger(method):
    model, baseline = Smooth(), {"baseline": POOL} if method == "expected_gradients" else {}

    def compute(x, target, **options):
        return attribute(model, x, target, method, n_samples=21, **baseline, **options)

    together = compute(X, [0, 1, 0, 1])
    for size in (1, 3, 10):
        apart = compute(X, [0, 1, 0, 1], batch_size=size)
        np.testing.assert_allclose(apart.values, together.values, rtol=1e-10, atol=1e-12)
        if method == "expected_gradients":
            np.testing.assert_allclose(apart.standard_error, together.standard_error, rtol=1e-10)
        recorded = Recorded()
        compute(X, recorded, batch_size=size)
        assert max(map(len, recorded.outputs)) <= size
    alone = compute(X[:1], 0)
    np.testing.assert_allclose(alone.values, together.values[:1], rtol=1e-10, atol=1e-12)
    same = compute(X[[0, 0]], 0).values
    assert abs(same[0] - same[1]).max() > 1e-6  # each trial has draws of its own


@pytest.mark.parametrize("method", ["smooth_grad", "expected_gradients"])
def test_the_seed_decides(method):
    first, again, other = (attribute(CUBIC, X, 0, method, seed=seed).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-6


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("smooth_grad", {"n_samples": 0}, "n_samples is 0; expected at least 1"),
        ("smooth_grad", {"noise_level": -0.1}, "noise_level is -0.1"),
        ("smooth_grad", {"noise_level": np.inf}, "noise_level is inf"),
        ("smooth_grad", {"noise_level": np.nan}, "noise_level is nan"),
        ("smooth_grad", {"baseline": POOL}, "takes no baseline"),
        ("expected_gradients", {"n_samples": 1}, "n_samples is 1; expected at least 2"),
        ("expected_gradients", {"baseline": POOL[:, :1]}, "baseline has shape"),
    ],
)
def test_bad_options(method, options, message):
    with pytest.raises(ValueError, match=message):
        attribute(CUBIC, X, 0, method, **options)
