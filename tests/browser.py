"""A headless Chromium for the tests of pages, where one is installed: `chromium`, `google-chrome`, or playwright's own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; skips the test, with a line that says what is missing, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no browser: the package playwright is not installed")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed, nor playwright's own")
        # The sandbox of a browser needs rights that a container has not; the page is our own file.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page that remembers what should not have happened: words on the console, errors, requests beyond the file itself."""

    def __init__(self, browser: Any, path: Path, *, width: int = 1280, dark: bool = False):
        self.page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._asked)
        self.path = path
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")

    def _asked(self, request: Any) -> None:
        if request.url != self.path.as_uri() and not request.url.startswith(("data:", "blob:")):
            self.trouble.append(f"request: {request.url[:200]}")

    def choose(self, name: str, value: str) -> None:
        """Of a select by id, the option of this text."""
        self.page.select_option(f"#{name}", label=value)

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def column(self, label: str) -> list[str]:
        """The cells of one column of the list of runs."""
        heads = self.texts("#runs-table thead th")
        place = next(i for i, head in enumerate(heads) if head.rstrip(" ↑↓") == label)
        return self.texts(f"#runs-table tbody td:nth-child({place + 1})")

    def traces(self, plot: str) -> list[dict[str, Any]]:
        """What plotly draws: its traces, with arrays as lists."""
        script = """id => (document.getElementById(id).data || []).map(trace => Object.fromEntries(Object.entries(trace).map(
            ([key, value]) => [key, ArrayBuffer.isView(value) ? Array.from(value) : value])))"""
        return self.page.evaluate(script, plot)

    def layout(self, plot: str, key: str) -> Any:
        return self.page.evaluate("([id, key]) => document.getElementById(id).layout[key]", [plot, key])
