"""Haufe patterns against the explicit covariance and against known sources."""

import numpy as np
import pytest
from mne.decoding import LinearModel, get_coef
from sklearn.linear_model import LinearRegression

from eegxai_support.patterns import haufe_patterns

RNG = np.random.default_rng(0)
FILTERS = RNG.standard_normal((3, 4, 5))
FEATURES = RNG.standard_normal((30, 4, 5)) * np.linspace(1, 3, 5) + 7.0


def explicit_covariance(features):
    return np.cov(features.reshape(len(features), -1), rowvar=False)


def centred_noise(n_trials, n_columns):
    noise = RNG.standard_normal((n_trials, n_columns))
    return noise - noise.mean(0)


def test_equals_explicit_covariance():
    expected = FILTERS.reshape(3, -1) @ explicit_covariance(FEATURES)
    np.testing.assert_allclose(haufe_patterns(FILTERS, FEATURES).reshape(3, -1), expected, rtol=1e-12, atol=1e-12)


def test_output_covariance_equals_haufe_equation_6():
    weights, covariance = FILTERS.reshape(3, -1), explicit_covariance(FEATURES)
    expected = np.linalg.inv(weights @ covariance @ weights.T) @ weights @ covariance
    actual = haufe_patterns(FILTERS, FEATURES, output_covariance=True)
    np.testing.assert_allclose(actual.reshape(3, -1), expected, rtol=1e-10, atol=1e-12)


def test_recovers_the_mixing_of_a_generative_model():
    """With the least-squares filters of x = A s + noise, the pattern is A up to the covariance of the sources."""
    sources, noise = np.split(np.linalg.qr(centred_noise(100, 8))[0], [2], axis=1)  # uncorrelated in the sample itself
    sources = sources @ [[2.0, 1.0], [0.0, 3.0]]
    mixing = RNG.standard_normal((2, 6))
    features = sources @ mixing + 0.5 * noise
    filters = np.linalg.lstsq(features, sources)[0].T
    np.testing.assert_allclose(haufe_patterns(filters, features), np.cov(sources.T) @ mixing, atol=1e-12)
    outputs = np.cov((features @ filters.T).T)
    expected = np.linalg.solve(outputs, np.cov(sources.T) @ mixing)
    np.testing.assert_allclose(haufe_patterns(filters, features, output_covariance=True), expected, atol=1e-10)


def test_suppressor_has_a_filter_but_no_pattern():
    signal, noise = np.linalg.qr(centred_noise(200, 2))[0].T
    features = np.stack([signal + noise, noise], axis=1)  # channel 1 holds only what disturbs channel 0
    filters = LinearRegression().fit(features, signal).coef_[None]
    np.testing.assert_allclose(filters, [[1, -1]], atol=1e-10)
    np.testing.assert_allclose(haufe_patterns(filters, features, output_covariance=True), [[1, 0]], atol=1e-10)


def test_equals_mne_patterns():
    features = FEATURES.reshape(30, -1)[:, :6]
    outputs = features @ RNG.standard_normal((6, 3))  # MNE divides by the covariance of these, not of the predictions
    model = LinearModel(LinearRegression()).fit(features, outputs)
    actual = haufe_patterns(get_coef(model, "filters_"), features, output_covariance=True)
    np.testing.assert_allclose(actual, get_coef(model, "patterns_"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-10), ("float32", 1e-4)])
def test_dependent_outputs_give_the_patterns_of_least_norm_and_a_warning(dtype, atol):
    centred = (FILTERS - FILTERS.mean(0)).astype(dtype)  # float32 rounding must not pass for a third dimension
    with pytest.warns(UserWarning, match="rank 2"):
        patterns = haufe_patterns(centred, FEATURES.astype(dtype), output_covariance=True)
    weights, covariance = centred.reshape(3, -1).astype(float), explicit_covariance(FEATURES)
    expected = np.linalg.pinv(weights @ covariance @ weights.T, rcond=1e-10) @ weights @ covariance
    np.testing.assert_allclose(patterns.reshape(3, -1), expected, atol=atol)


def test_float32_in_float32_out():
    patterns = haufe_patterns(FILTERS.astype("float32"), FEATURES.astype("float32"))
    assert patterns.dtype == np.float32
    np.testing.assert_allclose(patterns, haufe_patterns(FILTERS, FEATURES), atol=1e-4)


def test_needs_no_square_of_the_features():
    features = RNG.standard_normal((8, 200_000)).astype("float32")  # their covariance would take 160 GB
    assert haufe_patterns(features[:2], features).shape == (2, 200_000)


@pytest.mark.parametrize(
    ("filters", "features", "message"),
    [
        (FILTERS[:, :, :4], FEATURES, "agree after the first axis"),
        (FILTERS[0, 0], FEATURES[0, 0], "agree after the first axis"),
        (FILTERS, FEATURES[:1], "at least 2"),
        (FILTERS, np.where(FEATURES > 7, np.nan, FEATURES), "features hold NaN"),
        (np.where(FILTERS > 0, np.inf, FILTERS), FEATURES, "filters hold NaN"),
    ],
)
def test_bad_input(filters, features, message):
    with pytest.raises(ValueError, match=message):
        haufe_patterns(filters, features)
