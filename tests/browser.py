"""A real headless Chromium that opens a page of ours as a person does, at the size of their screen."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def opened(file: Path, width_px: int = 1300, height_px: int = 900, *, javascript: bool = True) -> Iterator[Page]:
    """Open a page; fail at the end if it wrote to the console or tried to load anything from elsewhere."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        size = {"width": width_px, "height": height_px}
        page = browser.new_page(viewport=size, java_script_enabled=javascript, accept_downloads=True)  # type: ignore[arg-type]
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"not loaded: {request.url[:80]}"))
        page.goto(file.as_uri())
        yield page
        browser.close()
    assert not said, said
