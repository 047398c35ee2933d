"""The front door: lazy and complete, quick to open, and enough with the core; what lacks says which extra brings it."""

import ast
import importlib
import os
import pickle
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from conftest import ROOT, hide, providers
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import eegxai_support as xs
from eegxai_support.benchmark.__main__ import main as benchmark_command
from eegxai_support.model import needed
from eegxai_support.recordings import eegbci, write_recorded

PACKAGE = ROOT / "eegxai_support"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text())


def in_a_fresh_process(program, **environment):
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


# ---- the stub and the modules behind it ----------------------------------------------------------------------------


def stub_names():
    """Return name -> module of what the stub imports; the module is empty for a room itself."""
    return {
        alias.name: node.module or "" for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_stub_says_what_is_there():
    """An editor reads ``__all__`` of the stub, Python the imports; each name is the object that its room has."""
    listed = next(ast.literal_eval(node.value) for node in STUB.body if isinstance(node, ast.Assign))
    assert sorted(listed) == sorted(stub_names()) == sorted(xs.__all__) == sorted(dir(xs))
    for name, room in stub_names().items():
        assert "." not in room, f"{name} is taken from inside a room"
        module = importlib.import_module(f"eegxai_support.{room or name}")
        assert getattr(xs, name) is (getattr(module, name) if room else module), name


def test_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


# An interpreter that imports the package takes seconds: what can be asked of one, one after the other, is asked of one.
FIRST = """
import importlib, os, sys
import eegxai_support as xs
def imported():
    print(*{name.partition(".")[0] for name in sys.modules}, *sys.modules)

imported()
print(set(xs.__all__) <= vars(xs).keys())
import torch
net = torch.nn.Sequential(torch.nn.Conv1d(2, 2, 3), torch.nn.Flatten(), torch.nn.LazyLinear(2))
x = torch.ones(3, 2, 8)
net(x)
for method in ("deep_lift", "lrp_epsilon"):
    xs.attribute(net, x.numpy(), 1, method)
imported()
from eegxai_support import *
assert all(globals()[name] is getattr(xs, name) for name in xs.__all__) and xs.__version__

ROUTES = (
    "import eegxai_support.simulate",
    "import eegxai_support.simulate as room",
    "import eegxai_support.simulate.regimes",
    "from eegxai_support.simulate import REGIMES",
    "from eegxai_support.recordings.motor_imagery import load_motor_imagery",
    "import eegxai_support.attribution.lrp",
    "from eegxai_support.attribution.problem import METHODS, register",
    "from eegxai_support import simulate; simulate('temporal', n_trials=4)",
    "import eegxai_support as xs; xs.METHODS; importlib.reload(xs)",
    "import eegxai_support.benchmark",
)
def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "eegxai_support"]:
        del sys.modules[name]
for route in ROUTES:
    forget()
    exec(route, {"importlib": importlib})
    import eegxai_support as xs
    works = len(xs.simulate("temporal", n_trials=4)) == 4
    importlib.import_module("eegxai_support.simulate.head")
    rooms = [name for name in xs.__all__ if getattr(xs, name) is sys.modules.get(f"eegxai_support.{name}")]
    print(route, works, *rooms, "|", *xs.METHODS)

os.environ["EAGER_IMPORT"] = "1"
forget()
import eegxai_support as xs
print(set(xs.__all__) <= vars(xs).keys())
"""


@pytest.fixture(scope="module")
def said():
    """What a process says that imports the package first of all; three answers, ten routes, and one more answer."""
    lines = in_a_fresh_process(FIRST, EAGER_IMPORT="").splitlines()
    assert len(lines) == 14
    return lines


def test_names_are_there_lazily_and_a_map_of_a_plain_network_brings_only_what_it_needs(said):
    opened, all_there, mapped = said[:3]
    assert all_there == "False"
    assert not set("torch numpy scipy pandas mne matplotlib sklearn braindecode".split()) & set(opened.split())
    others = set("sklearn matplotlib braindecode sympy umap captum scipy.stats scipy.signal".split())
    assert not others & set(mapped.split())


def test_names_are_there_eagerly_where_that_is_asked_for(said):
    assert said[-1] == "True"


def test_names_are_the_same_whatever_is_imported_first(said):
    """A room may have the name of a public function, and a method is there once its family was imported."""
    for line in said[3:-1]:
        assert line.endswith(f" True viz | {' '.join(xs.METHODS)}"), line


def test_public_objects_are_pickled_by_name():
    for name in xs.__all__:
        if callable(given := getattr(xs, name)):
            assert pickle.loads(pickle.dumps(given)) is given, name


# ---- the core, and what extras bring --------------------------------------------------------------------------------

# What the core does without, by the names in Python.
OPTIONAL = (
    "braindecode captum dask distributed joblib mne_bids mne_icalabel moabb numba onnxruntime pooch pyarrow"
    " requests skorch sklearn threadpoolctl umap yaml"
).split()
HIDE = f'''
import sys

class Without:
    """A finder to which these are not installed; raising instead would surprise who only asks whether they are."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *args):
        return None if name.partition(".")[0] in {OPTIONAL} else self.finder.find_spec(name, *args)

sys.meta_path[:] = map(Without, sys.meta_path)
'''


def test_core_explains_trains_and_draws():
    program = f"""{HIDE}
import runpy
from eegxai_support import *
runpy.run_path({str(ROOT / "tests/core_only.py")!r}, run_name="__main__")
import eegxai_support as xs
trials = xs.simulate("spectral", n_trials=40, duration=0.5, sfreq=100)
model = xs.build_decoder("InterpretableCNN", trials, kernel_length=9)
xs.train(model, trials, epochs=1)
predicted = xs.predict(model, trials.signal).argmax(1)
print(xs.accuracy(trials.label, predicted, trials.n_classes))
assert abs(xs.attribute(model, trials, trials.label, "deep_lift").delta).max() < 1e-3
"""
    assert "accuracy" in in_a_fresh_process(program)


def brought_by(extra):
    """Return the names of the packages that an extra asks for, itself or by other extras of this package."""
    names = set()
    for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if requirement.name == PROJECT["name"]:
            names = names.union(*map(brought_by, requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return names


def imports(node, extra=None):
    """Walk through the imports below a node, each with the extra that `needed` names around it."""
    if isinstance(node, ast.With):
        for call in (item.context_expr for item in node.items):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "needed":
                extra = ast.literal_eval(call.keywords[0].value)
    if isinstance(node, ast.Import):
        yield from ((alias.name.partition(".")[0], extra) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module.partition(".")[0], extra
    for child in ast.iter_child_nodes(node):
        yield from imports(child, extra)


def test_what_is_imported_is_in_the_core_or_in_the_extra_that_is_named():
    """Of every import of the package: a third-party module outside `needed` would be missed without a word."""
    core = {canonicalize_name(Requirement(it).name) for it in PROJECT["dependencies"]}
    packages_of, extras = providers(), set()
    for path in PACKAGE.rglob("*.py"):
        for module, extra in imports(ast.parse(path.read_text())):
            if module not in sys.stdlib_module_names | {"eegxai_support"}:
                packages = {canonicalize_name(name) for name in packages_of[module]}
                assert packages & (core if extra is None else brought_by(extra)), f"{module} in {path}"
                extras.add(extra)
    assert {"decoders", "filters", "sources", "recordings", "benchmark", "data", "cluster"} <= extras


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    for name in ("MNE_DATA", "MNE_DATASETS_EEGBCI_PATH", "MNE_DATASETS_DROWSINESS_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("EEGXAI_CACHE", raising=False)
    eegbci.physionet_answers.cache_clear()
    return tmp_path


def trained_with_cache():
    trials = xs.simulate("temporal", n_trials=10, duration=0.5, sfreq=100)
    xs.train(xs.build_decoder("InterpretableCNN", trials, kernel_length=9), trials, epochs=1, cache=True)


FILTERS = np.random.default_rng(0).standard_normal((20, 3))


@pytest.mark.parametrize(
    ("module", "extra", "function", "call"),
    [
        ("braindecode", "decoders", "build_decoder('EEGNet')",
         lambda: xs.build_decoder("EEGNet", xs.simulate("temporal", n_trials=4))),
        ("sklearn", "decoders", "csp_lda", lambda: xs.csp_lda()),
        ("sklearn", "decoders", "filter_bank_csp",
         lambda: xs.filter_bank_csp(xs.simulate("spectral", n_trials=8), {"alpha": (8, 12)})),
        ("umap", "filters", "embed_filters", lambda: xs.embed_filters(FILTERS)),
        ("sklearn", "filters", "embed_filters", lambda: xs.embed_filters(FILTERS)),
        ("sklearn", "filters", "cluster_filters", lambda: xs.cluster_filters(FILTERS)),
        ("mne_icalabel", "sources", "label_components", lambda: xs.label_components(None, None)),
        ("pymatreader", "formats", "read_components", lambda: xs.read_components(__file__)),
        ("sklearn", "filters", "to_spatial_filter", lambda: xs.to_spatial_filter(FILTERS, FILTERS, None)),
        ("pyarrow", "recordings", "recorded", lambda: xs.recorded("within_subject")),
        ("pyarrow", "recordings", "write_recorded", lambda: write_recorded(None, "never.parquet", {})),
        ("pooch", "recordings", "load_eegbci", lambda: xs.load_eegbci(1)),
        ("requests", "recordings", "load_eegbci", lambda: xs.load_eegbci(1)),
        ("pooch", "recordings", "train(cache=True)", trained_with_cache),
        ("joblib", "benchmark", "run_benchmark", lambda: xs.run_benchmark({}, ".")),
        ("pyarrow", "benchmark", "run_benchmark", lambda: xs.run_benchmark({}, ".")),
        ("threadpoolctl", "benchmark", "run_benchmark", lambda: xs.run_benchmark({}, ".")),
        ("yaml", "benchmark", "run_benchmark", lambda: xs.run_benchmark("config.yaml", ".")),
        ("moabb", "data", "load_bnci2014_001", lambda: xs.load_bnci2014_001()),
        ("braindecode", "data", "load_bnci2014_001", lambda: xs.load_bnci2014_001()),
    ],
)  # fmt: skip
def test_a_missing_extra_is_named(monkeypatch, empty_caches, module, extra, function, call):
    hide(monkeypatch, module)
    with pytest.raises(ModuleNotFoundError) as raised:
        call()
    message = re.fullmatch(
        r'(.+) needs (\S+), which is not installed: pip install "eegxai-support\[(\w+)\]"', str(raised.value)
    )
    assert message[1].startswith(function) and message[2].partition(".")[0] == module and message[3] == extra


def test_a_missing_extra_is_named_on_the_command_line(monkeypatch, capsys):
    hide(monkeypatch, "dask")
    with pytest.raises(SystemExit):
        benchmark_command(["config.yaml", "results", "--scheduler", "tcp://nowhere:1"])
    assert (
        'needs dask.distributed, which is not installed: pip install "eegxai-support[cluster]"'
        in capsys.readouterr().err
    )


def test_needed_lets_other_errors_through():
    with pytest.raises(OSError, match="no library"), needed("anything", extra="filters"):
        raise OSError("no library")


@pytest.mark.parametrize(("load", "module"), [("load_motor_imagery", "pooch"), ("load_drowsiness", "requests")])
def test_a_stand_in_says_what_lacks(monkeypatch, empty_caches, capsys, load, module):
    """Who takes whatever is at hand gets simulated trials, and reads how to get the recordings."""
    hide(monkeypatch, module)
    trials = getattr(xs, load)()
    said = capsys.readouterr().out
    assert trials.truth is not None and module in said and 'pip install "eegxai-support[recordings]"' in said


def test_what_is_no_recording_is_refused_without_braindecode(monkeypatch):
    hide(monkeypatch, "braindecode")
    with pytest.raises(TypeError, match=r"epochs is a ndarray; expected mne\.Epochs, windows of braindecode"):
        xs.from_epochs(np.zeros((2, 3, 4)))
