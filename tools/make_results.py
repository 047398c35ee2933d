"""Compute the real-data tables and class maps that the book shows, and write them to book/results.

Numbers only, never a recording. Each file carries its configuration, versions, data hashes and the command that made it.

    python tools/make_results.py                 # everything, about half an hour on two cores
    python tools/make_results.py within_subject  # one table
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from scipy.stats import binomtest, false_discovery_control
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

import eegxai_support as xs
from eegxai_support.recordings import write_recorded

RESULTS = Path(__file__).parents[1] / "book" / "results"
SUBJECTS = (*range(1, 21), 42)
SEEDS = (0, 1, 2)
SFREQ, N_TIMES = 80, 160  # 2 s crops of 3 s trials
NETWORKS = ("EEGNet", "ShallowFBCSPNet")


def within_subject(subjects=(7, 42, 2), networks=NETWORKS, seeds=SEEDS) -> pd.DataFrame:
    """Left or right fist, imagined, on left-out runs; trained on the other fist runs, executed ones included."""
    rows = []
    for subject in subjects:
        trials = xs.load_eegbci(subject, runs=(3, 7, 11, 4, 8, 12), sfreq=SFREQ)
        tested = trials.metadata["task"] == "imagined"
        for name, seed, fit in _fits(networks, seeds, epochs=60):
            table = xs.cross_validate(fit, trials, tested=tested)
            rows.append({"subject": subject, "decoder": name, "seed": seed, **_accuracy(table)})
    return pd.DataFrame(rows)


def all_subjects(subjects=SUBJECTS, networks=NETWORKS) -> pd.DataFrame:
    """Left or right fist, imagined, every subject by itself: trained on two runs, tested on the third."""
    rows = []
    for subject in tqdm(subjects, desc="within each subject"):
        trials = xs.load_eegbci(subject, sfreq=SFREQ)
        # 150 epochs of 30 trials are as many steps as 60 epochs of the 75 trials in `within_subject`.
        for name, _, fit in _fits(networks, seeds=(0,), epochs=150):
            rows.append({"subject": subject, "decoder": name, **_accuracy(xs.cross_validate(fit, trials))})
    return _with_fdr(pd.DataFrame(rows))


def unseen_subjects(subjects=SUBJECTS, networks=NETWORKS) -> pd.DataFrame:
    """Left or right fist, imagined: trained on three quarters of the subjects, tested on the others."""
    trials = xs.load_eegbci(subjects, sfreq=SFREQ)
    subject = trials.metadata["subject"].to_numpy()
    fold = np.empty(len(trials), int)
    for k, (_, test) in enumerate(GroupKFold(4).split(subject, groups=subject)):
        fold[test] = k
    rows = []
    for name, _, fit in _fits(networks, seeds=(0,), epochs=25):
        table = xs.cross_validate(fit, trials, by=fold)
        rows += [{"subject": s, "decoder": name, **_accuracy(group)} for s, group in table.groupby("subject")]
    return _with_fdr(pd.DataFrame(rows))


def four_classes(subjects=(42, 1, 15), networks=NETWORKS, seeds=SEEDS) -> pd.DataFrame:
    """Left fist, right fist, both fists, both feet, imagined: one run of each task left out at a time."""
    rows = []
    for subject in subjects:
        trials = xs.load_eegbci(subject, runs=(4, 8, 12, 6, 10, 14), sfreq=SFREQ)
        for name, seed, fit in _fits(networks, seeds, epochs=80):
            table = xs.cross_validate(fit, trials, by=_pair(trials))
            rows.append({"subject": subject, "decoder": name, "seed": seed, **_accuracy(table)})
    return pd.DataFrame(rows)


def _pair(trials) -> np.ndarray:
    """Runs 4 and 6, 8 and 10, 12 and 14 hold all four classes together."""
    return trials.metadata["run"].to_numpy() // 4


def _fits(networks, seeds, epochs):
    yield "CSP+LDA", 0, xs.csp_lda()
    for name in networks:
        for seed in seeds:
            yield name, seed, xs.decoder_fit(name, epochs=epochs, n_times=N_TIMES, seed=seed)


def _accuracy(table: pd.DataFrame) -> dict[str, float]:
    right = int((table["label"] == table["predicted"]).sum())
    interval = binomtest(right, len(table)).proportion_ci(method="wilson")
    group = table["subject"].astype(str) + "-" + table["run"].astype(str)
    return {
        "n_trials": len(table),
        "accuracy": right / len(table),
        "low": interval.low,
        "high": interval.high,
        "p_value": xs.permutation_p_value(table["label"], table["predicted"], group),
    }


def _with_fdr(table: pd.DataFrame) -> pd.DataFrame:
    adjusted = table.groupby("decoder")["p_value"].transform(lambda p: false_discovery_control(p))
    return table.assign(p_fdr=adjusted)


FIST_RUNS, FEET_RUNS, EXECUTED_RUNS = (4, 8, 12), (6, 10, 14), (3, 7, 11)
TABLES = {  # name: (what computes it, subjects, runs)
    "within_subject": (within_subject, (7, 42, 2), FIST_RUNS + EXECUTED_RUNS),
    "all_subjects": (all_subjects, SUBJECTS, FIST_RUNS),
    "unseen_subjects": (unseen_subjects, SUBJECTS, FIST_RUNS),
    "four_classes": (four_classes, (42, 1, 15), FIST_RUNS + FEET_RUNS),
}


def record(name: str) -> None:
    """Compute a table and write it with what made it."""
    compute, subjects, runs = TABLES[name]
    paths = [
        Path(path)
        for subject in subjects
        for path in mne.datasets.eegbci.load_data(subject, runs, update_path=False, verbose="ERROR")
    ]
    provenance = {
        "what": compute.__doc__,
        "command": f"python tools/make_results.py {name}",
        "configuration": {"subjects": subjects, "runs": runs, "sfreq": SFREQ, "n_times": N_TIMES, "recipes": xs.RECIPES},
        "versions": {p: version(p) for p in ("eegxai-support", "braindecode", "captum", "mne", "numpy", "torch")},
        "data_sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
    }
    write_recorded(compute(), RESULTS / f"{name}.parquet", provenance)


def main(names: list[str]) -> None:
    """Record the named tables, or all of them."""
    unknown = set(names) - set(TABLES)
    if unknown:
        sys.exit(f"Unknown table {', '.join(unknown)}; there are {', '.join(TABLES)}.")
    for name in names or TABLES:
        print(f"{name}: {TABLES[name][0].__doc__}", flush=True)
        record(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="tables to compute; all of them by default")
    main(parser.parse_args().names)
