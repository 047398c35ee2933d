"""Layer-wise relevance propagation, with a report of where the relevance went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eegxai_support.attribution.operations import require_eager, runs
from eegxai_support.attribution.problem import SMALL_CHANGE, Maps, Problem, register
from eegxai_support.attribution.relevance import EPSILON, TINY, LayerRule, Relevance, matches
from eegxai_support.attribution.watched import trials_first, watched
from eegxai_support.model import UnsupportedOperation, warn
from eegxai_support.trials import unknown_name

LOST = 1e-3  # share of the output that may go astray before a warning


def _lrp(method: str, rule, problem: Problem, *, epsilon, bias, first_layer, conditions, rules) -> Maps:
    rule = LayerRule.named(rule, epsilon)
    if bias not in ("keep", "share"):
        raise ValueError(f"bias is {bias!r}; expected 'keep' or 'share'.")
    if first_layer not in (None, "flat"):
        raise ValueError(f"first_layer is {first_layer!r}; expected None or 'flat'.")
    require_eager(method, problem.model)
    conditions, layers = conditions or {}, dict(problem.model.named_modules())
    by_name = {pattern: LayerRule.named(each, epsilon) for pattern, each in (rules or {}).items()}
    for name in (*conditions, *by_name):
        if name not in layers and not (name in by_name and any(matches(layer, name) for layer in layers)):
            raise unknown_name("layer", name, layers)
    if not trials_first(method, problem):  # so that the report can tell the trials apart
        problem = replace(problem, batch_size=1)
    flat, reports = first_layer == "flat" or any(each == "flat" for each in (rules or {}).values()), []

    def maps(trial):
        x = problem.x[trial].to(problem.device).requires_grad_()
        ones = torch.ones_like(x, requires_grad=True)
        run = Relevance(method, rule, len(trial), bias, by_name, first_layer == "flat")
        if flat:
            run.ones[x] = ones
        with watched(problem.model, run, conditions), run:
            value = problem.value(x, trial, problem.model)
        _check_ran(method, run, conditions)
        multiplier, of_ones = run.multipliers(value, (x, ones))
        reports.append(_report(run, trial))
        if not flat:
            return multiplier
        if of_ones is None and not by_name:
            raise UnsupportedOperation(f"{method}: no layer reads the trials directly. Use first_layer=None.")
        parts = ones * of_ones if of_ones is not None else 0, x * multiplier if multiplier is not None else 0
        return sum(parts).detach()

    result = problem.by_batch(maps)
    report = pd.concat(reports, ignore_index=True)
    found = {"values" if flat else "multiplier": result, "report": report}
    if not conditions:
        found["kept"] = torch.as_tensor(np.bincount(report["trial"], report["to_bias"], len(problem.x)))
        _warn_of_loss(method, problem, Maps(**found), rule.epsilon, bias)
    return Maps(**found)


def _check_ran(method: str, run: Relevance, conditions: dict) -> None:
    if missed := sorted(set(conditions) - set(run.conditions)):
        raise UnsupportedOperation(f"{method} cannot keep filters of {', '.join(missed)}, which never ran.")
    if missed := [pattern for pattern in run.rules if pattern not in run.used]:
        raise UnsupportedOperation(
            f"{method}: the rules of {', '.join(missed)} act on nothing. No convolution or linear layer ran there, or"
            " an earlier pattern of `rules` took it; a batch norm that is folded has the rule of the layer before it."
        )


def _report(run: Relevance, trial: Tensor) -> pd.DataFrame:
    """Return a row per trial and layer, of the layers that relevance reached."""
    rows = [row for row in run.rows if "relevance" in row]
    report = pd.DataFrame({"trial": np.tile(trial.numpy(), len(rows))})
    for name in ("layer", "operation", "rule"):
        report[name] = np.repeat(np.array([row[name] for row in rows], dtype=object), len(trial))
    for name in ("relevance", "to_input", "to_bias"):
        all_else = [row["relevance"] - row["to_bias"] for row in rows]  # of joins, which lose nothing
        report[name] = np.concatenate([[], *(row.get(name, rest) for row, rest in zip(rows, all_else, strict=True))])
    report["lost"] = report["relevance"] - report["to_input"] - report["to_bias"]
    return report.sort_values("trial", kind="stable", ignore_index=True)


def _warn_of_loss(method: str, problem: Problem, maps: Maps, epsilon: float, bias: str) -> None:
    """Compare what arrived at trials and biases with the output, computed apart from the rules."""
    output = problem.values(problem.x, torch.arange(len(problem.x))).cpu().double()
    missing = problem.sums(maps) + maps.kept - output
    share = missing.abs() / output.abs().clamp(min=max(SMALL_CHANGE * float(output.abs().max()), TINY))
    if share.max() > LOST:
        worst = int(share.argmax())
        warn(
            f"{method} on {type(problem.model).__name__}: in {int((share > LOST).sum())} of {len(share)} trials input"
            f" and biases together miss more than {LOST:g} of the output; worst is trial {worst} with"
            f" {share[worst]:.2g}. {_cause(maps.report, worst, float(missing[worst]), epsilon, bias)}",
        )


def _cause(report: pd.DataFrame, trial: int, missing: float, epsilon: float, bias: str) -> str:
    """Say where a trial's relevance was lost, and what would keep it."""
    rows = report[report["trial"] == trial]
    if rows.empty or not abs(missing + rows["lost"].sum()) < abs(missing) / 2:
        return "No layer of the report lost it: hooks change it, or float32 rounds it away; compare model.double()."
    worst = rows.loc[rows["lost"].abs().idxmax()]
    where = f"Most is lost in {worst['layer']!r} ({worst['operation']}, {worst['rule']} rule)"
    if bias == "share":
        return f"{where}: terms that nearly cancel without their bias are divided by next to nothing; use bias='keep'."
    if epsilon > EPSILON:
        return f"{where}: a smaller epsilon than {epsilon:g} keeps more."
    return f"{where}, whose terms nearly cancel; compare model.double()."


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
    rules: dict | None = None,
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
        conditional relevance of [3]_, with all channels and samples of the trial. What arrives at these filters,
        counted along axis 1 of the layer's output, goes on; all else stops: other filters, and relevance that does
        not pass through the layer, in a branch beside it or a shortcut around it. Of several layers, only relevance
        that passes through every one counts, and layers side by side are refused. A map sums to the relevance that
        arrived at its filters less what biases below keep, and over all filters of a layer the maps add up to what
        passes through it: to the map without conditions, where nothing flows around the layer.
    rules : dict
        Rules of convolutions and linear layers by name, ``{"conv_time": "flat", "*.conv_*": ("gamma", {"gamma": 1})}``,
        a composite as in [4]_: "epsilon", "gamma", "alpha_beta", "z_plus", or "flat" for a layer that reads the
        trials. Parameters are `epsilon`, `gamma` and `alpha`. A key is a qualified name, which also stands for all
        layers inside, or a pattern with ``*``, ``?`` and ``[]``; the first key that matches counts, ahead of
        `first_layer` and of the method's rule. A batch norm that is folded goes with its layer.

    Raises
    ------
    ValueError
        An option out of range; an unknown layer, filter or rule.
    UnsupportedOperation
        The network multiplies activations or multiplies complex numbers by weights; a layer of `conditions` or `rules`
        never runs; no relevance passes through all layers of `conditions`; "flat", but the first operation is not a
        layer.

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
    .. [4] Kohlbrenner et al. (2020). Towards best practice in explaining neural network decisions with LRP. IJCNN.
    """
    return _lrp(
        "lrp_epsilon",
        "epsilon",
        problem,
        epsilon=epsilon,
        bias=bias,
        first_layer=first_layer,
        conditions=conditions,
        rules=rules,
    )


@_register("Montavon et al. 2019, in Explainable AI, LNCS 11700")
def lrp_gamma(
    problem: Problem,
    *,
    gamma: float = 0.25,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
    rules: dict | None = None,
) -> Maps:
    """Return relevance by the gamma rule [1]_ in convolutions and the epsilon rule elsewhere.

    Terms z_i of the sign of their sum z are favoured by the factor 1 + gamma before the shares are taken. For z > 0
    and inputs that are not negative this is the published rule; the other cases mirror it, as in [2]_.

    Parameters
    ----------
    problem : Problem
    gamma : float
        At least 0, where it is the epsilon rule; large values approach the z⁺ rule.
    epsilon, bias, first_layer, conditions, rules
        As for `lrp_epsilon`, where the report is described too.

    References
    ----------
    .. [1] Montavon et al. (2019). Layer-wise relevance propagation: an overview. In Explainable AI, LNCS 11700,
       193-209.
    .. [2] Andéol et al. (2023). Learning domain invariant representations by joint Wasserstein distance minimization.
       Neural Networks 167, 233-243.
    """
    rule = "gamma", {"gamma": gamma}
    return _lrp(
        "lrp_gamma",
        rule,
        problem,
        epsilon=epsilon,
        bias=bias,
        first_layer=first_layer,
        conditions=conditions,
        rules=rules,
    )


@_register("Bach et al. 2015, PLOS ONE 10(7)")
def lrp_alpha_beta(
    problem: Problem,
    *,
    alpha: float = 2.0,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
    rules: dict | None = None,
) -> Maps:
    """Return relevance by the alpha-beta rule [1]_ in convolutions and the epsilon rule elsewhere.

    ``alpha R`` goes to the terms of z above zero and ``-beta R`` to those below, each in proportion, with
    beta = alpha - 1. A unit whose terms all have one sign gives them R, so that nothing is lost.

    Parameters
    ----------
    problem : Problem
    alpha : float
        At least 1.
    epsilon, bias, first_layer, conditions, rules
        As for `lrp_epsilon`, where the report is described too. Convolutions need no epsilon here.

    References
    ----------
    .. [1] Bach et al. (2015). On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
       propagation. PLOS ONE 10(7), e0130140.
    """
    rule = "alpha_beta", {"alpha": alpha}
    return _lrp(
        "lrp_alpha_beta",
        rule,
        problem,
        epsilon=epsilon,
        bias=bias,
        first_layer=first_layer,
        conditions=conditions,
        rules=rules,
    )


@_register("Montavon et al. 2017, Pattern Recognition 65")
def lrp_z_plus(
    problem: Problem,
    *,
    epsilon: float = EPSILON,
    bias: str = "keep",
    first_layer: str | None = None,
    conditions: dict | None = None,
    rules: dict | None = None,
) -> Maps:
    """Return relevance by the z⁺ rule [1]_ in convolutions and the epsilon rule elsewhere.

    Only terms above zero get relevance, in proportion: the alpha-beta rule with alpha = 1. The paper has it for inputs
    that are not negative; here a negative input through a negative weight is a term above zero. A unit without
    such a term gives its relevance to the terms that it has.

    Parameters
    ----------
    problem : Problem
    epsilon, bias, first_layer, conditions, rules
        As for `lrp_epsilon`, where the report is described too. Convolutions need no epsilon here.

    References
    ----------
    .. [1] Montavon et al. (2017). Explaining nonlinear classification decisions with deep Taylor decomposition.
       Pattern Recognition 65, 211-222.
    """
    return _lrp(
        "lrp_z_plus",
        "z_plus",
        problem,
        epsilon=epsilon,
        bias=bias,
        first_layer=first_layer,
        conditions=conditions,
        rules=rules,
    )
