"""The setup cell of a chapter under the versions that Colab has: it installs what chapters use and replaces nothing.

The workflow `test` runs it for real, by `tools/as_on_colab.py`, where these versions are installed.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import sync
from conftest import ROOT
from packaging.requirements import Requirement

COLAB = ROOT / "tests/colab.txt"
PINS = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", COLAB.read_text()))
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def asked_of_pip(monkeypatch, url):
    """Run the setup cell as where the package is missing, and return what it asks pip to install."""
    calls, find_spec = [], importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda it: None if it == "eegxai_support" else find_spec(it))
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    exec(sync.SETUP + sync.INSTALL.format(url=url), {})
    ((*pip, quiet), asked) = calls[0][:5], calls[0][5:]
    assert len(calls) == 1 and pip == [sys.executable, "-m", "pip", "install"] and quiet == "-q"
    return asked


def test_setup_cell_installs_all_and_holds_what_is_there(monkeypatch):
    *pins, package = map(Requirement, asked_of_pip(monkeypatch, "https://example.org/eegxai"))
    assert (package.name, package.extras, package.url) == ("eegxai-support", {"all"}, "git+https://example.org/eegxai")
    held = {it.name: str(it.specifier) for it in pins}
    assert held == {name: f"=={version(name)}" for name in PINS if name != "scikit-learn"}


def test_setup_cell_asks_for_nothing_where_the_package_is_installed(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("it installs"))
    exec(sync.SETUP + sync.INSTALL.format(url="https://example.org/eegxai"), {})


def resolved(requirements, *options):
    """Return name -> version as uv resolves requirements for Colab's Python; skip where no index can be asked."""
    if UV is None:
        pytest.skip("uv is not installed; the extra 'test' brings it")
    platform = ["--python-version", "3.13", "--python-platform", "linux", "--no-header", "--no-annotate", "--quiet"]
    done = subprocess.run(
        [UV, "pip", "compile", "-", *platform, *options],
        input="\n".join(requirements),
        capture_output=True,
        text=True,
        cwd=ROOT / "tests",  # not in the root, where the versions of the lock file would be asked for
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"},
    )
    if re.search(r"(?i)failed to fetch|error sending request|dns error|timed out", done.stderr):
        pytest.skip(f"no package index could be asked: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return dict(line.split("==") for line in done.stdout.splitlines())


def test_what_the_setup_cell_installs_fits_what_colab_has():
    from test_house import requirements

    asked = [str(requirement) for requirement in requirements("all")]
    versions = resolved(asked, "--constraint", str(COLAB))
    assert {name: versions[name] for name in PINS} == PINS
    assert versions.keys() >= {Requirement(it).name for it in asked}
