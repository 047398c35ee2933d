"""Independent components that EEGLAB found, with what its ICLabel says of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from eegxai_support.model import needed
from eegxai_support.montages import located
from eegxai_support.sources.labels import label_table

# The classes as EEGLAB's plug-in writes them into a file, and as mne-icalabel and `label_components` call them.
CLASSES = {
    "Brain": "brain",
    "Muscle": "muscle artifact",
    "Eye": "eye blink",
    "Heart": "heart beat",
    "Line Noise": "line noise",
    "Channel Noise": "channel noise",
    "Other": "other",
}


def read_components(path: str | Path) -> tuple[mne.preprocessing.ICA, pd.DataFrame | None]:
    """Read the independent components of an EEGLAB data set, and the labels that ICLabel gave them there [1]_.

    With these, `component_relevance` and `remove_components` use the decomposition that a recording was cleaned with,
    instead of fitting another.

    Parameters
    ----------
    path : str or Path
        A file ``.set``. What EEGLAB keeps beside it, ``.fdt``, is not read.

    Returns
    -------
    ica : mne.preprocessing.ICA
        Its channels are those that EEGLAB decomposed, ``ica.ch_names``, named as `from_epochs` names them; it may have
        left some out. Bring the trials into this order, `Trials.pick`, and keep the file's reference: against another
        one, part of the relevance is in the last column of `component_relevance`, what the components leave.
    labels : pandas.DataFrame or None
        As `label_components` returns it: a row per component with label, probability, and the probability of each
        class. None where the file has no classification by ICLabel.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is no EEGLAB data set, holds several of them, or has no decomposition or one of a single component.
    ModuleNotFoundError
        pymatreader is not installed.

    Warns
    -----
    UserWarning
        The file's classification is of another number of components than it has. Its labels are not those of these
        components, and None is returned.
    RuntimeWarning
        Of MNE, where ``icawinv`` is not the inverse of ``icaweights * icasphere``; it then takes ``icawinv``.

    References
    ----------
    .. [1] Pion-Tonachini, Kreutz-Delgado & Makeig (2019). ICLabel: an automated electroencephalographic independent
       component classifier, dataset, and website. NeuroImage 198, 181-197.
    """
    eeg = _data_set(Path(path))
    if not np.size(eeg.get("icaweights", ())) or not np.size(eeg.get("icasphere", ())):
        raise ValueError(
            f"{path} has no independent components: its icaweights are empty. Decompose it in EEGLAB (Tools > Decompose"
            " data by ICA) and save it, or fit components here: fit_ica."
        )
    if np.ndim(eeg["icaweights"]) < 2:  # a row of a matrix, which MATLAB's readers bring without the axis
        raise ValueError(f"{path} has a single component, which MNE does not read; expected two or more.")
    ica = mne.preprocessing.read_ica_eeglab(path, verbose=False)
    ica.info = located(ica.info)
    ica.ch_names = ica.info["ch_names"]
    return ica, _labels(eeg, ica.n_components_, path)


def _data_set(path: Path) -> dict:
    """Return the fields of an EEGLAB data set, which is a variable EEG or, saved by parts, all variables of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with needed("read_components", extra="formats"):
        from pymatreader import read_mat
    try:
        variables = read_mat(path)
    except Exception as error:  # of SciPy or h5py, by whatever the file holds instead
        raise ValueError(f"{path} is not a MATLAB file, as an EEGLAB data set is ({error}).") from error
    eeg = variables.get("EEG", variables)
    if not isinstance(eeg, dict) or "chanlocs" not in eeg:
        held = ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
        several = " It holds several data sets: save each in a file of its own." * ("ALLEEG" in variables)
        raise ValueError(f"{path} holds {held} and no EEGLAB data set.{several}")
    return eeg


def _labels(eeg: dict, n_components: int, path) -> pd.DataFrame | None:
    """Return ICLabel's table, where the data set holds it for these components."""
    classified = eeg
    for field in ("etc", "ic_classification", "ICLabel"):
        classified = classified.get(field) if isinstance(classified, dict) else None
    if not isinstance(classified, dict) or not np.size(classified.get("classifications", ())):
        return None
    classes = [str(each) for each in np.ravel(classified["classes"])]
    if set(classes) != CLASSES.keys():
        raise ValueError(f"{path} names ICLabel's classes {', '.join(classes)}; expected {', '.join(CLASSES)}.")
    probability = np.atleast_2d(classified["classifications"])
    if probability.shape != (n_components, len(classes)):
        warnings.warn(
            f"{path} has {n_components} components, and ICLabel's classes of {len(probability)}: they were classified"
            " before some were removed or the ICA was repeated, so that no label is sure to be that of its component."
            " Classify them again in EEGLAB, or here: label_components.",
            stacklevel=3,
        )
        return None
    order = [classes.index(each) for each in CLASSES]
    return label_table(probability[:, order], CLASSES.values())
