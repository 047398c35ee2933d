"""Events of a recording, wherever they stand, and those of them that become classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from eegxai_support.recordings.reading.opened import existing
from eegxai_support.trials import unknown_name

CODE = re.compile(r"(?:Stimulus/S\s*)?(\d+)")  # annotations that stand for a code: of BrainVision, GDF, EEGLAB
NO_CLASS = re.compile(r"bad|edge|new segment", re.IGNORECASE)  # annotations of the recording, not of what happened


def class_names(
    events: Mapping[str, int] | None, annotations: Mapping[str, str] | Iterable[str] | None
) -> dict[str, int | str] | None:
    """Return what each class is called and by what its events are known, a code or a name; None where nothing is."""
    if events is not None and annotations is not None:
        raise ValueError("Both events and annotations were given; expected one: codes, or names of annotations.")
    if events is not None:
        if not isinstance(events, Mapping):
            raise ValueError(f"events is {events!r}; expected names and codes, such as {{'left': 1, 'right': 2}}.")
        try:
            wanted = {str(name): int(code) for name, code in events.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"events has the codes {list(events.values())}; expected integers.") from error
        twice = [code for code, n in Counter(wanted.values()).items() if n > 1]
        if twice:
            raise ValueError(
                f"events gives several names to the code {twice[0]}: {dict(events)}. Give each code one name."
            )
    elif annotations is not None:
        names = [annotations] if isinstance(annotations, str) else annotations
        wanted = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    else:
        return None
    if len(wanted) < 2:
        raise ValueError(f"{', '.join(wanted) or 'Nothing'} is the only class; a decoder needs two at least.")
    return wanted


def events_of(raw: mne.io.BaseRaw, event_file: Path | None, *, names: bool | None) -> pd.DataFrame:
    """List the events of a recording.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    event_file : path, optional
        Where they stand instead: events of MNE (.fif, .eve, .txt), or a table as BIDS has it (.tsv).
    names : bool or None
        Whether names are asked for (annotations, the column trial_type) rather than codes (a stimulus channel,
        annotations that are numbers, the column value). None for all that there are.

    Returns
    -------
    pandas.DataFrame
        onset in seconds from the first sample, event (a code or a name), and further columns of a table.
    """
    if event_file is None:
        listed = [_annotated(raw)] if names else [_on_stimulus_channel(raw), _annotated(raw, codes=names is False)]
        found = pd.concat(listed) if names is None else next((each for each in listed if len(each)), listed[0])
    elif event_file.suffix == ".tsv":
        found = _table(event_file, names)
    else:
        found = _from_events(raw, _read_events(event_file))
    found = found.sort_values("onset", kind="stable").reset_index(drop=True)
    if event_file is not None:
        _check_inside(raw, found, event_file)
    return found


def _annotated(raw: mne.io.BaseRaw, *, codes: bool = False) -> pd.DataFrame:
    annotations = raw.annotations
    shift = -raw.first_time  # onsets count from the time of measurement, where the first sample need not be
    if annotations.orig_time is not None:
        shift += (annotations.orig_time - raw.info["meas_date"]).total_seconds()
    found = pd.DataFrame({"onset": annotations.onset + shift, "event": annotations.description.astype(object)})
    found = found[~found.event.map(lambda name: bool(NO_CLASS.match(name))).astype(bool)]
    if not codes:
        return found
    matches = found.event.map(lambda name: CODE.fullmatch(name.strip()))
    found = found[matches.notna()]
    return found.assign(event=[int(match[1]) for match in matches.dropna()])


def _on_stimulus_channel(raw: mne.io.BaseRaw) -> pd.DataFrame:
    if not len(mne.pick_types(raw.info, meg=False, stim=True)):
        return pd.DataFrame({"onset": [], "event": []})
    return _from_events(raw, mne.find_events(raw, shortest_event=1, verbose="ERROR"))


def _from_events(raw: mne.io.BaseRaw, events: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"onset": (events[:, 0] - raw.first_samp) / raw.info["sfreq"], "event": events[:, 2]})


def _read_events(path: Path) -> np.ndarray:
    try:
        events = mne.read_events(existing(path), verbose="ERROR")
        return events.reshape(-1, 3)
    except FileNotFoundError:
        raise
    except Exception as error:  # the readers of MNE fail in ways of their own
        raise ValueError(
            f"{path} cannot be read as events: {' '.join(str(error).split())[:200]}. Expected events of MNE (-eve.fif;"
            " .eve or .txt with sample, 0, code in each line), or a table with the columns onset, in seconds, and"
            " trial_type (.tsv)."
        ) from error


def _table(path: Path, names: bool | None) -> pd.DataFrame:
    try:
        table = pd.read_csv(existing(path), sep="\t", na_values="n/a", dtype={"trial_type": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no table with tabs between its columns ({error}). Save it as events.tsv of BIDS."
        ) from error
    column = "trial_type" if names or (names is None and "trial_type" in table) else "value"
    if lacking := {"onset", column} - set(table.columns):
        raise ValueError(
            f"{path} has the columns {', '.join(map(str, table.columns))} and lacks {', '.join(sorted(lacking))};"
            " expected onset, in seconds, and trial_type (for annotations) or value (for events)."
        )
    table = table.dropna(subset=["onset", column])
    event = table[column].convert_dtypes().astype(object)  # codes are whole numbers, also where one was missing
    further = table.drop(columns=[column, "duration", "sample", "event", "class"], errors="ignore")
    return further.assign(event=event)


def _check_inside(raw: mne.io.BaseRaw, found: pd.DataFrame, path: Path) -> None:
    duration = raw.n_times / raw.info["sfreq"]
    outside = found.onset[(found.onset < 0) | (found.onset >= duration)]
    if len(outside):
        raise ValueError(
            f"{len(outside)} of {len(found)} events in {path} are outside of the recording, the first"
            f" {outside.iloc[0]:.6g} s from its beginning; it is {duration:.6g} s long. Do the events belong to another"
            " recording, or to one that was cut or resampled?"
        )


def chosen(tables: list[pd.DataFrame], wanted: Mapping, paths: list[Path]) -> list[pd.DataFrame]:
    """Return the events of the classes that are wanted, with the class of each; refuse those that no recording has."""
    there = Counter(event for table in tables for event in table.event)
    option = "events" if any(isinstance(key, int) for key in wanted.values()) else "annotations"
    wanted = {name: _by_last_part(key, there) for name, key in wanted.items()}
    for key in wanted.values():
        if key not in there:
            held = ", ".join(f"{event} ({n})" for event, n in _counted(there)) or "none"
            near = f" {unknown_name('annotation', key, there)}" if isinstance(key, str) and there else ""
            raise ValueError(
                f"{option} asks for {key!r}, which is not in {_files(paths)}. Events there, with their number:"
                f" {held}.{near}"
            )
    name_of = {key: name for name, key in wanted.items()}
    if len(name_of) < len(wanted):
        raise ValueError(
            f"{option} gives several classes the same event of {_files(paths)}: {wanted}; expected one for each."
        )
    kept = [table[table.event.isin(list(name_of))] for table in tables]
    return [table.assign(**{"class": table.event.map(name_of)}).reset_index(drop=True) for table in kept]


def _by_last_part(key: str | int, there: Counter) -> str | int:
    """Return the one event that ends with a name: BrainVision's files say what kind an event is, as in Comment/T1."""
    if key in there or not isinstance(key, str):
        return key
    ending = [event for event in there if isinstance(event, str) and event.rpartition("/")[2] == key]
    return ending[0] if len(ending) == 1 else key


