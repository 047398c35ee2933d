"""Independent components of each subject, with what they look like to ICLabel: what relevance is sorted into."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from mne.preprocessing import read_ica
from tqdm import tqdm

from eegxai_support.montages import located
from eegxai_support.report.parts import Parts, fingerprint
from eegxai_support.report.pieces import LINE_WIDTH, line_frequency
from eegxai_support.sources import fit_ica, label_components, remove_components
from eegxai_support.sources.ica import lacking
from eegxai_support.trials import Trials

N_COMPONENTS = 30  # at most: enough for eyes, muscles and a dozen places of the cortex
SAMPLES_PER_WEIGHT = 30  # so that the square matrix of unmixing weights is not fitted to noise
FEWEST_COMPONENTS = 4
MAX_SAMPLES = 2**16  # more make the fit slower, not different
MAX_SFREQ = 250.0  # Hz; ICLabel looks at 1-100 Hz
HIGHPASS = 1.0  # Hz: drifts are no source, and take components
PIECE = 2.0  # s, of a recording without events
COLUMNS = ["subject", "component", "label", "probability", "origin"]

# What helps where band or rate are too narrow, by whether there is a recording beside the trials.
REMEDIES = {
    True: "These are the recording's own, which neither --band nor --resample changes: give the file as it was before"
    " it was filtered or resampled.",
    False: "There are the trials alone: give make_report the recording as well, raw=…, as it was before the filter and"
    " the resampling. The trials may stay as they are.",
}

Recording = mne.io.BaseRaw | mne.BaseEpochs


@dataclass(frozen=True, eq=False)
class Components:
    """What is known of the sources behind some trials.

    Parameters
    ----------
    ica : dict
        subject -> fitted `mne.preprocessing.ICA`, of the trials' channels in their order.
    table : DataFrame
        A row per component: subject, component, label (ICLabel's), probability, origin ("fitted" or "file").
    skipped : dict
        subject -> why it has no components.
    """

    ica: dict = field(default_factory=dict)
    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    skipped: dict = field(default_factory=dict)

    def labels(self, subject) -> np.ndarray:
        """Return the label of each component of a subject, in the ICA's order."""
        rows = self.table[self.table["subject"] == subject].sort_values("component")
        return rows["label"].to_numpy(dtype=object)

    @property
    def digest(self) -> list:
        """What tells these components from others, as JSON holds it."""
        return _digest([self.table, list(self.ica.values())])

    @property
    def reason(self) -> str:
        """Why subjects have no components, each reason once; empty where all have some."""
        return " ".join(dict.fromkeys(map(str, self.skipped.values())))


def fit_components(
    trials: Trials,
    raw: Recording | Sequence[Recording] | Mapping | None = None,
    own: tuple[mne.preprocessing.ICA, pd.DataFrame] | Mapping | None = None,
    *,
    n_components: int = N_COMPONENTS,
    seed: int = 0,
) -> Components:
    """Find and label the independent components of each subject, from the widest band at hand.

    In this order: the components that a file brings with it, the recording or broadband epochs, the trials themselves.
    What cannot be done is said, never raised: a report goes on without.

    Parameters
    ----------
    trials : Trials
        Whose channels the components are to be of.
    raw : Raw or Epochs, a list of them, or a dict from subject to either; optional
        As it was before the filter. Of a recording, at most `MAX_SAMPLES` samples are used, in pieces that are evenly
        spaced; a copy is resampled to `MAX_SFREQ` and high-pass filtered where it is not.
    own : (ICA, DataFrame), or a dict from subject to such a pair; optional
        Fitted and labelled elsewhere; the table has the columns component, label and probability.
    n_components : int
        At most so many, and fewer where the samples are few.
    seed : int

    Returns
    -------
    Components
    """
    subjects = list(pd.unique(trials.metadata["subject"]))
    ica, tables, skipped = {}, [], {}
    for subject in tqdm(subjects, desc="Components", unit="subject", leave=False, delay=2):
        part = trials.subset((trials.metadata["subject"] == subject).to_numpy())
        try:
            mine = _of_subject(own, subject, subjects, "own")
            source = _of_subject(raw, subject, subjects, "raw")
            found, table = _read(mine, part) if mine is not None else _fitted(part, source, n_components, seed)
        # Bad channels, an old file, a package that lacks, numbers that do not converge: whatever it is, the rest of the
        # report does not need components, and its reader needs the reason.
        except Exception as error:
            skipped[subject] = f"{error}" or type(error).__name__
            continue
        ica[subject] = found
        origin = "fitted" if mine is None else "file"
        tables.append(table[["component", "label", "probability"]].assign(subject=subject, origin=origin)[COLUMNS])
    return Components(ica, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS), skipped)


def kept_components(trials: Trials, raw, own, *, seed: int, parts: Parts) -> Components:
    """Return what `fit_components` does, from the disk where it was done before.

    They are read from there the first time, too, so that what comes after gets the same numbers either way.
    """
    question = [fingerprint(trials), _digest(raw), _digest(own), seed]
    key, found = parts.key("components", *question), {}

    def fit() -> dict[str, pd.DataFrame]:
        fitted = found["fitted"] = fit_components(trials, raw, own, seed=seed)
        for number, ica in enumerate(fitted.ica.values()):
            ica.save(_file(parts, key, number), overwrite=True, verbose=False)
        reasons = pd.DataFrame(list(fitted.skipped.items()), columns=["subject", "reason"])
        return {"table": fitted.table, "skipped": reasons, "subjects": pd.DataFrame({"subject": list(fitted.ica)})}

    def read() -> Components:
        frames = parts.frames("components", *question, compute=fit)
        subjects = frames["subjects"]["subject"]
        ica = {name: read_ica(_file(parts, key, k), verbose=False) for k, name in enumerate(subjects)}
        return Components(ica, frames["table"], dict(frames["skipped"].itertuples(index=False)))

    try:
        return read()
    except (OSError, ValueError):  # an ICA's file that is gone or damaged
        fit()
        return read()


