"""The wheel holds the package, its recorded results and its licences, and nothing else."""

import importlib.util
import subprocess
import sys
import zipfile
from email import message_from_bytes

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

PACKAGE = ROOT / "eegxai_support"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel with what is installed, asking no index."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; the extra 'test' brings it")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", folder]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, ROOT], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as file:
        yield file


def test_wheel_holds_the_package_and_the_recorded_results_and_nothing_else(wheel):
    sources = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    results = {path for path in (ROOT / "book/results").rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for path in sources}
    expected |= {f"eegxai_support/_results/{path.relative_to(ROOT / 'book/results').as_posix()}" for path in results}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert any(name.endswith(".parquet") for name in held)


def test_wheel_holds_the_licences_and_says_so(wheel):
    folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    metadata = message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata.get_all("License-File") == ["LICENSE", "LICENSE-TEXT"]
    for name in ("LICENSE", "LICENSE-TEXT"):
        assert wheel.read(f"{folder}/licenses/{name}") == (ROOT / name).read_bytes()


def test_wheel_asks_for_the_core_alone_where_no_extra_is_named(wheel):
    folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    asked = map(Requirement, message_from_bytes(wheel.read(f"{folder}/METADATA")).get_all("Requires-Dist"))
    core = {it.name for it in asked if it.marker is None or it.marker.evaluate({"extra": ""})}
    assert core == set(
        "einops lazy-loader matplotlib mne numpy packaging pandas pillow safetensors scipy torch tqdm".split()
    )
