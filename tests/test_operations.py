"""Torch functions by name, their decompositions, what is refused, and one function spelled in many ways."""

import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import get_ignored_functions, get_testing_overrides
from torch.utils.checkpoint import checkpoint

from eegxai_support.attribution import METHODS, attribute, families
from eegxai_support.attribution.decompositions import DECOMPOSED
from eegxai_support.attribution.deep_lift import Rescale
from eegxai_support.model import UnsupportedOperation

RNG = np.random.default_rng(0)
X, BASELINE = RNG.standard_normal((2, 4, 3, 40))
RULED = ("deep_lift", "lrp_epsilon", "lrp_gamma", "lrp_z_plus")
GUIDED = ("guided_backprop", "deconvolution")


class Network(nn.Module):
    """A convolution, a function, and a linear layer with seeded weights."""

    def __init__(self, function, convolution=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.function, self.convolution = nn.Conv1d(3, 4, 5).double(), function, convolution
        with torch.no_grad():
            for weight in self.conv.parameters():
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        self.last = torch.randn(144, 2, generator=generator, dtype=torch.float64)

    def forward(self, x):
        z = self.conv(x) if self.convolution is None else self.convolution(x, self.conv.weight, self.conv.bias)
        y = self.function(z)
        return y.flatten(1) @ (self.last if y[0].numel() == 144 else torch.ones(y[0].numel(), 2).to(y))


def explain(function, method, convolution=None):
    baseline = {"baseline": BASELINE} if method == "deep_lift" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(Network(function, convolution), X, 0, method, **baseline)


# --- names ------------------------------------------------------------------------------------------------------------


def reported_names():
    """Every name under which torch's functions, methods and properties of tensors come to a function mode."""
    functions = [*get_testing_overrides(), *get_ignored_functions()]
    getters = inspect.getmembers(torch.Tensor, inspect.isdatadescriptor)
    named = {
        families.function_name(each)[0] for each in functions if getattr(each, "__name__", "") not in ("", "__get__")
    }
    return named | {name for name, _ in getters}


@pytest.mark.parametrize(
    "family",
    "METADATA STRUCTURE LAYERS SUMS LINEAR PRODUCTS RECTIFIERS CLIPS ELEMENTWISE COMPARISONS POINTWISE MAX_POOLS CUTS"
    " DECOMPOSED".split(),
)
def test_every_listed_name_is_one_that_torch_reports(family):
    names = set(DECOMPOSED) if family == "DECOMPOSED" else getattr(families, family)
    assert not names - reported_names()


MODULES = (
    "ReLU ELU GELU SELU CELU SiLU Mish LeakyReLU PReLU Softplus Hardswish ReLU6 LogSigmoid Sigmoid Tanh Hardtanh"
    " Hardsigmoid Softsign Tanhshrink Softshrink Hardshrink Softmin Softmax LogSoftmax RReLU"
).split()


@pytest.mark.parametrize("name", MODULES)
def test_activations_of_torch_have_a_rule_under_the_name_that_torch_reports(name):
    module = getattr(nn, name)(**({"dim": 2} if "Soft" in name and name[4:] in ("min", "max") else {}))
    module = nn.LogSoftmax(2) if name == "LogSoftmax" else module.double().eval()
    result = explain(module, "deep_lift")
    assert abs(result.delta).max() < 1e-11
    if "oftm" in name:
        return
    result, output = explain(module, "lrp_epsilon"), Network(module)(torch.as_tensor(X))[:, 0].detach()
    to_bias = result.report.groupby("trial")["to_bias"].sum()
    np.testing.assert_allclose(result.values.sum((1, 2)) + to_bias, output, rtol=1e-6)


# --- decompositions ---------------------------------------------------------------------------------------------------

AXIS = torch.linspace(-1, 1, 36, dtype=torch.float64)
FUNCTIONS = {
    "ravel": lambda z: torch.stack([each.ravel() for each in z.square()]),
    "softmin": lambda z: F.softmin(z, 1),
    "min of an axis": lambda z: z.min(2).values,
    "min of an axis, kept": lambda z: torch.min(z, dim=1, keepdim=True)[0].square(),
    "maximum of two": lambda z: torch.maximum(z, 0.5 * z.sin()),
    "max of two": lambda z: torch.max(z, other=z.sin()),
    "minimum of two, one wider": lambda z: torch.minimum(z, z.mean(2, keepdim=True)),
    "fmax": lambda z: torch.fmax(z, z.cos()),
    "maximum with a row": lambda z: torch.maximum(z, AXIS),
    "amax of several axes": lambda z: z.amax((1, 2))[:, None],
    "amin of several axes, kept": lambda z: z.amin((1, -1), keepdim=True),
    "lp_pool1d": lambda z: F.lp_pool1d(z, 2, 3, 2),
    "lp_pool2d": lambda z: F.lp_pool2d(z[:, None], 2.0, (2, 3)),
    "lp_pool of order 1": lambda z: F.lp_pool1d(z.square(), 1, 4),
    "var_mean": lambda z: torch.cat(torch.var_mean(z, 2), 1),
    "std_mean": lambda z: torch.cat(torch.std_mean(z, (1, 2), unbiased=False, keepdim=True), 1),
    "local_response_norm": lambda z: F.local_response_norm(z, 3, alpha=0.5),
    "local_response_norm of an image": lambda z: F.local_response_norm(z[:, :, None], 2, k=2.0),
    "lerp": lambda z: torch.lerp(z, z.sin(), 0.3),
    "lerp by a third": lambda z: torch.lerp(z, z.sin(), z.sigmoid()),
    "cosine_similarity": lambda z: F.cosine_similarity(z[:, :2], z[:, 2:], dim=2),
    "torch.layer_norm": lambda z: torch.layer_norm(z, (36,), AXIS, AXIS),
    "torch.group_norm": lambda z: torch.group_norm(z, 2, None, None, 1e-5, False),
    "torch.instance_norm": lambda z: torch.instance_norm(z, AXIS[:4], AXIS[4:8], None, None, True, 0.1, 1e-5, False),
    "torch.batch_norm": lambda z: torch.batch_norm(
        z, AXIS[:4], AXIS[4:8], AXIS[8:12], AXIS[:4] ** 2 + 1, False, 0.1, 1e-5, False
    ).square(),
    "torch.softmax with a type": lambda z: torch.softmax(z, 2, torch.float64),
    "log of the sigmoid": F.logsigmoid,
    "special": lambda z: torch.special.expit(z) + torch.special.expm1(z) + torch.special.erf(z),
    "arctan": lambda z: torch.arctan(z) + torch.arcsinh(z),
    "linalg.norm": lambda z: torch.linalg.norm(z, 2, dim=2) + torch.linalg.norm(z, dim=(1, 2))[:, None],
    "rfft2": lambda z: torch.fft.rfft2(z).abs(),
    "fft2 and back": lambda z: torch.fft.ifft2(torch.fft.fft2(z.square())).real,
    "rfftn and back": lambda z: torch.fft.irfftn(torch.fft.rfftn(z.square(), dim=(1, 2)), dim=(1, 2)),
    "hfft": lambda z: torch.fft.hfft(torch.fft.ihfft(z)).square(),
    "stacks": lambda z: torch.dstack([z, z.square()]) + torch.column_stack([z, z]).flatten(1).sum(1)[:, None, None],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_decomposition_keeps_value_and_books(name):
    z, function = torch.tensor(X[:, :, :36], requires_grad=True), FUNCTIONS[name]
    z = torch.cat([z, z[:, :1].cos()], 1)
    with Rescale():
        made = function(z)
    torch.testing.assert_close(made.detach(), function(z.detach()), rtol=1e-10, atol=1e-12)
    result = explain(function, "deep_lift")
    assert abs(result.delta).max() < 1e-9 * max(1, abs(result.values.sum((1, 2))).max())


@pytest.mark.parametrize("method", RULED)
def test_batch_norm_in_either_order_of_arguments(method):
    mean, var, weight, bias = AXIS[:4], AXIS[4:8] ** 2 + 1, AXIS[8:12], AXIS[20:24]
    functional = explain(lambda z: F.batch_norm(z, mean, var, weight, bias), method).values
    other = explain(lambda z: torch.batch_norm(z, weight, bias, mean, var, False, 0.1, 1e-5, False), method).values
    named = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "training": False}
    keywords = explain(lambda z: torch.batch_norm(z, **named, momentum=0.1, eps=1e-5, cudnn_enabled=False), method)
    for each in (other, keywords.values):
        np.testing.assert_allclose(each, functional, rtol=1e-10, atol=1e-14)


# --- what is refused --------------------------------------------------------------------------------------------------


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Written(torch.autograd.Function):
    """A function that calls nothing of torch."""

    @staticmethod
    def forward(ctx, z):
        return torch.from_numpy(np.maximum(z.numpy(), 0))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def without_gradient(z):
    with torch.no_grad():
        return z.tanh()


@pytest.mark.parametrize("method", [*GUIDED, *RULED])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Hidden.apply, "Hidden|autograd.Function"),
        (lambda z: Hidden.apply(z)[:, :2], "Hidden|autograd.Function"),
        (lambda z: F.relu(Hidden.apply(z)), "Hidden|autograd.Function"),
        (lambda z: checkpoint(F.relu, z, use_reentrant=False), "activation checkpointing"),
        (lambda z: checkpoint(F.relu, z, use_reentrant=True), "CheckpointFunction|autograd.Function"),
    ],
)
def test_hidden_functions_are_refused(function, name, method):
    with pytest.raises(UnsupportedOperation, match=rf"{method} has .*({name}).*integrated_gradients"):
        explain(function, method)


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda z: z + z.to(torch.long), r"to \(torch.int64\), which cuts its result"),
        (lambda z: z + z.type(torch.int32), r"type \(torch.int32\), which cuts its result"),
        (lambda z: z + z.long(), "long"),
        (lambda z: z + without_gradient(z), "tanh without gradient"),
        (lambda z: z * (z > z.mean(2, keepdim=True)), "gt"),
        (lambda z: z.square() * (z > 0), r"mul of a comparison \(gt\)"),
        (lambda z: z * (z > 0).sum(2, keepdim=True), r"sum of a comparison \(gt\)"),
        (lambda z: z if (z > 0).all() else -z, r"all of a comparison \(gt\)"),
        (lambda z: z[z > 0].view(1, -1).sum(1).expand(len(z))[:, None], r"getitem of a comparison \(gt\)"),
        (lambda z: z + z.round(), "round"),
        (lambda z: torch.linalg.norm(z, 2, dim=(1, 2))[:, None], "a matrix norm of order 2"),
        (lambda z: torch.linalg.norm(z, 1, dim=(1, 2))[:, None], "a matrix norm of order 1"),
        (lambda z: F.max_pool1d(z, 2, return_indices=True)[0], "max_pool1d"),
    ],
)
def test_what_is_cut_off_the_trials_is_refused_by_name(function, name, method):
    with pytest.raises(UnsupportedOperation, match=f"{method} has no rule for .*{name}"):
        explain(function, method)


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize("cut", [lambda z: z.detach(), lambda z: z.long(), lambda z: torch.tensor(z.tolist())])
def test_what_cuts_gradients_too_is_refused_with_methods_that_do_without(cut, method):
    with pytest.raises(UnsupportedOperation, match=r"cuts its result off the trials.*occlusion") as error:
        explain(lambda z: z + cut(z), method)
    assert "integrated_gradients" not in str(error.value)


