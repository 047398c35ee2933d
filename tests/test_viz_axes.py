"""Figures in axes of the caller's: they hold what a figure of their own holds, and nothing else changes."""

import inspect
from functools import partial

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eegxai_support import viz
from eegxai_support.trials import Trials

CHANNELS = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz")
CLASSES = ("left", "right")
# Functions whose layout is what they say; the reasons stand in the docstring of eegxai_support.viz.
NO_AXES = {"plot_filters", "plot_ideal_maps", "plot_single_trial", "plot_trial_maps"}

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]

RNG = np.random.default_rng(0)
INFO = mne.create_info(list(CHANNELS), 32.0, "eeg", verbose=False).set_montage("colin27_1005", verbose=False)
FREQS = np.arange(0, 17.0)


def values(*shape):
    return RNG.normal(size=shape)


def table(**columns):
    """Return a row for each combination, with numbers that differ everywhere and an interval about them."""
    rows = pd.MultiIndex.from_product(columns.values(), names=list(columns)).to_frame(index=False)
    mean = np.linspace(0.2, 0.8, len(rows))
    return rows.assign(mean=mean, low=mean - 0.1, high=mean + 0.1)


def trials():
    label, truth = np.arange(6) % 2, np.zeros((6, len(CHANNELS), 32))
    truth[label == 0, 3] = truth[label == 1, 5] = 5.0
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.arange(6) // 3})
    return Trials(truth + RNG.normal(size=truth.shape), "uV", label, INFO, CLASSES, metadata, truth=truth)


def examples():
    """Return a call of every function that takes axes, by its name, with the number of its panels."""
    means = table(decoder=["a", "b"], subject=["S1", "S2"]).rename(columns={"mean": "accuracy"})
    filters = pd.DataFrame(
        {"x": values(6), "y": values(6), "cluster": [0, 1] * 3, "relevance": 1.0, "net": [*"aaabbb"]}
    )
    regions = table(net=["a", "b"], region=["front", "back"], band=["low", "high"]).rename(columns={"mean": "value"})
    shares = pd.DataFrame([[0.3, 0.7], [0.1, 0.9]], ["a", "b"], ["eyes", "brain"])
    labels = pd.DataFrame({"method": [*"aabb"], "trial": [0, 1] * 2, "pearson": [0.2, 0.4, 0.9, 0.7]})
    levels = [labels.assign(level=k, layer=f"layer {k}", pearson=labels["pearson"] / (k + 1)) for k in (0, 1)]
    ablation = pd.DataFrame({"unit": [-1, 0, 1], "accuracy": 0.9, "drop": 0.1, "drop_low": 0.0, "drop_high": 0.2})
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "train_accuracy": [0.4, 0.6]})
    curves = table(baseline=["zero", "mean"], method=["a", "b"], share=[0.0, 0.5, 1.0])
    ratios = means.assign(regime=means["subject"], snr_db=0.0)
    ranking = pd.DataFrame({"method": [*"abc"], "rank": [1.0, 1.5, 3.0], "value": 0.5, "low": 0.4, "high": 0.6})
    convergence = table(output=["left", "right"], iterations=[10, 40]).assign(r=0.5, predicted=0.6)
    scores = pd.DataFrame(RNG.uniform(size=(2, 3)), ["a", "b"], ["SSIM_raw", "Cosine_raw", "Pearson_raw"])
    topographies, maps = values(1, 2, 10), {"one": values(2, 10), "two": values(2, 10)}
    stages = {"raw": values(10, 8), "smooth": values(10, 8)}
    planes = {"one": values(2, 17, 5), "two": values(2, 17, 7)}
    times = {"one": np.linspace(0, 1, 5), "two": np.linspace(0, 2, 7)}
    units = {"one": "logit", "two": "%"}
    return {
        "plot_ablation": (partial(viz.plot_ablation, ablation), 1),
        "plot_accuracies": (partial(viz.plot_accuracies, means.assign(significant=True), 0.5), 2),
        "plot_accuracy_over_snr": (partial(viz.plot_accuracy_over_snr, ratios, {"S1": 0.5, "S2": 0.5}), 2),
        "plot_agreement": (partial(viz.plot_agreement, np.eye(2), ["a", "b"]), 1),
        "plot_band_topomaps": (partial(viz.plot_band_topomaps, values(2, 10, 17), FREQS, INFO, CLASSES, label="x",
                                       bands={"low": (1, 7), "high": (8, 15)}), 4),
        "plot_channel_topomaps": (partial(viz.plot_channel_topomaps, values(3, 10), INFO, [*"abc"], label="logit"), 3),
        "plot_cluster_topographies": (partial(viz.plot_cluster_topographies, topographies, abs(topographies), INFO,
                                              ["first"], ["low", "high"]), 4),
        "plot_component_shares": (partial(viz.plot_component_shares, shares, shares - 0.2), 2),
        "plot_conservation": (partial(viz.plot_conservation, {"a": [1.0, 2.0], "b": [0.0, 3.0]},
                                      {"a": [1.0, 2.0], "b": [1.0, 2.0]}), 2),
        "plot_convergence": (partial(viz.plot_convergence, {"10": values(10), "40": values(10)}, convergence, INFO,
                                     label="r"), 3),
        "plot_critical_difference": (partial(viz.plot_critical_difference, ranking, 1.0), 1),
        "plot_filter_map": (partial(viz.plot_filter_map, filters, by="net"), 2),
        "plot_history": (partial(viz.plot_history, history), 2),
        "plot_intervals": (partial(viz.plot_intervals, table(when=["x", "y"], removed=["eyes", "line"], net=["a", "b"]),
                                   "removed", "net", panel="when", reference=0.5, label="accuracy"), 2),
        "plot_known_answer": (partial(viz.plot_known_answer, trials()), 3),
        "plot_leaderboard": (partial(viz.plot_leaderboard, {"one": ranking, "two": ranking[:2]}), 2),
        "plot_map_comparison": (partial(viz.plot_map_comparison, maps, INFO, CLASSES, labels=units), 4),
        "plot_montages": (partial(viz.plot_montages, {"mine": INFO, "few": mne.pick_info(INFO, range(5))}), 2),
        "plot_perturbation_curves": (partial(viz.plot_perturbation_curves, curves, panel="baseline"), 2),
        "plot_processing": (partial(viz.plot_processing, values(10, 8), stages, INFO, np.arange(8) / 32,
                                    channels=("C3", "Oz")), 2),
        "plot_randomisation": (partial(viz.plot_randomisation, labels, pd.concat(levels)), 2),
        "plot_region_relevance": (partial(viz.plot_region_relevance, regions, by="net"), 2),
        "plot_scores": (partial(viz.plot_scores, scores), 2),
        "plot_sensitivity": (partial(viz.plot_sensitivity, table(method=["a", "b"], share=[0.1, 1.0])), 1),
        "plot_spectra_of_patterns": (partial(viz.plot_spectra_of_patterns, values(2, 10, 17), FREQS, INFO, CLASSES,
                                             label="µV", channels=("C3", "C4")), 2),
        "plot_time_frequency": (partial(viz.plot_time_frequency, planes, FREQS, times, ("C3", "C4"), labels=units), 4),
        "plot_trials": (partial(viz.plot_trials, trials()), 5),
        "plot_unit_averages": (partial(viz.plot_unit_averages, values(6, 2, 8), np.arange(6) % 2, np.arange(8),
                                       CLASSES), 2),
    }  # fmt: skip


