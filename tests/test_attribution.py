"""Attribution against closed forms, hand-written DeepLIFT, autograd and captum where captum is right."""

import contextlib
import copy
import dataclasses
import pickle
import warnings

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from networks import SIZES, build
from torch import nn

from eegxai_support.attribution import METHODS, Attribution, BaselineWarning, attribute, make_baseline
from eegxai_support.decoders import predict
from eegxai_support.model import UnsupportedOperation
from eegxai_support.spectral import frequency_relevance

N_CHANNELS, N_TIMES, N_TRIALS = SIZES["n_chans"], SIZES["n_times"], 5
NETWORKS = ("EEGNet", "ShallowFBCSPNet", "Deep4Net", "InterpretableCNN")
OPTIONS = {  # fewer samples than by default, for speed
    "integrated_gradients": {"n_steps": 8, "max_steps": 16},
    "expected_gradients": {"n_samples": 8},
    "smooth_grad": {"n_samples": 4},
    "kernel_shap": {"n_samples": 8},
}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")
OTHER = RNG.standard_normal((N_TRIALS, N_CHANNELS, N_TIMES)).astype("float32")


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


def test_a_channel_that_the_network_does_not_read_gets_nothing(shallow):
    model = build("ShallowFBCSPNet")
    with torch.no_grad():
        model.conv_time_spat.conv_spat.weight[..., 1] = 0
    for method in ("gradient", "deep_lift", "integrated_gradients"):
        assert not attribute(model, X, 0, method).values[:, 1].any()


@pytest.mark.parametrize(("method", "captum"), [("saliency", Saliency), ("input_x_gradient", InputXGradient)])
def test_gradient_methods_equal_captum(network, method, captum):
    expected = captum(network).attribute(torch.tensor(X, requires_grad=True), target=1).detach().numpy()
    ours = attribute(network, X, 1, method).values
    np.testing.assert_allclose(ours, expected, atol=1e-5 * abs(expected).max())


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


def test_integrated_gradients_take_the_spread_with_the_smaller_delta(shallow):
    options = {"n_steps": 4, "max_steps": 4}
    delta = {
        path: abs(attribute_quietly(shallow, X, "integrated_gradients", path=path, **options).delta)
        for path in ("linear", "exponential", None)
    }
    assert not np.allclose(delta["linear"], delta["exponential"])
    np.testing.assert_allclose(delta[None], np.minimum(delta["linear"], delta["exponential"]), rtol=1e-4)


def test_integrated_gradients_spread_exponentially_reach_log_power():
    """f = sum_c w_c log(mean x_c² + e): what a channel's values sum to is its own summand, for any path."""
    weight = np.array([1.0, -2.0, 0.5])

    class OfLogPower(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(weight[:, None]))

        def forward(self, x):
            return (x.square().mean(2) + 1e-6).log() @ self.weight

    x = RNG.standard_normal((4, 3, 50))
    expected = weight * np.log((x**2).mean(2) / 1e-6 + 1)
    options = {"n_steps": 16, "tol": np.inf}
    by_path = {
        path: attribute(OfLogPower(), x, 0, "integrated_gradients", path=path, **options).values.sum(2)
        for path in ("linear", "power", "exponential")
    }
    miss = {path: abs(values / expected - 1).max() for path, values in by_path.items()}
    assert miss["exponential"] < 1e-3 < miss["power"] < 0.01 < miss["linear"]


def test_integrated_gradients_refine_until_the_map_stays_where_its_errors_cancel():
    """Two channels that pull against each other: the delta is zero from the first quadrature on, the map is wrong."""

    class Steps(nn.Module):
        def forward(self, x):
            step = torch.sigmoid(40 * (x - 0.6)).mean(2)
            return step[:, :1] - step[:, 1:]

    x = np.ones((1, 2, 3))
    coarse = attribute(Steps(), x, 0, "integrated_gradients", n_steps=4, max_steps=4)
    refined = attribute(Steps(), x, 0, "integrated_gradients", n_steps=4)
    assert abs(coarse.delta).max() < 1e-6 and abs(coarse.values[0, 0].sum() - 1) > 0.1
    np.testing.assert_allclose(refined.values.sum(2), [[1, -1]], rtol=0.01)


