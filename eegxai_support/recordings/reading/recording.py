"""From the files of a recording to trials, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from eegxai_support.files import expanded
from eegxai_support.recordings.own import MICROVOLT, from_epochs
from eegxai_support.recordings.reading.channels import alike, excluded, placed, referenced, renamed, typed
from eegxai_support.recordings.reading.cutting import Cut, Part, cut_epochs, cut_raw, enough
from eegxai_support.recordings.reading.events import ask, chosen, class_names, events_of
from eegxai_support.recordings.reading.groups import grouped, origin
from eegxai_support.recordings.reading.opened import digests, existing, files_of, noted, opened, sources
from eegxai_support.trials import Trials, unknown_name, with_usual_names


@dataclass(frozen=True, eq=False)
class Recording:
    """Trials of a recording, and all that happened to it on the way.

    Parameters
    ----------
    trials : Trials
        Of all files. Metadata: subject, session, run, the onset of each event in seconds from the beginning of its file
        where that is known, further columns that the file has of its events or epochs, and blocks where asked for.
    by_subject : dict
        subject -> `mne.io.BaseRaw` or `mne.BaseEpochs`, the widest band at hand, for independent components: the
        recordings one after the other, renamed, placed and re-referenced as the trials are, in volts, but neither
        filtered nor resampled, with the channels that are no EEG; of epochs, the epochs before these were filtered,
        resampled or cropped.
    notes : tuple of str
        What was renamed, left out, guessed, re-referenced, filtered, resampled, warned of: a sentence each.
    files : tuple of (str, str)
        Each file that was read, with its SHA-256.
    dropped : pandas.DataFrame
        How many events of a class became no trial, and why: the columns class, reason, n.
    """

    trials: Trials
    by_subject: dict[int | str, mne.io.BaseRaw | mne.BaseEpochs]
    notes: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    dropped: pd.DataFrame

    @cached_property
    def raw(self) -> mne.io.BaseRaw | mne.BaseEpochs:
        """The recordings of all subjects one after the other."""
        return _joined(list(self.by_subject.values()))


def read_recording(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    events: Mapping[str, int] | None = None,
    annotations: Mapping[str, str] | Iterable[str] | None = None,
    event_file: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: tuple[float | None, float | None] | None = None,
    band: tuple[float | None, float | None] | None = None,
    resample: float | None = None,
    reference: str | Iterable[str] | None = None,
    montage: str | os.PathLike | None = None,
    rename: Mapping[str, str] | None = None,
    exclude: Iterable[str] = (),
    unit: str = "V",
    group: str | None = None,
    n_blocks: int = 5,
) -> Recording:
    r"""Make trials of a recording in any format that MNE reads, and note what was done to it.

    In this order: channels are renamed; those whose names say that they are no EEG are typed so; others are left out;
    electrodes get positions; the reference is changed; then, of a continuous recording, a copy of the EEG is filtered
    (MNE's zero-phase FIR filter), resampled and cut. Trials that overlap an annotation that begins with "bad" are left
    out.

    Parameters
    ----------
    paths : path or iterable of path
        Recordings or files of epochs, one a run: FIF, EEGLAB's .set, BrainVision's .vhdr, EDF, BDF, GDF and what else
        MNE reads; a path of mne-bids or the folder of a BIDS data set, of one of its subjects or sessions.
    events : mapping of str to int, optional
        Classes by their code in the stimulus channel, in annotations that are numbers ("769", "Stimulus/S  1"), in
        `event_file`, or in epochs.
    annotations : iterable of str, or mapping of str to str, optional
        Classes by the names of annotations, of the column trial_type of a table, or of epochs; a mapping gives them
        names of their own, ``{"left fist": "T1", "right fist": "T2"}``. Without either, epochs
        keep the classes that their file names; a continuous recording is refused, with what there is to choose from.
    event_file : path or iterable of path, optional
        Where the events stand if not in the recording: -eve.fif, .eve or .txt of MNE, whose samples are counted as in
        the recording, or a .tsv with the columns onset (s) and trial_type or value. One for each of `paths`.
    tmin, tmax : float, optional
        The window in seconds after the event. The sample at `tmax` is left out: 3 s at 80 Hz are 240 samples. A
        continuous recording needs `tmax` and begins at the event by default; epochs stay as long as they are.
    baseline : (float or None, float or None), optional
        The mean of this part of the window is subtracted, by channel and trial; both ends in seconds, inside of it.
    band : (float or None, float or None), optional
        Edges of the pass-band in Hz; None leaves that side open. Epochs are too short to be filtered without a trace at
        their ends, which is warned of.
    resample : float, optional
        Sampling rate in Hz, at most that of the recording, which has nothing to add above.
    reference : "average" or names of channels, optional
        By default the recording's own. Bad channels do not count in the average.
    montage : str or path, optional
        Positions: the name of a montage of MNE, or a file of positions. Names of MNE before 1.13 are taken too, such as
        standard_1020 for colin27_1020. By default those of the file or, where it has none, those of the electrodes'
        10-05 names.
    rename : mapping of str to str, optional
        New name of channels by their name in the file.
    exclude : iterable of str
        Channels to leave out, by their new names.
    unit : {"V", "mV", "uV", "nV", "standardised"}
        What the numbers in the file are; see `from_epochs`.
    group : str, optional
        What may not stand on both sides of a split, to be checked: "run", "subject" or another column of the metadata
        has to have two values at least; "blocks" adds the column blocks, which cuts the trials in their order into
        `n_blocks` parts, for a single long run.
    n_blocks : int
        How many blocks.

    Returns
    -------
    Recording

    Raises
    ------
    FileNotFoundError
        A file that is not there.
    ModuleNotFoundError
        A format or a BIDS folder needs a package that is not installed; the message has its ``pip install``.
    ValueError
        Everything else that cannot be used: what was given, what was expected and what to do.

    Warns
    -----
    UserWarning, RuntimeWarning
        What `from_epochs` and the readers of MNE warn of; it stands in the notes, too.

    Examples
    --------
    >>> recording = xs.read_recording(  # doctest: +SKIP
    ...     ["run1_raw.fif", "run2_raw.fif"], event_file=["run1-eve.fif", "run2-eve.fif"],
    ...     events={"13 Hz": 2, "17 Hz": 4, "21 Hz": 3}, tmin=2, tmax=5, band=(5, 45), group="run"
    ... )
    >>> print(*recording.notes, recording.dropped, sep="\n")  # doctest: +SKIP
    """
    cut = Cut(tmin, tmax, baseline, band, resample)
    wanted = class_names(events, annotations)
    if unit != "standardised" and unit not in (*MICROVOLT, "µV", "μV"):
        raise unknown_name("unit", unit, [*MICROVOLT, "standardised"])
    notes = []
    paths = sources(paths)
    event_files = _event_files(event_file, paths)
    insts = [opened(path, notes) for path in paths]
    continuous = _are_continuous(insts, paths, event_file)
    files = [file for inst, path in zip(insts, paths, strict=True) for file in files_of(path, inst)]
    for inst in insts:
        renamed(inst, rename, notes)
        typed(inst, notes)
        excluded(inst, exclude, notes)
        placed(inst, montage, notes)
    alike(insts, paths, notes)
    if continuous and wanted is None:
        raise ask(insts, event_files, paths)
    for inst, path in zip(insts, paths, strict=True):
        referenced(inst, path, reference, notes)
    who = origin(insts, paths, notes)
    if continuous:
        listed = [events_of(inst, file, names=events is None) for inst, file in zip(insts, event_files, strict=True)]
        tables = chosen(listed, wanted, paths)
        classes = list(wanted)
        parts = [cut_raw(*each, classes, cut, notes) for each in zip(insts, tables, paths, strict=True)]
    else:
        parts, classes = cut_epochs(insts, paths, wanted, cut, notes)
    dropped = enough(parts, classes)
    for part, (_, row) in zip(parts, who.iterrows(), strict=True):
        if part.epochs is not None:
            with mne.utils.use_log_level("WARNING"):
                part.epochs.metadata = _with(part.epochs, row)
    with noted(notes):
        trials = from_epochs([part.epochs for part in parts if part.epochs is not None], unit=unit)
    trials = replace(trials, metadata=grouped(trials, group, n_blocks, notes))
    return Recording(
        trials=trials,
        by_subject=_by_subject(parts, who["subject"], unit, notes),
        notes=tuple(dict.fromkeys(notes)),
        files=digests([*files, *filter(None, event_files)]),
        dropped=dropped,
    )


def _event_files(event_file, paths: list[Path]) -> list[Path | None]:
    if event_file is None:
        return [None] * len(paths)
    files = [event_file] if isinstance(event_file, str | os.PathLike) else list(event_file)
    if len(files) != len(paths):
        raise ValueError(f"There are {len(files)} event files for {len(paths)} recordings; expected one for each.")
    return [existing(expanded(file)) for file in files]


def _are_continuous(insts: list, paths: list[Path], event_file) -> bool:
    kinds = [isinstance(inst, mne.io.BaseRaw) for inst in insts]
    if len(set(kinds)) > 1:
        raise ValueError(
            f"{paths[kinds.index(True)]} is continuous and {paths[kinds.index(False)]} holds epochs; expected one"
            " kind. Read them one by one, and join the trials with xs.concatenate."
        )
    if event_file is not None and not kinds[0]:
        raise ValueError(f"{paths[0]} holds epochs, whose events stand in it; leave event_file out.")
    return kinds[0]


def _with(epochs: mne.BaseEpochs, row: pd.Series) -> pd.DataFrame:
    """Return the metadata of epochs with subject, session and run where they have none of their own."""
    metadata = pd.DataFrame(index=range(len(epochs))) if epochs.metadata is None else epochs.metadata
    metadata = with_usual_names(metadata)
    return metadata.assign(**{name: value for name, value in row.items() if name not in metadata})


def _by_subject(parts: list[Part], subjects: Iterable, unit: str, notes: list[str]) -> dict:
    """Return the recordings of each subject; epochs of one file may be of several."""
    found: dict[int | str, list] = {}
    for part, subject in zip(parts, subjects, strict=True):
        if isinstance(part.wide, mne.io.BaseRaw):
            found.setdefault(subject, []).append(part.wide)
        elif part.epochs is not None:
            of_epoch = part.epochs.metadata["subject"].to_numpy()
            for each in pd.unique(of_epoch):
                found.setdefault(each, []).append(part.wide[np.flatnonzero(of_epoch == each)])
    return {subject: _in_volts(_joined(insts), unit, notes) for subject, insts in found.items()}


def _joined(insts: list):
    if len(insts) == 1:
        return insts[0]
    if isinstance(insts[0], mne.BaseEpochs):
        return mne.concatenate_epochs(insts, verbose="ERROR")
    insts = [insts[0].copy(), *insts[1:]]  # MNE appends the others to the first
    try:
        return mne.concatenate_raws(insts, verbose="ERROR")
    except ValueError:  # files of one amplifier can have other gains, which MNE keeps apart until the data are loaded
        return mne.concatenate_raws([_loaded(raw) for raw in insts], verbose="ERROR")


def _loaded(raw: mne.io.BaseRaw) -> mne.io.RawArray:
    data, info = raw.get_data(), raw.info.copy()
    for channel in info["chs"]:
        channel["cal"] = channel["range"] = 1.0
    held = mne.io.RawArray(data, info, first_samp=raw.first_samp, verbose=False)
    return held.set_annotations(raw.annotations)


def _in_volts(inst, unit: str, notes: list[str]):
    """Scale a recording whose numbers are in another unit than MNE's; what has no unit stays."""
    factor = MICROVOLT.get(unit.replace("µ", "u").replace("μ", "u"), 1e6) / 1e6
    if factor != 1:
        picks = mne.pick_types(inst.info, eeg=True, eog=True, ecg=True, emg=True, exclude=())
        with mne.utils.use_log_level("WARNING"):
            inst.load_data().apply_function(lambda x: factor * x, picks=picks)
        notes.append(f"The numbers of the file were taken as {unit}.")
    return inst
