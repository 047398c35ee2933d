"""`xs.amplitude_perturbation` against the algorithm of 2018, written from its formula in NumPy, in one process.

    python benchmarks/perturbation.py [--threads N] [--iterations N]

The same network, trials and iterations for both. Braindecode 0.4.85, which has the original, cannot share an
environment with braindecode 1.x. ShallowFBCSPNet for 22 channels and EEGNet for 64, of 1125 samples and four classes,
with batch norm calibrated. The two sides and the forward passes of the network as it is run in turn, and the median of
the ratios over the rounds is compared with the target: what else runs on the machine weighs on all alike. Peak memory
is that of two further processes. The maps of 400 iterations show what "first_order" leaves out.

Ends with status 1 when a target is missed.
"""

import argparse
import resource
import subprocess
import sys
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from braindecode.models import EEGNet, ShallowFBCSPNet  # noqa: E402
from table import end, judge  # noqa: E402

import eegxai_support as xs  # noqa: E402
from eegxai_support.spectral.perturbation import _noise  # noqa: E402

N_TRIALS, N_TIMES, N_CLASSES, ROUNDS, BATCH_SIZE = 288, 1125, 4, 3, 30
NAME = "ShallowFBCSPNet"  # of the network that first_order is timed on
TARGETS = {"EEGNet": 5}  # how many times less an iteration has to take than that of 2018
NETWORKS = {"ShallowFBCSPNet": (ShallowFBCSPNet, 22), "EEGNet": (EEGNet, 64)}


def network_and_trials(name):
    """Return a network with calibrated batch norm and white noise in µV."""
    network, n_channels = NETWORKS[name]
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((N_TRIALS, n_channels, N_TIMES), dtype="float32")
    x *= 20
    model = network(n_chans=n_channels, n_outputs=N_CLASSES, n_times=N_TIMES).train()
    with torch.no_grad():
        model(torch.as_tensor(x[:BATCH_SIZE]))
    return model.eval(), x


@torch.no_grad()
def predict(model, x):
    """Return the outputs of the network as it is."""
    return np.concatenate([model(batch.clone()).numpy() for batch in torch.as_tensor(x).split(BATCH_SIZE)])


def of_2018(model, x, n_iterations, draw):
    """Mean over iterations of the correlations over trials of noise and change (Schirrmeister et al. 2017, A.5.2)."""
    spectrum = np.fft.rfft(x, axis=2)
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    before, total = predict(model, x), 0
    for iteration in range(n_iterations):
        changed = np.maximum(amplitude + draw(iteration, amplitude.shape), 0)
        perturbation = changed - amplitude
        rebuilt = np.fft.irfft(changed * np.exp(1j * phase), n=x.shape[2], axis=2).astype(np.float32)
        change = predict(model, rebuilt) - before
        total = total + correlation(perturbation.reshape(len(x), -1), change)
    return (total / n_iterations).reshape(*amplitude.shape[1:], -1)


def correlation(a, b):
    """Return the correlation over rows of each column of `a` with each of `b`."""
    a, b = a - a.mean(0), b - b.mean(0)
    covariance = a.T @ b / (len(a) - 1)
    return covariance / np.sqrt(a.var(0, ddof=1)[:, None] * b.var(0, ddof=1))


def their_noise(seed=0):
    """Return what draws normal noise as the code of 2018 did."""
    rng = np.random.RandomState(seed)
    return lambda iteration, shape: rng.randn(*shape)


def our_noise(iteration, shape):
    """Return the noise of `xs.amplitude_perturbation` with seed 0."""
    seeds = np.random.SeedSequence((0, iteration)).generate_state(shape[0], np.uint64).tolist()
    return _noise(seeds, torch.empty(shape[1:]), torch.Generator(), "normal_", 0, 1).numpy()


