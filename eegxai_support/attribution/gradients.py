"""Maps from one gradient per trial."""

from torch import Tensor

from eegxai_support.attribution.problem import Problem, register


@register("gradient", reference="Simonyan et al. 2014, ICLR workshop")
def gradient(problem: Problem) -> Tensor:
    """Return the signed input gradient df/dx."""
    return problem.by_batch(lambda trial: problem.gradient(problem.x[trial], trial))


@register("saliency", reference="Simonyan et al. 2014, ICLR workshop")
def saliency(problem: Problem) -> Tensor:
    """Return the absolute input gradient."""
    return gradient(problem).abs_()


# The gradient times the input; exact only for a network that is linear without a bias.
register("input_x_gradient", reference="Shrikumar et al. 2016, arXiv:1605.01713", linear_in_input=True)(gradient)
