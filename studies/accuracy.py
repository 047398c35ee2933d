"""How well do decoders tell imagined movements apart, on trials that they have not seen?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest, false_discovery_control
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

import eegxai_support as xs
from studies.form import Study, defaults, eegbci

SUBJECTS = (*range(1, 21), 42)
SEEDS = (0, 1, 2)
SFREQ, N_TIMES = 80, 160  # 2 s crops of 3 s trials
FIST_RUNS, FEET_RUNS, EXECUTED_RUNS = (4, 8, 12), (6, 10, 14), (3, 7, 11)
NETWORKS = ("EEGNet", "ShallowFBCSPNet")
FIST_EPOCHS, FOUR_CLASS_EPOCHS = 60, 80


def within_subject(subjects=(7, 42, 2), networks=NETWORKS, seeds=SEEDS, epochs=FIST_EPOCHS) -> pd.DataFrame:
    """Left or right fist, imagined, on left-out runs; trained on the other fist runs, executed ones included."""
    rows = []
    for subject in subjects:
        trials = xs.load_eegbci(subject, runs=EXECUTED_RUNS + FIST_RUNS, sfreq=SFREQ)
        tested = trials.metadata["task"] == "imagined"
        for name, seed, fit in _fits(networks, seeds, epochs):
            table = xs.cross_validate(fit, trials, tested=tested)
            rows.append({"subject": subject, "decoder": name, "seed": seed, **_accuracy(table)})
    return pd.DataFrame(rows)


def all_subjects(subjects=SUBJECTS, networks=NETWORKS, seeds=SEEDS[:1], epochs=150) -> pd.DataFrame:
    """Left or right fist, imagined, every subject by itself: trained on two runs, tested on the third.

    150 epochs of 30 trials are as many steps as 60 epochs of the 75 trials in `within_subject`.
    """
    rows = []
    for subject in tqdm(subjects, desc="within each subject"):
        trials = xs.load_eegbci(subject, sfreq=SFREQ)
        for name, _, fit in _fits(networks, seeds, epochs):
            rows.append({"subject": subject, "decoder": name, **_accuracy(xs.cross_validate(fit, trials))})
    return _with_fdr(pd.DataFrame(rows))


def unseen_subjects(subjects=SUBJECTS, networks=NETWORKS, seeds=SEEDS[:1], epochs=25) -> pd.DataFrame:
    """Left or right fist, imagined: trained on three quarters of the subjects, tested on the others."""
    trials = xs.load_eegbci(subjects, sfreq=SFREQ)
    rows = []
    for name, _, fit in _fits(networks, seeds, epochs):
        table = xs.cross_validate(fit, trials, by=folds_of_subjects(trials))
        rows += [{"subject": s, "decoder": name, **_accuracy(group)} for s, group in table.groupby("subject")]
    return _with_fdr(pd.DataFrame(rows))


def four_classes(subjects=(42, 1, 15), networks=NETWORKS, seeds=SEEDS, epochs=FOUR_CLASS_EPOCHS) -> pd.DataFrame:
    """Left fist, right fist, both fists, both feet, imagined: one run of each task left out at a time."""
    rows = []
    for subject in subjects:
        trials = xs.load_eegbci(subject, runs=FIST_RUNS + FEET_RUNS, sfreq=SFREQ)
        for name, seed, fit in _fits(networks, seeds, epochs):
            table = xs.cross_validate(fit, trials, by=pairs_of_runs(trials))
            rows.append({"subject": subject, "decoder": name, "seed": seed, **_accuracy(table)})
    return pd.DataFrame(rows)


def pairs_of_runs(trials: xs.Trials) -> np.ndarray:
    """Return 1 for runs 4 and 6, 2 for 8 and 10, 3 for 12 and 14: each pair holds all four classes."""
    return trials.metadata["run"].to_numpy() // 4


def folds_of_subjects(trials: xs.Trials) -> np.ndarray:
    """Return the fold of each trial, 0 to 3: a quarter of the subjects each."""
    subject = trials.metadata["subject"].to_numpy()
    fold = np.empty(len(trials), int)
    for k, (_, test) in enumerate(GroupKFold(4).split(subject, groups=subject)):
        fold[test] = k
    return fold


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


STUDY = Study(
    configuration={
        "sfreq": SFREQ,
        "n_times": N_TIMES,
        "recipes": xs.RECIPES,
        "defaults": defaults(xs.load_eegbci, xs.decoder_fit, xs.train),
    },
    tables={
        within_subject: eegbci(dict.fromkeys((7, 42, 2), EXECUTED_RUNS + FIST_RUNS)),
        all_subjects: eegbci(dict.fromkeys(SUBJECTS, FIST_RUNS)),
        unseen_subjects: eegbci(dict.fromkeys(SUBJECTS, FIST_RUNS)),
        four_classes: eegbci(dict.fromkeys((42, 1, 15), FIST_RUNS + FEET_RUNS)),
    },
)
