"""MATLAB files, checked before they are used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.io import loadmat


def read_mat(path: Path, fields: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the named fields of a MATLAB file up to version 7; ValueError where it is none or lacks one of them."""
    fields = list(fields)
    with path.open("rb") as file:
        try:
            content = loadmat(file, variable_names=fields)
        except NotImplementedError as error:
            raise ValueError(
                f"{path} has MATLAB's format 7.3; expected 7 or older. Save it from MATLAB with the option '-v7'."
            ) from error
        except Exception as error:  # what else SciPy raises depends on where the file is broken
            raise ValueError(f"{path} is no MATLAB file or damaged ({error}). Delete it and fetch it again.") from error
    missing = [field for field in fields if field not in content]
    if missing:
        raise ValueError(f"{path} holds no {', '.join(missing)}; expected {', '.join(fields)}.")
    return {field: content[field] for field in fields}
