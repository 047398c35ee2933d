"""Relevance in frequency and time-frequency against virtual inspection layers that are differentiated by autograd."""

import tracemalloc
import warnings
from functools import cache

import networks
import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT, get_window
from scipy.signal.windows import gaussian
from torch import nn

import eegxai_support as xs
from eegxai_support.attribution import core
from eegxai_support.spectral import relevance
from eegxai_support.spectral.relevance import frequency_relevance, time_frequency_relevance

DECODERS = ("EEGNet", "ShallowFBCSPNet", "Deep4Net")
TARGET = (0, 1)


def score(outputs):
    return outputs[:, TARGET[0]] - outputs[:, TARGET[1]]


def noise(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def made_up(n_times, n_trials=2, dtype="float64"):
    """Return a map of white noise, whose baseline is not zero, and its trials."""
    multiplier, x, baseline = (noise(n_trials, 3, n_times, seed=seed, dtype=dtype) for seed in range(3))
    return xs.Attribution(multiplier * (x - baseline), multiplier, baseline, method="made_up"), x


@cache
def explained(name, method, baseline, dtype=torch.float32, **options):
    """Return the maps of two trials by a small network, with zeros or other trials as baselines, and the trials."""
    x, other = noise(2, 2, networks.SIZES["n_chans"], networks.SIZES["n_times"], seed=3)
    given = {"zero": None, "trials": other}[baseline]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xs.BaselineWarning)
        return xs.attribute(networks.build(name, dtype), x, TARGET, method, baseline=given, **options), x


def fourier_synthesis(n_times):
    """Return what unit coefficients stand for, real parts and then imaginary parts, each (freq, time)."""
    unit = np.eye(n_times // 2 + 1)
    return np.fft.irfft(unit, n_times), np.fft.irfft(1j * unit, n_times)


def stft_synthesis(stft, n_times):
    """Return what unit coefficients stand for, real parts and then imaginary parts, each (coefficient, time)."""
    shape = stft.f_pts, stft.p_num(n_times)
    units = np.eye(np.prod(shape)).reshape(-1, *shape)
    return tuple(np.stack([stft.istft(part * unit, k1=n_times) for unit in units]) for part in (1, 1j))


def stft_analysis(stft, x):
    """Return the coefficients of each channel of each trial, shape (trial, channel, coefficient)."""
    return np.array([[stft.stft(channel).ravel() for channel in trial] for trial in x])


STFTS = {
    "even window": lambda: ShortTimeFFT(get_window("hann", 16), 4, 100.0),
    "odd window": lambda: ShortTimeFFT(gaussian(17, 4.0), 5, 100.0),
    "zero padded": lambda: ShortTimeFFT(get_window("hamming", 12), 3, 100.0, mfft=20),
    "odd transform": lambda: ShortTimeFFT(get_window("hann", 16), 8, 100.0, mfft=21),
    "not centred": lambda: ShortTimeFFT(get_window("hann", 16), 4, 100.0, phase_shift=None),
    "shifted": lambda: ShortTimeFFT(get_window("hann", 16), 4, 100.0, mfft=19, phase_shift=3),
    "density": lambda: ShortTimeFFT(get_window("hann", 16), 4, 100.0, scale_to="psd"),
    "magnitude": lambda: ShortTimeFFT(get_window("hann", 16), 4, 100.0, scale_to="magnitude", fft_mode="onesided2X"),
    "given dual": lambda: ShortTimeFFT.from_dual(gaussian(16, 3.0), 4, 100.0),
    "unitary": lambda: ShortTimeFFT.from_win_equals_dual(get_window("hann", 16), 4, 100.0),
    "wider dual": lambda: ShortTimeFFT(np.repeat([0, 1.0, 0], 4), 4, 100.0, dual_win=1 + np.repeat([1, 0, 1], 4)),
    "no overlap": lambda: ShortTimeFFT(np.ones(10), 10, 100.0),
}


# --- against autograd -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECODERS)
def test_equals_input_x_gradient_of_a_virtual_inspection_layer(name):
    """A layer of explicit real matrices turns coefficients into the trial; autograd explains the coefficients."""
    attribution, x = explained(name, "input_x_gradient", "zero", torch.float64)
    model, matrices = networks.build(name, torch.float64), map(torch.as_tensor, fourier_synthesis(x.shape[-1]))
    z = torch.as_tensor(np.fft.rfft(x)).requires_grad_()
    real, imaginary = matrices
    score(model(z.real @ real + z.imag @ imaginary)).sum().backward()
    expected = (z.detach() * z.grad.conj()).real.numpy()
    actual = frequency_relevance(attribution, x)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * abs(expected).max())


