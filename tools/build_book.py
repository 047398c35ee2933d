"""Build the book: `make book`.

Chapters run side by side, each is kept in jupyter-cache as soon as it is done, and Sphinx then finds all of them there.
jupyter-cache keys the outputs of a chapter by its cells alone. What else decides them (the package, the lock file, the
recorded results, which recordings are at hand) is hashed here and kept with them; where it changed, the chapter runs
again. A build that is stopped, in whatever way, goes on where it was.
"""

import hashlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import joblib
import mne
import nbformat
import psutil
from execution import died, environment, headline, time_limit, timed_out
from filelock import FileLock, Timeout
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.readers import get_reader
from kernels import kernel_manager_class
from myst_nb.core.read import is_myst_markdown_notebook
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from sphinx_external_toc.parsing import parse_toc_yaml
from sqlalchemy.exc import SQLAlchemyError

from eegxai_support.files import PARTIAL
from eegxai_support.provenance import meaning

ROOT = Path(__file__).resolve().parents[1]
BOOK, BUILD = ROOT / "book", ROOT / "_build"
KERNEL_MEMORY = 2 * 2**30  # bytes: more than the largest chapter has taken
# What chapters load, by the name of MNE's setting for its folder: the files that hold signals.
RECORDINGS = {"EEGBCI": "MNE-eegbci-data/**/*.edf", "DROWSINESS": "eeg-drowsiness/*.mat"}


