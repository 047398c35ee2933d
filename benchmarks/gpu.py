"""Every method on an accelerator against the CPU: time, peak memory, difference.

    python benchmarks/gpu.py [--trials N] [--check]

EEGNet and Deep4Net of data set 2a of BCI Competition IV, untrained, their batch norms having seen noise; 64 trials,
one call before the clock starts. Each row gives the seconds of the accelerator and of the CPU, their ratio, the peak of
what the accelerator's allocator held, and the largest difference of the maps relative to the largest value of the
CPU's. The CPU explains `N_COMPARED` trials only, and its time is scaled to all. One run takes less than 5 minutes:
after `LIMIT` seconds it stops, in the middle of a row too, and says which rows are left out.

Without an accelerator it says so, and explains a few trials twice on the CPU to show that the script itself works
(``--check`` does that anywhere). Ends with status 1 where a difference exceeds `TOLERANCE`.

This script has not run on a GPU. Rehearsed were the check above, a row that does not end, and the whole table with the
accelerator that ``tests/fake_device.py`` emulates, without float64 and with TF32 (3 channels, 250 samples): all maps
agreed. What only an
accelerator can show, its times and its memory, no one has seen.
"""

import argparse
import itertools
import os
import signal
import statistics
import time
import warnings

warnings.simplefilter("ignore")
os.environ["TQDM_DISABLE"] = "1"

import torch  # noqa: E402
from braindecode.models import Deep4Net, EEGNet  # noqa: E402
from table import end, judge  # noqa: E402

import eegxai_support as xs  # noqa: E402

LARGE, SMALL, N_CLASSES = (22, 1000), (3, 250), 4  # channels and samples: the benchmark's, and its check's
N_COMPARED, REPETITIONS, TOLERANCE, LIMIT = 4, 3, 1e-4, 270
# What depends on the number of steps or draws is kept small: the same on both sides.
OPTIONS = {
    "integrated_gradients": {"n_steps": 16, "max_steps": 16},
    "expected_gradients": {"n_samples": 8},
    "smooth_grad": {"n_samples": 8},
    "kernel_shap": {"n_samples": 64},
    "occlusion": {"window": (1, 125), "stride": (1, 125)},
}


class OutOfTime(BaseException):
    """What `LIMIT` raises: no Exception, which a method may take for a network that it cannot copy."""


def out_of_time(*_):
    raise OutOfTime


def network(kind, size):
    torch.manual_seed(0)
    model = kind(n_chans=size[0], n_outputs=N_CLASSES, n_times=size[1])
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(16, *size))
    return model.eval()


def explain(model, x, method):
    """Return the maps, or None for a network that the method is not for."""
    baseline = {"baseline": x[:2].flip(2).numpy()} if xs.METHODS[method].many_baselines else {}
    try:
        return torch.as_tensor(xs.attribute(model, x.numpy(), 0, method, **baseline, **OPTIONS.get(method, {})).values)
    except xs.UnsupportedOperation:
        return None


def seconds(run, device):
    """Return how long a call takes until the device has done all, and what it returns."""
    start = time.perf_counter()
    result = run()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start, result


def peak_memory(run, device):
    """Return the most bytes that the device's allocator held during a call, NaN where it does not say."""
    memory = torch.get_device_module(device)
    if not hasattr(memory, "reset_peak_memory_stats"):
        return float("nan")
    memory.reset_peak_memory_stats()
    run()
    return memory.max_memory_allocated()


def compare(kind, method, x, device, repetitions):
    """Print the row of a method, and return whether the maps agree."""
    on_cpu, on_device = network(kind, x.shape[1:]), network(kind, x.shape[1:]).to(device)
    found = explain(on_device, x, method)  # the first call pays for set-up
    if found is None:
        return True
    times = [seconds(lambda: explain(on_device, x, method), device)[0] for _ in range(repetitions)]
    memory = peak_memory(lambda: explain(on_device, x, method), device)
    cpu_time, expected = seconds(lambda: explain(on_cpu, x[:N_COMPARED], method), torch.device("cpu"))
    cpu_time *= len(x) / N_COMPARED
    difference = float((found[:N_COMPARED] - expected).abs().max() / expected.abs().max())
    print(
        f"{kind.__name__:10}{method:24}{statistics.median(times):10.3f}{cpu_time:10.3f}"
        f"{cpu_time / statistics.median(times):8.1f}{memory / 2**20:10.0f}{difference:12.1e}"
        f"   {'agree' if difference <= TOLERANCE else 'DIFFER'}",
        flush=True,
    )
    if device.type == "cpu":
        return difference <= TOLERANCE
    return judge(
        f"{kind.__name__}, {method}",
        times,
        cpu_time,
        peer="CPU",
        size=" × ".join(map(str, x.shape)),
        target=None,
        difference=difference,
        tolerance=TOLERANCE,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--check", action="store_true", help="a few trials, and only on the CPU")
    arguments = parser.parse_args()
    device = torch.device("cpu") if arguments.check else xs.best_device()
    kinds, size, n_trials, repetitions = (EEGNet, Deep4Net), LARGE, arguments.trials, REPETITIONS
    if device.type == "cpu":
        print("No accelerator here: the script checks itself on the CPU, against the CPU.")
        kinds, size, n_trials, repetitions = (EEGNet,), SMALL, N_COMPARED, 1
    elif device.type == "cuda":
        print(torch.cuda.get_device_name(device))
    x = torch.randn(n_trials, *size, generator=torch.Generator().manual_seed(1))
    print(f"{n_trials} trials of {size[0]} x {size[1]}; seconds, memory in MiB\n")
    print(f"{'network':10}{'method':24}{device!s:>10}{'cpu':>10}{'ratio':>8}{'memory':>10}{'difference':>12}")
    rows, agree = list(itertools.product(kinds, xs.METHODS)), []
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(LIMIT)
    try:
        for kind, method in rows:
            agree.append(compare(kind, method, x, device, repetitions))
    except OutOfTime:
        left_out = (f"{method} on {kind.__name__}" for kind, method in rows[len(agree) :])
        print(f"\nLeft out after {LIMIT} s: {', '.join(left_out)}.")
    signal.alarm(0)
    end(agree)


if __name__ == "__main__":
    main()
