"""Figures: what the artists hold equals what was passed, scales are honest, and pyplot keeps nothing."""

import itertools

import matplotlib.pyplot as plt
import mne
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.image import AxesImage
from nbclient import NotebookClient

from eegxai_support import viz
from eegxai_support.trials import Trials
from eegxai_support.viz.parts import OKABE_ITO, WIDTH, colour_scale, head_positions

CHANNELS = ("F3", "Fz", "F4", "T7", "C3", "Cz", "C4", "T8", "P3", "Pz", "P4", "Oz")
CLASSES = ("left", "right", "feet")
N_TIMES, SFREQ = 64, 32.0
METRICS = ("SSIM_raw", "Cosine_raw", "RelevanceMassAccuracy_norm", "Pearson_raw", "Cosine_norm")


pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]


@pytest.fixture(scope="module")
def info():
    info = mne.create_info(list(CHANNELS), SFREQ, "eeg")
    return info.set_montage("colin27_1005")


@pytest.fixture(scope="module")
def trials(info):
    rng = np.random.default_rng(0)
    label = np.arange(12) % 3
    times = np.arange(N_TIMES) / SFREQ
    truth = np.zeros((12, len(CHANNELS), N_TIMES))
    for trial, k in enumerate(label):  # class k oscillates at 10 Hz under C3, Cz or C4
        truth[trial, CHANNELS.index(("C3", "Cz", "C4")[k])] = 5 * np.sin(2 * np.pi * 10 * times)
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.arange(12) // 6})
    signal = truth + rng.normal(size=truth.shape)
    return Trials(signal, "uV", label, info, CLASSES, metadata, truth=truth, tmin=1.0)


@pytest.fixture(scope="module")
def spectra():
    """Return values (class, channel, freq) with their frequencies; the beta band is 100 times smaller."""
    freqs = np.fft.rfftfreq(N_TIMES, 1 / 64)
    values = np.random.default_rng(1).normal(size=(3, len(CHANNELS), len(freqs)))
    return values * np.where(freqs < 14, 1, 0.01), freqs


def images(fig):
    return [image for ax in fig.axes for image in ax.images if ax.get_label() != "<colorbar>"]


def bars(fig):
    return [ax for ax in fig.axes if ax.get_label() == "<colorbar>"]


def bar_labels(fig):
    return [ax.get_ylabel() or ax.get_xlabel() for ax in bars(fig)]


