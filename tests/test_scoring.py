"""Every column of score_maps against a loop written from its definition, and against braindecode and scikit-image."""

import copy
import json
import pickle
import warnings
from functools import partial

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.interpolate import CloughTocher2DInterpolator
from scipy.ndimage import gaussian_filter
from scipy.stats import binom
from skimage.metrics import structural_similarity

from eegxai_support.scoring import METRICS, PROTOCOLS, pearson, score_maps
from eegxai_support.scoring.chance import _random_phases, moran_surrogates, phase_surrogates
from eegxai_support.scoring.scalp import position_2d, scalp_images, spatial_modes
from eegxai_support.simulate import REGIMES, simulate

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from braindecode.visualization import metrics as peer
    from braindecode.visualization import topology

CONVERGED = {"tol": 1e-12, "maxiter": 10_000}

CHANNELS = [
    "Fz",
    "FC3",
    "FC1",
    "FCz",
    "FC2",
    "FC4",
    "C5",
    "C3",
    "C1",
    "Cz",
    "C2",
    "C4",
    "C6",
    "CP3",
    "CPz",
    "CP4",
    "Pz",
]


def smooth_maps(seed, n_trials=5, n_channels=17, n_times=40):
    noise = np.random.default_rng(seed).standard_normal((n_trials, n_channels, n_times))
    return gaussian_filter(noise, (0, 1, 2), mode="wrap")


@pytest.fixture(scope="module")
def info():
    info = mne.create_info(CHANNELS, 100.0, "eeg")
    return info.set_montage("colin27_1005")


# ------------------------------------------------------------------------------------ the definitions, trial by trial


def cosine(x, y):
    return x @ y / np.sqrt((x @ x) * (y @ y))


def top(x):
    n_top = int(np.ceil(x.size / 20))
    return np.where(x >= np.sort(x)[-n_top], x, 0.0)


def image(values, valid):
    full = np.zeros(valid.shape)
    full[valid] = values / np.abs(values).max()
    return full


def ssim(x, y, valid, data_range):
    full = structural_similarity(image(x, valid), image(y, valid), win_size=7, data_range=data_range, full=True)[1]
    rows, columns = valid.shape
    inside = [
        full[i, j]
        for i in range(3, rows - 3)
        for j in range(3, columns - 3)
        if valid[i - 3 : i + 4, j - 3 : j + 4].all()
    ]
    return np.mean(inside)


def definition(e_image, r_image, valid, protocol):
    e, r = e_image[valid], r_image[valid]
    if protocol == "accuracy":
        r = np.abs(r)
    a, g, e_plus, g_plus = np.abs(e), np.abs(r), np.maximum(e, 0), np.maximum(r, 0)
    s = g >= 0.05 * g.max() if protocol == "accuracy" else top(g) > 0
    k = s.sum()
    highest = np.argsort(a)[::-1][:k]
    is_highest = np.isin(np.arange(a.size), highest)

    def mass(x):
        return x[s].sum() / x.sum()

    def r_(x, y):
        return np.corrcoef(x, y)[0, 1]

    return {
        "Cosine_topperc_abs": cosine(top(a), top(g)),
        "Cosine_absnorm": cosine(a, g),
        "Cosine_norm": cosine(e_plus, g_plus),
        "Cosine_raw": cosine(e, r),
        "RelevanceMassAccuracy_topperc": mass(top(a)) / mass(top(g)),
        "RelevanceMassAccuracy_norm": mass(e_plus) / mass(g_plus),
        "RelevanceMassAccuracy_absnorm": mass(a) / mass(g),
        "RelevanceRankAccuracy_topK": s[highest].sum() / k,
        "Pearson_topK_vs_topperc": r_(a * is_highest, g * s),
        "Pearson_absnorm": r_(a, g),
        "Pearson_norm": r_(e_plus, g_plus),
        "Pearson_raw": r_(e, r),
        "SSIM_topperc": ssim(top(a), top(g), valid, 1),
        "SSIM_absnorm": ssim(a, g, valid, 1),
        "SSIM_norm": ssim(e_plus, g_plus, valid, 1),
        "SSIM_raw": ssim(e, r, valid, 2),
    }


