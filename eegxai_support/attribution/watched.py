"""A forward pass whose modules are known to the rules of LRP while they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from eegxai_support.attribution.problem import Problem
from eegxai_support.attribution.relevance import Relevance
from eegxai_support.model import is_braindecode


@contextmanager
def watched(model: nn.Module, rules: Relevance, conditions: dict) -> Iterator[None]:
    """Tell `rules` which module runs, keep only the relevance of chosen filters, and leave no trace."""

    def ended(*_):
        rules.running.pop()

    modules = dict(model.named_modules())
    combined = [m for m in modules.values() if is_braindecode(m, "CombinedConv") and "forward" not in vars(m)]
    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: rules.running.append(name)))
            if name in conditions:
                handles.append(module.register_forward_hook(partial(_keep, rules, name, conditions[name])))
            handles.append(module.register_forward_hook(ended))
        for module in combined:  # so that its two layers run, each under its own name
            module.forward = lambda x, module=module: module.conv_spat(module.conv_time(x))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in combined:
            del module.forward


def _keep(rules: Relevance, name: str, filters, module: nn.Module, inputs: tuple, output) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim < 2:
        raise ValueError(f"conditions[{name!r}]: the layer returns no tensor (trial, filter, ...).")
    index, n_filters = np.atleast_1d(np.asarray(filters)), output.shape[1]
    if (
        index.ndim > 1
        or not index.size
        or index.dtype.kind not in "iu"
        or not 0 <= index.min() <= index.max() < n_filters
    ):
        raise ValueError(
            f"conditions[{name!r}] is {filters!r}; expected one or more of the layer's filters 0 … {n_filters - 1}."
        )
    mask = output.new_zeros(n_filters)
    mask[torch.as_tensor(index, dtype=torch.long, device=mask.device)] = 1
    return rules.keep(output, name, mask.view(-1, *(1,) * (output.ndim - 2)))


class _Probe(Relevance):
    """Find out whether the first axis of every layer counts trials, given a batch of one trial and one of NaN."""

    trials_first = True

    def _report(self, operation, rule, result, to_bias, seen=None):
        first, other = len(result) // 2, len(result) % 2
        self.trials_first &= not other and not result[:first].isnan().any()


def trials_first(method: str, problem: Problem) -> bool:
    """Whether the first axis of every layer counts trials."""
    x = problem.x[:1].to(problem.device)
    probe = _Probe(method)
    with watched(problem.model, probe, {}), probe:
        trials = torch.zeros(2, dtype=torch.long)
        problem.outputs(torch.cat([x, torch.full_like(x, torch.nan)]).requires_grad_(), trials, problem.model)
    return probe.trials_first
