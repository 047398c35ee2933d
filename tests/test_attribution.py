"""Attribution against closed forms, hand-written DeepLIFT, autograd and captum where captum is right."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, IntegratedGradients
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import nn

from eegxai_support.attribution import METHODS, UnsupportedOperation, attribute
from eegxai_support.attribution.simplify import simplify
from eegxai_support.decoders import InterpretableCNN, predict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import ATCNet, Deep4Net, EEGConformer, EEGNet, ShallowFBCSPNet

N_CHANNELS, N_TIMES, N_CLASSES, N_TRIALS = 3, 120, 3, 5
SIZES = {"n_chans": N_CHANNELS, "n_outputs": N_CLASSES, "n_times": N_TIMES}
NETWORKS = {
    "EEGNet": lambda: EEGNet(**SIZES, kernel_length=16),
    "ShallowFBCSPNet": lambda: ShallowFBCSPNet(
        **SIZES, n_filters_time=4, n_filters_spat=4, filter_time_length=9, pool_time_length=20, pool_time_stride=5
    ),
    "Deep4Net": lambda: Deep4Net(
        **SIZES, n_filters_time=4, n_filters_spat=4, n_filters_2=4, n_filters_3=4, n_filters_4=4, pool_time_length=2,
        pool_time_stride=2, filter_time_length=5, filter_length_2=5, filter_length_3=5, filter_length_4=5,
    ),
    "InterpretableCNN": lambda: InterpretableCNN(**SIZES, n_spatial=4, kernel_length=16),
}  # fmt: skip
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")
OTHER = RNG.standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")


def build(name, dtype=torch.float32):
    """Build a network whose batch norms have seen data."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = NETWORKS[name]().train()
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(32, N_CHANNELS, N_TIMES))
    return model.eval().to(dtype)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return build(request.param)


@pytest.fixture(scope="module")
def shallow():
    return build("ShallowFBCSPNet")


def change(model, x, baseline, target):
    outputs = predict(model, x) - predict(model, np.zeros_like(x) + baseline)
    return outputs[:, target]


class Quadratic(nn.Module):
    """f(x) = sum_t a_t x_t² + b_t x_t on one channel: every method has a closed form."""

    def __init__(self, n_times=6):
        super().__init__()
        rng = np.random.default_rng(1)
        self.a = nn.Parameter(torch.as_tensor(rng.standard_normal(n_times)))
        self.b = nn.Parameter(torch.as_tensor(rng.standard_normal(n_times)))

    def forward(self, x):
        return (self.a * x**2 + self.b * x).sum(2)


def quadratic():
    model, rng = Quadratic(), np.random.default_rng(2)
    x, baseline = rng.standard_normal((2, 4, 1, 6))
    return model, x, baseline, model.a.detach().numpy(), model.b.detach().numpy()


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_gradient_methods_in_closed_form():
    model, x, _, a, b = quadratic()
    gradient = 2 * a * x + b
    np.testing.assert_allclose(attribute(model, x, 0, "gradient").values, gradient, rtol=1e-12)
    np.testing.assert_allclose(attribute(model, x, 0, "saliency").values, abs(gradient), rtol=1e-12)
    result = attribute(model, x, 0, "input_x_gradient")
    np.testing.assert_allclose(result.values, gradient * x, rtol=1e-12)
    np.testing.assert_allclose(result.multiplier, gradient, rtol=1e-12)
    assert result.values.dtype == np.float64
    assert result.delta is None


@pytest.mark.parametrize(("path", "n_steps"), [("linear", 1), ("power", 4)])
def test_integrated_gradients_are_exact_with_the_fewest_nodes_that_suffice(path, n_steps):
    """n Gauss nodes integrate degree 2 n - 1: degree 1 on the line, 4 + 3 = 7 after the substitution."""
    model, x, baseline, a, b = quadratic()
    options = {"n_steps": n_steps, "path": path, "tol": np.inf}
    result = attribute(model, x, 0, "integrated_gradients", baseline=baseline, **options)
    multiplier = a * (x + baseline) + b
    np.testing.assert_allclose(result.multiplier, multiplier, rtol=1e-11)
    np.testing.assert_allclose(result.values, multiplier * (x - baseline), rtol=1e-11)
    np.testing.assert_allclose(result.delta, 0, atol=1e-12)


