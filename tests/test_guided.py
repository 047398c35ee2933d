"""Guided backpropagation and deconvolution against captum on ReLU, and hand-written backward passes on ELU."""

import warnings
from copy import deepcopy

import captum.attr
import numpy as np
import pytest
import torch
from networks import build
from torch import nn
from torch.nn import functional as F

from eegxai_support.attribution import METHODS, attribute
from eegxai_support.model import UnsupportedOperation

CAPTUM = {"guided_backprop": captum.attr.GuidedBackprop, "deconvolution": captum.attr.Deconvolution}
X = np.random.default_rng(0).standard_normal((5, 3, 120)).astype("float32")


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double().eval()


def with_captum(method, model, x, target=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's hooks warn
        x = torch.as_tensor(x).requires_grad_()
        return CAPTUM[method](deepcopy(model)).attribute(x, target=target).detach().numpy()


def relu_network():
    return nn.Sequential(
        nn.Conv1d(3, 4, 5), nn.ReLU(), nn.Conv1d(4, 4, 5), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(448, 2)
    )


@pytest.mark.parametrize("method", CAPTUM)
def test_equal_to_captum_on_modules_of_relu(method):
    model = seeded(relu_network)
    values = attribute(model, X, 1, method).values
    expected = with_captum(method, model, X.astype(float), target=1)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-13)
    network = build("InterpretableCNN")
    expected = with_captum(method, network, X)
    np.testing.assert_allclose(attribute(network, X, 0, method).values, expected, atol=1e-5 * abs(expected).max())


# --- the definition by hand -------------------------------------------------------------------------------------------


class TwoLayers(nn.Module):
    """Two matrices with an activation between, and one after: the backward pass is written out below."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.second = nn.Linear(360, 8), nn.Linear(8, 6)
        self.activation = activation

    def forward(self, x):
        y = self.activation(self.second(self.activation(self.first(x.flatten(1)))))
        return torch.stack([y[:, :3].sum(1), y[:, 3:].sum(1) - y[:, 0]], 1)


def by_hand(model, value, method):
    """Propagate from the second output with loops over nothing but the definition of Cui et al. (2023)."""
    w1, b1, w2, b2 = (p.detach().numpy() for p in (*model.first.parameters(), *model.second.parameters()))
    z1 = X.reshape(5, -1).astype(float) @ w1.T + b1
    z2 = value(z1) @ w2.T + b2
    gradient = np.broadcast_to([-1.0, 0, 0, 1, 1, 1], z2.shape)
    for z, w in ((z2, w2), (z1, w1)):
        gradient = np.maximum(gradient, 0) * (value(z) > 0 if method == "guided_backprop" else 1)
        gradient = gradient @ w
    return gradient.reshape(X.shape)


ACTIVATIONS = {
    "elu module": nn.ELU(),
    "elu module in place": nn.ELU(inplace=True),
    "elu function": F.elu,
    "elu function in place": lambda z: F.elu(z, inplace=True),
    "elu_": torch.nn.functional.elu_,
    "result ignored": lambda z: (F.elu_(z), z)[1],
    "keyword": lambda z: F.elu(input=z),
}


@pytest.mark.parametrize("method", CAPTUM)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_elu_by_hand_however_it_is_called(activation, method):
    model = seeded(lambda: TwoLayers(activation))  # modules among them run twice
    values = attribute(model, X, 1, method).values
    expected = by_hand(model, lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), method)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-13)
    assert abs(values - attribute(model, X, 1, "gradient").values).max() > 1e-2 * abs(values).max()


@pytest.mark.parametrize("method", CAPTUM)
@pytest.mark.parametrize(
    "activation",
    [
        *(nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.SELU(), nn.Mish(), nn.CELU(), nn.PReLU(), nn.Softplus()),
        *(F.relu, torch.relu, torch.relu_, torch.Tensor.relu, lambda z: torch.relu(input=z)),
    ],
)
def test_other_rectifiers_by_hand(activation, method):
    model = seeded(lambda: TwoLayers(activation))
    expected = by_hand(model, lambda z: activation(torch.as_tensor(z).clone()).detach().numpy(), method)
    np.testing.assert_allclose(attribute(model, X, 1, method).values, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("method", CAPTUM)
def test_a_rectified_tensor_may_be_overwritten(method):
    class Residual(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.conv, self.in_place = nn.Conv1d(3, 3, 3, padding=1), in_place

        def forward(self, x):
            y = F.elu(self.conv(x))
            if not self.in_place:
                return (y + x).sum(2)
            y += x
            return y.sum(2)

    overwritten, plain = (attribute(seeded(lambda: Residual(b)), X, 0, method).values for b in (True, False))  # noqa: B023
    np.testing.assert_allclose(overwritten, plain, rtol=1e-12)


@pytest.mark.parametrize("method", CAPTUM)
@pytest.mark.parametrize("name", ["EEGNet", "Deep4Net"])
def test_not_the_gradient_where_captum_returns_it(name, method):
    """Captum treats modules of ReLU only; these networks use ELU, and EEGNet's is one module called twice."""
    model = build(name)
    values, gradient = (attribute(model, X, 0, key).values for key in (method, "gradient"))
    captums = with_captum(method, model, X)
    np.testing.assert_allclose(captums, gradient, atol=1e-5 * abs(gradient).max())
    assert abs(values - gradient).max() > 0.1 * abs(gradient).max()


