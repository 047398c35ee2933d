"""The doctor: each check finds what it is there to find, says what to do, and survives whatever is broken."""

import errno
import json
import os
import sys
import tempfile
from email.message import Message
from importlib import metadata as real
from types import SimpleNamespace

import pytest
import torch

from eegxai_support.__main__ import main
from eegxai_support.report import doctor
from eegxai_support.report.doctor import FAIL, OK, WARN, Line


def found(check):
    return {line.check: line for line in check()}


def alone(check):
    (line,) = check()
    return line


# ---- what is installed ----------------------------------------------------------------------------------------------

ASKED = [
    "numpy>=2.1",
    "torch>=2.6",
    "old-python-only>=1; python_version < '3'",
    "braindecode>=1.8.1; extra == 'decoders'",
    "scikit-learn>=1.6; extra == 'decoders'",
    "umap-learn>=0.5; extra == 'filters'",
    "braindecode>=1.8.1; extra == 'report'",
    "eegxai-support[decoders]; extra == 'data'",
    "pytest>=8; extra == 'test'",
]
THERE = {"numpy": "2.1", "torch": "2.14.1+cpu", "braindecode": "1.9.0.dev0", "scikit-learn": "1.6"}


@pytest.fixture
def installed(monkeypatch):
    """Let other packages be installed; return their versions, to be changed."""
    there, package = dict(THERE), Message()
    package["Requires-Python"] = ">=3.11"
    for extra in ("decoders", "filters", "report", "data", "test", "all", "book"):
        package["Provides-Extra"] = extra

    def version(name):
        if name not in there:
            raise real.PackageNotFoundError(name)
        return there[name]

    names = {"requires": lambda name: ASKED, "metadata": lambda name: package, "version": version}
    fake = SimpleNamespace(**names, PackageNotFoundError=real.PackageNotFoundError)
    monkeypatch.setattr(doctor, "metadata", fake)
    return there


