"""The receipt says what the tables say, and verifying it notices a changed byte of anything that it names."""

import json
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from conftest import BOOK
from report_findings import make_findings

import eegxai_support as xs
from eegxai_support.__main__ import main
from eegxai_support.files import SEAL_KEY, UNSEALED, DamagedFileError, sealed
from eegxai_support.recordings import write_recorded
from eegxai_support.report import receipt as receipt_module
from eegxai_support.report.receipt import SCHEMA, file_digest, trials_digest, verify_receipt, write_receipt
from eegxai_support.report.sample import check_sample, evidence, read_sample, write_sample


def decoded(findings, seed=0):
    """Let two networks decode the trials, with what follows from it as the receipt has it."""
    trials, rng = findings.trials, np.random.default_rng(seed)
    n, n_classes, group = len(trials), trials.n_classes, trials.metadata["run"].to_numpy()
    log_p = rng.normal(size=(2, n, n_classes)) + 0.8 * np.eye(n_classes)[trials.label]
    tables = [
        pd.DataFrame({"trial": range(n), "seed": k, "group": group, "label": trials.label}).join(
            pd.DataFrame(each, columns=[f"log_p_{c}" for c in range(n_classes)])
        )
        for k, each in enumerate(log_p)
    ]
    findings.tables["predictions"] = pd.concat(tables, ignore_index=True)
    predicted = log_p.sum(0).argmax(1)
    right, count = predicted == trials.label, np.bincount(trials.label)
    of_class = [right[trials.label == c].mean() for c in range(n_classes)]
    findings.facts["decoder"] |= {
        "accuracy": right.mean(), "balanced_accuracy": np.mean(of_class),
        "chance": 1 / n_classes, "majority": count.max() / n,
        "p": xs.permutation_p_value(trials.label, predicted, group),
    }  # fmt: skip
    return findings


FINDINGS = decoded(make_findings(n_channels=4, classes=("left", "right", "feet"), n_trials=12, n_times=60))
WEIGHTS = "weights/network-0.safetensors"
METHODS = ("saliency", "deep_lift")


def network(trials=FINDINGS.trials, seed=0):
    _, n_channels, n_times = trials.signal.shape
    torch.manual_seed(seed)
    return xs.InterpretableCNN(n_channels, trials.n_classes, n_times, n_spatial=4, kernel_length=9).eval()


def write_numbers(folder, *, model=None, sample=FINDINGS.trials, methods=METHODS, named=True):
    model = model or network()
    xs.save(model, folder / WEIGHTS, **({} if named else {"network": None}))
    write_sample(folder / "sample.safetensors", model, sample, range(2, 12), methods, weights=WEIGHTS)


def write_all(folder, findings=FINDINGS, **options):
    """Write a report of a few bytes and its receipt, beside the folder of its recording."""
    data = folder.parent / "data/a.fif"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"a recording")
    (folder / "tables").mkdir(parents=True)
    (folder / "report.html").write_text("a page")
    (folder / "notes.txt").write_text("of the user's own")
    for name in ("peaks", "predictions"):
        write_recorded(findings.tables[name], folder / f"tables/{name}.parquet", {})
    write_numbers(folder, **options)
    return write_receipt(findings, folder, [(str(data), file_digest(data))])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("written") / "report").parents[1]


@pytest.fixture
def folder(written, tmp_path):
    """A copy of the report, and of the folder of its recording, to be changed."""
    shutil.copytree(written, tmp_path / "moved")
    return tmp_path / "moved/report"


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def problems(table):
    return table.loc[table["status"] != "ok", ["what", "name", "status"]].to_numpy().tolist()


def edit_receipt(folder, change):
    """Write the receipt with another content and a seal that fits it."""
    content = strict(folder / "receipt.json")
    change(content)
    text = json.dumps(content | {SEAL_KEY: UNSEALED})
    (folder / "receipt.json").write_bytes(sealed(text.encode()))


# ---- what it says ----------------------------------------------------------------------------------------------------


def schema():
    found = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def validate(path):
    jsonschema.validate(strict(path), schema(), cls=jsonschema.Draft202012Validator)


