"""A chapter reads like the others: objectives, short cells, more prose than code, described figures."""

import ast
import re
import statistics

import jupytext
import pytest
import yaml
from conftest import BOOK, CHAPTERS, ROOT, TEMPLATE, chapter_id
from sync import with_head

import eegxai_support as xs

HIDDEN = {"hide-input", "remove-input", "remove-cell", "hide-cell"}


def cells(chapter, kind):
    return [cell for cell in jupytext.read(chapter).cells if cell.cell_type == kind]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def visible_code(chapter):
    """Lines of code that a reader sees, one list per cell, blank lines left out."""
    shown = [cell for cell in cells(chapter, "code") if not HIDDEN & tags(cell)]
    return [[line for line in cell.source.splitlines() if line.strip()] for cell in shown]


def prose(chapter):
    return "\n\n".join(cell.source for cell in cells(chapter, "markdown") if not HIDDEN & tags(cell))


def test_says_what_the_reader_will_be_able_to_do(chapter):
    text = prose(chapter)
    assert text.startswith("# ") and len(re.findall(r"(?m)^# ", text)) == 1
    assert "By the end you can" in text
    assert "**Before you start:**" in text and "**Time:**" in text
    for section in ("## What can go wrong", "## Take-aways", "## Questions", "## Exercise", "## References"):
        assert section in text, section


def test_cells_are_short(chapter):
    lengths = [len(lines) for lines in visible_code(chapter)]
    assert max(len(cell.source.splitlines()) for cell in cells(chapter, "code")) <= 20
    assert statistics.median(lengths) <= 6
    assert sum(lengths) <= 120


@pytest.mark.parametrize("source", CHAPTERS, ids=chapter_id)  # not the template, whose prose explains the form
def test_prose_and_code_are_in_balance(source):
    words = len(re.findall(r"[^\W\d_]{2,}", re.sub(r"\$\$.*?\$\$|\$[^$]*\$", "", prose(source), flags=re.S)))
    lines = sum(len(lines) for lines in visible_code(source))
    assert 8 <= words / lines <= 20, f"{words} words for {lines} lines of code"


def test_figures_are_described(chapter):
    """A figure is the value of the last line of its cell, a bare call to `xs.viz`."""
    for cell in cells(chapter, "code"):
        mystnb = cell.metadata.get("mystnb", {})
        if "viz." in cell.source:
            *_, last = ast.parse(cell.source).body
            assert isinstance(last, ast.Expr) and ast.unparse(last).startswith("xs.viz.plot_"), cell.source
            assert mystnb.get("image", {}).get("alt"), f"no alt text:\n{cell.source}"
        assert "figure" not in mystnb or {"caption", "name"} <= mystnb["figure"].keys(), cell.source


def test_draws_with_the_package(chapter):
    for cell in cells(chapter, "code"):
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not {node.id for node in nodes if isinstance(node, ast.Name)} & {"plt", "matplotlib"}, cell.source
        assert "plot" not in {node.attr for node in nodes if isinstance(node, ast.Attribute)}, cell.source


def test_head_is_the_common_one(chapter):
    text = chapter.read_text()
    assert 'tags=["setup", "hide-input"]' in text and "colab-badge.svg" in text
    assert with_head(text, chapter) == text, "run `make sync`"


def test_cites_what_is_in_the_bibliography():
    keys = set(re.findall(r"(?m)^@\w+\{(\S+),$", (BOOK / "references.bib").read_text()))
    for page in [*BOOK.rglob("*.md"), *CHAPTERS, TEMPLATE]:
        text = page.read_text()
        for cited in re.findall(r"\{(?:foot)?cite(?::\w+)?\}`([^`]+)`", text):
            assert {key.strip() for key in cited.split(",")} <= keys, (page.name, cited)
        assert ("{footcite" in text) == ("{footbibliography}" in text), page.name


def test_contents_list_every_page_once():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    listed = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    assert len(listed) == len(set(listed))
    pages = [path.relative_to(BOOK).with_suffix("").as_posix() for path in BOOK.rglob("*.md") if path.stem != "README"]
    assert set(listed) == {*pages, *map(chapter_id, CHAPTERS)}


def test_index_has_a_row_for_every_chapter():
    index = (BOOK / "index.md").read_text()
    assert set(re.findall(r"^\| \[.*\]\((.*)\.ipynb\)", index, re.M)) == set(map(chapter_id, CHAPTERS))


def test_no_path_of_a_machine_stands_in_the_project():
    for path in [*ROOT.glob("*.*"), *BOOK.rglob("*.py"), *BOOK.rglob("*.md"), *(ROOT / "eegxai_support").rglob("*.py")]:
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".lock", ".yml", ".cff"}:
            assert not re.search(r"(?<![\w.])/(home|Users|work|root|tmp)/\w", path.read_text()), path


def test_reference_has_every_public_name():
    documented = re.findall(r"(?m)^\.\. auto\w+:: (?:eegxai_support\.)?(\w+)$", (BOOK / "api.md").read_text())
    assert sorted(documented) == sorted(xs.__all__)


def test_reference_has_every_method():
    text = (BOOK / "api.md").read_text()
    for method in xs.METHODS.values():
        assert f"{method.compute.__module__}.{method.compute.__name__}\n" in text, method.compute
