"""Rules for all files of the page: accessibility (axe-core), size, and nothing inline or from other sites."""

import re

import pytest

from btcchat.assets import PACKAGE
from tests.serve.page.conftest import ask, load_pair

FOLDER = PACKAGE / "serve" / "page"
FILES = [path for path in FOLDER.rglob("*") if path.suffix in (".html", ".css", ".js")]
WINDOWS = {
    "desktop": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}},
}


def violations(page) -> list[str]:
    """Violations of serious or critical impact."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html']} {node.get('failureSummary')}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("window", WINDOWS)
def test_axe_finds_no_serious_violation(open_page, window):
    page = open_page(**WINDOWS[window])
    assert violations(page) == []
    load_pair(page)
    page.locator("#map-on").check()
    page.locator("#map-tools").wait_for()
    ask(page, "Were trees planted?")
    assert violations(page) == []
    page.locator("#downloads").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("#open-settings").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    for modality in ("Series", "Video"):
        page.get_by_text(modality, exact=True).click()
        page.locator(".example").click()
        page.locator("#strip").wait_for()
        assert violations(page) == []


def test_the_keyboard_reaches_everything_from_top_to_bottom(open_page):
    page = open_page()
    load_pair(page)
    page.locator("#map-on").check()
    page.locator("#map-tools").wait_for()
    named = "(one => one.id || one.ariaLabel || one.textContent.trim())(document.activeElement)"
    reached = []
    for _ in range(50):  # about twice around the page
        page.keyboard.press("Tab")
        reached.append(page.evaluate(named))
    order = ["clear", "downloads", "open-settings", "Swipe between Before and After", "Swap before and after", "map-on"]
    order += ["map-opacity", "map-threshold", "turns", "describe", "question"]
    once = reached[reached.index("clear") :]
    assert [name for name in once if name in order][: len(order)] == order, once


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_is_short_and_loads_nothing_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text


def test_the_html_has_no_inline_script_style_or_handler():
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", text)
