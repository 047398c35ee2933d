"""Figures of known answers: what is drawn is the ideal map of each class and the accuracies of the table."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from eegxai_support import simulate
from eegxai_support.trials import Trials
from eegxai_support.viz import plot_accuracy_over_snr, plot_ideal_maps
from eegxai_support.viz.parts import OKABE_ITO, WIDTH

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


@pytest.fixture(scope="module")
def simulated():
    """Return four classes in one regime and three, with a channel that no signal reaches, in the other."""
    channels = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
    options = {"n_trials": 24, "sfreq": 100, "ch_names": channels}
    return {
        "spatial": simulate("spatial", sources=("C3", "C4", "Fz", "Oz"), **options),
        "suppressor": simulate("suppressor", suppressor="P4", **options),
    }


@pytest.fixture(scope="module")
def ideal_maps(simulated):
    return plot_ideal_maps(simulated)


def rows(fig):
    """Return the axes row by row, without colour bars."""
    return np.array([ax for ax in fig.axes if ax.get_label() != "<colorbar>"]).reshape(2, 5)


def test_courses_are_those_of_the_first_trial_of_each_class_at_its_strongest_channel(simulated, ideal_maps):
    for (ax, *_), (regime, trials) in zip(rows(ideal_maps), simulated.items(), strict=True):
        assert ax.get_title(loc="left") == regime
        assert [label.get_text() for label in ax.get_yticklabels()] == list(trials.class_names)
        for k, (area, floor) in enumerate(zip(ax.collections, ax.get_yticks(), strict=True)):
            outline = area.get_paths()[0].vertices
            ideal = trials.ideal_map[np.argmax(trials.label == k)]
            drawn = [outline[np.isclose(outline[:, 0], time), 1].max() for time in trials.times]
            np.testing.assert_allclose(np.array(drawn) - floor, ideal[ideal.max(axis=1).argmax()], atol=1e-4)
            assert same_color(area.get_facecolor()[0], OKABE_ITO[k])


def test_heads_show_the_mean_of_the_ideal_map_and_name_the_source(simulated, ideal_maps):
    for (_, *heads), trials in zip(rows(ideal_maps), simulated.values(), strict=True):
        for k, name in enumerate(trials.class_names):
            assert heads[k].get_title() == name
            mean = trials.ideal_map[trials.label == k].mean(axis=(0, 2))
            shown = heads[k].images[0]
            assert shown.get_clim()[0] == 0 and shown.get_clim()[1] >= mean.max()
            named = [text.get_text() for text in heads[k].texts if text.get_text()]
            assert trials.info.ch_names[mean.argmax()] in named
        limits = {head.images[0].get_clim() for head in heads[: trials.n_classes]}
        assert len(limits) == 1  # one scale for the classes of a regime
    assert [text.get_text() for text in rows(ideal_maps)[1, 1].texts if text.get_text()] == ["Cz", "P4"]
    assert not rows(ideal_maps)[1, 4].axison  # three classes: the fourth place stays empty


def test_figures_fit_the_page_and_no_text_is_small(ideal_maps, table):
    for fig in (ideal_maps, plot_accuracy_over_snr(table, {"temporal": 0.25, "spectral": 1 / 3})):
        assert fig.get_figwidth() == WIDTH
        assert min(text.get_fontsize() for text in fig.findobj(plt.Text) if text.get_text()) >= 8
        assert fig.get_tightbbox().width <= WIDTH + 0.05


def test_trials_without_truth_or_without_a_class(simulated):
    trials = simulated["spatial"]
    recorded = Trials(trials.signal, "uV", trials.label, trials.info, trials.class_names, trials.metadata)
    with pytest.raises(ValueError, match="'mine' have no truth"):
        plot_ideal_maps({"mine": recorded})
    with pytest.raises(ValueError, match="'spatial' have none of class C4"):
        plot_ideal_maps({"spatial": trials.subset(trials.label != 1)})


@pytest.fixture(scope="module")
def table():
    columns = ["regime", "decoder", "snr_db", "accuracy", "low", "high"]
    values = [
        ("temporal", "ideal", 0, 1.0, 0.98, 1.0),
        ("temporal", "ideal", -20, 0.7, 0.65, 0.75),
        ("spectral", "ideal", -20, 0.9, 0.85, 0.95),
        ("spectral", "ideal", 0, 1.0, 0.98, 1.0),
        ("spectral", "network", -20, 0.4, 0.3, 0.5),
        ("spectral", "network", 0, 0.8, 0.7, 0.9),
    ]
    return pd.DataFrame(values, columns=columns)


def test_accuracy_lines_bands_and_chance(table):
    fig = plot_accuracy_over_snr(table, {"temporal": 0.25, "spectral": 1 / 3})
    temporal, spectral = fig.axes
    assert [temporal.get_title(), spectral.get_title()] == ["temporal", "spectral"]
    chance, ideal = [line for line in temporal.lines if len(line.get_xdata())]
    assert set(chance.get_ydata()) == {0.25}
    np.testing.assert_array_equal(ideal.get_xydata(), [[-20, 0.7], [0, 1.0]])  # sorted
    _, _, network = [line for line in spectral.lines if len(line.get_xdata())]
    np.testing.assert_array_equal(network.get_ydata(), [0.4, 0.8])
    edges = spectral.collections[-1].get_paths()[0].vertices[:, 1]
    assert edges.min() == 0.3 and edges.max() == 0.9
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["chance", "ideal", "network"]


def test_accuracy_without_a_column_or_a_chance(table):
    with pytest.raises(ValueError, match="no column low"):
        plot_accuracy_over_snr(table.drop(columns="low"), {"temporal": 0.25, "spectral": 1 / 3})
    with pytest.raises(ValueError, match="chance has no entry for spectral"):
        plot_accuracy_over_snr(table, {"temporal": 0.25})
