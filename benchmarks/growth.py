"""How time and peak memory grow with trials, channels, samples and outputs: straight lines on log axes.

    python benchmarks/growth.py [NAME ...]

What explains or scores many trials is called on four sizes of each axis, the others small: 100 to 100 000 trials, 8 to
256 channels, 250 to 30 000 samples, 2 to 64 outputs. The network is EEGNet, whose batch norms have seen noise. On log
axes the slope over all sizes is fitted by least squares; that of the upper half, between the two largest sizes, is what
is judged, since small sizes are mostly what a call costs anyway. The table holds it as the factor that comes with ten
times the size: 10 for a straight line of slope 1, and `SLOPE` allows 14.

Time is processor time on one thread, the best of several calls where one takes less than a second. What is left above a
straight line on samples and trials is the system's: it takes arrays of more than 32 MB back when they are freed, and
hands each new one out page by page. Memory is what the process held at most above its data. It is measured in a process
of its own for each size, which is forked, so that nothing is imported again, by what the system counts: tracemalloc
does not see PyTorch's memory, and PyTorch's profiler not NumPy's. Peaks below `FLOOR` count as `FLOOR`: so much comes
and goes with batches. On trials memory is judged otherwise, between the two largest numbers of them: with a trial may
come what its result takes, and a quarter of itself.

Relevance per component is asked on channels for channels × components, which is why its slope there may be 2.

Ends with status 1 where something grows by more.
"""

import argparse
import multiprocessing
import os
import resource
import time
import warnings

warnings.simplefilter("ignore")
os.environ["TQDM_DISABLE"] = "1"

import mne  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from braindecode.models import EEGNet  # noqa: E402
from memory import peak  # noqa: E402
from table import LIMIT, end, judge  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

import eegxai_support as xs  # noqa: E402
from eegxai_support.attribution import Attribution  # noqa: E402

SMALL = {"trials": 16, "channels": 4, "samples": 64, "outputs": 2}
MORE_TRIALS = 128  # for what takes no network, and hardly any time for a few
AXES = {
    "trials": (100, 1000, 30_000, 100_000),
    "channels": (8, 32, 128, 256),
    "samples": (250, 2000, 10_000, 30_000),
    "outputs": (2, 8, 32, 64),
}
SLOPE, BILINEAR, FLOOR, ENOUGH, REPEATS = 1.15, 2.15, 16e6, 1.0, 6  # the third in bytes, the fourth in s
# Nodes change what integrated gradients takes by trial, not how it grows: few are taken.
OPTIONS = {"integrated_gradients": {"n_steps": 2, "max_steps": 2, "path": "linear", "tol": np.inf}}
ATTRIBUTE = ("saliency", "integrated_gradients", "deep_lift", "lrp_epsilon")


def network(size):
    torch.manual_seed(0)
    model = EEGNet(n_chans=size["channels"], n_outputs=size["outputs"], n_times=size["samples"], kernel_length=16)
    with torch.no_grad():
        model.train()(torch.randn(16, size["channels"], size["samples"]))
    return model.eval()


def draw(size):
    shape = size["trials"], size["channels"], size["samples"]
    return np.random.default_rng(0).standard_normal(shape, dtype="float32")


def explained(method):
    def prepare(size):
        model, x = network(size), draw(size)
        return lambda: xs.attribute(model, x, 0, method, **OPTIONS.get(method, {}))

    return prepare


def predictions(size):
    model, x = network(size), draw(size)
    return lambda: xs.predict(model, x)


def amplitude_gradients(size):
    model, x = network(size), draw(size)
    return lambda: xs.amplitude_gradients(model, x)


def haufe_patterns(size):
    features = draw(size)
    filters = draw({**size, "trials": size["outputs"]})
    return lambda: xs.haufe_patterns(filters, features)


def score_maps(size):
    maps, reference = draw(size), draw(size)
    reference += maps
    return lambda: xs.score_maps(maps, reference, protocol="randomisation", n_null=0)


def multiplied(size):
    """Return trials and a map of them that is linear in its input."""
    x, multiplier = draw(size), draw(size)
    return x, Attribution(multiplier * x, multiplier=multiplier, baseline=np.zeros_like(x[:1]))


def frequency_relevance(size):
    x, attribution = multiplied(size)
    return lambda: xs.frequency_relevance(attribution, x)


