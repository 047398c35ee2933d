"""Study of the P300: one session is held out, and every map and AUC of a linear network is worked out by hand."""

import re

import numpy as np
import pytest
from tiny_studies import Linear, calls_of, linear_decoders, logits

import eegxai_support as xs
from studies import p300


def test_regions_are_those_of_the_scalp_and_share_no_channel():
    channels = "Cz C1 C4 CPz CP3 Pz P4 C5 CP5 FC1 POz PO7 PO9 O1 Oz Iz P5 P8 TP7 TP8 P9 TP9 T7 Fz FCz".split()
    found = {name: {c for c, is_in in zip(channels, inside, strict=True) if is_in} for name, inside in
             p300.regions(channels).items()}  # fmt: skip
    assert found == {
        "centro-parietal": set("Cz C1 C4 CPz CP3 Pz P4".split()),
        "parieto-occipital": set("POz PO7 PO9 O1 Oz Iz P5 P8 TP7 TP8".split()),
        "other": set("C5 CP5 FC1 P9 TP9 T7 Fz FCz".split()),
        "all": set(channels),
    }


@pytest.fixture
def speller(recordings, monkeypatch):
    linear_decoders(monkeypatch)
    return recordings


def right_output(trained, x, channels=slice(None)):
    """The logit of target less that of non-target, of the trials with some of their channels."""
    kept = np.zeros(x.shape[1])
    kept[channels] = 1
    return np.diff(logits(trained, x * kept[:, None]))[:, 0]


def test_p300_decoders_see_one_session_and_explain_the_targets_of_the_other(speller, monkeypatch):
    explained = calls_of(monkeypatch, "attribute")
    table = p300.p300_relevance(seeds=(0, 5))
    trials = speller.load_p300(sfreq=80)
    of, target = trials.metadata["session"].to_numpy(), trials.label == 1
    seen, unseen = (set(trials.metadata["number"][of == session]) for session in (10, 11))
    x = trials.signal[of == 11].astype(float)
    is_target = target[of == 11]
    assert [m.numbers for m in speller.trained] == [seen, seen] and not seen & unseen
    assert [m.options["seed"] for m in speller.trained] == [0, 5]
    for seed, model, call in zip((0, 5), speller.trained, explained, strict=True):
        assert set(speller.numbers(call.args[1])) == set(trials.metadata["number"][target & (of == 11)])
        output = right_output(model, x)
        effect = x[is_target].mean(0) - x[~is_target].mean(0)
        expected = {
            "relevance": (model.weight[1] - model.weight[0]) * x[is_target].mean(0),  # linear, and the baseline is zero
            "pattern": sum((o - output.mean()) / output.std() * trial for o, trial in zip(output, x, strict=True)) / 12,
            "effect": effect,
        }
        own = table[table["seed"] == seed]
        for (_, row), (c, w) in zip(own.iterrows(), np.ndindex(len(trials.info.ch_names), 16), strict=True):
            assert row["channel"] == trials.info.ch_names[c]
            assert row["time"] == pytest.approx(0.05 * w + 1.5 / 80)
            window = {name: map_[c, 4 * w : 4 * w + 4] for name, map_ in expected.items()}
            found = [window["relevance"].sum(), window["pattern"].mean(), window["effect"].mean()]
            assert row[["relevance", "pattern", "effect"]].tolist() == pytest.approx(found, rel=1e-3, abs=1e-5)


def test_p300_regions_are_put_to_zero_one_by_one_or_all_others(speller):
    table = p300.p300_regions(seeds=(0, 1)).set_index("region")
    trials = speller.load_p300(sfreq=80)
    trials = trials.subset((trials.metadata["session"] == 11).to_numpy())
    x, target, names = trials.signal, trials.label == 1, trials.info.ch_names
    for region, pattern in {
        "centro-parietal": "C3|Cz|CP4|P2",
        "parieto-occipital": "P6|PO7|O1|Iz|TP8",
        "other": "Fz|T7",
        "all": ".*",
    }.items():
        inside = [c for c, name in enumerate(names) if re.fullmatch(pattern, name)]
        outside = [c for c in range(len(names)) if c not in inside] if region != "all" else inside
        row, relevance, latency = table.loc[region], [], []
        auc = {"auc_alone": [], "auc_without": []}
        for model in speller.trained[:2]:
            for part, channels in zip(auc, (inside, outside), strict=True):
                output = right_output(model, x, channels)
                pairs = [(a > b) + 0.5 * (a == b) for a in output[target] for b in output[~target]]
                auc[part].append(np.mean(pairs))
            map_ = ((model.weight[1] - model.weight[0]) * x[target])[:, inside].sum(1)
            relevance.append(map_.sum(1))
            latency.append(map_.mean(0).argmax() / 80)
        assert row["relevance"] == pytest.approx(np.mean(relevance), rel=1e-4)
        assert (row["n_trials"], row["n_draws"]) == (4, 2)
        assert row["low"] <= row["relevance"] <= row["high"] and row["low"] < row["high"]
        for part, values in {**auc, "latency": latency}.items():
            found = row[[f"{part}_{statistic}" for statistic in ("mean", "min", "max")]].tolist()
            assert found == pytest.approx([np.mean(values), min(values), max(values)])


def test_a_linear_network_has_the_maps_that_are_compared_with(speller):
    model, x = Linear(3, 2, 8), np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)
    map_ = xs.attribute(model, x, (1, 0), "integrated_gradients").values
    np.testing.assert_allclose(map_, (model.weight[1] - model.weight[0]) * x, rtol=1e-4, atol=1e-6)
