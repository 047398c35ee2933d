"""Layer-wise relevance propagation, with a report of where the relevance went."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.utils.weak import WeakIdKeyDictionary

from eegxai_support.attribution.operations import LAYERS, PRODUCTS, STRUCTURE, Functions, runs, valued
from eegxai_support.attribution.problem import Maps, Problem, UnsupportedOperation, register
from eegxai_support.attribution.simplify import is_braindecode
from eegxai_support.trials import unknown_name

TINY = 1e-30
LOST = 1e-3  # share of the output that may go astray before a warning


class Relevance(Functions):
    """Carry multipliers, relevance divided by activation, back through a model by the rules of a composite.

    In this form a linear function without a bias needs no rule of its own, and an activation function y = h(z) has the
    slope y / z, which passes relevance through unchanged.

    Parameters
    ----------
    method : str
        "lrp_epsilon", "lrp_gamma", "lrp_alpha_beta" or "lrp_z_plus".
    n_trials : int
    epsilon, gamma, alpha : float
    bias : {"keep", "share"}
    flat : bool
    """

    def __init__(self, method, n_trials=1, *, epsilon=1e-6, gamma=0.25, alpha=2.0, bias="keep", flat=False):
        super().__init__()
        self.method, self.n_trials = method, n_trials
        self.epsilon, self.gamma, self.alpha, self.bias, self.flat = epsilon, gamma, alpha, bias, flat
        self.path: list[str] = []  # the modules that are running, outermost first
        self.made_by = WeakIdKeyDictionary()  # output of a layer -> how to compute it, for batch norm to be folded in
        self.inputs = WeakIdKeyDictionary()  # tensors that are the input, rearranged
        self.kept = WeakIdKeyDictionary()  # output of a layer -> mask of the filters whose relevance goes on
        self.met: set[str] = set()  # layers with a condition that have run
        self.rows: list[dict] = []

    def elementwise(self, function, z, name):
        """Pass the relevance through."""
        with torch.no_grad():
            y = function(z)
            slope = torch.where(z.abs() > TINY, y / z, 0)
        return valued(z * slope, y)

    def product(self, function, a, b, name):
        """Refuse: neither operand is a weight."""
        raise self.unsupported(f"a product of two activations ({name})")

    def log_sum_exp(self, x, dim):
        """Refuse."""
        raise self.unsupported("softmax")

    def maximum(self, pick, x, name):
        """Give all to the winner."""
        return x.gather(-1, pick(x.detach())[1])

    def linear(self, function, name, args, kwargs):
        """Apply the rule of the composite to layers, and note what goes to biases."""
        if name == "batch_norm":
            return self._batch_norm(*args, **kwargs)
        if name in LAYERS:
            return self._layer(name, *_operands(function, args, kwargs))
        if name in ("add", "sub", "rsub"):
            return self._sum(function, name, args, kwargs)
        if name in PRODUCTS and name not in ("mul", "rmul"):
            return self._weighted(function, name, args, kwargs)
        result = function(*args, **kwargs)
        if name in STRUCTURE and isinstance(args[0], Tensor) and args[0] in self.inputs and isinstance(result, Tensor):
            self.inputs[result] = True
        return result

    def _layer(self, name: str, apply: Callable, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run ``apply(x, weight)`` plus a bias per filter, under the rule that fits."""
        axis = 1 if name.startswith("conv") else -1
        if bias is not None:
            bias = bias.view([-1 if i == axis % (x.ndim) else 1 for i in range(x.ndim)])
        rule = self.method if name.startswith("conv") else "lrp_epsilon"
        if self.flat and x in self.inputs:
            rule = "flat"
        result = self._under_rule(rule, name, apply, x, weight, bias)
        self.made_by[result] = (name, apply, x, weight, bias, axis, self.path[-1:])
        return result

    def _weighted(self, function, name: str, args: tuple, kwargs: dict) -> Tensor:
        """A product of an activation with something that does not depend on the input."""
        position = next(i for i, argument in enumerate(args) if isinstance(argument, Tensor) and argument.requires_grad)

        def apply(x, weight):
            return function(*args[:position], x, *args[position + 1 :], **kwargs)

        return self._under_rule("lrp_epsilon", name, apply, args[position], None, None)

    def _under_rule(self, rule: str, name: str, apply, x: Tensor, weight, bias) -> Tensor:
        seen = x.view_as(x)  # of this layer alone, so that the report knows what it hands on
        with torch.no_grad():
            z = apply(x, weight)
            z = z if bias is None else z + bias
        parts = RULES[rule](self, apply, seen, weight, bias, z)
        derivative = sum(part * share for part, share, _ in parts)
        kept = None if bias is None or self.bias == "share" else sum(share * bias_of for _, share, bias_of in parts)
        result = valued(derivative, z)
        self._report(name, rule, result, seen, kept)
        return result

    def _batch_norm(self, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        scale = (var + eps).rsqrt() * (1 if weight is None else weight)
        shift = -mean * scale if bias is None else bias - mean * scale
        if x in self.made_by:
            name, apply, source, kernel, kernel_bias, axis, layer = self.made_by[x]
            if axis == 1 and name.startswith("conv") and "transpose" not in name:
                folded = kernel * scale.view(-1, *(1 for _ in kernel.shape[1:]))
                shift = shift if kernel_bias is None else shift + kernel_bias.flatten() * scale
                self.path.append(" + ".join(layer + self.path[-1:]))
                result = self._layer(name, apply, source, folded, shift)
                self.path.pop()
                return self.keep(result, self.kept[x]) if x in self.kept else result
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        scale, shift = scale.view(shape), shift.view(shape)
        return self._under_rule("lrp_epsilon", "batch_norm", lambda x, weight: x * weight, x, scale, shift)

    def keep(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return `x` unchanged, with the relevance of some filters only."""
        with DisableTorchFunction():
            result = valued(x * mask, x)
        self.kept[result] = mask
        if x in self.made_by:
            self.made_by[result] = self.made_by[x]
        return result

    def _sum(self, function, name: str, args: tuple, kwargs: dict) -> Tensor:
        result = function(*args, **kwargs)
        constant = [argument for argument in args if not (isinstance(argument, Tensor) and argument.requires_grad)]
        if constant:
            x = next(argument for argument in args if isinstance(argument, Tensor) and argument.requires_grad)
            seen = x.view_as(x)
            result = function(*(seen if argument is x else argument for argument in args), **kwargs)
            zero = function(*(torch.zeros_like(x) if argument is x else argument for argument in args), **kwargs)
            self._report(name, "linear", result, seen, zero)
        return result

    def _report(self, operation: str, rule: str, result: Tensor, seen: Tensor, bias: Tensor | None) -> None:
        row = {"layer": self.path[-1] if self.path else "", "operation": operation, "rule": rule}
        row |= {"relevance": 0.0, "to_input": 0.0, "to_bias": 0.0}
        self.rows.append(row)
        z, x = result.detach(), seen.detach()

        def arrived(multiplier):
            row["relevance"] = self._by_trial(multiplier * z)
            if bias is not None:
                row["to_bias"] = self._by_trial(multiplier * bias)

        def handed_on(multiplier):
            row["to_input"] = self._by_trial(multiplier if rule == "flat" else multiplier * x)

        result.register_hook(arrived)
        seen.register_hook(handed_on)

    def _by_trial(self, relevance: Tensor) -> Tensor:
        if len(relevance) % self.n_trials:
            raise self.unsupported("a layer whose first axis does not count trials")
        return relevance.reshape(self.n_trials, -1).sum(1, dtype=torch.float64).cpu()


def _operands(function, args: tuple, kwargs: dict) -> tuple[Callable, Tensor, Tensor, Tensor | None]:
    """Take a call of a layer apart: the function of input and weight alone, input, weight and bias."""
    x, weight, *rest = args if len(args) > 1 else (*args, kwargs.pop("weight"))
    bias = rest.pop(0) if rest else kwargs.pop("bias", None)
    return (lambda x, weight: function(x, weight, None, *rest, **kwargs)), x, weight, bias


# --- rules: parts of the derivative, each with the share of the output it answers for and the bias it includes --------


def _stable(z: Tensor, epsilon: float) -> Tensor:
    return z + epsilon * torch.where(z < 0, -1.0, 1.0)


def _epsilon(rules: Relevance, apply, x, weight, bias, z):
    """Z = sum of w x + b: each term's share of z, epsilon away from zero."""
    with torch.no_grad():
        total = apply(x.detach(), weight) if rules.bias == "share" and bias is not None else z
        share = z / _stable(total, rules.epsilon)
    return [(apply(x, weight), share, bias)]


def _flat(rules: Relevance, apply, x, weight, bias, z):
    """The same share for every input that a unit reads, whatever its weight and value."""
    ones = torch.ones_like(weight)
    with torch.no_grad():
        count = apply(torch.ones_like(x), ones)
    return [(apply(x, ones), z / count, torch.zeros_like(z))]


def _signed(rules: Relevance, apply, x, bias, for_positive: Tensor, for_negative: Tensor, bias_part):
    """Positive inputs through one weight, negative ones through another: the part and its sum."""
    positive = (x > 0).to(x.dtype)
    part = apply(x * positive, for_positive) + apply(x * (1 - positive), for_negative)
    with torch.no_grad():
        total = part if bias is None or rules.bias == "share" else part + bias_part
    return part, total.detach(), bias_part


def _gamma(rules: Relevance, apply, x, weight, bias, z):
    """Epsilon, with contributions of the sign of z favoured by 1 + gamma."""
    up, down = weight + rules.gamma * weight.clamp(min=0), weight + rules.gamma * weight.clamp(max=0)
    parts = []
    for sign, first, second in ((z >= 0, up, down), (z < 0, down, up)):
        favoured = (
            None if bias is None else bias + rules.gamma * torch.where(sign, bias.clamp(min=0), bias.clamp(max=0))
        )
        part, total, bias_part = _signed(rules, apply, x, bias, first, second, favoured)
        parts.append((part, torch.where(sign, z / _stable(total, rules.epsilon), 0), bias_part))
    return parts


def _alpha_beta(rules: Relevance, apply, x, weight, bias, z, alpha=None):
    """Alpha for what raises z, minus alpha - 1 for what lowers it; all to the one where the other is missing."""
    alpha = rules.alpha if alpha is None else alpha
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    raised = _signed(rules, apply, x, bias, up, down, None if bias is None else bias.clamp(min=0))
    lowered = _signed(rules, apply, x, bias, down, up, None if bias is None else bias.clamp(max=0))
    none_raised, none_lowered = raised[1] <= rules.epsilon, lowered[1] >= -rules.epsilon
    parts = []
    for (part, total, bias_part), factor, alone, missing in (
        (raised, alpha, none_lowered, none_raised),
        (lowered, 1 - alpha, none_raised, none_lowered),
    ):
        share = torch.where(alone, 1.0, factor) * z / _stable(total, rules.epsilon)
        parts.append((part, share.masked_fill(missing, 0), bias_part))
    return parts


RULES = {
    "lrp_epsilon": _epsilon,
    "lrp_gamma": _gamma,
    "lrp_alpha_beta": _alpha_beta,
    "lrp_z_plus": partial(_alpha_beta, alpha=1.0),
    "flat": _flat,
}


# --- the four methods -------------------------------------------------------------------------------------------------


@contextmanager
def _watched(model: nn.Module, rules: Relevance, conditions: dict) -> Iterator[None]:
    """Tell `rules` which module runs, keep only the relevance of chosen filters, and leave no trace."""
    modules = dict(model.named_modules())
    combined = [module for module in modules.values() if is_braindecode(module, "CombinedConv")]
    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: rules.path.append(name)))
            if name in conditions:
                handles.append(module.register_forward_hook(partial(_keep, rules, name, conditions[name])))
            handles.append(module.register_forward_hook(lambda *_: rules.path.__delitem__(-1)))
        for module in combined:  # so that its two layers run, with rules and names of their own
            module.forward = lambda x, module=module: module.conv_spat(module.conv_time(x))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in combined:
            del module.forward


