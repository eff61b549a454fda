"""README.md, docs/ and the site: links, commands and all blocks of code."""

from __future__ import annotations

import configparser
import inspect
import os
import posixpath
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from docs import flags as page_of_flags
from docs.__main__ import main
from gochat import Hub
from gochat.ops.flags import parse_flags

from .browser import axe, chromium
from .go_support import has_go, not_formatted, run_go
from .support import LOCAL, PATIENCE, ROOT, Gochat, accepts, free_port, wait_until

DOCS = ROOT / "docs"
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")] if "_build" not in path.parts
)

#: Folders with files that other tests run or compile.
RUN = [ROOT / "src/gochat", ROOT / "examples", ROOT / "tests", DOCS / "go", DOCS / "run"]


#: Name of the button next to a Go program.
PLAYGROUND = "Run in the Go playground"


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The Markdown pages.


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to an existing file and anchor."""
    text = re.sub(r"`[^`\n]+`", "", page.read_text())  # drops code such as `Channel[str](2)`
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    """Every test named on a page exists in the file that the page gives."""
    files = {path.name: path.read_text() for path in (ROOT / "tests").glob("*.py")}
    text = page.read_text()
    for name in re.findall(r"\b(test_\w+)(?!\w*\.py)\b", text):
        assert any(f"def {name}(" in code for code in files.values()), name
    for name in re.findall(r"\b(test_\w+\.py)", text):
        assert name in files, name
    # Matches: `test_this`, `test_that` (test_file.py).
    for names, file in re.findall(r"((?:`test_\w+`,\s+)*`test_\w+`)\s+\(\[?(test_\w+\.py)", text):
        for name in re.findall(r"test_\w+", names):
            assert f"def {name}(" in files[file], f"{name} is not in {file}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_knows_where_a_block_stands(page: Path) -> None:
    """No page says "on the right" or "on the left": a phone stacks the blocks."""
    assert not re.search(r"\bon the\s+(right|left)\b", page.read_text(), re.I)


def test_the_readme_is_short() -> None:
    """The README has at most 120 lines, and shows the start of hub.py's loop."""
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 120
    (shown,) = re.findall(r"```python\n(def run\(.*?)```", readme, re.DOTALL)
    lines = [line.strip() for line in inspect.getsource(Hub.run).splitlines()]
    begin = [line for line in lines if not line.startswith('"""')]
    assert [line.strip() for line in shown.splitlines()] == begin[: len(shown.splitlines())]


def test_the_flags_are_those_of_the_parser() -> None:
    """flags.md is the output of `python -m docs.flags`."""
    assert page_of_flags.PAGE.read_text() == page_of_flags.page()


# The blocks of code.


class Block(NamedTuple):
    page: Path
    line: int
    #: The language, or the directive in braces.
    kind: str
    #: What follows the kind, such as the file of a literalinclude.
    argument: str
    text: str


def blocks() -> list[Block]:
    """Return the fenced blocks of all pages, in order."""
    found: list[Block] = []
    for page in PAGES:
        open_fences: list[tuple[str, int, str]] = []
        lines = page.read_text().split("\n")
        for number, line in enumerate(lines):
            fence = re.match(r"\s*(`{3,}|:{3,})\s*(.*)$", line)
            if not fence:
                continue
            if fence[2]:
                open_fences.append((fence[1], number, fence[2]))
                continue
            assert open_fences, f"{name_of(page)}:{number + 1}: a block without a language"
            mark, begin, info = open_fences.pop()
            assert mark == fence[1], f"{name_of(page)}:{number + 1}: closes {mark}"
            kind, _, argument = info.partition(" ")
            text = "\n".join(lines[begin + 1 : number])
            found.append(Block(page, begin + 1, kind, argument, text))
        assert not open_fences, f"{name_of(page)}: {open_fences}"
    return sorted(found, key=lambda block: (block.page, block.line))


BLOCKS = blocks()


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds]


def id_of(block: Block) -> str:
    return f"{name_of(block.page)}:{block.line}"


def test_each_kind_of_block_is_checked() -> None:
    """Pages contain only kinds of blocks that this file can check."""
    code = {"go", "nginx", "python", "sh", "text", "{literalinclude}"}
    no_code = {
        *("{admonition}", "{container}", "{dropdown}", "{eval-rst}", "{figure}", "{include}"),
        *("{go-part}", "{python-part}", "{toctree}"),
    }
    assert {block.kind for block in BLOCKS} <= code | no_code
    assert of_kind("python", "sh", "nginx", "{literalinclude}")


