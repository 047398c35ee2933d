"""DeepLIFT against multipliers derived by hand, captum with rules for module classes, and its own books."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, DeepLiftShap
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear
from networks import build
from torch import nn
from torch.nn import functional as F

from eegxai_support.attribution import METHODS, attribute
from eegxai_support.attribution.deep_lift import Rescale
from eegxai_support.model import UnsupportedOperation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.modules import SafeLog, Square

RNG = np.random.default_rng(0)
X, BASELINE = RNG.standard_normal((2, 5, 3, 8))


class Function(nn.Module):
    """f(x) = sum of weights times ``function(x)``, the weights drawn once."""

    def __init__(self, function, n_outputs=2):
        super().__init__()
        self.function = function
        generator = torch.Generator().manual_seed(1)
        shape = function(torch.as_tensor(X)).flatten(1).shape[1]
        self.weight = nn.Parameter(torch.randn(shape, n_outputs, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return self.function(x).flatten(1) @ self.weight


def explain(function, x=X, baseline=BASELINE):
    model = Function(function)
    return attribute(model, x, 0, "deep_lift", baseline=baseline), model.weight[:, 0].detach().numpy()


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


# --- multipliers by hand ----------------------------------------------------------------------------------------------


def slope(function, a, b):
    return (function(a) - function(b)) / (a - b)


@pytest.mark.parametrize(
    ("function", "by_hand"),
    [
        (lambda x: x**2, lambda x: x**2),
        (lambda x: x * x, lambda x: x**2),
        (torch.square, lambda x: x**2),
        (lambda x: torch.log(x.abs() + 1), lambda x: np.log(abs(x) + 1)),
        (F.gelu, lambda x: x * torch.special.ndtr(torch.as_tensor(x)).numpy()),
        (F.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
        (lambda x: 2.0**x, lambda x: 2.0**x),
        (lambda x: 1 / (x.abs() + 1), lambda x: 1 / (abs(x) + 1)),
    ],
)
def test_elementwise(function, by_hand):
    result, weight = explain(function)
    expected = weight.reshape(3, 8) * slope(by_hand, X, BASELINE)
    np.testing.assert_allclose(result.multiplier, expected, rtol=1e-9)


def test_product_of_two_activations():
    result, weight = explain(lambda x: x[:, 0] * x[:, 1].exp())
    a, a0, b, b0 = X[:, 0], BASELINE[:, 0], np.exp(X[:, 1]), np.exp(BASELINE[:, 1])
    np.testing.assert_allclose(result.multiplier[:, 0], weight * (b + b0) / 2, rtol=1e-9)
    expected = weight * (a + a0) / 2 * slope(np.exp, X[:, 1], BASELINE[:, 1])
    np.testing.assert_allclose(result.multiplier[:, 1], expected, rtol=1e-9)
    assert not result.multiplier[:, 2].any()


def test_log_sum_exp_far_below_its_baseline():
    """Scaled by the trial alone, the exponential of the baseline would be beyond float32."""

    class LogSumExp(nn.Module):
        def forward(self, x):
            return x.flatten(1).logsumexp(1, keepdim=True)

    x = X.astype("float32")
    for sign in (-1, 1):
        baseline = x + sign * 200
        values = attribute(LogSumExp(), x, 0, "deep_lift", baseline=baseline).values
        np.testing.assert_allclose(values.sum((1, 2)), np.full(len(x), -sign * 200.0), rtol=1e-5)


def test_softmax():
    """p = exp(x - log sum exp x): secants of both exponentials and of the logarithm."""
    result, weight = explain(lambda x: x.softmax(2))
    e, e0 = np.exp(X), np.exp(BASELINE)
    s, s0 = e.sum(2), e0.sum(2)
    p, p0 = e / s[..., None], e0 / s0[..., None]
    g = weight.reshape(3, 8)
    for trial in range(len(X)):
        for channel in range(3):
            i = trial, channel
            of_p = (p[i] - p0[i]) / (np.log(p[i]) - np.log(p0[i]))
            of_log = (np.log(s[i]) - np.log(s0[i])) / (s[i] - s0[i])
            of_e = (e[i] - e0[i]) / (X[i] - BASELINE[i])
            jacobian = np.array([[of_p[k] * ((k == j) - of_log * of_e[j]) for j in range(8)] for k in range(8)])
            np.testing.assert_allclose(result.multiplier[i], g[channel] @ jacobian, rtol=1e-9)


def test_layer_norm():
    """y = c r with c = x - mean x and r = 1 / sqrt(mean c² + eps): midpoints for the product, secants for c² and r."""
    eps = 1e-5
    result, weight = explain(lambda x: F.layer_norm(x, (8,), eps=eps))
    for trial in range(len(X)):
        for channel in range(3):
            c, c0 = (v[trial, channel] - v[trial, channel].mean() for v in (X, BASELINE))
            v, v0 = np.mean(c**2), np.mean(c0**2)
            r, r0 = (v + eps) ** -0.5, (v0 + eps) ** -0.5
            g = weight.reshape(3, 8)[channel]
            of_c = g * (r + r0) / 2 + (g @ (c + c0) / 2) * (r - r0) / (v - v0) * (c + c0) / 8
            expected = of_c - of_c.mean()  # back through the subtraction of the mean
            np.testing.assert_allclose(result.multiplier[trial, channel], expected, rtol=1e-9)


@pytest.mark.parametrize("pool", [F.max_pool1d, F.adaptive_max_pool1d], ids=["windows overlap", "adaptive"])
def test_max_pool(pool):
    """From the baseline's maximum up to the higher one at the trial's winner, down to the trial's at the baseline's."""
    result, weight = explain(lambda x: pool(x, 3, 2) if pool is F.max_pool1d else pool(x, 3))
    windows = [(0, 3), (2, 5), (4, 7)] if pool is F.max_pool1d else [(0, 3), (2, 6), (5, 8)]
    expected = np.zeros_like(X)
    for trial, channel in np.ndindex(len(X), 3):
        for k, (start, stop) in enumerate(windows):
            z, z0 = X[trial, channel, start:stop], BASELINE[trial, channel, start:stop]
            top, g = max(z.max(), z0.max()), weight.reshape(3, 3)[channel, k]
            expected[trial, channel, start + z.argmax()] += g * (top - z0.max())
            expected[trial, channel, start + z0.argmax()] += g * (z.max() - top)
    np.testing.assert_allclose(result.values, expected, atol=1e-12)


# --- every function with a rule keeps its books -----------------------------------------------------------------------

PARAMETERS = {name: torch.as_tensor(RNG.standard_normal(shape)) for name, shape in {
    "w": (8,), "b": (8,), "channel": (3,), "out": (8, 8), "in": (24, 8), "in_bias": (24,), "mask": (8, 8),
}.items()}  # fmt: skip
HIDDEN = torch.tensor([False, True, False, False, False, True, False, False])


def attention(x, **options):
    x = x.repeat(1, 3, 1)[:, :8]
    output, weights = F.multi_head_attention_forward(
        x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1), 8, 2, PARAMETERS["in"], PARAMETERS["in_bias"], None,
        None, False, 0.0, PARAMETERS["out"], PARAMETERS["b"], training=False, **options,
    )  # fmt: skip
    return output.transpose(0, 1), weights


def square_in_place(x):
    y = x.clone()
    y[:, 0] = y[:, 1] ** 2
    y += 1
    y.mul_(2)
    z = F.elu(y, inplace=True)
    return z + y  # y was overwritten: both are the same


FUNCTIONS = {
    "group_norm": lambda x: F.group_norm(x, 3, PARAMETERS["channel"], PARAMETERS["channel"]),
    "instance_norm": lambda x: F.instance_norm(x, weight=PARAMETERS["channel"]),
    "rms_norm": lambda x: F.rms_norm(x, (8,), PARAMETERS["w"]),
    "layer_norm": lambda x: F.layer_norm(x, (3, 8)),
    "normalize": lambda x: F.normalize(x, dim=2),
    "normalize of order 1": lambda x: F.normalize(x, p=1, dim=1),
    "norm": lambda x: x.norm(dim=2),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True),
    "var": lambda x: x.var(2),
    "biased var": lambda x: torch.var(x, (1, 2), unbiased=False, keepdim=True),
    "var with correction": lambda x: x.var(dim=1, correction=0),
    "std": lambda x: x.std(dim=2, keepdim=True),
    "log_softmax": lambda x: F.log_softmax(x, dim=1),
    "logsumexp": lambda x: x.logsumexp(1),
    "softmax far apart": lambda x: (100 * x).softmax(2),
    "softmax with hidden positions": lambda x: x.masked_fill(HIDDEN, -torch.inf).softmax(2),
    "amax": lambda x: x.amax(2),
    "max": lambda x: x.max(dim=1, keepdim=True).values,
    "amin": lambda x: torch.amin(x, -1, keepdim=True),
    "max_pool2d": lambda x: F.max_pool2d(x[:, None], (3, 2), stride=(1, 1), padding=(1, 0)),
    "glu": lambda x: F.glu(x, 2),
    "prelu": lambda x: F.prelu(x, PARAMETERS["channel"]),
    "abs of the spectrum": lambda x: torch.fft.rfft(x).abs(),
    "power of the spectrum": lambda x: torch.view_as_real(torch.fft.rfft(x)).square().sum(-1),
    "stft": lambda x: torch.stft(x.flatten(1), 8, window=PARAMETERS["w"], return_complex=True).abs(),
    "division": lambda x: x[:, 0] / (x[:, 1].abs() + 1),
    "addcmul": lambda x: torch.addcmul(x[:, 0], x[:, 1], x[:, 2], value=0.5),
    "addmm": lambda x: torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=2),
    "einsum": lambda x: torch.einsum("bct,bdt->bcd", x, x.sin()),
    "einsum of a list": lambda x: torch.einsum("bct,bct->bc", [x, x.cos()]),
    "matmul": lambda x: x @ x.transpose(1, 2),
    "bilinear": lambda x: F.bilinear(x, x.tanh(), PARAMETERS["out"].view(1, 8, 8)),
    "attention": lambda x: attention(x)[0],
    "attention weights": lambda x: attention(x)[1],
    "attention without weights": lambda x: attention(x, need_weights=False)[0],
    "attention with a mask": lambda x: attention(x, attn_mask=PARAMETERS["mask"])[0],
    "attention with hidden keys": lambda x: attention(x, key_padding_mask=HIDDEN.expand(len(x), 8))[0],
    "weights of every head": lambda x: attention(x, attn_mask=PARAMETERS["mask"] > 1, average_attn_weights=False)[1],
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, x.sin(), x.cos(), is_causal=True),
    "attention by mask": lambda x: F.scaled_dot_product_attention(x, x, x, PARAMETERS["mask"][:3, :3] > -1, scale=1.0),
    "in place": square_in_place,
    "softplus, mish, tanh, sigmoid": lambda x: F.softplus(x) + F.mish(x) * x.tanh().sigmoid_(),
    "reflected": lambda x: F.pad(x, (2, 2), mode="reflect").square(),
    "up": lambda x: F.interpolate(x, scale_factor=2, mode="linear").square(),
    "max with a number": lambda x: torch.max(x, torch.tensor(0.1)) + torch.min(x.square(), PARAMETERS["w"]),
    "metadata": lambda x: x.square() if x.shape[1] == 3 and x.dim() == 3 and not x.is_complex() else x,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_conserves_and_keeps_its_value(name):
    function = FUNCTIONS[name]
    result, weight = explain(function)
    with torch.no_grad():
        y, y0 = (function(torch.as_tensor(v)).flatten(1).numpy() @ weight for v in (X, BASELINE))
    np.testing.assert_allclose(result.values.sum((1, 2)), y - y0, atol=1e-9 * max(1, abs(y).max()))
    x = torch.tensor(X, requires_grad=True)
    with Rescale():
        under_rules = function(x)
    torch.testing.assert_close(under_rules.detach(), function(torch.as_tensor(X)), rtol=1e-10, atol=1e-12)


def test_near_coincidence_the_slope_is_the_derivative():
    """Trial and baseline equal, or so near that the secant would be rounding."""
    for step in (0, 1e-12, 1e-7):
        result, weight = explain(torch.tanh, X, X - step)
        np.testing.assert_allclose(result.multiplier, weight.reshape(3, 8) / np.cosh(X) ** 2, rtol=1e-6)


def test_a_root_or_a_modulus_of_zero_at_both_ends_gets_nothing():
    x, baseline = X.copy(), BASELINE.copy()
    x[:, 0] = baseline[:, 0] = 0
    for function in (lambda x: torch.fft.rfft(x).abs(), lambda x: x.norm(dim=2), lambda x: x.square().sqrt()):
        result, _ = explain(function, x, baseline)
        assert np.isfinite(result.values).all() and not result.values[:, 0].any()


def test_what_the_baseline_pass_recorded_survives_in_place_changes():
    def overwrites(x):
        y = 2 * x
        z = y.square()
        y += 1  # after the square has recorded y
        y[:, 1] = 0
        return z + y

    result, weight = explain(overwrites)
    expected = 4 * (X + BASELINE) + np.where(np.arange(3) == 1, 0, 2)[:, None]
    np.testing.assert_allclose(result.multiplier, weight.reshape(3, 8) * expected, rtol=1e-10)


# --- spelling does not matter -----------------------------------------------------------------------------------------


class Modules(nn.Module):
    def __init__(self, spelled):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv1d(3, 4, 3), nn.Linear(24, 2)
        self.elu, self.gelu, self.twice = nn.ELU(), nn.GELU(), nn.ELU(inplace=spelled == "reused, in place")
        self.spelled = spelled

    def forward(self, x):
        x = self.conv(x)
        if self.spelled == "modules":
            return self.linear(self.gelu(self.elu(x)).flatten(1))
        if self.spelled == "functional":
            return self.linear(F.gelu(torch.where(torch.ones_like(x) > 0, F.elu(x), x)).flatten(1))
        return self.linear((self.gelu(self.twice(x)) + 0 * self.twice(x)).flatten(1))


@pytest.mark.parametrize("spelled", ["functional", "reused, in place"])
def test_modules_functions_and_reuse_give_the_same_map(spelled):
    one, other = (attribute(Modules(s).double(), X, 0, "deep_lift", baseline=BASELINE) for s in ("modules", spelled))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-10, atol=1e-14)


# --- captum where it is right -----------------------------------------------------------------------------------------


class Center(nn.Module):
    def forward(self, x):
        return x - x.mean(3, keepdim=True)


class Variance(nn.Sequential):
    """FBCNet's log-variance with a module for each step, as captum's rules need it."""

    def __init__(self):
        super().__init__(Center(), Square(), nn.AvgPool2d((1, 30), divisor_override=29), SafeLog(1e-6))


def by_captum(model, x, baseline, rules=()):
    """captum's rescale rule, registered for more module classes."""
    x, baseline = torch.tensor(x, requires_grad=True), torch.as_tensor(baseline)
    with pytest.MonkeyPatch.context() as patch:
        for rule in rules:
            patch.setitem(SUPPORTED_NON_LINEAR, rule, nonlinear)
        return (
            quietly(DeepLift(model).attribute, x.requires_grad_(), torch.as_tensor(baseline), target=1).detach().numpy()
        )


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "FBCNet"])
def test_equal_to_a_reference_written_a_second_way(name):
    x, baseline = np.random.default_rng(1).standard_normal((2, 4, 3, 120))
    model = build(name, torch.float64)
    ours = quietly(attribute, model, x, 1, "deep_lift", baseline=baseline).values
    if name == "FBCNet":
        model.temporal_layer = Variance()
    captum = by_captum(model, x, baseline, (Square, SafeLog, nn.SiLU))
    np.testing.assert_allclose(ours, captum, atol=1e-9 * abs(captum).max())


