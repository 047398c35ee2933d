"""Files that say the same thing agree: address, version, licences, packages."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from sync import URL, head

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PYTHONS = ("3.11.9", "3.12.9", "3.13.9")


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


def locked(python):
    """Return name -> version of the lock file for one version of Python on Linux."""
    environment = {
        "python_full_version": python,
        "python_version": python[:4],
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    lines = re.findall(r"(?m)^[^#\s].*$", (ROOT / "requirements.lock").read_text())
    pins = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate(environment)]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert len(versions) == len(pins), "a package is locked twice"
    return versions


def test_lock_meets_every_requirement():
    wanted = [Requirement(it) for it in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])]
    for python in PYTHONS:
        versions = locked(python)
        for requirement in wanted:
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
        assert (versions["torch"], versions["torchaudio"]) == ("2.14.1", "2.11.0")


def test_core_requirements_have_no_cap():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert [specifier.operator for specifier in requirement.specifier] == [">="], requirement


def test_lock_names_no_machine():
    assert not re.search(r"https?:|index-url|find-links|file:|@ ", (ROOT / "requirements.lock").read_text())


def test_conda_environment_installs_the_locked_package():
    environment = read_yaml("environment.yml")
    *packages, pip = environment["dependencies"]
    python = next(it for it in packages if it.startswith("python=")).removeprefix("python=")
    assert any(known.startswith(python) for known in PYTHONS)
    assert pip == {"pip": ["--requirement requirements.lock", "--editable ."]}


def test_tested_pythons_are_the_declared_ones():
    declared = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert declared == [python[:4] for python in PYTHONS]
    assert PROJECT["requires-python"] == f">={declared[0]}"


def test_address_stands_in_one_place():
    assert read_yaml("_config.yml")["repository"]["url"] == URL
    assert read_yaml("CITATION.cff")["repository-code"] == URL
    owner, name = URL.removeprefix("https://github.com/").split("/")
    for path in [*ROOT.glob("*.*"), *(ROOT / "book").rglob("*.md"), *(ROOT / "eegxai_support").rglob("*.py")]:
        if path.is_file() and path.name not in {"pyproject.toml", "_config.yml", "CITATION.cff"}:
            assert f"{owner}/{name}" not in path.read_text(errors="ignore"), path


def test_setup_cell_installs_only_from_a_public_home():
    _, setup = head(ROOT / "book/template/chapter.py")
    assert ("no public home" in setup) == ("--" in URL)
    assert ("git+" in setup) == ("--" not in URL)


def test_setup_cell_says_what_to_do_where_the_package_is_missing():
    _, setup = head(ROOT / "book/template/chapter.py")
    run = subprocess.run([sys.executable, "-SI", "-c", setup], capture_output=True, text=True, cwd=ROOT / "book")
    if "--" in URL:
        assert "no public home" in run.stderr and "%pip install" in run.stderr


def test_version_stands_in_one_place():
    version = PROJECT["version"]
    assert str(read_yaml("CITATION.cff")["version"]) == version == str(Version(version))
    assert re.search(rf"(?m)^## {re.escape(version)} ", (ROOT / "CHANGELOG.md").read_text())


def test_licences():
    assert PROJECT["license"] == read_yaml("CITATION.cff")["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
    assert "https://creativecommons.org/licenses/by/4.0/" in (ROOT / "LICENSE-TEXT").read_text()


def test_every_make_target_is_listed():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("book", "test", "sync", "lint", "bench", "results", "clean"):
        assert f"make {target} " in listed


@pytest.mark.skipif("MNE_DATA" not in os.environ, reason="needs the recordings: set MNE_DATA")
def test_readme_example_runs():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    namespace = {}
    exec(code.replace("epochs=60", "epochs=1"), namespace)
    assert abs(namespace["attribution"].delta).max() < 1e-3
