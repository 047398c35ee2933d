"""The benchmark: what a cell holds, and that files, processes and deaths do not change it."""

import copy
import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save

import eegxai_support as xs
from eegxai_support import benchmark
from eegxai_support.benchmark import engine, evaluation, grid
from eegxai_support.benchmark.__main__ import main
from eegxai_support.benchmark.engine import cell_path, run_fit, weights_path
from eegxai_support.files import PARTIAL
from eegxai_support.provenance import package_digest

HEAD = {"ch_names": ["C3", "C4", "Cz", "Fz", "Pz", "O1", "O2", "Iz"], "duration": 0.4, "sfreq": 100}
CONFIG = {
    "regimes": {"spectral": HEAD, "suppressor": HEAD},
    "snr_db": {"spectral": [0], "suppressor": [10]},
    "decoders": {
        "Cui": {
            "name": "InterpretableCNN",
            "build": {"kernel_length": 16, "n_spatial": 4},
            "train": {"epochs": 6, "lr": 0.01},
        },
        "ShallowFBCSPNet": {
            "build": {"filter_time_length": 7, "pool_time_length": 8, "pool_time_stride": 4},
            "train": {"epochs": 2},
        },
    },
    "seeds": [0],
    "methods": {
        "saliency": None,
        "random": None,
        "integrated_gradients": {"baseline": "other_class", "n_steps": 4, "max_steps": 4},
        "guided_backprop": None,  # has no meaning for the squares of ShallowFBCSPNet
        "too_wide": {"method": "occlusion", "window": [99, 999]},
    },
    "n_train": 96,
    "n_valid": 24,
    "n_test": 24,
    "n_datasets": 2,
    "n_explained": 12,
    "n_null": 3,
}
FITS = benchmark.read_grid(CONFIG)


def changed(**changes):
    """A copy of the configuration with other values; `decoders__Cui__train` names a value in a value."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = config
        for name in parents:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return config


def files(folder):
    """What tells a file from one that was written later, by name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*/*.*")}


def assert_same(table, expected):
    pd.testing.assert_frame_equal(
        table.drop(columns="seconds_per_trial"), expected.drop(columns="seconds_per_trial"), check_exact=True
    )
    assert table.attrs == expected.attrs


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Folder and table of the grid on one process."""
    folder = tmp_path_factory.mktemp("benchmark")
    return folder, benchmark.run_benchmark(CONFIG, folder)


@pytest.fixture
def own_parts():
    """A module with a network and methods of its own, one of which it registers; forgotten afterwards."""
    yield importlib.import_module("own_parts")
    del sys.modules["own_parts"], xs.METHODS["own_parts.times_input"]


@pytest.fixture
def results(first, tmp_path):
    """A copy of the finished grid that a test may damage."""
    for path in first[0].glob("*/*.*"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        os.link(path, tmp_path / path.parent.name / path.name)
    return tmp_path, first[1]


@pytest.fixture(scope="module")
def by_hand():
    """The first fit by public functions: data sets, predicted classes and model."""
    fit = FITS[0]
    sets = {
        purpose: xs.simulate("spectral", n_trials=n, snr_db=0, seed=fit.seed_of(*purpose), **HEAD)
        for purpose, n in {("train",): 96, ("valid",): 24, ("test",): 24, ("explained", 0): 12}.items()
    }
    scale = sets["train",].signal.std()
    for purpose, trials in sets.items():
        trials = copy.copy(trials)
        object.__setattr__(trials, "signal", trials.signal / scale)
        sets[purpose] = trials
    network = CONFIG["decoders"]["Cui"]
    model = xs.build_decoder("InterpretableCNN", sets["train",], seed=0, **network["build"])
    xs.train(model, sets["train",], sets["valid",], seed=0, **network["train"])
    return sets, model


def select(table, **values):
    return table[np.logical_and.reduce([table[name] == value for name, value in values.items()])]


def test_the_table_holds_every_cell_in_the_order_of_the_grid(first):
    _, table = first
    cells = table[["regime", "snr_db", "decoder", "seed", "method"]].drop_duplicates()
    assert [tuple(row) for row in cells.values] == [
        (regime, snr, decoder, 0, method)
        for regime, snr in (("spectral", 0.0), ("suppressor", 10.0))
        for decoder in CONFIG["decoders"]
        for method in ("", *CONFIG["methods"])
    ]
    ours = select(table, regime="spectral", decoder="Cui", method="saliency")
    counts = ours.groupby(["check", "dataset", "trials", "view"]).size()
    assert (counts == len(xs.METRICS)).all()
    assert len(counts) == 2 * 3 * 2 + 2 * 2  # data sets, choices of trials, views; two checks on the first data set
    assert not ours.duplicated(["dataset", "check", "trials", "view", "metric"]).any()


