"""Simulated trials against formulas that the simulator does not use."""

from dataclasses import replace

import mne
import numpy as np
import pytest
from scipy.special import eval_legendre, i0e
from scipy.stats import multivariate_normal

from eegxai_support.montages import electrode_info
from eegxai_support.simulate import EEGBCI_CHANNELS, REGIMES, SOURCE_RADIUS, dipole_topography, simulate
from eegxai_support.simulate import head as heads
from eegxai_support.simulate import noise as noises
from eegxai_support.simulate.head import (
    CONDUCTIVITIES,
    SHELL_RADII,
    electrode_directions,
    fitted_sphere,
    fsaverage_folder,
    lead_field,
    template_trans,
)
from eegxai_support.simulate.noise import background as background_law


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
    gain = lead_field(lattice[lattice[:, 2] > -0.3], EEGBCI_CHANNELS)
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


@pytest.fixture(scope="module")
def sphere_model():
    """MNE's three shells: the same series with three terms, whose parameters its optimiser found on this machine."""
    info = electrode_info(EEGBCI_CHANNELS, 1.0)
    return mne.make_sphere_model("auto", "auto", info, relative_radii=SHELL_RADII, sigmas=CONDUCTIVITIES, verbose=False)


def test_lead_field_is_mnes_where_the_shells_have_the_factors_of_its_fit(sphere_model, monkeypatch):
    """MNE's closed form against our series: whatever the optimiser found, both get the same factors."""
    sphere, direction = sphere_model, electrode_directions(("C3",))[0]
    strength, shift = sphere["lambda"] * CONDUCTIVITIES[-1], sphere["mu"]
    monkeypatch.setattr(heads, "_shell_factor", lambda n: strength @ shift[:, None] ** (n - 1))
    info = electrode_info(EEGBCI_CHANNELS, 1.0)
    for channel in info["chs"]:  # onto the sphere
        outwards = channel["loc"][:3] - sphere["r0"]
        channel["loc"][:3] = sphere["r0"] + sphere.radius * outwards / np.linalg.norm(outwards)
    position = sphere["r0"] + SOURCE_RADIUS * sphere.radius * direction
    place = {"rr": position[None], "nn": direction[None]}
    space = mne.setup_volume_source_space(pos=place, sphere=sphere, mindist=0.0, verbose=False)
    expected = mne.make_forward_solution(info, None, space, sphere, meg=False, verbose=False)["sol"]["data"]
    expected -= expected.mean(axis=0)
    measured = lead_field(direction[None], EEGBCI_CHANNELS)
    np.testing.assert_allclose(measured, expected, atol=1e-6 * np.abs(expected).max())


def test_topography_follows_the_series_for_three_shells():
    """The potential of a radial dipole in concentric spheres, each order by solving for continuity at the shells."""
    position = electrode_directions(EEGBCI_CHANNELS)
    cosine = position @ position[EEGBCI_CHANNELS.index("C3")]
    expected = np.zeros(len(cosine))
    for n in range(1, 120):  # 0.8 ** 120 = 2e-12
        expected += _shell_coefficient(n, SOURCE_RADIUS, SHELL_RADII, CONDUCTIVITIES) * eval_legendre(n, cosine)
    expected -= expected.mean()
    measured = dipole_topography("C3", "radial", EEGBCI_CHANNELS)
    np.testing.assert_allclose(measured, expected / np.abs(expected).max(), atol=1e-9)


def test_draws_do_not_depend_on_the_axes_that_linear_algebra_found():
    """The covariance is the law; the signs and the order of its eigenvectors differ between processors."""
    noise = background_law(EEGBCI_CHANNELS, "sphere", 100, 100.0)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(noise.variance))
    other = replace(noise, axes=noise.axes[:, order] * rng.choice([-1, 1], len(order)), variance=noise.variance[order])
    first, second = (law.draw(3, np.random.default_rng(1)) for law in (noise, other))
    np.testing.assert_allclose(first, second, atol=1e-6 * 10 * 64)  # float32 sums over 64 channels of 10 µV


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
    with pytest.raises(ValueError, match="Known: temporal, spectral"):
        simulate("zzz")


def test_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match="'freqs'\\. Did you mean 'sfreq'"):
        simulate("spectral", freqs=(1, 2))
    with pytest.raises(TypeError, match="Unknown option 'frequencies'"):
        simulate("temporal", frequencies=(1, 2))


@pytest.fixture(scope="module")
def regimes():
    return {regime: simulate(regime, n_trials=240, snr_db=-5, seed=2) for regime in REGIMES}


