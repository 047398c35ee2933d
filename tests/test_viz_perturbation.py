"""Figures of amplitude perturbation: heads, dots and lines hold the numbers that were passed."""

import mne
import numpy as np
import pandas as pd
import pytest

from eegxai_support.viz.perturbation import plot_convergence

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]
CHANNELS = ["F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz"]


@pytest.fixture(scope="module")
def info():
    return mne.create_info(CHANNELS, 100.0, "eeg").set_montage("colin27_1005")


@pytest.fixture
def maps():
    values = np.random.default_rng(0).normal(size=(3, len(CHANNELS)))
    return dict(zip(("10", "40", "first order"), values, strict=True))


@pytest.fixture
def table():
    rows = pd.MultiIndex.from_product([[40, 10], ["left", "right"]], names=["iterations", "output"])
    return rows.to_frame(index=False).assign(r=[0.4, 0.5, 0.1, 0.2], predicted=[0.45, 0.55, 0.0, 0.25])


def test_heads_share_a_scale_and_curves_hold_the_table(maps, table, info):
    fig = plot_convergence(maps, table, info, label="correlation")
    *heads, ax, bar = fig.axes
    assert [head.get_title() for head in heads] == list(maps)
    assert len({head.images[0].get_clim() for head in heads}) == 1
    assert bar.get_ylabel() == "correlation"
    lines = [line for line in ax.lines if len(line.get_xdata())]
    for name, line, dots in zip(["left", "right"], lines[::2], lines[1::2], strict=True):
        rows = table[table["output"] == name][::-1]  # from few iterations to many
        np.testing.assert_array_equal(line.get_xydata(), rows[["iterations", "predicted"]])
        np.testing.assert_array_equal(dots.get_xydata(), rows[["iterations", "r"]])
        assert dots.get_label() == name and dots.get_color() == line.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["left", "right", "predicted"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "40"]


def test_says_what_is_missing(maps, table, info):
    with pytest.raises(ValueError, match="table has no column predicted"):
        plot_convergence(maps, table.drop(columns="predicted"), info, label="")
    with pytest.raises(ValueError, match="maps has shape"):
        plot_convergence({name: values[1:] for name, values in maps.items()}, table, info, label="")
    with pytest.raises(ValueError, match="table holds NaN"):
        plot_convergence(maps, table.assign(r=np.nan), info, label="")