def test_accuracy_is_that_of_the_decoder_on_the_test_trials(first, by_hand):
    sets, model = by_hand
    test = sets["test",]
    rows = select(first[1], regime="spectral", decoder="Cui", check="decoder").set_index("metric")["value"]
    assert rows["accuracy"] == (xs.predict(model, test.signal).argmax(1) == test.label).mean()
    seed = FITS[0].seed_of("test")
    assert rows["ideal_accuracy"] == xs.simulate("spectral", n_trials=24, snr_db=0, seed=seed, **HEAD).ideal_accuracy


@pytest.mark.parametrize("view", ["channel_time", "scalp"])
@pytest.mark.parametrize("trials", ["correct", "all", "predicted"])
def test_scores_against_the_truth_are_those_of_score_maps(first, by_hand, trials, view):
    sets, model = by_hand
    data = sets["explained", 0]
    predicted = xs.predict(model, data.signal).argmax(1)
    correct = predicted == data.label
    assert 0 < correct.sum() < len(correct)
    maps = xs.attribute(model, data.signal, predicted if trials == "predicted" else data.label, "saliency").values
    chosen = correct if trials == "correct" else np.full(len(correct), True)
    info = data.info if view == "scalp" else None
    expected = xs.score_maps(maps[chosen], data.truth[chosen], info, n_null=0)
    rows = select(first[1], regime="spectral", decoder="Cui", method="saliency", dataset=0, check="accuracy")
    rows = select(rows, trials=trials, view=view).set_index("metric")
    np.testing.assert_allclose(rows["value"], expected.mean(), rtol=1e-5, atol=1e-6)
    assert (rows["n_valid"] == expected.notna().sum()).all() and (rows["n_trials"] == chosen.sum()).all()


def test_chance_levels_stand_beside_the_correct_trials_of_the_first_data_set(first, by_hand):
    sets, model = by_hand
    data = sets["explained", 0]
    data = data.subset(xs.predict(model, data.signal).argmax(1) == data.label)
    maps = xs.attribute(model, data.signal, data.label, "saliency").values
    seed = FITS[0].seed_of("chance")
    chance = xs.score_maps(maps, data.truth, label=data.label, n_null=3, seed=seed).attrs["chance"]
    rows = select(first[1], regime="spectral", decoder="Cui", method="saliency", view="channel_time")
    beside = rows["surrogate_mean"].notna()
    place = rows.loc[beside, ["dataset", "check", "trials"]].drop_duplicates()
    assert place.values.tolist() == [[0, "accuracy", "correct"]]
    rows = rows[beside].set_index("metric")
    for null, levels in chance.items():
        for level in ("mean", "low", "high"):
            expected = pd.Series({metric: it[level] for metric, it in levels.items()})
            np.testing.assert_allclose(rows[f"{null}_{level}"], expected[rows.index], rtol=1e-5, atol=1e-6)


def test_checks_compare_with_a_wrong_class_and_with_an_untrained_network(first, by_hand):
    sets, model = by_hand
    fit, data = FITS[0], sets["explained", 0]
    correct = xs.predict(model, data.signal).argmax(1) == data.label
    *_, (_, untrained) = xs.randomize(model, fit.seed_of("weights", "Cui"))
    other = xs.random_target(data.label, data.n_classes, fit.seed_of("label"))
    maps, by_check = xs.attribute(model, data.signal, data.label, "saliency").values[correct], {}
    by_check["label"] = xs.attribute(model, data.signal[correct], other[correct], "saliency").values
    by_check["weights"] = xs.attribute(untrained, data.signal[correct], data.label[correct], "saliency").values
    table = select(first[1], regime="spectral", decoder="Cui", method="saliency", view="channel_time")
    for check, after in by_check.items():
        expected = xs.score_maps(after, maps, protocol="randomisation", n_null=0).mean()
        np.testing.assert_allclose(select(table, check=check)["value"], expected, rtol=1e-4, atol=1e-5)


def test_a_map_that_ignores_the_network_fails_both_checks(first):
    rows = select(first[1], method="random", metric="Pearson_raw")
    np.testing.assert_allclose(rows[rows["check"].isin(["label", "weights"])]["value"], 1)


