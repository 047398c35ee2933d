"""Make the recorded tables: each study in a process of its own, one after the other, whatever fails.

The tables of a study share what was computed for them in its process, decoders and components. Studies share nothing,
so that no number depends on what ran before.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pkgutil import iter_modules

import studies
from eegxai_support.recordings import write_recorded
from studies.form import Study
from studies.provenance import MACHINERY, RESULTS, provenance, source_digests, why_make

FAILED = "failed: "


def main(arguments: list[str] | None = None) -> int:
    """Make the tables that are asked for and not up to date; return the exit status, 1 where one could not be made."""
    parser = argparse.ArgumentParser(
        prog="python -m studies",
        description="Compute the tables that the book shows, and write them to book/results. A table stays as it is"
        " where nothing changed since: its sources, configuration, recordings, and the versions of packages.",
    )
    parser.add_argument("names", nargs="*", help="studies or tables; by default all but those that take hours")
    parser.add_argument("--force", action="store_true", help="make again what has not changed")
    parser.add_argument("--list", action="store_true", help="say of each table what changed, and make none")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the study's process ends, too

    found, outcomes = all_studies()
    known = {*found, *outcomes, *(table for study in found.values() for table in study.names)}
    if unknown := set(options.names) - known:
        parser.error(f"no study or table is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    digests = source_digests()
    for name, study in found.items():
        reasons = {
            table: why_make(study, table, digests) or ("forced" if options.force else None)
            for table in study.names
            if {name, table} & set(options.names) or not (options.names or study.takes_hours)
        }
        outcomes |= {table: reason or "unchanged" for table, reason in reasons.items()}
        if not options.list:
            changed = {table: reason for table, reason in reasons.items() if reason}
            with closing(_made(name, changed)) as made:
                outcomes.update(made)
    print("", *(f"{table:26} {outcome}" for table, outcome in outcomes.items()), sep="\n")
    return int(any(outcome.startswith(FAILED) for outcome in outcomes.values()))


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
    digests = source_digests()
    study = import_module(f"studies.{name}").STUDY
    for table in names:
        start = time.perf_counter()
        try:
            frame = study.names[table]()
            seconds = time.perf_counter() - start
            write_recorded(frame, RESULTS / f"{table}.parquet", provenance(name, study, table, digests, seconds))
            there.send(f"made in {seconds:.0f} s")
        except Exception as error:  # the other tables may not need what this one lacks
            traceback.print_exc()
            there.send(_said(error))


def _said(error: Exception) -> str:
    return f"{FAILED}{type(error).__name__}: {error}"