@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_alpha_beta"])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda z: torch.einsum("nct,td->ncd", torch.fft.fft(z), torch.eye(36).to(torch.complex128)).abs(), "einsum"),
        (lambda z: (torch.fft.fft(z) @ torch.eye(36).to(torch.complex128)).real, "matmul"),
    ],
)
def test_products_of_complex_numbers_with_weights_are_refused_by_name(function, name, method):
    with pytest.raises(UnsupportedOperation, match=f"{method} has no rule for {name} of complex numbers"):
        explain(function, method)
    assert abs(explain(function, "deep_lift").delta).max() < 1e-11


def test_relevance_of_complex_numbers_is_real():
    """Of z + 1 + 2i, whose squared modulus is explained, the constant keeps Re(conj(gradient) (1 + 2i))."""
    result = explain(lambda z: torch.view_as_real(torch.fft.rfft(z) + (1 + 2j)).sum(-1), "lrp_epsilon")
    assert result.report["relevance"].dtype == np.float64
    output = Network(lambda z: torch.view_as_real(torch.fft.rfft(z) + (1 + 2j)).sum(-1))(torch.as_tensor(X))[:, 0]
    kept = result.report.groupby("trial")["to_bias"].sum()
    np.testing.assert_allclose(result.values.sum((1, 2)) + kept, output.detach(), rtol=1e-6)


