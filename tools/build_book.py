"""Build the book: `make book`.

jupyter-cache keys a chapter's outputs by its cells alone. What else decides them (the package, the lock file, the
recorded results, which recordings are at hand) is hashed here, and a change clears the build.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import nbformat

from eegxai_support.recordings.cache import cache_folder

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
FINGERPRINT = BUILD / "fingerprint"


def fingerprint() -> str:
    """Hash what the outputs of the chapters depend on, their own cells left out."""
    files = [ROOT / "requirements.lock", *(ROOT / "book/results").glob("*.parquet")]
    files += (ROOT / "eegxai_support").rglob("*.py")
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    recordings = cache_folder("EEGBCI") / "MNE-eegbci-data"
    for path in sorted(recordings.rglob("*.edf")):
        digest.update(f"{path.relative_to(recordings).as_posix()} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def failure(log: str) -> str:
    """Name the chapter, the cell and the error at which the execution stopped; empty where it did not."""
    found = re.search(r"(\S+)\.ipynb: WARNING: Executing notebook failed.*?\n-{5,}\n(.*?)\n-{5,}\n(.*)", log, re.S)
    if not found:
        return ""
    chapter, source, rest = Path(found[1]), found[2], found[3]
    notebook = nbformat.read(chapter.with_suffix(".ipynb"), as_version=4)
    code = [cell.source.strip() for cell in notebook.cells if cell.cell_type == "code"]
    number = code.index(source.strip()) + 1 if source.strip() in code else "unknown"  # edited since it ran
    errors = re.findall(r"(?m)^[\w.]*(?:Error|Exception|Interrupt)\b.*$", rest.split("[mystnb.exec]")[0])
    return f"FAILED: {chapter.relative_to(ROOT)}, code cell {number}: {errors[-1] if errors else ''}\n\n{source}\n"


def main() -> int:
    if BUILD.exists() and (not FINGERPRINT.exists() or FINGERPRINT.read_text() != fingerprint()):
        print("book: the package, the lock file, the results or the data changed; every chapter runs again", flush=True)
        shutil.rmtree(BUILD)
    BUILD.mkdir(exist_ok=True)
    FINGERPRINT.write_text(fingerprint())
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "-W", "--keep-going"]
    # Progress bars are for a reader at work, not for a page.
    environment = {**os.environ, "TQDM_DISABLE": "1", "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=PIPE, stderr=STDOUT) as build:
        log = ""
        for line in build.stdout:
            if "Kernel is running over TCP" not in line:  # ipykernel, on every start, of a socket on this machine
                print(line, end="", flush=True)
                log += re.sub(r"\x1b\[[0-9;]*m", "", line)
    FINGERPRINT.write_text(fingerprint())  # again: the build itself may have downloaded the recordings
    if build.returncode:
        print(failure(log) or "FAILED: see the warnings above")
    else:
        print(f"book: open {BUILD / 'html/index.html'}")
    return build.returncode


if __name__ == "__main__":
    sys.exit(main())
