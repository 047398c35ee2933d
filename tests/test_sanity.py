"""Sanity checks: every learned weight is replaced, in the order of execution, in fresh copies, from a seed."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from eegxai_support.decoders import frozen
from eegxai_support.sanity import label_randomisation_test, random_target, randomize, weight_randomisation_test

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


def test_randomized_models_still_give_finite_outputs(model):
    x = torch.randn(2, model.n_chans, model.n_times, generator=torch.Generator().manual_seed(0))
    for _, randomized in randomize(model, seed=0):
        assert torch.isfinite(randomized(x)).all()


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
    with pytest.raises(ValueError, match=r"n_chans and\s+model.n_times"):
        randomize(nn.Linear(3, 3), 0)


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


def test_weight_test_follows_the_cascade():
    model = trained(OutOfOrder())
    x = np.random.default_rng(0).standard_normal((3, 4, 10)).astype(np.float32)

    def explain(model, x, target):
        x = torch.tensor(x, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(x)[torch.arange(len(x)), torch.tensor(target)].sum(), x)
        return gradient.numpy()

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
    x = np.random.default_rng(0).standard_normal((2, 4, 10))
    table = weight_randomisation_test(
        lambda model, x, target: x, OutOfOrder(), x, [0, 0], seeds=[0], order="independent"
    )
    np.testing.assert_allclose(table.pearson, 1.0)