def test_captum_is_wrong_where_a_max_pool_follows_an_activation():
    """On Deep4Net captum reads the activation's gradient before the pool has replaced it."""
    x, baseline = np.random.default_rng(2).standard_normal((2, 4, 3, 120))
    model = build("Deep4Net", torch.float64)
    ours = quietly(attribute, model, x, 1, "deep_lift", baseline=baseline)
    captum = by_captum(model, x, baseline)
    assert abs(ours.delta).max() < 1e-12
    assert np.abs(ours.values - captum).max() > 0.01 * np.abs(captum).max()


def test_where_positions_tie_at_the_baseline_the_winner_of_the_trial_takes_all():
    """A hair of rounding must not decide which position of a constant baseline is its maximum."""
    for hair in (0, 1e-16):
        baseline = np.zeros_like(X) + 0.5
        baseline[..., ::2] += hair
        result, weight = explain(lambda x: F.max_pool1d(x, 4), X, baseline)
        windows = X.reshape(5, 3, 2, 4)
        winner = np.arange(4) == windows.argmax(3, keepdims=True)
        expected = (winner * weight.reshape(3, 2, 1)).reshape(X.shape)
        np.testing.assert_allclose(result.multiplier, expected, rtol=1e-12)


def test_captum_is_right_on_deep4net_once_its_tensors_are_parted():
    class Parted(DeepLift):
        def _register_hooks(self, module, attribute_to_layer_input=True):
            n_hooks = len(self.forward_handles)
            super()._register_hooks(module, attribute_to_layer_input)
            if len(self.forward_handles) > n_hooks:
                self.forward_handles.append(module.register_forward_hook(lambda *call: call[-1].clone()))

    x, baseline = np.random.default_rng(3).standard_normal((2, 4, 3, 120))
    model = build("Deep4Net", torch.float64)
    ours = quietly(attribute, model, x, 1, "deep_lift", baseline=baseline).values
    leaf = torch.tensor(x, requires_grad=True)
    captum = quietly(Parted(model).attribute, leaf, torch.tensor(baseline), target=1).detach().numpy()
    np.testing.assert_allclose(ours, captum, atol=1e-9 * abs(captum).max())


