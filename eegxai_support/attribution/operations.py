"""What torch functions do to their input: the families for which methods have rules, and decompositions into them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from eegxai_support.attribution.decompositions import DECOMPOSED
from eegxai_support.attribution.families import (
    COMPARISONS,
    CUTS,
    ELEMENTWISE,
    LINEAR,
    MAX_POOLS,
    METADATA,
    PRODUCTS,
    depends,
    taken_apart,
)
from eegxai_support.attribution.traced import Traced
from eegxai_support.model import NO_GRADIENT, UnsupportedOperation, device_of, dtype_of, frozen, model_size

WITHOUT_GRADIENT = "without gradient, be it under no_grad or in an autograd.Function of the network's own"


class Functions(TorchFunctionMode):
    """Run a model one torch function after the other, with rules for those whose operands depend on the input.

    A subclass sets `method` and answers `elementwise`, `product`, `maximum` and `linear`. Everything else is decomposed
    into these four, so that no rule knows a layer class or an architecture; a function without a rule is refused.
    """

    method = ""

    def __init__(self):
        super().__init__()
        self.gates = Traced()  # comparisons, and what is made of them alone: without a derivative
        self.decomposed = False  # whether a function was spelled in others, and may have rounded otherwise

    def elementwise(self, function: Callable[[Tensor], Tensor], z: Tensor, name: str) -> Tensor:
        """Return ``function(z)``, a function of each number by itself."""
        raise NotImplementedError

    def product(self, function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, name: str) -> Tensor:
        """Return ``function(a, b)``, linear in each of two operands that both depend on the input."""
        raise NotImplementedError

    def maximum(self, pick: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, name: str) -> Tensor:
        """Return maxima, given ``pick(x) -> (maxima, their indices in the last axis of x)``."""
        raise NotImplementedError

    def log_sum_exp(self, x: Tensor, dim: int) -> Tensor:
        """Return the logarithm of the sum of exponentials over an axis, which is kept."""
        raise NotImplementedError

    def linear(self, function: Callable, name: str, args: tuple, kwargs: dict):
        """Return ``function(*args, **kwargs)``, linear in what depends on the input."""
        return function(*args, **kwargs)

    def unsupported(self, name: str) -> UnsupportedOperation:
        """Return the error for a function without a rule."""
        return UnsupportedOperation(f"{self.method} has no rule for {name}. Use integrated_gradients.")

    def cut(self, name: str) -> UnsupportedOperation:
        """Return the error for a function whose result no gradient comes back through either."""
        return UnsupportedOperation(
            f"{self.method} has no rule for {name}, which cuts its result off the trials. Gradients miss it as well;"
            f" methods that do without: {NO_GRADIENT}."
        )

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        gated = any(self.gates.knows(leaf) for leaf in leaves)
        if not (gated or any(map(depends, leaves))):
            return function(*args, **kwargs)
        require_visible(self.method, leaves)
        name, in_place, args, kwargs = taken_apart(function, args, kwargs)
        if not torch.is_grad_enabled():
            return self._without_rule(function, name, args, kwargs, f"{name.strip('_')} {WITHOUT_GRADIENT}")
        if kwargs.get("out") is not None:
            raise self.unsupported("a function that writes to `out`")
        if in_place:
            self.before_change(args[0])
        if gated or name in COMPARISONS:
            return self._gated(function, name, in_place, args, kwargs)
        if in_place and name not in LINEAR:
            function = getattr(torch.Tensor, name, None) or getattr(F, name)
            return args[0].copy_(self._apply(function, name, (args[0].clone(), *args[1:]), kwargs))
        return self._apply(function, name, args, kwargs)

    def before_change(self, x: Tensor) -> None:
        """Save what a rule still needs of a tensor that is about to be overwritten."""

    def _gated(self, function: Callable, name: str, in_place: bool, args: tuple, kwargs: dict):
        """Compare an activation, or apply to it what was made of the comparison: a function of each of its numbers."""
        calls = self.gates.call(function, name, in_place, args, kwargs)
        call = next((call for call in calls if depends(call.root)), None)
        if call is None or (in_place and args[0] is not call.root):
            gates = [self.gates.get(leaf) for leaf in self.gates.operands((args, kwargs)) if not depends(leaf)]
            shown = name.strip("_") + "".join(f" of a comparison ({gate[-1].first})" for gate in gates[:1])
            if in_place:
                raise self.unsupported(shown)
            return self._without_rule(function, name, args, kwargs, shown)
        made = call.function(call.root)
        if made.shape != call.root.shape:
            raise self.unsupported(f"{name} that changes the shape")
        if depends(made):
            result = self.elementwise(call.function, call.root.clone() if in_place else call.root, name)
            return call.root.copy_(result) if in_place else result
        self.gates[made] = [call]
        return made

    def _without_rule(self, function: Callable, name: str, args: tuple, kwargs: dict, shown: str = ""):
        """Run a function that tells no numbers of an activation, and refuse any other."""
        result = None if name in CUTS else function(*args, **kwargs)
        if name in METADATA or not (name in CUTS or any(isinstance(leaf, Tensor) for leaf in tree_leaves(result))):
            return result
        if not (shown or any(map(depends, tree_leaves(result)))):
            raise self.cut(name.strip("_"))
        raise self.unsupported(shown or name.strip("_"))

    def _apply(self, function: Callable, name: str, args: tuple, kwargs: dict):
        if name == "einsum" and isinstance(args[1], list | tuple):
            args = (args[0], *args[1])
        if function in (torch.batch_norm, torch.instance_norm):
            args, kwargs = _functional(*args, **kwargs)
            function = getattr(F, name)
        moving = [i for i, argument in enumerate(args) if depends(argument)]
        n_moving = len(moving) + sum(depends(argument) for argument in kwargs.values())
        if name == "batch_norm" and (kwargs.get("training") or args[5:6] == (True,)):
            raise self.unsupported("batch norm with the statistics of the batch")
        if name in LINEAR or (name in PRODUCTS | {"div"} and n_moving == 1 and (name != "div" or moving == [0])):
            return self._dependent(self.linear(function, name, args, kwargs), name, args[0])
        if name in ELEMENTWISE and n_moving == 1 and moving and not args[moving[0]].is_complex():
            return self.elementwise(lambda z: function(*_put(args, moving, [z]), **kwargs), args[moving[0]], name)
        if name in DECOMPOSED:
            self.decomposed = True
            args, kwargs = self._bound(DECOMPOSED[name], name, self, *args, **kwargs)
            with self:
                return DECOMPOSED[name](*args, **kwargs)
        if name in PRODUCTS and n_moving == len(moving) == 2:
            pair = [args[i] for i in moving]
            if name == "mul" and pair[0] is pair[1]:
                return self.elementwise(torch.square, pair[0], "square")
            return self.product(lambda a, b: function(*_put(args, moving, [a, b]), **kwargs), *pair, name)
        rule = self._max_pool if name in MAX_POOLS else self._max if name in ("amax", "max") else None
        rule = self._log_sum_exp if name == "logsumexp" else rule
        if rule is not None:
            args, kwargs = self._bound(rule, name, name, *args, **kwargs)
            return rule(*args, **kwargs)
        return self._without_rule(function, name, args, kwargs)

    def _bound(self, rule: Callable, name: str, *args, **kwargs) -> tuple[tuple, dict]:
        """Return the arguments of a call, or refuse a variant that a rule was not made for."""
        try:
            bound = inspect.signature(rule).bind(*args, **kwargs)
        except TypeError:
            raise self.unsupported(f"this form of {name}") from None
        return bound.args, bound.kwargs

    def _dependent(self, result, name: str, x):
        """Refuse a result that no longer depends on `x`, which did, such as a conversion to integers."""
        if depends(x) and isinstance(result, Tensor) and not depends(result):
            raise self.cut(f"{name} ({result.dtype})")
        return result

    def _max_pool(self, name: str, x: Tensor, *args, return_indices: bool = False, **kwargs) -> Tensor:
        if return_indices:
            raise self.unsupported(f"{name} with indices")
        n_axes, size = int(name[-2]), []

        def pick(flat):
            pooled, index = getattr(F, name)(flat.view_as(x), *args, **kwargs, return_indices=True)
            size[:] = pooled.shape[-n_axes:]
            return pooled.flatten(-n_axes), index.flatten(-n_axes)

        return self.maximum(pick, x.flatten(-n_axes), name).unflatten(-1, size)

    def _max(self, name: str, x: Tensor, dim=None, keepdim: bool = False):
        axes = [axis % x.ndim for axis in ([dim] if isinstance(dim, int) else dim or range(x.ndim))]
        last = x.movedim(axes, list(range(-len(axes), 0))).flatten(-len(axes))
        value = self.maximum(lambda x: x.max(-1, keepdim=True), last, name).squeeze(-1)
        if keepdim:
            value = value.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
        if name == "amax" or dim is None:
            return value
        return torch.return_types.max([value, x.detach().argmax(dim, keepdim)])

    def _log_sum_exp(self, name: str, x: Tensor, dim, keepdim: bool = False) -> Tensor:
        if not isinstance(dim, int):
            raise self.unsupported("logsumexp over several axes")
        value = self.log_sum_exp(x, dim)
        return value if keepdim else value.squeeze(dim)


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether overwriting one tensor overwrites the other."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def require_visible(method: str, values: list) -> None:
    """Raise `UnsupportedOperation` where a value comes out of code that a function mode does not see."""
    for value in values:
        node = value.grad_fn if depends(value) else None
        if isinstance(node, BackwardCFunction) and not node._forward_cls.__module__.startswith("eegxai_support."):
            raise UnsupportedOperation(
                f"{method} has to see each function of the network, but {node._forward_cls.__name__} is an"
                " autograd.Function of its own, which shows none. Use integrated_gradients."
            )
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is not None and "checkpoint" in hooks[0].__qualname__:
        raise UnsupportedOperation(
            f"{method} has to see each function of the network once, but a part runs under activation checkpointing,"
            " which runs it again for the gradient. Switch checkpointing off, or use integrated_gradients."
        )


def require_eager(method: str, model: nn.Module) -> None:
    """Raise `UnsupportedOperation` for a model that runs compiled code, in which no single function can be seen."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
            raise UnsupportedOperation(
                f"{method} has to see each function of the network, but {name or 'it'} is compiled or scripted. Give"
                " the model as it was before that, or use integrated_gradients."
            )


