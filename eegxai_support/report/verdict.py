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
from eegxai_support.report.removal import FAST, MIDDLE, SLOW
from eegxai_support.scoring import area_under_curve, mean_and_interval

SOURCES = ("brain", "eyes", "muscle", "line", "drift", "edge", "channel", "leak", "nothing", "cannot tell")
METHOD_VERDICTS = ("trust", "doubt", "do not use", "cannot tell")
ALPHA = 0.05
# Of the accuracy above chance, what is left with a part alone, and lost without it. In EEGBCI from the cue, where the
# eyes are known to be read, 88 % is left with their components and 60 % lost without (chapter 13).
CARRIES, CARRIES_ALL = 0.5, 0.75
ACQUITS = 0.01  # p-value of trials without a twin: one in a hundred decoders that know only twins passes for another
LEAKED = 0.05  # share of trials with a twin: fewer do not lift an accuracy by more than that
# Largest delta, as a share of the change of the output. Integrated gradients reach 3e-4 on real trials and DeepLIFT
# 3e-7, input times gradient, which promises nothing, 0.4 to 0.8 (chapter 04).
CONSERVED = 0.01
# Correlation with the map for a wrong class, or of random weights: above, half the variance (0.7² = 0.49) has nothing
# to do with class or weights. Of four classes, saliency has 0.31 and 0.18, other methods 0 and below (chapter 09).
ALIKE = 0.7
SLOW_PART, MIDDLE_PART, FAST_PART = f"below {SLOW:g} Hz", f"{MIDDLE[0]:g}-{MIDDLE[1]:g} Hz", f"above {FAST:g} Hz"
WHERE_ELSE = {"eyes": SLOW_PART, "muscle": FAST_PART}  # most of their power is there
WORDS = {"eyes": "eye movements", "muscle": "muscles", "line": "the mains", "drift": "a drift of the potential"}
WORDS |= {"edge": "an edge of the window", "channel": "what a single electrode records"}


def source_verdict(tables: Mapping[str, pd.DataFrame], facts: Mapping) -> dict:
    """Say what the decoder uses, from a closed list.

    Rules in their order; the first that applies decides. Accuracies are balanced, every class counts alike; the p-value
    of the decoder is that of its accuracy. A part of the signal *carries* the decision where it is sufficient and
    necessary: with it alone at least half of the accuracy above chance is left (p < 0.05), and without it at most half.

    1. nothing: the accuracy could be chance (p ≥ 0.05, or balanced accuracy not above chance).
    2. leak: trials share samples with trials of other groups, and those that do not are not decoded above chance
       (p ≥ 0.01); or the order of the trials tells the class as well as the decoder does.
    3. channel: what one electrode alone records, and no neighbour tells, carries the decision, three quarters of it.
    4. eyes, muscle: components that are named so carry it, and so does the band where these have their power, below
       6 Hz or above 30 Hz. Labels err: an oscillation of the cortex has been called a muscle.
    5. line: the mains carry it; or without them at most half is left, and less than without other parts of as much
       power (Holm's p < 0.05). Alone they need not decode, since networks measure them against the rest.
    6. muscle, again: the frequencies above 30 Hz carry it, and the brain's components do not, whatever the others are
       called. In people whose muscles were paralysed little was left there [1]_.
    7. edge: the first or the last tenth of the window carries three quarters: nothing in the cortex is so punctual.
    8. brain: the brain's components carry it; or 6-20 Hz does, where neither eyes nor muscles have much, and neither
       slower nor faster frequencies do.
    9. drift: frequencies below 0.5 Hz, of short trials their mean and slope, carry three quarters.
    10. cannot tell, with the reason.

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

    References
    ----------
    .. [1] Whitham et al. (2007). Scalp electrical recording during paralysis: quantitative evidence that EEG
       frequencies above 20 Hz are contaminated by EMG. Clinical Neurophysiology 118(8), 1877-1888.
    """
    if verdict := without_removals(tables, facts):
        return verdict
    decoder, found = facts["decoder"], tables.get("interventions")
    if found is None or not len(found):
        text = "What the decoder uses may be the brain or not: nothing could be tried."
        return _verdict("cannot tell", f"No part of the signal could be removed{_why(tables)}.", None, text)
    whole = _mean_over_seeds(tables, decoder)
    above = whole - decoder["chance"]
    found = found.assign(
        kept=(found["only"] - decoder["chance"]) / above,
        lost=(whole - found["accuracy"]) / above,
    )
    found["carried"] = found[["kept", "lost"]].min(axis=1).where(found["only_p"] < ALPHA, 0.0)
    for rule in (_channel, _eyes_or_muscle, _line, _fast, _edge, _brain, _drift):
        if verdict := rule(found):
            return verdict
    return _unknown(found, tables)


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
    if share < LEAKED or (p := above_chance(clean)) < ACQUITS:
        return None
    rest = "none is without" if not len(clean) else f"the others are decoded with p = {p:.3g}"
    rule = f"{share:.0%} of the trials share samples with trials of another group, and {rest}."
    return _verdict("leak", rule, share, "The network may have been trained on samples that it is tested on.")


