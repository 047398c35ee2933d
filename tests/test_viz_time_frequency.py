"""Figures of the frequency domain: meshes and heads hold the numbers that were passed, on scales of their own."""

import mne
import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from eegxai_support.viz.time_frequency import plot_map_comparison, plot_time_frequency

CHANNELS = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
FREQS = np.arange(0, 41, 2.0)
TIMES = {"one trial": np.linspace(1.5, 3.5, 11), "ERD": np.linspace(-2, 4, 31)}
UNITS = {"one trial": "logit", "ERD": "%"}

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


@pytest.fixture(scope="module")
def info():
    return mne.create_info(list(CHANNELS), 80.0, "eeg").set_montage("colin27_1005")


@pytest.fixture
def maps():
    """Return two quantities at two channels, the second a thousand times larger and unknown at both ends."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=(2, len(FREQS), len(times))) for name, times in TIMES.items()}
    values["ERD"] *= 1000
    values["ERD"][..., [0, -1]] = np.nan
    return values


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def bar_labels(fig):
    return [ax.get_ylabel() for ax in fig.axes if ax.get_label() == "<colorbar>"]


def mesh(ax):
    (found,) = (artist for artist in ax.collections if isinstance(artist, QuadMesh))
    return found


def test_time_frequency(maps):
    axes = panels(fig := plot_time_frequency(maps, FREQS, TIMES, ("C3", "C4"), labels=UNITS, band=(6, 30)))
    assert [ax.get_title() for ax in axes] == ["C3: one trial", "C4: one trial", "C3: ERD", "C4: ERD"]
    assert bar_labels(fig) == ["logit", "%"]
    shown = (FREQS >= 6) & (FREQS <= 30)
    pairs = [(name, channel) for name in maps for channel in range(2)]
    for ax, (name, channel) in zip(axes, pairs, strict=True):
        drawn = mesh(ax).get_array()
        np.testing.assert_allclose(drawn.filled(np.nan), maps[name][channel][shown])
        # pcolormesh centres its cells on the given points
        edges = mesh(ax).get_coordinates()
        np.testing.assert_allclose((edges[0, 1:, 0] + edges[0, :-1, 0]) / 2, TIMES[name], atol=1e-12)
        np.testing.assert_allclose((edges[1:, 0, 1] + edges[:-1, 0, 1]) / 2, FREQS[shown], atol=1e-12)
        assert [line.get_xdata()[0] for line in ax.lines] == [0]
    assert {ax.get_xlim() for ax in axes} == {axes[0].get_xlim()}
    above, _, below, _ = (mesh(ax).get_clim() for ax in axes)
    assert above[0] == -above[1] and below[0] == -below[1] and below[1] > 100 * above[1]
    assert mesh(axes[0]).get_clim() == mesh(axes[1]).get_clim()


def test_time_frequency_refuses_what_it_cannot_draw(maps):
    def draw(**changed):
        return plot_time_frequency(maps | changed, FREQS, TIMES, ("C3", "C4"), labels=UNITS)

    with pytest.raises(ValueError, match=r"maps\['ERD'\] has shape .*time = 31"):
        draw(ERD=maps["ERD"][..., 1:])
    with pytest.raises(ValueError, match="NaN or infinity"):
        draw(ERD=np.full_like(maps["ERD"], np.inf))
    with pytest.raises(ValueError, match="nothing but NaN inside 5-40 Hz"):
        draw(ERD=np.full_like(maps["ERD"], np.nan))
    with pytest.raises(ValueError, match="No frequency lies in 50-60 Hz"):
        plot_time_frequency(maps, FREQS, TIMES, ("C3", "C4"), labels=UNITS, band=(50, 60))


def test_map_comparison(info):
    size = np.array([-1.0, 2.0, 3.0])  # the same on all channels, so that interpolation changes nothing
    maps = {name: unit * np.outer(size, np.ones(len(CHANNELS))) for name, unit in (("gradient", 1), ("ERD", 100))}
    labels = {"ERD": "%", "gradient": "logit"}
    fig = plot_map_comparison(maps, info, ("left", "right", "feet"), labels=labels, title="Mu")
    axes = panels(fig)
    assert fig.get_suptitle() == "Mu" and bar_labels(fig) == ["logit", "%"]
    assert [ax.get_title() for ax in axes] == ["left", "right", "feet", "", "", ""]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel()] == list(maps)
    assert [ax.images[0].norm.vmax for ax in axes] == pytest.approx([3] * 3 + [300] * 3)
    for ax, value in zip(axes, np.outer((1, 100), size).ravel(), strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), value)


def test_map_comparison_refuses_what_does_not_fit(info):
    values = np.ones((3, len(CHANNELS)))
    with pytest.raises(ValueError, match="columns has 2 names; expected 3"):
        plot_map_comparison({"a": values}, info, ("left", "right"), labels={"a": "SD"})
    with pytest.raises(ValueError, match=r"maps\['b'\] has shape"):
        plot_map_comparison({"a": values, "b": values[:2]}, info, ("x", "y", "z"), labels={"a": "SD", "b": "SD"})
    with pytest.raises(ValueError, match="NaN"):
        plot_map_comparison({"a": values * np.nan}, info, ("x", "y", "z"), labels={"a": "SD"})
