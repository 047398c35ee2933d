"""The receipt of a report: what was found, from what, by what; and whether all of it still stands."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from eegxai_support.decoders import accuracy, permutation_p_value
from eegxai_support.files import (
    SEAL,
    SEAL_KEY,
    UNSEALED,
    DamagedFileError,
    expanded,
    plain,
    read_sealed,
    sealed,
    write_whole,
)
from eegxai_support.provenance import package_digest, versions
from eegxai_support.recordings.results import read_recorded
from eegxai_support.report.findings import SAMPLE, Findings
from eegxai_support.report.networks import load_network
from eegxai_support.report.sample import check_sample, read_sample
from eegxai_support.trials import Trials

RECEIPT, PREDICTIONS = "receipt.json", "tables/predictions.parquet"
SCHEMA = Path(__file__).with_name("receipt.schema.json")
FORM = 1  # of the receipt; a reader can tell what to expect
# What the numbers are computed with. On other versions of these, or another kind of processor, they may be rounded
# otherwise, or come from a method that was mended since.
LIBRARIES = ("eegxai-support", "torch", "numpy", "scipy", "mne", "braindecode")
ROOMS = ("attribution", "decoders", "model", "trials")  # whose sources numbers come from: they change within a version
SAME, SIMILAR = 1e-6, 1e-3  # relative to the largest value: by the same versions, and by others

Row = tuple[str, str, str, str]  # what, name, status, detail
OK, REFUSED, NOT_CHECKED, INFORMATION = "ok", "refused", "not checked", "information"


def write_receipt(findings: Findings, out_dir: str | Path, files: Iterable[tuple[str, str]] = ()) -> Path:
    """Write ``receipt.json``, the last file of a report: it holds the hashes of all others.

    Parameters
    ----------
    findings : Findings
    out_dir : path
        Holds what the report consists of already: pages, tables, weights, sample.
    files : iterable of (path, sha256)
        What the trials were read from, as `read_recording` gives it.

    Returns
    -------
    Path
        Of the receipt: strict JSON, described by ``receipt.schema.json`` beside this module. Numbers are written so
        that they are read as the same floats; what is none stands as null.
    """
    out_dir = expanded(out_dir)
    content = _strict(plain({SEAL_KEY: UNSEALED, **_content(findings, out_dir, files)}))
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path = out_dir / RECEIPT
    write_whole(path, bytes(sealed(f"{text}\n".encode())))
    return path


def remove_earlier(findings: Findings, out_dir: str | Path) -> None:
    """Remove the receipt of an earlier report, and those of its files that this one does not write again.

    Only what that receipt lists and still is as it was written: all else in the folder is its owner's. Weights stay:
    they took long, and another report may take them again.
    """
    out_dir = expanded(out_dir)
    path = out_dir / RECEIPT
    try:
        earlier = json.loads(read_sealed(path, required=True))
        listed = earlier["files"]
    except (OSError, ValueError, KeyError):  # none, damaged, or another file of that name
        return
    path.unlink()
    for name, digest in listed.items():
        left = out_dir / name
        inside = left.resolve().is_relative_to(out_dir.resolve())
        if name not in findings.products and inside and left.is_file() and file_digest(left) == digest:
            left.unlink()


def _content(findings: Findings, out_dir: Path, files: Iterable[tuple[str, str]]) -> dict:
    facts, tables = findings.facts, findings.tables
    hashes = {name: file_digest(out_dir / name) for name in sorted(findings.products) if (out_dir / name).is_file()}
    return {
        "form": FORM,
        "title": facts["title"],
        "verdict": facts["verdict"],
        "decoder": facts["decoder"],
        "methods": _methods(tables),
        "peaks": _peaks(tables),
        "data": {
            "files": {_from(out_dir, path): digest for path, digest in files},
            "trials": {"sha256": trials_digest(findings.trials), "shape": list(findings.trials.signal.shape)},
        },
        "weights": {name: digest for name, digest in hashes.items() if name.startswith("weights/")},
        "files": {name: digest for name, digest in hashes.items() if not name.startswith("weights/")},
        "network": facts["model"],
        "explained": {name: facts[name] for name in ("origin", "group", "n_groups", "quick")},
        "skipped": tables["skipped"].to_dict("records") if "skipped" in tables else [],
        "seeds": facts["seeds"],
        "versions": facts["versions"] | computed_with(),
        "command": facts["command"],
    }


def _methods(tables: dict[str, pd.DataFrame]) -> dict[str, dict]:
    """Return per method the largest relative delta, both sanity checks, faithfulness and verdict."""
    rows = tables["methods"].to_dict("records") if "methods" in tables else []
    return {
        row["method"]: {
            "relative_delta": row["relative_delta"],
            "sanity": {"labels": row["labels"], "weights": row["weights"]},
            "faithfulness": {"difference": row["faithfulness"], "low": row["low"], "high": row["high"]},
            "verdict": row["verdict"],
            "rule": row["rule"],
            "number": row["number"],
        }
        for row in rows
    }


def _peaks(tables: dict[str, pd.DataFrame]) -> dict[str, dict]:
    """Return per class where the first method has its largest relevance, and where the others have it."""
    rows = tables["peaks"].to_dict("records") if "peaks" in tables else []
    peaks: dict[str, dict] = {}
    for row in rows:
        peak = {name: row[name] for name in ("method", "channel", "frequency", "time", "frequency_level")}
        of_class = peaks.setdefault(str(row["class"]), peak | {"others": []})
        if of_class["method"] != row["method"]:
            of_class["others"].append(peak)
    return peaks


def _from(folder: Path, path: str) -> str:
    """Return a path as it is seen from a folder, so that both can be moved together."""
    try:
        return Path(os.path.relpath(expanded(path), folder)).as_posix()
    except ValueError:  # on another drive
        return str(expanded(path).absolute())


def _strict(content: object) -> object:
    """Return content with null in place of what is no number: strict JSON has neither NaN nor infinity."""
    if isinstance(content, dict):
        return {str(key): _strict(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces: 64 hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def trials_digest(trials: Trials) -> str:
    """Return the SHA-256 of the numbers, labels, channels and rate of trials: 64 hexadecimal digits."""
    known = [trials.signal.shape, trials.info.ch_names, trials.sfreq, trials.tmin, trials.unit, trials.class_names]
    digest = hashlib.sha256(repr(known).encode())
    digest.update(np.ascontiguousarray(trials.signal))
    digest.update(b"" if trials.label is None else np.ascontiguousarray(trials.label))
    return digest.hexdigest()


def computed_with() -> dict[str, str | None]:
    """Return what numbers depend on besides data and weights: versions, our sources, and the kind of processor.

    The kind of processor decides in which order torch sums: between AVX2 and AVX-512, logits and LRP of untrained
    networks were 1e-6 to 5e-5 apart, relative to the largest, and the same with one thread as with two.
    """
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return versions(LIBRARIES) | {"sources": package_digest(*ROOMS)[:16], "processor": processor}


def verify_receipt(path: str | Path, *, network: str | Callable | nn.Module | None = None) -> pd.DataFrame:
    """Compare a report with its receipt: every file by its hash, and a sample of the numbers by computing them again.

    Parameters
    ----------
    path : path
        ``receipt.json``, or the folder that it lies in.
    network : callable, "module:callable" or torch.nn.Module, optional
        Returns the network, given the trials of the sample, or is it; for a network of one's own, which the file of its
        weights does not describe.

    Returns
    -------
    DataFrame
        A row for each thing that was looked at, with the columns ``what`` (seal, file, data, version or number),
        ``name``, ``status`` and ``detail``. The status is "refused" for what is not as it was written; "ok";
        "not checked" for input files that are not where they were, and numbers of a network that is not known; and
        "information" for versions that differ, and numbers computed by such.

    Raises
    ------
    FileNotFoundError
        There is no such receipt.
    ValueError
        The file is no receipt, or `network` and the weights do not fit.

    Notes
    -----
    Numbers have to agree to 1e-6 of the largest of them where versions and processor are those of the receipt. On
    others they are compared to 1e-3 and never refused: a method may have been mended since.
    """
    path = expanded(path)
    path = path / RECEIPT if path.is_dir() else path
    try:
        receipt = json.loads(_sealed_content(path))
    except DamagedFileError as error:
        return _table([("seal", path.name, REFUSED, f"{error} Nothing that it says can be relied on.")])
    folder, differing = path.parent, _differing(receipt["versions"])
    rows = [("seal", path.name, OK, "")]
    rows += [_compared_file("file", folder, *item) for part in ("files", "weights") for item in receipt[part].items()]
    rows += [_compared_file("data", folder, *item) for item in receipt["data"]["files"].items()]
    rows += [("version", name, INFORMATION, f"{then} then, {now} now") for name, then, now in differing]
    refused = {name for _, name, status, _ in rows if status == REFUSED}
    rows += _accuracies(folder, receipt, refused, bool(differing))
    return _table(rows + _sample(folder, receipt, network, refused, bool(differing)))


def _sealed_content(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected the {RECEIPT} of a report.")
    content = path.read_bytes()
    if SEAL_KEY.encode() not in content and SEAL.encode() not in content:  # one changed byte leaves one of them
        raise ValueError(f"{path} is no receipt; expected the {RECEIPT} that a report wrote.")
    return read_sealed(path, required=True)


def _table(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["what", "name", "status", "detail"])


def _compared_file(what: str, folder: Path, name: str, digest: str) -> Row:
    path = folder / name
    if not path.is_file():
        return (what, name, NOT_CHECKED if what == "data" else REFUSED, "is not there")
    same = file_digest(path) == digest
    return (what, name, OK if same else REFUSED, "" if same else "its content is not what was written")


def _differing(then: dict) -> list[tuple[str, str, str]]:
    """Return what numbers are computed with otherwise than by the receipt: name, then, now."""
    now = computed_with()
    return [(name, then.get(name), now[name]) for name in now if then.get(name) != now[name]]


def _accuracies(folder: Path, receipt: dict, refused: set[str], others: bool) -> list[Row]:
    """Return a row for what the receipt says of the decoder, computed again from the table of predictions."""
    if PREDICTIONS not in receipt["files"] or PREDICTIONS in refused:
        return []
    predictions = read_recorded(folder / PREDICTIONS)
    of_class = [column for column in predictions if column.startswith("log_p_")]
    trials = predictions.groupby("trial").agg({"label": "first", "group": "first", **dict.fromkeys(of_class, "mean")})
    predicted = trials[of_class].to_numpy().argmax(1)  # of all seeds together
    found = accuracy(trials["label"], predicted, len(of_class))
    numbers = {
        "accuracy": found.accuracy,
        "balanced_accuracy": found.balanced,
        "chance": found.chance,
        "majority": found.majority,
        "p": permutation_p_value(trials["label"], predicted, trials["group"]),
    }
    written = receipt["decoder"]
    return [_compared_number(name, _apart(number, written[name]), others) for name, number in numbers.items()]


def _apart(found: float, written: float | None) -> float:
    if found == written:
        return 0.0
    return math.inf if written is None else abs(found - written) / max(abs(found), abs(written))


def _sample(folder: Path, receipt: dict, network, refused: set[str], others: bool) -> list[Row]:
    """Return a row for each number of the sample; none where the sample or its weights were refused already."""
    if SAMPLE not in receipt["files"]:
        return [("number", SAMPLE, NOT_CHECKED, "the report has no sample of its numbers")]
    if SAMPLE in refused:
        return []
    sample = read_sample(folder / SAMPLE)
    if sample.weights in refused:
        return []
    if sample.weights not in receipt["weights"]:
        return [("number", sample.weights, REFUSED, "is no file of this receipt")]
    try:
        model = load_network(folder / sample.weights, sample.trials, network)
    except ValueError as error:
        if network is not None:
            raise
        return [("number", sample.weights, NOT_CHECKED, str(error))]
    checked = check_sample(folder / SAMPLE, model)
    return [_compared_number(row.what, row.relative, others) for row in checked.itertuples()]


def _compared_number(name: str, apart: float, others: bool) -> Row:
    found = f"differs by {apart:.1g}, relative to the largest value"
    if others:
        more = f", more than the {SIMILAR:g} that other versions may differ by" * (apart > SIMILAR)
        return ("number", name, INFORMATION, found + more)
    return ("number", name, OK, "") if apart <= SAME else ("number", name, REFUSED, f"{found}; {SAME:g} is allowed")