@pytest.mark.parametrize("name", ["EEGNet", "Deep4Net"])
def test_captum_agrees_after_each_elu_is_made_a_relu(name):
    """A second way: modules of ReLU of their own, at which captum is right."""
    model = build(name)
    elus = [key for key, module in model.named_modules() if isinstance(module, nn.ELU)]
    for key in elus:
        parent, _, child = key.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.ReLU())
    assert elus
    for method in CAPTUM:
        expected = with_captum(method, model, X)
        np.testing.assert_allclose(attribute(model, X, 0, method).values, expected, atol=1e-5 * abs(expected).max())


# --- where the methods have no meaning --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", CAPTUM)
@pytest.mark.parametrize("name", ["ShallowFBCSPNet", "SCCNet"])
def test_networks_without_rectifiers(name, method):
    model = build(name)
    assert not METHODS[method].applies_to(model)
    with pytest.raises(UnsupportedOperation, match=f"{method} has no meaning for a network without rectifiers"):
        attribute(model, X, 0, method)


@pytest.mark.parametrize("name", ["EEGNet", "Deep4Net", "InterpretableCNN", "EEGConformer"])
def test_networks_with_rectifiers(name):
    model = build(name)
    x = np.random.default_rng(1).standard_normal((2, 3, model.n_times)).astype("float32")
    for method in CAPTUM:
        assert METHODS[method].applies_to(model)
        assert (attribute(model, x, 0, method).values != 0).any((1, 2)).all()


def test_a_rectifier_beside_the_trials_does_not_count():
    class Positive(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 120))

        def forward(self, x):
            return (x * F.relu(self.weight)).sum(2)

    with pytest.raises(UnsupportedOperation, match="without rectifiers"):
        attribute(Positive(), X, 0, "guided_backprop")


@pytest.mark.parametrize("method", CAPTUM)
def test_no_result_depends_on_the_batch(method):
    model = build("Deep4Net")
    together, alone = (attribute(model, X, [0, 1, 2, 0, 1], method, batch_size=n).values for n in (64, 1))
    np.testing.assert_allclose(together, alone, atol=1e-5 * abs(alone).max())


@pytest.mark.parametrize("method", CAPTUM)
def test_a_value_in_float64_has_a_map_in_float64(method):
    assert attribute(seeded(relu_network), X, 0, method).values.dtype == np.float64
