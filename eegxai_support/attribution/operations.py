"""What torch functions do to their input: the families for which methods have rules, and decompositions into them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from eegxai_support.attribution.problem import UnsupportedOperation
from eegxai_support.decoders import frozen
from eegxai_support.decoders.inference import device_of, model_size

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
POOLS = set(
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d mean sum".split()
)
SUMS = set("add sub rsub".split())
LINEAR = (
    STRUCTURE
    | POOLS
    | SUMS
    | set(
        "batch_norm cumsum diff fft_fft fft_ifft fft_irfft fft_rfft fft_fftshift fft_ifftshift fold interpolate istft"
        " neg positive stft upsample".split()
    )
)
PRODUCTS = LAYERS | set(
    """
    addbmm addcmul addmm addmv baddbmm bmm dot einsum inner matmul mm mul multiply mv outer rmatmul rmul
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
        if not any(depends(leaf) for leaf in tree_leaves((args, kwargs))):
            return function(*args, **kwargs)
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


def runs(functions: Callable[[], Functions]) -> Callable[[nn.Module], bool]:
    """Return a test whether all functions of a model have a rule, for models that declare the size of their input."""

    def applies_to(model):
        n_channels, n_times = (model_size(model, size) for size in ("n_chans", "n_times"))
        if n_channels is None or n_times is None:
            return True
        dtype = next(model.parameters(), torch.empty(0)).dtype
        x = torch.zeros(1, n_channels, n_times, device=device_of(model), dtype=dtype, requires_grad=True)
        try:
            with frozen(model), torch.enable_grad(), functions():
                model(x)
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


# --- decompositions: plain torch code that runs under the rules again -------------------------------------------------


def _div(functions, a, b, *, rounding_mode=None):
    if rounding_mode is not None:
        raise functions.unsupported("division with rounding")
    return a * torch.reciprocal(b)


def _addcmul(functions, x, a, b, *, value=1):
    return x + value * (a * b)


def _addmm(functions, x, a, b, *, beta=1, alpha=1):
    return beta * x + alpha * (a @ b)


def _abs_of_complex(functions, z):
    return torch.view_as_real(z).square().sum(-1).sqrt()


def _log_softmax(functions, x, dim, _stacklevel=3, dtype=None):
    x = x if dtype is None else x.to(dtype)
    return x - torch.logsumexp(x, dim, keepdim=True)


def _softmax(functions, x, dim, _stacklevel=3, dtype=None):
    return torch.exp(torch.log_softmax(x, dim, dtype=dtype))


def _var(functions, x, dim=None, unbiased=True, keepdim=False, *, correction=None):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dim = tuple(range(x.ndim)) if dim is None else dim
    correction = int(unbiased) if correction is None else correction
    squares = (x - x.mean(dim, keepdim=True)).square()
    n = x.numel() / squares.sum(dim).numel()
    return squares.sum(dim, keepdim=keepdim) / (n - correction)


def _std(functions, *args, **kwargs):
    return torch.var(*args, **kwargs).sqrt()


def _norm(functions, x, p=2, dim=None, keepdim=False, dtype=None, *, ord=None):
    p = p if ord is None else ord
    x = x if dtype is None else x.to(dtype)
    dim = tuple(range(x.ndim)) if dim is None else dim
    if p in (2, "fro", None):
        return x.square().sum(dim, keepdim=keepdim).sqrt()
    if p == 1:
        return x.abs().sum(dim, keepdim=keepdim)
    raise functions.unsupported(f"a norm of order {p}")


def _normalize(functions, x, p=2.0, dim=1, eps=1e-12, out=None):
    return x / torch.linalg.vector_norm(x, p, dim, keepdim=True).clamp_min(eps)


def _standardized(x, dim, eps):
    x = x - x.mean(dim, keepdim=True)
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + eps)


def _scaled(x, weight, bias, shape=None):
    """Apply the scale and shift of a normalisation."""
    for operation, parameter in ((torch.mul, weight), (torch.add, bias)):
        if parameter is not None:
            x = operation(x, parameter if shape is None else parameter.view(shape))
    return x


def _layer_norm(functions, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return _scaled(_standardized(x, tuple(range(-len(normalized_shape), 0)), eps), weight, bias)


def _rms_norm(functions, x, normalized_shape, weight=None, eps=None):
    dim = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled(x * torch.rsqrt(x.square().mean(dim, keepdim=True) + eps), weight, None)


def _group_norm(functions, x, num_groups, weight=None, bias=None, eps=1e-5):
    grouped = _standardized(x.reshape(len(x), num_groups, -1), -1, eps)
    return _scaled(grouped.reshape(x.shape), weight, bias, (-1, *(1 for _ in x.shape[2:])))


def _instance_norm(
    functions,
    x,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    if not use_input_stats:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _group_norm(functions, x, x.shape[1], weight, bias, eps)


def _glu(functions, x, dim=-1):
    a, b = x.chunk(2, dim)
    return a * torch.sigmoid(b)


def _additive(mask: Tensor, like: Tensor, attends: bool) -> Tensor:
    """Turn a mask into what is added to the scores; of a Boolean one, `attends` says what its True means."""
    if mask.dtype != torch.bool:
        return mask
    hidden = ~mask if attends else mask
    return like.new_zeros(mask.shape).masked_fill(hidden, -torch.inf)


def _attention(
    functions, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    if enable_gqa:
        raise functions.unsupported("grouped-query attention")
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores + _additive(attn_mask, query, attends=True)
    return torch.softmax(scores, -1) @ value


def _multi_head_attention(
    functions, query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
    add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=False, key_padding_mask=None, need_weights=True,
    attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None,
    static_k=None, static_v=None, average_attn_weights=True, is_causal=False,
):  # fmt: skip
    """Attention over (time, trial, feature), or (time, feature) for one trial."""
    if bias_k is not None or bias_v is not None or add_zero_attn or static_k is not None or static_v is not None:
        raise functions.unsupported("multi-head attention with added keys")
    batched = query.ndim == 3
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
    weights = [q_proj_weight, k_proj_weight, v_proj_weight] if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    query, key, value = (
        F.linear(x, weight, bias).unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3)  # trial, head, time, feature
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if attn_mask is not None:
        mask = _additive(attn_mask, scores, attends=False)
        scores = scores + (mask.unflatten(0, scores.shape[:2]) if mask.ndim == 3 else mask)
    if key_padding_mask is not None:
        scores = scores + _additive(key_padding_mask, scores, attends=False).view(scores.shape[0], 1, 1, -1)
    attention = torch.softmax(scores, -1)
    output = F.linear((attention @ value).permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
    attention = attention.mean(1) if average_attn_weights else attention
    if not batched:
        output, attention = output.squeeze(1), attention.squeeze(0)
    return output, attention if need_weights else None


def _min(functions, x, dim=None, keepdim=False):
    return -torch.amax(-x, dim, keepdim)


DECOMPOSED = {
    "abs": _abs_of_complex,
    "addcmul": _addcmul,
    "addmm": _addmm,
    "amin": _min,
    "baddbmm": _addmm,
    "div": _div,
    "glu": _glu,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "linalg_vector_norm": _norm,
    "log_softmax": _log_softmax,
    "multi_head_attention_forward": _multi_head_attention,
    "norm": _norm,
    "normalize": _normalize,
    "rdiv": lambda functions, a, b: b * torch.reciprocal(a),
    "rms_norm": _rms_norm,
    "scaled_dot_product_attention": _attention,
    "softmax": _softmax,
    "std": _std,
    "var": _var,
}
