"""The report as a whole, on trials of a few channels and networks of one epoch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from refusals import on_the_page
from test_report_explaining import flicker, linear

import eegxai_support as xs
from eegxai_support.recordings.results import read_recorded
from eegxai_support.report.judging import most_relevant
from eegxai_support.report.make import make_report
from eegxai_support.report.verdict import SOURCES

ABOUT = {"title": "Flicker", "notes": ["A note."], "command": "eegxai report x.fif"}
SMALL = {"methods": ["deep_lift", "saliency"], "seeds": 1, "epochs": 1}


def small(**options):
    return flicker(n_trials=48, n_classes=2, **options)


def make(trials, folder, model="InterpretableCNN", **options):
    return make_report(model, trials, folder, **SMALL | options)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of two classes and three runs: its folder, and the trials."""
    folder, trials = tmp_path_factory.mktemp("report"), small()
    page = make(trials, folder, **ABOUT)
    return page, trials


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """Leave the drawings to `report` and to the tests of the page: they take most of the time of so small a report."""
    monkeypatch.setattr("eegxai_support.report.sections.Page.figure", lambda *args: "")


def test_a_report_is_a_page_its_numbers_and_a_receipt(report):
    page, trials = report
    text = page.read_text(encoding="utf-8")
    assert "Flicker" in text and "A note." in text and "eegxai report x.fif" in text and "<figure" in text
    receipt = json.loads((page.parent / "receipt.json").read_text())
    assert receipt["verdict"]["source"] and set(receipt["methods"]) == set(SMALL["methods"])
    table = read_recorded(page.parent / "tables" / "predictions.parquet")
    right = xs.accuracy(table["label"], table["predicted"], 2)
    assert receipt["decoder"]["accuracy"] == pytest.approx(right.accuracy)
    assert sorted(table["trial"]) == list(range(len(trials)))
    assert {path.name for path in page.parent.glob("weights/*")} == {f"fold{k}-seed0.safetensors" for k in (1, 2, 3)}


def test_a_report_verifies_and_its_numbers_are_computed_again(report):
    found = xs.verify_receipt(report[0].parent)
    assert set(found["status"]) == {"ok"}, found[found["status"] != "ok"]
    assert set(SMALL["methods"]) <= set(found.loc[found["what"] == "number", "name"])


def test_a_report_that_is_there_is_not_computed_again(report, monkeypatch):
    page, trials = report
    before = {path: path.read_bytes() for path in (page.parent / "tables").iterdir()}

    def never(*args, **kwargs):
        raise AssertionError("computed again")

    for name in ("decoding.train", "explaining.attribute", "receipts.attribute", "judging.remove_parts"):
        monkeypatch.setattr(f"eegxai_support.report.{name}", never)
    make(trials, page.parent, **ABOUT)
    assert before == {path: path.read_bytes() for path in (page.parent / "tables").iterdir()}


def test_a_report_that_was_killed_at_ten_places_ends_with_the_same_numbers(report, tmp_path):
    whole, stopped = report[0].parent, tmp_path / "stopped"
    command = [sys.executable, ROOT / "tests" / "report_killed.py", stopped]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "tests", check=False)
    assert ended.returncode == 0, ended.stderr
    kills, last = map(int, ended.stdout.split()[-2:])
    assert kills >= 10 and last == 0
    names = [path.name for path in (whole / "tables").iterdir()]
    assert "channels.parquet" in names
    for name in names:
        pd.testing.assert_frame_equal(*(read_recorded(folder / "tables" / name) for folder in (whole, stopped)))
    receipts = [json.loads((folder / "receipt.json").read_text()) for folder in (whole, stopped)]
    assert receipts[0]["methods"] == receipts[1]["methods"]
    assert set(xs.verify_receipt(stopped)["status"]) == {"ok"}


def test_a_network_that_was_given_explains_its_test_trials(tmp_path):
    trials, model = small(), linear(2)
    test = small(seed=5)
    page = make_report(model, trials, tmp_path, test=test, methods=["deep_lift"], quick=True)
    receipt = json.loads((page.parent / "receipt.json").read_text())
    assert receipt["explained"]["origin"] == "test trials"
    assert receipt["decoder"]["n_trials"] == len(test)
    found = xs.verify_receipt(page.parent, network=model)
    assert not (found["status"] == "refused").any()


