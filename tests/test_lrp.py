"""Layer-wise relevance propagation against rules written with loops, folded networks, and the sum of the output."""

import warnings
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import SIZES, build, built
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from eegxai_support.attribution import METHODS, attribute
from eegxai_support.decoders import predict
from eegxai_support.model import UnsupportedOperation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.models import ATCNet, CTNet, EEGConformer
    from braindecode.modules import CombinedConv

LRP = ("lrp_epsilon", "lrp_gamma", "lrp_alpha_beta", "lrp_z_plus")
NETWORKS = (
    "EEGNet", "ShallowFBCSPNet", "Deep4Net", "InterpretableCNN", "EEGNeX", "FBCNet", "SCCNet", "TIDNet",
)  # fmt: skip
RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3, 120)).astype("float32")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return build(request.param)


@pytest.fixture(scope="module")
def eegnet():
    return build("EEGNet")


@pytest.fixture(scope="module")
def shallow():
    return build("ShallowFBCSPNet")


def seeded(*layers, dtype=torch.float64):
    """Chain layers with random weights, statistics and biases."""
    model, generator = nn.Sequential(*layers).eval().to(dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator, dtype=dtype))
                if name.endswith("running_var"):
                    value.square_().add_(0.5)
    return model


def to_bias(result):
    return result.report.groupby("trial")["to_bias"].sum().to_numpy()


def total(result):
    """All relevance that arrived at the input and at biases."""
    return result.values.sum((1, 2), dtype="float64") + to_bias(result)


# --- the rules, with loops over units ---------------------------------------------------------------------------------


