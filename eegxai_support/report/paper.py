"""What a paper says of the analysis: the methods paragraph, filled with what was done, and the references.

Its order is that of the COBIDAS recommendations for MEG and EEG [1]_ (participants and design, acquisition and
preprocessing, the model, the statistics, what was found), and every number in it is one of the tables or facts.

.. [1] Pernet et al. (2020). Issues and recommendations from the OHBM COBIDAS MEEG committee for reproducible EEG and
   MEG research. Nature Neuroscience 23(12), 1473-1483.
"""

from __future__ import annotations

from eegxai_support.report.findings import Findings
from eegxai_support.report.markup import counted, interval, listed, number, p_value
from eegxai_support.report.methods import CITED, bibliography, title_of

ORIGINS = {
    "left-out groups": "For each {group} a network was trained on the other {groups}, and its trials were decoded and"
    " explained by that network alone",
    "test trials": "The network was trained beforehand; the trials that are decoded and explained are test trials that"
    " it was not trained on",
    "the model's record": "The network was trained beforehand; trials that its record names as training trials were"
    " left out",
    "unknown": "The network was trained beforehand; it is not known on which trials, so that the accuracy may be that"
    " of trials which it has seen",
}


def methods_paragraphs(findings: Findings) -> list[str]:
    """Return the methods paragraph in its parts: data, model, explanation, receipts, source."""
    parts = (_data, _model, _explanation, _receipts, _source)
    return [words for words in (part(findings) for part in parts) if words]


def references(findings: Findings) -> str:
    """Return the BibTeX entries of everything that was used, and of the recommendations that the order is from."""
    tables, model = findings.tables, findings.facts["model"]["name"]
    used = ["MNE-Python", "COBIDAS", model, "permutation", *_methods(findings)]
    used += [name for name in ("spectra", "components", "sanity", "robustness", "faithfulness") if name in tables]
    if "peaks" in tables:
        used.append("surrogates")
    if "sanity" in tables or "predictions" in tables:
        used.append("interval over trials and draws")
    return bibliography(key for name in used for key in CITED.get(name, ()))


def _methods(findings: Findings) -> list[str]:
    """Return every method that a table or a map shows."""
    named = [findings.tables[name]["method"] for name in ("channels", "spectra", "methods") if name in findings.tables]
    return list(dict.fromkeys([*findings.maps, *(method for column in named for method in column)]))


def _data(findings: Findings) -> str:
    facts, rows = findings.facts, findings.tables["trials"]
    explained = rows[rows["explained"].astype(bool)]
    classes = explained["class"].value_counts(sort=False).reindex(facts["class_names"], fill_value=0)
    dropped = findings.tables.get("dropped")
    lost = int(dropped["n"].sum()) if dropped is not None else 0
    why = (
        ""
        if not lost
        else "; " + listed(f"{n} {why}" for why, n in dropped.groupby("reason", sort=False)["n"].sum().items())
    )
    none_dropped = "" if dropped is None else "No trial was dropped."
    band = facts.get("band")
    return " ".join(
        [
            f"We analysed {counted(len(explained), 'trial')} of"
            f" {counted(explained['subject'].nunique(), 'participant')}"
            f" ({listed(f'{n} {name}' for name, n in classes.items())}), recorded in"
            f" {counted(facts['n_groups'], facts['group'])}.",
            f"Trials run from {facts['tmin']:.4g} to {facts['tmax']:.4g} s relative to the event and hold"
            f" {counted(len(facts['ch_names']), 'channel')} at {facts['sfreq']:g} Hz (reference:"
            f" {facts['reference']}).",
            f"The signal was filtered to {band[0]:g}-{band[1]:g} Hz." if band else "",
            f"{counted(lost, 'trial')} had been dropped{why}." if lost else none_dropped,
            f"The signal is in {unit_of(facts)}{f' ({scale})' if (scale := scale_of(facts)) else ''}.",
            *facts.get("notes", ()),
        ]
    ).replace("  ", " ")


def unit_of(facts: dict) -> str:
    """Return the unit of the recording as it is written."""
    return {"uV": "µV", "standardised": "standard deviations"}.get(facts["unit"], facts["unit"])


