"""`xs.sensitivity_test` against the same test run patch by patch, in one process on the same networks and patches.

    python benchmarks/sensitivity.py [--trials N]

100 trials of 30 channels × 384 samples, 500 patches and 30 whole channels of each. The other side copies the trial for
each patch, sets the patch to zero, runs the network on it and, in the end, takes NumPy's correlation of what the map
holds in the patches with what the logit loses. Ours runs a copy from `simplify`, made anew each time, on batches that
fit a processor's cache; the same time also buys surrogates of each map and shuffled maps. Networks are in float32;
correlations are compared with those of the other side in float64. The two sides run in turn on one thread, and the
median over the rounds of the ratio of their processor times is compared with the target. The ratio of the best of each
stands beside it: batches wait for memory where others use it too, which only adds. A run on four trials, which pays for
set-up, comes first.

Ends with status 1 when a target is missed or a correlation differs by more than 1e-6.
"""

import argparse
import copy
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from table import end, judge  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

import eegxai_support as xs  # noqa: E402
from eegxai_support.recordings.drowsiness import CHANNELS  # noqa: E402
from eegxai_support.scoring.faithfulness import PATCH_SHARES, _patches  # noqa: E402

N_TIMES, N_PATCHES, BATCH_SIZE, ROUNDS, RATIO, TOLERANCE = 384, 100, 64, 5, 3, 1e-6
NETWORKS = ("InterpretableCNN", "EEGNet")


def problem(name, n_trials):
    """Return a network with calibrated batch norm, trials, their predicted classes and maps of input × gradient."""
    trials = xs.simulate("spectral", n_trials=n_trials, sfreq=128, duration=3, ch_names=CHANNELS)
    model = xs.build_decoder(name, trials)
    x = torch.tensor(trials.signal)
    with torch.no_grad():
        model.train()(x)
    target = xs.predict(model, x).argmax(1)
    return model.eval(), x, target, xs.attribute(model, x, target, "input_x_gradient").values


@torch.no_grad()
def patch_by_patch(model, x, target, maps):
    """Return the correlation of each trial and share, whole channels last, one forward pass for each patch."""
    widths = 2 * np.round(np.array(PATCH_SHARES) * N_TIMES / 2).astype(int)
    correlations = []
    for trial, (signal, k, relevance) in enumerate(zip(x, target, maps, strict=True)):
        intact = model(signal[None])[0, k].item()
        sums, losses = [], []
        for channel, start, stop in _patches(0, trial, len(CHANNELS), N_TIMES, widths, N_PATCHES).T:
            perturbed = signal.clone()
            perturbed[channel, start:stop] = 0
            sums.append(relevance[channel, start:stop].sum())
            losses.append(intact - model(perturbed[None])[0, k].item())
        edges = N_PATCHES * np.arange(1, len(widths) + 1)
        pairs = zip(np.split(sums, edges), np.split(losses, edges), strict=True)
        correlations.append([np.corrcoef(total, loss)[0, 1] for total, loss in pairs])
    return np.array(correlations)


def ours(model, x, target, maps):
    """Return the same correlations from the package."""
    table = xs.sensitivity_test(xs.simplify(model), x, target, maps, batch_size=BATCH_SIZE)
    return table.loc[table["map"] == "own", "correlation"].to_numpy().reshape(len(x), -1)


def seconds(run, *arguments):
    """Return the processor time of a call, and what it returns."""
    start = time.process_time()
    result = run(*arguments)
    return time.process_time() - start, result


def compare(name, n_trials):
    """Run the two sides in turn, print the row, and return whether it meets its targets."""
    small = problem(name, 4)
    ours(*small), patch_by_patch(*small)
    model, x, target, maps = given = problem(name, n_trials)
    exact = patch_by_patch(copy.deepcopy(model).double(), x.double(), target, maps.astype(float))
    times = np.empty((ROUNDS, 2))
    for both in times:
        (both[0], _), (both[1], result) = seconds(patch_by_patch, *given), seconds(ours, *given)
    (their_time, our_time), error = times.min(axis=0), np.abs(result - exact).max()
    ratio, best = np.median(times[:, 0] / times[:, 1]), their_time / our_time
    met = judge(
        name,
        times[:, 1],
        times[:, 0],
        peer="patch by patch",
        size=f"{n_trials} × {len(CHANNELS)} × {N_TIMES}",
        unit="CPU s",
        target=RATIO,
        difference=error,
        tolerance=TOLERANCE,
    )
    print(
        f"{name:20}{their_time:15.1f}{our_time:8.1f}{ratio:8.1f}{best:8.1f}{RATIO:8}{error:12.1e}"
        f"   {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    n_trials = parser.parse_args().trials
    torch.set_num_threads(1)
    print(f"{n_trials} trials of {len(CHANNELS)} × {N_TIMES}, CPU, one thread; times in s\n")
    print(f"{'':20}{'patch by patch':>15}{'ours':>8}{'ratio':>8}{'best':>8}{'target':>8}{'difference':>12}")
    with threadpool_limits(1):
        met = [compare(name, n_trials) for name in NETWORKS]
    end(met)


if __name__ == "__main__":
    main()
