"""The figures of the leaderboard show every method where its numbers are."""

import numpy as np
import pandas as pd
import pytest

from eegxai_support import viz

METHODS = ["deep_lift", "saliency", "gradient", "random"]


@pytest.fixture
def ranking():
    return pd.DataFrame(
        {"method": METHODS, "value": [0.9, 0.6, 0.5, 0.1], "low": [0.8, 0.5, 0.4, 0.05], "high": [1.0, 0.7, 0.6, 0.2],
         "rank": [1.2, 2.0, 2.9, 3.9]}
    )  # fmt: skip


def test_leaderboard_has_a_dot_an_interval_and_a_name_per_method(ranking):
    fig = viz.plot_leaderboard({"temporal": ranking, "spatial": ranking[::-1]}, {"temporal": 0.12}, label="RMA")
    first, second = fig.axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == METHODS
    assert [tick.get_text() for tick in second.get_yticklabels()] == METHODS[::-1]
    dots = next(line for line in first.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_xdata(), ranking["value"])
    segments = np.array(first.collections[0].get_segments())
    np.testing.assert_array_equal(segments[:, :, 0], ranking[["low", "high"]])
    assert first.get_ylim()[0] > first.get_ylim()[1]  # the first method on top
    dotted = [line for line in first.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_xdata()[0] == 0.12 and not [line for line in second.lines if line.get_linestyle() == ":"]


def test_critical_difference_places_ranks_and_joins_close_methods(ranking):
    fig = viz.plot_critical_difference(ranking, 1.0)
    (ax,) = fig.axes
    texts = {text.get_text().strip() for text in ax.texts}
    assert {*METHODS, "critical difference 1.0", "1", "2", "3", "4"} <= texts
    stems = [line.get_xdata()[0] for line in ax.lines]
    np.testing.assert_array_equal(stems, ranking["rank"])
    bars = [c.get_segments()[0][:, 0] for c in ax.collections if c.get_linewidth()[0] == 3]
    np.testing.assert_allclose(bars, [[1.15, 2.05], [1.95, 2.95]])


def test_names_do_not_overlap_with_many_methods():
    many = pd.DataFrame({"method": [f"method_{i}" for i in range(18)], "rank": np.linspace(2, 17, 18)})
    fig = viz.plot_critical_difference(many, 3.0)
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts if text.get_text().strip().startswith("method")]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize("column", ["method", "rank"])
def test_missing_column(ranking, column):
    with pytest.raises(ValueError, match=f"no column {column}"):
        viz.plot_critical_difference(ranking.drop(columns=column), 1.0)
    with pytest.raises(ValueError, match="no column low"):
        viz.plot_leaderboard({"temporal": ranking.drop(columns="low")})