def test_mass_on_the_suppressor_is_recorded_where_there_is_one(first):
    rows = select(first[1], metric="suppressor_mass")
    assert set(rows["regime"]) == {"suppressor"} and set(rows["view"]) == {"channel_time"}
    assert len(select(rows, decoder="Cui", method="random")) == 2 * 3
    random = select(rows, method="random", trials="all")["value"]
    # The absolute value of a normal number has a standard deviation of 0.76 of its mean; 12 trials of 40 samples.
    assert len(random) == 4 and (abs(random - 1 / 8) < 4 * 0.76 / 8 / (12 * 40) ** 0.5).all()


def test_decoders_and_methods_get_the_same_independent_trials():
    purposes = [("train",), ("valid",), ("test",), ("explained", 0), ("explained", 1), ("baseline",)]
    fits = benchmark.read_grid(changed(seeds=[0, 1], snr_db=[0, 5]))
    seeds = {}
    for fit in fits:
        seeds.setdefault((fit.regime, fit.snr_db, fit.seed), set()).add(tuple(fit.seed_of(*it) for it in purposes))
    assert len(seeds) == 8 and all(len(of_decoders) == 1 for of_decoders in seeds.values())
    drawn = [seed for (of_place,) in seeds.values() for seed in of_place]
    assert len(set(drawn)) == len(drawn) == 8 * len(purposes)


def test_what_decides_a_result_decides_its_file():
    before = benchmark.read_grid(CONFIG)[0]
    for change in (
        {"regimes__spectral": {**HEAD, "source": "C4"}},
        {"snr_db": [11]},
        {"decoders__Cui__train": {"epochs": 7}},
        {"seeds": [1]},
        {"n_explained": 16},
        {"methods__saliency": {"method": "gradient"}},
        {"methods__saliency": {"method": "integrated_gradients", "tol": float("inf")}},  # .inf in YAML
    ):
        assert benchmark.read_grid(changed(**change))[0].key("saliency") != before.key("saliency"), change
    whole = {"epochs": 6.0, "lr": 0.01}
    for change in ({"n_test": 48}, {"methods__random": None}, {"snr_db": [0.0]}, {"decoders__Cui__train": whole}):
        assert benchmark.read_grid(changed(**change))[0].key("saliency") == before.key("saliency"), change
    assert benchmark.read_grid(changed(n_explained=16, n_test=48))[0].key() == before.key()


def test_cells_without_results_are_recorded_and_the_rest_go_on(first):
    _, table = first
    assert {cell["method"] for cell in table.attrs["failed"]} == {"too_wide"} and len(table.attrs["failed"]) == 4
    for cell in table.attrs["failed"]:
        assert cell["message"].startswith("Traceback") and "window is [99, 999]" in cell["message"]
        assert os.sep + "eegxai_support" not in cell["message"] and sys.prefix not in cell["message"]
    unsupported = table.attrs["unsupported"]
    assert {(it["decoder"], it["method"]) for it in unsupported} == {("ShallowFBCSPNet", "guided_backprop")}
    assert "without rectifiers" in unsupported[0]["message"]
    without = table[table["status"] != "ok"]
    assert len(without) == 6 and without["value"].isna().all() and (without["n_valid"] == 0).all()


def test_a_fit_that_fails_costs_its_own_cells(tmp_path, monkeypatch):
    def diverge(model, *args, **options):
        if isinstance(model, xs.InterpretableCNN):
            raise FloatingPointError("diverged")
        return xs.train(model, *args, **options)

    monkeypatch.setattr(evaluation, "train", diverge)
    table = benchmark.run_benchmark(changed(regimes={"spectral": HEAD}, snr_db=[0], methods=["saliency"]), tmp_path)
    assert [(it["decoder"], it["method"]) for it in table.attrs["failed"]] == [("Cui", ""), ("Cui", "saliency")]
    assert all("FloatingPointError: diverged" in it["message"] for it in table.attrs["failed"])
    assert (select(table, decoder="ShallowFBCSPNet")["status"] == "ok").all()
    monkeypatch.undo()
    assert not benchmark.run_benchmark(
        changed(regimes={"spectral": HEAD}, snr_db=[0], methods=["saliency"]), tmp_path
    ).attrs["failed"]


