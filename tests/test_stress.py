"""Killed, damaged, shared, full, locked: what the files are for, with real processes; see under_stress.py."""

import ast
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import under_stress as stress
from conftest import ROOT
from test_house import imported
from torch import nn
from under_stress import GRID, Process, run

import eegxai_support as xs
from eegxai_support import benchmark, provenance
from eegxai_support.benchmark import grid
from eegxai_support.benchmark.__main__ import main
from eegxai_support.benchmark.engine import cell_path, weights_path
from eegxai_support.decoders import cache as decoder_cache
from eegxai_support.decoders import training
from eegxai_support.decoders.weights import read
from eegxai_support.files import PARTIAL, SEAL, SEAL_KEY, DamagedFileError, to_json, write_whole
from eegxai_support.model import TrainingRecord
from eegxai_support.recordings import drowsiness
from eegxai_support.recordings.cache import cache_folder
from eegxai_support.recordings.results import read_recorded, recorded, write_recorded

MAPS = np.random.default_rng(0).random((3, 4, 30))
WRITERS = {
    "save": (stress.save, stress.read_weights),
    "write_recorded": (stress.record, stress.read_table),
    "write_whole": (stress.text, stress.read_text),
}


pytestmark = pytest.mark.usefixtures("fork_server")


@pytest.fixture(autouse=True)
def cache_of_ones_own(monkeypatch):
    """What `stress.train` sets in this process is set back."""
    monkeypatch.setenv("EEGXAI_CACHE", "nowhere")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What training and benchmark give in a process that nothing happens to."""
    folder = tmp_path_factory.mktemp("reference")
    calls = {"train": stress.train, "benchmark": stress.benchmark}
    running = {name: Process(call, folder / name) for name, call in calls.items()}
    results = {name: process.result() for name, process in running.items()}
    assert all(caught == [] for _, caught in results.values())
    return {name: result for name, (result, _) in results.items()}


@pytest.fixture
def open_folder():
    """A folder that every user can get at; pytest's belong to one alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o777)
    shutil.rmtree(folder)


def partial_files(folder):
    return list(folder.rglob(PARTIAL))


