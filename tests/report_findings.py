"""Findings as a report would have made them, without a network: what the page, verdict and receipt are tried on.

The decoder of `make_findings` knows the classes from a rhythm of 10 Hz over the left and right hand area; every table
has the columns and the order of magnitude that the stages of the report give it.
"""

import mne
import numpy as np
import pandas as pd

from eegxai_support.montages import EEGBCI_CHANNELS, electrode_info, scalp_places
from eegxai_support.report.findings import Findings
from eegxai_support.trials import Trials

METHODS = ("deep_lift", "integrated_gradients", "lrp_epsilon", "saliency")
PATTERN = "haufe_pattern"
WITHOUT_MULTIPLIER = ("saliency", "grad_cam")  # neither spectra nor components, and nothing to conserve
KINDS = ("brain", "muscle artifact", "eye blink", "heart beat", "line noise", "channel noise", "other")
MOTOR = ("C3", "C4", "Cz")
VERDICTS = ("trust", "trust", "doubt", "do not use")


def make_findings(
    *,
    n_channels=64,
    classes=("left", "right"),
    n_groups=3,
    n_trials=60,
    n_times=240,
    sfreq=80.0,
    n_shown=12,
    n_unexplained=0,
    methods=METHODS,
    seeds=(0, 1),
    knows=True,
    positions=True,
    without=(),
    ch_names=None,
    title="Motor imagery of one subject",
    seed=0,
) -> Findings:
    """Return findings of a decoder that is above chance, or not; `without` names tables that could not be made."""
    rng = np.random.default_rng(seed)
    trials = _trials(rng, n_channels, classes, n_groups, n_trials, n_times, sfreq, positions, ch_names)
    shown = np.sort(rng.choice(n_trials, min(n_shown, n_trials), replace=False))
    tables = _recording(trials, n_unexplained) | _decoding(rng, trials, seeds, knows)
    tables |= _class_maps(rng, trials, methods) | _components(rng, trials, methods) | _removals(rng, trials, knows)
    tables |= _receipts(rng, trials, methods, seeds)
    tables["shown"] = pd.DataFrame({"trial": shown})
    for name in ("predictions", "removals", "conservation", "sanity", "robustness", "faithfulness", "shown"):
        tables[name]["trial"] += n_unexplained  # numbers count all trials given, those first that were trained on
    skipped = [
        {"section": name, "reason": f"The recording has too little for {name}: 2 channels, at least 3 are needed."}
        for name in without
    ]
    tables = {name: table for name, table in tables.items() if name not in without}
    tables["skipped"] = pd.DataFrame(skipped, columns=["section", "reason"])
    maps = {method: _maps(rng, trials, shown) for method in methods}
    return Findings(trials, tables, maps, _facts(trials, tables, seeds, knows, title))


def at_chance(**options) -> Findings:
    """Return findings of a decoder that knows nothing."""
    return make_findings(knows=False, **options)


def _info(n_channels, positions, sfreq, ch_names):
    if not positions:
        names = list(ch_names or (f"Ch{n + 1}" for n in range(n_channels)))
        return mne.create_info(names, sfreq, "eeg", verbose=False)
    if n_channels == len(EEGBCI_CHANNELS):
        return electrode_info(EEGBCI_CHANNELS, sfreq)
    return electrode_info((*MOTOR, "Pz", "Fz", "Oz", "T7", "T8", "O1", "O2")[:n_channels], sfreq)


def _trials(rng, n_channels, classes, n_groups, n_trials, n_times, sfreq, positions, ch_names):
    info = _info(n_channels, positions, sfreq, ch_names)
    label = np.arange(n_trials) % len(classes)
    signal = rng.standard_normal((n_trials, n_channels, n_times)).cumsum(axis=2) / 10
    signal -= signal.mean(axis=2, keepdims=True)
    time = np.arange(n_times) / sfreq
    for trial, of_class in enumerate(label):
        signal[trial, of_class % n_channels] += np.sin(2 * np.pi * 10 * time + rng.uniform(0, 6))
    run = np.arange(n_trials) * n_groups // n_trials + 1
    metadata = pd.DataFrame({"subject": "S007", "session": "0", "run": [f"run {r}" for r in run]})
    return Trials(signal, "standardised", label, info, classes, metadata, tmin=1.0)


def _groups(trials):
    return trials.metadata["run"].to_numpy()


