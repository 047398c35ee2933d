"""Measured band power, desynchronisation and filter-bank CSP against signals whose answer is known."""

import os
from pathlib import Path
from types import SimpleNamespace

import mne
import numpy as np
import pandas as pd
import pytest
from scipy.linalg import eigvalsh
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from eegxai_support.montages import MONTAGE
from eegxai_support.recordings import load_eegbci
from eegxai_support.spectral.measured import band_power, erds_map, event_related_desynchronisation, filter_bank_csp
from eegxai_support.trials import Trials

SFREQ = 80.0
CHANNELS = ["C3", "C1", "Cz", "C2", "C4", "Fz", "FCz", "CPz", "Pz"]  # the first of them are taken
BANDS = {"mu": (8.0, 12.0), "beta": (16.0, 24.0)}
RNG = np.random.default_rng


def trials_of(signal, label, tmin=-1.0):
    info = mne.create_info(CHANNELS[: signal.shape[1]], SFREQ, "eeg").set_montage(MONTAGE, verbose=False)
    names = tuple("abc"[: max(label) + 1])
    metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.zeros(len(label), int)})
    return Trials(signal, "uV", label, info, names, metadata, tmin=tmin)


@pytest.fixture(scope="module")
def noise():
    """Three classes of average-referenced noise whose channels covary and whose classes differ."""
    signal = RNG(0).standard_normal((60, 5, 5)) @ RNG(1).standard_normal((60, 5, 400))
    label = np.arange(60) % 3
    signal[label == 1, 0] *= 2
    return trials_of(signal - signal.mean(axis=1, keepdims=True), label)


@pytest.fixture(scope="module")
def rhythms():
    """10 and 20 Hz whose amplitudes change at the cue by known factors, per class, channel and band."""
    times = np.arange(-80, 320) / SFREQ
    factor = RNG(2).uniform(0.5, 2, (2, 3, 2))
    label = np.array([0, 0, 0, 1, 1])
    wave = np.stack([np.cos(2 * np.pi * f * times + 1) for f in (10, 20)])
    amplitude = np.where(times < 0, 1, factor[..., None])[label]
    amplitude *= np.array([1, 2, 3, 1, 5])[:, None, None, None]  # strong trials count for more
    return SimpleNamespace(trials=trials_of((amplitude * wave).sum(axis=2), label), factor=factor)