@pytest.mark.parametrize("block", of_kind("{literalinclude}"), ids=id_of)
def test_included_code_is_run(block: Block) -> None:
    """Included code comes from a folder whose files the tests run or compile."""
    path = (block.page.parent / block.argument).resolve()
    assert path.is_file()
    assert any(path.is_relative_to(folder) for folder in RUN)


@pytest.mark.parametrize("page", sorted({block.page for block in of_kind("python")}), ids=name_of)
def test_blocks_of_python_run(page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page run in order. A block that serves runs until Ctrl-C."""
    code = "\n".join(block.text for block in of_kind("python") if block.page == page)
    port = free_port()
    # On the pages, servers listen on all interfaces.
    code = code.replace('":8080"', f'"127.0.0.1:{port}"')
    program = tmp_path / "page.py"
    program.write_text(code)
    process = subprocess.Popen(
        [sys.executable, program],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if "serve_forever" in code:
            wait_until(lambda: accepts(port), "the block serves")
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    if "serve_forever" in code and "suppress(KeyboardInterrupt)" not in code:
        assert errors.endswith("KeyboardInterrupt\n")
    else:
        assert (process.returncode, errors) == (0, "")


def commands(block: Block) -> list[list[str]]:
    """Return the simple commands in a shell block, without variables and paths."""
    found: list[list[str]] = []
    for line in block.text.replace("\\\n", " ").split("\n"):
        words = shlex.split(line, comments=True)
        while words:
            end = next((i for i, word in enumerate(words) if word in ("&&", "|")), len(words))
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"\w+=", command[0]):
                value = command.pop(0).partition("=")[2]
                if value.startswith("gochat "):
                    found.append(shlex.split(value))
            if command:
                command[0] = command[0].removeprefix(".venv/bin/")
                found.append(command)
    return found


COMMANDS = [(id_of(block), command) for block in of_kind("sh") for command in commands(block)]


@pytest.mark.parametrize(
    "command", [command for _, command in COMMANDS], ids=[place for place, _ in COMMANDS]
)
def test_commands_make_sense(command: list[str]) -> None:
    """Every command on a page is valid, and its files and flags exist."""
    match command:
        case ["gochat", *flags]:
            parse_flags([flag.replace("PORT", "8080") for flag in flags])
        case ["python", "-m", "pip", *arguments] | ["pip", *arguments]:
            check_pip(arguments)
        case ["python3", "-m", "venv", ".venv"]:
            pass
        case ["pytest", path] | ["python", "-m", "gevent.monkey", "--no-queue", path]:
            assert (ROOT / path).is_file()
        case ["python", "-m", module, *flags]:
            check_program(ROOT.joinpath(*module.split(".")), flags)
        case ["python", program, *flags]:
            check_program(ROOT / program.removesuffix(".py"), flags)
        case ["go", "run", path] | ["go", "run", "-race", path]:
            assert (ROOT / "examples/lesson/go" / path).is_dir()
        # Steps in the root of the repository.
        case (
            [".", ".venv/bin/activate"]
            | ["cd", "gochat"]
            | ["git", "clone", "REPOSITORY", "gochat"]
        ):
            pass
        case ["cd", path]:
            assert (ROOT / path).is_dir()
        case ["printf" | "seq" | "curl", *_]:  # input for a pipe, or a request to the view
            pass
        case ["tests/run", *paths]:
            assert os.access(ROOT / "tests/run", os.X_OK)
            assert all((ROOT / path).exists() for path in paths)
        case _:
            raise AssertionError(f"nothing checks {command}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_make_sense(page: Path) -> None:
    """Every `gochat serve` in running text has valid flags."""
    for command in re.findall(r"`gochat (serve [^`]+)`", page.read_text()):
        parse_flags(shlex.split(command))


def check_pip(arguments: list[str]) -> None:
    """Check that pip installs only gochat, its extras, or packages from setup.cfg."""
    assert arguments[0] == "install"
    setup = (ROOT / "setup.cfg").read_text()
    for argument in arguments[1:]:
        if extras := re.fullmatch(r"\.\[([\w,]+)\]", argument):
            for extra in extras[1].split(","):
                assert f"\n{extra} =\n" in setup
        elif argument not in (".", "-e", "--editable"):
            assert re.search(rf"^    {argument}\b", setup, re.M), argument


def check_program(path: Path, flags: list[str]) -> None:
    """Check that the program exists and has these flags."""
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    code = file.read_text()
    for flag in flags:
        if flag.startswith("--"):
            name = flag[2:]
            assert re.search(rf'"--{name}"|add_flag\(\s*"{name}"', code), flag


SERVED = sorted(
    {shlex.join(command[2:]) for _, command in COMMANDS if command[:2] == ["gochat", "serve"]}
)


@pytest.mark.parametrize("flags", [flags for flags in SERVED if "--relay" not in flags])
def test_commands_that_serve(flags: str, tmp_path: Path) -> None:
    """Every `gochat serve` in a block starts, on a free port, and stops."""
    flags = re.sub(r"(?<=addr )\S+", LOCAL, flags)
    flags = re.sub(r"(?<=view )\S+", LOCAL, flags)
    flags = re.sub(r"(?<=trace )\S+", str(tmp_path / "trace"), flags)
    with Gochat(*shlex.split(flags)) as gochat:
        assert gochat.stop() == 0


@pytest.mark.parametrize(
    "block", [block for block in of_kind("nginx") if block.page.name != "proxy.md"], ids=id_of
)
def test_blocks_for_nginx(block: Block, tmp_path: Path) -> None:
    """nginx accepts every nginx block. test_nginx.py also tests the one in proxy.md."""
    config = tmp_path / "nginx.conf"
    logs = f"error_log {tmp_path}/log; pid {tmp_path}/pid;"
    config.write_text(f"{logs} events {{}} http {{ access_log off; {block.text} }}")
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, "there is no nginx"
    done = subprocess.run(
        [program, "-t", "-p", tmp_path, "-c", config], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.xdist_group("go")
def test_the_go_is_go() -> None:
    """The Go files in docs/go are formatted, pass `go vet`, and show at most 12 lines."""
    if has_go():
        assert not_formatted(DOCS / "go") == ""
        run_go(DOCS / "go", "vet")
    for path in (DOCS / "go").glob("*.go"):
        _, mark, shown = path.read_text().partition("// show\n")
        assert path.name == "doc.go" or (mark and len(shown.splitlines()) <= 12), path.name


def test_all_the_go_is_shown() -> None:
    shown = {Path(block.argument).name for block in of_kind("{literalinclude}")}
    assert {path.name for path in (DOCS / "go").glob("*.go")} - {"doc.go"} <= shown


def test_the_units_for_systemd() -> None:
    """The systemd units can be parsed, and their command is valid."""
    service = configparser.ConfigParser(strict=False, interpolation=None)
    service.optionxform = str  # type: ignore[assignment,method-assign]
    service.read(DOCS / "run/gochat.service")
    assert service["Service"]["Type"] == "notify"
    program, *flags = shlex.split(service["Service"]["ExecStart"])
    assert Path(program).name == "gochat"
    parse_flags(flags)
    listener = configparser.ConfigParser(strict=False)
    listener.read(DOCS / "run/gochat.socket")
    assert listener["Socket"]["ListenStream"] == "8080"


# The site.


class Site(HTMLParser):
    """The ids, links and loaded resources of an HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        # Most tags only color code; parsing them would take most of the time.
        self.feed(re.sub(r'<span class="\w+">|</span>', "", path.read_text()))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link":
            self.loads.append(values["href"])
        self.loads += [values[name] for name in ("src", "srcset", "data") if name in values]


#: Builds the site as if only gochat and its extra `docs` were installed.
BUILD = """
import gc
import sys
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

found = set()

def find(name, extra=""):
    if (name, extra) not in found:
        found.add((name, extra))
        for each in map(Requirement, requires(name) or ()):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                for wanted in ("", *each.extras):
                    find(canonicalize_name(each.name), wanted)

find("gochat")
find("gochat", "docs")
installed = {name for name, _ in found}

class Absent:
    modules = {
        module
        for module, names in packages_distributions().items()
        if installed.isdisjoint(map(canonicalize_name, names))
    }

    def find_spec(self, name, *_):
        if name.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"{name} is not installed by the extra docs", name=name)

sys.meta_path.insert(0, Absent())
assert "pytest" in Absent.modules
from docs.__main__ import SITE, build
status = build(SITE, "-W", "--keep-going")
gc.freeze()  # so Python does not look for garbage at the end
sys.exit(status)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, without warnings, using only the packages of the extra `docs`."""
    built = DOCS / "_build/html"
    shutil.rmtree(built.parent, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        cwd=ROOT,
        env=os.environ | {"MPLCONFIGDIR": str(tmp_path_factory.mktemp("matplotlib"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return built


@pytest.fixture(scope="module")
def html(site: Path) -> dict[str, Site]:
    """All HTML pages of the site, by path."""
    return {str(path.relative_to(site)): Site(path) for path in site.rglob("*.html")}


@pytest.mark.xdist_group("site")
def test_links_of_the_site(site: Path, html: dict[str, Site]) -> None:
    """Every link within the site leads to an existing file and id."""

    @cache  # pages in one folder share most links
    def problem(folder: str, link: str) -> str:
        parts = urlsplit(urljoin(f"/{folder}/", link))
        if parts.scheme or parts.netloc:
            return ""
        target = unquote(parts.path).lstrip("/")
        if not (site / target).is_file():
            return "no such file"
        if parts.fragment and target in html and unquote(parts.fragment) not in html[target].ids:
            return "no such anchor"
        return ""

    for name, page in html.items():
        # A page has many links to itself, such as one for each line of code.
        inner = {link for link in page.links if link.startswith("#")}
        assert {unquote(link[1:]) for link in inner} <= page.ids | {""}, name
        for link in {*page.links, *page.loads} - inner:
            assert not problem(posixpath.dirname(name), link), f"{name}: {link}"


@pytest.mark.xdist_group("site")
def test_a_link_to_a_picture_shows_it(site: Path, html: dict[str, Site]) -> None:
    links = [link for link in html["lesson/teachers.html"].links if "svg" in link]
    assert links
    for link in links:
        picture = (site / "lesson" / link).read_text()
        assert picture == (DOCS / "lesson" / Path(link).name).read_text()


@pytest.mark.xdist_group("site")
def test_nothing_is_loaded_from_elsewhere(site: Path, html: dict[str, Site]) -> None:
    """Pages load nothing from other servers, and browsers request no favicon."""
    for name, page in html.items():
        assert "data:," in page.loads, f"{name}: a browser asks for /favicon.ico"
        for resource in page.loads:
            parts = urlsplit(resource)
            assert parts.scheme in ("", "data"), f"{name}: {resource}"
            assert not parts.netloc, f"{name}: {resource}"
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?\s*(https?:|//)", path.read_text()), path


@pytest.mark.xdist_group("site")
def test_the_reference_is_complete(html: dict[str, Site]) -> None:
    """The reference has every public class and function of gochat.

    The greenlets runtime is exempt: its names replace listed ones.
    """
    ids = {each for name, page in html.items() if name[:9] == "reference" for each in page.ids}
    for path in sorted((ROOT / "src/gochat").rglob("*.py")):
        if path.name.startswith("__") or path.parent.name == "greenlets":
            continue
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        code = path.read_text()
        names = re.search(r"^__all__ = \[(.*?)\]", code, re.M | re.S)
        for name in re.findall(r'"(\w+)"', names[1]) if names else ():
            if re.search(rf"^(class|def) {name}\b", code, re.M):
                assert f"{module}.{name}" in ids


class Served:
    """`python -m docs` in its own process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "docs", "--addr", LOCAL],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(
            r"The documentation is at (http://127\.0\.0\.1:\d+/)\. Ctrl-C ends it\.\n", line
        )
        assert found, line
        self.url = found[1]

    def stop(self) -> int:
        """Interrupt the process and return its exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        return self.process.wait()


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:  # noqa: ARG001 - it has to be built
    served = Served()
    yield served
    assert served.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def brightness(page: Page) -> float:
    """Return the brightness of the page's background, from 0 (black) to 1 (white)."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 765


@pytest.mark.xdist_group("site")
def test_the_site_in_a_browser(served: Served, browser: Browser) -> None:
    """Pages fit phones and desktops, follow the color scheme, and load only from their server."""
    names = ["", "production/connection.html", "run/reliability.html", "reference/golang.html"]
    names += ["files/src/gochat/hub.py.html"]
    for width, scheme in ((360, "dark"), (1280, "light")):
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page = context.new_page()
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))  # noqa: B023
        for name in names:
            page.goto(served.url + name)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name or 'index.html'} is {wide} wide"
            assert (brightness(page) < 0.2) == (scheme == "dark")
        assert all(url.startswith((served.url, "data:")) for url in loaded)
        context.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_axe_finds_nothing(served: Served, browser: Browser, width: int, scheme: str) -> None:
    page = browser.new_page(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    for name in ("index", "files/src/gochat/hub.py", "why/performance", "lesson/08-defer"):
        page.goto(f"{served.url}{name}.html")
        if "lesson" in name:
            page.get_by_role("button", name="Step").wait_for()
        assert axe(page) == [], name
    page.close()


@pytest.mark.xdist_group("site")
def test_beside_each_other(served: Served, browser: Browser) -> None:
    """Go is to the left of Python on a desktop, and above Python on a phone."""
    for width, beside in ((360, False), (1280, True)):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(f"{served.url}why/comparison.html")
        blocks = page.locator(".beside").first.locator("> *")
        go, python = blocks.nth(0).bounding_box(), blocks.nth(1).bounding_box()
        assert go
        assert python
        assert (python["x"] > go["x"]) == beside
        assert (python["y"] > go["y"]) != beside
        page.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(("page_name", "name"), [("", "screenshot"), ("run/view.html", "view")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_follow_the_scheme(
    served: Served, browser: Browser, page_name: str, name: str, scheme: str
) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(served.url + page_name)
    shown = page.locator(f"img[src*='{name}']:visible")
    expect(shown).to_have_count(1)
    suffix = "-dark" if scheme == "dark" else ""
    expect(shown).to_have_attribute("src", re.compile(f"/{name}{suffix}.png$"))
    page.close()


@pytest.mark.xdist_group("site")
def test_a_wide_picture_on_a_phone(served: Served, browser: Browser) -> None:
    """On a phone, code wraps, and a wide picture scrolls without scrolling the page.

    Tables drawn as text do not wrap. A short title takes one line.
    """
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(f"{served.url}lesson/11-the-whole.html")
    picture = page.locator(".picture")
    picture.wait_for()
    assert picture.evaluate("div => div.shadowRoot.querySelector('svg').clientWidth") > 360
    assert picture.evaluate("div => div.scrollWidth > div.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.goto(f"{served.url}lesson/02-buffered.html")
    picture.wait_for()
    for part in (picture, page.locator(".highlight-python pre").last):
        assert part.evaluate("part => part.scrollWidth <= part.clientWidth")
    for name in ("index", "run/scale", "run/proxy", "lesson/exercises"):
        page.goto(f"{served.url}{name}.html")
        for part in page.locator(":is(.highlight-sh, .highlight-nginx) pre").all():
            assert part.evaluate("part => part.scrollWidth <= part.clientWidth"), name
    page.goto(f"{served.url}files/src/gochat/client.py.html")
    code = page.locator("article pre")
    assert code.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    page.goto(f"{served.url}reference/websocket.html")
    expect(page.locator("pre", has_text="RFC 6455")).to_have_css("white-space", "pre")
    page.goto(f"{served.url}why/performance.html")
    title = page.locator("h1").bounding_box()
    assert title
    assert title["height"] < 60, "one line"
    page.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("name", ["why/comparison", "why/three-files", "lesson/02-buffered"])
def test_code_side_by_side_can_be_read(served: Served, browser: Browser, name: str) -> None:
    """On a desktop, side-by-side code is 13 px or larger, has captions, and is not cut off."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{served.url}{name}.html")
    blocks = page.locator(".beside .literal-block-wrapper")
    assert blocks.count() > 1
    for block in blocks.all():
        pre = block.locator("pre")
        assert pre.evaluate("pre => parseFloat(getComputedStyle(pre).fontSize)") >= 13
        assert pre.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
        assert re.match("Go|Python", block.locator(".code-block-caption").inner_text())
    page.close()


#: Returns each line of a code block: its text, its left edge, and the left edge of its later rows.
ROWS = """
pre => [...pre.children].filter(line => line.textContent.trim()).map(line => {
    const range = document.createRange();
    range.selectNodeContents(line);
    const indent = line.querySelector('.indent');
    if (indent) {
        range.setStartAfter(indent);
    }
    const edges = [...range.getClientRects()].filter(rect => rect.width);
    const [first, last] = [edges[0], edges.at(-1)];
    const later = edges.filter(rect => rect.bottom > last.bottom - 2).map(rect => rect.left);
    const wraps = last.top > first.top + first.height / 2;
    return [line.textContent, first.left, wraps ? Math.min(...later) : null];
})
"""


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("width", [360, 1280])
def test_code_that_wraps_keeps_its_indentation(
    served: Served, browser: Browser, width: int
) -> None:
    """A line begins where its indentation says, and its later rows begin half a level deeper."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{served.url}why/three-files.html")
    code = (ROOT / "src/gochat/client.py").read_text()
    wrapped = 0
    for name in ("def write_pump", "def serve_ws", "def read_pump"):
        pre = page.locator("pre", has_text=name)
        lines = pre.evaluate(ROWS)
        left = min(edge for _, edge, _ in lines)
        (step,) = {edge - left for text, edge, _ in lines if text.startswith("    try:")}
        for text, edge, later in lines:
            levels = (len(text) - len(text.lstrip())) / 4
            assert edge == pytest.approx(left + levels * step, abs=1), text
            wrapped += later is not None
            assert later is None or later == pytest.approx(edge + step / 2, abs=1), text
        copied = textwrap.indent(pre.text_content() or "", "" if name == "def serve_ws" else "    ")
        assert copied in code, "the Copy button gets the text as it is"
    assert wrapped > 5
    page.close()


@pytest.mark.xdist_group("site")
def test_charts_follow_dark_mode(served: Served, browser: Browser) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(f"{served.url}why/performance.html")
    look = "getComputedStyle(document.querySelector('img[src*=performance]')).filter"
    assert "invert" in page.evaluate(look)
    for theme, inverted in (("light", False), ("dark", True)):
        page.evaluate("theme => document.body.dataset.theme = theme", theme)
        assert ("invert" in page.evaluate(look)) == inverted
    page.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    "name", ["lesson/01-one-value.html", "files/examples/lesson/go/01_one_value/main.go.html"]
)
def test_code_is_copied(served: Served, browser: Browser, secure: bool, name: str) -> None:
    """The Copy buttons work, even where the page has no clipboard object."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    if not secure:
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(served.url + name)
    block = page.locator(".highlight").first
    block.hover()
    block.get_by_role("button", name="Copy").click()
    block.get_by_role("button", name="Copied").wait_for()
    page.evaluate("document.body.append(document.createElement('textarea'))")
    page.locator("textarea").focus()
    page.keyboard.press("Control+V")
    assert page.locator("textarea").input_value() == block.locator("pre").text_content()
    context.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_a_program_runs_in_the_playground(
    served: Served, browser: Browser, width: int, scheme: str
) -> None:
    """The playground button uploads the program, and opens it on go.dev in a new tab."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    uploads: list[tuple[str, str | None]] = []

    def share(route: Route) -> None:
        uploads.append((route.request.method, route.request.post_data))
        route.fulfill(body="a-b_C1", headers={"Access-Control-Allow-Origin": "*"})

    context.route("https://play.golang.org/share", share)
    context.route("https://go.dev/**", lambda route: route.fulfill(body="the playground"))
    page = context.new_page()
    page.goto(f"{served.url}files/examples/lesson/go/11_the_whole/main.go.html")
    button = page.get_by_role("button", name=PLAYGROUND)
    expect(button).to_have_attribute("title", re.compile("^Uploads this program to go.dev"))
    assert axe(page) == []
    button.focus()
    with context.expect_page() as opened:
        page.keyboard.press("Enter")
    opened.value.wait_for_url("https://go.dev/play/p/a-b_C1")
    assert opened.value.evaluate("opener") is None
    code = (ROOT / "examples/lesson/go/11_the_whole/main.go").read_text()
    assert uploads == [("POST", code)]
    link = page.get_by_role("link", name="go.dev/play/p/a-b_C1")
    expect(link).to_have_attribute("href", "https://go.dev/play/p/a-b_C1")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.reload()
    page.evaluate("window.open = () => null")  # like a browser that blocks new tabs
    button.click()
    expect(link).to_be_visible()
    context.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "Failed to fetch"),
        ({"status": 413, "body": "Snippet is too large"}, "the answer was 413"),
        ({"status": 200, "body": "<p>Log in to this network</p>"}, "the answer was 200"),
    ],
)
def test_the_playground_cannot_be_reached(
    served: Served, browser: Browser, answer: dict[str, Any] | None, why: str
) -> None:
    """If the upload fails, the new tab closes, and the page says what to do instead."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    any_origin = {"Access-Control-Allow-Origin": "*"}
    context.route(
        "https://play.golang.org/share",
        lambda route: route.fulfill(headers=any_origin, **answer) if answer else route.abort(),
    )
    page = context.new_page()
    page.goto(f"{served.url}files/examples/lesson/go/01_one_value/main.go.html")
    with context.expect_page() as opened:
        page.get_by_role("button", name=PLAYGROUND).click()
    line = f"The upload failed ({why}). You can copy the program to go.dev/play."
    expect(page.get_by_text(line, exact=True)).to_be_visible()
    if not opened.value.is_closed():
        opened.value.wait_for_event("close")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


@pytest.mark.xdist_group("site")
def test_which_programs_run_in_the_playground(site: Path, served: Served, browser: Browser) -> None:
    """All Go programs of the lesson can run in the playground, except the ticker.

    No other file has a playground button.
    """
    page = browser.new_page()
    folder = site / "files/examples/lesson/go"
    for path in [*folder.rglob("*.go.html"), site / "files/src/gochat/hub.py.html"]:
        page.goto(served.url + str(path.relative_to(site)))
        runs = path.is_relative_to(folder) and path.parent.name != "06_ticker"
        expect(page.get_by_role("button", name="Copy")).to_have_count(1)
        expect(page.get_by_role("button", name=PLAYGROUND)).to_have_count(int(runs))
    page.close()


@pytest.mark.xdist_group("site")
def test_the_steps_of_a_picture(served: Served, browser: Browser) -> None:
    """Each step marks an event in the picture, and the line of code that causes it.

    The first step follows the last.
    """
    page = browser.new_page()
    page.goto(f"{served.url}lesson/01-one-value.html")
    step = page.get_by_role("button", name="Step")
    told = [
        ("main starts greeter.", 'Thread(target=greet, name="greeter").start()'),
        ("greeter sends “hello” on greetings.", '    greetings.send("hello")'),
        ("main receives “hello” from greetings.", "greeting, _ = greetings.recv()"),
        ("main prints “main has: hello”.", 'print("main has:", greeting)'),
    ]
    for sentence, line in [*told, told[0]]:
        step.click()
        page.get_by_text(sentence, exact=True).wait_for()
        expect(page.locator(".stepper .hll")).to_have_text(line)
        marked = "document.querySelector('.picture').shadowRoot.querySelectorAll('.now').length"
        assert page.evaluate(marked) == 1
    shown = (
        "getComputedStyle(document.querySelector('.picture').shadowRoot.querySelector('{}')).fill"
    )
    fills = [page.evaluate(shown.format(part)) for part in (".back", ".now", ".run:not(.now)")]
    assert fills == ["rgb(255, 255, 255)", "rgb(213, 94, 0)", "rgb(0, 114, 178)"]
    # This picture has steps in several files. Many quick clicks lead to the last step.
    page.goto(f"{served.url}lesson/10-the-pumps.html")
    step.wait_for()
    last = page.evaluate(
        """() => {
            const events = document.querySelector('.picture').shadowRoot
                .querySelectorAll('[data-line*="client.py"]');
            const last = Math.max(...[...events].map((event) => event.dataset.step));
            for (let i = 0; i <= last; i += 1) {
                document.querySelector('.stepper button').click();
            }
            return [...events].find((event) => event.dataset.step == last).dataset.line;
        }"""
    )
    path, _, line = last.partition(":")
    expect(page.locator(".stepper .source p")).to_have_text(path)
    text = (ROOT / path).read_text().splitlines()[int(line) - 1]
    expect(page.locator(".stepper .hll")).to_have_text(text)
    page.close()


@pytest.mark.xdist_group("site")
def test_a_page_on_a_projector(served: Served, browser: Browser) -> None:
    """With ?present, each screen shows one section in large type. Arrow keys change the section.

    The picture is next to the code, but is hidden where it would reveal the output.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{served.url}lesson/09-the-hub.html?present")

    def shows(heading: str) -> None:
        expect(page.locator("article h2:visible")).to_have_text([re.compile(heading)])

    shows("What you will see")
    expect(page.locator(".picture")).not_to_be_visible()
    page.keyboard.press("ArrowRight")
    shows("Go and Python")
    code, picture = page.locator("pre:visible").first, page.locator(".picture")
    assert code.evaluate("pre => getComputedStyle(pre).fontSize") == "24px"
    left, right = code.bounding_box(), picture.bounding_box()
    assert left
    assert right
    assert left["x"] + left["width"] <= right["x"]
    page.reload()
    shows("Go and Python")
    page.keyboard.press("ArrowRight")
    shows("The output")
    expect(page.locator(".picture")).not_to_be_visible()  # the picture would reveal the output
    answer = page.locator("pre", has_text="Ann reads: goodbye")
    expect(answer).not_to_be_visible()
    summary = page.locator("summary:visible")
    assert summary.evaluate("summary => getComputedStyle(summary).fontSize") == "24px"
    summary.click()
    expect(answer).to_be_visible()
    page.keyboard.press("ArrowRight")
    shows("The picture")
    expect(page.locator(".picture")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    shows("The output")
    page.keyboard.press("Alt+ArrowRight")  # the browser uses this key for its history
    shows("The output")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="A question")).to_be_visible()
    page.close()


@pytest.mark.xdist_group("site")
def test_any_page_on_a_projector(served: Served, browser: Browser) -> None:
    """With ?present, any page shows one section at a time, and source files have large type."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    names = ["index", "why/three-files", "run/flags", "run/security", "why/performance"]
    for name in (*names, "run/reliability", "reference/golang"):
        page.goto(f"{served.url}{name}.html?present")
        slides = page.locator("article section:not(:has(section))")
        for slide in slides.all():
            expect(slide).to_be_visible()
            heading = slide.locator("> :is(h1, h2, h3)").inner_text()
            expect(page.locator("article section:not(:has(section)):visible")).to_have_count(1)
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280, (name, heading)
            page.keyboard.press("ArrowRight")
    page.goto(f"{served.url}why/three-runtimes.html?present")
    page.wait_for_load_state()
    expect(page.locator("article h1")).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    page.goto(f"{served.url}why/performance.html?present")
    page.wait_for_load_state()
    expect(page.get_by_role("heading", name="Performance")).to_be_in_viewport()
    page.goto(f"{served.url}run/scale.html?present")
    drawing = page.locator(".highlight-text pre")
    assert drawing.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    expect(drawing).to_have_css("white-space", "pre")
    page.goto(f"{served.url}why/three-files.html?present#the-hub-s-loop")
    expect(page.locator("article h3:visible")).to_have_text([re.compile("The hub.s loop")])
    expect(page.locator("article h2:visible")).to_have_text([re.compile("hub.go and hub.py")])
    introduction = page.get_by_text("The Go code is not copied here.")
    expect(introduction).to_have_count(1)
    expect(introduction).not_to_be_visible()
    assert page.locator(".beside:visible").evaluate(
        "div => div.firstElementChild.offsetLeft === div.lastElementChild.offsetLeft"
    )
    expect(page.locator("article h1")).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    page.goto(f"{served.url}files/src/gochat/hub.py.html?present")
    code = page.locator("article pre")
    expect(code).to_have_css("font-size", "24px")
    page.close()


@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1024, 768)])
def test_what_a_projector_shows(served: Served, browser: Browser, width: int, height: int) -> None:
    """On a projector, sections and pictures fit the screen.

    Text before the first section is shown only with the first section.
    """
    page = browser.new_page(viewport={"width": width, "height": height})
    introduction = page.get_by_text("The task is at the top of the file.")
    for name in ("03-close-and-drain", "11-the-whole", "exercises"):
        page.goto(f"{served.url}lesson/{name}.html?present")
        headings = page.locator("article h2")
        expect(headings.first).to_be_visible()
        for number in range(headings.count()):
            if number:
                page.keyboard.press("ArrowRight")
            expect(headings.nth(number)).to_be_visible()
            if name == "exercises" and number == 0:
                page.wait_for_load_state()
                expect(introduction).to_be_in_viewport(ratio=1)
            else:
                expect(introduction).not_to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            picture = page.locator(".picture:visible")
            if picture.count():
                assert picture.evaluate("picture => picture.offsetHeight") < height
    page.goto(f"{served.url}lesson/11-the-whole.html?present#the-picture")
    circles = page.locator(".picture [data-step]")
    for _ in range(circles.count()):
        page.get_by_role("button", name="Step").click()
        expect(page.locator(".picture .now")).to_be_in_viewport()
        expect(page.get_by_role("button", name="Step")).to_be_in_viewport()
    page.close()


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--addr"], 2, "docs: --addr: expected one argument\n"),
        (["--bild"], 2, "docs: there is no flag --bild: did you mean --build?\n"),
    ],
)
def test_bad_flags(
    flags: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == status
    assert capsys.readouterr().err == said


def test_an_address_that_cannot_be_had() -> None:
    """An address in use is reported before the site is built."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "docs", "--addr", addr],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"docs: listen tcp {addr}: Address already in use\n"


def test_the_extra_is_missing(tmp_path: Path) -> None:
    """Without the packages of the extra `docs`, the command says how to install them."""
    (tmp_path / "furo.py").write_text("raise ModuleNotFoundError(name='furo')")
    done = subprocess.run(
        [sys.executable, "-m", "docs", "--build"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "docs: there is no furo; the site needs: pip install -e '.[docs]'\n"