def test_receipt_says_what_the_tables_say(written):
    receipt, tables, facts = strict(written / "report/receipt.json"), FINDINGS.tables, FINDINGS.facts
    assert {name: receipt["decoder"][name] for name in facts["decoder"]} == facts["decoder"]  # the same floats
    assert receipt["verdict"] == facts["verdict"] and receipt["seeds"] == [0, 1]
    assert receipt["command"] == facts["command"] and receipt["network"] == facts["model"]
    for row in tables["methods"].itertuples():
        method = receipt["methods"][row.method]
        promised = None if np.isnan(row.relative_delta) else row.relative_delta
        assert method["relative_delta"] == promised and method["verdict"] == row.verdict
        assert method["sanity"] == {"labels": row.labels, "weights": row.weights}
        assert method["faithfulness"] == {"difference": row.faithfulness, "low": row.low, "high": row.high}
    assert receipt["peaks"].keys() == {"left", "right", "feet"}
    for name, peak in receipt["peaks"].items():
        rows = tables["peaks"][tables["peaks"]["class"] == name].set_index("method")
        assert peak["method"] == tables["peaks"]["method"].iloc[0]
        for found in (peak, *peak["others"]):
            row = rows.loc[found["method"]]
            assert (found["channel"], found["time"]) == (row["channel"], row["time"])
            assert found["frequency"] == (None if np.isnan(row["frequency"]) else row["frequency"])
        assert [it["method"] for it in (peak, *peak["others"])] == list(rows.index)
    assert receipt["versions"]["torch"] == version("torch")


def test_receipt_names_what_the_report_consists_of_and_nothing_else(written):
    receipt = strict(written / "report/receipt.json")
    assert receipt["files"].keys() == {
        "report.html",
        "sample.safetensors",
        "tables/peaks.parquet",
        "tables/predictions.parquet",
    }
    assert receipt["weights"].keys() == {WEIGHTS}
    assert receipt["data"]["files"] == {"../data/a.fif": file_digest(written / "data/a.fif")}
    for name, digest in (receipt["files"] | receipt["weights"]).items():
        assert digest == file_digest(written / "report" / name)


@pytest.mark.parametrize(
    "findings",
    [
        make_findings(n_channels=4, n_trials=12, n_times=60),
        make_findings(knows=False, n_channels=2, without=("peaks", "methods"), n_trials=6, n_times=40, seeds=(3,)),
    ],
    ids=["whole", "in parts"],
)
def test_receipt_keeps_to_its_schema(findings, tmp_path):
    findings.facts["decoder"] |= {"p": np.float64("nan"), "low": float("-inf"), "high": np.float32(0.5)}
    path = write_receipt(findings, tmp_path)
    validate(path)
    decoder = strict(path)["decoder"]
    assert (decoder["p"], decoder["low"], decoder["high"]) == (None, None, 0.5)
    assert bool(strict(path)["peaks"]) == ("peaks" in findings.tables)
    with pytest.raises(jsonschema.ValidationError):
        edit_receipt(tmp_path, lambda content: content["verdict"].update(source="something else"))
        validate(path)


def test_the_page_of_the_book_names_every_field():
    page = (BOOK / "receipt.md").read_text()
    for name in schema()["properties"]:
        assert f"`{name}`" in page, name
    for part in ("decoder", "verdict"):
        for name in schema()["properties"][part]["properties"]:
            assert f"`{name}`" in page, name


def test_trials_are_known_by_all_that_a_network_sees_of_them():
    from dataclasses import replace

    trials = FINDINGS.trials
    others = [
        trials.subset(range(11)), trials.crop(trials.tmin, trials.times[-1]), trials.pick(trials.info.ch_names[::-1]),
        replace(trials, label=(trials.label + 1) % 3), replace(trials, unit="uV"), replace(trials, tmin=0.5),
        replace(trials, signal=trials.signal * np.float32(1 + 1e-6)), replace(trials, class_names=("a", "b", "c")),
    ]  # fmt: skip
    digests = {trials_digest(each) for each in (trials, *others)}
    assert len(digests) == len(others) + 1 and trials_digest(replace(trials)) in digests


# ---- what verifying notices ------------------------------------------------------------------------------------------


def test_a_report_that_nobody_touched_stands_wherever_it_is(folder, capsys):
    table = verify_receipt(folder)
    assert problems(table) == []
    assert table["what"].value_counts().to_dict() == {"seal": 1, "file": 5, "data": 1, "number": 8}
    assert main(["verify", str(folder / "receipt.json")]) == 0
    assert "15 looked at: 15 ok." in capsys.readouterr().out


def test_any_changed_bit_of_the_receipt_is_refused(folder):
    path = folder / "receipt.json"
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert problems(verify_receipt(path)) == [["seal", "receipt.json", "refused"]], place
    path.write_bytes(content[:-1])
    assert main(["verify", str(path)]) == 1


