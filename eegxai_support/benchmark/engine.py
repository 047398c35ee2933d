"""Run a grid on one process, all cores or a cluster; the files in the results folder are all that counts."""

from __future__ import annotations

import ctypes
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, suppress
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from eegxai_support.benchmark.evaluation import EMPTY, evaluate_fit
from eegxai_support.benchmark.grid import Fit, made_by, read_grid
from eegxai_support.decoders import build_decoder
from eegxai_support.decoders.named import reference
from eegxai_support.files import DamagedFileError, expanded, read_sealed, remove_partial_files
from eegxai_support.model import needed
from eegxai_support.recordings.results import read_recorded, write_recorded
from eegxai_support.simulate import simulate

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
ATTEMPTS = 3  # in a row, at computing the fits side by side, without a new cell
Todo = list[tuple[Fit, list[str]]]


def run_benchmark(
    config: dict | str | Path, results_dir: str | Path, *, client=None, n_jobs: int = 1, resume: bool = True
) -> pd.DataFrame:
    """Train decoders on simulated trials, explain them with many methods, and score every map.

    The grid is regime × SNR × decoder × seed (a *fit*) × method (a *cell*). Each cell becomes one file as soon as it is
    done; whatever was killed, the same call goes on where the files end.

    Parameters
    ----------
    config : dict or path of a YAML file
        All keys are needed, none other is known.

        - ``regimes``: ``{name: options of simulate}`` or a list of names
        - ``snr_db``: a list, or ``{regime: list}``
        - ``decoders``: ``{label: {name, build, train}}``. ``name`` is that of `build_decoder`, the label if left out:
          a name, a class or function, or "module:name"; ``build`` its options, ``train`` those of `train`: ``epochs``,
          and if wanted ``batch_size``, ``lr``, …
        - ``seeds``: a list
        - ``methods``: a list of names, or ``{label: {method, baseline, options of the method}}``. ``method`` is the
          label if left out: a key of `METHODS`, a function ``(problem, **options)`` as for `register`, or its
          "module:name"; ``baseline`` is a kind of `make_baseline`, or, for methods that compare with many, the
          number of training trials to compare with (16 if left out)
        - ``n_train``, ``n_valid``, ``n_test``: trials to train on, to stop on, and to measure the accuracy on
        - ``n_datasets``, ``n_explained``: fresh data sets whose maps are scored, and trials in each
        - ``n_null``: draws of the chance levels, 0 for none
    results_dir : path
        Takes ``cells/*.parquet`` and ``weights/*.safetensors``; shared by all workers. Each is named by a hash of all
        that determines it: its part of the configuration, the sources of eegxai-support that it reaches, without their
        comments and docstrings, the source of what is one's own, and the versions of Python, PyTorch, braindecode, MNE,
        NumPy, pandas and SciPy. Each holds a hash of its content.
    client : dask.distributed.Client, optional
        A cluster that runs the fits, one task each.
    n_jobs : int
        Without a client: processes on this machine, -1 for one per core.
    resume : bool
        Keep the finished cells in `results_dir`; where one of the above changed, there are none yet. False computes
        every cell of this configuration again: take it where something else changed, such as what a method of one's
        own imports from other files.

    Returns
    -------
    DataFrame
        All cells in the order of the grid, whatever the order in which they were done. Columns:

        - regime, snr_db, decoder, seed, method, and dataset (-1 where none)
        - check: "decoder" (metrics accuracy and ideal_accuracy on the test trials), "accuracy" (maps against the truth,
          see `score_maps`), "label" (maps for a random wrong class against those for the true one), "weights" (maps of
          the network with all weights random against those of the trained one)
        - trials: "correct" (correctly classified), "all", both explained for their true class, or "predicted" (all,
          explained for the predicted class)
        - view: "channel_time" or "scalp"
        - metric, value (the mean over trials), n_valid (trials with a score) and n_trials
        - other_trial_mean, _low, _high and surrogate_mean, _low, _high: chance levels of the correct trials of the
          first data set, where ``n_null`` asks for them
        - status: "ok", or "unsupported" or "failed" in the one row of a cell without results
        - seconds_per_trial: what explaining took; the only column that changes from run to run

        ``.attrs["unsupported"]`` and ``.attrs["failed"]`` list these cells with the message or the traceback.

    Warns
    -----
    UserWarning
        A cell or trained weights are damaged; they are made again.

    Raises
    ------
    ValueError
        A wrong configuration, with the key and what is expected; both `client` and `n_jobs`; a Dask worker with
        more than one thread; or a worker with other sources or versions.
    ModuleNotFoundError
        A package of the extra "benchmark" is not installed.

    Notes
    -----
    All signals of a fit are divided by one number, the standard deviation of its training signal. The trials depend on
    regime, SNR and seed alone, so that decoders and methods are compared on the same ones.

    A worker imports networks and methods of one's own by "module:name", also where the object was given, so they stand
    in a file that every worker can import: one on PYTHONPATH, or an installed package. Only the single process that
    `n_jobs` = 1 means takes what a notebook or a function defines.

    The checks "label" and "weights" take the first data set, "label" with one random wrong class per trial. In the
    regime with a suppressor, the metric "suppressor_mass" is the share of ``abs(map)`` on its channel.

    An exception in one cell is its result; the others go on. Resuming tries failed cells again, and leaves alone those
    where a method has no meaning for a network. A worker that dies loses the cell it was at, and on one machine those
    that the others were at. Where that keeps happening, each fit gets a process of its own; cells that are still not
    done count as failed.

    Every fit runs on one thread, so that the numbers do not depend on where it runs; give each Dask worker one thread
    (``threads_per_worker=1``). Where there is a GPU it trains and explains, and rounds differently.
    On SLURM: ``cluster = dask_jobqueue.SLURMCluster(cores=1, processes=1, memory="4GB", walltime="04:00:00")``,
    ``cluster.scale(jobs=32)``, ``client=dask.distributed.Client(cluster)``, with `results_dir` on a shared disk.
    """
    with needed("run_benchmark", extra="benchmark"):  # told now, and not when the first cell is written
        import pyarrow  # noqa: F401
        import threadpoolctl  # noqa: F401
        from joblib import effective_n_jobs
    fits = read_grid(config)
    if client is not None and n_jobs != 1:
        raise ValueError(f"n_jobs is {n_jobs}, but with a client its workers do the work; leave one of the two out.")
    if client is not None or effective_n_jobs(n_jobs) > 1:
        for fit in fits:
            _refuse_what_stays_here(fit)
    folder = expanded(results_dir).resolve()
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    if not resume:
        for fit in fits:
            weights_path(folder, fit).unlink(missing_ok=True)
    for part in ("cells", "weights"):
        remove_partial_files(folder / part)
    todo = _prepared(fits, folder, resume)
    if todo:
        _rehearse(todo)
        with _progress(todo, folder):
            if client is not None:
                _on_cluster(todo, folder, client)
            elif effective_n_jobs(n_jobs) == 1:
                for fit, cells in todo:
                    run_fit(fit, cells, folder)
            else:
                _on_cores(todo, folder, n_jobs)
    return _collected(fits, folder)


