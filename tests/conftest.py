"""What several test files share: the chapters, and one execution of each."""

import os
import sys
from pathlib import Path

# One thread per test process: two processes share two cores. Must stand before torch and NumPy are imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["TQDM_DISABLE"] = "1"  # as in tools/build_book.py

import papermill
import pytest

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TEMPLATE = BOOK / "template/chapter.py"
CHAPTERS = [path for path in sorted(BOOK.glob("*/*.py")) if path != TEMPLATE]
sys.path.insert(0, str(ROOT / "tools"))


def chapter_id(path: Path) -> str:
    return path.relative_to(BOOK).with_suffix("").as_posix()


def pytest_generate_tests(metafunc):
    """Run a test that asks for a `chapter` on each chapter and on the template."""
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", [*CHAPTERS, TEMPLATE], ids=chapter_id)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep a file on one worker, and the chapters with the book that shows them; these begin first."""
    for item in items:
        name = item.path.stem
        item.add_marker(pytest.mark.xdist_group("book" if name in ("test_notebooks", "test_book") else name))
    items.sort(key=lambda item: item.path.stem not in ("test_notebooks", "test_book"))


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """Return a function that runs a chapter once with FAST=True and returns the path of the executed copy."""
    folder = tmp_path_factory.mktemp("executed")

    def run(chapter: Path) -> Path:
        output = folder / chapter.relative_to(BOOK).with_suffix(".ipynb")
        if not output.exists():
            output.parent.mkdir(exist_ok=True)
            papermill.execute_notebook(
                chapter.with_suffix(".ipynb"),
                output,
                parameters={"FAST": True},
                kernel_name="python3",
                cwd=chapter.parent,
                progress_bar=False,
                start_timeout=120,
                execution_timeout=300,
            )
        return output

    return run
