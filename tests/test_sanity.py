"""Sanity checks: every learned weight is replaced, in the order of execution, in fresh copies, from a seed."""

import warnings
from dataclasses import replace
from functools import cached_property

import mne
import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from torch import nn

from eegxai_support.model import frozen
from eegxai_support.sanity import (
    data_randomisation_test,
    efficient_mprt,
    label_randomisation_test,
    random_target,
    randomize,
    smooth_mprt,
    weight_randomisation_test,
)
from eegxai_support.trials import Trials

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode import models as braindecode_models

SIZES = {
    "EEGNet": {"n_times": 64},
    "ShallowFBCSPNet": {"n_times": 120},
    "Deep4Net": {"n_times": 450},
    "EEGConformer": {"n_times": 160, "num_layers": 1},
    "FBCNet": {"n_times": 100, "sfreq": 100},
}


def trained(model):
    """Stand in for training: move every parameter and running statistic off its initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer += 0.5 * torch.rand(buffer.shape, generator=generator)
    return model


@pytest.fixture(scope="module", params=list(SIZES))
def model(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return trained(getattr(braindecode_models, request.param)(n_chans=4, n_outputs=3, **SIZES[request.param]))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def learned(model):
    """Names of what training moves: parameters with a gradient and running statistics."""
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    return names | {name for name, _ in model.named_buffers() if name.endswith(("running_mean", "running_var"))}


def changed(model, reference):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, reference[name])}


class OutOfOrder(nn.Module):
    """Registered from the output to the input; also a bare parameter, a shared module and one that nothing calls."""

    n_chans, n_times = 4, 10

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Linear(3, 3)
        self.output = nn.Linear(6, 2)
        self.shared = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
        self.input = nn.Linear(10, 6)

    def forward(self, x):
        x = self.shared(self.norm(self.input(self.gain * x)))
        x, _ = self.attention(x, x, x)
        return self.output(self.shared(x).mean(dim=1))


# ------------------------------------------------------------------------------------------------- weight randomisation


def test_cascade_ends_with_every_learned_tensor_replaced(model):
    before = state(model)
    *_, (_, last) = randomize(model, seed=0)
    assert changed(last, before) == learned(model)
    weights = [name for name in learned(model) if name.endswith(("weight", "original"))]
    for name in weights:  # nearly every value of each, not just some
        assert (last.state_dict()[name] != before[name]).float().mean() > 0.95


def test_parametrised_weights_are_replaced_in_the_function(model):
    *_, (_, last) = randomize(model, seed=0)
    modules = dict(last.named_modules())
    for name, module in model.named_modules():
        if hasattr(module, "parametrizations"):
            assert not torch.isclose(module.weight, modules[name].weight).any(dim=-1).all()


def test_given_model_is_untouched(model):
    before, training = state(model), [m.training for m in model.modules()]
    list(randomize(model, seed=0))
    assert changed(model, before) == set()
    assert training == [m.training for m in model.modules()]
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_levels_are_distinct_copies_in_eval_mode(model):
    levels = list(randomize(model, seed=0))
    assert len({id(m) for _, m in levels}) == len(levels)
    assert not any(module.training for _, m in levels for module in m.modules())
    before = state(model)
    sizes = [len(changed(m, before)) for _, m in levels]
    assert sizes == sorted(set(sizes))


def test_independent_order_replaces_one_module_each(model):
    before = state(model)
    levels = list(randomize(model, seed=0, order="independent"))
    assert [name for name, _ in levels] == [name for name, _ in randomize(model, seed=0)]
    replaced = [changed(m, before) for _, m in levels]
    assert set().union(*replaced) == learned(model)
    assert sum(len(names) for names in replaced) == len(learned(model))
    for (name, _), names in zip(levels, replaced, strict=True):
        assert all(n.startswith(f"{name}.") for n in names)


def test_all_at_once_is_the_end_of_the_cascade(model):
    *_, (_, last) = randomize(model, seed=3)
    ((name, at_once),) = randomize(model, seed=3, order="at_once")
    assert name == ""
    assert changed(at_once, state(last)) == set()


def test_randomized_models_still_give_finite_outputs(model):
    x = torch.randn(2, model.n_chans, model.n_times, generator=torch.Generator().manual_seed(0))
    for _, randomized in randomize(model, seed=0):
        assert torch.isfinite(randomized(x)).all()


FAST = ("ATCNet", "BIOT", "CTNet", "EEGITNet", "FBCNet", "TIDNet")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.every_decoder) for n in zoo.MODELS]
)
def test_nothing_learned_is_left_in_any_decoder(name):
    model = trained(zoo.build(name))
    x = torch.randn(2, zoo.N_CHANNELS, zoo.N_TIMES, generator=torch.Generator().manual_seed(0))
    before = state(model)
    *_, (_, last) = randomize(model, seed=0)
    kept = {n: (last.state_dict()[n] == before[n]).float().mean().item() for n in learned(model) if before[n].numel()}
    assert max(kept.values()) < 0.01, max(kept, key=kept.get)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BIOT's short-time Fourier transform has no window
        output, trained_output = last(x), model(x)
    assert torch.isfinite(output).all()
    assert (output - trained_output).abs().mean() > 0.1 * trained_output.std()


class Undeclared(nn.Module):
    """Declares no size; every kind of layer that keeps its weights in an unusual place."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(3, 2)
        self.first = nn.Linear(10, 10)
        self.tied = nn.Linear(10, 10)
        self.tied.weight = self.first.weight
        self.alias = self.tied
        with pytest.warns(FutureWarning, match="weight_norm"):
            self.old_norm = nn.utils.weight_norm(nn.Linear(10, 10))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(10, 10))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(10, 2, 8, batch_first=True), 1)
        self.norms = nn.Sequential(nn.LayerNorm(10), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4, affine=True))
        self.embedding = nn.Embedding(4, 10)
        self.lstm, self.gru = nn.LSTM(10, 4, bidirectional=True, batch_first=True), nn.GRU(8, 3, batch_first=True)
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(3))])

    def forward(self, x):
        x = self.spectral(self.old_norm(self.norms(self.first(x)) + self.embedding(torch.arange(4))))
        x, _ = self.gru(self.lstm(self.alias(self.encoder(x)))[0])
        return self.output(x[:, -1] * self.gains[0])


