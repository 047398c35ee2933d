"""Layer-wise relevance propagation, with a report of where the relevance went."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from eegxai_support.attribution.operations import require_eager, runs
from eegxai_support.attribution.problem import SMALL_CHANGE, Maps, Problem, register
from eegxai_support.attribution.relevance import EPSILON, TINY, Relevance, alpha_beta_rule, epsilon_rule, gamma_rule
from eegxai_support.model import UnsupportedOperation, is_braindecode, wide
from eegxai_support.trials import unknown_name

LOST = 1e-3  # share of the output that may go astray before a warning


@contextmanager
def _watched(model: nn.Module, rules: Relevance, conditions: dict) -> Iterator[None]:
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
    rules.conditioned.add(name)
    mask = output.new_zeros(n_filters)
    mask[torch.as_tensor(index, dtype=torch.long, device=mask.device)] = 1
    return rules.keep(output, mask.view(-1, *(1,) * (output.ndim - 2)))


class _Probe(Relevance):
    """Find out whether the first axis of every layer counts trials, given a batch of one trial and one of NaN."""

    trials_first = True

    def _report(self, operation, rule, result, to_bias, seen=None):
        first, other = len(result) // 2, len(result) % 2
        self.trials_first &= not other and not result[:first].isnan().any()


def _trials_first(method: str, problem: Problem) -> bool:
    x = problem.x[:1].to(problem.device)
    probe = _Probe(method)
    with _watched(problem.model, probe, {}), probe:
        problem.model(torch.cat([x, torch.full_like(x, torch.nan)]).requires_grad_().clone())
    return probe.trials_first


def _lrp(method: str, rule: Callable, problem: Problem, epsilon, bias, first_layer, conditions) -> Maps:
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}; expected a number above 0.")
    if bias not in ("keep", "share"):
        raise ValueError(f"bias is {bias!r}; expected 'keep' or 'share'.")
    if first_layer not in (None, "flat"):
        raise ValueError(f"first_layer is {first_layer!r}; expected None or 'flat'.")
    require_eager(method, problem.model)
    conditions, layers = conditions or {}, dict(problem.model.named_modules())
    for name in conditions:
        if name not in layers:
            raise unknown_name("layer", name, layers)
    if not _trials_first(method, problem):  # so that the report can tell the trials apart
        problem = replace(problem, batch_size=1)
    reports = []

    def maps(trial):
        x = problem.x[trial].to(problem.device).requires_grad_()
        ones = torch.ones_like(x, requires_grad=True)
        rules = Relevance(method, rule, len(trial), epsilon, bias)
        if first_layer == "flat":
            rules.ones[x] = ones
        with _watched(problem.model, rules, conditions), rules:
            value = problem.value(x, trial, problem.model)
        if missed := sorted(set(conditions) - rules.conditioned):
            raise UnsupportedOperation(f"{method} cannot keep filters of {', '.join(missed)}, which never ran.")
        multiplier, flat = torch.autograd.grad(value.sum(), (x, ones), allow_unused=True)
        reports.append(_report(rules, trial))
        if first_layer is None:
            return multiplier
        if flat is None:
            raise UnsupportedOperation(f"{method}: no layer reads the trials directly. Use first_layer=None.")
        return flat if multiplier is None else flat + x.detach() * multiplier

    result = problem.by_batch(maps)
    report = pd.concat(reports, ignore_index=True)
    if not conditions:
        _warn_of_loss(method, problem, result if first_layer else result * problem.x, report)
    return Maps(values=result, report=report) if first_layer else Maps(multiplier=result, report=report)


def _report(rules: Relevance, trial: Tensor) -> pd.DataFrame:
    """Return a row per trial and layer, of the layers that relevance reached."""
    rows = [row for row in rules.rows if "relevance" in row]
    report = pd.DataFrame({"trial": np.tile(trial.numpy(), len(rows))})
    for name in ("layer", "operation", "rule"):
        report[name] = np.repeat(np.array([row[name] for row in rows], dtype=object), len(trial))
    for name in ("relevance", "to_input", "to_bias"):
        report[name] = np.concatenate([[], *(row[name] for row in rows)])
    report["lost"] = report["relevance"] - report["to_input"] - report["to_bias"]
    return report.sort_values("trial", kind="stable", ignore_index=True)


def _warn_of_loss(method: str, problem: Problem, values: Tensor, report: pd.DataFrame) -> None:
    """Compare what arrived at trials and biases with the output, computed apart from the rules."""
    n_trials = len(problem.x)
    output = problem.values(problem.x, torch.arange(n_trials)).cpu().double()
    to_bias = np.bincount(report["trial"], report["to_bias"], n_trials)
    missing = (wide(values).sum((1, 2)).cpu() + torch.as_tensor(to_bias) - output).abs()
    share = missing / output.abs().clamp(min=max(SMALL_CHANGE * float(output.abs().max()), TINY))
    if share.max() > LOST:
        worst = int(share.argmax())
        warnings.warn(
            f"{method} on {type(problem.model).__name__}: in {int((share > LOST).sum())} of {n_trials} trials input and"
            f" biases together miss more than {LOST:g} of the output; worst is trial {worst} with {share[worst]:.2g}."
            " The report says in which layer; a smaller epsilon keeps more.",
            stacklevel=6,
        )


def _register(reference: str) -> Callable:
    def enter(compute):
        name = compute.__name__
        return register(name, reference=reference, linear_in_input=True, applies_to=runs(partial(Relevance, name)))(
            compute
        )

    return enter


@_register("Bach et al. 2015, PLOS ONE 10(7)")
def lrp_epsilon(
    problem: Problem,
    *,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
) -> Maps:
    """Return relevance by the epsilon rule [1]_ in every layer.

    A layer hands each unit's relevance R down in proportion to the terms of z = sum of w x + b: the term z_i gets
    ``R z_i / (z + epsilon sign(z))``. The relevance of the output is the output itself.

    For all four LRP methods: the rules act on each torch function that the network calls. Batch norm is folded into
    the convolution or linear layer before it, elementwise functions pass relevance through, a maximum gives all to
    the winner, and pooling, sums and fixed scales share in proportion. Dense layers, fixed filters and batch norm
    that cannot be folded always have the epsilon rule. Constants that are added or inserted count as biases.
    Networks that multiply activations by each other (attention, gating, layer norm) are refused.

    The report has a row per trial and layer, from input to output. ``layer`` is the module as in
    ``model.named_modules()``, "conv + norm" where a batch norm is folded in and "" for the network itself;
    ``relevance`` arrives at its output and splits into ``to_input``, ``to_bias`` and ``lost``, what epsilon took. With
    all layers, the sum of a trial's map, its ``to_bias`` and its losses is the output.

    Parameters
    ----------
    problem : Problem
    epsilon : float
        Keeps denominators from zero, in units of the activations; larger values discard weak and contradicting terms.
        While biases keep their part, a denominator is never smaller than the unit's output, so that next to nothing
        is enough.
    bias : {"keep", "share"}
        A bias keeps its part of the relevance, or shares it out among the other terms as if it were not there. If
        shared, small sums of those terms can make large relevances of both signs.
    first_layer : {None, "flat"}
        "flat" shares relevance equally among all inputs that a unit of the first layer reads, whatever their values
        and weights [2]_; the map is then no multiple of the input, and `Attribution.multiplier` is None.
    conditions : dict, optional
        Filter or filters of layers, ``{"conv_spat": 3}`` or ``{"conv_spat": [3, 5], "conv_time": 0}``: the concept-
        conditional relevance of [3]_, with all channels and samples of the trial. Of what arrives at the named layer,
        only the part of these filters, counted along axis 1 of its output, goes on. Over the filters of a layer
        through which all relevance passes, the maps add up to the map without conditions.

    Raises
    ------
    ValueError
        An option out of range; an unknown layer or filter.
    UnsupportedOperation
        The network multiplies activations; a layer of `conditions` never runs; "flat", but the first operation is not
        a layer.

    Warns
    -----
    UserWarning
        Without conditions, map and biases of a trial together miss more than 0.1 % of the output.

    References
    ----------
    .. [1] Bach et al. (2015). On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
       propagation. PLOS ONE 10(7), e0130140.
    .. [2] Lapuschkin et al. (2019). Unmasking Clever Hans predictors and assessing what machines really learn.
       Nature Communications 10, 1096.
    .. [3] Achtibat et al. (2023). From attribution maps to human-understandable explanations through concept relevance
       propagation. Nature Machine Intelligence 5, 1006-1019.
    """
    return _lrp("lrp_epsilon", epsilon_rule, problem, epsilon, bias, first_layer, conditions)


@_register("Montavon et al. 2019, in Explainable AI, LNCS 11700")
def lrp_gamma(
    problem: Problem,
    *,
    gamma: float = 0.25,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
) -> Maps:
    """Return relevance by the gamma rule [1]_ in convolutions and the epsilon rule elsewhere.

    Terms z_i of the sign of their sum z are favoured by the factor 1 + gamma before the shares are taken. For z > 0
    and inputs that are not negative this is the published rule; the other cases mirror it, as in [2]_.

    Parameters
    ----------
    problem : Problem
    gamma : float
        At least 0, where it is the epsilon rule; large values approach the z⁺ rule.
    epsilon, bias, first_layer, conditions
        As for `lrp_epsilon`, where the report is described too.

    References
    ----------
    .. [1] Montavon et al. (2019). Layer-wise relevance propagation: an overview. In Explainable AI, LNCS 11700,
       193-209.
    .. [2] Andéol et al. (2023). Learning domain invariant representations by joint Wasserstein distance minimization.
       Neural Networks 167, 233-243.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma is {gamma}; expected a number that is not negative.")
    return _lrp("lrp_gamma", partial(gamma_rule, gamma=gamma), problem, epsilon, bias, first_layer, conditions)


