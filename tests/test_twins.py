"""The page that shows hub.go, client.go and main.go beside their Python twins."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.__main__ import main
from docs.twins import COMMIT, PAGE, awaits, go_lines, go_parts, not_in_go, python_lines

from .support import ROOT

CHAT = Path("examples", "chat")
FILES = ("hub", "client", "main")

ASYNCIO = ROOT / "docs/why/asyncio.md"

#: The file and the names of each `python-part`, and the passages in it that are not in Go.
PARTS = re.findall(
    r"\{python-part\} (\S+)\n:names: (.+)\n(?::not-in-go: (.+)\n)?", PAGE.read_text()
)


def several(option: str) -> list[str]:
    return [each.strip() for each in option.split(";") if each.strip()]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A stand-in for a clone of gorilla/websocket: the chat's declarations with our own bodies."""
    folder = tmp_path / "websocket" / CHAT
    folder.mkdir(parents=True)
    for file in FILES:
        text = ""
        for part in go_parts():
            if part.file == f"{file}.go":
                text += f"\n// About {part.declaration}\n{part.declaration}"
                close = {"(": ")"}.get(part.declaration[-1])
                if part.declaration.startswith(("func", "type")):
                    text += " {" if part.declaration[-1] != "(" else ") {"
                    close = "}"
                text += f"\n\tour own text\n{close}\n" if close else " = 0\n"
        (folder / f"{file}.go").write_text(text)
    return tmp_path / "websocket"


@pytest.mark.parametrize("file", FILES)
def test_each_line_is_in_one_part(file: str) -> None:
    """Every non-blank line of the Python file is in exactly one part."""
    path = f"src/gochat/{file}.py"
    code = (ROOT / path).read_text()
    shown = [
        line
        for source, names, _ in PARTS
        if source == path
        for line in python_lines(code, several(names))
    ]
    wanted = [number for number, line in enumerate(code.splitlines(), 1) if line.strip()]
    assert sorted(shown) == wanted


def test_each_link_names_lines_at_the_commit() -> None:
    """Each Go part links to its lines at the fixed commit, and the parts do not overlap."""
    links = re.findall(r"\]\((https://github\.com/gorilla/\S+)\)", PAGE.read_text())
    parts = go_parts()
    assert len(links) == len(parts) == PAGE.read_text().count("{go-part}")
    base = f"https://github.com/gorilla/websocket/blob/{COMMIT}/examples/chat"
    for link, part in zip(links, parts, strict=True):
        end = f"-L{part.last}" if part.last > part.first else ""
        assert link == f"{base}/{part.file}#L{part.first}{end}"
    for file in FILES:
        lines = [line for p in parts if p.file == f"{file}.go" for line in (p.first, p.last)]
        assert lines == sorted(lines)
        assert lines


def test_links_to_lines_name_the_commit() -> None:
    """On every page, a link to lines of gorilla/websocket names the commit that has these lines."""
    seen = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for at in re.findall(r"gorilla/websocket/blob/(\w+)/\S+?#L", page.read_text()):
            assert at == COMMIT, page
            seen.add(page.name)
    assert {"README.md", "comparison.md", "flags.md", "three-files.md"} <= seen


def test_what_is_not_in_go_is_found() -> None:
    """A shaded passage is one statement, with its comment."""
    code = (ROOT / "src/gochat/hub.py").read_text()
    lines = code.splitlines()
    found = not_in_go(code, "self.stop", python_lines(code, ["Hub.__init__"]))
    text = [lines[number - 1].strip() for number in sorted(found)]
    assert text[0].startswith("# Not in Go")
    assert text[-1].startswith("self.stop")
    for path, names, ours in PARTS:
        code = (ROOT / path).read_text()
        within = python_lines(code, several(names))
        for begin in several(ours):
            assert not_in_go(code, begin, within) <= within
    with pytest.raises(ValueError, match="2 statements begin"):
        not_in_go(code, "hub", set(range(1, 100)))
    with pytest.raises(ValueError, match=r"there is no Hub\.stroll"):
        python_lines(code, ["Hub.stroll"])


