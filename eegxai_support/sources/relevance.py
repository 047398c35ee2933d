"""How much of a decision rests on each independent component, and trials without some of them."""

from __future__ import annotations

from collections.abc import Iterable

import mne
import numpy as np

from eegxai_support.attribution import Attribution
from eegxai_support.attribution.factors import factors, multiplier_of
from eegxai_support.model import given
from eegxai_support.trials import Trials

SAMPLES = 2**20  # of all channels together unmixed at a time, 8 bytes each


def component_relevance(attribution: Attribution, x, ica: mne.preprocessing.ICA) -> np.ndarray:
    r"""Return how much of each trial's map every independent component carries.

    A map that is a multiplier :math:`m` times the change :math:`d` of the input from its baseline goes through a linear
    transform as through any other layer [1]_. With the unmixing matrix :math:`W`, the sources :math:`s = W d` and the
    mixing matrix :math:`A`, whose columns are the components' topographies,

    .. math:: R_j = \sum_t s_{jt} \, (A^\top m)_{jt}:

    what source :math:`j` puts on the scalp, times what the network makes of it. Components and rest sum to the map.

    Parameters
    ----------
    attribution : Attribution
        Of a method that is linear in its input, so that ``values = multiplier * (x - baseline)``.
    x : array-like, Trials, mne.Epochs, or a dataset of windows; shape (trial, channel, time)
        The trials that were explained, their channels in the order of ``ica.ch_names``, which is compared where the
        trials know it. The pass-band may be another
        than that of the trials that the ICA was fitted on: a filter in time does not change topographies.
    ica : mne.preprocessing.ICA
        Fitted, for example by `fit_ica`.

    Returns
    -------
    ndarray, shape (trial, component + 1)
        In units of the output, in the order of the ICA's components. The last column is what they leave: the principal
        components that an ICA of reduced rank drops. Of the attribution's type, computed in float64.

    Raises
    ------
    ValueError
        The attribution has no multiplier, `x` is not what was explained, or `ica` is not fitted or to other channels or
        another order.

    See Also
    --------
    fit_ica, label_components, eegxai_support.frequency_relevance

    Notes
    -----
    Unmixing the map itself, ``abs(W @ values)``, answers no question. Relevance is no potential that sources put on the
    scalp, and the result neither sums to the map nor names the source that a linear decoder reads.

    References
    ----------
    .. [1] Vielhaben, Lapuschkin, Montavon & Samek (2024). Explainable AI for time series via virtual inspection layers.
       Pattern Recognition 150, 110309.
    """
    multiplier = multiplier_of(attribution)
    n_trials, n_channels, n_times = multiplier.shape
    info = given(x).info
    if info is None:
        check_fitted(ica)
    else:
        check_fitted_to(ica, info.ch_names)
    unmixing, mixing = matrices_of(ica)
    if len(mixing) != n_channels:
        raise ValueError(f"ica was fitted to {len(mixing)} channels but {n_channels} were explained. Fit it to those.")
    relevance = np.empty((n_trials, len(unmixing)))
    total = np.empty(n_trials)
    for rows, each, change in factors(attribution, x, max(1, SAMPLES // (n_channels * n_times))):
        product = change @ each.swapaxes(1, 2)  # summed over time: all that a spatial transform needs
        relevance[rows] = (unmixing @ product * mixing.T).sum(2)
        total[rows] = np.trace(product, axis1=1, axis2=2)
    return np.column_stack([relevance, total - relevance.sum(1)]).astype(multiplier.dtype)


def remove_components(trials: Trials, ica: mne.preprocessing.ICA, components: Iterable[int]) -> Trials:
    """Return trials without what some independent components put on the scalp.

    Parameters
    ----------
    trials : Trials
        In any unit and pass-band, with the channels that the ICA was fitted on.
    ica : mne.preprocessing.ICA
        Fitted, for example by `fit_ica`. Its attribute ``exclude`` is not read.
    components : iterable of int
        Numbers of the components, from 0.

    Returns
    -------
    Trials
        Signal and truth times I - A W, where W holds the rows of the unmixing matrix that belong to `components` and A
        their topographies: the components' means go with them, where `mne.preprocessing.ICA.apply` keeps them.

    Raises
    ------
    ValueError
        A component that the ICA does not have, or `ica` is not fitted or to other channels.
    """
    check_fitted_to(ica, trials.info.ch_names)
    unmixing, mixing = matrices_of(ica)
    removed = np.asarray([*components])
    if removed.size and (removed.dtype.kind not in "iu" or not np.isin(removed, range(len(unmixing))).all()):
        raise ValueError(f"components are {removed.tolist()}; expected numbers from 0 to {len(unmixing) - 1}.")
    removed = np.unique(removed).astype(int)
    return trials.apply_matrix(np.eye(len(mixing)) - mixing[:, removed] @ unmixing[removed])


def matrices_of(ica: mne.preprocessing.ICA) -> tuple[np.ndarray, np.ndarray]:
    """Return the unmixing, shape (component, channel), and the mixing, shape (channel, component), of the scalp."""
    # MNE whitens each channel by a number, or all together where it was given a noise covariance, before the PCA.
    whitener = ica.pre_whitener_ if ica.noise_cov is not None else np.diag(1 / ica.pre_whitener_[:, 0])
    unmixing = ica.unmixing_matrix_ @ ica.pca_components_[: ica.n_components_] @ whitener
    return unmixing, np.linalg.pinv(whitener) @ ica.get_components()


def check_fitted(ica: mne.preprocessing.ICA) -> None:
    """Refuse an ICA without components."""
    if ica.current_fit == "unfitted":
        raise ValueError("ica is not fitted. Use fit_ica, or call its fit with broadband epochs.")


def check_fitted_to(ica: mne.preprocessing.ICA, ch_names: list[str]) -> None:
    """Refuse an ICA of other channels or of another order; those of a file are often fewer than the recording's."""
    check_fitted(ica)
    if ica.ch_names != ch_names:
        remedy = (
            "Give trials of its channels in its order: trials.pick(ica.ch_names), before a network is trained on them."
            if set(ica.ch_names) <= set(ch_names)
            else "Fit it to trials with the same channels in the same order."
        )
        raise ValueError(
            f"ica was fitted to the channels {', '.join(ica.ch_names)}; the trials have {', '.join(ch_names)}. {remedy}"
        )
