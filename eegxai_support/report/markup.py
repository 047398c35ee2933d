"""Pieces of the page: text that is never markup, numbers, lists and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
import pandas as pd

NOTHING = "–"
MOST_ROWS = 40  # of a table on the page; the rest stands in its file
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SIGNS = {
    "trust": "✓", "doubt": "?", "do not use": "✗", "cannot tell": "–",
    "brain": "✓", "nothing": "–",
}  # fmt: skip


def text(value: object) -> str:
    """Return what a user wrote as it is to be read, whatever markup it holds."""
    return escape(str(value))


def number(value: object, digits: int = 3) -> str:
    """Return a number as it is read: as many digits as tell something, a dash where there is none."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value}"
    if not isinstance(value, float | np.floating):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, power = f"{value:.1e}".split("e")
        return f"{mantissa} × 10{str(int(power)).translate(RAISED)}".replace("-", "−")
    said = f"{value:.{digits}g}"
    return (f"{value:.0f}" if "e" in said else said).replace("-", "−")


def p_value(value: float | None) -> str:
    """Return a p-value with its sign of equality."""
    if value is None or not math.isfinite(value):
        return "p not computed"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Return a 95 % interval, or nothing where there is none."""
    if any(it is None or not math.isfinite(it) for it in (low, high)):
        return ""
    if not 0.1 <= max(abs(low), abs(high)) < 10:
        return f"95 % interval {number(float(low), digits)} to {number(float(high), digits)}"
    return f"95 % interval {low:.{digits}f} to {high:.{digits}f}".replace("-", "−")


def listed(names: Iterable[object], last: str = "and") -> str:
    """Return names as a sentence lists them."""
    *first, end = [str(name) for name in names] or [NOTHING]
    return f"{', '.join(first)} {last} {end}" if first else end


def counted(n: int, name: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n} {name if n == 1 else plural or name + 's'}"


def paragraph(*sentences: str, kind: str = "") -> str:
    """Return a paragraph of sentences that are escaped here."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{text(' '.join(it for it in sentences if it))}</p>"


def heading(words: str, level: int = 3) -> str:
    """Return a heading inside a section."""
    return f"<h{level}>{text(words)}</h{level}>"


def badge(verdict: str) -> str:
    """Return a verdict with its sign, so that it does not stand by its colour alone."""
    kind = {"trust": "good", "brain": "good", "doubt": "fair", "cannot tell": "none", "nothing": "none"}
    sign = SIGNS.get(verdict, "!")
    return (
        f'<span class="badge-{kind.get(verdict, "bad")}"><span aria-hidden="true">{sign}</span> {text(verdict)}</span>'
    )


def definitions(entries: Mapping[str, object]) -> str:
    """Return names with what is known of each; what is None is left out."""
    pairs = [(text(name), text(value)) for name, value in entries.items() if value not in (None, "")]
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs) + "</dl>"


def bullets(items: Iterable[str]) -> str:
    """Return a list of texts."""
    return "<ul>" + "".join(f"<li>{text(it)}</li>" for it in items) + "</ul>"


def table(frame: pd.DataFrame, caption: str, *, badges: str | None = None, file: str | None = None) -> str:
    """Return a table that scrolls in itself, its first column naming the rows.

    Parameters
    ----------
    frame : DataFrame
        Its index is not shown.
    caption : str
    badges : str, optional
        Column that is shown as verdicts.
    file : str, optional
        Name of the table that holds all rows, said where not all are shown.
    """
    shown = frame.head(MOST_ROWS)
    if len(frame) > len(shown):
        caption = f"{caption} The first {len(shown)} of {len(frame)} rows; all are in tables/{file}.parquet."
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame.columns]
    head = "".join(
        f'<th scope="col"{" class=number" * right}>{text(column)}</th>'
        for column, right in zip(frame.columns, [False, *numeric[1:]], strict=True)
    )
    rows = "".join(f"<tr>{_cells(row, frame.columns, badges)}</tr>" for row in shown.itertuples(index=False))
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{text(caption)}"><table><caption>{text(caption)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(row: tuple, columns: Iterable[str], badges: str | None) -> str:
    first, *rest = zip(row, columns, strict=True)
    cells = [f'<th scope="row">{text(number(first[0]))}</th>']
    for value, column in rest:
        of_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        content = badge(value) if column == badges else text(number(value))
        cells.append(f"<td{' class=number' if of_number else ''}>{content}</td>")
    return "".join(cells)


def code(content: str, label: str, name: str) -> str:
    """Return text to copy, with a button that does it."""
    return (
        f'<div class="copy"><div class="copy-head"><span id="{name}-label">{text(label)}</span>'
        f'<button type="button" data-copy="{name}" aria-describedby="{name}-label">Copy</button></div>'
        f'<pre id="{name}" role="region" tabindex="0" aria-labelledby="{name}-label">{text(content)}</pre></div>'
    )
