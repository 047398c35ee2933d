"""Haufe patterns against the explicit covariance, known sources and loops; their spread over trials and subjects."""

import tracemalloc
import warnings

import mne
import numpy as np
import pytest
from mne.decoding import LinearModel, get_coef
from scipy import stats
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage, shrunk_covariance
from sklearn.linear_model import LinearRegression

from eegxai_support.patterns import haufe_patterns, pattern_cluster_test, pattern_interval

RNG = np.random.default_rng(0)
FILTERS = RNG.standard_normal((3, 4, 5))
FEATURES = RNG.standard_normal((30, 4, 5)) * np.linspace(1, 3, 5) + 7.0
LABEL = np.repeat(["left", "right", "feet"], [8, 10, 12])


def explicit_covariance(features):
    return np.cov(features.reshape(len(features), -1), rowvar=False)


def centred_noise(n_trials, n_columns):
    noise = np.random.default_rng(1).standard_normal((n_trials, n_columns))
    return noise - noise.mean(0)


def test_equals_explicit_covariance():
    expected = FILTERS.reshape(3, -1) @ explicit_covariance(FEATURES)
    np.testing.assert_allclose(haufe_patterns(FILTERS, FEATURES).reshape(3, -1), expected, rtol=1e-12, atol=1e-12)


def test_output_covariance_equals_haufe_equation_6():
    weights, covariance = FILTERS.reshape(3, -1), explicit_covariance(FEATURES)
    expected = np.linalg.inv(weights @ covariance @ weights.T) @ weights @ covariance
    actual = haufe_patterns(FILTERS, FEATURES, output_covariance=True)
    np.testing.assert_allclose(actual.reshape(3, -1), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("output_covariance", [False, True])
@pytest.mark.parametrize("shrinkage", [None, 0, 0.3, 1, "ledoit_wolf"])
@pytest.mark.parametrize("label", [None, LABEL])
def test_every_option_acts_on_one_covariance(label, shrinkage, output_covariance):
    """Build the D × D covariance of each option, then apply the textbook formula to it."""
    classes = np.zeros(30) if label is None else label
    centred = FEATURES.reshape(30, -1).copy()
    for name in np.unique(classes):
        centred[classes == name] -= centred[classes == name].mean(0)
    covariance = centred.T @ centred / (30 - len(np.unique(classes)))
    gamma = ledoit_wolf_shrinkage(centred, assume_centered=True) if shrinkage == "ledoit_wolf" else shrinkage
    covariance = shrunk_covariance(covariance, gamma or 0)
    weights = FILTERS.reshape(3, -1)
    expected = weights @ covariance
    if output_covariance:
        expected = np.linalg.inv(weights @ covariance @ weights.T) @ expected
    options = {"label": label, "shrinkage": shrinkage, "output_covariance": output_covariance}
    actual = haufe_patterns(FILTERS, FEATURES, **options)
    np.testing.assert_allclose(actual.reshape(3, -1), expected, rtol=1e-10, atol=1e-12)


def test_ledoit_wolf_is_that_of_scikit_learn():
    covariance = LedoitWolf().fit(FEATURES.reshape(30, -1)).covariance_ * 30 / 29  # it divides by n
    actual = haufe_patterns(FILTERS, FEATURES, shrinkage="ledoit_wolf")
    np.testing.assert_allclose(actual.reshape(3, -1), FILTERS.reshape(3, -1) @ covariance, rtol=1e-10, atol=1e-12)


def test_shrinkage_of_one_feature_changes_nothing():
    expected = haufe_patterns([[2.0]], FEATURES[:, 0, :1])
    np.testing.assert_allclose(haufe_patterns([[2.0]], FEATURES[:, 0, :1], shrinkage="ledoit_wolf"), expected)


def test_a_difference_between_classes_is_not_within_them():
    features = FEATURES.reshape(30, -1)
    shifted = features + 100 * (LABEL == "left")[:, None]
    weights = FILTERS.reshape(3, -1)
    within = haufe_patterns(weights, features, label=LABEL)
    np.testing.assert_allclose(haufe_patterns(weights, shifted, label=LABEL), within, atol=1e-9)
    assert np.abs(haufe_patterns(weights, shifted) - haufe_patterns(weights, features)).max() > 100


def test_recovers_the_mixing_of_a_generative_model():
    """With the least-squares filters of x = A s + noise, the pattern is A up to the covariance of the sources."""
    sources, noise = np.split(np.linalg.qr(centred_noise(100, 8))[0], [2], axis=1)  # uncorrelated in the sample itself
    sources = sources @ [[2.0, 1.0], [0.0, 3.0]]
    mixing = np.random.default_rng(2).standard_normal((2, 6))
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


def test_amplitude_suppressor_at_10_hz_has_a_filter_but_no_pattern():
    """Arousal multiplies the 10 Hz amplitude of both channels; the other one serves only to divide it out of C3."""
    task, arousal = 5 * np.linalg.qr(centred_noise(200, 2))[0].T
    gain = np.exp([task + arousal, arousal]).T  # C3, other
    oscillation = np.sin(2 * np.pi * 10 * np.arange(250) / 250)
    features = np.log(np.abs(np.fft.rfft(gain[..., None] * oscillation))[..., [10]])  # bins are 1 Hz apart
    filters = LinearRegression().fit(features[..., 0], task).coef_.reshape(1, 2, 1)
    np.testing.assert_allclose(filters.ravel(), [1, -1], atol=1e-10)
    np.testing.assert_allclose(haufe_patterns(filters, features).ravel(), [task.var(ddof=1), 0], atol=1e-10)


def test_equals_mne_patterns():
    features = FEATURES.reshape(30, -1)[:, :6]
    # MNE divides by the covariance of these, not of the predictions.
    outputs = features @ np.random.default_rng(3).standard_normal(
        (6, 3)
    )  # MNE divides by the covariance of these, not of the predictions
    model = LinearModel(LinearRegression()).fit(features, outputs)
    actual = haufe_patterns(get_coef(model, "filters_"), features, output_covariance=True)
    np.testing.assert_allclose(actual, get_coef(model, "patterns_"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-10), ("float32", 1e-4)])