@pytest.fixture(scope="module")
def undeclared():
    torch.manual_seed(0)
    return trained(Undeclared())


def test_unusual_layers_are_replaced_in_the_order_of_execution(undeclared):
    levels = list(randomize(undeclared, seed=0, shape=(4, 10)))
    names = [name for name, _ in levels]
    encoder = [name for name in names if name.startswith("encoder")]
    expected = ["output", "gru", "lstm", "tied", *encoder, "spectral", "old_norm", "embedding"]
    assert names == [*expected, "norms.2", "norms.1", "norms.0", "first", "gains"]
    assert len(encoder) == 6  # in_proj_weight is no module of its own: norms, linears, output projection, attention
    before = state(undeclared)
    _, tied = levels[names.index("tied")]
    assert {"first.weight", "tied.weight", "tied.bias"} <= changed(tied, before)  # one tensor, read last by tied
    assert "first.bias" not in changed(tied, before)
    assert tied.first.weight is tied.tied.weight
    assert learned(undeclared) <= changed(levels[-1][1], before)
    ((_, at_once),) = randomize(undeclared, seed=0, order="at_once")  # no forward pass, so no shape
    assert changed(at_once, state(levels[-1][1])) == set()


def test_spectral_norm_holds_after_randomisation(undeclared):
    for name, randomized in randomize(undeclared, seed=0, shape=(4, 10), order="independent"):
        if name == "spectral":
            assert torch.linalg.matrix_norm(randomized.spectral.weight, 2).item() == pytest.approx(1, rel=0.05)
        else:  # singular vectors of weights that stay are not touched
            assert torch.equal(randomized.spectral.weight, undeclared.eval().spectral.weight)


def test_every_filter_gets_the_running_variance_of_another():
    model = nn.Sequential(nn.BatchNorm1d(2))
    model[0].running_var.copy_(torch.tensor([1.0, 3.0]))
    for seed in range(8):
        *_, (_, last) = randomize(model, seed, shape=(2, 5))
        assert last[0].running_var.tolist() == [3.0, 1.0]


def test_fixed_filters_are_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = braindecode_models.FBCNet(n_chans=4, n_outputs=3, **SIZES["FBCNet"])
    *_, (_, last) = randomize(model, seed=0)
    assert not any("spectral_filtering" in name for name in changed(last, state(model)))


