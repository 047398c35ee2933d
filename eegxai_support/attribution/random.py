"""Maps that know nothing, against which the others are judged."""

import torch
from numpy.random import default_rng
from torch import Tensor

from eegxai_support.attribution.problem import Problem, register


@register(
    "random", reference="Cui et al. 2023, Front. Comput. Neurosci. 17:1232925", uses_target=False, uses_gradient=False
)
def random(problem: Problem, *, seed: int = 0) -> Tensor:
    """Return standard normal noise, the same for the same seed."""
    noise = default_rng(seed).standard_normal(tuple(problem.x.shape), dtype="float32")
    return torch.as_tensor(noise).to(problem.x)
