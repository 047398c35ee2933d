"""Tiny simulated trials in the place of the recordings, and a note of what every decoder was trained on.

A study is about which trials are trained on, tested and explained, so every trial has a number: in its metadata, and by
its first sample in any window that a study cuts. Training leaves the weights as they are and writes down the trials.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import eegxai_support as xs
from eegxai_support.montages import electrode_info

CHANNELS = ("C3", "C4", "Fp1", "F3", "FT8", "Pz", "O1", "TP7", "Cz", "T7")
FRONTAL, POSTERIOR = ("Fp1", "F3", "FT8"), ("Pz", "O1", "TP7")
SFREQ, START, STOP = 160, -2.0, 4.1  # Hz and s of all that there is of a trial
CLASSES = {3: (0, 1), 5: (2, 3)}  # of runs 3, 7, 11 and 4, 8, 12, and of the others
NAMES = ("left fist", "right fist", "both fists", "both feet")


class Recordings:
    """What replaces the loaders and `xs.train`, and what they were asked for.

    Attributes
    ----------
    loaded : list of dict
        Arguments of every call of `load_eegbci`.
    trained : list of Module
        With `numbers` of the training trials, `shape` of their signal and the `options` of the training.
    """

    def __init__(self, n_trials: int = 4):
        self.n_trials, self.loaded, self.trained, self._number = n_trials, [], [], {}

    def load_eegbci(self, subjects, runs=(4, 8, 12), *, tmin=1.0, tmax=4.0, l_freq=7.0, h_freq=38.0, sfreq=None):
        subjects, runs = (tuple(np.atleast_1d(each).tolist()) for each in (subjects, runs))
        window = {"tmin": tmin, "tmax": tmax, "l_freq": l_freq, "h_freq": h_freq, "sfreq": sfreq}
        self.loaded.append({"subjects": subjects, "runs": runs, **window})
        kinds = sorted({label for run in runs for label in classes_of(run)})
        signal, rows = [], []
        for subject, run, i in np.ndindex(len(subjects), len(runs), self.n_trials):
            subject, run = subjects[subject], runs[run]
            label = classes_of(run)[i % 2]
            signal.append(self._trial(1000 * subject + 20 * run + i, len(CHANNELS), label))
            task = "imagined" if run in (4, 8, 12, 6, 10, 14) else "executed"
            rows.append((subject, 1, run, task, 1000 * subject + 20 * run + i, kinds.index(label)))
        first, last = (round((t - START) * SFREQ) for t in (tmin, tmax))
        step = 1 if sfreq is None else SFREQ // round(sfreq)
        table = pd.DataFrame(rows, columns=["subject", "session", "run", "task", "number", "label"])
        info, names = info_of(CHANNELS, SFREQ / step).copy(), tuple(NAMES[k] for k in kinds)
        label, signal = table.pop("label"), np.stack(signal)[..., first:last:step]
        return xs.Trials(signal, "standardised", label, info, names, table, tmin=tmin)

    def load_p300(
        self, *, sfreq, runs=(1, 2), ch_names=("Fz", "C3", "Cz", "CP4", "P2", "P6", "PO7", "O1", "Iz", "TP8", "T7")
    ):
        """Two sessions of two runs, six flashes of each, one in three a target."""
        table = pd.DataFrame([(1, s, r, i) for s in (10, 11) for r in runs for i in range(6)])
        table.columns = ["subject", "session", "run", "number"]
        table["number"] += 100 * table["session"] + 10 * table["run"]
        signal = np.stack([self._trial(number, len(ch_names), 0) for number in table["number"]])
        signal = signal[..., : round(0.8 * sfreq)]
        signal[::3, 2:5, 20:30] += 0.7
        info = info_of(tuple(ch_names), sfreq).copy()
        label = np.arange(len(table)) % 3 == 0
        return xs.Trials(signal, "standardised", label.astype(int), info, ("non-target", "target"), table)

    def load_drowsiness(self):
        """Three subjects of 15, 13 and 14 trials at 128 Hz."""
        rows = [(s, 1, 1, 100 * s + i) for s, n in ((1, 15), (2, 13), (3, 14)) for i in range(n)]
        table = pd.DataFrame(rows, columns=["subject", "session", "run", "number"])
        signal = np.stack([self._trial(1_000_000 + number, len(CHANNELS), number % 2) for number in table["number"]])
        info = info_of(CHANNELS, 128.0).copy()
        label = (table["number"] % 2).to_numpy()
        return xs.Trials(signal[..., :192], "uV", label, info, ("alert", "drowsy"), table)

    def train(self, model, train, valid=None, **options):
        assert valid is None
        model.numbers = frozenset(train.metadata["number"])
        model.shape, model.options = train.signal.shape, options
        self.trained.append(model)
        return xs.Training(model.eval(), pd.DataFrame())

    def numbers(self, x) -> list[int]:
        """Return the number of each trial, whatever window of it is there; the first two channels must be untouched."""
        signal = x.signal if isinstance(x, xs.Trials) else np.asarray(x)
        return [self._number[tuple(trial[:2, 0].tolist())] for trial in signal]

    def _trial(self, number: int, n_channels: int, label: int) -> np.ndarray:
        signal = drawn(number, n_channels, label)
        if tuple(signal[:2, 0].tolist()) not in self._number:
            self._number |= dict.fromkeys(map(tuple, signal[:2].T.tolist()), number)
        return signal


@cache
def drawn(number: int, n_channels: int, label: int) -> np.ndarray:
    """Return the signal of a trial, which all tests share; noise with a rhythm from 1 s after the cue."""
    rng, n_times = np.random.default_rng(number), round((STOP - START) * SFREQ)
    signal = rng.normal(size=(n_channels, n_times))
    rhythm = np.cos(2 * np.pi * (10 * np.arange(n_times) / SFREQ + rng.random()))
    signal[label % n_channels, 3 * SFREQ :] += 2 * rhythm[3 * SFREQ :]
    signal = (signal - signal.mean(0)).astype(np.float32)
    signal.flags.writeable = False
    return signal


@cache
def info_of(ch_names: tuple[str, ...], sfreq: float) -> mne.Info:
    return electrode_info(ch_names, sfreq)


def classes_of(run: int) -> tuple[int, int]:
    return CLASSES[3 if run in (3, 7, 11, 4, 8, 12) else 5]


def number(subject: int, runs, n_trials: int = 4) -> set[int]:
    """Return the numbers of a subject's trials of some runs."""
    return {1000 * subject + 20 * run + i for run in runs for i in range(n_trials)}