@pytest.mark.parametrize("name", ["report.html", "tables/peaks.parquet", WEIGHTS, "sample.safetensors"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_changed_or_lost_file_is_refused_by_name(name, lost, folder, capsys):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).unlink() if lost else (folder / name).write_bytes(content)
    assert problems(verify_receipt(folder)) == [["file", name, "refused"]]
    assert main(["verify", str(folder / "receipt.json")]) == 1
    said = capsys.readouterr().out
    assert re.search(rf"(?m)^refused +file +{re.escape(name)}: ", said) and "1 refused" in said


def test_a_changed_recording_is_refused_and_a_lost_one_is_not_checked(folder):
    data = folder.parent / "data/a.fif"
    data.write_bytes(b"another one")
    assert problems(verify_receipt(folder)) == [["data", "../data/a.fif", "refused"]]
    data.unlink()
    assert problems(verify_receipt(folder)) == [["data", "../data/a.fif", "not checked"]]
    assert main(["verify", str(folder)]) == 0


def reseal_sample(path, change):
    content = path.read_bytes()
    arrays = safetensors.numpy.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    change(arrays, header)
    path.write_bytes(sealed(safetensors.numpy.save(arrays, header | {SEAL_KEY: UNSEALED})))


@pytest.mark.parametrize(("by", "refused"), [(1e-5, True), (1e-7, False)])
def test_a_number_is_refused_where_it_is_another_one(by, refused, folder):
    def change(arrays, _):
        values = arrays["map/deep_lift"]
        values[3, 1] += by * abs(values).max()

    reseal_sample(folder / "sample.safetensors", change)
    write_receipt(FINDINGS, folder)
    assert problems(verify_receipt(folder)) == ([["number", "deep_lift", "refused"]] if refused else [])


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "chance", "majority", "p"])
@pytest.mark.parametrize("number", ["more", None])
def test_a_receipt_that_says_another_number_than_the_predictions_is_refused(name, number, folder):
    def change(content):
        content["decoder"][name] = content["decoder"][name] * (1 + 1e-5) if number else None

    edit_receipt(folder, change)
    assert problems(verify_receipt(folder)) == [["number", name, "refused"]]


def test_weights_of_another_network_give_other_numbers(folder):
    other = network(seed=1)
    xs.save(other, folder / WEIGHTS)
    write_receipt(FINDINGS, folder)
    assert problems(verify_receipt(folder)) == [["number", name, "refused"] for name in ("outputs", *METHODS)]


def test_a_sample_of_weights_that_the_receipt_does_not_name_is_refused(folder):
    reseal_sample(folder / "sample.safetensors", lambda _, header: header.update(weights='"weights/other.safetensors"'))
    write_receipt(FINDINGS, folder)
    assert problems(verify_receipt(folder)) == [["number", "weights/other.safetensors", "refused"]]


@pytest.mark.parametrize("far", [False, True])
def test_other_versions_are_named_and_their_numbers_are_information(far, folder, monkeypatch, capsys):
    if far:
        other = network(seed=1)
        xs.save(other, folder / WEIGHTS)
        write_receipt(FINDINGS, folder)
    now = receipt_module.computed_with() | {"torch": "99.0", "processor": "abacus"}
    monkeypatch.setattr(receipt_module, "computed_with", lambda: now)
    table = verify_receipt(folder)
    assert set(table["status"]) == {"ok", "information"}
    found = table[table["what"] == "version"].set_index("name")["detail"]
    assert list(found.index) == ["torch", "processor"] and "99.0 now" in found["torch"]
    numbers = table[table["what"] == "number"]
    assert (numbers["status"] == "information").all() and len(numbers) == 8
    assert numbers["detail"].str.contains("more than the 0.001").tolist() == [False] * 5 + [far] * 3
    assert main(["verify", str(folder)]) == 0 and "99.0 now" in capsys.readouterr().out


def build(trials):
    assert trials.info.ch_names == FINDINGS.trials.info.ch_names and trials.class_names == ("left", "right", "feet")
    return network(trials, seed=5)


