"""What does Deep4Net read across subjects, by the amplitude correlations of braindecode's tutorial of 2018?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

import eegxai_support as xs
from studies.accuracy import FIST_RUNS, SUBJECTS
from studies.form import Study, defaults, eegbci

# braindecode's tutorial of 2018, with the subjects at hand; the split was fixed before any map was seen.
TUTORIAL = {
    "subjects": {"training": SUBJECTS[:16], "unseen": SUBJECTS[16:]},
    "n_times": 450,
    "network": {"filter_length_3": 5, "filter_length_4": 5, "pool_time_stride": 2, "stride_before_pool": True},
    # Its AdamW took 0.0005 off the weights at every step; PyTorch's multiplies the decay by the learning rate.
    "training": {"batch_size": 64, "weight_decay": 0.05},
    "fits": [(None, 0.01, 0), (None, 0.01, 1), (None, 0.001, 0), (7.0, 0.01, 0), (7.0, 0.01, 1)],  # l_freq, lr, seed
    "bands": {"low": (0, 6), "alpha": (7, 14), "beta": (15, 30), "high": (31, 80)},
}


def tutorial_2018(epochs=60) -> pd.DataFrame:
    """Amplitude correlations of Deep4Net across subjects, as in braindecode's tutorial of 2018, by band.

    Every epoch takes one random crop of a trial, so that 60 are as many crops as the tutorial's 30 epochs of two.
    """
    tables = []
    for l_freq, lr, seed in TUTORIAL["fits"]:
        parts = {
            part: xs.load_eegbci(subjects, l_freq=l_freq, h_freq=None, tmax=4.1)
            for part, subjects in TUTORIAL["subjects"].items()
        }
        model = _tutorial_network(parts["training"], seed)
        xs.train(model, parts["training"], epochs=epochs, seed=seed, lr=lr, cache=True, **TUTORIAL["training"])
        for part, trials in parts.items():
            tables.append(_tutorial_rows(model, trials).assign(subjects=part, l_freq=l_freq, lr=lr, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _tutorial_network(trials: xs.Trials, seed: int) -> nn.Module:
    """Build the tutorial's Deep4Net; its prediction is the mean over the windows that it sees."""
    model = xs.build_decoder("Deep4Net", trials, n_times=TUTORIAL["n_times"], seed=seed, **TUTORIAL["network"])
    model.pool.stride = (2, 1)  # braindecode 1 no longer strides the first convolution
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.final_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(200, trials.n_classes))
    return model


def _tutorial_rows(model: nn.Module, trials: xs.Trials) -> pd.DataFrame:
    """Mean correlation of each class, channel and band, and what the band is worth.

    That is its share of the output's variance, were all amplitudes to vary by the same factor, to first order, and
    the accuracy without its frequencies.
    """
    x, run = trials.signal[..., : model.n_times], trials.metadata["run"] + 100 * trials.metadata["subject"]
    freqs, rows = np.fft.rfftfreq(model.n_times, 1 / trials.sfreq), []
    correlation = xs.amplitude_perturbation(model, x, method="first_order").correlation
    variance = ((xs.amplitude_gradients(model, x) * np.abs(np.fft.rfft(x))) ** 2).sum((1, 2))
    for band, (low, high) in TUTORIAL["bands"].items():
        inside = (freqs >= low) & (freqs <= high)
        without = np.fft.irfft(np.where(inside, 0, np.fft.rfft(x)), model.n_times)
        accuracy = (xs.predict(model, without).argmax(1) == trials.label).mean()
        for label, class_name in enumerate(trials.class_names):
            columns = {"channel": trials.info.ch_names, "correlation": correlation[:, inside, label].mean(1)}
            share = variance[label, inside].sum() / variance[label].sum()
            columns |= {"class_name": class_name, "band": band, "share": share, "accuracy_without_band": accuracy}
            rows.append(pd.DataFrame(columns))
    predicted = xs.predict(model, x).argmax(1)
    p_value = xs.permutation_p_value(trials.label, predicted, run)
    return pd.concat(rows).assign(accuracy=(predicted == trials.label).mean(), p_value=p_value, n_trials=len(trials))


STUDY = Study(
    configuration={"tutorial": TUTORIAL, "defaults": defaults(xs.load_eegbci, xs.train)},
    tables={tutorial_2018: eegbci(dict.fromkeys(SUBJECTS, FIST_RUNS))},
)
