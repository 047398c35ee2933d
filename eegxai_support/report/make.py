"""`make_report`: from a network and a recording to a page that a reviewer can read."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import torch
from torch import nn

from eegxai_support.attribution import METHODS
from eegxai_support.decoders import save
from eegxai_support.files import expanded
from eegxai_support.model import model_size, name_of, record_of
from eegxai_support.montages import scalp_positions
from eegxai_support.provenance import package_digest, versions
from eegxai_support.report.components import Components, kept_components
from eegxai_support.report.decoding import Decoding, Fit, Prepare
from eegxai_support.report.explaining import DEFAULT_METHODS, QUICK_METHODS, Explaining, trials_to_show
from eegxai_support.report.findings import SAMPLE, Findings
from eegxai_support.report.judging import decoder_facts, removed_parts
from eegxai_support.report.leaks import RECORDING
from eegxai_support.report.page import write_page
from eegxai_support.report.parts import COMPUTED_WITH, Frames, Parts, fingerprint
from eegxai_support.report.question import Question, check_numbers
from eegxai_support.report.receipt import remove_earlier, write_receipt
from eegxai_support.report.receipts import Receipts
from eegxai_support.report.removal import N_CONTROLS
from eegxai_support.report.sample import write_sample
from eegxai_support.report.verdict import method_verdicts, source_verdict
from eegxai_support.trials import Trials, unknown_name

N_SHOWN = 48
N_CONTROLS_QUICK = 10
HIDDEN, WEIGHTS = ".parts", "weights"
UNORDERED = (
    "The trials are sorted by class and have no onsets, so that it could not be tested whether the classes followed"
    " each other in blocks. Give the trials in the order of the recording, or their onsets in s as the column onset."
)
ONE_SCALE = "Trials were divided by one number for each recording, in which no label enters; its groups share it."
REFERENCED = 1e-3  # mean over the channels, as a share of the standard deviation


def make_report(
    model,
    trials,
    out_dir: str | Path,
    *,
    test=None,
    raw=None,
    components=None,
    prepare: Prepare | None = None,
    group: str = "run",
    methods: Iterable[str] | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    quick: bool = False,
    seed: int = 0,
    title: str | None = None,
    notes: Iterable[str] = (),
    files: Iterable[tuple[str, str]] = (),
    dropped: pd.DataFrame | None = None,
    command: str | None = None,
) -> Path:
    """Write a report on what a network uses of a recording: one HTML page, its numbers, and a receipt.

    Called again with the same arguments after it was stopped, it goes on where it was, and gives the same numbers.

    Parameters
    ----------
    model : torch.nn.Module, fitted EEGClassifier or str
        A network, or the name of one to be trained here (see `build_decoder`), once for each group that is left out and
        each seed, on crops of two thirds of the window.
    trials : Trials, mne.Epochs, a dataset of windows, or a list of them
        With at least two classes and eight trials in each.
    out_dir : path
        Gets ``report.html``, ``receipt.json``, the folders ``tables`` and ``weights``.
    test : as `trials`, optional
        Trials that `model` was not trained on; only these are explained. Without them the network's own record tells
        which of `trials` it has seen, where it was trained by `train`; where nothing does, the page says so first.
    raw : mne.io.BaseRaw, mne.BaseEpochs, a list of them, or a dict from subject to either; optional
        The recording in its widest band, which independent components are looked for in; the trials where None.
    components : (mne.preprocessing.ICA, DataFrame), or a dict from subject to such a pair; optional
        Components that were fitted and labelled before, such as those of an EEGLAB file, see `read_components`.
    prepare : callable, optional
        ``prepare(trials) -> trials``, what stands between the recording and the network. For a network that is trained
        here: `Trials.standardise`, also of trials without a unit, whose numbers may be of any size; else nothing.
    group : str
        Column of the metadata: trials of one group never stand on both sides of a split, and intervals go over groups.
    methods : iterable of str, optional
        Keys of `METHODS`.
    seeds : int
        Networks that are trained for each group. Their maps are averaged.
    epochs : int, optional
        Of training; by default from 20, for many trials, to 60.
    quick : bool
        A first look: one seed, two methods, fewer controls.
    seed : int
        The first seed of everything that is drawn.
    title : str, optional
    notes, files, dropped
        What `read_recording` says of the files, for the page.
    command : str, optional
        The command that makes the report again, for the page.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    ValueError
        Trials without classes or with too few, one group only, methods that do not exist, or a network that does not
        fit the trials or has seen them all.
    """
    methods = _checked_methods(methods, quick)
    check_numbers(seeds=seeds, epochs=epochs)
    out_dir = expanded(out_dir)
    question = Question.of(model, trials, test, prepare, group, "make_report")
    numbers = list(range(seed, seed + (1 if quick else seeds)))
    parts = question.parts(out_dir / HIDDEN)
    decoding = question.decoded(numbers, epochs, out_dir / WEIGHTS, parts)
    decided = _decided_by(decoding)  # refuses a network that does not fit, before components take their time
    found = kept_components(decoding.trials.subset(decoding.explained), raw, components, seed=seed, parts=parts)
    parts = parts.narrowed(*decided, found.digest)
    tables, maps = _tables(decoding, found, methods, quick=quick, seed=seed, parts=parts)
    if dropped is not None:
        tables["dropped"] = dropped
    facts = _facts(decoding, group, title=title, notes=notes, files=files, command=command, quick=quick)
    leaks, facts["order"] = question.leaks(seed)
    if leaks is not None:
        tables["leaks"] = leaks
    if question.groups is not None:
        facts["notes"] += [UNORDERED] * (facts["order"] is None)
        if question.prepare is Trials.standardise and _within_recordings(question.trials, question.groups):
            facts["notes"].append(ONE_SCALE)
    tables["methods"] = method_verdicts(tables, facts)
    facts["verdict"] = source_verdict(tables, facts)
    if not decoding.knows:  # the largest of values that mean nothing
        tables["peaks"] = tables["peaks"].assign(channel=None, time=np.nan, frequency=np.nan)
    findings = Findings(_explained(decoding), tables, maps, facts)
    remove_earlier(findings, out_dir)
    _write_sample(decoding, list(maps), out_dir)
    page = write_page(findings, out_dir)
    write_receipt(findings, out_dir, facts["files"])
    return page


def _within_recordings(trials: Trials, groups: np.ndarray) -> bool:
    """Say whether a recording is split between groups."""
    recordings = trials.metadata[RECORDING].assign(group=groups).groupby(RECORDING)
    return bool(recordings["group"].nunique().max() > 1)


def _checked_methods(methods: Iterable[str] | None, quick: bool) -> tuple[str, ...]:
    if methods is None:
        return QUICK_METHODS if quick else DEFAULT_METHODS
    methods = tuple(dict.fromkeys([methods] if isinstance(methods, str) else methods))
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    if not methods:
        raise ValueError(f"methods is empty; expected some of {', '.join(METHODS)}.")
    return methods


def _decided_by(decoding: Decoding) -> list:
    """Return what numbers depend on besides the arguments, as JSON holds it: inputs, weights and answers.

    `prepare` may be any function and a network any code: what they return tells, and which trials are explained.
    """
    answers = decoding.predictions.round(3).astype(str).to_numpy()
    return [fingerprint(decoding.inputs), [weights_digest(fit.model) for fit in decoding.fits], answers]


def _tables(
    decoding: Decoding, components: Components, methods: tuple[str, ...], *, quick: bool, seed: int, parts: Parts
) -> tuple[Frames, dict[str, np.ndarray]]:
    """Run the stages that need networks or recordings; return their tables and the maps to browse."""
    explaining = Explaining(
        decoding, methods, components if components.ica else None, trials_to_show(decoding, N_SHOWN), seed
    )
    tables = explaining.run(parts)
    maps = _to_arrays(tables.pop("maps"), _explained(decoding).signal.shape[1:]) if "maps" in tables else {}
    tables |= parts.frames("peaks", methods, seed, compute=lambda: {"peaks": explaining.peaks(tables)})
    tables |= Receipts(decoding, methods, seed, quick).run(parts)
    n_controls = N_CONTROLS_QUICK if quick else N_CONTROLS
    striking = [method for method in QUICK_METHODS if method in methods] or methods  # as `judge_decoder` has them
    removed = removed_parts(
        decoding, components, tables.get("channels"), striking, n_controls=n_controls, seed=seed, parts=parts
    )
    skipped = [tables.get("skipped"), removed["skipped"]]
    tables |= removed | {"skipped": pd.concat(skipped).drop_duplicates(ignore_index=True)}
    if decoding.training is not None:
        tables["training"] = decoding.training
    tables["predictions"] = decoding.predictions
    tables["shown"] = pd.DataFrame({"trial": explaining.shown})
    return tables, maps


def _write_sample(decoding: Decoding, methods: Iterable[str], out_dir: Path) -> None:
    """Write a few trials with their numbers, and the weights of the network that they are of."""
    fit = decoding.fits[0]
    if decoding.training is None:  # a network that was given
        save(fit.model, out_dir / _weights(fit))
    write_sample(out_dir / SAMPLE, fit.model, decoding.inputs, fit.index, methods, weights=_weights(fit))


def _weights(fit: Fit) -> str:
    return f"{WEIGHTS}/{fit.group}-seed{fit.seed}.safetensors"


def _to_arrays(maps: pd.DataFrame, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the maps of each method, in the order of their trials."""
    ordered = maps.sort_values("trial", kind="stable").groupby("method", sort=False)["map"]
    return {method: np.stack([np.frombuffer(each, np.float32).reshape(shape) for each in m]) for method, m in ordered}


