"""Means with intervals: markers and lines hold the table, in its order."""

import numpy as np
import pandas as pd
import pytest

from eegxai_support.viz.intervals import plot_intervals

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


@pytest.fixture
def table():
    index = pd.MultiIndex.from_product([["test", "training"], ["eyes", "nothing"], ["late", "broadband"]])
    table = index.set_names(["when", "removed", "decoder"]).to_frame(index=False)
    mean = np.linspace(0.5, 0.9, len(table))
    return table.assign(mean=mean, low=mean - 0.1, high=mean + 0.05)


def test_each_panel_holds_the_means_and_intervals_of_each_series(table):
    fig = plot_intervals(table, "removed", "decoder", panel="when", reference=0.5, label="accuracy")
    assert [ax.get_title() for ax in fig.axes] == ["test", "training"]
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == ["eyes", "nothing"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["late", "broadband"]
    for ax, (_, part) in zip(fig.axes, table.groupby("when"), strict=True):
        *points, reference = ax.lines
        assert reference.get_xdata() == [0.5, 0.5] and ax.get_xlabel() == "accuracy"
        assert len({(line.get_color(), line.get_marker()) for line in points}) == 2
        for line, bars, (_, rows) in zip(points, ax.collections, part.groupby("decoder", sort=False), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), rows["mean"])
            np.testing.assert_array_equal(np.round(line.get_ydata()), [0, 1])
            ends = np.array([segment[:, 0] for segment in bars.get_segments()])
            np.testing.assert_array_equal(ends, rows[["low", "high"]])
            np.testing.assert_array_equal([segment[0, 1] for segment in bars.get_segments()], line.get_ydata())


def test_what_a_series_lacks_is_not_drawn_and_a_panel_has_its_own_reference(table):
    part = table.drop(index=[1, 7])
    fig = plot_intervals(part, "removed", "decoder", panel="when", reference={"test": 0.3}, label="accuracy")
    assert [len(ax.lines) for ax in fig.axes] == [3, 2]
    late, broadband, _ = fig.axes[0].lines
    np.testing.assert_array_equal(np.round(late.get_ydata()), [0, 1])
    np.testing.assert_array_equal(np.round(broadband.get_ydata()), [1])


def test_one_series_needs_no_legend_and_one_panel_no_title(table):
    fig = plot_intervals(table[:1], "removed", "decoder", label="accuracy")
    (ax,) = fig.axes
    assert not fig.legends and not ax.get_title() and len(ax.lines) == 1


def test_says_what_is_missing(table):
    with pytest.raises(ValueError, match="table has no column when"):
        plot_intervals(table.drop(columns="when"), "removed", "decoder", panel="when", label="")
    with pytest.raises(ValueError, match="no row"):
        plot_intervals(table[:0], "removed", "decoder", label="")
