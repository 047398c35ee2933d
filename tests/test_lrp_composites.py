"""Rules of LRP by layer, paths through conditioned layers, and what was kept: by hand, and by plain methods."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from networks import build
from torch import nn

from eegxai_support.attribution import attribute
from eegxai_support.attribution.lrp import lrp_alpha_beta, lrp_epsilon, lrp_gamma, lrp_z_plus
from eegxai_support.attribution.problem import Problem
from eegxai_support.attribution.targets import score_of
from eegxai_support.filters.concepts import concept_relevance
from eegxai_support.model import UnsupportedOperation, copied

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import EEGInceptionERP

LRP = {"lrp_epsilon": lrp_epsilon, "lrp_gamma": lrp_gamma, "lrp_alpha_beta": lrp_alpha_beta, "lrp_z_plus": lrp_z_plus}
X = np.random.default_rng(0).standard_normal((4, 3, 120))


def seeded(*layers):
    """Chain layers with random weights, statistics and biases in float64."""
    model, generator = nn.Sequential(*layers).eval().double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64))
                if name.endswith("running_var"):
                    value.square_().add_(0.5)
    return model


def values(model, method="lrp_epsilon", x=X, target=0, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(model, x, target, method, **options).values


def maps(model, compute, x=X, **options):
    """Return what a method hands to `attribute`."""
    x = torch.as_tensor(x)
    model = copied(model)
    problem = Problem(model, x, torch.zeros_like(x), False, score_of(0, len(x), model(x).shape[1]), 64)
    return compute(problem, **options)


@pytest.fixture(scope="module")
def eegnet():
    return build("EEGNet", torch.float64)


# --- rules by layer ---------------------------------------------------------------------------------------------------


def shares(rule, term, bias, parameters):
    """Return what of a relevance of 1 each term of a sum gets."""
    epsilon, gamma, alpha = (
        parameters.get(key, default) for key, default in (("epsilon", 1e-9), ("gamma", 0.25), ("alpha", 2))
    )
    z = term.sum() + bias
    if rule == "flat":
        return np.full(len(term), 1 / len(term))
    if rule in ("epsilon", "gamma"):
        gamma = gamma if rule == "gamma" else 0
        term, bias = (each * (1 + gamma * ((each >= 0) == (z >= 0))) for each in (term, bias))
        below = term.sum() + bias
        return term / (below + (epsilon if below >= 0 else -epsilon))
    alpha = alpha if rule == "alpha_beta" else 1
    up, down = term.clip(0), term.clip(None, 0)
    above, below = up.sum() + max(bias, 0), down.sum() + min(bias, 0)
    return alpha * up / above + (1 - alpha) * down / below


@pytest.mark.parametrize(
    "rules",
    [
        {"1": "flat", "3": "gamma", "5": "alpha_beta"},
        {"1": ("gamma", {"gamma": 2}), "3": ("alpha_beta", {"alpha": 3}), "5": ("epsilon", {"epsilon": 0.2})},
        {"1": "z_plus", "3": ("gamma", {"gamma": 0.5, "epsilon": 0.1})},
    ],
)
@pytest.mark.parametrize("method", LRP)
def test_rules_by_layer_by_hand(method, rules):
    """A chain of dense layers, where no method's own rule but epsilon acts, with loops over units."""
    model = seeded(nn.Flatten(), nn.Linear(12, 6), nn.ELU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    x = np.random.default_rng(1).standard_normal((5, 3, 4))
    expected = []
    for trial in x:
        tape, activation = {}, trial.ravel()
        for name, layer in model.named_children():
            if isinstance(layer, nn.Linear):
                tape[name] = layer.weight.detach().numpy(), layer.bias.detach().numpy(), activation
            activation = layer(torch.as_tensor(activation)[None])[0].detach().numpy()
        relevance = np.where(np.arange(2) == 1, activation, 0)
        for name, (weight, bias, below) in reversed(tape.items()):
            rule, parameters = rules[name] if isinstance(rules.get(name), tuple) else (rules.get(name, "epsilon"), {})
            relevance = sum(
                amount * shares(rule, weight[unit] * below, bias[unit], parameters)
                for unit, amount in enumerate(relevance)
            )
        expected.append(relevance.reshape(3, 4))
    np.testing.assert_allclose(values(model, method, x, 1, rules=rules), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("base", LRP)
@pytest.mark.parametrize("method", LRP)
def test_all_convolutions_with_a_rule_are_the_method_of_that_rule(eegnet, method, base):
    rules = {"conv_*": method.removeprefix("lrp_"), "final_layer": method.removeprefix("lrp_")}
    np.testing.assert_array_equal(values(eegnet, base, rules=rules), values(eegnet, method))


def test_flat_by_name_is_the_flat_first_layer(eegnet):
    flat = values(eegnet, "lrp_gamma", first_layer="flat")
    np.testing.assert_array_equal(values(eegnet, "lrp_gamma", rules={"conv_temporal": "flat"}), flat)
    named = values(eegnet, "lrp_gamma", rules={"conv_temporal": "gamma"}, first_layer="flat")
    np.testing.assert_allclose(named, values(eegnet, "lrp_gamma"), rtol=1e-12)


def test_a_name_stands_for_all_layers_inside_and_the_first_match_counts():
    model = build("ShallowFBCSPNet", torch.float64)
    block, both = values(model, "lrp_gamma"), ("conv_time_spat.conv_time", "conv_time_spat.conv_spat")
    last = {"final_layer": "gamma"}
    for rules in ({"conv_time_spat": "gamma"}, dict.fromkeys(both, "gamma"), {"*.conv_????": "gamma"}):
        np.testing.assert_array_equal(values(model, rules=rules | last), block)
    first = values(model, rules={both[0]: "z_plus", "conv_time_spat": "gamma"})
    np.testing.assert_array_equal(first, values(model, rules={both[0]: "z_plus", both[1]: "gamma"}))
    report = attribute(model, X, 0, "lrp_epsilon", rules={both[0]: "gamma"}).report
    assert set(report["rule"][report["layer"].str.startswith(both[0])]) == {"gamma"}


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({"conv_spatia": "gamma"}, ValueError, "Did you mean 'conv_spatial'"),
        ({"conv_x*": "gamma"}, ValueError, "layer"),
        ({"conv_spatial": "gama"}, ValueError, "Did you mean 'gamma'"),
        ({"conv_spatial": ("gamma", {"alpha": 2})}, TypeError, "'alpha'; its parameters are epsilon, gamma"),
        ({"conv_spatial": ("z_plus", {"alpha": 2})}, TypeError, "'alpha'; its parameters are epsilon"),
        ({"conv_spatial": ("gamma", {"gamma": -1})}, ValueError, "gamma is -1"),
        ({"conv_spatial": ("alpha_beta", {"alpha": 0.5})}, ValueError, "alpha is 0.5"),
        ({"conv_spatial": ("epsilon", {"epsilon": 0})}, ValueError, "epsilon is 0"),
        ({"conv_spatial": "flat"}, UnsupportedOperation, "flat rule is for a layer that reads the trials"),
        ({"bnorm_1": "gamma"}, UnsupportedOperation, "bnorm_1 act on nothing"),
        ({"pool_1": "gamma"}, UnsupportedOperation, "pool_1 act on nothing"),
        ({"*": "gamma", "conv_spatial": "epsilon"}, UnsupportedOperation, "an earlier pattern of `rules` took it"),
    ],
)
def test_bad_rules(eegnet, rules, error, message):
    with pytest.raises(error, match=message):
        attribute(eegnet, X, 0, "lrp_epsilon", rules=rules)


