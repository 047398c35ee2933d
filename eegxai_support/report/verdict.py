"""What the tables say about the decoder's source, and about each method: rules, in their order, and nothing hidden.

Every verdict names the rule that led to it, and the number that the rule looked at. Rules ask first what would make
all others meaningless: a decoder that knows nothing, trials that it has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from eegxai_support.report.leaks import ORDER_P
from eegxai_support.report.needed import above_chance, balanced_accuracy
from eegxai_support.report.removal import ALL_BUT_BRAIN, LEFT, MIDDLE
from eegxai_support.scoring import area_under_curve, mean_and_interval

SOURCES = ("brain", "eyes", "muscle", "line", "drift", "edge", "channel", "leak", "nothing", "cannot tell")
METHOD_VERDICTS = ("trust", "doubt", "do not use", "cannot tell")
ALPHA = 0.05
# Of the accuracy above chance. In EEGBCI from the cue, where the eyes are known to be read, their components carry half
# (chapter 12); a part that carries less than a quarter contributes, and is not the explanation.
EXPLAINS = 0.25
UNKNOWN = 0.5  # share of the power: where components leave more, a band may speak for the brain in their place
LEAKED = 0.05  # share of trials with a twin: fewer do not lift an accuracy by more than that
# Largest delta, as a share of the change of the output. Integrated gradients reach 3e-4 on real trials and DeepLIFT
# 3e-7, input times gradient, which promises nothing, 0.4 to 0.8 (chapter 04).
CONSERVED = 0.01
# Correlation with the map for a wrong class, or of random weights: above, half the variance (0.7² = 0.49) has nothing
# to do with class or weights. Of four classes, saliency has 0.31 and 0.18, other methods 0 and below (chapter 09).
ALIKE = 0.7
WORDS = {
    "eyes": "eye movements",
    "muscle": "muscles",
    "line": "mains",
    "drift": "a drift",
    "edge": "an edge of the window",
    "channel": "a single channel",
}


def source_verdict(tables: Mapping[str, pd.DataFrame], facts: Mapping) -> dict:
    """Say what the decoder uses, from a closed list.

    Rules in their order; the first that applies decides. Accuracies are balanced, every class counts alike; the p-value
    of the decoder is that of its accuracy.

    1. nothing: the accuracy could be chance (p ≥ 0.05, or balanced accuracy not above chance).
    2. leak: trials share samples with trials of other groups, and those that do not are not decoded above chance; or
       the order of the trials tells the class as well as the decoder does.
    3. A source that is not the brain is needed: its removal costs more than that of as powerful parts (Holm's
       p < 0.05), and at least a quarter of the accuracy above chance. Of several, those that decode alone come first,
       then the costliest. A drift or an edge says when and how fast, not who: where eye components cost more than
       components of any other kind, at least that quarter, and decode alone, the verdict is eyes.
    4. brain: no such part is needed, and the brain's components are: more than as powerful ones, or because trials
       without the components of eyes, muscles, heart and loose electrodes, drift and mains are still decoded above
       chance while trials without the brain's lose that quarter. Without components, or where these leave more than
       half of the power to something else, as the mean of electrodes of one place is: no such part is needed, 6-20 Hz
       alone is decoded above chance, where neither eyes nor muscles have much, and without it that quarter is lost.
    5. cannot tell, with the reason.

    Parameters
    ----------
    tables : mapping
        interventions; optionally leaks, predictions and trials, skipped.
    facts : mapping
        With "decoder" (accuracy, balanced_accuracy, chance, p), and optionally "order" (accuracy, p).

    Returns
    -------
    dict
        source (one of `SOURCES`), rule (a sentence), number (float or None), text (what it means).
    """
    if verdict := without_removals(tables, facts):
        return verdict
    decoder, found = facts["decoder"], tables.get("interventions")
    if found is None or not len(found):
        text = "What the decoder uses may be the brain or not: nothing could be tried."
        return _verdict("cannot tell", f"No part of the signal could be removed{_why(tables)}.", None, text)
    whole = _mean_over_seeds(tables, decoder)
    above = whole - decoder["chance"]
    found = found.assign(cost=whole - found["accuracy"], share=found["drop"] / above)
    found["explains"] = (found["p_holm"] < ALPHA) & (found["share"] >= EXPLAINS)
    return _not_brain(found, above) or _brain(found, above) or _unknown(found, tables)


def without_removals(tables: Mapping[str, pd.DataFrame], facts: Mapping) -> dict | None:
    """Apply the rules that need no part of the signal removed, 1 and 2 of `source_verdict`; None where neither does."""
    return _nothing(facts["decoder"]) or _leak(tables, facts)


def _verdict(source: str, rule: str, number, text: str = "") -> dict:
    return {"source": source, "rule": rule, "number": None if number is None else float(number), "text": text}


def _mean_over_seeds(tables, decoder) -> float:
    """Return the accuracy of one network on average, as that without a part is; all seeds together are better."""
    predictions = tables.get("predictions")
    if predictions is None or not len(predictions):
        return decoder["balanced_accuracy"]
    found = balanced_accuracy(predictions)
    return found if found > decoder["chance"] else decoder["balanced_accuracy"]


def _nothing(decoder: Mapping) -> dict | None:
    p, balanced, chance = decoder["p"], decoder["balanced_accuracy"], decoder["chance"]
    if p < ALPHA and balanced > chance:
        return None
    text = "The decoder does not know the classes: what maps show is no evidence about the brain, nor about anything."
    if p >= ALPHA:
        rule = f"Permuted labels reach this accuracy with p = {p:.3g}, not below {ALPHA:g}."
        return _verdict("nothing", rule, p, text)
    rule = f"The balanced accuracy, {balanced:.2f}, is not above chance, {chance:.2f}."
    return _verdict("nothing", rule, balanced, text)


def _leak(tables, facts) -> dict | None:
    decoder, order = facts["decoder"], facts.get("order")
    if order and order["p"] < ORDER_P and order["accuracy"] >= decoder["balanced_accuracy"]:
        rule = (
            f"The quarter of the recording in which a trial stands tells its class with {order['accuracy']:.2f}, the"
            f" decoder with {decoder['balanced_accuracy']:.2f}."
        )
        text = "The classes follow each other in blocks: whatever changes slowly tells them, on both sides of a split."
        return _verdict("leak", rule, order["accuracy"], text)
    leaks, predictions = tables.get("leaks"), tables.get("predictions")
    if leaks is None or predictions is None or not len(leaks):
        return None
    twin = predictions["trial"].isin(leaks["trial"])
    share, clean = twin.mean(), predictions[~twin]
    if share < LEAKED or (p := above_chance(clean)) < ALPHA:
        return None
    rest = "none is without" if not len(clean) else f"the others are decoded with p = {p:.3g}"
    rule = f"{share:.0%} of the trials share samples with trials of another group, and {rest}."
    return _verdict("leak", rule, share, "The network may have been trained on samples that it is tested on.")


def _not_brain(found: pd.DataFrame, above: float) -> dict | None:
    needed = found[found["explains"] & found["source"].isin(WORDS)]
    if not len(needed):
        return None
    needed = needed.assign(alone=needed["only_p"] < ALPHA).sort_values(["alone", "drop"], ascending=False)
    first = needed.iloc[0]
    rule = (
        f"With '{first['part']}' removed the accuracy is {first['accuracy']:.2f}, with as powerful parts removed"
        f" {first['control']:.2f}: {first['share']:.0%} of what is above chance (p = {first['p_holm']:.2g}, Holm)."
    )
    others = ", ".join(needed["part"].iloc[1:])
    if first["source"] in ("drift", "edge") and (eyes := _costliest(found)) is not None and eyes["source"] == "eyes":
        if eyes["cost"] / above >= EXPLAINS and eyes["only_p"] < ALPHA:
            rule += (
                f" Of all kinds of components those of the eyes cost most, with {eyes['accuracy']:.2f} left, and alone"
                f" they decode with {eyes['only']:.2f}."
            )
            return _verdict("eyes", rule, eyes["cost"] / above, f"The decoder reads {WORDS['eyes']}.")
    text = f"The decoder reads {WORDS[first['source']]}." + (f" Also needed: {others}." if others else "")
    return _verdict(first["source"], rule, first["share"], text)


def _costliest(found: pd.DataFrame) -> pd.Series | None:
    kinds = found[found["kind"] == "components"]
    return kinds.loc[kinds["cost"].idxmax()] if len(kinds) else None


def _brain(found: pd.DataFrame, above: float) -> dict | None:
    brain, cleaned = (_row(found, name) for name in ("brain", ALL_BUT_BRAIN))
    text = "What the decoder uses comes from the brain, as far as components, bands and electrodes tell."
    if brain is not None:
        rest_decodes = cleaned is None or cleaned["left_p"] < ALPHA
        if brain["explains"] and rest_decodes:
            rule = (
                f"Without the brain's components the accuracy is {brain['accuracy']:.2f}, without as powerful parts"
                f" {brain['control']:.2f} (p = {brain['p_holm']:.2g}, Holm), and nothing else is needed."
            )
            return _verdict("brain", rule, brain["share"], text)
        if cleaned is not None and rest_decodes and brain["cost"] / above >= EXPLAINS:
            rule = (
                f"Nothing that is not the brain is needed: without all of it the accuracy is {cleaned['accuracy']:.2f}"
                f" (p = {cleaned['left_p']:.2g}), without the brain's components {brain['accuracy']:.2f}."
            )
            return _verdict("brain", rule, cleaned["accuracy"], text)
    middle = _row(found, f"{MIDDLE[0]:g}-{MIDDLE[1]:g} Hz")
    known, left = (found["kind"] == "components").any(), _row(found, LEFT)
    missed = left is not None and left["power"] > UNKNOWN
    if middle is not None and (missed or not known):
        if middle["only_p"] < ALPHA and middle["cost"] / above >= EXPLAINS:
            why = f"Components leave {left['power']:.0%} of the power" if missed else "No components could be made"
            rule = (
                f"{why}, but {middle['part']} alone, where eyes and muscles have little power,"
                f" decodes with {middle['only']:.2f} (p = {middle['only_p']:.2g}), and the accuracy without it is"
                f" {middle['accuracy']:.2f}."
            )
            return _verdict("brain", rule, middle["only"], text)
    return None


def _row(found: pd.DataFrame, part: str) -> pd.Series | None:
    rows = found[found["part"] == part]
    return rows.iloc[0] if len(rows) else None


def _unknown(found: pd.DataFrame, tables) -> dict:
    reasons = []
    if not (found["kind"] == "components").any():
        reasons.append(f"no components could be made{_why(tables)}")
    uncontrolled = found[found["p"].isna() & (found["kind"] != "joint") & (found["cost"] > 0)]
    if len(uncontrolled):
        parts = ", ".join(uncontrolled["part"])
        reasons.append(f"the rest of the signal has less power than {parts}, so there is no control")
    if (found["explains"] & (found["source"] == "")).any():
        parts = ", ".join(found.loc[found["explains"] & (found["source"] == ""), "part"])
        reasons.append(f"what is needed, {parts}, may be the brain's or not")
    reasons = reasons or ["no part costs more than as powerful ones do: many contribute, or the trials are too few"]
    largest = found["share"].max()
    rule = f"{'; '.join(reasons)}."
    text = "What the decoder uses may be the brain or not: this recording, or this many trials, do not tell."
    return _verdict("cannot tell", rule[0].upper() + rule[1:], None if np.isnan(largest) else largest, text)


def _why(tables) -> str:
    skipped = tables.get("skipped")
    if skipped is None or not len(skipped):
        return ""
    why = skipped.loc[skipped["section"] == "components", "reason"]
    return f" ({' '.join(map(str, why)).rstrip('.')})" if len(why) else ""


def method_verdicts(tables: Mapping[str, pd.DataFrame], facts: Mapping) -> pd.DataFrame:
    """Say which methods' maps can be trusted here.

    Rules in their order; the first that applies decides.

    1. cannot tell: the decoder knows nothing, so there is nothing that a map could show; or no test was made.
    2. do not use: with random weights the map stays (median r > 0.7), or it orders points worse than a random map.
    3. doubt: a delta above 1 % of the change where a method promises none; the map for a wrong class is alike
       (median r > 0.7; a flip of sign is no likeness); it orders points no better than a random map.
    4. trust.

    Parameters
    ----------
    tables : mapping
        conservation, sanity, faithfulness; each optional.
    facts : mapping
        With "knows".

    Returns
    -------
    DataFrame
        A row per method: method, relative_delta (largest over trials; a share of the change, or of its median over
        trials where that is larger, since to an output that does not move any delta is much), labels and weights
        (median r), faithfulness (mean area between the deletion curves of surrogate or random maps and of the map's
        own; above 0 is better) with low and high, verdict, rule, number.
    """
    parts = [_conservation(tables), _sanity(tables), _faithfulness(tables)]
    methods = list(dict.fromkeys(method for part in parts for method in part.index))
    columns = ["relative_delta", "labels", "weights", "faithfulness", "low", "high"]
    made = pd.concat([part.reindex(methods) for part in parts], axis=1).reindex(columns=columns)
    verdicts = [next(_judge(row, facts)) for _, row in made.iterrows()]
    judged = pd.DataFrame(verdicts, index=made.index, columns=["verdict", "rule", "number"])
    return made.join(judged).rename_axis("method").reset_index()


def _judge(row: pd.Series, facts: Mapping) -> Iterator[tuple[str, str, float]]:
    """Yield what each rule that applies says, the decisive one first."""
    if not facts["knows"]:
        yield "cannot tell", "The decoder knows nothing: there is nothing that a map could show.", np.nan
    weights, labels, delta = row["weights"], row["labels"], row["relative_delta"]
    gain, low, high = row["faithfulness"], row["low"], row["high"]
    if weights > ALIKE:
        yield "do not use", f"With random weights the map stays as it was: median r = {weights:.2f}.", weights
    if high < 0:
        yield (
            "do not use",
            f"Random maps find what the network uses better, by {-gain:.3g} [{-high:.3g}, {-low:.3g}].",
            gain,
        )
    if delta > CONSERVED:
        yield "doubt", f"The map does not sum to the change of the output: it is {delta:.2g} of it off.", delta
    if labels > ALIKE:
        yield "doubt", f"The map for a wrong class is the same: median r = {labels:.2f}.", labels
    if low <= 0:
        yield (
            "doubt",
            f"It finds what the network uses no better than a random map: {gain:.3g} [{low:.3g}, {high:.3g}].",
            gain,
        )
    if np.isnan(weights) or np.isnan(gain):
        lacking = " and ".join(
            n for n, it in (("weight randomisation", weights), ("faithfulness", gain)) if np.isnan(it)
        )
        yield "cannot tell", f"Not tested: {lacking}.", np.nan
    yield (
        "trust",
        f"It changes with the weights (median r = {weights:.2f}) and finds what the network uses better than a random"
        f" map, by {gain:.3g} [{low:.3g}, {high:.3g}].",
        gain,
    )


def _conservation(tables) -> pd.DataFrame:
    table = tables.get("conservation")
    if table is None or not len(table):
        return pd.DataFrame(columns=["relative_delta"], dtype=float)
    change = table["change"].abs()
    usual = change.groupby(table["method"]).transform("median")
    relative = table["delta"].abs() / np.maximum(np.maximum(change, usual), np.finfo(float).tiny)
    return relative.groupby(table["method"], sort=False).max().to_frame("relative_delta")


def _sanity(tables) -> pd.DataFrame:
    table = tables.get("sanity")
    if table is None or not len(table):
        return pd.DataFrame(columns=["labels", "weights"], dtype=float)
    return table.pivot_table("pearson", "method", "test", aggfunc="median", sort=False)


def _faithfulness(tables) -> pd.DataFrame:
    table = tables.get("faithfulness")
    if table is None or not len(table):
        return pd.DataFrame(columns=["faithfulness", "low", "high"], dtype=float)
    # A smooth map deletes long stretches, which does another damage than scattered points: its match is as smooth.
    control = "surrogate" if (table["map"] == "surrogate").any() else "random"
    area = area_under_curve(table)
    value = "probability" if area["probability"].notna().all() else "logit"
    keys = [column for column in ("method", "seed", "trial") if column in area]
    area = area.pivot_table(value, keys, "map", sort=False)
    gain = (area[control] - area["own"]).rename("gain").reset_index()
    found = mean_and_interval(gain, "method", "gain").set_index("method")
    return found.rename(columns={"mean": "faithfulness"})[["faithfulness", "low", "high"]]