def test_order_is_that_of_execution():
    names = [name for name, _ in randomize(OutOfOrder(), seed=0)]
    # shared counts where it is called last; what nothing calls and the model's own gain come at the end
    assert names == ["output", "shared", "attention.out_proj", "attention", "norm", "input", "unused", ""]


def test_spatial_and_temporal_convolution_of_a_combined_convolution_are_both_replaced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = braindecode_models.ShallowFBCSPNet(n_chans=4, n_outputs=3, **SIZES["ShallowFBCSPNet"])
    names = [name for name, _ in randomize(model, seed=0)]
    assert names == ["final_layer.conv_classifier", "bnorm", "conv_time_spat.conv_spat", "conv_time_spat.conv_time"]


def test_every_kind_of_parameter_is_replaced():
    model = trained(OutOfOrder())
    *_, (_, last) = randomize(model, seed=0)
    replaced = changed(last, state(model))
    assert replaced == learned(model)
    assert {"gain", "attention.in_proj_weight", "norm.parametrizations.weight.original0"} <= replaced


def test_values_are_drawn_with_the_trained_moments():
    model = nn.Sequential(nn.Linear(200, 300), nn.BatchNorm1d(300))
    model.n_chans, model.n_times = 300, 200
    nn.init.normal_(model[0].weight, mean=0.3, std=0.05)
    nn.init.uniform_(model[1].running_var, 0.1, 9.0)
    *_, (_, last) = randomize(model, seed=0)
    new, old = last[0].weight, model[0].weight
    standard_error = 0.05 / np.sqrt(new.numel())
    assert new.mean().item() == pytest.approx(0.3, abs=8 * standard_error)
    assert new.std().item() == pytest.approx(old.std().item(), rel=0.02)
    assert abs(np.corrcoef(new.detach().flatten(), old.detach().flatten())[0, 1]) < 5 / np.sqrt(new.numel())
    assert torch.equal(last[1].running_var.sort().values, model[1].running_var.sort().values)
    assert torch.equal(last[1].bias, model[1].bias)  # zeros stay zero


def test_randomisation_is_seeded_and_leaves_global_state_alone(model):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    *_, (_, first) = randomize(model, seed=1)
    *_, (_, same) = randomize(model, seed=1)
    *_, (_, other) = randomize(model, seed=2)
    assert changed(same, state(first)) == set()
    assert changed(other, state(first)) == learned(model)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_randomize_refuses_what_it_cannot_do():
    model = OutOfOrder()
    with pytest.raises(ValueError, match="expected one of"):
        randomize(model, 0, order="backwards")
    with frozen(model), pytest.raises(ValueError, match="outside frozen"):
        randomize(model, 0)
    with pytest.raises(ValueError, match=r"shape=\(n_channels, n_times\)"):
        randomize(nn.Linear(3, 3), 0)


# ------------------------------------------------------------------------------------------ what a network keeps


class Keeps(nn.Module):
    """Computes something from its weights in the first forward pass and goes on with it."""

    def __init__(self):
        super().__init__()
        self.weight, self.table = nn.Parameter(torch.linspace(-1, 1, 10)), torch.linspace(1, 2, 10)
        self.register_buffer("constant", torch.ones(10))

    def computed(self):
        return torch.tanh(self.weight) * self.table + self.constant


class AsAttribute(Keeps):
    def __init__(self):
        super().__init__()
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = self.computed()
        return x * self.kept


class AsNewAttribute(Keeps):
    def forward(self, x):
        if not hasattr(self, "kept"):
            self.kept = self.computed()
        return x * self.kept


class AsBuffer(Keeps):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", None, persistent=False)

    def forward(self, x):
        if self.kept is None:
            self.kept = self.computed()
        return x * self.kept


class ByLength(Keeps):
    def __init__(self):
        super().__init__()
        self.kept = {}

    def forward(self, x):
        if len(x[0, 0]) not in self.kept:
            self.kept[len(x[0, 0])] = self.computed()
        return x * self.kept[len(x[0, 0])]


class AsProperty(Keeps):
    @cached_property
    def kept(self):
        return self.computed()

    def forward(self, x):
        return x * self.kept


class ByFlag(Keeps):
    ran = False

    def forward(self, x):
        if not self.ran:
            self.kept, self.ran = self.computed(), True
        return x * self.kept


class EveryTime(Keeps):
    def forward(self, x):
        self.kept = self.computed()
        return x * self.kept