def _recording(trials, n_unexplained):
    rows = trials.metadata.assign(group=_groups(trials), label=trials.label, explained=True)
    rows = pd.concat([rows.iloc[:1].assign(run="run 0", group="run 0", explained=False)] * n_unexplained + [rows])
    rows = rows.assign(trial=range(len(rows))).reset_index(drop=True)
    rows["class"] = np.array(trials.class_names)[rows["label"]]
    order = ["trial", "subject", "session", "run", "group", "label", "class", "explained"]
    reasons = [(trials.class_names[0], "too near the end of the recording", 1),
               (trials.class_names[-1], "annotated BAD_blink", 6)]  # fmt: skip
    return {"trials": rows[order], "dropped": pd.DataFrame(reasons, columns=["class", "reason", "n"])}


def _decoding(rng, trials, seeds, knows):
    rows = []
    for seed in seeds:
        log_odds = rng.normal(1.5 if knows else 0.0, 1.2, len(trials))
        other = (trials.label + rng.integers(1, max(trials.n_classes, 2), len(trials))) % trials.n_classes
        predicted = np.where(log_odds > 0, trials.label, other)
        p_true = 1 / (1 + np.exp(-log_odds))
        rows.append(pd.DataFrame({"trial": range(len(trials)), "seed": seed, "group": _groups(trials),
                                  "label": trials.label, "predicted": predicted, "p_true": p_true,
                                  "log_odds": log_odds}))  # fmt: skip
    epochs = np.arange(30)
    training = [
        pd.DataFrame({"group": group, "seed": seed, "epoch": epochs, "train_loss": 0.7 * np.exp(-epochs / 12),
                      "train_accuracy": 1 - 0.5 * np.exp(-epochs / 8)})
        for group in pd.unique(_groups(trials)) for seed in seeds
    ]  # fmt: skip
    return {"predictions": pd.concat(rows, ignore_index=True), "training": pd.concat(training, ignore_index=True)}


def _centre(trials, of_class):
    """Return the channel where the signal of a class is."""
    names = trials.info.ch_names
    wanted = ("C4", "C3", "Cz")[of_class % 3]
    return names.index(wanted) if wanted in names else of_class % len(names)


def _profile(rng, trials, of_class):
    """Return what the channels of a class hold, most of it near one channel."""
    centre, places = _centre(trials, of_class), scalp_places(trials.info)
    value = rng.normal(0.01, 0.01, len(places))
    near = np.exp(-(((places - places[centre]) ** 2).sum(axis=1)) / 0.1)
    value += 0.3 * np.where(np.isnan(near), np.arange(len(places)) == centre, near)
    return value


def _class_maps(rng, trials, methods):
    names, groups = trials.info.ch_names, pd.unique(_groups(trials))
    freqs = np.fft.rfftfreq(trials.signal.shape[2], 1 / trials.sfreq)
    freqs, times = freqs[(freqs >= 4) & (freqs <= 40)], trials.times
    channels, courses, spectra = [], [], []
    for method in (*methods, PATTERN):
        for network in ("trained", "untrained"):
            size = 1.0 if network == "trained" else 0.15
            for group in groups:
                for k, name in enumerate(trials.class_names):
                    key = {"method": method, "network": network, "group": group, "class": name}
                    peak = (network == "trained") * 1.0
                    of_time = peak * np.exp(-((times - 1.6) ** 2) / 0.2) + 0.15 * rng.standard_normal(len(times))
                    of_freq = peak * np.exp(-((freqs - 10) ** 2) / 4) + 0.1 * rng.standard_normal(len(freqs))
                    profile = _profile(rng, trials, k) if peak else rng.normal(0, 0.3, len(names))
                    channels.append(_shares(key, "channel", names, size * profile))
                    if method != PATTERN:
                        courses.append(_shares(key, "time", times, size * of_time / 50))
                    if method not in WITHOUT_MULTIPLIER:
                        spectra.append(_shares(key, "frequency", freqs, size * of_freq / 10))
    peaks = pd.DataFrame(
        [(methods[0], name, names[_centre(trials, k)], 10.0 if k == 0 else np.nan, 1.6, 0.06)
         for k, name in enumerate(trials.class_names)],
        columns=["method", "class", "channel", "frequency", "time", "frequency_level"],
    )  # fmt: skip
    tables = {"channels": channels, "times": courses, "spectra": spectra}
    return {name: pd.concat(rows, ignore_index=True) for name, rows in tables.items()} | {"peaks": peaks}


