"""What several test files share: the chapters, and one execution of each."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import execution

# Test processes share the cores as kernels do, and papermill's kernels inherit it. Before torch and NumPy are imported.
os.environ |= execution.environment()

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import papermill
import pytest
import torch
from filelock import FileLock
from kernels import kernel_manager_class
from nbclient.exceptions import CellTimeoutError, DeadKernelError

BOOK = ROOT / "book"
TEMPLATE = BOOK / "template/chapter.py"
CHAPTERS = [path for path in sorted(BOOK.glob("*/*.py")) if path != TEMPLATE]


def chapter_id(path: Path) -> str:
    return path.relative_to(BOOK).with_suffix("").as_posix()


def pytest_generate_tests(metafunc):
    """Run a test that asks for a `chapter` on each chapter and on the template."""
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", [*CHAPTERS, TEMPLATE], ids=chapter_id)


def pytest_collection_modifyitems(items):
    """Begin with the two files that take longest: each worker gets one."""
    items.sort(key=lambda item: item.path.stem not in ("test_notebooks", "test_book"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Start each test, and the fixtures it makes, from the same random numbers: what ran before it here is chance."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002


def hide(monkeypatch, module):
    """Let a module be missing, whatever was imported of it."""
    for name in {module, *(name for name in sys.modules if name.startswith(f"{module}."))}:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def pyplot_keeps_no_figure():
    """Fail where a figure stays with pyplot, which would show it and hold its memory."""
    yield
    assert plt.get_fignums() == []


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
