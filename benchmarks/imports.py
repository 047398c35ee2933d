"""What a fresh process pays before the first map, against `import torch` and against the same work by hand.

    python benchmarks/imports.py

Each row is two programs, run in turn, each time in a process of its own and on one thread: processor time, user and
system together, as the system counts it. The median over the rounds of the ratio of the two is compared with the
target. The first round, which compiles and fetches from the disk, is left out.

Ends with status 1 when a target is missed.
"""

import os
import resource
import statistics
import subprocess
import sys

from table import end, judge

ROUNDS = 5
N_TRIALS, N_CHANNELS, N_TIMES = 8, 22, 480

FRONT_DOOR = "import eegxai_support"
TORCH = "import torch"
FIRST_MAP = f"""
import numpy as np
import eegxai_support as xs
signal = np.random.default_rng(0).standard_normal(({N_TRIALS}, {N_CHANNELS}, {N_TIMES}), dtype="float32")
names = [f"EEG{{channel:03d}}" for channel in range({N_CHANNELS})]
trials = xs.from_array(signal, 160.0, names, np.arange({N_TRIALS}) % 4, unit="standardised")
model = xs.build_decoder("EEGNet", trials)
assert xs.attribute(model, signal, 1, "deep_lift").values.any()
"""
FIRST_GRADIENT = f"""
import numpy as np
import torch
from braindecode.models import EEGNet
signal = np.random.default_rng(0).standard_normal(({N_TRIALS}, {N_CHANNELS}, {N_TIMES}), dtype="float32")
x = torch.tensor(signal, requires_grad=True)
model = EEGNet(n_chans={N_CHANNELS}, n_outputs=4, n_times={N_TIMES}).eval()
model(x)[:, 1].sum().backward()
assert x.grad.any()
"""
ROWS = [("import", FRONT_DOOR, TORCH, 1.25), ("first map of EEGNet", FIRST_MAP, FIRST_GRADIENT, 1.5)]


def seconds(program):
    """Return the processor time of a program in a fresh process."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet = [sys.executable, "-W", "ignore", "-c", program]
    subprocess.run(quiet, env=os.environ | threads, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    met = []
    for name, ours, theirs, target in ROWS:
        rounds = [(seconds(theirs), seconds(ours)) for _ in range(ROUNDS + 1)][1:]
        ratios = [our_time / their_time for their_time, our_time in rounds]
        their_time, our_time = map(statistics.median, zip(*rounds, strict=True))
        ratio = statistics.median(ratios)
        print(f"{name}: by hand {their_time:.2f} s, ours {our_time:.2f} s")
        print(f"ratio {ratio:.2f}, highest {max(ratios):.2f} (target: at most {target})")
        their_times, our_times = zip(*rounds, strict=True)
        met.append(judge(name, our_times, their_times, peer="by hand", unit="CPU s", target=1 / target))
    end(met)


if __name__ == "__main__":
    main()