def scalp_image(channel_values, info):
    """Interpolate as braindecode does, but until the slopes converge, and keep the sign of channels that share one."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(topology, "CloughTocher2DInterpolator", partial(CloughTocher2DInterpolator, **CONVERGED))
        projected = topology.project_to_topomap(channel_values, info["chs"])
    low = 0 if channel_values.min() >= 0 else -np.inf
    high = 0 if channel_values.max() <= 0 else np.inf
    return np.clip(projected, low, high), np.isfinite(projected)


@pytest.mark.parametrize("protocol", ["accuracy", "randomisation"])
def test_columns_follow_their_definition(protocol):
    maps, reference = smooth_maps(0), smooth_maps(1)
    scores = score_maps(maps, reference, protocol=protocol, n_null=0)
    valid = np.ones(maps.shape[1:], bool)
    expected = pd.DataFrame([definition(e, r, valid, protocol) for e, r in zip(maps, reference, strict=True)])
    assert list(scores) == list(METRICS)
    np.testing.assert_allclose(scores, expected[list(METRICS)], rtol=0, atol=1e-10)


@pytest.mark.parametrize("protocol", ["accuracy", "randomisation"])
def test_topographic_columns_follow_their_definition_inside_the_hull(protocol, info):
    maps, reference = smooth_maps(2, n_trials=3), smooth_maps(3, n_trials=3)
    scores = score_maps(maps, reference, info, protocol=protocol, n_null=0)
    truth = np.abs(reference) if protocol == "accuracy" else reference
    for trial in range(3):
        e, hull = scalp_image(maps[trial].mean(axis=1), info)
        r, _ = scalp_image(truth[trial].mean(axis=1), info)
        with np.errstate(invalid="ignore"):  # columns of E⁺ where R has no positive pixel in S
            expected = definition(e, r, hull, protocol)
        np.testing.assert_allclose(scores.loc[trial], [expected[c] for c in METRICS], rtol=0, atol=1e-10)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_scalp_image_has_the_sign_that_all_channels_share(sign, info):
    """Interpolation swings below zero around a lone peak, where a map without negative relevance would have some."""
    position = position_2d(info, len(CHANNELS))
    peak = torch.zeros(1, len(CHANNELS), 1)
    peak[0, CHANNELS.index("Cz")] = sign
    image, _ = scalp_images(peak, position, keep_sign=True)
    assert (sign * image >= 0).all()
    peak[0, CHANNELS.index("Fz")] = -1e-6 * sign  # one channel of the other sign, and the swing is kept
    assert (sign * scalp_images(peak, position, keep_sign=True)[0]).min() < -0.01


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("topographic", [False, True])
def test_braindecode_protocol_reproduces_braindecode(positive, topographic, info):
    maps, reference = smooth_maps(4), smooth_maps(5)
    if positive:
        maps, reference = np.abs(maps), np.abs(reference)
    maps[1] = 0.0  # skipped
    reference[2, :4] = 0.0  # fewer positive points
    maps[3, 0, 0] = np.nan
    chs_info = info["chs"] if topographic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twelve, n_skipped = peer.compute_metrics(maps, reference, chs_info)
        four, _ = peer.compute_ssim_metrics(maps, reference, chs_info)
    scores = score_maps(maps, reference, info if topographic else None, protocol="braindecode", n_null=0)
    np.testing.assert_allclose(scores, np.hstack([twelve, four]), rtol=0, atol=1e-9)
    assert scores.attrs["skipped"] == [1]
    assert n_skipped == 1


@pytest.mark.parametrize("topographic", [False, True])
def test_float32_maps_are_scored_in_float64(topographic, info):
    """Braindecode itself computes in the maps' type, and is up to 1e-7 from its own numbers for the same values."""
    maps, reference = (smooth_maps(seed).astype(np.float32) for seed in (4, 5))
    chs_info = info["chs"] if topographic else None
    twelve, _ = peer.compute_metrics(maps.astype(float), reference.astype(float), chs_info)
    four, _ = peer.compute_ssim_metrics(maps.astype(float), reference.astype(float), chs_info)
    scores = score_maps(maps, reference, info if topographic else None, protocol="braindecode", n_null=0)
    np.testing.assert_allclose(scores, np.hstack([twelve, four]), rtol=0, atol=1e-9)


def test_columns_are_those_of_braindecode_in_its_order():
    theirs = [name.removesuffix("_vs_refnorm") for name in peer.METRIC_NAMES + peer.SSIM_METRIC_NAMES]
    assert list(METRICS) == theirs