def test_a_decoder_that_is_never_right_has_no_correct_trials(monkeypatch):
    fit = FITS[0]
    wrong = [
        (xs.simulate("spectral", n_trials=12, snr_db=0, seed=fit.seed_of("explained", k), **HEAD).label + 1) % 3
        for k in range(2)
    ]
    monkeypatch.setattr(evaluation.Experiment, "predicted", wrong)
    ((_, table),) = benchmark.evaluate_fit(fit, ["saliency"])
    assert table.attrs["status"] == "ok" and set(table["check"]) == {"accuracy"}
    correct = select(table, trials="correct")
    assert correct["value"].isna().all() and (correct["n_trials"] == 0).all()
    assert table["surrogate_mean"].isna().all() and (select(table, trials="all")["n_trials"] == 12).all()


def test_without_a_second_class_there_is_no_other_trial(monkeypatch):
    one_right = [np.where(np.arange(12) == 3, 5, -1) for _ in range(2)]
    fit = FITS[0]
    for k, predicted in enumerate(one_right):
        label = xs.simulate("spectral", n_trials=12, snr_db=0, seed=fit.seed_of("explained", k), **HEAD).label
        one_right[k] = np.where(predicted == 5, label, (label + 1) % 3)
    monkeypatch.setattr(evaluation.Experiment, "predicted", one_right)
    ((_, table),) = benchmark.evaluate_fit(fit, ["saliency"])
    assert table.attrs["status"] == "ok", table.attrs["message"]
    assert table["other_trial_mean"].isna().all() and table["surrogate_mean"].notna().any()


def test_finished_cells_are_kept_and_failed_ones_tried_again(results):
    folder, expected = results
    before = files(folder)
    assert_same(benchmark.run_benchmark(CONFIG, folder), expected)
    again = {name for name, state in files(folder).items() if before[name] != state}
    assert again == {cell_path(folder, fit, "too_wide").name for fit in FITS}


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "other"])
def test_a_damaged_cell_is_computed_again_with_a_warning(results, damage, monkeypatch):
    folder, expected = results
    path = cell_path(folder, FITS[0], "saliency")
    whole = path.read_bytes()
    path.unlink()
    if damage == "other":
        pd.DataFrame({"value": [1.0]}).to_parquet(path)
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])

    def forbidden(*args, **options):
        raise AssertionError("the weights are there")

    monkeypatch.setattr(evaluation, "train", forbidden)
    with nullcontext() if damage == "missing" else pytest.warns(UserWarning, match="The cell .* is damaged"):
        table = benchmark.run_benchmark(CONFIG, folder)
    assert_same(table, expected)


@pytest.mark.parametrize("damage", ["half", "not ours"])
def test_damaged_weights_are_trained_again_with_a_warning(results, damage):
    folder, expected = results
    path = weights_path(folder, FITS[0])
    whole = path.read_bytes()
    cell_path(folder, FITS[0], "saliency").unlink()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2] if damage == "half" else save({"a": torch.zeros(3)}))
    with pytest.warns(UserWarning, match="The trained decoder .* cannot be used .* damaged"):
        assert_same(benchmark.run_benchmark(CONFIG, folder), expected)
    assert weights_path(folder, FITS[0]).stat().st_size > 0


def test_everything_is_computed_again_when_asked(results):
    folder, _ = results
    before = files(folder)
    config = changed(regimes={"spectral": HEAD}, snr_db=[0])
    table = benchmark.run_benchmark(config, folder, resume=False)
    kept = {name for name, state in files(folder).items() if before[name] == state}
    ours = {path(folder, fit, *cell).name for fit in benchmark.read_grid(config)
            for path, cell in [(weights_path, ()), *((cell_path, (cell,)) for cell in fit.cells)]}  # fmt: skip
    assert kept == before.keys() - ours and len(ours) == 2 * 7
    assert_same(table, benchmark.run_benchmark(config, folder))


def test_a_worker_without_its_driver_stops_after_the_cell(tmp_path):
    run_fit(FITS[0], list(FITS[0].cells), tmp_path, driver=-1)
    assert [path.name for path in tmp_path.glob("cells/*")] == [cell_path(tmp_path, FITS[0], "").name]


def test_computes_on_one_thread_and_gives_the_others_back(tmp_path, monkeypatch):
    threads = []

    def evaluate(*_):
        threads.append(torch.get_num_threads())
        return ()

    monkeypatch.setattr("eegxai_support.benchmark.engine.evaluate_fit", evaluate)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_fit(FITS[0], ["saliency"], tmp_path)
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def pool_of(monkeypatch, dies):
    """Replace joblib's pool by one that dies where `dies(attempt, fit)`; return the fits of each run."""
    runs = []

    def run_all(tasks):
        runs.append([])
        for run, arguments, _ in tasks:
            runs[-1].append(arguments[0])
            if dies(len(runs), arguments[0]):
                raise BrokenProcessPool
            run(*arguments[:3])

    monkeypatch.setattr("joblib.Parallel", lambda: run_all)
    return runs


