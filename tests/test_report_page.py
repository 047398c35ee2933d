"""The page of a report: what it says, that nothing of a user is markup, and what a browser makes of it."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import BOOK, violations
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright
from report_findings import METHODS, at_chance, make_findings

from eegxai_support.attribution import METHODS as REGISTERED
from eegxai_support.recordings.results import read_recorded
from eegxai_support.report import browser, figures, markup, methods, panels, paper, sections
from eegxai_support.report.browser import trial_browser
from eegxai_support.report.page import write_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
TINY = {"n_channels": 6, "n_times": 40, "n_shown": 4, "n_trials": 24, "methods": ("deep_lift", "saliency")}
NASTY = '<script>alert(1)</script> "it\'s" & </script><b>'


@pytest.fixture
def quick(monkeypatch):
    """Draw nothing: the words of a page are tried without its pictures."""
    monkeypatch.setattr(sections, "picture_bytes", lambda figure, grey: b"")
    for name in ("draw_heads", "draw_courses", "draw_learning"):
        monkeypatch.setattr(figures, name, lambda *_: Figure())
    for name in ("intervals", "agreement", "conservation", "sensitivity", "perturbation_curves"):
        monkeypatch.setattr(figures.viz, f"plot_{name}", lambda *_, **__: figure_with_axes())


def figure_with_axes():
    fig = Figure()
    fig.subplots()
    return fig


def written(findings, folder):
    return write_page(findings, folder).read_text(encoding="utf-8")


def prose(page):
    """Return what a page says, without scripts, styles and tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.S)))


def test_page_has_its_sections_in_order(quick, tmp_path):
    page = written(make_findings(**TINY), tmp_path)
    places = [page.index(f">{name}</span>") for name in sections.SECTIONS]
    assert places == sorted(places) and len(places) == 9


@pytest.mark.parametrize("knows", [True, False])
def test_title_says_that_a_decoder_is_at_chance_and_maps_are_grey(monkeypatch, quick, tmp_path, knows):
    grey = {}
    monkeypatch.setattr(sections, "picture_bytes", lambda figure, *, grey: b"grey" if grey else b"coloured")
    page = written(make_findings(**TINY, knows=knows), tmp_path)
    (title,) = re.findall(r"<title>(.*?)</title>", page)
    assert ("not above chance" in title) is not knows
    for name, content in re.findall(r'<figure id="([^"]+)".*?data:image/webp;base64,([^"]+)', page, re.S):
        grey[name] = base64.b64decode(content) == b"grey"
    maps = {"heads", "agreement", "times-value", "times-share", "spectra-value", "spectra-share", "sources"}
    assert {name for name, it in grey.items() if it} == (set() if knows else maps) and len(grey) == 14
    assert (browser._content(make_findings(**TINY, knows=knows))["palette"][0] == "#ffffff") is not knows


def test_grey_figures_tell_plus_from_minus():
    """As grey, both ends of blue over white to red would be as dark."""
    for grey in (False, True):
        fig = Figure(figsize=(1, 1))
        fig.subplots().imshow([[-1.0, 0.0, 1.0]], cmap="RdBu_r", aspect="auto")
        image = Image.open(io.BytesIO(figures.picture_bytes(fig, grey=grey))).convert("RGB")
        assert image.size == (figures.DPI, figures.DPI)
        pixels = np.asarray(image).astype(int)
        assert bool(np.ptp(pixels, axis=2).max() == 0) is grey
        row = pixels[100, [50, 100, 150]].sum(axis=1)
    assert row[0] > row[1] + 100 > row[2] + 200


def test_page_says_first_where_it_is_unknown_what_the_network_has_seen(quick, tmp_path):
    findings = make_findings(**TINY)
    findings.facts.update(origin="unknown", origin_text="It is not known which trials the network was trained on.")
    page = written(findings, tmp_path)
    body = prose(page[page.index('id="content"') :])
    assert body.index("It is not known which") < body.index("Source")


def test_summary_is_at_the_top(quick, tmp_path):
    findings = make_findings(**TINY)
    body = prose(written(findings, tmp_path).split('id="content"')[1])[:700]
    decoder = findings.facts["decoder"]
    assert "brain" in body and f"Decoder {markup.number(decoder['balanced_accuracy'], 2)}" in body
    assert "trust DeepLIFT" in body and "do not use saliency" in body and "p = 0.001" in body


