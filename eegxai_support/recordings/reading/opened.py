"""Files of recordings: found, opened by the reader of MNE that fits, hashed; what fails says why."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import mne

from eegxai_support.files import expanded
from eegxai_support.model import needed, warn

COMMON = (".fif", ".edf", ".bdf", ".gdf", ".vhdr", ".set")
FOLDERS = (".ds", ".mefd", ".mff")  # recordings that are folders
ENDINGS = ".fif, .edf, .bdf, .gdf, .vhdr (BrainVision), .set (EEGLAB), .cnt, .mff and others that mne.io.read_raw knows"
HEADERS = {".vmrk": ".vhdr", ".eeg": ".vhdr", ".fdt": ".set"}  # part of a recording -> the file that names its parts
BIDS_NAME = re.compile(r"sub-[^_]+_(?:.+_)?eeg\.\w+(?:\.gz)?")
# Most people's files have names of their own; a file of positions mostly has no nasion.
OF_NO_INTEREST = ("does not conform to MNE naming conventions", "Fiducial point")


def sources(paths) -> list[Path]:
    """Return the path of each recording; a folder that keeps to BIDS stands for its recordings of EEG."""
    paths = [paths] if isinstance(paths, str | os.PathLike) or hasattr(paths, "fpath") else list(paths)
    if not paths:
        raise ValueError("paths is empty; expected one recording at least.")
    found = [source for path in paths for source in _sources(expanded(getattr(path, "fpath", path)))]
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise ValueError(f"{twice} was given more than once; a recording counts once.")
    return found


def existing(path: Path) -> Path:
    """Return a path; FileNotFoundError with the nearest names in its folder where nothing is there."""
    if path.exists():
        return path
    names = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=3, cutoff=0.4)
    there = f"; near it in its folder: {', '.join(near)}" * bool(near) if path.parent.is_dir() else ", nor its folder"
    raise FileNotFoundError(f"{path} does not exist{there}. Check its spelling and its folder.")


def _sources(path: Path) -> Iterable[Path]:
    if not existing(path).is_dir() or path.suffix in FOLDERS:
        return [path]
    root = _bids_root(path)
    if root is None:
        held = sorted(each.name for each in path.iterdir() if each.suffix in COMMON)
        give = f"It holds {', '.join(held[:5])}: give those." if held else "It holds no recording."
        raise ValueError(
            f"{path} is a folder; expected a recording, or a folder of a BIDS data set, which has a"
            f" dataset_description.json. {give}"
        )
    with needed("read_recording of a BIDS folder", extra="bids"):
        import mne_bids
    matching = mne_bids.find_matching_paths(root, datatypes="eeg", suffixes="eeg", ignore_json=True)
    found = {Path(each.fpath) for each in matching}
    recordings = sorted(it for it in found if path.absolute() in it.absolute().parents and _is_header(it))
    if not recordings:
        raise ValueError(f"{path} belongs to a BIDS data set and holds no recording of EEG, sub-…/eeg/sub-…_eeg.….")
    return recordings


def _is_header(path: Path) -> bool:
    return path.suffix not in (*HEADERS, ".tsv", ".json")


def _bids_root(path: Path) -> Path | None:
    """Return the folder of the BIDS data set that a path lies in, if any."""
    folders = (path, *path.absolute().parents)
    return next((folder for folder in folders if (folder / "dataset_description.json").exists()), None)


def opened(path: Path, notes: list[str]) -> mne.io.BaseRaw | mne.BaseEpochs:
    """Open a recording, without its data where MNE can do so, or read epochs."""
    header = path.with_suffix(HEADERS.get(path.suffix, path.suffix))
    if header != path and header.exists():
        raise ValueError(f"{path} is a part of a recording; expected the file that names its parts. Give {header}.")
    with noted(notes, path.name), readable(path):
        warnings.filterwarnings("error", "Invalid tag")  # the end of a FIF file is missing
        what = mne.what(path) if path.name.endswith((".fif", ".fif.gz")) else "unknown"
        if what not in ("raw", "epochs", "unknown"):
            hint = " Give it as event_file, and the recording that it belongs to here." if what == "events" else ""
            raise _Refused(f"{path} holds {what}; expected a recording or epochs.{hint}")
        if what == "epochs":
            return mne.read_epochs(path, proj=False, verbose="WARNING")
        if BIDS_NAME.fullmatch(path.name) and _bids_root(path):
            return _opened_bids(path, notes)
        try:
            return mne.io.read_raw(path, verbose="WARNING")
        except TypeError:  # EEGLAB's reader of continuous recordings, where the file holds epochs
            if path.suffix != ".set":
                raise
            return mne.read_epochs_eeglab(path, verbose="WARNING")


def _opened_bids(path: Path, notes: list[str]) -> mne.io.BaseRaw:
    """Read a recording with what the files beside it say of its channels and events."""
    try:
        with needed("Reading channels.tsv and events.tsv of a BIDS data set", extra="bids"):
            import mne_bids
    except ModuleNotFoundError as error:
        notes.append(f"{path.name} was read without what its BIDS data set says of it. {error}.")
        return mne.io.read_raw(path, verbose="WARNING")
    notes.append(f"{path.name} was read by mne-bids {mne_bids.__version__}, with the channels and events beside it.")
    return mne_bids.read_raw_bids(mne_bids.get_bids_path_from_fname(path), verbose="WARNING")


class _Refused(ValueError):
    """An error that says all there is to say."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say which file could not be read, and why, whatever a reader raises: each format fails in ways of its own."""
    try:
        yield
    except (_Refused, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        needs = re.search(r"the module (\S+) is needed", said)
        if needs or isinstance(error, ImportError) or "HDF reader" in said:  # a .set of MATLAB's format 7.3
            name = needs[1] if needs else getattr(error, "name", "pymatreader")
            raise ModuleNotFoundError(
                f'{path} cannot be read without {name}, which is not installed: pip install "eegxai-support[formats]"',
                name=name,
            ) from error
        if said.startswith("Unsupported file type"):
            raise ValueError(
                f"{path} has the ending {path.suffix or 'of no format'!r}; expected one of {ENDINGS}. Arrays become"
                " trials by xs.from_array."
            ) from error
        raise ValueError(
            f"{path} cannot be read as {''.join(path.suffixes[-1:])}: {said[:200]}. Is it whole, and is its ending that"
            " of its format? Compare its size with the original's and copy it again."
        ) from error


def load(inst: mne.io.BaseRaw | mne.BaseEpochs, path: Path) -> None:
    """Load the data, without the lines that MNE prints of it."""
    with readable(path), mne.utils.use_log_level("WARNING"):
        inst.load_data()


class noted:
    """Turn what is warned of inside into notes, and warn of it again at the caller's line."""

    def __init__(self, notes: list[str], name: str = ""):
        self.notes, self.begin = notes, f"{name}: " * bool(name)
        self.catching = warnings.catch_warnings(record=True)

    def __enter__(self):
        self.caught = self.catching.__enter__()
        warnings.simplefilter("always")

    def __exit__(self, kind, error, traceback):
        self.catching.__exit__(kind, error, traceback)
        for each in self.caught if error is None else ():
            said = self.begin + " ".join(str(each.message).split())
            told = said in self.notes or any(part in said for part in OF_NO_INTEREST)
            if issubclass(each.category, UserWarning | RuntimeWarning) and not told:
                self.notes.append(said)
                warn(said, each.category)


def digests(files: Iterable[Path]) -> tuple[tuple[str, str], ...]:
    """Return each file with its SHA-256, read in pieces."""
    found = {}
    for path in files:
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
            if str(file) not in found:
                with file.open("rb") as content:
                    found[str(file)] = hashlib.file_digest(content, "sha256").hexdigest()
    return tuple(found.items())


def files_of(path: Path, inst: mne.io.BaseRaw | mne.BaseEpochs) -> list[Path]:
    """Return all that a recording was read from: its data, its markers, and what BIDS has beside it."""
    beside = [path.with_suffix(part) for part, header in HEADERS.items() if header == path.suffix]
    if BIDS_NAME.fullmatch(path.name):
        beside += sorted(path.parent.glob(f"{path.name.partition('_eeg.')[0]}_*.tsv"))
    data = [Path(name) for name in getattr(inst, "filenames", ()) if name]
    return [path, *(each for each in (*data, *beside) if each.exists() and each.resolve() != path.resolve())]
