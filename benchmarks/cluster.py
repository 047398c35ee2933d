"""`xs.run_benchmark` on a Dask cluster of two workers against one worker, on the same grid.

    python benchmarks/cluster.py [--rounds N]

Every worker is a process with one thread and has trained and explained once before the clock starts, so that neither
imports nor head models count. One worker and two take turns, each time in an empty folder; the median over the rounds
of the ratio of their times is compared with the target, and the tables have to be equal. Needs two cores that nothing
else uses, and the extra `cluster`. Ends with status 1 when two workers are less than 1.7 times as fast.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
from dask.distributed import Client, LocalCluster
from table import end, judge

from eegxai_support.benchmark import read_grid, run_benchmark
from eegxai_support.benchmark.engine import run_fit

TARGET = 1.7
GRID = {
    "regimes": ["temporal", "spectral"],
    "snr_db": [0],
    "decoders": {"EEGNet": {"train": {"epochs": 2}}, "ShallowFBCSPNet": {"train": {"epochs": 2}}},
    "seeds": [0, 1, 2, 3],
    "methods": ["saliency", "input_x_gradient", "deep_lift"],
    "n_train": 128,
    "n_valid": 64,
    "n_test": 64,
    "n_datasets": 2,
    "n_explained": 24,
    "n_null": 0,
}


def run(client):
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        table = run_benchmark(GRID, folder, client=client)
        return time.perf_counter() - start, table.drop(columns="seconds_per_trial")


def warm_up(folder):
    """Train and explain once in each regime, in the worker that calls it."""
    small = GRID | {"seeds": [9], "n_train": 16, "n_valid": 16, "n_test": 16, "n_explained": 16, "n_datasets": 1}
    for fit in read_grid(small):
        run_fit(fit, list(fit.cells), Path(tempfile.mkdtemp(dir=folder)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    seconds, tables = {1: [], 2: []}, []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        clients = {}
        for n_workers in seconds:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    dashboard_address=":0",
                    silence_logs=50,
                    local_directory=f"{folder}/{n_workers}",
                )
            )
            clients[n_workers] = stack.enter_context(Client(cluster, set_as_default=False))
            clients[n_workers].run(warm_up, folder)
        for _ in range(rounds):
            for n_workers, client in clients.items():
                taken, table = run(client)
                seconds[n_workers].append(taken)
                tables.append(table)
                print(f"{n_workers} worker{'s'[: n_workers > 1]}: {taken:.1f} s", flush=True)
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], check_exact=True)
    ratio = statistics.median(one / two for one, two in zip(*seconds.values(), strict=True))
    print(f"two workers are {ratio:.2f} times as fast as one (target: {TARGET}), the tables are equal")
    end([judge("two workers", seconds[2], seconds[1], peer="one worker", target=TARGET)])


if __name__ == "__main__":
    main()
