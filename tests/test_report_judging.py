"""The verdict by itself: the same as the report's, and no more work than its rules ask for."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_report_explaining import Power, flicker

import eegxai_support as xs
from eegxai_support.recordings.results import read_recorded
from eegxai_support.report import judging
from eegxai_support.report.make import make_report
from eegxai_support.report.question import Question


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("eegxai_support.report.sections.Page.figure", lambda *args: "")


def test_the_verdict_is_that_of_the_report(tmp_path):
    """Of a network that reads flicker at Oz, with all the parts that the rules look at."""
    trials, model, late = flicker(n_trials=72, n_classes=2, amplitude=0.6), Power(2), np.arange(72) >= 24
    given = {"model": model, "trials": trials.subset(~late), "test": trials.subset(late)}
    page = make_report(out_dir=tmp_path, methods=["saliency", "deep_lift"], **given)
    verdict = xs.judge_decoder(**given)
    receipt = json.loads((page.parent / "receipt.json").read_text())
    assert {name: getattr(verdict, name) for name in ("source", "rule", "number", "text")} == receipt["verdict"]
    assert {name: verdict.decoder[name] for name in receipt["decoder"]} == pytest.approx(receipt["decoder"])
    table = read_recorded(tmp_path / "tables" / "interventions.parquet")
    pd.testing.assert_frame_equal(verdict.tables["interventions"], table, check_dtype=False)
    assert {"6-20 Hz", "Oz alone"} <= set(table["part"])
    assert not len(verdict.tables["leaks"]) and verdict.source != "nothing"


def test_of_a_decoder_at_chance_nothing_else_is_asked(monkeypatch):
    monkeypatch.setattr(judging, "kept_components", None)
    trials = flicker(n_trials=48, n_classes=2, amplitude=0.0)
    verdict = xs.judge_decoder("InterpretableCNN", trials, epochs=1)
    assert verdict.source == "nothing" and verdict.decoder["p"] >= 0.05
    assert "interventions" not in verdict.tables and len(verdict.tables["predictions"]) == 48


def test_of_trials_with_twins_nothing_else_is_asked(monkeypatch):
    monkeypatch.setattr(judging, "kept_components", None)
    once = flicker(n_trials=48, n_classes=2)
    twice = xs.concatenate([once, once])
    deal = np.arange(96) // 48
    trials = replace(twice, metadata=twice.metadata.assign(deal=deal))
    verdict = xs.judge_decoder(Power(2), trials.subset(deal == 0), test=trials.subset(deal == 1))
    assert verdict.source == "leak" and len(verdict.tables["leaks"]) == 48
    named = Question.of("EEGNet", trials, None, None, "deal", "judge_decoder")
    leaks, order = named.leaks(seed=0)
    assert len(leaks) == 96 and order["p"] > 0.05


def test_what_the_report_refuses_is_refused():
    trials = flicker(n_trials=24, n_classes=2)
    with pytest.raises(ValueError, match="judge_decoder needs the class"):
        xs.judge_decoder(Power(2), replace(trials, label=None, class_names=()))
    with pytest.raises(ValueError, match="n_controls is 0; expected 1 or more"):
        xs.judge_decoder(Power(2), trials, n_controls=0)
    with pytest.raises(ValueError, match="Name another column as group"):
        xs.judge_decoder("EEGNet", trials, group="session")
