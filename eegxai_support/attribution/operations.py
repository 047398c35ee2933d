"""What torch functions do to their input: the families for which methods have rules, and decompositions into them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from eegxai_support.attribution.decompositions import DECOMPOSED
from eegxai_support.model import UnsupportedOperation, device_of, dtype_of, frozen, model_size

# Functions are known by their name without underscores at the ends: `torch.add`, `Tensor.add_`, `Tensor.__radd__` …
METADATA = set(
    """
    empty_like full_like isfinite isinf isnan new_empty new_full new_ones new_zeros ones_like zeros_like
    """.split()
)
STRUCTURE = set(
    """
    H T adjoint as_strided atleast_1d atleast_2d atleast_3d bfloat16 broadcast_tensors broadcast_to cat chunk clone
    column_stack concat concatenate conj contiguous copy cpu cuda diagonal double dropout dropout1d dropout2d dropout3d
    alpha_dropout dsplit dstack expand expand_as feature_alpha_dropout fill flatten flip fliplr flipud float gather
    getitem half hsplit hstack imag index_select mH mT masked_fill moveaxis movedim narrow pad permute pixel_shuffle
    ravel real repeat repeat_interleave reshape reshape_as resolve_conj roll rot90 select setitem split
    split_with_sizes squeeze stack swapaxes swapdims t take_along_dim tensor_split tile to transpose tril triu type
    type_as unbind unflatten unfold unsqueeze view view_as view_as_complex view_as_real vsplit vstack where zero
    """.split()
)
LAYERS = set("bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear".split())
SUMS = set("add sub rsub".split())
LINEAR = (
    STRUCTURE
    | SUMS
    | set(
        """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d batch_norm cumsum
        diff fft_fft fft_fft2 fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn
        fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn
        fold interpolate istft mean neg positive stft sum trace upsample
        """.split()
    )
)
PRODUCTS = LAYERS | set(
    """
    addbmm addcmul addmm addmv baddbmm bmm dot einsum inner matmul mm mul mv outer rmatmul rmul
    tensordot
    """.split()
)
# Nearly the identity above zero, nearly nothing below.
RECTIFIERS = set(
    """
    celu elu gelu hardswish leaky_relu mish prelu relu relu6 rrelu selu silu softplus threshold
    """.split()
)
ELEMENTWISE = RECTIFIERS | set(
    """
    abs acos acosh asin asinh atan atanh clamp clamp_max clamp_min clip cos cosh erf erfc exp exp2 expm1 float_power
    fmax fmin hardshrink hardsigmoid hardtanh log log10 log1p log2 log_sigmoid logit maximum minimum nan_to_num ndtr
    pow reciprocal rpow rsqrt sigmoid sign sin sinc sinh softshrink softsign sqrt square tan tanh tanhshrink
    """.split()
)
COMPARISONS = set("eq ge gt le lt ne".split())
# What keeps a function of each number by itself, if all its operands are functions of the same number.
POINTWISE = (
    ELEMENTWISE
    | COMPARISONS
    | SUMS
    | set(
        """
        and bitwise_and bitwise_not bitwise_or bool clone div double float half int invert logical_and logical_not
        logical_or long masked_fill mul neg or positive rdiv rmul setitem to type type_as where
        """.split()
    )
)
MAX_POOLS = set("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d max_pool2d max_pool3d".split())
CUTS = set("__array__ __bool__ __float__ __index__ __int__ allclose data detach equal item numpy tolist".split())


class Notes(WeakIdKeyDictionary):
    """What is known of tensors, forgotten when they are overwritten."""

    def __setitem__(self, tensor: Tensor, note) -> None:
        super().__setitem__(tensor, (tensor._version, note))

    def get(self, tensor: Tensor, default=None):
        """Return the note on a tensor that is still what it was."""
        version, note = super().get(tensor, (None, None))
        return note if version == tensor._version else default


class Pointwise(NamedTuple):
    """How a tensor was made of another one, the root, each number of the one number."""

    root: Tensor
    version: int  # of the root
    function: Callable[[Tensor], Tensor]
    first: str  # name of the first torch function that was applied to the root


class Traced(Notes):
    """Tensors that were made number by number of one root, so that a function spelled in several calls is one again.

    ``x * (x > 0)`` is a rectifier. The comparison alone has no derivative, so that no rule could handle it; the
    product alone would be one of two activations. Both are functions of the same numbers, and so is what comes out.
    """

    def call(self, function: Callable, name: str, in_place: bool, args: tuple, kwargs: dict) -> Pointwise | None:
        """Return a call as a function of one root, or None where it is not."""
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if depends(leaf) or self.knows(leaf)]
        notes = [self.get(operand) or Pointwise(operand, operand._version, lambda z: z, name) for operand in operands]
        root, version = notes[0].root, notes[0].version
        if name not in POINTWISE or any(note.root is not root or note.version != version for note in notes):
            return None
        parts = {id(operand): note.function for operand, note in zip(operands, notes, strict=True)}

        def of_root(z):
            put = [parts[id(leaf)](z) if id(leaf) in parts else leaf for leaf in leaves]
            given, options = tree_unflatten(put, structure)
            given = (given[0].clone(), *given[1:]) if in_place else given
            result = function(*given, **options)
            return given[0] if in_place else result

        leaves, structure = tree_flatten((args, kwargs))
        first = next((note.first for note in notes if note.first != name), name)
        return Pointwise(root, version, of_root, first) if root._version == version else None

    def knows(self, leaf) -> bool:
        """Whether a value is a tensor that was made of a root."""
        return isinstance(leaf, Tensor) and self.get(leaf) is not None


class Functions(TorchFunctionMode):
    """Run a model one torch function after the other, with rules for those whose operands depend on the input.

    A subclass sets `method` and answers `elementwise`, `product`, `maximum` and `linear`. Everything else is decomposed
    into these four, so that no rule knows a layer class or an architecture; a function without a rule is refused.
    """

    method = ""

    def __init__(self):
        super().__init__()
        self.gates = Traced()  # comparisons, and what is made of them alone: without a derivative

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

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        gated = any(self.gates.knows(leaf) for leaf in leaves)
        if not (gated or any(map(depends, leaves))):
            return function(*args, **kwargs)
        name, in_place = function_name(function)
        require_visible(self.method, leaves)
        if not torch.is_grad_enabled():
            return self._without_rule(function, name, args, kwargs, "under no_grad")
        if kwargs.get("out") is not None:
            raise self.unsupported("a function that writes to `out`")
        for key in ("input", "other"):
            if key in kwargs and len(args) == (key == "other"):
                args = (*args, kwargs.pop(key))
        in_place |= bool(kwargs.pop("inplace", False))
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
        call = self.gates.call(function, name, in_place, args, kwargs)
        if call is None or (in_place and args[0] is not call.root):
            gates = [self.gates.get(leaf).first for leaf in tree_leaves((args, kwargs)) if self.gates.knows(leaf)]
            shown = name.strip("_") + "".join(f" of a comparison ({gate})" for gate in gates[:1])
            if in_place:
                raise self.unsupported(shown)
            return self._without_rule(function, name, args, kwargs, shown=shown)
        made = call.function(call.root)
        if made.shape != call.root.shape:
            raise self.unsupported(f"{name} that changes the shape")
        if depends(made):
            result = self.elementwise(call.function, call.root.clone() if in_place else call.root, name)
            return call.root.copy_(result) if in_place else result
        self.gates[made] = call
        return made

    def _without_rule(self, function: Callable, name: str, args: tuple, kwargs: dict, why: str = "", shown: str = ""):
        """Run a function that tells no numbers of an activation, and refuse any other."""
        result = None if name in CUTS else function(*args, **kwargs)
        if name in METADATA or not (name in CUTS or any(isinstance(leaf, Tensor) for leaf in tree_leaves(result))):
            return result
        raise self.unsupported(f"{shown or name.strip('_')} {why}".strip())

    def _apply(self, function: Callable, name: str, args: tuple, kwargs: dict):
        if name == "einsum" and isinstance(args[1], list | tuple):
            args = (args[0], *args[1])
        if name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor):
            name += "imum"
        if function in (torch.batch_norm, torch.instance_norm):
            args, kwargs = _functional(*args, **kwargs)
            function = getattr(F, name)
        moving = [i for i, argument in enumerate(args) if depends(argument)]
        n_moving = len(moving) + sum(depends(argument) for argument in kwargs.values())
        if name == "batch_norm" and (kwargs.get("training") or args[5:6] == (True,)):
            raise self.unsupported("batch norm with the statistics of the batch")
        if name in LINEAR or (name in PRODUCTS | {"div"} and n_moving == 1 and (name != "div" or moving == [0])):
            return self._joined(self.linear(function, name, args, kwargs), name)
        if name in ELEMENTWISE and n_moving == 1 and moving and not args[moving[0]].is_complex():
            return self.elementwise(lambda z: function(*_put(args, moving, [z]), **kwargs), args[moving[0]], name)
        if name in DECOMPOSED:
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

    def _joined(self, result, name: str):
        """Refuse a result that no longer depends on the operands that did, such as a conversion to integers."""
        if isinstance(result, Tensor) and not depends(result):
            raise self.unsupported(f"{name} that cuts its result ({result.dtype}) off the trials")
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


def depends(value) -> bool:
    """Whether a value is a tensor that depends on the explained input."""
    return isinstance(value, Tensor) and value.requires_grad


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


def function_name(function: Callable) -> tuple[str, bool]:
    """Return the name by which the families know a torch function, and whether it overwrites its first operand."""
    name = function.__name__
    if name == "__get__":
        name = function.__self__.__name__
    if name in CUTS:
        return name, False
    if name in ("__setitem__", "copy_"):
        return name.strip("_"), True
    in_place = name.endswith("_") and not name.endswith("__")
    name = name.strip("_")
    if name in ("iadd", "isub", "imul", "itruediv", "idiv", "ipow"):
        name, in_place = name[1:], True
    name = name.removeprefix("special_")
    return ALIASES.get(name, name), in_place


ALIASES = {
    "truediv": "div", "true_divide": "div", "divide": "div", "rtruediv": "rdiv", "multiply": "mul", "subtract": "sub",
    "absolute": "abs", "negative": "neg", "expit": "sigmoid", "greater": "gt", "greater_equal": "ge", "less": "lt",
    "less_equal": "le", "not_equal": "ne", "iand": "and", "ior": "or",
    **{f"arc{name}": f"a{name}" for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")},
}  # fmt: skip


def _put(args: tuple, positions: list[int], values: list) -> list:
    args = list(args)
    for position, value in zip(positions, values, strict=True):
        args[position] = value
    return args


def _functional(x, weight, bias, mean, var, of_batch, momentum, eps, cudnn_enabled) -> tuple[tuple, dict]:
    """Return the arguments of `torch.batch_norm` in the order of `torch.nn.functional.batch_norm`."""
    return (x, mean, var, weight, bias, of_batch, momentum, eps), {}