def _shares(key, axis, places, value):
    return pd.DataFrame(key | {axis: places, "value": value, "share": np.abs(value) / np.abs(value).sum()})


def _components(rng, trials, methods):
    n = min(len(trials.info.ch_names), 15)
    label = [KINDS[i % len(KINDS)] for i in range(n)]
    components = pd.DataFrame({"subject": "S007", "component": range(n), "label": label,
                               "probability": rng.uniform(0.5, 1, n), "origin": "fitted"})  # fmt: skip
    kinds, rows = (*KINDS, "left by the components"), []
    for method in [it for it in methods if it not in WITHOUT_MULTIPLIER]:
        for network in ("trained", "untrained"):
            for group in pd.unique(_groups(trials)):
                share = rng.dirichlet([40 if network == "trained" else 8, *[5] * (len(kinds) - 1)])
                rows += [
                    (method, network, group, kind, each, each / 2) for kind, each in zip(kinds, share, strict=True)
                ]
    columns = ["method", "network", "group", "kind", "share", "net"]
    return {"components": components, "sources": pd.DataFrame(rows, columns=columns)}


PARTS = {"brain": "components", "eyes": "components", "muscle": "components", "below 4 Hz": "band",
         "20-40 Hz": "band", "first 0.2 s": "edge", "last 0.2 s": "edge"}  # fmt: skip


def _removals(rng, trials, knows):
    chance, rows, draws = 1 / max(trials.n_classes, 1), [], []
    parts = PARTS | {trials.info.ch_names[0]: "channel"}
    whole = 0.85 if knows else chance
    for part, kind in parts.items():
        kept = chance if part == "brain" else whole - rng.uniform(0, 0.06)
        control = whole - rng.uniform(0, 0.05)
        only = whole if part == "brain" else chance
        p = 0.004 if part == "brain" and knows else rng.uniform(0.1, 0.9)
        rows.append((part, kind, rng.uniform(0.02, 0.4), kept, kept - 0.08, kept + 0.08, control, control - 0.08,
                     control + 0.08, control - kept, control - kept - 0.09, control - kept + 0.09, p, min(1, 8 * p),
                     only, 0.01 if only > chance else 0.6))  # fmt: skip
        for draw in range(-1, 3):
            correct = rng.random(len(trials)) < (kept if draw < 0 else control)
            draws.append(pd.DataFrame({"part": part, "kind": kind, "draw": draw, "trial": range(len(trials)), "seed": 0,
                                       "correct": correct, "log_odds": rng.normal(correct - 0.5, 1),
                                       "power": rows[-1][2], "only": False}))  # fmt: skip
    columns = ["part", "kind", "power", "accuracy", "accuracy_low", "accuracy_high", "control", "control_low",
               "control_high", "drop", "drop_low", "drop_high", "p", "p_holm", "only", "only_p"]  # fmt: skip
    return {"removals": pd.concat(draws, ignore_index=True), "interventions": pd.DataFrame(rows, columns=columns)}


def _receipts(rng, trials, methods, seeds):
    trial, conservation, sanity, robustness, curves, rows = np.arange(len(trials)), [], [], [], [], []
    shares, points = (0.1, 0.3, 1.0), np.linspace(0, 1, 11)
    for m, method in enumerate(methods):
        bad = method in WITHOUT_MULTIPLIER
        for seed in seeds:
            change = rng.normal(2, 1, len(trial))
            delta = np.full(len(trial), np.nan) if bad else rng.normal(0, 1e-5, len(trial))
            change = change + 0 * delta  # what promises nothing has no change to add up to
            conservation.append(pd.DataFrame({"method": method, "trial": trial, "seed": seed, "delta": delta,
                                              "change": change, "relative": np.abs(delta / change)}))  # fmt: skip
            for test, level in (("labels", 0.9 if bad else -0.6), ("weights", 0.7 if bad else 0.1)):
                pearson = np.clip(rng.normal(level, 0.15, len(trial)), -1, 1)
                sanity.append(pd.DataFrame({"method": method, "test": test, "seed": seed, "trial": trial,
                                            "pearson": pearson}))  # fmt: skip
        for kind in ("own", "surrogate", "random"):
            good = kind == "own" and not bad
            for share in shares:
                r = np.clip(rng.normal(0.8 if good else 0.0, 0.15, len(trial)), -1, 1)
                robustness.append(pd.DataFrame({"method": method, "map": kind, "trial": trial, "target": trials.label,
                                                "share": share, "correlation": r}))  # fmt: skip
            for point in points:
                logit = 2 * np.exp(-(6 if good else 2) * point) + rng.normal(0, 0.3, len(trial))
                curves.append(pd.DataFrame({"method": method, "map": kind, "trial": trial, "target": trials.label,
                                            "share": point, "logit": logit,
                                            "probability": 1 / (1 + np.exp(-logit))}))  # fmt: skip
        verdict = VERDICTS[m % 4] if method not in WITHOUT_MULTIPLIER else "do not use"
        rule = {"trust": "conserves and passes both sanity checks", "doubt": "robust in fewer than half of the trials",
                "do not use": "the map hardly changes with another label"}[verdict]  # fmt: skip
        rows.append((method, np.nan if bad else 1e-5, 0.9 if bad else -0.6, 0.7 if bad else 0.1, 0.0 if bad else 0.4,
                     -0.1 if bad else 0.3, 0.1 if bad else 0.5, verdict, rule, 0.9 if bad else 1e-5))  # fmt: skip
    columns = "method relative_delta labels weights faithfulness low high verdict rule number".split()
    tables = {"conservation": conservation, "sanity": sanity, "robustness": robustness, "faithfulness": curves}
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return tables | {"methods": pd.DataFrame(rows, columns=columns)}