def test_deep_lift_shap_is_the_mean_over_baselines():
    model, x, pool = build("EEGNet"), *np.random.default_rng(4).standard_normal((2, 3, 3, 120)).astype("float32")
    result = quietly(attribute, model, x, 1, "deep_lift_shap", baseline=pool, batch_size=4)
    maps = [quietly(attribute, model, x, 1, "deep_lift", baseline=baseline).values for baseline in pool]
    np.testing.assert_allclose(result.values, np.mean(maps, 0), atol=1e-6 * abs(result.values).max())
    captum = DeepLiftShap(model)
    captum = (
        quietly(captum.attribute, torch.tensor(x, requires_grad=True), torch.tensor(pool), target=1).detach().numpy()
    )
    np.testing.assert_allclose(result.values, captum, atol=1e-5 * abs(captum).max())
    assert result.multiplier is None and abs(result.delta).max() < 1e-5


# --- what has no rule -------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 2, batch_first=True)

    def forward(self, x):
        return self.lstm(x.transpose(1, 2))[0][:, -1]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.fft.rfft(x).angle(), "angle"),
        (lambda x: x.detach() + x, "detach, which cuts.*occlusion"),
        (lambda x: x.data + x, "data, which cuts.*occlusion"),
        (lambda x: torch.where(x > 0, x, 2 * x), "gt"),
        (lambda x: x * x.sum().item(), "item, which cuts.*occlusion"),
        (lambda x: x if x.sum() > 0 else -x, "gt"),
        (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
        (lambda x: torch.linalg.vector_norm(x, 3, dim=2), "order 3"),
        (lambda x: x.sort(2).values, "sort"),
        (lambda x: F.max_pool1d(x, 2, return_indices=True)[0], "max_pool1d"),
        (lambda x: torch.div(x, x + 9, rounding_mode="floor"), "rounding"),
    ],
)
def test_a_function_without_a_rule_is_named(function, name):
    with pytest.raises(UnsupportedOperation, match=f"deep_lift has no rule for .*{name}"):
        explain(function)


