"""How often does the verdict name what a decoder uses? It is asked about decoders whose answer is known.

Honest decoders tell classes apart by a source in the cortex. Others read blinks, glances, muscles, the mains, a drift,
an edge of the window or a loose electrode, which go along with the class; were tested on samples that they had been
trained on; or know nothing, since labels were permuted, nothing was trained, or a few trials were learnt by heart. The
rules of the verdict were made on one half, "made on"; "judged" are others, on which nothing was chosen: other subjects,
other electrodes, other networks, other draws. A decoder that is at chance though something was there for it has learnt
nothing: the right answer is then "nothing", and it counts as no decoder of its kind.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

import eegxai_support as xs
from eegxai_support.files import expanded
from eegxai_support.montages import MONTAGE
from eegxai_support.provenance import PACKAGE, meaning
from eegxai_support.recordings.eegbci import files_of
from eegxai_support.report.judging import judge_decoder
from eegxai_support.report.parts import Parts
from eegxai_support.report.verdict import source_verdict
from eegxai_support.simulate.shortcuts import SHORTCUTS, add_shortcut
from eegxai_support.trials import Trials
from studies.form import Study, defaults, eegbci

ROOT = Path(__file__).parents[1]
CELLS = expanded(os.environ.get("EEGXAI_BATTERY") or ROOT / ".battery")
ANSWERS = {
    "honest": "brain",
    "blinks": "eyes",
    "glances": "eyes",
    "muscle": "muscle",
    "line": "line",
    "drift": "drift",
    "edge": "edge",
    "channel": "channel",
    "leak": "leak",
    "permuted": "nothing",
    "overfitted": "nothing",
    "untrained": "nothing",
}
# Networks are trained on crops of two thirds where that leaves a second. An edge of the window that is in no crop could
# not be read, so windows are too short for crops.
RUNS, SFREQ, SECONDS, BAND = (4, 8, 12), 160.0, 1.4, (0.3, 79.0)
N_TRIALS, N_LEAKED = 150, 200  # in three runs; windows that overlap
BETWEEN = (
    "Fp1 Fp2 AF3 AF4 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 PO3 PO4 O1 Oz O2"
)
ROWS = (
    "Fpz Fp1 Fp2 AF7 AF8 F7 F5 F3 Fz F4 F6 F8 FT7 FC3 FCz FC4 FT8 T7 C5 C3 Cz C4 C6 T8 TP7 CP3 CPz CP4 TP8 P7 P3 Pz P4"
    " P8 POz O1 Oz O2"
)
HALVES = {
    "made on": {
        "subjects": tuple(range(1, 11)),
        "ch_names": tuple(BETWEEN.split()),
        "networks": ("EEGNet", "ShallowFBCSPNet"),
        "n_honest": 16,
        "n_others": 5,
        "seed": 0,
    },
    "judged": {
        "subjects": (*range(11, 21), 42),
        "ch_names": tuple(ROWS.split()),
        "networks": ("EEGITNet", "TSception", "Deep4Net"),
        "n_honest": 130,
        "n_others": 36,
        "seed": 10_000,
    },
}
EPOCHS = 25
REGIMES = {"temporal": {"latencies": (0.45, 0.95)}, "spectral": {"frequencies": (10.0, 22.0)}, "spatial": {}}
PLACES = ("C3", "C4", "Fz", "Pz", "P3", "P4", "Oz", "Cz")
# Of the source of an honest decoder, drawn evenly. A recording has strong eyes in its variance, and sources are seen
# beside them.
SNR_DB = {"simulated": (-6.0, 2.0), "recorded": (-18.0, -8.0)}
STRENGTH = 0.7, 1.5  # of a shortcut
SILENT_DB = -120.0  # where there is no source
OVERLAP, LEAKED_STRETCH = 0.9, 10  # s of 1.4 that neighbours share; windows of one label
N_OVERFITTED, OVERFITTED_EPOCHS = 30, 60


@dataclass(frozen=True)
class Cell:
    """One decoder whose answer is known.

    Parameters
    ----------
    half, kind, network : str
    number : int
        Of its kind.
    subject : int or None
        Of EEGBCI, whose recording is the background; None for a simulated one.
    seed : int
        Of all that is drawn.
    """

    half: str
    kind: str
    number: int
    network: str
    subject: int | None
    seed: int


def cells(half: str) -> list[Cell]:
    """Return the decoders of a half: every other background is simulated, networks and subjects take turns."""
    made, found = HALVES[half], []
    for k, kind in enumerate(ANSWERS):
        for number in range(made["n_honest"] if kind == "honest" else made["n_others"]):
            network = made["networks"][number % len(made["networks"])]
            turn = number // 2 + k
            subject = made["subjects"][turn % len(made["subjects"])] if (number + number // 6) % 2 else None
            found.append(Cell(half, kind, number, network, subject, made["seed"] + 100 * number + k))
    return found


def battery_made_on() -> pd.DataFrame:
    """Verdict on each decoder of the half that the rules were made on.

    half, kind, number, network, subject and seed say which decoder it is, answer what is right; of the decoder there
    are n_trials, accuracy, balanced_accuracy, chance and p, of the verdict source, rule and number_of_rule.
    """
    return _verdicts("made on")


@cache
def _verdicts(half: str) -> pd.DataFrame:
    return pd.DataFrame(Parallel(n_jobs=-1)(delayed(judged)(cell) for cell in cells(half)))


def judged(cell: Cell) -> dict:
    """Return the verdict on a decoder: the rules of today on its numbers, which may lie on the disk."""

    def compute() -> dict[str, pd.DataFrame]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of maps that are zero, of components that do not converge
            verdict = judge_decoder(**asked_of(cell), seed=cell.seed)
        said = pd.DataFrame([{"source": verdict.source, "rule": verdict.rule, "number": verdict.number}])
        parts = verdict.tables.get("interventions", pd.DataFrame())
        return {"decoder": pd.DataFrame([verdict.decoder]), "said": said, "parts": parts}

    found = Parts(CELLS, asdict(cell), sources_but_rules()).frames("judged", compute=compute)
    decoder, said = (found[name].iloc[0].to_dict() for name in ("decoder", "said"))
    if len(found["parts"]):  # else a rule that needs none had decided
        said = source_verdict({"interventions": found["parts"]}, {"decoder": decoder})
    kept = {name: decoder[name] for name in ("n_trials", "accuracy", "balanced_accuracy", "chance", "p")}
    verdict = {"source": said["source"], "rule": said["rule"], "number_of_rule": said["number"]}
    return {**asdict(cell), "answer": ANSWERS[cell.kind], **kept, **verdict}


@cache
def sources_but_rules() -> str:
    """Return a hash of all sources that decide the numbers of a cell; rules on parts of the signal come afterwards."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "verdict.py" and path.parent.name != "viz"]
    return hashlib.sha256("".join(meaning(path.read_bytes()) for path in paths).encode()).hexdigest()


