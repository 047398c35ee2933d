"""The page of a report: one HTML file that asks nobody for anything, and the numbers behind its figures beside it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import mne

from eegxai_support.files import expanded, write_whole
from eegxai_support.recordings.results import write_recorded
from eegxai_support.report.browser import map_tables
from eegxai_support.report.findings import PAGE, TABLES, Findings
from eegxai_support.report.sections import SECTIONS, Page

STYLE = Path(__file__).with_name("page.css")
HEAD = (
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
)
AT_CHANCE = "the decoder is not above chance"
# MNE's page has a link inside a button, a heading of level 5 before any other, and nothing that says where its content
# begins: what a screen reader or a keyboard trips over. Nothing else of it is changed.
MENDED = (
    (r'(<span class="me-auto">)<a [^>]*>(.*?)</a>', r"\1\2"),
    (r'<div class="accordion-header"', '<div class="accordion-header" role="heading" aria-level="2"'),
    (r'<h5 class="px-1">Table of contents</h5>', ""),
    (r'<nav class="nav nav-pills', '<nav aria-label="Sections" class="nav nav-pills'),
    (r'<nav class="navbar fixed-top', '<header class="navbar fixed-top'),
    (r"</div>\s*</nav>\s*(?=<div class=\"container-fluid\" id=\"container\")", "</div></header>"),
    (r'<span class="mx-2 fs-3">(.*?)</span>', r'<h1 class="mx-2 fs-3">\1</h1>'),
    (r'<div id="content" class="accordion', '<div id="content" role="main" class="accordion'),
    (r'<nav class="navbar fixed-bottom(.*?)</nav>', r'<div class="navbar\1</div>'),
    (r' class="accordion-collapse collapse show"', ' role="region" class="accordion-collapse collapse show"'),
    (r' target="_blank"', ""),
)


def write_page(findings: Findings, out_dir: str | Path) -> Path:
    """Write the page of a report and the tables behind it.

    Parameters
    ----------
    findings : Findings
    out_dir : path
        ``report.html`` and ``tables/NAME.parquet`` are written there, each whole or not at all.

    Returns
    -------
    pathlib.Path
        Of the page.

    Raises
    ------
    ModuleNotFoundError
        pyarrow is not installed.
    """
    out_dir = expanded(out_dir)
    write_tables(findings, out_dir / TABLES)
    page = Page(findings)
    report = mne.Report(title=title(findings), verbose="error")
    report.lang = "en"
    report.include = HEAD + report.include
    report.add_custom_css(STYLE.read_text(encoding="utf-8"))
    for name, parts in SECTIONS.items():
        report.add_html("\n".join(parts(page)), name, tags=("report",))
    path = out_dir / PAGE
    write_whole(path, _rendered(report))
    return path


def write_tables(findings: Findings, folder: Path) -> None:
    """Write every table, and the maps that can be browsed, as parquet files with what made them."""
    facts = findings.facts
    provenance = {"title": facts["title"], "command": facts["command"], "versions": facts["versions"]}
    for name, frame in (*findings.tables.items(), *map_tables(findings)):
        write_recorded(frame, folder / f"{name}.parquet", provenance)


def title(findings: Findings) -> str:
    """Return the title of the page, which says so where there is nothing to explain."""
    name = findings.facts["title"]
    return name if findings.facts["knows"] else f"{name}: {AT_CHANCE}"


def _rendered(report: mne.Report) -> str:
    """Return the page that MNE makes, mended for keyboards, screen readers and phones."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PAGE
        report.save(path, open_browser=False, overwrite=True, verbose="error")
        page = path.read_text(encoding="utf-8")
    start = page.index("<body")  # the scripts before it are left as they are
    body = page[start:]
    for pattern, replacement in MENDED:
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    return page[:start] + body
