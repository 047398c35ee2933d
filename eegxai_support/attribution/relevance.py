"""The rules of layer-wise relevance propagation, and the pass that applies them to each torch function of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from eegxai_support.attribution.families import LAYERS, PRODUCTS, STRUCTURE, SUMS, depends
from eegxai_support.attribution.operations import Functions, same_memory, valued
from eegxai_support.attribution.traced import Notes
from eegxai_support.model import UnsupportedOperation
from eegxai_support.trials import unknown_name

EPSILON = 1e-9
TINY = 1e-30
SAME = {name for name in STRUCTURE if "dropout" in name} | {"clone", "contiguous"}  # in eval mode
JOINS = SUMS | {"cat", "concat", "concatenate", "hstack", "masked_fill", "pad", "stack", "vstack", "where"}


# --- rules: terms of a layer's output z as a function of its input, the share that they and the bias get of z ---------


def epsilon_rule(linear, apply, x, weight, bias, z, epsilon):
    """Each term of z = sum of w x + b gets its share of z, with the denominator epsilon away from zero."""
    return [(linear, z / _stable(linear.detach() + bias, epsilon), bias)]


def gamma_rule(linear, apply, x, weight, bias, z, epsilon, *, gamma):
    """Epsilon, with the terms that have the sign of z favoured by 1 + gamma."""
    up, down = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
    raised = z >= 0
    terms = torch.where(raised, _by_sign(apply, x, up, down), _by_sign(apply, x, down, up))
    bias = bias + gamma * torch.where(raised, bias.clamp(min=0), bias.clamp(max=0))
    return [(terms, z / _stable(terms.detach() + bias, epsilon), bias)]


def alpha_beta_rule(linear, apply, x, weight, bias, z, epsilon, *, alpha):
    """Alpha for the terms above zero, 1 - alpha for those below, and 1 where there are only the ones or the others.

    Terms of one sign do not cancel, so that no epsilon is needed.
    """
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    terms = _by_sign(apply, x, up, down), _by_sign(apply, x, down, up)
    biases = bias.clamp(min=0), bias.clamp(max=0)
    above, below = (each.detach() + offset for each, offset in zip(terms, biases, strict=True))
    least = torch.finfo(z.dtype).eps * (above - below)  # less than this is rounding
    any_above, any_below = above > least, below < -least
    shares = (
        torch.where(any_above, torch.where(any_below, alpha * z, z) / above, 0.0),
        torch.where(any_below, torch.where(any_above, (1 - alpha) * z, z) / below, 0.0),
    )
    return list(zip(terms, shares, biases, strict=True))


def flat_rule(linear, apply, ones, weight, bias, z, epsilon):
    """Every input that a unit reads gets the same share; `ones` are 1 at inputs, 0 at padding."""
    terms = apply(ones, torch.ones_like(weight))
    return [(terms, torch.where(terms.detach() == 0, 0.0, z / terms.detach()), torch.zeros_like(bias))]


def _by_sign(apply: Callable, x: Tensor, for_positive: Tensor, for_negative: Tensor) -> Tensor:
    """Send positive inputs through one weight, negative ones through another."""
    return apply(x * (x > 0), for_positive) + apply(x * (x < 0), for_negative)


def _stable(z: Tensor, epsilon: float) -> Tensor:
    return torch.where(z < 0, z - epsilon, z + epsilon)


class LayerRule(NamedTuple):
    """A rule with its parameters, and the epsilon that it is given."""

    rule: Callable
    epsilon: float

    @classmethod
    def named(cls, given, epsilon: float) -> LayerRule:
        """Return a rule by its name, or by ``(name, parameters)`` with an `epsilon` of its own among them."""
        name, parameters = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        if name not in RULES:
            raise unknown_name("rule", name, RULES)
        rule, least = RULES[name]
        parameters = {"epsilon": epsilon} | parameters
        for key, value in parameters.items():
            if key not in {"epsilon", *least}:
                raise TypeError(f"The rule {name!r} got {key!r}; its parameters are {', '.join(['epsilon', *least])}.")
            if key == "epsilon" and not value > 0:
                raise ValueError(f"epsilon is {value}; expected a number above 0.")
            if not value >= least.get(key, 0):
                raise ValueError(f"{key} is {value}; expected at least {least[key]}.")
        epsilon = parameters.pop("epsilon")
        return cls(partial(rule, **parameters), epsilon)


RULES = {  # by name, with the least value of each parameter
    "epsilon": (epsilon_rule, {}),
    "gamma": (partial(gamma_rule, gamma=0.25), {"gamma": 0}),
    "alpha_beta": (partial(alpha_beta_rule, alpha=2.0), {"alpha": 1}),
    "z_plus": (partial(alpha_beta_rule, alpha=1.0), {}),
    "flat": (flat_rule, {}),
}


def matches(layer: str, pattern: str) -> bool:
    """Whether a layer is the one that is named, lies in it, or fits a pattern of the shell such as ``*.conv_?``."""
    return layer == pattern or layer.startswith(f"{pattern}.") or fnmatchcase(layer, pattern)


# --- the pass through the network -------------------------------------------------------------------------------------


class Call(NamedTuple):
    """How a layer made its output, for a batch norm that follows to be folded in."""

    operation: str
    apply: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    weight: Tensor
    bias: Tensor
    layer: str
    conditions: tuple[tuple[str, Tensor], ...] = ()  # layers and the masks of their filters


@dataclass(eq=False)
class Condition:
    """What a conditioned layer returned, in every run, and the relevance per activation that arrived there."""

    outputs: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    arrived: dict[int, Tensor] = field(default_factory=dict)


class Relevance(Functions):
    """Make autograd carry multipliers, relevance divided by activation, back through a model.

    In this form a linear function without a bias needs no rule of its own, and an elementwise function y = h(z) has
    the slope y / z, which passes relevance through unchanged.

    Parameters
    ----------
    method : str
        Key of `METHODS`, for error messages.
    rule : LayerRule
        For convolutions; all other products with weights have the epsilon rule.
    n_trials : int
        Trials in the batch.
    bias : {"keep", "share"}
    rules : dict
        ``{pattern: LayerRule}`` for layers by name, the first that matches.
    flat_first : bool
        The flat rule for layers without a name in `rules` that read the trials.
    """

    def __init__(self, method: str, rule=None, n_trials=1, bias="keep", rules=None, flat_first=False):
        super().__init__()
        self.method, self.n_trials, self.bias = method, n_trials, bias
        self.rule = rule or LayerRule(epsilon_rule, EPSILON)
        self.rules, self.flat_first, self.used = rules or {}, flat_first, set()
        self.running: list[str] = []  # modules, outermost first
        self.calling: list[str] = []  # functions, a decomposed one before its parts
        self.made_by = Notes()  # output of a layer -> Call
        self.ones = Notes()  # the input, however arranged -> ones arranged alike, for the flat rule
        self.conditions: dict[str, Condition] = {}  # of layers that have run, in that order
        self.stop: Condition | None = None  # where relevance stops while it is collected
        self.rows: list[dict] = []  # of the report, in the order of the forward pass
        self.held: list[list[Tensor]] = []  # outputs and inputs of layers, which the report needs

    def elementwise(self, function, z, name):
        """Pass the relevance through."""
        with torch.no_grad():
            y, away = function(z), z.abs() > TINY
            slope, constant = torch.where(away, y / z, 0), torch.where(away, 0, y)
        result = valued(z * slope, y)
        if constant.any():  # what a function is at zero, such as a sigmoid's half, comes from no input
            self._report(name, "", result, [(1, constant)])
        return result

    def product(self, function, a, b, name):
        """Refuse: neither operand is a weight."""
        raise self.unsupported(f"{self.calling[0]}, which multiplies two activations")

    def log_sum_exp(self, x, dim):
        """Refuse: the outputs of a softmax depend on each other."""
        raise self.unsupported(self.calling[0])

    def maximum(self, pick, x, name):
        """Give all to the winner."""
        return x.gather(-1, pick(x.detach())[1])

    def linear(self, function, name, args, kwargs):
        """Apply the rules to products with weights, and note what goes to constants."""
        if name == "batch_norm":
            return self._batch_norm(*args, **kwargs)
        if name in LAYERS - {"bilinear"} and depends(args[0]):
            return self._layer(name, *_operands(function, args, kwargs))
        if name in PRODUCTS - {"mul", "rmul"}:
            return self._product_with_constant(function, name, args, kwargs)
        result = self._join(function, name, args, kwargs) if name in JOINS else function(*args, **kwargs)
        if name in SAME and (call := self.made_by.get(args[0])) is not None:
            self.made_by[result] = call
        arranges = name in STRUCTURE - {"masked_fill"} and isinstance(args[0], Tensor) and isinstance(result, Tensor)
        if arranges and (ones := self.ones.get(args[0])) is not None:
            padding = {"value": 0.0} if name == "pad" else {}  # no input, whatever its value
            self.ones[result] = function(ones, *args[1:], **kwargs | padding)
        return result

    def keep(self, x: Tensor, name: str, mask: Tensor) -> Tensor:
        """Return the output `x` of a layer, of which only some filters hand relevance on."""
        kept, condition = x.clone(), self.conditions.setdefault(name, Condition())
        run = len(condition.outputs)
        condition.outputs.append(kept)
        condition.masks.append(mask)

        def hand_on(multiplier):
            if self.stop is not condition:
                return multiplier * mask
            condition.arrived[run] = multiplier
            return torch.zeros_like(multiplier)

        kept.register_hook(hand_on)
        result = kept.clone()  # may be overwritten
        if (call := self.made_by.get(x)) is not None:
            self.made_by[result] = call._replace(conditions=(*call.conditions, (name, mask)))
        return result

    def multipliers(self, value: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """Return the relevance per activation of leaves, by the paths that pass through every conditioned layer.

        One backward pass cannot tell relevance that came through a layer from relevance that flows around it, in a
        branch beside it or in a shortcut: below, the two are one sum. Therefore relevance is carried in stages, from
        the output to the last conditioned layer, from there to the one before, and so on. A stage ends at every run
        of its layer, where `stop` lets nothing pass, and the next one starts from what arrived there.
        """
        # Of a sum: where it is handed multipliers, autograd imports SymPy, which takes longer than most networks.
        ends, multipliers, above = [value.sum()], [None], "the output"
        for name, condition in reversed(self.conditions.items()):
            self.stop = condition
            torch.autograd.grad(ends, condition.outputs, multipliers, retain_graph=True, allow_unused=True)
            if not condition.arrived:
                raise UnsupportedOperation(
                    f"{self.method}: no relevance passes from {above} to {name}. Conditions keep what passes through"
                    " every named layer; explain layers in parallel branches one at a time."
                )
            ends = [condition.outputs[run] for run in condition.arrived]
            multipliers = [multiplier * condition.masks[run] for run, multiplier in condition.arrived.items()]
            above = name
        self.stop = None
        return torch.autograd.grad(ends, leaves, multipliers, allow_unused=True)

    def before_change(self, x):
        """Copy what the report needs of a tensor that is about to be overwritten."""
        for held in self.held:
            held[:] = [each.clone() if same_memory(each, x) else each for each in held]

    def _apply(self, function, name, args, kwargs):
        self.calling.append(name)
        result = super()._apply(function, name, args, kwargs)
        self.calling.pop()
        return result

    def _layer(self, name: str, apply: Callable, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run ``apply(x, weight)`` plus a bias per filter, under the rule that fits."""
        bias = weight.new_zeros(1) if bias is None else bias
        bias = bias.view(-1, *(1,) * (weight.ndim - 2))
        result = self._under_rule(self._rule_of(name, x), name, apply, x, weight, bias)
        self.made_by[result] = Call(name, apply, x, weight, bias, self._layer_name())
        return result

    def _rule_of(self, name: str, x: Tensor) -> LayerRule:
        """Return the rule of the layer that runs: by its name, for the first layer, or for its operation."""
        layer, reads_trials = self._layer_name().partition(" + ")[0], self.ones.get(x) is not None
        pattern = next((pattern for pattern in self.rules if matches(layer, pattern)), None)
        if pattern is not None:
            self.used.add(pattern)
            if self.rules[pattern].rule.func is flat_rule and not reads_trials:
                raise UnsupportedOperation(
                    f"{self.method}: the flat rule is for a layer that reads the trials; {layer!r} reads activations."
                )
            return self.rules[pattern]
        if self.flat_first and reads_trials:
            return self.rule._replace(rule=flat_rule)
        return self.rule if name.startswith("conv") else self._epsilon_rule()

    def _epsilon_rule(self) -> LayerRule:
        return self.rule._replace(rule=epsilon_rule)

    def _batch_norm(self, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        scale = (var + eps).rsqrt() * (1 if weight is None else weight)
        shift = -mean * scale if bias is None else bias - mean * scale
        call = self.made_by.get(x)
        if call is None or x.ndim != call.weight.ndim:
            scale, shift = (each.view(-1, *(1,) * (x.ndim - 2)) for each in (scale, shift))
            return self._under_rule(self._epsilon_rule(), "batch_norm", torch.mul, x, scale, shift)
        kernel, offset = _scaled(call, scale), call.bias.flatten() * scale + shift
        self.running.append(f"{call.layer} + {self._layer_name()}")
        result = self._layer(call.operation, call.apply, call.x, kernel, offset)
        self.running.pop()
        for name, mask in call.conditions:
            result = self.keep(result, name, mask)
        return result

    def _product_with_constant(self, function, name: str, args: tuple, kwargs: dict) -> Tensor:
        """Run a product of an activation with weights that are not a layer's, such as a fixed filter or a graph."""
        i = next(i for i, argument in enumerate(args) if depends(argument))

        def run(x):
            return function(*args[:i], x, *args[i + 1 :], **kwargs)

        with torch.no_grad():
            constant = run(torch.zeros_like(args[i]))  # of addmm and bilinear
        return self._under_rule(self._epsilon_rule(), name, lambda x, _: run(x) - constant, args[i], None, constant)

    def _join(self, function, name: str, args: tuple, kwargs: dict) -> Tensor:
        """Run a function that adds or inserts what may be a constant: that has the role of a bias."""
        with torch.no_grad():
            zeros = tree_map(lambda leaf: torch.zeros_like(leaf) if depends(leaf) else leaf, (args, kwargs))
            constant = function(*zeros[0], **zeros[1]).clone()  # a constant overwritten in place is the result itself
        result = function(*args, **kwargs)
        if constant.any():
            self._report(name, "", result, [(1, constant)])
        return result

    def _under_rule(self, chosen: LayerRule, name: str, apply: Callable, x: Tensor, weight, bias: Tensor) -> Tensor:
        rule = getattr(chosen.rule, "func", chosen.rule)
        ones = self.ones.get(x) if rule is flat_rule else None
        seen = (x if ones is None else ones).view_as(x)  # no other layer's, so that the report knows what it hands on
        linear = apply(seen if ones is None else x.detach(), weight)
        if linear.is_complex():
            raise self.unsupported(f"{name} of complex numbers")
        z = linear.detach() + bias
        kept = bias if self.bias == "keep" else torch.zeros_like(bias)
        parts = chosen.rule(linear, apply, seen, weight, kept, z, chosen.epsilon)
        result = valued(sum(share * terms for terms, share, _ in parts), z)
        rule_name = rule.__name__.removesuffix("_rule")
        self._report(name, rule_name, result, [(share, each) for _, share, each in parts if each.any()], seen)
        return result

    def _report(self, operation: str, rule: str, result: Tensor, to_bias: list, seen: Tensor | None = None) -> None:
        """Note a row: what arrives at `result`, what of it the pairs (share, bias) keep, what `seen` is handed."""
        row = {"layer": self._layer_name(), "operation": operation, "rule": rule}
        held = [each.detach() for each in (result, seen) if each is not None]
        self.rows.append(row)
        self.held.append(held)

        def arrived(multiplier):
            row["relevance"] = self._by_trial(multiplier, held[0])
            kept = (self._by_trial(multiplier, share * bias) for share, bias in to_bias)
            row["to_bias"] = sum(kept, start=np.zeros(self.n_trials))

        def handed_on(multiplier):
            row["to_input"] = self._by_trial(multiplier, held[1])

        result.register_hook(arrived)
        if seen is not None:
            seen.register_hook(handed_on)

    def _by_trial(self, multiplier: Tensor, activation: Tensor) -> np.ndarray:
        relevance = (multiplier.conj() * activation).real  # of complex numbers, autograd's convention
        return relevance.reshape(self.n_trials, -1).cpu().double().sum(1).numpy()  # not every device has float64

    def _layer_name(self) -> str:
        return self.running[-1] if self.running else ""


def _operands(function, args: tuple, kwargs: dict) -> tuple[Callable, Tensor, Tensor, Tensor | None]:
    """Take a call of a layer apart: the function of input and weight alone, input, weight and bias."""
    x, weight, *rest = args if len(args) > 1 else (*args, kwargs.pop("weight"))
    bias = rest.pop(0) if rest else kwargs.pop("bias", None)
    return (lambda x, weight: function(x, weight, None, *rest, **kwargs)), x, weight, bias


def _scaled(call: Call, scale: Tensor) -> Tensor:
    """Return a layer's weights, the scale of each output multiplied into them."""
    weight = call.weight
    if "transpose" in call.operation:  # (input, output of its group, ...)
        scale = scale.view(-1, weight.shape[1])
        return weight * scale.repeat_interleave(len(weight) // len(scale), 0).view(
            *weight.shape[:2], *(1,) * (weight.ndim - 2)
        )
    return weight * scale.view(-1, *(1,) * (weight.ndim - 1))