def test_nothing_of_a_user_is_markup(quick, tmp_path):
    names = [f"{NASTY} {n}" for n in range(3)]
    options = TINY | {"n_channels": 3, "positions": False, "ch_names": names, "classes": (NASTY, "b"), "title": NASTY}
    findings = make_findings(**options)
    findings.facts.update(command=NASTY, notes=[NASTY], reference=NASTY)
    findings.facts["verdict"] |= {"text": NASTY, "rule": NASTY}
    findings.tables["skipped"] = pd.DataFrame({"section": [NASTY], "reason": [NASTY]})
    page = written(findings, tmp_path)
    assert "<script>alert" not in page and "</script><b>" not in page
    assert prose(page).count("&lt;script&gt;alert(1)") > 20
    assert not re.search(r'="[^"<>]*<script', page), "an attribute holds markup"


@pytest.mark.parametrize("missing", ["sources interventions spectra channels sanity methods", "shown"])
def test_a_part_that_could_not_be_made_says_why_and_the_page_goes_on(quick, tmp_path, missing):
    findings = make_findings(**TINY, without=missing.split())
    if missing == "shown":
        findings.maps.clear()
    page = prose(written(findings, tmp_path))
    for reason in findings.tables["skipped"]["reason"]:
        assert f"Not made: {reason}" in page
    assert "What could not be made, and why" in page and "The command that makes this report again" in page


def test_a_figure_that_refuses_its_numbers_says_why(quick, tmp_path):
    findings = make_findings(**TINY)
    findings.tables["conservation"] = findings.tables["conservation"].assign(delta=np.nan)
    assert "Not made: No method promises that its maps add up" in prose(written(findings, tmp_path))


def test_every_figure_has_an_alternative_with_a_number_and_names_its_tables(quick, tmp_path):
    page = written(make_findings(**TINY), tmp_path)
    alternatives = re.findall(r'<img alt="([^"]*)"', page)
    assert len(alternatives) == len(re.findall("<figure id=", page)) == 14
    assert all(re.search(r"\d", it) and len(it) > 40 for it in alternatives)
    for name in re.findall(r"tables/([\w]+)\.parquet", page):
        assert (tmp_path / "tables" / f"{name}.parquet").is_file(), name


def test_tables_beside_the_page_hold_the_numbers(quick, tmp_path):
    findings = make_findings(**TINY, n_unexplained=5)
    write_page(findings, tmp_path)
    for name, frame in findings.tables.items():
        read = read_recorded(tmp_path / "tables" / f"{name}.parquet", seal_required=True)
        assert read.attrs["command"] == findings.facts["command"]
        pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    maps = read_recorded(tmp_path / "tables/maps_deep_lift.parquet")
    one = maps[(maps["trial"] == findings.tables["shown"]["trial"][2]) & (maps["channel"] == "C4")]
    assert (one.to_numpy()[0, 2:].astype(np.float32) == findings.maps["deep_lift"][2, 1]).all()
    assert list(maps.columns[2:4]) == ["1", "1.0125"]


def test_heads_show_the_mean_over_groups_and_name_the_largest():
    findings = make_findings(**TINY)
    rows = findings.tables["channels"]
    rows.loc[(rows["network"] == "untrained"), "value"] = 99.0  # must not enter
    picture = figures.class_maps(findings)
    trained = rows[(rows["method"] == "deep_lift") & (rows["network"] == "trained") & (rows["class"] == "left")]
    mean = trained.groupby("channel")["value"].mean()
    assert f"{mean.idxmax()} for left ({markup.number(float(mean.max()), 2)}" in picture.alt
    bar = next(ax for ax in picture.figure.axes if ax.get_label() == "<colorbar>")
    everything = rows[(rows["method"] == "deep_lift") & (rows["network"] == "trained")]
    limit = everything.groupby(["class", "channel"])["value"].mean().abs().max()
    assert np.allclose(bar.get_ylim(), (-limit, limit))