def ask(raws: list[mne.io.BaseRaw], event_files: list[Path | None], paths: list[Path]) -> ValueError:
    """Return the error for a recording whose classes nobody named: what there is, and what to write for it."""
    tables = [events_of(raw, file, names=None) for raw, file in zip(raws, event_files, strict=True)]
    there = Counter(event for table in tables for event in table.event)
    if not there:
        beside = sorted({each.name for path in paths for each in path.parent.glob("*") if _like_events(each.name)})
        hint = f"Beside it lies {', '.join(beside[:4])}." if beside else "Has it a file with its events?"
        return ValueError(
            f"Which trials are which? {_files(paths)} has neither annotations nor events in a stimulus channel. {hint}"
            " Give it as event_file (--event-file), with the code of each class: events={'left': 1, 'right': 2}"
            " (--events left=1,right=2)."
        )
    codes = [event for event in there if not isinstance(event, str)]
    names = [event for event in there if isinstance(event, str)]
    advice = []
    if names:
        pair = [name for name, _ in _counted(Counter({name: there[name] for name in names}))][:2]
        advice.append(f"annotations={tuple(pair)!r} (--annotations {','.join(pair)})")
    if codes:
        pair = [int(code) for code, _ in _counted(Counter({code: there[code] for code in codes}))][:2]
        named = {f"class {k}": code for k, code in zip("AB", pair, strict=False)}
        shown = ",".join(f"{name.replace(' ', '_')}={code}" for name, code in named.items())
        advice.append(f"events={named!r} (--events {shown})")
    held = ", ".join(f"{event} ({n})" for event, n in _counted(there))
    return ValueError(
        f"Which trials are which? {_files(paths)} has, with their number: {held}. Name those that are classes, such as"
        f" {', or '.join(advice)}."
    )


def _counted(there: Counter) -> list[tuple]:
    return sorted(there.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def _like_events(name: str) -> bool:
    return name.endswith((".eve", "eve.fif", "events.tsv", "eve.txt"))


def _files(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
