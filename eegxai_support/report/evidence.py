"""What every map of a report explains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def evidence(label: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a target: the output of each trial's class minus the mean of the other outputs.

    Softmax ignores what is added to all outputs; so does this, and for two classes it is their difference.

    Parameters
    ----------
    label : ndarray of int, shape (trial,)
    """
    label = torch.tensor(np.asarray(label))  # a copy: arrays of Trials are read-only

    def evidence_for_the_class(outputs: Tensor, trial: Tensor) -> Tensor:
        own_label = label.to(outputs.device)[trial]
        if outputs.shape[1] == 1:  # the logit of the second of two classes
            return outputs[:, 0] * (2 * own_label - 1)
        own = outputs.gather(1, own_label[:, None])[:, 0]
        return own - (outputs.sum(1) - own) / (outputs.shape[1] - 1)

    return evidence_for_the_class
