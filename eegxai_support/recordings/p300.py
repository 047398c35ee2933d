"""The P300 speller of BCI Competition II, data set IIb."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import scipy
from tqdm import tqdm

from eegxai_support.montages import EEGBCI_CHANNELS, MONTAGE
from eegxai_support.recordings.cache import cache_folder
from eegxai_support.recordings.eegbci import numbers
from eegxai_support.recordings.matlab import read_mat
from eegxai_support.recordings.windows import windows
from eegxai_support.trials import METADATA_COLUMNS, Trials

CLASSES = ("non-target", "target")
SFREQ = 240.0
ONSET_ASYNCHRONY = 42  # samples, 175 ms
PAUSE = 240  # samples; letters are seconds apart
FILE_NAME = re.compile(r"AAS(\d{3})R(\d{2})\.mat")
FIELDS = ("signal", "Flashing", "StimulusCode", "StimulusType")


def load_p300(
    path: Path | str | None = None,
    sessions: int | Iterable[int] = (10, 11),
    runs: int | Iterable[int] | None = None,
    *,
    tmin: float = 0.0,
    tmax: float = 0.8,
    l_freq: float | None = 0.1,
    h_freq: float = 20.0,
    sfreq: float | None = None,
) -> Trials:
    """Load the flashes of a P300 speller, data set IIb of BCI Competition II.

    One subject spells words. Rows and columns of a matrix of letters flash one after the other; the row and the
    column of the letter that the subject attends to are targets. Each run by itself is band-pass filtered (MNE's
    zero-phase FIR filter), re-referenced to the common average and divided by one number, the robust standard
    deviation over its channels and samples. No baseline is subtracted: other flashes fall into it.

    A flash begins every 175 ms, so that trials overlap: neighbours share samples. Keep a whole run or letter on one
    side of a split between training and test.

    Parameters
    ----------
    path : path, optional
        Folder with the competition's files (``AAS010R01.mat`` is session 10, run 1); by default ``bci2_iib`` in MNE's
        cache (``MNE_DATA``). Nothing is downloaded: the files come with no licence, only the request to cite [1]_.
    sessions : int or iterable of int
        Sessions 10 and 11 are labelled.
    runs : int or iterable of int, optional
        By default all that the folder holds of each session.
    tmin, tmax : float
        Window in seconds after the flash begins; the sample at `tmax` is left out.
    l_freq, h_freq : float
        Edges of the pass-band in Hz; None leaves the lower side open.
    sfreq : float, optional
        Sampling rate in Hz: 240, the default, divided by a whole number. Samples are left out after the windows were
        cut, so that no flash is shifted.

    Returns
    -------
    Trials
        64 channels, unit "standardised" (the recording is in units of its converter, whose factor to µV the files do
        not hold), classes non-target and target: five to one. Metadata: subject (1), session, run, character (counted
        from 1 in its run), code (1 to 6 the columns of the matrix from the left, 7 to 12 its rows from the top). Trials
        that the end of a run cuts short are left out.

    Raises
    ------
    FileNotFoundError
        The folder or its files are missing.
    ValueError
        A session or run that the folder does not hold, an impossible window, band or rate, a file with other fields,
        another number of channels or another sampling rate.

    References
    ----------
    .. [1] Blankertz et al. (2004), IEEE Transactions on Biomedical Engineering 51(6):1044-1051.
    .. [2] Donchin et al. (2000), IEEE Transactions on Rehabilitation Engineering 8(2):174-179.
    """
    rate = SFREQ if sfreq is None else sfreq
    if not tmin < tmax:
        raise ValueError(f"The window runs from {tmin:g} to {tmax:g} s; expected tmin before tmax.")
    if rate <= 0 or SFREQ % rate:
        raise ValueError(f"sfreq is {rate:g} Hz; expected 240 Hz divided by a whole number, such as 120 or 80.")
    if h_freq > rate / 3:
        raise ValueError(f"h_freq is {h_freq:g} Hz; expected at most {rate / 3:g} Hz, a third of the sampling rate.")
    folder = cache_folder("BCI2_IIB") / "bci2_iib" if path is None else Path(path).expanduser()
    files = _files(folder, numbers(sessions), None if runs is None else numbers(runs))
    signals, metadata = [], []
    for (session, run), file in tqdm(files.items(), desc="P300", unit="run", leave=False, delay=2):
        raw, flashes = _read_run(file)
        raw.filter(l_freq, h_freq, verbose=False)
        raw.set_eeg_reference("average", verbose=False)
        events = np.stack([flashes.index, 0 * flashes.index, flashes["target"]], axis=1)
        epochs = windows(raw, events, tmin, tmax)
        scale = scipy.stats.median_abs_deviation(raw.get_data(), axis=None, scale="normal")
        epochs.decimate(round(SFREQ / rate), verbose=False)
        signals.append(epochs.get_data(verbose=False) / scale)
        metadata.append(flashes.iloc[epochs.selection].assign(subject=1, session=session, run=run))
    metadata = pd.concat(metadata)
    return Trials(
        signal=np.concatenate(signals),
        unit="standardised",
        label=metadata["target"],
        info=epochs.info,
        class_names=CLASSES,
        metadata=metadata[[*METADATA_COLUMNS, "character", "code"]],
        tmin=epochs.tmin,
    )


def _files(folder: Path, sessions: tuple[int, ...], runs: tuple[int, ...] | None) -> dict[tuple[int, int], Path]:
    """Return the file of each session and run."""
    names = {file: FILE_NAME.fullmatch(file.name) for file in sorted(folder.glob("*.mat"))}
    found = {tuple(map(int, name.groups())): file for file, name in names.items() if name}
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no file of BCI Competition II's data set IIb, such as AAS010R01.mat. Download the data set"
            " in MATLAB's format from the competition's site (bbci.de/competition/ii) and unpack it there, or name the"
            " folder that holds it."
        )
    files = {}
    for session in sessions:
        there = [run for s, run in found if s == session]
        wanted = there if runs is None else runs
        if not there or not set(wanted) <= set(there):
            raise ValueError(
                f"Asked for session {session}, {'all runs' if runs is None else f'runs {list(runs)}'}; {folder} holds"
                f" sessions {sorted({s for s, _ in found})} and of this one the runs {there}."
            )
        files |= {(session, run): found[session, run] for run in wanted}
    return files


def _read_run(file: Path) -> tuple[mne.io.RawArray, pd.DataFrame]:
    """Return the recording and its flashes by the sample at which each begins."""
    recording = read_mat(file, FIELDS)
    signal = recording.pop("signal")
    state = {name: np.ravel(values).astype(int) for name, values in recording.items()}
    if signal.shape[1:] != (len(EEGBCI_CHANNELS),) or any(len(values) != len(signal) for values in state.values()):
        shapes = {name: values.shape for name, values in state.items()}
        raise ValueError(
            f"In {file} signal has shape {signal.shape}, {shapes}; expected (sample, {len(EEGBCI_CHANNELS)}) and one"
            " value of each other field per sample."
        )
    onset = np.flatnonzero(np.diff(state["Flashing"], prepend=1) == 1)
    if not len(onset):
        raise ValueError(f"{file} holds no flash: Flashing never rises from 0 to 1.")
    gap = np.diff(onset, prepend=onset[0])
    # The files name no sampling rate; the speller's clock gives it away.
    if len(onset) > 1 and np.median(gap[1:]) != ONSET_ASYNCHRONY:
        raise ValueError(
            f"In {file} a flash begins every {np.median(gap[1:]):g} samples; expected every {ONSET_ASYNCHRONY}, 175 ms"
            f" at {SFREQ:g} Hz. Is it sampled at another rate?"
        )
    info = mne.create_info(list(EEGBCI_CHANNELS), SFREQ, "eeg", verbose=False)
    info.set_montage(MONTAGE, verbose=False)
    flashes = pd.DataFrame(
        {
            "target": state["StimulusType"][onset],
            "character": 1 + np.cumsum(gap > PAUSE),
            "code": state["StimulusCode"][onset],
        },
        index=onset,
    )
    return mne.io.RawArray(signal.T.astype(float), info, verbose=False), flashes
