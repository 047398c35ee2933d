"""Channel names and positions: what heads, regions and simulations need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache

import mne
import numpy as np

from eegxai_support.trials import unknown_name

METRE = 1.0  # to MNE, positions are in metres
MONTAGE = "colin27_1005"  # all 10-05 positions; MNE's name for what was standard_1005
# The 64 electrodes of PhysioNet's EEGBCI, in its order.
EEGBCI_CHANNELS = tuple(
    "FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 CP6 Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8"
    " F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FT8 T7 T8 T9 T10 TP7 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
    " Iz".split()
)

# What amplifiers and archives write around the name of an electrode:
# "EEG F3-Ref", "EEG.AF3", "POL C3", "Fc5.", "C4-A1".
# Ears and mastoids are places to refer to; a second electrode of the scalp makes a bipolar channel, which has no place.
DECORATED = re.compile(
    r"(?:(?:eeg|pol)[\s._:-]*)?([a-z]+\d*h?)(?:[\s_:/-]+(?:ref\w*|le|ler|avg|average|car|ar|[am][12]|[am]1\W*[am]2))?[\s.]*",
    re.IGNORECASE,
)
LETTER_AND_NUMBER = re.compile(r"[A-Z]\d+")


def canonical_name(name: str) -> str | None:
    """Return the 10-05 name of an electrode, stripped of what a file writes around it.

    Parameters
    ----------
    name : str
        Such as "EEG F3-Ref", "Fc5." or "FPZ". A reference to an ear or a mastoid, as in "C4-A1", counts as decoration.

    Returns
    -------
    str or None
        The name as `MONTAGE` spells it; None where it is not of the 10-05 system, or bipolar, such as "Fpz-Cz".

    Notes
    -----
    BioSemi's caps of 128 and more call their electrodes A1, C3 or F5 wherever they are: with the names of a whole
    recording at hand, ask `canonical_names`.
    """
    found = DECORATED.fullmatch(name.strip())
    return _known_names().get(found[1].lower()) if found else None


def canonical_names(names: Iterable[str]) -> list[str | None]:
    """Return the 10-05 name of each electrode of a recording, None where it has none.

    A cap that has an electrode A3, C7 or D1 counts its electrodes by letter and number, as BioSemi's do: its C3 is not
    the C3 of the 10-05 system, and no such name of the cap is taken for one.
    """
    names = list(names)
    known = [canonical_name(name) for name in names]
    counted = [bool(LETTER_AND_NUMBER.fullmatch(name)) for name in names]
    lettered = any(it and k is None for it, k in zip(counted, known, strict=True))
    return [None if lettered and it else k for it, k in zip(counted, known, strict=True)]


@cache
def _known_names() -> dict[str, str]:
    return {name.lower(): name for name in mne.channels.make_standard_montage(MONTAGE).ch_names}


def electrode_info(ch_names: tuple[str, ...], sfreq: float) -> mne.Info:
    """Return channel names, sampling rate and positions of electrodes of the 10-05 system."""
    info = mne.create_info(list(ch_names), sfreq, "eeg", verbose=False)
    try:
        info.set_montage(MONTAGE, verbose=False)
    except ValueError:
        known = mne.channels.make_standard_montage(MONTAGE).ch_names
        name = next(name for name in ch_names if name not in known)
        raise unknown_name("electrode", name, known) from None
    return info


def located(info: mne.Info) -> mne.Info:
    """Name and place electrodes by the 10-05 system where a recording has no positions at all, and log it.

    Parameters
    ----------
    info : mne.Info
        Left as it is. Positions more than a metre from the middle of the head, which were written in millimetres, count
        as none.

    Returns
    -------
    mne.Info
        The same where a channel has a position. Else a copy; two derivations of one electrode keep their names.
    """
    position = np.array([channel["loc"][:3] for channel in info["chs"]])
    if (np.isfinite(position).all(1) & position.any(1) & (np.abs(position) < METRE).all(1)).any():
        return info
    names = dict(zip(info.ch_names, canonical_names(info.ch_names), strict=True))
    wanted = Counter(new or old for old, new in names.items())
    names = {old: new for old, new in names.items() if new and wanted[new] == 1}
    if not names:
        return info
    info = info.copy()
    mne.rename_channels(info, names, verbose=False)
    info.set_montage(MONTAGE, on_missing="ignore", verbose=False)
    said = [f"Positions of {MONTAGE} for {len(names)} of {len(info.ch_names)} channels."]
    for what, which in (
        ("Renamed", [f"{old} → {new}" for old, new in names.items() if old != new]),
        ("Without a position", [name for name in info.ch_names if name not in names.values()]),
    ):
        if which:
            said.append(f"{what}: {', '.join(which[:8])}{f' and {len(which) - 8} more' * (len(which) > 8)}.")
    mne.utils.logger.info(" ".join(said))
    return info
