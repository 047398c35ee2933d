"""`xs.amplitude_gradients` against braindecode's function of the same name, in one process.

    python benchmarks/amplitude_gradients.py [--threads N]

128 trials of 1125 samples in batches of 64, four classes. braindecode differentiates the mean over the batch: its
result times the number of trials in the batch is compared with ours, trial by trial. The two sides run in turn, and the
median over the rounds of the ratio of their times is compared with the target; the first round, which pays for set-up,
is left out.

Ends with status 1 when a target is missed or a gradient differs by more than 1e-4 of the trial's largest.
"""

import argparse
import statistics
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from braindecode.models import Deep4Net, EEGNet, ShallowFBCSPNet  # noqa: E402
from braindecode.visualization import amplitude_gradients  # noqa: E402
from table import end, judge  # noqa: E402

import eegxai_support as xs  # noqa: E402

N_TRIALS, N_TIMES, N_CLASSES, BATCH_SIZE, ROUNDS, TARGET, TOLERANCE = 128, 1125, 4, 64, 3, 3, 1e-4
NETWORKS = [(ShallowFBCSPNet, 22), (Deep4Net, 22), (EEGNet, 22), (EEGNet, 64)]


def seconds(run):
    """Return how long a call takes, and what it returns."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def compare(network, n_channels):
    """Run the two sides in turn, print the row, and return whether it meets its target."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((N_TRIALS, n_channels, N_TIMES), dtype="float32")
    model = network(n_chans=n_channels, n_outputs=N_CLASSES, n_times=N_TIMES).train()
    with torch.no_grad():
        model(torch.as_tensor(x[:BATCH_SIZE]))  # statistics for batch norm
    model.eval()

    def theirs():
        batches = (x[start : start + BATCH_SIZE] for start in range(0, N_TRIALS, BATCH_SIZE))
        return np.concatenate([len(batch) * amplitude_gradients(model, batch) for batch in batches], axis=1)

    times, errors = [], []
    for _ in range(ROUNDS + 1):
        our_time, ours = seconds(lambda: xs.amplitude_gradients(model, x, batch_size=BATCH_SIZE))
        their_time, their = seconds(theirs)
        times.append((our_time, their_time, their_time / our_time))
        scale = np.abs(their).max(axis=(0, 2, 3), keepdims=True)
        errors.append((np.abs(ours - their) / scale).max())
    (our_time, their_time, ratio), error = map(statistics.median, zip(*times[1:], strict=True)), max(errors)
    met = judge(
        network.__name__,
        [our for our, _, _ in times[1:]],
        [their for _, their, _ in times[1:]],
        peer="braindecode",
        size=f"{N_TRIALS} × {n_channels} × {N_TIMES}",
        target=TARGET,
        difference=error,
        tolerance=TOLERANCE,
    )
    print(
        f"{network.__name__ + f', {n_channels} channels':32}{their_time:11.2f}{our_time:8.2f}{ratio:8.1f}{TARGET:8}"
        f"{error:12.1e}   {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="of the CPU; all by default")
    threads = parser.parse_args().threads
    if threads:
        torch.set_num_threads(threads)
    print(f"{N_TRIALS} trials of {N_TIMES} samples, CPU, {torch.get_num_threads()} threads; times in s\n")
    print(f"{'':32}{'braindecode':>11}{'ours':>8}{'ratio':>8}{'target':>8}{'difference':>12}")
    met = [compare(*item) for item in NETWORKS]
    end(met)


if __name__ == "__main__":
    main()