class Sized(nn.Module):
    n_chans, n_times = 3, 40

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).reshape(1, -1)


@pytest.mark.parametrize("method", [*GUIDED, *RULED])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.layer_norm(x, (40,), None, None, 1e-5, False),
        lambda x: torch.max(x, other=x.sin()),
        lambda x: torch.nanmean(x, 2),
        lambda x: torch.norm(x, dim=2, out=None),
        lambda x: F.max_pool1d(x, 2, 2, 0, 1, False, True)[0],
        lambda x: torch.logsumexp(x, (1, 2)),
        lambda x: torch.var(x, correction=1, dim=2),
        lambda x: torch.nn.functional.softmax(x, dim=1, _stacklevel=5),
        lambda x: torch.amax(input=x, dim=1),
        lambda x: torch.max(input=x, dim=1)[0],
        lambda x: torch.sort(x, dim=2)[0],
        lambda x: x.min(),
        lambda x: torch.ones(40, 2).to(x).mT.expand_as(x[:, :2]) + x[:, :2],
        lambda x: x.max()[None],
        lambda x: torch.frobenius_norm(x, [2]),
        lambda x: torch.nuclear_norm(x, dim=(1, 2)),
    ],
)
def test_applies_to_answers_for_every_form_of_a_call(function, method):
    assert METHODS[method].applies_to(Sized(function)) in (True, False)