def test_another_preparation_is_another_question(tmp_path):
    trials, model = small(), linear(2)

    def channels(prepare, folder):
        make_report(model, trials, folder, prepare=prepare, methods=["deep_lift"], quick=True)
        return read_recorded(folder / "tables" / "channels.parquet")

    def flipped(it):
        return replace(it, signal=it.signal[:, ::-1].copy())

    channels(lambda it: it, tmp_path / "one")
    pd.testing.assert_frame_equal(channels(flipped, tmp_path / "one"), channels(flipped, tmp_path / "two"))


def test_weights_of_another_report_in_the_folder_are_not_taken(tmp_path):
    def predictions(epochs):
        make(small(), tmp_path, methods=["saliency"], epochs=epochs, quick=True)
        return read_recorded(tmp_path / "tables" / "predictions.parquet")

    first, other, again = map(predictions, (1, 2, 1))
    assert not first.equals(other)
    pd.testing.assert_frame_equal(first, again)


class OneOutput(torch.nn.Module):
    """Power at 12 Hz against that at 8 Hz, as one number."""

    def __init__(self, end):
        super().__init__()
        self.end, self.gain = end, torch.nn.Parameter(torch.tensor(1.0))
        phase = 2 * np.pi * torch.arange(64) / 64.0 * torch.tensor([8.0, 12.0])[:, None]
        self.register_buffer("waves", torch.stack([phase.cos(), phase.sin()], 1).reshape(4, 1, 64))

    def forward(self, x):
        power = torch.nn.functional.conv1d(x.mean(1, keepdim=True), self.waves).square().mean(2)
        return self.end(self.gain * (power[:, 2:].sum(1) - power[:, :2].sum(1)) / 1000)[:, None]


@pytest.mark.parametrize("end", [torch.nn.Identity(), torch.nn.Sigmoid()])
def test_a_network_of_one_output_is_one_of_two_classes(end, tmp_path):
    make_report(OneOutput(end), small(), tmp_path, methods=["saliency"], quick=True)
    predictions, removals = (read_recorded(tmp_path / "tables" / f"{n}.parquet") for n in ("predictions", "removals"))
    assert (predictions["label"] == predictions["predicted"]).mean() > 0.9
    assert set(removals["predicted"]) == {0, 1}


class Recurrent(torch.nn.Module):
    """A network that DeepLIFT has no rule for."""

    def __init__(self):
        super().__init__()
        self.lstm, self.end = torch.nn.LSTM(4, 3, batch_first=True), torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.end(self.lstm(x.transpose(1, 2))[0][:, -1])


@pytest.mark.parametrize("patterns", [True, False])
def test_where_no_method_has_a_rule_the_page_says_so_and_goes_on(patterns, tmp_path, monkeypatch):
    def none(*args):
        raise xs.UnsupportedOperation("no gradient passes here")

    if not patterns:
        monkeypatch.setattr("eegxai_support.report.explaining.amplitude_gradients", none)
    page = make_report(Recurrent(), small(), tmp_path, methods=["deep_lift"], quick=True)
    text, receipt = page.read_text(encoding="utf-8"), json.loads((tmp_path / "receipt.json").read_text())
    assert "deep_lift has no rule for" in text and receipt["methods"] == {} == receipt["peaks"]
    assert ("no gradient passes here" in text) != patterns
    assert receipt["verdict"]["source"] in SOURCES and not (xs.verify_receipt(tmp_path)["status"] == "refused").any()


def test_files_of_an_earlier_report_go_and_those_of_the_user_stay(tmp_path):
    kept = [tmp_path / name for name in ("my.html", "my.safetensors", "tables/my.parquet", "weights/my.safetensors")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("the user's own")
    make(small(), tmp_path, methods=["saliency", "deep_lift"])
    earlier = json.loads((tmp_path / "receipt.json").read_text())
    changed = tmp_path / "tables/maps_deep_lift.parquet"
    changed.write_bytes(b"changed since")
    make(small(runs=2), tmp_path, methods=["saliency"])
    assert changed.read_bytes() == b"changed since"
    found = json.loads((tmp_path / "receipt.json").read_text())
    gone = {name for part in ("files", "weights") for name in set(earlier[part]) - set(found[part])}
    assert gone == {"tables/maps_deep_lift.parquet", "weights/fold3-seed0.safetensors"}
    assert (tmp_path / "weights/fold3-seed0.safetensors").exists()  # another report may take it again
    make(small(runs=2), tmp_path, methods=["deep_lift"])
    assert not (tmp_path / "tables/maps_saliency.parquet").exists()
    assert {path.read_text() for path in kept} == {"the user's own"}
    assert not {str(path.relative_to(tmp_path)) for path in kept} & (set(found["files"]) | set(found["weights"]))


def test_other_methods_need_no_other_training(tmp_path, monkeypatch):
    make(small(), tmp_path, methods=["saliency"])
    monkeypatch.setattr("eegxai_support.report.decoding.train", None)
    make(small(), tmp_path, methods=["deep_lift"], quick=True)


def test_trials_sorted_by_class_without_onsets_are_no_leak_and_the_page_says_what_is_not_known(tmp_path):
    trials = small()
    by_class = trials.subset(np.argsort(trials.label, kind="stable"))
    blocks = by_class.metadata["run"].rename("blocks")
    by_class = replace(by_class, metadata=by_class.metadata.assign(blocks=blocks))
    page = make(by_class, tmp_path, methods=["saliency"], quick=True, group="blocks")
    assert "within each block," in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "receipt.json").read_text())["verdict"]["source"] != "leak"
    assert "sorted by class and have no onsets" in page.read_text(encoding="utf-8")


