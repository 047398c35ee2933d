"""The tables of chapter 11: which cells of the benchmark each one takes, and what the leaderboard adds to them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

import eegxai_support as xs
from studies import leaderboard

MAIN = ["RelevanceMassAccuracy_absnorm", "Cosine_absnorm", "Pearson_raw", "Pearson_absnorm", "SSIM_absnorm"]
CELL = ["regime", "snr_db", "decoder", "seed", "method"]
CHANCE = ["surrogate_mean", "surrogate_low", "other_trial_mean", "other_trial_low"]


def cells():
    """Return a small grid in which every row has a value of its own."""
    axes = {
        "regime": ["temporal", "spectral"],
        "snr_db": [-5.0, 0.0],
        "decoder": ["DeepNet"],
        "seed": [0, 1],
        "method": ["gradient", "saliency"],
        "dataset": [0, 1],
        "check": ["accuracy", "label", "weights"],
        "trials": ["correct", "all", "predicted"],
        "view": ["scalp"],
        "metric": [*MAIN, "suppressor_mass"],
    }
    rows = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    for decoder in itertools.product(["temporal", "spectral"], [-5.0, 0.0], ["DeepNet"], [0, 1]):
        for metric in ("accuracy", "ideal_accuracy"):
            named = dict(zip(CELL[:4], decoder, strict=True))
            rows.append({**dict.fromkeys(axes, ""), **named, "dataset": -1, "check": "decoder", "metric": metric})
    table = pd.DataFrame(rows).assign(value=np.random.default_rng(0).permutation(len(rows)) * 0.001)
    table[CHANCE] = np.where(table[["check"]] == "accuracy", table[["value"]].to_numpy() + np.arange(1, 5), np.nan)
    message = "no rectifier"
    unsupported = [{"decoder": "Net", "method": "guided_backprop", "seed": s, "message": message} for s in (0, 1)]
    table.attrs |= {"failed": [], "unsupported": unsupported}
    return table


@pytest.fixture
def grid(monkeypatch):
    """Stand in for the benchmark; return its table and the configurations that were asked for."""
    asked, table = [], cells()

    def run_benchmark(config, folder, *, n_jobs):
        asked.append(config)
        return table

    monkeypatch.setattr(xs, "run_benchmark", run_benchmark)
    leaderboard._cells.cache_clear()
    yield table, asked
    leaderboard._cells.cache_clear()


def check(wide, table, keys, chosen, metrics):
    """Compare a table with a mean, computed row by row, of what was chosen; nothing may be missing or left over."""
    expected = {}
    for row in table.to_dict("records"):
        if chosen(row):
            expected.setdefault((tuple(row[key] for key in keys), row["metric"]), []).append(row["value"])
    assert sorted(wide.columns) == sorted([*keys, *metrics])
    found = {
        (tuple(row[key] for key in keys), metric): row[metric] for row in wide.to_dict("records") for metric in metrics
    }
    assert found.keys() == expected.keys() and len(wide) * len(metrics) == len(expected)
    for place, values in expected.items():
        assert found[place] == pytest.approx(np.mean(values), abs=0.0006)


def test_scores_are_those_of_correct_trials_in_each_data_set(grid):
    keys = [*CELL, "dataset", "view"]
    metrics = [*MAIN, "suppressor_mass"]
    check(
        leaderboard.leaderboard_scores(),
        grid[0],
        keys,
        lambda r: (r["check"], r["trials"]) == ("accuracy", "correct"),
        metrics,
    )


def test_scores_by_trials_are_means_over_data_sets(grid):
    keys = [*CELL, "trials", "view"]
    check(
        leaderboard.leaderboard_trials(),
        grid[0],
        keys,
        lambda r: r["check"] == "accuracy" and r["metric"] in MAIN,
        MAIN,
    )


def test_randomisation_holds_both_checks_and_no_accuracy(grid):
    keys = [*CELL, "check", "view"]
    chosen = lambda r: r["check"] in ("label", "weights") and r["metric"] in MAIN  # noqa: E731
    check(leaderboard.leaderboard_randomisation(), grid[0], keys, chosen, MAIN)


def test_decoders_have_one_row_for_each_fit(grid):
    chosen = lambda r: r["check"] == "decoder"  # noqa: E731
    check(leaderboard.leaderboard_decoders(), grid[0], CELL[:4], chosen, ["accuracy", "ideal_accuracy"])


def test_what_is_unsupported_is_named_once(grid):
    table = leaderboard.leaderboard_unsupported()
    assert table.to_dict("records") == [{"decoder": "Net", "method": "guided_backprop", "message": "no rectifier"}]


@pytest.mark.parametrize("name", ["scores", "trials", "randomisation", "decoders", "unsupported", "chance"])
def test_a_failed_cell_stops_each_table_of_cells(grid, name):
    grid[0].attrs["failed"] = [{"decoder": "DeepNet", "message": "out of memory"}]
    with pytest.raises(RuntimeError, match=r"1 cells failed.*out of memory.*run it again; finished cells are kept\."):
        getattr(leaderboard, f"leaderboard_{name}")()


def test_chance_is_of_one_seed_and_data_set_at_the_highest_ratio(grid):
    table, asked = grid
    found = leaderboard.leaderboard_chance()
    (config,) = asked
    assert (config["seeds"], config["snr_db"], config["n_datasets"], config["n_null"]) == ([0], [0], 1, 100)
    rest = leaderboard.STUDY.configuration["benchmark"]
    for key in rest.keys() - {"seeds", "snr_db", "n_datasets", "n_null"}:
        assert config[key] == rest[key]
    expected = table[(table["check"] == "accuracy") & table["metric"].isin(MAIN)]
    assert found.columns.tolist() == ["regime", "decoder", "method", "view", "metric", "value", *CHANCE]
    assert found["value"].tolist() == expected["value"].tolist()
    np.testing.assert_array_equal(found[CHANCE], expected[CHANCE])


class Linear(nn.Module):
    """Three classes as weighted sums of all samples: the weights (class, channel, time) are the gradient."""

    def __init__(self, weight):
        super().__init__()
        self.linear = nn.Linear(weight[0].size, len(weight), bias=False)
        self.linear.weight.data[:] = torch.tensor(weight).flatten(1)

    def forward(self, x):
        return self.linear(x.flatten(1))


def fit(regime, decoder="DeepNet", seed=0):
    return SimpleNamespace(regime=regime, snr_db=0, decoder=decoder, seed=seed, key=lambda: f"{regime}{decoder}{seed}")


def test_suppressor_is_measured_in_what_tells_a_class_from_the_others(monkeypatch):
    trials = xs.simulate("suppressor", n_trials=60, duration=0.5, sfreq=100, seed=0)
    n_channels = trials.signal.shape[1]
    # What all classes share must not count, nor may signs cancel over time.
    weight = np.random.default_rng(0).standard_normal((3, *trials.signal.shape[1:])) + 5
    model, asked = Linear(weight), []
    experiment = SimpleNamespace(model=model, fresh=lambda *how: asked.append(how) or trials)
    given = []

    def haufe_patterns(gradient, signal):
        given.append((gradient.copy(), signal))
        return np.cumsum(gradient, axis=1)

    monkeypatch.setattr(leaderboard, "read_grid", lambda config: [fit("temporal"), fit("suppressor", seed=2)])
    monkeypatch.setattr(leaderboard, "experiment_of", lambda fit, path: experiment)
    monkeypatch.setattr(xs, "haufe_patterns", haufe_patterns)
    (row,) = leaderboard.leaderboard_suppressor().to_dict("records")
    assert [row[key] for key in CELL[:4]] == ["suppressor", 0, "DeepNet", 2] and asked == [(4000, "pattern")]
    contrast = weight - weight.mean(0)
    ((gradient, signal),) = given
    np.testing.assert_allclose(gradient, contrast, atol=1e-5)
    assert signal is trials.signal
    channel = trials.info.ch_names.index(trials.suppressor)
    for name, maps in {"gradient": contrast, "pattern": np.cumsum(contrast, axis=1)}.items():
        share = np.array([[abs(m[c]).sum() / abs(m).sum() for c in range(n_channels)] for m in maps]).mean(0)
        assert row[name] == pytest.approx(share[channel], rel=1e-4)
        assert row[f"{name}_chance_high"] == pytest.approx(np.quantile(share, 0.975), rel=1e-4)
    assert row["chance"] == pytest.approx(1 / n_channels)


def test_redrawn_maps_are_compared_with_those_of_correct_trials(monkeypatch):
    trials = xs.simulate("spectral", n_trials=12, duration=0.5, sfreq=100, seed=0)
    predicted = np.where(np.arange(12) % 3, trials.label, (trials.label + 1) % trials.n_classes)
    kept = np.flatnonzero(predicted == trials.label)
    experiment = SimpleNamespace(model="trained", data=[trials, None], predicted=[predicted, None])

    def values_of(model, method):
        return np.random.default_rng([*model.encode(), len(method)]).standard_normal((len(kept), 4, 10))

    def attribute(model, signal, target, method):
        np.testing.assert_array_equal(signal, trials.signal[kept])
        assert list(target) == list(trials.label[kept])
        return SimpleNamespace(values=values_of(model, method))

    def randomize(model, draw, *, order):
        assert (model, order) == ("trained", "at_once")
        return [("all", f"redrawn {draw}")]

    def predict(model, signal):  # the second draw has shut every rectifier: all trials have one output
        np.testing.assert_array_equal(signal, trials.signal[kept])
        return np.zeros((len(kept), 3)) + (0 if model == "redrawn 1" else np.arange(len(kept))[:, None])

    monkeypatch.setattr(leaderboard, "read_grid", lambda config: [fit("spatial", "EEGNet"), fit("spectral", seed=1)])
    monkeypatch.setattr(leaderboard, "experiment_of", lambda fit, path: experiment)
    for stand_in in (attribute, randomize, predict):
        monkeypatch.setattr(xs, stand_in.__name__, stand_in)
    table = leaderboard.leaderboard_redraws()
    assert table[[*CELL[:4], "draw"]].to_numpy().tolist() == [["spectral", 0, "DeepNet", 1, d] for d in range(5)]
    assert table["alive"].tolist() == [True, False, True, True, True]
    for row in table.to_dict("records"):
        for method in ("saliency", "gradient", "deep_lift"):
            before, after = values_of("trained", method), values_of(f"redrawn {row['draw']}", method)
            r = [pearsonr(b.ravel(), a.ravel()).statistic for b, a in zip(before, after, strict=True)]
            assert row[method] == pytest.approx(np.mean(r) if row["alive"] else np.nan, nan_ok=True)
