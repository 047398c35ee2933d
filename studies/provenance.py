"""What made a recorded table, and whether all of it is still the same today."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import threadpoolctl
import torch

from eegxai_support.files import DamagedFileError
from eegxai_support.model.devices import best_device
from eegxai_support.provenance import meaning, package_digest, versions
from eegxai_support.recordings.results import read_recorded
from studies.form import Study, defaults

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
MACHINERY = ("__init__", "__main__", "form", "provenance", "runner")  # modules of studies that ask nothing
NO_NUMBERS = {"eegxai_support/files", "eegxai_support/provenance", *(f"studies/{name}" for name in MACHINERY)}
N_DIGITS = 16  # of a hash: enough to tell versions of a file apart
CHANGED = "changed while the table was computed"  # in the place of a hash, which it never equals
# What tables are computed with, the same for all: it may be imported late, or in other processes only.
LIBRARIES = "braindecode captum mne mne-icalabel numpy pandas scikit-learn scipy torch umap-learn".split()


def provenance(name: str, study: Study, table: str, digests: dict[str, str], seconds: float) -> dict:
    """Return what made a table in this process, right after it was computed.

    Parameters
    ----------
    name : str
        The study's module.
    study : Study
    table : str
        The name of one of its tables.
    digests : dict of str to str
        What `source_digests` returned before the study was imported. A source that is another one by now counts as
        changed: modules are imported late, and nobody can tell which of the two has made the numbers.
    seconds : float
        How long it took.
    """
    now = source_digests()
    used = sorted(_imported() & {*digests, *now})
    return {
        "what": study.names[table].__doc__,
        "command": f"python -m studies {table}",
        "study": name,
        "configuration": configuration_of(study, table),
        "data_sha256": _data(study, table),
        "sources": {it: now[it] if it in now and now[it] == digests.get(it) else CHANGED for it in used},
        "commit": commit(),
        "versions": versions(LIBRARIES),
        "threads": _threads(),
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "device": str(best_device()),
        },
        "seconds": round(seconds),
    }


def why_make(study: Study, table: str, digests: dict[str, str]) -> str | None:
    """Return what differs today from what made the recorded table, or None where nothing does.

    Recordings that are not at hand count as unchanged: a table stays valid on a machine without them. So do packages
    that are not installed, or were not when it was made. Versions come before sources, since a syntax tree, which is
    what a source is compared by, is another one in another Python. Commit, threads and platform are recorded for
    whoever compares numbers, not compared here.
    """
    path = RESULTS / f"{table}.parquet"
    if not path.exists():
        return "never made"
    try:
        made = read_recorded(path).attrs
    except DamagedFileError:
        return "damaged"
    if "sources" not in made:
        return "made before its sources were recorded"
    installed = {name: it for name, it in versions(LIBRARIES).items() if it and made["versions"].get(name)}
    for kind, then, now in (
        ("configuration", made["configuration"], configuration_of(study, table)),
        ("version of", {name: made["versions"][name] for name in installed}, installed),
        ("source", made["sources"], {source: digests.get(source) for source in made["sources"]}),
        ("recording", made["data_sha256"], made["data_sha256"] | _data(study, table)),
    ):
        if changed := [key for key in {**then, **now} if then.get(key) != now.get(key)]:
            return f"{kind} {', '.join(changed)} changed"
    return None


def configuration_of(study: Study, table: str) -> dict:
    """Return what a table is computed with, as JSON gives it back: its study's configuration and its own defaults."""
    own = {"defaults": {**study.configuration.get("defaults", {}), **defaults(study.names[table])}}
    return json.loads(json.dumps({**study.configuration, **own}))


def source_digests() -> dict[str, str]:
    """Return a hash of every source that a study may import: rooms of the package, studies, the tests' networks.

    A room counts as a whole, since modules in it are imported late, or in other processes only.
    """
    package = ROOT / "eegxai_support"
    rooms = {path.relative_to(package).with_suffix("").parts[0] for path in package.rglob("*.py")} - {"__init__"}
    digests = {f"eegxai_support/{room}": package_digest(room) for room in rooms}
    modules = [*(ROOT / "studies").glob("*.py"), ROOT / "tests" / "zoo.py"]
    digests |= {f"{path.parent.name}/{path.stem}": meaning(path.read_bytes()) for path in modules if path.exists()}
    return {source: digest[:N_DIGITS] for source, digest in digests.items() if source not in NO_NUMBERS}


def _imported() -> set[str]:
    """Return room or module of all that this process has imported from the project."""
    files = [Path(file) for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))]
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files if file.is_relative_to(ROOT)]
    return {"/".join(part[:2]) for part in parts}


def commit() -> str | None:
    """Return the commit that is checked out, with "+changes" where files but the results differ; None without git."""
    try:
        head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".", ":!book/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+changes" * bool(changes)


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def _data(study: Study, table: str) -> dict[str, str]:
    """Return the hash of each recording of a table that is at hand."""
    return {path.name: _sha256(path) for path in study.tables[study.names[table]]() if path.exists()}


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _threads() -> dict:
    pools = threadpoolctl.threadpool_info()
    libraries = {f"{it['internal_api']} {it['version'] or ''}".strip(): it for it in pools}
    return {"torch": torch.get_num_threads()} | {
        name: {"threads": it["num_threads"], "kernels": it.get("architecture")} for name, it in libraries.items()
    }
