"""MNE's cache of recordings, and what stops a download on its way there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import mne

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def cache_folder(dataset: str) -> Path:
    """Folder that MNE uses for a data set ("EEGBCI", "BNCI"), without asking and without writing its configuration."""
    default = mne.get_config("MNE_DATA", "~/mne_data")
    return Path(mne.get_config(f"MNE_DATASETS_{dataset}_PATH", default)).expanduser()


def download_error(error: Exception, dataset: str, what: str, no_download: str) -> OSError:
    """Return the error to raise for a failed download: of the disk where it is full or locked, else of the network."""
    number = getattr(error, "errno", None)
    if number not in UNWRITABLE:
        return ConnectionError(no_download)
    folder = cache_folder(dataset)
    free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    return OSError(
        number,
        f"Cannot write {what} to {folder} ({os.strerror(number)}; {free / 1e6:.0f} MB free)."
        " Make room, or set MNE_DATA to a folder on another disk",
    )