def seconds(run):
    """Return how long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def report(what, value, target, met):
    """Print a row and return whether it meets its target."""
    print(f"{what:72}{value:>12}   {target:>10}   {'met' if met else 'MISSED'}", flush=True)
    return met


def compare_speed(name, model, x, r, n=5):
    """Time iterations of both sides, set-up included, and the forward passes of the network as it is, in turn.

    `r` is the correlation of both sides' maps with the same noise.
    """
    times = []
    for _ in range(ROUNDS + 1):
        forward = seconds(lambda: predict(model, x))
        ours = seconds(lambda: xs.amplitude_perturbation(model, x, n_iterations=n)) / n
        theirs = seconds(lambda: of_2018(model, x, n, their_noise())) / n
        times.append((forward, ours, theirs))
    times = np.array(times[1:]).T
    forward, ours, theirs = times
    ours, theirs, ratio = (np.median(column) for column in (ours / forward, theirs / forward, theirs / ours))
    print(f"{name}: an iteration of the 2018 code takes {theirs:.2f} times the forward pass")
    case, target, given = f"{name}, an iteration", TARGETS.get(name), {"size": " × ".join(map(str, x.shape))}
    same = {"peer": "algorithm of 2018", "difference": 1 - r, "tolerance": 0.01}
    met = [
        judge(case, times[1], times[0], peer="forward passes", target=1 / 1.15, **given),
        judge(case, times[1], times[2], target=target, **same, **given),
    ]
    report(f"{name}: r of both maps with the same noise", f"{r:.5f}", ">= 0.99", r >= 0.99)
    report(f"{name}: an iteration of ours, in forward passes", f"{ours:.2f}", "<= 1.15", met[0])
    report(f"{name}: 2018 / ours", f"{ratio:.1f}", f">= {target}" if target else "", met[1])
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="of the CPU; all by default")
    parser.add_argument("--iterations", type=int, default=400, help="of the map that first_order is compared with")
    parser.add_argument("--peak", choices=["ours", "theirs", "data"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak:
        return print(peak(arguments.peak))
    print(f"{N_TRIALS} trials of {N_TIMES} samples, {N_CLASSES} classes, {torch.get_num_threads()} threads\n")
    met = [compare_memory(arguments.threads)]  # first: a process begins with the peak of the one that started it
    for name in NETWORKS:
        model, x = network_and_trials(name)
        same = of_2018(model, x, 3, our_noise)
        ours = xs.amplitude_perturbation(model, x, n_iterations=3).correlation
        r = np.corrcoef(same.ravel(), ours.ravel())[0, 1]
        met += compare_speed(name, model, x, r)
    model, x = network_and_trials(NAME)
    met.append(compare_first_order(model, x, arguments.iterations))
    end(met)


def compare_first_order(model, x, n_iterations):
    """Compare the closed form with the map of many iterations: time, and correlation corrected for reliability."""
    start = time.perf_counter()
    noisy = xs.amplitude_perturbation(model, x, n_iterations=n_iterations)
    middle = time.perf_counter()
    exact = xs.amplitude_perturbation(model, x, method="first_order")
    slow, fast = middle - start, time.perf_counter() - middle
    ratio = 400 / n_iterations * slow / fast
    pairs = zip(np.moveaxis(noisy.correlation, -1, 0), np.moveaxis(exact.correlation, -1, 0), strict=True)
    r = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]
    corrected = min(np.array(r) / np.sqrt(noisy.reliability))
    print(f"{n_iterations} iterations {slow:.0f} s, first order {fast:.2f} s; reliability {noisy.reliability.round(3)}")
    report(f"{NAME}: 400 iterations / first_order", f"{ratio:.0f}", ">= 50", ratio >= 50)
    report(f"{NAME}: lowest r with first_order, corrected", f"{corrected:.3f}", ">= 0.95", corrected >= 0.95)
    given = {"size": " × ".join(map(str, x.shape)), "difference": 1 - corrected, "tolerance": 0.05}
    return judge(f"{NAME}, first_order", fast, 400 / n_iterations * slow, peer="400 iterations", target=50, **given)


def compare_memory(threads):
    """Compare the peak memory of both sides above that of the trials, each in a process of its own."""
    options = ["--threads", str(threads)] if threads else []
    command = [sys.executable, __file__, *options, "--peak"]
    data, ours, theirs = (
        float(subprocess.run([*command, side], capture_output=True, text=True, check=True).stdout.split()[-1]) / 1e6
        for side in ("data", "ours", "theirs")
    )
    share = (ours - data) / (theirs - data)
    print(f"EEGNet: peak above the data, ours {ours - data:.0f} MB, 2018 {theirs - data:.0f} MB")
    report("EEGNet: peak memory above the data, ours / 2018", f"{share:.2f}", "<= 0.2", share <= 0.2)
    given = {"peer": "algorithm of 2018", "unit": "MB", "target": 5}
    return judge("EEGNet, peak above the data", ours - data, theirs - data, **given)


def peak(side):
    """Return the largest memory this process ever held, in bytes, after what a side does, or after none."""
    model, x = network_and_trials("EEGNet")
    if side == "ours":
        xs.amplitude_perturbation(model, x, n_iterations=3)
    elif side == "theirs":
        of_2018(model, x, 3, their_noise())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