@pytest.mark.parametrize("n_times", [16, 15])
def test_equals_explicit_matrices_with_a_baseline(n_times):
    attribution, x = made_up(n_times)
    change = np.fft.rfft(x - attribution.baseline)
    real, imaginary = (attribution.multiplier @ matrix.T for matrix in fourier_synthesis(n_times))
    expected = change.real * real + change.imag * imaginary
    np.testing.assert_allclose(frequency_relevance(attribution, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_times", [40, 43])
@pytest.mark.parametrize("kind", STFTS)
def test_time_frequency_equals_explicit_matrices(kind, n_times):
    attribution, x = made_up(n_times)
    stft = STFTS[kind]()
    change = stft_analysis(stft, x - attribution.baseline)
    real, imaginary = (attribution.multiplier @ matrix.T for matrix in stft_synthesis(stft, n_times))
    expected = change.real * real + change.imag * imaginary
    actual = time_frequency_relevance(attribution, x, stft)
    assert actual.shape == (*x.shape[:2], len(stft.f), len(stft.t(n_times)))
    np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(actual.sum((2, 3)), attribution.values.sum(2), rtol=0, atol=1e-10)


def cross_domain_integrated_gradients(model, z, baseline, synthesise, n_nodes):
    """2 Re((z - z') times the mean of dF/dz from z' to z), by formula (Kechris et al. 2025)."""
    mean = torch.zeros_like(z)
    for node, weight in zip(*np.polynomial.legendre.leggauss(n_nodes), strict=True):
        point = (baseline + (node + 1) / 2 * (z - baseline)).requires_grad_()
        (gradient,) = torch.autograd.grad(score(model(synthesise(point))).sum(), point)
        mean += weight / 2 * gradient.conj() / 2  # torch gives twice the derivative by the conjugate
    return (2 * ((z - baseline) * mean).real).numpy()


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet"])
@pytest.mark.parametrize("domain", ["frequency", "time-frequency"])
def test_integrated_gradients_are_cross_domain_integrated_gradients(name, domain):
    options = {"n_steps": 32, "tol": np.inf, "path": "linear"}
    attribution, x = explained(name, "integrated_gradients", "trials", torch.float64, **options)
    n_times = x.shape[-1]
    if domain == "frequency":
        actual, analyse, matrices = frequency_relevance(attribution, x), np.fft.rfft, fourier_synthesis(n_times)
    else:
        stft = ShortTimeFFT(get_window("hann", 24), 12, 100.0)
        actual = time_frequency_relevance(attribution, x, stft).reshape(*x.shape[:2], -1)
        analyse, matrices = lambda signal: stft_analysis(stft, signal), stft_synthesis(stft, n_times)
    real, imaginary = map(torch.as_tensor, matrices)
    expected = cross_domain_integrated_gradients(
        networks.build(name, torch.float64),
        torch.as_tensor(analyse(x)),
        torch.as_tensor(analyse(attribution.baseline)),
        lambda z: z.real @ real + z.imag @ imaginary,
        n_nodes=32,
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * abs(expected).max())


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", ["zero", "trials"])
@pytest.mark.parametrize("name", DECODERS)
def test_integrated_gradients_are_complete(name, baseline):
    attribution, x = explained(name, "integrated_gradients", baseline)
    model = networks.build(name)
    before = np.broadcast_to(attribution.baseline, x.shape)
    change = score(xs.predict(model, x)) - score(xs.predict(model, before))
    stft = ShortTimeFFT(get_window("hann", 24), 12, 100.0)
    np.testing.assert_allclose(frequency_relevance(attribution, x).sum((1, 2)), change, rtol=1e-2)
    np.testing.assert_allclose(time_frequency_relevance(attribution, x, stft).sum((1, 2, 3)), change, rtol=1e-2)


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "deep_lift", "lrp_epsilon"])
@pytest.mark.parametrize("name", DECODERS)
def test_conserves_per_channel_in_float32(name, method):
    attribution, x = explained(name, method, "zero")
    stft = ShortTimeFFT(get_window("hann", 24), 12, 100.0)
    values = attribution.values.astype("float64")
    bound = 1e-6 * abs(values).sum(2)
    for actual in (frequency_relevance(attribution, x), time_frequency_relevance(attribution, x, stft).sum(-1)):
        assert actual.dtype == np.float32
        assert (abs(actual.sum(2, dtype="float64") - values.sum(2)) <= bound).all()


