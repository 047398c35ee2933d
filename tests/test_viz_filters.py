"""Figures of a network's filters: curves, heads and intervals hold the numbers that were passed."""

import mne
import numpy as np
import pandas as pd
import pytest

from eegxai_support.viz.filters import plot_ablation, plot_filters, plot_unit_averages

CHANNELS = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
SFREQ, N_TAPS = 80.0, 32

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


@pytest.fixture(scope="module")
def info():
    return mne.create_info(list(CHANNELS), SFREQ, "eeg").set_montage("colin27_1005")


@pytest.fixture(scope="module")
def kernels():
    """Return a sinusoid of 10 Hz and one of 25 Hz, 0.4 s long, the second a hundred times larger."""
    time = np.arange(N_TAPS) / SFREQ
    return np.array([np.cos(2 * np.pi * 10 * time), 100 * np.sin(2 * np.pi * 25 * time)])


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def test_filters(kernels, info):
    level = np.array([[-3.0], [0.5]]) * np.ones(len(CHANNELS))  # the same on all channels: interpolation keeps it
    axes = np.array(panels(plot_filters(kernels, level, -level, info, names=("a", "b"), title="Two"))).reshape(2, 4)
    assert [ax.get_title() for ax in axes[0]] == ["kernel", "frequency response", "filter", "pattern"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["a", "b"]
    for (kernel, response, head, pattern), expected, peak, sign in zip(axes, kernels, (10, 25), (-1, 1), strict=True):
        times, drawn = kernel.lines[0].get_data()
        np.testing.assert_allclose(drawn, expected / np.abs(expected).max())
        np.testing.assert_allclose((times[0], times[-1], np.diff(times)[0]), (-193.75, 193.75, 12.5))
        freqs, gain = response.lines[0].get_data()
        by_sum = np.abs(np.exp(-2j * np.pi * np.outer(freqs, np.arange(N_TAPS)) / SFREQ) @ expected)
        np.testing.assert_allclose(gain, by_sum / by_sum.max(), atol=1e-12)
        assert abs(response.lines[1].get_xdata()[0] - peak) < 0.5 and response.texts[0].get_text() == f" {peak} Hz "
        np.testing.assert_allclose(head.images[0].get_array(), sign)
        np.testing.assert_allclose(pattern.images[0].get_array(), -sign)


def test_filters_numbers_units_and_cuts_the_band(kernels, info):
    maps = np.ones((2, len(CHANNELS)))
    axes = panels(plot_filters(kernels, maps, maps, info, band=(8, 20)))
    assert [ax.get_ylabel() for ax in axes[::4]] == ["unit 0", "unit 1"]
    freqs = axes[1].lines[0].get_xdata()
    assert freqs.min() >= 8 and freqs.max() <= 20


def test_filters_refuses_what_it_cannot_draw(kernels, info):
    maps = np.ones((2, len(CHANNELS)))
    with pytest.raises(ValueError, match=r"filters has shape .*channel = 10"):
        plot_filters(kernels, maps[:, 1:], maps, info)
    with pytest.raises(ValueError, match="patterns has a row of zeros"):
        plot_filters(kernels, maps, maps * [[1], [0]], info)
    with pytest.raises(ValueError, match="names has 1 names; expected 2, one per unit"):
        plot_filters(kernels, maps, maps, info, names=("a",))
    with pytest.raises(ValueError, match="No frequency lies in 50-60 Hz"):
        plot_filters(kernels, maps, maps, info, band=(50, 60))


def test_unit_averages():
    rng = np.random.default_rng(0)
    activations, label, times = rng.normal(size=(9, 3, 5)), np.array([0, 1, 1] * 3), np.linspace(0, 1, 5)
    axes = panels(plot_unit_averages(activations, label, times, ("left", "right"), unit="µV"))
    assert [ax.get_title() for ax in axes] == ["unit 0", "unit 1", "unit 2"]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["left", "right"]
    assert [ax.get_ylabel() for ax in axes] == ["µV", "", "µV"]
    for unit, ax in enumerate(axes):
        for index, (line, band) in enumerate(zip(ax.lines, ax.collections, strict=True)):
            of_class = activations[label == index, unit]
            np.testing.assert_allclose(line.get_data(), (times, of_class.mean(0)))
            half = 1.96 * of_class.std(0, ddof=1) / np.sqrt(len(of_class))
            top = of_class.mean(0) + half
            assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(top.max())


def test_unit_averages_refuses_what_it_cannot_draw():
    activations, times = np.ones((4, 2, 5)), np.arange(5)
    with pytest.raises(ValueError, match=r"activations has shape .*trial = 3"):
        plot_unit_averages(activations, [0, 1, 1], times, ("a", "b"))
    with pytest.raises(ValueError, match="Class 'a' has 1 trials"):
        plot_unit_averages(activations, [0, 1, 1, 1], times, ("a", "b"))
    with pytest.raises(ValueError, match="names has 1 names; expected 2"):
        plot_unit_averages(activations, [0, 0, 1, 1], times, ("a", "b"), names=("x",))


@pytest.fixture
def ablation():
    """Return what `ablate_units` makes for two units."""
    rows = [(-1, 0.9, np.nan, np.nan, np.nan), (0, 0.6, 0.3, 0.1, 0.45), (1, 0.95, -0.05, -0.1, 0.02)]
    return pd.DataFrame(rows, columns=["unit", "accuracy", "drop", "drop_low", "drop_high"])


def test_ablation(ablation):
    (ax,) = panels(plot_ablation(ablation))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.3, -0.05])
    (bars,) = (artist for artist in ax.collections)
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, ablation.loc[1:, ["drop_low", "drop_high"]].to_numpy())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1"]
    assert ax.get_ylabel() == "accuracy lost, of 0.90"
    (ax,) = panels(plot_ablation(ablation, names=("10 Hz", "20 Hz")))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10 Hz", "20 Hz"]


def test_ablation_refuses_what_it_cannot_draw(ablation):
    with pytest.raises(ValueError, match="no column drop_low"):
        plot_ablation(ablation.drop(columns="drop_low"))
    with pytest.raises(ValueError, match="names has 1 names; expected 2"):
        plot_ablation(ablation, names=("a",))
