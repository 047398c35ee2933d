"""Figures of the faithfulness tests: lines, bars and bands hold the numbers of the tables."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from eegxai_support.viz.faithfulness import plot_perturbation_curves, plot_sensitivity

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


def summary(**axes):
    """Return a table with a row for each combination and mean, low, high that differ everywhere."""
    table = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
    mean = np.linspace(0.9, 0.1, len(table))
    return table.assign(mean=mean, low=mean - 0.05, high=mean + 0.1)


def legend(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_sensitivity():
    table = summary(method=["deep_lift", "saliency"], share=[0.1, 0.5, 1.0])
    fig = plot_sensitivity(table, summary(share=[0.1, 0.5, 1.0]))
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10%", "50%", "whole\nchannel"]
    assert legend(fig) == ["chance", "deep_lift", "saliency"]
    for bars, rows in zip(ax.collections, (summary(share=[0.1, 0.5, 1.0]), table[:3], table[3:]), strict=True):
        np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], rows[["low", "high"]])
    first, second = (line for line in ax.lines if line.get_linestyle() == "None")
    for points, rows in ((first, table[:3]), (second, table[3:])):
        np.testing.assert_allclose(points.get_ydata(orig=False), rows["mean"])
    assert not np.isin(first.get_xdata(), second.get_xdata()).any()
    joined = [line for line in ax.lines if line.get_linewidth() == 0.8 and line.get_color() != "0.6"]
    assert [len(line.get_xdata()) for line in joined] == [2, 2]  # whole channels stand apart


def test_curves():
    table = summary(method=["deep_lift", "saliency"], share=[0.0, 0.5, 1.0])
    chance = summary(share=[0.0, 0.5, 1.0])
    fig = plot_perturbation_curves(table[::-1], chance, label="logit of the class")  # rows in any order
    (ax,) = fig.axes
    assert fig.get_supylabel() == "logit of the class"
    assert legend(fig) == ["chance", "saliency", "deep_lift"]
    for line, band, rows in zip(ax.lines, ax.collections, (chance, table[3:], table[:3]), strict=True):
        np.testing.assert_allclose(line.get_xydata(), rows[["share", "mean"]])
        low, high = band.get_datalim(ax.transData).intervaly
        np.testing.assert_allclose([low, high], [rows["low"].min(), rows["high"].max()])
        assert to_rgba(line.get_color())[:3] == tuple(band.get_facecolor()[0][:3])


def test_curves_in_panels():
    baselines = ["zero", "trial_mean", "phase_scrambled", "other"]
    table = summary(baseline=baselines, method=["deep_lift"], share=[0.0, 1.0])
    chance = summary(baseline=baselines, share=[0.0, 1.0])
    fig = plot_perturbation_curves(table, chance, panel="baseline")
    assert [ax.get_title() for ax in fig.axes] == baselines
    assert len({ax.get_ylim() for ax in fig.axes}) == 1
    for ax, name in zip(fig.axes, baselines, strict=True):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), chance.loc[chance["baseline"] == name, "mean"])
        np.testing.assert_allclose(ax.lines[1].get_ydata(), table.loc[table["baseline"] == name, "mean"])


def test_curves_without_chance():
    fig = plot_perturbation_curves(summary(method=["a"], share=[0.0, 1.0]))
    assert legend(fig) == ["a"]
    assert len(plot_sensitivity(summary(method=["a"], share=[0.1, 1.0])).axes[0].collections) == 1


def test_sensitivity_where_rounding_puts_the_mean_outside_its_interval():
    rows = summary(method=["a"], share=[0.1, 1.0]).assign(low=1.0, high=1.0, mean=1 - 1e-16)
    plot_sensitivity(rows, rows)


@pytest.mark.parametrize("draw", [plot_sensitivity, plot_perturbation_curves])
@pytest.mark.parametrize("missing", ["method", "share", "mean", "low", "high"])
def test_missing_columns_are_named(draw, missing):
    table = summary(method=["a"], share=[0.1, 1.0])
    with pytest.raises(ValueError, match=f"summary has no column {missing};"):
        draw(table.drop(columns=missing))


def test_missing_columns_of_chance_and_panel_are_named():
    table = summary(method=["a"], share=[0.1, 1.0])
    with pytest.raises(ValueError, match="chance has no column high;"):
        plot_sensitivity(table, table.drop(columns="high"))
    with pytest.raises(ValueError, match="chance has no column baseline;"):
        plot_perturbation_curves(table.assign(baseline="zero"), table, panel="baseline")