def states(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*.*")}


# --- D1: a cache that cannot be used --------------------------------------------------------------------------------


def _unreadable(cache):
    [path] = cache.iterdir()
    path.chmod(0o600 if os.geteuid() == 0 else 0)


def _folder_in_its_place(cache):
    [path] = cache.iterdir()
    path.unlink()
    path.mkdir()


def _no_folder(cache):
    shutil.rmtree(cache)
    cache.write_text("")


def _locked(mode, empty):
    def lock(cache):
        if empty:
            next(cache.iterdir()).unlink()
        cache.chmod(mode)

    return lock


UNUSABLE = {
    "a file of another user": (_unreadable, ["cannot be read"], True),
    "a folder in its place": (_folder_in_its_place, ["cannot be read", "could not be kept"], False),
    "a file for the folder": (_no_folder, ["could not be kept"], False),
    "a folder that is locked": (
        _locked(0o700 if os.geteuid() == 0 else 0, False),
        ["cannot be read", "could not"],
        False,
    ),
    "a folder without write permission": (_locked(0o555, True), ["could not be kept"], False),
}


@pytest.mark.parametrize("trouble", UNUSABLE)
def test_a_cache_that_cannot_be_used_costs_a_warning_and_not_the_training(open_folder, reference, trouble):
    spoil, messages, is_mended = UNUSABLE[trouble]
    cache = open_folder / "cache"
    run(stress.train, cache)
    cache.chmod(0o777)
    spoil(cache)
    result, caught = run(stress.as_nobody, stress.train, cache)
    assert result == reference["train"]
    assert len(caught) == len(messages) and all(map(str.__contains__, caught, messages)), caught
    if is_mended:
        assert run(stress.train, cache) == (reference["train"], [])
        (open_folder / "new").touch()
        assert next(cache.iterdir()).stat().st_mode == (open_folder / "new").stat().st_mode


def test_a_full_disk_costs_a_warning_and_leaves_nothing(tmp_path, reference):
    result, caught = run(stress.with_small_files, 1000, stress.train, tmp_path)
    assert result == reference["train"] and list(tmp_path.iterdir()) == []
    assert len(caught) == 1 and "could not be kept" in caught[0] and "EEGXAI_CACHE" in caught[0]


def test_weights_that_cannot_be_kept_cost_another_training_and_not_the_fit(tmp_path, reference):
    path = weights_path(tmp_path, *benchmark.read_grid(GRID))
    path.mkdir(parents=True)  # cannot be read, nor replaced
    with pytest.warns(UserWarning, match="trained decoder .* cannot be used"):
        table = benchmark.run_benchmark(GRID, tmp_path)
    assert stress.printed(table) == reference["benchmark"]


@pytest.mark.parametrize("writer", WRITERS)
def test_new_files_have_the_mode_of_the_umask(tmp_path, writer):
    before = os.umask(0o027)
    try:
        WRITERS[writer][0](tmp_path / "new" / "folder")
    finally:
        os.umask(before)
    [path] = (tmp_path / "new" / "folder").iterdir()
    assert stat.filemode(path.stat().st_mode) == "-rw-r-----"
    assert stat.filemode((tmp_path / "new").stat().st_mode) == "drwxr-x---"


# --- D2: numbers of NumPy -------------------------------------------------------------------------------------------


def test_numbers_of_numpy_train_with_the_cache_as_python_s_do(tmp_path, monkeypatch):
    options = {"epochs": 2, "seed": 3, "batch_size": 16, "lr": 0.25, "weight_decay": 0.5, "patience": 4}
    of_numpy = {name: np.array(value)[()] for name, value in options.items()} | {"batch_size": np.int32(16)}
    assert not {type(value) for value in of_numpy.values()} & {int, float}
    first = stress.train(tmp_path, **of_numpy)
    monkeypatch.setattr(training, "_fit", None)  # a second training would fail
    assert stress.train(tmp_path, **options) == first
    monkeypatch.undo()
    assert stress.train(tmp_path, cache=False, **options) == stress.train(tmp_path, cache=False, **of_numpy) == first


def test_weights_of_every_kind_train_with_the_cache(tmp_path, monkeypatch):
    """Tied, of half precision, and none at all."""
    model = nn.Sequential(nn.Conv1d(8, 8, 1), nn.Conv1d(8, 8, 1), nn.Flatten(), nn.Linear(320, 3))
    model[1].weight = model[0].weight
    model.register_buffer("short", torch.ones(3, dtype=torch.bfloat16))
    model.register_buffer("empty", torch.ones(0))
    other = deepcopy(model)
    monkeypatch.setenv("EEGXAI_CACHE", str(tmp_path))
    xs.train(model, stress.trials(), epochs=1, cache=True, device="cpu")
    monkeypatch.setattr(training, "_fit", None)  # a second training would fail
    xs.train(other, stress.trials(), epochs=1, cache=True, device="cpu")
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert other[1].weight is other[0].weight


def test_numbers_of_numpy_are_numbers_wherever_they_are_written(tmp_path):
    value = {"a": np.int64(3), "b": [np.float32(0.5), np.bool_(True)], np.int64(7): (np.arange(2), np.float64(0.1))}
    plain = {"a": 3, "b": [0.5, True], "7": [[0, 1], 0.1]}
    assert json.loads(to_json(value)) == plain
    write_recorded(pd.DataFrame({"x": [1]}), tmp_path / "table.parquet", value)
    assert read_recorded(tmp_path / "table.parquet").attrs == plain
    xs.save(stress.network(), tmp_path / "net", value=value, name="text")
    _, metadata = read(tmp_path / "net")
    assert json.loads(metadata["value"]) == plain and metadata["name"] == "text"
    record = TrainingRecord(("Cz",), np.float64(80), "uV", np.float32(0.5), ("a", "b"), (np.int64(3), np.int64(4)))
    assert TrainingRecord.from_json(record.to_json()) == TrainingRecord(("Cz",), 80.0, "uV", 0.5, ("a", "b"), (3, 4))
    of_numpy = GRID | {"seeds": np.arange(1).tolist(), "n_train": np.int64(24), "snr_db": [np.float64(0)]}
    of_numpy["regimes"] = {"spectral": stress.HEAD | {"sfreq": np.int64(100), "duration": np.float64(0.4)}}
    (ours,), (theirs,) = benchmark.read_grid(of_numpy), benchmark.read_grid(GRID)
    assert (ours.key(), ours.key("saliency")) == (theirs.key(), theirs.key("saliency"))


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    for write in (
        lambda: xs.save(stress.network(), tmp_path / "net", value=object()),
        lambda: write_recorded(pd.DataFrame({"x": [1]}), tmp_path / "table", {"value": object()}),
    ):
        with pytest.raises(TypeError, match="object is not JSON serializable"):
            write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [np.int64(3), np.uint32(3)])
