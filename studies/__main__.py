"""Compute the tables that the book shows, and write them to book/results.

Numbers only, never a recording. Each file carries its configuration, versions, data hashes and command.

    python -m studies                 # from the recordings, about an hour on two cores
    python -m studies leaderboard     # the leaderboard, about two hours more
    python -m studies within_subject  # one table
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import sys
from importlib.metadata import version
from pathlib import Path

import mne
import yaml

import eegxai_support as xs
from eegxai_support.recordings import write_recorded
from eegxai_support.recordings.cache import cache_folder
from studies import accuracy, concepts, decoders, filters, frequency, leaderboard, maps, shortcut, techniques
from studies.accuracy import (
    EXECUTED_RUNS,
    FEET_RUNS,
    FIST_EPOCHS,
    FIST_RUNS,
    FOUR_CLASS_EPOCHS,
    N_TIMES,
    SFREQ,
    SUBJECTS,
)

RESULTS = Path(__file__).parents[1] / "book" / "results"
FISTS, FOUR_CLASSES = FIST_RUNS + EXECUTED_RUNS, FIST_RUNS + FEET_RUNS
SHORTCUT_RUNS = {subject: FISTS if subject in shortcut.CHOSEN else FIST_RUNS for subject in SUBJECTS}
FREQUENCY_RUNS = {7: FISTS, 42: FISTS + FEET_RUNS}
TABLES = {  # name: (what computes it, subjects, runs or the runs of each subject)
    "within_subject": (accuracy.within_subject, (7, 42, 2), EXECUTED_RUNS + FIST_RUNS),
    "all_subjects": (accuracy.all_subjects, SUBJECTS, FIST_RUNS),
    "unseen_subjects": (accuracy.unseen_subjects, SUBJECTS, FIST_RUNS),
    "four_classes": (accuracy.four_classes, (42, 1, 15), FOUR_CLASSES),
    "trial_map_receipts": (maps.trial_map_receipts, (7,), FISTS),
    "trial_map_agreement": (maps.trial_map_agreement, (7,), FISTS),
    "trial_channel_maps": (maps.trial_channel_maps, (7,), FISTS),
    "randomisation": (maps.randomisation, (42,), FOUR_CLASSES),
    "scores": (maps.scores, (42,), FOUR_CLASSES),
    "frequency_maps": (frequency.frequency_maps, (7, 42), FREQUENCY_RUNS),
    "map_comparison": (frequency.map_comparison, (7, 42), FREQUENCY_RUNS),
    "lateralisation": (frequency.lateralisation, (7, 42), FREQUENCY_RUNS),
    "tutorial_2018": (frequency.tutorial_2018, SUBJECTS, FIST_RUNS),
    "decoders": (decoders.decoders, (), ()),
    "filter_matches": (filters.filter_matches, (7, 42), FISTS),
    "filter_ablation": (filters.filter_ablation, (7, 42), FISTS),
    "concept_filters": (concepts.concept_filters, SUBJECTS, SHORTCUT_RUNS),
    "concept_clusters": (concepts.concept_clusters, SUBJECTS, SHORTCUT_RUNS),
    "concept_topographies": (concepts.concept_topographies, SUBJECTS, SHORTCUT_RUNS),
    "concept_stability": (concepts.concept_stability, SUBJECTS, SHORTCUT_RUNS),
    "concept_regions": (concepts.concept_regions, SUBJECTS, SHORTCUT_RUNS),
    "shortcut_accuracy": (shortcut.shortcut_accuracy, SUBJECTS, SHORTCUT_RUNS),
    "shortcut_maps": (shortcut.shortcut_maps, SUBJECTS, SHORTCUT_RUNS),
    "shortcut_topographies": (shortcut.shortcut_topographies, SUBJECTS, SHORTCUT_RUNS),
    "eye_components": (shortcut.eye_components, SUBJECTS, FIST_RUNS),
    "p300_relevance": (filters.p300_relevance, (), ()),
    "p300_regions": (filters.p300_regions, (), ()),
    "technique_accuracy": (techniques.technique_accuracy, SUBJECTS, FIST_RUNS),
    "technique_sensitivity": (techniques.technique_sensitivity, SUBJECTS, FIST_RUNS),
    "technique_deletion": (techniques.technique_deletion, SUBJECTS, FIST_RUNS),
    "technique_agreement": (techniques.technique_agreement, SUBJECTS, FIST_RUNS),
}
LEADERBOARD = {compute.__name__: (compute, (), ()) for compute in leaderboard.TABLES}
TABLES |= LEADERBOARD


def record(name: str) -> None:
    """Compute a table and write it with what made it."""
    compute, subjects, runs = TABLES[name]
    paths = [
        Path(path)
        for subject in subjects
        for path in mne.datasets.eegbci.load_data(
            subject, runs[subject] if isinstance(runs, dict) else runs, update_path=False, verbose="ERROR"
        )
    ]
    settings = {"sfreq": SFREQ, "n_times": N_TIMES, "recipes": xs.RECIPES}
    if compute.__module__ == maps.__name__:
        settings |= {"window": maps.WINDOW, "epochs": FOUR_CLASS_EPOCHS if runs == FOUR_CLASSES else FIST_EPOCHS}
    if name == "tutorial_2018":
        settings = {"tutorial": frequency.TUTORIAL}
    elif compute.__module__ == frequency.__name__:
        settings |= {"window": maps.WINDOW, "data_sets": frequency.DATA_SETS, "filter_bank": frequency.FILTER_BANK}
    if compute.__module__ == shortcut.__name__:
        settings |= shortcut.CONFIGURATION
    if compute.__module__ == concepts.__name__:
        settings |= concepts.CONFIGURATION
    if compute.__module__ == techniques.__name__:
        settings |= techniques.configuration()
        paths += (cache_folder("DROWSINESS") / "eeg-drowsiness").glob("dataset.mat")
    if name.startswith("p300"):
        settings = {"p300": filters.P300, "regions": filters.REGIONS}
        paths = sorted((cache_folder("BCI2_IIB") / "bci2_iib").glob("*.mat"))
    elif compute.__module__ == filters.__name__:
        settings |= {
            "networks": filters.NETWORKS,
            "bands": filters.BANDS,
            "left_out": filters.LEFT_OUT,
            "window": maps.WINDOW,
        }
    if name in LEADERBOARD:
        settings = {"benchmark": yaml.safe_load(leaderboard.CONFIG.read_text(encoding="utf-8"))}
    defaults = {f.__name__: _defaults(f) for f in (compute, xs.load_eegbci, xs.decoder_fit, xs.train)}
    provenance = {
        "what": compute.__doc__,
        "command": f"python -m studies {name}",
        "configuration": {"subjects": subjects, "runs": runs, **settings, "defaults": defaults},
        "versions": {p: version(p) for p in ("eegxai-support", "braindecode", "captum", "mne", "numpy", "torch")},
        "data_sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
    }
    write_recorded(compute(), RESULTS / f"{name}.parquet", provenance)


def _defaults(function) -> dict:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def main(names: list[str]) -> None:
    """Record the named tables, or all of them."""
    if "leaderboard" in names:
        names = [*(name for name in names if name != "leaderboard"), *LEADERBOARD]
    unknown = set(names) - set(TABLES)
    if unknown:
        sys.exit(f"Unknown table {', '.join(unknown)}; there are {', '.join(TABLES)}.")
    for name in names or (name for name in TABLES if name not in LEADERBOARD):
        print(f"{name}: {TABLES[name][0].__doc__}", flush=True)
        record(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="tables to compute; all but those of the leaderboard by default")
    main(parser.parse_args().names)
