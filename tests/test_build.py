"""The build of a small book, by real processes: side by side, past what fails, and on from where it was stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys

import build_book
import execution
import nbformat
import psutil
import pytest
from conftest import CHAPTERS, ROOT, wait_for
from jupyter_cache import get_cache

from eegxai_support.files import PARTIAL
from eegxai_support.recordings.cache import cache_folder

CONFIG = """\
title: small
only_build_toc_files: true
execute: {execute_notebooks: cache, raise_on_error: true}
html: {use_repository_button: false}
"""
MARK = "from pathlib import Path\nopen(f'../runs/{NAME}', 'a').write('x')"  # a letter for every execution


class SmallBook:
    """A book in a folder of its own, with the tools of this one."""

    def __init__(self, root):
        self.root = root
        shutil.copytree(ROOT / "tools", root / "tools")
        for folder in ("book", "runs", "data"):
            (root / folder).mkdir()
        (root / "_config.yml").write_text(CONFIG)
        (root / "requirements.lock").touch()
        (root / "book/index.md").write_text("# Small\n")

    def write(self, **chapters):
        """Write a chapter for each name, with one code cell for each text; `wait` is a cell that waits for a file."""
        for name, cells in chapters.items():
            code = [f"NAME = {name!r}", MARK, *cells]
            cells = [nbformat.v4.new_markdown_cell(f"# {name}"), *map(nbformat.v4.new_code_cell, code)]
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), self.root / f"book/{name}.ipynb")
        files = "\n".join(f"  - file: {path.stem}" for path in sorted((self.root / "book").glob("*.ipynb")))
        (self.root / "book/_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{files}\n")

    def start(self, **variables):
        data = {"PYTHONPATH": str(ROOT), "MNE_DATA": str(self.root / "data")}
        environment = {**os.environ, **data, "EEGXAI_TIMEOUT": "120", **variables}
        command = [sys.executable, self.root / "tools/build_book.py"]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.root, env=environment, text=True, **pipe)

    def build(self, **variables):
        """Build the book; return the exit status and what was printed."""
        with self.start(**variables) as process:
            printed = process.communicate()[0]
        return process.returncode, printed

    def runs(self):
        """Return name -> number of times that the chapter ran."""
        return {path.name: len(path.read_text()) for path in (self.root / "runs").iterdir()}


@pytest.fixture
def book(tmp_path):
    return SmallBook(tmp_path)


def until_exists(path):
    """Return a code cell that waits for a file."""
    return f"import time\nwhile not Path('{path}').exists():\n    time.sleep(0.05)"


def test_chapters_run_side_by_side_in_one_thread_each_and_pages_show_what_they_gave_last(book):
    """Each waits for the other: one after the other they would wait for ever.

    Sphinx looks at a page's file alone, and that stays as it was when something else changed.
    """
    if build_book.n_kernels() < 2:
        pytest.skip("cores or free memory are enough for one chapter at a time")
    said = "import os\nprint('threads:', os.environ['OMP_NUM_THREADS'], 'value', Path('../value').read_text())"
    book.write(one=[until_exists("../runs/two"), said], two=[until_exists("../runs/one"), said])
    for n, value in enumerate(("7", "8"), start=1):
        (book.root / "value").write_text(value)
        (book.root / "requirements.lock").write_text(value)
        status, printed = book.build()
        assert status == 0, printed
        assert "2 of 2 pages with code to run" in printed and "Executing notebook" not in printed
        for name in ("one", "two"):
            assert f"threads: 1 value {value}" in (book.root / f"_build/html/{name}.html").read_text()
        assert book.runs() == {"one": n, "two": n}


def test_build_goes_on_past_what_fails_and_runs_nothing_twice(book):
    dies = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    slow = "# why\nimport time; time.sleep(600)"
    book.write(good=["1 + 1"], wrong=["# why\n1 / 0\n2"], dead=[dies], slow=[slow])
    status, printed = book.build(EEGXAI_TIMEOUT="5")
    assert status == 1 and "book: good took" in printed
    failures = printed[printed.index("\nFAILED: ") :]
    assert "book/wrong.ipynb, code cell 3: ZeroDivisionError: division by zero\n    1 / 0\n" in failures
    assert re.search(r"book/dead.ipynb, code cell 3: its kernel died, .* GB are free", failures)
    assert re.search(
        r"book/slow.ipynb, code cell 3: it took longer than 5 s\. In the last minute [\d.]+ processes wanted"
        rf" the {os.cpu_count()} cores .*EEGXAI_TIMEOUT=10\)\.\n    import time; time.sleep\(600\)",
        failures,
    )
    assert failures.count("FAILED") == 3 and "good" not in failures and "ipykernel" not in printed

    book.write(wrong=["1 / 1"], dead=["'alive'"], slow=["'quick'"])
    status, printed = book.build()
    assert status == 0, printed
    assert book.runs() == {"good": 1, "wrong": 2, "dead": 2, "slow": 2}
    assert "alive" in (book.root / "_build/html/dead.html").read_text()


def test_limit_that_is_no_number_is_refused_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setenv("EEGXAI_TIMEOUT", "1 h")
    monkeypatch.setattr(build_book, "execute_pages", None)  # a call would fail
    assert build_book.main() == 1
    assert capsys.readouterr().out.startswith("FAILED: EEGXAI_TIMEOUT is '1 h'")


@pytest.fixture
def here(book, monkeypatch):
    """Let this process build the small book."""
    for name, folder in {"ROOT": "", "BOOK": "book", "BUILD": "_build"}.items():
        monkeypatch.setattr(build_book, name, book.root / folder)
    for name in ("MNE_DATASETS_EEGBCI_PATH", "MNE_DATASETS_DROWSINESS_PATH"):
        monkeypatch.setenv(name, str(book.root / "data"))
    by_ctrl_c = signal.getsignal(signal.SIGINT)
    yield book
    signal.signal(signal.SIGINT, by_ctrl_c)  # which a build leaves to the system


def test_build_that_is_stopped_leaves_no_kernel_and_goes_on_where_it_was(here, capsys):
    book = here
    pid = book.root / "pid"
    record = "import os\nPath('../pid').write_text(str(os.getpid()))"
    book.write(quick=["'done'"], long=[record, until_exists("../go")])  # of new pages the last one begins
    for by, line in ((signal.SIGINT, "book: quick took"), (signal.SIGKILL, "1 of 2 pages with code to run")):
        pid.write_text("")
        with book.start() as process:
            assert any(line in printed for printed in process.stdout)
            wait_for(pid.read_text)
            if by == signal.SIGINT:
                assert build_book.main() == 1
                assert "another `make book` is at work" in capsys.readouterr().out
            process.send_signal(by)
        assert process.returncode == -by
        wait_for(lambda: not psutil.pid_exists(int(pid.read_text())))

    (book.root / "go").touch()
    assert build_book.execute_pages(get_cache(book.root / "_build/.jupyter_cache")) == []
    assert "1 of 2 pages with code to run" in capsys.readouterr().out
    assert book.runs() == {"quick": 1, "long": 3}


def test_page_runs_again_where_its_outputs_are_torn_or_what_they_depend_on_changed(here):
    book = here
    book.write(one=["1 / 0"], two=[])
    cache = get_cache(book.root / "_build/.jupyter_cache")
    assert len(build_book.execute_pages(cache)) == 1
    book.write(one=[])
    assert build_book.execute_pages(cache) == [] and book.runs() == {"one": 2, "two": 1}

    kept = sorted((book.root / "_build/.jupyter_cache/executed").rglob("base.ipynb"))
    kept[0].write_text(kept[0].read_text()[:50])
    kept[1].unlink()
    recording = book.root / "data/MNE-eegbci-data/S001R04.edf"
    recording.parent.mkdir()
    for n, change in enumerate((None, recording, book.root / "requirements.lock"), start=2):
        if change:
            change.write_text("new")
        assert build_book.execute_pages(cache) == [] and book.runs() == {"one": n + 1, "two": n}
    assert build_book.execute_pages(cache) == [] and book.runs() == {"one": n + 1, "two": n}


def test_outputs_that_cannot_be_kept_are_that_page_s_failure(here, monkeypatch):
    """As on a full disk: the others are kept."""
    monkeypatch.setattr(build_book, "execute", lambda page, notebook: 1.0)
    here.write(one=[], two=[])
    cache = get_cache(here.root / "_build/.jupyter_cache")
    notebook = build_book.read(here.root / "book/one.ipynb")
    in_its_place = cache.path / "executed" / cache.create_hashed_notebook(notebook)[1]
    in_its_place.parent.mkdir()
    in_its_place.touch()
    (failure,) = build_book.execute_pages(cache)
    assert re.fullmatch(r"book/one.ipynb: it ran, but its outputs could not be kept: \[Errno .*", failure)
    assert [record.uri for record in cache.list_cache_records() if "two" in record.uri]
    in_its_place.unlink()
    ran = []
    monkeypatch.setattr(build_book, "execute", lambda page, notebook: ran.append(page.stem) or 1.0)
    assert build_book.execute_pages(cache) == [] and ran == ["one"]


def test_what_only_words_changed_in_runs_no_page_again(here):
    package, results = here.root / "eegxai_support", here.root / "book/results"
    for folder in (package, results):
        folder.mkdir()
    (package / "one.py").write_text('"""Words."""\n\nONE = 1\n')
    (results / "table.parquet").write_text("1")
    before = build_book.sources()
    (package / "one.py").write_text('"""Other words."""\n\nONE = 1  # why\n')
    (results / "README.md").write_text("Words.")
    (results / PARTIAL.replace("*", "killed")).write_text("2")
    assert build_book.sources() == before
    seen = {before}
    for path, text in (
        (package / "one.py", "ONE = 2"),
        (package / "one.py", "ONE ="),
        (results / "table.parquet", "2"),
        (results / "leaderboard.yml", "2"),
    ):
        path.write_text(text)
        seen.add(build_book.sources())
    assert len(seen) == 5


def test_recordings_at_hand_are_told_from_others(tmp_path, monkeypatch):
    nothing = None
    for dataset, name in {
        "EEGBCI": "MNE-eegbci-data/files/eegmmidb/1.0.0/S001/S001R04.edf",
        "DROWSINESS": "eeg-drowsiness/dataset.mat",
    }.items():
        monkeypatch.setenv("MNE_DATA", str(tmp_path / dataset))
        monkeypatch.delenv(f"MNE_DATASETS_{dataset}_PATH", raising=False)
        seen = [nothing or build_book.recordings(), build_book.recordings()]
        nothing = seen[0]
        file = cache_folder(dataset) / name
        file.parent.mkdir(parents=True)
        for content in (b"", b"longer"):
            file.write_bytes(content)
            seen.append(build_book.recordings())
        assert seen[0] == seen[1] and len(set(seen)) == 3
        monkeypatch.setenv(f"MNE_DATASETS_{dataset}_PATH", str(tmp_path / "elsewhere"))
        assert build_book.recordings() == nothing


def test_every_loader_of_a_chapter_has_its_recordings_told_apart():
    """One more loader needs its files in `build_book.RECORDINGS`."""
    code = "".join(line for path in CHAPTERS for line in re.findall(r"(?m)^(?!#).*\n", path.read_text()))
    assert {*re.findall(r"xs\.(load_\w+)", code)} == {"load_motor_imagery", "load_drowsiness"}
    assert build_book.RECORDINGS.keys() == {"EEGBCI", "DROWSINESS"}


def test_settings_that_are_made_already_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    kept = execution.environment()
    assert (kept["OMP_NUM_THREADS"], kept["MKL_NUM_THREADS"], kept["NUMBA_NUM_THREADS"]) == ("3", "1", "1")


def test_every_page_with_code_is_found():
    found = {path.relative_to(build_book.BOOK).as_posix() for path in build_book.pages_with_code()}
    assert {"montages.md", "foundations/01_known_answer_eeg.ipynb"} <= found and "index.md" not in found
    chapters = {path.with_suffix(".ipynb").relative_to(build_book.BOOK).as_posix() for path in CHAPTERS}
    assert found >= chapters
