"""Every function with the model on an accelerator, rehearsed: one without float64, and one with TF32.

The emulation computes with the CPU's kernels (see `fake_device`). Where the package takes the same path as on the CPU,
its results must have the same bits; on what says that it is a GPU it may take another.
"""

import warnings
import weakref
from copy import deepcopy
from functools import cache

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from fake_device import DEVICE, FakeDevice, to_tf32
from networks import build
from torch import nn

import eegxai_support as xs
from eegxai_support.attribution import problem
from eegxai_support.attribution.problem import Problem
from eegxai_support.model import exact, wide
from eegxai_support.model.seeds import forked
from eegxai_support.model.simplify import Stem

KINDS = {"no float64": {"float64": False}, "TF32": {"tf32": True}}
# What TF32 changes is the operands of convolutions and products, and gradients of recurrent layers; the first of these
# networks has both operations, the last the layer. Which operations have double precision inside is each network's own.
PLACES = [*(("no float64", name) for name in ("EEGNet", "ShallowFBCSPNet", "Deep4Net", "Recurrent"))]
PLACES += [("TF32", "EEGNet"), ("TF32", "Recurrent")]
CLOSE = 1e-4  # of the largest value of the CPU's


class Recurrent(nn.Module):
    """A temporal convolution, an LSTM and a linear layer."""

    def __init__(self):
        super().__init__()
        self.n_chans, self.n_times = 3, 40
        self.conv = nn.Conv1d(3, 4, 7, stride=4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.lstm(self.conv(x).relu().mT)[0][:, -1])


def network(name):
    if name != "Recurrent":
        return build(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Recurrent().eval()


NETWORKS = {name: network(name) for name in ("EEGNet", "ShallowFBCSPNet", "Deep4Net", "Recurrent")}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def emulated(kind):
    return FakeDevice(**KINDS[kind])


def moved(model):
    return deepcopy(model).to(DEVICE)


def trials_for(model, n=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, model.n_chans, model.n_times)).astype(np.float32)


def labelled(model, n=3):
    info = mne.create_info(["C3", "Cz", "C4"], 100.0, "eeg").set_montage("colin27_1005")
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.arange(n)})
    return xs.Trials(trials_for(model, n), "uV", np.arange(n) % 3, info, ("a", "b", "c"), metadata)


def assert_same(found, expected, *, bits):
    """Compare arrays or tables, bit by bit or within `CLOSE`."""
    if isinstance(expected, pd.DataFrame):
        assert list(found) == list(expected)
        found, expected = (table.select_dtypes("number").to_numpy(float) for table in (found, expected))
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype
    if bits:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * np.nanmax(np.abs(expected)))


# --- the emulation ----------------------------------------------------------------------------------------------------


def test_the_emulated_device_refuses_what_accelerators_refuse():
    x = torch.ones(3)
    with FakeDevice(float64=False):
        on = x.to(DEVICE)
        assert on.device == DEVICE
        assert torch.equal((on + 1).cpu(), x + 1)
        with pytest.raises(RuntimeError, match="same device"):
            on + x
        with pytest.raises(RuntimeError, match="same device"):
            x[on.long()] = on
        with pytest.raises(TypeError, match="float64"):
            on.double()
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(2, dtype=torch.float64, device=DEVICE)
        with pytest.raises(TypeError, match="float64"):
            torch.as_tensor(np.ones(2), device=DEVICE)
        with pytest.raises(TypeError, match="float64"):
            on.sum(0, dtype=torch.float64)
        with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
            on.numpy()
    with FakeDevice():
        assert x.to(DEVICE).double().dtype == torch.float64


def test_the_emulated_gpu_rounds_to_tf32_unless_told_not_to():
    assert to_tf32(torch.tensor(1 + 2**-10)) == 1 + 2**-10
    assert to_tf32(torch.tensor(1 + 2**-12)) == 1
    model, x = NETWORKS["EEGNet"], torch.as_tensor(trials_for(NETWORKS["EEGNet"]))
    with torch.no_grad(), FakeDevice(tf32=True):
        on, right = moved(model), model(x)
        rounded = (on(x.to(DEVICE)).cpu() - right).abs().max() / right.abs().max()
        with exact(on):
            exactly = (on(x.to(DEVICE)).cpu() - right).abs().max() / right.abs().max()
    assert rounded > CLOSE
    assert exactly < 1e-6


def test_the_emulated_gpu_refuses_gradients_of_recurrent_layers():
    with FakeDevice(tf32=True):
        on, x = moved(NETWORKS["Recurrent"]), torch.zeros(1, 3, 40).to(DEVICE).requires_grad_()
        with pytest.raises(RuntimeError, match="cudnn RNN"):
            on(x)


# --- what every function returns --------------------------------------------------------------------------------------


def same_bits(name, kind):
    """Tell whether all is computed as on the CPU, which has a kernel of its own for LSTMs."""
    return kind == "no float64" and name != "Recurrent"


