"""The single-trial figure: every stretch of a trace has the colour of the map there, and the numbers are printed."""

import mne
import numpy as np
import pytest

from eegxai_support.viz.single_trial import PEAKS, SIGNED, plot_processing, plot_single_trial

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("pyplot_keeps_no_figure")]

NAMES, N_TIMES, SFREQ = ("F3", "Fz", "F4", "C3", "Cz", "C4", "Pz", "Oz"), 20, 10.0
TIMES = np.arange(N_TIMES) / SFREQ


@pytest.fixture(scope="module")
def info():
    info = mne.create_info(list(NAMES), SFREQ, "eeg")
    return info.set_montage("colin27_1005")


@pytest.fixture(scope="module")
def signal():
    return np.random.default_rng(0).standard_normal((len(NAMES), N_TIMES))


@pytest.fixture(scope="module")
def points():
    values = np.full((len(NAMES), N_TIMES), -1.0)
    values[1, 5:9] = [0.0, 2.0, 1.0, -0.5]
    return values


def test_single_trial(signal, points, info):
    channels = np.linspace(-1, 2, len(NAMES))
    numbers = {"technique": "LRP", "r, whole channels": "0.93"}
    fig = plot_single_trial(signal, points, channels, info, TIMES, numbers, title="Subject 1")
    traces, head, text = fig.subfigs[0].axes[0], fig.subfigs[1].axes[0], fig.subfigs[1].axes[1]
    assert fig.get_suptitle() == "Subject 1"
    assert [label.get_text() for label in traces.get_yticklabels()] == list(NAMES)
    printed = [each.get_text() for each in text.texts]
    assert printed == ["technique", "LRP", "r, whole channels", "0.93"]
    assert [each.get_text() for each in head.texts if each.get_text()] == list(NAMES[-3:])

    (lines,) = traces.collections
    assert lines.get_clim() == (-1, 1) and lines.get_cmap() == PEAKS["cmap"]
    between = (points[:, 1:] + points[:, :-1]) / 2
    np.testing.assert_allclose(lines.get_array(), between.ravel())
    stretches = np.array(lines.get_segments()).reshape(len(NAMES), N_TIMES - 1, 2, 2)
    np.testing.assert_allclose(stretches[:, :, 0, 0], np.tile(TIMES[:-1], (len(NAMES), 1)))
    offset = traces.get_yticks()
    np.testing.assert_allclose(stretches[:, :, 0, 1] - offset[:, None], signal[:, :-1])
    np.testing.assert_allclose(stretches[:, :, 1, 1] - offset[:, None], signal[:, 1:])
    low, high = traces.get_ylim()
    assert low < stretches[..., 1].min() and stretches[..., 1].max() < high


def test_single_trial_with_many_channels_grows():
    names = mne.channels.make_standard_montage("colin27_1005").ch_names[:64]
    info = mne.create_info(names, SFREQ, "eeg").set_montage("colin27_1005")
    signal = np.random.default_rng(1).standard_normal((64, N_TIMES))
    heights = [plot_single_trial(s, s, s[:, 0], i, TIMES, {}).get_figheight() for s, i in _first(signal, info, 8, 64)]
    assert heights[1] > heights[0] + 5


def _first(signal, info, *numbers):
    return [(signal[:n], mne.pick_info(info, range(n))) for n in numbers]


def test_processing(signal, points, info):
    stages = {"raw": signal / 9, "processed": points}
    fig = plot_processing(signal, stages, info, TIMES, channels=("Fz", "Oz"))
    raw, processed = (ax for ax in fig.axes if ax.collections and len(ax.collections[0].get_paths()) > 2)
    for ax, values in ((raw, signal / 9), (processed, points)):
        assert [label.get_text() for label in ax.get_yticklabels()] == ["Fz", "Oz"]
        rows = values[[1, 7]]
        np.testing.assert_allclose(ax.collections[0].get_array(), (rows[:, 1:] + rows[:, :-1]).ravel() / 2)
    assert raw.collections[0].get_cmap() == SIGNED
    low, high = raw.collections[0].get_clim()
    assert low == -high and processed.collections[0].get_clim() == (-1, 1)


def test_errors_name_what_does_not_fit(signal, points, info):
    with pytest.raises(ValueError, match=r"points has shape \(3, 20\)"):
        plot_single_trial(signal, points[:3], points[:, 0], info, TIMES, {})
    with pytest.raises(ValueError, match=r"channels has shape \(20,\)"):
        plot_single_trial(signal, points, points[0], info, TIMES, {})
    with pytest.raises(ValueError, match="No channel C5"):
        plot_processing(signal, {"raw": points}, info, TIMES, channels=("C5",))
    with pytest.raises(ValueError, match=r"stages\['raw'\] has shape"):
        plot_processing(signal, {"raw": points[:2]}, info, TIMES, channels=("Fz",))
