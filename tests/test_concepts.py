"""Relevance per filter against conditional passes, gradients of networks without biases, and loops."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from networks import build
from torch import nn

from eegxai_support.attribution import attribute
from eegxai_support.filters.concepts import concept_relevance, reference_trials
from eegxai_support.model import UnsupportedOperation
from eegxai_support.spectral import frequency_relevance

X = np.random.default_rng(0).standard_normal((5, 3, 120))
LABEL = [0, 1, 1, 0, 1]
LAYERS = [  # the row of the report that tells what arrives there, and a rule; every layer has every rule the same way
    ("EEGNet", "conv_temporal", "conv_temporal + bnorm_temporal", "lrp_alpha_beta"),
    ("EEGNet", "conv_spatial", "conv_spatial + bnorm_1", "lrp_epsilon"),
    ("EEGNet", "bnorm_1", "conv_spatial + bnorm_1", "lrp_epsilon"),
    ("EEGNet", "pool_1", "conv_spatial + bnorm_1", "lrp_epsilon"),
    ("EEGNet", "conv_separable_point", "conv_separable_point + bnorm_2", "lrp_alpha_beta"),
    ("ShallowFBCSPNet", "conv_time_spat.conv_time", "conv_time_spat.conv_time", "lrp_epsilon"),
    ("ShallowFBCSPNet", "conv_time_spat.conv_spat", "conv_time_spat.conv_spat + bnorm", "lrp_alpha_beta"),
    ("ShallowFBCSPNet", "conv_time_spat", "conv_time_spat.conv_spat + bnorm", "lrp_epsilon"),
]


def seeded(*layers, dtype=torch.float64):
    """Chain layers with random weights."""
    model, generator = nn.Sequential(*layers).eval().to(dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=dtype))
    return model


def linear_network():
    return seeded(nn.Conv1d(3, 4, 1, bias=False), nn.Flatten(), nn.Linear(480, 2, bias=False))


class Residual(nn.Module):
    """Two paths, so that a part of the relevance passes the second convolution by."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 1, bias=False), nn.Conv1d(4, 4, 3, padding=1, bias=False)
        self.last = nn.Linear(480, 2, bias=False)

    def forward(self, x):
        first = self.first(x).relu()
        return self.last((first + self.second(first).relu()).flatten(1))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.spare = nn.Conv1d(3, 3, 1), nn.Conv1d(3, 3, 1)

    def forward(self, x):
        return self.conv(self.conv(x)).mean(2)


@pytest.fixture(scope="module")
def networks():
    return {name: build(name, torch.float64) for name in ("EEGNet", "ShallowFBCSPNet")}


def kept_below(report, row):
    """Relevance that biases keep or epsilon takes in each trial, up to the layer of a row."""
    tables = (table.iloc[: 1 + list(table["layer"]).index(row)] for _, table in report.groupby("trial"))
    return np.array([table[["to_bias", "lost"]].to_numpy().sum() for table in tables])


# --- relevance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layer", "row", "method"), LAYERS)
def test_relevance_is_what_arrives_in_a_conditional_pass(networks, name, layer, row, method):
    result = concept_relevance(networks[name], X, LABEL, layer, method=method, share=0.01)
    n_filters = result.relevance.shape[1]
    assert len(result.reference) == len(result.maps) == len(result.activation) == n_filters
    for f in (0, n_filters - 1):
        one = attribute(networks[name], X, LABEL, method, conditions={layer: f})
        at_row = one.report.loc[one.report["layer"] == row, "relevance"]
        for arrived in (at_row, one.values.sum((1, 2)) + kept_below(one.report, row)):
            np.testing.assert_allclose(result.relevance[:, f], arrived, atol=1e-9 * abs(result.relevance).max())


@pytest.mark.parametrize("target", [1, LABEL, (1, 0)])
def test_linear_network_by_hand(target):
    model = linear_network()
    result = concept_relevance(model, X, target, "0", share=0.5, epsilon=1e-13)
    first, last = model[0].weight.detach().numpy()[:, :, 0], model[2].weight.detach().numpy().reshape(2, 4, 120)
    signal = np.einsum("fc,nct->nft", first, X)
    weight = last[1] - last[0] if isinstance(target, tuple) else last[np.broadcast_to(target, 5)]
    np.testing.assert_allclose(result.relevance, (signal * weight).sum(2), rtol=1e-7)
    for f, trials in enumerate(result.reference):
        np.testing.assert_allclose(result.activation[f], signal[trials, f].mean(0), rtol=1e-12)
        np.testing.assert_allclose(
            result.maps[f].values,
            np.einsum("c,nct,nt->nct", first[f], X[trials], np.broadcast_to(weight, (5, 4, 120))[trials, f]),
            rtol=1e-7,
        )


def test_residual_network_without_biases_against_autograd():
    """Without biases the epsilon rule is activation times gradient, on both paths from the layer."""
    torch.manual_seed(0)
    model, activation = Residual().double().eval(), []
    handle = model.first.register_forward_hook(lambda _, __, output: activation.append(output))
    output = model(torch.as_tensor(X))[:, 1].sum()
    handle.remove()
    gradient = torch.autograd.grad(output, activation[0])[0]
    expected = (gradient * activation[0].detach()).sum(2)
    result = concept_relevance(model, X, 1, "first", epsilon=1e-13)
    np.testing.assert_allclose(result.relevance, expected, rtol=1e-6)
    np.testing.assert_allclose(result.relevance.sum(1), model(torch.as_tensor(X))[:, 1].detach(), rtol=1e-6)


