"""What can change a number: the sources of the package, and the versions of what it computes with."""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parent
SILENT = ("viz",)  # rooms that give no number


def package_digest(*rooms: str) -> str:
    """Return a hash of what sources of the package do.

    Comments, docstrings and layout are left out: results of hours stay valid where only words changed. Where the files
    change after the first call, nobody can tell which of the two this process runs; the hash is then one of both, which
    no other process has.

    Parameters
    ----------
    *rooms : str
        Modules or folders of the package, such as "decoders"; without any, all but those that only draw.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        A room that does not exist.
    """
    first, now = _first(rooms), _now(rooms)
    return now if now == first else hashlib.sha256(f"{first}{now}".encode()).hexdigest()


def _now(rooms: tuple[str, ...]) -> str:
    files = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in sorted(PACKAGE.rglob("*.py"))}
    if unknown := set(rooms) - {parts[0] for parts in files.values()}:
        raise ValueError(f"The package has no {', '.join(sorted(unknown))}.")
    digest = hashlib.sha256()
    for path, parts in files.items():
        if parts[0] in rooms or (not rooms and parts[0] not in SILENT):
            state = path.stat()
            digest.update(f"{parts}{_meaning(path, state.st_mtime_ns, state.st_size)}".encode())
    return digest.hexdigest()


_first = cache(_now)


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the version of each package, None where it is not installed, and that of Python without its patch.

    Python counts, too: since 3.12 `sum` rounds otherwise.
    """
    return {"python": ".".join(platform.python_version_tuple()[:2])} | {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _meaning(path: Path, mtime_ns: int, size: int) -> str:
    """Return a hash of a file's syntax tree; the time and size of the file say when it is another one."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