def test_incomplete_maps_warn_with_method_model_and_worst_trial():
    with pytest.warns(UserWarning, match=r"integrated_gradients on ShallowFBCSPNet: in .* worst is trial \d, delta"):
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
    """With 4 nodes all powers are normal numbers; nearer to the baseline, with others, they become zero."""
    x = 1e-17 * X
    coarse = attribute_quietly(LogPower(), x, "integrated_gradients", n_steps=4, max_steps=4, path="linear")
    assert np.isfinite(coarse.values).all()
    dense = attribute_quietly(LogPower(), x, "integrated_gradients", n_steps=64, max_steps=64, path="power")
    assert not np.isfinite(dense.values).any()
    refined = attribute_quietly(LogPower(), x, "integrated_gradients", n_steps=4, max_steps=64)
    np.testing.assert_array_equal(refined.values, coarse.values)


def attribute_quietly(model, x, method, *, target=0, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(model, x, target, method, **options)


def test_complete_maps_do_not_warn(network):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attribute(network, X, 0, "deep_lift", baseline=OTHER)


class Opinion(nn.Module):
    """A bias of `strength` for output 1, whatever the trial."""

    def __init__(self, strength, only_of_silence=False):
        super().__init__()
        self.bias, self.only_of_silence = nn.Parameter(torch.tensor([0.0, strength, 0.0])), only_of_silence

    def forward(self, x):
        here = (-9 * x.square().mean((1, 2))).exp()[:, None] if self.only_of_silence else 1
        return x.mean(2) + self.bias * here


def test_a_network_that_is_confident_at_the_baseline_is_named():
    with pytest.warns(BaselineWarning, match=r"deep_lift on Opinion: .* 0\.98.*baseline='phase_scrambled': compare"):
        attribute(Opinion(5.0, only_of_silence=True), X, 0, "deep_lift")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        everywhere = attribute(Opinion(5.0), X, 0, "deep_lift")  # nobody could act on it
        assert everywhere.at_baseline == pytest.approx(torch.tensor([0.0, 5.0, 0.0]).softmax(0)[1].item(), abs=1e-6)
        attribute(Opinion(1.0), X, 0, "deep_lift")
        attribute(Opinion(5.0), X, 0, "gradient")  # compares with nothing
        attribute(Opinion(5.0), X, 0, "deep_lift", baseline=OTHER)  # compares with trials


@pytest.mark.parametrize("kind", ["zero", "trial_mean", "phase_scrambled"])
def test_a_baseline_by_its_name(shallow, kind):
    named, given = (attribute_quietly(shallow, X, "deep_lift", baseline=b) for b in (kind, make_baseline(X, kind)))
    np.testing.assert_array_equal(named.values, given.values)
    np.testing.assert_array_equal(named.baseline, given.baseline)


def test_large_maps_are_multiplied_on_demand(shallow, monkeypatch):
    eager = attribute_quietly(shallow, X, "deep_lift", baseline=OTHER)
    monkeypatch.setattr("eegxai_support.attribution.core.LARGE", 0)
    x = X.copy()
    late, too_late = (attribute_quietly(shallow, x, "deep_lift", baseline=OTHER) for _ in range(2))
    assert "values" not in vars(late)
    for field in ("values", "multiplier", "baseline", "delta"):
        np.testing.assert_array_equal(getattr(late, field), getattr(eager, field))
    x *= 2
    np.testing.assert_array_equal(late.values, eager.values)
    with pytest.raises(RuntimeError, match="changed after"):
        _ = too_late.values


@pytest.mark.parametrize("large", [False, True])
def test_attributions_of_any_size_are_copied_and_replaced_alike(shallow, monkeypatch, large):
    expected = attribute_quietly(shallow, X, "deep_lift", baseline=OTHER)
    monkeypatch.setattr("eegxai_support.attribution.core.LARGE", 0 if large else 2**29)

    def explained():
        return attribute_quietly(shallow, X, "deep_lift", baseline=OTHER)

    pickled = pickle.loads(pickle.dumps(explained()))
    for one in (copy.copy(explained()), copy.deepcopy(explained()), pickled, dataclasses.replace(explained())):
        for field in dataclasses.fields(Attribution):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(expected, field.name))
        assert frequency_relevance(one, X).shape[:2] == X.shape[:2]
    renamed = dataclasses.replace(explained(), target="left", values=2 * expected.values)
    assert renamed.target == "left" and renamed.method == "deep_lift"
    np.testing.assert_array_equal(renamed.values, 2 * expected.values)
    np.testing.assert_array_equal(renamed.multiplier, expected.multiplier)


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch):
    """As a GPU would: batches of more than two trials do not fit."""

    class Small(Opinion):
        largest = 0

        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            Small.largest = max(Small.largest, len(x))
            return super().forward(x.square())

    for method in ("gradient", "integrated_gradients", "deep_lift"):
        expected = attribute_quietly(Small(1.0), X, method, batch_size=1).values
        np.testing.assert_allclose(attribute_quietly(Small(1.0), X, method, batch_size=64).values, expected, rtol=1e-6)
    assert Small.largest == 2
    monkeypatch.setattr(Small, "forward", lambda self, x: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        attribute(Small(1.0), X, 0, "gradient")


# --- one trial at a time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_no_result_depends_on_the_batch(network, method):
    if not METHODS[method].applies_to(network):
        pytest.skip(f"{method} does not apply to {type(network).__name__}")
    model = build(type(network).__name__, torch.float64)
    options = OPTIONS.get(method, {}) | ({"baseline": OTHER} if METHODS[method].many_baselines else {})
    together, one_by_one, two = (
        attribute_quietly(model, X[:3], method, target=[0, 1, 2], batch_size=n, **options).values for n in (64, 1, 2)
    )
    alone = attribute_quietly(model, X[:1], method, **options).values
    for other in (one_by_one, two):
        np.testing.assert_allclose(other, together, atol=1e-10 * abs(together).max())
    np.testing.assert_allclose(alone, together[:1], atol=1e-10 * abs(together).max())


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_given_back_as_it_was(network, method):
    network.train()
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    attributes = [set(vars(module)) for module in network.modules()]
    with torch.no_grad(), contextlib.suppress(UnsupportedOperation):
        attribute_quietly(network, X, method, **OPTIONS.get(method, {}))
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad and (p.grad == 1).all() for p in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert attributes == [set(vars(module)) for module in network.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in network.modules())
    network.eval().zero_grad()


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
        if not method.applies_to(network):
            with pytest.raises(UnsupportedOperation):
                attribute(network, X, 0, name)
            continue
        result = attribute_quietly(network, X, name, **OPTIONS.get(name, {}))
        assert (result.multiplier is not None) == method.linear_in_input
        assert (result.delta is not None) == (method.conserves or result.kept is not None)
        assert (result.kept is not None) == name.startswith("lrp_")
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
        ((X, 0, "deep_lift"), {"baseline": "zeros"}, ValueError, "Did you mean 'zero'"),
        ((X, 0, "deep_lift_shap"), {"baseline": "trial_mean"}, ValueError, "give an array"),
        ((X, 0, "deep_lift"), {"baseline": OTHER[:2]}, ValueError, "one baseline per trial"),
        ((X, 0, "deep_lift"), {"baseline": OTHER[:, :, :50]}, ValueError, "baseline has 50 samples"),
        ((X, 0, "integrated_gradients"), {"path": "curved"}, ValueError, "path is 'curved'"),
        ((X, 0, "integrated_gradients"), {"n_steps": 0}, ValueError, "n_steps is 0"),
        ((X, 0, "gradient"), {"batch_size": 0}, ValueError, "batch_size is 0"),
        ((X, 0, "gradient"), {"steps": 3}, TypeError, "no option 'steps'; expected none at all"),
        ((X, 0, "integrated_gradients"), {"steps": 3}, TypeError, "no option 'steps'; expected n_steps, .*path"),
        ((X[:, :2], 0, "gradient"), {}, ValueError, "2 channels"),
        ((X * np.nan, 0, "gradient"), {}, ValueError, "NaN"),
    ],
)
def test_bad_input(shallow, arguments, options, error, message):
    x, target, method = arguments
    with pytest.raises(error, match=message):
        attribute(shallow, x, target, method, **options)