def without_saliency(folder):
    for fit in FITS:
        cell_path(folder, fit, "saliency").unlink()
    (folder / "cells" / ".other.part").touch()  # what a killed process left is no progress


@pytest.mark.parametrize("dies", [lambda k, fit: k == 1, lambda k, fit: k <= 2, lambda k, fit: k <= 3])
def test_processes_that_die_before_the_first_cell_are_replaced(results, monkeypatch, dies):
    folder, expected = results
    without_saliency(folder)
    runs = pool_of(monkeypatch, dies)
    assert_same(benchmark.run_benchmark(CONFIG, folder, n_jobs=2), expected)
    assert runs[-1] in (FITS, FITS[-1:])


def test_a_fit_that_kills_its_process_costs_no_other_fit(results, monkeypatch):
    folder, expected = results
    without_saliency(folder)
    runs = pool_of(monkeypatch, lambda k, fit: fit == FITS[1])
    table = benchmark.run_benchmark(CONFIG, folder, n_jobs=2)
    # The first run finishes the first fit; three in vain follow, then each fit by itself.
    assert runs == [FITS[:2]] * 4 + [[fit] for fit in FITS]
    died = [it for it in table.attrs["failed"] if it["message"].startswith("The worker died")]
    place = {"regime": "spectral", "decoder": "ShallowFBCSPNet"}
    assert [it["method"] for it in died] == ["saliency", "too_wide"]
    assert all(it.items() >= place.items() and "or at an earlier one of this fit" in it["message"] for it in died)
    others = [
        it[(it["regime"] != "spectral") | (it["decoder"] != "ShallowFBCSPNet")].drop(columns="seconds_per_trial")
        for it in (table, expected)
    ]
    pd.testing.assert_frame_equal(*(it.reset_index(drop=True) for it in others), check_exact=True)


def test_partial_files_are_removed_once_they_are_old(results):
    folder, _ = results
    names = [f"{part}/{PARTIAL.replace('*', name)}" for part in ("cells", "weights") for name in "ab"]
    for name in names:
        (folder / name).touch()
    for name in names[::2]:
        os.utime(folder / name, (time.time() - 3600,) * 2)
    benchmark.run_benchmark(CONFIG, folder)
    assert [name for name in names if (folder / name).exists()] == names[1::2]


def test_trouble_of_the_disk_is_no_damage(results, monkeypatch):
    folder, _ = results
    before = files(folder)

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", stale)
        with pytest.raises(OSError, match="Stale"):
            benchmark.run_benchmark(CONFIG, folder)
    assert files(folder) == before


def test_a_cell_says_what_made_it(first):
    content = pd.read_parquet(cell_path(first[0], FITS[0], "saliency")).attrs["content"]
    packages = ("torch", "braindecode", "mne", "numpy", "pandas", "scipy")
    python = "{}.{}".format(*sys.version_info)
    assert content["versions"] == {"python": python, **{name: version(name) for name in packages}}
    assert content == FITS[0].content("saliency") and len(content["package"]) == 64


@pytest.mark.parametrize(
    ("made_by", "message"),
    [
        ({"cells": "0"}, "asked for the benchmark: other sources of eegxai-support. .* restart Python"),
        (
            {"versions": FITS[0].made_by["versions"] | {"mne": "0.1"}},
            r"A worker differs from the process .*: mne \S+, not 0\.1\. Install",
        ),
    ],
)
def test_a_worker_with_other_sources_or_versions_is_refused(tmp_path, monkeypatch, made_by, message):
    other = replace(FITS[0], made_by=FITS[0].made_by | made_by)
    monkeypatch.setattr(engine, "read_grid", lambda config: [other])
    with pytest.raises(ValueError, match=message):
        benchmark.run_benchmark(CONFIG, tmp_path, n_jobs=2)
    assert not list(tmp_path.glob("*/*.*"))


def wait_for(folder, n_cells, alive):
    """Wait, as long as somebody is alive to write them, until that many cells are there, and return what is there."""
    while len(list(folder.glob("cells/*.parquet"))) < n_cells:
        assert alive()
        time.sleep(0.02)
    return files(folder)