def _refuse_what_stays_here(fit: Fit) -> None:
    """Refuse objects that no other process can import, before one fails at them."""
    own = {f"decoders.{fit.decoder}.name": fit.network["name"]}
    own |= {f"methods.{label}.method": it["method"] for label, it in fit.methods.items()}
    for where, given in own.items():
        if not isinstance(given, str):
            raise ValueError(
                f"{where} is {reference(given)}, which exists in this process alone. Write it into a file, such as"
                f" my_own.py on the path of Python, and give 'my_own:{given.__name__}'; or leave n_jobs at 1."
            )


def cell_path(folder: Path, fit: Fit, cell: str) -> Path:
    """Return where a cell's table is."""
    return folder / "cells" / f"{fit.key(cell)}.parquet"


def weights_path(folder: Path, fit: Fit) -> Path:
    """Return where a fit's trained weights are."""
    return folder / "weights" / f"{fit.key()}.safetensors"


def run_fit(fit: Fit, cells: list[str], folder: Path, driver: int | None = None) -> None:
    """Compute the cells of one fit that are not there yet, and write each as soon as it is done.

    Parameters
    ----------
    fit, cells
        The cells that were missing when the run began.
    folder : path
    driver : int, optional
        Process that started this one; without it nothing more is computed.
    """

    def missing():
        # Asked before each cell: another worker may have been here, or this fit's worker may have died halfway.
        return (cell for cell in cells if not cell_path(folder, fit, cell).exists())

    if driver is not None:
        _refuse_other_sources(fit)
    if not any(True for _ in missing()):
        return
    # The bars of single methods would write over the one that counts; an exception does not come this way.
    with _one_thread(), redirect_stderr(io.StringIO()):
        for cell, table in evaluate_fit(fit, missing(), weights_path(folder, fit)):
            write_recorded(table, cell_path(folder, fit, cell), table.attrs | {"content": fit.content(cell)})
            if driver not in (None, os.getppid()):
                return


