"""Maps from what the output loses when a part of the trial is replaced by the baseline."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor

from eegxai_support.attribution.problem import Problem, register

SHARE = 0.1  # of the trial, the default length of a window


@register("occlusion", reference="Zeiler & Fergus 2014, ECCV", needs_baseline=True, uses_gradient=False)
def occlusion(
    problem: Problem, *, window: tuple[int, int] | None = None, stride: tuple[int, int] | None = None
) -> Tensor:
    """Slide a window over the trial and replace what it covers by the baseline [1]_.

    The value of a point is the mean of f(x) - f(occluded x) over the windows that cover it. Windows start at
    multiples of `stride`; the last one along an axis is cut off by the end of the trial. A window's edges are steps
    in the signal, which hold all frequencies; a baseline that stays close to the trial makes them smaller.

    Parameters
    ----------
    problem : Problem
    window : tuple of int (channels, samples), optional
        One channel and a tenth of the trial if None. Channels are neighbours in the order of the recording, not on
        the head.
    stride : tuple of int (channels, samples), optional
        At most `window`, so that every point is covered; half the window if None.

    References
    ----------
    .. [1] Zeiler & Fergus (2014). Visualizing and understanding convolutional networks. ECCV.
    """
    n_channels, n_times = problem.x.shape[1:]
    window = _pair("window", (1, ceil(SHARE * n_times)) if window is None else window, (n_channels, n_times))
    stride = _pair("stride", [max(1, width // 2) for width in window] if stride is None else stride, window)
    return _mean_effect(problem, *map(_windows, (n_channels, n_times), window, stride))


@register("channel_ablation", reference="Zeiler & Fergus 2014, ECCV", needs_baseline=True, uses_gradient=False)
def channel_ablation(problem: Problem) -> Tensor:
    """Replace one channel at a time; every sample of the channel carries f(x) - f(x without the channel)."""
    n_times = problem.x.shape[2]
    return occlusion(problem, window=(1, n_times), stride=(1, n_times))


@register("window_ablation", reference="Zeiler & Fergus 2014, ECCV", needs_baseline=True, uses_gradient=False)
def window_ablation(problem: Problem, *, length: int | None = None) -> Tensor:
    """Replace one stretch of time at a time on all channels; its points carry f(x) - f(x without the stretch).

    Parameters
    ----------
    problem : Problem
    length : int, optional
        Samples in a stretch, a tenth of the trial if None. The last stretch is shorter where `length` does not
        divide the trial.
    """
    n_channels, n_times = problem.x.shape[1:]
    length = ceil(SHARE * n_times) if length is None else length
    if not isinstance(length, int | np.integer) or not 1 <= length <= n_times:
        raise ValueError(f"length is {length!r}; expected a whole number of samples, 1 … {n_times}.")
    return occlusion(problem, window=(n_channels, length), stride=(n_channels, length))


def values_without(problem: Problem, trial: Tensor, channels: Tensor, times: Tensor) -> Tensor:
    """Return f of each trial with parts of it replaced by its baseline.

    Parameters
    ----------
    problem : Problem
    trial : Tensor of int, shape (trial,)
    channels : Tensor of bool, shape (group, channel)
    times : Tensor of bool, shape (stretch, time)
        What is replaced: the channels of each group in the samples of each stretch.

    Returns
    -------
    Tensor, shape (trial, group, stretch)
    """
    ends = torch.stack([problem.x[trial], problem.baseline[trial]]).to(problem.device)
    channels, times = channels.to(problem.device), times.to(problem.device)
    every = torch.arange(channels.shape[1], device=problem.device)
    shape, whole = (len(trial), len(channels), len(times)), bool(times.all())

    def value(rows):
        row, group, stretch = torch.unravel_index(torch.arange(rows.start, rows.stop, device=problem.device), shape)
        if whole:  # to pick channels is several times as fast as to mix samples
            mixed = ends[channels[group].long(), row[:, None], every]
        else:
            mixed = torch.where(channels[group, :, None] & times[stretch, None], ends[1, row], ends[0, row])
        return problem.value(mixed, trial[row.cpu()])

    with torch.no_grad():
        return problem.in_batches(value, int(np.prod(shape))).reshape(shape)


def _mean_effect(problem: Problem, channels: Tensor, times: Tensor) -> Tensor:
    """Return the mean effect of the windows, channels by times, that cover each point."""
    covered = channels.sum(0)[:, None] * times.sum(0)

    def mean_effect(trial):
        at_x = problem.values(problem.x[trial], trial)
        effect = at_x[:, None, None] - values_without(problem, trial, channels, times)
        total = torch.einsum("ngs,gc,st->nct", effect, channels.to(effect), times.to(effect))
        return total / covered.to(effect.device)

    return problem.by_batch(mean_effect)


def _windows(length: int, width: int, stride: int) -> Tensor:
    """Return which points each window covers, shape (window, point)."""
    start = torch.arange(0, length - width + stride, stride)[:, None]
    point = torch.arange(length)
    return (start <= point) & (point < start + width)


def _pair(name: str, pair, largest: tuple[int, int]) -> tuple[int, int]:
    whole = np.shape(pair) == (2,) and np.asarray(pair).dtype.kind in "iu"
    if not whole or not all(1 <= size <= limit for size, limit in zip(pair, largest, strict=True)):
        raise ValueError(f"{name} is {pair!r}; expected (channels, samples), whole numbers from (1, 1) to {largest}.")
    return tuple(int(size) for size in pair)