def connections(layer, shape):
    """Return the weights (output unit, input unit), the bias of each output unit, and the shape of the output."""
    if isinstance(layer, nn.Linear):
        return layer.weight.detach().numpy(), layer.bias.detach().numpy(), (layer.out_features,)
    n_in, height, width = shape
    averages = isinstance(layer, nn.AvgPool2d)
    n_out = n_in if averages else layer.out_channels
    (a, b), (sa, sb), (pa, pb) = layer.kernel_size, layer.stride, (0, 0) if averages else layer.padding
    out = (n_out, (height + 2 * pa - a) // sa + 1, (width + 2 * pb - b) // sb + 1)
    weight, bias = np.zeros((*out, n_in, height, width)), np.zeros(out)
    n_group = 1 if averages else n_in // layer.groups
    for f, i, j in np.ndindex(out):
        first = f // (n_out // (n_in // n_group)) * n_group
        bias[f, i, j] = 0 if averages else layer.bias[f].item()
        for c, k, m in np.ndindex(n_group, a, b):
            row, column = i * sa + k - pa, j * sb + m - pb
            if 0 <= row < height and 0 <= column < width:
                weight[f, i, j, first + c, row, column] = 1 / (a * b) if averages else layer.weight[f, c, k, m].item()
    return weight.reshape(bias.size, -1), bias.ravel(), out


def shares(rule, term, bias, keep, weight):
    """Return what of a relevance of 1 each term of a sum gets."""
    z = term.sum() + bias
    kept = bias if keep else 0.0
    if rule == "flat":
        return (weight != 0) / (weight != 0).sum()
    if rule == "mean":
        return term / z
    if rule in ("epsilon", "gamma"):
        same_sign = (term >= 0) == (z >= 0)
        term = term * (1 + 0.25 * same_sign) if rule == "gamma" else term
        kept = kept * (1.25 if rule == "gamma" and (kept >= 0) == (z >= 0) else 1)
        below = term.sum() + kept
        return term / (below + (1e-3 if below >= 0 else -1e-3))
    alpha = {"alpha_beta": 2, "z_plus": 1}[rule]
    up, down = term.clip(0), term.clip(None, 0)
    all_up, all_down = up.sum() + max(kept, 0), down.sum() + min(kept, 0)
    if all_up == 0 or all_down == 0:
        return term / (all_up + all_down) if all_up + all_down else term
    return alpha * up / all_up + (1 - alpha) * down / all_down


def relevance_by_hand(layers, x, output, rule, keep, flat):
    """Propagate the relevance of one trial (channel, time) back through a chain of layers."""
    activation, shape, tape = x.ravel(), (1, *x.shape), []
    for layer in layers:
        if isinstance(layer, nn.ReLU | nn.ELU):
            activation = layer(torch.as_tensor(activation)).numpy()  # relevance passes
        elif not isinstance(layer, nn.Flatten | nn.Unflatten):
            weight, bias, shape = connections(layer, shape)
            tape.append((layer, weight, bias, activation))
            activation = weight @ activation + bias
    relevance = np.where(np.arange(len(activation)) == output, activation, 0)
    for layer, weight, bias, activation in reversed(tape):
        used = {nn.Conv2d: rule, nn.AvgPool2d: "mean", nn.Linear: "epsilon"}[type(layer)]
        used = "flat" if flat and layer is tape[0][0] else used
        below = np.zeros_like(activation)
        for unit, amount in enumerate(relevance):
            below += amount * shares(used, weight[unit] * activation, bias[unit], keep, weight[unit])
        relevance = below
    return relevance.reshape(x.shape)


@pytest.fixture(scope="module")
def chain():
    """Signed inputs, padding, strides, groups, overlapping pools, and a unit with terms of one sign only."""
    model = seeded(
        nn.Unflatten(1, (1, 3)),
        nn.Conv2d(1, 2, (1, 3), padding=(0, 1)),
        nn.ELU(),
        nn.Conv2d(2, 4, (3, 1), groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 3, (1, 3), stride=(1, 2)),
        nn.ELU(),
        nn.AvgPool2d((1, 2), stride=(1, 1)),
        nn.Flatten(),
        nn.Linear(9, 2),
    )
    with torch.no_grad():
        model[5].weight[0].abs_()
        model[5].bias[0] = 0.5
        model[5].weight[1].abs_().neg_()
        model[5].bias[1] = 0
    return model


@pytest.mark.parametrize("first_layer", [None, "flat"])
@pytest.mark.parametrize("bias", ["keep", "share"])
@pytest.mark.parametrize("method", LRP)
def test_rules_by_hand(chain, method, bias, first_layer):
    x = np.random.default_rng(1).standard_normal((4, 3, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pooled sums near zero lose a little to epsilon
        result = attribute(chain, x, 1, method, epsilon=1e-3, bias=bias, first_layer=first_layer)
    rule = method.removeprefix("lrp_")
    expected = [relevance_by_hand(chain, trial, 1, rule, bias == "keep", first_layer == "flat") for trial in x]
    np.testing.assert_allclose(result.values, expected, rtol=1e-8, atol=1e-10)
    assert set(result.report["rule"]) == {"epsilon", *(["flat"] if first_layer else [])} | {
        "alpha_beta" if rule == "z_plus" else rule
    }
    if bias == "share":
        assert (to_bias(result) == 0).all()


@pytest.mark.parametrize("method", LRP)
def test_map_is_the_multiplier_times_the_trial(chain, method):
    x = np.random.default_rng(1).standard_normal((4, 3, 9))
    result = attribute(chain, x, 1, method)
    assert result.multiplier.dtype == np.float64
    np.testing.assert_array_equal(result.values, result.multiplier * x)
    assert attribute(chain, x, 1, method, first_layer="flat").multiplier is None


# --- conservation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LRP)
def test_input_and_biases_have_all_of_the_output(network, method):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = attribute(network, X, 1, method)
    np.testing.assert_allclose(total(result), predict(network, X)[:, 1], rtol=1e-3)
    double = deepcopy(network).double()
    result = attribute(double, X, 1, method, epsilon=1e-12)
    np.testing.assert_allclose(total(result), predict(double, X)[:, 1], rtol=1e-6)


def test_alpha_that_is_no_round_number_conserves_in_float64(eegnet):
    model = deepcopy(eegnet).double()
    result = attribute(model, X, 1, "lrp_alpha_beta", alpha=1.7)
    np.testing.assert_allclose(total(result), predict(model, X)[:, 1], rtol=1e-10)


@pytest.mark.parametrize("method", LRP)
def test_flat_first_layer_conserves(network, method):
    model = deepcopy(network).double()
    if type(network).__name__ == "FBCNet":
        with pytest.raises(UnsupportedOperation, match="no layer reads the trials directly"):  # its filter bank does
            attribute(model, X, 1, method, first_layer="flat")
        return
    result = attribute(model, X, 1, method, first_layer="flat", epsilon=1e-12)
    np.testing.assert_allclose(total(result), predict(model, X)[:, 1], rtol=1e-6)


@pytest.mark.parametrize("method", LRP)
def test_what_a_layer_hands_on_arrives_at_the_layer_below(eegnet, method):
    model = deepcopy(eegnet).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the large epsilon takes a part
        result = attribute(model, X, 2, method, epsilon=0.1)
    for trial, rows in result.report.groupby("trial"):
        np.testing.assert_allclose(rows["relevance"], rows["to_input"] + rows["to_bias"] + rows["lost"], rtol=1e-12)
        np.testing.assert_allclose(rows["to_input"].to_numpy()[1:], rows["relevance"].to_numpy()[:-1], rtol=1e-9)
        np.testing.assert_allclose(rows["to_input"].iloc[0], result.values[trial].sum(), rtol=1e-9)
        np.testing.assert_allclose(rows["relevance"].iloc[-1], predict(model, X)[trial, 2], rtol=1e-9)


def test_report_is_a_row_per_trial_and_layer(eegnet):
    report = attribute(eegnet, X, 0, "lrp_gamma", batch_size=2).report
    assert list(report) == ["trial", "layer", "operation", "rule", "relevance", "to_input", "to_bias", "lost"]
    assert list(report["trial"]) == list(np.repeat(np.arange(len(X)), 5))
    assert list(report["layer"][:5]) == [
        "conv_temporal + bnorm_temporal",
        "conv_spatial + bnorm_1",
        "conv_separable_depth",
        "conv_separable_point + bnorm_2",
        "final_layer.conv_classifier",
    ]


def test_loss_warns_where_it_was_called(shallow):
    with pytest.warns(UserWarning, match=r"lrp_epsilon on ShallowFBCSPNet: in 5 of 5 .* a smaller epsilon") as caught:
        result = attribute(shallow, X, 0, "lrp_epsilon", epsilon=1.0)
    assert [warning.filename for warning in caught] == [__file__]
    lost = result.report.groupby("trial")["lost"].sum()
    np.testing.assert_allclose(total(result) + lost, predict(shallow, X)[:, 0], rtol=1e-4)


# --- what a network may hold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LRP)
def test_batch_norm_is_folded(method):
    body = [nn.Conv2d(1, 4, (1, 5), bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 3, (3, 1)), nn.BatchNorm2d(3)]
    model = seeded(nn.Unflatten(1, (1, 3)), *body, nn.ELU(), nn.Flatten(), nn.Linear(348, 6), nn.BatchNorm1d(6))
    layers = list(model)
    linear = deepcopy(layers[7])
    scale = layers[8].weight / (layers[8].running_var + layers[8].eps).sqrt()
    with torch.no_grad():
        linear.weight.mul_(scale[:, None])
        linear.bias.copy_((linear.bias - layers[8].running_mean) * scale + layers[8].bias)
    folded = nn.Sequential(
        layers[0], fuse_conv_bn_eval(*layers[1:3]), fuse_conv_bn_eval(*layers[3:5]), *layers[5:7], linear
    )
    result, expected = (attribute(net, X.astype(float), 0, method) for net in (model, folded))
    np.testing.assert_allclose(result.values, expected.values, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(to_bias(result), to_bias(expected), rtol=1e-9)
    assert list(result.report["layer"][:3]) == ["1 + 2", "3 + 4", "7 + 8"]


def test_batch_norm_that_cannot_be_folded_is_a_layer_with_a_bias():
    """After a nonlinearity: R_i = R_j s x / (s x + t) with s and t its scale and shift."""
    norm = nn.BatchNorm1d(3)
    result = attribute(seeded(norm, nn.Flatten()), X.astype(float), 7, "lrp_gamma", epsilon=1e-12)
    scale = norm.weight[0] / (norm.running_var[0] + norm.eps).sqrt()
    shift = norm.bias[0] - norm.running_mean[0] * scale
    np.testing.assert_allclose(result.values[:, 0, 7], X[:, 0, 7].astype(float) * scale.item(), rtol=1e-9)
    np.testing.assert_allclose(to_bias(result), shift.item(), rtol=1e-9)


@pytest.mark.parametrize("method", LRP)
def test_both_layers_of_a_combined_convolution_run(method):
    combined = CombinedConv(3, 4, 5, 9)
    rest = nn.ELU(), nn.Flatten(), nn.Linear(560, 2)
    model = seeded(nn.Unflatten(1, (1, 3)), Swap(), combined, *rest)
    steps = nn.Sequential(*model[:2], combined.conv_time, combined.conv_spat, *rest)
    x = X.astype(float)
    result, expected = attribute(model, x, 1, method), attribute(steps, x, 1, method)
    np.testing.assert_allclose(result.values, expected.values, rtol=1e-9, atol=1e-12)
    assert list(result.report["layer"][:3]) == ["2.conv_time", "2.conv_spat", "5"]


class Swap(nn.Module):
    def forward(self, x):
        return x.mT


def test_parametrized_weights_are_used_as_they_act(eegnet):
    plain = built.__wrapped__("EEGNet")  # a copy would share the class from which the parametrisation is removed
    parametrized = [module for module in plain.modules() if parametrize.is_parametrized(module)]
    assert parametrized
    for module in parametrized:
        parametrize.remove_parametrizations(module, "weight")
    for method in LRP:
        result, expected = (attribute(net, X, 0, method).values for net in (eegnet, plain))
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6 * abs(expected).max())


class Written(nn.Module):
    """One network, written with modules or with calls that overwrite their input."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.layers = seeded(nn.Conv1d(3, 4, 5, padding=2), nn.Conv1d(4, 4, 3, padding=1), nn.Linear(120, 2))
        self.offset = nn.Parameter(torch.linspace(-1, 1, 4).double()[:, None])

    def forward(self, x):
        first, second, last = self.layers
        if self.in_place:
            y = first(x)
            y += self.offset
            F.elu_(y)
            z = F.relu(second(y), inplace=True)
            z += y
            z.mul_(2).sub_(0.5).div_(3)
            return last(F.max_pool1d(z, 3, 1, 1))[:, 0]
        y = F.elu(first(x) + self.offset)
        z = F.relu(second(y)) + y
        return last(F.max_pool1d((z * 2 - 0.5) / 3, 3, 1, 1)).select(1, 0)


@pytest.mark.parametrize("method", LRP)
def test_operations_in_place(method):
    x = X.astype(float)
    overwritten, plain = (attribute(Written(in_place), x, 1, method) for in_place in (True, False))
    np.testing.assert_allclose(overwritten.values, plain.values, rtol=1e-10)
    for part in ("relevance", "to_input", "to_bias", "lost"):
        np.testing.assert_allclose(overwritten.report[part], plain.report[part], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(total(plain), predict(Written(False), x)[:, 1], rtol=1e-5)


def test_a_convolution_that_was_overwritten_is_not_folded():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = seeded(nn.Conv1d(3, 4, 5), nn.BatchNorm1d(4))

        def forward(self, x):
            y = self.conv(x)
            y[:, 0] *= 2
            return self.norm(y).flatten(1)

    model, x = Shifted(), X.astype(float)
    result = attribute(model, x, 7, "lrp_epsilon", epsilon=1e-12)
    np.testing.assert_allclose(total(result), predict(model, x)[:, 7], rtol=1e-9)
    assert list(result.report["layer"][:2]) == ["conv", "norm"]


class Calls(nn.Module):
    """A function of the trials as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


WEIGHT, CONSTANT = (torch.as_tensor(RNG.standard_normal(shape)).float() for shape in ((120, 2), (3, 1)))


@pytest.mark.parametrize(
    ("function", "multiplier", "constant"),
    [
        (lambda x: (2 * x + 3).sum(2), 2, 360),
        (lambda x: (3 + x / 4).sum(2), 0.25, 360),
        (lambda x: (1 - x).sum(2), -1, 120),
        (lambda x: torch.sub(1.0, x, alpha=2).sum(2), -2, 120),
        (lambda x: (x + CONSTANT).sum(2), 1, 120 * CONSTANT[0].item()),
        (lambda x: (x.sum(2, keepdim=True) + torch.ones(3, 50)).sum(2), 50, 50),
        (lambda x: x.clone().add_(5).sum(2), 1, 600),
        (lambda x: torch.full_like(x, 5).detach().add_(x).sum(2), 1, 600),
        (lambda x: F.pad(x, (4, 0), value=2.0).sum(2), 1, 8),
        (lambda x: torch.cat([x, torch.ones_like(x[:, :, :7])], 2).sum(2), 1, 7),
        (lambda x: (x + x.mean(2, keepdim=True)).sum(2), 2, 0),
        (
            lambda x: torch.stack([torch.addmm(torch.full((3, 2), 6.0), each, WEIGHT)[0] for each in x]),
            WEIGHT[:, 0].numpy(),
            6,
        ),
        (lambda x: (x @ WEIGHT)[:, 0], WEIGHT[:, 0].numpy(), 0),
        (lambda x: torch.einsum("bct,to->bco", x, WEIGHT)[:, 0], WEIGHT[:, 0].numpy(), 0),
        (lambda x: F.linear(x, WEIGHT.mT, torch.tensor([4.0, 5.0]))[:, 0], WEIGHT[:, 0].numpy(), 4),
    ],
)
def test_linear_functions_have_their_own_multiplier_and_constants_are_biases(function, multiplier, constant):
    result = attribute(Calls(function), X[:1], 0, "lrp_epsilon")
    expected = np.zeros((3, 120))
    expected[0] = multiplier
    np.testing.assert_allclose(result.multiplier[0], expected, rtol=1e-4)
    np.testing.assert_allclose(to_bias(result).sum(), constant, rtol=1e-4)


def test_pooling_with_padding_shares_as_the_mean_and_the_maximum_do():
    x = X[:, :, :6].astype(float)
    averaged = attribute(Calls(lambda x: F.avg_pool1d(x, 3, 3, 1)[:, 0]), x, 0, "lrp_epsilon").values
    np.testing.assert_allclose(averaged[:, 0, :2], x[:, 0, :2] / 3)
    largest = attribute(Calls(lambda x: F.max_pool1d(x, 3, 3, 1)[:, 0]), x, 0, "lrp_epsilon").values
    np.testing.assert_allclose(largest[:, 0, :2], np.where(x[:, 0, :2] == x[:, :1, :2].max(2), x[:, 0, :2], 0))


def test_network_without_layers_has_an_empty_report():
    result = attribute(Calls(lambda x: x.square().mean(2)), X, 0, "lrp_epsilon")
    np.testing.assert_allclose(result.values[:, 0], X[:, 0] ** 2 / 120, rtol=1e-5)
    assert result.report.empty


# --- one trial at a time ----------------------------------------------------------------------------------------------


def sequence_first(x):
    """Pass the trials on as (time, trial, channel), as recurrent layers and attention of torch expect."""
    return F.linear(x.permute(2, 0, 1), CONSTANT.mT.expand(2, 3), torch.tensor([1.0, 2.0])).sum(0)


def windows_first(x):
    """Put all trials' first halves before all second halves."""
    return F.linear(torch.cat(x.chunk(2, 2)), torch.ones(2, 60), torch.ones(2)).sum(1).view(2, -1, 2).sum(0)


@pytest.mark.parametrize("model", [Calls(sequence_first), Calls(windows_first), "EEGNet", "FBCNet", "TIDNet"])
@pytest.mark.parametrize("method", LRP)
def test_neither_map_nor_report_depends_on_the_batch(model, method):
    model = build(model) if isinstance(model, str) else model
    x = X if not isinstance(model, Calls) else X[:4]
    together, alone = (attribute(model, x, 0, method, batch_size=n) for n in (64, 1))
    np.testing.assert_allclose(together.values, alone.values, atol=1e-5 * abs(alone.values).max())
    for part in ("trial", "relevance", "to_input", "to_bias"):
        np.testing.assert_allclose(together.report[part], alone.report[part], atol=1e-5 * abs(alone.report[part]).max())
    np.testing.assert_allclose(total(together), predict(model, x)[:, 0], rtol=1e-3)


# --- conditions -------------------------------------------------------------------------------------------------------


def conditional(model, conditions, method="lrp_epsilon", **options):
    return attribute(model, X, 0, method, conditions=conditions, **options).values


@pytest.mark.parametrize(
    ("name", "layer", "n_filters", "method"),
    [
        ("EEGNet", "conv_temporal", 8, "lrp_alpha_beta"),
        ("EEGNet", "conv_spatial", 16, "lrp_epsilon"),  # parametrised, then batch norm
        ("EEGNet", "bnorm_1", 16, "lrp_epsilon"),
        ("EEGNet", "elu_1", 16, "lrp_epsilon"),
        ("ShallowFBCSPNet", "conv_time_spat.conv_time", 4, "lrp_epsilon"),
        ("ShallowFBCSPNet", "conv_time_spat.conv_spat", 4, "lrp_alpha_beta"),
        ("Deep4Net", "conv_time_spat.conv_spat", 4, "lrp_epsilon"),
        ("Deep4Net", "conv_time_spat.conv_spat", 4, "lrp_alpha_beta"),
        ("InterpretableCNN", "final_layer", 3, "lrp_epsilon"),
        ("InterpretableCNN", "final_layer", 3, "lrp_alpha_beta"),
    ],
)
def test_conditional_maps_of_all_filters_add_up(name, layer, n_filters, method):
    """Which layer it is and which rule it has meet in one line of code: each of both here, not each pair."""
    model = build(name).double()
    every = attribute(model, X, 0, method)
    single = [attribute(model, X, 0, method, conditions={layer: f}) for f in range(n_filters)]
    np.testing.assert_allclose(sum(one.values for one in single), every.values, atol=1e-9 * abs(every.values).max())
    assert single[0].values.shape == X.shape
    assert single[0].multiplier is not None
    if layer != "final_layer":  # the explained output is one of its filters
        assert all(abs(one.values - every.values).max() > 1e-3 * abs(every.values).max() for one in single)
    several = conditional(model, {layer: [0, 2]}, method)
    np.testing.assert_allclose(several, single[0].values + single[2].values, atol=1e-9 * abs(every.values).max())


def test_conditional_relevance_by_hand(chain):
    """Zero the relevance of the other filters by hand, in a chain of two linear functions."""
    first, second = nn.Conv1d(3, 4, 1, bias=False), nn.Conv1d(4, 1, 1, bias=False)
    model, x = seeded(first, second, nn.Flatten()), X.astype(float)
    result = attribute(model, x, 5, "lrp_epsilon", conditions={"0": 2}, epsilon=1e-13)
    expected = second.weight[0, 2, 0].item() * first.weight[2, :, 0].detach().numpy() * x[:, :, 5]
    np.testing.assert_allclose(result.values[:, :, 5], expected, rtol=1e-8)
    assert (np.delete(result.values, 5, axis=2) == 0).all()
    first_row = result.report[result.report["trial"] == 0].iloc[0]
    np.testing.assert_allclose(first_row["relevance"], expected[0].sum(), rtol=1e-8)


def test_conditions_on_two_layers(shallow):
    model = deepcopy(shallow).double()
    time, spat = "conv_time_spat.conv_time", "conv_time_spat.conv_spat"
    pairs = sum(conditional(model, {time: t, spat: 1}) for t in range(4))
    expected = conditional(model, {spat: 1})
    np.testing.assert_allclose(pairs, expected, atol=1e-9 * abs(expected).max())
    assert abs(conditional(model, {time: 0, spat: 1}) - expected).max() > 1e-3 * abs(expected).max()


def test_conditions_on_a_block_and_its_layer_both_count():
    model = seeded(nn.Sequential(nn.Conv1d(3, 4, 5)), nn.BatchNorm1d(4), nn.ELU(), nn.Flatten(), nn.Linear(464, 2))
    inner = conditional(model, {"0.0": 1})
    np.testing.assert_array_equal(conditional(model, {"0": [0, 1], "0.0": [1, 2]}), inner)
    assert (conditional(model, {"0": 0, "0.0": 1}) == 0).all()


def test_a_filter_is_kept_through_an_activation_in_place():
    layers = nn.Conv1d(3, 4, 5), nn.Flatten(), nn.Linear(464, 2)
    kept = [
        conditional(seeded(layers[0], nn.ELU(inplace=in_place), *layers[1:]), {"0": 1}) for in_place in (True, False)
    ]
    np.testing.assert_allclose(*kept, rtol=1e-9)


def test_layer_that_never_runs():
    model = seeded(nn.Flatten(), nn.Linear(360, 2), dtype=torch.float32)
    model[1].spare = nn.Linear(2, 2)
    with pytest.raises(UnsupportedOperation, match=r"lrp_epsilon cannot keep filters of 1\.spare, which never ran"):
        conditional(model, {"1.spare": 0})


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("lrp_epsilon", {"gamma": 1}, TypeError, "lrp_epsilon takes no option 'gamma'; expected"),
        ("lrp_gamma", {"alpha": 2}, TypeError, "lrp_gamma takes no option 'alpha'; expected"),
        ("lrp_z_plus", {"alpha": 2}, TypeError, "lrp_z_plus takes no option 'alpha'; expected"),
        ("lrp_epsilon", {"epsilon": 0}, ValueError, "epsilon is 0"),
        ("lrp_gamma", {"gamma": -1}, ValueError, "gamma is -1"),
        ("lrp_alpha_beta", {"alpha": 0.5}, ValueError, "alpha is 0.5"),
        ("lrp_epsilon", {"bias": "ignore"}, ValueError, "bias is 'ignore'"),
        ("lrp_epsilon", {"first_layer": "w2"}, ValueError, "first_layer is 'w2'"),
        ("lrp_epsilon", {"baseline": "zero"}, ValueError, "takes no baseline"),
        ("lrp_epsilon", {"conditions": {"conv_spatia": 0}}, ValueError, "Did you mean 'conv_spatial'"),
        ("lrp_epsilon", {"conditions": {"conv_spatial": 16}}, ValueError, "filters 0 … 15"),
        ("lrp_epsilon", {"conditions": {"conv_spatial": -1}}, ValueError, "filters 0 … 15"),
        ("lrp_epsilon", {"conditions": {"conv_spatial": []}}, ValueError, "one or more"),
        ("lrp_epsilon", {"conditions": {"conv_spatial": 0.5}}, ValueError, "one or more"),
    ],
)
def test_bad_options(eegnet, method, options, error, message):
    with pytest.raises(error, match=message):
        attribute(eegnet, X, 0, method, **options)


@pytest.mark.parametrize(
    ("build", "operation"),
    [
        (lambda: EEGConformer(**SIZES | {"n_times": 300}, num_layers=1), "layer_norm, which multiplies two"),
        (lambda: CTNet(**SIZES, num_heads=2, embed_dim=8), "attention|layer_norm|softmax"),
        (lambda: ATCNet(**SIZES | {"n_times": 500}, sfreq=125, input_window_seconds=4, n_windows=2), "layer_norm"),
    ],
)
def test_attention_is_refused_by_name(build, operation):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build().eval()
    x = np.zeros((1, 3, model.n_times), "float32") + 1
    for method in LRP:
        assert not METHODS[method].applies_to(model)
        with pytest.raises(UnsupportedOperation, match=f"{method} has no rule for .*({operation})"):
            attribute(model, x, 0, method)


def test_softmax_and_products_of_activations_are_refused_by_name():
    for function, name in (
        (lambda x: torch.softmax(x.sum(2), 1), "softmax"),
        (lambda x: (x @ x.mT)[:, 0], "matmul"),
        (lambda x: (torch.sigmoid(x) * x).sum(2), "mul"),
        (lambda x: F.layer_norm(x, (120,)).sum(2), "layer_norm"),
    ):
        with pytest.raises(UnsupportedOperation, match=f"lrp_gamma has no rule for {name}"):
            attribute(Calls(function), X, 0, "lrp_gamma")


def test_applies_to(network):
    assert all(METHODS[method].applies_to(network) for method in LRP)


def test_flat_rule_needs_a_layer_that_reads_the_trials():
    model = Calls(lambda x: F.linear(x.square(), torch.ones(2, 120)).sum(1))
    with pytest.raises(UnsupportedOperation, match="no layer reads the trials directly"):
        attribute(model, X, 0, "lrp_epsilon", first_layer="flat")


def test_flat_rule_gives_nothing_to_padding():
    """Three inputs share z, at the edge two and the padding's none, or one of them twice where it is mirrored."""
    first, second = X[:, 0, 0], X[:, 0, 1]

    def edge(**padding):
        model = Calls(lambda x: F.conv1d(F.pad(x[:, :1], (1, 1), **padding), torch.ones(1, 1, 3))[:, :, 0])
        return attribute(model, X, 0, "lrp_epsilon", first_layer="flat").values[:, 0, :2]

    for value in (0.0, 5.0):
        z = first + second + value
        np.testing.assert_allclose(edge(value=value), np.stack([z / 2, z / 2], 1), rtol=1e-5)
    z = first + 2 * second
    np.testing.assert_allclose(edge(mode="reflect"), np.stack([z / 3, 2 * z / 3], 1), rtol=1e-5)


def test_flat_rule_beside_a_path_that_is_no_layer():
    """Half of the network is a mean of the trial: its relevance stays in proportion to the samples."""
    weight = torch.ones(1, 3, 1)
    model = Calls(lambda x: F.conv1d(x, weight).sum(2) + x.mean(2)[:, :1])
    values = attribute(model, X, 0, "lrp_epsilon", first_layer="flat").values
    flat = np.broadcast_to(X.sum(1, keepdims=True) / 3, X.shape).copy()
    flat[:, 0] += X[:, 0] / 120
    np.testing.assert_allclose(values, flat, rtol=1e-4, atol=1e-5)


# --- nothing is changed -----------------------------------------------------------------------------------------------


def traces(model):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return [(set(vars(module)), [len(getattr(module, name)) for name in hooks]) for module in model.modules()]


def test_model_and_output_are_as_before(network):
    before, state, output = traces(network), deepcopy(network.state_dict()), predict(network, X)
    seen = []

    def target(outputs):
        seen.append(outputs.clone())
        return outputs[:, 0]

    attribute(network, X, target, "lrp_alpha_beta")
    assert traces(network) == before
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    for outputs in (each for each in seen if len(each) == len(output)):  # the look has two rows
        np.testing.assert_allclose(outputs.detach(), output, rtol=1e-4, atol=1e-5 * abs(output).max())
    np.testing.assert_array_equal(predict(network, X), output)


def test_nothing_is_left_behind_after_an_error(shallow):
    before = traces(shallow)
    with pytest.raises(ValueError, match="filters 0 … 3"):
        conditional(shallow, {"conv_time_spat.conv_spat": 99})
    assert traces(shallow) == before


def test_hooks_of_the_user_still_run(shallow):
    model, seen = deepcopy(shallow), SimpleNamespace(calls=0)

    def hook(module, given, output):
        seen.calls += 1
        return output * 2

    model.conv_time_spat.conv_spat.register_forward_hook(hook)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hook fires only where the layer runs by itself
        attribute(model, X, 0, "lrp_epsilon")
    assert seen.calls
