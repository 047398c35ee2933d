"""The table of what components look like, whoever judged them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd


def label_table(probability: np.ndarray, classes: Iterable[str]) -> pd.DataFrame:
    """Return the likeliest class of each component beside the probability of every class.

    Parameters
    ----------
    probability : ndarray, shape (component, class)
    classes : iterable of str

    Returns
    -------
    pandas.DataFrame
        One row per component: component, label, probability of the label, and a column for each class.
    """
    table = pd.DataFrame(probability, columns=list(classes))
    best = pd.DataFrame({"component": table.index, "label": table.idxmax(axis=1), "probability": table.max(axis=1)})
    return best.join(table)