def _channel(found: pd.DataFrame) -> dict | None:
    return _carrying(found[found["kind"] == "channel"], CARRIES_ALL)


def _eyes_or_muscle(found: pd.DataFrame) -> dict | None:
    for source, band in WHERE_ELSE.items():
        elsewhere = found[found["part"] == band]  # none where the trials hold nothing else
        if not len(elsewhere) or elsewhere["carried"].iloc[0] >= CARRIES:
            if verdict := _carrying(found[(found["kind"] == "components") & (found["source"] == source)], CARRIES):
                return verdict
    return None


def _line(found: pd.DataFrame) -> dict | None:
    mains = found[found["source"] == "line"]
    if verdict := _carrying(mains, CARRIES):
        return verdict
    mains = mains[(mains["lost"] >= CARRIES) & (mains["p_holm"] < ALPHA)]
    if not len(mains):
        return None
    row = mains.iloc[0]
    rule = (
        f"Without '{row['part']}' the accuracy is {row['accuracy']:.2f}, without as powerful parts"
        f" {row['control']:.2f}: {_share(row['lost'])} of what is above chance goes with it"
        f" (p = {row['p_holm']:.2g}, Holm)."
    )
    return _verdict("line", rule, row["lost"], _reads("line"))


def _fast(found: pd.DataFrame) -> dict | None:
    if (found.loc[found["source"] == "brain", "carried"] >= CARRIES).any():
        return None
    return _carrying(found[found["part"] == FAST_PART], CARRIES, "muscle")


def _edge(found: pd.DataFrame) -> dict | None:
    return _carrying(found[found["kind"] == "edge"], CARRIES_ALL)


def _brain(found: pd.DataFrame) -> dict | None:
    if verdict := _carrying(found[found["source"] == "brain"], CARRIES):
        return verdict
    others = found[found["part"].isin([SLOW_PART, FAST_PART])]
    if (others["carried"] >= CARRIES).any():
        return None
    return _carrying(found[found["part"] == MIDDLE_PART], CARRIES, "brain")


def _drift(found: pd.DataFrame) -> dict | None:
    return _carrying(found[found["source"] == "drift"], CARRIES_ALL)


def _carrying(parts: pd.DataFrame, enough: float, source: str | None = None) -> dict | None:
    """Return a verdict on the part that carries most, where it carries enough."""
    if not len(parts) or parts["carried"].max() < enough:
        return None
    row = parts.loc[parts["carried"].idxmax()]
    source = source or row["source"]
    rule = (
        f"With nothing but '{row['part']}' the accuracy is {row['only']:.2f} (p = {row['only_p']:.2g}), without it"
        f" {row['accuracy']:.2f}: {_share(row['kept'])} of what is above chance stays with it, {_share(row['lost'])}"
        " goes with it."
    )
    return _verdict(source, rule, row["carried"], _reads(source))


def _share(value: float) -> str:
    return f"{np.clip(value, 0, 1):.0%}"


def _reads(source: str) -> str:
    if source == "brain":
        return "What the decoder uses comes from the brain, as far as components, bands and electrodes tell."
    return f"The decoder reads {WORDS[source]}."


def _unknown(found: pd.DataFrame, tables) -> dict:
    reasons = []
    if not (found["kind"] == "components").any():
        reasons.append(f"no components could be made{_why(tables)}")
    carrying = found[found["carried"] >= CARRIES]
    if len(carrying):
        parts = ", ".join(f"'{part}'" for part in carrying["part"])
        reasons.append(f"{parts} would do alone and cannot be spared, which no source explains by itself")
    else:
        reasons.append("no part of the signal would do alone and cannot be spared: several contribute")
    rule = f"{'; '.join(reasons)}."
    text = "What the decoder uses may be the brain or not: this recording, or this many trials, do not tell."
    return _verdict("cannot tell", rule[0].upper() + rule[1:], found["carried"].max(), text)


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
