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

    Comments, docstrings and layout are left out: results of hours stay valid where only words changed. Where a file
    changes after the package was imported, nobody can tell which of the two this process runs; the hash is then one
    that a process which began later does not have. Before the first call any change to a file counts, since what it
    said is not known any more.

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


def _state(path: Path) -> tuple[int, int]:
    """Return time in ns and size of a file, which say when it is another one."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


AT_IMPORT = {path: _state(path) for path in PACKAGE.rglob("*.py")}  # reading them all would take a second


@cache
def _first(rooms: tuple[str, ...]) -> str:
    """Return the hash of what was imported; where a file changed before the first call, one that no files have."""
    changed = [AT_IMPORT[path] for path in _files(rooms) if AT_IMPORT.get(path, _state(path)) != _state(path)]
    return _now(rooms) + f"{changed}" * bool(changed)


def _now(rooms: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path, parts in _files(rooms).items():
        digest.update(f"{parts}{_meaning(path, *_state(path))}".encode())
    return digest.hexdigest()


def _files(rooms: tuple[str, ...]) -> dict[Path, tuple[str, ...]]:
    """Return the files of rooms with their places in the package."""
    files = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in sorted(PACKAGE.rglob("*.py"))}
    if unknown := set(rooms) - {parts[0] for parts in files.values()}:
        raise ValueError(f"The package has no {', '.join(sorted(unknown))}.")
    return {path: parts for path, parts in files.items() if parts[0] in rooms or (not rooms and parts[0] not in SILENT)}


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


def meaning(source: bytes) -> str:
    """Return a hash of what a source does, 64 hexadecimal digits: of its syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@cache
def _meaning(path: Path, mtime_ns: int, size: int) -> str:
    """Return a file's meaning as long as it stays the same file."""
    return meaning(path.read_bytes())
