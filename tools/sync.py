"""Write every derived mention of the repository's address, then the notebooks: `make sync`.

The address and the version come from pyproject.toml; the badge and the setup cell of a chapter, `_config.yml`
and CITATION.cff follow. A chapter's .py is the source of its .ipynb. Nothing is written where nothing changed, and
with --check nothing at all: the first file out of step is named and the exit status is 1.
"""

import re
import sys
import tomllib
from pathlib import Path

import jupytext
from jupytext.combine import combine_inputs_with_outputs

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
URL = PROJECT["urls"]["Repository"]
CHECK = "--check" in sys.argv  # write nothing, fail where something would be written

BADGE = """\
# %% [markdown] tags=["remove-cell"]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})
"""
SETUP = """\
# %% tags=["setup", "hide-input"]
# Setup: installs nothing where the package is there. One thread: threads that wait for each other are slow beside other
# programs.
import importlib.util
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
if importlib.util.find_spec("eegxai_support") is None:
"""
# pip would sooner replace numpy under a running session than take an older release of what asks for a newer one.
PINS = """\
    from importlib.metadata import version

    there = filter(importlib.util.find_spec, ("matplotlib", "numpy", "pandas", "scipy", "torch", "torchaudio"))
    pins = [f"{name}=={version(name)}" for name in there]  # what the session may have loaded stays as it is
"""
INSTALL = """\
    package = "eegxai-support[all] @ git+{url}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *pins, package], check=True)
"""
NO_HOME = """\
    raise ModuleNotFoundError(
        "eegxai has no public home yet, so there is nothing to install from. Upload your copy of the repository"
        f" next to this notebook, run `%pip install -q {' '.join(pins)} './eegxai[all]'` and run this cell again."
    )
"""


def chapters() -> list[Path]:
    return sorted((ROOT / "book").glob("*/*.py"))


def colab_url(chapter: Path) -> str:
    notebook = chapter.with_suffix(".ipynb").relative_to(ROOT).as_posix()
    return f"{URL.replace('github.com', 'colab.research.google.com/github')}/blob/main/{notebook}"


def setup_cell(home: str | None) -> str:
    """Return the setup cell: it installs from a public home, or says how to without one."""
    if home is None:
        return SETUP + PINS + NO_HOME
    return SETUP + "    import subprocess\n    import sys\n" + PINS + INSTALL.format(url=home)


def head(chapter: Path) -> tuple[str, str]:
    """Return the badge cell and the setup cell that a chapter must have."""
    return BADGE.format(colab=colab_url(chapter)), setup_cell(None if "--" in URL else URL)


def with_head(text: str, chapter: Path) -> str:
    """Replace the badge cell and the setup cell of a chapter's source."""
    cells = re.split(r"(?m)^(?=# %%)", text)
    badge, setup = head(chapter)
    for i, cell in enumerate(cells):
        if "colab-badge.svg" in cell:
            cells[i] = badge + "\n"
        elif cell.startswith('# %% tags=["setup"'):
            cells[i] = setup + "\n"
    return "".join(cells)


def substitute(path: Path, pattern: str, value: str) -> None:
    text, n = re.subn(pattern, lambda match: match[1] + value, path.read_text(), flags=re.M)
    if n == 0:
        sys.exit(f"{path.name} has no line that matches {pattern}")
    write(path, text)


def write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    if CHECK:
        sys.exit(f"sync: {path.relative_to(ROOT)} is not in step with its source; run `make sync`")
    from eegxai_support.files import write_whole  # as_on_colab.py imports this module where the package is missing

    write_whole(path, text)
    print(f"sync: wrote {path.relative_to(ROOT)}")


def write_notebook(chapter: Path) -> None:
    """Derive the .ipynb from the .py; cells that stayed keep their ids."""
    path = chapter.with_suffix(".ipynb")
    notebook = jupytext.read(chapter)
    if path.exists():
        notebook = combine_inputs_with_outputs(notebook, jupytext.read(path), fmt="ipynb")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    write(path, jupytext.writes(notebook, fmt="ipynb"))


def main() -> None:
    substitute(ROOT / "_config.yml", r"^(  url: ).*$", URL)
    substitute(ROOT / "CITATION.cff", r"^(repository-code: ).*$", URL)
    substitute(ROOT / "CITATION.cff", r"^(version: ).*$", PROJECT["version"])
    for chapter in chapters():
        write(chapter, with_head(chapter.read_text(), chapter))
        write_notebook(chapter)


if __name__ == "__main__":
    main()
