"""Verdicts: of simulated decoders whose source is known, and rule by rule of tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_report_removal import CARRIERS, judged, of_trials, recorded, trials_of

import eegxai_support as xs
from eegxai_support.report.components import Components
from eegxai_support.report.leaks import order_accuracy, shared_samples
from eegxai_support.report.needed import above_chance, interventions
from eegxai_support.report.removal import remove_parts
from eegxai_support.report.verdict import METHOD_VERDICTS, SOURCES, method_verdicts, source_verdict


def facts_of(accuracy=0.9, p=0.001, chance=0.5, **more):
    return {"decoder": {"accuracy": accuracy, "balanced_accuracy": accuracy, "chance": chance, "p": p}, **more}


def predicted(trials, fits):
    columns = []
    for fit in fits:
        outputs = xs.predict(fit.model, trials.signal[fit.index])
        table = {"trial": fit.index, "seed": fit.seed, "group": fit.group, "label": trials.label[fit.index]}
        columns.append(pd.DataFrame(table | {"predicted": outputs.argmax(1)}))
    return pd.concat(columns)


def decided(trials, fits, components=None):
    """Return the verdict on decoders, as a report comes to it."""
    table = predicted(trials, fits)
    right = table["label"] == table["predicted"]
    removals = remove_parts(fits, trials, components, n_controls=6)
    leaks = shared_samples(trials, trials.metadata["run"])
    tables = {"interventions": interventions(removals, of_trials(trials)), "leaks": leaks, "predictions": table}
    order = order_accuracy(trials, trials.metadata["run"])
    return source_verdict(tables, facts_of(right.mean(), above_chance(table), order=order))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_source_is_named(carrier):
    trials, _, fits = recorded(carrier)
    table = predicted(trials, fits)
    accuracy = (table["label"] == table["predicted"]).mean()
    verdict = source_verdict({"interventions": judged(carrier).reset_index()}, facts_of(accuracy))
    assert verdict["source"] == carrier and carrier in SOURCES, verdict
    assert np.isfinite(verdict["number"]) and verdict["rule"].endswith(".") and verdict["text"]


def test_permuted_labels_are_nothing():
    trials, components, fits = recorded("eyes")
    permuted = replace(trials, label=np.random.default_rng(3).permutation(trials.label))
    verdict = decided(permuted, fits, components)
    assert verdict["source"] == "nothing" and verdict["number"] >= 0.05


def test_trials_on_both_sides_of_a_split_are_a_leak():
    trials, components, fits = recorded("eyes")
    twice = np.tile(np.arange(15), 4)  # every run holds the trials of the first
    copied = replace(trials, signal=trials.signal[twice], label=trials.label[twice])
    verdict = decided(copied, fits, components)
    assert verdict["source"] == "leak" and verdict["number"] == 1


def test_a_few_twins_do_not_explain_trials_that_have_none():
    trials, components, fits = recorded("drift")
    row = np.arange(len(trials))
    row[20:24] = row[:4]
    verdict = decided(replace(trials, signal=trials.signal[row], label=trials.label[row]), fits, components)
    assert verdict["source"] == "drift"


def test_classes_in_blocks_are_a_leak():
    trials, _, _ = recorded("drift")
    label = (np.arange(len(trials)) % 15 > 7).astype(int)
    metadata = trials.metadata.assign(onset=np.arange(len(trials)) * 5.0)
    order = order_accuracy(replace(trials, label=label, metadata=metadata), trials.metadata["run"])
    assert order["accuracy"] > 0.9 and order["p"] < 0.01
    verdict = source_verdict({"interventions": judged("drift").reset_index()}, facts_of(0.9, order=order))
    assert verdict["source"] == "leak"
    weaker = {"accuracy": 0.8, "p": 0.001}  # than the decoder, which knows something else
    verdict = source_verdict({"interventions": judged("drift").reset_index()}, facts_of(0.9, order=weaker))
    assert verdict["source"] == "drift"


def test_classes_in_random_or_in_one_fixed_order_are_none():
    rng = np.random.default_rng(5)
    signal = rng.standard_normal((64, 2, 10))
    fixed = np.tile(rng.permutation(np.arange(16) % 2), 4)
    alternating = np.arange(64) % 2
    shuffled = rng.permutation(alternating)
    for label in (alternating, shuffled):
        order = order_accuracy(trials_of(signal, label, ("C3", "C4")), np.arange(64) // 16)
        assert order["p"] > 0.01 or order["accuracy"] < 0.7
    assert order_accuracy(trials_of(signal, fixed, ("C3", "C4")), np.arange(64) // 16)["accuracy"] < 0.9


@pytest.mark.parametrize(("n_channels", "quantised"), [(8, False), (1, False), (1, True)])
def test_windows_that_overlap_share_samples_at_any_shift(n_channels, quantised):
    recording = np.random.default_rng(6).standard_normal((n_channels, 4000)) * 10
    recording = np.round(recording) if quantised else recording
    starts = [0, 130, 500, 575, 1500, 2000]
    signal = np.stack([recording[:, start : start + 200] for start in starts])
    names = ("Fp1", "Fp2", "F7", "F8", "C3", "C4", "Pz", "O1")[:n_channels]
    trials = trials_of(signal, np.arange(6) % 2, names)
    leaks = shared_samples(trials, np.array([0, 1, 0, 1, 0, 1])).set_index("trial")
    assert leaks["other"].to_dict() == {0: 1, 1: 0, 2: 3, 3: 2}
    np.testing.assert_allclose(leaks["share"], [70 / 200, 70 / 200, 125 / 200, 125 / 200], atol=0.05 * quantised + 1e-9)
    together = shared_samples(trials, np.array([0, 0, 1, 1, 2, 2]))
    assert not len(together)


def test_padding_is_no_sample_and_onsets_tell_what_a_baseline_hides():
    signal = np.random.default_rng(7).standard_normal((4, 3, 100))
    signal[:, :, 50:] = 0
    trials = trials_of(signal, np.arange(4) % 2, ("C3", "Cz", "C4"))
    assert not len(shared_samples(trials, np.arange(4)))
    metadata = trials.metadata.assign(run=1, onset=[0.0, 0.3, 4.0, 4.6])  # 0.5 s long
    leaks = shared_samples(replace(trials, metadata=metadata), np.arange(4))
    assert leaks["trial"].tolist() == [0, 1]
    np.testing.assert_allclose(leaks["share"], 0.4)
    apart = metadata.assign(run=[1, 2, 3, 4])
    assert not len(shared_samples(replace(trials, metadata=apart), np.arange(4)))


COLUMNS = ["part", "kind", "source", "accuracy", "control", "drop", "p_holm", "left_p", "only", "only_p", "power"]


def table_of(*rows):
    made = pd.DataFrame([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    return made.assign(p=made["p_holm"])


def row_of(part, kind, source, accuracy, only):
    """A part with this accuracy without it, and with nothing else; no more costly than as powerful ones."""
    return (part, kind, source, accuracy, accuracy, 0.0, 1.0, 0.01, only, 0.001, 0.2)


# The whole decodes with 0.9 and chance is 0.5: half of that is 0.7, three quarters are above 0.8 or below 0.6.
EYES = row_of("eye blink", "components", "eyes", 0.6, 0.8)
MUSCLE = row_of("muscle artifact", "components", "muscle", 0.6, 0.8)
BRAIN = row_of("brain", "components", "brain", 0.6, 0.8)
SLOW = row_of("below 6 Hz", "band", "", 0.55, 0.85)
FAST = row_of("above 30 Hz", "band", "", 0.55, 0.85)
MIDDLE = row_of("6-20 Hz", "band", "", 0.55, 0.85)
DRIFT = row_of("below 0.5 Hz", "band", "drift", 0.55, 0.85)
EDGE = row_of("last 10 %", "edge", "edge", 0.55, 0.85)
LINE = ("line, 50 Hz", "band", "line", 0.55, 0.9, 0.35, 0.001, 0.3, 0.5, 1.0, 0.01)
O2 = row_of("O2 alone", "channel", "channel", 0.55, 0.85)


def changed(row, **values):
    return tuple((dict(zip(COLUMNS, row, strict=True)) | values).values())


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([EYES, SLOW], "eyes"),
        ([changed(EYES, accuracy=0.69, only=0.71), SLOW], "eyes"),
        ([changed(EYES, accuracy=0.71), SLOW], "cannot tell"),  # too much is left without it
        ([changed(EYES, only=0.69), SLOW], "cannot tell"),  # it would not do alone
        ([changed(EYES, only_p=0.05), SLOW], "cannot tell"),
        ([EYES, changed(SLOW, only=0.6)], "cannot tell"),  # called eyes, and not where eyes have their power
        ([EYES, changed(SLOW, accuracy=0.9), MIDDLE], "brain"),  # an alpha rhythm that is called eyes
        ([EYES], "eyes"),  # the trials hold nothing above 6 Hz
        ([MUSCLE, FAST], "muscle"),
        ([MUSCLE, changed(FAST, only=0.5), MIDDLE], "brain"),
        ([MUSCLE, FAST, MIDDLE, BRAIN], "muscle"),
        ([EYES, SLOW, MUSCLE, changed(FAST, only=0.5), BRAIN], "eyes"),
        ([BRAIN], "brain"),
        ([BRAIN, SLOW, DRIFT], "brain"),  # an evoked potential is slow; a drift says how fast, not who
        ([changed(BRAIN, only=0.6), SLOW, DRIFT], "drift"),
        ([changed(DRIFT, only=0.79), SLOW], "cannot tell"),
        ([changed(DRIFT, accuracy=0.61), SLOW], "cannot tell"),
        ([MIDDLE], "brain"),
        ([MIDDLE, FAST], "muscle"),  # whatever components are called
        ([FAST, changed(MUSCLE, only=0.5)], "muscle"),
        ([FAST, BRAIN], "brain"),
        ([FAST, LINE], "line"),
        ([MIDDLE, SLOW], "cannot tell"),
        ([EDGE, BRAIN], "edge"),
        ([changed(EDGE, only=0.79), BRAIN], "brain"),
        ([O2, EYES, SLOW, BRAIN], "channel"),
        ([changed(O2, accuracy=0.61), EYES, SLOW, BRAIN], "eyes"),
        ([LINE, BRAIN], "line"),  # alone they do not decode
        ([changed(LINE, p_holm=0.06), BRAIN], "brain"),
        ([changed(LINE, p_holm=np.nan, only=0.8, only_p=0.001), BRAIN], "line"),  # nothing else is as powerful
        ([changed(LINE, accuracy=0.71), BRAIN], "brain"),
        ([LINE, EYES, SLOW], "eyes"),
    ],
)
def test_rules_apply_in_their_order(rows, source):
    verdict = source_verdict({"interventions": table_of(*rows)}, facts_of(0.9))
    assert verdict["source"] == source, verdict


def test_the_rule_gives_its_numbers():
    verdict = source_verdict({"interventions": table_of(BRAIN)}, facts_of(0.9))
    assert "'brain' the accuracy is 0.80" in verdict["rule"] and "without it 0.60" in verdict["rule"]
    assert "75% of what is above chance stays with it, 75% goes with it" in verdict["rule"]
    assert verdict["number"] == pytest.approx(0.75)


def test_of_several_parts_the_one_that_carries_most_is_named():
    other = changed(O2, part="P8 alone", accuracy=0.51, only=0.89)
    assert "'P8 alone'" in source_verdict({"interventions": table_of(O2, other)}, facts_of(0.9))["rule"]


def test_who_cannot_tell_says_why():
    skipped = pd.DataFrame({"section": ["components"], "reason": ["8 channels are too few."]})
    tables = {"interventions": table_of(changed(MIDDLE, only_p=0.2)), "skipped": skipped}
    rule = source_verdict(tables, facts_of(0.9))["rule"]
    assert "no components could be made (8 channels are too few)" in rule.lower() and "several contribute" in rule
    rule = source_verdict({"interventions": table_of(MIDDLE, SLOW)}, facts_of(0.9))["rule"]
    assert "'6-20 Hz', 'below 6 Hz' would do alone" in rule
    assert source_verdict({}, facts_of(0.9))["source"] == "cannot tell"


def test_twins_are_acquitted_only_where_the_others_are_surely_decoded():
    """Of decoders that know twins alone, one in twenty decodes the others with p < 0.05."""
    rng, n = np.random.default_rng(0), 60
    label = np.arange(n) % 2
    leaks = pd.DataFrame({"trial": np.arange(30), "other": 0, "share": 1.0})
    for n_right, source in ((20, "leak"), (24, "brain")):  # of 30 that have no twin: p = 0.07, and 0.001
        right = np.concatenate([np.ones(30, bool), rng.permutation(np.arange(30) < n_right)])
        table = pd.DataFrame({"trial": np.arange(n), "seed": 0, "group": 0, "label": label})
        table["predicted"] = np.where(right, label, 1 - label)
        tables = {"interventions": table_of(BRAIN), "predictions": table, "leaks": leaks}
        assert source_verdict(tables, facts_of(0.9))["source"] == source


@pytest.mark.parametrize(("p", "balanced", "number"), [(0.05, 0.9, 0.05), (0.001, 0.5, 0.5)])
def test_at_chance_there_is_nothing_whatever_else_is_known(p, balanced, number):
    facts = facts_of(0.9, p)
    facts["decoder"]["balanced_accuracy"] = balanced
    verdict = source_verdict({"interventions": table_of(EYES)}, facts)
    assert verdict["source"] == "nothing" and verdict["number"] == number


def test_without_components_the_bands_still_speak():
    trials, _, fits = recorded("line")
    assert decided(trials, fits, Components())["source"] == "line"


def receipts(method, delta=1e-6, labels=-0.9, weights=0.05, gain=0.2, change=1.0, n=12):
    rng = np.random.default_rng(8)
    trial = np.arange(n)
    conservation = pd.DataFrame({"method": method, "trial": trial, "seed": 0, "delta": delta, "change": change})
    sanity = pd.concat(
        [
            pd.DataFrame({"method": method, "test": test, "seed": 0, "trial": trial, "pearson": r})
            for test, r in (("labels", labels), ("weights", weights))
        ]
    )
    curves = []
    for map_, height in (("own", 0.4), ("surrogate", 0.4 + gain), ("random", 0.9)):
        for share in (0.0, 1.0):
            columns = {"method": method, "map": map_, "trial": trial, "target": 0, "share": share, "logit": 0.0}
            curves.append(pd.DataFrame(columns | {"probability": height + rng.normal(0, 0.02, n)}))
    return {"conservation": conservation, "sanity": sanity, "faithfulness": pd.concat(curves)}


def together(*parts):
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}


@pytest.mark.parametrize(
    ("what", "verdict", "number"),
    [
        ({}, "trust", 0.2),
        ({"delta": 0.02}, "doubt", 0.02),
        ({"labels": 0.95}, "doubt", 0.95),
        ({"weights": 0.9}, "do not use", 0.9),
        ({"gain": 0.0}, "doubt", 0.0),
        ({"gain": -0.2}, "do not use", -0.2),
        ({"weights": np.nan}, "cannot tell", np.nan),
        ({"labels": np.nan}, "trust", 0.2),  # two classes, whose maps mirror each other, may leave it out
    ],
)
def test_methods_are_judged_rule_by_rule(what, verdict, number):
    made = method_verdicts(together(receipts("good"), receipts("judged", **what)), {"knows": True}).set_index("method")
    assert list(made.index) == ["good", "judged"] and made.loc["good", "verdict"] == "trust"
    assert made.loc["judged", "verdict"] == verdict and verdict in METHOD_VERDICTS
    np.testing.assert_allclose(made.loc["judged", "number"], number, atol=0.02)
    assert made.loc["judged", "rule"].endswith(".") or made.loc["judged", "rule"].endswith("].")
    assert made.loc["good", "low"] < made.loc["good", "faithfulness"] < made.loc["good", "high"]


def test_no_method_is_trusted_to_explain_a_decoder_that_knows_nothing():
    assert method_verdicts(receipts("good"), {"knows": False})["verdict"].tolist() == ["cannot tell"]


def test_a_method_is_judged_by_the_tests_that_were_made():
    tables = receipts("good")
    for name in ("conservation", "faithfulness"):
        rest = {key: table for key, table in tables.items() if key != name}
        verdict = method_verdicts(rest, {"knows": True}).loc[0, "verdict"]
        assert verdict == ("trust" if name == "conservation" else "cannot tell")
    assert not len(method_verdicts({}, {"knows": True}))


def test_a_trial_whose_output_does_not_move_does_not_condemn_a_method():
    change = np.ones(12)
    change[0] = 1e-7
    made = method_verdicts(receipts("good", delta=1e-6, change=change), {"knows": True})
    assert made.loc[0, "verdict"] == "trust" and made.loc[0, "relative_delta"] == pytest.approx(1e-6)


def test_blocks_are_found_by_onsets_whatever_the_order_of_the_trials():
    trials = trials_of(np.random.default_rng(0).standard_normal((60, 2, 20)), ch_names=("C3", "C4"))
    onset = np.arange(60.0)
    alternating = replace(trials, metadata=trials.metadata.assign(onset=onset))
    by_class = alternating.subset(np.argsort(trials.label, kind="stable"))
    assert order_accuracy(by_class, by_class.metadata["run"])["p"] > 0.05
    blocked = replace(trials, label=np.arange(60) % 15 // 8, metadata=trials.metadata.assign(onset=onset))
    mixed = blocked.subset(np.random.default_rng(1).permutation(60))
    assert order_accuracy(mixed, mixed.metadata["run"])["p"] < 0.05
    unknown = blocked.subset(np.argsort(blocked.label, kind="stable"))
    assert order_accuracy(unknown, unknown.metadata["run"])["p"] < 0.05
    unknown = replace(unknown, metadata=unknown.metadata.drop(columns="onset"))
    assert order_accuracy(unknown, unknown.metadata["run"]) is None
    apart = replace(unknown, metadata=unknown.metadata.assign(run=unknown.label))  # a run has one class
    assert order_accuracy(apart, apart.metadata["run"])["p"] == 1


def test_what_is_above_chance_is_counted_by_class():
    """Nine of ten trials are of one class: an accuracy of 0.9 is nothing, and 0.9 - 1 / 2 no cost."""
    rare = np.arange(100) % 10 == 0
    table = pd.DataFrame({"trial": np.arange(100), "seed": 0, "group": 0, "label": rare.astype(int)})
    table["predicted"] = np.where(np.arange(100) < 60, table["label"], 0)  # six of ten rare ones are found: 0.8
    facts = facts_of(0.96)
    facts["decoder"]["balanced_accuracy"] = 0.8
    row = changed(BRAIN, accuracy=0.62, only=0.7)
    verdict = source_verdict({"interventions": table_of(row), "predictions": table}, facts)
    assert verdict["source"] == "brain" and verdict["number"] == pytest.approx(0.18 / 0.3)


def test_a_part_costs_what_one_network_loses_not_what_all_seeds_together_do():
    table = pd.DataFrame(
        {"trial": np.arange(100), "seed": 0, "group": 0, "label": 0, "predicted": np.arange(100) // 75}
    )
    tables = {"interventions": table_of(changed(BRAIN, accuracy=0.65, only=0.75)), "predictions": table}
    verdict = source_verdict(tables, facts_of(0.9))  # of 0.25, not of 0.4
    assert verdict["source"] == "cannot tell" and verdict["number"] == pytest.approx(0.4)
