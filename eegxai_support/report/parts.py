"""Parts of a report on disk: a report that was killed goes on where it was, with the same numbers."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from eegxai_support.files import remove_partial_files, to_json, write_whole
from eegxai_support.provenance import package_digest, versions
from eegxai_support.recordings.results import read_recorded, write_recorded
from eegxai_support.trials import Trials

COMPUTED_WITH = ("torch", "numpy", "scipy", "mne", "braindecode", "mne-icalabel", "scikit-learn")
Frames = dict[str, pd.DataFrame]


class Parts:
    """Tables that a stage of the report gives, kept until the same question is asked again.

    Parameters
    ----------
    folder : Path
    question : object
        All that decides the numbers, as JSON values; versions of packages come on top.
    sources : str, optional
        A hash of the sources that do; by default of all of this package.
    """

    def __init__(self, folder: Path, question: object, sources: str | None = None):
        self.folder = folder
        self.question = [question, sources or package_digest(), versions(COMPUTED_WITH)]
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)

    def narrowed(self, *more: object) -> Parts:
        """Return parts of the same folder whose numbers `more` decides as well, as JSON values."""
        found = copy.copy(self)
        found.question = [self.question, *more]
        return found

    def key(self, stage: str, *more: object) -> str:
        """Return the name of a stage's files: that of the stage, and a hash of all that decides its numbers."""
        text = to_json([self.question, stage, more], sort_keys=True)
        return f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def frames(self, stage: str, *more: object, compute: Callable[[], Frames]) -> Frames:
        """Return the tables of a stage: from the disk if it was finished before, else as computed now.

        The file that lists the tables is written last; without it there are none. What is damaged is computed again.

        Parameters
        ----------
        stage : str
        *more : object
            What tells the parts of one stage apart, as JSON values.
        compute : callable
            Returns the tables, by name.
        """
        key = self.key(stage, *more)
        try:
            return self._read(key)
        except (OSError, ValueError):  # not there, half there, or damaged, DamagedFileError being a ValueError
            frames = compute()
        for name, frame in frames.items():
            write_recorded(frame, self._path(key, name), {})
        write_whole(self._list(key), to_json(list(frames)))
        return self._read(key)  # as the next call will find them, types of columns included

    def _read(self, key: str) -> Frames:
        names = json.loads(self._list(key).read_text(encoding="utf-8"))
        return {name: read_recorded(self._path(key, name), seal_required=True) for name in names}

    def _list(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _path(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name}.parquet"


def fingerprint(trials: Trials) -> str:
    """Return a hash of all that trials hold."""
    digest = hashlib.sha256()
    for array in (trials.signal, trials.label):
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(memoryview(array.copy(order="C")).cast("B"))
    about = [trials.unit, trials.info.ch_names, trials.sfreq, trials.tmin, trials.class_names]
    digest.update(to_json([about, list(trials.metadata), trials.metadata.astype(str).to_numpy()]).encode())
    return digest.hexdigest()


def joined(frames: Iterable[Frames]) -> Frames:
    """Return the tables of several parts, those of one name below each other."""
    by_name: dict[str, list[pd.DataFrame]] = {}
    for part in frames:
        for name, frame in part.items():
            by_name.setdefault(name, []).append(frame)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in by_name.items()}
