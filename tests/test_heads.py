"""Heads: right for every montage, coloured where electrodes are, bars where there is no head."""

from itertools import pairwise

import mne
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from scipy.ndimage import binary_dilation
from scipy.spatial import ConvexHull

from eegxai_support import viz
from eegxai_support.montages import EEGBCI_CHANNELS, electrode_info
from eegxai_support.trials import Trials
from eegxai_support.viz.parts import MARGIN, head_positions, landmarks

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
REASONS = {
    "one": "1 electrode: no head",
    "two": "2 electrodes: no head",
    "line": "electrodes on a line: no head",
    "bipolar": "No channel has a position",
    "many unlocated": "No channel has a position",
}


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


@pytest.mark.parametrize("case", ["two", "bipolar"])
def test_every_figure_takes_any_number_of_channels_located_or_not(case):
    for fig in figures(CASES[case]()):
        reasons = [ax.get_xlabel().replace("\n", " ") for ax in fig.axes]
        assert sum(reasons.count(reason) for reason in set(REASONS.values())) <= 1  # said once


@pytest.mark.parametrize("case", CASES)
def test_one_map_of_any_channels(case):
    """Bars hold the values and the reason; heads hold no bars."""
    info = CASES[case]()
    values = np.random.default_rng(0).normal(size=len(info.ch_names))
    ax = viz.plot_channel_topomaps(values[None], info, ["a"], label="x").axes[0]
    bars = [patch.get_width() for patch in ax.patches if isinstance(patch, Rectangle)]
    if case in REASONS:
        np.testing.assert_allclose(bars, values)
        assert ax.get_xlabel().replace("\n", " ") == REASONS[case]
        assert not ax.images
    else:
        assert not bars and len(ax.images) == 1


@pytest.mark.parametrize("names", [OCCIPITAL, HEADBAND, CAP, EEGBCI_CHANNELS])
@pytest.mark.parametrize("seed", range(3))
def test_no_colour_beyond_the_electrodes_and_none_stronger_than_theirs(names, seed):
    """Of any values; spikes make a cubic spline overshoot most."""
    info = electrode_info(names, 64.0)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=len(names)) * (rng.uniform(size=len(names)) > 0.5) * 0.3
    ax = viz.plot_channel_topomaps(values[None], info, ["a"], label="x").axes[0]
    (image,) = ax.images
    pixels = image.get_array()
    assert values.min() <= pixels.min() and pixels.max() <= values.max()
    left, right, bottom, top = image.get_extent()
    x, y = np.meshgrid(np.linspace(left, right, pixels.shape[1]), np.linspace(bottom, top, pixels.shape[0]))
    position = head_positions(info)
    hull = ConvexHull(position)
    beyond = (hull.equations[:, :2] @ np.array([x.ravel(), y.ravel()]) + hull.equations[:, 2:]).max(axis=0)
    coloured = ~np.ma.getmaskarray(pixels).ravel()
    assert beyond[coloured].max() < MARGIN + 0.06  # with two pixels for the interpolation, which the path cuts
    assert coloured[beyond <= 0].all()
    path = ax.transData.inverted().transform_path(image.get_clip_path().get_fully_transformed_path())
    corners = path.vertices
    assert (hull.equations[:, :2] @ corners.T + hull.equations[:, 2:]).max() < MARGIN + 1e-6
    assert np.linalg.norm(corners, axis=1).max() < 1 + 1e-6
    assert path.contains_points(position * (1 - 1e-4)).all()  # of which the ring is a polygon
    inside = path.contains_points(np.c_[x.ravel(), y.ravel()]).reshape(x.shape)
    assert coloured.reshape(x.shape)[binary_dilation(inside)].all()  # so that the path cuts and no edge has steps


def test_electrodes_in_one_place_share_their_mean():
    info = electrode_info(("T7", "T3", "Cz", "T8", "Fz", "Pz"), 64.0)
    ax = viz.plot_channel_topomaps([[1.0, 3.0, 0, 0, 0, 0]], info, ["a"], label="x").axes[0]
    assert ax.images[0].get_array().max() == pytest.approx(2, abs=0.05)


