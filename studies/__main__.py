"""Make the recorded tables, on one thread; `python -m studies --help` says how.

The order in which threads add numbers changes the last digit of a sum, and hundreds of steps of training make it a
larger one: on one thread a table does not depend on how many cores a machine has. For the same reason the studies keep
their trained decoders in a cache of their own: a reader's may hold weights that other threads have trained.
"""

import os
import sys
from pathlib import Path

# Before torch and NumPy are imported; the processes of the studies inherit it, whatever the shell has exported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["EEGXAI_CACHE"] = str(Path(__file__).parents[1] / ".studies" / "decoders")

from studies.runner import main

if __name__ == "__main__":
    sys.exit(main())
