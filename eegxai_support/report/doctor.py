"""`eegxai doctor`: whether an installation can do its work, and what to do where it cannot.

What is broken is what is looked for, so nothing may be taken for granted: each check imports what it needs itself, and
what it raises is its result.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from eegxai_support.files import expanded

OK, WARN, FAIL = "ok", "warn", "fail"
PACKAGE = "eegxai-support"
DEVELOPERS = ("all", "book", "test")  # extras that add nothing for who uses the package
CORE_MODULES = ("numpy", "scipy", "pandas", "matplotlib", "mne", "torch", "safetensors", "einops")
# What `eegxai report` imports of extras, by the name in Python: the extra that brings it.
OF_EXTRAS = {"braindecode": "decoders", "sklearn": "decoders", "mne_icalabel": "sources", "pyarrow": "recordings"}
LITTLE_DISK, NO_DISK = 2e9, 2e8  # bytes: a report of many trials takes some hundred MB, a cache of decoders more
LARGE_CACHE = 5e9  # bytes
SIGNS = "µV²/Hz − Δ × ≤ α"  # what figures are labelled with


@dataclass(frozen=True)
class Line:
    """What a check found.

    Parameters
    ----------
    check : str
        What was looked at.
    status : {"ok", "warn", "fail"}
    found : str
    remedy : str
        What to do; empty where there is nothing to do.
    """

    check: str
    status: str
    found: str
    remedy: str = ""


def add_doctor(commands) -> argparse.ArgumentParser:
    """Add `doctor` to the commands."""
    parser = commands.add_parser(
        "doctor",
        help="check the installation",
        description="Check the installation: versions, packages, accelerator, threads, caches, fonts and disk. Exits"
        " with 1 where something fails; a warning is of what works, slower or in part.",
        epilog="examples:\n  eegxai doctor\n  eegxai doctor --json",
    )
    parser.set_defaults(run=_doctor)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of lines")
    return parser


def _doctor(given: argparse.Namespace) -> int:
    lines = []
    for line in examined():
        lines.append(line)
        if not given.json:  # as it comes: the imports take seconds
            print(f"{line.status:<6}{line.check}: {line.found}", flush=True)
            print(f"      -> {line.remedy}\n" * bool(line.remedy), end="", flush=True)
    failed, warned = (sum(line.status == status for line in lines) for status in (FAIL, WARN))
    if given.json:
        print(json.dumps([asdict(line) for line in lines], indent=2, ensure_ascii=False))
    else:
        print(f"{len(lines)} checks: {failed} failed, {warned} with a warning.")
    return int(bool(failed))


def examined() -> Iterator[Line]:
    """Check one thing after the other; a check that cannot be made is a failure, too.

    Yields
    ------
    Line
    """
    for check in CHECKS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield from check()
        except Exception as error:
            said = f"{type(error).__name__}: {_short(error)}"
            yield Line(check.__name__, FAIL, f"cannot be checked ({said})", "See the other lines first.")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or "no message"


# ---- what is installed ----------------------------------------------------------------------------------------------


def python() -> Iterator[Line]:
    """Compare Python with what the package asks for."""
    from packaging.specifiers import SpecifierSet

    found, asked = ".".join(map(str, sys.version_info[:3])), metadata.metadata(PACKAGE)["Requires-Python"] or ""
    if SpecifierSet(asked).contains(found):
        yield Line("python", OK, found)
    else:
        yield Line("python", FAIL, f"{found}, and {asked} is asked for", "Make an environment with a Python of these.")


def core() -> Iterator[Line]:
    """Compare the versions of the core packages with their lower bounds."""
    for requirement in _requirements(""):
        found, wrong = _installed(requirement)
        remedy = f'pip install "{requirement}"' if wrong else ""
        yield Line(requirement.name, FAIL if wrong else OK, wrong or found, remedy)


def extras() -> Iterator[Line]:
    """Say of each extra whether its packages are there, and recent enough."""
    for extra in metadata.metadata(PACKAGE).get_all("Provides-Extra") or ():
        if extra in DEVELOPERS:
            continue
        wrong = [f"{it.name} {why}" for it in _requirements(extra) if (why := _installed(it)[1])]
        if wrong:
            yield Line(f"[{extra}]", WARN, ", ".join(wrong), f'pip install "{PACKAGE}[{extra}]"')
        else:
            yield Line(f"[{extra}]", OK, "all there")


def _requirements(extra: str) -> list:
    """Return what the core asks for, or what an extra asks for beyond."""
    from packaging.requirements import Requirement

    asked = [Requirement(it) for it in metadata.requires(PACKAGE) or ()]
    asked = [it for it in asked if it.name != PACKAGE]  # an extra of extras: each has a line of its own
    core = [it for it in asked if it.marker is None or it.marker.evaluate({"extra": ""})]
    if not extra:
        return core
    return [it for it in asked if it not in core and it.marker.evaluate({"extra": extra})]


def _installed(requirement) -> tuple[str, str]:
    """Return the version of a package, and what is wrong with it."""
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "", "is missing"
    fits = requirement.specifier.contains(found, prereleases=True)
    return found, "" if fits else f"is {found}, and {requirement.specifier} is asked for"


def imports() -> Iterator[Line]:
    """Import what works are made of: an installed package may be broken."""
    for module in (*CORE_MODULES, *OF_EXTRAS):
        extra = OF_EXTRAS.get(module)
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if extra is None or error.name != module:
                yield Line(f"import {module}", FAIL, f"needs {error.name}", f"pip install --force-reinstall {module}")
        except Exception as error:  # a library of the system that lacks, a compiled part of another version
            remedy = f"pip install --force-reinstall {module}"
            yield Line(f"import {module}", FAIL, f"{type(error).__name__}: {_short(error)}", remedy)
        else:
            yield Line(f"import {module}", OK, "works")


def torchaudio() -> Iterator[Line]:
    """Import torchaudio, which braindecode imports: it must fit torch's compiled parts, and its kind of build."""
    try:
        ours, theirs = metadata.version("torch"), metadata.version("torchaudio")
    except metadata.PackageNotFoundError:
        return  # `core` and `extras` say so
    try:
        importlib.import_module("torchaudio")
    except Exception as error:
        found = f"torchaudio {theirs} does not fit torch {ours} ({type(error).__name__}: {_short(error)})"
        builds = {version.partition("+")[2] or "without a mark" for version in (ours, theirs)}
        of_builds = f"; their builds differ: {', '.join(sorted(builds))}" if len(builds) > 1 else ""
        remedy = "Install both at once, from the same index: pip install --force-reinstall torch torchaudio"
        yield Line("torchaudio", FAIL, found + of_builds, remedy)
    else:
        yield Line("torchaudio", OK, f"{theirs}, with torch {ours}")


