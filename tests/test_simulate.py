"""Simulated trials against formulas that the simulator does not use."""

import mne
import numpy as np
import pytest
from scipy.special import eval_legendre

from eegxai_support.simulate import EEGBCI_CHANNELS, SOURCE_RADIUS, _head, _lead_field, dipole_topography, simulate


@pytest.fixture(scope="module")
def trials():
    return simulate("spectral", n_trials=600, snr_db=-3, seed=1)


@pytest.fixture(scope="module")
def background(trials):
    return trials.signal.astype(float) - trials.truth


def test_shapes_types_and_names(trials):
    assert trials.signal.shape == trials.truth.shape == (600, 64, 250)
    assert trials.signal.dtype == trials.truth.dtype == np.float32
    assert trials.class_names == ("6 Hz", "10 Hz", "22 Hz")
    assert trials.unit == "uV"
    np.testing.assert_allclose(trials.signal.mean(axis=1), 0, atol=1e-4)  # average reference
    np.testing.assert_allclose(trials.truth.mean(axis=1), 0, atol=1e-4)


def test_snr_is_the_one_asked_for(trials, background):
    """A loop over trials: mean power of the truth over that of the background, on the support."""
    powers = []
    for truth, noise in zip(trials.truth.astype(float), background, strict=True):
        support = np.abs(truth) >= 0.05 * np.abs(truth).max()
        powers.append((support.sum(), (truth[support] ** 2).sum(), (noise[support] ** 2).sum()))
    size, signal_power, noise_power = np.array(powers).T
    measured = 10 * np.log10(signal_power.sum() / noise_power.sum())
    # Trials are independent, samples within a trial are not: the error comes from the spread over trials.
    ratio = noise_power / size
    standard_error_db = 10 / np.log(10) * ratio.std() / ratio.mean() / np.sqrt(len(trials))
    assert measured == pytest.approx(-3, abs=4 * standard_error_db)
    assert standard_error_db < 0.1


def test_amplitude_does_not_depend_on_seed_or_number_of_trials(trials):
    other = simulate("spectral", n_trials=8, snr_db=-3, seed=2)
    # The largest value of a trial depends on its phase; its analytic amplitude does not.
    assert _peak(other) == pytest.approx(_peak(trials), rel=1e-3)
    louder = simulate("spectral", n_trials=8, snr_db=17, seed=2)
    np.testing.assert_allclose(louder.truth, 10 * other.truth, rtol=1e-4, atol=1e-4)


def _peak(trials):
    fast = trials.truth[trials.label == 2, EEGBCI_CHANNELS.index("C3")]
    return np.sqrt(2 * np.max(np.sum(fast**2, axis=1)))


def test_background_has_its_amplitude_and_a_spectrum_of_one_over_f(trials, background):
    frequency = np.fft.rfftfreq(250, 1 / 250)
    power = (np.abs(np.fft.rfft(background)) ** 2).mean(axis=(0, 1))
    band = (frequency >= 2) & (frequency <= 30)  # above, white sensor noise takes over
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
    # Cortical and sensor noise, the latter less one dimension in 64: the average reference.
    expected = 10**2 + 1**2 * 63 / 64
    assert (background**2).mean() == pytest.approx(expected, rel=0.02)
    assert np.isclose(power[-1], power[-2], rtol=0.1)  # Nyquist carries as much as its neighbour


def test_background_covariance_is_that_of_many_dipoles(background):
    """Draw the dipoles one by one and send each through the lead field."""
    lattice = np.random.default_rng(0).normal(size=(4000, 3))
    lattice /= np.linalg.norm(lattice, axis=1, keepdims=True)
    gain = _lead_field(lattice[lattice[:, 2] > -0.3], EEGBCI_CHANNELS)
    expected = gain @ gain.T
    expected *= 64 * 100 / np.trace(expected)
    measured = np.einsum("nct,ndt->cd", background, background) / (600 * 250)
    assert np.corrcoef(expected.ravel(), measured.ravel())[0, 1] > 0.99