def test_python_is_compared_with_what_is_asked_for(installed, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    assert alone(doctor.python) == Line("python", OK, "3.11.0")
    monkeypatch.setattr(sys, "version_info", (3, 10, 14))
    line = alone(doctor.python)
    assert line.status == FAIL and line.found == "3.10.14, and >=3.11 is asked for" and line.remedy


def test_core_packages_are_compared_with_their_lower_bounds(installed):
    lines = found(doctor.core)
    assert {name: line.status for name, line in lines.items()} == {"numpy": OK, "torch": OK}
    installed["numpy"] = "2.0.9"
    del installed["torch"]
    assert found(doctor.core) == {
        "numpy": Line("numpy", FAIL, "is 2.0.9, and >=2.1 is asked for", 'pip install "numpy>=2.1"'),
        "torch": Line("torch", FAIL, "is missing", 'pip install "torch>=2.6"'),
    }


def test_each_extra_says_what_it_lacks_and_how_to_get_it(installed):
    installed["scikit-learn"] = "1.5.2"
    lines = found(doctor.extras)
    assert lines.keys() == {"[decoders]", "[filters]", "[report]", "[data]"}
    assert lines["[report]"].status == lines["[data]"].status == OK
    assert lines["[filters]"] == Line("[filters]", WARN, "umap-learn is missing",
                                      'pip install "eegxai-support[filters]"')  # fmt: skip
    assert lines["[decoders]"].found == "scikit-learn is 1.5.2, and >=1.6 is asked for"


def test_the_installed_package_is_read():
    """What the fake stands for: metadata as an installer writes them, where extras are resolved."""
    names = [requirement.name for requirement in doctor._requirements("")]
    assert {"torch", "mne", "numpy"} <= set(names) and "braindecode" not in names
    assert {"braindecode", "scikit-learn"} <= {requirement.name for requirement in doctor._requirements("decoders")}
    assert all(line.status == OK for line in doctor.core())


def importing(monkeypatch, errors):
    def import_module(name):
        if name in errors:
            raise errors[name]

    monkeypatch.setattr(doctor, "importlib", SimpleNamespace(import_module=import_module))


def test_a_broken_package_is_reported_and_the_others_are_looked_at(monkeypatch):
    errors = {
        "scipy": OSError("libgfortran.so: cannot open\nshared object file"),
        "mne": ModuleNotFoundError("No module named 'pooch'", name="pooch"),
        "braindecode": ModuleNotFoundError("No module named 'braindecode'", name="braindecode"),  # an extra: no fault
        "pyarrow": AttributeError("module 'numpy' has no attribute 'x'"),
    }
    importing(monkeypatch, errors)
    lines = found(doctor.imports)
    failed = {name: line for name, line in lines.items() if line.status != OK}
    assert failed.keys() == {"import scipy", "import mne", "import pyarrow"}
    assert failed["import scipy"].found == "OSError: libgfortran.so: cannot open shared object file"
    assert failed["import mne"].found == "needs pooch" and all("pip install" in line.remedy for line in failed.values())
    assert "import braindecode" not in lines and lines["import sklearn"].status == OK
    importing(monkeypatch, {"einops": ModuleNotFoundError("No module named 'einops'", name="einops")})
    assert found(doctor.imports)["import einops"].status == FAIL  # in the core, it is


def test_a_package_that_really_raises_is_reported(monkeypatch, tmp_path):
    (tmp_path / "broken_here.py").write_text("raise RuntimeError('compiled for another NumPy')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "CORE_MODULES", ("broken_here", "json"))
    monkeypatch.setattr(doctor, "OF_EXTRAS", {})
    broken, works = doctor.imports()
    assert broken.status == FAIL and broken.found == "RuntimeError: compiled for another NumPy" and works.status == OK


def test_a_torchaudio_of_another_torch_is_named_with_both_builds(installed, monkeypatch):
    assert list(doctor.torchaudio()) == []  # not installed: another line's business
    installed["torchaudio"] = "2.11.0"
    importing(monkeypatch, {})
    assert alone(doctor.torchaudio).status == OK
    importing(monkeypatch, {"torchaudio": OSError("libcudart.so.13: cannot open")})
    line = alone(doctor.torchaudio)
    assert line.status == FAIL and "torchaudio 2.11.0 does not fit torch 2.14.1+cpu (OSError: libcudart" in line.found
    assert "builds differ: cpu, without a mark" in line.found and "same index" in line.remedy


# ---- what it runs on ------------------------------------------------------------------------------------------------


def test_device_is_the_one_that_training_takes(monkeypatch):
    monkeypatch.setenv("EEGXAI_DEVICE", "cpu")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert alone(doctor.device).found.startswith("cpu, ")
    monkeypatch.setenv("EEGXAI_DEVICE", "abacus")
    line = alone(doctor.device)
    assert line.status == FAIL and "abacus" in line.found and "EEGXAI_DEVICE" in line.remedy


def test_an_accelerator_is_named_with_its_precision(monkeypatch):
    monkeypatch.setenv("EEGXAI_DEVICE", "meta")
    assert alone(doctor.device) == Line("device", OK, "meta, with float64")

    def refuse(*_, **__):
        raise TypeError("no float64 on MPS")

    monkeypatch.setattr(torch, "zeros", refuse)
    assert "without float64" in alone(doctor.device).found


def test_a_gpu_that_torch_cannot_use_is_noticed(monkeypatch):
    monkeypatch.setenv("EEGXAI_DEVICE", "cpu")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"somewhere/{name}")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    line = alone(doctor.device)
    assert line.status == WARN and "without CUDA" in line.found
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert alone(doctor.device).status == OK


@pytest.mark.parametrize(
    ("given", "used", "status", "advice"),
    [
        (None, 4, OK, ""),
        ("4", 4, OK, ""),
        ("2", 2, OK, ""),
        ("4,2", 4, OK, ""),
        ("1", 1, WARN, "unset OMP_NUM_THREADS"),
        ("8", 8, WARN, "set OMP_NUM_THREADS=4"),
        (None, 64, WARN, "set OMP_NUM_THREADS=4"),
        ("many", 4, WARN, "is no number"),
        ("0", 4, WARN, "is no number"),
    ],
)
def test_threads_are_compared_with_the_cores_of_this_process(given, used, status, advice, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: used)
    line = alone(doctor.threads)
    assert line.status == status and advice in line.remedy and line.found.startswith(f"{used} for 4 cores")


# ---- where it reads and writes --------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("EEGXAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MNE_DATA", str(tmp_path / "data"))
    return tmp_path


def test_caches_are_named_with_their_size(folders):
    lines = found(doctor.caches)
    assert all(line.status == OK and "made when it is needed" in line.found for line in lines.values())
    assert not any(folders.iterdir())  # looking leaves nothing behind
    (folders / "cache/deep").mkdir(parents=True)
    (folders / "cache/deep/a").write_bytes(bytes(3_000_000))
    line = found(doctor.caches)["cache of decoders"]
    assert line.status == OK and line.found == f"{folders / 'cache'}, 3 MB"


def test_a_large_cache_is_noticed(folders, monkeypatch):
    (folders / "cache").mkdir()
    (folders / "cache/a").write_bytes(b"123")
    monkeypatch.setattr(doctor, "LARGE_CACHE", 2)
    assert found(doctor.caches)["cache of decoders"].status == WARN


@pytest.mark.parametrize(("variable", "check"), [("EEGXAI_CACHE", "cache of decoders"), ("MNE_DATA", "recordings")])
def test_a_folder_that_cannot_be_one_is_noticed(variable, check, folders, monkeypatch):
    monkeypatch.setenv(variable, "here")
    line = found(doctor.caches)[check]
    assert line.status == WARN and variable in line.found and "absolute path" in line.remedy
    (folders / "a_file").write_text("")
    monkeypatch.setenv(variable, str(folders / "a_file/below"))
    line = found(doctor.caches)[check]
    assert line.status == FAIL and "a_file is a file" in line.found


def test_a_folder_that_cannot_be_written_to_is_noticed(folders, monkeypatch):
    def locked(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", locked)
    for line in doctor.caches():
        assert line.status == WARN and "Read-only file system" in line.found and "nothing is kept" in line.remedy


def test_a_font_that_lacks_signs_is_named(monkeypatch, tmp_path):
    import matplotlib

    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    assert alone(doctor.fonts) == Line("fonts", OK, "DejaVuSans.ttf")
    with matplotlib.rc_context({"font.family": "STIXSizeOneSym"}):
        line = alone(doctor.fonts)
    assert line.status == WARN and "lacks signs" in line.found and "DejaVu Sans" in line.remedy


def test_matplotlib_without_a_folder_is_noticed(monkeypatch):
    import matplotlib

    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(matplotlib, "get_cachedir", lambda: f"{tempfile.gettempdir()}/matplotlib-1")
    _, line = doctor.fonts()
    assert line.status == WARN and "MPLCONFIGDIR" in line.remedy


@pytest.mark.parametrize(("free", "status"), [(5e9, OK), (1e9, WARN), (1e8, FAIL)])
def test_disk_is_looked_at_once_for_places_on_the_same(free, status, folders, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    monkeypatch.chdir(folders)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folders))
    line = alone(doctor.disk)
    assert line.status == status and line.found.endswith("for this folder, cache, temporary files")
    assert bool(line.remedy) == (status != OK)


# ---- the command ----------------------------------------------------------------------------------------------------


def fine():
    yield Line("fine", OK, "1.0")


def odd():
    yield Line("odd", WARN, "slow", "hurry")


def broken():
    yield Line("first", OK, "found before")
    raise KeyError("µ")


@pytest.mark.parametrize(("checks", "code"), [((fine, odd), 0), ((fine, broken, odd), 1), ((fine,), 0)])
def test_the_command_fails_only_for_a_failure(checks, code, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    fine: 1.0"
    if odd in checks:
        assert lines[-3:-1] == ["warn  odd: slow", "      -> hurry"]
    if broken in checks:
        assert "ok    first: found before" in lines and "fail  broken: cannot be checked (KeyError: 'µ')" in lines
    assert (
        lines[-1] == f"{len(checks) + (broken in checks)} checks: {code} failed, {int(odd in checks)} with a warning."
    )


def test_the_command_speaks_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (fine, broken, odd))
    assert main(["doctor", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [line["status"] for line in said] == [OK, OK, FAIL, WARN]
    assert said[-1] == {"check": "odd", "status": WARN, "found": "slow", "remedy": "hurry"}


def test_no_check_is_forgotten():
    returns = {name: getattr(it, "__annotations__", {}).get("return") for name, it in vars(doctor).items()}
    known = {name for name, given in returns.items() if given == "Iterator[Line]"} - {"examined"}
    assert {check.__name__ for check in doctor.CHECKS} == known
