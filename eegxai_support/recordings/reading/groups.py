"""Who was recorded, and when: what may not stand on both sides of a split."""

from __future__ import annotations

import re
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from eegxai_support.trials import Trials, check_complete, unknown_name, with_usual_names

SUBJECT = re.compile(
    r"(?:^|[^a-z])(?:sub-([a-z0-9]+)|subj(?:ect)?[-_ ]?(\d+)|s(\d{2,3})(?=r\d|[^a-z0-9]|$))", re.IGNORECASE
)
SESSION = re.compile(r"(?:^|[^a-z])ses(?:sion)?[-_]?([a-z]*\d+)", re.IGNORECASE)
RUN = re.compile(r"(?:^|[^a-z])(?:run[-_]?|r(?=\d{2}\D))(\d+)", re.IGNORECASE)
NOBODY = {"", "x", "?", "n/a", "na", "none", "unknown", "anonymous", "anonymized", "mne_anonymize", "0"}


def origin(insts: list[mne.io.BaseRaw | mne.BaseEpochs], paths: list[Path], notes: list[str]) -> pd.DataFrame:
    """Return subject, session and run of each recording, as far as files say, with a note of where that was read."""
    told = [_subject(inst, path) for inst, path in zip(insts, paths, strict=True)]
    subjects = [subject for subject, _ in told]
    said = {name: all(_says(inst, name) for inst in insts) for name in ("subject", "run")}
    notes += [f"The epochs' metadata says the {name} of each." for name, is_said in said.items() if is_said]
    told = [] if said["subject"] else told
    for subject, why in dict.fromkeys(told):
        files = [path.name for path, it in zip(paths, told, strict=True) if it == (subject, why)]
        notes.append(f"Subject {subject}, {why}: {', '.join(files)}.")
    sessions = [_from_name(SESSION, path, 1) for path in paths]
    runs = [_from_name(RUN, path, None) for path in paths]
    keys = list(zip(subjects, sessions, runs, strict=True))
    if None in runs or len(set(keys)) < len(keys):
        runs = list(range(1, len(paths) + 1))
        which = f"counted from 1 to {len(paths)}, one a file, in the order given"
    else:
        which = f"numbered as the names of the files say: {', '.join(map(str, runs))}"
    notes += [] if said["run"] else [f"Runs are {which}."]
    return pd.DataFrame({"subject": subjects, "session": sessions, "run": runs})


def _says(inst: mne.io.BaseRaw | mne.BaseEpochs, column: str) -> bool:
    metadata = getattr(inst, "metadata", None)
    return metadata is not None and column in with_usual_names(metadata)


def _subject(inst, path: Path) -> tuple[int | str, str]:
    """Return the subject and where it stands; "unknown" where nothing or more than one thing says so."""
    said = {}
    if (named := _from_name(SUBJECT, path, None)) is not None:
        said[named] = "by the name of the file or its folder"
    told = (inst.info["subject_info"] or {}).get("his_id")
    if told is not None and str(told).strip().lower() not in NOBODY:
        said.setdefault(_number(str(told).strip()), "by the file's subject_info")
    if len(said) == 1:
        return next(iter(said.items()))
    return "unknown", f"since the file says {' and '.join(map(str, said))}" if said else "since nothing says who it is"


def _from_name(pattern: re.Pattern, path: Path, otherwise):
    """Search the name of a file, then that of its folder and of the one above."""
    for name in (path.name, path.absolute().parent.name, path.absolute().parent.parent.name):
        if found := pattern.search(name):
            return _number(next(filter(None, found.groups())))
    return otherwise


def _number(said: str) -> int | str:
    """Return the number of "S012", "sub-12" or "12", so that one person is one whatever the spelling."""
    found = re.fullmatch(r"(?:s|sub|subj|subject)?[-_ ]?0*(\d+)", said, re.IGNORECASE)
    return int(found[1]) if found else said


def grouped(trials: Trials, group: str | None, n_blocks: int, notes: list[str]) -> pd.DataFrame:
    """Return the metadata with the column `group`, of which at least two values are to be there."""
    metadata = trials.metadata
    if group is None:
        return metadata
    if group == "blocks":
        if not 2 <= n_blocks <= len(trials) // 2:
            raise ValueError(
                f"n_blocks is {n_blocks}; expected 2 to {len(trials) // 2}, so that each of {len(trials)} trials has"
                " another in its block."
            )
        sizes = [len(part) for part in np.array_split(np.arange(len(trials)), n_blocks)]
        notes.append(f"Trials are grouped in time: {n_blocks} blocks of {min(sizes)} to {max(sizes)} trials each.")
        return metadata.assign(blocks=np.repeat(np.arange(1, n_blocks + 1), sizes))
    if group not in metadata:
        raise unknown_name("group", group, [*metadata.columns, "blocks"])
    check_complete(metadata, group)
    if metadata[group].nunique() < 2:
        raise ValueError(
            f"All {len(trials)} trials have the {group} {metadata[group].iloc[0]}; at least two are needed, one to test"
            " on. Give several recordings, or cut this one into blocks of time: group='blocks' (--group blocks)."
        )
    return metadata
