"""The setup cell of a chapter under the versions that Colab has: it installs what chapters use and replaces nothing.

The workflow `test` runs it for real, by `tools/as_on_colab.py`, where these versions are installed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from runpy import run_path

import pytest
import sync
from conftest import ROOT, hide
from packaging.requirements import Requirement

COLAB = ROOT / "tests/colab.txt"
PINS = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", COLAB.read_text()))
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


@pytest.fixture
def asked(monkeypatch):
    """The package is missing; return what pip is asked to install, a list for each call."""
    calls = []

    def run(command, check):
        assert command[:5] == [sys.executable, "-m", "pip", "install", "-q"] and check
        calls.append(command[5:])

    hide(monkeypatch, "eegxai_support")
    monkeypatch.setattr(subprocess, "run", run)
    return calls


def assert_held(pins):
    """See that these are the versions of all that Colab has and a session may have loaded."""
    held = {it.name: str(it.specifier) for it in map(Requirement, pins)}
    assert held == {name: f"=={version(name)}" for name in PINS if name != "scikit-learn"}


def test_setup_cell_installs_all_and_holds_what_is_there(asked):
    exec(sync.setup_cell("https://example.org/eegxai"), {})
    ((*pins, package),) = asked
    package = Requirement(package)
    assert (package.name, package.extras, package.url) == ("eegxai-support", {"all"}, "git+https://example.org/eegxai")
    assert_held(pins)


def test_setup_cell_without_a_home_advises_what_holds_what_is_there(asked):
    with pytest.raises(ModuleNotFoundError, match="no public home yet") as raised:
        exec(sync.setup_cell(None), {})
    *pins, package = shlex.split(re.search("`%pip install -q (.+)`", str(raised.value))[1])
    assert package == "./eegxai[all]" and asked == []
    assert_held(pins)


def test_setup_cell_asks_for_nothing_where_the_package_is_installed(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("it installs"))
    for home in ("https://example.org/eegxai", None):
        exec(sync.setup_cell(home), {})


def test_the_script_runs_where_the_package_is_missing(asked, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "sync")
    monkeypatch.setattr("importlib.metadata.version", lambda name: PINS.get(name, "1.2.3"))
    run_path(str(ROOT / "tools/as_on_colab.py"), run_name="__main__")
    assert asked[0][-1] == f"eegxai-support[all] @ git+{ROOT.as_uri()}"
    assert "installed eegxai-support 1.2.3" in capsys.readouterr().out


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