# --- spelling does not matter -----------------------------------------------------------------------------------------


def zeroed(z):
    z = z.clone()
    z[z < 0] = 0
    return z


SPELLED = {  # the function of torch, and how else it is written
    F.relu: {
        "mask": lambda z: z * (z > 0),
        "mask of numbers": lambda z: z * (z > 0).double(),
        "where": lambda z: torch.where(z > 0, z, 0.0),
        "where not": lambda z: torch.where(z <= 0, torch.zeros_like(z), z),
        "negated": lambda z: z * ~(z <= 0),
        "one minus": lambda z: z * (1 - (z <= 0).double()),
        "clamp": lambda z: z.clamp(min=0),
        "clamp by keyword": lambda z: torch.clamp(input=z, min=0),
        "clip": lambda z: torch.clip(z, 0, None),
        "maximum": lambda z: torch.maximum(z, torch.zeros(())),
        "max": lambda z: torch.max(z, torch.zeros(())),
        "threshold": lambda z: F.threshold(z, 0, 0),
        "set by mask": zeroed,
        "filled": lambda z: z.masked_fill(z < 0, 0),
    },
    F.relu6: {"hardtanh": lambda z: F.hardtanh(z, 0, 6), "clamp": lambda z: z.clamp(0, 6)},
}
COMPOSED = {  # joins of several functions with derivatives, each of which DeepLIFT and LRP treat by itself
    F.relu: {
        "half of the sum with its modulus": lambda z: (z + z.abs()) / 2,
        "sign": lambda z: z * (1 + torch.sign(z)) / 2,
        "the negative part added": lambda z: z + F.relu(-z),
    },
    F.silu: {"by hand": lambda z: z * torch.sigmoid(z), "after a shift": lambda z: (z + 1 - 1) * torch.sigmoid(z)},
    F.gelu: {"by hand": lambda z: 0.5 * z * (1 + torch.erf(z / math.sqrt(2)))},
    F.mish: {"by hand": lambda z: z * torch.tanh(F.softplus(z))},
    F.elu: {"by hand": lambda z: torch.where(z > 0, z, torch.expm1(z))},
    F.leaky_relu: {"by hand": lambda z: torch.where(z > 0, z, 0.01 * z), "max": lambda z: torch.maximum(z, 0.01 * z)},
    F.hardswish: {"by hand": lambda z: z * F.relu6(z + 3) / 6},
}


def spellings(*tables):
    return [
        pytest.param(function, spelled, id=f"{function.__name__}, {name}")
        for table in tables
        for function, ways in table.items()
        for name, spelled in ways.items()
    ]