def test_window_shrinks_with_few_channels():
    maps, reference = smooth_maps(6, n_channels=6), smooth_maps(7, n_channels=6)
    scores = score_maps(maps, reference, protocol="randomisation", n_null=0)
    x, y = (m[0] / np.abs(m[0]).max() for m in (maps, reference))
    expected = structural_similarity(x, y, win_size=5, data_range=2)
    np.testing.assert_allclose(scores["SSIM_raw"][0], expected, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("topographic", [False, True])
@pytest.mark.parametrize("protocol", ["accuracy", "randomisation"])
def test_identical_maps_score_one_on_every_column(protocol, topographic, info):
    reference = smooth_maps(8)
    mean = reference.mean(axis=2)
    peak = np.take_along_axis(mean, np.abs(mean).argmax(axis=1)[:, None], axis=1)
    reference *= np.sign(peak)[:, :, None]  # a positive peak, or the columns of E⁺ may not exist
    maps = np.abs(reference) if protocol == "accuracy" else reference
    scores = score_maps(maps, reference, info if topographic else None, protocol=protocol, n_null=0)
    np.testing.assert_allclose(scores, 1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("topographic", [False, True])
@pytest.mark.parametrize("regime", REGIMES)
def test_ideal_map_scores_one_in_every_regime(regime, topographic):
    trials = simulate(regime, n_trials=12, sfreq=100.0)
    scores = score_maps(trials.ideal_map, trials.truth, trials.info if topographic else None, n_null=0)
    np.testing.assert_allclose(scores, 1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("factor", [1e-12, 1e-4, 3.0, 1e9])
@pytest.mark.parametrize("protocol", ["accuracy", "randomisation"])
def test_positive_factor_changes_nothing(protocol, factor):
    maps, reference = smooth_maps(9), smooth_maps(10)
    expected = score_maps(maps, reference, protocol=protocol, n_null=0)
    scaled = score_maps(factor * maps, reference, protocol=protocol, n_null=0)
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-10)


def test_map_that_ignores_the_weights_passes_under_braindecode_and_fails_here():
    maps = smooth_maps(11, n_trials=40)
    theirs = score_maps(maps, maps, protocol="braindecode", n_null=0).mean()
    ours = score_maps(maps, maps, protocol="randomisation", n_null=0).mean()
    for column in ("Pearson_raw", "Pearson_norm", "Cosine_raw", "SSIM_norm"):
        assert abs(theirs[column]) < 0.1  # reads as "the map changed completely"
        assert ours[column] == pytest.approx(1.0)


def test_rank_accuracy_is_relative_to_the_size_of_the_support():
    truth, found = np.zeros((1, 20, 20)), np.zeros((1, 20, 20))
    truth.flat[:100] = 1.0
    found.flat[98:100] = 1.0
    assert score_maps(found, truth, n_null=0)["RelevanceRankAccuracy_topK"][0] == pytest.approx(0.02)
    assert score_maps(found, truth, protocol="braindecode", n_null=0)["RelevanceRankAccuracy_topK"][0] == 1.0


def test_ties_for_the_last_place_share_it():
    truth = np.zeros((1, 20, 20))
    truth.flat[:100] = 1.0
    assert score_maps(np.ones((1, 20, 20)), truth, n_null=0)["RelevanceRankAccuracy_topK"][0] == pytest.approx(0.25)


def test_support_begins_at_five_percent_of_the_maximum():
    truth, found = np.zeros((1, 20, 20)), np.zeros((1, 20, 20))
    truth.flat[:10], found.flat[1:10] = [20.0] + 9 * [1.0], 1.0
    assert score_maps(found, truth, n_null=0)["RelevanceRankAccuracy_topK"][0] == pytest.approx(0.9)


def test_support_keeps_a_dense_truth_from_giving_everyone_full_marks():
    rng = np.random.default_rng(12)
    truth = np.full((200, 16, 25), 1e-3)
    truth[:, :4, :10] = 1.0  # a tenth of the points carry the signal, and none is zero
    maps = rng.standard_normal(truth.shape)
    columns = ["RelevanceMassAccuracy_absnorm", "RelevanceRankAccuracy_topK"]
    theirs = score_maps(maps, truth, protocol="braindecode", n_null=0)[columns]
    ours = score_maps(maps, truth, n_null=0)[columns]
    np.testing.assert_allclose(theirs, 1.0)
    # Hypergeometric: 40 of 400 points chosen, 40 true; the standard error of the mean of 200 trials is 0.0032.
    np.testing.assert_allclose(ours["RelevanceRankAccuracy_topK"].mean(), 0.1, atol=5 * 0.0032)
    assert ours["RelevanceMassAccuracy_absnorm"].mean() < 0.2


@pytest.mark.parametrize(("protocol", "direction"), [("accuracy", "higher"), ("randomisation", "lower")])
def test_tables_carry_the_direction_and_bounds_of_each_column(protocol, direction):
    scores = score_maps(smooth_maps(13, n_trials=30), smooth_maps(14, n_trials=30), protocol=protocol, n_null=0)
    carried = json.loads(json.dumps(scores.attrs, allow_nan=False))["metrics"]
    assert list(carried) == list(scores) == list(METRICS)
    for column, metric in METRICS.items():
        high = None if np.isinf(metric.high) else metric.high
        assert carried[column] == {"direction": direction, "low": metric.low, "high": high}
        assert scores[column].between(metric.low, metric.high).all()
    assert "metrics" not in score_maps(smooth_maps(13), smooth_maps(14), protocol="braindecode", n_null=0).attrs


# -------------------------------------------------------------------------------------------- trials without a score


@pytest.mark.parametrize("topographic", [False, True])
def test_trials_without_a_score_are_nan_and_counted(topographic, info):
    maps, reference = smooth_maps(15), smooth_maps(16)
    maps[0], reference[1], maps[2, 3, 4], maps[3] = 0.0, 0.0, np.nan, -np.abs(maps[3])
    scores = score_maps(maps, reference, info if topographic else None, n_null=0)
    assert scores.loc[:2].isna().all(axis=None)
    assert scores.loc[4].notna().all()
    no_positive = ["Cosine_norm", "RelevanceMassAccuracy_norm", "Pearson_norm", "SSIM_norm"]
    assert list(scores.columns[scores.loc[3].isna()]) == no_positive
    assert scores.attrs["n_valid"] == {c: 1 if c in no_positive else 2 for c in METRICS}


@pytest.mark.parametrize("value", [0.1, 1e-20])
def test_constant_map_has_no_correlation(value):
    reference = smooth_maps(17, n_trials=2)
    constant = np.full(reference.shape, value)
    assert score_maps(constant, reference, n_null=0)[["Pearson_raw", "Pearson_absnorm"]].isna().all(axis=None)
    assert np.isnan(pearson(constant, reference)).all()


def test_pearson_is_the_correlation_of_each_trial():
    maps, reference = smooth_maps(18), smooth_maps(19)
    expected = [np.corrcoef(e.ravel(), r.ravel())[0, 1] for e, r in zip(maps, reference, strict=True)]
    np.testing.assert_allclose(pearson(maps, reference), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pearson(torch.tensor(maps).requires_grad_(), torch.tensor(reference)), expected)


# ---------------------------------------------------------------------------------------------------- chance levels


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chance_interval_covers_independent_maps(protocol):
    n_sets, covered = 24, {null: pd.Series(0, index=list(METRICS)) for null in ("other_trial", "surrogate")}
    for seed in range(n_sets):
        maps = smooth_maps(2 * seed, n_trials=8, n_channels=8, n_times=20)
        reference = smooth_maps(2 * seed + 1, n_trials=8, n_channels=8, n_times=20)
        scores = score_maps(maps, reference, protocol=protocol, n_null=50)
        for null, levels in scores.attrs["chance"].items():
            level = pd.DataFrame(levels).T
            covered[null] += (scores.mean().between(level["low"], level["high"])).astype(int)
    # At 95 % coverage fewer than 17 of 24 has probability 4e-5.
    for null in covered:
        assert (covered[null] >= 17).all(), covered[null]


SCALP = tuple("Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz POz P4 P8 O1 O2 Iz".split())  # with all sources in it


def random_maps(shape, info, rng):
    """Draw white noise, noise that is smooth over time and channel order, and noise that is smooth over the scalp."""
    location = np.array([channel["loc"][:3] for channel in info["chs"]])
    direction = location / np.linalg.norm(location, axis=1, keepdims=True)
    scalp = np.linalg.cholesky(np.exp((direction @ direction.T - 1) / 0.35**2) + 1e-9 * np.eye(len(direction)))
    white, smooth, on_scalp = rng.standard_normal((3, *shape))
    return {
        "white": white,
        "channel_time": gaussian_filter(smooth, (0, 1, 2), mode="wrap"),
        "scalp": gaussian_filter(scalp @ on_scalp, (0, 0, 2), mode="wrap"),
    }


@pytest.mark.parametrize("view", ["channel_time", "scalp"])
def test_random_maps_score_chance_in_every_regime(view):
    rng, n_sets, n_null, kinds = np.random.default_rng(0), 10, 19, ("white", view)
    dense = ["RelevanceMassAccuracy_absnorm", "RelevanceMassAccuracy_norm", "RelevanceRankAccuracy_topK"]
    covered = pd.DataFrame(0, index=list(METRICS), columns=pd.MultiIndex.from_product([REGIMES, kinds]))
    for regime in REGIMES:
        trials = simulate(regime, n_trials=4, n_runs=1, sfreq=50.0, ch_names=SCALP)
        for _ in range(n_sets):
            maps = random_maps(trials.truth.shape, trials.info, rng)
            for kind in kinds:
                info = trials.info if view == "scalp" else None
                scores = score_maps(maps[kind], trials.truth, info, n_null=n_null)
                level = pd.DataFrame(scores.attrs["chance"]["surrogate"]).T
                assert (level.loc[dense, "high"] < 1).all()
                covered[regime, kind] += scores.mean().between(level["low"], level["high"])
    # Another draw lies between the quantiles at 2.5 and 97.5 % of 19 draws with a probability of 0.855. If so, all
    # these counts are as high as this with one of 99 %.
    for counts, n in ((covered, n_sets), (covered.sum(axis=1), n_sets * covered.shape[1])):
        assert (counts >= binom.ppf(0.01 / (4 * counts.size), n, 0.855)).all(axis=None), covered.to_string()


def test_chance_of_another_class_compares_with_other_classes_only():
    patterns = smooth_maps(20, n_trials=2)
    label = np.array([0, 0, 0, 1, 1, 1])
    maps = patterns[label]
    between = pearson(patterns[:1], patterns[1:])[0]
    levels = score_maps(maps, maps, protocol="randomisation", label=label).attrs["chance"]["other_trial"]["Pearson_raw"]
    assert levels == pytest.approx({"mean": between, "low": between, "high": between})
    any_trial = score_maps(maps, maps, protocol="randomisation").attrs["chance"]["other_trial"]["Pearson_raw"]
    assert any_trial["mean"] > between + 0.1


@pytest.mark.parametrize("shape", [(32, 64), (33, 65), (32, 65), (33, 64)])
def test_random_phases_keep_the_power_spectrum(shape):
    image = torch.from_numpy(smooth_maps(21, 1, *shape)[0])
    fields = _random_phases(image, 10, torch.Generator().manual_seed(0))
    power, expected = torch.fft.fft2(fields).abs() ** 2, torch.fft.fft2(image).abs() ** 2
    torch.testing.assert_close(power, expected.expand_as(power), rtol=1e-10, atol=1e-12 * expected.max().item())
    assert np.abs(np.corrcoef(fields.flatten(1).numpy()) - np.eye(10)).max() < 0.5


def test_phase_surrogates_keep_values_and_smoothness():
    e = torch.from_numpy(smooth_maps(21, n_trials=1, n_channels=32, n_times=64)[0])
    surrogates = phase_surrogates(e, 50, torch.Generator().manual_seed(0))
    assert (surrogates.flatten(1).sort(dim=1).values == e.flatten().sort().values).all()

    def neighbour_correlation(x, axis):
        return pearson(x, x.roll(1, axis)).mean()

    for axis in (1, 2):
        expected = neighbour_correlation(e[None], axis)
        # Not exact, as it is before the map's values take the place of the field's.
        assert neighbour_correlation(surrogates, axis) == pytest.approx(expected, abs=0.01)
    r = pearson(surrogates, e.expand_as(surrogates))
    assert abs(r.mean()) < 4 * r.std() / np.sqrt(len(r))
    # The field is made in float32, where little would be left of a map that lies far from zero.
    far = phase_surrogates(e + 1e6, 50, torch.Generator().manual_seed(0)) - 1e6
    assert pearson(far, surrogates).min() > 0.999


def test_moran_surrogates_keep_values_and_smoothness():
    info = simulate("spatial", n_trials=4, n_runs=1, sfreq=50.0).info
    modes, n_channels = spatial_modes(info), len(info["chs"])
    torch.testing.assert_close(modes.T @ modes, torch.eye(n_channels, dtype=torch.float64))
    location = np.array([channel["loc"][:3] for channel in info["chs"]])
    first, second = np.nonzero(np.triu(np.linalg.norm(location[:, None] - location, axis=2) < 0.04, 1))

    def neighbours_alike(x):
        z = (x - x.mean(1, keepdims=True)) / x.std(1, correction=0, keepdims=True)
        return (z[:, first] * z[:, second]).mean(1)

    maps = random_maps((40, n_channels, 1), info, np.random.default_rng(0))
    for kind, expected in (("white", 0.0), ("scalp", 0.65)):
        own, generator = torch.from_numpy(maps[kind][:, :, 0]), torch.Generator().manual_seed(0)
        surrogates = torch.cat([moran_surrogates(e, modes, 1, generator) for e in own])
        assert (surrogates.sort(dim=1).values == own.sort(dim=1).values).all()
        assert neighbours_alike(own).mean().item() == pytest.approx(expected, abs=0.1)
        # Not exact, as it is before the map's values take the place of the field's; values in any order give about 0.
        assert neighbours_alike(surrogates).mean().item() == pytest.approx(neighbours_alike(own).mean().item(), abs=0.1)
        r = pearson(surrogates[..., None], own[..., None])
        assert abs(r.mean()) < 4 * r.std() / np.sqrt(len(r))


def test_chance_is_that_of_a_mean_over_trials():
    """Nine trials have an interval a third as wide as that of one."""

    def width(maps, reference):
        level = score_maps(maps, reference, n_null=200).attrs["chance"]["surrogate"]["Pearson_absnorm"]
        return level["high"] - level["low"]

    maps, reference = smooth_maps(5, n_trials=9), smooth_maps(6, n_trials=9)
    alone = [width(maps[i : i + 1], reference[i : i + 1]) for i in range(9)]
    assert width(maps, reference) == pytest.approx(np.sqrt(np.mean(np.square(alone))) / 3, rel=0.25)


def test_chance_is_seeded_and_optional():
    maps, reference = smooth_maps(22), smooth_maps(23)
    state = torch.get_rng_state()
    first, same, other = (score_maps(maps, reference, seed=seed, n_null=50).attrs["chance"] for seed in (0, 0, 1))
    assert first == same
    assert first != other
    assert torch.equal(state, torch.get_rng_state())
    assert "chance" not in score_maps(maps, reference, n_null=0).attrs
    assert list(score_maps(maps[:1], reference[:1], n_null=20).attrs["chance"]) == ["surrogate"]


def test_attrs_survive_copies_and_files(tmp_path):
    scores = score_maps(smooth_maps(24), smooth_maps(25), n_null=20)
    scores.to_parquet(tmp_path / "scores.parquet")
    for restored in (
        copy.deepcopy(scores),
        pickle.loads(pickle.dumps(scores)),
        pd.read_parquet(tmp_path / "scores.parquet"),
    ):
        pd.testing.assert_frame_equal(restored, scores)
        assert restored.attrs == scores.attrs


def test_float32_tensors_and_read_only_arrays_are_scored_alike():
    maps, reference = smooth_maps(26).astype(np.float32), smooth_maps(27).astype(np.float32)
    expected = score_maps(maps.astype(float), reference.astype(float), n_null=0)
    maps.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(score_maps(maps, reference, n_null=0), expected)
        pd.testing.assert_frame_equal(score_maps(torch.tensor(maps), torch.tensor(reference), n_null=0), expected)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("shape", [(5, 17, 39), (4, 17, 40), (5, 17)])
def test_shapes_must_match(shape):
    with pytest.raises(ValueError, match=r"expected the same \(trial, channel, time\)"):
        score_maps(smooth_maps(0), np.ones(shape))


@pytest.mark.parametrize("name", ["randomization", "Randomisation"])
def test_unknown_protocol_names_the_nearest(name):
    with pytest.raises(ValueError, match="Did you mean 'randomisation'"):
        score_maps(smooth_maps(0), smooth_maps(1), protocol=name)


def test_label_must_fit():
    maps = smooth_maps(0)
    with pytest.raises(ValueError, match="one class per trial"):
        score_maps(maps, maps, label=[0, 1])
    with pytest.raises(ValueError, match="one class only"):
        score_maps(maps, maps, label=[1] * 5)


def test_maps_too_small_for_a_window():
    with pytest.raises(ValueError, match="at least 3 × 3 points"):
        score_maps(np.ones((1, 40, 2)), np.ones((1, 40, 2)))


@pytest.mark.parametrize("protocol", ["accuracy", "randomisation", "braindecode"])
@pytest.mark.parametrize(
    ("names", "located", "reason"),
    [
        (["Cz"], True, "1 channel"),
        (["C3", "C4"], True, "2 channels"),
        (["C3", "C4"], None, "2 channels"),  # without info
        (["Fz", "Cz", "Pz", "Oz"], True, "channels on a line"),
        (["EEG Fpz-Cz", "EEG Pz-Oz", "EOG"], False, "0 of 3 channels with a position"),
    ],
)
def test_channels_that_make_no_image_have_no_ssim_and_one_reason(protocol, names, located, reason):
    rng = np.random.default_rng(0)
    maps, reference = rng.uniform(size=(2, 5, len(names), 40))
    info = mne.create_info(names, 100.0, "eeg")
    if located:
        info.set_montage("colin27_1005")
    with pytest.warns(UserWarning, match=f"No scalp image: {reason}.") as warned:
        scores = score_maps(maps, reference, None if located is None else info, protocol=protocol, n_null=10)
    assert len(warned) == 1
    assert scores.attrs["no_image"] == reason
    is_ssim = scores.columns.str.startswith("SSIM")
    assert scores.loc[:, is_ssim].isna().all(axis=None) and scores.loc[:, ~is_ssim].notna().all(axis=None)
    if protocol != "braindecode":  # which shifts and divides first
        flat = maps.reshape(5, -1), reference.reshape(5, -1)
        cosine = [a @ b / np.sqrt(a @ a * (b @ b)) for a, b in zip(*flat, strict=True)]
        np.testing.assert_allclose(scores["Cosine_raw"], cosine)


def test_scores_of_one_channel_equal_their_own_reference():
    maps = np.random.default_rng(0).uniform(size=(3, 1, 60))
    with pytest.warns(UserWarning, match="No scalp image"):
        scores = score_maps(maps, maps, protocol="randomisation", n_null=0)
    np.testing.assert_allclose(scores.loc[:, ~scores.columns.str.startswith("SSIM")], 1)


def test_info_must_fit(info):
    maps = smooth_maps(0)
    with pytest.raises(ValueError, match="16 channels but the maps have 17"):
        score_maps(maps, maps, mne.pick_info(info, range(16)))
    partly = info.copy()
    partly["chs"][0]["loc"][:3] = np.nan
    with pytest.raises(ValueError, match="without a position"):
        score_maps(maps, maps, partly)


@pytest.mark.parametrize("protocol", ["accuracy", "randomisation", "braindecode"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_scored_stays_as_it_was(protocol, dtype):
    """It is shared, not copied."""
    maps, reference = np.random.default_rng(7).standard_normal((2, 3, 4, 30)).astype(dtype)
    maps[0, 0, 0], reference[1, 0, 0] = np.nan, np.nan
    before = maps.copy(), reference.copy()
    score_maps(maps, reference, protocol=protocol, n_null=2)
    np.testing.assert_array_equal((maps, reference), before)


def test_chance_is_a_mean_over_the_trials_that_have_a_score():
    maps, reference = np.random.default_rng(8).standard_normal((2, 6, 4, 30))
    maps[5] = 0  # no surrogate of it has a score
    given, others = (
        score_maps(maps[:n], reference[:n], protocol="randomisation", n_null=1).attrs["chance"]["surrogate"]
        for n in (6, 5)
    )
    assert given.keys() == others.keys() and not np.isnan(given["Cosine_norm"]["mean"])
    for column, level in given.items():
        assert level == pytest.approx(others[column], nan_ok=True), column
