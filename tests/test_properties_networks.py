"""What is said of a network depends on the trial alone: not on unit, batch, company, order, mode or device."""

from collections.abc import Callable
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

import numpy as np
import pytest
import torch
from fake_device import DEVICE, FakeDevice
from hypothesis import given, note, settings
from hypothesis import strategies as st
from properties import assert_close, layouts, of, run, seeds, tasks, units

import eegxai_support as xs

pytestmark = pytest.mark.filterwarnings("ignore")  # of sizes and scales that nobody should trust a map of


class Said(NamedTuple):
    """A function of a network and trials, and which of the properties it has."""

    of: Callable  # (task, batch_size) -> ndarray
    shape: str  # of the result: n trials, c channels, t samples, f frequencies, k classes; other letters any
    power: int = 0  # of the unit of the trials in the result
    order: bool = True  # a trial's result does not depend on its place
    channels: bool = True  # the order of the channels means nothing
    of_outputs: bool = False  # differences of outputs, as precise as these
    rounding: float = 1.0  # how many times the rounding of what it is made of


# Drawn for the place of the trial, or, of noise, of the channel: another order of them is another draw.
DRAWN = {"expected_gradients": {"order": False}, "smooth_grad": {"order": False, "channels": False}}
DRAWN["random"] = DRAWN["smooth_grad"]
PER_UNIT = {"gradient", "saliency", "smooth_grad", "guided_backprop", "deconvolution", "guided_grad_cam"}
OPTIONS = {
    "expected_gradients": {"n_samples": 5},
    "smooth_grad": {"n_samples": 3},
    "integrated_gradients": {"n_steps": 4, "max_steps": 32},
}


def explained(name):
    method = xs.METHODS[name]

    def values(task, batch_size):
        options = OPTIONS.get(name, {})
        if method.many_baselines:
            baselines = np.random.default_rng(0).standard_normal((3, 1, task.x.shape[2])).astype(task.x.dtype)
            options = options | {"baseline": np.repeat(task.unit * baselines, task.x.shape[1], axis=1)}
        elif method.needs_baseline:
            options = options | {"baseline": task.other}
        return xs.attribute(task.model, task.x, task.target, name, batch_size=batch_size, **options).values

    return Said(values, "nct", -(name in PER_UNIT), of_outputs=not method.uses_gradient, **DRAWN.get(name, {}))


def by_trial(table):
    """Return the numbers of a table, shape (trial, row, column)."""
    table = table.sort_values("trial", kind="stable")
    numbers = table.select_dtypes("number").drop(columns=["trial", "target"]).to_numpy(float)
    return numbers.reshape(table["trial"].nunique(), -1, numbers.shape[1])


def faithful(function, own=False, **options):
    """What chance reaches is drawn for each place, and its surrogates take the order of the channels for space."""

    def said(task, batch_size):
        maps = task.other if own else task.unit * np.round(task.other / task.unit)  # ties, which are drawn too
        table = function(task.model, task.x, task.target, maps, batch_size=batch_size, **options)
        return by_trial(table[table["map"] == "own"] if own else table)

    return Said(said, "n??", order=own, channels=own, of_outputs=True)


def effect_of(task, batch_size, method="perturbation"):
    x = np.concatenate([k * task.x for k in range(1, 9)])  # more trials than there are groups of them
    effect = xs.amplitude_perturbation(
        task.model, x, scale=0.5 * task.unit, n_iterations=6, method=method, batch_size=batch_size
    )
    # A p-value counts draws and jumps from one to the next.
    p_value = effect.p_value[~np.isnan(effect.p_value)]
    assert (p_value >= 1e-9 * (method == "perturbation")).all() and (p_value <= 1).all()  # gradients may be all alike
    return np.stack([effect.correlation, effect.low, effect.high])


# An interval over two groups is Student's t of one degree of freedom, 12.7, times as wide as what it is made of.
def first_order(task, batch_size):
    return effect_of(task, batch_size, "first_order")[:1]  # intervals are over groups of neighbours


