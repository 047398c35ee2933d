"""The rules of layer-wise relevance propagation, and the pass that applies them to each torch function of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from eegxai_support.attribution.operations import (
    LAYERS,
    PRODUCTS,
    STRUCTURE,
    SUMS,
    Functions,
    depends,
    same_memory,
    valued,
)
from eegxai_support.model import wide

EPSILON = 1e-9
TINY = 1e-30
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


# --- the pass through the network -------------------------------------------------------------------------------------


class Call(NamedTuple):
    """How a layer made its output, for a batch norm that follows to be folded in."""

    operation: str
    apply: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    weight: Tensor
    bias: Tensor
    layer: str
    mask: Tensor | None = None  # of the filters that a condition keeps


class Notes(WeakIdKeyDictionary):
    """What is known of tensors, forgotten when they are overwritten."""

    def __setitem__(self, tensor: Tensor, note) -> None:
        super().__setitem__(tensor, (tensor._version, note))

    def get(self, tensor: Tensor, default=None):
        """Return the note on a tensor that is still what it was."""
        version, note = super().get(tensor, (None, None))
        return note if version == tensor._version else default


class Relevance(Functions):
    """Make autograd carry multipliers, relevance divided by activation, back through a model.

    In this form a linear function without a bias needs no rule of its own, and an elementwise function y = h(z) has
    the slope y / z, which passes relevance through unchanged.

    Parameters
    ----------
    method : str
        Key of `METHODS`, for error messages.
    rule : callable
        For convolutions; all other products with weights have the epsilon rule.
    n_trials : int
        Trials in the batch.
    epsilon : float
    bias : {"keep", "share"}
    """

    def __init__(self, method: str, rule: Callable = epsilon_rule, n_trials=1, epsilon=EPSILON, bias="keep"):
        super().__init__()
        self.method, self.rule, self.n_trials, self.epsilon, self.bias = method, rule, n_trials, epsilon, bias
        self.running: list[str] = []  # modules, outermost first
        self.calling: list[str] = []  # functions, a decomposed one before its parts
        self.made_by = Notes()  # output of a layer -> Call
        self.ones = Notes()  # the input, however arranged -> ones arranged alike, for the flat rule
        self.conditioned: set[str] = set()  # layers with a condition that have run
        self.rows: list[dict] = []  # of the report, in the order of the forward pass
        self.held: list[list[Tensor]] = []  # outputs and inputs of layers, which the report needs

    def elementwise(self, function, z, name):
        """Pass the relevance through."""
        with torch.no_grad():
            y = function(z)
            slope = torch.where(z.abs() > TINY, y / z, 0)
        return valued(z * slope, y)

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
        arranges = name in STRUCTURE - {"masked_fill"} and isinstance(args[0], Tensor) and isinstance(result, Tensor)
        if arranges and (ones := self.ones.get(args[0])) is not None:
            padding = {"value": 0.0} if name == "pad" else {}  # no input, whatever its value
            self.ones[result] = function(ones, *args[1:], **kwargs | padding)
        return result

    def keep(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return `x`, with the relevance of some filters only."""
        result = x.clone()
        result.register_hook(lambda multiplier: multiplier * mask)
        if (call := self.made_by.get(x)) is not None:
            self.made_by[result] = call._replace(mask=mask if call.mask is None else mask * call.mask)
        return result

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
        rule = self.rule if name.startswith("conv") else epsilon_rule
        result = self._under_rule(rule, name, apply, x, weight, bias)
        self.made_by[result] = Call(name, apply, x, weight, bias, self._layer_name())
        return result

    def _batch_norm(self, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        scale = (var + eps).rsqrt() * (1 if weight is None else weight)
        shift = -mean * scale if bias is None else bias - mean * scale
        call = self.made_by.get(x)
        if call is None or x.ndim != call.weight.ndim or "transpose" in call.operation:
            scale, shift = (each.view(-1, *(1,) * (x.ndim - 2)) for each in (scale, shift))
            return self._under_rule(epsilon_rule, "batch_norm", torch.mul, x, scale, shift)
        kernel, offset = call.weight * scale.view(-1, *(1,) * (x.ndim - 1)), call.bias.flatten() * scale + shift
        self.running.append(f"{call.layer} + {self._layer_name()}")
        result = self._layer(call.operation, call.apply, call.x, kernel, offset)
        self.running.pop()
        return result if call.mask is None else self.keep(result, call.mask)

    def _product_with_constant(self, function, name: str, args: tuple, kwargs: dict) -> Tensor:
        """Run a product of an activation with weights that are not a layer's, such as a fixed filter or a graph."""
        i = next(i for i, argument in enumerate(args) if depends(argument))

        def run(x):
            return function(*args[:i], x, *args[i + 1 :], **kwargs)

        with torch.no_grad():
            constant = run(torch.zeros_like(args[i]))  # of addmm and bilinear
        return self._under_rule(epsilon_rule, name, lambda x, _: run(x) - constant, args[i], None, constant)

    def _join(self, function, name: str, args: tuple, kwargs: dict) -> Tensor:
        """Run a function that adds or inserts what may be a constant: that has the role of a bias."""
        with torch.no_grad():
            zeros = tree_map(lambda leaf: torch.zeros_like(leaf) if depends(leaf) else leaf, (args, kwargs))
            constant = function(*zeros[0], **zeros[1]).clone()  # a constant overwritten in place is the result itself
        result = function(*args, **kwargs)
        if constant.any():
            self._report(name, "", result, [(1, constant)])
        return result

    def _under_rule(self, rule: Callable, name: str, apply: Callable, x: Tensor, weight, bias: Tensor) -> Tensor:
        ones = self.ones.get(x) if name in LAYERS else None
        rule = rule if ones is None else flat_rule
        seen = (x if ones is None else ones).view_as(x)  # no other layer's, so that the report knows what it hands on
        linear = apply(seen if ones is None else x.detach(), weight)
        z = linear.detach() + bias
        kept = bias if self.bias == "keep" else torch.zeros_like(bias)
        parts = rule(linear, apply, seen, weight, kept, z, self.epsilon)
        result = valued(sum(share * terms for terms, share, _ in parts), z)
        rule_name = getattr(rule, "func", rule).__name__.removesuffix("_rule")
        self._report(name, rule_name, result, [(share, each) for _, share, each in parts if each.any()], seen)
        return result

    def _report(self, operation: str, rule: str, result: Tensor, to_bias: list, seen: Tensor | None = None) -> None:
        """Note a row: what arrives at `result`, what of it the pairs (share, bias) keep, what `seen` is handed."""
        row = {"layer": self._layer_name(), "operation": operation, "rule": rule}
        held = [each.detach() for each in (result, seen) if each is not None]
        self.rows.append(row)
        self.held.append(held)

        def arrived(multiplier):
            row["relevance"] = self._by_trial(multiplier * held[0])
            kept = (self._by_trial(multiplier * share * bias) for share, bias in to_bias)
            row["to_bias"] = sum(kept, start=np.zeros(self.n_trials))
            row.setdefault("to_input", row["relevance"] - row["to_bias"])

        def handed_on(multiplier):
            row["to_input"] = self._by_trial(multiplier * held[1])

        result.register_hook(arrived)
        if seen is not None:
            seen.register_hook(handed_on)

    def _by_trial(self, relevance: Tensor) -> np.ndarray:
        return wide(relevance.reshape(self.n_trials, -1)).sum(1).cpu().numpy()

    def _layer_name(self) -> str:
        return self.running[-1] if self.running else ""


def _operands(function, args: tuple, kwargs: dict) -> tuple[Callable, Tensor, Tensor, Tensor | None]:
    """Take a call of a layer apart: the function of input and weight alone, input, weight and bias."""
    x, weight, *rest = args if len(args) > 1 else (*args, kwargs.pop("weight"))
    bias = rest.pop(0) if rest else kwargs.pop("bias", None)
    return (lambda x, weight: function(x, weight, None, *rest, **kwargs)), x, weight, bias