def asked_of(cell: Cell) -> dict:
    """Return what the verdict is asked of a decoder: the arguments of `judge_decoder`."""
    rng = np.random.default_rng(cell.seed)
    if cell.kind == "leak":
        return {"model": cell.network, "epochs": EPOCHS, **_leaking(cell, rng)}
    planted = _planted(cell, rng)
    if cell.kind in SHORTCUTS:
        strength = rng.uniform(*STRENGTH)
        planted = add_shortcut(planted, cell.kind, strength=strength, seed=cell.seed)
    if cell.kind == "permuted":
        planted = permuted(planted, rng)
    if cell.kind in ("overfitted", "untrained"):
        return _given(cell, planted)
    return {"model": cell.network, "trials": planted, "epochs": EPOCHS}


def _planted(cell: Cell, rng: np.random.Generator) -> Trials:
    """Return trials with a source in the cortex for honest decoders, and for those whose labels are permuted."""
    regime = str(rng.choice(list(REGIMES)))
    place = str(rng.choice([name for name in PLACES if name in HALVES[cell.half]["ch_names"]]))
    options = dict(REGIMES[regime])
    if regime == "spatial":
        options["sources"] = ("C3", "C4") if place not in ("Fz", "Pz") else ("Fz", "Pz")
    else:
        options["source"] = place
    snr_db = (
        rng.uniform(*SNR_DB["simulated" if cell.subject is None else "recorded"])
        if cell.kind in ("honest", "permuted")
        else SILENT_DB
    )
    return xs.simulate(regime, snr_db=snr_db, seed=cell.seed, **options, **_background(cell, rng))