def component_relevance(size):
    x, attribution = multiplied(size)
    noise = np.random.default_rng(1).standard_normal((size["channels"], 4 * size["channels"] + 100))
    raw = mne.io.RawArray(noise, mne.create_info(size["channels"], 100.0, "eeg"), verbose="error")
    ica = mne.preprocessing.ICA(max_iter=1, random_state=0).fit(raw, verbose="error")
    return lambda: xs.component_relevance(attribution, x, ica)


CALLS = {method: explained(method) for method in ATTRIBUTE} | {
    it.__name__: it
    for it in (predictions, amplitude_gradients, haufe_patterns, score_maps, frequency_relevance, component_relevance)
}
NETWORKS = {*ATTRIBUTE, "predictions", "amplitude_gradients"}
WITH_OUTPUTS = {*NETWORKS, "haufe_patterns"}


def measure(name, size, answer):
    """Send the processor time of a call, the peak of memory above the data, and the bytes of the result."""
    call = CALLS[name](size)
    before = peak()
    taken, result = seconds(call)
    above, n_bytes = peak() - before, size_of(result)
    spent = taken
    while spent < ENOUGH:  # the first call also pays for pages that the process has not held before
        again, _ = seconds(call)
        taken, spent = min(taken, again), spent + max(again, ENOUGH / REPEATS)
    answer.send((taken, above, n_bytes))


def seconds(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def size_of(result):
    """Return the bytes that a result holds."""
    if isinstance(result, pd.DataFrame):
        return int(result.memory_usage().sum())  # rows share the texts of a report
    if isinstance(result, np.ndarray):
        return result.nbytes
    return sum(size_of(it) for it in vars(result).values() if isinstance(it, np.ndarray | pd.DataFrame))


def in_a_process_of_its_own(name, size):
    """Return what `measure` sends; a forked process begins with what this one holds now, not with its peak."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(name, size, there))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise RuntimeError(f"{name} of {size} ended without a result") from None
    finally:
        process.join()


def slopes(sizes, values):
    """Return the slope on log axes over all sizes, and that between the two largest."""
    x, y = np.log10(sizes), np.log10(values)
    return np.polyfit(x, y, 1)[0], (y[-1] - y[-2]) / (x[-1] - x[-2])


def compare(name, axis):
    """Measure a call along an axis, print the row, and return whether time and memory grow as they may."""
    sizes, small = AXES[axis], SMALL if name in NETWORKS else {**SMALL, "trials": MORE_TRIALS}
    taken, above, n_bytes = np.transpose([in_a_process_of_its_own(name, {**small, axis: it}) for it in sizes])
    above = np.maximum(above, FLOOR)
    (slope, upper), memory = slopes(sizes, taken), slopes(sizes, above)
    limit = BILINEAR if (name, axis) == ("component_relevance", "channels") else SLOPE
    span = {"size": f"{sizes[0]} to {sizes[-1]} {axis}", "peer": LIMIT, "target": 1}
    met = [judge(f"{name}, time", 10**upper, 10**limit, unit="times for tenfold", **span)]
    if axis == "trials":
        more, result = (max(0, np.diff(it)[-1]) / np.diff(sizes)[-1] for it in (above, n_bytes))
        trial = 4 * SMALL["channels"] * SMALL["samples"]  # bytes
        met.append(judge(f"{name}, memory", more, result + trial / 4, unit="bytes for a trial", **span))
        by_trial = f"{more:10.0f}{result:9.0f}"
    else:
        met.append(judge(f"{name}, memory", 10 ** memory[1], 10**limit, unit="times for tenfold", **span))
        by_trial = 19 * " "
    print(
        f"{name:22}{axis:10}{taken[0]:9.4f}{taken[-1]:9.3f}{slope:8.2f}{upper:8.2f}"
        f"{above[0] / 1e6:9.0f}{above[-1] / 1e6:9.0f}{memory[0]:8.2f}{memory[1]:8.2f}{by_trial}"
        f"   {'met' if all(met) else 'MISSED'}",
        flush=True,
    )
    return met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*CALLS, []], help="calls; all by default")
    names = parser.parse_args().names or CALLS
    torch.set_num_threads(1)
    print(f"{'':32}{'time (s), slope: all, upper':>34}{'peak (MB), slope: all, upper':>34}{'bytes for a trial':>19}")
    print(f"{'':32}" + 2 * f"{'from':>9}{'to':>9}{'':16}" + f"{'':10}{'result':>9}")
    met = []
    with threadpool_limits(1):
        for name in names:
            for axis in AXES:
                if axis != "outputs" or name in WITH_OUTPUTS:
                    met += compare(name, axis)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\n{used.ru_utime + used.ru_stime:.0f} s of processor time")
    end(met)


if __name__ == "__main__":
    main()
