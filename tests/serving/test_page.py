"""The page in a browser, where there is one."""

import shutil

import pytest

from tests.serving.conftest import png

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, opened; whatever its console says is a failure."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#model option:nth-child(2)", state="attached")
    yield page
    page.close()
    assert said == []


def test_a_picture_from_a_file_and_a_drawing(page, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    page.set_input_files("#file", tmp_path / "a.png")
    page.click("#ask")
    page.wait_for_selector("#answer li:nth-child(5)")
    assert "digits" in page.inner_text("#answer li")
    page.click("#answer li summary")
    page.wait_for_selector("#answer li li:nth-child(5)")
    assert "cosine" in page.inner_text("#answer li li")
    page.click("#clear")
    page.click("#ask")
    page.wait_for_selector("#answer .error")
    assert page.inner_text("#answer") == "There is no picture yet."
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 100, steps=4)
    page.mouse.up()
    page.fill("#top", "2")
    page.click("#ask")
    page.wait_for_selector("#answer ol > li:nth-child(2)")
    assert page.locator("#answer ol > li").count() == 2


def test_a_text_by_the_keyboard_alone(page):
    page.focus("#model")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert page.evaluate_handle("() => document.activeElement.id").json_value() == "text"
    page.keyboard.type("3 4 5")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answer li:nth-child(3)")
    assert "53 classes, head mhc in digits of 11 × 5." in page.inner_text("#about")


def test_every_control_has_a_name_and_the_page_fits_a_phone(page):
    for control in page.locator("button, input, select, textarea, canvas").all():
        if control.is_visible():
            name = "e => e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent"
            assert control.evaluate(name).strip()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
