"""Does the output change where a map says it should? Perturbation tests and curves."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import nn

from eegxai_support.scoring.maps import pearson
from eegxai_support.scoring.perturbed import MAPS, Perturbed, checked_shares, ranks
from eegxai_support.scoring.processing import FLOOR, process_maps
from eegxai_support.trials import unknown_name

MODES = ("deletion", "insertion")
PATCH_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
CURVE_SHARES = tuple(np.linspace(0, 1, 11).round(1).tolist())


def sensitivity_test(
    model: nn.Module,
    x,
    target,
    maps,
    *,
    shares: Iterable[float] = PATCH_SHARES,
    n_patches: int = 100,
    baseline=None,
    seed: int = 0,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Correlate what a map holds in a patch with what the logit loses when the patch is taken away.

    The sensitivity test of Cui et al. [1]_, an instance of Sensitivity-n [2]_: patches on a random channel from a
    random start, and each channel in turn.

    Parameters
    ----------
    model : torch.nn.Module
        A copy from `simplify` gives the same outputs with fewer operations.
    x : ndarray or Tensor, shape (trial, channel, time)
    target : int, array of int (trial,), tuple (int, int) or callable
        What each map explains, in each of the forms that `attribute` takes. The predicted class asks what the network
        uses, right or wrong, as in [1]_.
    maps : ndarray or Tensor, shape (trial, channel, time), or dict of them by method
        Signed: a map without signs cannot tell a point that raises the logit from one that lowers it. All methods of a
        dict are compared with the same losses, which takes hardly longer than one.
    shares : iterable of float
        Lengths of the patches as shares of the trial, increasing. A patch has an even number of samples, as in [1]_.
    n_patches : int
        Patches of each length for each trial.
    baseline : ndarray or Tensor, shape (trial, channel, time), optional
        What the points of a patch become; zero if None. Take the one of the maps: a map that conserves explains the
        difference from its own baseline. See `make_baseline`.
    seed : int
        The patches of a trial depend on it and the place of the trial in `x` alone, so that methods are compared on the
        same patches in separate calls too.
    batch_size : int
        Perturbed trials per forward pass.

    Returns
    -------
    DataFrame
        One row per map, trial and share, and per method where `maps` is a dict.

        - ``map``: "own" is the map as given. "surrogate" and "random" are what chance reaches on the same patches:
          the map's values in other places, with the smoothness of the map, and without. Surrogates take the order of
          the channels for space.
        - ``trial``, ``target``: an index, or the name of what is explained.
        - ``share``: 1 is whole channels, each in turn.
        - ``correlation``: Pearson's, over the patches; 1 for a map that predicts every loss, NaN where the sums or the
          losses are constant.

        `mean_and_interval` averages over trials.

    Raises
    ------
    TypeError
        A target of no known form.
    ValueError
        Arrays that do not fit the model or each other, no map, an output that the model does not have, shares that are
        not increasing between 0 and 1 or shorter than two samples, fewer than two patches or channels.

    References
    ----------
    .. [1] Cui, J., et al. (2023). Towards best practice of interpreting deep learning models for EEG-based brain
       computer interfaces. Frontiers in Computational Neuroscience, 17, 1232925.
    .. [2] Ancona, M., et al. (2018). Towards better understanding of gradient-based attribution methods for deep
       neural networks. ICLR.
    """
    problem = Perturbed.checked(model, x, target, maps, baseline, batch_size)
    n_trials, n_channels, n_times = problem.x.shape
    shares = checked_shares(shares)
    widths = 2 * np.round(shares * n_times / 2).astype(int)
    if not (2 <= widths[0] and widths[-1] < n_times):
        raise ValueError(f"shares are {shares.tolist()} of {n_times} samples; expected patches of 2 … {n_times - 1}.")
    if min(n_patches, n_channels) < 2:
        raise ValueError(
            f"There are {n_patches} patches and {n_channels} channels; a correlation over them needs two of each."
        )
    groups = [_patches(seed, trial, n_channels, n_times, widths, n_patches) for trial in range(n_trials)]
    channel, start, stop = np.stack(groups, axis=1)  # each (trial, patch)

    logit, _ = problem.outputs_of(problem.x)
    flat = [torch.from_numpy(part.ravel()).to(problem.x.device) for part in (channel, start, stop)]
    perturbed, _ = problem.outputs_without_patches(np.repeat(np.arange(n_trials), channel.shape[1]), *flat)
    loss = logit[:, None] - perturbed.reshape(channel.shape)
    edges = np.arange(1, len(shares) + 1) * n_patches

    def correlation(maps: np.ndarray, rows: slice) -> np.ndarray:
        until = np.pad(np.cumsum(maps, axis=2, dtype=float), ((0, 0), (0, 0), (1, 0)))
        at = np.arange(len(maps))[:, None], channel[rows]
        total = until[*at, stop[rows]] - until[*at, start[rows]]
        pairs = zip(np.split(total, edges, axis=1), np.split(loss[rows], edges, axis=1), strict=True)
        return np.stack([pearson(sums[..., None], losses[..., None]) for sums, losses in pairs], axis=1)

    def test(maps: np.ndarray) -> pd.DataFrame:
        correlations = np.empty((len(MAPS), n_trials, len(shares) + 1))
        for rows, m, _, compared in problem.compared(maps, seed):
            correlations[m, rows] = correlation(compared, rows)
        axes = {"map": MAPS, "trial": range(n_trials), "share": [*shares, 1.0]}
        return problem.table(axes, correlation=correlations)

    return problem.of_each_method(test)