def assert_untouched(before, folder):
    failed = {cell_path(folder, fit, "too_wide").name for fit in FITS}  # these are tried again
    assert {name: state for name, state in files(folder).items() if name in before.keys() - failed} == {
        name: state for name, state in before.items() if name not in failed
    }


def test_a_killed_driver_is_taken_up_by_two_processes(first, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    folder = tmp_path / "results"
    command = [sys.executable, "-m", "eegxai_support.benchmark", str(tmp_path / "config.yaml"), str(folder)]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for(folder, 8, alive=lambda: driver.poll() is None)
    driver.kill()
    driver.wait()
    before = {name: state for name, state in files(folder).items() if not name.startswith(".")}
    assert len(list(folder.glob("cells/*.parquet"))) < sum(len(fit.cells) for fit in FITS)
    assert_same(benchmark.run_benchmark(CONFIG, folder, n_jobs=2), first[1])
    assert_untouched(before, folder)


def test_a_killed_worker_of_a_cluster_loses_only_its_cell(first, tmp_path, fork_server):
    """Workers are forked: three interpreters would import for eight seconds each."""
    distributed = pytest.importorskip("distributed", reason="needs Dask: the extra `cluster`")
    dask = pytest.importorskip("dask")
    states = []

    def kill(pid):
        states.append(wait_for(tmp_path, 3, alive=lambda: client.status == "running"))
        os.kill(pid, signal.SIGKILL)

    with (
        dask.config.set({"distributed.worker.multiprocessing-method": fork_server}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=50,
            local_directory=tmp_path / "dask",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pid = next(iter(client.run(os.getpid).values()))
        killer = threading.Thread(target=kill, args=(pid,))
        killer.start()
        table = benchmark.run_benchmark(CONFIG, tmp_path, client=client)
        killer.join()
    assert_same(table, first[1])
    assert_untouched({name: state for name, state in states[0].items() if not name.startswith(".")}, tmp_path)


def test_command_line(results, tmp_path, capsys):
    folder, expected = results
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    assert main([str(tmp_path / "config.yaml"), str(folder)]) == 1
    table = pd.read_parquet(folder / "results.parquet")
    assert yaml.safe_load(table.attrs.pop("config")) == CONFIG
    assert_same(table, expected)
    output = capsys.readouterr().out
    assert "24 cells, 2 unsupported, 4 failed" in output and "spectral 0.0 Cui 0 too_wide: ValueError" in output


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("seeds: 3", (), "lacks n_train"),
        ("seeds: [3", (), "config.yaml is not YAML"),
        (None, (), "No such file"),
        ("{}", ("--scheduler", "tcp://x"), "cluster]"),
    ],
)
def test_command_line_says_what_is_wrong(tmp_path, capsys, monkeypatch, config, arguments, message):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(SystemExit) as error:
        main([str(tmp_path / "config.yaml"), str(tmp_path), *arguments])
    assert error.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_trian": 5}, "Unknown key of the configuration 'n_trian'. Did you mean 'n_train'"),
        ({"n_null": None}, "lacks n_null"),
        ({"n_train": 0}, "n_train is 0; expected a whole number, at least 1"),
        ({"n_train": 1.5}, "n_train is 1.5"),
        ({"n_train": float("inf")}, "n_train is inf; expected a finite number"),
        ({"n_train": float("nan")}, "n_train is nan; expected a number"),
        ({"seeds": [float("inf")]}, "seeds is inf; expected a finite number"),
        ({"snr_db": [0, float("inf")]}, "snr_db is inf; expected a finite number"),
        ({"decoders__Cui__train": {"epochs": 0}}, "epochs is 0; expected a whole number, at least 1"),
        ({"decoders__Cui__train": {"epochs": 1.5}}, "epochs is 1.5; expected a whole number"),
        ({"decoders__Cui__train": {"epochs": 1, "batch_size": 0.5}}, "batch_size is 0.5; expected a whole number"),
        (
            {"decoders__Cui__name": ["EEGNet"]},
            "decoders.Cui.name is \\['EEGNet'\\]; expected a name, a class or function",
        ),
        ({"methods": {"saliency": {"method": ["saliency"]}}}, "methods.saliency.method is .*; expected a name"),
        ({"regimes": ["temporl"]}, "Unknown regime 'temporl'. Did you mean 'temporal'"),
        ({"regimes": "spectral"}, "regimes is 'spectral'; expected a list"),
        ({"snr_db": {"spectral": [0]}}, "snr_db lacks suppressor"),
        ({"snr_db": []}, "snr_db is .*; expected a list of different values, at least one"),
        ({"seeds": [0, 0]}, "seeds is .*; expected a list of different values"),
        ({"seeds": [-1]}, "at least 0"),
        ({"decoders": {"EEGNet": None}}, "decoders.EEGNet lacks train"),
        ({"decoders__Cui__train": {"epoch": 3}}, "Unknown key of decoders.Cui.train 'epoch'. Did you mean 'epochs'"),
        ({"decoders__Cui__train": {"epochs": 3, "lr": "1e-3"}}, "lr is '1e-3'; expected a number. In YAML, write"),
        ({"decoders__Cui__biuld": {}}, "Unknown key of decoders.Cui 'biuld'. Did you mean 'build'"),
        ({"decoders": [1]}, "decoders has the name 1; expected text"),
        ({"methods": ["salincy"]}, "Unknown method 'salincy'. Did you mean 'saliency'"),
        ({"methods": {"saliency": {"baseline": "zero"}}}, "saliency takes no baseline"),
        ({"methods": {"deep_lift": {"baseline": "zeros"}}}, "Unknown baseline 'zeros'. Did you mean 'zero'"),
        ({"methods": {"deep_lift_shap": {"baseline": "zero"}}}, "baseline is 'zero'; expected a number"),
        ({"methods": {"lrp_gamma": {"gama": 1}}}, "Unknown key of methods.lrp_gamma 'gama'. Did you mean 'gamma'"),
        ({"methods": {"smooth_grad": {"seed": 1}}}, "Unknown key of methods.smooth_grad 'seed'"),
        ({"methods": {"saliency": {"window": {1}}}}, "Unknown key of methods.saliency 'window'"),
        ({"methods": {"occlusion": {"window": {1}}}}, "JSON cannot"),
        ({"methods": {"saliency": 3}}, "methods.saliency is 3; expected names and values"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark.read_grid(changed(**changes))[0].key("occlusion")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regimes__spectral": {**HEAD, "sorce": "C3"}}, "regimes.spectral: .*sorce"),
        ({"n_test": 3}, "regimes.spectral: .*3 trials in 4 runs"),
        ({"decoders__Cui__name": "EEGNett"}, "decoders.Cui: Unknown decoder 'EEGNett'. Did you mean 'EEGNet'"),
        ({"decoders__Cui__build": {"kernel": 3}}, "decoders.Cui: .*kernel"),
    ],
)
def test_wrong_options_are_told_before_anything_is_computed(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        benchmark.run_benchmark(changed(**changes), tmp_path)
    assert not list(tmp_path.glob("*/*.*"))


def test_a_cluster_and_processes_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="n_jobs is 2, but with a client"):
        benchmark.run_benchmark(CONFIG, tmp_path, client=object(), n_jobs=2)


