"""What a trained network knows about its training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from torch import nn

from eegxai_support.files import to_json


@dataclass(frozen=True)
class TrainingRecord:
    """What a network was trained on; weights alone do not say it, and other trials make sense only if they agree.

    `train` sets it as the attribute ``training_record`` of the model, `save` and `load` keep it with the weights.

    Parameters
    ----------
    ch_names : tuple of str
        Channels in their order.
    sfreq : float
        Sampling rate in Hz.
    unit : str
        Unit of the signal, see `Trials`.
    scale : float
        Standard deviation of the training signal over trials, channels and time, in `unit`.
    class_names : tuple of str
        What the outputs stand for.
    n_trials : tuple of int
        Training trials of each class.
    trials : tuple of str
        `Trials.fingerprints` of the trials that it was trained or stopped by, which tell others from them.
    """

    ch_names: tuple[str, ...]
    sfreq: float
    unit: str
    scale: float
    class_names: tuple[str, ...]
    n_trials: tuple[int, ...]
    trials: tuple[str, ...] = ()

    @property
    def never_seen(self) -> tuple[str, ...]:
        """Classes without a training trial: what the network says of them is arbitrary."""
        return tuple(name for name, n in zip(self.class_names, self.n_trials, strict=True) if n == 0)

    def to_json(self) -> str:
        """Return the record as JSON text, for the header of a file."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainingRecord:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def record_of(model: nn.Module) -> TrainingRecord | None:
    """Return what a model knows about its training, None where it was not trained by `train`."""
    return getattr(model, "training_record", None)
