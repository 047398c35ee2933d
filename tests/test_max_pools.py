"""DeepLIFT through maxima: rounding has no say in which position of a tie wins."""

import warnings

import numpy as np
import pytest
import torch
import zoo
from networks import build
from torch import nn
from torch.nn import functional as F

from eegxai_support.attribution import attribute

POOLED = (  # the networks of the zoo that take maxima, but for those of which DeepLIFT refuses another part
    "ContraWR",
    "Deep4Net",
    "EEGInceptionMI",
    "EEGSimpleConv",
    "SPARCNet",
    "SleepStagerBlanco2020",
    "SleepStagerChambon2018",
    "SyncNet",
    "TIDNet",
    "USleep",
)
ALWAYS = ("Deep4Net", "SleepStagerBlanco2020")
X = np.random.default_rng(0).standard_normal((3, zoo.N_CHANNELS, zoo.N_TIMES)).astype("float32")
SMALL = np.random.default_rng(1).standard_normal((3, 3, 120)).astype("float32")


def explain(model, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(model, x, 1, "deep_lift", **options).values


def assert_close(values, expected):
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("baseline", [None, np.roll(X, 1, 0)], ids=["zeros", "other trial"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.every_decoder) for name in POOLED]
)
def test_a_map_depends_neither_on_precision_nor_on_the_batch(name, baseline):
    model = zoo.build(name)
    values = explain(model, X, baseline=baseline)
    assert_close(explain(model, X, baseline=baseline, batch_size=1), values)
    if name not in zoo.ONLY_FLOAT32:
        model = model.double()
        assert_close(values, explain(model, X, baseline=baseline))
        assert_close(explain(model, X, baseline=baseline, batch_size=1), explain(model, X, baseline=baseline))


class Shuffled(nn.Module):
    """The same sums at every position, added up in an order of the position's own, then maxima of four."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.order = [rng.permutation(64) for _ in range(32)]
        self.term = nn.Parameter(torch.as_tensor(rng.standard_normal(64) * 10.0 ** rng.integers(-2, 3, 64)))
        self.weight = nn.Parameter(torch.as_tensor(rng.standard_normal((8, 2))))

    def forward(self, x):
        constant = []
        for order in self.order:
            total = 0 * self.term[0]
            for i in order:
                total = total + self.term[i]
            constant.append(total)
        constant = torch.stack(constant)
        constant = constant - constant.detach().mean()  # so that rounding is all that is left of it
        hidden = torch.cat([x[:, :1] + constant, x[:, 1:] + 100], 1)  # the other feature sets the layer's scale
        return F.max_pool1d(hidden, 4)[:, 0] @ self.weight


def test_positions_that_tie_but_for_rounding_are_the_trial_s_to_decide():
    """Of a feature that cancels to rounding, in a layer whose other feature is large."""
    x = np.random.default_rng(2).standard_normal((5, 2, 32))
    model = Shuffled()
    winner = x[:, 0].reshape(5, 8, 4)
    winner = np.arange(4) == winner.argmax(2, keepdims=True)
    expected = np.zeros_like(x)
    expected[:, 0] = (winner * model.weight[:, 1].detach().numpy()[:, None]).reshape(5, 32) * x[:, 0]
    np.testing.assert_allclose(explain(model, x), expected, atol=1e-9)
    np.testing.assert_allclose(explain(model.float(), x.astype("float32")), expected, atol=1e-3)


def test_of_tied_positions_that_lose_the_one_where_the_trial_is_largest_falls():
    """The trial's winner, the padded end, does not tie; the two others do, and a hair decides in neither."""
    x, weight = np.array([[[-3.0, -2.0, -1.0]]]), 2.0
    for hair in ([0, 0], [1e-14, 0], [0, 1e-14]):
        baseline = np.array([[[1.0, 1.0, -5.0]]]) + np.array([*hair, 0])
        model = nn.Sequential(nn.MaxPool1d(3), nn.Flatten(), nn.Linear(1, 2)).double()
        nn.init.constant_(model[2].weight, weight)
        # From 1 the maximum falls to -1: all of it belongs to position 1, which falls from 1 to -2.
        np.testing.assert_allclose(explain(model, x, baseline=baseline), [[[0, weight * -2, 0]]], atol=1e-12)


def test_one_row_of_a_shared_baseline_gives_the_maps_of_one_row_per_trial():
    for name in ("Deep4Net", "EEGNet", "FBCNet", "EEGConformer", "TIDNet"):
        model = build(name)
        x = np.resize(SMALL, (3, 3, model.n_times))
        shared = np.random.default_rng(3).standard_normal(x.shape[1:]).astype("float32")
        each = explain(model, x, baseline=np.repeat(shared[None], 3, 0))
        np.testing.assert_allclose(explain(model, x, baseline=shared), each, atol=1e-5 * abs(each).max())


class Merged(nn.Module):
    """Trials and channels share an axis, the channels outside."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        merged = x.transpose(0, 1).reshape(-1, x.shape[2]).exp().mean(1)
        return (merged.reshape(3, -1).T * self.weight).cumsum(1)


def test_trials_that_share_an_axis_are_matched_with_their_baseline():
    shared, model = np.arange(3.0, dtype="float32")[:, None].repeat(120, 1), Merged()
    each = explain(model, SMALL, baseline=np.repeat(shared[None], 3, 0))
    np.testing.assert_allclose(explain(model, SMALL, baseline=shared), each, atol=1e-6 * abs(each).max())


def test_a_target_that_computes_with_the_trial_s_own_numbers_keeps_them():
    model = nn.Sequential(nn.Flatten(), nn.Linear(360, 3)).requires_grad_(False)
    shared = np.ones((3, 120), "float32")

    def score(outputs, trial):
        return (outputs * torch.linspace(1, 2, 3)[trial, None]).square().sum(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, each = (
            attribute(model, SMALL, score, "deep_lift", baseline=baseline)
            for baseline in (shared, np.repeat(shared[None], 3, 0))
        )
    np.testing.assert_allclose(one.values, each.values, atol=1e-5 * abs(each.values).max())
    assert abs(one.delta).max() < 1e-3
