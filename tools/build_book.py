"""Build the book: `make book`.

jupyter-cache keys a chapter's outputs by its cells alone. What else decides them (the package, the lock file, the
recorded results, whether the recordings are at hand) is hashed here, and a change clears the build.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import nbformat

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
    for folder in (os.environ.get("MNE_DATA"), Path.home() / "mne_data"):
        recordings = sorted(Path(folder).glob("MNE-*")) if folder else []
        digest.update(repr([path.name for path in recordings]).encode())
    return digest.hexdigest()


def failures() -> list[str]:
    """Name the cell in which each failed chapter stopped."""
    lines = []
    for report in sorted((BUILD / "html/reports").rglob("*.err.log")):
        chapter = report.relative_to(BUILD / "html/reports").with_suffix("").with_suffix("")
        text = report.read_text()
        notebook = nbformat.read(ROOT / "book" / chapter.with_suffix(".ipynb"), as_version=4)
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        number = next((i for i, source in enumerate(code, 1) if source and source in text), None)
        error = text.strip().splitlines()[-1]
        lines.append(f"FAILED: chapter {chapter}, code cell {number}: {error}")
        if number:
            lines += [f"    {line}" for line in code[number - 1].splitlines()]
    return lines


def main() -> int:
    if BUILD.exists() and (not FINGERPRINT.exists() or FINGERPRINT.read_text() != fingerprint()):
        print("book: the package, the lock file, the results or the data changed; every chapter runs again", flush=True)
        shutil.rmtree(BUILD)
    shutil.rmtree(BUILD / "html/reports", ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    FINGERPRINT.write_text(fingerprint())
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "-W", "--keep-going"]
    # Progress bars are for a reader at work, not for a page.
    environment = {**os.environ, "TQDM_DISABLE": "1", "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=PIPE, stderr=STDOUT) as build:
        for line in build.stdout:
            if "Kernel is running over TCP" not in line:  # ipykernel, on every start, of a socket on this machine
                print(line, end="", flush=True)
    FINGERPRINT.write_text(fingerprint())  # again: the build itself may have downloaded the recordings
    if build.returncode:
        print("\n".join(["", *failures(), "book: the build failed, see above"]))
    else:
        print(f"book: open {BUILD / 'html/index.html'}")
    return build.returncode


if __name__ == "__main__":
    sys.exit(main())
