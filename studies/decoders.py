"""What do captum and this package do on every decoder of braindecode, untrained, of 22 channels and 1000 samples?"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from captum.attr import LRP, DeepLift, GuidedBackprop
from torch import nn

import eegxai_support as xs
from studies.form import Study, no_recordings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import zoo

TARGET, N_TRIALS = 1, 4
CONSERVES = 1e-3  # median relative delta
X = np.random.default_rng(0).standard_normal((N_TRIALS, zoo.N_CHANNELS, zoo.N_TIMES)).astype("float32")
BASELINES = {"zeros": np.zeros_like(X), "another trial": np.roll(X, -1, axis=0)}


def decoders() -> pd.DataFrame:
    """DeepLIFT's relative delta, whether guided backpropagation is but the gradient, whether LRP runs; both tools."""
    return pd.DataFrame([row for name in zoo.MODELS for row in _rows(name)])


def _rows(name: str) -> Iterator[dict]:
    print(name, flush=True)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        model = zoo.build(name).requires_grad_(False)
        for tool, explain in {"captum": _captum, "eegxai": _ours}.items():
            for compared, baseline in BASELINES.items():
                row = {"decoder": name, "tool": tool, "method": "deep_lift", "baseline": compared}
                yield row | _outcome(lambda e=explain, b=baseline: _conservation(model, e(model, "deep_lift", b), b))
            row = {"decoder": name, "tool": tool, "baseline": None}
            guided = _outcome(lambda e=explain: _likeness(model, e(model, "guided_backprop")))
            yield row | {"method": "guided_backprop"} | guided
            lrp = _outcome(lambda e=explain: {"outcome": "runs"} if e(model, "lrp_epsilon").any() else {})
            yield row | {"method": "lrp_epsilon"} | lrp


def _outcome(compute) -> dict:
    try:
        return compute()
    except Exception as error:
        return {"outcome": type(error).__name__}


def _captum(model: nn.Module, method: str, baseline: np.ndarray | None = None) -> np.ndarray:
    options = {} if baseline is None else {"baselines": torch.tensor(baseline)}
    kind = {"deep_lift": DeepLift, "guided_backprop": GuidedBackprop, "lrp_epsilon": LRP}[method]
    return kind(model).attribute(torch.tensor(X, requires_grad=True), target=TARGET, **options).detach().numpy()


def _ours(model: nn.Module, method: str, baseline: np.ndarray | None = None) -> np.ndarray:
    return xs.attribute(model, X, TARGET, method, baseline=baseline).values


def _conservation(model: nn.Module, values: np.ndarray, baseline: np.ndarray) -> dict:
    at_x, at_baseline = (xs.predict(model, trials)[:, TARGET] for trials in (X, baseline))
    change = at_x - at_baseline
    delta = np.abs(values.sum((1, 2), dtype=float) - change)
    delta = float(np.median(delta / np.maximum(np.abs(change), at_x.std())))
    return {"delta": delta, "outcome": "conserves" if delta < CONSERVES else "does not conserve"}


def _likeness(model: nn.Module, values: np.ndarray) -> dict:
    gradient = _ours(model, "gradient")
    same = np.allclose(values, gradient, atol=1e-5 * np.abs(gradient).max())
    return {"outcome": "is the gradient" if same else "differs from the gradient"}


STUDY = Study(
    configuration={
        "n_trials": N_TRIALS,
        "n_channels": zoo.N_CHANNELS,
        "n_times": zoo.N_TIMES,
        "target": TARGET,
        "baselines": list(BASELINES),
        "conserves": CONSERVES,
        "decoders": list(zoo.MODELS),
    },
    tables={decoders: no_recordings},
)