def deletion_test(
    model: nn.Module,
    x,
    target,
    maps,
    *,
    baseline=None,
    seed: int = 0,
    link: str | None = None,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Delete what stands out in a map and ask the model again.

    The deletion test of Cui et al. [1]_. Points: the map is z-scored, less 2, cut at -1 from below and averaged over
    ten samples; the points above -1 are deleted, which lie within five samples of one that is a standard deviation
    above the mean of its map. Channels: those whose mean over time is a standard deviation above the mean over
    channels.

    Parameters
    ----------
    model : torch.nn.Module
        A copy from `simplify` gives the same outputs with fewer operations.
    x : ndarray or Tensor, shape (trial, channel, time)
    target : int, array of int (trial,), tuple (int, int) or callable
        What each map explains, in each of the forms that `attribute` takes. In [1]_ the maps explain the predicted
        class and the probability is that of the labelled one: they differ where the decoder is wrong.
    maps : ndarray or Tensor, shape (trial, channel, time), or dict of them by method
    baseline : ndarray or Tensor, shape (trial, channel, time), optional
        What deleted points become; zero, as in [1]_, if None. See `make_baseline`.
    seed : int
        A trial's draws depend on it and the place of the trial in `x` alone.
    link : {"softmax", "sigmoid", "identity"}, optional
        Makes probabilities of the outputs. Found out if None: softmax of logits and log-probabilities, and identity
        for a model that ends with a softmax. A single output needs it said: "sigmoid" of a logit, "identity" where it
        is a probability or another number.
    batch_size : int
        Perturbed trials per forward pass.

    Returns
    -------
    DataFrame
        One row per deleted part, map and trial, and per method where `maps` is a dict.

        - ``part``: "points" or "channels".
        - ``map``: "own" is the map as given. The others are what chance reaches with as many points or channels:
          "surrogate" takes the ones that stand out when the map's values are in other places with the smoothness of
          the map, where the order of the channels is taken for space, "random" takes any.
        - ``trial``, ``target``: an index, or the name of what is explained.
        - ``deleted``: share of the points or channels; it differs between methods, so compare with chance, not across.
        - ``logit``, ``probability``: what is explained after deletion, as the model puts it out and through the link. A
          difference or a function of outputs has no probability: NaN.
        - ``logit_drop``, ``probability_drop``: what deletion took away; higher is better.

        `mean_and_interval` averages over trials.

    Raises
    ------
    TypeError
        A target of no known form.
    ValueError
        Arrays that do not fit the model or each other, no map, an output that the model does not have, one output
        without a link, an unknown link.

    References
    ----------
    .. [1] Cui, J., et al. (2023). Towards best practice of interpreting deep learning models for EEG-based brain
       computer interfaces. Frontiers in Computational Neuroscience, 17, 1232925.
    """
    problem = Perturbed.checked(model, x, target, maps, baseline, batch_size, link)
    trial, device = np.arange(len(problem.x)), problem.x.device
    logit, probability = problem.outputs_of(problem.x)

    def test(maps: np.ndarray) -> pd.DataFrame:
        share = np.empty((2, len(trial)))
        outputs = np.empty((2, 2, len(MAPS), len(trial)))  # (output, part, map, trial)
        for rows, m, name, compared in problem.compared(maps, seed):
            if name == "own":  # first of all
                stands_out = [score > low for score, low in zip(process_maps(compared), (FLOOR, 0), strict=True)]
                number = [mask.sum(axis=(1, 2)) for mask in stands_out]
                share[:, rows] = [mask.mean(axis=(1, 2)) for mask in stands_out]
            scores = (compared, compared.mean(2, keepdims=True)) if name == "random" else process_maps(compared)
            for p, (score, n) in enumerate(zip(scores, number, strict=True)):
                deleted = torch.from_numpy(ranks(score, seed, rows.start) < n[:, None, None]).to(device)
                outputs[:, p, m, rows] = problem.outputs(trial[rows], deleted.__getitem__)
        return problem.table(
            {"part": ("points", "channels"), "map": MAPS, "trial": trial},
            deleted=np.repeat(share[:, None], len(MAPS), axis=1),
            logit=outputs[0],
            probability=outputs[1],
            logit_drop=logit - outputs[0],
            probability_drop=probability - outputs[1],
        )

    return problem.of_each_method(test)


def perturbation_curves(
    model: nn.Module,
    x,
    target,
    maps,
    *,
    mode: str = "deletion",
    shares: Iterable[float] = CURVE_SHARES,
    baseline=None,
    seed: int = 0,
    link: str | None = None,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Follow the output while the points of a trial are deleted, or inserted, in the order of a map.

    Deletion and insertion curves of Petsiuk et al. [1]_; deletion is the pixel flipping of Samek et al. [2]_.

    Parameters
    ----------
    model : torch.nn.Module
        A copy from `simplify` gives the same outputs with fewer operations.
    x : ndarray or Tensor, shape (trial, channel, time)
    target : int, array of int (trial,), tuple (int, int) or callable
        What each map explains, in each of the forms that `attribute` takes.
    maps : ndarray or Tensor, shape (trial, channel, time), or dict of them by method
        The highest value comes first; ties come in random order.
    mode : {"deletion", "insertion"}
        deletion: points of the trial become those of the baseline; a good map makes the curve fall early.
        insertion: points of the baseline become those of the trial; a good map makes the curve rise early.
    shares : iterable of float
        Shares of the points that are replaced, increasing, from 0 to 1. Deletion in the order of a signed map may take
        half-waves of one sign first, after which the output need not fall further: ``np.linspace(0, 0.2, 11)`` follows
        the part of the curve where the trial is still most like itself.
    baseline : ndarray or Tensor, shape (trial, channel, time), optional
        Zero if None. A trial with holes is unlike anything that the decoder was trained on, and each baseline is so in
        its own way: trust what holds with all three of `make_baseline`, "zero", "trial_mean" (each channel's mean) and
        "phase_scrambled".
    seed : int
        A trial's draws depend on it and the place of the trial in `x` alone.
    link : {"softmax", "sigmoid", "identity"}, optional
        Makes probabilities of the outputs. Found out if None: softmax of logits and log-probabilities, and identity
        for a model that ends with a softmax. A single output needs it said: "sigmoid" of a logit, "identity" where it
        is a probability or another number.
    batch_size : int
        Perturbed trials per forward pass.

    Returns
    -------
    DataFrame
        One row per map, trial and share, and per method where `maps` is a dict.

        - ``map``: "own" is the map as given. "surrogate" and "random" are what chance reaches: the order of the map's
          values in other places, with the smoothness of the map, and without. Scattered points and long stretches do
          unlike damage, so a smooth map is to be compared with the surrogate, which takes the order of the channels for
          space.
        - ``trial``, ``target`` (an index, or the name of what is explained), ``share``
        - ``logit``, ``probability``: what is explained, as the model puts it out and through the link. A difference or
          a function of outputs has no probability: NaN.

        `area_under_curve` makes one number of a curve, `mean_and_interval` averages over trials.

    Raises
    ------
    TypeError
        A target of no known form.
    ValueError
        Arrays that do not fit the model or each other, no map, an output that the model does not have, an unknown mode
        or link, one output without a link, shares that are not increasing from 0 to 1.

    References
    ----------
    .. [1] Petsiuk, V., Das, A., & Saenko, K. (2018). RISE: Randomized input sampling for explanation of black-box
       models. BMVC.
    .. [2] Samek, W., et al. (2017). Evaluating the visualization of what a deep neural network has learned. IEEE
       Transactions on Neural Networks and Learning Systems, 28(11), 2660-2673.
    """
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    problem = Perturbed.checked(model, x, target, maps, baseline, batch_size, link)
    shares = checked_shares(shares)
    n_trials, size = len(problem.x), problem.x[0].numel()
    number = np.round(shares * size).astype(int)
    # The ends are the same for every map.
    first, last = map(
        problem.outputs_of, (problem.x, problem.baseline.expand_as(problem.x))[:: 1 if mode == "deletion" else -1]
    )
    ends, between = np.where(number == 0, first[..., None], last[..., None]), (number > 0) & (number < size)
    highest = torch.from_numpy(number[between])[:, None, None].to(problem.x.device)

    def test(maps: np.ndarray) -> pd.DataFrame:
        outputs = np.stack([ends] * len(MAPS), axis=1)  # (output, map, trial, share)
        for rows, m, _, compared in problem.compared(maps, seed):
            place = torch.from_numpy(ranks(compared, seed, rows.start)).to(problem.x.device)
            trial, which = (each.ravel() for each in np.indices((len(compared), len(highest))))

            def deleted(part: slice, place=place, trial=trial, which=which) -> torch.Tensor:
                return (place[trial[part]] < highest[which[part]]) == (mode == "deletion")

            between_ends = problem.outputs(trial + rows.start, deleted)
            outputs[:, m, rows][..., between] = between_ends.reshape(2, len(compared), -1)
        axes = {"map": MAPS, "trial": range(n_trials), "share": shares}
        return problem.table(axes, logit=outputs[0], probability=outputs[1])

    return problem.of_each_method(test)


def area_under_curve(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the area under each deletion or insertion curve, by the trapezoidal rule.

    Parameters
    ----------
    curves : DataFrame
        From `perturbation_curves`. Columns that were added, such as method or baseline, tell curves apart.

    Returns
    -------
    DataFrame
        One row per curve: the columns of `curves` without share; ``logit`` and ``probability`` are areas, divided by
        the range of the shares: the mean height of the curve. After deletion low is good, after insertion high.

    Raises
    ------
    ValueError
        A curve of fewer than two shares, or that has one twice.
    """
    heights = ["logit", "probability"]
    keys = [column for column in curves if column not in ("share", *heights)]
    rows = []
    for key, curve in curves.sort_values("share", kind="stable").groupby(keys, sort=False, dropna=False):
        share = curve["share"].to_numpy(float)
        if len(share) < 2 or (np.diff(share) == 0).any():
            raise ValueError(
                f"The curve {dict(zip(keys, key, strict=True))} has the shares {share.tolist()}; an area needs two,"
                " each once. Is a column missing that tells curves apart, or one there that varies along them?"
            )
        rows.append((*key, *np.trapezoid(curve[heights], share, axis=0) / np.ptp(share)))
    return pd.DataFrame(rows, columns=[*keys, *heights])


def _patches(seed: int, trial: int, n_channels: int, n_times: int, widths: np.ndarray, n_patches: int) -> np.ndarray:
    """Draw channel, start and stop of a trial's patches, of one width after the other; last the whole channels."""
    rng = np.random.default_rng([seed, trial, 3])
    size = len(widths), n_patches
    channel, start = rng.integers(n_channels, size=size), rng.integers(n_times - widths[:, None] + 1, size=size)
    drawn = np.stack([channel, start, start + widths[:, None]]).reshape(3, -1)
    every = np.arange(n_channels)
    return np.concatenate([drawn, np.stack([every, 0 * every, 0 * every + n_times])], axis=1)
