"""`xs.train` against braindecode's `EEGClassifier`, with EEGNet, in one process.

    python benchmarks/training.py [--threads N]

Three sides train the same network for as many steps of AdamW with a cosine schedule: braindecode's classifier, without
scores and without validation; our loop with the network as it is; and our loop with its stem computed faster. They run
in turn, and the ratio is judged in each round. The two of ours draw the same trials and drop out the same units, so
that their losses and weights can be compared: over 20 epochs in single precision, where the difference is that of the
losses, and for one epoch in double precision, where it is that of all weights.

In single precision the weights differ in one place: another batch norm takes away what the first one's bias adds, so
that its gradient is rounding, and AdamW makes steps of that, in both sides.

Measured and left, in processor time on one thread: several seeds at once by `torch.func.vmap` took as long as one after
the other with EEGNet of 64 × 240 samples (7 times as long as with the fast stem) and two thirds of it with 8 × 128;
`torch.compile` gained 8 % with ShallowFBCSPNet and 20 % with Deep4Net, after one to two minutes of compiling;
`channels_last` gained 25 % with Deep4Net and nothing with ShallowFBCSPNet.

Peak memory is that of a process of its own for each side, beyond that of one that has everything but the training.
Ends with status 1 when a target is missed.
"""

import argparse
import resource
import subprocess
import sys
import time
import warnings

warnings.simplefilter("ignore")

import mne  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from braindecode import EEGClassifier  # noqa: E402
from braindecode.models import EEGNet  # noqa: E402
from skorch.callbacks import LRScheduler  # noqa: E402
from table import end, judge  # noqa: E402

import eegxai_support as xs  # noqa: E402

SIZES = {(22, 1125): 3, (64, 560): 6}  # channels and samples, and how many times faster
N_TRIALS, BATCH_SIZE, N_EPOCHS, ROUNDS = 96, 16, 10, 5
LOSS, WEIGHTS = 1e-3, 6e-8  # the latter for the six steps of an epoch


def trials(n_channels, n_times, dtype="float32"):
    """Return trials of two classes: 1/f noise, and in one class a rhythm on half of the channels."""
    rng = np.random.default_rng(0)
    label = np.arange(N_TRIALS) % 2
    signal = rng.standard_normal((N_TRIALS, n_channels, n_times)).cumsum(2)
    signal -= signal.mean(2, keepdims=True)
    signal /= signal.std()
    signal[label == 1, : n_channels // 2] += 0.2 * np.sin(0.5 * np.arange(n_times))
    info = mne.create_info(n_channels, 250.0, "eeg")
    metadata = pd.DataFrame({"subject": 0, "session": 0, "run": np.arange(N_TRIALS) // 16})
    return xs.Trials(signal.astype(dtype), "standardised", label, info, ("a", "b"), metadata)


def network(size):
    torch.manual_seed(0)
    return EEGNet(n_chans=size[0], n_outputs=2, n_times=size[1])


def braindecode(model, train, n_epochs):
    n_steps = n_epochs * -(-len(train) // BATCH_SIZE)
    schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=n_steps)
    EEGClassifier(
        model,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__lr=1e-3,
        optimizer__weight_decay=1e-2,
        train_split=None,
        iterator_train__shuffle=True,
        batch_size=BATCH_SIZE,
        max_epochs=n_epochs,
        callbacks=[("schedule", schedule)],
        classes=[0, 1],
        verbose=0,
    ).fit(train.signal, train.label)


def plain(model, train, n_epochs):
    return xs.train(model, train, epochs=n_epochs, batch_size=BATCH_SIZE, fast=False)


def fast(model, train, n_epochs):
    return xs.train(model, train, epochs=n_epochs, batch_size=BATCH_SIZE)


SIDES = {side.__name__: side for side in (braindecode, plain, fast)}


def seconds(side, size, train):
    """Return how long a side trains a new network."""
    model = network(size)
    start = time.perf_counter()
    side(model, train, N_EPOCHS)
    return time.perf_counter() - start


def loss_difference(size):
    """Return the largest difference of our two losses over 20 epochs in single precision."""
    histories = [side(network(size), trials(*size), 20).history for side in (plain, fast)]
    return abs(histories[0]["train_loss"] - histories[1]["train_loss"]).max()


def weight_difference(size):
    """Return the largest difference of our two sets of weights and statistics after an epoch in double precision."""
    train = trials(*size, dtype="float64")
    states = [side(network(size).double(), train, 1).model.state_dict() for side in (plain, fast)]
    return max(float((states[0][name] - states[1][name]).abs().max()) for name in states[0])


def peak(side, size):
    """Return the peak memory of a side's training beyond that of what it starts with, in MB; a process of its own."""
    command = [sys.executable, __file__, "--peak", side, *map(str, size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(side, n_channels, n_times):
    """Print the same of this process."""
    size = int(n_channels), int(n_times)
    train = trials(*size)
    SIDES[side](network(size), train.subset(np.arange(len(train)) < 4), 1)  # what the first step loads is not training
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    SIDES[side](network(size), train, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit)


def compare(size, peaks):
    """Print and judge what the three sides take for one size; return whether each row met its target."""
    shape = f"{N_TRIALS} × {size[0]} × {size[1]}"
    train = trials(*size)
    for side in SIDES.values():
        side(network(size), train, 1)
    times = np.array([[seconds(side, size, train) for side in SIDES.values()] for _ in range(ROUNDS)]).T
    losses, weights = loss_difference(size), weight_difference(size)
    rows = [  # against whom, what the difference is of
        ("braindecode", times[0], SIZES[size], losses, LOSS),
        ("our plain loop", times[1], None, weights, WEIGHTS),
    ]
    kept = []
    for peer, theirs, target, difference, tolerance in rows:
        found = {"difference": difference, "tolerance": tolerance}
        kept.append(
            judge(f"EEGNet, {N_EPOCHS} epochs", times[2], theirs, peer=peer, size=shape, target=target, **found)
        )
        ratio = np.median(theirs / times[2])
        print(
            f"{shape:16}{peer:16}{np.median(theirs):8.2f}{np.median(times[2]):8.2f}{ratio:7.1f}{target or '':>8}"
            f"{difference:12.1e}   {'met' if kept[-1] else 'MISSED'}",
            flush=True,
        )
    judge(
        "EEGNet, peak memory",
        peaks["fast"],
        peaks["braindecode"],
        peer="braindecode",
        size=shape,
        unit="MB",
        target=None,
    )
    print(f"{'':16}peak memory in MB: " + ", ".join(f"{name} {value:.0f}" for name, value in peaks.items()), flush=True)
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--peak", nargs=3, metavar=("SIDE", "CHANNELS", "SAMPLES"), help="print the peak memory of a side"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        return print_peak(*options.peak)
    print(f"Batches of {BATCH_SIZE}, CPU, {options.threads} threads; times of {N_EPOCHS} epochs in s\n")
    print(f"{'trials':16}{'peer':16}{'theirs':>8}{'ours':>8}{'ratio':>7}{'target':>8}{'difference':>12}")
    # First: a process begins with the peak memory of the one that starts it.
    peaks = {size: {name: peak(name, size) for name in SIDES} for size in SIZES}
    end([met for size in SIZES for met in compare(size, peaks[size])])


if __name__ == "__main__":
    main()
