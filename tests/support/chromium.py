"""Debian's Chromium, driven by Playwright, without a display."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MISSING = "needs Chromium and Playwright: apt-get install chromium, pip install playwright axe-playwright-python"


def chromium() -> str | None:
    """Where Chromium is; None if it or Playwright is absent."""
    try:
        import playwright.sync_api  # noqa: F401
    except ModuleNotFoundError:
        return None
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browsing() -> Iterator[Any]:
    """An open browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