def test_seeds_of_numpy_are_seeds(seed):
    def draws(seed):
        *_, (_, randomised) = xs.randomize(stress.network(), seed)
        scores = xs.score_maps(MAPS, MAPS[::-1].copy(), n_null=2, seed=seed)
        return [stress.numbers(stress.network(seed)), stress.numbers(randomised), str(scores.attrs["chance"])]

    assert draws(seed) == draws(3)


# --- D3: the tilde --------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (tmp_path / "cwd").mkdir()
    home.mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(home))
    (home / "config.yml").write_text(json.dumps(GRID))
    stress.train("~/cache")
    assert len(list((home / "cache").iterdir())) == 1
    xs.save(stress.network(), "~/net.safetensors")
    xs.load(stress.network(), "~/net.safetensors")
    write_recorded(pd.DataFrame({"x": [1]}), "~/table.parquet", {})
    assert len(read_recorded("~/table.parquet")) == 1
    xs.run_benchmark("~/config.yml", "~/results")
    assert main(["~/config.yml", "~/results"]) == 0
    assert (home / "results" / "results.parquet").exists() and list((home / "results").glob("cells/*"))
    monkeypatch.setenv("MNE_DATA", "~/recordings")
    for dataset in ("EEGBCI", "DROWSINESS"):
        monkeypatch.delenv(f"MNE_DATASETS_{dataset}_PATH", raising=False)
        assert cache_folder(dataset) == home / "recordings"
    for load in (xs.load_p300, xs.load_drowsiness):
        with pytest.raises((FileNotFoundError, ValueError), match=str(home / "nothing")):
            load("~/nothing")
    assert list((tmp_path / "cwd").iterdir()) == []


def test_a_tilde_of_nobody_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    xs.save(stress.network(), "~nobody-of-that-name")
    assert [path.name for path in tmp_path.iterdir()] == ["~nobody-of-that-name"]


# --- D4: a bit that flips -------------------------------------------------------------------------------------------


def flips(content, n):
    """Return n bits of a file, and all those of the two marks that tell of the seal."""
    bits = set(np.random.default_rng(1).integers(8 * len(content), size=n).tolist())
    for mark in (SEAL_KEY, SEAL):
        start = content.index(mark.encode())
        bits |= set(range(8 * (start - 2), 8 * (start + len(mark) + 66)))
    return sorted(bits)


@pytest.mark.parametrize("writer", ["save", "write_recorded"])
def test_one_changed_bit_is_noticed_wherever_it_is(tmp_path, writer, monkeypatch):
    write, _ = WRITERS[writer]
    write(tmp_path)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    model = stress.network()
    before = stress.numbers(model)
    readers = [lambda: read(path, seal_required=True), lambda: xs.load(model, path)]
    if writer == "write_recorded":
        monkeypatch.setattr("eegxai_support.recordings.results.FOLDERS", (tmp_path,))
        readers = [lambda: read_recorded(path, seal_required=True), lambda: recorded("table")]
    for bit in flips(content, 400):
        path.write_bytes(stress.flipped(content, bit))
        for reader in readers:
            with pytest.raises(DamagedFileError, match="damaged"):
                reader()
    assert stress.numbers(model) == before