@pytest.mark.parametrize("method", GUIDED)
@pytest.mark.parametrize(("function", "spelled"), spellings(SPELLED, COMPOSED))
def test_a_rectifier_spelled_by_hand_has_the_map_of_torchs_own_in_guided_methods(function, spelled, method):
    expected = explain(function, method).values
    np.testing.assert_allclose(explain(spelled, method).values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize(("function", "spelled"), spellings(SPELLED))
def test_a_rectifier_spelled_by_hand_has_the_map_of_torchs_own_under_rules(function, spelled, method):
    expected = explain(function, method).values
    np.testing.assert_allclose(explain(spelled, method).values, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", GUIDED)
@pytest.mark.parametrize(
    "function",
    [
        lambda z: z.clamp(min=1e-6).log(),
        lambda z: F.hardtanh(z),
        lambda z: z + z.abs() * z.abs(),
        lambda z: z * z.exp(),
        lambda z: z * z.square().sigmoid(),
    ],
)
def test_what_does_not_rectify_is_not_taken_for_a_rectifier(function, method):
    with pytest.raises(UnsupportedOperation, match="network without rectifiers"):
        explain(function, method)


@pytest.mark.parametrize("method", GUIDED)
def test_a_comparison_that_masks_other_activations_is_refused(method):
    with pytest.raises(UnsupportedOperation, match=f"{method} has no rule for mul of a comparison"):
        explain(lambda z: F.relu(z) + z.cumsum(2) * (z > 0), method)


@pytest.mark.parametrize("method", [*GUIDED, *RULED])
def test_a_relu_used_three_times_is_three_relus(method):
    shared = nn.ReLU()
    ways = [[shared] * 3, [nn.ReLU() for _ in range(3)], [nn.ReLU(), torch.relu, lambda z: z.clamp(min=0)]]

    def thrice(first, second, third):
        return lambda z: third(second(first(z) - 1) - 0.5)

    once, *others = (explain(thrice(*way), method).values for way in ways)
    for other in others:
        np.testing.assert_allclose(other, once, rtol=1e-10, atol=1e-14)


def unfolded(x):
    return x.unfold(2, 5, 1)  # trial, channel, time, tap


CONVOLUTIONS = {
    "module": None,
    "functional": F.conv1d,
    "torch": torch.conv1d,
    "by keyword": lambda x, w, b: F.conv1d(input=x, weight=w, bias=b),
    "bias added": lambda x, w, b: F.conv1d(x, w) + b[:, None],
    "bias added in place": lambda x, w, b: F.conv1d(x, w).add_(b[:, None]),
    "convolution": lambda x, w, b: torch.conv2d(x[:, :, None], w[:, :, None], b)[:, :, 0],
    "over channels": lambda x, w, b: F.conv2d(x[:, None], w[:, None], b)[:, :, 0],
    "three axes": lambda x, w, b: F.conv3d(x[:, :, None, None], w[:, :, None, None], b)[:, :, 0, 0],
    "padded and cut": lambda x, w, b: F.conv1d(x, w, b, padding=4)[:, :, 4:-4],
    "padded before": lambda x, w, b: F.conv1d(F.pad(x, (3, 2)), w, b)[..., 3:-2],
    "in two halves": lambda x, w, b: torch.cat([F.conv1d(x, w[:2], b[:2]), F.conv1d(x, w[2:], b[2:])], 1),
    "by channel": lambda x, w, b: sum(F.conv1d(x[:, c : c + 1], w[:, c : c + 1]) for c in range(3)) + b[:, None],
    "by tap": lambda x, w, b: sum(w[..., k] @ x[..., k : k + 36] for k in range(5)) + b[:, None],
    "einsum": lambda x, w, b: torch.einsum("nctk,fck->nft", unfolded(x), w) + b[:, None],
    "linear": lambda x, w, b: F.linear(unfolded(x).transpose(1, 2).flatten(2), w.flatten(1), b).mT,
    "matmul": lambda x, w, b: (unfolded(x).transpose(1, 2).flatten(2) @ w.flatten(1).mT + b).mT,
    "tensordot": lambda x, w, b: torch.tensordot(unfolded(x), w, dims=([1, 3], [1, 2])).movedim(2, 1) + b[:, None],
    "transposed": lambda x, w, b: F.conv_transpose1d(x, w.flip(2).transpose(0, 1), b)[:, :, 4:-4],
}  # fmt: skip


@pytest.mark.parametrize("method", ["deep_lift", "lrp_epsilon", *GUIDED])
@pytest.mark.parametrize("name", list(CONVOLUTIONS)[1:])
def test_a_convolution_spelled_in_many_ways_has_one_map(name, method):
    one, other = (explain(F.relu, method, CONVOLUTIONS[way]).values for way in ("module", name))
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-7 * abs(one).max())
