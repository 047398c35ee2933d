"""A network in two parts against the network as a whole, and the parts that are no parts of it."""

import warnings

import numpy as np
import pytest
import torch
from networks import build
from torch import nn

from eegxai_support.attribution import attribute
from eegxai_support.attribution.parted import parted
from eegxai_support.attribution.problem import Problem
from eegxai_support.model import simplify

RNG = np.random.default_rng(0)
X = torch.tensor(RNG.standard_normal((4, 3, 120)))


class Net(nn.Module):
    """Linear filters, then what is given: a function of the filtered trials and the trials."""

    def __init__(self, then):
        super().__init__()
        self.conv, self.then = nn.Conv1d(3, 4, 5, dtype=torch.float64).requires_grad_(False), then

    def forward(self, x, *extra):
        return self.then(self.conv(x), x, *extra).flatten(2).mean(2)


def halves(model, *extra):
    return parted(model, X[:2], tuple(each[:2] for each in extra))


@pytest.mark.parametrize("simplified", [False, True], ids=["as it is", "simplified"])
@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "Deep4Net", "InterpretableCNN", "SCCNet", "EEGNeX"])
def test_the_parts_are_the_whole(name, simplified):
    model = build(name, torch.float64).requires_grad_(False)
    model = simplify(model, X) if simplified else model
    parts = halves(model)
    assert any(call == "conv2d" for call, _ in parts.calls)
    np.testing.assert_allclose(parts.behind(parts.before(X)), model(X), rtol=1e-10)
    with torch.no_grad():  # where a simplified network takes other calls
        np.testing.assert_allclose(parts.behind(parts.before(X)), model(X), rtol=1e-10)
    a, b = X[:2], X[2:]
    line = parts.before(a) + 0.3 * (parts.before(b) - parts.before(a))
    np.testing.assert_allclose(parts.before(a + 0.3 * (b - a)), line, atol=1e-10)


@pytest.mark.parametrize(
    ("then", "n_calls"),
    [
        (lambda h, x: h.square(), 1),
        (lambda h, x: (2 * h + 1).square(), 3),
        (lambda h, x: h.square() + h, 1),  # which both use
        (lambda h, x: h.square() + x[:, :, 4:].mean(1, keepdim=True), 0),  # the trials act behind the filters too
        (lambda h, x: h.square() if x.max() > 0 else h, 0),  # and here without a gradient
        (lambda h, x: h.mul_(2).square(), 1),
        (lambda h, x: (h - h.mean(0)).square(), 1),  # other trials act on a trial: not before
        (lambda h, x: h.abs().sqrt(), 1),
        (lambda h, x: torch.stack(h.unbind(1), 1).square(), 1),
        (lambda h, x: h, 1),
    ],
)  # fmt: skip
def test_the_first_part_ends_where_the_network_is_no_longer_affine_or_the_trials_act_elsewhere(then, n_calls):
    parts = halves(Net(then))
    assert (0 if parts is None else len(parts.calls)) >= n_calls > 0 or (n_calls == 0 and parts is None)
    if parts is not None:
        x = X.flip(0)
        np.testing.assert_allclose(parts.behind(parts.before(x)), parts.model(x), atol=1e-10)


class Squared(torch.autograd.Function):
    """A function of the network's own, which no function mode sees."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def test_what_a_network_hides_is_not_before():
    hidden = Net(lambda h, x: 2 * Squared.apply(h) + Squared.apply(x)[:, :1, 4:])
    assert halves(hidden) is None
    seen = Net(lambda h, x: 2 * Squared.apply(h))
    assert [name for name, _ in halves(seen).calls] == ["conv1d"]


def test_further_inputs_are_seen_by_both_parts():
    model = Net(lambda h, x, scale, shift: (h * scale[:, None, None]).square() + shift[:, None, None])
    scale, shift = torch.tensor(RNG.standard_normal((2, 4)))
    parts = halves(model, scale, shift)
    assert [name for name, _ in parts.calls] == ["conv1d", "mul"]
    np.testing.assert_allclose(
        parts.behind(parts.before(X, scale, shift), scale, shift), model(X, scale, shift), atol=1e-10
    )


def test_another_course_with_another_number_of_trials_is_noticed():
    for other in (lambda h: 3 * h, lambda h: h.flip(2)):
        assert halves(Net(lambda h, x, other=other: (2 * h if len(x) > 1 else other(h)).square())) is None


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "FBCNet"])
@pytest.mark.parametrize("baseline", [None, "own"])
def test_integrated_gradients_are_those_of_the_whole(name, baseline, monkeypatch):
    model = build(name, torch.float64)
    options = {"n_steps": 4, "max_steps": 16, "tol": 1e-3, "baseline": None if baseline is None else X.flip(0).numpy()}

    def explained():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attribute(model, X.numpy(), [0, 1, 2, 0], "integrated_gradients", **options)

    by_parts = explained()
    monkeypatch.setattr(Problem, "parts", None)
    whole = explained()
    np.testing.assert_allclose(by_parts.values, whole.values, atol=1e-12 * abs(whole.values).max())


def test_integrated_gradients_with_further_inputs_in_the_linear_part():
    """f = sum_c (s x_c)²: the map is s² x² for a baseline of zeros, s being each trial's own."""
    scale = RNG.standard_normal(4)
    model = Net(lambda h, x, scale: h)
    model.forward = lambda x, scale: (scale[:, None, None] * x).square().sum((1, 2))[:, None]
    made = attribute(model, X.numpy(), 0, "integrated_gradients", extra=(scale,))
    np.testing.assert_allclose(made.values, (scale[:, None, None] * X.numpy()) ** 2, rtol=1e-10)