def test_learning_curves_are_means_over_seeds_one_for_each_fold():
    findings = make_findings(**TINY)
    table = findings.tables["training"]
    table.loc[table["seed"] == 1, "train_loss"] += 1  # which moves every mean by half of it
    picture = figures.learning(findings)
    loss, accuracy = picture.figure.axes
    folds = pd.unique(table["group"])
    assert [line.get_label() for line in loss.lines] == [str(fold) for fold in folds]
    first = table[(table["group"] == folds[0]) & (table["seed"] == 0)]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), first["train_loss"] + 0.5)
    last = table[table["epoch"] == table["epoch"].max()].groupby("group")["train_accuracy"].mean()
    assert f"ends at {last.min():.2f} to {last.max():.2f}" in picture.alt
    assert accuracy.lines[-1].get_ydata()[0] == findings.facts["decoder"]["chance"]


def test_intervals_go_over_groups():
    """Student's t by hand over the means of three groups, whatever stands in each."""
    table = pd.DataFrame({"kind": "a", "group": [1, 1, 2, 3], "share": [0.0, 0.2, 0.4, 0.7]})
    row = panels.over_groups(table, ["kind"], "share").iloc[0]
    values = np.array([0.1, 0.4, 0.7])
    half = 4.302652729911275 * values.std(ddof=1) / np.sqrt(3)
    assert np.allclose(row[["mean", "low", "high"]].to_numpy(float), [0.4, 0.4 - half, 0.4 + half])
    alone = panels.over_groups(table[table["group"] == 2], ["kind"], "share").iloc[0]
    assert alone["mean"] == 0.4 and np.isnan(alone["low"])


@pytest.mark.parametrize(
    "options",
    [
        {"positions": False, "n_channels": 8},
        {"n_channels": 1},
        {"classes": ("a", "b", "c"), "n_groups": 1},
    ],
    ids=["no positions", "one channel", "three classes, one group"],
)
def test_unusual_recordings_have_their_figures(options):
    findings = make_findings(**TINY | options)
    pictures = [figures.class_maps(findings), figures.courses(findings, "times", "time", "value")]
    words = " ".join(it.alt + it.caption for it in pictures) + prose(trial_browser(findings))
    assert "nan" not in words and all(len(it.figure.axes) for it in pictures)
    if findings.facts["n_groups"] == 1:
        assert "95 % interval 0" not in words
    assert pictures[0].alt.startswith("Heads" if "classes" in options else "Bars")


def test_maps_to_browse_are_the_maps():
    findings = make_findings(**TINY, n_unexplained=7)
    content = browser._content(findings)
    assert [it["title"] for it in content["maps"]] == ["DeepLIFT", "saliency", "the trial itself"]
    order, _ = browser.front_to_back(findings.trials.info)
    palette = np.array([[int(it[n : n + 2], 16) for n in (1, 3, 5)] for it in content["palette"]])
    values = findings.maps["deep_lift"][2]
    one = content["maps"][0]["trials"][2]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["png"]))).convert("RGB"))
    limit = np.percentile(np.abs(values), browser.BEYOND)
    expected = palette[np.rint(np.clip(values[order] / limit, -1, 1) * browser.LEVELS).astype(int) + browser.LEVELS]
    assert (image == expected).all()
    assert np.allclose(one["sums"], values.sum(1), rtol=1e-2, atol=1e-4)
    channel, time = np.unravel_index(values.argmax(), values.shape)
    where = f"{findings.trials.info.ch_names[channel]} at {findings.trials.times[time]:.2f} s"
    assert f"Most for its class: {where}" in one["text"]


def test_a_shown_trial_is_found_among_those_that_are_explained():
    """Numbers count all trials given; the arrays hold the explained ones alone."""
    findings = make_findings(**TINY, n_unexplained=7)
    signal = [*browser._layers(findings)][-1][3]
    assert (signal == findings.trials.signal[findings.tables["shown"]["trial"] - 7]).all()
    number = findings.tables["shown"]["trial"][1]
    assert browser._trial_titles(findings)[1].startswith(f"{number}: {findings.trials.class_names[(number - 7) % 2]}")


