"""A network and methods that stand outside the package, for workers that import them by name."""

from torch import nn

import eegxai_support as xs


class Readout(nn.Module):
    """Logits of the mean square of each channel."""

    def __init__(self, n_chans, n_outputs):
        super().__init__()
        self.final_layer = nn.Linear(n_chans, n_outputs)

    def forward(self, x):
        return self.final_layer(x.square().mean(2))


def absolute(problem, *, seed=0):
    return problem.by_batch(lambda trial: problem.gradient(problem.x[trial], trial)).abs()


@xs.register("own_parts.times_input", reference="by hand", linear_in_input=True)
def times_input(problem):
    return problem.by_batch(lambda trial: problem.gradient(problem.x[trial], trial))
