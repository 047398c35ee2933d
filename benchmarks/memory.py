"""Peak memory of integrated gradients of 10 000 trials of 64 × 480 samples on a CPU, above the trials themselves.

    python benchmarks/memory.py [--steps N]

The nodes of the quadrature change the time, not the memory: few are taken. Ends with status 1 above 2 GB.
"""

import argparse
import resource
import sys
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from braindecode.models import EEGNet  # noqa: E402
from table import LIMIT, end, judge  # noqa: E402

import eegxai_support as xs  # noqa: E402

N_TRIALS, N_CHANNELS, N_TIMES, TARGET = 10_000, 64, 480, 2e9


def peak():
    """Return the largest memory this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    model = EEGNet(n_chans=N_CHANNELS, n_outputs=4, n_times=N_TIMES).eval()
    options = {"n_steps": steps, "max_steps": steps, "path": "linear", "tol": np.inf}
    x = np.random.default_rng(0).standard_normal((N_TRIALS, N_CHANNELS, N_TIMES), dtype="float32")
    xs.attribute(model, x[:64], 0, "integrated_gradients", **options)  # the first call pays for set-up
    before, start = peak(), time.perf_counter()
    attribution = xs.attribute(model, x, 0, "integrated_gradients", **options)
    above, seconds = peak() - before, time.perf_counter() - start
    attribution.values  # noqa: B018
    with_values = peak() - before
    print(f"trials {x.nbytes / 1e9:.2f} GB, {steps} nodes each, {seconds:.0f} s")
    print(f"peak above them: {above / 1e9:.2f} GB (target: 2 GB), {with_values / 1e9:.2f} GB once the values are read")
    size = f"{N_TRIALS} × {N_CHANNELS} × {N_TIMES}"
    case = "integrated gradients: peak above the trials"
    end([judge(case, above / 1e9, TARGET / 1e9, peer=LIMIT, size=size, unit="GB", target=1)])


if __name__ == "__main__":
    main()
