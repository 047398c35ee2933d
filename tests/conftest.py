"""What several test files share: the chapters, one execution of each, and the process that others are forked from.

What takes seconds to import is imported where it is used: with two workers, a third process loads this file as well.
"""

import os
import sys
import time
from functools import cache
from importlib.metadata import packages_distributions
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import execution

# Test processes share the cores as kernels do, and papermill's kernels inherit it. Before torch and NumPy are imported.
os.environ |= execution.environment()

import pytest
from filelock import FileLock

BOOK = ROOT / "book"
TEMPLATE = BOOK / "template/chapter.py"
CHAPTERS = [path for path in sorted(BOOK.glob("*/*.py")) if path != TEMPLATE]

providers = cache(packages_distributions)  # reads the files of every package, for a second


def chapter_id(path: Path) -> str:
    return path.relative_to(BOOK).with_suffix("").as_posix()


def pytest_generate_tests(metafunc):
    """Run a test that asks for a `chapter` on each chapter and on the template."""
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", [*CHAPTERS, TEMPLATE], ids=chapter_id)


LONGEST = "notebooks book kernels every_decoder benchmark devices studies build scoring attribution imports lrp".split()


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no worker is left alone with one of them."""
    place = {f"test_{name}": n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


# Warm kernels of tools/kernels.py, and `fork_server` below: a process has one such server, with what it imported first.
SHARED = ("test_notebooks test_book test_kernels", "test_benchmark test_stress")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give the files that fork from one process to one worker, as if they were one: it takes ten seconds to start."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return next((group for group in SHARED if Path(file).stem in group.split()), file)

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Start each test, and the fixtures it makes, from the same random numbers: what ran before it here is chance."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002


def wait_for(condition):
    """Wait until something is so; fail where it never is."""
    for _ in range(1200):  # two minutes, for a busy machine
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def hide(monkeypatch, module):
    """Let a module be missing, whatever was imported of it."""
    for name in {module, *(name for name in sys.modules if name.startswith(f"{module}."))}:
        monkeypatch.setitem(sys.modules, name, None)


def violations(page, *rules):
    """Return what axe-core finds wrong on a page, by these of its rules or by all: impact, rule, elements of each."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(page, options=options).response["violations"]
    return [(each["impact"], each["id"], [node["target"] for node in each["nodes"]]) for each in found]


@pytest.fixture(autouse=True)
def no_thread_more():
    """Fail where a test, by a library that it was the first to use, leaves PyTorch more threads for all that follow."""
    import torch

    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() <= before


@pytest.fixture
def recordings():
    """Put tiny trials in the place of the recordings; see tiny_studies.py."""
    from tiny_studies import tiny_recordings

    with tiny_recordings() as (tiny, _):
        yield tiny


@pytest.fixture
def pyplot_keeps_no_figure():
    """Fail where a figure stays with pyplot, which would show it and hold its memory."""
    import matplotlib.pyplot as plt

    yield
    assert plt.get_fignums() == []


@pytest.fixture(scope="session")
def fork_server():
    """Start the process that others are forked from, and return how they are started; see under_stress.py."""
    from under_stress import CONTEXT

    if CONTEXT.get_start_method() == "forkserver":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)  # it knows no other path to this folder
            forkserver.ensure_running()
    return CONTEXT.get_start_method()


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """Return a function that runs a chapter with FAST=True, once for all workers, and returns the executed copy."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def run(chapter: Path) -> Path:
        output = folder / "executed" / chapter.relative_to(BOOK).with_suffix(".ipynb")
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(output.with_suffix(".lock")):
            if not output.exists():
                unfinished = output.with_suffix(".unfinished.ipynb")
                execute_fast(chapter.with_suffix(".ipynb"), unfinished)
                unfinished.rename(output)
        return output

    return run


def execute_fast(notebook: Path, output: Path) -> None:
    """Run a notebook by papermill with FAST=True; what stops a cell is named as `make book` names it."""
    import nbformat
    import papermill
    from kernels import kernel_manager_class
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters={"FAST": True},
            kernel_name="python3",
            kernel_manager_class=kernel_manager_class(nbformat.read(notebook, as_version=4)),
            cwd=notebook.parent,
            progress_bar=False,
            start_timeout=120,
            execution_timeout=execution.time_limit(),
        )
    except (CellTimeoutError, DeadKernelError) as error:
        reason = execution.died() if isinstance(error, DeadKernelError) else execution.timed_out()
        cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
        started = [cell.source for cell in cells if cell.metadata.papermill.start_time]
        said = execution.headline(notebook.name, len(started), started[-1] if started else "", reason)
        pytest.fail(said, pytrace=False)
