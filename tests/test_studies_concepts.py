"""Study of concepts: filters of networks on trials left out, with the sign of each trial's own class."""

from itertools import permutations

import numpy as np
import pytest
import torch
from tiny_studies import CHANNELS, FRONTAL, calls_of, forget, number

import eegxai_support as xs
from studies import concepts, shortcut

SUBJECTS = (1, 2, 3, 4)
N_FILTERS = 3
REFERENCE = ([2, 0], [1], [0, 1, 3])  # trials of each filter
BANDS = {"delta": (0, 4), "theta": (4, 8), "alpha": (8, 12), "beta": (12, 30), "gamma": (30, 41)}
DECODERS = ("broadband", "S007", "S042")


def weight(model) -> float:
    """Return a number of a network that tells it apart from others."""
    return float(model.conv_spatial.weight.detach().sum())


def known_concepts(model, x, target, layer):
    """Three filters with a relevance that follows from network and trials, the last with 1 % of it."""
    assert target == (1, 0) and layer == "conv_spatial"
    rng = np.random.default_rng(int(1e6 * abs(weight(model))))
    relevance = x[:, [0], 10] * [1, 2, 0.01] + weight(model)
    relevance[:, 2] /= 100
    maps = []
    for trials in REFERENCE:
        m = rng.normal(size=x[trials].shape).astype(np.float32)
        maps.append(xs.Attribution(m * x[trials], multiplier=m, baseline=np.zeros_like(x[:1])))
    return xs.ConceptRelevance(relevance.astype(float), [np.array(t) for t in REFERENCE], np.zeros((3, 1)), maps)


@pytest.fixture
def study(recordings, monkeypatch):
    monkeypatch.setattr(shortcut, "SUBJECTS", SUBJECTS)
    monkeypatch.setattr(xs, "simplify", lambda model, x: model)  # a network that `weight` still knows
    recordings.explained = calls_of(monkeypatch, "concept_relevance", known_concepts)
    calls_of(monkeypatch, "embed_filters", lambda features: np.stack([features[:, 0], features[:, 1]], axis=1))
    monkeypatch.setattr(xs, "cluster_filters", lambda features, min_cluster_size: np.arange(len(features)) % 3 - 1)
    forget()
    return recordings


def in_bands(by_freq, n_times: int):
    """Sum the last axis over the frequencies of each band."""
    freqs = np.fft.rfftfreq(n_times, 1 / 80)
    return np.stack([by_freq[..., (freqs >= low) & (freqs < high)].sum(-1) for low, high in BANDS.values()], axis=-1)


def by_frequency(x, multiplier):
    x, multiplier = x.astype(float), multiplier.astype(float)
    freqs = np.fft.rfftfreq(x.shape[-1], 1 / 80)
    pairs = np.where((freqs == 0) | (freqs == 40), 1, 2) / x.shape[-1]
    return pairs * np.real(np.fft.rfft(x) * np.conj(np.fft.rfft(multiplier)))


def fits(name: str, seed: int):
    return list((shortcut.across if name in shortcut.ACROSS else shortcut.within)(name, seed))


def expected_filters(name: str, seeds) -> list[dict]:
    """Return a row for every filter of every network, with its relevance and power by channel and band."""
    rows = []
    for seed in seeds:
        for fold, (model, test) in enumerate(fits(name, seed)):
            x, own = test.signal, np.array([1 if label == 1 else -1 for label in test.label])
            known = known_concepts(model, x, (1, 0), "conv_spatial")
            for f, trials in enumerate(REFERENCE):
                parts = [own[t] * by_frequency(x[t], known.maps[f].multiplier[k]) for k, t in enumerate(trials)]
                power = [np.abs(np.fft.rfft(x[t].astype(float))) ** 2 for t in trials]
                size = np.abs(known.relevance).sum(0)
                rows.append({
                    "fold": fold, "seed": seed, "filter": f, "n_reference": len(trials),
                    "relevance": np.mean(own * known.relevance[:, f]), "share": size[f] / size.sum(),
                    "map": in_bands(np.mean(parts, axis=0), x.shape[2]),
                    "power": in_bands(np.mean(power, axis=0), x.shape[2]),
                })  # fmt: skip
    return rows