def test_subjects_may_be_numbers_and_names(tmp_path):
    trials = small()
    subject = pd.Series([7 if run else "unknown" for run in trials.metadata["run"]], trials.metadata.index, object)
    make(replace(trials, metadata=trials.metadata.assign(subject=subject)), tmp_path, quick=True)
    table = read_recorded(tmp_path / "tables" / "trials.parquet")
    assert set(table["subject"]) == {"7", "unknown"}


FAULTS = {
    "no classes": (lambda t: replace(t, label=None, class_names=()), {}, "needs the class of each trial"),
    "one class": (
        lambda t: replace(t, label=np.zeros(48, int), class_names=("a",)),
        {},
        "All trials are of the class a",
    ),
    "seven trials of a class": (
        lambda t: t.subset(np.r_[np.flatnonzero(t.label == 0)[:7], np.flatnonzero(t.label == 1)]),
        {},
        "8 Hz 7, 12 Hz 24; a report needs 8 of each",
    ),
    "unknown method": (None, {"methods": ["deeplift"]}, "Did you mean 'deep_lift'"),
    "no method": (None, {"methods": []}, "methods is empty"),
    "unknown group": (None, {"group": "hand"}, "no metadata column 'hand'|hand"),
    "one group": (lambda t: replace(t, metadata=t.metadata.assign(run=1)), {}, "All trials are of one run"),
    "no seed": (None, {"seeds": 0}, "seeds is 0"),
    "no epoch": (None, {"epochs": 0}, "epochs is 0"),
    "a network that has seen all trials": (
        None,
        lambda t: {"model": trained_on(t)},
        "All 48 trials are among those that the Sequential was trained on",
    ),
    "test trials that the network has seen": (
        None,
        lambda t: {"model": trained_on(t), "test": t.subset(t.metadata["run"] == 1)},
        "16 of 16 test trials are among those",
    ),
    "a network for other channels": (
        None,
        lambda t: {"model": xs.InterpretableCNN(5, 2, t.signal.shape[2], kernel_length=9)},
        "has 4 channels but the model expects 5",
    ),
    "a network for another rate": (None, lambda t: {"model": made_for(t, 2 * t.sfreq)}, "was made for"),
}


def trained_on(trials):
    return xs.train(linear(2), trials, epochs=1).model


def made_for(trials, sfreq):
    model = linear(2)
    model.sfreq = sfreq
    return model


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_reported_is_refused_before_anything_is_written(fault, tmp_path):
    change, options, message = FAULTS[fault]
    trials = small() if change is None else change(small())
    options = options(trials) if callable(options) else options
    with pytest.raises(ValueError, match=message) as raised:
        make(trials, tmp_path / "out", **options)
    assert on_the_page("A report", fault, str(raised.value)), raised.value
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_the_channel_with_the_largest_share_of_each_method_is_removed_alone():
    rows = [("a", "trained", "C3", 0.6), ("a", "trained", "C4", 0.4), ("b", "trained", "C4", 0.9)]
    rows += [("b", "trained", "C3", 0.1), ("b", "untrained", "Oz", 1.0)]
    table = pd.DataFrame(rows, columns=["method", "network", "channel", "share"])
    assert most_relevant(table, ["b", "a", "c"]) == ["C4", "C3"]


def test_a_path_is_a_path(report):
    assert isinstance(report[0], Path) and report[0].name == "report.html"
