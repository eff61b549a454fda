"""The pages' scripts, checked by ESLint and TypeScript."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gochat.ops.page import home_page, read_file, read_page

from .browser import npm
from .support import ROOT


def scripts_of(page: bytes) -> str:
    """Return the scripts of a page, in order."""
    return "".join(re.findall("<script>(.*?)</script>", page.decode(), re.DOTALL))


def faults(script: str, tool: str, *arguments: str) -> str:
    """Run an npm tool with a script on stdin; return the faults it prints."""
    done = subprocess.run(
        [Path(sys.executable).with_name("node"), npm() / tool, *arguments],
        cwd=npm().parent,
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.stdout or done.returncode == 0
    return done.stdout


@pytest.mark.xdist_group("scripts")
@pytest.mark.parametrize(
    "script",
    [
        scripts_of(home_page(512, read_file("viewed.js"))[0]),
        scripts_of(read_page("view.html")),
        (ROOT / "docs/_static/site.js").read_text(),
    ],
    ids=["home, with the view", "view", "site"],
)
def test_scripts_are_in_order(script: str, tmp_path: Path) -> None:
    """ESLint and TypeScript find no fault in the scripts of each page."""
    assert faults(script, "eslint/bin/eslint.js", "--stdin", "--stdin-filename", "page.js") == ""
    file = tmp_path / "page.js"
    file.write_text(script)
    flags = (
        "--allowJs",
        "--checkJs",
        "--noEmit",
        "--skipLibCheck",  # TypeScript's own declarations would double the time
        "--target",
        "es2022",
        "--lib",
        "es2023,dom,dom.iterable",
    )
    assert faults("", "typescript/bin/tsc", *flags, str(file)) == ""


def test_faults_are_found() -> None:
    """ESLint reports an undefined name."""
    assert "no-undef" in faults("'use strict';\nf();\n", "eslint/bin/eslint.js", "--stdin")
