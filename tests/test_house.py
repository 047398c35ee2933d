"""Files that say the same thing agree: address, version, licences, packages; modules keep to their side of a wall."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter

import pytest
import sync
import yaml
from conftest import ROOT, providers
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from sync import URL, head

import eegxai_support as xs

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements.lock").read_text()
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
    lines = re.findall(r"(?m)^[^#\s].*?(?= \\$)", LOCK)
    pins = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate(environment)]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert len(versions) == len(pins), "a package is locked twice"
    return versions


def requirements(*extras):
    """Return the requirements of the core and of some extras, with those of the extras that they name."""
    found = [Requirement(it) for it in PROJECT["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            own = requirement.name == PROJECT["name"]
            found += requirements(*requirement.extras) if own else [requirement]
    return found


def test_lock_meets_every_requirement():
    for python in PYTHONS:
        versions = locked(python)
        for requirement in requirements(*PROJECT["optional-dependencies"]):
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
        assert (versions["torch"], versions["torchaudio"]) == ("2.14.1", "2.11.0")


def test_every_requirement_has_a_lower_bound_and_none_on_colab_a_cap():
    for requirement in requirements(*PROJECT["optional-dependencies"]):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">="} or (operators == {">=", "<"} and requirement.name == "jupyter-book"), requirement
    assert "jupyter-book" not in {requirement.name for requirement in requirements("all")}


def test_all_holds_every_extra_but_those_of_the_book_and_the_tests():
    everything = {str(it) for it in requirements("all")}
    for extra in PROJECT["optional-dependencies"].keys() - {"book", "test"}:
        assert {str(it) for it in requirements(extra)} <= everything, extra


@pytest.mark.parametrize("folder", ["eegxai_support", "book", "studies", "benchmarks", "tests", "tools"])
def test_what_is_imported_is_asked_for_by_name(folder):
    """Not left to what another package happens to bring; the setup cell of a chapter installs `all`."""
    extras = ["all"] if folder in {"eegxai_support", "book"} else ["book", "test"]
    declared = {canonicalize_name(it.name) for it in requirements(*extras)}
    own = {"eegxai_support", "studies", "benchmarks", *(path.stem for path in ROOT.glob("[bst]*/*.py"))}
    for path in (ROOT / folder).rglob("*.py"):
        for module in {name.split(".")[0] for name in imported(path)} - own - {*sys.stdlib_module_names, "__future__"}:
            found = {canonicalize_name(it) for it in providers().get(module, ())}
            assert found & declared, f"{path.relative_to(ROOT)} imports {module}"


def test_every_route_installs_what_chapters_import():
    """`make` and conda take the lock file, the setup cell takes `all`."""
    assert "-r requirements.lock" in (ROOT / "tools/setup.sh").read_text().replace('"$lock"', "requirements.lock")
    assert "--requirement requirements.lock" in str(read_yaml("environment.yml"))
    assert "eegxai-support[all] @ git+" in sync.INSTALL and "./eegxai[all]" in sync.NO_HOME
    for python in PYTHONS:
        assert {canonicalize_name(it.name) for it in requirements("all", "book", "test")} <= locked(python).keys()


def test_every_locked_package_has_its_hashes():
    entries = re.split(r"(?m)^(?=[a-z0-9])", LOCK)[1:]
    assert len(entries) > 200
    for entry in entries:
        assert re.search(r"\A[^\n]+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+", entry), entry.splitlines()[0]


def test_lock_names_no_machine():
    assert not re.search(r"https?:|index-url|find-links|file:|@ ", LOCK)


def test_conda_environment_installs_the_locked_package():
    environment = read_yaml("environment.yml")
    *packages, pip = environment["dependencies"]
    python = next(it for it in packages if it.startswith("python=")).removeprefix("python=")
    assert any(known.startswith(python) for known in PYTHONS)
    assert pip == {"pip": ["--requirement requirements.lock"]}  # with hashes, pip takes no folder beside it
    assert "&& pip install --no-deps --editable .\n" in (ROOT / "environment.yml").read_text()


def test_tested_pythons_are_the_declared_ones():
    declared = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert declared == [python[:4] for python in PYTHONS]
    assert PROJECT["requires-python"] == f">={declared[0]}"


def jobs(workflow):
    return read_yaml(f".github/workflows/{workflow}.yml")["jobs"]


def steps(job, key):
    """Return what the steps of a job say under a key: `run`, or the arguments of `uses`."""
    return [step[key] for step in job["steps"] if key in step]


def test_workflows_test_every_declared_python_and_macos():
    matrix = jobs("test")["test"]["strategy"]["matrix"]
    assert matrix["python"] == [python[:4] for python in PYTHONS] and matrix["os"] == ["ubuntu-latest"]
    assert matrix["include"] == [{"os": "macos-latest", "python": PYTHONS[-1][:4]}]
    assert jobs("test")["test"]["runs-on"] == "${{ matrix.os }}" and ".ci/run" in steps(jobs("test")["test"], "run")
    for workflow in ("test", "weekly", "publish"):
        for job in jobs(workflow).values():
            for python in [it["python-version"] for it in steps(job, "with") if "python-version" in it]:
                assert python == "${{ matrix.python }}" or any(known.startswith(f"{python}.") for known in PYTHONS)


def test_workflows_share_the_recordings():
    caches = [it for job in (jobs("test")["test"], jobs("test")["colab"], jobs("publish")["build"])
              for it in steps(job, "with") if "key" in it]  # fmt: skip
    assert caches == [{"path": "~/mne_data", "key": "recordings-1"}] * 3


def test_workflows_run_what_no_test_here_can():
    """Colab's versions, the newest, the oldest, the core alone, PyTorch's own index; each file named is there."""
    weekly, colab = jobs("weekly"), jobs("test")["colab"]
    assert weekly.keys() == {"from-empty-cache", "newest-packages", "oldest-packages", "core-only", "without-cuda"}
    assert any(it.startswith("pytest ") and "tests/" not in it for it in steps(weekly["newest-packages"], "run"))
    assert "make test TORCH=cpu" in steps(weekly["without-cuda"], "run")
    first, setup, chapters = steps(colab, "run")
    assert "-r tests/colab.txt" in first and setup == "python tools/as_on_colab.py" and "-p FAST True" in chapters
    assert next(step for step in colab["steps"] if step.get("run") == setup)["timeout-minutes"] == 1
    for name in re.findall(r"(?:tests|tools)/\w+\.\w+", str([weekly, colab])):
        assert (ROOT / name).is_file(), name
    for chapter in re.findall(r"\w+/\d\d_\w+", chapters):
        assert (ROOT / f"book/{chapter}.ipynb").is_file(), chapter


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


@cache
def imported(path):
    """Return the absolute names of the modules that a file imports from, anywhere in it."""
    return [*_imported(path)]


def _imported(path):
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
    "files provenance trials montages model simulate recordings decoders attribution spectral patterns groups filters"
    " sources exchange scoring sanity benchmark viz report"
).split()
EXPLAIN = {"attribution", "spectral", "patterns", "groups", "filters", "sources", "exchange", "scoring", "sanity"}
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
    setup = (ROOT / "tools/setup.sh").read_text()
    assert re.findall(r"https?://\S+", setup) == ["https://download.pytorch.org/whl/cpu"]
    for name, text in tracked_texts().items():
        if name in {
            "tools/setup.sh",
            "tests/test_setup.py",
        }:  # PyTorch without CUDA is to be had from its own index alone
            text = text.replace("--index-url", "")
        found = re.search(f"{machine}|{registry}", text)
        assert name == "tests/test_house.py" or not found, f"{name}: {found[0]}"


@pytest.mark.skipif("MNE_DATA" not in os.environ, reason="needs the recordings: set MNE_DATA")
def test_readme_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    namespace = {}
    exec(code.replace("epochs=60", "epochs=1"), namespace)
    assert abs(namespace["attribution"].delta).max() < 1e-3