def kept(rows: list[dict]) -> list[dict]:
    """Leave out the third filter, which has far less than a sixteenth, and number the clusters as `study` does."""
    rows = [row for row in rows if row["share"] > 1 / 16]
    return [row | {"cluster": k % 3 - 1} for k, row in enumerate(rows)]


def test_filters_have_relevance_for_the_own_class_of_trials_left_out(study):
    table = concepts.concept_filters(seeds=(0, 1))
    tested = {tuple(sorted(study.numbers(call.args[1]))) for call in study.explained}
    runs = [set(number(s, [run])) for s in (7, 42) for run in (4, 8, 12)]
    assert tested == {tuple(sorted(n)) for n in [*runs, *(number(s, (4, 8, 12)) for s in SUBJECTS)]}
    assert [*table["decoder"].unique()] == [*DECODERS]
    for name in DECODERS:
        found, rows = table.query("decoder == @name"), kept(expected_filters(name, (0, 1)))
        assert len(found) == len(rows) == 2 * len(fits(name, 0)) * 2
        for (_, row), expected in zip(found.iterrows(), rows, strict=True):
            for key in ("fold", "seed", "filter", "n_reference", "cluster"):
                assert row[key] == expected[key]
            size = np.abs(expected["map"])
            frontal = [CHANNELS.index(c) for c in FRONTAL]
            numbers = {"relevance": expected["relevance"], "share": expected["share"]}
            numbers |= {"frontal": size[frontal].sum() / size.sum(), "delta": size[:, 0].sum() / size.sum()}
            numbers |= {"x": expected["map"].ravel()[0], "y": expected["map"].ravel()[1]}
            assert row[[*numbers]].to_dict() == pytest.approx(numbers, rel=1e-3)


def test_clusters_are_described_by_the_filters_in_them(study):
    table = concepts.concept_clusters(seeds=(0, 1))
    for name in DECODERS:
        rows = kept(expected_filters(name, (0, 1)))
        total = sum(abs(row["relevance"]) for row in rows)
        for cluster in (-1, 0, 1):
            inside = [row for row in rows if row["cluster"] == cluster]
            (found,) = table.query("decoder == @name and cluster == @cluster").itertuples()
            assert (found.n_filters, found.n_folds) == (len(inside), len({row["fold"] for row in inside}))
            assert found.n_seeds == len({row["seed"] for row in inside})
            assert found.relevance == pytest.approx(np.mean([row["relevance"] for row in inside]))
            assert found.share == pytest.approx(sum(abs(row["relevance"]) for row in inside) / total)
            unit = [row["map"].ravel() / np.linalg.norm(row["map"]) for row in inside]
            assert found.coherence == pytest.approx(np.mean([a @ b for a, b in permutations(unit, 2)]), abs=1e-4)


def test_topographies_are_means_over_the_filters_of_a_cluster(study):
    table = concepts.concept_topographies(seeds=(0,))
    for name in DECODERS:
        rows = kept(expected_filters(name, (0,)))
        for cluster in {row["cluster"] for row in rows}:
            for quantity, key in (("relevance", "map"), ("power", "power")):
                mean = np.mean([row[key] for row in rows if row["cluster"] == cluster], axis=0)
                own = table[(table[["decoder", "cluster", "quantity"]] == (name, cluster, quantity)).all(axis=1)]
                found = own.pivot(index="channel", columns="band", values="value").loc[[*CHANNELS], [*BANDS]]
                np.testing.assert_allclose(found, mean, rtol=1e-3, atol=1e-4 * np.abs(mean).max())


