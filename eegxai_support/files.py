"""Files that are whole or not there, and that tell when a bit of them has changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

PARTIAL = ".*.part"  # what a process that was killed while it wrote leaves in a folder
STALE = 600  # seconds; a file is written in far less
SEAL_KEY, SEAL = "eegxai_seal", "sealed with SHA-256 "  # two marks: one changed bit leaves the other
UNSEALED = SEAL + 64 * "0"


class DamagedFileError(ValueError):
    """A file whose content is not what was written."""


def expanded(path: str | os.PathLike) -> Path:
    """Return a path with ``~`` resolved; one that names no known user stays as it is."""
    return Path(os.path.expanduser(path))


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Write a file so that whoever reads it, and whatever is killed, finds the old content or the new one.

    The content goes to a file beside it that nobody else has, then to the disk, then takes the name. A process number
    would not do as a name of one's own: containers on a shared disk all have the same ones. Opening a new file, rather
    than `tempfile.mkstemp` with its mode 0600, gives it the mode that the umask and the folder ask for.

    Parameters
    ----------
    path : path
        Its folder is made where it lacks.
    content : bytes or str
        Text is written as UTF-8.
    """
    path = expanded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / PARTIAL.replace("*", secrets.token_hex(8))
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()
    with suppress(OSError):  # some file systems cannot do this to a folder, and do without
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_partial_files(folder: Path) -> None:
    """Remove what processes left in a folder that were killed while they wrote."""
    for path in folder.glob(PARTIAL):
        with suppress(OSError):  # another process that shares the folder was here, or it is another user's
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def sealed(content: bytes) -> bytearray:
    """Put the hash of a file into it: `UNSEALED`, which its header holds once under `SEAL_KEY`, becomes the seal.

    The hash is that of the whole file with zeros in its own place, so that every bit counts, whatever the format.
    """
    content = bytearray(content)
    if content.count(SEAL.encode()) != 1:
        raise ValueError(f"The text {SEAL!r} is what marks the seal of a file; it cannot stand in its content, too.")
    start = content.index(UNSEALED.encode()) + len(SEAL)
    content[start : start + 64] = hashlib.sha256(content).hexdigest().encode()
    return content


def read_sealed(path: str | os.PathLike, *, required: bool = False) -> bytes:
    """Return the content of a file after comparing it with its seal.

    Parameters
    ----------
    path : path
    required : bool
        Whether a file without a seal, from before there were any or of somebody else, is damaged, too.

    Raises
    ------
    DamagedFileError
        The seal is not that of the content.
    """
    content = expanded(path).read_bytes()
    seals = list(re.finditer(SEAL.encode() + rb"([0-9a-f]{64})", content))
    if not seals and not required and SEAL_KEY.encode() not in content:
        return content
    if len(seals) != 1 or _hash_around(content, seals[0].start(1)) != seals[0][1].decode():
        raise DamagedFileError(f"{path} is damaged: its content is not what was written.")
    return content


def _hash_around(content: bytes, start: int) -> str:
    digest = hashlib.sha256(memoryview(content)[:start])
    digest.update(64 * b"0")
    digest.update(memoryview(content)[start + 64 :])
    return digest.hexdigest()


def to_json(content: object, **options) -> str:
    """Return JSON text in which numbers and arrays of NumPy stand as the plain numbers that they are.

    Raises
    ------
    TypeError
        Something else that JSON cannot hold.
    """
    return json.dumps(plain(content), **options)


def plain(content: object) -> object:
    """Return numbers and arrays of NumPy and torch as Python's numbers and lists, also within dicts and lists."""
    if isinstance(content, dict):
        return {plain(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    return content.tolist() if hasattr(content, "tolist") else content
