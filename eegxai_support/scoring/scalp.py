"""Scalp images of channel maps."""

from __future__ import annotations

import mne
import numpy as np
import torch
from scipy.interpolate import CloughTocher2DInterpolator
from scipy.spatial import Delaunay

IMAGE_SIZE = 64


def position_2d(info: mne.Info, n_channels: int) -> np.ndarray:
    """Azimuthal equidistant projection of the electrodes, as MNE draws them, shape (channel, 2)."""
    location = np.array([channel["loc"][:3] for channel in info["chs"]], dtype=float)
    if len(location) != n_channels:
        raise ValueError(f"info has {len(location)} channels but the maps have {n_channels}.")
    radius = np.linalg.norm(location, axis=1)
    if not (np.isfinite(radius) & (radius > 0)).all():
        raise ValueError("info has channels without a position. Set one: info.set_montage('colin27_1005').")
    azimuth = np.arctan2(location[:, 1], location[:, 0])
    reach = radius * np.arccos(location[:, 2] / radius) / (np.pi / 2)
    return reach[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)


def scalp_images(maps: torch.Tensor, position: np.ndarray, *, keep_sign: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Average over time and interpolate: images (trial, 64, 64), zero outside the hull, and the hull (64, 64)."""
    values = maps.double().mean(dim=2).cpu().numpy().T
    margin = 0.1 * np.ptp(position, axis=0)
    x, y = np.linspace(position.min(axis=0) - margin, position.max(axis=0) + margin, IMAGE_SIZE).T
    finite = np.isfinite(values).all(axis=0)  # one NaN would stop the gradient estimate of every trial
    interpolate = CloughTocher2DInterpolator(Delaunay(position), np.where(finite, values, 0.0))
    images = interpolate(*np.meshgrid(x, y))
    hull = np.isfinite(images).all(axis=2)
    if keep_sign:
        images = np.where(values.min(axis=0) >= 0, images.clip(min=0), images)
        images = np.where(values.max(axis=0) <= 0, images.clip(max=0), images)
    images[:, :, ~finite] = np.nan
    images[~hull] = 0.0
    return torch.as_tensor(images.transpose(2, 0, 1), device=maps.device), torch.as_tensor(hull, device=maps.device)
