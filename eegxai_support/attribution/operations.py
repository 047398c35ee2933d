"""What torch functions do to their input: the families for which methods have rules, and decompositions into them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

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
    H T adjoint as_strided atleast_2d atleast_3d broadcast_to cat chunk clone concat concatenate conj contiguous
    copy cpu cuda diagonal double dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout
    expand expand_as fill flatten flip float gather getitem hstack imag index_select mH mT masked_fill moveaxis
    movedim narrow pad permute pixel_shuffle real repeat repeat_interleave reshape reshape_as resolve_conj roll
    select setitem split split_with_sizes squeeze stack swapaxes swapdims t take_along_dim tensor_split tile to
    transpose tril triu type type_as unbind unflatten unfold unsqueeze view view_as view_as_complex view_as_real
    vstack where zero
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
        diff fft_fft fft_fftshift fft_ifft fft_ifftshift fft_irfft fft_rfft fold interpolate istft mean neg positive
        stft sum upsample
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
    abs asinh atan clamp clamp_max clamp_min clip cos cosh erf exp exp2 expm1 float_power hardshrink hardsigmoid
    hardtanh log log10 log1p log2 logsigmoid maximum minimum nan_to_num pow reciprocal rpow rsqrt sigmoid sign
    sin sinc sinh softshrink softsign sqrt square tan tanh tanhshrink
    """.split()
)
MAX_POOLS = set("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d max_pool2d max_pool3d".split())
CUTS = set("__array__ __bool__ __float__ __index__ __int__ allclose data detach equal item numpy tolist".split())


class Functions(TorchFunctionMode):
    """Run a model one torch function after the other, with rules for those whose operands depend on the input.

    A subclass sets `method` and answers `elementwise`, `product`, `maximum` and `linear`. Everything else is decomposed
    into these four, so that no rule knows a layer class or an architecture; a function without a rule is refused.
    """

    method = ""

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
        if not torch.is_grad_enabled() or not any(depends(leaf) for leaf in tree_leaves((args, kwargs))):
            return function(*args, **kwargs)
        if kwargs.get("out") is not None:
            raise self.unsupported("a function that writes to `out`")
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        name, in_place = function_name(function)
        if kwargs.pop("inplace", False) or in_place:
            self.before_change(args[0])
            if name not in LINEAR:
                function = function if not in_place else getattr(torch.Tensor, name, None) or getattr(F, name)
                return args[0].copy_(self._apply(function, name, (args[0].clone(), *args[1:]), kwargs))
        return self._apply(function, name, args, kwargs)

    def before_change(self, x: Tensor) -> None:
        """Save what a rule still needs of a tensor that is about to be overwritten."""

    def _apply(self, function: Callable, name: str, args: tuple, kwargs: dict):
        if name == "einsum" and isinstance(args[1], list | tuple):
            args = (args[0], *args[1])
        if name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor):
            name += "imum"
        moving = [i for i, argument in enumerate(args) if depends(argument)]
        n_moving = len(moving) + sum(depends(argument) for argument in kwargs.values())
        if name == "batch_norm" and (kwargs.get("training") or args[5:6] == (True,)):
            raise self.unsupported("batch norm with the statistics of the batch")
        if name in LINEAR or (name in PRODUCTS | {"div"} and n_moving == 1 and (name != "div" or moving == [0])):
            return self.linear(function, name, args, kwargs)
        if name in ELEMENTWISE and n_moving == 1 and moving and not args[moving[0]].is_complex():
            return self.elementwise(lambda z: function(*_put(args, moving, [z]), **kwargs), args[moving[0]], name)
        if name in DECOMPOSED:
            with self:
                return DECOMPOSED[name](self, *args, **kwargs)
        if name in PRODUCTS and n_moving == len(moving) == 2:
            pair = [args[i] for i in moving]
            if name == "mul" and pair[0] is pair[1]:
                return self.elementwise(torch.square, pair[0], "square")
            return self.product(lambda a, b: function(*_put(args, moving, [a, b]), **kwargs), *pair, name)
        if name in MAX_POOLS:
            return self._max_pool(name, *args, **kwargs)
        if name in ("amax", "max") and n_moving == 1:
            return self._max(name, *args, **kwargs)
        if name == "logsumexp":
            return self._log_sum_exp(*args, **kwargs)
        result = None if name in CUTS else function(*args, **kwargs)
        if name in METADATA or not (name in CUTS or any(isinstance(leaf, Tensor) for leaf in tree_leaves(result))):
            return result
        raise self.unsupported(name.strip("_"))

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
        if not isinstance(dim, int):
            raise self.unsupported("the maximum over several axes")
        value = self.maximum(lambda x: x.max(-1, keepdim=True), x.movedim(dim, -1), name).movedim(-1, dim)
        value = value if keepdim else value.squeeze(dim)
        return value if name == "amax" else torch.return_types.max([value, x.detach().argmax(dim, keepdim)])

    def _log_sum_exp(self, x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
        value = self.log_sum_exp(x, dim)
        return value if keepdim else value.squeeze(dim)


def depends(value) -> bool:
    """Whether a value is a tensor that depends on the explained input."""
    return isinstance(value, Tensor) and value.requires_grad


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether overwriting one tensor overwrites the other."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


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
    return ALIASES.get(name, name), in_place


ALIASES = {"truediv": "div", "true_divide": "div", "divide": "div", "rtruediv": "rdiv", "multiply": "mul"} | {
    "subtract": "sub", "absolute": "abs", "negative": "neg", "special_expit": "sigmoid", "linalg_norm": "norm"
}  # fmt: skip


def _put(args: tuple, positions: list[int], values: list) -> list:
    args = list(args)
    for position, value in zip(positions, values, strict=True):
        args[position] = value
    return args
