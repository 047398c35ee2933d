"""Maps of groups: against formulas by hand, a brute-force test, and groups without an effect."""

import itertools
import warnings

import mne
import numpy as np
import pytest
from scipy import stats

import eegxai_support as xs

CHANNELS = ["F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4"]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def info():
    return mne.create_info(CHANNELS, 100.0, "eeg").set_montage("colin27_1005")


def two_classes(n_units=12, effect=0.0, n_places=6, rng=RNG):
    """Maps of both classes of each unit, that at C3 and places 2 and 3 differ, on scales of their own."""
    maps = rng.standard_normal((n_units, 2, len(CHANNELS), n_places))
    maps[:, 1, 3, 2:4] += effect
    return maps * rng.lognormal(0, 2, (n_units, 1, 1, 1))


def scaled(maps):
    return np.stack([each / np.sqrt((each**2).mean()) for each in maps])


def test_numbers_are_those_of_the_formulas(info):
    maps = two_classes(effect=2.0)
    found = xs.group_map(maps, info, n_permutations=64).all
    contrast = scaled(maps)[:, 1] - scaled(maps)[:, 0]
    np.testing.assert_allclose(found.mean, contrast.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.test.t, stats.ttest_1samp(contrast, 0).statistic, rtol=1e-10)
    g = contrast.mean(0) / contrast.std(0, ddof=1) * (1 - 3 / 43)
    np.testing.assert_allclose(found.effect_size, g, rtol=1e-10)
    half = 1.959963985 * np.sqrt(1 / 12 + g**2 / 24)
    np.testing.assert_allclose(found.effect_low, g - half, rtol=1e-6)
    np.testing.assert_allclose(found.effect_high, g + half, rtol=1e-6)
    assert found.prevalence is None and found.units == tuple(range(1, 13))
    assert found.test.p_value[3, 2:4].max() < 0.05


def test_no_unit_speaks_louder_for_its_scale(info):
    maps = two_classes(effect=1.0)
    louder = maps.copy()
    louder[3] *= 1e6
    one, other = (xs.group_map(each, info, n_permutations=64).all for each in (maps, louder))
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-9)
    np.testing.assert_allclose(one.test.p_value, other.test.p_value)


def test_clusters_are_those_of_every_flip_of_signs(info):
    """Of six units all 64 flips are taken: the largest sum of t over neighbours, by a loop."""
    maps = np.random.default_rng(3).standard_normal((6, 2, len(CHANNELS), 1))
    maps[:, 1, [3, 4, 8], 0] += 3  # C3 and Cz are neighbours
    found = xs.group_map(maps, info, n_permutations=1024).all.test
    contrast = (scaled(maps)[:, 1] - scaled(maps)[:, 0])[:, :, 0]
    neighbours = mne.channels.find_ch_adjacency(info, "eeg")[0].toarray().astype(bool)
    threshold = stats.t.ppf(0.975, 5)

    def sums(values):
        t = stats.ttest_1samp(values, 0).statistic
        largest, found = [0.0], {}
        for sign in (1, -1):
            left = set(np.flatnonzero(sign * t > threshold))
            while left:
                cluster, border = set(), {left.pop()}
                while border:
                    cluster |= border
                    border = {j for i in border for j in np.flatnonzero(neighbours[i])} & left
                    left -= border
                largest.append(abs(t[list(cluster)].sum()))
                found[frozenset(cluster)] = largest[-1]
        return max(largest), found

    flips = [sums(np.array(signs)[:, None] * contrast)[0] for signs in itertools.product((1, -1), repeat=6)]
    _, clusters = sums(contrast)
    assert clusters
    for cluster, size in clusters.items():
        expected = np.mean(np.array(flips) >= size - 1e-9)
        np.testing.assert_allclose(found.p_value[sorted(cluster), 0], expected, atol=1e-12)


def with_null(n_units=20, n_draws=19, showing=0, n_places=4, rng=None):
    """Maps of one class and their null; in some units C3 has more relevance than any draw."""
    rng = rng or np.random.default_rng(1)
    values = 5 + rng.standard_normal((n_units, n_draws + 1, len(CHANNELS), n_places))
    values[:showing, 0, 3, 1] += 30
    return values[:, 0], values[:, 1:]


