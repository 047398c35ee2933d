"""Maps from one gradient per trial."""

import torch
from torch import Tensor

from eegxai_support.attribution.problem import Problem, register


@register("gradient", reference="Simonyan et al. 2014, ICLR workshop")
def gradient(problem: Problem) -> Tensor:
    """Return the signed input gradient df/dx."""
    at_x = torch.empty(len(problem.x), dtype=torch.float64)

    def note(trial, value):
        at_x[trial] = value.cpu().double()

    maps = problem.by_batch(lambda trial: problem.gradient(problem.x[trial], trial, note))
    problem.at_x = at_x  # which the receipt asks for, and need not be computed again
    return maps


@register("saliency", reference="Simonyan et al. 2014, ICLR workshop")
def saliency(problem: Problem) -> Tensor:
    """Return the absolute input gradient."""
    return gradient(problem).abs_()


# The gradient times the input; exact only for a network that is linear without a bias.
register("input_x_gradient", reference="Shrikumar et al. 2016, arXiv:1605.01713", linear_in_input=True)(gradient)