def test_dense_outputs_are_refused():
    with pytest.raises(ValueError, match="Average what it says of crops over time"):
        attribute(nn.Identity(), X, 0, "gradient")


# --- unusual models and surroundings ----------------------------------------------------------------------------------


class Unusual(nn.Module):
    """A linear readout with something odd before it."""

    def __init__(self, odd):
        super().__init__()
        self.odd, self.linear, self.calls = odd, nn.Linear(N_TIMES, 3), 0
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, x):
        self.n_calls += 1
        self.last = x = self.odd(x)
        return self.linear(x).mean(1)


ALL = ("gradient", "integrated_gradients", "deep_lift", "lrp_epsilon", "channel_ablation", "random")


@pytest.mark.parametrize("method", ALL)
def test_a_model_that_writes_into_its_input_spoils_nothing(method):
    model = Unusual(lambda x: x.sub_(x.mean(2, keepdim=True)))
    x = X.copy()
    values = attribute_quietly(model, x, method).values
    np.testing.assert_array_equal(x, X)
    expected = attribute_quietly(model, x, method, batch_size=1).values
    np.testing.assert_allclose(values, expected, atol=1e-6 * abs(expected).max())
    assert model.n_calls == 0 and not hasattr(model, "last")


@pytest.mark.parametrize("method", ALL)
def test_within_no_grad_and_inference_mode(shallow, method):
    expected = attribute_quietly(shallow, X, method).values
    with torch.inference_mode():
        inside = attribute_quietly(shallow, torch.tensor(X), method).values
    np.testing.assert_array_equal(inside, expected)


