"""Score maps against a reference: `score_maps`, its columns and its correlation alone."""

from __future__ import annotations

import warnings
from functools import partial

import mne
import numpy as np
import pandas as pd
import torch

from eegxai_support.model import shared, wide
from eegxai_support.scoring.braindecode import braindecode_scores
from eegxai_support.scoring.chance import chance_levels, in_blocks, moran_surrogates, phase_surrogates
from eegxai_support.scoring.formulas import correlation, scores_of, top_support, truth_support, unit
from eegxai_support.scoring.metrics import METRICS
from eegxai_support.scoring.scalp import position_2d, scalp_images, spatial_modes, why_no_scalp
from eegxai_support.trials import unknown_name

PROTOCOLS = ("accuracy", "randomisation", "braindecode")


def score_maps(
    maps,
    reference,
    info: mne.Info | None = None,
    *,
    protocol: str = "accuracy",
    label=None,
    n_null: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Score each trial's map on twelve metrics and four SSIM, with chance levels.

    E is the map, ``A = abs(E)``, E⁺ = max(E, 0); R the reference, ``G = abs(R)``, G⁺ = max(R, 0). top(X) keeps the
    highest 5 % of X, ·ₛ divides by the maximum absolute value, S is the support of the reference and K its number of
    points. `METRICS` holds the formula of each column. Each relevance mass is divided by that of the reference itself.
    A map equal to its reference scores 1 on every column, and multiplying a map by a positive number changes no score.

    Parameters
    ----------
    maps, reference : ndarray or Tensor, shape (trial, channel, time)
        Tensors are scored on their device, or on the CPU where that has no float64, in which everything is computed.
    info : mne.Info, optional
        Electrode positions. With them each map is averaged over time and interpolated to a 64 × 64 scalp image; only
        pixels inside the convex hull of the electrodes count. Without them channel × time is scored, and the SSIM
        treats the order of the channels as space. Fewer than three channels, or fewer than three with a position, or
        channels on a line make no image: channel × time is scored, the SSIM are NaN, and one warning says so.
    protocol : {"accuracy", "randomisation", "braindecode"}
        accuracy: `reference` is the truth, ``R = abs(truth)`` (taken before the average over time), so G⁺ = G = R, and
        S = {G ≥ 0.05 max G}. Higher is better.
        randomisation: `maps` are those after randomising, `reference` the original ones, S = the top 5 % of G.
        Lower is better.
        braindecode: the numbers of ``compute_metrics`` and ``compute_ssim_metrics`` of braindecode 1.8.1 with their
        default flags (``abs_reference=True``, ``abs_explanation=False``), defects included, for maps in float64: given
        float32, braindecode rounds its own numbers by up to 1e-7. Our ``Pearson_absnorm``, ``_norm`` and ``_raw`` are
        its ``Pearson_*_vs_refnorm``.
    label : array-like, shape (trial,), optional
        Class of each trial. With it the first null takes its other trials from another class.
    n_null : int
        Draws for each chance level; 0 leaves the chance levels out.
    seed : int
        Seed of these draws.

    Returns
    -------
    DataFrame
        One row per trial and one column per key of `METRICS`. A score that does not exist (nothing positive in E⁺ or
        in G⁺ on S, a constant map in a correlation, a map or reference that is zero or holds NaN) is NaN. ``.attrs``
        holds

        - ``protocol``;
        - ``metrics``: ``{column: {"direction", "low", "high"}}``, the better direction under this protocol and the
          bounds, None where there is none (absent under "braindecode", whose formulas are others);
        - ``n_valid``: for each column, the number of trials with a score;
        - ``chance``: ``{null: {column: {"mean", "low", "high"}}}``, the mean and 95 % interval of the mean over trials.
          Null "other_trial" scores the same maps against the references of other trials (absent when there are none).
          Null "surrogate" scores random maps with the values and the smoothness of the trial's own map against its own
          reference. The phases of the map's two-dimensional Fourier transform are drawn at random, or, before
          interpolation, the signs of the spatial modes that the map's average over time is made of; then the map's
          values are put in the order of the result. A trial draws from 10 to `n_null` references or surrogates, fewer
          the more trials there are to average over;
        - ``no_image``: why the SSIM are NaN, where they are for want of an image;
        - ``skipped`` (protocol "braindecode" only): the trials that braindecode gives up, which enter as rows of zeros.

    Raises
    ------
    ValueError
        Shapes that do not match, too few samples for an SSIM window, an unknown protocol, a `label` of the wrong length
        or of one class only, positions missing from `info` of some of the channels.

    Notes
    -----
    Roles and columns follow [1]_; supports, chance levels and invalid trials do not. Points that tie for the last place
    among the K highest share the places that are left, and a point without relevance is never among them. Interpolation
    overshoots, so pixels of the wrong sign are set to zero where all channels of a map have one sign. SSIM is that of
    [2]_ with a uniform 7 × 7 window (smaller where the map is smaller), averaged over the windows that lie fully in the
    map or hull.

    The surrogates are those of [3]_, on the scalp those of [4]_ with the values of the map: its power in each of
    Moran's eigenvector maps stays, as far as the values allow. Of maps of noise that were scored on the scalp against
    the four regimes of `simulate`, four trials at a time, the interval of 200 draws held 93 %, by column 90 to 97 %.
    From some 50 trials on, where each has ten surrogates to draw from, it is about 91 %. With n draws at most about
    0.95 (n - 1) / (n + 1) can be expected: 94 % for 200, 90 % for 40, 86 % for 20. On channel × time the surrogates
    take the order of the channels for space.

    The interval of "other_trial" is over what the draw can find. Where trials of a class share a reference, that is one
    reference for each other class, and the interval says nothing of how the score would move with others: it is not one
    of 95 % for maps that know nothing.

    References
    ----------
    .. [1] Sujatha Ravindran, A., & Contreras-Vidal, J. (2023). Scientific Reports, 13, 17709.
    .. [2] Wang, Z., et al. (2004). IEEE Transactions on Image Processing, 13(4), 600-612.
    .. [3] Theiler, J., et al. (1992). Physica D, 58(1-4), 77-94.
    .. [4] Wagner, H. H., & Dray, S. (2015). Methods in Ecology and Evolution, 6(10), 1169-1178.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    maps, reference = _checked_pair(maps, reference)
    if label is not None:
        label = _checked_label(label, len(maps))

    if protocol == "braindecode":
        maps, reference = maps.nan_to_num(nan=0.0), reference.nan_to_num(nan=0.0)
    no_image = why_no_scalp(info, maps.shape[1])
    if no_image:
        warnings.warn(f"No scalp image: {no_image}. Channel × time is scored, and SSIM is NaN.", stacklevel=2)
    # Surrogates are drawn on the CPU: the same ones for every device.
    if info is None or no_image:
        valid = torch.ones(maps.shape[1:], dtype=torch.bool, device=maps.device)

        def surrogates(trial: int, n: int, generator: torch.Generator) -> torch.Tensor:
            return phase_surrogates(maps[trial].cpu(), n, generator).to(maps.device)

    else:
        images = partial(scalp_images, position=position_2d(info, maps.shape[1]), keep_sign=protocol != "braindecode")
        signals, modes = maps, spatial_modes(info)
        if protocol == "accuracy":
            reference = reference.abs()  # before the interpolation
        (maps, valid), (reference, _) = images(maps), images(reference)

        def surrogates(trial: int, n: int, generator: torch.Generator) -> torch.Tensor:
            values = moran_surrogates(signals[trial].cpu().double().mean(dim=1), modes, n, generator)
            return images(values[..., None].to(maps.device))[0]

    if protocol == "braindecode":
        score = partial(braindecode_scores, as_images=not no_image)
    else:
        support = truth_support if protocol == "accuracy" else top_support

        def score(maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
            reference = reference.abs() if protocol == "accuracy" else reference  # of a block, not a copy of them all
            return scores_of(maps, reference, valid=valid, support=support, as_images=not no_image)

    scores = pd.DataFrame(in_blocks(score, maps, reference), columns=list(METRICS))
    scores.index.name = "trial"
    scores.attrs["protocol"] = protocol
    if protocol != "braindecode":
        scores.attrs["metrics"] = {column: metric.under(protocol) for column, metric in METRICS.items()}
    scores.attrs["n_valid"] = {column: int(n) for column, n in scores.notna().sum().items()}
    if no_image:
        scores.attrs["no_image"] = no_image
    if protocol == "braindecode":
        scores.attrs["skipped"] = np.flatnonzero((scores == 0).all(axis=1)).tolist()
    if n_null:
        scores.attrs["chance"] = chance_levels(score, maps, reference, surrogates, label, n_null, seed)
    return scores


def pearson(maps, reference) -> np.ndarray:
    """Return the correlation of each trial's map with its reference.

    Parameters
    ----------
    maps, reference : ndarray or Tensor, shape (trial, channel, time)

    Returns
    -------
    ndarray, shape (trial,)
        NaN where one of the two is constant or holds NaN.

    Raises
    ------
    ValueError
        Shapes that do not match.
    """

    def score(maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        x, y = (unit(side.flatten(1)) for side in (maps, reference))
        return correlation(x, y, x.shape[1])

    return in_blocks(score, *_checked_pair(maps, reference))


def _checked_pair(maps, reference) -> tuple[torch.Tensor, torch.Tensor]:
    maps, reference = _tensor(maps), _tensor(reference)
    if maps.shape != reference.shape or maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(
            f"maps have shape {tuple(maps.shape)} and reference {tuple(reference.shape)}; expected the same"
            " (trial, channel, time) with at least one trial."
        )
    device = wide(maps[:1]).device
    return maps.to(device), reference.to(device)


def _tensor(x) -> torch.Tensor:
    # torch takes no negative strides; all else is shared, since it is only read.
    return x.detach() if isinstance(x, torch.Tensor) else shared(np.ascontiguousarray(x))


def _checked_label(label, n_trials: int) -> np.ndarray:
    label = np.asarray(label)
    if label.shape != (n_trials,):
        raise ValueError(f"label has shape {label.shape}; expected ({n_trials},), one class per trial.")
    if len(np.unique(label)) == 1:
        raise ValueError("label holds one class only, so no trial has another class to be compared with. Omit label.")
    return label