def test_methods_that_compare_with_many_take_training_trials(by_hand):
    sets, model = by_hand
    config = changed(methods={"deep_lift_shap": {"baseline": 96}}, n_datasets=1, n_null=0)
    ((_, table),) = benchmark.evaluate_fit(benchmark.read_grid(config)[0], ["deep_lift_shap"])
    data = sets["explained", 0]
    maps = xs.attribute(model, data.signal, data.label, "deep_lift_shap", baseline=sets["train",].signal).values
    rows = select(table, check="accuracy", trials="all", view="channel_time")
    expected = xs.score_maps(maps, data.truth, n_null=0).mean()  # the order of the baselines changes the rounding
    np.testing.assert_allclose(rows["value"], expected, rtol=1e-3, atol=1e-4)


OWN = {
    "regimes": {"spectral": HEAD},
    "snr_db": [0],
    "decoders": {"own": {"name": "own_parts:Readout", "train": {"epochs": 2}}},
    "methods": {
        "saliency": None,
        "own": {"method": "own_parts:absolute"},
        "input_x_gradient": None,
        "own_registered": {"method": "own_parts:times_input"},
    },
    "n_datasets": 1,
    "n_null": 0,
}
TWINS = {"own": "saliency", "own_registered": "input_x_gradient"}


def test_own_networks_and_methods_are_resolved_in_the_worker(tmp_path, own_parts):
    """By name, by object and by the name they are registered under; each equals its twin in the package."""
    config = changed(**OWN)
    table = benchmark.run_benchmark(config, tmp_path, n_jobs=2)
    assert not table.attrs["failed"] and not table.attrs["unsupported"]
    for own, twin in TWINS.items():
        maps = [select(table, method=name).drop(columns=["method", "seconds_per_trial"]) for name in (own, twin)]
        pd.testing.assert_frame_equal(*(it.reset_index(drop=True) for it in maps), check_exact=True)
    before, names = files(tmp_path), set(xs.METHODS)
    objects = changed(
        **OWN | {"decoders": {"own": {"name": own_parts.Readout, "train": {"epochs": 2}}}},
        methods__own={"method": own_parts.absolute},
        methods__own_registered={"method": "own_parts.times_input"},
    )
    assert_same(benchmark.run_benchmark(objects, tmp_path), table)
    assert files(tmp_path) == before and set(xs.METHODS) == names