def titles(fig):
    return [ax.get_title() for ax in fig.axes if ax.get_title()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_head_positions_put_the_10_20_ring_at_the_edge_of_the_head(info):
    position = dict(zip(CHANNELS, head_positions(info), strict=True))
    assert np.hypot(*position["Cz"]) < 0.1
    assert position["T7"][0] == pytest.approx(-0.98, abs=0.02)
    assert position["T8"][0] == pytest.approx(0.98, abs=0.02)
    assert position["C3"][0] == pytest.approx(-position["C4"][0], abs=0.02)
    assert position["Oz"][1] == pytest.approx(-0.88, abs=0.02)
    assert position["Fz"][1] == pytest.approx(-position["Pz"][1], abs=0.05)


def test_colour_scale_is_symmetric_for_signed_and_sequential_for_others():
    values = np.linspace(-1, 3, 101)
    limit = np.percentile(np.abs(values), 98)
    assert colour_scale(values) == {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    assert colour_scale(np.arange(101.0)) == {"cmap": "magma_r", "vmin": 0, "vmax": 98}
    assert colour_scale(np.zeros(3))["vmax"] == 1  # a map of zeros has a scale, too


def test_trials(trials):
    fig = viz.plot_trials(trials, title="Recorded")
    assert fig.get_suptitle() == "Recorded"
    assert titles(fig) == ["C3", "Cz", "C4", *CLASSES]
    at_c3, heads = fig.axes[0], images(fig)
    assert [line.get_color() for line in at_c3.lines] == list(OKABE_ITO[:3])
    frequency, power = at_c3.lines[0].get_data()
    assert frequency[np.argmax(power)] == 10
    assert at_c3.lines[0].get_ydata().max() > at_c3.lines[1].get_ydata().max() + 10  # class 0 oscillates at C3
    assert len(heads) == 3
    assert {image.get_clim() for image in heads} == {(-heads[0].norm.vmax, heads[0].norm.vmax)}
    assert bar_labels(fig) == ["7-13 Hz power\n(dB re mean of classes)"]


def test_trials_of_one_class(trials):
    assert len(images(viz.plot_trials(trials.subset(trials.label == 1)))) == 1


def test_known_answer(trials):
    fig = viz.plot_known_answer(trials, 1)
    left, right, head = fig.axes[:3]
    assert len(left.lines) == len(right.lines) == 6
    assert left.get_ylim() == right.get_ylim()
    row = [label.get_text() for label in left.get_yticklabels()].index("Cz")
    np.testing.assert_allclose(right.lines[row].get_ydata() - left.get_yticks()[row], trials.truth[1, 5], atol=1e-4)
    np.testing.assert_allclose(left.lines[row].get_ydata() - left.get_yticks()[row], trials.signal[1, 5], atol=1e-4)
    assert head.images[0].norm.vmin == 0
    assert bar_labels(fig) == ["root mean square (µV)"]


def test_history():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "train_accuracy": [0.4, 0.6]})
    loss, accuracy = viz.plot_history(history).axes
    assert (len(loss.lines), len(accuracy.lines)) == (1, 1)
    loss, accuracy = viz.plot_history(history.assign(valid_loss=[2.0, 3.0], valid_accuracy=[0.3, 0.2])).axes
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [2, 3])
    np.testing.assert_array_equal(accuracy.lines[1].get_xydata(), [[1, 0.3], [2, 0.2]])


def test_accuracies():
    rows = [("S1", "A", 0.8, True), ("S2", "A", 0.4, False), ("S1", "B", 0.6, False)]  # decoder B has no S2
    table = pd.DataFrame(rows, columns=["subject", "decoder", "accuracy", "significant"])
    table = table.assign(low=table["accuracy"] - 0.1, high=table["accuracy"] + 0.1)
    fig = viz.plot_accuracies(table, 0.25)
    assert titles(fig) == ["A\nmean 0.60", "B\nmean 0.60"]
    lines, dots = fig.axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [[0.8, 0], [0.4, 1]])
    np.testing.assert_allclose(lines.get_segments()[1], [[0.3, 1], [0.5, 1]])
    filled = to_rgba(OKABE_ITO[0])
    np.testing.assert_allclose(dots.get_facecolors(), [filled, (1, 1, 1, 1)])
    assert 0.25 in fig.axes[0].lines[0].get_xdata()
    assert [text.get_text() for text in fig.legends[0].get_texts()][-1] == "chance 0.25"


def test_accuracies_of_21_subjects_do_not_overlap():
    rows = [(s, d, 0.5, 0.4, 0.6, False) for s in range(21) for d in "ABC"]
    fig = viz.plot_accuracies(
        pd.DataFrame(rows, columns=["subject", "decoder", "accuracy", "low", "high", "significant"]), 0.5
    )
    boxes = [label.get_window_extent() for label in fig.axes[0].get_yticklabels()]
    assert len(boxes) == 21
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_trial_maps(trials, info):
    rng = np.random.default_rng(0)
    maps = {"deep_lift": rng.normal(size=(12, N_TIMES)), "saliency": rng.uniform(size=(12, N_TIMES))}
    receipts = {"deep_lift": "delta 1e-6", "saliency": "no sum"}
    units = {"deep_lift": "logit", "saliency": "logit/µV"}
    fig = viz.plot_trial_maps(trials.signal[0], maps, receipts, info, trials.times, labels=units)
    assert titles(fig) == ["trial", "deep_lift", "saliency"]
    assert [text for ax in fig.axes for text in texts(ax) if text in receipts.values()] == list(receipts.values())
    signal, deep_lift, saliency, _, head, _ = images(fig)
    order = [CHANNELS.index(name) for name in "F3 Fz F4 T7 C3 Cz C4 T8 P3 Pz P4 Oz".split()]
    np.testing.assert_allclose(signal.get_array(), trials.signal[0][order])
    np.testing.assert_allclose(deep_lift.get_array(), maps["deep_lift"][order])
    assert deep_lift.norm.vmin == -deep_lift.norm.vmax
    assert (saliency.norm.vmin, saliency.get_cmap().name) == (0, "magma_r")
    assert head.norm.vmax == np.percentile(np.abs(maps["deep_lift"].sum(1)), 98)
    regions = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert regions == ["frontal", "central", "parietal", "occipital"]
    assert "sum over\ntime (logit)" in bar_labels(fig)
    assert "logit/µV\nper sample" in bar_labels(fig)