# ---- Band power ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_times", [240, 241])
def test_power_of_all_frequencies_is_the_variance_of_the_windowed_signal(noise, n_times):
    """Parseval's theorem; the mean of a density times the width of the band is power."""
    trials = noise.crop(0, n_times / SFREQ)
    n_freqs = n_times // 2 + 1
    power = band_power(trials, {"all": (0, SFREQ / 2)}, segment=n_times / SFREQ)[..., 0] * n_freqs * SFREQ / n_times
    window = hann(n_times, sym=False)
    windowed = (trials.signal - trials.signal.mean(axis=2, keepdims=True)).astype(float) * window
    np.testing.assert_allclose(power, (windowed**2).sum(axis=2) / (window**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("segment", [1.0, 2.0, 5.0])
def test_a_sinusoid_has_its_power_in_its_band(segment):
    """Density of A cos: A²/2 over the width of the bins, here 5 of 1/segment Hz around 10 Hz, and nothing elsewhere."""
    times, amplitude = np.arange(400) / SFREQ, np.array([[1.0, 2.0], [3.0, 4.0]])
    trials = trials_of(amplitude[..., None] * np.cos(2 * np.pi * 10 * times), [0, 0])
    bands = {"of it": (10 - 2 / segment, 10 + 2 / segment), "above": (10 + 3 / segment, 30.0)}
    power = band_power(trials, bands, segment=segment)
    assert power.shape == (2, 2, 2)
    np.testing.assert_allclose(power[..., 0], amplitude**2 / 2 * segment / 5, rtol=1e-5)
    assert power[..., 1].max() < 1e-10


def test_white_noise_has_one_density_for_every_band_and_length():
    trials = trials_of(RNG(3).standard_normal((200, 5, 400)), np.zeros(200, int))
    for part, segment in ((trials, 5.0), (trials, 1.0), (trials.crop(-1, 0), 1.0)):
        power = band_power(part, BANDS, segment=segment)
        # Five standard errors of the mean over trials and channels, taken as independent, as they are.
        error = power.std(axis=(0, 1)) / np.sqrt(power.shape[0] * power.shape[1])
        assert (abs(power.mean(axis=(0, 1)) - 2 / SFREQ) < 5 * error).all()


def test_unusable_bands_and_segments(noise):
    with pytest.raises(ValueError, match=r"'narrow' \(10.3-10.7 Hz\).*steps of 1 Hz"):
        band_power(noise, {"narrow": (10.3, 10.7)})
    for function in (band_power, filter_bank_csp):
        with pytest.raises(ValueError, match="segment is 6 s, 480 samples; expected 2 to 400"):
            function(noise, BANDS, segment=6.0)


# ---- Event-related desynchronisation -------------------------------------------------------------------------------


def test_a_known_change_of_amplitude_is_the_known_desynchronisation(rhythms):
    """Power goes with the square of the amplitude, whatever the length of the two intervals."""
    change = event_related_desynchronisation(rhythms.trials, BANDS, reference=(-1, 0))
    np.testing.assert_allclose(change, 100 * (rhythms.factor**2 - 1), rtol=1e-4, atol=1e-3)


def test_noise_that_does_not_change_is_not_desynchronised():
    """Coloured noise: a resolution that differed between the intervals would look like a change."""
    signal = np.cumsum(RNG(4).standard_normal((1500, 1, 800)), axis=-1)[..., 400:]
    trials = trials_of(signal - signal.mean(axis=2, keepdims=True), np.zeros(1500, int))
    intervals = {"reference": (-1, 0), "active": (1, 4)}
    bands = {"low": (2.0, 6.0), **BANDS}
    change = event_related_desynchronisation(trials, bands, **intervals)[0, 0]
    power = [band_power(trials.crop(*i), bands)[:, 0] for i in intervals.values()]
    relative = [p.std(axis=0) / p.mean(axis=0) / np.sqrt(len(p)) for p in power]
    assert (abs(change) < 500 * np.hypot(*relative)).all()  # five standard errors, in percent


def test_the_erds_map_shows_the_change_where_it_is(rhythms):
    stft = ShortTimeFFT(hann(40, sym=False), 8, SFREQ)
    change = erds_map(rhythms.trials, stft, reference=(-1, 0))
    times = rhythms.trials.tmin + stft.t(400)
    assert change.shape == (2, 3, len(stft.f), len(times))
    expected = 100 * (rhythms.factor**2 - 1)
    before, after = (times >= -0.75) & (times <= -0.25), (times >= 0.25) & (times <= 3.75)
    for band, freq in enumerate((10, 20)):
        at = change[:, :, np.isclose(stft.f, freq)][:, :, 0]
        np.testing.assert_allclose(at[..., before], 0, atol=1e-3)
        known = np.broadcast_to(expected[..., band, None], at[..., after].shape)
        np.testing.assert_allclose(at[..., after], known, rtol=1e-4, atol=1e-3)
    whole = (times >= -0.75) & (times <= 3.75)  # half a second of window fits into the trial
    assert np.isnan(change[..., ~whole]).all()
    assert np.isfinite(change[..., whole]).all()


def test_the_erds_map_is_the_ratio_of_mean_spectrograms(noise):
    """Slice by slice, for an asymmetric window and hop."""
    stft = ShortTimeFFT(np.hanning(31)[:27], 7, SFREQ)
    change = erds_map(noise, stft, reference=(-0.5, 0.5))
    spectrogram = stft.spectrogram(noise.signal)
    base = stft.spectrogram(noise.crop(-0.5, 0.5).signal)
    for label in range(3):
        chosen = noise.label == label
        whole = _slices_inside(stft, 80)
        reference = base[chosen][..., whole].mean(axis=(0, -1))[..., None]
        expected = 100 * (spectrogram[chosen].mean(axis=0) / reference - 1)
        expected[..., ~_slices_inside(stft, 400)] = np.nan
        np.testing.assert_allclose(change[label], expected, rtol=1e-4, atol=1e-3)


def _slices_inside(stft, n_times):
    first = stft.p_range(n_times)[0] * stft.hop - stft.m_num_mid + stft.hop * np.arange(stft.p_num(n_times))
    return (first >= 0) & (first + stft.m_num <= n_times)


def test_unusable_intervals_and_transforms(noise):
    with pytest.raises(ValueError, match="trials run from -1 to 4 s"):
        event_related_desynchronisation(noise, BANDS)
    with pytest.raises(ValueError, match="expected 2 to 40, "):
        event_related_desynchronisation(noise, BANDS, reference=(-0.5, 0))
    with pytest.raises(ValueError, match="stft is for 160 Hz"):
        erds_map(noise, ShortTimeFFT(hann(40), 8, 160.0), reference=(-1, 0))
    for window, hop in ((120, 8), (70, 60)):  # too long; and none of the slices lies within
        with pytest.raises(ValueError, match=f"No window of stft, {window} samples every {hop}, lies within the 80"):
            erds_map(noise, ShortTimeFFT(hann(window), hop, SFREQ), reference=(-1, 0))
    with pytest.raises(ValueError, match="No band given"):
        band_power(noise, {})


@pytest.mark.parametrize(
    "function",
    [
        lambda trials: event_related_desynchronisation(trials, BANDS),
        lambda trials: erds_map(trials, ShortTimeFFT(hann(40), 8, SFREQ)),
        lambda trials: filter_bank_csp(trials, BANDS),
    ],
)
def test_every_class_needs_a_trial(noise, function):
    with pytest.raises(ValueError, match="No trial of the class b"):
        function(noise.subset(noise.label != 1))


# ---- Filter-bank CSP -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unshrunk(noise):
    """All components of plain covariances, for which the algebra is exact."""
    csp = mne.decoding.CSP
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mne.decoding, "CSP", lambda n_components, reg, **options: csp(n_components, **options))
        return filter_bank_csp(noise, BANDS, n_components=4, segment=2.0)


def covariances(trials, label, band):
    """Covariance of class and rest, from the cross-spectra of Hann windows of 2 s that overlap by half."""
    freqs = np.fft.rfftfreq(160, 1 / SFREQ)
    inside = (freqs >= band[0]) & (freqs <= band[1])
    windows = np.stack([trials.signal[..., i : i + 160].astype(float) for i in (0, 80, 160, 240)])
    spectrum = np.fft.rfft((windows - windows.mean(axis=-1, keepdims=True)) * hann(160, sym=False))[..., inside]
    groups = [spectrum[:, mask] for mask in of_and_rest(trials, label)]
    # Twice, for the negative frequencies; MNE divides the sum over samples by one less than their number.
    return [
        2 / 160 * np.einsum("wtaf,wtbf->ab", g, g.conj()).real / (g.shape[0] * g.shape[1] * 160 - 1) for g in groups
    ]


def of_and_rest(trials, label):
    return trials.label == label, trials.label != label


CASES = [(label, index, band) for label in range(3) for index, band in enumerate(BANDS.values())]


@pytest.mark.parametrize(("label", "index", "band"), CASES)
def test_components_add_up_to_the_covariances(noise, unshrunk, label, index, band):
    assert unshrunk.patterns.shape == (3, 2, 4, 5)
    assert unshrunk.eigenvalues.shape == (3, 2, 4)
    share, pattern = unshrunk.eigenvalues[label, index], unshrunk.patterns[label, index]
    for weight, expected in zip((share, 1 - share), covariances(noise, label, band), strict=True):
        actual = np.einsum("j,ja,jb->ab", weight, pattern, pattern)
        np.testing.assert_allclose(actual, expected, atol=1e-6 * abs(expected).max())  # the signal is float32


@pytest.mark.parametrize(("label", "index", "band"), CASES)
def test_eigenvalues_come_from_both_ends_of_the_generalised_problem(noise, unshrunk, label, index, band):
    basis = np.linalg.svd(np.eye(5) - 1 / 5)[0][:, :4]  # of the average-referenced signals
    p, q = (basis.T @ covariance @ basis for covariance in covariances(noise, label, band))
    expected = eigvalsh(p, p + q)[[3, 0, 2, 1]]
    np.testing.assert_allclose(unshrunk.eigenvalues[label, index], expected, atol=1e-6)


def test_with_all_components_the_contrast_is_the_class_difference_of_band_power(noise, unshrunk):
    power = band_power(noise, BANDS, segment=2.0)
    for label in range(3):
        n_samples = np.array([mask.sum() for mask in of_and_rest(noise, label)]) * 4 * 160
        p, q = (
            power[mask].mean(axis=0) * n / (n - 1) for mask, n in zip(of_and_rest(noise, label), n_samples, strict=True)
        )
        np.testing.assert_allclose(unshrunk.contrast[label], (p - q) / (p + q), atol=1e-6)


def test_the_contrast_is_what_the_kept_components_explain(noise):
    kept, all_ = (filter_bank_csp(noise, BANDS, n_components=n) for n in (2, 4))
    np.testing.assert_array_equal(kept.patterns, all_.patterns[:, :, :2])
    assert kept.contrast.shape == (3, 5, 2)
    for label, _, _ in CASES:
        for index in range(2):
            power = all_.patterns[label, index] ** 2
            explained = (2 * kept.eigenvalues[label, index] - 1) @ power[:2]
            np.testing.assert_allclose(kept.contrast[label, :, index], explained / power.sum(axis=0))


def test_shrinkage_copes_with_fewer_coefficients_than_channels():
    """One frequency of two short trials is two real coefficients each, for nine channels."""
    signal = RNG(7).standard_normal((2, 9, 80))
    trials = trials_of(signal - signal.mean(axis=1, keepdims=True), [0, 1])
    assert np.isfinite(filter_bank_csp(trials, {"10 Hz": (10, 10)}).contrast).all()


def test_two_classes_mirror_each_other(noise):
    two = noise.subset(noise.label < 2)
    csp = filter_bank_csp(trials_of(two.signal, two.label), BANDS, n_components=4)
    np.testing.assert_allclose(csp.contrast[0], -csp.contrast[1], atol=1e-9)
    np.testing.assert_allclose(np.sort(csp.eigenvalues[0]), np.sort(1 - csp.eigenvalues[1]), atol=1e-9)


def test_a_planted_source_is_found_in_its_class_and_band():
    """A 10 Hz source with a known topography, stronger in one class."""
    topography, times = np.array([3.0, 1.0, -1.0, -1.0, -2.0]), np.arange(240) / SFREQ
    label = np.arange(80) % 2
    phase, amplitude = RNG(5).uniform(0, 2 * np.pi, (80, 1)), np.where(label, 4.0, 1.0)[:, None]
    source = amplitude * np.cos(2 * np.pi * 10 * times + phase)
    background = RNG(6).standard_normal((80, 5, 240)) / 2
    signal = background - background.mean(axis=1, keepdims=True) + topography[:, None] * source[:, None]
    csp = filter_bank_csp(trials_of(signal, label, tmin=0.0), BANDS, n_components=2)
    first = csp.patterns[1, 0, 0]
    cosine = first @ topography / np.linalg.norm(first) / np.linalg.norm(topography)
    assert abs(cosine) > 0.999
    assert csp.eigenvalues[1, 0, 0] == pytest.approx(16 / 17, abs=0.01)
    assert abs(csp.contrast[1]).argmax() == np.ravel_multi_index((0, 0), (5, 2))


def test_unusable_classes_and_components(noise):
    with pytest.raises(ValueError, match="one class, 'a'"):
        filter_bank_csp(trials_of(noise.signal, np.zeros(60, int)), BANDS)
    for n_components in (0, 5):
        with pytest.raises(ValueError, match=f"n_components is {n_components}; expected 1 to 4"):
            filter_bank_csp(noise, BANDS, n_components=n_components)
    with pytest.raises(ValueError, match="'none' "):
        filter_bank_csp(noise, {"none": (50.0, 60.0)})


# ---- A recording ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (Path(os.environ.get("MNE_DATA", "/nonexistent")) / "MNE-eegbci-data").is_dir(),
    reason="MNE_DATA names no folder with EEGBCI",
)
def test_imagined_fists_desynchronise_the_other_side():
    """Subject 42 shows the textbook picture: less power over C3 for the right fist, over C4 for the left."""
    trials, bands = load_eegbci(42, tmin=-3.0, sfreq=80.0), {"mu": (10.0, 14.0)}
    sides = [trials.info.ch_names.index(name) for name in ("C3", "C4")]
    left, right = event_related_desynchronisation(trials, bands, reference=(-3, 0))[:, sides, 0]
    contrast = filter_bank_csp(trials.crop(1, 4), bands).contrast[1, sides, 0]
    for c3, c4 in (right - left, contrast):
        assert c3 < 0 < c4
