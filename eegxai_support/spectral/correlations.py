"""Correlations of many perturbations with a few outputs from running sums, with a null and an interval over trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from scipy.stats import t as student_t
from torch import Tensor

N_LAGS = 5  # earlier iterations whose changes make the null
CONFIDENCE = 0.95


class PerturbationSums:
    """Sums over trials and iterations, kept for two halves of the iterations and for groups of trials.

    A column of ones stands before the changes, so that counts, sums and sums of products are all one matrix product.

    Parameters
    ----------
    n_groups : int
        Groups of trials, which the interval leaves out in turn.
    perturbation : Tensor, shape (trial, channel, freq)
        As many channels, frequencies and digits as all that follow.
    change : Tensor, shape (trial, output)
        As many outputs as all that follow.
    """

    def __init__(self, n_groups: int, perturbation: Tensor, change: Tensor):
        self.shape, n_columns = perturbation.shape[1:], 1 + change.shape[1]
        products, changes = perturbation.new_zeros, change.cpu().double().new_zeros
        self.products = products(2, n_groups, n_columns, self.shape.numel())
        self.squares = products(2, n_groups, self.shape.numel())
        self.changes = changes(2, n_groups, n_columns)
        self.squared_changes = changes(2, n_groups, n_columns - 1)
        self.null_products = products(N_LAGS, n_columns, self.shape.numel())
        self.null_changes = changes(N_LAGS, n_columns)

    def add(self, half: int, group: int, perturbation: Tensor, change: Tensor, earlier: Sequence[Tensor]) -> None:
        """Add perturbations, what they changed, and what earlier iterations, the last one first, had changed."""
        perturbation, one = perturbation.flatten(1), torch.ones_like(change[:, :1])
        now, *then = (torch.cat([one, each], dim=1) for each in (change, *earlier))
        self.products[half, group].addmm_(now.T, perturbation)
        self.squares[half, group] += perturbation.square().sum(0)
        self.changes[half, group] += now.cpu().double().sum(0)  # not every GPU has double precision
        self.squared_changes[half, group] += change.cpu().double().square().sum(0)
        for products, changes, columns in zip(self.null_products, self.null_changes, then, strict=False):
            products.addmm_(columns.T, perturbation)
            changes += columns.cpu().double().sum(0)

    def reliability(self) -> np.ndarray:
        """Return the correlation of the two halves' maps (output,), corrected for length by Spearman and Brown.

        0 where the halves correlate negatively, which reliable maps do not.
        """
        halves = _correlation(*(sums.sum(1) for sums in self._sums()))
        r = torch.stack([torch.corrcoef(pair)[0, 1] for pair in halves.transpose(0, 1)]).clamp(min=0)
        return (2 * r / (1 + r)).numpy()

    def effect(self) -> dict[str, np.ndarray]:
        """Return correlation, p_value, low and high, each (channel, freq, output), and the reliability (output,)."""
        by_group = [sums.sum(0) for sums in self._sums()]
        total = [sums.sum(0) for sums in by_group]
        correlation = _correlation(*total)
        left_out = _correlation(*(whole - parts for whole, parts in zip(total, by_group, strict=True)))
        low, high, _ = jackknife(correlation, left_out)
        effect = {"correlation": correlation, "p_value": self._p_value(correlation, *total), "low": low, "high": high}
        maps = {name: _map(values.to(self.products.dtype), self.shape) for name, values in effect.items()}
        return maps | {"reliability": self.reliability()}

    def _sums(self) -> tuple[Tensor, ...]:
        return self.products.cpu(), self.squares.cpu(), self.changes, self.squared_changes

    def _p_value(self, correlation, products, squares, changes, squared_changes) -> Tensor:
        """Return two-sided p-values (output, feature) from a null pooled over lags and features."""
        ran = self.null_changes[:, 0] > 0
        null_changes = self.null_changes[ran]
        share = null_changes[:, :1] / changes[0]  # of all pairs; with fewer pairs a correlation strays further
        covariance = _covariance(self.null_products.cpu()[ran], null_changes)
        null = covariance / _deviations(products, squares, changes, squared_changes) * share.sqrt()[..., None]
        null = null.abs().transpose(0, 1).flatten(1).sort(dim=1).values.contiguous()
        as_large = null.shape[1] - torch.searchsorted(null, correlation.abs().contiguous())
        return torch.where(correlation.isnan(), torch.nan, (1 + as_large) / (1 + null.shape[1]))


def _correlation(products: Tensor, squares: Tensor, changes: Tensor, squared_changes: Tensor) -> Tensor:
    """Return correlations (..., output, feature) from sums."""
    return _covariance(products, changes) / _deviations(products, squares, changes, squared_changes)


def _covariance(products: Tensor, changes: Tensor) -> Tensor:
    n = changes[..., :1]
    return (products[..., 1:, :] - (changes[..., 1:] / n)[..., None] * products[..., :1, :]) / n[..., None]


def _deviations(products: Tensor, squares: Tensor, changes: Tensor, squared_changes: Tensor) -> Tensor:
    """Return the product of the standard deviations of changes and perturbations, shape (..., output, feature)."""
    n = changes[..., :1]
    variance = squares / n - (products[..., 0, :] / n).square()
    return (variance[..., None, :] * (squared_changes / n - (changes[..., 1:] / n).square())[..., None]).sqrt()


def first_order_effect(gradients: Tensor, squares: Tensor, counts: Tensor) -> dict[str, np.ndarray]:
    """Return what `PerturbationSums.effect` does, for noise too small to matter, from sums over groups of trials.

    Parameters
    ----------
    gradients : Tensor, shape (group, output, channel, freq)
    squares : Tensor, shape (group, output)
        Of the gradients, summed over channels and frequencies.
    counts : Tensor, shape (group,)
        Trials.
    """

    def correlation(gradients: Tensor, squares: Tensor, counts: Tensor) -> Tensor:
        return gradients.flatten(-2) / (squares * counts[..., None]).sqrt()[..., None]

    sums = gradients, squares, counts
    total = [each.sum(0) for each in sums]
    estimate = correlation(*total)
    left_out = correlation(*(whole - parts for whole, parts in zip(total, sums, strict=True)))
    low, high, t = jackknife(estimate, left_out)
    p_value = torch.as_tensor(2 * student_t.sf(t.abs(), len(counts) - 1))
    p_value[estimate == 0] = 1  # where no trial has a gradient, the error is zero too
    effect = {"correlation": estimate, "p_value": p_value, "low": low, "high": high}
    maps = {name: _map(values, gradients.shape[-2:]) for name, values in effect.items()}
    return maps | {"reliability": torch.where(estimate.isnan().all(1), torch.nan, 1.0).double().numpy()}


def jackknife(estimate: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ends of an interval and t of correlations, from those that leave out one group each.

    On Fisher's scale, so that no end leaves -1 … 1.
    """
    n, z = len(left_out), estimate.atanh()
    error = ((n - 1) * left_out.atanh().var(0, correction=0)).sqrt()
    reach = error * student_t.ppf((1 + CONFIDENCE) / 2, n - 1)
    return (z - reach).tanh(), (z + reach).tanh(), z / error


def _map(values: Tensor, shape: torch.Size) -> np.ndarray:
    return rearrange(values.numpy(), "output (channel freq) -> channel freq output", channel=shape[0])
