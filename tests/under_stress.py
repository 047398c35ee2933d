"""What the processes of test_stress.py do; each is forked from one that has imported all this, but on macOS.

The workers of Dask in test_benchmark.py are forked from it too.
"""

import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import warnings
from contextlib import suppress
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
import torch._dynamo

import eegxai_support as xs
from eegxai_support.decoders import training
from eegxai_support.decoders.weights import read
from eegxai_support.files import read_sealed, write_whole
from eegxai_support.recordings.results import read_recorded, write_recorded

HEAD = {"ch_names": ["C3", "C4", "Cz", "Fz", "Pz", "O1", "O2", "Iz"], "duration": 0.4, "sfreq": 100}
NETWORK = {"kernel_length": 16, "n_spatial": 4}
GRID = {
    "regimes": {"spectral": HEAD},
    "snr_db": [0],
    "decoders": {"Cui": {"name": "InterpretableCNN", "build": NETWORK, "train": {"epochs": 2}}},
    "seeds": [0],
    "methods": ["saliency", "input_x_gradient"],
    "n_train": 24,
    "n_valid": 12,
    "n_test": 12,
    "n_datasets": 1,
    "n_explained": 6,
    "n_null": 0,
}
# Not forked from the process of pytest, which has threads by then; on macOS not from one that has loaded torch either.
CONTEXT = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
CONTEXT.set_forkserver_preload(["under_stress", "braindecode.models", "distributed"])
PATIENCE = 300  # seconds: what hangs ends the test, not the day
NOBODY = 65534


class Process:
    """A call in a process of its own. `killed` is the signal that ended it, None where it came to its end."""

    def __init__(self, function, *arguments):
        self.answer, theirs = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_answer, args=(theirs, function, arguments))
        self.process.start()
        theirs.close()

    def result(self):
        """Return what the call returned and its warnings; None and None where it was killed."""
        answer = None, None
        if not self.answer.poll(PATIENCE):
            self.process.kill()
            raise TimeoutError(f"no answer in {PATIENCE} s")
        with suppress(EOFError):
            answer = self.answer.recv()
        self.process.join()
        self.killed = -self.process.exitcode if self.process.exitcode < 0 else None
        assert self.killed or self.process.exitcode == 0
        return answer


def barrier(n):
    """Return what n processes wait for each other by; one that comes alone fails."""
    return CONTEXT.Barrier(n, timeout=60)


def run(function, *arguments):
    return Process(function, *arguments).result()


def _answer(connection, function, arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments)
    connection.send((result, [str(it.message) for it in caught if issubclass(it.category, UserWarning)]))


# --- what is done -------------------------------------------------------------------------------------------------


@cache
def trials():
    return xs.simulate("spectral", n_trials=24, snr_db=0, seed=0, **HEAD)


def network(seed=0):
    return xs.build_decoder("InterpretableCNN", trials(), seed=seed, **NETWORK)


trials()  # once for all processes


def numbers(model):
    return {name: value.numpy().tolist() for name, value in model.state_dict().items()}


def train(folder, seed=0, **options):
    """Return the numbers of a decoder that is trained with the cache in a folder."""
    os.environ["EEGXAI_CACHE"] = str(folder)
    trained = xs.train(network(), trials(), **{"epochs": 2, "seed": seed, "cache": True, "device": "cpu", **options})
    return numbers(trained.model), trained.history.to_dict()


def save(folder, seed=0):
    xs.save(network(seed), folder / "net.safetensors", seed=seed)


def record(folder, k=0):
    write_recorded(pd.DataFrame({"k": np.full(1000 + k, k)}), folder / "table.parquet", {"k": k})


def text(folder, k=0):
    write_whole(folder / "text.txt", f"{k} " * 20_000)


def benchmark(folder):
    """Return the numbers of a benchmark, as text: what is missing equals itself there."""
    return printed(xs.run_benchmark(GRID, folder))


def printed(table):
    return repr((table.drop(columns="seconds_per_trial").to_dict("list"), table.attrs))


# --- what happens to it -------------------------------------------------------------------------------------------


def as_nobody(function, *arguments):
    """Do it as a user to whom nothing belongs, which the superuser cannot be kept from; others are one already."""
    xs.train(network(), trials(), epochs=1, device="cpu")  # imports what is imported late, while it may be read
    import email.policy  # noqa: F401 - and what asking for a version imports

    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return function(*arguments)


def with_small_files(n_bytes, function, *arguments):
    """Do it where no file can grow beyond a size, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    return function(*arguments)


PLACES = {
    "step": (training, "cross_entropy"),
    "fsync": (os, "fsync"),
    "replace": (os, "replace"),
    "replaced": (os, "replace"),
    "to cache": (training, "to_cache"),
}


def dying(place, n, function, *arguments):
    """Do it and be killed at the n-th time at a place; at "write", when a part of a file is on the disk."""
    if place == "write":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        return with_small_files(1500, function, *arguments)
    owner, name = PLACES[place]
    call, counted = getattr(owner, name), itertools.count(1)

    def die(*given, **options):
        last = next(counted) == n
        if last and place == "replaced":
            call(*given, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **options)

    setattr(owner, name, die)
    return function(*arguments)


def losing(folder, place, function, *arguments):
    """Do it while somebody deletes the folder at a place."""
    return preceded(place, partial(shutil.rmtree, folder, ignore_errors=True), function, *arguments)


def meeting(barrier, place, function, *arguments):
    """Do it together with another process: both are at a place before either goes on."""
    return preceded(place, barrier.wait, function, *arguments)


def preceded(place, before, function, *arguments):
    owner, name = PLACES[place]
    call = getattr(owner, name)

    def after(*given, **options):
        before()
        return call(*given, **options)

    setattr(owner, name, after)
    return function(*arguments)


def sharing(barrier, pid, function, *arguments):
    """Do it together with another process that has the same number."""
    os.getpid = lambda: pid
    barrier.wait()
    return function(*arguments)


def one_of_many(barrier, pid, ks, function, *arguments):
    """Do it again and again, with the process number that all others have, too."""
    os.getpid = lambda: pid
    barrier.wait()
    for k in ks:
        function(*arguments, k)


# --- who reads it -------------------------------------------------------------------------------------------------


def read_text(folder):
    words = (folder / "text.txt").read_text().split()
    assert len(words) == 20_000 and len(set(words)) == 1
    return int(words[0])


def read_table(folder):
    table = read_recorded(folder / "table.parquet", seal_required=True)
    k = table.attrs["k"]
    assert len(table) == 1000 + k and (table["k"] == k).all()
    return k


def read_weights(folder):
    path = folder / "net.safetensors"
    weights, metadata = read(path, seal_required=True)
    k = int(metadata["seed"])
    assert all(torch.equal(value, weights[name]) for name, value in network(k).state_dict().items())
    xs.load(network(), path)
    return k


def unsealed_reads(read, content, path, n_flips):
    """Return how often a file without a seal was read, and refused, with one of its bits changed; all else raises."""
    n_read = n_refused = 0
    for bit in np.random.default_rng(0).integers(8 * len(content), size=n_flips):
        path.write_bytes(flipped(content, bit))
        try:
            read(path)
            n_read += 1
        except ValueError:
            n_refused += 1
    return n_read, n_refused


def flipped(content, bit):
    content = bytearray(content)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def whole_files(folder):
    """Read all files that bear a name; what is not whole raises."""
    return {path.name: read_sealed(path, required=True) for path in folder.rglob("*.*") if path.suffix != ".part"}
