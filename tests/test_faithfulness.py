"""Perturbation tests against linear models, whose answer is known, and against loops written from the definitions."""

import tracemalloc
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from networks import build
from scipy.special import softmax

from eegxai_support.attribution import make_baseline
from eegxai_support.decoders import predict
from eegxai_support.scoring.faithfulness import (
    _patches,
    area_under_curve,
    deletion_test,
    perturbation_curves,
    sensitivity_test,
)
from eegxai_support.scoring.perturbed import MAPS, compared_maps, ranks
from eegxai_support.scoring.processing import process_maps
from eegxai_support.scoring.retraining import roar
from eegxai_support.trials import Trials

N_TRIALS, N_CHANNELS, N_TIMES = 6, 3, 120
TESTS = (sensitivity_test, deletion_test, perturbation_curves)


class Linear(torch.nn.Module):
    """Logits that are weighted sums of the points."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn((3, N_CHANNELS, N_TIMES), generator=generator).double())
        self.bias = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0]).double())

    def forward(self, x):
        return torch.einsum("nct,kct->nk", x, self.weight) + self.bias

    def maps(self, x, target, baseline=0.0):
        return self.weight.detach().numpy()[target] * (x - baseline)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(N_TRIALS, N_CHANNELS, N_TIMES))


@pytest.fixture(scope="module")
def target():
    return np.array([0, 1, 2, 2, 1, 0])


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(1).normal(size=(N_TRIALS, N_CHANNELS, N_TIMES)).cumsum(axis=2)


@pytest.fixture(scope="module")
def network():
    return build("ShallowFBCSPNet", torch.float64)


@pytest.fixture(scope="module")
def baseline(x):
    return make_baseline(x, "phase_scrambled")


def own(table):
    return table[table["map"] == "own"]


# ------------------------------------------------------------------------------------------------------ sensitivity


@pytest.mark.parametrize("kind", ["zero", "trial_mean", "phase_scrambled"])
def test_sensitivity_of_a_linear_model_is_one(x, target, kind):
    model, baseline = Linear(), make_baseline(x, kind)
    table = sensitivity_test(model, x, target, model.maps(x, target, baseline), baseline=baseline)
    assert len(table) == len(MAPS) * N_TRIALS * 6
    assert own(table)["share"].unique().tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 1.0]
    np.testing.assert_allclose(own(table)["correlation"], 1, rtol=0, atol=1e-12)
    null = table[table["map"] != "own"]["correlation"]
    assert abs(null.mean()) < 3 * null.std() / np.sqrt(N_TRIALS)  # the rows of a trial are not independent
    np.testing.assert_array_equal(table["target"], target[table["trial"]])


def test_patches_reach_from_the_first_sample_to_the_last():
    """Each place that fits is as likely as the others; whole channels come last."""
    channel, start, stop = _patches(0, 0, N_CHANNELS, 10, np.array([2, 8]), 300)
    for drawn, width in ((slice(300), 2), (slice(300, 600), 8)):
        assert np.unique(channel[drawn]).tolist() == [*range(N_CHANNELS)]
        assert np.unique(start[drawn]).tolist() == [*range(10 - width + 1)]
        assert (stop[drawn] - start[drawn] == width).all()
    assert channel[600:].tolist() == [*range(N_CHANNELS)] and (start[600:] == 0).all() and (stop[600:] == 10).all()


def test_sensitivity_against_a_loop(network, x, target, maps, baseline):
    shares, n_patches, seed = (0.15, 0.4), 12, 5
    table = own(
        sensitivity_test(
            network, x, target, maps, shares=shares, n_patches=n_patches, baseline=baseline, seed=seed, batch_size=7
        )
    ).set_index(["trial", "share"])["correlation"]
    for i in range(N_TRIALS):
        patches = _patches(seed, i, N_CHANNELS, N_TIMES, np.array([18, 48]), n_patches).T
        at = predict(network, x[i : i + 1])[0, target[i]]
        sums, losses = [], []
        for channel, start, stop in patches:
            holed = x[i : i + 1].copy()
            holed[0, channel, start:stop] = baseline[i, channel, start:stop]
            sums.append(maps[i, channel, start:stop].sum())
            losses.append(at - predict(network, holed)[0, target[i]])
        for share, part in zip((*shares, 1.0), (slice(12), slice(12, 24), slice(24, None)), strict=True):
            expected = np.corrcoef(sums[part], losses[part])[0, 1]
            np.testing.assert_allclose(table[i, share], expected, rtol=1e-8)


def test_patches_are_those_of_cui():
    widths = 2 * np.round(np.array([0.1, 0.2, 0.3, 0.4, 0.5]) * 384 / 2).astype(int)
    channel, start, stop = np.concatenate([_patches(0, i, 30, 384, widths, 100) for i in range(40)], axis=1)
    length = (stop - start).reshape(40, 530)
    np.testing.assert_array_equal(length[:, :500], np.repeat([38, 76, 116, 154, 192], 100)[None].repeat(40, axis=0))
    np.testing.assert_array_equal(channel.reshape(40, 530)[:, 500:], np.arange(30)[None].repeat(40, axis=0))
    assert (length[:, 500:] == 384).all()
    drawn = length.ravel() < 384
    assert (start.min(), stop.max()) == (0, 384)  # both ends can be reached
    counts = np.bincount(channel[drawn], minlength=30)
    assert abs(counts / counts.sum() * 30 - 1).max() < 0.2  # 667 expected on each, standard deviation 25


def test_sensitivity_without_variation_is_not_a_number(x, target):
    table = sensitivity_test(Linear(), x, target, np.full_like(x, 0.1), n_patches=5)
    assert own(table)["correlation"].isna().all()


# --------------------------------------------------------------------------------------------------------- deletion


def test_processing_is_that_of_cui(maps):
    points, channels = process_maps(maps)
    for heatmap, smooth, channel in zip(maps, points, channels, strict=True):
        z = np.maximum((heatmap - heatmap.mean()) / heatmap.std() - 2, -1)
        for c in range(N_CHANNELS):
            for j in range(N_TIMES):
                window = z[c, max(j - 5, 0) : min(j + 5, N_TIMES)]
                np.testing.assert_allclose(smooth[c, j], window.mean(), atol=1e-12)
                assert (smooth[c, j] > -1) == (window > -1).any()
        mean = heatmap.mean(axis=1)
        np.testing.assert_allclose(channel[:, 0], (mean - mean.mean()) / mean.std() - 1, atol=1e-12)


def test_steps_of_the_processing(maps):
    points, channels = process_maps(maps, ())
    np.testing.assert_array_equal(points, maps)
    np.testing.assert_array_equal(channels, maps.mean(axis=2, keepdims=True))
    z, z_channels = process_maps(maps, ["z_score"])
    np.testing.assert_allclose([z.mean(axis=(1, 2)), z.std(axis=(1, 2))], [[0] * N_TRIALS, [1] * N_TRIALS], atol=1e-12)
    cut, cut_channels = process_maps(maps, ("z_score", "threshold"))
    np.testing.assert_array_equal(cut, np.maximum(z - 2, -1))
    np.testing.assert_array_equal(cut_channels, z_channels - 1)
    with pytest.raises(ValueError, match="Unknown step 'smoothe'"):
        process_maps(maps, ["smoothe"])


def test_deletion_against_a_loop(network, x, target, maps, baseline):
    table = own(deletion_test(network, x, target, maps, baseline=baseline, batch_size=4))
    table = table.set_index(["part", "trial"])
    points, channels = process_maps(maps)
    for i in range(N_TRIALS):
        intact = predict(network, x[i : i + 1])[0]
        for part, deleted in (("points", points[i] > -1), ("channels", channels[i] > 0)):
            holed = np.where(deleted, baseline[i], x[i])
            logits = predict(network, holed[None])[0]
            row, k = table.loc[part, i], target[i]
            np.testing.assert_allclose(row["deleted"], deleted.mean())
            np.testing.assert_allclose(row["logit"], logits[k], rtol=1e-9)
            np.testing.assert_allclose(row["probability"], softmax(logits)[k], rtol=1e-9)
            np.testing.assert_allclose(row["logit_drop"], intact[k] - logits[k], atol=1e-9)
            np.testing.assert_allclose(row["probability_drop"], softmax(intact)[k] - softmax(logits)[k], atol=1e-9)


def test_chance_deletes_as_many_points(target, maps):
    model = Linear()
    with torch.no_grad():
        model.weight.fill_(1)
    table = deletion_test(model, np.ones_like(maps), target, maps)  # the drop counts what is deleted
    np.testing.assert_allclose(table["logit_drop"], table["deleted"] * N_CHANNELS * N_TIMES, atol=1e-9)
    assert table.groupby(["part", "trial"])["deleted"].nunique().eq(1).all()
    assert (own(table).query("part == 'points'")["deleted"] > 0).all()


def test_nothing_stands_out_in_a_constant_map(x, target):
    table = deletion_test(Linear(), x, target, np.full_like(x, 0.1))
    np.testing.assert_array_equal(table[["deleted", "logit_drop", "probability_drop"]], 0)


def test_deletion_on_a_linear_model_beats_chance(x, target):
    model = Linear()
    drop = deletion_test(model, x, target, model.maps(x, target)).groupby(["part", "map"])["logit_drop"].mean()
    for part in ("points", "channels"):
        assert drop[part, "own"] > max(drop[part, "surrogate"], drop[part, "random"])


# ----------------------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_curves_of_a_linear_model(x, target, baseline, mode):
    model, shares = Linear(), (0.0, 0.05, 0.3, 1.0)
    maps = model.maps(x, target, baseline)
    table = perturbation_curves(model, x, target, maps, mode=mode, shares=shares, baseline=baseline)
    at_baseline = predict(model, baseline)[np.arange(N_TRIALS), target]
    ordered = -np.sort(-maps.reshape(N_TRIALS, -1))
    for (trial, share), rows in own(table).groupby(["trial", "share"]):
        n = round(share * maps[0].size)
        kept = ordered[trial, n:] if mode == "deletion" else ordered[trial, :n]
        np.testing.assert_allclose(rows["logit"], at_baseline[trial] + kept.sum(), atol=1e-10)


@pytest.mark.parametrize(("mode", "first"), [("deletion", "x"), ("insertion", "baseline")])
def test_curves_run_from_one_end_to_the_other(network, x, target, maps, baseline, mode, first):
    table = perturbation_curves(network, x, target, maps, mode=mode, shares=(0, 1), baseline=baseline)
    ends = {"x": predict(network, x), "baseline": predict(network, baseline)}
    for share, end in ((0, first), (1, ({"x", "baseline"} - {first}).pop())):
        rows = table[table["share"] == share]
        picked = rows["trial"], rows["target"]
        np.testing.assert_allclose(rows["logit"], ends[end][picked], rtol=1e-9)
        np.testing.assert_allclose(rows["probability"], softmax(ends[end], axis=1)[picked], rtol=1e-9)


def test_deletion_in_reverse_is_insertion(network, x, target, maps):
    shares = np.arange(5) / 4
    deletion = own(perturbation_curves(network, x, target, maps, shares=shares))
    insertion = own(perturbation_curves(network, x, target, -maps, mode="insertion", shares=shares))
    forth = deletion.pivot(index="trial", columns="share", values="logit")
    back = insertion.pivot(index="trial", columns="share", values="logit")
    np.testing.assert_allclose(forth, back.to_numpy()[:, ::-1], rtol=1e-9)


def test_area_under_curve():
    share = np.array([0, 0.1, 0.4, 1.0])
    rows = [
        pd.DataFrame({"method": m, "map": "own", "trial": t, "share": share, "logit": a + b * share, "probability": a})
        for m, t, a, b in (("p", 0, 1.0, 2.0), ("p", 1, 0.5, -1.0), ("q", 0, 0.0, 4.0))
    ]
    areas = area_under_curve(pd.concat(rows).sample(frac=1, random_state=0))
    assert list(areas) == ["method", "map", "trial", "logit", "probability"]
    areas = areas.set_index(["method", "trial"])
    np.testing.assert_allclose(areas.loc[[("p", 0), ("p", 1), ("q", 0)], "logit"], [2, 0, 2], atol=1e-12)
    np.testing.assert_allclose(areas.loc[[("p", 0), ("p", 1), ("q", 0)], "probability"], [1, 0.5, 0])


def test_curves_may_differ_in_their_shares():
    curve = pd.DataFrame({"map": "own", "trial": 0, "share": [0, 0.5, 1], "logit": [4.0, 2, 0], "probability": 1.0})
    early = curve[:2].assign(share=[0, 0.2], fill=None)
    areas = area_under_curve(pd.concat([curve.assign(fill="zero"), early])).set_index("fill", drop=False)
    assert areas["fill"].isna().tolist() == [False, True]
    np.testing.assert_allclose(areas[["logit", "probability"]], [[2, 1], [3, 1]], rtol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda curves: curves[:1],
        lambda curves: curves.assign(number=range(len(curves))),  # a column that varies along the curve
        lambda curves: pd.concat([curves, curves]),  # two curves that nothing tells apart
    ],
)
def test_no_area_without_a_curve(wrong):
    curve = pd.DataFrame({"map": "own", "trial": 0, "share": [0, 1.0], "logit": 1.0, "probability": 1.0})
    with pytest.raises(ValueError, match="an area needs two, each once"):
        area_under_curve(wrong(curve))


# ------------------------------------------------------------------------------------------- what all of them share


@pytest.mark.parametrize("test", TESTS)
def test_batches_and_other_trials_change_nothing(network, x, target, maps, test):
    options = {"n_patches": 5} if test is sensitivity_test else {}
    table = test(network, x, target, maps, seed=3, **options)
    pd.testing.assert_frame_equal(table, test(network, x, target, maps, seed=3, batch_size=5, **options), rtol=1e-9)
    first = test(network, x[:2], target[:2], maps[:2], seed=3, **options)
    pd.testing.assert_frame_equal(table[table["trial"] < 2].reset_index(drop=True), first, rtol=1e-9)


@pytest.mark.parametrize("test", TESTS)
def test_several_methods_at_once_are_the_same_as_one_by_one(network, x, target, maps, test):
    table = test(network, x, target, {"p": maps, "q": -maps})
    assert table.columns[0] == "method" and table.index.is_unique
    for method, values in (("p", maps), ("q", -maps)):
        rows = table[table["method"] == method].drop(columns="method").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, test(network, x, target, values))


@pytest.mark.parametrize("test", TESTS)
def test_seeded(network, x, target, maps, test):
    options = {"n_patches": 5} if test is sensitivity_test else {}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = test(network, x, target, maps, **options)
    pd.testing.assert_frame_equal(one, test(network, x, target, maps, seed=0, **options))
    assert not one.equals(test(network, x, target, maps, seed=1, **options))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("test", TESTS)
def test_takes_tensors_and_float32_and_leaves_the_model_alone(x, target, maps, test):
    network = build("EEGNet").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    table = test(network, torch.tensor(x).float(), torch.tensor(target), torch.tensor(maps))
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_maps_of_chance_have_the_values_of_the_map(maps):
    compared = dict(compared_maps(maps, 0))
    assert tuple(compared) == MAPS
    smoothness = {}
    for name, values in compared.items():
        np.testing.assert_array_equal(np.sort(values.reshape(N_TRIALS, -1)), np.sort(maps.reshape(N_TRIALS, -1)))
        smoothness[name] = np.corrcoef(values[..., 1:].ravel(), values[..., :-1].ravel())[0, 1]
        centred = values - values.mean(axis=(1, 2), keepdims=True)
        smoothness[name] = (centred[..., 1:] * centred[..., :-1]).mean() / centred.var()
    assert smoothness["own"] > 0.9 and smoothness["surrogate"] > 0.8 and abs(smoothness["random"]) < 0.1
    assert not np.array_equal(compared["surrogate"], maps) and not np.array_equal(compared["random"], maps)


def test_chance_is_drawn_for_each_trial_by_itself(maps):
    """Draws that all trials share would not average out over them."""
    alike = np.stack([maps[0]] * 3)
    drawn = dict(compared_maps(alike, 0)) | {"ranks of ties": ranks(0 * alike, 0)}
    del drawn["own"]
    for name, values in drawn.items():
        assert len(np.unique(values.reshape(3, -1), axis=0)) == 3, name
    later = dict(compared_maps(maps[2:], 0, first=2))  # and follows from its place among all
    for name, values in compared_maps(maps, 0):
        np.testing.assert_array_equal(values[2:], later[name])


def test_ranks():
    scores = np.array([[[3.0, 1.0], [2.0, 5.0]], [[0.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_array_equal(ranks(scores, 0)[0], [[1, 3], [2, 0]])
    tied = np.stack([ranks(scores, seed)[1].ravel() for seed in range(300)])
    assert (tied[:, 3] == 0).all()
    np.testing.assert_allclose(tied[:, :3].mean(axis=0), 2, atol=0.2)  # no channel comes first for its place
    assert (np.sort(tied) == np.arange(4)).all()


@pytest.mark.parametrize("test", TESTS)
def test_errors_of_the_arrays(network, x, target, maps, test):
    for wrong, error, message in (
        (target[:3], ValueError, r"target has shape \(3,\)"),
        (target.astype(float), TypeError, "an output's index, one index per trial, a pair"),
        (target + 1, ValueError, "the model has the outputs 0 … 2"),
        (target - 1, ValueError, "the model has the outputs 0 … 2"),
    ):
        with pytest.raises(error, match=message):
            test(network, x, wrong, maps)
    with pytest.raises(ValueError, match="maps has shape"):
        test(network, x, target, maps[:3])
    with pytest.raises(ValueError, match="maps holds NaN"):
        test(network, x, target, np.where(maps > 0, maps, np.nan))
    with pytest.raises(ValueError, match="baseline has shape"):
        test(network, x, target, maps, baseline=x[:1])
    with pytest.raises(ValueError, match="x has 60 samples"):
        test(network, x[..., :60], target, maps)


@pytest.mark.parametrize("test", TESTS)
def test_everything_is_checked_before_the_forward_passes(x, target, maps, test):
    passes = []

    class Counting(Linear):
        def forward(self, x):
            passes.append(len(x))
            return super().forward(x)

    for wrong, message in (
        ({"p": maps, "q": maps[:3]}, r"maps\['q'\] has shape"),
        ({"p": maps, "q": np.where(maps > 0, maps, np.nan)}, r"maps\['q'\] holds NaN"),
        ({}, "empty dict or a dict of dicts"),
        ({"p": {"q": maps}}, "empty dict or a dict of dicts"),
    ):
        with pytest.raises(ValueError, match=message):
            test(Counting(), x, target, wrong)
    for batch_size in (0, -1):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}; expected at least 1"):
            test(Counting(), x, target, maps, batch_size=batch_size)
    assert max(passes, default=0) <= 2  # the look at two trials


def test_ends_of_the_curves_are_computed_once(x, target, maps):
    passes = []

    class Counting(Linear):
        def forward(self, x):
            passes.append(len(x))
            return super().forward(x)

    perturbation_curves(Counting(), x, target, {"p": maps, "q": -maps}, shares=(0, 0.5, 1))
    looked = sum(n for n in passes if n <= 2)
    assert sum(passes) - looked == 2 * N_TRIALS + 2 * len(MAPS) * N_TRIALS


def test_errors_of_the_options(network, x, target, maps):
    with pytest.raises(ValueError, match="Did you mean 'deletion'"):
        perturbation_curves(network, x, target, maps, mode="delete")
    for shares in ((), (0.5, 0.2), (0.2, 0.2), (-0.1, 0.2), (0.2, 1.1)):
        with pytest.raises(ValueError, match="expected increasing numbers from 0 to 1"):
            perturbation_curves(network, x, target, maps, shares=shares)
    for shares in ((0.001, 0.5), (0.5, 1.0)):
        with pytest.raises(ValueError, match="expected patches of 2 … 119"):
            sensitivity_test(network, x, target, maps, shares=shares)
    with pytest.raises(ValueError, match="needs two of each"):
        sensitivity_test(network, x, target, maps, n_patches=1)


# ------------------------------------------------------------------------------------- what is explained, and its kind


class Ending(Linear):
    """A linear model with something behind its logits."""

    def __init__(self, ending):
        super().__init__()
        self.ending = ending

    def forward(self, x):
        return self.ending(super().forward(x) / 20)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("target", "explained"),
    [
        (2, lambda outputs: outputs[:, 2]),
        ((2, 0), lambda outputs: outputs[:, 2] - outputs[:, 0]),
        (lambda outputs: outputs.square().sum(1), lambda outputs: outputs.square().sum(1)),
    ],
    ids=["one index", "a difference", "a function"],
)
def test_every_test_takes_every_form_of_target(x, maps, test, target, explained):
    """As a model whose one output is what is explained; one index per trial is the form of the other tests."""
    number = Ending(lambda outputs: explained(outputs)[:, None])
    table = test(Ending(lambda outputs: outputs), x, target, maps)
    if test is sensitivity_test:
        expected = test(number, x, 0, maps)
    else:
        expected = test(number, x, 0, maps, link="identity")
        assert table["probability"].notna().all() if target == 2 else table["probability"].isna().all()
    columns = [column for column in ("correlation", "logit", "logit_drop") if column in table]
    assert columns
    pd.testing.assert_frame_equal(table[columns], expected[columns], rtol=1e-9)


def test_tables_name_the_target():
    def energy(outputs):
        return outputs.square().sum(1)

    for target, expected in (
        (1, [1, 1]),
        (torch.tensor([2, 0]), [2, 0]),
        ((np.int64(2), 0), ["(2, 0)"] * 2),
        (energy, ["energy"] * 2),
    ):
        values = np.ones((2, N_CHANNELS, N_TIMES))
        table = own(perturbation_curves(Linear(), values, target, values, shares=[0]))
        assert table["target"].tolist() == expected
        assert table["target"].dtype.kind == ("i" if isinstance(expected[0], int) else "O")


@pytest.mark.parametrize("test", [deletion_test, perturbation_curves])
@pytest.mark.parametrize("ending", [torch.softmax, torch.log_softmax])
def test_outputs_that_are_probabilities_are_used_as_they_are(x, target, maps, test, ending):
    expected = test(Ending(lambda logits: logits), x, target, maps)
    table = test(Ending(lambda logits: ending(logits, 1)), x, target, maps)
    np.testing.assert_allclose(table["probability"], expected["probability"], rtol=1e-9)
    explained = table["probability"] if ending is torch.softmax else np.log(table["probability"])
    np.testing.assert_allclose(table["logit"], explained, rtol=1e-9)


@pytest.mark.parametrize("test", [deletion_test, perturbation_curves])
def test_one_output_is_a_logit_or_a_number_by_the_link(x, maps, test):
    one, two = Ending(lambda logits: logits[:, 1:2]), Ending(lambda logits: logits[:, :2] * torch.tensor([0.0, 1.0]))
    for link in (None, "softmax"):
        with pytest.raises(ValueError, match="one output, whose softmax is always 1"):
            test(one, x, 0, maps, link=link)
    expected = test(two, x, 1, maps)  # the softmax of zero and a logit is the logit's sigmoid
    np.testing.assert_allclose(test(one, x, 0, maps, link="sigmoid")["probability"], expected["probability"])
    number = test(one, x, 0, maps, link="identity")
    np.testing.assert_array_equal(number["probability"], number["logit"])
    assert test(one, x, lambda outputs: outputs[:, 0], maps)["probability"].isna().all()  # needs no link
    with pytest.raises(ValueError, match="link"):
        test(one, x, 0, maps, link="probit")


# ------------------------------------------------------------------------------------------------------- retraining


@pytest.fixture(scope="module")
def labelled():
    """Two sets of trials whose class is a bump on channel 1 in the first fifth of the trial."""
    info = mne.create_info(["C3", "Cz", "C4"], 100.0, "eeg").set_montage("colin27_1005")
    rng = np.random.default_rng(0)

    def trials(n):
        label = np.arange(n) % 2
        signal = rng.normal(size=(n, 3, 50))
        signal[:, 1, :10] += 2 * label[:, None] - 1
        metadata = pd.DataFrame({"subject": 1, "session": 1, "run": np.zeros(n)})
        return Trials(signal, "uV", label, info, ("low", "high"), metadata)

    return trials(60), trials(40)


def nearest_mean(trials):
    centre = np.stack([trials.signal[trials.label == k].mean(axis=0) for k in (0, 1)])
    return lambda signal: ((signal[:, None] - centre) ** 2).sum(axis=(2, 3)).argmin(axis=1)


def informative(trials):
    maps = np.zeros(trials.signal.shape)
    maps[:, 1, :10] = 1
    return maps


def test_retraining_without_the_informative_points(labelled):
    train, test = labelled
    table = roar(nearest_mean, train, test, informative(train), informative(test), shares=(1 / 15, 0.5))
    assert len(table) == 3 * 3 * 40
    accuracy = table.groupby(["map", "share"])["correct"].mean()
    assert (accuracy.loc[:, 0.0] == np.mean(nearest_mean(train)(test.signal) == test.label)).all()
    assert accuracy["own", 0.0] > 0.9 and accuracy["random", 1 / 15] > 0.85
    assert abs(accuracy["own", 1 / 15] - 0.5) < 0.25  # chance for 40 trials, three standard deviations
    np.testing.assert_array_equal(table["label"], test.label[table["trial"]])
    np.testing.assert_array_equal(table["correct"], table["label"] == table["predicted"])


def test_retraining_removes_the_highest_points_of_each_trial(labelled):
    train, test = labelled
    rng = np.random.default_rng(2)
    train_maps, test_maps = rng.normal(size=train.signal.shape), rng.normal(size=test.signal.shape)
    seen = []

    def fit(trials):
        seen.append(trials.signal)
        return lambda signal: seen.append(signal) or np.zeros(len(signal), int)

    def fill(signal):
        return make_baseline(signal, "phase_scrambled", seed=7)

    roar(fit, train, test, train_maps, test_maps, shares=(0.2,), baseline=fill)
    roar(fit, train, test, train_maps, test_maps, shares=(0.2,))
    assert len(seen) == 2 * 2 * 4
    for trials, maps, used in ((train, train_maps, seen[::2]), (test, test_maps, seen[1::2])):
        mean = trials.signal.mean(axis=2, keepdims=True)
        top = maps >= np.quantile(maps, 0.8, axis=(1, 2), keepdims=True)
        assert (top.sum(axis=(1, 2)) == 30).all()
        np.testing.assert_array_equal(used[0], trials.signal)
        np.testing.assert_array_equal(used[1], np.where(top, fill(trials.signal), trials.signal))
        np.testing.assert_array_equal(used[5], np.where(top, mean, trials.signal))
        for chance in used[2:4]:
            assert ((chance != trials.signal).sum(axis=(1, 2)) == 30).all()
            assert not np.array_equal(chance, used[1])


def test_retraining_without_a_whole_channel(labelled):
    train, test = labelled
    maps = [np.broadcast_to(np.array([[0], [1], [0]]), trials.signal.shape) for trials in (train, test)]
    accuracy = {}
    for name, fill in (("mean", None), ("noise", lambda x: np.random.default_rng(1).normal(size=x.shape))):
        table = own(roar(nearest_mean, train, test, *maps, shares=(1 / 3,), baseline=fill))
        accuracy[name] = table.groupby("share")["correct"].mean().iloc[1]
    limit = 0.5 + 3 * np.sqrt(0.25 / len(test))
    assert accuracy["noise"] < limit < accuracy["mean"]  # the bump is in the mean of the trial, as documented
    with pytest.raises(ValueError, match="Constant in every trial: Cz"):
        roar(nearest_mean, train, test, *maps, shares=(1 / 3,), baseline=np.zeros_like)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool])
def test_retraining_ranks_maps_of_whole_numbers_as_their_values(labelled, kind):
    train, test = labelled
    maps = [informative(trials).astype(kind) for trials in labelled]
    table = roar(nearest_mean, train, test, *maps, shares=(1 / 15,))
    expected = roar(nearest_mean, train, test, *(m.astype(np.float32) for m in maps), shares=(1 / 15,))
    pd.testing.assert_frame_equal(table, expected)


def test_retraining_takes_tensors_with_a_gradient(labelled):
    train, test = labelled
    maps = [torch.tensor(informative(trials), requires_grad=True) for trials in labelled]
    table = roar(nearest_mean, train, test, *maps, shares=(1 / 15,))
    expected = roar(nearest_mean, train, test, *(m.detach().numpy() for m in maps), shares=(1 / 15,))
    pd.testing.assert_frame_equal(table, expected)


def test_retraining_on_trials_of_another_length(labelled):
    train, test = labelled
    short = replace(test, signal=test.signal[..., :30])
    seen = []

    def fit(trials):
        seen.append(trials.signal)
        return lambda signal: seen.append(signal) or np.zeros(len(signal), int)

    roar(fit, train, short, informative(train), informative(short), shares=(0.2,))
    assert len(seen) == 2 * 4
    for trials, used in ((train, seen[::2]), (short, seen[1::2])):
        for rest in used[1:]:
            assert ((rest != trials.signal).sum(axis=(1, 2)) == 0.2 * trials.signal[0].size).all()
    removed = [rest != trials.signal for trials, rest in zip((train, short), seen[-2:], strict=True)]
    assert not np.array_equal(removed[0][: len(short), :, :30], removed[1])


def test_errors_of_retraining(labelled):
    train, test = labelled
    maps = informative(train), informative(test)
    with pytest.raises(ValueError, match="train_maps has shape"):
        roar(nearest_mean, train, test, maps[1], maps[1])
    with pytest.raises(ValueError, match="test_maps holds NaN or infinity at 5600 points"):
        roar(nearest_mean, train, test, maps[0], np.where(maps[1] > 0, 1, np.nan))
    with pytest.raises(ValueError, match="expected increasing numbers above 0, up to 1"):
        roar(nearest_mean, train, test, *maps, shares=(0.0, 0.5))


@pytest.mark.parametrize("test", TESTS)
def test_more_trials_take_no_more_memory_than_their_rows_of_the_table(test):
    class Mean(torch.nn.Module):
        def forward(self, x):
            return x.mean(2)

    def peak(n_trials):
        x, maps = np.random.default_rng(0).normal(size=(2, n_trials, 3, 2000))
        options = {"shares": (0.2, 0.5), "n_patches": 3} if test is sensitivity_test else {}
        tracemalloc.start()
        try:
            test(Mean(), x, 0, maps, batch_size=8, **options)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(8)
    assert peak(96) - peak(32) < 0.2 * 64 * 3 * 2000 * 8
