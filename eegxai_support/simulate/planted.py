"""Real trials as the background of simulated sources, and new labels for them."""

from __future__ import annotations

import numpy as np

from eegxai_support.montages import canonical_name, canonical_names
from eegxai_support.simulate.noise import Noise
from eegxai_support.simulate.recording import Recording, check
from eegxai_support.trials import Trials

FROM_BACKGROUND = ("sfreq", "duration", "tmin", "n_runs", "ch_names")
IN_MICROVOLTS = ("blink_rate", "muscle_rate")


def recording_of(background: Trials, options: dict) -> Recording:
    """Return what the background says of the recording; `options` are the rest.

    Raises
    ------
    ValueError
        An option that the background decides, one in µV where the background has no unit, or a channel without a place.
    """
    for name in FROM_BACKGROUND:
        check(name not in options, f"{name} beside a background", f"the background alone, whose {name} it is")
    in_microvolts = [name for name in IN_MICROVOLTS if name in options]
    check(
        background.unit == "uV" or not in_microvolts,
        f"{', '.join(in_microvolts)} in a background whose unit is {background.unit!r}",
        "a background in 'uV', since artefacts have so many µV",
    )
    duration = background.signal.shape[2] / background.sfreq
    names = electrodes(background)
    return Recording(sfreq=background.sfreq, duration=duration, tmin=background.tmin, ch_names=names, **options)


def electrodes(trials: Trials) -> tuple[str, ...]:
    """Return the names that the channels have in the 10-05 system.

    Raises
    ------
    ValueError
        A channel that is no electrode of that system.
    """
    names = canonical_names(trials.info.ch_names)
    if None in names:  # of all, since one that is of another system makes the others doubtful
        unknown = [name for name in trials.info.ch_names if canonical_name(name) is None] or trials.info.ch_names
        raise ValueError(
            f"{', '.join(unknown)} are no electrodes of the 10-05 system, so that it is not known what a source puts"
            " there. Rename them, or pick the others."
        )
    return tuple(names)


def drawn(background: Trials, n_trials: int | None, rng: np.random.Generator) -> Trials:
    """Return the background, or fewer of its trials: of each run and class their share."""
    n_trials = len(background) if n_trials is None else n_trials
    check(
        1 <= n_trials <= len(background),
        f"{n_trials} trials in a background of {len(background)}",
        "as many or fewer: a trial that came twice would stand on both sides of a split",
    )
    place = np.empty(len(background))
    for rows in _strata(background):
        place[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return background.subset(np.sort(np.argsort(place, kind="stable")[:n_trials]))


def new_labels(background: Trials, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw labels in equal numbers within each run and old class.

    What an old class has too many moves on to the next, so that runs, and all trials, are as balanced as they can be.
    """
    label, first = np.empty(len(background), int), rng.integers(n_classes)
    for rows in _strata(background):
        label[rng.permutation(rows)] = (first + np.arange(len(rows))) % n_classes
        first += len(rows)
    return label


def _strata(background: Trials) -> list[np.ndarray]:
    """Return the rows of each run and old class, those of one run after the other, in whichever order trials stand."""
    table = background.metadata[["subject", "session", "run"]].reset_index(drop=True)
    if background.label is not None:
        table["label"] = background.label
    return [np.asarray(rows) for rows in table.groupby(list(table)).indices.values()]


def without_class(background: Trials, suppressor: str | None, shared: np.ndarray | None, rng) -> np.ndarray:
    """Return the background's signal; for a suppressor, noise that all share is added, and the suppressor has no other.

    Parameters
    ----------
    shared : ndarray, shape (channel,), or None
        Amplitude of the shared noise.
    """
    signal = background.signal.copy()
    if suppressor is not None:
        check(
            background.unit == "uV",
            f"a suppressor in a background whose unit is {background.unit!r}",
            "a background in 'uV', since the noise that it shares has so many µV",
        )
        signal[:, background.info.ch_names.index(suppressor)] = 0
        size = np.linalg.norm(shared)
        noise = Noise(shared[:, None] / size, np.array([size**2]), signal.shape[2], background.sfreq)
        signal += noise.draw(len(signal), rng)
    return signal
