"""Results computed on real recordings and kept with what made them."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from eegxai_support.files import SEAL_KEY, UNSEALED, DamagedFileError, read_sealed, sealed, to_json, write_whole
from eegxai_support.model import needed
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
    DamagedFileError
        Its file is damaged; a ValueError, too.
    ModuleNotFoundError
        pyarrow is not installed.
    """
    found = {path.stem: path for folder in reversed(FOLDERS) for path in folder.glob("*.parquet")}
    if name not in found:
        raise unknown_name("recorded result", name, found)
    try:
        return read_recorded(found[name])
    except DamagedFileError as error:
        raise DamagedFileError(
            f"{error} Install eegxai-support again; in a checkout, `git checkout book/results` restores it, and"
            " `make results` computes it."
        ) from error


def read_recorded(path: Path | str, *, seal_required: bool = False) -> pd.DataFrame:
    """Read what `write_recorded` wrote.

    Parameters
    ----------
    path : path
        A parquet file.
    seal_required : bool
        Whether a file that does not hold its own hash, as `write_recorded` gives it, counts as damaged.

    Returns
    -------
    pandas.DataFrame
        ``.attrs`` holds what made it.

    Raises
    ------
    DamagedFileError
        The file is damaged; a ValueError, too.
    """
    with needed("recorded", extra="recordings"):
        import pyarrow  # noqa: F401 - a package that lacks is no damage
    content = read_sealed(path, required=seal_required)
    try:
        return pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # nobody says what a parser may raise for bytes that nobody vouches for
        raise DamagedFileError(f"{path} is no whole parquet file of pandas ({error}).") from error


def write_recorded(frame: pd.DataFrame, path: Path | str, provenance: dict) -> None:
    """Write a result with what made it and with its own hash, whole or not at all.

    Parameters
    ----------
    frame : pandas.DataFrame
    path : path
        A parquet file; its folder is made where it lacks.
    provenance : dict
        JSON values, or NumPy's numbers; `recorded` gives them back as ``.attrs``.

    Raises
    ------
    TypeError
        `provenance` holds what JSON cannot.
    """
    with needed("write_recorded", extra="recordings"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    attrs = to_json(provenance)
    frame = frame.copy(deep=False)
    frame.attrs = {}
    table, buffer = pa.Table.from_pandas(frame), io.BytesIO()
    table = table.replace_schema_metadata({**table.schema.metadata, "PANDAS_ATTRS": attrs})  # what pandas looks for
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({SEAL_KEY: UNSEALED})
    write_whole(path, sealed(buffer.getvalue()))