def test_a_network_of_ones_own_is_asked_for(tmp_path, monkeypatch, capsys):
    path = write_all(tmp_path / "report", named=False)
    table = verify_receipt(path)
    assert problems(table) == [["number", WEIGHTS, "not checked"]]
    assert "--network module:callable" in table["detail"].iloc[-1]
    mine = network(seed=7)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    for given in (build, mine, "test_report_receipt:build"):
        assert problems(verify_receipt(path, network=given)) == []
    assert all(torch.equal(before[name], value) for name, value in mine.state_dict().items())
    (tmp_path / "mine.py").write_text("from test_report_receipt import build\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert main(["verify", "report/receipt.json", "--network", "mine:build"]) == 0
    assert main(["verify", "report/receipt.json", "--network", "mine:other"]) == 2
    assert "eegxai verify: 'mine:other' names nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [(None, FileNotFoundError, "does not exist"), (b'{"title": "another"}', ValueError, "is no receipt")],
)
def test_what_is_no_receipt_is_named(content, error, said, tmp_path, capsys):
    path = tmp_path / "receipt.json"
    if content:
        path.write_bytes(content)
    with pytest.raises(error, match=said):
        verify_receipt(path)
    assert main(["verify", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"eegxai verify: {path} ")


def test_a_report_without_a_sample_says_so(folder):
    (folder / "sample.safetensors").unlink()
    (folder / "tables/predictions.parquet").unlink()
    write_receipt(FINDINGS, folder)
    table = verify_receipt(folder)
    assert problems(table) == [["number", "sample.safetensors", "not checked"]] and len(table) == 5


# ---- the sample ------------------------------------------------------------------------------------------------------


def test_evidence_is_the_logit_of_the_class_above_the_mean_of_the_others():
    outputs = torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 4.0], [1.0, 5.0, 3.0]])
    target = evidence(np.array([1, 2, 0]))
    trial = torch.tensor([0, 1, 0])
    assert target(outputs, trial).tolist() == [5 - 2, 4 - 1, 5 - 2]
    assert target(outputs, torch.tensor([2, 2, 2])).tolist() == [1 - 4, 2 - 2, 1 - 4]


def test_a_sample_holds_eight_trials_and_what_was_found_for_them(tmp_path):
    model, trials = network().train(), FINDINGS.trials
    write_sample(
        tmp_path / "it", model, trials, range(11, 1, -1), {"deep_lift": {"baseline": "trial_mean"}}, weights="w"
    )
    assert model.training
    sample, chosen = read_sample(tmp_path / "it"), trials.subset(range(11, 3, -1))
    assert sample.index.tolist() == [11, 10, 9, 8, 7, 6, 5, 4] and sample.weights == "w"
    np.testing.assert_array_equal(sample.trials.signal, chosen.signal)
    np.testing.assert_array_equal(sample.trials.label, chosen.label)
    np.testing.assert_array_equal(sample.trials.times, chosen.times)
    assert sample.trials.class_names == chosen.class_names and sample.trials.unit == chosen.unit
    for ours, theirs in zip(sample.trials.info["chs"], chosen.info["chs"], strict=True):
        assert ours["ch_name"] == theirs["ch_name"]
        np.testing.assert_array_equal(ours["loc"], theirs["loc"])
    logits = xs.predict(model, chosen.signal)
    np.testing.assert_array_equal(sample.outputs, logits)
    first = next(k for k, label in enumerate(chosen.label) if label == 0)
    by_hand = sum(
        xs.attribute(model, chosen.signal, (0, other), "deep_lift", baseline="trial_mean").values[first].sum(1) / 2
        for other in (1, 2)
    )
    np.testing.assert_allclose(sample.maps["deep_lift"][first], by_hand, rtol=1e-4, atol=1e-6)


def test_checking_a_sample_measures_how_far_another_network_is(tmp_path):
    write_numbers(tmp_path)
    path = tmp_path / "sample.safetensors"
    same = check_sample(path, network()).set_index("what")
    assert list(same.index) == ["outputs", *METHODS] and (same["relative"] == 0).all()
    other = network(seed=1)
    found = check_sample(path, other).set_index("what").loc["outputs"]
    chosen = FINDINGS.trials.subset(range(2, 10)).signal
    before, after = xs.predict(network(), chosen), xs.predict(other, chosen)
    assert found["largest"] == abs(before).max()
    assert found["difference"] == abs(after - before).max()
    assert found["relative"] == pytest.approx(abs(after - before).max() / abs(before).max())
    with torch.no_grad():
        other.final_layer.weight.fill_(torch.nan)
    with pytest.warns(UserWarning, match="not finite"):
        assert (check_sample(path, other)["relative"] == np.inf).all()


def test_a_damaged_sample_is_refused(tmp_path):
    write_numbers(tmp_path)
    path = tmp_path / "sample.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="is damaged"):
        check_sample(path, network())
    with pytest.raises(DamagedFileError, match="is no sample of a report"):
        read_sample(Path(tmp_path) / WEIGHTS)