def test_image_rows_go_from_front_to_back_and_from_left_to_right(info):
    shuffled = info.copy()
    picks = np.random.default_rng(0).permutation(12)
    shuffled = mne.pick_info(shuffled, picks)
    rows = np.arange(12.0)[:, None] * np.ones(4) + 1
    fig = viz.plot_trial_maps(rows[picks], {"m": rows[picks]}, {"m": ""}, shuffled, np.arange(4) / 10)
    np.testing.assert_array_equal(images(fig)[0].get_array()[:, 0], np.arange(12) + 1)


def test_trial_maps_wrap_after_four(trials, info):
    maps = {name: trials.signal[0] for name in "abcd"}
    fig = viz.plot_trial_maps(trials.signal[0], maps, dict.fromkeys(maps, "r"), info, trials.times)
    assert len(images(fig)) == len(bars(fig)) == 10
    assert len([ax for ax in fig.axes if ax.get_label() != "<colorbar>"]) == 15


def test_agreement():
    matrix = np.array([[1, -0.05], [-0.05, 1]])
    fig = viz.plot_agreement(matrix, ["saliency", "deep_lift"])
    image = images(fig)[0]
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert image.get_clim() == (-1, 1)
    assert texts(fig.axes[0]) == ["1.00", "-0.05", "-0.05", "1.00"]
    assert bar_labels(fig) == ["Pearson correlation"]


@pytest.mark.parametrize(("shared", "n_bars"), [(True, 1), (False, 5)])
def test_channel_topomaps(info, shared, n_bars):
    values = np.random.default_rng(0).normal(size=(5, 12)) * np.arange(1, 6)[:, None]
    fig = viz.plot_channel_topomaps(values, info, list("abcde"), label="relevance (logit)", shared=shared)
    assert titles(fig) == list("abcde")
    assert bar_labels(fig) == ["relevance (logit)"] * n_bars
    assert len({image.get_clim() for image in images(fig)}) == n_bars
    assert [text for text in texts(fig.axes[0]) if text] == ["C3", "Cz", "C4"]


def test_each_topomap_stands_below_its_own_title(info):
    level = np.array([1.0, 2.0, 3.0])  # the same on all channels: interpolation keeps it
    fig = viz.plot_channel_topomaps(level[:, None] * np.ones(12), info, list("abc"), label="x")
    heads = {ax.get_title(): ax.images[0].get_array().mean() for ax in fig.axes if ax.get_title()}
    assert heads == pytest.approx({"a": 1, "b": 2, "c": 3})


def test_topomap_shows_the_values_at_the_electrodes(info):
    values = np.arange(12.0)
    image = images(viz.plot_channel_topomaps(values[None], info, ["a"], label="index"))[0]
    left, right, bottom, top = image.get_extent()
    pixels = np.asarray(image.get_array())
    x, y = head_positions(info).T
    column = np.round((x - left) / (right - left) * (pixels.shape[1] - 1)).astype(int)
    row = np.round((y - bottom) / (top - bottom) * (pixels.shape[0] - 1)).astype(int)
    np.testing.assert_allclose(pixels[row, column], values, atol=0.35)  # half a pixel of a slope of 11 per head radius


