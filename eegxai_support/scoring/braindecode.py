"""The 12 + 4 numbers of braindecode 1.8.1, defects included."""

from __future__ import annotations

import torch

from eegxai_support.scoring.formulas import kth_highest, ssim_of_variants


def braindecode_scores(e: torch.Tensor, r: torch.Tensor, *, as_images: bool = True) -> torch.Tensor:
    """Score images that are zero outside the hull as braindecode 1.8.1 does: shape (trial, 16)."""
    everywhere = torch.ones(e.shape[1:], device=e.device)
    e, r = torch.broadcast_tensors(e, r)
    e, g = e.flatten(1), r.flatten(1).abs()
    e_plus = e.clamp(min=0)
    e_unit, plus_unit, g_unit = _min_max(e), _min_max(e_plus), _min_max(g)
    e_top, g_top = _above_percentile(e), _above_percentile(g_unit)
    n_positive = (g > 0).sum(dim=1)
    plus_top = plus_unit * (plus_unit >= kth_highest(plus_unit, n_positive)[:, None])
    chosen, true = plus_top != 0, g != 0

    def mass(x):
        return _ratio((x.abs() * true).sum(dim=1), x.sum(dim=1))

    x = torch.stack([e_top, plus_unit, e_unit, e])
    y = torch.stack([g_top, g_unit, g_unit, g_unit])
    data_range = (x.amax(dim=-1) - x.amin(dim=-1))[..., None, None]
    a, b = torch.stack([plus_top, *x[1:]]), torch.stack([g_top, *y[1:]])
    a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    columns = [
        *_zero_safe_cosine(x, y),
        mass(e_top),
        _ratio((chosen & true).sum(dim=1).double(), chosen.sum(dim=1)),
        mass(e_unit),
        mass(plus_unit),
        *_zero_safe_cosine(a, b),
        *ssim_of_variants(x, y, torch.where(data_range > 0, data_range, 1.0), everywhere, as_images=as_images),
    ]
    constant = torch.stack([m.amax(dim=1) == m.amin(dim=1) for m in (e, e_plus, g)]).any(dim=0)
    skipped = constant | (e_plus.sum(dim=1) == 0) | (g.sum(dim=1) == 0)
    return torch.stack(columns, dim=1).masked_fill(skipped[:, None], 0.0)


def _min_max(x: torch.Tensor) -> torch.Tensor:
    low, high = x.aminmax(dim=1, keepdim=True)
    return _ratio(x - low, (high - low).expand_as(x))


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    return torch.where(denominator != 0, numerator / denominator, 0.0)


def _zero_safe_cosine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return _ratio((x * y).sum(dim=-1), x.norm(dim=-1) * y.norm(dim=-1))


def _above_percentile(x: torch.Tensor) -> torch.Tensor:
    """Zero what lies below the 95th percentile, interpolated linearly between neighbours."""
    n = x.shape[1]
    place = 0.95 * (n - 1)
    highest = x.topk(n - int(place), dim=1).values
    lower, upper = highest[:, -1:], highest[:, -2:-1] if highest.shape[1] > 1 else highest[:, -1:]
    return torch.where(x < lower + (place - int(place)) * (upper - lower), 0.0, x)
