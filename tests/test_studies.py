"""Making the recorded tables: what is made again and why, what goes on after an error, what a table says of itself."""

import ast
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from conftest import ROOT, providers
from filelock import FileLock, Timeout
from joblib import Parallel, delayed

from eegxai_support.recordings import write_recorded
from eegxai_support.recordings.results import read_recorded
from studies import provenance, runner
from studies.form import Study, no_recordings
from studies.provenance import CHANGED
from studies.runner import all_studies

BASE = '''"""What is the number?"""
from pathlib import Path
import pandas as pd
from studies.form import Study, no_recordings

def number():
    """The number."""
    return pd.DataFrame({"number": [1]})

STUDY = Study({}, {number: no_recordings})
'''
SLOW = '''"""Does it go on where it was stopped?"""
import time
from pathlib import Path
from studies.base import number
from studies.form import Study, no_recordings

def first():
    """What is done at once."""
    return number() + 1

def second():
    """What waits."""
    while Path("wait").exists():
        Path("begun").touch()
        time.sleep(0.05)
    return number() + 2

STUDY = Study({}, dict.fromkeys((first, second), no_recordings))
'''
FAILING = '''"""Does an error stop the others?"""
import os
from pathlib import Path
import pandas as pd
from studies.form import Study, no_recordings

def missing():
    """What lacks its files."""
    raise FileNotFoundError("no P300 files in the cache")

def ended():
    """What the system stops."""
    os._exit(9)

def last():
    """What can be made."""
    return pd.DataFrame([{name: os.environ[name] for name in ("OMP_NUM_THREADS", "EEGXAI_CACHE")}])

def edited():
    """What is edited while it computes."""
    Path(__file__).write_text(Path(__file__).read_text() + "MORE = 1")
    return last()

STUDY = Study({}, dict.fromkeys((missing, ended, last, edited), no_recordings))
'''
HOURS = BASE.replace("def number", "def long").replace("{number:", "{long:").replace("s})", "s}, takes_hours=True)")


OF_A_READER = {"OMP_NUM_THREADS": "8", "EEGXAI_CACHE": "cache of a reader"}


class Project:
    """A checkout with studies of a moment and this package."""

    def __init__(self, root):
        self.root = root
        (root / "studies").mkdir()
        for name in provenance.MACHINERY:
            shutil.copy(ROOT / "studies" / f"{name}.py", root / "studies")
        (root / "eegxai_support").symlink_to(ROOT / "eegxai_support")

    def write(self, name, text):
        (self.root / "studies" / f"{name}.py").write_text(text)

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "studies", *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1", **OF_A_READER},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments):
        """Return exit status, and the outcome of each table from the list at the end."""
        process = self.start(*arguments)
        said, _ = process.communicate()
        listed = said[said.rindex("\n\n") :] if "\n\n" in said else said
        return process.returncode, dict(line.split(None, 1) for line in listed.strip().splitlines())

    def results(self):
        return {path.name: path.stat().st_mtime_ns for path in (self.root / "book" / "results").iterdir()}