def keeping(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 10), layer(), nn.Flatten(), nn.Linear(40, 3))


@pytest.mark.parametrize("layer", [AsAttribute, AsNewAttribute, AsBuffer, ByLength, AsProperty, EveryTime])
@pytest.mark.parametrize("gradients", [False, True])  # torch does not copy a tensor with a history
@pytest.mark.parametrize("order", ["cascading", "independent", "at_once"])
def test_what_was_computed_from_the_weights_is_computed_anew(layer, gradients, order):
    """A network that ran is randomised as one that did not."""
    fresh, ran, x = keeping(layer), keeping(layer), torch.as_tensor(X)
    with torch.set_grad_enabled(gradients):
        before = ran(x)
    options = {"seed": 1, "order": order, "shape": (4, 10)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        for (_, one), (_, other) in zip(randomize(ran, **options), randomize(fresh, **options), strict=True):
            assert torch.equal(one(x), other(x)) and not torch.equal(one(x), before)
        assert torch.equal(ran(x), before)


def test_networks_for_an_axis_of_one_and_wrapped_ones_are_randomised():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = keeping(AsAttribute)

        def forward(self, x):
            (_, one, _, _), x = x.shape, x.squeeze(1)
            assert one == 1
            return self.inner(x)

    expected = randomize(keeping(AsAttribute), 0, shape=(4, 10))
    found = randomize(nn.DataParallel(Wide()), 0, shape=(4, 10))
    x = torch.as_tensor(X)
    for (name, network), (wide_name, wide) in zip(expected, found, strict=True):
        assert wide_name == f"inner.{name}" and torch.equal(wide(x[:, None]), network(x))


def test_weights_without_an_effect_are_named():
    model = keeping(ByFlag)
    with torch.no_grad():
        model(torch.as_tensor(X))
    with pytest.warns(UserWarning, match=r"Replacing 1\.weight of Sequential .* It keeps 1\.table, 1\.kept:"):
        randomize(model, 0, shape=(4, 10))
    with pytest.raises(ValueError, match=r"shape=\(n_channels, n_times\)"):
        randomize(model, 0, order="at_once")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(randomize(keeping(ByFlag), 0, shape=(4, 10)))


# -------------------------------------------------------------------------------------------------------------- labels


def test_random_target_is_uniform_over_the_other_classes():
    target = np.repeat(np.arange(4), 3000)
    drawn = random_target(target, 4, seed=0)
    assert drawn.dtype == np.int64
    counts = np.array([[np.sum(drawn[target == c] == other) for other in range(4)] for c in range(4)])
    assert (np.diag(counts) == 0).all()
    expected = 1000 * (1 - np.eye(4))
    assert (np.abs(counts - expected) < 5 * np.sqrt(3000 * 1 / 3 * 2 / 3)).all()
    np.testing.assert_array_equal(drawn, random_target(target, 4, seed=0))
    assert (drawn != random_target(target, 4, seed=1)).any()


@pytest.mark.parametrize(
    ("target", "n_classes", "message"),
    [([0, 3], 3, "integers 0 … 2"), ([-1], 3, "integers 0 … 2"), ([0.5], 3, "integers"), ([0], 1, "at least 2")],
)
def test_random_target_refuses(target, n_classes, message):
    with pytest.raises(ValueError, match=message):
        random_target(target, n_classes, seed=0)


def class_maps(model, x, target):
    """Maps that depend on the class only: 2 is the opposite of 0, 1 is unrelated to both, and 3 is constant."""
    t = np.arange(8) * 2 * np.pi / 8
    patterns = np.stack([np.sin(t), np.cos(t), -np.sin(t), np.ones(8)])
    return np.broadcast_to(patterns[target][:, None], (len(target), 3, 8))


def test_label_test_takes_every_other_class():
    table = label_randomisation_test(class_maps, None, np.zeros((2, 3, 8)), [0, 1], n_classes=4)
    assert list(table) == ["trial", "target", "other", "pearson"]
    assert len(table) == 6
    similarity = table.set_index(["trial", "other"])["pearson"]
    expected = {(0, 1): 0, (0, 2): -1, (1, 0): 0, (1, 2): 0}
    for key, value in expected.items():
        assert similarity[key] == pytest.approx(value, abs=1e-12)
    assert similarity[[(0, 3), (1, 3)]].isna().all()  # a constant map has no correlation


X = np.random.default_rng(0).standard_normal((3, 4, 10)).astype(np.float32)


def explain(model, x, target):
    """Gradient of the logits of the target class."""
    x = torch.tensor(x, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[torch.arange(len(x)), torch.as_tensor(target)].sum(), x)
    return gradient.numpy()


def explain_by_input(model, x, target):
    """Return the trial itself, whatever the model."""
    return x


def test_weight_test_follows_the_cascade():
    model, x = trained(OutOfOrder()), X
    table = weight_randomisation_test(explain, model, x, np.zeros(3, int), seeds=(0, 1))
    assert list(table) == ["seed", "level", "layer", "trial", "pearson"]
    assert len(table) == 2 * 8 * 3
    expected = {}
    for level, (name, randomized) in enumerate(randomize(model, 1), start=1):
        maps, reference = explain(randomized, x, [0, 0, 0]), explain(model, x, [0, 0, 0])
        expected[level, name] = [np.corrcoef(m.ravel(), r.ravel())[0, 1] for m, r in zip(maps, reference, strict=True)]
    for (level, name), group in table[table.seed == 1].groupby(["level", "layer"]):
        np.testing.assert_allclose(group.pearson, expected[level, name], rtol=0, atol=1e-6)


def test_map_that_ignores_the_weights_keeps_a_correlation_of_one():
    table = weight_randomisation_test(explain_by_input, OutOfOrder(), X, [0] * 3, seeds=[0], order="independent")
    np.testing.assert_allclose(table.pearson, 1.0)


def test_weight_test_at_once_is_the_last_level():
    model = trained(OutOfOrder())
    cascade = weight_randomisation_test(explain, model, X, [0] * 3, seeds=[0, 1])
    at_once = weight_randomisation_test(explain, model, X, [0] * 3, seeds=[0, 1], order="at_once")
    assert at_once.level.unique().tolist() == [1]
    np.testing.assert_array_equal(at_once.pearson, cascade.query("level == level.max()").pearson)


def test_weight_test_needs_no_declared_size():
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 2))
    assert weight_randomisation_test(explain, model, X, [0] * 3, seeds=[0]).layer.unique().tolist() == ["1"]


