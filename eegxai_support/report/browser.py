"""Single trials to browse on the page: small images with the numbers that their texts need, and a script of its own.

A map is written as a PNG whose palette is the colour scale, a byte or less for a point, so that any browser draws it
without a canvas and a screen reader gets its text; the electrodes of the head are drawn from their sums.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from eegxai_support.files import to_json
from eegxai_support.report.findings import Findings
from eegxai_support.report.markup import number, text
from eegxai_support.report.methods import title_of
from eegxai_support.viz.maps import REGIONS, front_to_back
from eegxai_support.viz.parts import UNIT_NAMES, head_positions

LEVELS = 20  # steps of the colour scale to each side of zero: more are not told apart, and cost a third more bytes
MOST_COLUMNS = 600  # of an image; a page is no wider
MOST_POINTS = 9_000_000  # of all images together: eight megabytes of a page, as PNG in base64
FEWEST_COLUMNS = 32
BEYOND = 99.5  # percentile of the magnitudes at which colours end
MOST_NAMES = 16  # channels that are named one by one beside an image
SCRIPT = Path(__file__).with_name("browser.js")


def trial_browser(findings: Findings) -> str:
    """Return the part of the page in which maps of single trials are looked through."""
    data = to_json(_content(findings), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    options = {
        "trial": [text(it) for it in _trial_titles(findings)],
        "map": [text(title) for title, *_ in _layers(findings)],
    }
    selects = {
        name: "".join(f'<option value="{n}">{it}</option>' for n, it in enumerate(titles))
        for name, titles in options.items()
    }
    # "<" would end the script where a class is called "</script>".
    return f"""<div class="browser" id="browser">
<div class="browser-controls">
<label>Trial <select id="browser-trial">{selects["trial"]}</select></label>
<label>Map <select id="browser-map">{selects["map"]}</select></label>
<span><button type="button" id="browser-previous" aria-label="Previous trial">←</button>
<button type="button" id="browser-next" aria-label="Next trial">→</button></span>
</div>
<div class="browser-stage" id="browser-stage" role="group" tabindex="0"
 aria-label="Map of a trial. Left and right arrow: trial. Up and down arrow: map.">
<div class="browser-plot"><div class="browser-rows" id="browser-rows" aria-hidden="true"></div>
<img id="browser-image" alt="A map, drawn by a script that does not run here" width="600" height="300"
 src="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==">
<div class="browser-times" id="browser-times" aria-hidden="true"></div></div>
<svg id="browser-head" viewBox="-1.25 -1.3 2.5 2.5" role="img" aria-label="Head"></svg>
<div class="browser-scale" aria-hidden="true"><span id="browser-low"></span><i id="browser-bar"></i>
<span id="browser-high"></span></div>
</div>
<p id="browser-text" class="caption" aria-live="polite"></p>
<noscript><p>Looking through the trials needs JavaScript; their maps are in the tables beside this page.</p></noscript>
<script type="application/json" id="browser-data">{data.replace("<", chr(92) + "u003c")}</script>
<script>{SCRIPT.read_text(encoding="utf-8")}</script>
</div>"""


def n_samples_a_column(findings: Findings) -> int:
    """Return how many points in time share a column of an image."""
    n_times = findings.trials.signal.shape[2]
    return -(-n_times // _n_columns(findings))


def map_tables(findings: Findings) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield name and table of the maps of each method: a row a trial and channel, a column a point in time."""
    names = findings.trials.info.ch_names
    times = [f"{time:.6g}" for time in findings.trials.times]
    if not findings.maps:
        return
    rows = pd.MultiIndex.from_product([findings.tables["shown"]["trial"], names], names=["trial", "channel"])
    for method, values in findings.maps.items():
        flat = pd.DataFrame(values.reshape(-1, values.shape[2]), columns=times)
        yield f"maps_{method}", pd.concat([rows.to_frame(index=False), flat], axis=1)


def _content(findings: Findings) -> dict:
    info, times = findings.trials.info, findings.trials.times
    order, region = front_to_back(info)
    places = MaxNLocator(5).tick_values(times[0], times[-1])
    inside = [float(place) for place in places if times[0] <= place <= times[-1]]
    length = times[-1] - times[0] or 1.0
    return {
        "trials": _trial_titles(findings),
        "maps": [{"title": title, "unit": unit, "signed": signed, "trials": [*_images(findings, title, values, order)]}
                 for title, unit, signed, values in _layers(findings)],
        "rows": _row_labels(info.ch_names, order, region),
        "times": [[f"{place:g}", (place - times[0]) / length] for place in inside],
        "palette": _palette(grey=not findings.facts["knows"]),
        "names": info.ch_names,
        "head": _head(info),
    }  # fmt: skip


def _layers(findings: Findings) -> Iterator[tuple[str, str, bool, np.ndarray]]:
    """Yield title, unit, whether it is evidence, and values of all that a trial shows: its maps, and itself."""
    for method, values in findings.maps.items():
        yield title_of(method), "logit per sample", True, values
    signal = findings.trials.signal[_places(findings)]
    yield "the trial itself", UNIT_NAMES[findings.trials.unit], False, signal


