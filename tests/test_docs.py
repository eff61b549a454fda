"""README.md and docs/: what they point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the repository, and every anchor, is one that exists."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    """Every test and every file of tests that a page names is there, and the test in that file."""
    files = {path.name: path.read_text() for path in (ROOT / "tests").glob("*.py")}
    text = page.read_text()
    for name in re.findall(r"\b(test_\w+)(?!\w*\.py)\b", text):
        assert any(f"def {name}(" in code for code in files.values()), name
    for name in re.findall(r"\b(test_\w+\.py)", text):
        assert name in files, name
    # As in: `test_this`, `test_that` (test_file.py).
    for names, file in re.findall(r"((?:`test_\w+`,\s+)*`test_\w+`)\s+\((test_\w+\.py)\)", text):
        for name in re.findall(r"test_\w+", names):
            assert f"def {name}(" in files[file], f"{name} is not in {file}"
