"""The table of what captum and the package do on decoders, on four small networks of which it is known."""

import numpy as np
import pytest
import torch
from torch import nn

from studies import decoders

NAMES = ("Linear", "Rectified", "Power", "Broken")
X, OTHER = decoders.X, {"zeros": np.zeros_like(decoders.X), "another trial": decoders.X[[1, 2, 3, 0]]}


class Power(nn.Module):
    """Power as a function, not a module: captum's DeepLIFT takes its gradient, which misses half of the change."""

    def __init__(self):
        super().__init__()
        self.final_layer = nn.Linear(X.shape[1], 4)

    def forward(self, x):
        return self.final_layer(x.square().mean(2))


class Broken(nn.Module):
    def forward(self, x):
        raise KeyError("broken")


def network(name):
    torch.manual_seed(0)
    n_inputs = X[0].size
    return {
        "Linear": nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, 4)),
        "Rectified": nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, 8), nn.ReLU(), nn.Linear(8, 4)),
        "Power": Power(),
        "Broken": Broken(),
    }[name].eval()


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders.zoo, "MODELS", {name: {} for name in NAMES})
        patch.setattr(decoders.zoo, "build", network)
        return decoders.decoders()


def outcomes(table, method):
    rows = table[table["method"] == method]
    return {(row.decoder, row.tool): row.outcome for row in rows.itertuples()}


def test_each_network_has_a_row_for_each_tool_and_method(table):
    assert table.groupby("decoder").size().to_dict() == dict.fromkeys(NAMES, 8)
    assert not table.duplicated(["decoder", "tool", "method", "baseline"]).any()
    assert set(table.query("method == 'deep_lift'")["baseline"]) == set(OTHER)


@pytest.mark.parametrize("baseline", OTHER)
def test_delta_is_what_the_map_misses_of_the_change_from_the_baseline(table, baseline):
    rows = table[(table["method"] == "deep_lift") & (table["baseline"] == baseline)].set_index(["decoder", "tool"])
    weight = network("Power").final_layer.weight[1].detach().numpy().astype(float)
    x, compared = X.astype(float), OTHER[baseline].astype(float)
    change = (x**2 - compared**2).mean(2) @ weight
    missed = np.abs((2 * x * (x - compared)).mean(2) @ weight - change)
    output = (x**2).mean(2) @ weight  # without its bias, which changes no difference
    expected = np.median(missed / np.maximum(np.abs(change), output.std()))
    assert expected > 1e-3 and rows.loc[("Power", "captum"), "delta"] == pytest.approx(expected, rel=1e-3)
    assert rows.loc[("Power", "captum"), "outcome"] == "does not conserve"
    for place in [
        ("Power", "eegxai"),
        *((name, tool) for name in ("Linear", "Rectified") for tool in ("captum", "eegxai")),
    ]:
        assert rows.loc[place, "outcome"] == "conserves" and rows.loc[place, "delta"] < 1e-4


def test_guided_backpropagation_differs_from_the_gradient_only_behind_a_rectifier(table):
    guided = outcomes(table, "guided_backprop")
    assert guided["Linear", "captum"] == guided["Power", "captum"] == "is the gradient"
    assert guided["Rectified", "captum"] == guided["Rectified", "eegxai"] == "differs from the gradient"
    assert guided["Linear", "eegxai"] == guided["Power", "eegxai"] == "UnsupportedOperation"


def test_an_error_is_an_outcome(table):
    broken = table.query("decoder == 'Broken'").groupby("tool")["outcome"].unique()
    assert (list(broken["captum"]), list(broken["eegxai"])) == (["KeyError"], ["ValueError"])
    lrp = outcomes(table, "lrp_epsilon")
    assert lrp["Linear", "captum"] == "TypeError"  # it has no rule for a layer that flattens
    assert lrp["Linear", "eegxai"] == lrp["Rectified", "eegxai"] == "runs"
