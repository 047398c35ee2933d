"""Independent components of a recording, fitted here, and what they look like."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pandas as pd

from eegxai_support.model import needed
from eegxai_support.montages import located
from eegxai_support.sources.labels import label_table
from eegxai_support.sources.relevance import check_fitted, check_fitted_to
from eegxai_support.trials import Trials, flat_channels

STABLE = 1e-6  # share of the largest variance below which MNE cannot invert the mixing of principal components
HIGHPASS, LOWPASS = 2.0, 40.0  # Hz: what the pass-band must hold for eyes and muscles to look like eyes and muscles
# After every block of samples, infomax would test again which sources are flatter than a Gaussian, most of its time if
# some are nearly Gaussian; after every tenth is enough.
EXTENDED = {"extended": True, "ext_blocks": 10}
ICLABEL_SFREQ = 100.0  # Hz, to which it resamples
ICLABEL_CHANNELS = 8  # fewer leave most of its picture of 32 × 32 points to extrapolation
PASS_BAND = 1.0, 100.0  # Hz, on which it was trained
DURATION = 2.0  # s, of the pieces that a recording is cut into
MICROVOLT = 1e-6  # V
STANDARD = 16.0  # µV, robust standard deviation of EEG at 1-79 Hz, the median over 21 subjects of EEGBCI
REFERENCED = 1e-3  # root mean square of the channels' mean, as a share of the signal's


def fit_ica(
    trials: Trials | mne.io.BaseRaw | mne.BaseEpochs, *, n_components: int | None = None, seed: int = 0
) -> mne.preprocessing.ICA:
    """Separate a recording into independent components by extended infomax [1]_.

    Parameters
    ----------
    trials : Trials, mne.io.BaseRaw or mne.BaseEpochs
        Broadband: with frequencies from 1 Hz up to 40 Hz or more. A decoder may see the same trials in a narrow band;
        the components are found here and applied there. Trials are taken as they are. Of a recording or of epochs the
        good EEG channels are taken, in average reference; a recording is filtered to 1-100 Hz and cut into pieces of
        2 s, those with bad annotations left out. It is a copy that changes.
    n_components : int, optional
        Principal components that are kept; by default the rank of the trials, which the average reference makes one
        less than their channels.
    seed : int
        Of the order in which infomax visits the samples.

    Returns
    -------
    mne.preprocessing.ICA
        Fitted in volts, trials without a unit scaled to what EEG usually has; components in the order of the variance
        that they explain. Fewer components are found much faster.

    Raises
    ------
    ValueError
        The pass-band, as `info` states it, starts above 2 Hz or ends below 40 Hz; trials have channels that are marked
        as bad; one channel, or several that hold one signal, is nothing to separate.

    Warns
    -----
    UserWarning
        Before the fit, where `label_components` would refuse its result, with the reason.
    RuntimeWarning
        Of MNE, where epochs or trials were never high-pass filtered.

    References
    ----------
    .. [1] Lee, Girolami & Sejnowski (1999). Independent component analysis using an extended infomax algorithm for
       mixed subgaussian and supergaussian sources. Neural Computation 11(2), 417-441.
    """
    epochs = _broadband(trials)
    signal = np.hstack(epochs.get_data(verbose=False))
    rank = int(np.linalg.matrix_rank(np.atleast_2d(np.cov(signal)), rtol=STABLE, hermitian=True))
    if rank < 2:
        raise ValueError(
            f"ICA separates what several channels mix. {', '.join(epochs.ch_names)}: these hold one signal, as two do"
            " in average reference. Take more channels, or explain these without components."
        )
    if refused := _not_for_iclabel(epochs):
        warnings.warn(f"label_components will refuse the components. {' '.join(refused)}", stacklevel=2)
    ica = mne.preprocessing.ICA(
        n_components or rank, method="infomax", fit_params=EXTENDED, random_state=seed, verbose=False
    )
    with warnings.catch_warnings():
        if getattr(trials, "truth", None) is not None:  # simulated trials have no drifts that a filter would remove
            warnings.filterwarnings("ignore", "The data has not been high-pass filtered")
        return ica.fit(epochs, verbose=False)


def label_components(ica: mne.preprocessing.ICA, trials: Trials | mne.io.BaseRaw | mne.BaseEpochs) -> pd.DataFrame:
    """Say what each independent component looks like to ICLabel [1]_: brain, eyes, muscles, heart, mains or electrode.

    Parameters
    ----------
    ica : mne.preprocessing.ICA
        Fitted by extended infomax, see `fit_ica`.
    trials : Trials, mne.io.BaseRaw or mne.BaseEpochs
        What the ICA was fitted on, see `fit_ica`; trials in average reference. ICLabel was trained on 1-100 Hz; a
        pass-band that `fit_ica` accepts, such as 1-79 Hz, is taken without a warning.

    Returns
    -------
    pandas.DataFrame
        One row per component: component, label, probability of the label, and the probability of each class:
        brain, muscle artifact, eye blink (which covers all eye movements), heart beat, line noise, channel noise,
        other. ICLabel's judgement depends, weakly, on the amplitude in µV: trials without a unit are scaled to a
        robust standard deviation of 16 µV.

    Raises
    ------
    ValueError
        `ica` is not fitted or to other channels, or the trials are filtered narrowly, not in average reference, sampled
        below 100 Hz, of fewer than 8 channels or of channels without a position.
    ModuleNotFoundError
        mne-icalabel is not installed.

    References
    ----------
    .. [1] Pion-Tonachini, Kreutz-Delgado & Makeig (2019). ICLabel: an automated electroencephalographic independent
       component classifier, dataset, and website. NeuroImage 198, 181-197.
    """
    with needed("label_components", extra="sources"):
        from mne_icalabel.config import ICALABEL_METHODS_NUMERICAL_TO_STRING
        from mne_icalabel.iclabel import iclabel_label_components

    check_fitted(ica)
    epochs = _broadband(trials)
    check_fitted_to(ica, epochs.ch_names)
    if refused := _not_for_iclabel(epochs):
        raise ValueError(" ".join(refused))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(is not filtered between 1 and 100 Hz|common average reference)")
        probability = iclabel_label_components(epochs, ica, inplace=False, backend="torch")
    return label_table(probability, ICALABEL_METHODS_NUMERICAL_TO_STRING["iclabel"].values())


def _broadband(trials: Trials | mne.io.BaseRaw | mne.BaseEpochs) -> mne.BaseEpochs:
    """Return epochs in volts, once it is sure that they can be separated; the copy of a recording is made here."""
    _check_broadband(trials.info)
    if isinstance(trials, Trials):
        if trials.info["bads"]:
            raise ValueError(
                f"Marked as bad: {', '.join(trials.info['bads'])}. Leave those channels out or repair them first."
            )
        scale = MICROVOLT * (1.0 if trials.unit == "uV" else STANDARD)
        return mne.EpochsArray(trials.signal.astype(np.float64) * scale, trials.info, proj=False, verbose=False)
    picks = mne.pick_types(trials.info, eeg=True, exclude="bads")
    if not len(picks):
        raise ValueError(f"No good EEG channel; the types are {sorted(set(trials.get_channel_types()))}.")
    copy = trials.copy().load_data().apply_proj(verbose=False).pick(picks, verbose=False)
    with copy.info._unlock():  # the copy shares its projectors, and the names in them would change for the caller too
        copy.info["projs"] = []
    signal = copy.get_data(verbose=False)
    if len(flat := flat_channels(signal.reshape(-1, *signal.shape[-2:]))):
        names = [copy.ch_names[channel] for channel in flat]
        warnings.warn(f"Left out, since they record nothing: {', '.join(names)}.", stacklevel=3)
        copy.drop_channels(names)
    named = located(copy.info)
    copy.rename_channels(dict(zip(copy.ch_names, named.ch_names, strict=True)), verbose=False)
    copy.set_montage(named.get_montage(), on_missing="ignore", verbose=False)
    if isinstance(copy, mne.io.BaseRaw):
        copy.filter(PASS_BAND[0], PASS_BAND[1] if copy.info["lowpass"] > PASS_BAND[1] else None, verbose=False)
        copy = mne.make_fixed_length_epochs(copy, DURATION, preload=True, proj=False, verbose=False)
    return copy.set_eeg_reference("average", verbose=False)


def lacking(info: mne.Info) -> str:
    """Say what the band and the rate lack for telling brain, eyes and muscles apart; "" where they suffice."""
    return " ".join(filter(None, (_narrow(info), _slow(info))))


def _narrow(info: mne.Info) -> str:
    low, high = info["highpass"], info["lowpass"]
    if low <= HIGHPASS and high >= LOWPASS:
        return ""
    return (
        f"The pass-band is {low:g}-{high:g} Hz, too narrow to tell brain, eyes and muscles apart; expected"
        f" {HIGHPASS:g}-{LOWPASS:g} Hz or wider."
    )


def _slow(info: mne.Info) -> str:
    if info["sfreq"] >= ICLABEL_SFREQ:
        return ""
    return f"The sampling rate is {info['sfreq']:g} Hz; ICLabel needs {ICLABEL_SFREQ:g} Hz or more."


def _check_broadband(info: mne.Info) -> None:
    if narrow := _narrow(info):
        raise ValueError(
            f"{narrow} Load the same trials broadband, such as load_eegbci(…, l_freq=1, h_freq=79), or take the"
            " recording as it was before the filter, and fit and label the components on that; component_relevance and"
            " remove_components then take the filtered trials."
        )


def _not_for_iclabel(epochs: mne.BaseEpochs) -> list[str]:
    """Say what keeps ICLabel from judging components of these, each with its remedy; nothing where it can."""
    refused = []
    if len(epochs.ch_names) < ICLABEL_CHANNELS:
        refused.append(
            f"{len(epochs.ch_names)} channels are too few for ICLabel, which judges a map of the whole head and was"
            f" trained on caps; expected {ICLABEL_CHANNELS} or more."
        )
    position = np.array([channel["loc"][:3] for channel in epochs.info["chs"]])
    unplaced = np.array(epochs.ch_names)[~(np.isfinite(position).all(1) & position.any(1))]
    if len(unplaced):
        refused.append(f"Channels without a position: {', '.join(unplaced[:8])}. Set a montage, or leave them out.")
    if slow := _slow(epochs.info):
        refused.append(
            f"{slow} Where these were resampled, fit and label the components on the recording as it was before;"
            " component_relevance and remove_components then take the resampled trials."
        )
    signal = epochs.get_data(verbose=False)
    share = np.sqrt(np.square(signal.mean(1)).mean() / np.square(signal).mean())
    if share > REFERENCED:
        refused.append(
            f"The mean over channels has {share:.2g} of the trials' root mean square; expected none, since ICLabel"
            " judges topographies in average reference. Use trials.rereference() before fit_ica."
        )
    return refused