@pytest.mark.parametrize("regime", REGIMES)
def test_snr_holds_in_every_regime(regimes, regime):
    trials = regimes[regime]
    truth, noise = trials.truth.astype(float), trials.signal.astype(float) - trials.truth
    support = np.abs(truth) >= 0.05 * np.abs(truth).max(axis=(1, 2), keepdims=True)
    noise_power = np.array([(n[s] ** 2).sum() for n, s in zip(noise, support, strict=True)])
    measured = 10 * np.log10((truth[support] ** 2).sum() / noise_power.sum())
    standard_error_db = 10 / np.log(10) * noise_power.std() / noise_power.mean() / np.sqrt(len(trials))
    assert measured == pytest.approx(-5, abs=4 * standard_error_db)


def test_temporal_peak_has_the_latency_of_its_class_and_one_topography(regimes):
    trials = regimes["temporal"]
    pz = trials.truth[:, EEGBCI_CHANNELS.index("Pz")]
    assert trials.class_names == ("200 ms", "400 ms", "600 ms", "800 ms")
    np.testing.assert_allclose(trials.times[pz.argmax(axis=1)], np.array([0.2, 0.4, 0.6, 0.8])[trials.label])
    above_half = pz >= pz.max(axis=1, keepdims=True) / 2
    np.testing.assert_allclose(above_half.sum(axis=1) / 250, 0.1, atol=0.009)
    flat = trials.truth.transpose(1, 0, 2).reshape(64, -1)
    assert np.linalg.matrix_rank(flat, tol=1e-4 * np.linalg.norm(flat)) == 1


def test_spatial_peak_lies_under_the_source_of_its_class(regimes):
    trials = regimes["spatial"]
    channel = np.abs(trials.truth).max(axis=2).argmax(axis=1)
    assert [EEGBCI_CHANNELS[c] for c in channel] == [trials.class_names[k] for k in trials.label]
    course = np.abs(trials.truth).max(axis=1)
    np.testing.assert_allclose(trials.times[course.argmax(axis=1)], 0.5)


def test_suppressor_carries_only_noise_that_the_signal_channels_share(regimes):
    trials = regimes["suppressor"]
    index = EEGBCI_CHANNELS.index("Iz")
    others = np.arange(64) != index
    assert trials.suppressor == "Iz"
    assert np.all(trials.truth[:, index] == 0)
    np.testing.assert_allclose(trials.signal[:, others].mean(axis=1), 0, atol=1e-4)  # the reference leaves it out
    shared = trials.signal[:, index].astype(float)
    assert np.sqrt((shared**2).mean()) == pytest.approx(30, rel=0.05)
    # What the suppressor predicts of the other channels is the topography of the source, nothing else.
    noise = (trials.signal - trials.truth).astype(float)
    slope = np.einsum("nct,nt->c", noise[:, others], shared) / (shared**2).sum()
    topography = dipole_topography("Cz", "radial", tuple(np.array(EEGBCI_CHANNELS)[others]))
    np.testing.assert_allclose(slope, topography, atol=0.05)
    remaining = noise[:, others] - slope[:, None] * shared[:, None]
    assert (remaining**2).mean() == pytest.approx(10**2 + 1, rel=0.05)


def test_suppressor_is_needed():
    """Without it, even the best decoder of the other channels does worse."""
    trials = simulate("suppressor", n_trials=200, snr_db=-8)
    from_all = trials.ideal_accuracy
    whole = _covariance(trials.scenario.noise)
    keep = np.array([name != "Iz" for name in EEGBCI_CHANNELS])
    component = trials.scenario.components[:, 0, keep]
    # Project on the topography of the source after whitening the channels: the noise there has one spectrum.
    weight = np.linalg.pinv(whole[np.ix_(keep, keep)], rcond=1e-6) @ component[0].max(axis=1)
    course, template = weight @ trials.signal[:, keep], weight @ component
    lag = _autocovariance(250)
    score = (
        course @ np.linalg.solve(lag, template.T)
        - np.einsum("kt,tk->k", template, np.linalg.solve(lag, template.T)) / 2
    )
    from_others = (score.argmax(axis=1) == trials.label).mean()
    assert from_all > 0.97
    assert from_others < from_all - 0.1


def _covariance(noise):
    return noise.axes * (noise.variance + 1) @ noise.axes.T


