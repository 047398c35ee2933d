"""Make the recorded tables, on one thread; `python -m studies --help` says how.

The order in which threads add numbers changes the last digit of a sum, and hundreds of steps of training make it a
larger one: on one thread a table does not depend on how many cores a machine has.
"""

import os
import sys

# Before torch and NumPy are imported; the processes of the studies inherit it.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from studies.runner import main

if __name__ == "__main__":
    sys.exit(main())
