"""Every frequency method on sources that are known: one that tells the classes apart, and one that only disturbs."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import eegxai_support as xs
from eegxai_support.patterns import pattern_interval
from eegxai_support.spectral import amplitude_gradients, amplitude_perturbation, frequency_relevance

CH_NAMES = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2"
)  # fmt: skip
PLANTED = 1  # the class of the 10 Hz burst at C3; the others have 6 and 22 Hz there


@pytest.fixture(scope="module")
def planted():
    """Return a trained network and the trials of the run that it has not seen."""
    trials = xs.simulate("spectral", n_trials=200, snr_db=0, sfreq=80, duration=2, ch_names=CH_NAMES, seed=5)
    held_out = (trials.metadata["run"] == 4).to_numpy()
    network = xs.build_decoder("ShallowFBCSPNet", trials, seed=5, **xs.RECIPES["ShallowFBCSPNet"])
    xs.train(network, trials.subset(~held_out), epochs=25, seed=5)
    known = trials.subset(held_out)
    assert (xs.predict(network, known.signal).argmax(1) == known.label).mean() > 0.8
    return network, known


def assert_planted(values, trials):
    """Find the largest value of (channel, freq) at C3 and within one bin of 10 Hz, its sign positive."""
    freqs = np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)
    channel, freq = np.unravel_index(values.argmax(), values.shape)
    assert trials.info.ch_names[channel] == "C3"
    assert abs(freqs[freq] - 10) <= freqs[1]


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("options", [{"n_iterations": 100}, {"method": "first_order"}])
def test_perturbation_finds_the_planted_source(kind, options, planted):
    """The largest correlation with the output of the class: more of it, more of 10 Hz at C3.

    Additive noise is the same at every frequency, and this network tells the source from the rest by a wide margin
    (0.13, the next 0.07); not every one does. Relative noise favours amplitudes that are large.
    """
    network, trials = planted
    effect = amplitude_perturbation(network, trials.signal, kind=kind, **options)
    assert_planted(effect.correlation[..., PLANTED], trials)
    c3 = trials.info.ch_names.index("C3")
    assert effect.p_value[c3, 20, PLANTED] < 0.05
    assert effect.low[c3, 20, PLANTED] > 0


def test_gradients_find_the_planted_source(planted):
    """The largest mean over trials of the gradient of the class's output."""
    network, trials = planted
    assert_planted(amplitude_gradients(network, trials.signal).mean(1)[PLANTED], trials)


def test_patterns_find_the_planted_source(planted):
    """The largest pattern of the mean gradients, less their mean over the classes."""
    network, trials = planted
    filters = amplitude_gradients(network, trials.signal).mean(1)
    filters -= filters.mean(0)
    assert_planted(xs.haufe_patterns(filters, np.abs(np.fft.rfft(trials.signal)))[PLANTED], trials)


@pytest.mark.filterwarnings("ignore::eegxai_support.BaselineWarning")  # all zeros is class 22 Hz to this network
@pytest.mark.parametrize("method", ["deep_lift", "integrated_gradients"])
def test_relevance_finds_the_planted_source(method, planted):
    """The largest mean relevance for the class over its own trials."""
    network, trials = planted
    x = trials.signal[trials.label == PLANTED]
    relevance = frequency_relevance(xs.attribute(network, x, PLANTED, method), x)
    assert_planted(relevance.mean(0), trials)


# --- a suppressor

SFREQ, N_TIMES, N_CHANNELS, BIN = 80, 80, 6, 10
C3, SUPPRESSOR = 0, 1


class LogAmplitude(nn.Module):
    """A linear readout of the logarithm of every channel's amplitude at 10 Hz."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight))

    def forward(self, x):
        return torch.fft.rfft(x)[..., BIN].abs().log() @ self.weight.T


def disturbed(n_trials, seed):
    """Return trials whose 10 Hz amplitude is task times arousal at C3, and arousal at the suppressor; and the task."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n_trials)
    log_amplitude = 0.3 * rng.standard_normal((n_trials, N_CHANNELS))  # independent in the other channels
    arousal = 0.6 * rng.standard_normal(n_trials)
    log_amplitude[:, C3] = 0.6 * (label - 0.5) + 0.1 * rng.standard_normal(n_trials) + arousal
    log_amplitude[:, SUPPRESSOR] = arousal
    phase = rng.uniform(0, 2 * np.pi, (n_trials, N_CHANNELS, 1))
    rhythm = np.exp(log_amplitude)[..., None] * np.cos(2 * np.pi * 10 * np.arange(N_TIMES) / SFREQ + phase)
    return rhythm + 0.02 * rng.standard_normal(rhythm.shape), label


def trained_readout():
    """Logistic regression on other trials of the same kind."""
    x, label = disturbed(1000, seed=1)
    return LogisticRegression(C=100).fit(np.log(np.abs(np.fft.rfft(x)[..., BIN])), label).coef_


def ideal_readout():
    return np.eye(1, N_CHANNELS, C3) - np.eye(1, N_CHANNELS, SUPPRESSOR)


@pytest.mark.parametrize("readout", [ideal_readout, trained_readout])
def test_suppressor_has_gradients_but_no_pattern(readout):
    """By the logarithm of the amplitudes, A times the gradient by A, since the readout is linear in it."""
    model, (x, label) = LogAmplitude(readout()), disturbed(300, seed=0)
    output = xs.predict(model, x)[:, 0]
    assert ((output > np.median(output)) == label).mean() > 0.95
    amplitude = np.abs(np.fft.rfft(x))
    filters = (amplitude_gradients(model, x) * amplitude).mean(1)
    weight = np.abs(filters[0, :, BIN])
    assert weight[SUPPRESSOR] > 0.8 * weight[C3]
    assert weight[SUPPRESSOR] > 5 * weight[2:].max()
    rho = amplitude_perturbation(model, x, kind="multiplicative", method="first_order").correlation[:, BIN, 0]
    np.testing.assert_allclose(rho, filters[0, :, BIN] / np.linalg.norm(filters), rtol=1e-9)

    pattern = xs.haufe_patterns(filters, np.log(amplitude))[0, :, BIN]
    low, high = (ends[0, :, BIN] for ends in pattern_interval(filters, np.log(amplitude), seed=0))
    assert abs(pattern[SUPPRESSOR]) < 0.1 * pattern[C3]
    assert low[SUPPRESSOR] < 0 < high[SUPPRESSOR]
    assert low[C3] > 0
    assert (low[2:] < 0).all()  # nor have the channels that nobody uses
    assert (high[2:] > 0).all()
