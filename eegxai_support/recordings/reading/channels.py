"""Channels of a recording: named, typed, placed and referenced, with a note of whatever is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import mne
import numpy as np

from eegxai_support.files import expanded
from eegxai_support.montages import MONTAGE, canonical_name, canonical_names, located
from eegxai_support.recordings.own import NOT_EEG
from eegxai_support.recordings.reading.opened import existing, load, noted
from eegxai_support.trials import unknown_name

# What channels are that readers without a type for them call EEG, by their names; `NOT_EEG` has those of the last.
KINDS = (
    ("eog", re.compile("eog", re.IGNORECASE)),
    ("ecg", re.compile("ecg|ekg", re.IGNORECASE)),
    ("emg", re.compile("emg|chin", re.IGNORECASE)),
    ("stim", re.compile(r"\bsti\b|stim|trig|status", re.IGNORECASE)),
    ("misc", re.compile("")),
)


def renamed(inst, rename: Mapping[str, str] | None, notes: list[str]) -> None:
    """Rename channels as asked."""
    if not rename:
        return
    for name in rename:
        if name not in inst.ch_names:
            raise unknown_name("channel in rename", name, inst.ch_names)
    names = [rename.get(name, name) for name in inst.ch_names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"rename would give several channels the name {', '.join(twice)}; each needs its own.")
    inst.rename_channels(dict(rename), verbose=False)
    notes.append(f"Renamed as asked: {_pairs(rename)}.")


def excluded(inst, exclude: Iterable[str], notes: list[str]) -> None:
    """Drop channels as asked."""
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
    names = resolved(inst, exclude, "channel in exclude")
    if not set(_eeg(inst)) - set(names):
        raise ValueError(f"exclude names all {len(_eeg(inst))} EEG channels; leave at least one in.")
    if names:
        inst.drop_channels(names)
        notes.append(f"Left out as asked: {_listed(names)}.")


def typed(inst, notes: list[str]) -> None:
    """Take channels for what their names say where a reader calls them EEG; refuse a recording without any EEG."""
    kinds = {name: next(kind for kind, it in KINDS if it.search(name)) for name in _eeg(inst) if NOT_EEG.search(name)}
    if kinds:
        inst.set_channel_types(kinds, on_unit_change="ignore", verbose=False)
        notes.append(
            "Typed as EEG in the file, taken for what their names say and kept out of the trials:"
            f" {_listed([f'{name} ({kind})' for name, kind in kinds.items()])}. If they are EEG, rename them."
        )
    if not _eeg(inst):
        raise ValueError(
            f"There is no EEG channel; the types are {sorted(set(inst.get_channel_types()))}. Where they are wrong, set"
            " them in MNE, raw.set_channel_types({name: 'eeg'}), and save the recording as FIF."
        )
    if bads := [name for name in inst.info["bads"] if name in _eeg(inst)]:
        notes.append(f"Marked as bad in the file and kept out of the trials: {_listed(bads)}.")


def placed(inst, montage: str | Path | None, notes: list[str]) -> None:
    """Give electrodes the positions of a montage or, where a file has none, those of their 10-05 names."""
    if montage is not None:
        _placed_by(inst, montage, notes)
        return
    with mne.utils.use_log_level("WARNING"):  # what it would log is noted here
        info = located(inst.info)
    if info is inst.info:
        return
    names = dict(zip(inst.ch_names, info.ch_names, strict=True))
    inst.rename_channels({old: new for old, new in names.items() if old != new}, verbose=False)
    inst.set_montage(MONTAGE, on_missing="ignore", verbose=False)
    _note_positions(inst, f"{MONTAGE}, by their 10-05 names, as the file has none", names, notes)


def _placed_by(inst, montage: str | Path, notes: list[str]) -> None:
    montage = _current_name(montage)
    places = _montage(montage)
    known = {name.lower(): name for name in places.ch_names}
    eeg = set(_eeg(inst))
    names = {}
    for name, canonical in zip(inst.ch_names, canonical_names(inst.ch_names), strict=True):
        if name in eeg and (fits := known.get(name.lower()) or known.get((canonical or "").lower())):
            names[name] = fits
    if not names:
        raise ValueError(
            f"The montage {montage} has none of the EEG channels {_listed(_eeg(inst))}; its own are"
            f" {_listed(places.ch_names)}. Give the cap's own montage, or rename the channels."
        )
    wanted = [names.get(name, name) for name in inst.ch_names]
    names = {old: new for old, new in names.items() if wanted.count(new) == 1}
    inst.rename_channels({old: new for old, new in names.items() if old != new}, verbose=False)
    with noted(notes):
        inst.set_montage(places, on_missing="ignore", verbose="WARNING")
    _note_positions(inst, f"the montage {montage}", names, notes)


def _current_name(montage: str | Path) -> str | Path:
    """Return the name that a montage has since MNE 1.13, where the one before is given: the positions are the same."""
    renamed = str(montage).replace("standard_", "colin27_", 1)
    return renamed if renamed in mne.channels.get_builtin_montages() else montage


def _montage(montage: str | Path) -> mne.channels.DigMontage:
    built_in = mne.channels.get_builtin_montages()
    if isinstance(montage, mne.channels.DigMontage):
        return montage
    if str(montage) in built_in:
        return mne.channels.make_standard_montage(str(montage))
    path = expanded(montage)
    if not path.suffix and not path.exists():
        raise unknown_name("montage", montage, built_in)
    read = mne.channels.read_dig_fif if path.suffix == ".fif" else mne.channels.read_custom_montage
    try:
        return read(existing(path), verbose=False) if path.suffix == ".fif" else read(existing(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # each format of positions fails in ways of its own
        raise ValueError(
            f"{path} cannot be read as positions of electrodes: {error}. Expected the name of a montage of MNE, such as"
            f" {MONTAGE}, or a file that mne.channels.read_custom_montage knows (.sfp, .loc, .elc, .bvef, .csv …)."
        ) from error


def _note_positions(inst, source: str, names: Mapping[str, str], notes: list[str]) -> None:
    """Note how many electrodes got a place, which names changed, and which have none."""
    positions = {ch["ch_name"]: ch["loc"][:3] for ch in inst.info["chs"]}
    eeg = _eeg(inst)
    without = [name for name in eeg if not (np.isfinite(positions[name]).all() and positions[name].any())]
    notes.append(f"Positions of {len(eeg) - len(without)} of {len(eeg)} EEG channels are those of {source}.")
    if changed := {old: new for old, new in names.items() if old != new}:
        notes.append(f"Renamed {len(changed)} channels to the montage's names: {_pairs(changed)}.")
    if without:
        notes.append(f"Without a position: {_listed(without)}.")


def referenced(inst, path: Path, reference: str | Iterable[str] | None, notes: list[str]) -> None:
    """Re-reference to the common average or to channels."""
    if reference is None:
        notes.append("The reference is the recording's own.")
        return
    if reference != "average":
        reference = resolved(inst, [reference] if isinstance(reference, str) else list(reference), "reference channel")
        if not reference:
            raise ValueError("reference is empty; expected 'average', names of channels, or None to keep the file's.")
    n_good = len(mne.pick_types(inst.info, eeg=True))
    load(inst, path)
    inst.set_eeg_reference(reference, projection=False, verbose=False)
    of = f"the average of the {n_good} good EEG channels" if reference == "average" else _listed(reference)
    notes.append(f"Re-referenced to {of}.")


def resolved(inst, names: list[str], what: str) -> list[str]:
    """Return the channels that are meant: by the name in the recording, or by its 10-05 name."""
    known = {canonical: name for name, canonical in zip(inst.ch_names, canonical_names(inst.ch_names), strict=True)}
    meant = {}
    for name in names:
        found = name if name in inst.ch_names else known.get(canonical_name(name) or name)
        if found is None:
            raise unknown_name(what, name, inst.ch_names)
        meant[found] = None
    return list(meant)


def alike(insts: list, paths: list[Path], notes: list[str]) -> None:
    """Bring the recordings to the channels of the first, in its order; refuse those that have others."""
    first = insts[0]
    for inst, path in zip(insts, paths, strict=True):
        if inst.info["sfreq"] != first.info["sfreq"]:
            raise ValueError(
                f"{paths[0].name} is sampled at {first.info['sfreq']:g} Hz, {path.name} at {inst.info['sfreq']:g} Hz;"
                " expected one rate. Resample one of them in MNE, raw.resample(…), and save it."
            )
        if other := sorted(set(_eeg(first)) ^ set(_eeg(inst))):
            raise ValueError(
                f"{paths[0].name} and {path.name} do not share the EEG channels {_listed(other)}. Leave them out with"
                " exclude, or name them alike with rename."
            )
    bads = sorted({name for inst in insts for name in inst.info["bads"] if name in _eeg(first)})
    if set(bads) >= set(_eeg(first)):
        raise ValueError(
            f"All {len(bads)} EEG channels are marked as bad. Where they are not, empty raw.info['bads'] in MNE and"
            " save the recording."
        )
    shared = [name for name in first.ch_names if all(name in inst.ch_names for inst in insts)]
    for inst, path in zip(insts, paths, strict=True):
        if more := [name for name in inst.ch_names if name not in shared]:
            notes.append(f"{path.name}: left out, since another recording lacks them: {_listed(more)}.")
        if inst.ch_names != shared:
            inst.pick(shared, verbose=False)
        if new := [name for name in bads if name not in inst.info["bads"]]:
            notes.append(f"{path.name}: kept out of its trials, since bad in another recording: {_listed(new)}.")
        inst.info["bads"] = [*(name for name in inst.info["bads"] if name in shared), *new]


def _eeg(inst) -> list[str]:
    return [name for name, kind in zip(inst.ch_names, inst.get_channel_types(), strict=True) if kind == "eeg"]


def _pairs(names: Mapping[str, str]) -> str:
    return _listed([f"{old} → {new}" for old, new in names.items()])


def _listed(names: Iterable[str]) -> str:
    names = list(map(str, names))
    return ", ".join(names[:8]) + f" and {len(names) - 8} more" * (len(names) > 8)
