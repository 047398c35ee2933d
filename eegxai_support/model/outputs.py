"""What the outputs of a classifier are."""

from __future__ import annotations

import torch
from torch import Tensor

NORMALISED = 1e-5  # by which the sum of float32 probabilities of a trial may differ from 1


def output_kind(outputs: Tensor) -> str:
    """Tell whether the outputs of a classifier are logits, probabilities or their logarithms.

    Probabilities are 0 or more and sum to 1 over the classes, log-probabilities have a logsumexp of 0. Logits meet
    neither in every trial but by chance, of about 1e-5 for a single trial of two classes.

    Parameters
    ----------
    outputs : Tensor, shape (trial, output) or (trial, output, time)
        Of a model in eval mode.

    Returns
    -------
    {"logits", "probabilities", "log_probabilities"}
        "logits" for whatever is not certainly one of the others: a single output, no trial, NaN in one.
    """
    if outputs.ndim < 2 or outputs.shape[1] < 2 or not outputs.numel() or not outputs.is_floating_point():
        return "logits"
    tolerance = max(NORMALISED, torch.finfo(outputs.dtype).eps)
    outputs = outputs.detach().cpu().double()
    if (outputs >= 0).all() and ((outputs.sum(1) - 1).abs() <= tolerance).all():
        return "probabilities"
    return "log_probabilities" if (outputs.logsumexp(1).abs() <= tolerance).all() else "logits"


def probabilities(outputs: Tensor, kind: str) -> Tensor:
    """Return the probability of each class.

    Parameters
    ----------
    outputs : Tensor, shape (trial, output)
    kind : {"logits", "probabilities", "log_probabilities"}
        As `output_kind` tells.
    """
    return {"logits": lambda z: z.softmax(1), "probabilities": lambda p: p, "log_probabilities": torch.exp}[kind](
        outputs
    )