def _keep(rules: Relevance, name: str, filters, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    index = torch.atleast_1d(torch.as_tensor(filters))
    if index.min() < 0 or index.max() >= output.shape[1]:
        raise ValueError(
            f"conditions[{name!r}] is {filters!r}, but the layer has the filters 0 … {output.shape[1] - 1}."
        )
    rules.met.add(name)
    mask = torch.zeros(output.shape[1], dtype=output.dtype, device=output.device)
    mask[index] = 1
    return rules.keep(output, mask.view(-1, *(1 for _ in output.shape[2:])))


def _lrp(
    method: str,
    problem: Problem,
    *,
    epsilon: float = 1e-6,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
    **options,
) -> Maps:
    if bias not in ("keep", "share") or first_layer not in (None, "flat"):
        raise ValueError(
            f"bias is {bias!r} and first_layer {first_layer!r}; expected bias 'keep' or 'share', and first_layer None"
            " or 'flat'."
        )
    conditions = conditions or {}
    for name in conditions:
        if name not in dict(problem.model.named_modules()):
            raise unknown_name("layer", name, dict(problem.model.named_modules()))
    reports = []

    def multiplier(trial):
        x = problem.x[trial].to(problem.device).requires_grad_()
        rules = Relevance(method, len(trial), epsilon=epsilon, bias=bias, flat=first_layer == "flat", **options)
        rules.inputs[x] = True
        with _watched(problem.model, rules, conditions), rules:
            value = problem.value(x, trial, problem.model)
        if missed := set(conditions) - rules.met:
            raise UnsupportedOperation(f"{method} cannot keep filters of {sorted(missed)}: these layers never ran.")
        (result,) = torch.autograd.grad(value.sum(), x)
        reports.append(_report(rules, trial))
        return result

    maps = problem.by_batch(multiplier)
    report = pd.concat(reports, ignore_index=True)
    values = maps if first_layer == "flat" else maps * problem.x
    if not conditions:
        _warn_of_loss(method, problem, values, report)
    return Maps(values=maps, report=report) if first_layer == "flat" else Maps(multiplier=maps, report=report)


def _report(rules: Relevance, trial: Tensor) -> pd.DataFrame:
    """Return a row per trial and layer, of the layers that relevance reached."""
    rows = [row for row in rules.rows if isinstance(row["relevance"], Tensor)]
    frames = [pd.DataFrame({"trial": trial.numpy()} | {k: _plain(v) for k, v in row.items()}) for row in rows]
    report = pd.concat(frames, ignore_index=True)
    report["lost"] = report["relevance"] - report["to_input"] - report["to_bias"]
    return report


def _plain(value):
    return value.numpy() if isinstance(value, Tensor) else value


def _warn_of_loss(method: str, problem: Problem, values: Tensor, report: pd.DataFrame) -> None:
    at_x, _ = problem.ends
    to_bias = torch.as_tensor(report.groupby("trial")["to_bias"].sum().to_numpy())
    missing = (values.sum((1, 2), dtype=torch.float64).cpu() + to_bias - at_x).abs() / at_x.abs().clamp(min=TINY)
    if missing.max() > LOST:
        worst = int(missing.argmax())
        warnings.warn(
            f"{method} on {type(problem.model).__name__}: in {int((missing > LOST).sum())} of {len(missing)} trials"
            f" input and biases together miss more than {LOST:g} of the output; worst is trial {worst} with"
            f" {missing[worst]:.2g}. The report says in which layer; a smaller epsilon keeps more.",
            stacklevel=5,
        )


def _register(method: str, reference: str, compute: Callable) -> Callable:
    applies_to = runs(lambda: Relevance(method))
    return register(method, reference=reference, linear_in_input=True, applies_to=applies_to)(compute)


_register("lrp_epsilon", "Bach et al. 2015, PLOS ONE 10(7)", partial(_lrp, "lrp_epsilon"))
_register("lrp_gamma", "Montavon et al. 2019, in Explainable AI, LNCS 11700", partial(_lrp, "lrp_gamma"))
_register("lrp_alpha_beta", "Bach et al. 2015, PLOS ONE 10(7)", partial(_lrp, "lrp_alpha_beta"))
_register("lrp_z_plus", "Montavon et al. 2017, Pattern Recognition 65", partial(_lrp, "lrp_z_plus"))
