"""What a report, or the verdict alone, is asked: a network or the name of one, trials, and what may not be mixed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from eegxai_support.model import unwrapped
from eegxai_support.recordings import from_epochs
from eegxai_support.report.decoding import Decoding, Prepare, explained_by_one, groups_of, train_left_out
from eegxai_support.report.leaks import order_accuracy, shared_samples
from eegxai_support.report.parts import Parts, fingerprint
from eegxai_support.trials import Trials, concatenate

MAX_FOLDS = 5
FEWEST = 8  # trials of a class: with fewer neither an accuracy nor a mean map says much


@dataclass(frozen=True, eq=False)
class Question:
    """A network and trials that fit together.

    Parameters
    ----------
    model : torch.nn.Module or str
        A network, or the name of one to be trained.
    trials : Trials
    test : Trials or None
        Known to be others than those that the network was trained on.
    prepare : callable
        ``prepare(trials) -> trials``.
    group : str
        What may not stand on both sides of a split.
    groups : ndarray or None
        That of each trial, where networks are to be trained.
    """

    model: nn.Module | str
    trials: Trials
    test: Trials | None
    prepare: Prepare
    group: str
    groups: np.ndarray | None

    @classmethod
    def of(cls, model, trials, test, prepare: Prepare | None, group: str, name: str) -> Question:
        """Return what the arguments of a function of this `name` ask.

        Raises
        ------
        ValueError
            Trials without classes, or with too few; one group only.
        """
        trials, test = _trials(trials), None if test is None else _trials(test)
        _check_classes(trials if test is None else test, name)
        named = isinstance(model, str)
        model = model if named else unwrapped(model)
        prepare = prepare or (Trials.standardise if named else unchanged)
        return cls(model, trials, test, prepare, group, groups_of(trials, group) if named else None)

    def parts(self, folder: Path) -> Parts:
        """Return what keeps the tables that answer this question."""
        return Parts(folder, [fingerprint(self.trials), self.test and fingerprint(self.test), self.group])

    def decoded(self, seeds: list[int], epochs: int | None, weights: Path, parts: Parts) -> Decoding:
        """Return the networks, trained where there is a name alone, and the trials that each has not seen."""
        if self.groups is None:
            return explained_by_one(self.model, self.trials, self.test, self.prepare, self.group)
        return train_left_out(
            self.model, self.trials, self.prepare, self.groups, seeds=seeds, epochs=epochs, max_groups=MAX_FOLDS,
            folder=weights, parts=parts,
        )  # fmt: skip

    def leaks(self, seed: int) -> tuple[pd.DataFrame | None, dict | None]:
        """Return the trials with twins on the other side of a split, and what their order tells of the class.

        None where it is not known which trials a network was trained on.
        """
        if self.groups is not None:
            return shared_samples(self.trials, self.groups), order_accuracy(self.trials, self.groups, seed)
        return (None if self.test is None else _shared_with_test(self.trials, self.test)), None


def check_numbers(**numbers: int | None) -> None:
    """Refuse numbers of networks or epochs below one."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; expected 1 or more.")


def unchanged(trials: Trials) -> Trials:
    """Return the trials as they are."""
    return trials


def _trials(given) -> Trials:
    """Return trials, a column of whose metadata holds values of one type: tables on disk have no other."""
    trials = given if isinstance(given, Trials) else from_epochs(given)
    mixed = {
        name: column.astype(object).where(column.isna(), column.astype(str))
        for name, column in trials.metadata.items()
        if len({type(value) for value in column.dropna()}) > 1
    }
    return replace(trials, metadata=trials.metadata.assign(**mixed)) if mixed else trials


def _check_classes(trials: Trials, name: str) -> None:
    trials.require_classes(name)
    counts = np.bincount(trials.label, minlength=trials.n_classes)
    if trials.n_classes < 2:
        raise ValueError(f"All trials are of the class {trials.class_names[0]}; a decoder needs two or more.")
    if counts.min() < FEWEST:
        named = ", ".join(f"{name} {n}" for name, n in zip(trials.class_names, counts, strict=True))
        raise ValueError(
            f"Trials of each class: {named}; a report needs {FEWEST} of each. Leave the rare classes out, or join them"
            " with others."
        )


def _shared_with_test(trials: Trials, test: Trials) -> pd.DataFrame:
    """Return which test trials hold samples of the others, numbered within the test trials."""
    is_test = np.arange(len(trials) + len(test)) >= len(trials)
    leaks = shared_samples(concatenate([trials, test]), is_test)
    return leaks[leaks["trial"] >= len(trials)].assign(trial=leaks["trial"] - len(trials)).reset_index(drop=True)