def test_truth_peaks_at_the_frequency_of_its_class(trials):
    frequency = np.fft.rfftfreq(4096, 1 / 250)
    c3 = np.abs(np.fft.rfft(trials.truth[:, EEGBCI_CHANNELS.index("C3")], 4096)) ** 2
    for label, expected in enumerate((6, 10, 22)):
        power = c3[trials.label == label].mean(axis=0)
        assert frequency[power.argmax()] == pytest.approx(expected, abs=0.2)


def test_truth_has_one_topography_one_envelope_and_random_phase(trials):
    flat = trials.truth.transpose(1, 0, 2).reshape(64, -1)
    maps, strength, _ = np.linalg.svd(flat @ flat.T)
    assert strength[1] < 1e-6 * strength[0]
    topography = dipole_topography("C3", "radial", EEGBCI_CHANNELS)
    assert abs(maps[:, 0] @ topography) / np.linalg.norm(topography) == pytest.approx(1, abs=1e-5)
    fast = trials.truth[trials.label == 2, EEGBCI_CHANNELS.index("C3")]
    rms = np.sqrt((fast**2).mean(axis=0))
    half = trials.times[rms >= rms.max() / 2]
    assert half[-1] - half[0] == pytest.approx(0.4, abs=0.03)
    assert np.mean(half) == pytest.approx(0.5, abs=0.01)
    middle = fast[:, 125] / np.abs(fast).max()
    assert abs(middle.mean()) < 4 * middle.std() / np.sqrt(len(middle))


def test_topography_is_the_column_of_mnes_forward_solution():
    """Free orientation, built for one dipole through another of MNE's entry points."""
    info, sphere = _head(EEGBCI_CHANNELS)
    c3 = info["chs"][EEGBCI_CHANNELS.index("C3")]["loc"][:3] - sphere["r0"]
    axis = c3 / np.linalg.norm(c3)
    position = sphere["r0"] + SOURCE_RADIUS * sphere.radius * axis
    dipole = mne.Dipole([0.0], position[None], [1e-8], axis[None], [100.0])
    forward, _ = mne.make_forward_dipole(dipole, sphere, info, verbose=False)
    column = forward["sol"]["data"][:, 0]
    expected = column - column.mean()
    expected /= np.abs(expected).max()
    np.testing.assert_allclose(dipole_topography("C3", "radial", EEGBCI_CHANNELS), expected, atol=1e-5)


def test_topography_follows_the_series_for_four_shells():
    """The potential of a radial dipole in concentric spheres, from its Legendre series."""
    info, sphere = _head(EEGBCI_CHANNELS)
    position = np.array([ch["loc"][:3] for ch in info["chs"]]) - sphere["r0"]
    position /= np.linalg.norm(position, axis=1, keepdims=True)
    cosine = position @ position[EEGBCI_CHANNELS.index("C3")]
    radius = [layer["rad"] / sphere.radius for layer in sphere["layers"]]
    sigma = [layer["sigma"] for layer in sphere["layers"]]
    expected = sum(_shell_coefficient(n, SOURCE_RADIUS, radius, sigma) * eval_legendre(n, cosine) for n in range(1, 60))
    expected -= expected.mean()
    measured = dipole_topography("C3", "radial", EEGBCI_CHANNELS)
    np.testing.assert_allclose(measured, expected / np.abs(expected).max(), atol=0.002)  # MNE's series has few terms


def _shell_coefficient(n, depth, radius, sigma):
    """Order n of the surface potential: continuity of potential and current at each shell, none into the air."""

    def outwards(a, b):  # a r^n + b r^-(n+1), from the innermost layer to the outermost
        for r, inner, outer in zip(radius[:-1], sigma[:-1], sigma[1:], strict=True):
            shape = np.array([[r**n, r ** -(n + 1)], [n * r ** (n - 1), -(n + 1) * r ** -(n + 2)]])
            a, b = np.linalg.solve(shape, (shape @ [a, b]) * [1, inner / outer])
        return a, b

    (a1, b1), (a2, b2) = outwards(1.0, 0.0), outwards(0.0, n * depth ** (n - 1))
    free = -(n * a2 - (n + 1) * b2) / (n * a1 - (n + 1) * b1)
    return free * (a1 + b1) + a2 + b2