def _file(parts: Parts, key: str, number: int) -> Path:
    return parts.folder / f"{key}-{number}-ica.fif"


def _digest(given) -> object:
    """Return what tells recordings and ICAs apart, as JSON holds it."""
    if given is None or isinstance(given, str | int | float):
        return given
    if isinstance(given, Mapping):
        return {str(name): _digest(each) for name, each in given.items()}
    if isinstance(given, list | tuple):
        return [_digest(each) for each in given]
    if isinstance(given, pd.DataFrame):
        return [list(given), given.astype(str).to_numpy()]
    if isinstance(given, mne.preprocessing.ICA):
        return hashlib.sha256(given.unmixing_matrix_.tobytes() + given.pca_components_.tobytes()).hexdigest()
    data = given.get_data(verbose=False)
    about = [given.ch_names, given.info["sfreq"], given.info["highpass"], given.info["lowpass"]]
    return [hashlib.sha256(np.ascontiguousarray(data)).hexdigest(), *about]


def _of_subject(given, subject, subjects: list, name: str):
    """Return what is given of a subject; what is given without a name belongs to the only one."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(name): each for name, each in given.items()}.get(str(subject))
    if len(subjects) > 1:
        raise ValueError(
            f"{name} is of one subject, the trials are of {len(subjects)}. Give a dict from subject to {name}."
        )
    return given


def _read(own: tuple[mne.preprocessing.ICA, pd.DataFrame], trials: Trials):
    ica, table = own
    remove_components(trials, ica, [])  # refuses other channels, or another order, with the names of both
    if len(table) != ica.n_components_:
        raise ValueError(f"The file labels {len(table)} components; its ICA has {ica.n_components_}.")
    return ica, table


def _fitted(trials: Trials, source, n_components: int, seed: int):
    """Fit and label the components of a subject's recording, or of the trials where there is none."""
    broadband = trials.rereference() if source is None else _epochs(source, trials)
    if why := lacking(broadband.info):
        raise ValueError(f"{why} {REMEDIES[source is not None]}")
    n_samples = len(broadband) * len(broadband.times)
    n_channels = len(trials.info.ch_names)
    n = min(n_components, n_channels - 1, int(np.sqrt(n_samples / SAMPLES_PER_WEIGHT)))
    if n < FEWEST_COMPONENTS:
        raise ValueError(
            f"{n_channels} channels and {n_samples} samples give {max(n, 0)} components; expected at least"
            f" {FEWEST_COMPONENTS}, which take as many channels and one more, and"
            f" {SAMPLES_PER_WEIGHT * FEWEST_COMPONENTS**2} samples."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "label_components will refuse")  # before the fit, which takes long
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # of MNE, on the filter of short epochs
        try:
            ica = fit_ica(broadband, n_components=n, seed=seed)
        except ValueError as error:
            if "principal components" not in str(error) and "rank" not in str(error):
                raise
            ica = fit_ica(broadband, seed=seed)
        return ica, label_components(ica, broadband)


def _epochs(source: Recording | Sequence[Recording], trials: Trials) -> mne.BaseEpochs:
    """Return pieces of a recording of the trials' channels, in their order, high-pass filtered and not too many."""
    parts = list(source) if isinstance(source, list | tuple) else [source]
    made = [_pieces(part, trials, MAX_SAMPLES // len(parts)) for part in parts]
    return made[0] if len(made) == 1 else mne.concatenate_epochs(made, verbose=False)


def _pieces(source: Recording, trials: Trials, max_samples: int) -> mne.BaseEpochs:
    names = trials.info.ch_names
    written = dict(zip(located(source.info).ch_names, source.ch_names, strict=True))
    if missing := [name for name in names if name not in written]:
        raise ValueError(f"The recording lacks channels of the trials: {', '.join(missing)}.")
    copy = source.copy().load_data().pick([written[name] for name in names], verbose=False)
    copy.rename_channels({written[name]: name for name in names if written[name] != name}, verbose=False)
    copy.set_montage(trials.info.get_montage(), on_missing="ignore", verbose=False)
    copy.info["bads"] = []  # the trials hold these channels: whoever made them has taken or repaired them
    if copy.info["highpass"] < HIGHPASS:
        copy.filter(HIGHPASS, None, verbose="ERROR")
    if copy.info["sfreq"] > MAX_SFREQ:
        copy.resample(MAX_SFREQ, verbose=False)
    if isinstance(copy, mne.io.BaseRaw):
        copy = mne.make_fixed_length_epochs(copy, PIECE, preload=True, proj=False, verbose=False)
    copy = _without_mains(copy, trials)
    n_kept = max(1, min(len(copy), max_samples // len(copy.times)))
    return copy[np.linspace(0, len(copy) - 1, n_kept).astype(int)]


def _without_mains(epochs: mne.BaseEpochs, trials: Trials) -> mne.BaseEpochs:
    """Filter out the mains where the trials do not hold them.

    They have a source and a phase at every electrode, and take a third of the components, 12 of 30 in EEGBCI's S007,
    away from what the trials do hold.
    """
    signal = epochs.get_data(copy=False, verbose=False)
    mains = line_frequency(signal, epochs.info)
    if mains is None or line_frequency(trials.signal, trials.info) is not None:
        return epochs
    sfreq = epochs.info["sfreq"]
    return epochs.apply_function(
        lambda data: mne.filter.notch_filter(data, sfreq, mains, notch_widths=2 * LINE_WIDTH, verbose="ERROR"),
        channel_wise=False,
        verbose=False,
    )