# ------------------------------------------------------------------------------------------------- efficient and smooth


def test_smooth_test_without_noise_is_the_weight_test():
    model = trained(OutOfOrder())
    smooth = smooth_mprt(explain, model, X, [0, 1, 0], seeds=[3], n_samples=2, noise_level=0)
    plain = weight_randomisation_test(explain, model, X, [0, 1, 0], seeds=[3])
    pd.testing.assert_frame_equal(smooth, plain, rtol=0, atol=1e-6)


def test_smooth_test_averages_over_noise_that_every_network_sees():
    seen = []

    def explain_and_record(model, x, target):
        seen.append(x)
        return x**3

    table = smooth_mprt(explain_and_record, OutOfOrder(), X, [0] * 3, [0], n_samples=500, noise_level=0.5)
    trained_network, *others = np.reshape(seen, (-1, 500, *X.shape))
    assert len(others) == len(table) / 3
    assert all(np.array_equal(trained_network, other) for other in others)
    np.testing.assert_allclose(table.pearson, 1.0)  # not even the noise tells networks apart
    noise = trained_network - X
    n = 500 * 40
    alike = np.corrcoef(noise.swapaxes(0, 1).reshape(3, -1))[np.triu_indices(3, 1)]
    np.testing.assert_allclose(alike, 0, atol=5 / np.sqrt(n))  # what trials share would not average out over them
    np.testing.assert_allclose(noise.std(axis=(0, 2, 3)), 0.5 * X.std(axis=(1, 2)), rtol=5 / np.sqrt(2 * n))
    assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(noise.size)


def test_noise_of_a_trial_does_not_depend_on_the_others():
    options = {"seeds": [0], "order": "at_once", "n_samples": 3}
    table = smooth_mprt(lambda _, x, __: x**3, OutOfOrder(), X, [0] * 3, **options)
    seen = {2: [], 3: []}
    for n, arrays in seen.items():
        smooth_mprt(lambda _, x, __, to=arrays: to.append(x) or x**3, OutOfOrder(), X[:n], [0] * n, **options)
    np.testing.assert_allclose(table.pearson, 1)
    np.testing.assert_array_equal(np.stack(seen[3])[:, :2], seen[2])


