"""The families of torch functions by name, and what identifies a call."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

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
RECTIFIERS = set("celu elu gelu hardswish leaky_relu mish prelu relu relu6 rrelu selu silu softplus".split())
# The same at some bounds only.
CLIPS = set("clamp clamp_max clamp_min clip fmax hardtanh maximum threshold".split())
ELEMENTWISE = (
    RECTIFIERS
    | CLIPS
    | set(
        """
    abs acos acosh asin asinh atan atanh cos cosh erf erfc exp exp2 expm1 float_power
    fmin hardshrink hardsigmoid log log10 log1p log2 log_sigmoid logit minimum nan_to_num ndtr
    pow reciprocal rpow rsqrt sigmoid sign sin sinc sinh softshrink softsign sqrt square tan tanh tanhshrink
    """.split()
    )
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
ALIASES = {
    "truediv": "div", "true_divide": "div", "divide": "div", "rtruediv": "rdiv", "multiply": "mul", "subtract": "sub",
    "absolute": "abs", "negative": "neg", "expit": "sigmoid", "greater": "gt", "greater_equal": "ge", "less": "lt",
    "less_equal": "le", "not_equal": "ne", "iand": "and", "ior": "or",
    **{f"arc{name}": f"a{name}" for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")},
}  # fmt: skip


def depends(value) -> bool:
    """Whether a value is a tensor that depends on the explained input."""
    return isinstance(value, Tensor) and value.requires_grad


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


def taken_apart(function: Callable, args: tuple, kwargs: dict) -> tuple[str, bool, tuple, dict]:
    """Return the name of a call, whether it overwrites its first operand, and its operands in one order."""
    name, in_place = function_name(function)
    for key in ("input", "other"):
        if key in kwargs and len(args) == (key == "other"):
            args = (*args, kwargs.pop(key))
    if name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor):
        name += "imum"
    return name, bool(kwargs.pop("inplace", False)) or in_place, args, kwargs
