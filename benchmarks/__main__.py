"""Run every benchmark, each in a process of its own, and make one table of what they found: `make bench`.

The table is written after each benchmark, and holds of each what state of the project it ran in. So a run that was
stopped, in whatever way, goes on where it was, and a benchmark that has nothing new to measure is left.
"""

import argparse
import datetime
import fcntl
import hashlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import torch

from benchmarks.table import ROWS
from eegxai_support.files import DamagedFileError
from eegxai_support.model.devices import best_device
from eegxai_support.provenance import meaning, package_digest, versions
from eegxai_support.recordings import write_recorded
from eegxai_support.recordings.results import read_recorded
from studies.provenance import LIBRARIES, RESULTS, commit

FOLDER = Path(__file__).parent
TABLE = RESULTS / "performance.parquet"
LOCK = FOLDER.parent / "_build" / "bench.lock"
MACHINERY = ("__main__", "table")
COLUMNS = {
    **dict.fromkeys(("benchmark", "case", "peer", "size", "unit"), str),
    "rounds": int,
    **dict.fromkeys(("ours", "theirs", "ratio", "lowest", "highest", "target", "difference", "tolerance"), float),
    "met": bool,
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for and not up to date; return the exit status, 1 where a target is missed or a run failed."""
    found = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem not in MACHINERY}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Run the benchmarks and write what they found to {TABLE.name}. One that ran on this machine, with"
        " these versions and sources, is left.",
    )
    parser.add_argument("names", nargs="*", help="run these, up to date or not; by default all that are not")
    parser.add_argument("--force", action="store_true", help="run all again")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(found):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(found)}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what runs ends, too
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("FAILED: another `make bench` is at work in this folder; wait until it has ended.")
            return 1
        table = started(found)
        for name, path in found.items():
            if options.force or name in options.names or not (options.names or up_to_date(table, path)):
                print(f"\nbench: {name}", flush=True)
                table = with_run(table, path, lock)
                write_recorded(table, TABLE, table.attrs)
    return told(table, found)


def started(found: dict[str, Path]) -> pd.DataFrame:
    """Return the recorded table; one without rows where there is none, or its numbers are of another machine."""
    made = {
        "what": "Every benchmark of the project: ours against a peer's, in turn in one run",
        "command": "make bench",
        "machine": machine(),
        "versions": versions(["eegxai-support", *LIBRARIES]),
    }
    try:
        table = read_recorded(TABLE)
    except (FileNotFoundError, DamagedFileError) as error:
        print(f"bench: a new table ({type(error).__name__})")
    else:
        if not (changed := [key for key in made if table.attrs.get(key) != made[key]]):
            table = table[table["benchmark"].isin(found)]  # not those of a benchmark that is gone
            table.attrs["runs"] = {name: run for name, run in table.attrs["runs"].items() if name in found}
            return table
        print(f"bench: a new table, since the recorded one has another {' and '.join(changed)}")
    table = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    table.attrs = made | {"runs": {}}
    return table


def up_to_date(table: pd.DataFrame, path: Path) -> bool:
    """Say whether a benchmark has run to its end, and that with the sources of today."""
    run = table.attrs["runs"].get(path.stem, {"failed": "never ran"})
    return run["failed"] is None and run["sources"] == sources(path)


def sources(path: Path) -> str:
    """Hash what a benchmark measures: its own source and the package's."""
    return hashlib.sha256(f"{meaning(path.read_bytes())}{package_digest()}".encode()).hexdigest()[:16]


def with_run(table: pd.DataFrame, path: Path, lock) -> pd.DataFrame:
    """Run a benchmark, and return the table with its rows in the place of those that it had."""
    run = {
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "sources": sources(path),
        "load": os.getloadavg()[0],
    }
    before, start = processor_time(), time.perf_counter()
    rows, run["failed"] = rows_of(path, lock)
    run["seconds"] = round(time.perf_counter() - start)
    everything, own = (now - then for now, then in zip(processor_time(), before, strict=True))
    run["others"] = round(max(0, everything - own) / (time.perf_counter() - start), 2)
    new = pd.DataFrame([{"benchmark": path.stem, **row} for row in rows], columns=list(COLUMNS)).astype(COLUMNS)
    kept, made = table[table["benchmark"] != path.stem], table.attrs
    table = pd.concat([it for it in (kept, new) if len(it)] or [new]).sort_values("benchmark", kind="stable")
    table = table.reset_index(drop=True)
    table.attrs = made | {"runs": made["runs"] | {path.stem: run}}
    return table


def rows_of(path: Path, lock) -> tuple[list[dict], str | None]:
    """Run a benchmark; return its rows, and why it has none where it did not come to its end.

    A process begins with the peak memory of the one that started it, which for this one holds PyTorch; the shell
    between the two, which stays, holds nothing. Whoever kills this process leaves the benchmark's running: it keeps the
    lock open, so that no other run is disturbed by it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows"
        process = subprocess.Popen(
            ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, str(path)],
            env=os.environ | {ROWS: str(rows)},
            pass_fds=[lock.fileno()],
            process_group=0,
        )
        try:
            status = process.wait()
        except BaseException:  # whoever stops this stops all that the benchmark started
            os.killpg(process.pid, signal.SIGTERM)
            raise
        lines = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    ended, missed = None in lines, any(row and not row["met"] for row in lines)
    if ended and bool(status) == missed:
        return lines[:-1], None
    return [], f"its process ended with status {status}" + " before its end" * (not ended)


def told(table: pd.DataFrame, found: dict[str, Path]) -> int:
    """Print what came of each benchmark; return the exit status."""
    problems = 0
    print()
    for name in found:
        run, rows = table.attrs["runs"].get(name), table[table["benchmark"] == name]
        missed = list(rows.loc[~rows["met"], "case"])
        problems += bool(run and run["failed"]) + len(missed)
        if run is None:
            said = "not run"
        else:
            said = f"MISSED {', '.join(missed)}" if missed else f"met {len(rows)} of {len(rows)}"
            said = f"FAILED: {run['failed']}" if run["failed"] else f"{said} ({run['began']})"
        print(f"{name:24} {said}")
    return int(bool(problems))


def processor_time() -> tuple[float, float]:
    """Return the seconds that all processors were busy with anything, and with what this process has started."""
    everything, own = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # Time of guests is in user's, too; what a hypervisor gives to other machines ("steal") is no less a loss.
    idle = everything.idle + getattr(everything, "iowait", 0)
    guests = getattr(everything, "guest", 0) + getattr(everything, "guest_nice", 0)
    return sum(everything) - idle - guests, own.ru_utime + own.ru_stime


def machine() -> dict:
    """Return what the numbers of a table depend on besides versions."""
    device = best_device()
    return {
        "processor": processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    """Return the name of the processor; `platform.processor` knows its architecture only."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