@pytest.mark.parametrize("layer", ["conv_temporal", "conv_spatial", "pool_2"])
def test_maps_of_all_filters_add_up_to_the_map(networks, layer):
    model = networks["EEGNet"]
    result = concept_relevance(model, X, LABEL, layer, share=1)
    total = np.zeros(X.shape)
    for trials, maps in zip(result.reference, result.maps, strict=True):
        total[trials] += maps.values
    expected = attribute(model, X, LABEL, "lrp_epsilon").values
    np.testing.assert_allclose(total, expected, atol=1e-9 * abs(expected).max())


def test_maps_go_on_to_frequencies(networks):
    result = concept_relevance(networks["EEGNet"], X, 0, "elu_1")
    trials, maps = result.reference[3], result.maps[3]
    relevance = frequency_relevance(maps, X[trials])
    np.testing.assert_allclose(relevance.sum(2), maps.values.sum(2), atol=1e-12)


def test_batches_and_options_and_an_activation_in_place():
    def network(in_place):
        return seeded(nn.Conv1d(3, 4, 5), nn.BatchNorm1d(4), nn.ELU(inplace=in_place), nn.Flatten(), nn.Linear(464, 2))

    whole = concept_relevance(network(False), X, 1, "1", bias="share")
    split = concept_relevance(network(True), torch.as_tensor(X), 1, "1", bias="share", batch_size=2)
    other = concept_relevance(network(False), X, 1, "1", bias="keep")
    for name in ("relevance", "activation"):
        np.testing.assert_allclose(getattr(split, name), getattr(whole, name), rtol=1e-9)
    assert abs(whole.relevance - other.relevance).max() > 1e-3


def test_layer_without_positions():
    model = seeded(nn.Flatten(), nn.Linear(360, 4), nn.ReLU(), nn.Linear(4, 2))
    result = concept_relevance(model, X, 0, "2")
    hidden = model[:3](torch.as_tensor(X)).detach().numpy()
    np.testing.assert_allclose(result.relevance, hidden * model[3].weight.detach().numpy()[0], rtol=1e-6)
    for f, trials in enumerate(result.reference):
        np.testing.assert_allclose(result.activation[f], hidden[trials, f].mean(keepdims=True), rtol=1e-9)


def test_filter_that_is_never_active_has_no_reference_trials():
    model = seeded(nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(480, 2))
    with torch.no_grad():
        model[0].bias[2] = -100
    result = concept_relevance(model, X, 0, "1")
    assert len(result.reference[2]) == 0
    assert result.maps[2] is None
    assert np.isnan(result.activation[2]).all()
    assert np.isfinite(np.delete(result.activation, 2, axis=0)).all()


def test_the_network_is_left_as_it_was(networks):
    model = deepcopy(networks["EEGNet"]).train()
    before = deepcopy(model.state_dict())
    concept_relevance(model, X, 0, "bnorm_1")
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        ("conv_spatia", {}, ValueError, "Did you mean 'conv_spatial'"),
        ("conv_spatial", {"method": "gradient"}, ValueError, "'gradient'; expected one of lrp_epsilon, lrp_gamma"),
        ("conv_spatial", {"share": 0}, ValueError, "share is 0"),
        ("conv_spatial", {"share": 20}, ValueError, "share is 20"),
        ("conv_spatial", {"gamma": 1}, TypeError, "gamma"),
        ("conv_spatial.parametrizations", {}, UnsupportedOperation, "No relevance of lrp_epsilon arrives at filters"),
    ],
)
def test_bad_requests(networks, layer, options, error, message):
    with pytest.raises(error, match=message):
        concept_relevance(networks["EEGNet"], X, 0, layer, **options)


def test_layers_that_do_not_run_once():
    model = Twice().double().eval()
    with pytest.raises(UnsupportedOperation, match="gave 10 rows for 5 trials"):
        concept_relevance(model, X, 0, "conv")
    with pytest.raises(UnsupportedOperation, match="does not run by itself"):
        concept_relevance(model, X, 0, "spare")


# --- reference trials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9])
def test_reference_trials_one_by_one(share):
    relevance = np.random.default_rng(1).standard_normal((30, 4))
    for column, chosen in zip(relevance.T, reference_trials(relevance, share), strict=True):
        left, total = list(range(30)), 0.0
        for trial in chosen:
            assert total <= share * abs(column).sum()
            assert trial == max(left, key=lambda t: abs(column[t]))
            left.remove(trial)
            total += abs(column[trial])
        assert total > share * abs(column).sum()


def test_reference_trials_of_filters_without_relevance_in_some_trials():
    relevance = np.array([[0, 0, -1.0], [2, 0, 1], [0, 0, 0], [-3, 0, 0]])
    assert [trials.tolist() for trials in reference_trials(relevance, 1)] == [[3, 1], [], [0, 1]]
    assert [trials.tolist() for trials in reference_trials(relevance)] == [[3], [], [0]]


def test_reference_trials_refuses_a_single_filter_and_nan():
    with pytest.raises(ValueError, match=r"shape \(5,\); expected finite values \(trial, filter\)"):
        reference_trials(np.ones(5))
    with pytest.raises(ValueError, match="finite"):
        reference_trials([[1, np.nan], [2, 1]])