def hand_network():
    """Two inputs, three hidden units with three nonlinearities, one output."""
    rng = np.random.default_rng(3)
    weight, bias, out = rng.standard_normal((3, 2)), rng.standard_normal(3), rng.standard_normal(3)

    class Hand(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.out = nn.Linear(2, 3).double(), nn.Linear(3, 1, bias=False).double()
            self.elu, self.gelu, self.relu = nn.ELU(), nn.GELU(), nn.ReLU()
            with torch.no_grad():
                self.linear.weight.copy_(torch.as_tensor(weight))
                self.linear.bias.copy_(torch.as_tensor(bias))
                self.out.weight.copy_(torch.as_tensor(out[None]))

        def forward(self, x):
            z = self.linear(x[:, :, 0])
            h = torch.stack([self.elu(z[:, 0]), self.gelu(z[:, 1]), self.relu(z[:, 2])], 1)
            return self.out(h)

    return Hand(), weight, bias, out


def test_deep_lift_equals_multipliers_written_by_hand():
    model, weight, bias, out = hand_network()
    x, baseline = np.random.default_rng(4).standard_normal((2, 6, 2, 1))
    phi = np.vectorize(lambda z: (1 + torch.erf(torch.tensor(z / np.sqrt(2), dtype=torch.float64)).item()) / 2)
    activations = (lambda z: z if z > 0 else np.expm1(z), lambda z: z * phi(z), lambda z: max(z, 0.0))
    expected = np.zeros_like(x)
    for trial in range(len(x)):
        for unit, activation in enumerate(activations):
            z = weight[unit] @ x[trial, :, 0] + bias[unit]
            z0 = weight[unit] @ baseline[trial, :, 0] + bias[unit]
            secant = (activation(z) - activation(z0)) / (z - z0)
            for channel in range(2):
                expected[trial, channel, 0] += out[unit] * secant * weight[unit, channel]
    result = attribute(model, x, 0, "deep_lift", baseline=baseline)
    np.testing.assert_allclose(result.multiplier, expected, rtol=1e-10)
    np.testing.assert_allclose(result.values, expected * (x - baseline), rtol=1e-10)


# --- completeness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [None, OTHER, OTHER[0]], ids=["zeros", "per trial", "one"])
@pytest.mark.parametrize("name", NETWORKS)
def test_deep_lift_is_complete(name, baseline):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        model = build(name, dtype)
        result = attribute(model, X, 1, "deep_lift", baseline=baseline)
        expected = change(model, X, np.zeros(1) if baseline is None else baseline, 1)
        np.testing.assert_array_less(abs(result.values.sum((1, 2)) - expected), tolerance * abs(expected).max())
        np.testing.assert_allclose(
            result.delta, result.values.sum((1, 2), dtype=float) - expected, atol=1e-5 * abs(expected).max()
        )


def test_deep_lift_of_braindecode_is_input_x_gradient_and_ours_is_not(shallow):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = DeepLift(shallow).attribute(torch.tensor(X), target=1).detach().numpy()
    product = attribute(shallow, X, 1, "input_x_gradient").values
    ours = attribute(shallow, X, 1, "deep_lift").values
    np.testing.assert_allclose(captum, product, atol=1e-5 * abs(product).max())
    assert np.abs(ours - product).max() > 0.1 * np.abs(product).max()


@pytest.mark.parametrize("name", ["EEGNet", "InterpretableCNN"])
def test_deep_lift_equals_captum_where_captum_is_right(name):
    model = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = DeepLift(model).attribute(torch.tensor(X), target=1).detach().numpy()
    ours = attribute(model, X, 1, "deep_lift").values
    np.testing.assert_allclose(ours, captum, atol=1e-5 * abs(captum).max())


def test_activation_and_max_pool_side_by_side():
    """captum 0.9.0 gives an activation that is followed by a max pool the wrong gradient; here by hand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.ELU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(10, 1)).double()
    x, baseline = np.random.default_rng(5).standard_normal((2, 4, 1, 20))
    weight, expected = model[3].weight.detach().numpy()[0], np.zeros_like(x)
    for trial in range(4):
        for window in range(10):
            z, z0 = (np.where(v > 0, v, np.expm1(v))[trial, 0, 2 * window : 2 * window + 2] for v in (x, baseline))
            higher = max(z.max(), z0.max())
            expected[trial, 0, 2 * window + z.argmax()] += weight[window] * (higher - z0.max())
            expected[trial, 0, 2 * window + z0.argmax()] += weight[window] * (z.max() - higher)
    values = attribute(model, x, 0, "deep_lift", baseline=baseline).values
    np.testing.assert_allclose(values, expected, atol=1e-12)
    np.testing.assert_allclose(values.sum((1, 2)), change(model, x, baseline, 0), rtol=1e-10)


def test_a_channel_that_the_network_does_not_read_gets_nothing(shallow):
    model = build("ShallowFBCSPNet")
    with torch.no_grad():
        model.conv_time_spat.conv_spat.weight[..., 1] = 0
    for method in ("gradient", "deep_lift", "integrated_gradients"):
        assert not attribute(model, X, 0, method).values[:, 1].any()


def test_integrated_gradients_equal_captum(network):
    captum = IntegratedGradients(network).attribute(
        torch.tensor(X), torch.tensor(OTHER), target=2, n_steps=10, method="gausslegendre"
    )
    options = {"n_steps": 10, "path": "linear", "tol": np.inf}
    ours = attribute(network, X, 2, "integrated_gradients", baseline=OTHER, **options).values
    np.testing.assert_allclose(ours, captum.detach().numpy(), atol=1e-5 * abs(ours).max())


def test_integrated_gradients_refine_until_the_delta_is_small(shallow):
    expected = abs(change(shallow, X, np.zeros(1), 0))
    coarse = attribute(shallow, X, 0, "integrated_gradients", n_steps=4, path="linear", tol=np.inf)
    fine = attribute(shallow, X, 0, "integrated_gradients", n_steps=4)
    assert (abs(coarse.delta) > 0.02 * expected).any()
    scale = np.maximum(expected, 0.01 * abs(predict(shallow, X)[:, 0]))
    assert (abs(fine.delta) <= 0.0101 * scale).all()


def test_incomplete_maps_warn_with_method_model_and_worst_trial():
    class Product(nn.Module):
        def forward(self, x):  # a product has no rule in captum
            return (x[:, 0] * x[:, 1]).sum(1, keepdim=True)

    x = X.copy()
    x[:, 1] = 1 + 0.1 * x[:, 1]
    with pytest.warns(UserWarning, match=r"deep_lift on Product: in 5 of 5 trials .* worst is trial \d"):
        result = attribute(Product(), x, 0, "deep_lift")
    np.testing.assert_allclose(result.delta, (x[:, 0] * x[:, 1]).sum(1), rtol=1e-4)  # input × gradient counts it twice
    with pytest.warns(UserWarning, match="integrated_gradients on ShallowFBCSPNet"):
        attribute(build("ShallowFBCSPNet"), X, 0, "integrated_gradients", n_steps=1, max_steps=1, tol=1e-4)


class LogPower(nn.Module):
    """The logarithm of each channel's power, without a floor: minus infinity at the baseline of zeros."""

    def forward(self, x):
        return x.square().mean(2).log()


@pytest.mark.parametrize("method", ["deep_lift", "integrated_gradients"])
def test_an_output_that_is_not_finite_warns(method):
    with pytest.warns(UserWarning, match=rf"{method} on LogPower: in 5 of 5 trials .* not finite.* first is trial 0"):
        result = attribute(LogPower(), X, 0, method)
    assert not np.isfinite(result.delta).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(LogPower(), X, 0, "integrated_gradients", baseline=OTHER / 100)


def test_a_map_that_is_not_finite_warns_and_names_the_first_trial():
    x = X.copy()
    x[3, 0] = 0
    with pytest.warns(UserWarning, match=r"gradient on LogPower: in 1 of 5 trials .* first is trial 3"):
        attribute(LogPower(), x, 0, "gradient")


def test_integrated_gradients_never_give_up_a_finite_map_for_one_that_is_not():
    """With 4 nodes all powers are normal numbers; next to the baseline, with t⁴ or more nodes, they become zero."""
    x = 1e-17 * X
    coarse = attribute_quietly(LogPower(), x, "integrated_gradients", n_steps=4, max_steps=4, path="linear")
    assert np.isfinite(coarse.values).all()
    dense = attribute_quietly(LogPower(), x, "integrated_gradients", n_steps=64, max_steps=64, path="power")
    assert not np.isfinite(dense.values).any()
    refined = attribute_quietly(LogPower(), x, "integrated_gradients", n_steps=4, max_steps=64)
    np.testing.assert_array_equal(refined.values, coarse.values)


def attribute_quietly(model, x, method, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(model, x, 0, method, **options)


def test_complete_maps_do_not_warn(network):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(network, X, 0, "deep_lift")


# --- one trial at a time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_no_result_depends_on_the_batch(network, method):
    options = {"n_steps": 8, "max_steps": 16, "tol": 1e-2} if method == "integrated_gradients" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together, one_by_one, three = (
            attribute(network, X, [0, 1, 2, 0, 1], method, batch_size=n, **options).values for n in (64, 1, 3)
        )
        alone = attribute(network, X[:1], 0, method, **options).values
    for other in (one_by_one, three):
        np.testing.assert_allclose(other, together, atol=1e-6 * abs(together).max())
    np.testing.assert_allclose(alone, together[:1], atol=1e-6 * abs(together).max())


def test_softmax_does_not_mix_trials():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softmax(1), nn.Linear(4, 2)).double()
    x = RNG.standard_normal((4, 3, 4))
    together, alone = attribute(model, x, 0, "deep_lift"), attribute(model, x[:1], 0, "deep_lift")
    np.testing.assert_allclose(together.values[:1], alone.values, rtol=1e-10)
    np.testing.assert_allclose(together.delta, 0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_model_and_captum_are_given_back_as_they_were(network, method):
    network.train()
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    attributes = [set(vars(module)) for module in network.modules()]
    rules = dict(SUPPORTED_NON_LINEAR)
    with torch.no_grad():
        attribute(network, X, 0, method)
    assert rules == SUPPORTED_NON_LINEAR
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad and (p.grad == 1).all() for p in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert attributes == [set(vars(module)) for module in network.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in network.modules())
    network.eval().zero_grad()


def test_nothing_is_left_behind_after_an_exception(shallow):
    attributes = [set(vars(module)) for module in shallow.modules()]
    rules = dict(SUPPORTED_NON_LINEAR)
    calls = []

    def fails_in_the_explained_pass(outputs):
        calls.append(len(outputs))
        if len(calls) == 1:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        attribute(shallow, X, fails_in_the_explained_pass, "deep_lift")
    assert attributes == [set(vars(module)) for module in shallow.modules()]
    assert rules == SUPPORTED_NON_LINEAR
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in shallow.modules())


def test_the_faster_layers_compute_the_same(network):
    model = build(type(network).__name__, torch.float64)
    x = torch.as_tensor(X).double()
    expected = model(x)
    torch.testing.assert_close(simplify(model)(x), expected, rtol=1e-10, atol=1e-10)


# --- targets and options ----------------------------------------------------------------------------------------------


def test_targets(network):
    one, two = (attribute(network, X, target, "gradient").values for target in (1, 2))
    scale = abs(one).max()
    per_trial = attribute(network, X, np.array([1, 2, 1, 2, 2]), "gradient").values
    np.testing.assert_allclose(
        per_trial, np.where(np.array([1, 0, 1, 0, 0])[:, None, None], one, two), atol=1e-6 * scale
    )
    difference = attribute(network, X, (1, 2), "gradient").values
    np.testing.assert_allclose(difference, one - two, atol=2e-6 * scale)
    np.testing.assert_allclose(attribute(network, X[:2], [1, 2], "gradient").values, per_trial[:2], atol=1e-6 * scale)
    called = attribute(network, X, lambda outputs: outputs[:, 1] - outputs[:, 2], "gradient").values
    np.testing.assert_allclose(called, difference, atol=2e-6 * scale)
    for given in (np.int64(1), torch.tensor(1), torch.full((N_TRIALS,), 1)):
        np.testing.assert_array_equal(attribute(network, X, given, "gradient").values, one)


def test_difference_is_complete(shallow):
    result = attribute(shallow, X, (0, 2), "deep_lift")
    outputs = predict(shallow, X) - predict(shallow, np.zeros_like(X))
    np.testing.assert_allclose(result.values.sum((1, 2)), outputs[:, 0] - outputs[:, 2], atol=1e-4)


def test_random_map_knows_only_its_seed(shallow):
    first, again, other = (attribute(shallow, X, None, "random", seed=seed).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1
    assert first.dtype == np.float32


def test_what_linear_means(network):
    for name, method in METHODS.items():
        result = attribute(network, X, 0, name)
        assert (result.multiplier is not None) == method.linear_in_input
        assert (result.delta is not None) == method.conserves
        assert result.values.shape == X.shape and result.values.dtype == np.float32
        if method.linear_in_input:
            np.testing.assert_allclose(result.values, result.multiplier * (X - result.baseline), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, 3, "gradient"), {}, ValueError, "outputs 0 … 2"),
        ((X, -1, "gradient"), {}, ValueError, "outputs 0 … 2"),
        ((X, (0, 3), "gradient"), {}, ValueError, "outputs 0 … 2"),
        ((X, [0, 1], "gradient"), {}, ValueError, "one per trial"),
        ((X, 0.5, "gradient"), {}, TypeError, "expected an output's index"),
        ((X, None, "gradient"), {}, TypeError, "expected an output's index"),
        ((X, lambda outputs: outputs, "gradient"), {}, ValueError, "one number per row"),
        ((X, 0, "DeepLIFT"), {}, ValueError, "Did you mean 'deep_lift'"),
        ((X, 0, "Saliency"), {}, ValueError, "Did you mean 'saliency'"),
        ((X, 0, "gradient"), {"baseline": OTHER}, ValueError, "takes no baseline"),
        ((X, 0, "deep_lift"), {"baseline": OTHER[:2]}, ValueError, "one baseline per trial"),
        ((X, 0, "deep_lift"), {"baseline": OTHER[:, :, :50]}, ValueError, "baseline has 50 samples"),
        ((X, 0, "integrated_gradients"), {"path": "curved"}, ValueError, "path is 'curved'"),
        ((X, 0, "integrated_gradients"), {"n_steps": 0}, ValueError, "n_steps is 0"),
        ((X, 0, "gradient"), {"batch_size": 0}, ValueError, "batch_size is 0"),
        ((X, 0, "gradient"), {"steps": 3}, TypeError, "steps"),
        ((X[:, :2], 0, "gradient"), {}, ValueError, "2 channels"),
        ((X * np.nan, 0, "gradient"), {}, ValueError, "NaN"),
    ],
)
def test_bad_input(shallow, arguments, options, error, message):
    x, target, method = arguments
    with pytest.raises(error, match=message):
        attribute(shallow, x, target, method, **options)