def test_relevance_that_all_decoders_have_is_no_effect(info):
    """Every map is large everywhere; only what the null lacks counts."""
    maps, null = with_null(showing=20)
    found = xs.group_map(maps, info, null, n_permutations=200).all
    assert found.test.p_value[3, 1] < 0.05 and found.mean[3, 1] > 1
    quiet = xs.group_map(*with_null()[:1], info, with_null()[1], n_permutations=200).all
    assert quiet.test.p_value.min() > 0.05 and np.abs(quiet.mean).max() < 0.3
    expected = scaled(maps) - np.stack([scaled(each) for each in null]).mean(1)
    np.testing.assert_allclose(found.mean, expected.mean(0), rtol=1e-9)


@pytest.mark.parametrize("showing", [0, 12, 20])
def test_prevalence_is_that_of_the_formula(info, showing):
    """Of 20 units so many are significant at C3: (k / n - alpha) / (1 - alpha), and a truncated beta by quadrature."""
    maps, null = with_null(showing=showing)
    found = xs.group_map(maps, info, null, n_permutations=8).all
    k = round((0.05 + 0.95 * found.prevalence[3, 1]) * 20) if found.prevalence[3, 1] > 0 else None
    assert k is None or k >= showing
    if showing == 20:
        assert found.prevalence[3, 1] == pytest.approx(1) and found.prevalence_high[3, 1] < 1
    gamma = np.linspace(0, 1, 200_001)
    if k is not None:
        density = stats.binom.pmf(k, 20, 0.05 + 0.95 * gamma)
        below = np.cumsum(density) / density.sum()
        ends = gamma[[np.searchsorted(below, q) for q in (0.025, 0.975)]]
        np.testing.assert_allclose([found.prevalence_low[3, 1], found.prevalence_high[3, 1]], ends, atol=2e-4)
    assert (found.prevalence_low <= found.prevalence_high).all() and found.prevalence_low.min() >= 0


def test_the_test_within_a_unit_has_its_level(info):
    """Where there is no effect one unit in twenty is significant at a point: the map is one of twenty alike."""
    maps, null = with_null(n_units=400, n_draws=19)
    found = xs.group_map(maps, info, null, n_permutations=2).all
    # Shares of 400 units spread by 0.0115 about zero, and what is below is cut: the mean of the rest is 0.0046.
    assert found.prevalence.mean() == pytest.approx(0.0046, abs=0.003)


def test_without_enough_draws_there_is_no_prevalence(info):
    maps, null = with_null(n_draws=18)
    found = xs.group_map(maps, info, null, n_permutations=8).all
    assert found.prevalence is found.prevalence_low is found.prevalence_high is None


def test_both_groups_are_reported(info):
    maps = two_classes(10, effect=2.0)
    known = np.arange(10) % 3 > 0
    names = [f"S{k:03d}" for k in range(10)]
    found = xs.group_map(maps, info, units=names, above_chance=known, n_permutations=32)
    only = xs.group_map(maps[known], info, n_permutations=32)
    np.testing.assert_array_equal(found.above_chance.test.p_value, only.all.test.p_value)
    assert found.left_out == ("S000", "S003", "S006", "S009") and len(found.all.units) == 10
    assert found.above_chance.units == tuple(name for name in names if name not in found.left_out)
    assert only.above_chance is None and only.left_out == ()
    null = np.stack([two_classes(10) for _ in range(19)], axis=1)
    with_it = xs.group_map(maps, info, null, above_chance=known, n_permutations=8).above_chance
    alone = xs.group_map(maps[known], info, null[known], n_permutations=8).all
    np.testing.assert_array_equal(with_it.mean, alone.mean)
    np.testing.assert_array_equal(with_it.prevalence, alone.prevalence)
    assert xs.group_map(maps, info, above_chance=np.arange(10) < 1, n_permutations=8).above_chance is None


def test_channels_alone_will_do_with_a_null(info):
    maps, null = with_null(showing=20)
    found = xs.group_map(maps[..., 1], info, null[..., 1], n_permutations=64).all
    assert found.mean.shape == (9, 1) and found.test.p_value[3, 0] < 0.05


def test_differences_have_a_null_too(info):
    rng = np.random.default_rng(4)
    null = np.stack([two_classes(8, rng=rng) for _ in range(19)], axis=1)
    found = xs.group_map(two_classes(8, effect=4.0, rng=rng), info, null, n_permutations=64).all
    assert found.prevalence[3, 2] > 0.5 and found.test.p_value[3, 2] < 0.05