def test_dependent_outputs_give_the_patterns_of_least_norm_and_a_warning(dtype, atol):
    centred = (FILTERS - FILTERS.mean(0)).astype(dtype)  # float32 rounding must not pass for a third dimension
    with pytest.warns(UserWarning, match="rank 2"):
        patterns = haufe_patterns(centred, FEATURES.astype(dtype), output_covariance=True)
    weights, covariance = centred.reshape(3, -1).astype(float), explicit_covariance(FEATURES)
    outputs = weights @ covariance @ weights.T
    scale = np.sqrt(np.outer(np.diag(outputs), np.diag(outputs)))
    expected = np.linalg.pinv(outputs / scale, rcond=1e-10) / scale @ weights @ covariance
    np.testing.assert_allclose(patterns.reshape(3, -1), expected, atol=atol)


def test_outputs_of_different_scale_are_not_dependent():
    scales = np.array([1, 1e-6, 1e4])[:, None, None]
    expected = haufe_patterns(FILTERS, FEATURES, output_covariance=True) / scales
    np.testing.assert_allclose(haufe_patterns(scales * FILTERS, FEATURES, output_covariance=True), expected, rtol=1e-8)


def test_float32_in_float32_out():
    patterns = haufe_patterns(FILTERS.astype("float32"), FEATURES.astype("float32"))
    assert patterns.dtype == np.float32
    np.testing.assert_allclose(patterns, haufe_patterns(FILTERS, FEATURES), atol=1e-4)


def test_needs_no_square_of_the_features():
    """Their covariance would take 160 GB."""
    features = (
        np.random.default_rng(4).standard_normal((8, 200_000)).astype("float32")
    )  # their covariance would take 160 GB
    assert haufe_patterns(features[:2], features).shape == (2, 200_000)


