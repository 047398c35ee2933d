"""Baselines by name: what they keep of a trial and what they lose."""

import numpy as np
import pytest

from eegxai_support.attribution import make_baseline

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3, 50)) + np.array([1.0, -2.0, 3.0])[:, None]
LABEL = np.array([0, 1, 1, 2])


def cross_spectra(x):
    spectrum = np.fft.rfft(x)
    return np.einsum("ncf,nkf->nckf", spectrum, spectrum.conj())


def test_zero_and_trial_mean():
    np.testing.assert_array_equal(make_baseline(X, "zero"), np.zeros_like(X))
    expected = X.mean(2)[:, :, None] * np.ones(50)
    baseline = make_baseline(X, "trial_mean")
    np.testing.assert_allclose(baseline, expected, rtol=1e-12)
    baseline[:] = 0  # the caller's own memory, not a view
    assert abs(X).min() > 0


@pytest.mark.parametrize("n_times", [50, 49, 2, 1])
def test_phase_scrambling_keeps_spectra_cross_spectra_and_mean(n_times):
    x = X[:, :, :n_times]
    scrambled = make_baseline(x, "phase_scrambled")
    assert scrambled.dtype == x.dtype and scrambled.shape == x.shape
    np.testing.assert_allclose(cross_spectra(scrambled), cross_spectra(x), atol=1e-10)
    np.testing.assert_allclose(scrambled.mean(2), x.mean(2), atol=1e-12)


@pytest.mark.parametrize("n_times", [50, 49])
def test_mean_amplitude_keeps_the_phases(n_times):
    spectrum, mean = (
        np.fft.rfft(each) for each in (X[..., :n_times], make_baseline(X[..., :n_times], "mean_amplitude"))
    )
    np.testing.assert_allclose(np.abs(mean), np.abs(spectrum).mean(0) * np.ones_like(mean.real), rtol=1e-10)
    np.testing.assert_allclose(np.angle(mean / spectrum), 0, atol=1e-10)


def test_phase_scrambling_loses_what_is_timed():
    x = np.zeros((200, 1, 64))
    x[:, 0, 20] = 1
    evoked = make_baseline(x, "phase_scrambled").mean(0)[0]
    # The mean over 200 independent trials of variance 1 / 64 each, with 64 samples to exceed five standard errors.
    assert abs(evoked - 1 / 64).max() < 5 / np.sqrt(64 * 200)


def test_phase_scrambling_of_a_trial_depends_on_its_place_and_the_seed_only():
    scrambled = make_baseline(X, "phase_scrambled", seed=1)
    np.testing.assert_array_equal(make_baseline(X[:2], "phase_scrambled", seed=1), scrambled[:2])
    np.testing.assert_array_equal(make_baseline(np.concatenate([X, X]), "phase_scrambled", seed=1)[:4], scrambled)
    assert abs(make_baseline(X, "phase_scrambled", seed=2) - scrambled).max() > 0.1
    twice = make_baseline(X[[0, 0]], "phase_scrambled")
    assert abs(twice[0] - twice[1]).max() > 0.1


@pytest.mark.parametrize("kind", ["zero", "trial_mean", "phase_scrambled", "mean_amplitude", "other_class"])
def test_the_type_stays(kind):
    assert make_baseline(X.astype("float32"), kind, label=LABEL).dtype == np.float32


@pytest.mark.parametrize("kind", ["trial_mean", "phase_scrambled"])
def test_integers_are_not_rounded(kind):
    x = np.round(10 * X).astype(int)
    np.testing.assert_allclose(make_baseline(x, kind), make_baseline(x.astype(float), kind), rtol=1e-12)


def test_other_class_draws_evenly_among_all_trials_of_other_classes():
    x, label = np.arange(4.0)[:, None, None] * np.ones((4, 2, 5)), LABEL
    drawn = np.array([make_baseline(x, "other_class", label=label, seed=seed)[:, 0, 0] for seed in range(300)])
    assert not (label[drawn.astype(int)] == label).any()
    for trial, own in enumerate(label):
        others = np.flatnonzero(label != own)
        share = (drawn[:, trial, None] == others).mean(0)
        np.testing.assert_allclose(share, 1 / len(others), atol=5 * 0.5 / np.sqrt(300))  # five standard errors
    again = make_baseline(x, "other_class", label=label, seed=5)
    np.testing.assert_array_equal(again, make_baseline(x, "other_class", label=label, seed=5))


@pytest.mark.parametrize(
    ("x", "kind", "label", "message"),
    [
        (X, "zeros", None, "Did you mean 'zero'"),
        (X, "Phase_Scrambled", None, "Did you mean 'phase_scrambled'"),
        (X[0], "zero", None, r"expected \(trial, channel, time\)"),
        (X, "other_class", None, "needs the class of each of the 4 trials"),
        (X, "other_class", LABEL[:3], r"label has shape \(3,\)"),
        (X, "other_class", np.zeros(4, int), "of one class"),
    ],
)
def test_bad_input(x, kind, label, message):
    with pytest.raises(ValueError, match=message):
        make_baseline(x, kind, label=label)
