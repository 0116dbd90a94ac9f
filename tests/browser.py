"""A real headless Chromium that opens a page of ours as a person does, at the size of their screen."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Browser:
    """One headless Chromium for many pages, for a test file that opens many."""

    def __init__(self, chromium: Chromium) -> None:
        """Open pages in this browser."""
        self.chromium = chromium

    @contextmanager
    def opened(
        self, file: Path, width_px: int = 1300, height_px: int = 900, *, javascript: bool = True
    ) -> Iterator[Page]:
        """Open a page; fail at the end if it wrote to the console or tried to load anything from elsewhere."""
        size = {"width": width_px, "height": height_px}
        page = self.chromium.new_page(viewport=size, java_script_enabled=javascript, accept_downloads=True)  # type: ignore[arg-type]
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"not loaded: {request.url[:80]}"))
        page.goto(file.as_uri())
        yield page
        page.close()
        assert not said, said


def wait_until(page: Page, expression: str, limit_s: float = 10.0) -> None:
    """Wait until an expression is true; the policy of our pages forbids the loop that Playwright would run in them."""
    end = time.monotonic() + limit_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not true after {limit_s} s: {expression}"
        time.sleep(0.02)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser; only one at a time, because a thread has one event loop."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Browser(chromium)
        chromium.close()


@contextmanager
def opened(file: Path, width_px: int = 1300, height_px: int = 900, *, javascript: bool = True) -> Iterator[Page]:
    """Open a page in a browser of its own."""
    with browsing() as browser, browser.opened(file, width_px, height_px, javascript=javascript) as page:
        yield page