def runs(functions: Callable[[], Functions]) -> Callable[[nn.Module], bool]:
    """Return a test whether all functions of a model have a rule, for models that declare the size of their input."""

    def applies_to(model):
        n_channels, n_times = (model_size(model, size) for size in ("n_chans", "n_times"))
        if n_channels is None or n_times is None:
            return True
        x = torch.zeros(1, n_channels, n_times, device=device_of(model), dtype=dtype_of(model), requires_grad=True)
        try:
            require_eager("This method", model)
            with frozen(model), torch.enable_grad(), functions():
                model(x.clone())
        except UnsupportedOperation:
            return False
        return True

    return applies_to


def valued(derivative: Tensor, value: Tensor) -> Tensor:
    """Return the numbers of one tensor with the derivative of another."""
    return _Valued.apply(derivative, value.clone() if value._is_view() or value.requires_grad else value)


class _Valued(torch.autograd.Function):
    @staticmethod
    def forward(ctx, derivative: Tensor, value: Tensor) -> Tensor:
        ctx.mark_dirty(value)  # so that the result is no view, and the model may overwrite it
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None


def sloped(x: Tensor, slope: Tensor, value: Tensor) -> Tensor:
    """Return numbers with the given derivative with respect to `x`, all of one shape; `value` is overwritten."""
    return _Sloped.apply(x, slope, value)


class _Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.mark_dirty(value)
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None


def _put(args: tuple, positions: list[int], values: list) -> list:
    args = list(args)
    for position, value in zip(positions, values, strict=True):
        args[position] = value
    return args


def _functional(
    x, weight, bias, running_mean, running_var, training=False, momentum=0.1, eps=1e-5, cudnn_enabled=True, **options
) -> tuple[tuple, dict]:
    """Return the arguments of `torch.batch_norm` in the order of `torch.nn.functional.batch_norm`."""
    of_batch = options.get("use_input_stats", training)  # as `torch.instance_norm` has it
    return (x, running_mean, running_var, weight, bias, of_batch, momentum, eps), {}
