"""Every braindecode decoder: its maps conserve, a channel it does not read gets nothing, it is given back as it was.

`make test` takes the decoders of FAST, `make test-all` all of them.
"""

import inspect
import warnings
from functools import lru_cache

import numpy as np
import pytest
import torch
import zoo
from torch import nn

from eegxai_support.attribution import METHODS, attribute
from eegxai_support.decoders import predict
from eegxai_support.model import UnsupportedOperation
from eegxai_support.model.state import duplicate

FAST = (
    "ATCNet",
    "BIOT",
    "CBraMod",
    "DeepSleepNet",
    "EEGConformer",
    "EEGMiner",
    "EEGNet",
    "EEGSimpleConv",
    "EEGTCNet",
    "FBCNet",
    "LUNA",
    "PBT",
    "SSTDPN",
    "ShallowFBCSPNet",
)
FAST_QUADRATURE = (
    "ATCNet",
    "BIOT",
    "CBraMod",
    "EEGConformer",
    "EEGNet",
    "EEGTCNet",
    "PBT",
    "SSTDPN",
    "ShallowFBCSPNet",
)
NO_RULE = {"DeepSleepNet": "lstm", "LUNA": "angle"}  # operations that DeepLIFT has no rule for
# Its norms divide by the square root of 1e-6 at zero, and it computes in float32 whatever it is given: median 4e-2.
TOO_STEEP = {("MVPFormer", "zero"): 0.1}
CONVOLUTIONAL = (  # some of those that LRP has to apply to
    "Deep4Net",
    "EEGITNet",
    "EEGInceptionERP",
    "EEGNeX",
    "EEGNet",
    "FBCNet",
    "SCCNet",
    "ShallowFBCSPNet",
    "TIDNet",
)
# Relative deltas of integrated gradients that `max_steps` nodes leave above 1e-2: measured, and half as much again.
# LUNA's angle jumps, InterpolatedBENDR's group norm all but jumps at zero; the others have kinks or logarithms.
SLOW_QUADRATURE = {
    ("ContraWR", "other_trial"): 0.02,
    ("Deep4Net", "other_trial"): 0.04,
    ("EEGInceptionMI", "other_trial"): 0.3,
    ("EEGMiner", "other_trial"): 0.11,
    ("EEGSimpleConv", "other_trial"): 0.04,
    ("FBCNet", "zero"): 0.03,
    ("InterpolatedBENDR", "zero"): 0.4,
    ("LUNA", "other_trial"): 1.8,
    ("LUNA", "zero"): 0.2,
    ("SleepStagerBlanco2020", "other_trial"): 0.05,
    ("SleepStagerChambon2018", "other_trial"): 0.04,
}
TARGET, UNREAD = 1, 3
X = np.random.default_rng(0).standard_normal((4, zoo.N_CHANNELS, zoo.N_TIMES)).astype("float32")
BASELINES = {"zero": np.zeros_like(X), "other_trial": np.roll(X, -1, axis=0)}


def decoders(fast):
    return [pytest.param(name, marks=() if name in fast else pytest.mark.every_decoder) for name in zoo.MODELS]


built = lru_cache(1)(zoo.build)  # pytest runs all tests of a decoder before those of the next one


def fresh(name):
    """Return a decoder as it was built, which a test may change; to build it anew takes many times as long."""
    return duplicate(built(name))


@pytest.fixture(scope="module", params=decoders(FAST))
def decoder(request):
    return request.param, fresh(request.param)


