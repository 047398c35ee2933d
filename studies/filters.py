"""What do the weights of decoders hold, beside filter-bank CSP, and which of their units do they need?

The decoders are trained within a subject, on all fist runs but the first imagined one.
"""

from __future__ import annotations

from collections.abc import Iterator

import mne
import numpy as np
import pandas as pd
from torch import nn

import eegxai_support as xs
from studies.accuracy import EXECUTED_RUNS, FIST_EPOCHS, FIST_RUNS, N_TIMES, SEEDS, SFREQ
from studies.form import Study, defaults, eegbci
from studies.maps import WINDOW

LEFT_OUT = FIST_RUNS[0]
BANDS = {"mu": (7, 13), "beta": (13, 30)}
NETWORKS = {  # at 80 Hz
    "EEGNet": xs.RECIPES["EEGNet"],
    "ShallowFBCSPNet": xs.RECIPES["ShallowFBCSPNet"],
    "Deep4Net": {
        "filter_time_length": 13,
        **dict.fromkeys(("pool_time_length", "pool_time_stride"), 2),
        **dict.fromkeys(("filter_length_2", "filter_length_3", "filter_length_4"), 5),
    },
    "InterpretableCNN": {"kernel_length": 32},
}


def filter_matches(subjects=(7, 42), networks=tuple(NETWORKS), seeds=SEEDS) -> pd.DataFrame:
    """Patterns of units against those of filter-bank CSP on the same training trials, in the band of a unit's peak."""
    rows = []
    for subject in subjects:
        seen, unseen = _motor_trials(subject)
        csp = xs.filter_bank_csp(seen, BANDS).patterns[1]  # right fist against left
        covariance = {name: np.cov(np.hstack(_filtered(seen, *band))) for name, band in BANDS.items()}
        for decoder, seed, model in _motor_decoders(seen, networks, seeds):
            filters = xs.read_filters(model, sfreq=SFREQ)
            row = {"subject": subject, "decoder": decoder, "seed": seed}
            row |= {"accuracy": _accuracy(model, unseen), "share": filters.share.mean()}
            frequency, patterns = peak_frequency(filters), xs.filter_patterns(filters, seen)
            for (band, (low, high)), reference in zip(BANDS.items(), csp, strict=True):
                inside = (frequency >= low) & (frequency < high)
                rows.append(row | {"band": band, "n_units": inside.sum()})
                if inside.any():
                    rows[-1] |= xs.match_patterns(patterns[inside], reference, covariance[band]).attrs
    return pd.DataFrame(rows)


def filter_ablation(subjects=(7, 42), networks=("EEGNet", "ShallowFBCSPNet"), seeds=SEEDS) -> pd.DataFrame:
    """Accuracy on the run left out with each unit held at its mean, unit -1 being none, and where the unit peaks."""
    tables = []
    for subject in subjects:
        seen, unseen = _motor_trials(subject)
        for decoder, seed, model in _motor_decoders(seen, networks, seeds):
            filters = xs.read_filters(model, sfreq=SFREQ)
            unit = {"unit": range(len(filters.share)), "frequency": peak_frequency(filters), "share": filters.share}
            table = xs.ablate_units(model, unseen.crop(*WINDOW), filters.layer).merge(pd.DataFrame(unit), how="left")
            tables.append(table.assign(subject=subject, decoder=decoder, seed=seed))
    return pd.concat(tables, ignore_index=True)


def peak_frequency(filters: xs.Filters) -> np.ndarray:
    """Return the frequency in Hz at which each unit's kernel answers most."""
    gain = np.abs(np.fft.rfft(filters.unit_kernels, 512))
    return np.fft.rfftfreq(512, 1 / filters.sfreq)[gain.argmax(1)]


def _motor_trials(subject: int) -> tuple[xs.Trials, xs.Trials]:
    trials = xs.load_eegbci(subject, runs=FIST_RUNS + EXECUTED_RUNS, sfreq=SFREQ)
    left_out = (trials.metadata["run"] == LEFT_OUT).to_numpy()
    return trials.subset(~left_out), trials.subset(left_out)


def _motor_decoders(seen: xs.Trials, networks, seeds) -> Iterator[tuple[str, int, nn.Module]]:
    for name in networks:
        for seed in seeds:
            model = xs.build_decoder(name, seen, n_times=N_TIMES, seed=seed, **NETWORKS[name])
            yield name, seed, xs.train(model, seen, epochs=FIST_EPOCHS, seed=seed, cache=True).model


def _accuracy(model: nn.Module, trials: xs.Trials) -> float:
    return (xs.predict(model, trials.signal, stride=20).argmax(1) == trials.label).mean()


def _filtered(trials: xs.Trials, low: float, high: float) -> np.ndarray:
    return mne.filter.filter_data(trials.signal.astype(float), trials.sfreq, low, high, verbose="ERROR")


STUDY = Study(
    configuration={
        "sfreq": SFREQ,
        "n_times": N_TIMES,
        "epochs": FIST_EPOCHS,
        "networks": NETWORKS,
        "bands": BANDS,
        "left_out": LEFT_OUT,
        "window": WINDOW,
        "defaults": defaults(xs.load_eegbci, xs.train),
    },
    tables=dict.fromkeys((filter_matches, filter_ablation), eegbci(dict.fromkeys((7, 42), FIST_RUNS + EXECUTED_RUNS))),
)
