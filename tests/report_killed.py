"""Run by test_report.py in a process of its own: a report that is killed at ten places, until it is not.

Every report runs in a fork, which shares what was imported; a fork that is killed leaves what SIGKILL leaves.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from test_report import make, small

from eegxai_support import files
from eegxai_support.provenance import package_digest


def killed_at(place: int, folder: Path) -> int:
    """Make a report in a fork that kills itself in the middle of write number `place`; return how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    replace_file, count = os.replace, iter(range(10**6))

    def replace(partial, path):
        if next(count) == place:
            Path(partial).write_bytes(Path(partial).read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        replace_file(partial, path)

    files.os = type("os", (), {**vars(os), "replace": staticmethod(replace)})
    try:
        make(small(), folder)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    package_digest()  # once for all forks
    folder = Path(sys.argv[1])
    # Each begins where the last one was, so that place 0, 1 or 2 of its own writes is a later one of the report's.
    ends = [killed_at(place, folder) for place in (0, 2, 5, 1, 4, 3, 2, 1, 0, 2)]
    while (end := killed_at(12, folder)) == signal.SIGKILL:
        ends.append(end)
    print(ends.count(signal.SIGKILL), end)