def _background(cell: Cell, rng: np.random.Generator) -> dict:
    if cell.subject is not None:
        return {"background": recorded(cell.subject, HALVES[cell.half]["ch_names"]), "n_trials": N_TRIALS}
    rates = {"blink_rate": rng.uniform(0, 0.2), "muscle_rate": rng.uniform(0, 0.2)}
    made = {"n_trials": N_TRIALS, "sfreq": SFREQ, "duration": SECONDS, "n_runs": len(RUNS)}
    return {**made, "ch_names": HALVES[cell.half]["ch_names"], **rates}


@cache
def recorded(subject: int, ch_names: tuple[str, ...], overlap: float = 0.0) -> Trials:
    """Return windows of a subject's runs, whatever happened in them, in µV and average reference."""
    parts = []
    for run in RUNS:
        raw = mne.io.read_raw_edf(files_of((subject,), (run,))[subject, run], preload=True, verbose="ERROR")
        mne.datasets.eegbci.standardize(raw)
        raw.set_montage(MONTAGE, verbose=False).filter(*BAND, verbose="ERROR")
        raw.pick(list(ch_names)).set_eeg_reference("average", verbose="ERROR")
        raw.info["line_freq"] = 60.0
        made = mne.make_fixed_length_epochs(raw, SECONDS, overlap=overlap, preload=True, verbose="ERROR")
        onset = made.events[:, 0] / SFREQ
        with mne.utils.use_log_level("ERROR"):
            made.metadata = pd.DataFrame({"subject": subject, "session": 1, "run": run, "onset": onset})
        parts.append(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xs.from_epochs(parts)


def permuted(trials: Trials, rng: np.random.Generator) -> Trials:
    """Return the trials with labels that are permuted within each run."""
    label, run = trials.label.copy(), trials.metadata["run"].to_numpy()
    for each in np.unique(run):
        label[run == each] = rng.permutation(label[run == each])
    return replace(trials, label=label)


def _given(cell: Cell, planted: Trials) -> dict:
    """Return a network that was not trained, or one that learnt a few trials by heart, and trials of another run."""
    ready, run = planted.standardise(), planted.metadata["run"].to_numpy()
    last = run == run.max()
    model = xs.build_decoder(cell.network, ready, seed=cell.seed, **xs.recipe(cell.network, SFREQ))
    seen = ready.subset(np.flatnonzero(~last)[:N_OVERFITTED])
    if cell.kind == "overfitted":
        xs.train(model, seen, epochs=OVERFITTED_EPOCHS, seed=cell.seed)
    return {"model": model, "trials": seen, "test": ready.subset(last)}


def _leaking(cell: Cell, rng: np.random.Generator) -> dict:
    """Return trials without a source that have twins in other groups: windows that overlap, or every trial twice.

    Neighbours share a label, as they do where windows are cut out of longer trials, and groups are dealt like cards.
    """
    if cell.subject is not None:
        trials = recorded(cell.subject, HALVES[cell.half]["ch_names"], overlap=OVERLAP).subset(np.arange(N_LEAKED))
        stretch = np.arange(len(trials)) // LEAKED_STRETCH
        label = rng.permutation(np.arange(stretch[-1] + 1) % 2)[stretch]
        trials = replace(trials, label=label, class_names=("left", "right"))
    else:
        once = _planted(cell, rng)
        trials = xs.concatenate([once, once])
    deal = rng.permutation(np.arange(len(trials)) % len(RUNS))
    return {"trials": replace(trials, metadata=trials.metadata.assign(deal=deal)), "group": "deal"}


STUDY = Study(
    configuration={
        "halves": HALVES,
        "answers": ANSWERS,
        "windows": {
            "runs": RUNS,
            "sfreq": SFREQ,
            "seconds": SECONDS,
            "band": BAND,
            "n_trials": N_TRIALS,
            "n_leaked": N_LEAKED,
        },
        "sources": {"regimes": REGIMES, "places": PLACES, "snr_db": SNR_DB, "silent_db": SILENT_DB},
        "strength": STRENGTH,
        "epochs": EPOCHS,
        "overfitted": {"n_trials": N_OVERFITTED, "epochs": OVERFITTED_EPOCHS},
        "defaults": defaults(judge_decoder, add_shortcut),
    },
    tables={battery_made_on: eegbci(dict.fromkeys(HALVES["made on"]["subjects"], RUNS))},
    takes_hours=True,
)