def test_many_long_trials_stay_within_a_page(monkeypatch):
    monkeypatch.setattr(browser, "MOST_POINTS", 3 * 4 * 6 * 35)
    findings = make_findings(**TINY)
    assert browser._n_columns(findings) == 35 and browser.n_samples_a_column(findings) == 2
    one = np.array([[1.0, -3.0, 2.0, 0.5, -0.1, 0.0]])
    assert browser._columns(one, 3).tolist() == [[-3.0, 2.0, -0.1]]


def test_colours_of_the_browser_are_those_of_the_figures_or_grey():
    assert browser._palette(grey=False)[0] == "#053061" and browser._palette(grey=False)[20] == "#f7f6f6"
    for colour in browser._palette(grey=True):
        red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
        assert red == green == blue
    assert len(browser._palette(grey=True)) == 2 * browser.LEVELS + 1 and colormaps["Greys"](0.0)[0] == 1


def test_methods_paragraph_holds_the_numbers():
    findings = make_findings(n_unexplained=4)
    words = " ".join(paper.methods_paragraphs(findings))
    decoder = findings.facts["decoder"]
    for said in (
        "We analysed 60 trials of 1 participant (30 left and 30 right), recorded in 3 runs.",
        "64 channels at 80 Hz (reference: average over these channels)",
        "The signal was filtered to 4-40 Hz.",
        "7 trials had been dropped; 1 too near the end of the recording and 6 annotated BAD_blink.",
        "EEGNet with 2418 parameters. For each run a network was trained on the other runs",
        "2 seeds and up to 30 epochs",
        f"Balanced accuracy was {decoder['balanced_accuracy']:.2f}",
        "p = 0.001 by permutation of the labels within each run",
        "DeepLIFT, integrated gradients, LRP-ε, saliency and Haufe pattern",
        "95 % intervals (Student's t) over 3 runs",
        "Source of the decoder's information: brain",
    ):
        assert said in words
    assert "nan" not in words and "not above chance" not in words
    assert "not above chance" in " ".join(paper.methods_paragraphs(at_chance()))


def test_methods_paragraph_of_what_little_there_is():
    missing = "training channels conservation sanity methods components interventions dropped".split()
    findings = make_findings(**TINY, without=missing)
    findings.facts.update(origin="unknown", notes=[], band=None, scale=None)
    words = " ".join(paper.methods_paragraphs(findings))
    assert "it is not known on which trials" in words and "ICLabel" not in words and "None" not in words


def test_references_are_those_of_what_was_used():
    found = set(re.findall(r"@\w+\{(\w+),", paper.references(make_findings())))
    assert found >= {"shrikumar2017learning", "sundararajan2017axiomatic", "bach2015pixel", "simonyan2014deep",
                     "haufe2014interpretation", "lawhern2018eegnet", "gramfort2013meg", "pion2019iclabel",
                     "adebayo2018sanity", "pernet2020issues"}  # fmt: skip
    assert "selvaraju2017grad" not in found
    few = paper.references(make_findings(methods=("grad_cam",), without=("components", "sanity")))
    assert "selvaraju2017grad" in few and "iclabel" not in few and "shrikumar" not in few


def test_every_method_has_its_reference_and_every_reference_is_that_of_the_book():
    assert set(REGISTERED) - {"random"} <= methods.CITED.keys() and set(METHODS) <= methods.CITED.keys()
    book = dict(re.findall(r"(?ms)^@\w+\{([^,]+),(.*?)^\}", (BOOK / "references.bib").read_text(encoding="utf-8")))
    own = dict(re.findall(r"(?ms)^@\w+\{([^,]+),(.*?)^\}", methods.STORE.read_text(encoding="utf-8")))
    assert own.keys() == {key for keys in methods.CITED.values() for key in keys}
    assert all(book[key] == entry for key, entry in own.items())


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (float("nan"), "–"), (None, "–"), (12, "12"), (0.12345, "0.123"), (-0.5, "−0.5"),
     (3.1e-6, "3.1 × 10⁻⁶"), (-2e7, "−2.0 × 10⁷"), (1234.5, "1234"), (True, "yes"),
     (np.float32(0.25), "0.25"), ("C3", "C3")],
)  # fmt: skip
def test_numbers_are_written_as_they_are_read(value, said):
    assert markup.number(value) == said