EXAMPLES = examples()


@pytest.fixture
def mine():
    """Return a figure in a style of its own with more axes than any function draws in, and two that are not given."""
    with plt.rc_context({"axes.titlesize": 17, "xtick.labelsize": 5}):
        fig, axes = plt.subplots(2, 4)
        plt.close(fig)
        yield fig, axes.ravel()


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def numbers(ax):
    """Return the numbers that axes hold, artist by artist."""
    lines = [np.asarray(line.get_xydata(), float) for line in ax.lines]
    dots = [np.ma.filled(part.get_offsets(), np.nan) for part in ax.collections]
    paths = [path.vertices for part in ax.collections for path in part.get_paths()]
    colours = [part.get_array() for part in [*ax.images, *ax.collections] if part.get_array() is not None]
    return [*lines, *dots, *paths, *(np.ma.filled(np.ma.asarray(each, float), np.nan) for each in colours)]


def names_of(ax):
    return [tick.get_text() for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_ticklabels()]


def legends(ax):
    return ax.get_legend() is not None


def test_every_figure_takes_axes_or_is_known_to_be_a_layout():
    takes = {name for name in viz.__all__ if "axes" in inspect.signature(getattr(viz, name)).parameters}
    assert takes == EXAMPLES.keys()
    assert set(viz.__all__) - takes == NO_AXES
    assert all(f"`{name}`" in viz.__doc__ for name in NO_AXES)
    for name in takes:
        parameter = inspect.signature(getattr(viz, name)).parameters["axes"]
        assert parameter.kind is parameter.KEYWORD_ONLY and "\n    axes : " in getattr(viz, name).__doc__, name


