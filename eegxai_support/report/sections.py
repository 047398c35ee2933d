"""The sections of the page, in the order in which a reader asks: each is a function that yields its parts."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from eegxai_support.report import figures, paper
from eegxai_support.report.browser import n_samples_a_column, trial_browser
from eegxai_support.report.figures import Picture, picture_bytes
from eegxai_support.report.findings import TABLES, Findings
from eegxai_support.report.markup import (
    badge,
    bullets,
    code,
    counted,
    definitions,
    heading,
    interval,
    listed,
    number,
    p_value,
    paragraph,
    table,
    text,
)
from eegxai_support.report.methods import title_of

SCRIPT = Path(__file__).with_name("page.js")


@dataclass(eq=False)
class Page:
    """What a page is put together from: findings, and the figures so far."""

    findings: Findings
    pictures: list[Picture] = field(default_factory=list)

    def figure(self, draw: Callable[[Findings], Picture], *needs: str) -> str:
        """Return a figure, or why there is none."""
        return self.part(lambda: self._figure(draw(self.findings)), *needs)

    def part(self, make: Callable[[], str], *needs: str) -> str:
        """Return what `make` makes of the tables that it needs, or why it cannot."""
        if missing := [name for name in needs if name not in self.findings.tables]:
            return self.reason(missing)
        try:
            return make()
        except ValueError as error:  # a figure that refuses its numbers says why; the page goes on
            return paragraph(f"Not made: {error}", kind="skipped")

    def reason(self, missing: list[str]) -> str:
        """Say why tables are missing."""
        skipped = self.findings.tables["skipped"]
        reasons = skipped.loc[skipped["section"].isin(missing), "reason"]
        why = pd.unique(reasons) if len(reasons) else [f"there is no table of {listed(missing)}"]
        return paragraph(f"Not made: {' '.join(why)}", kind="skipped")

    def _figure(self, picture: Picture) -> str:
        self.pictures.append(picture)
        grey = picture.is_map and not self.findings.facts["knows"]
        image = base64.b64encode(picture_bytes(picture.figure, grey=grey)).decode()
        inches = picture.figure.get_size_inches()[0]
        files = listed(f"{TABLES}/{name}.parquet" for name in picture.tables)
        return (
            f'<figure id="{text(picture.name)}"><div class="picture" tabindex="0" role="group"'
            f' aria-label="Figure {len(self.pictures)}"><img alt="{text(picture.alt)}" style="--inches: {inches:.2f}"'
            f' src="data:image/webp;base64,{image}"></div>'
            f'<figcaption class="caption"><b>Figure {len(self.pictures)}.</b> {text(picture.caption)}'
            f' <span class="files">Numbers: {text(files)}</span></figcaption></figure>'
        )


def _summary(page: Page) -> Iterator[str]:
    facts, decoder = page.findings.facts, page.findings.facts["decoder"]
    if facts["origin"] == "unknown":
        yield paragraph(facts["origin_text"], kind="warning")
    verdict = facts["verdict"]
    spread = interval(decoder["low"], decoder["high"])
    yield '<div class="summary">'
    yield f"<div><h3>Source {badge(verdict['source'])}</h3>{paragraph(verdict['text'])}</div>"
    yield (
        f"<div><h3>Decoder {number(decoder['balanced_accuracy'], 2)}</h3>"
        + paragraph(
            f"Balanced accuracy. Accuracy {decoder['accuracy']:.2f}{f' ({spread})' if spread else ''}; chance"
            f" {decoder['chance']:.2f}; {p_value(decoder['p'])}; {counted(decoder['n_trials'], 'trial')} in"
            f" {counted(facts['n_groups'], facts['group'])}.",
            "" if facts["knows"] else "Not above chance: maps are drawn in grey, and none of them is to be read.",
        )
        + "</div>"
    )
    yield f"<div><h3>Maps</h3>{_map_verdicts(page)}</div></div>"
    if facts["origin"] != "unknown":
        yield paragraph(facts["origin_text"])
    if facts.get("quick"):
        yield paragraph("A quick look: fewer seeds, draws and trials than a report to rely on.", kind="warning")


def _map_verdicts(page: Page) -> str:
    methods = page.findings.tables.get("methods")
    if methods is None:
        return page.reason(["methods"])
    groups = methods.groupby("verdict", sort=False)["method"].agg(list)
    lines = [f"<li>{badge(verdict)} {text(listed(map(title_of, names)))}</li>" for verdict, names in groups.items()]
    return f"<ul class='plain'>{''.join(lines)}</ul>"


def _explainable(page: Page) -> Iterator[str]:
    findings, facts = page.findings, page.findings.facts
    decoder, model = facts["decoder"], facts["model"]
    spread = interval(decoder["low"], decoder["high"])
    yield heading("The decoder")
    yield definitions(
        {
            "Balanced accuracy": f"{decoder['balanced_accuracy']:.3f}",
            "Accuracy": f"{decoder['accuracy']:.3f}{f' ({spread})' if spread else ''}",
            "Chance": f"{decoder['chance']:.3f}",
            "Most frequent class": f"{decoder['majority']:.3f}",
            "Permutation test": f"{p_value(decoder['p'])}, labels permuted within each {facts['group']}, given these"
            " networks",
            "Network": f"{model['name']}, {counted(model['n_parameters'], 'parameter')}",
            "Seeds": listed(facts["seeds"]) if facts["seeds"] else None,
            "Channels of the network": model.get("chs_info"),
            "Sampling rate of the network": f"{model['sfreq']:g} Hz"
            if model.get("sfreq")
            else "not said by the network",
        }
    )
    yield page.figure(figures.decoder_accuracy, "predictions")
    if "training" in findings.tables:  # a network that was given has none
        yield page.figure(figures.learning)
    yield heading("The trials")
    band = facts.get("band")
    yield definitions(
        {
            "Trials": f"{counted(len(findings.trials), 'trial')} of {counted(len(facts['ch_names']), 'channel')},"
            f" {facts['tmin']:.4g} to {facts['tmax']:.4g} s",
            "Sampling rate": f"{facts['sfreq']:g} Hz",
            "Band": f"{band[0]:g} to {band[1]:g} Hz" if band else None,
            "Unit": paper.unit_of(facts),
            "Scale": paper.scale_of(facts),
            "Reference": facts.get("reference"),
            "Montage": facts.get("montage_fit"),
        }
    )
    yield page.part(lambda: _counts(findings), "trials")
    if "dropped" in findings.tables:  # trials that were handed over do not say what was left out before
        yield _dropped(findings)
    if facts.get("notes"):
        yield heading("What was done on reading") + bullets(facts["notes"])


def _counts(findings: Findings) -> str:
    rows, unit = findings.tables["trials"], findings.facts["group"]
    explained = rows[rows["explained"].astype(bool)]
    counts = pd.crosstab(explained["group"].astype(str), explained["class"]).reindex(
        explained["group"].unique().astype(str)
    )
    counts = counts.reindex(columns=findings.facts["class_names"], fill_value=0)
    counts["explained"] = counts.sum(axis=1)
    counts["not explained"] = rows[~rows["explained"].astype(bool)]["group"].astype(str).value_counts()
    counts = counts.fillna(0).astype(int).rename_axis(unit).reset_index()
    return table(counts, f"Trials by class and {unit}.", file="trials")


def _dropped(findings: Findings) -> str:
    rows = findings.tables["dropped"]
    if rows.empty:
        return paragraph("No trial was dropped.")
    return table(rows.rename(columns={"n": "trials"}), "Trials that were dropped, and why.", file="dropped")


def _uses(page: Page) -> Iterator[str]:
    tables = page.findings.tables
    if not page.findings.facts["knows"]:
        yield paragraph("The decoder is not above chance. What follows is how such maps look, not what a brain does.",
                        kind="warning")  # fmt: skip
    yield heading("Where on the head?")
    yield page.figure(figures.class_maps, "channels")
    yield page.part(lambda: _map_verdicts(page), "methods")
    if "channels" in tables and tables["channels"]["method"].nunique() > 1 and len(page.findings.facts["ch_names"]) > 1:
        yield heading("Do the methods agree?") + page.figure(figures.agreement)
    yield heading("When?")
    yield page.figure(partial(figures.courses, name="times", axis="time", quantity="value"), "times")
    yield page.figure(partial(figures.courses, name="times", axis="time", quantity="share"), "times")
    yield heading("At which frequencies?")
    yield page.figure(partial(figures.courses, name="spectra", axis="frequency", quantity="value"), "spectra")
    yield page.figure(partial(figures.courses, name="spectra", axis="frequency", quantity="share"), "spectra")
    yield page.part(lambda: _peaks(page.findings), "peaks")


def _peaks(findings: Findings) -> str:
    rows = findings.tables["peaks"].assign(method=lambda it: it["method"].map(title_of))
    names = {"frequency": "frequency (Hz)", "time": "time (s)", "frequency_level": "level by chance (logit)"}
    caption = (
        "Where the evidence for each class is largest. A frequency is given where it is above the level that the"
        " largest of permuted labels stays below in 95 %."
    )
    return table(rows.rename(columns=names), caption, file="peaks")


def _brain(page: Page) -> Iterator[str]:
    yield heading("What did the maps point at?")
    yield page.figure(figures.sources, "sources")
    yield page.part(lambda: _components(page.findings), "components")
    yield heading("What does the decoder lose?")
    yield page.figure(figures.interventions, "interventions")
    yield page.part(lambda: _interventions(page.findings), "interventions")


def _components(findings: Findings) -> str:
    rows = findings.tables["components"]
    counts = pd.crosstab(rows["subject"].astype(str), rows["label"]).reset_index()
    return table(counts, "Independent components by kind, as ICLabel tells them.", file="components")


def _interventions(findings: Findings) -> str:
    rows = findings.tables["interventions"]
    shown = pd.DataFrame(
        {
            "part": rows["part"],
            "share of the power": [f"{share:.1%}" for share in rows["power"]],
            "accuracy without it": [_two(it) for it in rows["accuracy"]],
            "without as much power elsewhere": [_two(it) for it in rows["control"]],
            "drop (95 % interval)": [
                f"{_two(r.drop)} ({_two(r.drop_low)} to {_two(r.drop_high)})" if r.drop == r.drop else number(r.drop)
                for r in rows[["drop", "drop_low", "drop_high"]].itertuples()
            ],
            "p (Holm)": [number(it, 2) for it in rows["p_holm"]],
            "accuracy with it alone": [_two(it) for it in rows["only"]],
        }
    )  # fmt: skip
    caption = "Parts of the signal removed, beside a control that loses as much power. Accuracies are balanced."
    return table(shown, caption, file="interventions")


def _two(value: float) -> str:
    return number(value) if value != value else f"{value:.2f}".replace("-", "−")


def _single_trials(page: Page) -> Iterator[str]:
    findings = page.findings
    if not findings.maps or "shown" not in findings.tables:
        yield page.reason(["shown"])
        return
    n, each = len(findings.tables["shown"]), n_samples_a_column(findings)
    yield paragraph(
        f"{counted(n, 'trial')}, {counted(len(findings.maps), 'map')} each, mean over seeds, and the trial itself.",
        "Choose with the menus, or click on the picture and use the arrow keys. Rows are channels, from front to back;",
        "the colours end at the numbers beside the scale; the head shows sums over time.",
        f"A column shows the largest of {each} points in time." if each > 1 else "",
        "" if findings.facts["knows"] else "All is grey, from white to black, as the decoder is not above chance.",
        "Numbers: " + listed(f"{TABLES}/maps_{method}.parquet" for method in findings.maps) + ".",
    )
    yield trial_browser(findings)


def _receipts(page: Page) -> Iterator[str]:
    for question, draw, name in (
        ("Do the maps add up?", figures.conservation, "conservation"),
        ("Do they depend on labels and weights?", figures.sanity, "sanity"),
        ("Do they foretell what the output loses?", figures.robustness, "robustness"),
        ("Does the output fall where they are high?", figures.faithfulness, "faithfulness"),
    ):
        yield heading(question) + page.figure(draw, name)


def _verdict(page: Page) -> Iterator[str]:
    verdict = page.findings.facts["verdict"]
    yield heading("The source")
    yield f"<p class='verdict'>{badge(verdict['source'])} {text(verdict['text'])}</p>"
    yield definitions({"Rule": verdict["rule"], "Number": number(verdict["number"])})
    yield paragraph(
        "One of: brain, eyes, muscle, line, drift, edge, channel, leak, nothing, cannot tell.", kind="caption"
    )
    yield heading("The methods")
    yield page.part(lambda: _methods(page.findings), "methods")


def _methods(findings: Findings) -> str:
    rows = findings.tables["methods"].assign(method=lambda it: it["method"].map(title_of))
    order = [
        "method",
        "verdict",
        "rule",
        "number",
        "relative_delta",
        "labels",
        "weights",
        "faithfulness",
        "low",
        "high",
    ]
    names = {
        "relative_delta": "largest relative delta",
        "labels": "r, labels randomised",
        "weights": "r, weights randomised",
        "faithfulness": "area against blind maps",
        "low": "from",
        "high": "to",
    }
    caption = "Each method: trust, doubt, do not use, or cannot tell, with the rule and the number that led to it."
    return table(rows[order].rename(columns=names), caption, badges="verdict", file="methods")


def _paper(page: Page) -> Iterator[str]:
    yield paragraph(
        "To copy and to cut down, in the order of the COBIDAS recommendations for MEG and EEG (Pernet et al., 2020)."
        " Every number in it is one of this page; what the page does not know (participants, amplifier, task, ethics)"
        " is for you to add."
    )
    yield code("\n\n".join(paper.methods_paragraphs(page.findings)), "Methods", "paper-methods")
    captions = [f"Figure {n}. {picture.caption}" for n, picture in enumerate(page.pictures, 1)]
    yield code("\n\n".join(captions), "Figure captions", "paper-captions")
    yield code(paper.references(page.findings), "BibTeX of what was used", "paper-bibtex")


def _made(page: Page) -> Iterator[str]:
    facts = page.findings.facts
    if facts["command"]:
        yield code(facts["command"], "The command that makes this report again", "made-command")
    else:
        yield paragraph("Made by make_report from Python: its arguments are in the script that called it.")
    yield definitions({"Seeds": listed(facts["seeds"]) if facts["seeds"] else "none"})
    yield table(_hashes(facts), "What it was made from.")
    versions = pd.DataFrame({"package": facts["versions"].keys(), "version": facts["versions"].values()})
    yield table(versions.astype(str), "Versions.")
    files = [
        {"file": f"{TABLES}/{name}.parquet", "rows": len(frame), "columns": ", ".join(map(str, frame.columns))}
        for name, frame in page.findings.tables.items()
    ]
    yield table(pd.DataFrame(files), "The tables behind the page, for pandas.read_parquet.")
    if len(skipped := page.findings.tables["skipped"]):
        yield table(skipped, "What could not be made, and why.", file="skipped")
    yield f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"


def _hashes(facts: dict) -> pd.DataFrame:
    hashes = {f"the file {name}": digest for name, digest in facts.get("files", ())}
    hashes |= {"the trials": facts.get("data"), "this package": facts.get("sources")}
    hashes |= {f"the weights {n}": digest for n, digest in enumerate(facts.get("weights", ()), 1)}
    return pd.DataFrame({"SHA-256 of": hashes.keys(), "hash": hashes.values()}).dropna()


SECTIONS: dict[str, Callable[[Page], Iterator[str]]] = {
    "In short": _summary,
    "Can this be explained?": _explainable,
    "What does the decoder use?": _uses,
    "Was it the brain?": _brain,
    "Single trials to browse": _single_trials,
    "Do the maps have their receipts?": _receipts,
    "Verdict": _verdict,
    "For your paper": _paper,
    "How is it made again?": _made,
}