@contextmanager
def _one_thread() -> Iterator[None]:
    with needed("run_benchmark", extra="benchmark"):
        from threadpoolctl import threadpool_limits
    n_threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)


_made_by = cache(made_by)  # asked first when a worker has just imported the sources, which may be edited later


def _refuse_other_sources(fit: Fit) -> None:
    """Refuse to compute under the name of one version what another would give."""
    if (ours := _made_by()) != fit.made_by:
        differ = {name: (ours["versions"][name], it) for name, it in fit.made_by["versions"].items()}
        differ = [f"{name} {a}, not {b}" for name, (a, b) in differ.items() if a != b]
        raise ValueError(
            "A worker differs from the process that asked for the benchmark:"
            f" {'; '.join(differ) or 'other sources of eegxai-support'}."
            " Install the same everywhere, and restart Python where the sources changed under it."
        )


def _read(path: Path) -> pd.DataFrame | None:
    """Return a cell's table; None where the file is missing, or damaged, which is told."""
    try:
        table = read_recorded(path, seal_required=True)
    except FileNotFoundError:  # any other trouble of the disk says nothing about the file, which is kept
        return None
    except DamagedFileError:
        table = None
    if table is None or not {"status", "message"} <= table.attrs.keys() or list(table) != list(EMPTY):
        warnings.warn(f"The cell {path} is damaged and counts as missing.", stacklevel=4)
        return None
    return table


def _check_weights(path: Path) -> None:
    """Tell of weights that will be trained again; where this happens, in a worker, nobody would see it."""
    try:
        read_sealed(path, required=True)
    except FileNotFoundError:
        pass
    except (OSError, DamagedFileError) as error:
        warnings.warn(f"The trained decoder {path} cannot be used ({error}); training it again.", stacklevel=4)


def _prepared(fits: list[Fit], folder: Path, resume: bool) -> Todo:
    """Return what is left to do, and remove what stands in its way: from here on a file is a finished cell."""
    todo = []
    for fit in fits:
        left = []
        for cell in fit.cells:
            path = cell_path(folder, fit, cell)
            table = _read(path) if resume else None
            if table is None or table.attrs["status"] == "failed":
                path.unlink(missing_ok=True)
                left.append(cell)
        if left:
            _check_weights(weights_path(folder, fit))
            todo.append((fit, left))
    return todo


