"""Torch functions in terms of others that have rules: plain torch code, run under the rules again.

Each decomposition is called with the `Functions` at work and then as the function is; it may refuse a variant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


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


def _converted(x: Tensor, level, dtype) -> Tensor:
    """Convert as asked: `torch.softmax` takes a type where `torch.nn.functional.softmax` takes a stack level."""
    dtype = level if isinstance(level, torch.dtype) else dtype
    return x if dtype is None else x.to(dtype)


def _log_softmax(functions, x, dim, _stacklevel=3, dtype=None):
    x = _converted(x, _stacklevel, dtype)
    return x - torch.logsumexp(x, dim, keepdim=True)


def _softmax(functions, x, dim, _stacklevel=3, dtype=None):
    return torch.exp(torch.log_softmax(_converted(x, _stacklevel, dtype), dim))


def _softmin(functions, x, dim, _stacklevel=3, dtype=None):
    return torch.softmax(-_converted(x, _stacklevel, dtype), dim)


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


def _var_mean(functions, x, dim=None, *args, **kwargs):
    axes = None if isinstance(dim, bool) else dim
    mean = x.mean(axes, keepdim=bool(kwargs.get("keepdim") or args[1:2] == (True,)))
    return torch.var(x, dim, *args, **kwargs), mean


def _std_mean(functions, *args, **kwargs):
    var, mean = torch.var_mean(*args, **kwargs)
    return var.sqrt(), mean


def _norm(functions, x, p=2, dim=None, keepdim=False, dtype=None):
    x = x if dtype is None else x.to(dtype)
    dim = tuple(range(x.ndim)) if dim is None else dim
    if p in (2, "fro", None):
        return x.square().sum(dim, keepdim=keepdim).sqrt()
    if p == 1:
        return x.abs().sum(dim, keepdim=keepdim)
    raise functions.unsupported(f"a norm of order {p}")


def _vector_norm(functions, x, ord=2, dim=None, keepdim=False, *, dtype=None):
    return _norm(functions, x, ord, dim, keepdim, dtype)


def _linalg_norm(functions, x, ord=None, dim=None, keepdim=False, *, dtype=None):
    n_axes = x.ndim if dim is None else 1 if isinstance(dim, int) else len(dim)
    if ord not in (None, "fro") and n_axes > 1:
        raise functions.unsupported(f"a matrix norm of order {ord}")
    return _norm(functions, x, ord, dim, keepdim, dtype)


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


def _layer_norm(functions, x, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    return _scaled(_standardized(x, tuple(range(-len(normalized_shape), 0)), eps), weight, bias)


def _rms_norm(functions, x, normalized_shape, weight=None, eps=None):
    dim = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled(x * torch.rsqrt(x.square().mean(dim, keepdim=True) + eps), weight, None)


def _group_norm(functions, x, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
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


def _amin(functions, x, dim=None, keepdim=False):
    return -torch.amax(-x, dim, keepdim)


def _min(functions, x, dim=None, keepdim=False):
    if dim is None:
        return -torch.amax(-x)
    largest = torch.max(-x, dim, keepdim)
    return torch.return_types.min([-largest.values, largest.indices])


def _maximum(functions, a, b):
    return torch.stack(torch.broadcast_tensors(a, b), -1).amax(-1)


def _minimum(functions, a, b):
    return -torch.maximum(-a, -b)


def _lerp(functions, start, end, weight):
    return start + weight * (end - start)


def _cosine_similarity(functions, x1, x2, dim=1, eps=1e-8):
    lengths = (torch.linalg.vector_norm(x, 2, dim).clamp_min(eps) for x in (x1, x2))
    return (x1 * x2).sum(dim) / (next(lengths) * next(lengths))


def _local_response_norm(functions, x, size, alpha=1e-4, beta=0.75, k=1.0):
    squares = F.pad(x.square().movedim(1, -1), (size // 2, (size - 1) // 2))
    return x / (k + alpha * squares.unfold(-1, size, 1).mean(-1).movedim(-1, 1)) ** beta


def _lp_pool(n_axes: int):
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n_axes - 1]

    def lp_pool(functions, x, norm_type, kernel_size, stride=None, ceil_mode=False):
        n_pooled = kernel_size**n_axes if isinstance(kernel_size, int) else math.prod(kernel_size)
        mean = pool(x**norm_type, kernel_size, stride, 0, ceil_mode)
        return (torch.relu(mean) * n_pooled) ** (1 / norm_type)

    return lp_pool


DECOMPOSED = {
    "abs": _abs_of_complex,
    "addcmul": _addcmul,
    "addmm": _addmm,
    "amin": _amin,
    "baddbmm": _addmm,
    "cosine_similarity": _cosine_similarity,
    "div": _div,
    "fmax": _maximum,
    "fmin": _minimum,
    "glu": _glu,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "lerp": _lerp,
    "linalg_norm": _linalg_norm,
    "linalg_vector_norm": _vector_norm,
    "local_response_norm": _local_response_norm,
    "log_softmax": _log_softmax,
    "lp_pool1d": _lp_pool(1),
    "lp_pool2d": _lp_pool(2),
    "lp_pool3d": _lp_pool(3),
    "maximum": _maximum,
    "min": _min,
    "minimum": _minimum,
    "multi_head_attention_forward": _multi_head_attention,
    "norm": _norm,
    "normalize": _normalize,
    "rdiv": lambda functions, a, b: b * torch.reciprocal(a),
    "rms_norm": _rms_norm,
    "scaled_dot_product_attention": _attention,
    "softmax": _softmax,
    "softmin": _softmin,
    "std": _std,
    "std_mean": _std_mean,
    "var": _var,
    "var_mean": _var_mean,
}