def test_skewed_relevance_is_no_effect(info):
    """Of 150 groups of lognormal maps that are all alike about one in twenty is called one; by signs it was 44 %."""
    rng, hits = np.random.default_rng(6), 0
    for seed in range(150):
        values = rng.lognormal(0, 1, (12, 6, len(CHANNELS), 3))
        found = xs.group_map(values[:, 0], info, values[:, 1:], n_permutations=40, seed=seed).all
        hits += found.test.p_value.min() <= 0.05
    assert 0.001 < stats.binomtest(int(hits), 150, 0.05).pvalue, hits


def test_redrawn_clusters_are_those_of_every_choice(info):
    """Of six units with a map and one draw each there are 64 choices: p-values by a loop over all of them."""
    rng = np.random.default_rng(8)
    values = rng.lognormal(0, 1, (6, 2, len(CHANNELS), 1))
    values[:, 0, 3:5] += 6
    found = xs.group_map(values[:, 0], info, values[:, 1:], n_permutations=4000).all.test
    each = scaled(values.reshape(12, len(CHANNELS), 1)).reshape(6, 2, -1)
    neighbours = mne.channels.find_ch_adjacency(info, "eeg")[0].toarray().astype(bool)

    def largest(t):
        best = 0.0
        for sign in (1, -1):
            left = set(np.flatnonzero(sign * t > stats.t.ppf(0.975, 5)))
            while left:
                cluster, border = set(), {left.pop()}
                while border:
                    cluster |= border
                    border = {j for i in border for j in np.flatnonzero(neighbours[i])} & left
                    left -= border
                best = max(best, abs(t[list(cluster)].sum()))
        return best

    def t_of(choice):
        own = each[np.arange(6), choice]
        return stats.ttest_1samp(own - each[np.arange(6), 1 - np.array(choice)], 0).statistic

    observed = t_of([0] * 6)
    np.testing.assert_allclose(found.t[:, 0], observed, rtol=1e-9)
    every = np.array([largest(t_of(choice)) for choice in itertools.product((0, 1), repeat=6)])
    assert largest(observed) > 0
    assert found.p_value.min() == pytest.approx((every >= largest(observed) - 1e-9).mean(), abs=0.02)
    assert found.smallest_p_value == 1 / 64


def test_few_units_are_told_that_they_are_few(info):
    with pytest.warns(UserWarning, match=r"Of 5 units no p-value falls below 0.062"):
        xs.group_map(two_classes(5), info)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xs.group_map(two_classes(6), info, n_permutations=8)


def test_names_of_electrodes_will_do_and_others_are_refused(info):
    maps = two_classes(8)
    named = mne.create_info(CHANNELS, 100.0, "eeg")
    one, other = (xs.group_map(maps, it, n_permutations=32).all.test for it in (info, named))
    np.testing.assert_allclose(one.p_value, other.p_value)
    with pytest.raises(ValueError, match=r"position|place"):
        xs.group_map(maps, mne.create_info([f"x{k}" for k in range(9)], 100.0, "eeg"))
    with pytest.raises(ValueError, match="have 2 channels; clusters over the head need 3"):
        xs.group_map(maps[:, :, :2], mne.create_info(CHANNELS[:2], 100.0, "eeg"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maps": np.ones((8, 9, 4))}, "against zero only.*Give the maps of two classes"),
        ({"maps": np.ones((8, 3, 9, 4))}, r"shape \(8, 3, 9, 4\); expected \(unit, 2, channel, place\)"),
        ({"maps": np.ones((8, 9))}, r"shape \(8, 9\)"),
        ({"maps": np.ones((8, 9, 4)), "null": np.ones((7, 5, 9, 4))}, r"null has shape \(7, 5, 9, 4\)"),
        ({"maps": np.full((8, 2, 9, 4), np.nan)}, "maps hold NaN"),
        ({"maps": np.ones((8, 9, 4)), "null": np.full((8, 5, 9, 4), np.nan)}, "null hold NaN"),
        ({"maps": np.zeros((8, 2, 9, 4)), "units": list("abcdefgh")}, "maps of a, b, c.* zero everywhere"),
        ({"maps": two_classes(8), "units": ["a"]}, "units has 1 entries; expected 8"),
        ({"maps": two_classes(8), "above_chance": np.ones(8)}, "above_chance holds float64 numbers"),
        ({"maps": two_classes(8), "above_chance": [True]}, "above_chance has 1 entries"),
    ],
)
def test_what_says_nothing_is_refused(info, given, message):
    with pytest.raises(ValueError, match=message):
        xs.group_map(**given, info=info)