OPTIONS = {
    "integrated_gradients": {"n_steps": 8, "max_steps": 8, "tol": 1.0},
    "expected_gradients": {"n_samples": 3},
    "smooth_grad": {"n_samples": 2},
    "kernel_shap": {"n_samples": 8},
    "occlusion": {"window": (2, 30), "stride": (1, 30)},
    "window_ablation": {"length": 30},
}


def maps_of(model, method):
    """Return a method's map and its receipt without a warning, or None where the network is not for it."""
    x, options = trials_for(model), dict(OPTIONS.get(method, {}))
    if xs.METHODS[method].needs_baseline:
        options["baseline"] = trials_for(model, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*backward hook")
        try:
            found = xs.attribute(model, x, [0, 1, 2], method, batch_size=2, **options)
        except xs.UnsupportedOperation:
            return None
    return found.values, np.zeros(0) if found.delta is None else found.delta


maps_on_cpu = cache(lambda name, method: maps_of(NETWORKS[name], method))


@pytest.mark.parametrize(("kind", "name"), PLACES)
@pytest.mark.parametrize("method", xs.METHODS)
def test_maps_on_a_device_are_those_of_the_cpu(method, name, kind):
    expected = maps_on_cpu(name, method)
    with emulated(kind):
        found = maps_of(moved(NETWORKS[name]), method)
    if not xs.METHODS[method].applies_to(NETWORKS[name]):
        assert found is expected is None
        return
    assert_same(found[0], expected[0], bits=same_bits(name, kind))
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=CLOSE)


FUNCTIONS = {
    "predict": lambda model, x: xs.predict(model, x),
    "amplitude_gradients": lambda model, x: xs.amplitude_gradients(model, x, batch_size=2),
    "amplitude_perturbation": lambda model, x: xs.amplitude_perturbation(model, x, n_iterations=4).correlation,
    "deletion_test": lambda model, x: xs.deletion_test(model, x, [0, 1, 2], trials_for(model, seed=1)),
    "sensitivity_test": lambda model, x: xs.sensitivity_test(
        model, x, [0, 1, 2], trials_for(model, seed=1), n_patches=4
    ),
    "perturbation_curves": lambda model, x: xs.perturbation_curves(
        model, x, [0, 1, 2], trials_for(model, seed=1), shares=(0.1, 0.3)
    ),
}
functions_on_cpu = cache(lambda name, function: FUNCTIONS[function](NETWORKS[name], trials_for(NETWORKS[name])))


@pytest.mark.parametrize(("kind", "name"), PLACES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_a_model_on_a_device_are_those_of_the_cpu(function, name, kind):
    expected, model = functions_on_cpu(name, function), NETWORKS[name]
    with emulated(kind):
        found = FUNCTIONS[function](moved(model), trials_for(model))
    assert_same(found, expected, bits=same_bits(name, kind))


def insides_of(model):
    """Return what the functions of single layers say: filters, units, what they matter, concepts."""
    x, filters = trials_for(model), xs.read_filters(model, sfreq=100.0)
    return [
        filters.kernels,
        filters.spatial,
        *xs.unit_activations(model, x, filters.layer),
        xs.ablate_units(model, labelled(model), filters.layer),
        xs.concept_relevance(model, x, [0, 1, 2], filters.layer).relevance,
    ]


insides_on_cpu = cache(lambda name: insides_of(NETWORKS[name]))


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "Deep4Net"])
def test_filters_units_and_concepts_on_a_device_are_those_of_the_cpu(name, kind):
    expected = insides_on_cpu(name)
    with emulated(kind):
        found = insides_of(moved(NETWORKS[name]))
    for pair in zip(found, expected, strict=True):
        assert_same(*pair, bits=same_bits(name, kind))


def test_networks_on_a_device_are_randomised_there(kind):
    model = NETWORKS["EEGNet"]
    expected = [randomised.state_dict() for _, randomised in xs.randomize(model, 0)]
    with emulated(kind):
        for (name, found), state in zip(xs.randomize(moved(model), 0), expected, strict=True):
            assert next(found.parameters()).device == DEVICE
            for key, value in found.state_dict().items():
                assert torch.equal(value.cpu(), state[key]), (name, key)


@pytest.mark.parametrize("name", ["EEGNet", "Recurrent"])
def test_networks_are_trained_on_a_device_and_come_back(name, kind):
    on_cpu, on_device = deepcopy(NETWORKS[name]), deepcopy(NETWORKS[name])
    options = {"epochs": 2, "batch_size": 2, "lr": 1e-3}
    expected = xs.train(on_cpu, labelled(on_cpu), labelled(on_cpu), **options, device="cpu").history
    with emulated(kind):
        found = xs.train(on_device, labelled(on_cpu), labelled(on_cpu), **options, device=DEVICE).history
    assert next(on_device.parameters()).device.type == "cpu"
    # Training has no receipt and may round: TF32 keeps 3 digits of an operand, and 4 steps of AdamW follow it.
    pd.testing.assert_frame_equal(found, expected, rtol=CLOSE if kind == "no float64" else 0.02)


