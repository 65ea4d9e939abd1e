"""Headless Chromium for tests and benchmarks of pages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing() -> str:
    """Return what is not there that a browser test needs; "" if all of it is."""
    if not any(map(shutil.which, NAMES)):
        return f"none of {', '.join(NAMES)} is on PATH"
    if not shutil.which("chromedriver"):
        return "chromedriver is not on PATH (Debian: apt-get install chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (pip install 'promptgym[dev]')"
    return ""


def chromium(profile: Path) -> Any:
    """Start a browser with an empty profile that keeps its console.

    Args:
        profile: folder that is not there yet.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(next(filter(None, map(shutil.which, NAMES))))
    for argument in (*QUIET, f"--user-data-dir={profile}", "--window-size=1440,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)