def test_objects_that_no_worker_can_import_run_in_this_process_alone(tmp_path, own_parts):
    local = changed(**OWN, methods__own={"method": lambda problem: own_parts.absolute(problem) * 1})
    with pytest.raises(ValueError, match=r"methods.own.method is test_bench.*<lambda>.*'my_own:.*n_jobs at 1"):
        benchmark.run_benchmark(local, tmp_path, n_jobs=2)
    with pytest.raises(ValueError, match="in this process alone"):
        benchmark.run_benchmark(local, tmp_path, client=object())
    table = benchmark.run_benchmark(local, tmp_path)
    assert not table.attrs["failed"] and (select(table, method="own")["value"].notna()).any()


def test_the_source_of_what_is_ones_own_decides_its_files(tmp_path, monkeypatch, own_parts):
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for factor in (1, 2, 1):
        (tmp_path / "changing.py").write_text(f"def method(problem):\n    return problem.x * {factor}\n")
        sys.modules.pop("changing", None)
        importlib.invalidate_caches()
        (fit,) = benchmark.read_grid(changed(**OWN, methods__own={"method": "changing:method"}))
        keys.append([fit.key("own"), fit.key("saliency"), fit.key(""), fit.key()])
    assert keys[0] == keys[2] and [a == b for a, b in zip(*keys[:2], strict=True)] == [False, True, True, True]

    def scaled(factor):
        return lambda problem: problem.x * factor

    a, b = (benchmark.read_grid(changed(**OWN, methods__own={"method": scaled(it)}))[0] for it in (1, 2))
    assert a.key("own") != b.key("own")
    (named,) = benchmark.read_grid(changed(**{**OWN, "methods": ["saliency"]}))
    assert named.sources.keys() == {""} and "sources" not in FITS[0].content("saliency")


def test_what_is_ones_own_may_call_any_room_of_the_package(monkeypatch, own_parts):
    before = benchmark.read_grid(changed(**OWN))[0]
    monkeypatch.setattr(grid, "package_digest", lambda *rooms: package_digest(*rooms) if rooms else "spectral changed")
    after = benchmark.read_grid(changed(**OWN))[0]
    own, *networks = [before.key(cell) == after.key(cell) for cell in ("own", "", None)]
    assert before.sources.keys() >= {"", "own"} and not any([own, *networks])
    method_only = [replace(it, sources={"own": it.sources["own"]}) for it in (before, after)]
    same = {cell: len({it.key(cell) for it in method_only}) == 1 for cell in ("own", "saliency", "", None)}
    assert same == {"own": False, "saliency": True, "": True, None: True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods__own": {"method": "own_parts:nothing"}}, "methods.own.method: 'own_parts:nothing' names nothing"),
        ({"methods__own": {"method": "no_parts:own"}}, "methods.own.method: 'no_parts:own' cannot be imported"),
        ({"methods__own": {"method": "own_parts:xs"}}, "is 'own_parts:xs'; expected a name, a class or function"),
        ({"methods__own": {"method": "own_parts:absolute", "n": 1}}, "Unknown key of methods.own 'n'"),
        ({"methods__own": {"method": "own_parts:absolute", "baseline": "zero"}}, "takes no baseline"),
        ({"decoders__own__name": torch.nn.Flatten()}, "decoders.own.name is Flatten.*expected a name, a class"),
    ],
)
def test_what_is_ones_own_is_checked_before_anything_is_computed(changes, message, own_parts):
    with pytest.raises(ValueError, match="(?s)" + message):
        benchmark.read_grid(changed(**OWN, **changes))


def test_a_dask_worker_with_several_threads_is_refused(tmp_path, monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="needs Dask: the extra `cluster`")
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=2))
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    with pytest.raises(ValueError, match=r"worker has 2 threads.*threads_per_worker=1"):
        engine._run_on_worker(FITS[0], ["saliency"], tmp_path)
