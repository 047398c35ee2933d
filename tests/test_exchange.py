"""Trials, maps and filters as MNE's objects: what MNE shows is what they hold, and they come back to the bit."""

from dataclasses import replace

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd
import pytest
import scipy

import eegxai_support as xs
from eegxai_support.montages import electrode_info

NAMES = tuple("Fp1 Fp2 F3 F4 T7 C3 Cz C4 T8 P3 P4 O1 O2".split())
CLASSES = ("left", "left/slow", "feet", "tongue")  # to MNE, "left" is also a part of "left/slow"
SFREQ, N_TRIALS, N_TIMES = 50.0, 8, 21
LABEL = np.array([1, 0, 3, 1, 0, 3, 0, 3])  # no feet


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    signal = 20 * rng.standard_normal((N_TRIALS, len(NAMES), N_TIMES))
    metadata = pd.DataFrame({"subject": 7, "session": 1, "run": np.arange(N_TRIALS) // 4, "hit": LABEL > 0})
    return xs.Trials(signal, "uV", LABEL, electrode_info(NAMES, SFREQ), CLASSES, metadata, tmin=-0.1)


@pytest.fixture
def maps(trials):
    return np.random.default_rng(1).standard_normal(trials.signal.shape).astype(np.float32) + 0.5


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def shown_at_electrodes(ax, info):
    """Return what a head of MNE's shows at each electrode: the pixel of its image, within that of a neighbour."""
    image = ax.images[0]
    left, right, bottom, top = image.get_extent()
    pixels = np.asarray(image.get_array())
    dots = [np.asarray(each.get_offsets()) for each in ax.collections]
    x, y = next(each for each in dots if len(each) == len(info.ch_names)).T
    column = np.round((x - left) / (right - left) * (pixels.shape[1] - 1)).astype(int)
    row = np.round((y - bottom) / (top - bottom) * (pixels.shape[0] - 1)).astype(int)
    return pixels[row, column]


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e12])
def test_maps_come_back_to_the_bit(trials, maps, scale):
    maps = (maps * scale).astype(np.float32)
    back = xs.to_array(xs.to_epochs(trials, maps))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, maps)
    spectra = maps[:, :, : N_TIMES // 2 + 1]
    np.testing.assert_array_equal(xs.to_array(xs.to_spectrum(trials, spectra)), spectra)
    precise = np.pi * maps.astype(float)
    np.testing.assert_allclose(xs.to_array(xs.to_epochs(trials, precise), float), precise, rtol=1e-15)


def test_maps_come_back_from_a_file(trials, maps, tmp_path):
    xs.to_epochs(trials, maps).save(tmp_path / "maps-epo.fif", fmt="double", verbose=False)
    epochs = mne.read_epochs(tmp_path / "maps-epo.fif", verbose=False)
    np.testing.assert_array_equal(xs.to_array(epochs), maps)
    mne.write_evokeds(tmp_path / "maps-ave.fif", [*xs.to_evoked(trials, maps).values()], verbose=False)
    evoked = mne.read_evokeds(tmp_path / "maps-ave.fif", "tongue: relevance", verbose=False)
    np.testing.assert_allclose(xs.to_array(evoked), maps[LABEL == 3].mean(0, dtype=float), rtol=1e-6)
    assert "one unit of it as 1 µV" in epochs.info["description"] == evoked.info["description"]


def test_a_recording_is_in_volts_and_is_the_same_trials_again(trials):
    epochs = xs.to_epochs(trials)
    np.testing.assert_allclose(epochs.get_data(units="uV"), trials.signal, rtol=1e-12)
    assert np.abs(epochs.get_data()).max() < 1e-3
    np.testing.assert_array_equal(xs.to_array(epochs), trials.signal)
    np.testing.assert_allclose(epochs.times, trials.times)
    assert epochs.event_id == {"left": 1, "left/slow": 2, "tongue": 4}
    again = xs.from_epochs(epochs)
    assert again.class_names == ("left", "left/slow", "tongue") and again.tmin == pytest.approx(trials.tmin)
    assert [again.class_names[k] for k in again.label] == [CLASSES[k] for k in LABEL]
    np.testing.assert_allclose(again.signal, trials.signal, rtol=1e-6)
    pd.testing.assert_frame_equal(again.metadata, trials.metadata)


def test_trials_that_were_chosen_keep_their_rows(trials, maps):
    some = trials.subset([5, 1, 2])
    epochs = xs.to_epochs(some, maps[[5, 1, 2]])
    assert epochs.metadata["run"].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(xs.to_array(epochs["hit"]), maps[[5, 2]])
    np.testing.assert_array_equal(xs.to_array(epochs["left"]), maps[[1]])
    np.testing.assert_array_equal(
        xs.to_array(xs.to_spectrum(some, maps[[5, 1, 2], :, :11])["hit"]), maps[[5, 2], :, :11]
    )


def test_a_continuous_label_is_in_the_metadata_and_no_label_is_nowhere(trials, maps):
    times = np.linspace(0.3, 0.9, N_TRIALS).astype(np.float32)
    continuous = replace(trials, label=times, class_names=())
    epochs = xs.to_epochs(continuous)
    np.testing.assert_array_equal(epochs.metadata["label"], times)
    assert epochs.event_id == {"trial": 1}
    np.testing.assert_array_equal(xs.from_epochs(epochs, label="label").label, times)
    ((name, evoked),) = xs.to_evoked(replace(trials, label=None, class_names=()), maps).items()
    assert (name, evoked.nave) == ("trial", N_TRIALS)
    assert "label" not in xs.to_epochs(replace(trials, label=None, class_names=())).metadata


def test_evoked_relevance_is_the_mean_of_each_class(trials, maps):
    attribution = xs.Attribution(maps, method="deep_lift")
    evoked = xs.to_evoked(trials, attribution)
    assert list(evoked) == ["left", "left/slow", "tongue"]
    for name, each in evoked.items():
        of_class = maps[CLASSES.index(name) == LABEL]
        np.testing.assert_allclose(xs.to_array(each), of_class.mean(0), rtol=1e-5)
        assert (each.nave, each.comment) == (len(of_class), f"{name}: relevance (deep_lift)")
        np.testing.assert_allclose(each.times, trials.times)
    assert xs.to_evoked(trials)["left"].comment == "left: recording"
    assert "deep_lift" in evoked["left"].info["description"]


def test_figures_of_mne_show_the_numbers_of_the_map(trials, maps):
    epochs, evoked = xs.to_epochs(trials, maps), xs.to_evoked(trials, maps)
    (fig,) = epochs.plot_image(picks=["C3"], sigma=0, units={"eeg": "logit"}, show=False)
    np.testing.assert_allclose(fig.axes[0].images[0].get_array(), maps[:, NAMES.index("C3")], rtol=1e-5)

    mean = maps[LABEL == 0].mean(0)
    fig = evoked["left"].plot_topomap([0.0], units="logit", res=256, show=False)
    assert fig.axes[1].get_title() == "logit"
    pixels = shown_at_electrodes(fig.axes[0], epochs.info)
    np.testing.assert_allclose(pixels, mean[:, 5], atol=0.05 * np.ptp(mean[:, 5]))
    assert fig.axes[0].images[0].get_clim() == pytest.approx((-np.abs(mean[:, 5]).max(), np.abs(mean[:, 5]).max()))

    fig = evoked["left"].plot(units={"eeg": "logit"}, show=False)
    lines = np.array([line.get_ydata() for line in fig.axes[0].lines if len(line.get_ydata()) == N_TIMES])
    np.testing.assert_allclose(lines, mean, rtol=1e-5)

    (fig,) = mne.viz.plot_compare_evokeds(evoked, picks="C4", show=False)
    drawn = {line.get_label(): line.get_ydata() for line in fig.axes[0].lines if len(line.get_ydata()) == N_TIMES}
    np.testing.assert_allclose(drawn["left"], mean[NAMES.index("C4")], rtol=1e-5)


def test_data_frames_of_mne_hold_the_numbers_of_the_map(trials, maps):
    table = xs.to_epochs(trials, maps).to_data_frame(long_format=True, verbose=False)
    assert len(table) == maps.size
    values = table.sort_values(["epoch", "channel", "time"])["value"].to_numpy().reshape(maps.shape)
    order = [list(table["channel"].cat.categories).index(name) for name in NAMES]
    np.testing.assert_allclose(values[:, order], maps, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Zero value in PSD")
@pytest.mark.parametrize("n_times", [20, 21])
def test_spectra_of_mne_show_the_relevance_of_each_frequency(trials, maps, n_times):
    trials = replace(trials, signal=trials.signal[:, :, :n_times])
    multiplier = maps[:, :, :n_times]
    attribution = xs.Attribution(trials.signal * multiplier, multiplier, np.zeros_like(multiplier[:1]))
    relevance = xs.frequency_relevance(attribution, trials)
    spectrum = xs.to_spectrum(trials, relevance)
    np.testing.assert_array_equal(spectrum.freqs, np.fft.rfftfreq(n_times, 1 / SFREQ))
    np.testing.assert_array_equal(spectrum.events[:, 2], LABEL + 1)
    total = xs.to_array(spectrum, float).sum((1, 2))
    np.testing.assert_allclose(total, attribution.values.sum((1, 2)), rtol=1e-3)  # the zero frequency with the others

    mean, inside = relevance.mean(0), (spectrum.freqs > 4) & (spectrum.freqs < 13)
    fig = spectrum.plot_topomap({"alpha": (4, 13)}, agg_fun=np.sum, res=256, show=False)
    band = mean[:, inside].sum(1)
    pixels = shown_at_electrodes(fig.axes[0], spectrum.info)
    np.testing.assert_allclose(pixels, band, atol=0.05 * np.ptp(band))
    fig = spectrum.plot(dB=False, amplitude=False, show=False)
    lines = np.array([line.get_ydata() for line in fig.axes[0].lines if len(line.get_ydata()) == len(spectrum.freqs)])
    np.testing.assert_allclose(lines, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(xs.to_array(spectrum.average()), mean, rtol=1e-4, atol=1e-6)


def test_a_cluster_test_of_mne_finds_where_maps_differ_from_zero(trials, maps):
    epochs = xs.to_epochs(trials, 0.1 * (maps - 0.5))
    planted = 0.1 * (maps - 0.5)
    planted[:, NAMES.index("Cz"), 8:14] += 1
    planted[:, NAMES.index("C3"), 8:14] += 1
    epochs = xs.to_epochs(trials, planted)
    adjacency, names = mne.channels.find_ch_adjacency(epochs.info, "eeg")
    assert tuple(names) == NAMES
    data = epochs.get_data().transpose(0, 2, 1)
    statistic, clusters, p, _ = mne.stats.spatio_temporal_cluster_1samp_test(
        data, threshold=5.0, adjacency=adjacency, n_permutations=256, out_type="mask", verbose=False
    )
    np.testing.assert_allclose(statistic, scipy.stats.ttest_1samp(planted, 0).statistic.T, rtol=1e-3)
    best = clusters[np.argmin(p)]
    assert p.min() < 0.05 and best[8:14, [NAMES.index("Cz"), NAMES.index("C3")]].all()
    assert best.sum() <= 18


def test_filters_and_patterns_are_those_of_data_in_volts(trials):
    model = xs.build_decoder("InterpretableCNN", trials, kernel_length=9, n_spatial=3, depth=1)
    filters = xs.read_filters(model, sfreq=SFREQ)
    patterns = xs.filter_patterns(filters, trials)
    spatial = xs.to_spatial_filter(filters, patterns, trials.info)
    output = spatial.filters @ xs.to_epochs(trials).get_data()
    np.testing.assert_allclose(output, filters.unit_filters @ trials.signal, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        np.sum(spatial.filters * spatial.patterns, 1), np.sum(filters.unit_filters * patterns, 1)
    )
    assert spatial.patterns_method == "haufe"
    for draw, options, expected in (
        (spatial.plot_patterns, {"units": "µV"}, patterns),
        (spatial.plot_filters, {"scalings": 1e-6}, filters.unit_filters),
    ):
        fig = draw([1], res=256, show=False, **options)
        shown = shown_at_electrodes(fig.axes[0], trials.info)
        np.testing.assert_allclose(shown, expected[1], atol=0.05 * np.ptp(expected[1]))
    again = xs.to_spatial_filter(filters.unit_filters, patterns, trials.info)
    np.testing.assert_array_equal(again.filters, spatial.filters)


def test_current_source_densities_are_shown_as_they_are_too(trials, maps):
    info = trials.info.copy()
    info = mne.create_info(NAMES, SFREQ, "csd")
    density = replace(trials.standardise(), info=info)
    epochs = xs.to_epochs(density, maps)
    np.testing.assert_array_equal(xs.to_array(epochs), maps)
    np.testing.assert_allclose(epochs.get_data(units="mV/m²"), maps, rtol=1e-6)


def test_projectors_of_a_recording_are_left_out_of_maps_and_the_trials_stay_as_they_are(trials, maps):
    raw = mne.EpochsArray(trials.signal, trials.info, verbose=False).set_eeg_reference(projection=True, verbose=False)
    trials = replace(trials, info=raw.info)
    assert len(xs.to_epochs(trials).info["projs"]) == 1
    assert not xs.to_epochs(trials, maps).info["projs"]
    assert len(trials.info["projs"]) == 1 and not trials.info["description"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t, m: xs.to_epochs(t, m[:3]), ValueError, r"maps has shape \(3, .*expected \(8, .*trials\.subset"),
        (lambda t, m: xs.to_evoked(t, m[:, :, 0]), ValueError, r"maps has shape \(8, 13\); expected \(8, 13, 21\)"),
        (lambda t, m: xs.to_spectrum(t, m), ValueError, r"relevance has shape .* expected \(8, 13, 11\)"),
        (lambda t, m: xs.to_array(m), TypeError, "instance is a ndarray; expected epochs, an evoked"),
        (lambda t, m: xs.to_spatial_filter(m[0, :, :3], m[0, :, :3], t.info), ValueError, r"\(13, 3\).*\(unit, 13\)"),
        (lambda t, m: xs.to_spatial_filter(m[:, :, 0], m[:2, :, 0], t.info), ValueError, r"\(8, 13\).*\(2, 13\)"),
        (
            lambda t, m: xs.to_epochs(replace(t, info=mne.create_info(NAMES, SFREQ, ["misc"] + ["eeg"] * 12))),
            ValueError,
            "of the type misc; expected EEG",
        ),
    ],
)
def test_errors_say_what_to_do(trials, maps, call, error, message):
    with pytest.raises(error, match=message):
        call(trials, maps)
