"""Draw docs/page.jpg: the page of a running `btcchat serve` with the packaged example, its caption and its change map.

python docs/make_page_picture.py   # needs Chromium and the development tools
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1280, 800  # pixels
QUESTION = "How many changes are there?"


def show_example(page: Page) -> None:
    page.locator(".example").click()
    page.locator("#describe").click()
    finished = page.locator("#turns article[aria-busy=false]")
    finished.first.wait_for()
    page.locator("#map-on").check()
    page.locator("#map-tools").wait_for()
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    finished.nth(1).wait_for()
    page.evaluate("document.activeElement.blur()")


def main() -> None:
    out = Path(__file__).with_name("page.jpg")
    command = [sys.executable, "-m", "btcchat", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(address)
        page.locator("#model").wait_for()
        show_example(page)
        page.screenshot(path=out, type="jpeg", quality=92)
        browser.close()
        server.terminate()
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
