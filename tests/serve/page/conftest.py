"""A real server with the packaged model, and Debian's Chromium driven by Playwright."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from btcchat.assets import PACKAGE

EXAMPLE = PACKAGE / "assets" / "example"
PAIR = [EXAMPLE / "before.png", EXAMPLE / "after.png"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 120  # the longest wait for anything; long, because a loaded machine is slow


@pytest.fixture(scope="session")
def address():
    """The URL of a server with the packaged model."""
    command = [sys.executable, "-m", "btcchat", "serve", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        line = next((found for line in server.stderr if (found := re.search(r"http://\S+", line))), None)
        assert line, "btcchat serve ended before it printed its URL"
        for _ in range(10 * SECONDS):
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(f"{line[0]}/readyz"):
                    break
            except urllib.error.HTTPError:
                continue
        yield line[0]
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=SECONDS)


@pytest.fixture(scope="module")  # Playwright's event loop must not outlive the module: other tests run their own
def browser():
    if CHROMIUM is None:
        message = "no chromium here (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * SECONDS)

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, address):
    """``open_page(**context)`` -> the page, ready. Finally checks for script errors and requests to other sites."""
    contexts, faults, requests = [], [], []

    def open_page(*, path="/", ready=True, **options):
        options = {"viewport": {"width": 1280, "height": 820}, "reduced_motion": "reduce"} | options
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "violates" in message.text else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address + path)
        if ready:
            page.locator("#model").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
    assert {url for url in requests if not url.startswith((address, "blob:", "data:"))} == set()


@pytest.fixture
def page(open_page):
    return open_page()


def choose(page, *paths: Path | dict, zone: int = 0) -> None:
    page.locator(".zone input").nth(zone).set_input_files(list(paths))


def load_pair(page, paths=PAIR) -> None:
    choose(page, *paths)
    page.locator("image-swipe").wait_for()


def ask(page, question: str) -> str:
    """The answer, once it has ended."""
    number = page.locator("#turns article").count()
    page.fill("#question", question)
    page.keyboard.press("Enter")
    return answer(page, number)


def answer(page, number: int = 0) -> str:
    turn = page.locator("#turns article").nth(number)
    turn.and_(page.locator("[aria-busy=false]")).wait_for()
    return turn.locator(".answer").inner_text()