# ---- what it runs on ------------------------------------------------------------------------------------------------


def device() -> Iterator[Line]:
    """Name the device of training, and whether it has float64."""
    import torch

    from eegxai_support.model import best_device

    try:
        chosen = best_device()
    except ValueError as error:
        yield Line("device", FAIL, _short(error), "Set EEGXAI_DEVICE to another device, or leave it unset.")
        return
    if chosen.type == "cpu":
        idle = shutil.which("nvidia-smi") and not torch.backends.cuda.is_built()
        found = f"cpu, {torch.backends.cpu.get_cpu_capability()}"
        if idle:
            yield Line("device", WARN, f"{found}; this torch is built without CUDA, and there is an NVIDIA driver",
                       "Install a torch with CUDA to use the GPU.")  # fmt: skip
        else:
            yield Line("device", OK, found)
        return
    try:
        torch.zeros(1, dtype=torch.float64, device=chosen)
        double = "with float64"
    except (TypeError, RuntimeError):
        double = "without float64: exact sums are made on the CPU"
    yield Line("device", OK, f"{chosen}, {double}")


def threads() -> Iterator[Line]:
    """Compare the threads of torch with the cores that this process may use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given, used = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    found = f"{used} for {cores} cores" + (f" (OMP_NUM_THREADS={given})" if given else "")
    if given and not re.fullmatch(r"\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*", given):
        yield Line("threads", WARN, found, "OMP_NUM_THREADS is no number and is ignored: unset or mend it.")
    elif used > cores:
        yield Line("threads", WARN, found, f"They are in each other's way: set OMP_NUM_THREADS={cores}.")
    elif used == 1 < cores:
        yield Line("threads", WARN, found, "Unless other work needs the cores, unset OMP_NUM_THREADS to use them all.")
    else:
        yield Line("threads", OK, found)


# ---- where it reads and writes --------------------------------------------------------------------------------------


def caches() -> Iterator[Line]:
    """Look at the folders of trained decoders and of recordings."""
    import mne

    from eegxai_support.decoders.cache import _folder

    yield _cache("cache of decoders", _folder(), "EEGXAI_CACHE")
    data = expanded(mne.get_config("MNE_DATA", "~/mne_data"))
    yield _cache("recordings", data, "MNE_DATA", sized=False)


def _cache(check: str, folder: Path, variable: str, *, sized: bool = True) -> Line:
    if not folder.is_absolute():
        return Line(check, WARN, f"{variable} is {folder}, which is another folder in every place",
                    f"Set {variable} to an absolute path.")  # fmt: skip
    there = _existing(folder)
    if not there.is_dir():
        return Line(check, FAIL, f"{folder} cannot be a folder: {there} is a file", f"Set {variable} to a folder.")
    if reason := _unwritable(there):
        return Line(check, WARN, f"{folder} cannot be written to ({reason})",
                    f"Set {variable} to a folder of yours; without, nothing is kept for the next time.")  # fmt: skip
    if there != folder:
        return Line(check, OK, f"{folder}, which is made when it is needed")
    if not sized:
        return Line(check, OK, str(folder))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    found = f"{folder}, {size / 1e6:.0f} MB"
    return (
        Line(check, WARN, found, f"Remove what is old in {folder}.") if size > LARGE_CACHE else Line(check, OK, found)
    )


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written to a folder, by trying: rights do not tell it on every disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def fonts() -> Iterator[Line]:
    """Draw what figures are labelled with, and see whether every sign has a shape."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont

    figure = Figure()
    FigureCanvasAgg(figure)
    figure.text(0.1, 0.5, SIGNS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.canvas.draw()
    name = Path(findfont(FontProperties())).name
    if missing := [str(each.message) for each in caught if "missing" in str(each.message)]:
        yield Line("fonts", WARN, f"{name} lacks signs: {missing[0].splitlines()[0]}",
                   "Take the font that matplotlib brings: rcParams['font.family'] = 'DejaVu Sans'.")  # fmt: skip
    else:
        yield Line("fonts", OK, name)
    folder = Path(matplotlib.get_cachedir())
    if Path(tempfile.gettempdir()) in folder.parents and "MPLCONFIGDIR" not in os.environ:
        yield Line("fonts", WARN, "matplotlib has no folder of its own and lists all fonts anew in every process",
                   "Set MPLCONFIGDIR to a folder that can be written to.")  # fmt: skip


def disk() -> Iterator[Line]:
    """Look at the free space where reports, caches and temporary files go."""
    from eegxai_support.decoders.cache import _folder

    places = {
        "this folder": Path.cwd(),
        "cache": _existing(_folder().absolute()),
        "temporary files": Path(tempfile.gettempdir()),
    }
    seen: dict[int, list[str]] = {}
    for name, folder in places.items():
        seen.setdefault(folder.stat().st_dev, []).append(name)
    for names in seen.values():
        free = shutil.disk_usage(places[names[0]]).free
        status = FAIL if free < NO_DISK else WARN if free < LITTLE_DISK else OK
        remedy = "" if status == OK else "Make room, or set EEGXAI_CACHE and TMPDIR to another disk."
        yield Line("disk", status, f"{free / 1e9:.1f} GB free for {', '.join(names)}", remedy)


CHECKS: tuple[Callable[[], Iterator[Line]], ...] = (
    python, core, extras, imports, torchaudio, device, threads, caches, fonts, disk
)  # fmt: skip
