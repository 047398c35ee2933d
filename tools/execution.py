"""What a kernel is started with, and what is said of one that fails: `make book` and the tests run chapters by it."""

import os
import re

import psutil

# Two threads help a network of this size little, and cost much where another process uses the cores too: the threads of
# one operation wait for each other, and libgomp's wait by spinning, so that a core is busy waiting for a thread that
# waits for that core. Two kernels of one thread each use two cores, and neither waits for the other.
# Numba asks none of the others: the first function that it runs in parallel, such as MNE's of boundary elements, gives
# OpenMP as many threads as there are cores, in all of the process, and so PyTorch.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
AN_HOUR = 3600


def environment() -> dict[str, str]:
    """Return the variables of a kernel; what is set already stays, but for the progress bars: no page has room."""
    return {**THREADS, **os.environ, "TQDM_DISABLE": "1", "NO_COLOR": "1"}


def time_limit() -> int:
    """Return the seconds that a cell may take: EEGXAI_TIMEOUT where it is set, else an hour."""
    given = os.environ.get("EEGXAI_TIMEOUT") or str(AN_HOUR)
    if not re.fullmatch("[1-9][0-9]*", given):
        raise ValueError(f"EEGXAI_TIMEOUT is {given!r}. It is the whole number of seconds that a cell may take: 7200.")
    return int(given)


def timed_out() -> str:
    """Say that a cell took too long, what else this machine is doing, and what helps."""
    limit = time_limit()
    return (
        f"it took longer than {limit} s. In the last minute {os.getloadavg()[0]:.1f} processes wanted the"
        f" {os.cpu_count()} cores of this machine: run again when the others have ended, or with a longer limit"
        f" (EEGXAI_TIMEOUT={2 * limit})."
    )


def died() -> str:
    """Say what is known of a kernel that ended by itself."""
    free = psutil.virtual_memory().available / 2**30
    return f"its kernel died, as the system ends a process where memory runs out ({free:.1f} GB are free now)."


def headline(chapter: str, number: int, source: str, reason: str) -> str:
    """Return the line that names chapter, code cell and reason, and below it the cell's first line of code."""
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith(("#", "%%"))]
    return f"{chapter}, code cell {number}: {reason}" + f"\n    {lines[0]}" * bool(lines)