def test_a_recurrent_network_is_refused_and_applies_to_says_so():
    model = Recurrent()
    model.n_chans, model.n_times = 3, 8
    with pytest.raises(UnsupportedOperation, match="lstm"):
        attribute(model, X.astype("float32"), 0, "deep_lift")
    assert not METHODS["deep_lift"].applies_to(model)
    assert METHODS["deep_lift"].applies_to(build("EEGNet"))


def test_another_course_for_the_trial_than_for_the_baseline_is_refused():
    class Counts(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return (x.square() if self.calls % 2 else x.exp()).sum((1, 2))[:, None]

    with pytest.raises(UnsupportedOperation, match="another course"):
        attribute(Counts(), X, 0, "deep_lift")


# --- single precision -------------------------------------------------------------------------------------------------


def normalised():
    """1 / sqrt(eps) at the baseline against 1 at the trial: float32 loses what float64 keeps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, eps=1e-10), nn.Flatten(), nn.Linear(24, 2)).eval()
    nn.init.zeros_(model[0].bias)
    return model


def test_a_normalisation_at_zero_is_computed_again_in_double_precision():
    model, x = normalised(), X.astype("float32")
    result = quietly(attribute, model, x, 0, "deep_lift")
    with torch.no_grad():
        change = (model(torch.tensor(x)) - model(torch.zeros(1, 3, 8)))[:, 0].numpy()
    assert result.values.dtype == np.float32
    assert (abs(result.delta) / np.maximum(abs(change), change.std())).max() < 1e-2
    exact = quietly(attribute, model.double(), X.astype("float32"), 0, "deep_lift").values
    np.testing.assert_allclose(result.values, exact, atol=1e-6 * abs(exact).max())


def test_what_was_computed_again_is_rounded_once_at_the_end():
    model, x = normalised(), X.astype("float32")
    result = quietly(attribute, model, x, 0, "deep_lift").multiplier
    exact = quietly(attribute, model.double(), x, 0, "deep_lift").multiplier
    assert result.dtype == np.float32 and exact.dtype == np.float64
    assert (result == exact.astype("float32")).all((1, 2)).sum() >= 4  # float32 may be right about one of the five


def test_a_network_that_is_another_function_in_double_precision_keeps_its_map():
    class Twofold(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = normalised()

        def forward(self, x):
            return self.network(x) * (100 if x.dtype == torch.float64 else 1)

    x = X.astype("float32")
    kept = quietly(attribute, Twofold(), x, 0, "deep_lift").values
    np.testing.assert_allclose(kept, quietly(attribute, normalised(), x, 0, "deep_lift").values, rtol=1e-4)
