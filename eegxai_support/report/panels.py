"""Panels that the figures of the page are made of: heads by method and class, courses with intervals over groups."""

from __future__ import annotations

from functools import partial
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from eegxai_support.report.findings import Findings
from eegxai_support.report.methods import title_of
from eegxai_support.viz.parts import (
    OKABE_ITO,
    WIDTH,
    class_title,
    colour,
    head_positions,
    n_rows,
    new_figure,
    styled,
    topomap,
    wrapped_axes,
)

LINES = ("-", "--", "-.", ":")  # classes differ without their colour, too
PATTERN = "haufe_pattern"
BESIDE = 1.5  # how far spectra are drawn, over the pass-band: its slope, on which mains may be, and no more
COLUMN = 3.4  # inches: what a phone shows without scrolling
LEARNING = {"train_loss": "loss (nats)", "train_accuracy": "accuracy"}


def over_groups(table: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Return means over groups with their 95 % interval (Student's t); no interval where there is one group."""
    of_group = table.groupby([*by, "group"], sort=False)[value].mean()
    grouped = of_group.groupby(by, sort=False)
    rows = grouped.agg(["mean", "std", "size"]).reset_index()
    n = rows.pop("size").to_numpy()
    half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * rows.pop("std") / np.sqrt(n)
    return rows.assign(low=rows["mean"] - half, high=rows["mean"] + half)


@styled
def draw_heads(means: pd.DataFrame, findings: Findings) -> Figure:
    """Draw a head of each method and class; `means` (method, class) × channel."""
    classes, info = findings.facts["class_names"], findings.trials.info
    methods = list(pd.unique(means.index.get_level_values("method")))
    head = _makes_a_head(info)
    height = 1.5 if head else min(0.6 + 0.17 * len(info.ch_names), 2.4)
    fig = new_figure(min(WIDTH, 2.4 + 1.5 * len(classes)), 0.3 + height * len(methods), None)
    axes = fig.subplots(len(methods), len(classes), squeeze=False)
    for row, method in zip(axes, methods, strict=True):
        values = means.loc[method].reindex(classes).fillna(0.0).to_numpy()
        limit = np.abs(values).max() or 1.0
        for k, (ax, one) in enumerate(zip(row, values, strict=True)):
            scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}  # blue is against a class wherever none is
            image = topomap(ax, one, info, scale, channels=() if k or not head else None, size=7)
        row[-1].figure.colorbar(
            image, ax=row, label="pattern" if method == PATTERN else "evidence\n(logit)", shrink=0.9
        )
        row[0].set_ylabel(fill(title_of(method), 12))
    for k, (ax, name) in enumerate(zip(axes[0], classes, strict=True)):
        class_title(ax, k, fill(name, 18))
    return fig


def _makes_a_head(info) -> bool:
    try:
        return len(info.ch_names) > 2 and bool(head_positions(info).size)
    except ValueError:
        return False


@styled
def draw_courses(table: pd.DataFrame, findings: Findings, axis: str, quantity: str) -> Figure:
    """Draw value or share of each method over time or frequency, a line for each class."""
    methods, classes = list(pd.unique(table["method"])), list(findings.facts["class_names"])
    columns = min(2, len(methods))
    fig = new_figure(WIDTH, 0.7 + 1.6 * n_rows(len(methods), columns), None)
    axes = wrapped_axes(fig, len(methods), columns)
    draw = partial(_course, axis=axis)
    for ax, method in zip(axes, methods, strict=True):
        rows = table[table["method"] == method]
        trained = rows[rows["network"] == "trained"]
        for k, of_class in enumerate(classes):
            of_one = over_groups(trained[trained["class"] == of_class], [axis], quantity)
            draw(ax, of_one, ink=colour(k), linestyle=LINES[k % len(LINES)], label=of_class)
        if quantity == "share":
            draw(ax, over_groups(rows[rows["network"] == "untrained"], [axis], quantity), ink="0.55", label="untrained")
            ax.set_ylim(bottom=0)
        else:
            _permuted_level(ax, findings, method, axis)
            ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_title(title_of(method))
        last = findings.trials.info["lowpass"] * BESIDE if axis == "frequency" else np.inf
        ax.set_xlim(rows[axis].min(), min(last, rows[axis].max()))
        ax.yaxis.set_major_locator(MaxNLocator(4))
    fig.supxlabel("time (s)" if axis == "time" else "frequency (Hz)", fontsize=9)
    fig.supylabel("evidence (logit)" if quantity == "value" else "share of the relevance", fontsize=9)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


@styled
def draw_learning(table: pd.DataFrame, chance: float) -> Figure:
    """Draw loss and accuracy by epoch on the trials of the training, a line for each fold, mean over seeds."""
    fig = new_figure(COLUMN, 3.8, None)
    axes = fig.subplots(2, 1, sharex=True)
    for ax, (column, label) in zip(axes, LEARNING.items(), strict=True):
        for k, (fold, rows) in enumerate(table.groupby("group", sort=False)):
            mean = rows.groupby("epoch")[column].mean()
            style = LINES[k // len(OKABE_ITO) % len(LINES)]
            ax.plot(mean.index, mean, color=colour(k), linestyle=style, label=str(fold))
        ax.set(ylabel=label)
        ax.set_ylim(0, 1.02 if column == "train_accuracy" else None)
    axes[1].axhline(chance, color="0.4", linestyle=":", linewidth=1, zorder=0)
    axes[1].set_xlabel("epoch")
    axes[1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def _course(ax, rows: pd.DataFrame, *, axis: str, ink: str, **style) -> None:
    rows = rows.sort_values(axis)
    ax.plot(rows[axis], rows["mean"], color=ink, **style)
    ax.fill_between(rows[axis], rows["low"], rows["high"], color=ink, alpha=0.18, linewidth=0)


def _permuted_level(ax, findings: Findings, method: str, axis: str) -> None:
    peaks = findings.tables.get("peaks")
    if axis == "frequency" and peaks is not None:
        for level in peaks.loc[peaks["method"] == method, "frequency_level"].dropna():
            ax.axhline(level, color="0.3", linestyle=":", linewidth=1, zorder=0)
