"""Results computed on real recordings and kept with what made them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from eegxai_support.trials import unknown_name

PACKAGE = Path(__file__).parents[1]
# A checkout's folder, and the one that an installed package carries.
FOLDERS = (PACKAGE.parent / "book" / "results", PACKAGE / "_results")


def recorded(name: str) -> pd.DataFrame:
    """Read a result that was computed on real recordings.

    Parameters
    ----------
    name : str
        Name of a file in ``book/results`` without its ending.

    Returns
    -------
    pandas.DataFrame
        ``.attrs`` holds what made it: configuration, versions, hashes of the data, command.

    Raises
    ------
    ValueError
        No result of that name.
    """
    found = {path.stem: path for folder in reversed(FOLDERS) for path in folder.glob("*.parquet")}
    if name not in found:
        raise unknown_name("recorded result", name, found)
    return pd.read_parquet(found[name])


def write_recorded(frame: pd.DataFrame, path: Path | str, provenance: dict) -> None:
    """Write a result with what made it, whole or not at all.

    Parameters
    ----------
    frame : pandas.DataFrame
    path : path
        A parquet file; its folder is made where it lacks.
    provenance : dict
        JSON values; `recorded` gives them back as ``.attrs``.

    Raises
    ------
    TypeError
        `provenance` holds what JSON cannot.
    """
    json.dumps(provenance)  # pandas would warn and write none
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = frame.copy(deep=False)
    frame.attrs = provenance
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_parquet(partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
