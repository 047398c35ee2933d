"""The figures of the page: each with a caption, a text that stands for it, and the tables that hold its numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from eegxai_support import viz
from eegxai_support.report.findings import Findings
from eegxai_support.report.markup import counted, interval, listed, number
from eegxai_support.report.methods import title_of
from eegxai_support.report.panels import draw_courses, draw_heads, draw_learning, over_groups
from eegxai_support.scoring import mean_and_interval

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: how light they look
DPI = 200  # sharp on a phone and in print, where a figure is 16 cm wide
OWN, CHANCE = "map == 'own'", "map == 'surrogate'"
MOST_PANELS = 4  # side by side
MOST_GROUPS = 40  # rows of dots that a page can hold
INTERVAL = ["mean", "low", "high"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure and the words that go with it.

    Parameters
    ----------
    name : str
        Identifies it on the page.
    figure : Figure
    alt : str
        What it shows, with its key number, for those who do not see it.
    caption : str
    tables : tuple of str
        Which tables hold its numbers.
    is_map : bool
        Whether it shows what the decoder uses: grey where that is nothing.
    """

    name: str
    figure: Figure
    alt: str
    caption: str
    tables: tuple[str, ...]
    is_map: bool = False


def picture_bytes(figure: Figure, *, grey: bool = False) -> bytes:
    """Return a figure as WebP without loss, in grey where its colours would promise too much.

    A scale from blue over white to red is as dark at both ends, so images take one from white to black first.
    """
    if grey:
        for ax in figure.axes:
            for image in ax.images:
                image.set_cmap("Greys")
    canvas, content = FigureCanvasAgg(figure), io.BytesIO()
    figure.set_dpi(DPI)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    if grey:
        picture = np.repeat((picture @ LUMA)[..., None], 3, axis=2).round().astype(np.uint8)
    imsave(content, picture, format="webp", pil_kwargs={"lossless": True})
    return content.getvalue()