def _places(findings: Findings) -> np.ndarray:
    """Return where the shown trials stand among those that are explained."""
    rows = findings.tables["trials"]
    explained = pd.Index(rows.loc[rows["explained"].astype(bool), "trial"])
    return explained.get_indexer(findings.tables["shown"]["trial"])


def _trial_titles(findings: Findings) -> list[str]:
    predictions = findings.tables["predictions"]
    names, titles = findings.facts["class_names"], []
    for trial in findings.tables["shown"]["trial"]:
        rows = predictions[predictions["trial"] == trial]
        right = (rows["predicted"] == rows["label"]).mean()
        said = (
            "predicted right" if right == 1 else "predicted wrong" if right == 0 else f"right in {right:.0%} of seeds"
        )
        of_class, group = names[int(rows["label"].iloc[0])], rows["group"].iloc[0]
        titles.append(f"{trial}: {of_class}, {group}, {said} (p {rows['p_true'].mean():.2f})")
    return titles


def _images(findings: Findings, title: str, values: np.ndarray, order: np.ndarray) -> Iterator[dict]:
    names, times = findings.trials.info.ch_names, findings.trials.times
    n_columns, signed = _n_columns(findings), title != "the trial itself"
    for trial, one in zip(findings.tables["shown"]["trial"], values, strict=True):
        limit = float(np.percentile(np.abs(one), BEYOND)) or 1.0
        summary = one.sum(axis=1) if signed else np.sqrt(np.mean(one**2, axis=1))
        yield {
            "png": base64.b64encode(_png(_columns(one, n_columns)[order] / limit, findings.facts["knows"])).decode(),
            "limit": number(limit, 2),
            "sums": [float(f"{it:.3g}") for it in summary],
            "text": f"{title}, trial {trial}. {_extremes(one, names, times, signed)}",
        }


def _extremes(one: np.ndarray, names: list[str], times: np.ndarray, signed: bool) -> str:
    """Say where the largest values of a map are."""
    highest, lowest = (np.unravel_index(it, one.shape) for it in (one.argmax(), one.argmin()))
    high, low = (f"{names[c]} at {times[t]:.2f} s ({number(float(one[c, t]), 2)})" for c, t in (highest, lowest))
    if not signed:
        return f"Highest: {high}. Lowest: {low}."
    sums = one.sum(axis=1)
    return (
        f"Most for its class: {high}. Most against it: {low}. Largest sum over time:"
        f" {names[np.abs(sums).argmax()]} ({number(float(sums[np.abs(sums).argmax()]), 2)})."
    )


def _n_columns(findings: Findings) -> int:
    n_trials, n_channels, n_times = len(findings.tables["shown"]), *findings.trials.signal.shape[1:]
    room = MOST_POINTS // max(1, (len(findings.maps) + 1) * n_trials * n_channels)
    return min(n_times, MOST_COLUMNS, max(room, FEWEST_COLUMNS))


def _columns(one: np.ndarray, n: int) -> np.ndarray:
    """Return a map with `n` columns, each the value of largest magnitude of its stretch of time."""
    if n == one.shape[1]:
        return one
    parts = np.array_split(one, n, axis=1)
    return np.column_stack([part[np.arange(len(part)), np.abs(part).argmax(axis=1)] for part in parts])


def _png(values: np.ndarray, coloured: bool) -> bytes:
    """Return values between -1 and 1 as an image in the colours of the scale."""
    from PIL import Image

    step = np.rint(np.clip(values, -1, 1) * LEVELS) + LEVELS
    image = Image.fromarray(step.astype(np.uint8), "L").convert("P")
    image.putpalette([int(it[n : n + 2], 16) for it in _palette(grey=not coloured) for n in (1, 3, 5)])
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _palette(*, grey: bool) -> list[str]:
    scale = colormaps["Greys" if grey else "RdBu_r"]
    return [to_hex(scale(place)) for place in np.linspace(0, 1, 2 * LEVELS + 1)]


def _row_labels(names: list[str], order: np.ndarray, region: np.ndarray) -> list[list]:
    """Return what is written beside the rows of an image, and where, from 0 at the top to 1."""
    if len(names) <= MOST_NAMES:
        return [[names[channel], (row + 0.5) / len(names)] for row, channel in enumerate(order)]
    present, first, size = np.unique(region[order], return_index=True, return_counts=True)
    return [[REGIONS[r], (f + n / 2) / len(names)] for r, f, n in zip(present, first, size, strict=True)]


def _head(info) -> list[list[float] | None] | None:
    """Return the places of the electrodes, the nose up in the coordinates of an SVG; None where they make no head."""
    try:
        places = head_positions(info)
    except ValueError:
        return None
    return [None if np.isnan(x) else [round(float(x), 3), round(float(-y), 3)] for x, y in places]
