"""Is what a map ranks high needed? Remove it, train again, and see what accuracy is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from eegxai_support.scoring.perturbed import MAPS, checked_maps, checked_shares, compared_maps, ranks
from eegxai_support.trials import Trials

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def roar(
    fit: Callable[[Trials], Callable[[np.ndarray], np.ndarray]],
    train: Trials,
    test: Trials,
    train_maps,
    test_maps,
    *,
    shares: Iterable[float] = SHARES,
    baseline: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Remove what maps rank highest from all trials, train again and test: remove and retrain (ROAR) [1]_.

    A decoder that is trained on trials with holes is at home in them, so accuracy falls for lack of information and
    not because the trials look odd. It trains one decoder per share and map, and one on intact trials.

    Parameters
    ----------
    fit : callable
        Takes training trials, returns a function from a signal (trial, channel, time) to class labels: `decoder_fit`,
        `csp_lda` or your own.
    train, test : Trials
        Their trials may differ in length, as where training is on crops.
    train_maps, test_maps : ndarray or Tensor, shape (trial, channel, time)
        Explain a class that is known at test time, such as the predicted one. Where the map of a trial depends on its
        label, the place of the holes tells the label [2]_.
    shares : iterable of float
        Shares of the points that are removed, increasing, above 0 and at most 1.
    baseline : callable, optional
        From a signal to what removed points become, such as ``lambda x: make_baseline(x, "phase_scrambled")``. Each
        channel's mean over the trial if None, which still tells the class where classes differ in it, as slow
        potentials do. Zeros make a channel that is removed from every trial constant, which `Trials` refuses.
    seed : int
        Draws the surrogate and random maps; the seed of the training is that of `fit`.

    Returns
    -------
    DataFrame
        One row per map, share and test trial: map, share (0 is the decoder on intact trials), trial, label, predicted,
        correct. "own", "surrogate" and "random" as in `perturbation_curves`. A faithful map makes accuracy fall faster
        than chance does. ``mean_and_interval(table, ["map", "share"], "correct")`` is the accuracy with the interval
        over test trials. What another training would give is not in it: repeat with other seeds, named in a column
        seed.

    Raises
    ------
    ValueError
        Maps that do not fit the trials or hold NaN, shares that are not increasing above 0 and up to 1.

    References
    ----------
    .. [1] Hooker, S., et al. (2019). A benchmark for interpretability methods in deep neural networks. Advances in
       Neural Information Processing Systems, 32.
    .. [2] Rong, Y., et al. (2022). A consistent and efficient evaluation strategy for attribution methods. ICML.
    """
    shares = checked_shares(shares, zero=False)
    signals, given = (train.signal, test.signal), {"train_maps": train_maps, "test_maps": test_maps}
    maps = [checked_maps(maps, x.shape, name) for (name, maps), x in zip(given.items(), signals, strict=True)]
    numbered_from = 0, len(train)  # no test trial draws as a training trial does
    fills = [x.mean(2, keepdims=True) if baseline is None else baseline(x) for x in signals]
    intact = fit(train)(test.signal)

    predicted = []
    with tqdm(total=len(MAPS) * len(shares), desc="Retraining", leave=False, delay=2) as bar:
        for pair in zip(*map(compared_maps, maps, (seed, seed), numbered_from), strict=True):
            places = [ranks(compared, seed, first) for (_, compared), first in zip(pair, numbered_from, strict=True)]
            predicted.append(intact)
            for share in shares:
                removed = [place < np.round(share * place[0].size) for place in places]
                train_rest, test_rest = map(np.where, removed, fills, signals)
                predicted.append(fit(replace(train, signal=train_rest))(test_rest))
                bar.update()
    axes = {"map": MAPS, "share": [0.0, *shares], "trial": range(len(test))}
    table = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
    table = table.assign(label=test.label[table["trial"]], predicted=np.concatenate(predicted))
    return table.assign(correct=table["label"] == table["predicted"])