def test_intervals_have_the_digits_that_tell_something():
    assert markup.number(-103.64, 2) == "−104" and markup.number(103.64) == "104"
    assert markup.number(99.7, 2) == "100" and markup.number(999.7) == "1000"
    found = [markup.interval(*ends) for ends in ((0.431, 0.708), (-305.49, 103.64), (-0.0034, 0.0051))]
    assert found == [f"95 % interval {ends}" for ends in ("0.43 to 0.71", "−305 to 104", "−0.0034 to 0.0051")]


def test_long_tables_say_where_the_rest_is():
    page = markup.table(pd.DataFrame({"a": range(50)}), "All.", file="trials")
    assert page.count("<tr>") == 41 and "first 40 of 50 rows; all are in tables/trials.parquet" in page


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Open one page in a browser that may ask nobody; return it with everything that went wrong."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    options = {"classes": ("a rather long name of a class <13 Hz>", "right"), "without": ("spectra",)}
    path = write_page(make_findings(**TINY | options), tmp_path_factory.mktemp("report"))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page, faults = chromium.new_page(viewport=DESKTOP), []
        page.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda it: it.url.startswith(("file:", "data:")) or faults.append(f"asks for {it.url}"))
        page.goto(Path(path).as_uri())
        yield page, faults
        chromium.close()


def test_browser_shows_the_page_and_asks_nobody(opened):
    page, faults = opened
    page.set_viewport_size(DESKTOP)
    page.evaluate("document.querySelectorAll('#content .accordion-item').forEach((it) => it.scrollIntoView())")
    assert not faults
    assert page.evaluate("[...document.images].every((it) => it.complete && it.naturalWidth > 0)")


def test_page_does_not_scroll_sideways_on_a_phone(opened):
    page, _ = opened
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("(it => it.scrollWidth <= it.clientWidth)(document.querySelector('#learning .picture'))")
    wide = page.evaluate(
        "[...document.querySelectorAll('.wide')].map((it) => [it.scrollWidth > it.clientWidth + 1,"
        " getComputedStyle(it.querySelector('caption'), '::after').content])"
    )
    assert any(overflows for overflows, _ in wide)
    assert all(("Scroll sideways" in hint) == overflows for overflows, hint in wide)


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE)])
def test_page_is_whole_for_keyboards_and_screen_readers(opened, scheme, size):
    page, _ = opened
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    page.wait_for_timeout(400)  # MNE's buttons change colour slowly
    found = violations(page)
    page.emulate_media(color_scheme="light")
    assert not found


def test_identifiers_are_unique(opened):
    """As axe-core asks of few elements only."""
    identifiers = opened[0].evaluate("[...document.querySelectorAll('[id]')].map((it) => it.id)")
    assert len(set(identifiers)) == len(identifiers)


def test_keyboard_and_buttons_look_through_the_trials(opened):
    page, faults = opened
    page.set_viewport_size(DESKTOP)
    said, image = page.locator("#browser-text"), page.locator("#browser-image")
    first, drawn = said.inner_text(), image.get_attribute("src")
    assert first.startswith("DeepLIFT, trial ") and image.get_attribute("alt") == first
    page.locator("#browser-stage").focus()
    page.keyboard.press("ArrowRight")
    second = said.inner_text()
    assert second != first and image.get_attribute("src") != drawn
    page.keyboard.press("ArrowDown")
    assert said.inner_text().startswith("saliency") and page.locator("#browser-map").input_value() == "1"
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.locator("#browser-trial").input_value() == "3"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert said.inner_text() == first
    page.locator("#browser-next").click()
    assert said.inner_text() == second
    page.locator("#browser-trial").select_option("0")
    assert said.inner_text() == first and page.locator("#browser-head circle").count() == 7 and not faults


def test_typing_a_letter_hides_nothing(opened):
    """MNE's page hides all sections at the key T; there is no menu here that would say so."""
    page, _ = opened
    page.locator("body").press("t")
    page.wait_for_timeout(50)
    assert page.evaluate("window.onkeydown") is None and page.locator("#content > .d-none").count() == 0


def test_copy_button_takes_the_whole_text(opened):
    page, _ = opened
    page.locator("[data-copy=paper-bibtex]").click()
    selected = page.evaluate("getSelection().toString()")
    assert selected.startswith("@article{gramfort2013meg") and selected.count("@") >= 8
