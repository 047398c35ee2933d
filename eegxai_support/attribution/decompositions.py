"""Torch functions in terms of others that have rules: plain torch code, run under the rules again.

Each decomposition is called with the `Functions` at work and then as the function is; it may refuse a variant.
"""

from __future__ import annotations

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