@pytest.mark.parametrize("n_times", [16, 15])
def test_white_noise_conserves_with_the_first_and_last_frequency(n_times):
    attribution, x = made_up(n_times)
    actual = frequency_relevance(attribution, x)
    change, alternating = x - attribution.baseline, (-1) ** np.arange(n_times)
    first = change.sum(2) * attribution.multiplier.sum(2) / n_times
    last = (change * alternating).sum(2) * (attribution.multiplier * alternating).sum(2) / n_times
    np.testing.assert_allclose(actual.sum(2), attribution.values.sum(2), atol=1e-13)
    np.testing.assert_allclose(actual[..., 0], first, atol=1e-13)
    if n_times % 2 == 0:
        np.testing.assert_allclose(actual[..., -1], last, atol=1e-13)


# --- what a map says --------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Multiply the trial by fixed weights and sum."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight))

    def forward(self, x):
        return (x * self.weight).sum((1, 2))[:, None]


class Power(nn.Module):
    """Log-power at a frequency of one channel: a pair of filters a quarter of a cycle apart, square, mean, log."""

    def __init__(self, channel, frequency, sfreq):
        super().__init__()
        self.channel = channel
        times = torch.arange(int(sfreq)) / sfreq
        angle = 2 * torch.pi * frequency * times
        window = torch.hann_window(len(times))
        self.filters = nn.Parameter(torch.stack([angle.cos() * window, angle.sin() * window])[:, None])

    def forward(self, x):
        filtered = nn.functional.conv1d(x[:, self.channel, None], self.filters)
        return torch.log(1 + torch.square(filtered).sum(1).mean(-1, keepdim=True))