def decoder_accuracy(findings: Findings) -> Picture:
    """Draw the accuracy of each group beside chance and majority."""
    decoder, unit = findings.facts["decoder"], findings.facts["group"]
    scored = findings.tables["predictions"].eval("right = label == predicted").astype({"right": float})
    groups = mean_and_interval(scored, "group", "right").assign(decoder="accuracy")
    groups["group"] = groups["group"].astype(str)
    shown = groups if len(groups) <= MOST_GROUPS else groups.sort_values("mean").iloc[:: len(groups) // MOST_GROUPS + 1]
    fig = viz.plot_intervals(shown, "group", "decoder", reference=decoder["chance"], label="accuracy")
    axes = fig.axes[0]
    axes.axvline(decoder["majority"], color="0.4", linestyle="--", linewidth=1, zorder=0)
    axes.set(xlim=(0, 1.02), ylabel=unit)
    lowest, highest = groups["mean"].min(), groups["mean"].max()
    lines = (
        f"Dotted: chance, {decoder['chance']:.2f}. Dashed: always the most frequent class, {decoder['majority']:.2f}."
    )
    part = "" if len(shown) == len(groups) else f" {len(shown)} of {len(groups)}, in order of accuracy, are drawn."
    return Picture(
        "accuracy",
        fig,
        f"Accuracy by {unit}: from {lowest:.2f} to {highest:.2f}; chance is {decoder['chance']:.2f}.",
        f"Accuracy of each {unit}, mean over seeds, with 95 % intervals over trials and seeds. {lines}{part}",
        ("predictions",),
    )


def learning(findings: Findings) -> Picture:
    """Draw loss and accuracy by epoch, a line for each fold."""
    table, chance = findings.tables["training"], findings.facts["decoder"]["chance"]
    ends = table.loc[table.groupby(["group", "seed"], sort=False)["epoch"].idxmax()]
    of_fold = ends.groupby("group")["train_accuracy"].mean()
    reached = f"{of_fold.min():.2f} to {of_fold.max():.2f}"
    folds, seeds = counted(len(of_fold), "fold"), counted(table["seed"].nunique(), "seed")
    return Picture(
        "learning",
        draw_learning(table, chance),
        f"Loss and accuracy by epoch, a line for each of {folds}. The accuracy ends at {reached}.",
        f"Loss and accuracy on the trials of the training, of {folds} with one {findings.facts['group']} or more left"
        f" out, mean over {seeds}. The accuracy ends at {reached}; dotted: chance, {chance:.2f}. It says whether the"
        " networks have learnt these trials, not whether they know others.",
        ("training",),
    )


def class_maps(findings: Findings) -> Picture:
    """Draw the evidence for each class on the head, a row for each method."""
    table = findings.tables["channels"].query("network == 'trained'")
    means = table.groupby(["method", "class", "channel"], sort=False)["value"].mean().unstack("channel")
    means = means[list(findings.trials.info.ch_names)]
    largest = [f"{title_of(method)}: {_largest(table, method)}" for method in pd.unique(table["method"])]
    fig = draw_heads(means, findings)
    shape = "Heads" if any(len(ax.images) for ax in fig.axes) else "Bars, one for each channel,"
    speaks, against = ("Red speaks", "blue") if findings.facts["knows"] else ("Dark speaks", "light")
    return Picture(
        "heads",
        fig,
        f"{shape} for {listed(findings.facts['class_names'])}. Largest by {'; '.join(largest)}.",
        "Evidence for the true class at each channel: sum over time, mean over trials of the class and"
        f" {_units(findings)}. {speaks} for the class, {against} against it; each method has its own scale. A Haufe"
        " pattern shows which amplitudes rise with the evidence, in a unit of its own. Largest by"
        f" {'; '.join(largest)}.",
        ("channels",),
        is_map=True,
    )


def courses(findings: Findings, name: str, axis: str, quantity: str) -> Picture:
    """Draw what maps hold over time or frequency: signed evidence, or shares beside an untrained network."""
    table = findings.tables[name]
    methods = list(pd.unique(table["method"]))
    of_time, signed = axis == "time", quantity == "value"
    fig = draw_courses(table, findings, axis, quantity)
    trained = table[table["network"] == "trained"]
    peaks = [_peak(trained[trained["method"] == method], axis, quantity) for method in methods]
    unit = "s" if of_time else "Hz"
    what = "Evidence for the true class" if signed else "Share of the relevance"
    found = "; ".join(f"{title_of(m)} {number(x)} {unit}" for m, x in zip(methods, peaks, strict=True))
    beside = "" if signed else " Grey: an untrained network."
    levels = signed and not of_time and "peaks" in findings.tables
    level = " Dotted: what the largest frequency of permuted labels stays below in 95 %." if levels else ""
    return Picture(
        f"{name}-{quantity}",
        fig,
        f"{what} over {axis}, a panel for each method. Largest: {found}.",
        f"{what} over {axis}, summed over channels: mean and 95 % interval over {_units(findings)}.{beside}{level}"
        f" Largest: {found}.",
        (name, "peaks") if levels else (name,),
        is_map=True,
    )


def agreement(findings: Findings) -> Picture:
    """Draw how much the class maps of the methods agree."""
    table = findings.tables["channels"].query("network == 'trained'")
    maps = table.groupby(["method", "class", "channel"], sort=False)["value"].mean().unstack(["class", "channel"])
    matrix = np.corrcoef(maps.to_numpy())
    between = matrix[np.triu_indices(len(matrix), 1)]
    fig = viz.plot_agreement(matrix, [title_of(method) for method in maps.index])
    return Picture(
        "agreement",
        fig,
        f"Correlation of the channel maps of {len(maps)} methods: from {between.min():.2f} to {between.max():.2f}.",
        "Pearson correlation between the methods of the evidence at each channel for each class. Methods that agree may"
        " be wrong together; where they disagree, one is.",
        ("channels",),
        is_map=True,
    )


def sources(findings: Findings) -> Picture:
    """Draw the relevance of each kind of component, beside that of an untrained network."""
    table = findings.tables["sources"]
    rows = over_groups(table, ["method", "kind", "network"], "share")
    rows["method"] = rows["method"].map(title_of)
    order = rows[rows["network"] == "trained"].groupby("kind")["mean"].mean().sort_values(ascending=False).index
    rows = rows.sort_values("kind", key=lambda it: it.map({kind: n for n, kind in enumerate(order)}), kind="stable")
    first = rows.iloc[0]
    shown = list(pd.unique(rows["method"]))[:MOST_PANELS]
    fig = viz.plot_intervals(rows[rows["method"].isin(shown)], "kind", "network", panel="method", label="share")
    left = "" if len(shown) == rows["method"].nunique() else f" Drawn: {listed(shown)}; the others are in the table."
    return Picture(
        "sources",
        fig,
        f"Share of the relevance by kind of component; the largest is {first['kind']} with {first['mean']:.2f} for"
        f" {first['method']}.",
        "Share of the relevance that lies in the independent components of each kind (ICLabel), irrespective of sign:"
        f" mean and 95 % interval over {_units(findings)}, beside an untrained network of the same kind, which knows"
        f" nothing: only what the trained network has more of was learnt.{left}",
        ("sources", "components"),
        is_map=True,
    )


def interventions(findings: Findings) -> Picture:
    """Draw the accuracy without each part of the signal, beside a control that loses as much power."""
    table = findings.tables["interventions"]
    kept, control, only = "without it", "without as much power elsewhere", "with it alone"
    columns = {
        kept: ["accuracy", "accuracy_low", "accuracy_high"],
        control: ["control", "control_low", "control_high"],
        only: ["only", "only", "only"],
    }
    parts = [
        pd.DataFrame(dict(zip(INTERVAL, table[names].to_numpy().T, strict=True)) | {"part": table["part"], "run": run})
        for run, names in columns.items()
    ]
    rows = pd.concat(parts).dropna(subset="mean")
    decoder = findings.facts["decoder"]
    fig = viz.plot_intervals(rows, "part", "run", reference=decoder["chance"], label="balanced accuracy")
    fig.axes[0].axvline(decoder["balanced_accuracy"], color="0.4", linestyle="--", linewidth=1, zorder=0)
    worst = table.loc[(table["control"] - table["accuracy"]).fillna(-1).idxmax()]
    return Picture(
        "interventions",
        fig,
        f"Balanced accuracy without each of {len(table)} parts of the signal. Most is lost without {worst['part']}:"
        f" {worst['accuracy']:.2f}, against {number(float(worst['control']), 2)} for the control.",
        "Balanced accuracy after a part of the signal is removed, after as much power is removed elsewhere, and with"
        f" that part alone, with 95 % intervals. Dotted: chance, {decoder['chance']:.2f}. Dashed: the whole signal,"
        f" {decoder['balanced_accuracy']:.2f}.",
        ("interventions", "removals"),
    )


def conservation(findings: Findings) -> Picture:
    """Draw the sum of each map against the change of the output."""
    table = findings.tables["conservation"].dropna(subset=["delta", "change"])
    if table.empty:
        raise ValueError("No method promises that its maps add up to anything.")
    blind = [it for it in pd.unique(findings.tables["conservation"]["method"]) if it not in set(table["method"])]
    other = f" Nothing is promised by {listed(map(title_of, blind))}." if blind else ""
    parts = dict(list(table.groupby("method", sort=False)))
    changes = {title_of(name): part["change"].to_numpy() for name, part in parts.items()}
    sums = {title_of(name): (part["change"] + part["delta"]).to_numpy() for name, part in parts.items()}
    fig = viz.plot_conservation(sums, changes)
    median = table.groupby("method", sort=False)["relative"].median()
    found = "; ".join(f"{title_of(name)} {number(float(share))}" for name, share in median.items())
    return Picture(
        "conservation",
        fig,
        f"Sum of each map against the change of the output that it explains. Median share missing: {found}.",
        "Sum of the map of each trial against the change of the output that it has to explain. A method that conserves"
        f" has every dot on the line. Median of |delta| / |change|: {found}.{other}",
        ("conservation",),
    )


def sanity(findings: Findings) -> Picture:
    """Draw what is left of the maps after labels or weights are randomised."""
    table = findings.tables["sanity"]
    rows = mean_and_interval(table, ["method", "test"])
    rows["method"] = rows["method"].map(title_of)
    rows["test"] = rows["test"].map(lambda name: f"{name} randomised")
    fig = viz.plot_intervals(
        rows, "method", "test", reference=0.5, label="Pearson r with the map of the trained network"
    )
    worst = rows.loc[rows["mean"].idxmax()]
    return Picture(
        "sanity",
        fig,
        f"Correlation of maps with those after randomisation. The highest is {worst['mean']:.2f}, {worst['method']}"
        f" with {worst['test']}.",
        "What is left of the maps after the label or the weights are randomised: mean correlation and 95 % interval"
        " over trials and draws. A map that hardly changes does not depend on what was randomised. Dotted: 0.5.",
        ("sanity",),
    )


def robustness(findings: Findings) -> Picture:
    """Draw how well the maps foretell what the output loses."""
    table = findings.tables["robustness"].assign(method=lambda it: it["method"].map(title_of))
    own = mean_and_interval(table.query(OWN), ["method", "share"], "correlation")
    chance = mean_and_interval(table.query(CHANCE), ["share"], "correlation")
    best = own.loc[own["mean"].idxmax()]
    return Picture(
        "robustness",
        viz.plot_sensitivity(own, chance),
        f"Correlation of what maps hold in a patch with what the output loses without it. The highest is"
        f" {best['mean']:.2f}, {best['method']}.",
        "Sensitivity test: correlation between what a map holds in a patch and what the logit loses without it. Bars:"
        " 95 % intervals over trials. Grey: mean of maps with the same values in other places.",
        ("robustness",),
    )


def faithfulness(findings: Findings) -> Picture:
    """Draw the output while the points of a trial are deleted in the order of the maps."""
    table = findings.tables["faithfulness"].assign(method=lambda it: it["method"].map(title_of))
    panel = "fill" if "fill" in table else None
    keys = ["share", *([panel] if panel else [])]
    own = mean_and_interval(table.query(OWN), ["method", *keys], "logit")
    chance = mean_and_interval(table.query(CHANCE), keys, "logit")
    fig = viz.plot_perturbation_curves(own, chance, panel=panel, label="logit of the true class")
    areas = own.groupby("method", sort=False)["mean"].mean()
    return Picture(
        "faithfulness",
        fig,
        f"The logit while points are deleted, the highest of each map first. It falls fastest for {areas.idxmin()}:"
        f" mean {areas.min():.2f}, against {chance['mean'].mean():.2f} of maps with the same values in other places.",
        "Deletion curves: logit of the true class while the points of a trial are replaced, the highest of the map"
        " first. Bands: 95 % intervals over trials. Grey, dashed: maps with the same values in other places.",
        ("faithfulness",),
    )


def _units(findings: Findings) -> str:
    n = findings.facts["n_groups"]
    return counted(n, findings.facts["group"])


def _largest(table: pd.DataFrame, method: str) -> str:
    """Say which channel holds most for each class, with its interval over groups."""
    found = []
    for of_class, rows in table[table["method"] == method].groupby("class", sort=False):
        means = over_groups(rows, ["channel"], "value")
        row = means.loc[means["mean"].abs().idxmax()]
        spread = interval(row["low"], row["high"])
        found.append(f"{row['channel']} for {of_class} ({number(row['mean'], 2)}{', ' * bool(spread)}{spread})")
    return ", ".join(found)


def _peak(table: pd.DataFrame, axis: str, quantity: str) -> float:
    return float(table.groupby(axis)[quantity].mean().abs().idxmax())