@contextmanager
def tiny_recordings() -> Iterator[tuple[Recordings, pytest.MonkeyPatch]]:
    """Put tiny trials in the place of the recordings, and forget what a study has kept of others."""
    tiny = Recordings()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_eegbci", "load_p300", "load_drowsiness", "train"):
            patch.setattr(xs, name, getattr(tiny, name))
        forget()
        yield tiny, patch
    forget()


def forget() -> None:
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("studies.") else ():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def calls_of(monkeypatch, name: str, instead=None) -> list[SimpleNamespace]:
    """Write down the arguments and the result of every call of a function of the package, or of what replaces it."""
    made, function = [], instead or getattr(xs, name)

    def noted(*args, **kwargs):
        result = function(*args, **kwargs)
        made.append(SimpleNamespace(args=args, kwargs=kwargs, result=result))
        return result

    monkeypatch.setattr(xs, name, noted)
    return made


class Linear(nn.Module):
    """Logits that are weighted sums of the samples of a trial: every map of it is known."""

    def __init__(self, n_chans, n_outputs, n_times, seed=0):
        super().__init__()
        self.n_chans, self.n_times = n_chans, n_times
        self.final_layer = nn.Linear(n_chans * n_times, n_outputs)
        rng = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.final_layer.weight, std=0.1, generator=rng)
        nn.init.normal_(self.final_layer.bias, std=0.01, generator=rng)

    def forward(self, x):
        return self.final_layer(x.flatten(1))

    @property
    def weight(self) -> np.ndarray:
        """Return the weights (output, channel, time)."""
        weight = self.final_layer.weight.detach().numpy().astype(float)
        return weight.reshape(-1, self.n_chans, self.n_times)


def linear_decoders(monkeypatch) -> None:
    """Let `xs.build_decoder` build `Linear` networks, whatever is asked for."""

    def build(name, trials, *, n_times=None, seed=0, **options):
        return Linear(len(trials.info.ch_names), trials.n_classes, n_times or trials.signal.shape[2], seed)

    monkeypatch.setattr(xs, "build_decoder", build)


def logits(model: nn.Module, x) -> np.ndarray:
    """Return the outputs of a network, without the package."""
    with torch.no_grad():
        return model.eval()(torch.as_tensor(np.array(x, np.float32))).numpy()


def by_crops(model: nn.Module, x) -> np.ndarray:
    """Return the mean output over the crops of a trial that start every 20 samples."""
    starts = range(0, x.shape[2] - model.n_times + 1, 20)
    return np.mean([logits(model, x[..., start : start + model.n_times]) for start in starts], axis=0)


def gradients(model: nn.Module, x) -> np.ndarray:
    """Return the gradient of each logit with respect to each trial, shape (output, trial, channel, time)."""
    x = torch.as_tensor(np.array(x, np.float32)).requires_grad_()
    out = model.eval()(x)
    each = [torch.autograd.grad(out[:, k].sum(), x, retain_graph=True)[0] for k in range(out.shape[1])]
    return torch.stack(each).numpy().astype(float)


def rotated_ica(ch_names) -> tuple[mne.preprocessing.ICA, np.ndarray]:
    """Return an ICA whose components are a rotation of the channels, and the rotation (component, channel).

    A topography is then the filter itself: what a component puts on the scalp is ``np.outer(r, r) @ x``.
    """
    n = len(ch_names)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    ica = mne.preprocessing.ICA(n_components=n, method="infomax", verbose=False)
    ica.current_fit, ica.ch_names, ica.n_components_ = "epochs", list(ch_names), n
    ica.pre_whitener_, ica.noise_cov, ica.pca_components_ = np.ones((n, 1)), None, rotation
    ica.unmixing_matrix_ = ica.mixing_matrix_ = np.eye(n)
    return ica, rotation
