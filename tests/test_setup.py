"""`tools/setup.sh` with an interpreter that notes what pip is asked for, with CUDA and without, on both systems."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv

import pytest
from conftest import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
ENTRIES = {entry.split("==")[0]: entry for entry in re.split(r"(?m)^(?=[a-z0-9])", LOCK)[1:]}
OF_TORCH = {"torch", "torchaudio"}
OF_CUDA = {name for name in ENTRIES if re.search("nvidia|cuda|triton", name)}
PYTHON = """\
#!{executable}
import json, os, shutil, sys
from pathlib import Path

match sys.argv[1:]:
    case ["-m", "venv", *_, folder]:
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder, "bin").mkdir(parents=True)
        shutil.copy(__file__, f"{{folder}}/bin/python")
    case ["-m", "pip", *arguments]:
        files = [Path(file).read_text() for file in arguments if file.endswith(".lock")]
        with open("asked.jsonl", "a") as log:
            print(json.dumps([arguments, *files]), file=log)
    case ["-c", code] if "requires" in code:
        sys.exit(int(os.environ.get("TORCH_HAS_CUDA", 0)))
    case ["-c", code] if "sys.prefix" in code:
        print(Path(__file__).resolve().parents[1])
    case _:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def setup(tmp_path):
    """Return a function that sets up a copy of the project and returns the run, with what pip was `asked` for."""
    for name in ("requirements.lock", "pyproject.toml", "tools/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python, uname, asked = (tmp_path / name for name in ("python3", "uname", "asked.jsonl"))
    python.write_text(PYTHON.format(executable=sys.executable))
    uname.write_text('#!/bin/sh\necho "$SYSTEM"\n')
    for script in (python, uname):
        script.chmod(0o755)

    def run(system="Linux", **variables):
        asked.unlink(missing_ok=True)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PYTHON": "", "TORCH": "", "PATH": path, "SYSTEM": system, **variables}
        done = subprocess.run(["sh", "tools/setup.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        lines = asked.read_text().splitlines() if asked.exists() else []
        done.asked = [json.loads(line) for line in lines]
        return done

    yield run


@pytest.mark.parametrize(("system", "torch"), [("Linux", ""), ("Linux", "cuda"), ("Darwin", ""), ("Darwin", "cpu")])
def test_everything_comes_from_the_lock_with_its_hashes(setup, system, torch):
    done = setup(system, TORCH=torch)
    assert done.returncode == 0, done.stderr
    (locked, content), (itself,) = done.asked
    assert content == LOCK and {"--require-hashes", "--no-deps"} <= {*locked}
    assert itself[-2:] == ["--editable", "."]
    assert not any("index" in it for arguments, *_ in done.asked for it in arguments)


def test_without_cuda_nothing_of_cuda_is_asked_for(setup):
    done = setup(TORCH="cpu")
    assert done.returncode == 0, done.stderr
    (wheels,), (locked, content), _ = done.asked

    assert wheels[-4:-2] == ["--index-url", "https://download.pytorch.org/whl/cpu"]
    assert {*wheels[-2:]} == {re.match(r"[^ ;]+", ENTRIES[name])[0] for name in OF_TORCH}
    assert {"--no-deps", "--only-binary"} <= {*wheels}  # whatever they require, the lock brings it, or nothing does

    assert {"--require-hashes", "--no-deps"} <= {*locked} and not any("index" in it for it in locked)
    rest = {entry.split("==")[0]: entry for entry in re.split(r"(?m)^(?=[a-z0-9])", content)[1:]}
    assert rest == {name: entry for name, entry in ENTRIES.items() if name not in OF_TORCH | OF_CUDA}
    assert not re.search("(?im)^[^#]*(nvidia|cuda|triton)", content)


def test_nothing_but_torch_asks_for_cuda():
    """Else leaving it out would break what stays."""
    assert len(OF_CUDA) > 10 and OF_TORCH <= ENTRIES.keys() and "torchvision" not in ENTRIES
    for name in OF_CUDA:
        asked_by = re.findall(r"(?m)^    #(?: via|  ) ([a-z0-9-]+)$", ENTRIES[name])
        assert asked_by and {*asked_by} <= OF_CUDA | {"torch"}, name


def test_the_kind_of_torch_changes_where_it_is_named_and_only_there(setup):
    """What is left of one kind would stay in the way of the other: the environment is made again."""
    said = [setup(TORCH=torch).stdout for torch in ("", "", "cpu", "", "cpu", "cuda", "")]
    assert ["making .venv" in it for it in said] == [True, False, True, False, False, True, False]
    assert ["installing" in it for it in said] == [True, False, True, False, False, True, False]


def test_a_torch_with_cuda_is_not_taken_for_one_without(setup):
    done = setup(TORCH="cpu", TORCH_HAS_CUDA="1")
    assert done.returncode == 1 and "another torch" in done.stderr
    assert len(done.asked) == 1
    again = setup(TORCH="cpu")  # with the index put right; what was installed does not stay in the way
    assert "making .venv" in again.stdout and again.returncode == 0


def test_another_kind_of_torch_is_refused(setup):
    done = setup(TORCH="rocm")
    assert done.returncode == 1 and "TORCH is rocm; it may be cpu" in done.stderr and not done.asked


def test_setup_heeds_the_interpreter_that_is_asked_for(tmp_path):
    """An environment in step is left alone, whichever way its interpreter is named, and not taken for another's."""
    for name in ("requirements.lock", "pyproject.toml", "tools/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    venv.create(tmp_path / ".venv", symlinks=True)
    stamp = re.search(r"(?m)^stamp=.*$", (ROOT / "tools/setup.sh").read_text())[0]
    subprocess.run(["sh", "-c", f'torch=cuda; {stamp}; echo "$stamp" > .venv/stamp'], cwd=tmp_path, check=True)

    def setup(python):
        environment = {**os.environ, "PYTHON": python, "TORCH": ""}
        return subprocess.run(["sh", "tools/setup.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)

    for python in ("", sys.executable, ".venv/bin/python"):
        assert (setup(python).returncode, setup(python).stdout) == (0, "")
    refused = setup("no-such-python")
    assert refused.returncode == 1 and "found: no no-such-python" in refused.stderr