def test_band_topomaps_have_one_scale_and_one_colour_bar_per_band(info, spectra):
    values, freqs = spectra
    fig = viz.plot_band_topomaps(values, freqs, info, CLASSES, label="gradient (logit/µV)")
    heads = images(fig)
    limits = [image.norm.vmax for image in heads]
    mu = values[:, :, (freqs >= 7) & (freqs <= 13)].mean(axis=2)
    beta = values[:, :, (freqs >= 14) & (freqs <= 30)].mean(axis=2)
    expected = [np.percentile(np.abs(band), 98) for band in (mu, beta)]
    np.testing.assert_allclose(limits, np.repeat(expected, 3))
    assert all(image.norm.vmin == -image.norm.vmax for image in heads)
    assert bar_labels(fig) == ["gradient (logit/µV)"] * 2
    tops = [bar.get_ylim()[1] for bar in bars(fig)]
    np.testing.assert_allclose(tops, expected)  # each bar belongs to its own row
    assert titles(fig) == list(CLASSES)
    assert [ax.title.get_color() for ax in fig.axes[:3]] == list(OKABE_ITO[:3])
    assert [fig.axes[i].get_ylabel() for i in (0, 3)] == list(viz.maps.BANDS)


def test_spectra_of_patterns(info, spectra):
    values, freqs = spectra
    fig = viz.plot_spectra_of_patterns(values, freqs, info, CLASSES, label="pattern (µV)", channels=("C4", "Oz"))
    assert titles(fig) == ["C4", "Oz"]
    lines = [line for line in fig.axes[1].lines if line.get_label() in CLASSES]
    np.testing.assert_array_equal([line.get_ydata() for line in lines], values[:, CHANNELS.index("Oz")])
    assert fig.axes[0].get_ylabel() == "pattern (µV)"


def test_conservation():
    change = np.array([-2.0, 1.0, 4.0])
    sums = {
        "deep_lift": change,
        "sampled": change + np.array([0.1, 0.0, -0.2]),
        "input_x_gradient": change / 4,
        "near": change * 1.002,
    }
    error = np.array([0.05, 0.1, 0.2])
    fig = viz.plot_conservation(sums, dict.fromkeys(sums, change) | {"more": None}, errors={"sampled": error})
    shares = ["< 0.1%", "5%", "75%", "0.2%"]
    assert titles(fig) == [f"{name}\nmisses {share}" for name, share in zip(sums, shares, strict=True)]
    for ax, total in zip(fig.axes, sums.values(), strict=True):
        line, dots = ax.lines[0], ax.lines[-1]
        assert (line.get_slope(), line.get_xy1()) == (1, (0, 0))
        np.testing.assert_array_equal(dots.get_xydata(), np.column_stack([change, total]))
        assert ax.get_xlim() == ax.get_ylim()
    (bars_of_sampled,) = fig.axes[1].collections
    np.testing.assert_allclose(
        np.diff([segment[:, 1] for segment in bars_of_sampled.get_segments()])[:, 0], 3.92 * error
    )
    assert not any(ax.collections for ax in (fig.axes[0], *fig.axes[2:]))
    assert fig.get_supxlabel() == "change of the output (logit)"


def test_conservation_of_one_trial_and_of_no_change():
    fig = viz.plot_conservation({"a": [0.0]}, {"a": [0.0]}, label="µV")
    assert titles(fig) == ["a\nmisses < 0.1%"]
    assert fig.get_supylabel() == "sum of the map (µV)"


