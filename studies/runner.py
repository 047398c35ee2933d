"""Make the recorded tables: each study in a process of its own, one after the other, whatever fails.

The tables of a study share what was computed for them in its process, decoders and components. Studies share nothing,
so that no number depends on what ran before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pkgutil import iter_modules

from filelock import FileLock, Timeout

import studies
from eegxai_support.recordings import write_recorded
from studies.form import Study
from studies.provenance import CHANGED, MACHINERY, RESULTS, ROOT, provenance, source_digests, why_make

FAILED, LEFT = "failed: ", "left: "
KEPT = ROOT / ".studies"  # between runs: the lock, and in "decoders", which __main__ names, the trained decoders


def main(arguments: list[str] | None = None) -> int:
    """Make the tables that are asked for and not up to date; return the exit status, 1 where one could not be made."""
    parser = argparse.ArgumentParser(
        prog="python -m studies",
        description="Compute the tables that the book shows, and write them to book/results. A table stays as it is"
        " where nothing changed since: its sources, configuration, recordings, and the versions of packages.",
    )
    parser.add_argument("names", nargs="*", help="studies or tables; by default all but those that take hours")
    parser.add_argument("--force", action="store_true", help="make again what has not changed, decoders too")
    parser.add_argument("--list", action="store_true", help="say of each table what changed, and make none")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the study's process ends, too

    found, outcomes = all_studies()
    known = {*found, *outcomes, *(table for study in found.values() for table in study.names)}
    if unknown := set(options.names) - known:
        parser.error(f"no study or table is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    if options.list:
        for name, study in found.items():
            outcomes |= _reasons(name, study, options)
    else:
        try:
            KEPT.mkdir(exist_ok=True)
            with FileLock(KEPT / "lock", timeout=0):
                _make_all(found, options, outcomes)
        except Timeout:
            print("FAILED: another `python -m studies` is at work in this folder; wait until it has ended.")
            return 1
    said = {table: outcome or "unchanged" for table, outcome in outcomes.items()}
    print("", *(f"{table:26} {outcome}" for table, outcome in said.items()), sep="\n")
    return int(any(outcome.startswith(FAILED) for outcome in said.values()))


def _make_all(found: dict[str, Study], options: argparse.Namespace, outcomes: dict[str, str | None]) -> None:
    """Make what is to be made of every study, and enter what came of each table."""
    if options.force:
        shutil.rmtree(KEPT / "decoders", ignore_errors=True)
    for name, study in found.items():
        reasons = _reasons(name, study, options)
        outcomes |= reasons
        changed = {table: why for table, why in reasons.items() if why and not why.startswith(LEFT)}
        with closing(_made(name, changed)) as made:
            outcomes.update(made)


def _reasons(name: str, study: Study, options: argparse.Namespace) -> dict[str, str | None]:
    """Return why to make each table of a study that the options are about; None where it is up to date.

    Asked of each study when its turn comes: hours of others may lie before it.
    """
    reasons, digests = {}, source_digests()
    for table in study.names:
        if not options.names or {name, table} & set(options.names):
            why = why_make(study, table, digests) or ("forced" if options.force else None)
            left = why and study.takes_hours and not options.names
            reasons[table] = f"{LEFT}made by `python -m studies {name}`, which takes hours ({why})" if left else why
    return reasons


def all_studies() -> tuple[dict[str, Study], dict[str, str]]:
    """Return every study that can be imported, by the name of its module, and of the others why not."""
    found, failed = {}, {}
    for module in iter_modules(studies.__path__):
        if module.name not in MACHINERY:
            try:
                found[module.name] = import_module(f"studies.{module.name}").STUDY
            except Exception as error:  # a package that lacks, a slip in one study: the others can be made
                failed[module.name] = _said(error)
    return found, failed


def _made(name: str, reasons: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Make tables of a study, and yield what came of each; where its process ends, the rest is for another one."""
    left, context = list(reasons), get_context("spawn")
    while left:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_make, args=(name, tuple(left), there))
        process.start()
        there.close()  # so that `recv` notices when the process, which holds the other copy, ends
        try:
            while left:
                print(f"{name}, {left[0]}: {reasons[left[0]]}", flush=True)
                yield left[0], here.recv()
                del left[0]
        except EOFError:
            process.join()
            yield left.pop(0), f"{FAILED}its process ended with status {process.exitcode}"
        except BaseException:  # whoever stops this stops the study
            process.terminate()
            raise
        finally:
            process.join()


def _make(name: str, names: tuple[str, ...], there: Connection) -> None:
    """Compute and write tables in this process; send what came of each."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    digests = source_digests()
    study = import_module(f"studies.{name}").STUDY
    for table in names:
        start = time.perf_counter()
        try:
            frame = study.names[table]()
            seconds = time.perf_counter() - start
            made = provenance(name, study, table, digests, seconds)
            write_recorded(frame, RESULTS / f"{table}.parquet", made)
            changed = ", ".join(source for source, digest in made["sources"].items() if digest == CHANGED)
            there.send(f"made in {seconds:.0f} s" + f", to be made again: {changed} changed meanwhile" * bool(changed))
        except Exception as error:  # the other tables may not need what this one lacks
            traceback.print_exc()
            there.send(_said(error))
    if loky := sys.modules.get("joblib.externals.loky"):  # whose workers, kept for another call, this process waits for
        loky.get_reusable_executor().shutdown()


def _end_with_parent() -> None:
    """End this process where the one that started it was killed: it would go on for hours, and nobody would know."""
    wait([parent_process().sentinel])
    os._exit(1)


def _said(error: Exception) -> str:
    return f"{FAILED}{type(error).__name__}: {error}"