# --- batch norm after a transposed convolution ------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", LRP)
def test_batch_norm_is_folded_into_a_transposed_convolution(method, groups):
    up, norm = nn.ConvTranspose1d(4, 6, 5, stride=2, groups=groups), nn.BatchNorm1d(6)
    model = seeded(nn.Conv1d(3, 4, 3), nn.ELU(), up, nn.Dropout(), norm, nn.ELU(), nn.Flatten(), nn.Linear(6 * 239, 2))
    folded, scale = deepcopy(up), (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    with torch.no_grad():
        for group in range(groups):
            rows, filters = slice(4 // groups * group, 4 // groups * (group + 1)), 6 // groups
            folded.weight[rows] *= scale[filters * group : filters * (group + 1), None]
        folded.bias.copy_((up.bias - norm.running_mean) * scale + norm.bias)
    by_hand = nn.Sequential(*model[:2], folded, *model[5:])
    torch.testing.assert_close(by_hand(torch.as_tensor(X)), model(torch.as_tensor(X)))
    result = attribute(model, X, 0, method)
    np.testing.assert_allclose(result.values, values(by_hand, method), rtol=1e-8, atol=1e-11)
    assert "2 + 4" in set(result.report["layer"])


# --- what was kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute", LRP.values(), ids=LRP)
@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet"])
def test_map_and_what_was_kept_sum_to_the_output(name, compute):
    model = build(name, torch.float64)
    for options in ({}, {"first_layer": "flat"}, {"rules": {"conv_*": "z_plus"}}):
        found = maps(model, compute, **options)
        total = (found.multiplier * torch.as_tensor(X) if found.values is None else found.values).sum((1, 2))
        assert found.kept.dtype == torch.float64
        torch.testing.assert_close(total + found.kept, model(torch.as_tensor(X))[:, 0].detach(), rtol=1e-5, atol=1e-6)
    layer = "conv_spatial" if name == "EEGNet" else "bnorm"
    assert maps(model, compute, conditions={layer: 0}).kept is None


def test_what_epsilon_takes_was_not_kept():
    model = seeded(nn.Flatten(), nn.Linear(360, 2))
    with pytest.warns(UserWarning, match="smaller epsilon"):
        found = maps(model, lrp_epsilon, epsilon=10.0)
    output, bias = model(torch.as_tensor(X))[:, 0].detach(), model[1].bias[0].detach()
    share = output / (output + 10 * output.sign())
    torch.testing.assert_close(found.kept, share * bias, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("function", [torch.sigmoid, torch.cos, torch.exp])
def test_what_a_function_is_at_zero_counts_as_a_constant(function):
    class Silent(nn.Module):
        def forward(self, x):
            return function(x * torch.tensor([1.0, 0, 1])[:, None]).mean(2)

    x = torch.as_tensor(X)
    problem = Problem(Silent(), x, torch.zeros_like(x), False, score_of(1, len(x), 3), 64)
    np.testing.assert_allclose(lrp_epsilon(problem).kept, function(torch.zeros(())).item())


def test_advice_follows_the_cause_of_a_loss():
    shallow = build("ShallowFBCSPNet")
    x = X.astype("float32")
    with pytest.warns(
        UserWarning, match=r"Most is lost in '[a-z_.]+[^']*' \(\w+, epsilon rule\): a smaller epsilon than 1"
    ):
        attribute(shallow, x, 0, "lrp_epsilon", epsilon=1.0)
    cancelling = seeded(nn.Flatten(), nn.Linear(360, 4), nn.Linear(4, 2))
    with torch.no_grad():
        cancelling[1].weight[:] = 1e-11 * cancelling[1].weight
    with pytest.warns(UserWarning, match=r"Most is lost in '1' .*use bias='keep'") as caught:
        attribute(cancelling, X, 0, "lrp_epsilon", bias="share")
    assert "smaller epsilon" not in str(caught[0].message)
    shallow.conv_time_spat.conv_spat.register_forward_hook(lambda module, given, output: 2 * output)
    with pytest.warns(UserWarning, match="No layer of the report lost it: hooks") as caught:
        attribute(shallow, x, 0, "lrp_epsilon")  # the hook fires only where the layer runs by itself
    assert "smaller epsilon" not in str(caught[0].message)


# --- conditions: relevance that passes through the named layer --------------------------------------------------------


class Parallel(nn.Module):
    """zennit-crp's example of two linear layers side by side, its weights and trial."""

    def __init__(self):
        super().__init__()
        weights = [[1, 2], [0, 1]], [[2, 3], [0, 0]], [[1, 4, 5, 0]]
        for i, weight in enumerate(weights, 1):
            layer = nn.Linear(len(weight[0]), len(weight), bias=False)
            layer.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
            setattr(self, f"layer{i}", layer)

    def forward(self, x):
        x = x.flatten(1)
        return self.layer3(torch.cat([self.layer1(x), self.layer2(x)], 1))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, [-11, 21]),
        ({"layer1": 0}, [-1, 2]),
        ({"layer1": [0, 1]}, [-1, 6]),
        ({"layer2": 0}, [-10, 15]),
        ({"layer2": 1}, [0, 0]),
        ({"layer3": 0, "layer1": 0}, [-1, 2]),
    ],
)
def test_zennit_crps_parallel_example(conditions, expected):
    x = np.array([[[-1.0], [1.0]]])
    np.testing.assert_allclose(values(Parallel(), x=x, conditions=conditions)[0, :, 0], expected, rtol=1e-6)


