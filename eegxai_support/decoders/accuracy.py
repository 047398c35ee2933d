"""Accuracy, and what it is to be judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accuracy:
    """An accuracy beside the levels that a decoder reaches without having learnt anything.

    Parameters
    ----------
    accuracy : float
        Share of trials that are classified rightly.
    balanced : float
        Mean over the classes that occur of the share of their trials [1]_; guessing one class always, or at random,
        has 1 / (number of these classes).
    chance : float
        1 / (number of classes): what guessing at random reaches.
    majority : float
        Share of the largest class: what answering it always reaches.
    n_trials : int

    References
    ----------
    .. [1] Brodersen et al. (2010). The balanced accuracy and its posterior distribution. ICPR.
    """

    accuracy: float
    balanced: float
    chance: float
    majority: float
    n_trials: int

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.2f} (balanced {self.balanced:.2f}, chance {self.chance:.2f}, largest class"
            f" {self.majority:.2f}, {self.n_trials} trials)"
        )


def accuracy(label, predicted, n_classes: int | None = None) -> Accuracy:
    """Return an accuracy with its balanced form, chance and the level of the largest class.

    Parameters
    ----------
    label, predicted : array-like of int, shape (trial,)
        As `cross_validate` returns them.
    n_classes : int, optional
        Classes that the decoder chooses from; up to the highest that occurs in either array if None.

    Returns
    -------
    Accuracy

    Raises
    ------
    ValueError
        No trial, shapes that disagree, or classes that are not whole numbers from 0, below `n_classes`.

    See Also
    --------
    permutation_p_value : Whether the accuracy could be an accident.
    """
    label, predicted = np.asarray(label), np.asarray(predicted)
    if label.shape != predicted.shape or label.ndim != 1 or not len(label):
        raise ValueError(
            f"label has shape {label.shape} and predicted {predicted.shape}; expected (trial,) twice, one class per"
            " trial. Of logits, take predict(model, x).argmax(1)."
        )
    classes = np.unique([label, predicted])
    if classes.dtype.kind not in "iu" or classes[0] < 0 or classes[-1] >= (n_classes or np.inf):
        limit = f" below {n_classes}" if n_classes else ""
        raise ValueError(
            f"label and predicted have the values {classes[:9].tolist()}; expected whole numbers from 0{limit}."
        )
    return Accuracy(
        accuracy=float((label == predicted).mean()),
        balanced=float(((label == predicted) * class_weights(label)).mean()),
        chance=1 / (n_classes or int(classes[-1]) + 1),
        majority=float(np.bincount(label).max() / len(label)),
        n_trials=len(label),
    )


def class_weights(label: np.ndarray) -> np.ndarray:
    """Return a weight for each trial, 1 on average, with which all classes that occur count alike, (trial,)."""
    classes, of_class, n_trials = np.unique(label, return_inverse=True, return_counts=True)
    return (len(label) / (len(classes) * n_trials))[of_class]