@pytest.mark.parametrize("name", EXAMPLES)
def test_axes_of_ones_own_hold_what_a_figure_of_its_own_holds_and_no_other_is_drawn_in(name, mine):
    draw, n = EXAMPLES[name]
    own, (fig, axes) = panels(draw()), mine
    given, others = axes[1 : n + 1], [axes[0], *axes[n + 1 :]]
    before = [(len(ax.get_children()), ax.get_xlim(), ax.get_ylim()) for ax in others]
    size, settings = tuple(fig.get_size_inches()), dict(plt.rcParams)
    assert draw(axes=given) is fig

    assert panels(fig) == list(axes) and len(own) == n
    assert [(len(ax.get_children()), ax.get_xlim(), ax.get_ylim()) for ax in others] == before
    assert not fig.legends and not fig.texts and fig.get_suptitle() == fig.get_supxlabel() == fig.get_supylabel() == ""
    assert tuple(fig.get_size_inches()) == size and dict(plt.rcParams) == settings
    for ax, expected in zip(given, own, strict=True):
        for drawn, alone in zip(numbers(ax), numbers(expected), strict=True):
            np.testing.assert_allclose(drawn, alone)
        assert [text.get_text() for text in ax.texts] == [text.get_text() for text in expected.texts]
        assert ax.get_title() == expected.get_title()
        for axis in "xy":
            limits, alone = getattr(ax, f"get_{axis}lim")(), getattr(expected, f"get_{axis}lim")()
            np.testing.assert_allclose(limits, alone, atol=0.03 * np.ptp(alone))  # margins are of one panel or of all
            assert getattr(ax, f"get_{axis}label")() or not getattr(expected, f"get_{axis}label")()
    names = [{text for ax in group for text in names_of(ax)} for group in (given, own)]
    assert names[0] >= {each for each in names[1] if each.isalpha()}
    assert sum(map(legends, given)) == sum(map(legends, own)) + len(own[0].figure.legends)


def test_the_style_is_the_callers(mine):
    fig, axes = mine
    assert fig.get_layout_engine() is None  # which the figures of the package have
    viz.plot_history(EXAMPLES["plot_history"][0].args[0], axes=axes[:2])
    viz.plot_agreement(np.eye(2), ["a", "b"], axes=axes[2])
    viz.plot_channel_topomaps(values(1, 10), INFO, ["head"], label="logit", axes=axes[3])
    fig.draw_without_rendering()
    assert axes[3].title.get_fontsize() == 17 and axes[0].get_xticklabels()[0].get_fontsize() == 5
    assert axes[0].spines["top"].get_visible()


def test_panels_of_one_quantity_have_one_scale_whether_the_axes_are_shared_or_not():
    draw, _ = EXAMPLES["plot_spectra_of_patterns"]
    for options in ({}, {"sharey": True}, {"sharex": "col", "sharey": "row"}):
        fig, axes = plt.subplots(2, 2, layout="constrained", **options)
        plt.close(fig)
        draw(axes=axes[0])
        assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim()


def test_axes_may_lie_in_a_part_of_a_figure():
    fig = Figure(figsize=(20, 5), layout="constrained")
    left, right = fig.subfigures(1, 2)
    right.subplots()
    for name in ("plot_channel_topomaps", "plot_trials", "plot_conservation"):
        draw, n = EXAMPLES[name]
        assert draw(axes=left.subplots(1, n)) is fig
        fig.draw_without_rendering()
        left.clear()
    head = fig.add_axes((0.1, 0.1, 0.3, 0.3))  # in no grid
    viz.plot_channel_topomaps(values(1, 10), INFO, ["head"], label="logit", axes=head)
    assert head.get_title() == "head"


@pytest.mark.parametrize("name", EXAMPLES)
def test_another_number_of_axes_is_refused(name, mine):
    draw, n = EXAMPLES[name]
    _, axes = mine
    for wrong in (axes[: n + 1], axes[: n - 1]):
        with pytest.raises(ValueError, match=rf"axes holds {len(wrong)} Axes.*expected {n} different"):
            draw(axes=wrong)
    assert not any(ax.has_data() for ax in axes)


def test_what_is_no_axes_of_one_figure_is_refused(mine):
    fig, axes = mine
    draw, _ = EXAMPLES["plot_history"]
    with pytest.raises(ValueError, match=r"2 Axes, 1 of them different, of 1 figures"):
        draw(axes=[axes[0], axes[0]])
    with pytest.raises(ValueError, match=r"of 2 figures or subfigures; expected 2 different ones of one figure"):
        draw(axes=[axes[0], Figure().subplots()])
    with pytest.raises(TypeError, match=r"axes holds Figure; expected 2 Axes, such as plt\.subplots returns"):
        draw(axes=fig)
    with pytest.raises(ValueError, match="title is of a figure made here"):
        draw(axes=axes[:2], title="Mine")