def _maps(rng, trials, shown):
    """Return maps with the rhythm of each trial's class at its channel in the first second."""
    _, n_channels, n_times = trials.signal.shape
    maps = rng.normal(0, 0.002, (len(shown), n_channels, n_times))
    time = np.arange(n_times) / trials.sfreq
    burst = 0.02 * np.exp(-((time - 0.6) ** 2) / 0.1) * np.cos(20 * np.pi * time)
    for row, trial in enumerate(shown):
        maps[row, _centre(trials, trials.label[trial])] += burst
    return maps.astype(np.float32)


def _facts(trials, tables, seeds, knows, title):
    chance = 1 / trials.n_classes
    right = tables["predictions"].eval("label == predicted").mean()
    source = {"source": "brain", "rule": "accuracy falls to chance without the brain's components, and not without as"
              " much power of other signals", "number": 0.35, "text": "The decoder uses activity of the brain: without"
              " it accuracy falls by 0.35, without as much power of the rest by 0.02."}  # fmt: skip
    nothing = {"source": "nothing", "rule": "balanced accuracy is not above chance", "number": 0.41,
               "text": "The decoder is not above chance (p = 0.41): there is nothing to explain."}  # fmt: skip
    return {
        "title": title,
        "model": {"name": "EEGNet", "n_parameters": 2418, "sfreq": trials.sfreq,
                  "chs_info": f"The network was trained on these {len(trials.info.ch_names)} channels in this order."},
        "origin": "left-out groups",
        "origin_text": "Every trial is explained by a network that was trained on the other runs.",
        "group": "run",
        "n_groups": len(pd.unique(_groups(trials))),
        "seeds": list(seeds),
        "decoder": {"accuracy": float(right), "balanced_accuracy": float(right), "chance": chance,
                    "majority": chance + 0.02, "p": 0.001 if knows else 0.41, "n_trials": len(trials),
                    "low": float(right) - 0.08, "high": min(float(right) + 0.07, 1.0)},
        "knows": knows,
        "class_names": list(trials.class_names),
        "sfreq": trials.sfreq,
        "tmin": trials.tmin,
        "tmax": float(trials.times[-1] + 1 / trials.sfreq),
        "window": [trials.tmin, float(trials.times[-1] + 1 / trials.sfreq)],
        "unit": "uV",
        "scale": 12.3,
        "reference": "average over these channels",
        "montage_fit": f"All {len(trials.info.ch_names)} electrodes have a place on the head.",
        "ch_names": list(trials.info.ch_names),
        "band": [4.0, 40.0],
        "notes": ["The sampling rate was 160 Hz; resampled to 80 Hz."],
        "verdict": source if knows else nothing,
        "versions": {"eegxai_support": "0.3.0", "mne": mne.__version__, "numpy": np.__version__},
        "files": [["recording-epo.fif", 64 * "d"]],
        "data": 64 * "a",
        "weights": ["weights/network-0.safetensors"],
        "sources": 64 * "e",
        "command": "eegxai report recording-epo.fif --out report --train EEGNet --group run",
        "quick": False,
    }  # fmt: skip