def scale_of(facts: dict) -> str | None:
    """Say how large the signal is."""
    if not isinstance(facts.get("scale"), float | int):
        return facts.get("scale")
    return f"median standard deviation of a channel within a trial: {number(float(facts['scale']))} {unit_of(facts)}"


def _model(findings: Findings) -> str:
    facts = findings.facts
    model, decoder, group = facts["model"], facts["decoder"], facts["group"]
    training = findings.tables.get("training")
    epochs = (
        ""
        if training is None
        else f" and up to {counted(int(training.groupby(['group', 'seed'])['epoch'].nunique().max()), 'epoch')}"
    )
    origin = ORIGINS.get(facts["origin"], ORIGINS["unknown"]).format(group=group, groups=f"{group}s")
    seeds = f" ({counted(len(facts['seeds']), 'seed')}{epochs})" if training is not None else ""
    spread = interval(decoder["low"], decoder["high"])
    above = "" if facts["knows"] else " It is not above chance, so no map is interpreted."
    return (
        f"The decoder was {model['name']} with {counted(model['n_parameters'], 'parameter')}. {origin}{seeds}. Balanced"
        f" accuracy was {decoder['balanced_accuracy']:.2f} (accuracy"
        f" {decoder['accuracy']:.2f}{', ' * bool(spread)}{spread}; {counted(decoder['n_trials'], 'trial')}; chance"
        f" {decoder['chance']:.2f}, most frequent class {decoder['majority']:.2f}; {p_value(decoder['p'])} by"
        f" permutation of the labels within each {group}, given these networks).{above}"
    )


def _explanation(findings: Findings) -> str:
    if "channels" not in findings.tables:
        return ""
    n = findings.facts["n_groups"]
    untrained = ""
    if (findings.tables["channels"]["network"] == "untrained").any():
        untrained = " Maps of untrained networks of the same architecture stand beside them."
    spread = f" with 95 % intervals (Student's t) over {counted(n, findings.facts['group'])}" if n > 1 else ""
    return (
        f"Each trial was explained by {listed(title_of(it) for it in _methods(findings))}; the number explained is the"
        " logit of the true class minus the mean of the other logits. Class maps are means over trials and"
        f" seeds{spread}.{untrained}"
    )


def _receipts(findings: Findings) -> str:
    tables, said = findings.tables, []
    if "conservation" in tables:
        median = tables["conservation"].groupby("method", sort=False)["relative"].median()
        said.append(
            "Conservation was checked trial by trial: the median share of the change of the output that a map misses"
            " was "
            + listed(f"{number(float(v))} for {title_of(k)}" for k, v in median.items()) + "."
        )  # fmt: skip
    if "sanity" in tables:
        means = tables["sanity"].groupby(["method", "test"], sort=False)["pearson"].mean().unstack()
        for test in means.columns:
            found = listed(f"{number(float(v), 2)} for {title_of(k)}" for k, v in means[test].items())
            said.append(f"With the {test} randomised, maps correlated with the original by {found}.")
    if "methods" in tables:
        verdicts = tables["methods"].groupby("verdict", sort=False)["method"].agg(list)
        said += [f'Verdict "{v}": {listed(title_of(it) for it in names)}.' for v, names in verdicts.items()]
    return " ".join(said)


def _source(findings: Findings) -> str:
    said, verdict = [], findings.facts["verdict"]
    if "components" in findings.tables:
        components = findings.tables["components"]
        kinds = components["label"].value_counts()
        said.append(
            f"Independent component analysis gave {counted(len(components), 'component')}, of which ICLabel called"
            f" {listed(f'{n} {kind}' for kind, n in kinds.items())}."
        )
    if "interventions" in findings.tables:
        table = findings.tables["interventions"]
        clear = table[table["p_holm"] < 0.05]
        lost = [f"{r.part} ({r.drop:.2f} below the control; {p_value(r.p_holm)})" for r in clear.itertuples()]
        found = f"Accuracy fell without {listed(lost)}." if lost else "No removal lowered it more than its control."
        said.append(
            f"{counted(len(table), 'part')} of the signal were removed in turn, each compared with the removal of"
            f" as much power elsewhere (p-values after Holm's correction). {found}"
        )
    said.append(
        f"Source of the decoder's information: {verdict['source']} ({verdict['rule']}; {number(verdict['number'])})."
    )
    return " ".join(said)
