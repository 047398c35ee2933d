"""The twelve metrics and four SSIM of the protocols "accuracy" and "randomisation"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

TOP_FRACTION = 20  # top(X) keeps one point in twenty, the highest 5 %
SUPPORT_LEVEL = 0.05
SSIM_WINDOW = 7


def scores_of(
    e: torch.Tensor, r: torch.Tensor, *, valid: torch.Tensor, support: Callable, as_images: bool = True
) -> torch.Tensor:
    """Score images that are zero outside the valid points on the sixteen columns: shape (trial, 16).

    Both sides hold as many images, or one of them holds one that meets all of the other's. The SSIM of what is no
    image is NaN.
    """
    n_points = int(valid.sum())
    x, y = _variants(e, n_points), _variants(r, n_points)
    in_support = support(y)
    size = in_support.sum(dim=-1)  # K
    ideal = _mass_accuracy(y[:3], in_support)
    top_mass, abs_mass, positive_mass = _mass_accuracy(x[:3], in_support) / ideal.where(ideal > 0, torch.nan)
    n_pairs = max(len(e), len(r))
    last = kth_highest(x[1].expand(n_pairs, -1), size.expand(n_pairs))
    columns = [
        *_cosine(x, y),
        top_mass,
        _rank_accuracy(x[1], last, in_support, size),
        positive_mass,
        abs_mass,
        correlation(x[1] * (x[1] >= last[:, None]), y[1] * in_support, n_points),
        *correlation(x[1:], y[1:], n_points),
        *ssim_of_variants(x, y, (1, 1, 1, 2), valid, as_images=as_images),
    ]
    missing = ~(torch.isfinite(x[1]).all(dim=-1) & torch.isfinite(y[1]).all(dim=-1))
    return torch.stack(columns, dim=1).masked_fill(missing[:, None], torch.nan)


def _variants(e: torch.Tensor, n_points: int) -> torch.Tensor:
    """(top |E|, |E|, E⁺, E), each divided by its own maximum absolute value: shape (4, trial, point)."""
    e = unit(e.flatten(1))
    magnitude = e.abs()
    n_top = -(-n_points // TOP_FRACTION)
    threshold = magnitude.topk(n_top, dim=1).values[:, -1:]
    return torch.stack([magnitude * (magnitude >= threshold), magnitude, unit(e.clamp(min=0)), e])


def unit(x: torch.Tensor) -> torch.Tensor:
    """Divide by the maximum absolute value; an all-zero trial becomes NaN, which marks it as invalid."""
    return x / x.abs().amax(dim=-1, keepdim=True)


def truth_support(y: torch.Tensor) -> torch.Tensor:
    """Points of a truth that hold at least 5 % of its maximum, from the variants of the truth."""
    return y[1] >= SUPPORT_LEVEL  # the maximum of y[1] is 1


def top_support(y: torch.Tensor) -> torch.Tensor:
    """Points among the highest 5 % of a map, from its variants."""
    return y[0] > 0


def kth_highest(x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Value at place k (trial,) of each row in descending order; place 1 where k is 0."""
    n = x.shape[1]
    k = k.clamp(min=1).tolist()
    return torch.stack([row.kthvalue(n + 1 - i).values for row, i in zip(x, k, strict=True)])


def _mass_accuracy(x: torch.Tensor, in_support: torch.Tensor) -> torch.Tensor:
    return (x * in_support).sum(dim=-1) / x.sum(dim=-1)


def _rank_accuracy(a: torch.Tensor, last: torch.Tensor, in_support: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    above, tied = a > last[:, None], (a == last[:, None]) & (a > 0)
    share = (size - above.sum(dim=1)).double() / tied.sum(dim=1).clamp(min=1)
    found = (above & in_support).sum(dim=1) + share * (tied & in_support).sum(dim=1)
    return found / size


def _cosine(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum(dim=-1) / ((x * x).sum(dim=-1) * (y * y).sum(dim=-1)).sqrt()


def correlation(x: torch.Tensor, y: torch.Tensor, n_points: int) -> torch.Tensor:
    """Correlation over the last axis, of which `n_points` are valid and the others zero in both."""
    mean_x, mean_y = x.sum(dim=-1) / n_points, y.sum(dim=-1) / n_points
    covariance = (x * y).sum(dim=-1) - n_points * mean_x * mean_y
    return covariance / (_spread(x, mean_x, n_points) * _spread(y, mean_y, n_points)).sqrt()


def _spread(x: torch.Tensor, mean: torch.Tensor, n_points: int) -> torch.Tensor:
    """Sum of squared deviations; NaN where the map is constant to the precision of float32."""
    energy = (x * x).sum(dim=-1)
    spread = energy - n_points * mean * mean
    return torch.where(spread > 1e-14 * energy, spread, torch.nan)


def ssim_of_variants(x, y, data_ranges, valid: torch.Tensor, *, as_images: bool) -> list[torch.Tensor]:
    """SSIM of each variant of flattened images, NaN where they are no images."""
    if not as_images:
        return [x.new_full((max(x.shape[1], y.shape[1]),), torch.nan)] * len(x)
    window, weight = full_windows(valid)
    return list(map(partial(ssim, window=window, weight=weight), x, y, data_ranges))


def full_windows(valid: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Size of the SSIM window, and the weight of each of its places: equal where it lies in `valid`, else 0."""
    smallest = min(valid.shape)
    if smallest < 3:
        raise ValueError(f"SSIM needs maps of at least 3 × 3 points but they are {tuple(valid.shape)}.")
    window = min(SSIM_WINDOW, smallest - 1 + smallest % 2)
    inside = _local_mean(valid.double(), window) > 1 - 0.5 / window**2
    return window, inside.double() / inside.sum()


def ssim(
    x: torch.Tensor, y: torch.Tensor, data_range: torch.Tensor | float, *, window: int, weight: torch.Tensor
) -> torch.Tensor:
    """SSIM of each pair of flattened images, averaged over the places of the window by `weight`."""
    shape = [n + window - 1 for n in weight.shape]
    x, y = x.unflatten(1, shape), y.unflatten(1, shape)
    mean_x, mean_y = _local_mean(x, window), _local_mean(y, window)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    unbiased = window**2 / (window**2 - 1)
    covariance = unbiased * (_local_mean(x * y, window) - product)
    variances = unbiased * (_local_mean(x * x + y * y, window) - squares)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return (similarity * weight).sum(dim=(1, 2))


def _local_mean(image: torch.Tensor, window: int) -> torch.Tensor:
    """Mean over every window × window patch of the last two axes; the window is odd."""
    for axis in (-2, -1):
        n = image.shape[axis]
        pairs = image.narrow(axis, 0, n - 1) + image.narrow(axis, 1, n - 1)
        n -= window - 1
        total = image.narrow(axis, window - 1, n) + pairs.narrow(axis, 0, n)
        for first in range(2, window - 1, 2):
            total += pairs.narrow(axis, first, n)
        image = total
    return image.div_(window**2)