def test_needs_no_copy_of_the_features_nor_of_a_view_of_them():
    features = np.random.default_rng(5).standard_normal((40, 64, 1000), dtype="float32")
    tracemalloc.start()
    haufe_patterns(features[:2, :, 1:], features[:, :, 1:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < features.nbytes / 4


def test_a_common_offset_costs_no_precision():
    """Whole numbers, and the same with a million more, are exact in float32."""
    features = (
        np.random.default_rng(6).integers(-100, 100, (30, 4, 5)).astype("float32")
    )  # and a million more are exact in float32
    expected = haufe_patterns(FILTERS, features)
    np.testing.assert_allclose(haufe_patterns(FILTERS, features + 1_000_000), expected, rtol=1e-9)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinkage": 1.5}, "from 0 to 1, 'ledoit_wolf' or None"),
        ({"shrinkage": "auto"}, "shrinkage is 'auto'"),
        ({"shrinkage": np.nan}, "shrinkage is nan"),
        ({"label": LABEL[:-1]}, r"label has shape \(29,\); expected \(30,\)"),
        ({"label": np.arange(30) == 4}, "class True holds 1 trial; a covariance needs at least 2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        haufe_patterns(FILTERS, FEATURES, **options)


@pytest.mark.parametrize("output_covariance", [False, True])
@pytest.mark.parametrize("label", [None, LABEL])
def test_interval_equals_a_loop_over_drawn_trials(label, output_covariance):
    classes, rng, n = np.zeros(30) if label is None else label, np.random.default_rng(3), 50
    times = np.empty((n, 30), int)
    for name in np.unique(classes):
        size = (classes == name).sum()
        times[:, classes == name] = rng.multinomial(size, np.full(size, 1 / size), size=n)
    rows = [np.repeat(np.arange(30), drawn) for drawn in times]
    weights, patterns = FILTERS.reshape(3, -1), []
    for r in rows:
        covariance = 0
        for name in np.unique(classes):
            drawn = FEATURES[r][classes[r] == name].reshape((classes == name).sum(), -1)
            # Divided by k - 1 twice over: drawing with replacement loses as many squares as a sample does.
            covariance = covariance + len(drawn) * np.cov(drawn.T)
        covariance /= len(classes) - len(np.unique(classes))
        outputs = weights @ covariance @ weights.T if output_covariance else np.eye(3)
        patterns.append(np.linalg.solve(outputs, weights @ covariance).reshape(FILTERS.shape))
    options = {"output_covariance": output_covariance, "label": label}
    actual = pattern_interval(FILTERS, FEATURES, n=n, level=0.8, seed=3, **options)
    np.testing.assert_allclose(actual, np.quantile(patterns, [0.1, 0.9], axis=0), rtol=1e-9, atol=1e-10)


def test_interval_of_a_variance_is_as_wide_as_theory_says():
    """The variance of n normal values has a standard error of sqrt(2 / (n - 1)) of itself."""
    values = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    low, high = pattern_interval(np.ones((1, 1)), values, n=2000)
    np.testing.assert_allclose(high - low, 2 * 1.96 * np.sqrt(2 / 1999), rtol=0.08)


def test_interval_keeps_to_one_type_and_needs_a_level():
    low, high = pattern_interval(FILTERS.astype("float32"), FEATURES.astype("float32"), n=20)
    assert low.dtype == high.dtype == np.float32 and (low <= high).all()
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        pattern_interval(FILTERS, FEATURES, level=95)
    with pytest.raises(ValueError, match="at least one sample"):
        pattern_interval(FILTERS, FEATURES, n=0)


@pytest.fixture(scope="module")
def info():
    names = "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 O1 O2".split()
    return mne.create_info(names, 250.0, "eeg").set_montage("colin27_1005")


def planted(info, n_subjects, effect):
    """Patterns of standard normal noise (subject, channel, 12 freqs), with an effect around C3 at freqs 4 to 6."""
    patterns = np.random.default_rng(5).standard_normal((n_subjects, len(info.ch_names), 12))
    where = np.zeros(patterns.shape[1:], bool)
    where[[[info.ch_names.index(name)] for name in ("C3", "CP5", "FC1")], [4, 5, 6]] = True
    return patterns + effect * where, where


def test_cluster_test_finds_a_planted_effect_without_a_word(info, capfd):
    patterns, where = planted(info, 12, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test = pattern_cluster_test(patterns, info, n_permutations=200)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_allclose(test.t, stats.ttest_1samp(patterns, 0).statistic, rtol=1e-10)
    found = test.p_value < 0.05
    assert found[where].all() and found.sum() < 2 * where.sum()
    for cluster in test.clusters:
        assert np.ptp(test.p_value[cluster]) == 0 and np.ptp(np.sign(test.t[cluster])) == 0
    assert (test.p_value[~test.clusters.any(0)] == 1).all()
    np.testing.assert_allclose(test.p_value * 200 % 1, 0, atol=1e-9)
    again = pattern_cluster_test(patterns, info, n_permutations=200)
    np.testing.assert_array_equal(test.p_value, again.p_value)


def test_cluster_test_finds_nothing_in_noise(info):
    assert pattern_cluster_test(planted(info, 12, 0.0)[0], info, n_permutations=200).p_value.min() > 0.05


def test_cluster_joins_neighbouring_channels(info):
    """C3, CP5 and FC1 touch each other on the scalp, so that an effect there at one frequency is one cluster."""
    patterns = planted(info, 12, 0.0)[0]
    names = [info.ch_names.index(name) for name in ("C3", "CP5", "FC1")]
    patterns[:, names, 5] += 5.0
    clusters = pattern_cluster_test(patterns, info, n_permutations=20).clusters
    assert clusters[:, names, 5].all(axis=1).sum() == 1


def test_cluster_test_of_few_subjects_is_exact(info):
    test = pattern_cluster_test(planted(info, 6, 10.0)[0], info)
    assert test.smallest_p_value == test.p_value.min() == 1 / 2**5  # t is two-sided: half of the 64 flips mirror others
    np.testing.assert_allclose(test.p_value * 2**5 % 1, 0, atol=1e-12)


def test_cluster_test_without_a_cluster(info, capfd):
    patterns = planted(info, 12, 0.0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test = pattern_cluster_test(patterns, info, threshold=50.0)
    assert test.clusters.shape == (0, *patterns.shape[1:]) and (test.p_value == 1).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((27, 12), r"expected \(subject, channel, freq\) with the 27 EEG channels"),
        ((8, 12, 27), "27 EEG channels of info"),
        ((1, 27, 12), "hold 1 subject; a test over subjects needs at least 2"),
    ],
)
def test_cluster_test_refuses_other_shapes(info, shape, message):
    with pytest.raises(ValueError, match=message):
        pattern_cluster_test(np.zeros(shape), info)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "hold NaN or infinity"), (0.0, "at 27 points")])
def test_cluster_test_refuses_points_without_a_t(info, value, message):
    patterns = planted(info, 8, 0.0)[0]
    patterns[:, :, 0] = value
    with pytest.raises(ValueError, match=message):
        pattern_cluster_test(patterns, info)
