"""Files that say the same thing agree: address, version, licences, packages; modules keep to their side of a wall."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from graphlib import TopologicalSorter

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from sync import URL, head

import eegxai_support as xs

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text()
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


def imported(path):
    """Return the absolute names of the modules that a file imports from, anywhere in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


# The rooms in the order in which the data walks through them: each takes from those before it.
ROOMS = (
    "trials montages model simulate recordings decoders attribution spectral patterns filters sources scoring sanity"
    " benchmark report viz"
).split()
EXPLAIN = {"attribution", "spectral", "patterns", "filters", "sources", "scoring", "sanity"}
DATA = {"simulate", "recordings", "benchmark", "report", "viz"}


def allowed(room):
    """Return what a room may import besides itself; `viz` and what explains are narrower than their place."""
    before = set(ROOMS[: ROOMS.index(room)])
    return {"trials", "montages"} if room == "viz" else before - DATA if room in EXPLAIN else before - {"benchmark"}


def test_every_module_is_in_a_room():
    package = ROOT / "eegxai_support"
    found = {path.stem for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert found - {"__init__", "__main__", "__pycache__", "_results"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_takes_only_from_rooms_before_it(room):
    package = ROOT / "eegxai_support"
    for path in [*package.glob(f"{room}.py"), *package.glob(f"{room}/**/*.py")]:
        taken = {name.split(".")[1] for name in imported(path) if name.startswith("eegxai_support.")}
        assert taken <= {room, *allowed(room)}, path


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_imports_in_a_circle(room):
    """Modules of a room import each other in one direction; what stands under TYPE_CHECKING counts too."""
    package = ROOT / "eegxai_support"
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in package.glob(f"{room}/**/*.py")
        if path.stem != "__init__"
    }
    graph = {name: {m for m in modules if any(f"{it}.".startswith(f"{m}.") for it in imported(path))} - {name}
             for name, path in modules.items()}  # fmt: skip
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_what_a_docstring_cites_is_in_its_references():
    """Sphinx finds out too, but only where the whole book is built."""
    for path in (ROOT / "eegxai_support").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                cited, listed = (set(re.findall(mark, text)) for mark in (r"\[(\d+)\]_", r"\.\. \[(\d+)\]"))
                assert cited <= listed, f"{getattr(node, 'name', 'module')} in {path.relative_to(ROOT)}"


def test_licences():
    assert PROJECT["license"] == read_yaml("CITATION.cff")["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
    assert "https://creativecommons.org/licenses/by/4.0/" in (ROOT / "LICENSE-TEXT").read_text()


def test_every_make_target_is_listed():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("book", "test", "sync", "lint", "bench", "results", "clean"):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("table", "chosen"),
    [
        ("within_subject", "subject in (7, 42)"),
        ("all_subjects", "subject > 0"),
        ("unseen_subjects", "subject > 0"),
        ("four_classes", "subject == 42"),
    ],
)
def test_readme_states_the_recorded_accuracies(table, chosen):
    header = re.search(r"(?m)^\| Task .*\|$", README)[0].split(" | ")
    row = re.search(rf"(?m)^\|.*\| `{table}` \|$", README)[0].split(" | ")
    recorded = xs.recorded(table).query(chosen).groupby("decoder", observed=True)["accuracy"].mean()
    assert len(recorded) == 3
    assert {name: row[header.index(name)] for name in recorded.index} == {k: f"{v:.2f}" for k, v in recorded.items()}
    assert ("21," in row[1]) == (xs.recorded(table).query(chosen)["subject"].nunique() == 21)


def tracked_texts():
    """Return path -> text of every text file that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    contents = {name: (ROOT / name).read_bytes() for name in names.split("\0") if (ROOT / name).is_file()}
    return {name: content.decode() for name, content in contents.items() if b"\0" not in content}


def test_no_tracked_file_names_a_machine_or_a_registry():
    """Paths that exist on one machine only, and hosts that packages were fetched from; this file holds the patterns."""
    machine = r"(?<![\w.~])/(home|Users|root|work|tmp|mnt|scratch|workspace)/\w|\b[A-Z]:\\+Users\b"
    registry = r"index-url|find-links|trusted-host|pythonhosted|\bpypi\.|anaconda\.org|[/@](localhost|10(\.\d+){3}):\d"
    for name, text in tracked_texts().items():
        found = re.search(f"{machine}|{registry}", text)
        assert name == "tests/test_house.py" or not found, f"{name}: {found[0]}"


def test_setup_heeds_the_interpreter_that_is_asked_for(tmp_path):
    """An environment in step is left alone, whichever way its interpreter is named, and not taken for another's."""
    for name in ("requirements.lock", "pyproject.toml", "tools/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    venv.create(tmp_path / ".venv", symlinks=True)
    stamp = re.search(r"(?m)^stamp=.*$", (ROOT / "tools/setup.sh").read_text())[0]
    subprocess.run(["sh", "-c", f'{stamp}; echo "$stamp" > .venv/stamp'], cwd=tmp_path, check=True)

    def setup(python):
        environment = {**os.environ, "PYTHON": python}
        return subprocess.run(["sh", "tools/setup.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)

    for python in ("", sys.executable, ".venv/bin/python"):
        assert (setup(python).returncode, setup(python).stdout) == (0, "")
    refused = setup("no-such-python")
    assert refused.returncode == 1 and "found: no no-such-python" in refused.stderr


@pytest.mark.skipif("MNE_DATA" not in os.environ, reason="needs the recordings: set MNE_DATA")
def test_readme_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    namespace = {}
    exec(code.replace("epochs=60", "epochs=1"), namespace)
    assert abs(namespace["attribution"].delta).max() < 1e-3