def test_dense_outputs_are_refused():
    with pytest.raises(ValueError, match="Average dense"):
        attribute(nn.Identity(), X, 0, "gradient")


def test_a_module_that_runs_twice_is_named():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared_activation = nn.ELU()

        def forward(self, x):
            return self.shared_activation(self.shared_activation(x) - 1).sum(1)[:, :2]

    model = Twice()
    with pytest.raises(UnsupportedOperation, match="shared_activation"):
        attribute(model, X, 0, "deep_lift")
    assert not {"input", "output"} & set(vars(model.shared_activation))
    with pytest.raises(UnsupportedOperation, match="ELU"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atcnet = ATCNet(3, 3, n_times=500, sfreq=125, input_window_seconds=4, n_windows=2)
        attribute(atcnet, RNG.standard_normal((2, 3, 500)), 0, "deep_lift")


def test_deep_lift_shows_what_it_misses_on_a_transformer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = EEGConformer(3, 3, n_times=200, n_filters_time=8, num_layers=1, num_heads=2).eval()
    x = RNG.standard_normal((3, 3, 200)).astype("float32")
    with pytest.warns(UserWarning, match="deep_lift on EEGConformer"):
        result = attribute(model, x, 0, "deep_lift")
    attribute(model, x, 0, "integrated_gradients", path="linear")  # all trials are done before all nodes are used
    expected = change(model, x, np.zeros(1), 0)
    np.testing.assert_allclose(result.delta, result.values.sum((1, 2)) - expected, atol=1e-4)
