"""Two threads that overlap on one model leave it as it was, and get what one alone would."""

import threading
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from networks import build
from torch import nn

import eegxai_support as xs

X, OTHERS = np.random.default_rng(0).standard_normal((2, 3, 3, 120)).astype(np.float32)


class Meeting(nn.Module):
    """A network in whose first pass of a call the threads wait for each other, so that their calls overlap."""

    n_chans, n_times = 3, 120

    def __init__(self):
        super().__init__()
        self.net = build("EEGNet")

    def forward(self, x):
        meet()
        return self.net(x)


here = threading.local()


def meet():
    """Wait for the other thread, once a call and where there is another one."""
    barrier, here.barrier = getattr(here, "barrier", None), None
    if barrier is not None:
        barrier.wait()


def randomised(model):
    meet()  # it runs no pass
    return [weight.numpy() for _, each in xs.randomize(model, 0) for weight in each.state_dict().values()]


LAYERS = xs.FilterLayers("net.conv_temporal", "net.conv_spatial", "net.bnorm_temporal")
CALLS = {
    "attribute": lambda model: [xs.attribute(model, X, 0, "deep_lift", baseline=OTHERS).values],
    "predict": lambda model: [xs.predict(model, X)],
    "amplitude_gradients": lambda model: [xs.amplitude_gradients(model, X)],
    "read_filters": lambda model: [xs.read_filters(model, LAYERS, sfreq=100.0).spatial],
    "unit_activations": lambda model: xs.unit_activations(model, X, "net.conv_spatial"),
    "deletion_test": lambda model: [xs.deletion_test(model, X, [0, 1, 2], OTHERS).select_dtypes("number").to_numpy()],
    "randomize": randomised,
}


def state_of(model):
    """Return all that a call could leave behind."""
    return (
        [module.training for module in model.modules()],
        [(weight.requires_grad, weight.grad) for weight in model.parameters()],
        [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        {name: value.tolist() for name, value in model.state_dict().items()},
        torch.backends.cudnn.conv.fp32_precision,
        torch.random.get_rng_state().tolist(),
    )


@pytest.fixture(scope="module")
def model():
    return Meeting().train()


@pytest.fixture(scope="module")
def alone(model):
    return {name: call(model) for name, call in CALLS.items()}


@pytest.mark.parametrize("names", [*combinations_with_replacement(CALLS, 2)], ids=" and ".join)
def test_two_threads_on_one_model_leave_it_as_it_was(names, model, alone):
    before, barrier, found = state_of(model), threading.Barrier(2, timeout=30), [None, None]

    def work(index):
        here.barrier = barrier
        found[index] = CALLS[names[index]](model)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert state_of(model) == before
    for name, results in zip(names, found, strict=True):
        for result, expected in zip(results, alone[name], strict=True):
            np.testing.assert_array_equal(result, expected)


def test_threads_may_explain_a_network_that_cannot_be_copied():
    model = Meeting().train()
    model.lock = threading.Lock()  # Python refuses to copy it
    expected, before = xs.attribute(model, X, 0, "gradient").values, state_of(model)
    barrier, found = threading.Barrier(2, timeout=30), []

    def work():
        here.barrier = barrier
        found.append(xs.attribute(model, X, 0, "gradient").values)

    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert state_of(model) == before
    for values in found:
        np.testing.assert_array_equal(values, expected)
    assert len(found) == 2


def test_overlapping_holds_end_with_the_first_ones_flags():
    model = build("EEGNet").train()
    first, second = xs.frozen(model), xs.frozen(nn.Sequential(model))
    first.__enter__(), second.__enter__(), first.__exit__(None, None, None)
    assert not any(m.training for m in model.modules()) and not any(p.requires_grad for p in model.parameters())
    second.__exit__(None, None, None)
    assert model.training and all(p.requires_grad for p in model.parameters())