def test_smooth_test_sees_through_noise_in_a_map():
    """A map of an unchanging pattern plus noise that depends on the trial: averaging brings the pattern back."""
    pattern = np.sin(np.arange(40)).reshape(4, 10)

    def noisy(model, x, target):
        weight = next(model.parameters()).sum().item()
        return pattern + 3 * np.sin(1e4 * (1 + weight) * x)

    plain = weight_randomisation_test(noisy, OutOfOrder(), X, [0] * 3, [0]).query("level == 8").pearson
    smooth = smooth_mprt(noisy, OutOfOrder(), X, [0] * 3, [0], n_samples=400).query("level == 8").pearson
    assert plain.max() < 0.5 < 0.9 < smooth.min()


@pytest.mark.parametrize(("option", "message"), [({"n_samples": 0}, "at least 1"), ({"noise_level": -1}, "0 or above")])
def test_smooth_test_refuses(option, message):
    with pytest.raises(ValueError, match=message):
        smooth_mprt(explain, OutOfOrder(), X, [0] * 3, [0], **option)


def test_rise_of_a_known_histogram():
    """Four values in equal shares carry log 4 nats, two of them log 2: the rise is one; half of that backwards."""
    two, four = np.tile([0.0, 1.0], 20).reshape(4, 10), np.tile([-3.0, -1.0, 1.0, 3.0], 10).reshape(4, 10)
    model = OutOfOrder()

    def explain_by_identity(network, x, target):
        return np.stack([two, four, np.ones((4, 10))] if network is model else [four, two, two])

    table = efficient_mprt(explain_by_identity, model, X, [0] * 3, seeds=[0, 5])
    assert list(table) == ["seed", "entropy", "entropy_random", "trial", "rise"]
    np.testing.assert_allclose(table.query("seed == 5").rise, [1, -0.5, np.nan], rtol=0, atol=1e-12)
    np.testing.assert_allclose(table.entropy[:3], [np.log(2), np.log(4), 0], rtol=0, atol=1e-12)


def test_rise_does_not_depend_on_scale_and_is_zero_for_maps_that_ignore_the_weights():
    table = efficient_mprt(explain_by_input, OutOfOrder(), X, [0] * 3, [0])
    assert (table.rise == 0).all()
    scaled = efficient_mprt(lambda *_: -8 * X, OutOfOrder(), X, [0] * 3, [0])
    np.testing.assert_allclose(scaled.entropy, table.entropy, rtol=0, atol=1e-12)