def test_tangential_dipole_has_two_poles_along_the_scalp():
    topography = dipole_topography("C3", "tangential", EEGBCI_CHANNELS)
    front, back = (topography[EEGBCI_CHANNELS.index(name)] for name in ("FC3", "CP3"))
    assert front > 0.5 and back < -0.5
    assert abs(topography[EEGBCI_CHANNELS.index("C3")]) < 0.3


def test_same_seed_same_bits():
    first, again, other = (simulate("spectral", n_trials=9, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.signal, again.signal)
    np.testing.assert_array_equal(first.label, again.label)
    assert not np.array_equal(first.signal, other.signal)
    assert len(np.unique(first.signal[:, 0, 0])) == 9  # no trial twice


@pytest.mark.parametrize(("n_trials", "n_runs"), [(400, 4), (45, 3), (50, 4), (7, 7)])
def test_classes_are_balanced_within_runs_and_shuffled(n_trials, n_runs):
    trials = simulate("spectral", n_trials=n_trials, n_runs=n_runs, sfreq=80)
    for run in trials.split("run").values():
        counts = np.bincount(run.label, minlength=3)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(trials.label)
    assert counts.max() - counts.min() <= 1
    assert list(trials.split("run")) == list(range(1, n_runs + 1))
    if n_trials == 400:
        assert not np.array_equal(trials.label, np.arange(400) % 3)


def test_shape_of_an_eegbci_recording():
    trials = simulate(
        "spectral", n_trials=45, n_runs=3, sfreq=80, duration=3, tmin=1, frequencies=(10, 15, 21, 28), source="C4"
    )
    assert trials.signal.shape == (45, 64, 240)
    assert trials.tmin == 1 and trials.n_classes == 4
    power = (trials.truth**2).mean(axis=0)
    channel, time = np.unravel_index(power.argmax(), power.shape)
    assert trials.info.ch_names[channel] == "C4"
    assert trials.times[time] == pytest.approx(2.5, abs=0.1)


def test_other_electrodes():
    trials = simulate("spectral", n_trials=4, ch_names=("Fz", "C3", "Cz", "C4", "Pz", "O1", "O2", "T7", "T8"))
    assert trials.signal.shape == (4, 9, 250)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frequencies": (10,)}, "two or more different"),
        ({"frequencies": (10, 10, 20)}, "two or more different"),
        ({"frequencies": (10, 125)}, "between 0 and 125 Hz"),
        ({"n_trials": 3}, "at least one trial in every run"),
        ({"n_trials": 0, "n_runs": 0}, "at least one trial in every run"),
        ({"snr_db": np.nan}, "snr_db is nan"),
        ({"duration": 0.0}, "0 samples"),
        ({"burst_time": 2.0}, "burst peaks at 2 s"),
        ({"burst_width": 0.0}, "positive width"),
        ({"source": "c3"}, "Unknown electrode 'c3'. Did you mean 'C3'"),
        ({"orientation": "radal"}, "Did you mean 'radial'"),
        ({"ch_names": ("C3", "Cz", "C44", "Pz")}, "Unknown electrode 'C44'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        simulate("spectral", **options)


def test_unknown_regime_names_the_nearest():
    with pytest.raises(ValueError, match="Unknown regime 'spectrall'\\. Did you mean 'spectral'"):
        simulate("spectrall")
    with pytest.raises(ValueError, match="Known: spectral"):
        simulate("xyz")


def test_unknown_option():
    with pytest.raises(TypeError, match="freqs"):
        simulate("spectral", freqs=(1, 2))
