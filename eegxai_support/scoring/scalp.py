"""Scalp images of channel maps."""

from __future__ import annotations

from functools import lru_cache

import mne
import numpy as np
import torch
from scipy.interpolate import CloughTocher2DInterpolator
from scipy.spatial import Delaunay
from scipy.spatial.distance import cdist

IMAGE_SIZE = 64
AT_ONCE = 256  # maps made double precision: all of them would be copied
NARROWEST = 0.05  # spread across over spread along: what is narrower is a line, and its hull a few pixels
ONE_PLACE = 1e-6  # m


def position_2d(info: mne.Info, n_channels: int) -> np.ndarray:
    """Azimuthal equidistant projection of the electrodes, as MNE draws them, shape (channel, 2)."""
    location = _location(info)
    if len(location) != n_channels:
        raise ValueError(f"info has {len(location)} channels but the maps have {n_channels}.")
    radius = np.linalg.norm(location, axis=1)
    if not (np.isfinite(radius) & (radius > 0)).all():
        raise ValueError("info has channels without a position. Set one: info.set_montage('colin27_1005').")
    azimuth = np.arctan2(location[:, 1], location[:, 0])
    reach = radius * np.arccos(location[:, 2] / radius) / (np.pi / 2)
    return reach[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)


def why_no_scalp(info: mne.Info | None, n_channels: int) -> str | None:
    """Return why channels make no image that an SSIM could be computed on, or None where they do."""
    if n_channels < 3:
        return f"{n_channels} channel{'s' * (n_channels > 1)}"
    if info is None or len(info["chs"]) != n_channels:
        return None
    location = _location(info)
    located = np.isfinite(location).all(axis=1) & location.any(axis=1)
    if located.sum() < 3:
        return f"{located.sum()} of {n_channels} channels with a position"
    if not located.all():
        return None
    position = position_2d(info, n_channels)
    spread = np.linalg.svd(position - position.mean(axis=0), compute_uv=False)
    return "channels on a line" if spread[1] < NARROWEST * spread[0] else None


def spatial_modes(info: mne.Info) -> torch.Tensor:
    """Orthonormal patterns over the electrodes that differ in smoothness, shape (channel, mode).

    Moran's eigenvector maps, where the weight of two electrodes is minus their distance on a unit sphere.
    """
    location = _location(info)
    direction = location / np.linalg.norm(location, axis=1, keepdims=True)
    centre = np.eye(len(location)) - 1 / len(location)
    return torch.from_numpy(np.linalg.eigh(centre @ cdist(direction, direction) @ centre).eigenvectors)


def scalp_images(maps: torch.Tensor, position: np.ndarray, *, keep_sign: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Average over time and interpolate: images (trial, 64, 64), zero outside the hull, and the hull (64, 64).

    With `keep_sign`, pixels of the wrong sign are zero where all channels of a map have one sign. Without it, the
    images are those of braindecode to the last digit: SciPy's slopes stop short of convergence by an absolute amount,
    so that images of small values are not quite those of large ones.
    """
    values = torch.cat([block.double().mean(dim=2) for block in maps.split(AT_ONCE)])
    if keep_sign:
        weight, hull = (torch.as_tensor(array, device=maps.device) for array in _weights(position.tobytes()))
        images = values @ weight.T
        images = torch.where((values >= 0).all(dim=1, keepdim=True), images.clamp(min=0), images)
        images = torch.where((values <= 0).all(dim=1, keepdim=True), images.clamp(max=0), images)
        return images.masked_fill(~hull.flatten(), 0.0).unflatten(1, hull.shape), hull
    values = values.cpu().numpy().T
    finite = np.isfinite(values).all(axis=0)  # one NaN would stop the slopes of every trial
    images = _interpolated(position, np.where(finite, values, 0.0))
    hull = np.isfinite(images).all(axis=2)
    images[:, :, ~finite] = np.nan
    images[~hull] = 0.0
    return torch.as_tensor(images.transpose(2, 0, 1), device=maps.device), torch.as_tensor(hull, device=maps.device)


def _location(info: mne.Info) -> np.ndarray:
    return np.array([channel["loc"][:3] for channel in info["chs"]], dtype=float)


@lru_cache(maxsize=8)
def _weights(position: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each channel in each pixel, shape (pixel, channel), and the hull: interpolation is linear."""
    position = np.frombuffer(position).reshape(-1, 2)
    # Electrodes in one place, such as T3 and T7, share their mean: a triangulation would leave all but one out.
    together = cdist(position, position) < ONE_PLACE
    first = np.flatnonzero(together.argmax(axis=1) == np.arange(len(position)))
    shared = together[first] / together[first].sum(axis=1, keepdims=True)
    weight = _interpolated(position[first], shared, tol=1e-12, maxiter=10_000)
    hull = np.isfinite(weight).all(axis=2)
    return np.where(hull[..., None], weight, 0.0).reshape(IMAGE_SIZE**2, -1), hull


def _interpolated(position: np.ndarray, values: np.ndarray, **convergence) -> np.ndarray:
    """Images (64, 64, map) of values (channel, map), NaN outside the convex hull of the electrodes."""
    margin = 0.1 * np.ptp(position, axis=0)
    x, y = np.linspace(position.min(axis=0) - margin, position.max(axis=0) + margin, IMAGE_SIZE).T
    interpolate = CloughTocher2DInterpolator(Delaunay(position), values, **convergence)
    return interpolate(*np.meshgrid(x, y))