def _rehearse(todo: Todo) -> None:
    """Simulate a few trials and build every network, so that an option that is wrong is told now and not in hours."""
    seen = []
    for fit, _ in todo:
        task = fit.regime, fit.options, fit.network["name"], fit.network["build"]
        if task in seen:
            continue
        seen.append(task)
        where = f"regimes.{fit.regime}"
        try:
            n_trials = min(fit.sizes[name] for name in ("n_train", "n_valid", "n_test", "n_explained"))
            trials = simulate(fit.regime, n_trials=n_trials, snr_db=fit.snr_db, **fit.options)
            where = f"decoders.{fit.decoder}"
            build_decoder(fit.network["name"], trials, **fit.network["build"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: {error}") from error


def _counter(todo: Todo, folder: Path) -> Callable[[], int]:
    """Return a function that counts the finished cells of this run, wherever they come from."""
    awaited = {cell_path(folder, fit, cell).name for fit, cells in todo for cell in cells}
    return lambda: len(awaited.intersection(os.listdir(folder / "cells")))


@contextmanager
def _progress(todo: Todo, folder: Path) -> Iterator[None]:
    """Show one bar over all cells."""
    n_finished = _counter(todo, folder)
    stop = threading.Event()
    with tqdm(total=sum(len(cells) for _, cells in todo), desc="Benchmark", unit="cell", smoothing=0) as bar:

        def count():
            bar.update(n_finished() - bar.n)

        def watch():
            while not stop.wait(1):
                count()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            count()


def _on_cores(todo: Todo, folder: Path, n_jobs: int) -> None:
    """Run one process per core. The death of a process ends them all; start again while that makes progress."""
    n_finished = _counter(todo, folder)
    n_before, in_vain = n_finished(), 0
    while in_vain < ATTEMPTS:
        if _survives(todo, folder, n_jobs):
            return
        in_vain = in_vain + 1 if n_finished() == n_before else 0
        n_before = n_finished()
    for each in todo:  # one after the other, so that a fit that kills its process costs no other one
        _survives([each], folder, n_jobs)


def _survives(todo: Todo, folder: Path, n_jobs: int) -> bool:
    """Run fits in processes, and return whether these lived to the end."""
    with needed("run_benchmark", extra="benchmark"):
        from joblib import Parallel, delayed, parallel_config
    try:
        with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
            Parallel()(delayed(run_fit)(fit, cells, folder, os.getpid()) for fit, cells in todo)
    except BrokenProcessPool:
        return False
    return True


def _on_cluster(todo: Todo, folder: Path, client) -> None:
    """Submit one task per fit; Dask gives the tasks of a worker that dies to another one."""
    with needed("run_benchmark with a client", extra="cluster"):
        from dask.distributed import KilledWorker, as_completed
    futures = [client.submit(_run_on_worker, fit, cells, folder, pure=False) for fit, cells in todo]
    for future in as_completed(futures, loop=client.loop):  # the client need not be the default one
        if not isinstance(future.exception(), KilledWorker):
            future.result()


def _run_on_worker(fit: Fit, cells: list[str], folder: Path) -> None:
    with needed("run_benchmark with a client", extra="cluster"):
        from dask.distributed import get_worker
    # Asked here and not of the client: the workers of a cluster that grows join later.
    if (n_threads := get_worker().state.nthreads) > 1:
        raise ValueError(
            f"A Dask worker has {n_threads} threads, and the fits on them would change each other's numbers. Start the"
            " workers with threads_per_worker=1, or cores equal to processes on a job queue."
        )
    # Dask sets MALLOC_TRIM_THRESHOLD_ for its workers: glibc then hands the memory of every tensor back to the system
    # and takes it anew, which made training and explaining 2.6 times as slow. Systems without glibc have no mallopt.
    with suppress(AttributeError, OSError, TypeError):
        for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(threshold, 2**30)
    _refuse_other_sources(fit)
    run_fit(fit, cells, folder)


def _collected(fits: list[Fit], folder: Path) -> pd.DataFrame:
    """Return the tables of all cells in the order of the grid."""
    tables, without = [], {"unsupported": [], "failed": []}
    for fit in fits:
        for cell in fit.cells:
            place = fit.place | {"method": cell}
            table = _read(cell_path(folder, fit, cell))
            if table is None:
                table = pd.DataFrame([{**EMPTY, **place, "status": "failed"}])
                message = "The worker died at this cell, or at an earlier one of this fit, each time it was tried."
                table.attrs = {"status": "failed", "message": message}
            if table.attrs["status"] != "ok":
                without[table.attrs["status"]].append({**place, "message": table.attrs["message"]})
            table.attrs = {}
            tables.append(table)
    collected = pd.concat(tables, ignore_index=True)
    collected.attrs = without
    return collected