def matched(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Mean absolute correlation of the best pairing, by trying all."""
    r = np.abs(np.corrcoef(a, b)[: len(a), len(a) :])
    return max(np.mean([r[i, j] for i, j in enumerate(order)]) for order in permutations(range(len(b))))


def test_stability_compares_other_seeds_with_other_folds_or_the_other_subject(study):
    seeds = (0, 1)
    table = concepts.concept_stability(seeds=seeds).set_index(["decoder", "subject", "pair"])["correlation"]
    networks = {}
    for name in ("broadband", "untrained", "S007", "S042"):
        for row in expected_filters(name, seeds):
            networks.setdefault((name, row["fold"], row["seed"]), []).append(row["map"].ravel())
    expected = {}
    for name in ("broadband", "untrained"):
        for fold in range(4):
            same = matched(networks[name, fold, 0], networks[name, fold, 1])
            others = [matched(networks[name, fold, a], networks[name, k, b])
                      for k in range(4) if k != fold for a in seeds for b in seeds]  # fmt: skip
            expected |= {
                (name, f"fold {fold}", "same subject"): same,
                (name, f"fold {fold}", "other subjects"): np.mean(others),
            }
    for name, other in (("S007", "S042"), ("S042", "S007")):
        same = [matched(networks[name, fold, 0], networks[name, fold, 1]) for fold in range(3)]
        others = [
            matched(networks[name, fold, a], networks[other, fold, b])
            for fold in range(3)
            for a in seeds
            for b in seeds
        ]
        expected |= {(name, name, "same subject"): np.mean(same), (name, name, "other subjects"): np.mean(others)}
    assert table.to_dict() == pytest.approx(expected, abs=1e-3)


def test_regions_sum_what_speaks_for_and_against_the_own_class(study, monkeypatch):
    explained = calls_of(monkeypatch, "attribute")
    table = concepts.concept_regions(seeds=(1,)).set_index(["decoder", "region", "band"]).sort_index()
    assert {call.args[3] for call in explained} == {"lrp_epsilon"} and {call.args[2] for call in explained} == {(1, 0)}
    assert {*table.index.get_level_values("decoder")} == {*DECODERS, "untrained"}
    made = iter(explained)
    for name in (*DECODERS, "untrained"):
        both = {"positive": [], "negative": []}
        for _, test in fits(name, 1):
            call = next(made)
            np.testing.assert_array_equal(call.args[1], test.signal)
            own = [1 if label == 1 else -1 for label in test.label]
            for trial, m, sign in zip(test.signal, call.result.multiplier, own, strict=True):
                values = sign * by_frequency(trial, m)
                both["positive"].append(in_bands(np.clip(values, 0, None), trial.shape[1]))
                both["negative"].append(in_bands(np.clip(values, None, 0), trial.shape[1]))
        for part, values in both.items():
            mean = np.mean(values, axis=0)
            for region, channels in {"motor left": ["C3"], "motor right": ["C4"], "midline": ["Pz", "Cz"],
                                     "frontal left": ["Fp1", "F3"], "occipital left": ["O1"],
                                     "temporal left": ["TP7", "T7"], "temporal right": ["FT8"]}.items():  # fmt: skip
                found = table.loc[(name, region), part].loc[[*BANDS]]
                expected = mean[[CHANNELS.index(c) for c in channels]].sum(0)
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(mean).max())


def test_networks_of_the_regions_are_those_of_the_seed(study):
    concepts.concept_regions(seeds=(1,))
    trained = [m for m in study.trained]
    concepts.concept_regions(seeds=(0,))
    others = study.trained[len(trained) :]
    assert {m.options["seed"] for m in trained} == {1} and {m.options["seed"] for m in others} == {0}
    assert not any(
        torch.equal(a.conv_spatial.weight, b.conv_spatial.weight) for a, b in zip(trained, others, strict=True)
    )