def test_a_changed_bit_of_a_cached_decoder_costs_another_training(tmp_path, reference):
    stress.train(tmp_path)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    for bit in np.random.default_rng(2).integers(8 * len(content), size=8):
        path.write_bytes(stress.flipped(content, bit))
        with pytest.warns(UserWarning, match="cached decoder .* is damaged; training it again"):
            assert stress.train(tmp_path) == reference["train"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert stress.train(tmp_path) == reference["train"]


def test_changed_bits_of_cells_and_weights_cost_their_computation(tmp_path, reference):
    stress.benchmark(tmp_path)
    (fit,) = benchmark.read_grid(GRID)
    paths = [weights_path(tmp_path, fit), *(cell_path(tmp_path, fit, cell) for cell in fit.cells)]
    rng = np.random.default_rng(3)
    for _ in range(3):
        before = states(tmp_path)
        for path in paths:
            content = path.read_bytes()
            path.write_bytes(stress.flipped(content, rng.integers(8 * len(content))))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert stress.benchmark(tmp_path) == reference["benchmark"]
        assert len(caught) == len(paths) and all("damaged" in str(it.message) for it in caught)
        assert not set(before.items()) & set(states(tmp_path).items())


@pytest.mark.parametrize("writer", ["save", "write_recorded"])
def test_a_file_without_a_seal_is_read_and_its_damage_is_a_value_error(tmp_path, writer):
    """Files from before there were seals, and other people's; in a process that a parser may take with it."""
    table = pd.DataFrame({"x": MAPS[0].ravel()[:40], "name": ["a", "b"] * 20})
    table.attrs = {"what": "a table", "n": 3}
    content = {
        "save": lambda: safetensors.torch.save(stress.network().state_dict(), {"history": "[]"}),
        "write_recorded": lambda: table.to_parquet(compression="zstd"),
    }[writer]()
    (tmp_path / "file").write_bytes(content)
    reader = {"save": read, "write_recorded": read_recorded}[writer]
    reader(tmp_path / "file")
    process = Process(stress.unsealed_reads, reader, content, tmp_path / "file", 200)
    (n_read, n_refused), _ = process.result()
    assert n_read + n_refused == 200 and n_refused > 10
    with pytest.raises(DamagedFileError):
        (tmp_path / "file").write_bytes(content)
        reader(tmp_path / "file", seal_required=True)


def test_the_mark_of_a_seal_cannot_be_a_part_of_the_content(tmp_path):
    with pytest.raises(ValueError, match="what marks the seal of a file"):
        xs.save(stress.network(), tmp_path / "net", note=SEAL + "abc")
    assert list(tmp_path.iterdir()) == []


# --- D5: several writers, with one process number -------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_many_writers_of_one_number_break_no_file(tmp_path, writer):
    write, read = WRITERS[writer]
    n_writers, n_times = 3, 30
    write(tmp_path)
    barrier = stress.barrier(n_writers)
    ks = [range(k, n_writers * n_times, n_writers) for k in range(n_writers)]
    running = [Process(stress.one_of_many, barrier, 4242, it, write, tmp_path) for it in ks]
    n_reads = 0
    while any(process.process.is_alive() for process in running):
        read(tmp_path)
        n_reads += 1
    assert [process.result() for process in running] == [(None, [])] * n_writers
    assert read(tmp_path) in {it[-1] for it in ks} and n_reads  # the last of one of them
    assert len(list(tmp_path.iterdir())) == 1


def test_two_benchmarks_of_one_number_share_a_folder(tmp_path, reference):
    barrier = stress.barrier(2)
    running = [Process(stress.sharing, barrier, 4242, stress.benchmark, tmp_path) for _ in range(2)]
    assert [process.result() for process in running] == [(reference["benchmark"], [])] * 2
    assert not partial_files(tmp_path)


def test_two_processes_train_the_same_decoder_at_once(tmp_path, reference):
    barrier = stress.barrier(2)
    running = [Process(stress.meeting, barrier, "to cache", stress.train, tmp_path) for _ in range(2)]
    assert [process.result() for process in running] == [(reference["train"], [])] * 2
    assert len(list(tmp_path.iterdir())) == 1
    assert run(stress.dying, "step", 1, stress.train, tmp_path) == (reference["train"], [])  # takes no step


@pytest.mark.parametrize(("place", "n_caught"), [("step", 0), ("replace", 1)])
def test_a_cache_that_is_deleted_in_between(tmp_path, reference, place, n_caught):
    cache = tmp_path / "cache"
    run(stress.train, cache)
    result, caught = run(stress.losing, cache, place, stress.train, cache, 7)
    assert result == run(stress.train, tmp_path / "other", 7)[0]
    assert len(caught) == n_caught and all("could not be kept" in it for it in caught)
    assert run(stress.train, cache) == (reference["train"], [])


# --- killed ---------------------------------------------------------------------------------------------------------

DEATHS = [
    *itertools.product(["train"], [("step", 3), ("write", 1), ("fsync", 1), ("replace", 1), ("replaced", 1)]),
    # A cell after the weights; the folder is brought to the disk as well, which counts as every second.
    *itertools.product(["benchmark"], [("step", 3), ("write", 1), ("fsync", 5), ("replace", 3), ("replaced", 2)]),
    *itertools.product(["save", "write_recorded"], [("write", 1), ("fsync", 1), ("replace", 1), ("replaced", 1)]),
]
CALLS = {"train": stress.train, "benchmark": stress.benchmark, "save": stress.save, "write_recorded": stress.record}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_killed_leaves_no_half_file(tmp_path, reference, name):
    """At every place: each file is whole, and the same call gives what it would have given."""
    places = [place for call, place in DEATHS if call == name]
    folders = [tmp_path / "-".join(map(str, place)) for place in places]
    if name in WRITERS:  # over a file that is there
        for folder in folders:
            CALLS[name](folder, 1)
    running = [Process(stress.dying, *place, CALLS[name], it) for place, it in zip(places, folders, strict=True)]
    for process, (place, _), folder in zip(running, places, folders, strict=True):
        assert process.result() == (None, None)
        assert process.killed == (signal.SIGXFSZ if place == "write" else signal.SIGKILL)
        whole = stress.whole_files(folder) if folder.exists() else {}
        assert len(partial_files(folder)) == (place in ("write", "fsync", "replace"))
        if name in WRITERS:
            assert len(whole) == 1 and WRITERS[name][1](folder) == (0 if place == "replaced" else 1)
        elif name == "train":
            assert len(whole) == (place == "replaced")
    if name in reference:
        for path in partial_files(tmp_path):
            os.utime(path, (0, 0))
        again = [Process(CALLS[name], folder) for folder in folders]
        assert [process.result() for process in again] == [(reference[name], [])] * len(folders)
        assert not partial_files(tmp_path)


# --- D6: other sources ----------------------------------------------------------------------------------------------

TINY = """
import json, sys
import eegxai_support
import under_stress as stress
from pathlib import Path
folder = Path(sys.argv[1])
print(json.dumps([eegxai_support.__file__, stress.train(folder / "cache"), stress.benchmark(folder / "results")]))
"""


def test_results_follow_the_sources_and_not_their_comments(tmp_path):
    """A copy of the package that is changed goes on with the files of the package itself."""
    folder, package = tmp_path / "results", tmp_path / "eegxai_support"

    def computed(sources: Path) -> list:
        """Return where the package is, and both results. Both times in an interpreter of its own, with the threads of
        this machine: a fork has those of whoever started its server, and rounds as they do."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (sources, ROOT / "tests")))}
        command = [sys.executable, "-c", TINY, str(folder)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first = computed(ROOT)
    files = {part: set(states(folder / path)) for part, path in PARTS.items()}
    shutil.copytree(ROOT / "eegxai_support", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in (
        ("decoders/training.py", '"""Train a decoder."""', '"""Train a network."""  # and more'),
        ("viz/maps.py", "\n\n\n", "\n\n\nNOTHING = 1\n\n\n"),
        ("attribution/gradients.py", ".abs_()", ".abs_().square()"),
    ):
        source = (package / name).read_text()
        assert old in source
        (package / name).write_text(source.replace(old, new, 1))
    again = computed(tmp_path)
    assert [where for where, *_ in (first, again)] == [
        str(ROOT / "eegxai_support/__init__.py"),
        str(package / "__init__.py"),
    ]
    assert again[1] == first[1] and again[2] != first[2]
    new = {part: len(set(states(folder / path)) - files[part]) for part, path in PARTS.items()}
    assert new == {"cache": 0, "weights": 0, "cells": 3}


PARTS = {"cache": "cache", "weights": "results/weights", "cells": "results/cells"}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The package's sources as a copy that may be changed; returns a function that gives its digest anew."""
    package = tmp_path / "package"
    shutil.copytree(ROOT / "eegxai_support", package, ignore=shutil.ignore_patterns("__pycache__", "_results"))
    monkeypatch.setattr(provenance, "PACKAGE", package)
    yield package
    provenance._first.cache_clear()


def digest(*rooms):
    provenance._first.cache_clear()
    return provenance.package_digest(*rooms)


def test_the_digest_follows_what_the_sources_do(copied):
    path, rooms = copied / "simulate" / "noise.py", ("decoders", "simulate")
    before, by_room = digest(), [digest(room) for room in rooms]
    source = path.read_text()
    tree = ast.parse(source)
    path.write_text(ast.unparse(tree))  # without comments, in another layout
    assert digest() == before
    path.write_text(source.replace(ast.get_docstring(tree), "Other words."))
    assert digest() == before
    path.write_text(source + "\nNOTHING = 1\n")
    assert digest() != before
    assert [digest(room) == one for room, one in zip(rooms, by_room, strict=True)] == [True, False]
    path.write_text(source)
    assert digest() == before
    path.rename(path.with_stem("din"))
    assert digest() != before
    (copied / "viz" / "more.py").write_text("NOTHING = 1")
    path.with_stem("din").rename(path)
    assert digest() == before
    with pytest.raises(ValueError, match="has no decoder"):
        digest("decoder", "simulate")


def test_sources_that_change_under_a_process_are_neither_of_the_two(copied):
    path = copied / "simulate" / "noise.py"
    before, source = digest("simulate"), path.read_text()
    path.write_text(source + "\nNOTHING = 1\n")
    under = provenance.package_digest("simulate")
    assert len({before, under, digest("simulate")}) == 3


def rooms_of(names):
    """Return the rooms that the modules of rooms import from."""
    package = ROOT / "eegxai_support"
    paths = [path for name in names for path in (package.glob(f"{name}.py"), package.glob(f"{name}/**/*.py"))]
    modules = [it for path in itertools.chain(*paths) for it in imported(path)]
    rooms = {it.split(".")[1] for it in modules if it.startswith("eegxai_support.")}
    return rooms, {it.split(".")[0] for it in modules} - {"eegxai_support", *sys.stdlib_module_names}


NO_NUMBER = {"files", "provenance"}  # rooms that store results, or name them


def test_the_keys_hold_every_room_and_package_that_is_reached():
    trained, _ = rooms_of(decoder_cache.TRAINED_BY)
    assert trained <= {*decoder_cache.TRAINED_BY, *NO_NUMBER}
    fits, _ = rooms_of(set(grid.TRAINED_BY) - {"benchmark"})  # whose scoring imports more than its training
    assert fits <= {*grid.TRAINED_BY, *NO_NUMBER}
    cells, of_cells = rooms_of(grid.SCORED_BY)
    assert cells <= {*grid.SCORED_BY, *NO_NUMBER, "recordings"}  # which stores the cells
    no_number = {"dask", "einops", "joblib", "pooch", "pyarrow", "safetensors", "threadpoolctl", "tqdm", "yaml"}
    assert of_cells - no_number - {"sklearn"} == set(grid.LIBRARIES)  # which no cell comes to: cross-validation has it
    assert set(decoder_cache.LIBRARIES) <= set(grid.LIBRARIES)


def test_versions_name_what_is_not_installed():
    found = provenance.versions(["numpy", "no-such-package"])
    python = "{}.{}".format(*sys.version_info)
    assert found == {"python": python, "numpy": np.__version__, "no-such-package": None}


# --- the one way to write -------------------------------------------------------------------------------------------


def test_nothing_writes_a_file_but_write_whole():
    """Every writer goes through it, those of tools and studies too: what opens a file to write stands in files.py."""
    writes = {"write_text", "write_bytes", "to_parquet", "to_csv", "save_file", "savez", "mkstemp", "savefig"}
    for path in (path for folder in ("eegxai_support", "studies", "tools") for path in (ROOT / folder).rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert path.name == "files.py" or not names & writes, path
        text = path.read_text().replace('open("rb")', "").replace("open(os.devnull", "")
        assert path.name == "files.py" or "open(" not in text, path


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_seal_of_a_recording_is_written_whole(tmp_path, monkeypatch):
    """The hash that `load_drowsiness` writes beside its file: one half would call a good file damaged."""
    written = []
    monkeypatch.setattr(drowsiness, "write_whole", lambda path, content: written.append((path, content)))
    monkeypatch.setattr(drowsiness, "_fetch", lambda: tmp_path / "dataset.mat")
    monkeypatch.setattr(drowsiness, "_read", lambda file: "trials")
    (tmp_path / "dataset.mat").write_bytes(b"")
    assert drowsiness.load_drowsiness() == "trials"
    assert [path.name for path, _ in written] == ["dataset.mat.sha256"]
