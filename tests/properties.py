"""What the tests of properties share: trials and networks of any size, and which public names a property speaks of."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import mne
import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from torch import nn

import eegxai_support as xs

# Nothing is drawn anew in each run, nothing is kept in the tree, no example is judged by the clock, and one that fails
# is small as it is: to look for a smaller one would take minutes.
settings.register_profile(
    "eegxai",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=4,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("eegxai")
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "eegxai_hypothesis")  # where it keeps what it read of the sources

COVERED: dict[str, list[str]] = {}
CH_NAMES = "Fz C3 Cz C4 Pz P3 P4 F3".split()
SFREQ = 64.0
# Of the largest value: a few hundred roundings one after the other, as many as a pass through these networks makes.
TOLERANCE = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-10}


def of(*names):
    """Enter a property under the public names that it speaks of."""

    def enter(test):
        for name in names:
            COVERED.setdefault(name, []).append(test)
        return test

    return enter


class Net(nn.Module):
    """Kernels over time, a spatial filter each, a rectifier, mean pooling, dropout and a linear layer."""

    def __init__(self, n_chans, n_times, n_outputs, seed=0):
        super().__init__()
        self.n_chans, self.n_times, self.n_outputs, self.sfreq = n_chans, n_times, n_outputs, SFREQ
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.temporal = nn.Conv2d(1, 2, (1, 5), bias=False)
            self.norm = nn.BatchNorm2d(2)
            self.spatial = nn.Conv2d(2, 4, (n_chans, 1), groups=2, bias=False)
            self.behind = nn.BatchNorm2d(4)
            self.active = nn.ReLU() if seed % 2 else nn.ELU()
            self.pool = nn.AvgPool2d((1, 3))
            self.dropout = nn.Dropout(0.5)
            self.last = nn.Linear(4 * ((n_times - 4) // 3), n_outputs)
            for norm in (self.norm, self.behind):
                nn.init.normal_(norm.running_mean, 0, 0.2)
                nn.init.uniform_(norm.running_var, 0.5, 2)
                nn.init.normal_(norm.weight, 1, 0.2)
        self.eval()

    def forward(self, x):
        units = self.behind(self.spatial(self.norm(self.temporal(x[:, None]))))
        return self.last(self.dropout(self.pool(self.active(units))).flatten(1))


@dataclass
class Task:
    """A network and what it is asked about."""

    model: nn.Module
    x: np.ndarray
    target: np.ndarray
    other: np.ndarray  # of the shape of `x`: baselines, or maps
    n_classes: int
    unit: float = 1.0  # numbers of `x` that stand for one of the first task's

    def _repr_pretty_(self, printer, cycle):  # of what hypothesis shows when it fails
        printer.text(f"Task({self.x.shape}, {self.x.dtype}, {self.n_classes} classes, {self.model.active})")

    def rows(self, index):
        return Task(self.model, self.x[index], self.target[index], self.other[index], self.n_classes)

    def channels(self, order):
        """Return the same function of trials whose channels are in another order."""
        model = duplicate(self.model)
        model.spatial.weight.data = model.spatial.weight.data[:, :, order]
        return Task(model, self.x[:, order], self.target, self.other[:, order], self.n_classes)

    def laid_out(self, layout):
        """Return the same numbers in another order of memory."""
        target = self.target[::-1].copy()[::-1]
        return Task(self.model, layout(self.x), target, layout(self.other), self.n_classes, self.unit)

    def in_unit(self, unit):
        """Return the same function of trials in another unit; powers of two change no digit."""
        model = duplicate(self.model)
        model.temporal.weight.data /= unit
        return Task(model, unit * self.x, self.target, unit * self.other, self.n_classes, unit)


# The same numbers, as other tools lay them out in memory.
layouts = st.sampled_from((np.asfortranarray, lambda x: x[:, :, ::-1].copy()[:, :, ::-1], lambda x: frozen_copy(x)))


def frozen_copy(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def duplicate(model):
    copy = Net(model.n_chans, model.n_times, model.n_outputs, isinstance(model.active, nn.ReLU))
    copy.load_state_dict(model.state_dict())
    return copy.to(model.last.weight.dtype)


# The first of the values is in the first example of every property.
seeds = st.integers(0, 2**32 - 1)
units = st.sampled_from([2.0**20, 2.0**-20, *(2.0**k for k in range(-19, 20))])  # from volts to counts of a converter


@st.composite
def tasks(draw, most=7):
    n, n_channels = draw(st.sampled_from((3, 1, 2, *range(4, most + 1)))), draw(st.sampled_from((3, 2, 4, 5)))
    n_times, n_classes = draw(st.integers(16, 33)), draw(st.sampled_from((3, 2, 4)))
    dtype, seed = draw(st.sampled_from(("float32", "float64"))), draw(seeds)
    rng = np.random.default_rng(seed)
    x, other = rng.standard_normal((2, n, n_channels, n_times)).astype(dtype)
    model = Net(n_channels, n_times, n_classes, seed).to(getattr(torch, dtype))
    return Task(model, x, rng.integers(n_classes, size=n), other, n_classes)


def run(name, max_examples=2, **strategies):
    """Try a property of `name` at once, on examples that are those of this name."""

    def tried(test):
        settings(max_examples=max_examples)(seed(crc32(name.encode()))(given(**strategies)(test)))()

    return tried


def info_of(n_channels, sfreq=SFREQ):
    info = mne.create_info(CH_NAMES[:n_channels], sfreq, "eeg", verbose=False)
    return info.set_montage("colin27_1005", verbose=False)


def trials_of(signal, label, n_classes, n_runs=2, sfreq=SFREQ, **options):
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.arange(len(signal)) % n_runs})
    names = tuple("abcd"[:n_classes])
    return xs.Trials(signal, "uV", label, info_of(signal.shape[1], sfreq), names, metadata, **options)


def assert_close(found, expected, dtype=None, *, size=None):
    """Compare to the precision of a type, relative to the largest value, or to `size` where that is larger."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    largest = max(np.abs(expected[np.isfinite(expected)]).max(initial=0), size or 0)
    tolerance = TOLERANCE[np.dtype(dtype or expected.dtype)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest)
