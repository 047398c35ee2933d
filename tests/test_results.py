"""The recorded results: what is committed is what the recordings give, and says where it comes from."""

import hashlib
import os
from pathlib import Path

import mne
import pandas as pd
import pytest
from conftest import ROOT

import eegxai_support as xs
from eegxai_support.files import DamagedFileError
from eegxai_support.recordings import results, write_recorded
from studies import accuracy
from studies.provenance import configuration_of
from studies.runner import all_studies

RECORDINGS = Path(os.environ.get("MNE_DATA", "")) / "MNE-eegbci-data"
needs_recordings = pytest.mark.skipif(
    not os.environ.get("MNE_DATA") or not RECORDINGS.exists(), reason="MNE_DATA does not hold the EEGBCI recordings"
)


STUDY_OF = {name: study for study in all_studies()[0].values() for name in study.names}


@pytest.mark.parametrize("name", STUDY_OF)
def test_every_result_is_committed_small_and_says_what_made_it(name):
    limit = 1_500_000 if name.startswith("leaderboard") else 100_000
    assert (ROOT / "book" / "results" / f"{name}.parquet").stat().st_size < limit
    table = xs.recorded(name)
    assert len(table)
    assert {"what", "command", "configuration", "versions", "data_sha256"} <= set(table.attrs)
    assert table.attrs["command"].endswith(f" {name}")


def test_every_file_of_results_is_a_table_of_a_study_or_of_the_benchmarks():
    assert {path.stem for path in (ROOT / "book" / "results").glob("*.parquet")} == {*STUDY_OF, "performance"}


@pytest.mark.parametrize("name", STUDY_OF)
def test_a_table_was_made_with_the_configuration_of_today(name):
    made, study = xs.recorded(name).attrs, STUDY_OF[name]
    today = configuration_of(study, name)
    # A function may have got another argument since, which `python -m studies --list` says; no value may change.
    for function, then in made["configuration"]["defaults"].items():
        today["defaults"][function] = {key: value for key, value in today["defaults"][function].items() if key in then}
    assert made["configuration"] == today


@pytest.mark.parametrize("name", STUDY_OF)
def test_a_table_was_made_from_the_recordings_that_its_study_names(name):
    study = STUDY_OF[name]
    expected = {path.name for path in study.tables[study.names[name]]()}
    made = set(xs.recorded(name).attrs["data_sha256"])
    # Neither the P300's files nor the drivers' come with a fixed list: the folder of this machine tells which.
    optional = {it for it in made | expected if not it.endswith(".edf")}
    assert made - optional == expected - optional


@needs_recordings
def test_results_come_from_the_recordings_at_hand():
    expected = xs.recorded("within_subject").attrs["data_sha256"]
    paths = mne.datasets.eegbci.load_data(7, (3, 4, 7, 8, 11, 12), update_path=False, verbose="ERROR")
    for path in map(Path, paths):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected[path.name]


@needs_recordings
def test_a_slice_computed_again_agrees():
    again = accuracy.within_subject(subjects=(7,), networks=("ShallowFBCSPNet",), seeds=(0,))
    recorded = xs.recorded("within_subject").query("subject == 7 and seed == 0 and decoder in @again.decoder")
    again, recorded = again.set_index("decoder"), recorded.set_index("decoder").loc[again["decoder"]]
    # On one machine the same trials in the same order give the same numbers. Another processor's kernels sum in another
    # order, and over hundreds of steps of training the rounding grows until single trials change sides.
    pd.testing.assert_frame_equal(again.loc[["CSP+LDA"]], recorded.loc[["CSP+LDA"]])
    assert abs(again["accuracy"] - recorded["accuracy"]).max() <= 3 / 45


def test_a_damaged_table_says_how_to_get_it_back(tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    write_recorded(pd.DataFrame({"a": [1]}), path, {})
    monkeypatch.setattr(results, "FOLDERS", (tmp_path,))
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"no parquet at all"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=r"table\.parquet is .*again; .*git checkout.*make results"):
            xs.recorded("table")