def test_randomisation():
    label = pd.DataFrame({"method": list("aabb"), "trial": [0, 1, 0, 1], "pearson": [0.2, 0.4, 0.9, 0.7]})
    label = pd.concat([label, label.assign(pearson=label["pearson"] - 0.2)])  # a second draw
    weights = [
        (method, trial, level, layer, 1.0 - level * (0.1 if method == "a" else 0.3) + 0.1 * trial)
        for method in "ab"
        for trial in (0, 1)
        for level, layer in enumerate(("final_layer", "conv_spatial", "conv_temporal"))
    ]
    weights = pd.DataFrame(weights, columns=["method", "trial", "level", "layer", "pearson"])
    fig = viz.plot_randomisation(label, weights.sample(frac=1, random_state=0).sort_values("method", kind="stable"))
    left, right = fig.axes
    means = {line.get_marker(): [] for line in left.lines if line.get_marker() in "os"}
    for line in left.lines:
        if line.get_marker() in means and len(line.get_ydata()):
            means[line.get_marker()].extend(line.get_ydata())
    np.testing.assert_allclose(means["o"], [0.2, 0.7])
    np.testing.assert_allclose(means["s"], [0.85, 0.45])
    half = 12.706 * np.std([0.1, 0.3], ddof=1) / np.sqrt(2)  # Student's t for one degree of freedom
    interval = left.collections[1].get_segments()[0]
    np.testing.assert_allclose(interval[:, 1], [0.2 - half, 0.2 + half], rtol=1e-4)
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["final_layer", "conv_spatial", "conv_temporal"]
    np.testing.assert_allclose(right.lines[1].get_ydata(), [1.05, 0.75, 0.45])
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in right.lines]


def scores_table():
    values = [[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.3, 0.2, -0.1]]
    return pd.DataFrame(values, index=["saliency", "deep_lift"], columns=METRICS)


def test_scores():
    scores = scores_table()
    low, high = pd.Series(0.0, sorted(METRICS)), pd.Series(0.25, sorted(METRICS))
    high["Cosine_raw"] = 0.1
    fig = viz.plot_scores(scores, low=low, high=high)
    score, rank = images(fig)
    families = ["Cosine_raw", "Cosine_norm", "RelevanceMassAccuracy_norm", "Pearson_raw", "SSIM_raw"]
    np.testing.assert_array_equal(score.get_array().data, scores[families].T)
    chance = [[0, 0], [0, 0], [0, 0], [0, 1], [1, 0]]
    np.testing.assert_array_equal(np.ma.getmaskarray(score.get_array()), chance)
    np.testing.assert_array_equal(rank.get_array().data, [[2, 1], [1, 2], [1, 1], [1, 2], [2, 1]])
    assert score.get_clim() == (-1, 1)
    assert bar_labels(fig) == ["score"]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()][2] == "RMA norm"
    assert titles(fig) == ["score (grey: inside chance)", "rank (1 = highest)"]


def test_scores_with_a_chance_interval_per_method():
    scores = scores_table()
    low, high = scores - 1, scores.copy()
    low.loc["deep_lift"], high.loc["saliency"] = 1.0, -1.0
    high.loc["saliency", "Pearson_raw"] = 0.4
    score = images(viz.plot_scores(scores, low=low[::-1], high=high[::-1]))[0]
    assert np.ma.getmaskarray(score.get_array()).sum() == 1


def test_scores_where_low_is_better_and_many_methods():
    scores = pd.DataFrame(np.random.default_rng(0).uniform(size=(12, 5)), columns=METRICS).rename(index=str)
    fig = viz.plot_scores(scores, higher_is_better=False)
    score, rank = images(fig)
    assert score.get_clim() == (0, 1)
    assert rank.get_array()[4, scores["SSIM_raw"].argmin()] == 1
    assert fig.axes[0].get_position().y0 > fig.axes[1].get_position().y1  # below each other


def test_figures_fit_the_page_and_no_text_is_small(trials, info, spectra):
    values, freqs = spectra
    maps = {name: trials.signal[0] for name in ("input_x_gradient", "integrated_gradients", "deep_lift")}
    figures = [
        viz.plot_trials(trials),
        viz.plot_known_answer(trials),
        viz.plot_trial_maps(trials.signal[0], maps, dict.fromkeys(maps, "delta 1e-6"), info, trials.times),
        viz.plot_band_topomaps(values, freqs, info, CLASSES, label="gradient (logit/µV)"),
    ]
    for fig in figures:
        assert fig.get_figwidth() == WIDTH
        assert fig.get_dpi() == 150
        assert min(text.get_fontsize() for text in fig.findobj(plt.Text) if text.get_text()) >= 8
        assert fig.get_tightbbox().width <= WIDTH + 0.05  # nothing is cut off or sticks out