LAYER = "behind"
CURVES, DELETION, PATCHES = xs.perturbation_curves, xs.deletion_test, xs.sensitivity_test
SAID = {name: explained(name) for name in xs.METHODS} | {
    "predict": Said(lambda t, b: xs.predict(t.model, t.x, batch_size=b), "nk", of_outputs=True),
    "predict in crops": Said(lambda t, b: xs.predict(t.model, np.tile(t.x, 2), stride=5, batch_size=b), "nk"),
    "amplitude": Said(lambda t, b: xs.amplitude_gradients(t.model, t.x, batch_size=b), "kncf", -1),
    "power": Said(lambda t, b: xs.amplitude_gradients(t.model, t.x, quantity="power", batch_size=b), "kncf", -2),
    "phase": Said(lambda t, b: xs.amplitude_gradients(t.model, t.x, quantity="phase", batch_size=b), "kncf"),
    "amplitude_perturbation": Said(effect_of, "?cfk", order=False, channels=False, rounding=13),
    "first-order amplitude_perturbation": Said(first_order, "?cfk"),
    "unit_activations": Said(lambda t, b: xs.unit_activations(t.model, t.x, LAYER, batch_size=b)[0], "n??"),
    "concept_relevance": Said(
        lambda t, b: xs.concept_relevance(t.model, t.x, t.target, LAYER, batch_size=b).relevance, "n?"
    ),
    "perturbation_curves": faithful(CURVES),
    "perturbation_curves of the own map": faithful(CURVES, own=True, mode="insertion"),
    "deletion_test": faithful(DELETION),
    "deletion_test of the own map": faithful(DELETION, own=True),
    "sensitivity_test": faithful(PATCHES, n_patches=4, shares=(0.2, 0.4)),
}
# A correlation of what never changes, or of a single trial's interval.
HAS_NO_NUMBER = {"amplitude_perturbation", "first-order amplitude_perturbation", "sensitivity_test"}
functions = pytest.mark.parametrize("name", SAID)


COVERS = ("METHODS", "attribute", "predict", "amplitude_gradients", "amplitude_perturbation", "unit_activations")
COVERS += ("concept_relevance", "perturbation_curves", "deletion_test", "sensitivity_test")


def check(found, said, task):
    """Compare with what shape and type have to be."""
    n, c, t = task.x.shape
    sizes = {"n": n, "c": c, "t": t, "f": t // 2 + 1, "k": task.n_classes}
    assert found.ndim == len(said.shape)
    for size, axis in zip(found.shape, said.shape, strict=True):
        assert size == sizes.get(axis, size) > 0
    return found


def size_of(said, task, result):
    """Return how large the numbers are whose rounding is in a result."""
    largest = np.abs(result[np.isfinite(result)]).max(initial=0)
    outputs = np.abs(xs.predict(task.model, task.x)).max() if said.of_outputs else 0
    return said.rounding * max(largest, outputs)


@of(*COVERS)
@functions
def test_what_is_said_of_a_network_does_not_depend_on_what_it_should_not(name):
    said = SAID[name]

    @run(name, task=tasks(), batch_size=st.sampled_from((2, 1, 3, 4, 5)), unit=units, layout=layouts, seed=seeds)
    def holds(task, batch_size, unit, layout, seed):
        n, n_channels, _ = task.x.shape
        rng = np.random.default_rng(seed)
        few = rng.integers(1, n + 1) if "n" in said.shape else n
        rows = rng.permutation(n)[:few] if said.order else np.arange(few)
        order = rng.permutation(n_channels) if said.channels else np.arange(n_channels)
        note(f"trials {rows}, channels {order}")  # all at once, since each call takes a hundredth of a second
        expected = check(said.of(task, 64), said, task)
        of_these = expected * unit**said.power
        for axis, index in (("n", rows), ("c", order)):
            of_these = of_these.take(index, said.shape.index(axis)) if axis in said.shape else of_these
        found = said.of(task.rows(rows).channels(order).in_unit(unit).laid_out(layout), batch_size)
        size = size_of(said, task, expected)
        assert_close(found, of_these, task.x.dtype, size=size * unit**said.power)
        with given_back(task.model, rng):
            assert_close(said.of(task, 64), expected, task.x.dtype, size=size)


@contextmanager
def given_back(model, rng):
    """Put modules in train mode at random; expect modes, weights, statistics and gradients to be as they were."""
    modes = {module: bool(rng.integers(2)) for module in model.modules()}
    for module, mode in modes.items():
        module.training = mode
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.lock = Lock() if rng.integers(2) else None  # what cannot be copied is explained itself
    yield
    assert {module: module.training for module in model.modules()} == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@of(*COVERS)
@functions
def test_trials_in_any_unit_give_numbers(name):
    @run(name, task=tasks(), size=st.sampled_from((-6, 6, -3, -2, -1, 0, 1, 2, 3)))
    def holds(task, size):
        task.x, task.other = ((10.0**size * each).astype(each.dtype) for each in (task.x, task.other))
        found = check(SAID[name].of(task, 64), SAID[name], task)
        assert np.isfinite(found).all() or (name in HAS_NO_NUMBER and not np.isinf(found).any())


@of(*COVERS)
@settings(max_examples=8)
@given(
    task=tasks(most=3), name=st.sampled_from(sorted(SAID)), kind=st.sampled_from(({"tf32": True}, {"float64": False}))
)
def test_what_is_said_on_another_device(task, name, kind):
    task.model.float()
    task.x, task.other = task.x.astype("float32"), task.other.astype("float32")
    expected = SAID[name].of(task, 2)
    size = size_of(SAID[name], task, expected)
    with FakeDevice(**kind):
        task.model.to(DEVICE)
        assert_close(SAID[name].of(task, 2), expected, "float32", size=size)
