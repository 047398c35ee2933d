"""Build the book from the FAST runs and open every page in a browser that may speak to this machine only."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from conftest import BOOK, CHAPTERS, ROOT, chapter_id, violations
from playwright.sync_api import sync_playwright
from sync import colab_url

ON_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", ON_MACOS))), None)
PARTS = yaml.safe_load((BOOK / "_toc.yml").read_text())["parts"]
PAGES = ["index", "search", "genindex", *(entry["file"] for part in PARTS for entry in part["chapters"])]
CHROMIUM_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def html(executed, tmp_path_factory):
    """Build the book from the chapters that papermill ran; only what else has code is executed."""
    root = tmp_path_factory.mktemp("site")
    shutil.copytree(BOOK, root / "book", ignore=shutil.ignore_patterns("*.py", "template"))
    shutil.copytree(ROOT / "tools", root / "tools")
    for chapter in CHAPTERS:
        shutil.copy(executed(chapter), root / "book" / f"{chapter_id(chapter)}.ipynb")
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["execute"] |= {"execute_notebooks": "force", "exclude_patterns": ["*/*.ipynb"]}
    (root / "_config.yml").write_text(yaml.safe_dump(config))
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "-W", "--keep-going", "-q"]
    build = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert build.returncode == 0, build.stdout + build.stderr
    return root / "_build/html"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(html):
    """Serve the book and return its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, site, request):
    """Open a page; return it with everything that went wrong while it loaded."""
    page, faults = browser.new_page(viewport=DESKTOP), []
    page.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda it: it.url.startswith((site, "data:", "blob:")) or faults.append(f"asks for {it.url}"))
    page.on("requestfailed", lambda it: faults.append(f"did not get {it.url}"))
    page.on("response", lambda it: it.status < 400 or faults.append(f"{it.status} for {it.url}"))
    page.goto(f"{site}/{request.param}.html", wait_until="networkidle")
    yield page, faults
    page.close()


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("opened", PAGES, indirect=True)
def test_page(opened):
    page, faults = opened
    assert not faults

    assert not page.locator("img:not([alt]), img[alt='']").count(), "an image has no alt text"
    assert page.locator("h1:visible").count() == 1
    assert page.locator("input[type=search]:visible, .search-button__button:visible").count() == 1

    formulas = page.locator(".math").count()
    assert page.locator("mjx-container").count() >= formulas and not page.locator("mjx-merror").count()

    page.evaluate("document.documentElement.dataset.theme = 'light'")
    light = background(page)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert background(page) != light

    page.set_viewport_size(PHONE)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"scrolls sideways on a phone: {width} px"


@pytest.mark.parametrize("opened", ["when_it_says_no"], indirect=True)
def test_table_of_faults_is_read_on_a_phone_without_scrolling(opened):
    page, _ = opened
    page.set_viewport_size(PHONE)
    assert page.locator(".refusals").count() == 4
    assert page.evaluate("[...document.querySelectorAll('.refusals')].every((it) => it.scrollWidth <= it.clientWidth)")


@pytest.mark.parametrize("opened", ["when_it_says_no", "practice/13_your_own_recording"], indirect=True)
def test_page_is_whole_for_keyboards_and_screen_readers(opened):
    page, _ = opened
    page.set_viewport_size(PHONE)  # where most tables scroll
    assert page.locator(".bd-article table").count()
    assert not [found for found in violations(page) if found[0] in ("serious", "critical")]


@pytest.mark.parametrize("opened", ["api"], indirect=True)
def test_lists_of_references_are_whole_for_screen_readers(opened):
    """By the rule that they broke: with all rules, axe-core takes half a minute for this page."""
    assert not violations(opened[0], "aria-required-children")


@pytest.mark.parametrize("opened", ["index"], indirect=True)
def test_theme_button_switches(opened):
    page, _ = opened
    seen = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").click()
        seen.add(background(page))
    assert len(seen) == 2


@pytest.mark.parametrize("source", CHAPTERS, ids=chapter_id)
def test_colab_link_leads_to_a_file(source, html):
    page = (html / f"{chapter_id(source)}.html").read_text()
    assert f'href="{colab_url(source)}"' in page
    assert (ROOT / colab_url(source).split("/blob/main/")[1]).is_file()