def test_channels_without_a_position_are_named_beside_the_head():
    info = electrode_info(CAP, 64.0)
    info["chs"][0]["loc"][:3] = np.nan
    ax = viz.plot_channel_topomaps(np.ones((1, 13)), info, ["a"], label="x").axes[0]
    assert len(ax.images) == 1 and ax.get_xlabel() == "no position: F3"


@pytest.mark.parametrize(
    ("info", "named"),
    [
        (lambda: electrode_info(EEGBCI_CHANNELS, 64.0), ("C3", "Cz", "C4")),
        (lambda: unlocated(("EEG C3-Ref", "EEG C4-Ref", "EEG O1-Ref")), ("EEG C3-Ref", "EEG C4-Ref")),
        (net, ("E36", "E7", "E104")),
        (lambda: electrode_info(OCCIPITAL, 64.0), ("PO7", "POz", "PO8")),
        (lambda: unlocated("abcde"), ("a", "c", "e")),
        (lambda: unlocated("a"), ("a",)),
    ],
)
def test_default_channels_are_those_that_are_there(info, named):
    assert landmarks(info()) == named


def test_spectra_have_a_panel_for_each_default_channel():
    fig = viz.plot_spectra_of_patterns(np.ones((1, 128, 5)), np.arange(5), net(), ("a",), label="x")
    assert [ax.get_title() for ax in fig.axes] == ["E36", "E7", "E104"]


def test_rows_of_channels_without_a_place_come_last():
    info = unlocated([*CAP[:12], "EEG Fpz-Cz"])  # named, not located: names say where
    fig = viz.plot_trial_maps(np.ones((13, 8)), {}, {}, info, np.arange(8))
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == [
        "frontal",
        "central",
        "parietal",
        "unplaced",
    ]


def test_sheet_of_montages():
    """A head for each; positions that make none are replaced by the reason."""
    fig = viz.plot_montages({"net": net(), "flipped": flipped(), "bipolar": unlocated(("EEG Fpz-Cz",))})
    dots = [ax.collections[0].get_offsets() if ax.collections else None for ax in fig.axes]
    np.testing.assert_allclose(dots[0], head_positions(net()))
    assert dots[1] is None and fig.axes[1].get_xlabel().startswith("Names and positions")
    assert dots[2] is None and fig.axes[2].get_xlabel() == "No channel has a\nposition"


def flipped():
    info = electrode_info(EEGBCI_CHANNELS, 64.0)
    for channel in info["chs"]:
        channel["loc"][0] *= -1
    return info


def boxes_from_left(texts):
    return sorted((text.get_window_extent() for text in texts if text.get_text()), key=lambda box: box.x0)


@pytest.mark.parametrize("n_columns", [1, 4, 6, 7])
def test_names_on_small_heads_do_not_touch(n_columns):
    info = electrode_info(EEGBCI_CHANNELS, 64.0)
    values = np.random.default_rng(0).normal(size=(n_columns, 64))
    fig = viz.plot_map_comparison({"a": values}, info, range(n_columns), labels={"a": "x"})
    boxes = boxes_from_left(fig.axes[0].texts)
    assert len(boxes) == 3 and all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("limit", [0.23, 0.45, 0.79, 0.99, 1.3, 26.0, 3.7e-3])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_below_a_head_do_not_touch(limit, sign):
    """With one on either side of zero where there are two sides."""
    info = electrode_info(EEGBCI_CHANNELS, 64.0)
    values = limit * np.resize([1.0, sign], (4, 64))
    fig = viz.plot_channel_topomaps(values, info, list("abcd"), label="x", shared=False)
    low, high = fig.axes[4].get_xlim()
    ticks = [tick.label1 for tick in fig.axes[4].xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = boxes_from_left(ticks)
    assert len(boxes) >= 3 and all(left.x1 < right.x0 for left, right in pairwise(boxes))