def test_what_was_stopped_goes_on_what_failed_is_listed_and_what_changed_is_made_again(tmp_path):
    project = Project(tmp_path)
    project.write("base", BASE)
    project.write("slow", SLOW)
    (tmp_path / "wait").touch()
    process = project.start()
    while not (tmp_path / "begun").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".studies" / "lock").acquire(timeout=0)
    process.kill()  # the study's process, which waits, ends as well: until then it holds the other end of the pipe
    process.communicate(timeout=60)
    made = project.results()
    assert made.keys() == {"number.parquet", "first.parquet"}

    # Words are no change; a study that fails stops neither its own other tables nor the next study.
    (tmp_path / "wait").unlink()
    project.write("base", BASE.replace("The number.", "It.").replace("STUDY", "# The one and only.\nSTUDY"))
    project.write("failing", FAILING)
    project.write("broken", "import a_package_that_nobody_has")
    project.write("hours", HOURS)
    status, outcomes = project.run()
    assert status == 1
    assert outcomes["number"] == outcomes["first"] == "unchanged"
    assert outcomes["missing"] == "failed: FileNotFoundError: no P300 files in the cache"
    assert outcomes["ended"] == "failed: its process ended with status 9"
    assert outcomes["broken"].startswith("failed: ModuleNotFoundError: No module named 'a_package_that_nobody_has'")
    assert outcomes["last"].startswith("made in") and outcomes["second"].startswith("made in")
    assert outcomes["long"] == "left: made by `python -m studies hours`, which takes hours (never made)"
    assert outcomes["edited"].endswith("s, to be made again: studies/failing changed meanwhile")
    assert read_recorded(tmp_path / "book/results/edited.parquet").attrs["sources"]["studies/failing"] == CHANGED
    cache = str(tmp_path / ".studies" / "decoders")  # neither threads nor decoders come from the shell
    assert read_recorded(tmp_path / "book/results/last.parquet").to_numpy().tolist() == [["1", cache]]
    assert pd.read_parquet(tmp_path / "book/results/second.parquet")["number"].tolist() == [3]
    assert project.results().items() >= made.items()

    # A study that imports another one follows it.
    project.write("base", BASE.replace("[1]", "[10]"))
    project.write("failing", FAILING)
    (tmp_path / "studies" / "broken.py").unlink()
    status, outcomes = project.run("first", "last")
    assert status == 0 and outcomes.keys() == {"first", "last"}
    assert outcomes["last"] == "unchanged" and outcomes["first"].startswith("made in")
    assert pd.read_parquet(tmp_path / "book/results/first.parquet")["number"].tolist() == [11]
    sources = read_recorded(tmp_path / "book/results/first.parquet").attrs["sources"]
    assert {"studies/base", "studies/slow", "eegxai_support/recordings"} <= sources.keys()


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Write a table with what a study says of it; return study, recording, and a function that says why to make it."""
    monkeypatch.setattr(provenance, "RESULTS", tmp_path)
    recording = tmp_path / "S001R04.edf"
    recording.write_bytes(b"trials")

    def numbers(seeds=(0, 1)):
        """Say what a table holds."""

    study = Study({"window": (1.5, 3.5)}, {numbers: lambda: [recording]})
    digests = provenance.source_digests()
    made = provenance.provenance("maps", study, "numbers", digests, seconds=1.4)

    def why(study=study, digests=digests, **changes):
        write_recorded(pd.DataFrame({"a": [1]}), tmp_path / "numbers.parquet", made | changes)
        provenance._sha256.cache_clear()
        return provenance.why_make(study, "numbers", digests)

    return study, recording, made, why


def test_a_table_says_what_made_it(recorded):
    _, _, made, why = recorded
    assert made["configuration"] == {"window": [1.5, 3.5], "defaults": {"numbers": {"seeds": [0, 1]}}}
    assert (made["what"], made["command"]) == ("Say what a table holds.", "python -m studies numbers")
    assert made["versions"].keys() >= {"python", "torch", "numpy", "scipy", "pandas", "mne", "scikit-learn"}
    assert "eegxai-support" not in made["versions"]  # the hashes of its sources say more
    assert {"rich", "charset-normalizer"}.isdisjoint(made["versions"])  # whatever else is imported
    assert {"eegxai_support/model", "eegxai_support/recordings"} <= made["sources"].keys()
    assert made["threads"]["torch"] >= 1 and len(made["threads"]) > 1
    assert made["platform"].keys() == {"system", "machine", "cpu", "device"}
    assert made["seconds"] == 1 and list(made["data_sha256"]) == ["S001R04.edf"]
    assert why() is None


def test_every_change_is_a_reason_to_make_a_table(recorded, monkeypatch):
    study, _, _, why = recorded
    function = study.names["numbers"]
    assert why(Study({"window": (1, 3)}, study.tables)) == "configuration window changed"
    assert why(Study({**study.configuration, "more": 1}, study.tables)) == "configuration more changed"
    with monkeypatch.context() as patch:
        patch.setattr(function, "__defaults__", ((0, 2),))
        assert why() == "configuration defaults changed"
    assert why(digests={}).startswith("source ")


def test_recordings_that_differ_are_a_reason_and_absent_ones_are_none(recorded):
    _, recording, _, why = recorded
    recording.write_bytes(b"others")
    assert why() == "recording S001R04.edf changed"
    recording.unlink()
    assert why() is None
    recording.write_bytes(b"trials")
    assert why(data_sha256={}) == "recording S001R04.edf changed"


def test_a_source_that_changes_while_a_table_is_computed_is_a_reason(recorded):
    study, _, _, why = recorded
    for before in ("another", None):  # None: it was not there yet
        digests = provenance.source_digests() | {"eegxai_support/model": before}
        made = provenance.provenance("maps", study, "numbers", digests, seconds=1)
        assert [name for name, it in made["sources"].items() if it == CHANGED] == ["eegxai_support/model"]
        assert why(sources=made["sources"]) == "source eegxai_support/model changed"


def test_another_version_is_a_reason_and_a_package_that_lacks_is_none(recorded, monkeypatch):
    _, _, made, why = recorded
    assert why(versions=made["versions"] | {"torch": "1.0"}) == "version of torch changed"
    assert why(versions=made["versions"] | {"python": "2.7"}) == "version of python changed"
    assert why(versions=made["versions"] | {"rich": "1.0"}) is None  # computes nothing
    assert why(versions=made["versions"] | {"torch": None}) is None
    assert why(versions=made["versions"] | {"python": "2.7"}, sources={}) == "version of python changed"
    monkeypatch.setattr(provenance, "versions", lambda names: dict.fromkeys(["python", *names]))
    assert why() is None


def test_the_compared_versions_are_those_of_all_that_computes():
    """Every package that a study or the package imports is compared, but those that only store, ask or draw."""
    silent = """dask eegxai-support einops joblib lazy-loader matplotlib moabb pooch pyarrow pyyaml requests safetensors
    threadpoolctl tqdm filelock mne-bids packaging pillow pymatreader"""
    known, found = providers(), set()
    for path in (path for folder in ("studies", "eegxai_support") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [it.name for it in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found.update(package for name in names for package in known.get(name.partition(".")[0], ()))
    found = {name.lower() for name in found} - set(silent.split())
    assert found == set(provenance.LIBRARIES)


def test_two_runs_do_not_meet_in_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "KEPT", tmp_path)
    monkeypatch.setattr(runner, "_make_all", None)  # a call would fail
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)  # which would end this process another way
    with FileLock(tmp_path / "lock"):
        assert runner.main([]) == 1
    assert "another `python -m studies` is at work" in capsys.readouterr().out


def test_a_study_that_computed_side_by_side_ends_with_its_tables(tmp_path, monkeypatch):
    """joblib keeps its processes for five minutes, and multiprocessing waits for every child."""

    def side_by_side():
        """Numbers from other processes."""
        return pd.DataFrame({"x": Parallel(n_jobs=2)(delayed(abs)(k) for k in (-1, -2))})

    study = Study({}, {side_by_side: no_recordings})
    monkeypatch.setattr(runner, "import_module", lambda name: SimpleNamespace(STUDY=study))
    monkeypatch.setattr(runner, "_end_with_parent", lambda: None)
    monkeypatch.setattr(runner, "RESULTS", tmp_path)
    here, there = Pipe()
    runner._make("asked", ("side_by_side",), there)
    assert here.recv().startswith("made in")
    assert not [child for child in psutil.Process().children() if "--process-name" in child.cmdline()]


def test_force_begins_an_empty_cache_of_decoders(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "KEPT", tmp_path)
    (tmp_path / "decoders").mkdir()
    for force in (False, True):
        runner._make_all({}, Namespace(force=force, names=[]), {})
        assert (tmp_path / "decoders").exists() != force


def test_what_is_not_there_or_damaged_or_says_nothing_of_its_sources_is_made(recorded, tmp_path):
    study, _, _, _ = recorded
    assert provenance.why_make(study, "numbers", {}) == "never made"
    path = tmp_path / "numbers.parquet"
    write_recorded(pd.DataFrame({"a": [1]}), path, {"configuration": {}})
    assert provenance.why_make(study, "numbers", {}) == "made before its sources were recorded"
    path.write_bytes(path.read_bytes()[:-9])
    assert provenance.why_make(study, "numbers", {}) == "damaged"


def test_the_commit_says_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit() is None  # no repository
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    (tmp_path / "book/results").mkdir(parents=True)
    (tmp_path / "file").touch()
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "book/results/table.parquet").touch()  # made a moment ago
    clean = provenance.commit()
    assert len(clean) == 40
    (tmp_path / "file").write_text("changed")
    assert provenance.commit() == clean + "+changes"


def test_every_study_asks_and_every_table_says_what_it_holds():
    found, failed = all_studies()
    assert not failed and len(found) >= 11
    names = [name for study in found.values() for name in study.names]
    assert len(names) == len(set(names)), "two studies make a table of one name"
    for name, study in found.items():
        question = sys.modules[f"studies.{name}"].__doc__.partition("\n\n")[0]
        assert "?" in question, f"studies.{name} does not say what it asks"
        for table in study.tables:
            assert table.__doc__
            provenance.configuration_of(study, table.__name__)  # is JSON
            assert all(isinstance(path, Path) for path in study.tables[table]())