def test_layers_side_by_side_share_no_path():
    with pytest.raises(UnsupportedOperation, match=r"no relevance passes from layer2 to layer1.*one at a time"):
        values(Parallel(), x=np.ones((1, 2, 1)), conditions={"layer1": 0, "layer2": 0})


class Shortcuts(nn.Module):
    """A convolution that runs twice, with a shortcut around both runs."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = seeded(nn.Conv1d(3, 3, 3, padding=1, bias=False), nn.Linear(360, 2, bias=False))

    def forward(self, x):
        once = self.conv(x)
        return self.last((self.conv(once + x) + x + once).flatten(1))


def test_paths_through_a_layer_that_runs_twice_by_hand():
    """Without biases epsilon is linear: each path once, every pass through the layer by the chosen filter alone."""
    model, f = Shortcuts(), 1
    kernel = model.conv.weight.detach()

    def chosen(z):
        return nn.functional.conv1d(z, kernel * (torch.arange(3) == f)[:, None, None], padding=1)

    x = torch.tensor(X, requires_grad=True)
    paths = chosen(chosen(x)) + chosen(x) + chosen(x)  # both runs; the second alone; the first alone
    expected = torch.autograd.grad(model.last(paths.flatten(1))[:, 0].sum(), x)[0]
    result = values(model, conditions={"conv": f}, epsilon=1e-14)
    np.testing.assert_allclose(result, expected * X, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_alpha_beta"])
def test_maps_of_a_filter_in_a_parallel_branch_sum_to_its_relevance(method):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = EEGInceptionERP(n_chans=3, n_outputs=2, n_times=120, sfreq=100).eval().double()
    branches = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d) and layer.bias is not None
    ]
    first = next(name for name in branches)
    result = concept_relevance(model, X, 0, first, method=method, share=1)
    every = values(model, method)
    for f, (trials, found) in enumerate(zip(result.reference, result.maps, strict=True)):
        if found is None:
            continue
        # What the layer's own row keeps is of this filter alone, in the filter's maps.
        kept = found.report.groupby("trial")[["to_bias", "lost"]].sum().sum(1).to_numpy()
        above = found.report[~found.report["layer"].str.startswith(first)]
        above = above.groupby("trial")[["to_bias", "lost"]].sum().sum(1).reindex(range(len(trials)), fill_value=0)
        total = found.values.sum((1, 2)) + (kept - above.to_numpy())
        np.testing.assert_allclose(total, result.relevance[trials, f], rtol=1e-7, atol=1e-12)
    parts = sum(values(model, method, conditions={first: f}) for f in range(result.relevance.shape[1]))
    assert abs(parts - every).max() > 0.1 * abs(every).max()  # the other branches


def test_conditions_on_every_branch_add_up_to_the_map_without():
    model = Parallel()
    x = np.random.default_rng(1).standard_normal((6, 2, 1))
    parts = sum(values(model, x=x, conditions={layer: f}) for layer in ("layer1", "layer2") for f in (0, 1))
    np.testing.assert_allclose(parts, values(model, x=x), rtol=1e-6, atol=1e-9)