def test_maps_on_a_device_are_scored(kind):
    maps, reference = (torch.as_tensor(trials_for(NETWORKS["EEGNet"], seed=seed)) for seed in (0, 1))
    expected = xs.score_maps(maps, reference, n_null=0)
    with emulated(kind):
        assert_same(xs.score_maps(maps.to(DEVICE), reference, n_null=0), expected, bits=True)


def test_simplify_works_on_any_device(kind):
    model = NETWORKS["EEGNet"]
    here = xs.simplify(model)
    with emulated(kind):
        there = xs.simplify(moved(model))
        assert any(isinstance(module, Stem) for module in there.modules())
        assert {name for name, _ in there.named_modules()} == {name for name, _ in here.named_modules()}
        for a, b in zip(here.state_dict().values(), there.state_dict().values(), strict=True):
            assert torch.equal(a, b.cpu())


def test_double_precision_is_found_where_it_is():
    x = torch.ones(3)
    with FakeDevice():
        assert wide(x.to(DEVICE)).device == DEVICE
    with FakeDevice(float64=False):
        assert wide(x.to(DEVICE)).device.type == "cpu"


# --- a chapter --------------------------------------------------------------------------------------------------------


def chapter_of(model, trials):
    """Return what a chapter shows of a trained decoder: outputs, maps and their receipts, spectra, scores, filters."""
    maps = xs.attribute(model, trials, trials.label, "deep_lift")
    gradients = xs.amplitude_gradients(model, trials)
    return {
        "outputs": xs.predict(model, trials),
        "maps": maps.values,
        "conservation": maps.values.sum((1, 2)) - maps.delta,
        "amplitude gradients": gradients,
        "spatial filters": xs.read_filters(model, sfreq=trials.sfreq).spatial,
        "deletion": xs.deletion_test(model, trials, trials.label, maps.values),
        "scores": xs.score_maps(maps.values, trials.signal, n_null=0),
    }


def test_a_chapter_on_a_device_shows_what_it_shows_on_the_cpu(kind, monkeypatch):
    """The way of the book: one device, chosen once, for training and for everything after."""
    trials = labelled(NETWORKS["EEGNet"], n=6)
    with emulated(kind):
        monkeypatch.setenv("EEGXAI_DEVICE", str(DEVICE))
        device = xs.best_device()
        model = xs.build_decoder("EEGNet", trials, kernel_length=16).to(device)
        trained = xs.train(model, trials, epochs=2, batch_size=3, device=device)
        assert next(model.parameters()).device == DEVICE
        found = chapter_of(model, trials)
        on_cpu = model.to("cpu")
    expected = chapter_of(on_cpu, trials)
    for name, value in expected.items():
        assert_same(found[name], value, bits=False)
    here = xs.build_decoder("EEGNet", trials, kernel_length=16)
    losses = xs.train(here, trials, epochs=2, batch_size=3, device="cpu").history["train_loss"]
    # As above: training may round, and these are 4 steps from the same weights.
    np.testing.assert_allclose(trained.history["train_loss"], losses, rtol=CLOSE if kind == "no float64" else 0.02)


# --- where a model runs -----------------------------------------------------------------------------------------------


def test_the_device_is_the_argument_then_the_environment_then_the_best(monkeypatch):
    monkeypatch.delenv("EEGXAI_DEVICE", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_, **__: False)
    assert xs.best_device() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_, **__: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: torch.device("mps"))
    assert xs.best_device() == torch.device("mps")
    monkeypatch.setenv("EEGXAI_DEVICE", "cpu")
    assert xs.best_device() == torch.device("cpu")
    assert xs.best_device("meta") == torch.device("meta")
    assert xs.best_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "xla", "mps:0:0"])
def test_a_device_that_is_not_there_is_refused(name, monkeypatch):
    with pytest.raises(ValueError, match=f"{name}.*cannot be used here"):
        xs.best_device(name)
    monkeypatch.setenv("EEGXAI_DEVICE", name)
    with pytest.raises(ValueError, match="EEGXAI_DEVICE"):
        xs.best_device()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("MPS backend out of memory")]
)
def test_memory_of_a_batch_is_free_before_it_is_halved(error, monkeypatch):
    """Of any device: while the error is handled its traceback still holds what the pass had in memory."""
    held, alive = [], []

    class Held:
        pass

    def forward(self, x):
        if len(x) == 1:
            return x.sum(2)
        activation = Held()
        held.append(weakref.ref(activation))
        raise type(error)(str(error))

    monkeypatch.setattr(problem, "free_memory", lambda: alive.append(held[-1]()))
    full = Problem(nn.Identity(), torch.ones(4, 1, 2), torch.zeros(4, 1, 2), False, None, 4)
    assert full.in_batches(lambda rows: forward(None, full.x[rows]), 4).shape == (4, 1)
    assert alive == [None, None]
    with pytest.raises(RuntimeError, match="something else"):
        full.in_batches(lambda rows: (_ for _ in ()).throw(RuntimeError("something else")), 4)


def test_the_random_state_of_the_cpu_is_left_alone():
    state = torch.get_rng_state()
    with forked(torch.device("cpu")):
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), state)
