"""The form of a study: a module that asks something, says what its answer depends on, and computes tables.

A module's docstring is the question, and its `STUDY` the rest. `python -m studies` makes the tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from eegxai_support.recordings.eegbci import files_of

Recordings = Callable[[], list[Path]]


@dataclass(frozen=True)
class Study:
    """What a study depends on, and its tables.

    Parameters
    ----------
    configuration : mapping
        Every constant that the numbers depend on, such as window, networks and their training; JSON values. The same on
        every machine: what a machine lacks is no part of it.
    tables : mapping
        The function that computes each table, without arguments, to the recordings that it reads: a function that
        returns their paths, whether or not they are there. The name of a table is that of its function, and the
        function's docstring says what the table holds.
    takes_hours : bool
        It is made only where it is asked for by name.
    """

    configuration: Mapping
    tables: Mapping[Callable[[], pd.DataFrame], Recordings]
    takes_hours: bool = False

    @property
    def names(self) -> dict[str, Callable[[], pd.DataFrame]]:
        """The functions of the tables by the tables' names."""
        return {table.__name__: table for table in self.tables}


def eegbci(runs: Mapping[int, tuple[int, ...]]) -> Recordings:
    """Return the recordings of EEGBCI with the runs of each subject."""
    return lambda: [path for subject, of_it in runs.items() for path in files_of((subject,), of_it).values()]


def no_recordings() -> list[Path]:
    """Return the recordings of a table that is computed from simulated trials or from networks alone."""
    return []


def defaults(*functions: Callable) -> dict[str, dict]:
    """Return the defaults of each function's parameters, by its name, as the configuration of a study holds them."""
    return {function.__name__: _defaults(function) for function in functions}


def _defaults(function: Callable) -> dict:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