def explain(model, method, baseline="zero", n_trials=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these tests look at the deltas themselves
        return attribute(model, X[:n_trials], TARGET, method, baseline=BASELINES[baseline][:n_trials], **options)


def relative_delta(model, result):
    """|delta| over the change of the output, or over the spread of the outputs where that is larger."""
    at_x, at_baseline = predict(model, X)[:, TARGET], predict(model, result.baseline)[:, TARGET]
    change = abs(at_x[: len(result.delta)] - at_baseline)
    return abs(result.delta) / np.maximum(change, at_x.std())


def test_zoo_is_complete():
    import braindecode.models

    classes = inspect.getmembers(braindecode.models, inspect.isclass)
    known = {name for name, kind in classes if issubclass(kind, nn.Module) and name != "EEGModuleMixin"}
    assert known == set(zoo.MODELS) | set(zoo.OUTSIDE)


# --- completeness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", BASELINES)
def test_deep_lift_conserves(decoder, baseline):
    name, model = decoder
    if name in NO_RULE:
        with pytest.raises(UnsupportedOperation, match=NO_RULE[name]):
            explain(model, "deep_lift", baseline)
        return
    median = np.median(relative_delta(model, explain(model, "deep_lift", baseline)))
    assert median < TOO_STEEP.get((name, baseline), 1e-4)
    if name not in zoo.ONLY_FLOAT32:
        double = fresh(name).double()  # where all trials agree to rounding, and one is enough
        assert relative_delta(double, explain(double, "deep_lift", baseline, n_trials=1)).max() < 1e-9


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("decoder", decoders(FAST_QUADRATURE), indirect=True)
def test_integrated_gradients_conserve(decoder, baseline):
    name, model = decoder
    error = relative_delta(model, explain(model, "integrated_gradients", baseline, n_trials=1)).max()
    assert error < SLOW_QUADRATURE.get((name, baseline), 1e-2)


def test_lrp_and_its_biases_sum_to_the_output(decoder):
    name, model = decoder
    if not METHODS["lrp_epsilon"].applies_to(model):
        assert name not in CONVOLUTIONAL
        with pytest.raises(UnsupportedOperation, match="lrp_epsilon has no rule for"):
            attribute(model, X, TARGET, "lrp_epsilon")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = attribute(model, X, TARGET, "lrp_epsilon")
    to_bias = result.report.groupby("trial")["to_bias"].sum().to_numpy()
    output = predict(model, X)[:, TARGET]
    error = abs(result.values.sum((1, 2)) + to_bias - output) / np.maximum(abs(output), output.std())
    assert error.max() < 1e-3


# --- a channel that the network does not read -------------------------------------------------------------------------


class Deaf(nn.Module):
    """Reads the signal of a neighbour in place of the channel UNREAD."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.channels = [UNREAD - 1 if channel == UNREAD else channel for channel in range(zoo.N_CHANNELS)]

    def forward(self, x):
        return self.model(x[:, self.channels])


@pytest.mark.parametrize(
    ("method", "options"), [("deep_lift", {}), ("integrated_gradients", {"n_steps": 4, "max_steps": 4})]
)
def test_unread_channel_gets_exactly_nothing(decoder, method, options):
    name, model = decoder
    if method == "deep_lift" and name in NO_RULE:
        pytest.skip(f"DeepLIFT has no rule for {NO_RULE[name]}")
    values = explain(Deaf(model), method, "other_trial", n_trials=2, **options).values
    assert (values[:, UNREAD] == 0).all()
    assert (np.delete(values, UNREAD, axis=1) != 0).any((1, 2)).all()


# --- nothing about the model is changed -------------------------------------------------------------------------------


def snapshot(model):
    """Return what each module holds, by identity, and the values of all tensors."""
    held = []
    for module in model.modules():
        # EEGMiner itself renews a buffer in each forward pass: buffers are compared by value.
        attributes = {name: value for name, value in vars(module).items() if name != "_buffers"}
        held.append({name: value.copy() if isinstance(value, dict) else value for name, value in attributes.items()})
    tensors = [*model.parameters(), *model.buffers()]
    held += [type(module) for module in model.modules()]
    held += [(tensor.requires_grad, tensor.grad) for tensor in tensors]
    return held, [each.detach().clone() for each in tensors]


@pytest.mark.parametrize(
    ("method", "options"),
    [("deep_lift", {}), ("lrp_epsilon", {}), ("integrated_gradients", {"n_steps": 2, "max_steps": 2})],
)
def test_model_is_given_back_as_it_was(decoder, method, options):
    """A model in training, with a layer in eval mode, a frozen weight, a gradient and a hook."""
    name, _ = decoder
    model = fresh(name)
    predict(model, X[:1])  # some networks make their tables at the first trial
    *_, layer = model.train().modules()
    layer.eval().register_forward_hook(lambda *_: None)
    first, *_, last = model.parameters()
    first.requires_grad_(False)
    last.grad = torch.ones_like(last)
    held, values = snapshot(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attribute(model, X[:2], TARGET, method, **options)
    except UnsupportedOperation:
        assert name in NO_RULE or not METHODS[method].applies_to(model)
    held_after, values_after = snapshot(model)
    assert held == held_after
    assert all(torch.equal(value, after) for value, after in zip(values, values_after, strict=True))
