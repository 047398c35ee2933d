"""Run a benchmark from the command line."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

from eegxai_support.benchmark.engine import run_benchmark
from eegxai_support.files import expanded
from eegxai_support.model import needed
from eegxai_support.recordings.results import write_recorded


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the arguments ask for; return 1 if a cell failed."""
    parser = argparse.ArgumentParser(
        prog="python -m eegxai_support.benchmark",
        description="Score attribution methods on simulated EEG. Called again, it goes on where it was stopped.",
    )
    parser.add_argument("config", type=expanded, help="YAML file, described at run_benchmark")
    parser.add_argument("results_dir", type=expanded, help="folder of the results, shared by all workers")
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--scheduler", help="address of a Dask scheduler, such as tcp://node:8786")
    workers.add_argument("--jobs", type=int, default=1, help="processes without a scheduler, -1 for one per core")
    parser.add_argument("--no-resume", action="store_true", help="compute every cell again")
    given = parser.parse_args(arguments)
    try:
        with _client(given.scheduler) as client:
            table = run_benchmark(
                given.config, given.results_dir, client=client, n_jobs=given.jobs, resume=not given.no_resume
            )
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    without = table.attrs
    path = given.results_dir / "results.parquet"
    write_recorded(table, path, {"config": given.config.read_text(encoding="utf-8"), **without})
    n_cells = len(table.groupby(["regime", "snr_db", "decoder", "seed", "method"]))
    print(f"{n_cells} cells, {len(without['unsupported'])} unsupported, {len(without['failed'])} failed: {path}")
    for cell in without["failed"]:
        reason = cell["message"].strip().splitlines()[-1]
        print("failed: " + " ".join(str(cell[name]) for name in list(cell)[:5]) + f": {reason}")
    return int(bool(without["failed"]))


def _client(scheduler: str | None):
    if scheduler is None:
        return nullcontext()
    with needed("--scheduler", extra="cluster"):
        from dask.distributed import Client
    return Client(scheduler)


if __name__ == "__main__":
    sys.exit(main())