def test_rise_compares_with_the_end_of_the_cascade():
    model = trained(OutOfOrder())
    *_, (_, last) = randomize(model, seed=2)
    table = efficient_mprt(explain, model, X, [0] * 3, [2], n_bins=7)
    for network, entropy in ((model, table.entropy), (last, table.entropy_random)):
        for each, value in zip(explain(network, X, [0] * 3), entropy, strict=True):
            edges = np.linspace(each.min(), each.max(), 8)
            share = np.bincount(np.clip(np.digitize(each.ravel(), edges) - 1, 0, 6)) / each.size
            assert value == pytest.approx(-sum(p * np.log(p) for p in share if p > 0), rel=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rise_of_a_nearly_constant_map(kind):
    maps = np.ones((3, 4, 10), kind)
    maps[:, ::2] = np.nextafter(kind(1), kind(2))
    table = efficient_mprt(lambda *_: maps, OutOfOrder(), X, [0] * 3, [0])
    np.testing.assert_allclose(table.entropy, np.log(2))


def test_rise_of_a_map_with_nan_is_nan_and_one_bin_is_refused():
    maps = np.where(np.arange(3)[:, None, None] == 1, np.nan, X)
    table = efficient_mprt(lambda *_: maps, OutOfOrder(), X, [0] * 3, [0])
    assert table.rise.isna().tolist() == [False, True, False]
    with pytest.raises(ValueError, match="at least 2"):
        efficient_mprt(explain, OutOfOrder(), X, [0] * 3, [0], n_bins=1)


# ------------------------------------------------------------------------------------------------------ training labels


def two_runs(label=(0, 0, 1, 1, 0, 1, 1, 1)):
    """Eight trials of two runs with different numbers of trials per class."""
    info = mne.create_info(["C3", "Cz", "C4", "Pz"], 100, "eeg").set_montage("colin27_1005")
    signal = np.random.default_rng(1).standard_normal((8, 4, 10))
    metadata = pd.DataFrame({"subject": 1, "session": 0, "run": np.repeat([1, 2], 4)})
    return Trials(signal, "uV", label, info, ("a", "b"), metadata)


class Recorder(nn.Module):
    """Knows a set of trials by heart: logits are one-hot."""

    def __init__(self, trials):
        super().__init__()
        self.register_buffer("signal", torch.tensor(trials.signal))
        self.register_buffer("label", torch.tensor(trials.label))

    def forward(self, x):
        distance = (x[:, None] - self.signal).abs().sum((2, 3))
        return nn.functional.one_hot(self.label[distance.argmin(1)], 2).float()


def explain_by_labels(model, x, target):
    """Correlate to 1 where the labels are those of `two_runs`, otherwise less."""
    return np.broadcast_to(model.label.numpy(), (len(x), 1, 8))


def test_permuted_labels_keep_their_counts_in_each_run():
    trials, seen = two_runs(), {}

    def fit(training, seed):
        seen.setdefault(seed, []).append(training)
        return Recorder(training)

    table = data_randomisation_test(explain_by_labels, Recorder(trials), X, [0] * 3, fit, trials, seeds=[0, 1])
    assert list(table) == ["seed", "labels", "accuracy", "trial", "pearson"]
    assert len(table) == 2 * 2 * 3
    assert (table.accuracy == 1).all()  # by heart, permuted labels too
    np.testing.assert_allclose(table.query("labels == 'true'").pearson, 1)
    for seed, rows in table.query("labels == 'permuted'").groupby("seed"):
        true, permuted = seen[seed]
        assert true is trials
        np.testing.assert_array_equal(permuted.signal, trials.signal)
        for run in (slice(0, 4), slice(4, 8)):
            np.testing.assert_array_equal(np.sort(permuted.label[run]), np.sort(trials.label[run]))
        expected = np.corrcoef(permuted.label, trials.label)[0, 1]
        np.testing.assert_allclose(rows.pearson, expected)
    assert (seen[0][1].label != seen[1][1].label).any()
    again = data_randomisation_test(explain_by_labels, Recorder(trials), X, [0] * 3, fit, trials, seeds=[0, 1])
    pd.testing.assert_frame_equal(again, table)
    np.testing.assert_array_equal(trials.label, two_runs().label)


def test_runs_without_a_name_are_refused_before_labels_are_permuted():
    trials = two_runs()
    with pytest.raises(ValueError, match="session of 8 of 8 trials is missing"):
        replace(trials, metadata=trials.metadata.assign(session=np.nan))


def test_accuracy_of_a_network_that_did_not_learn_the_permuted_labels():
    trials = two_runs()
    table = data_randomisation_test(
        explain_by_labels, Recorder(trials), X, [0] * 3, lambda *_: Recorder(trials), trials, [0, 1, 2]
    )
    assert (table.query("labels == 'true'").accuracy == 1).all()
    assert (table.query("labels == 'permuted'").accuracy < 1).any()


def test_one_output_has_no_accuracy():
    trials, x = two_runs(), np.zeros((1, 2, 8), "float32")
    one = nn.Sequential(nn.Flatten(), nn.Linear(trials.signal[0].size, 1))

    assert data_randomisation_test(lambda *_: x, one, x, [0], lambda *_: one, trials, [0])["accuracy"].isna().all()


def test_labels_that_cannot_be_permuted_are_refused():
    trials = two_runs(label=[0] * 4 + [1] * 4)
    with pytest.raises(ValueError, match="one class only"):
        data_randomisation_test(
            explain_by_labels, Recorder(trials), X, [0] * 3, lambda *_: Recorder(trials), trials, [0]
        )


def test_a_run_of_one_class_stays_as_it_is_and_the_others_are_permuted():
    trials, seen = two_runs(label=[0] * 4 + [0, 1, 0, 1]), []

    def fit(training, seed):
        seen.append(training.label.tolist())
        return Recorder(training)

    data_randomisation_test(explain_by_labels, Recorder(trials), X, [0] * 3, fit, trials, range(4))
    permuted = seen[1::2]
    assert all(label[:4] == [0] * 4 and sorted(label[4:]) == [0, 0, 1, 1] for label in permuted)
    assert any(label[4:] != [0, 1, 0, 1] for label in permuted)