def test_a_linear_network_that_reads_10_hz_at_c3():
    sfreq, n_times, names = 100, 200, ["Fz", "C3", "C4"]
    weight = np.zeros((3, n_times))
    weight[names.index("C3")] = np.cos(2 * np.pi * 10 * np.arange(n_times) / sfreq + 0.3)
    x = noise(4, 3, n_times)
    attribution = xs.attribute(Linear(weight).double(), x, 0, "input_x_gradient")
    actual = frequency_relevance(attribution, x)
    expected = np.zeros_like(actual)
    frequency = list(np.fft.rfftfreq(n_times, 1 / sfreq)).index(10)
    expected[:, names.index("C3"), frequency] = attribution.values.sum((1, 2))
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("method", ["integrated_gradients", "deep_lift"])
def test_finds_a_planted_source(method):
    trials = xs.simulate("spectral", n_trials=24, seed=0)
    trials = trials.subset(trials.label == trials.class_names.index("10 Hz"))
    sfreq, n_times = trials.sfreq, trials.signal.shape[-1]
    c3 = trials.info.ch_names.index("C3")
    attribution = xs.attribute(Power(c3, 10, sfreq), trials.signal, 0, method)
    actual = frequency_relevance(attribution, trials.signal).mean(0)
    channel, frequency = np.unravel_index(actual.argmax(), actual.shape)
    assert channel == c3
    assert abs(frequency - 10 * n_times / sfreq) <= 1

    stft = ShortTimeFFT(get_window("hann", int(sfreq)), int(sfreq) // 4, sfreq)
    over_time = time_frequency_relevance(attribution, trials.signal, stft).mean(0)
    channel, frequency, slice_ = np.unravel_index(over_time.argmax(), over_time.shape)
    assert channel == c3
    assert abs(stft.f[frequency] - 10) <= stft.delta_f
    power = (trials.truth[:, c3] ** 2).mean(0)
    burst = (power * np.arange(n_times)).sum() / power.sum() / sfreq
    assert abs(stft.t(n_times)[slice_] - burst) <= stft.m_num / 2 / sfreq


def test_is_stable_where_dividing_by_the_input_is_not():
    """One per cent of noise on the trials; `divided` is the published form of DFT-LRP, from the map alone."""
    model, (x, baseline) = networks.build("EEGNet", torch.float64), noise(2, 8, 3, 120, seed=3)

    def both(x):
        attribution = xs.attribute(model, x, 0, "deep_lift", baseline=baseline)
        quotient = attribution.values / (x + 1e-6)
        divided = xs.Attribution(quotient * x, quotient, np.zeros_like(x[:1]))
        return np.stack([frequency_relevance(attribution, x), frequency_relevance(divided, x)])

    before, after = both(x), both(x + 0.01 * noise(*x.shape, seed=4))
    size = np.linalg.norm(before.reshape(2, -1), axis=1)
    changed = np.linalg.norm((after - before).reshape(2, -1), axis=1) / size
    assert changed[0] < 0.05
    assert changed[1] > 0.5
    assert size[1] > 10 * size[0]


# --- memory -----------------------------------------------------------------------------------------------------------


def test_values_on_demand_are_not_multiplied(monkeypatch):
    model, x = networks.build("EEGNet"), noise(3, 3, 120, dtype="float32")
    expected = frequency_relevance(xs.attribute(model, x, 0, "deep_lift"), x)
    monkeypatch.setattr(core, "LARGE", 0)
    attribution = xs.attribute(model, x, 0, "deep_lift")
    np.testing.assert_array_equal(frequency_relevance(attribution, x), expected)
    with pytest.raises(ValueError, match="in 3 of 3 trials"):
        frequency_relevance(attribution, x + 1)
    assert "values" not in vars(attribution)


@pytest.mark.parametrize("coefficients", [1, 400])
def test_batches_change_nothing(monkeypatch, coefficients):
    attribution, x = made_up(40, n_trials=5)
    stft = STFTS["even window"]()
    expected = frequency_relevance(attribution, x), time_frequency_relevance(attribution, x, stft)
    monkeypatch.setattr(relevance, "COEFFICIENTS", coefficients)
    np.testing.assert_array_equal(frequency_relevance(attribution, x), expected[0])
    np.testing.assert_array_equal(time_frequency_relevance(attribution, x, stft), expected[1])


def test_large_maps_are_not_copied():
    attribution, x = made_up(1000, n_trials=2000, dtype="float32")
    tracemalloc.start()
    actual = frequency_relevance(attribution, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - actual.nbytes < 6 * 16 * relevance.COEFFICIENTS  # six arrays of one batch


# --- what goes in -----------------------------------------------------------------------------------------------------


def test_takes_tensors_and_other_types():
    x = noise(2, 3, 120)
    attribution = xs.attribute(networks.build("EEGNet"), x, 0, "deep_lift", baseline="trial_mean")
    expected = frequency_relevance(attribution, x.astype("float32"))
    np.testing.assert_array_equal(frequency_relevance(attribution, x), expected)
    np.testing.assert_array_equal(frequency_relevance(attribution, torch.as_tensor(x).requires_grad_()), expected)


@pytest.mark.parametrize(
    "function", [frequency_relevance, lambda *of: time_frequency_relevance(*of, STFTS["shifted"]())]
)
def test_refuses_what_has_no_multiplier_and_other_trials(function):
    attribution, x = made_up(40, n_trials=3)
    saliency = xs.Attribution(attribution.values, method="saliency")
    with pytest.raises(ValueError, match=r"'saliency' has no multiplier.*crosses zero.*deep_lift, lrp_epsilon"):
        function(saliency, x)
    with pytest.raises(ValueError, match=r"x has shape \(2, 3, 40\) but shape \(3, 3, 40\) was explained"):
        function(attribution, x[:2])
    broken = [np.where(x == x.max(), value, x) for value in (0, np.nan)]
    for other in (x[::-1], 2 * x, x - x.mean(-1, keepdims=True), x[:, ::-1], *broken):
        with pytest.raises(ValueError, match="x is not what was explained"):
            function(attribution, other)


def test_refuses_transforms_that_do_not_invert():
    attribution, x = made_up(40)
    with pytest.raises(ValueError, match="fft_mode='centered'; expected 'onesided'"):
        time_frequency_relevance(attribution, x, ShortTimeFFT(np.ones(8), 4, 100.0, fft_mode="centered"))
    with pytest.raises(ValueError, match="not invertible: choose a hop below 9"):
        time_frequency_relevance(attribution, x, ShortTimeFFT(np.ones(8), 9, 100.0))
    for hop in (4, 9):
        with pytest.raises(ValueError, match="not dual to its win"):
            time_frequency_relevance(attribution, x, ShortTimeFFT(np.ones(8), hop, 100.0, dual_win=np.ones(8)))
    with pytest.raises(ValueError, match="ceil"):
        time_frequency_relevance(attribution, x, ShortTimeFFT(np.ones(90), 9, 100.0))
