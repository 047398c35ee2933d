"""DeepLIFT by captum, with the rescale rule for every elementwise activation of EEG networks."""

from __future__ import annotations

import warnings
from unittest.mock import patch

from captum.attr import DeepLift
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, nonlinear
from torch import Tensor, nn

from eegxai_support.attribution.problem import Problem, UnsupportedOperation, register
from eegxai_support.attribution.simplify import is_braindecode

# Softmax is in captum's table, but captum's rule subtracts a mean over the whole batch, so that trials mix.
ELEMENTWISE = (nn.GELU, nn.SiLU, nn.Mish, nn.SELU, nn.CELU, nn.Hardtanh, nn.ReLU6, nn.LogSigmoid, nn.Softmax)
ELEMENTWISE_BRAINDECODE = ("Square", "SafeLog", "LogActivation", "SmoothMaximumUnit")


@register(
    "deep_lift",
    reference="Shrikumar et al. 2017, ICML",
    needs_baseline=True,
    conserves=True,
    linear_in_input=True,
    tolerance=1e-3,
)
def deep_lift(problem: Problem) -> Tensor:
    """Return DeepLIFT multipliers by the rescale rule [1]_.

    Exact where every nonlinearity is a module of its own; elsewhere the delta tells how much is missing.

    References
    ----------
    .. [1] Shrikumar, Greenside & Kundaje (2017). Learning important features through propagating activation
       differences. ICML.
    """
    rules = {
        type(module): nonlinear
        for module in problem.model.modules()
        if type(module) in ELEMENTWISE or is_braindecode(module, *ELEMENTWISE_BRAINDECODE)
    }
    names = {module: name for name, module in problem.model.named_modules()}

    def multiplier(trial: Tensor) -> Tensor:
        explainer = _DeepLift(_Scored(problem, trial), names)
        x = problem.x[trial].requires_grad_()  # captum warns when it has to ask for the gradient itself
        return explainer.attribute(x, problem.baseline[trial]).detach()

    # captum's table is global: the rules go in for this call only.
    with patch.dict(SUPPORTED_NON_LINEAR, rules), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
        return problem.by_batch(multiplier)


class _Scored(nn.Module):
    """The explained function of the trials above their baselines, the batch that captum's hooks make."""

    def __init__(self, problem: Problem, trial: Tensor):
        super().__init__()
        self.model = problem.model
        self.value = lambda x: problem.value(x, trial.repeat(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x)


class _DeepLift(DeepLift):
    """captum's DeepLift, also right for adjacent nonlinear modules, that names what it cannot treat and cleans up."""

    def __init__(self, model: nn.Module, names: dict[nn.Module, str]):
        super().__init__(model, multiply_by_inputs=False)
        self.names = names

    def satisfies_attribute_criteria(self, module: nn.Module) -> bool:
        if not super().satisfies_attribute_criteria(module):
            raise UnsupportedOperation(
                f"deep_lift has no rule for a module that runs more than once in a forward pass:"
                f" {self.names[module]} ({module}). Use integrated_gradients."
            )
        return True

    def _register_hooks(self, module: nn.Module, attribute_to_layer_input: bool = True) -> None:
        n_hooks = len(self.forward_handles)
        super()._register_hooks(module, attribute_to_layer_input)
        if len(self.forward_handles) > n_hooks:
            # captum hooks a module's input and output tensors. Where activation and max pool follow each other these
            # are one tensor, and the activation reads its gradient before the pool has replaced it; a copy parts them.
            self.forward_handles.append(module.register_forward_hook(lambda module, inputs, output: output.clone()))

    def _remove_hooks(self, extra_hooks_to_remove: list) -> None:
        super()._remove_hooks(extra_hooks_to_remove)
        for module in self.names:
            if type(module) in SUPPORTED_NON_LINEAR:
                module.__dict__.pop("input", None)
                module.__dict__.pop("output", None)
