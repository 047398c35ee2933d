"""The evidence for maps: whether they change with labels and weights, and say what the network answers to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from eegxai_support.attribution import attribute
from eegxai_support.model import UnsupportedOperation
from eegxai_support.report.decoding import Decoding, Fit
from eegxai_support.report.evidence import evidence
from eegxai_support.report.parts import Frames, Parts, joined
from eegxai_support.sanity import label_randomisation_test, weight_randomisation_test
from eegxai_support.scoring import area_under_curve, perturbation_curves, sensitivity_test
from eegxai_support.trials import Trials

N_TESTED = 24  # trials of a fold whose maps are tested; a median over as many is enough for a verdict
N_DRAWS = 2
SHARES = np.linspace(0, 1, 11)
PATCH_SHARES = 0.1, 0.3


@dataclass(frozen=True, eq=False)
class Receipts:
    """What is tested.

    Parameters
    ----------
    decoding : Decoding
    methods : tuple of str
        Those that explained the networks.
    seed : int
        Of patches and random weights.
    quick : bool
        One draw of random weights, and a third of the trials.
    """

    decoding: Decoding
    methods: tuple[str, ...]
    seed: int
    quick: bool = False

    def run(self, parts: Parts) -> Frames:
        """Test one network of each fold; return the tables `sanity`, `robustness` and `faithfulness` of `Findings`."""
        frames, question = [], [self.methods, self.seed, self.quick]
        for fold, fits in tqdm(self.decoding.folds.items(), desc="Testing the maps", unit="fold", delay=2):
            frames.append(parts.frames("receipts", fold, *question, compute=lambda fit=fits[0]: self._fit(fit)))
        return joined(frames)

    def _fit(self, fit: Fit) -> Frames:
        rows = self._chosen(fit)
        given = self.decoding.input_of(fit).subset(rows)
        maps, tables = {}, []
        for method in self.methods:
            try:
                maps[method] = attribute(fit.model, given, evidence(given.label), method).values
            except UnsupportedOperation:
                continue
            tables += self._sanity(fit.model, given, method)
        if not maps:
            return {}
        x, target = given.signal, evidence(given.label)
        frames = {
            "sanity": pd.concat(tables, ignore_index=True),
            "robustness": sensitivity_test(fit.model, x, target, maps, shares=PATCH_SHARES, seed=self.seed),
            "faithfulness": perturbation_curves(fit.model, x, target, maps, shares=SHARES, seed=self.seed),
        }
        return {name: table.assign(trial=fit.index[rows][table["trial"]]) for name, table in frames.items()}

    def _chosen(self, fit: Fit) -> np.ndarray:
        """Choose rows of a fit, of all classes alike."""
        n = N_TESTED // 3 if self.quick else N_TESTED
        label = pd.Series(self.decoding.trials.label[fit.index])
        turn = label.groupby(label).cumcount()
        return np.sort(np.argsort(turn, kind="stable")[:n])

    def _sanity(self, model: nn.Module, given: Trials, method: str) -> list[pd.DataFrame]:
        def explain(network: nn.Module, x: np.ndarray, target: np.ndarray) -> np.ndarray:
            return attribute(network, x, evidence(target), method).values

        x, label, n_classes = given.signal, given.label, self.decoding.trials.n_classes
        draws = range(self.seed, self.seed + (1 if self.quick else N_DRAWS))
        tests = {
            "labels": label_randomisation_test(explain, model, x, label, n_classes),
            "weights": weight_randomisation_test(explain, model, x, label, draws, order="at_once"),
        }
        columns = ["method", "test", "seed", "trial", "pearson"]
        return [t.assign(method=method, test=name).reindex(columns=columns) for name, t in tests.items()]


def area_against_random(curves: pd.DataFrame) -> pd.DataFrame:
    """Return how much earlier the output falls in the order of each map than in a random order.

    Parameters
    ----------
    curves : DataFrame
        From `perturbation_curves`, of deletion.

    Returns
    -------
    DataFrame
        method, trial, difference: area under the curve of surrogate maps minus that of the map, as a share of what the
        deletion of all points takes; positive where the map finds what the network answers to.
    """
    areas = area_under_curve(curves).pivot(index=["method", "trial"], columns="map", values="logit")
    ends = (
        curves.query("map == 'own'").sort_values("share").groupby(["method", "trial"])["logit"].agg(["first", "last"])
    )
    lost = (ends["first"] - ends["last"]).abs()
    difference = (areas["surrogate"] - areas["own"]) / lost.where(lost > 0)
    return difference.rename("difference").reset_index()
