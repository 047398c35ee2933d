"""The one form of what a benchmark found, of which `python -m benchmarks` makes a table.

Light on purpose: a process that is started begins with the peak memory of the one that starts it.
"""

import json
import math
import os
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

ROWS = "EEGXAI_BENCHMARK_ROWS"  # names the file that takes the rows; a benchmark that runs by itself does without
LIMIT = "limit"  # the peer of a row that has none


def judge(
    case: str,
    ours: float | Sequence[float],
    theirs: float | Sequence[float],
    *,
    peer: str,
    target: float | None,
    size: str = "",
    unit: str = "s",
    difference: float | None = None,
    tolerance: float | None = None,
) -> bool:
    """Judge a comparison, and enter it into the table.

    Parameters
    ----------
    case : str
        What was computed.
    ours, theirs : float or sequence of float
        What the two sides took: those of a round, which ran in turn, at the same place. One float of theirs stands for
        all rounds.
    peer : str
        An installed package, whose version is added, or what else the other side is; `LIMIT` where theirs is the most
        that ours may take.
    target : float or None
        The least ratio of theirs to ours; None where none is asked for.
    size : str
        Trials × channels × samples.
    unit : str
        Of ours and theirs; "CPU s" is processor time.
    difference, tolerance : float, optional
        How far the results of the two sides are apart, and how far they may be.

    Returns
    -------
    bool
        Whether the median over the rounds of the ratio reaches the target, and the difference is within its tolerance.
    """
    ours = [float(it) for it in _many(ours)]
    theirs = [float(it) for it in _many(theirs, len(ours))]
    ratios = [their / our if our else math.inf for our, their in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    met = (target is None or ratio >= target) and (tolerance is None or difference <= tolerance)
    _enter(
        {
            "case": case,
            "peer": _with_version(peer),
            "size": size,
            "unit": unit,
            "rounds": len(ratios),
            "ours": statistics.median(ours),
            "theirs": statistics.median(theirs),
            "ratio": ratio,
            "lowest": min(ratios),
            "highest": max(ratios),
            "target": target,
            "difference": None if difference is None else float(difference),
            "tolerance": tolerance,
            "met": bool(met),
        }
    )
    return bool(met)


def end(met: Sequence[bool]) -> None:
    """Say how many rows met their targets, and end the process: with status 1 where one missed."""
    missed = [*met].count(False)
    print(f"\n{missed} of {len(met)} rows missed a target." if missed else f"\nAll {len(met)} rows met their targets.")
    _enter(None)  # what tells a missed target from an error, which has status 1 too
    sys.exit(int(bool(missed)))


def _many(values: float | Sequence[float], n: int = 1) -> Sequence[float]:
    return values if hasattr(values, "__len__") else [values] * n


def _with_version(peer: str) -> str:
    try:
        return f"{peer} {version(peer)}"
    except PackageNotFoundError:
        return peer


def _enter(content: dict | None) -> None:
    if path := os.environ.get(ROWS):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
