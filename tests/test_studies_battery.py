"""The battery: decoders that are what they are said to be, and two halves that share nothing."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from test_report_verdict import BRAIN, table_of

import eegxai_support as xs
from eegxai_support.report.judging import DecoderVerdict
from eegxai_support.report.leaks import shared_samples
from studies import battery
from studies.battery import ANSWERS, HALVES, Cell, asked_of, cells


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Few trials, networks of one epoch, and recordings that are noise."""
    monkeypatch.setattr(battery, "N_TRIALS", 24)
    monkeypatch.setattr(battery, "N_LEAKED", 30)
    monkeypatch.setattr(battery, "N_OVERFITTED", 10)
    monkeypatch.setattr(battery, "OVERFITTED_EPOCHS", 1)
    monkeypatch.setattr(battery, "recorded", recorded)


def recorded(subject, ch_names, overlap=0.0):
    rng, step = np.random.default_rng(subject), round((battery.SECONDS - overlap) * battery.SFREQ)
    n_times = round(battery.SECONDS * battery.SFREQ)
    stream = 20 * rng.standard_normal((len(ch_names), 39 * step + n_times))
    stream -= stream.mean(0)
    signal = np.stack([stream[:, k * step : k * step + n_times] for k in range(39)])
    metadata = pd.DataFrame({"subject": subject, "session": 1, "run": np.arange(39) // 13})
    return xs.from_array(signal, battery.SFREQ, list(ch_names), metadata=metadata, unit="uV")


def cell(kind, subject=None, network="EEGNet", half="made on"):
    return Cell(half, kind, 0, network, subject, 7)


def test_the_judging_half_is_large_enough_and_shares_nothing_with_the_other():
    one, other = HALVES["made on"], HALVES["judged"]
    assert not set(one["subjects"]) & set(other["subjects"]) and not set(one["networks"]) & set(other["networks"])
    assert set(one["ch_names"]) != set(other["ch_names"])
    judged = cells("judged")
    counts = Counter(each.kind for each in judged)
    assert counts["honest"] >= 100 and all(counts[kind] >= 30 for kind in ANSWERS)
    every = [*judged, *cells("made on")]
    assert len({each.seed for each in every}) == len(every)
    for kind in ANSWERS:
        of_kind = [each for each in judged if each.kind == kind]
        assert {each.network for each in of_kind} == set(other["networks"])
        assert 0.3 < np.mean([each.subject is None for each in of_kind]) < 0.7
        assert {each.network for each in of_kind if each.subject} == set(other["networks"])
    assert {each.subject for each in judged} == {None, *other["subjects"]}


@pytest.mark.parametrize("subject", [None, 3])
def test_honest_decoders_have_a_source_and_others_none(subject):
    honest = asked_of(cell("honest", subject))["trials"]
    assert np.abs(honest.truth).max() > 0.5 and len(honest) == 24
    place = honest.info.ch_names[np.abs(honest.truth).max(axis=(0, 2)).argmax()]
    assert place in battery.PLACES
    assert np.abs(asked_of(cell("blinks", subject))["trials"].truth).max() < 1e-3


@pytest.mark.parametrize("kind", battery.SHORTCUTS)
def test_a_shortcut_is_in_the_trials_and_goes_along_with_the_class(kind, monkeypatch):
    with_it = asked_of(cell(kind, 3))["trials"]
    monkeypatch.setattr(battery, "add_shortcut", lambda trials, *args, **options: trials)
    without = asked_of(cell(kind, 3))["trials"]
    np.testing.assert_array_equal(with_it.label, without.label)
    size = np.abs(with_it.signal - without.signal).max(axis=(1, 2))
    assert size.max() > 1
    if kind not in ("glances", "drift"):
        assert size[with_it.label == 1].mean() > 2 * size[with_it.label == 0].mean()


def test_permuted_labels_keep_their_numbers_in_each_run(monkeypatch):
    permuted = asked_of(cell("permuted"))["trials"]
    monkeypatch.setattr(battery, "permuted", lambda trials, rng: trials)
    as_drawn = asked_of(cell("permuted"))["trials"]
    np.testing.assert_array_equal(permuted.signal, as_drawn.signal)
    assert (permuted.label != as_drawn.label).any() and np.abs(permuted.truth).max() > 0.5
    for run in (1, 2, 3):
        inside = (permuted.metadata["run"] == run).to_numpy()
        np.testing.assert_array_equal(np.sort(permuted.label[inside]), np.sort(as_drawn.label[inside]))


@pytest.mark.parametrize("subject", [None, 3])
def test_trials_that_leak_have_twins_in_other_groups(subject):
    asked = asked_of(cell("leak", subject))
    trials = asked["trials"]
    leaks = shared_samples(trials, trials.metadata[asked["group"]].to_numpy())
    assert len(leaks) > 0.5 * len(trials)
    label = trials.label
    assert (label[leaks["trial"]] == label[leaks["other"]]).mean() > 0.8  # neighbours share their label


def test_networks_that_are_given_are_asked_about_another_run():
    fresh = asked_of(cell("untrained"))
    built = xs.build_decoder("EEGNet", fresh["trials"], seed=7, **xs.recipe("EEGNet", battery.SFREQ))
    learnt = asked_of(cell("overfitted"))
    for name, value in built.state_dict().items():
        assert (value == fresh["model"].state_dict()[name]).all()
    assert any((value != learnt["model"].state_dict()[name]).any() for name, value in built.state_dict().items())
    assert len(learnt["trials"]) == 10 and set(learnt["test"].metadata["run"]) == {3}
    assert set(learnt["trials"].metadata["run"]) <= {1, 2}


def test_a_cell_is_computed_once_and_judged_by_the_rules_of_today(monkeypatch, tmp_path):
    monkeypatch.setattr(battery, "CELLS", tmp_path)
    asked = []

    def judge_decoder(model, trials, *, seed, **options):
        asked.append((model, len(trials), seed, options))
        decoder = {"n_trials": 24, "accuracy": 0.9, "balanced_accuracy": 0.9, "chance": 0.5, "p": 0.01, "low": 0.8}
        tables = {"interventions": table_of(BRAIN)} if len(asked) == 1 else {}
        return DecoderVerdict("muscle", "The rules of yesterday.", "", 0.9, decoder, tables)

    monkeypatch.setattr(battery, "judge_decoder", judge_decoder)
    row = battery.judged(cell("honest"))
    assert row == battery.judged(cell("honest")) and asked == [("EEGNet", 24, 7, {"epochs": battery.EPOCHS})]
    assert row["source"] == row["answer"] == "brain" and "'brain'" in row["rule"] and row["kind"] == "honest"
    assert row["p"] == 0.01 and row["number_of_rule"] == pytest.approx(0.75)
    early = battery.judged(cell("permuted"))  # decided before any part was removed
    assert early["source"] == "muscle" and early["rule"] == "The rules of yesterday." and len(asked) == 2
    monkeypatch.setattr(battery, "sources_but_rules", lambda: "others")
    battery.judged(cell("honest"))
    assert len(asked) == 3