def test_a_go_part_ends_where_its_declaration_ends() -> None:
    """A Go part is one declaration, with its comment."""
    code = "package p\n\n// f\n// g\nfunc f() {\n\tif x {\n\t}\n}\n\nvar v = 1\n"
    assert go_lines(code, "package p") == (1, 1)
    assert go_lines(code, "func f()") == (3, 8)
    assert go_lines(code, "var v") == (10, 10)


def test_each_part_of_the_asyncio_chat_is_shown() -> None:
    """The asyncio page shows every line of hub.py and client.py.

    `awaits` returns exactly the lines that contain `await`.
    """
    parts = re.findall(
        r"\{python-part\} (examples/\S+)\n:caption: asyncio\n:awaits:\n:names: (.+)\n",
        ASYNCIO.read_text(),
    )
    for file in ("hub", "client"):
        code = (ROOT / f"examples/asyncio_chat/{file}.py").read_text()
        shown = [
            line
            for source, names in parts
            if Path(source).stem == file
            for line in python_lines(code, several(names))
        ]
        lines = code.splitlines()
        assert sorted(shown) == [number for number, line in enumerate(lines, 1) if line.strip()]
        assert {lines[number - 1] for number in awaits(code)} == {
            line for line in lines if re.search(r"\bawait ", line)
        }


def test_what_may_switch_is_shaded(tmp_path: Path) -> None:
    """On the asyncio page, exactly the lines that contain `await` are shaded."""
    html = built(tmp_path / "asyncio", page=ASYNCIO)
    shaded = re.findall(r'<span class="hll">(.*)', html)
    assert len(shaded) == html.count('"k">await</span>')
    assert html.count('<span class="caption-text">asyncio</span>') > 6


def built(project: Path, *options: str, page: Path = PAGE) -> str:
    """Build a site with only this page; return its HTML."""
    project.mkdir()
    shutil.copy(page, project / "index.md")
    (project / "conf.py").write_text(
        'extensions = ["myst_parser", "docs.twins"]\nmyst_enable_extensions = ["colon_fence"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", *options, project, project / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (project / "site/index.html").read_text()


def test_the_go_text_of_a_clone(clone: Path, tmp_path: Path) -> None:
    """With a clone, the page shows the Go code. Without one, it shows links and descriptions."""
    plain, with_go = built(tmp_path / "plain"), built(tmp_path / "go", "-D", f"gochat_go={clone}")
    count = len(go_parts())
    assert (plain.count(f"blob/{COMMIT}"), with_go.count(f"blob/{COMMIT}")) == (count, 0)
    assert "our own text" not in plain
    for part in go_parts():
        assert f"// About {part.declaration}" in re.sub("<.*?>", "", with_go)
    for html in (plain, with_go):
        shaded = re.findall(r'<span class="hll">(.*)', html)
        assert any("case" in line and "stop" in line for line in shaded)


def test_a_clone_that_differs(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If a clone lacks a declaration or a file, the build fails with a one-line error.

    If only the text differs, the build warns.
    """
    hub = clone / CHAT / "hub.go"
    complete = hub.read_text()
    hub.write_text(complete.replace("func newHub()", "func makeHub()"))
    assert main(["--build", "--go", str(clone)]) == 1
    said = "has no lines that begin with 'func newHub()'; the page is about"
    assert capsys.readouterr().err == f"docs: {hub} {said} {COMMIT[:12]}\n"

    hub.write_text(complete)
    (clone / CHAT / "main.go").unlink()
    assert main(["--build", "--go", str(clone)]) == 1
    *warned, last = capsys.readouterr().err.splitlines()
    assert warned[0] == f"docs: {hub} differs from the one at {COMMIT[:12]}; its own text is shown"
    assert last == f"docs: {clone / CHAT / 'main.go'}: No such file or directory"