def sources() -> str:
    """Hash what the outputs of the chapters depend on, their own cells and all that is only words left out."""
    results = BOOK / "results"
    recorded = {*results.glob("*.*")} - {*results.glob(PARTIAL)} - {*results.glob("*.md")}
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([ROOT / "requirements.lock", *recorded, *(ROOT / "eegxai_support").rglob("*.py")]):
        content = path.read_bytes()
        if path.suffix == ".py":
            with suppress(SyntaxError):  # the chapters will name it
                content = meaning(content).encode()
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def recordings() -> str:
    """Hash which recordings are at hand."""
    digest = hashlib.sha256()
    for dataset, pattern in RECORDINGS.items():
        # The package knows this folder too (recordings/cache.py), but would bring PyTorch along.
        folder = mne.get_config(f"MNE_DATASETS_{dataset}_PATH", mne.get_config("MNE_DATA", "~/mne_data"))
        folder = Path(folder).expanduser()
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def n_kernels() -> int:
    """Return how many chapters run side by side: as many as cores, where there is memory for them."""
    return max(1, min(joblib.cpu_count(), psutil.virtual_memory().available // KERNEL_MEMORY))


def read(page: Path) -> nbformat.NotebookNode:
    """Read a page as myst-nb does, whose cells the cache must know again."""
    if page.suffix == ".md":
        return get_reader({"type": "plugin", "name": "myst_nb_md"})(page)
    return nbformat.read(page, as_version=4)


def pages_with_code() -> list[Path]:
    """Return the pages of the table of contents that have code cells."""
    names = parse_toc_yaml(BOOK / "_toc.yml")
    notebooks = [path for name in names if (path := BOOK / f"{name}.ipynb").exists()]
    texts = [path for name in names if (path := BOOK / f"{name}.md").exists()]
    return notebooks + [path for path in texts if is_myst_markdown_notebook(path.read_text())]


def is_kept(cache, notebook: nbformat.NotebookNode, made_of: list[str]) -> bool:
    """Say whether the cache has whole outputs of a page, made of what there is today."""
    try:
        pk, _ = cache.merge_match_into_notebook(notebook)
        return cache.get_cache_record(pk).data.get("made_of") == made_of
    except (KeyError, ValueError):  # unknown, or stopped between its entry and its file, or in the middle of the file
        return False


def execute(page: Path, notebook: nbformat.NotebookNode) -> float:
    """Run a page in a kernel of its own, which writes its outputs into it; return the seconds that it took."""
    start = time.monotonic()
    folder = {"metadata": {"path": str(page.parent)}}
    # No timing: it would go into the metadata of the cells, and the cache know them no more.
    client = NotebookClient(
        notebook,
        timeout=time_limit(),
        record_timing=False,
        resources=folder,
        kernel_manager_class=kernel_manager_class(notebook),
    )
    try:
        # ipykernel warns on every start of a socket on this machine; the errors of cells come by another way.
        client.execute(stderr=subprocess.DEVNULL)
    except Exception as error:
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        number = client.code_cells_executed
        match error:
            case CellExecutionError():
                reason = f"{error.ename}: {error.evalue}"
            case CellTimeoutError():
                reason = timed_out()
            case DeadKernelError():
                reason = died()
            case _:
                reason = "".join(traceback.format_exception(error))
        source = code[number - 1] if number else ""
        raise RuntimeError(headline(page.relative_to(ROOT).as_posix(), number, source, reason)) from error
    return time.monotonic() - start


def keep(cache, page: Path, notebook: nbformat.NotebookNode, data: dict) -> None:
    """Put an executed page into the cache, where Sphinx will find it, and let Sphinx read the page again."""
    name = page.relative_to(BOOK).with_suffix("").as_posix()
    try:
        (BUILD / ".doctrees" / f"{name}.doctree").unlink(missing_ok=True)
        # jupyter-cache refuses a folder without its file, as a build leaves it that was stopped between the two.
        shutil.rmtree(cache.path / "executed" / cache.create_hashed_notebook(notebook)[1], ignore_errors=True)
        cache.cache_notebook_bundle(CacheBundleIn(notebook, str(page), data=data), check_validity=False)
    except (OSError, SQLAlchemyError) as error:  # the second is what its index says of a full disk
        place = page.relative_to(ROOT).as_posix()
        raise RuntimeError(f"{place}: it ran, but its outputs could not be kept: {error}") from error


def execute_pages(cache) -> list[str]:
    """Run every page that the cache lacks; return what failed."""
    made_of = [sources(), recordings()]
    notebooks = {page: read(page) for page in pages_with_code()}
    todo = [page for page in reversed(notebooks) if not is_kept(cache, notebooks[page], made_of)]
    # The longest first: one that begins last would run alone. Unknown ones are taken for long, later ones for longer.
    seconds = {record.uri: record.data.get("execution_seconds", math.inf) for record in cache.list_cache_records()}
    todo.sort(key=lambda page: -seconds.get(str(page), math.inf))
    kernels = n_kernels()
    print(f"book: {len(todo)} of {len(notebooks)} pages with code to run, {kernels} at a time", flush=True)
    failures = []
    with ThreadPoolExecutor(kernels) as pool:
        running = {pool.submit(execute, page, notebooks[page]): page for page in todo}
        for done in as_completed(running):
            page = running[done]
            try:
                seconds_taken = done.result()
                # Sources as they were when it began, recordings as they are now: it may have downloaded them.
                data = {"execution_seconds": seconds_taken, "made_of": [made_of[0], recordings()]}
                keep(cache, page, notebooks[page], data)
            except RuntimeError as error:
                print(f"book: FAILED: {error}\n{error.__cause__}", flush=True)
                failures.append(str(error))
            else:
                print(f"book: {page.relative_to(BOOK).with_suffix('')} took {seconds_taken:.0f} s", flush=True)
    return failures


def main() -> int:
    """Build the book; return the exit status."""
    try:
        time_limit()
    except ValueError as error:
        print(f"FAILED: {error}")
        return 1
    os.environ |= environment()  # of kernels, of the server that they are forks of, and of Sphinx
    # Ctrl-C ends the build as any other signal does. Nothing is left to tidy up: what is kept is whole or not believed,
    # and a kernel ends itself when its parent is gone.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    BUILD.mkdir(exist_ok=True)
    try:
        with FileLock(BUILD / "lock", timeout=0):
            failures = execute_pages(get_cache(BUILD / ".jupyter_cache"))
            if failures:
                print("FAILED: " + "\nFAILED: ".join(failures))
                print("book: the other pages are kept; `make book` goes on with these.")
                return 1
            command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "-W", "--keep-going"]
            built = subprocess.run(command, cwd=ROOT)
    except Timeout:
        print("FAILED: another `make book` is at work in this folder; wait until it has ended.")
        return 1
    print("FAILED: see the warnings above" if built.returncode else f"book: open {BUILD / 'html/index.html'}")
    return built.returncode


if __name__ == "__main__":
    sys.exit(main())
