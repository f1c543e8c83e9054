"""The page in a real Chromium: it opens alone, sorts, filters, fits a phone and paper, and takes axe's rules.

It takes the system's Chromium (Debian: apt-get install --no-install-recommends chromium), found on PATH, and the Python
packages playwright and axe-playwright-python of the extra `test`. Where one is missing these tests are skipped.
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from report_runs import make_results

from featx.report import write_report
from featx.report.figures import draw_dead

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install --no-install-recommends chromium (Debian), and run it again"
)

WIDTHS = (1400, 400)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    results = make_results(tmp_path_factory.mktemp("browser"), n_images=40)
    with pytest.MonkeyPatch.context() as patch:
        # One figure of the features stands for all of them.
        patch.setattr("featx.report.write.summary_figures", lambda store, **options: [draw_dead(store)])
        return write_report([results / "svm", results / "tuned"], results.parent / "a report.html")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'featx[test]'")
    # Chromium's sandbox wants another user than root; the only page that it sees is this one.
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, *, width=1400, scheme="light", forgiven=None, **options):
    """Open the page; in the end nothing else has complained, and nothing but the page itself was asked for."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert [line for line in said if forgiven is None or forgiven not in line] == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def column(page, name):
    """Return the texts of a column, of the visible rows, from the top."""
    number = page.locator("#cells thead th").all_inner_texts().index(name)
    return page.evaluate(
        "number => [...document.querySelector('#cells').tBodies[0].rows].filter(row => row.offsetParent)"
        ".map(row => row.cells[number].textContent.trim())",
        number,
    )


def test_it_opens_alone_with_all_its_pictures(browser, path):
    with opened(browser, path) as page:
        assert page.title() == "Frozen features and a fine-tuned network"
        widths = "where => [...document.querySelectorAll(where)].map(image => image.naturalWidth)"
        pictures, drawings = page.evaluate(widths, ".gallery img"), page.evaluate(widths, "figure.drawing img")
        assert len(pictures) > 5
        assert set(pictures) == {96}
        # Figures that would be too large as SVG.
        assert all(width > 96 for width in drawings)
        assert len(pictures) + len(drawings) == page.evaluate("document.images.length")
        # Its own styles and its own script run, and the policy lets nothing else in.
        assert page.locator("#controls").is_visible()


def test_the_policy_stops_what_is_not_the_pages_own(browser, path):
    with opened(browser, path, forgiven="violates the following Content Security Policy") as page:
        page.evaluate("window.ran = false")
        page.evaluate(
            "const script = document.createElement('script'); script.textContent = 'window.ran = true';"
            "window.refused = new Promise(done => document.addEventListener('securitypolicyviolation', done));"
            "document.body.append(script)"
        )
        assert page.evaluate("window.refused.then(event => event.effectiveDirective)").startswith("script-src")
        assert page.evaluate("window.ran") is False


def test_it_sorts(browser, path):
    with opened(browser, path) as page:
        header = page.locator("#cells thead th", has_text="Validation")
        rows = column(page, "Validation")
        for order in ("descending", "ascending"):
            header.get_by_role("button").click()
            assert header.get_attribute("aria-sort") == order
            expected = sorted(rows, key=lambda text: float(text.rstrip("%")), reverse=order == "descending")
            assert column(page, "Validation") == expected
        # By keyboard, and text by its letters; what has no number stays below.
        run = page.locator("#cells thead th", has_text="Run")
        run.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert run.get_attribute("aria-sort") == "ascending"
        assert header.get_attribute("aria-sort") is None
        assert column(page, "Run") == sorted(column(page, "Run"))
        test = page.locator("#cells thead th", has_text="Test").get_by_role("button")
        for _ in range(2):
            test.click()
            found = column(page, "Test")
            assert "" not in found[:2]
            assert set(found[2:]) == {""}


def test_it_filters(browser, path):
    with opened(browser, path) as page:
        n_rows = len(column(page, "Run"))
        assert page.locator("#count").inner_text() == f"{n_rows} of {n_rows} rows"
        page.get_by_label("Filter").fill("RBF svm on")
        assert set(column(page, "Run")) == {"svm"}
        assert all("kernel=rbf" in text for text in column(page, "Settings"))
        assert page.locator("#count").inner_text() == f"3 of {n_rows} rows"
        page.get_by_label("Filter").fill("")
        page.get_by_label("chosen cells only").check()
        assert sorted(column(page, "Run")) == ["svm", "tuned"]
        assert all(column(page, "Test"))


def test_a_row_leads_to_its_run(browser, path):
    with opened(browser, path) as page:
        page.locator("#cells").get_by_role("link", name="tuned").first.click()
        assert page.url.endswith("#run-2")
        assert page.evaluate("document.querySelector(':target h3').textContent") == "tuned"


@pytest.mark.parametrize("width", WIDTHS)
def test_it_never_runs_over_the_side(browser, path, width):
    with opened(browser, path, width=width) as page:
        for details in page.locator("details").all():
            details.evaluate("details => { details.open = true }")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # The answer is on the first screen.
        box = page.locator(".sentence").bounding_box()
        assert box["y"] + box["height"] < 900


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_axe_has_nothing_to_say(browser, path, width, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="no axe: pip install 'featx[test]'")
    script = Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    with opened(browser, path, width=width, scheme=scheme) as page:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        page.evaluate(script)
        found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
        assert len(found["passes"]) > 30


def test_it_is_whole_without_scripts(browser, path):
    with opened(browser, path, java_script_enabled=False) as page:
        assert page.locator("#cells tbody tr").count() == 8
        assert not page.locator("#controls").is_visible()
        assert page.locator("#cells thead button").count() == 0


def test_it_prints(browser, path):
    with opened(browser, path, scheme="dark") as page:
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        assert page.locator("#cells thead button").count() == 9
        assert page.locator("details[open]").count() == 0
        page.emulate_media(media="print")
        assert not page.locator("#controls").is_visible()
        assert not page.locator("nav").is_visible()
        # On white, whatever the screen is.
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(22, 24, 29)"
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        assert page.locator("#cells thead button").count() == 0
        # A4 without its margins: nothing is cut.
        page.set_viewport_size({"width": 703, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == 703
        assert page.evaluate("getComputedStyle(document.querySelector('#cells tbody tr')).breakInside") == "avoid"
