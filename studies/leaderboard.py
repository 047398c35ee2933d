"""Which method of attribution is nearest to the truth, over decoders and kinds of signal? The tables of chapter 11.

The cells come from book/results/leaderboard.yml. They lie in .leaderboard (or the folder EEGXAI_LEADERBOARD), and
what is missing there is computed first: about two hours on two cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

import eegxai_support as xs
from eegxai_support.benchmark import experiment_of, read_grid
from eegxai_support.benchmark.engine import weights_path
from eegxai_support.files import expanded
from eegxai_support.scoring import pearson
from studies.form import Study, no_recordings

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "book" / "results" / "leaderboard.yml"
CELLS = expanded(os.environ.get("EEGXAI_LEADERBOARD") or ROOT / ".leaderboard")
CELL = ["regime", "snr_db", "decoder", "seed", "method"]
MAIN = ("RelevanceMassAccuracy_absnorm", "Cosine_absnorm", "Pearson_raw", "Pearson_absnorm", "SSIM_absnorm")
N_REDRAWS, REDRAWN_MAPS = 5, ("saliency", "gradient", "deep_lift")
N_PATTERN, N_GRADIENT = 4000, 60  # trials: the error of a pattern falls with the root of their number


def leaderboard_scores() -> pd.DataFrame:
    """Scores of the maps of correctly classified trials against the truth: mean over the trials of each data set."""
    rows = _cells().query("check == 'accuracy' and trials == 'correct'")
    return _wide(rows, [*CELL, "dataset", "view"])


def leaderboard_trials() -> pd.DataFrame:
    """The same scores, averaged over data sets, by choice of trials and of the class that is explained."""
    rows = _cells().query("check == 'accuracy' and metric in @MAIN")
    return _wide(rows, [*CELL, "trials", "view"])


def leaderboard_randomisation() -> pd.DataFrame:
    """Similarity of maps for a wrong class, and of maps of the network with random weights, to the original maps."""
    rows = _cells().query("check in ['label', 'weights'] and metric in @MAIN")
    return _wide(rows, [*CELL, "check", "view"])


def leaderboard_decoders() -> pd.DataFrame:
    """Accuracy of every decoder on held-out trials beside that of the ideal decoder on the same trials."""
    rows = _cells().query("check == 'decoder'")
    return _wide(rows, CELL[:4])


def leaderboard_unsupported() -> pd.DataFrame:
    """Cells without maps, because the method has no meaning or no rule for the network."""
    cells = pd.DataFrame(_cells().attrs["unsupported"])
    return cells.drop_duplicates(["decoder", "method"])[["decoder", "method", "message"]].reset_index(drop=True)


def leaderboard_suppressor() -> pd.DataFrame:
    """Share of the suppressor channel in gradients and in their Haufe patterns, with the level of chance."""
    return pd.DataFrame([_suppressor_row(fit) for fit in read_grid(CONFIG) if fit.regime == "suppressor"])


def leaderboard_chance() -> pd.DataFrame:
    """What chance reaches on one data set at the highest ratio: both nulls of each method's own maps."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config |= {"seeds": config["seeds"][:1], "snr_db": [max(config["snr_db"])], "n_datasets": 1, "n_null": 100}
    rows = _run(config).query("surrogate_mean.notna() and metric in @MAIN")
    levels = [column for column in rows if column.startswith(("surrogate", "other_trial"))]
    return rows[["regime", "decoder", "method", "view", "metric", "value", *levels]].reset_index(drop=True)


def leaderboard_redraws() -> pd.DataFrame:
    """DeepNet's maps after its weights are redrawn five times; a draw in which every ReLU is shut leaves no map."""
    fits = [fit for fit in read_grid(CONFIG) if fit.decoder == "DeepNet"]
    return pd.DataFrame([row for fit in fits for row in _redraw_rows(fit)])


@cache
def _cells() -> pd.DataFrame:
    return _run(CONFIG)


def _run(config: dict | Path) -> pd.DataFrame:
    table = xs.run_benchmark(config, CELLS, n_jobs=-1)
    if failed := table.attrs["failed"]:
        raise RuntimeError(
            f"{len(failed)} cells failed, first {failed[0]}. Mend what that says and run it again; finished cells are"
            " kept."
        )
    return table


def _wide(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """One column per metric; three digits are more than data sets agree on, and make the files small."""
    wide = rows.pivot_table(index=by, columns="metric", values="value", sort=False).round(3).astype("float32")
    wide = wide.reset_index().rename_axis(columns=None)
    names = wide.select_dtypes(exclude="number").columns
    return wide.astype(dict.fromkeys(names, "category"))


def _suppressor_row(fit) -> dict:
    experiment = experiment_of(fit, weights_path(CELLS, fit))
    trials = experiment.fresh(N_PATTERN, "pattern")
    gradient = np.stack(
        [xs.attribute(experiment.model, trials.signal[:N_GRADIENT], k, "gradient").values.mean(0) for k in range(3)]
    )
    gradient -= gradient.mean(0)  # what tells this class from the others
    pattern = xs.haufe_patterns(gradient, trials.signal)
    row = dict(zip(CELL[:4], (fit.regime, fit.snr_db, fit.decoder, fit.seed), strict=True))
    channel = trials.info.ch_names.index(trials.suppressor)
    for name, maps in {"gradient": gradient, "pattern": pattern}.items():
        mass = _channel_mass(maps)
        row |= {name: mass[channel], f"{name}_chance_high": np.quantile(mass, 0.975)}
    return row | {"chance": 1 / len(mass)}


def _redraw_rows(fit) -> Iterator[dict]:
    experiment = experiment_of(fit, weights_path(CELLS, fit))
    right = experiment.data[0].subset(experiment.predicted[0] == experiment.data[0].label)
    before = {m: xs.attribute(experiment.model, right.signal, right.label, m).values for m in REDRAWN_MAPS}
    for draw in range(N_REDRAWS):
        ((_, redrawn),) = xs.randomize(experiment.model, draw, order="at_once")
        row = dict(zip([*CELL[:4], "draw"], (fit.regime, fit.snr_db, fit.decoder, fit.seed, draw), strict=True))
        row["alive"] = bool(np.ptp(xs.predict(redrawn, right.signal), axis=0).max() > 0)
        for method, maps in before.items():
            after = xs.attribute(redrawn, right.signal, right.label, method).values
            row[method] = np.nanmean([np.nan, *pearson(after, maps)]) if row["alive"] else np.nan
        yield row


def _channel_mass(maps: np.ndarray) -> np.ndarray:
    """Share of each channel in the absolute values, mean over maps (map, channel, time)."""
    mass = np.abs(maps).sum(2)
    return (mass / mass.sum(1, keepdims=True)).mean(0)


STUDY = Study(
    configuration={
        "benchmark": yaml.safe_load(CONFIG.read_text(encoding="utf-8")),
        "redraws": {"n_redraws": N_REDRAWS, "maps": REDRAWN_MAPS},
        "suppressor": {"pattern_trials": N_PATTERN, "gradient_trials": N_GRADIENT},
    },
    tables=dict.fromkeys(
        (
            leaderboard_scores,
            leaderboard_trials,
            leaderboard_randomisation,
            leaderboard_decoders,
            leaderboard_unsupported,
            leaderboard_suppressor,
            leaderboard_redraws,
            leaderboard_chance,
        ),
        no_recordings,
    ),
    takes_hours=True,
)