def test_style_does_not_leak_in_either_direction(info):
    with plt.rc_context({"font.size": 30, "figure.facecolor": "black"}):
        fig = viz.plot_channel_topomaps(np.ones((1, 12)), info, ["a"], label="one")
        assert plt.rcParams["font.size"] == 30
    assert fig.get_facecolor() == (1, 1, 1, 1)
    assert fig.axes[0].title.get_fontsize() == 9
    assert bars(fig)[0].get_yticklabels()[0].get_fontsize() == 8


def test_few_channels_are_enough_for_a_topomap(info):
    few = mne.pick_info(info.copy(), [4, 5, 9])  # C3, Cz and Pz
    assert isinstance(images(viz.plot_channel_topomaps(np.eye(3), few, list("abc"), label="x"))[0], AxesImage)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, i: viz.plot_trials(t, channels=("C3", "C9")), r"No channel C9. Pass channels= with some of: F3"),
        (lambda t, i: viz.plot_trials(t, band=(40, 50)), "No frequency lies in 40-50 Hz"),
        (lambda t, i: viz.plot_known_answer(t, 12), "trial is 12; expected 0 … 11"),
        (lambda t, i: viz.plot_history(pd.DataFrame({"epoch": [1]})), "no column train_loss, train_accuracy"),
        (lambda t, i: viz.plot_accuracies(pd.DataFrame({"subject": []}), 0.5), "no column decoder"),
        (
            lambda t, i: viz.plot_trial_maps(t.signal[0], {"a": t.signal[0]}, {}, i, t.times),
            "No entry in receipts for a",
        ),
        (
            lambda t, i: viz.plot_trial_maps(t.signal[0], {"a": t.signal[0].T}, {"a": ""}, i, t.times),
            r"maps\['a'\] has shape \(64, 12\); expected \(channel = 12, time = 64\)",
        ),
        (lambda t, i: viz.plot_conservation({"a": [1.0]}, {}), "No entry in changes for a"),
        (lambda t, i: viz.plot_conservation({"a": [1.0]}, {"a": [1.0, 2.0]}), r"shape \(2,\); expected \(trial = 1\)"),
        (lambda t, i: viz.plot_conservation({"a": [np.nan]}, {"a": [1.0]}), "holds NaN"),
        (lambda t, i: viz.plot_agreement(np.eye(2), ["a"]), r"expected \(method = 1, other = 1\)"),
        (
            lambda t, i: viz.plot_channel_topomaps(np.ones((2, 12)), i, ["a"], label=""),
            "titles has 1 names; expected 2",
        ),
        (lambda t, i: viz.plot_channel_topomaps(np.full((1, 12), np.nan), i, ["a"], label=""), "values holds NaN"),
        (
            lambda t, i: viz.plot_band_topomaps(np.ones((12, 3, 4)), np.arange(4), i, CLASSES, label=""),
            r"expected \(class = 3, channel = 12, freq = 4\)",
        ),
        (
            lambda t, i: viz.plot_randomisation(pd.DataFrame({"method": []}), pd.DataFrame()),
            "label has no column trial",
        ),
    ],
)
def test_errors_say_what_to_do(trials, info, call, message):
    with pytest.raises(ValueError, match=message):
        call(trials, info)


def test_trials_without_truth(trials):
    real = Trials(trials.signal, "uV", trials.label, trials.info, CLASSES, trials.metadata)
    with pytest.raises(ValueError, match="have no truth"):
        viz.plot_known_answer(real)


@pytest.mark.filterwarnings("default")  # those of the kernel's own libraries
def test_jupyter_shows_a_returned_figure_once():
    draw = "viz.plot_agreement(np.eye(2), ['a', 'b'])"
    sources = ("import numpy as np\nfrom eegxai_support import viz", draw, f"fig = {draw}", f"fig = {draw}\nfig")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name="python3", startup_timeout=120).execute()
    shown = [[output.data for output in cell.outputs] for cell in notebook.cells[1:]]
    assert [len(outputs) for outputs in shown] == [1, 0, 1]
    assert all("image/png" in output for outputs in shown for output in outputs)  # a page shows it, not the text
