"""Heads: right for every montage, coloured where electrodes are, bars where there is no head."""

import mne
import numpy as np
import pandas as pd
import pytest

from eegxai_support import viz
from eegxai_support.montages import electrode_info
from eegxai_support.trials import Trials

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]

HEADBAND = ("TP9", "AF7", "AF8", "TP10")
OCCIPITAL = ("Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4")
CAP = tuple("F3 Fz F4 FC5 FC6 C3 Cz C4 CP5 CP6 P3 Pz P4".split())


def unlocated(names):
    return mne.create_info(list(names), 64.0, "eeg")


def net():
    """Return the located electrodes E1 … E128 of a net."""
    montage = mne.channels.make_standard_montage("GSN-HydroCel-128")
    return mne.create_info(montage.ch_names, 64.0, "eeg").set_montage(montage)


CASES = {
    "one": lambda: electrode_info(("Cz",), 64.0),
    "two": lambda: electrode_info(("C3", "C4"), 64.0),
    "line": lambda: electrode_info(("Fz", "Cz", "Pz", "Oz"), 64.0),
    "bipolar": lambda: unlocated(("EEG Fpz-Cz", "EEG Pz-Oz", "EOG left-right")),
    "many unlocated": lambda: unlocated(f"E{k}" for k in range(1, 65)),
    "headband": lambda: electrode_info(HEADBAND, 64.0),
    "occipital": lambda: electrode_info(OCCIPITAL, 64.0),
    "net": net,
}
NO_HEAD = {"one", "two", "line", "bipolar", "many unlocated"}
REASONS = {"one": "1 electrode: no head", "two": "2 electrodes: no head", "line": "electrodes on a\nline: no head"}


def made(info):
    """Return trials with a truth for any channels."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(8, len(info.ch_names), 64))
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.arange(8) // 4})
    located = electrode_info(tuple(_any_names(len(info.ch_names))), 64.0)
    trials = Trials(truth + rng.normal(size=truth.shape), "uV", np.arange(8) % 2, located, ("a", "b"), metadata, truth)
    object.__setattr__(trials, "info", info)  # whatever trials ask of positions, figures take what comes
    return trials


def _any_names(n):
    return mne.channels.make_standard_montage("colin27_1005").ch_names[:n]


def figures(info):
    """Yield every figure that draws heads, and every one that picks channels by default."""
    rng, n = np.random.default_rng(1), len(info.ch_names)
    trials, times, freqs = made(info), np.arange(64) / 64, np.arange(33.0)
    of_band, of_class = rng.normal(size=(2, 2, n)), rng.normal(size=(2, n, 33))
    table = pd.DataFrame({"output": 0, "iterations": [10, 100], "r": [0.5, 0.9], "predicted": [0.6, 0.9]})
    yield viz.plot_trials(trials)
    yield viz.plot_known_answer(trials)
    yield viz.plot_trial_maps(trials.signal[0], {"map": trials.signal[1]}, {"map": "delta 0"}, info, times)
    yield viz.plot_channel_topomaps(of_band[0], info, ["a", "b"], label="x")
    yield viz.plot_channel_topomaps(np.abs(of_band[0]), info, ["a", "b"], label="x", shared=False)
    yield viz.plot_band_topomaps(of_class, freqs, info, ("a", "b"), label="x")
    yield viz.plot_spectra_of_patterns(of_class, freqs, info, ("a", "b"), label="x")
    yield viz.plot_filters(rng.normal(size=(2, 9)), of_band[0], of_band[1], info, band=(0, 30))
    yield viz.plot_cluster_topographies(of_band, of_band, info, ["a", "b"], ["mu", "beta"])
    yield viz.plot_map_comparison({"map": of_band[0]}, info, ["a", "b"], labels={"map": "x"})
    yield viz.plot_single_trial(trials.signal[0], trials.signal[1], of_band[0, 0], info, times, {"r": "0.5"})
    yield viz.plot_convergence({"10": of_band[0, 0]}, table, info, label="x")
    yield viz.plot_ideal_maps({"temporal": trials})
    yield viz.plot_montages({"mine": info})


@pytest.mark.parametrize("case", CASES)
def test_every_figure_takes_any_number_of_channels_located_or_not(case):
    for fig in figures(CASES[case]()):
        heads = [ax for ax in fig.axes if any(image.get_clip_path() is not None for image in ax.images)]
        assert not (heads and case in NO_HEAD)
        if case in REASONS and fig.findobj(lambda artist: getattr(artist, "get_xlabel", str)() == REASONS[case]):
            said = [ax for ax in fig.axes if ax.get_xlabel() == REASONS[case]]
            assert len(said) <= len({id(ax.figure) for ax in fig.axes})