@_register("Bach et al. 2015, PLOS ONE 10(7)")
def lrp_alpha_beta(
    problem: Problem,
    *,
    alpha: float = 2.0,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
) -> Maps:
    """Return relevance by the alpha-beta rule [1]_ in convolutions and the epsilon rule elsewhere.

    ``alpha R`` goes to the terms of z above zero and ``-beta R`` to those below, each in proportion, with
    beta = alpha - 1. A unit whose terms all have one sign gives them R, so that nothing is lost.

    Parameters
    ----------
    problem : Problem
    alpha : float
        At least 1.
    epsilon, bias, first_layer, conditions
        As for `lrp_epsilon`, where the report is described too. Convolutions need no epsilon here.

    References
    ----------
    .. [1] Bach et al. (2015). On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
       propagation. PLOS ONE 10(7), e0130140.
    """
    if not alpha >= 1:
        raise ValueError(f"alpha is {alpha}; expected at least 1.")
    return _lrp(
        "lrp_alpha_beta", partial(alpha_beta_rule, alpha=alpha), problem, epsilon, bias, first_layer, conditions
    )


@_register("Montavon et al. 2017, Pattern Recognition 65")
def lrp_z_plus(
    problem: Problem,
    *,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
) -> Maps:
    """Return relevance by the z⁺ rule [1]_ in convolutions and the epsilon rule elsewhere.

    Only terms above zero get relevance, in proportion: the alpha-beta rule with alpha = 1. The paper has it for inputs
    that are not negative; here a negative input through a negative weight is a term above zero. A unit without
    such a term gives its relevance to the terms that it has.

    Parameters
    ----------
    problem : Problem
    epsilon, bias, first_layer, conditions
        As for `lrp_epsilon`, where the report is described too. Convolutions need no epsilon here.

    References
    ----------
    .. [1] Montavon et al. (2017). Explaining nonlinear classification decisions with deep Taylor decomposition.
       Pattern Recognition 65, 211-222.
    """
    return _lrp("lrp_z_plus", partial(alpha_beta_rule, alpha=1.0), problem, epsilon, bias, first_layer, conditions)