def _explained(decoding: Decoding) -> Trials:
    """Return the trials that are explained, as the networks take them."""
    return decoding.inputs.subset(decoding.explained)


def _facts(decoding: Decoding, group: str, *, title, notes, files, command, quick: bool) -> dict:
    given, model = _explained(decoding), decoding.fits[0].model
    return {
        "title": title or f"What {name_of(model)} uses to tell {' from '.join(given.class_names)}",
        "model": {
            "name": name_of(model),
            "n_parameters": sum(each.numel() for each in model.parameters()),
            "chs_info": _channels_of(model),
            "sfreq": model_size(model, "sfreq"),
        },
        "origin": decoding.origin,
        "origin_text": decoding.origin_text,
        "group": "block" if group == "blocks" else group,  # one of them, as in "each run"
        "n_groups": len(np.unique(decoding.groups[decoding.explained])),
        "seeds": decoding.seeds,
        "weights": [_weights(fit) for fit in decoding.fits],
        "decoder": decoder_facts(decoding),
        "knows": bool(decoding.knows),
        "class_names": list(given.class_names),
        "ch_names": list(given.info.ch_names),
        "sfreq": given.sfreq,
        "tmin": float(given.times[0]),
        "tmax": float(given.times[-1] + 1 / given.sfreq),
        "window": [float(decoding.trials.times[0]), float(decoding.trials.times[-1] + 1 / given.sfreq)],
        "unit": decoding.trials.unit,
        "scale": float(np.median(decoding.trials.signal.std(2))),
        "reference": _reference(decoding.trials),
        "montage_fit": _montage_fit(given.info),
        "band": [given.info["highpass"], given.info["lowpass"]],
        "notes": list(notes),
        "files": [list(each) for each in files],
        "versions": versions(COMPUTED_WITH) | {"platform": platform.platform()},
        "sources": package_digest(),
        "command": command,
        "quick": quick,
    }


def weights_digest(model: nn.Module) -> str:
    """Return a hash of a network's class and its weights."""
    digest = hashlib.sha256(name_of(model).encode())
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _channels_of(model: nn.Module) -> str:
    """Say what the network knows about its channels; that they agree with the trials was checked at the door."""
    declared, record = model_size(model, "chs_info"), record_of(model)
    if record is not None:
        return f"The network was trained on these {len(record.ch_names)} channels in this order."
    return "The network states these channels." if declared else "The network does not say which channels it expects."


def _reference(trials: Trials) -> str:
    if np.abs(trials.signal.mean(1)).max() < REFERENCED * trials.signal.std():
        return "average over these channels"
    return "changed after the recording" if trials.info["custom_ref_applied"] else "as recorded"


def _montage_fit(info: mne.Info) -> str:
    try:
        scalp_positions(info)
    except ValueError as error:
        return str(error)
    return f"All {len(info.ch_names)} electrodes have a place on the head."