def test_in_place_elu_counts_for_what_follows():
    """y = elu(x) in place, then elu(x) + x: the sum is twice the ELU."""
    model = Unusual(lambda x: (y := 2 * x, nn.functional.elu(y, inplace=True) + y)[1])
    model.elu = nn.ELU(inplace=True)
    module = Unusual(lambda x: (y := 2 * x, model.elu(y) + y)[1])
    module.load_state_dict(model.state_dict())
    one, other = (attribute(each, X, 0, "deep_lift", baseline=OTHER) for each in (model, module))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
    np.testing.assert_allclose(one.values.sum((1, 2)), change(model, X, OTHER, 0), atol=1e-5)


def test_a_simplified_model_that_is_another_function_is_not_used(shallow, monkeypatch):
    monkeypatch.setattr(
        "eegxai_support.attribution.problem.simplify", lambda model, x, extra: build("ShallowFBCSPNet").train()
    )
    expected = attribute_quietly(build("ShallowFBCSPNet"), X, "deep_lift")
    other = attribute_quietly(shallow, X, "deep_lift")
    np.testing.assert_allclose(other.values, expected.values, atol=1e-5 * abs(expected.values).max())


def test_trials_that_are_not_apart_are_reported():
    with pytest.warns(UserWarning, match="another output when the second one is in the same batch"):
        attribute(Unusual(lambda x: x - x.mean(0)), X, 0, "gradient")


@pytest.mark.parametrize("method", ["deep_lift", "lrp_epsilon", "guided_backprop"])
def test_scripted_models_are_refused_where_functions_must_be_seen(method):
    model = nn.Sequential(torch.jit.script(nn.ELU()), nn.Flatten(), nn.Linear(N_CHANNELS * N_TIMES, 3))
    with pytest.raises(UnsupportedOperation, match="compiled or scripted"):
        attribute(model, X, 0, method)
    attribute(model, X, 0, "gradient")


def test_odd_arrays(shallow):
    expected = attribute(shallow, X, 0, "gradient").values
    frozen = X.copy()
    frozen.flags.writeable = False
    for odd in (frozen, X[::-1].copy()[::-1], X.astype(">f4")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(attribute(shallow, odd, 0, "gradient").values, expected)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: (x.mean(2), x), TypeError, "returns tuple"),
        (lambda x: x.mean(2).squeeze(), ValueError, "Keep the axis of trials"),
    ],
)
def test_outputs_of_another_form_are_refused(function, error, message):
    class Other(nn.Module):
        def forward(self, x):
            return function(x)

    with pytest.raises(error, match=message):
        attribute(Other(), X, 0, "gradient")


def test_a_target_cut_off_the_outputs_is_refused(shallow):
    with pytest.raises(ValueError, match="cuts its result off"):
        attribute(shallow, X, lambda outputs: outputs.detach()[:, 0], "gradient")