def _autocovariance(n_times):
    """Of the 1/f noise, as a matrix over time, from its definition as a sum of cosines."""
    k = np.arange(1, n_times // 2 + 1)
    power = np.concatenate([[1.0], 2.0 / k])
    power[-1] /= 2  # Nyquist
    lag = np.arange(n_times)
    row = np.cos(2 * np.pi * np.outer(lag, np.arange(n_times // 2 + 1)) / n_times) @ power
    return row[np.abs(lag[:, None] - lag)] / row[0]


@pytest.mark.parametrize("regime", REGIMES)
def test_ideal_decoder_is_the_likelihood_ratio(regime):
    """Dense covariance over channels x time; the unknown phase by SciPy's Bessel function or by brute force."""
    names = ("Cz", "C3", "Pz", "Iz")
    options = {"spatial": {"sources": ("C3", "Pz", "Cz")}, "spectral": {"frequencies": (6, 12, 20)}}.get(regime, {})
    trials = simulate(regime, n_trials=12, snr_db=-5, sfreq=64, duration=0.5, ch_names=names, n_runs=1, **options)
    noise, n_times = trials.scenario.noise, 32
    brain = noise.axes * noise.variance @ noise.axes.T
    sensor = noise.axes @ noise.axes.T
    covariance = np.kron(brain, _autocovariance(n_times)) + np.kron(sensor, np.eye(n_times))
    law = multivariate_normal(np.zeros(len(covariance)), covariance, allow_singular=True)
    null = law.logpdf(trials.signal.reshape(12, -1).astype(float))
    expected = []
    for components in trials.scenario.components:
        phases = (
            [[1.0]] if len(components) == 1 else [[np.cos(p), np.sin(p)] for p in np.linspace(0, 2 * np.pi, 400, False)]
        )
        ratios = [
            law.logpdf((trials.signal - np.tensordot(phase, components, 1)).reshape(12, -1).astype(float)) - null
            for phase in phases
        ]
        expected.append(np.log(np.mean(np.exp(ratios), axis=0)))
    np.testing.assert_allclose(trials.ideal_log_likelihood(), np.transpose(expected), rtol=1e-4, atol=1e-4)


def test_ideal_decoder_of_a_burst_is_an_energy_detector():
    """Far from the ends the sine parts are orthogonal and equal, so that log I0 of the energy is the likelihood."""
    trials = simulate("spectral", n_trials=40, snr_db=-22, frequencies=(12, 20))
    noise = trials.scenario.noise
    template = noise.whiten(trials.scenario.components)
    energy = (np.abs(template[:, 0]) ** 2).sum(axis=1)
    for x, ratio in zip(trials.signal, trials.ideal_log_likelihood(), strict=True):
        part = (noise.whiten(x).conj() * template).sum(axis=2).real
        size = np.hypot(*part.T)
        np.testing.assert_allclose(ratio, np.log(i0e(size)) + size - energy / 2, atol=0.02)


def test_ideal_accuracy_falls_with_the_noise_to_chance():
    for regime in REGIMES:
        accuracy = [simulate(regime, n_trials=200, snr_db=snr).ideal_accuracy for snr in (0, -30, -60)]
        n_classes = simulate(regime, n_trials=4).n_classes
        assert accuracy[0] > 0.99 > accuracy[1]
        assert abs(accuracy[2] - 1 / n_classes) < 4 * np.sqrt(0.25 / 200)


def test_ideal_map_is_the_absolute_truth_and_survives_subset_and_crop(regimes):
    trials = regimes["temporal"].subset(np.arange(5)).crop(0.1, 0.9)
    np.testing.assert_array_equal(trials.ideal_map, np.abs(trials.truth))
    with pytest.raises(ValueError, match="before trials are cropped or scaled"):
        trials.ideal_log_likelihood()


def test_blinks_peak_at_the_forehead_and_muscles_at_a_temple():
    clean, blinks, muscles = (
        simulate("temporal", n_trials=60, seed=5, **rate) for rate in ({}, {"blink_rate": 1.0}, {"muscle_rate": 1.0})
    )
    np.testing.assert_array_equal(clean.truth, blinks.truth)  # the artefacts are drawn last
    blink, muscle = blinks.signal - clean.signal, muscles.signal - clean.signal
    share = np.exp(-1)  # of trials without an event, Poisson
    for artefact in (blink, muscle):
        without = (np.abs(artefact).max(axis=(1, 2)) == 0).mean()
        assert abs(without - share) < 4 * np.sqrt(share * (1 - share) / 60)
    power = (blink**2).mean(axis=(0, 2))
    assert EEGBCI_CHANNELS[power.argmax()] in ("Fpz", "Fp1", "Fp2")
    assert np.abs(blink[:, EEGBCI_CHANNELS.index("Fpz")]).max() > 70
    strongest = {EEGBCI_CHANNELS[c] for c in np.abs(muscle).max(axis=2).argmax(axis=1)[np.abs(muscle).max((1, 2)) > 0]}
    assert strongest == {"T7", "T8"}
    spectrum = (np.abs(np.fft.rfft(muscle)) ** 2).mean(axis=(0, 1))
    assert spectrum[20:].sum() > 0.9 * spectrum.sum()
    with pytest.raises(ValueError, match="without artefacts"):
        _ = blinks.ideal_accuracy


def test_artefacts_leave_the_suppressor_alone():
    clean, dirty = (simulate("suppressor", n_trials=20, blink_rate=rate, muscle_rate=rate) for rate in (0, 3))
    index = EEGBCI_CHANNELS.index("Iz")
    np.testing.assert_array_equal(clean.signal[:, index], dirty.signal[:, index])
    assert not np.array_equal(clean.signal, dirty.signal)


@pytest.mark.parametrize(
    ("regime", "options", "message"),
    [
        ("temporal", {"latencies": (0.3,)}, "latencies are .* two or more different"),
        ("temporal", {"latencies": (0.3, 1.2)}, "potential peaks at 1.2 s"),
        ("spatial", {"sources": ("C3", "C3")}, "two or more different"),
        ("suppressor", {"suppressor": "Cz"}, "no signal reaches"),
        ("suppressor", {"suppressor": "iz"}, "Did you mean 'Iz'"),
        ("suppressor", {"shared_rms": 0}, "positive number of µV"),
        ("temporal", {"blink_rate": -1}, "blink_rate is -1"),
        ("temporal", {"head": "spere"}, "Did you mean 'sphere'"),
    ],
)
def test_options_of_the_regimes_out_of_range(regime, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(regime, **options)


def test_missing_template_head_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MNE_DATA", str(tmp_path))
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="fetch_fsaverage"):
        fsaverage_folder()


@pytest.fixture
def spherical_fsaverage(tmp_path, monkeypatch):
    """A template subject whose brain, skull and skin are the shells of the sphere model."""
    (radius, centre), trans = fitted_sphere(), template_trans()
    centre = mne.transforms.apply_trans(trans, centre)
    points, triangles = _icosphere()
    folder = tmp_path / "fsaverage" / "bem"
    folder.mkdir(parents=True)
    for name, share in zip(("inner_skull", "outer_skull", "outer_skin"), SHELL_RADII, strict=True):
        mne.write_surface(folder / f"{name}.surf", 1e3 * (centre + points * radius * share), triangles)
    model = mne.make_bem_model("fsaverage", ico=None, conductivity=CONDUCTIVITIES, subjects_dir=tmp_path, verbose=False)
    solution = mne.make_bem_solution(model, verbose=False)
    mne.write_bem_solution(folder / "fsaverage-5120-5120-5120-bem-sol.fif", solution, verbose=False)
    cortex = {"rr": centre + points * radius * SOURCE_RADIUS, "nn": points}
    space = mne.setup_volume_source_space(pos=cortex, mindist=0.0, verbose=False)
    mne.write_source_spaces(folder / "fsaverage-ico-5-src.fif", space, verbose=False)
    monkeypatch.setenv("SUBJECTS_DIR", str(tmp_path))


def _icosphere():
    from scipy.spatial import ConvexHull

    n = 320
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    points = np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], axis=1)
    triangles = ConvexHull(points).simplices
    corner = points[triangles]
    outwards = np.einsum("ti,ti->t", np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), corner[:, 0])
    triangles[outwards < 0] = triangles[outwards < 0][:, ::-1]
    return points, triangles


def test_template_head_agrees_with_the_shells_it_was_made_of(spherical_fsaverage):
    """Boundary elements of spheres against the series for spheres."""
    for source, orientation in (("C3", "radial"), ("Pz", "tangential")):
        series, elements = (
            dipole_topography(source, orientation, EEGBCI_CHANNELS, head) for head in ("sphere", "fsaverage")
        )
        assert np.corrcoef(series, elements)[0, 1] > 0.97
    dipole_topography.cache_clear()
    trials = simulate("temporal", n_trials=8, head="fsaverage", ch_names=EEGBCI_CHANNELS[:16], source="Cz")
    assert trials.ideal_accuracy == 1.0


@pytest.mark.parametrize(
    ("regime", "ch_names", "message"),
    [
        ("spectral", ("C3", "C3", "Cz", "C4"), "ch_names are .* two or more different"),
        ("spectral", ("C3",), "ch_names are .* two or more different"),
        ("suppressor", ("Cz", "Iz"), "ch_names are .* three or more"),
    ],
)
def test_electrodes_that_leave_no_signal(regime, ch_names, message):
    with pytest.raises(ValueError, match=message):
        simulate(regime, n_trials=4, ch_names=ch_names)


@pytest.mark.parametrize(("regime", "ch_names"), [("spectral", ("C3", "Cz")), ("suppressor", ("C3", "Cz", "Iz"))])
def test_the_fewest_electrodes_give_numbers(regime, ch_names):
    trials = simulate(regime, n_trials=4, ch_names=ch_names)
    assert np.isfinite(trials.signal).all() and np.isfinite(trials.truth).all() and np.abs(trials.truth).max() > 0


def test_noise_that_simulations_share_can_only_be_read():
    shared = noises.background(("C3", "Cz", "C4"), "sphere", 100, 100.0)
    for array in (shared.axes, shared.variance, noises.cortical_covariance(("C3", "Cz", "C4"), "sphere")):
        with pytest.raises(ValueError, match="read-only"):
            array *= 2
