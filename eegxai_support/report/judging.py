"""The verdict alone: what the report asks to name a decoder's source, without its maps, its receipt and its page."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from eegxai_support.report.components import Components, kept_components
from eegxai_support.report.decoding import Decoding, Prepare
from eegxai_support.report.explaining import QUICK_METHODS, Explaining
from eegxai_support.report.findings import TRAINED
from eegxai_support.report.needed import interventions
from eegxai_support.report.parts import Frames, Parts
from eegxai_support.report.question import Question, check_numbers
from eegxai_support.report.removal import N_CONTROLS, remove_parts
from eegxai_support.report.verdict import source_verdict, without_removals


@dataclass(frozen=True, eq=False)
class DecoderVerdict:
    """What a decoder uses, and the rule and the numbers that led there.

    Parameters
    ----------
    source : str
        "brain", "eyes", "muscle", "line", "drift", "edge", "channel", "leak", "nothing" or "cannot tell".
    rule, text : str
        The rule that decided, with its numbers, and what it means.
    number : float or None
        What the rule looked at.
    decoder : dict
        accuracy, balanced_accuracy, chance, majority, n_trials, p, and a 95 % interval of the accuracy, low and high.
    tables : dict of DataFrame
        predictions; where trials and their groups are known leaks; where the rules asked for them components and
        interventions, a row for each part of the signal that was removed.
    """

    source: str
    rule: str
    text: str
    number: float | None
    decoder: dict
    tables: Frames


def judge_decoder(
    model,
    trials,
    *,
    test=None,
    raw=None,
    components=None,
    prepare: Prepare | None = None,
    group: str = "run",
    seeds: int = 1,
    epochs: int | None = None,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> DecoderVerdict:
    """Say what a decoder uses of a recording: the verdict of `make_report`, by the same rules on the same numbers.

    Rules that need no components come first: of a decoder at chance, or of trials with twins on the other side of the
    split, nothing else is asked.

    Parameters
    ----------
    model, trials, test, raw, components, prepare, group, epochs, seed
        See `make_report`.
    seeds : int
        Networks that are trained for each group, where `model` is a name.
    n_controls : int
        Draws of as powerful parts, for each part that is removed.

    Returns
    -------
    DecoderVerdict

    Raises
    ------
    ValueError
        See `make_report`.
    """
    check_numbers(seeds=seeds, epochs=epochs, n_controls=n_controls)
    question = Question.of(model, trials, test, prepare, group, "judge_decoder")
    with tempfile.TemporaryDirectory() as folder:
        parts = question.parts(Path(folder))
        decoding = question.decoded(list(range(seed, seed + seeds)), epochs, Path(folder), parts)
        tables, facts = {"predictions": decoding.predictions}, {"decoder": decoder_facts(decoding)}
        leaks, facts["order"] = question.leaks(seed)
        if leaks is not None:
            tables["leaks"] = leaks
        verdict = without_removals(tables, facts)
        if verdict is None:
            found = kept_components(decoding.trials.subset(decoding.explained), raw, components, seed=seed, parts=parts)
            nothing_shown = np.array([], int)
            channels = Explaining(decoding, QUICK_METHODS, None, nothing_shown, seed).run(parts).get("channels")
            tables |= removed_parts(
                decoding, found, channels, QUICK_METHODS, n_controls=n_controls, seed=seed, parts=parts
            )
            verdict = source_verdict(tables, facts)
    return DecoderVerdict(**verdict, decoder=facts["decoder"], tables=tables)


def removed_parts(
    decoding: Decoding,
    components: Components,
    channels: pd.DataFrame | None,
    methods: Iterable[str],
    *,
    n_controls: int,
    seed: int,
    parts: Parts,
) -> Frames:
    """Return what rules on parts of the signal look at: removals, interventions, trials, components, skipped.

    Parameters
    ----------
    channels : DataFrame or None
        Shares of relevance by method and channel.
    methods : iterable of str
        Each names a channel, the one with its largest share, which is removed by itself.
    """
    found = components if components.ica else None
    striking = [] if channels is None else most_relevant(channels, methods)
    tables = parts.frames("removals", striking, n_controls, seed, compute=lambda: {
        "removals": remove_parts(
            decoding.fits, decoding.recorded, found, decoding.prepared, channels=striking, n_controls=n_controls,
            seed=seed,
        )
    })  # fmt: skip
    n_channels = len(decoding.trials.info.ch_names)
    tables["trials"] = _list_of_trials(decoding)
    tables["interventions"] = interventions(tables["removals"], tables["trials"], n_channels=n_channels, seed=seed)
    if found is not None:
        tables["components"] = found.table
    reasons = [{"section": "components", "reason": components.reason}] * bool(components.reason)
    return tables | {"skipped": pd.DataFrame(reasons, columns=["section", "reason"])}


def decoder_facts(decoding: Decoding) -> dict:
    """Return how well the networks together decode trials that they have not seen."""
    right = decoding.accuracy
    hits = round(right.accuracy * right.n_trials)
    interval = binomtest(hits, right.n_trials).proportion_ci(method="wilson")
    return {
        "accuracy": right.accuracy,
        "balanced_accuracy": right.balanced,
        "chance": right.chance,
        "majority": right.majority,
        "n_trials": right.n_trials,
        "p": decoding.p_value,
        "low": float(interval.low),
        "high": float(interval.high),
    }


def most_relevant(channels: pd.DataFrame, methods: Iterable[str]) -> list[str]:
    """Return the channels with the largest shares in the maps of trained networks, one of each method."""
    trained = channels[channels["network"] == TRAINED]
    mean = trained.groupby(["method", "channel"], sort=False)["share"].mean()
    return list(dict.fromkeys(mean[method].idxmax() for method in methods if method in mean))


def _list_of_trials(decoding: Decoding) -> pd.DataFrame:
    trials, number = decoding.trials, np.arange(len(decoding.trials))
    known = trials.metadata[["subject", "session", "run"]].astype(str).reset_index(drop=True)
    columns = {"group": decoding.groups, "label": trials.label, "class": np.array(trials.class_names)[trials.label]}
    return pd.DataFrame({"trial": number}).join(known).assign(**columns, explained=np.isin(number, decoding.explained))
