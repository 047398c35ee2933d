"""Figures of concepts: what the artists hold equals what was passed, and scales are honest."""

import mne
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from eegxai_support import viz
from eegxai_support.viz.concepts import NO_CLUSTER
from eegxai_support.viz.parts import colour

CHANNELS = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4")

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


@pytest.fixture(scope="module")
def info():
    return mne.create_info(list(CHANNELS), 100.0, "eeg").set_montage("colin27_1005")


@pytest.fixture
def filters():
    """Return six filters of two networks, two of them in no cluster."""
    return pd.DataFrame({
        "x": np.arange(6.0), "y": -np.arange(6.0), "cluster": [-1, 0, 0, 1, 1, -1],
        "relevance": [0.1, -0.4, 0.2, 0.3, 0.6, 0.0], "network": ["a", "a", "a", "a", "b", "b"],
    })  # fmt: skip


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def test_filter_map_has_every_filter_in_the_colour_of_its_cluster(filters):
    fig = viz.plot_filter_map(filters, by="network")
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    for ax, (_, rows) in zip(fig.axes, filters.groupby("network"), strict=True):
        dots = {part.get_label(): part for part in ax.collections}
        for cluster, part in rows.groupby("cluster"):
            drawn = dots["none" if cluster < 0 else str(cluster)]
            np.testing.assert_array_equal(drawn.get_offsets(), part[["x", "y"]])
            expected = to_rgb(NO_CLUSTER if cluster < 0 else colour(cluster))
            np.testing.assert_allclose(drawn.get_facecolor()[0, :3], expected)
    area = fig.axes[0].collections[1].get_sizes() - fig.axes[0].collections[0].get_sizes()
    assert area[0] / area[1] == pytest.approx(3)  # 0.4 - 0.1 and 0.2 - 0.1 of relevance
    assert fig.axes[0].get_xlim() == fig.axes[1].get_xlim()


def test_filter_map_may_have_a_plane_for_each_panel(filters):
    left, right = viz.plot_filter_map(filters, by="network", shared=False).axes
    assert left.get_xlim() != right.get_xlim()


def test_cluster_topographies_have_a_scale_for_each_row(info):
    rng = np.random.default_rng(0)
    relevance, power = rng.normal(size=(2, 3, 9)) * [[[1.0]], [[10.0]]], rng.random((2, 3, 9))
    fig = viz.plot_cluster_topographies(relevance, power, info, ["first", "second"], ["alpha", "beta", "gamma"])
    heads = [ax.images[0] for ax in panels(fig)]
    assert [head.norm.vmin == 0 for head in heads] == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3
    assert heads[0].norm.vmax == heads[2].norm.vmax == pytest.approx(np.percentile(np.abs(relevance[0]), 98))
    assert heads[6].norm.vmax == pytest.approx(np.percentile(np.abs(relevance[1]), 98))
    assert [ax.get_title() for ax in panels(fig)[:3]] == ["alpha", "beta", "gamma"]
    assert [ax.get_ylabel() for ax in panels(fig)[::3]] == [
        f"{name}\n{what}" for name in ("first", "second") for what in ("relevance", "power")
    ]


def test_cluster_topographies_refuse_arrays_that_disagree(info):
    with pytest.raises(ValueError, match="power has shape"):
        viz.plot_cluster_topographies(np.ones((1, 2, 9)), np.ones((1, 3, 9)), info, ["one"], ["alpha", "beta"])


def test_component_shares_print_both_tables():
    absolute = pd.DataFrame({"eye blink": [0.3, 0.1], "brain": [0.7, 0.9]}, ["broadband", "S007"])
    net = pd.DataFrame({"eye blink": [1.1, -0.1], "brain": [-0.1, 1.1]}, ["broadband", "S007"])
    fig = viz.plot_component_shares(absolute, net)
    for ax, table in zip(fig.axes, (absolute, net), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), table)
        assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in table.to_numpy().ravel()]
    assert fig.axes[0].images[0].get_clim() == (0, 1) and fig.axes[1].images[0].get_clim() == (-1, 1)
    with pytest.raises(ValueError, match="different rows or columns"):
        viz.plot_component_shares(absolute, net.iloc[:1])


def test_region_relevance_keeps_the_order_of_the_table():
    rows = [(r, b, d) for d in ("S042", "S007") for r in ("motor left", "frontal left") for b in ("theta", "alpha")]
    table = pd.DataFrame(rows, columns=["region", "band", "decoder"]).assign(value=np.arange(8.0) - 2)
    fig = viz.plot_region_relevance(table, by="decoder")
    first, second = panels(fig)
    assert [first.get_title(), second.get_title()] == ["S042", "S007"]
    np.testing.assert_array_equal(first.images[0].get_array(), [[-2, -1], [0, 1]])
    np.testing.assert_array_equal(second.images[0].get_array(), [[2, 3], [4, 5]])
    assert [label.get_text() for label in first.get_yticklabels()] == ["motor left", "frontal left"]
    assert [label.get_text() for label in first.get_xticklabels()] == ["theta", "alpha"]


@pytest.mark.parametrize(("draw", "missing"), [(viz.plot_filter_map, "x, y"), (viz.plot_region_relevance, "region")])
def test_a_missing_column_is_named(draw, missing):
    with pytest.raises(ValueError, match=f"table has no column {missing}"):
        draw(pd.DataFrame({"decoder": ["a"]}), by="decoder")
