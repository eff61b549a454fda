"""The published packages: the sdist, the wheel built from it, and the installed wheel."""

from __future__ import annotations

import configparser
import email
import email.message
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pip
import pytest

import gochat

from . import release
from .support import PATIENCE, ROOT, Gochat, Peer, accepts, free_port, join, sent_page, wait_until

# In one worker, the packages are built only once.
pytestmark = pytest.mark.xdist_group("package")


REPOSITORY = "https://example.org/gochat"

STATIC = (
    *("connection.js", "home.css", "home.html", "log.js", "server.js", "style.css", "view.html"),
    *("viewed.js", "writing.js"),
)


class Built(NamedTuple):
    #: Files from which the sdist was built, relative to the repository.
    names: set[str]
    source: Path
    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command, which must succeed; return its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist from the files that git would commit, and the wheel from the sdist."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = run(*git, "--cached", "--others", "--exclude-standard", cwd=ROOT)
    names = set(listed.split("\0")[:-1])
    for name in names:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    release.build(source, dist, REPOSITORY, "v0")
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return Built(names, source, sdist, wheel)


@pytest.fixture(scope="module")
def wheel(built: Built) -> dict[str, bytes]:
    """The wheel's files, by name."""
    with zipfile.ZipFile(built.wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> email.message.Message:
    return email.message_from_bytes(wheel[f"gochat-{gochat.__version__}.dist-info/METADATA"])


def test_sdist_is_the_whole_source(built: Built) -> None:
    """The sdist contains all files of the repository except hidden ones."""
    with tarfile.open(built.sdist) as archive:
        packed = {m.name.partition("/")[2] for m in archive.getmembers() if not m.isdir()}
    wanted = {name for name in built.names if not name.startswith(".")}
    assert {"README.md", "LICENSE", "tests/test_package.py", "static/home.html"} <= wanted
    # The sdist has a copy of the directory in place of the link.
    wanted -= {"src/gochat/static"}
    wanted |= {f"src/gochat/{name}" for name in wanted if name.startswith("static/")}
    generated = {name for name in packed if ".egg-info/" in name} | {"PKG-INFO"}
    assert packed - generated == wanted


def test_wheel_is_the_package(built: Built, wheel: dict[str, bytes]) -> None:
    """The wheel has exactly the modules, the pages with their files, and py.typed."""
    modules = {
        name.removeprefix("src/")
        for name in built.names
        if re.fullmatch(r"src/gochat(_command|/[\w/]+)\.py", name)
    }
    assert "gochat/golang/websocket/conn.py" in modules
    packed = {name for name in wheel if ".dist-info/" not in name}
    assert packed == modules | {
        f"gochat/{name}" for name in ("py.typed", *(f"static/{file}" for file in STATIC))
    }


def test_wheel_has_the_pages(built: Built, wheel: dict[str, bytes]) -> None:
    for name in STATIC:
        assert wheel[f"gochat/static/{name}"] == (built.source / "static" / name).read_bytes()


def test_wheel_has_the_licence(
    built: Built, wheel: dict[str, bytes], metadata: email.message.Message
) -> None:
    assert "BSD-2-Clause" in (metadata["License-Expression"], metadata["License"])
    assert (built.source / "LICENSE").read_bytes() in wheel.values()


def test_wheel_has_the_command(wheel: dict[str, bytes]) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(wheel[f"gochat-{gochat.__version__}.dist-info/entry_points.txt"].decode())
    assert {name: dict(parser[name]) for name in parser.sections()} == {
        "console_scripts": {"gochat": "gochat_command:main"}
    }


def test_wheel_says_what_it_needs(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "gochat"
    assert metadata["Version"] == gochat.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = sorted(re.split(r"[^\w.-]", line)[0] for line in needed)
    assert names == ["Werkzeug", "simple-websocket", "wsproto"]


def test_the_page_on_the_package_index(metadata: email.message.Message) -> None:
    """For the package index, the README's links and pictures get full URLs."""
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert f"]({REPOSITORY}/raw/v0/docs/screenshot.png)" in text
    assert f"]({REPOSITORY}/blob/v0/docs/lesson/index.md)" in text
    assert f"git clone {REPOSITORY} gochat" in text
    assert "REPOSITORY" not in text
    for link in re.findall(r"\]\(([^)]*)\)", text):
        assert link.startswith("https://"), link


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small git repository with a version and a changelog."""
    root = tmp_path / "checkout"
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "src/gochat/version.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    (root / "src/gochat/__init__.py").touch()
    (root / ".gitignore").write_text("/dist/\n")
    (root / "CHANGELOG.md").write_text(f"# Changelog\n\n## {gochat.__version__} (unreleased)\n")
    run("git", "init", "--quiet", cwd=root)
    commit(root)
    return root


def commit(root: Path) -> None:
    run("git", "add", "--all", cwd=root)
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", *who, "commit", "--quiet", "--message", "a change", cwd=root)


def test_a_release(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release is refused until the code and the changelog name it and everything is committed.

    Then it is built, checked and tagged.
    """
    for part in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{part}_NAME", "test")
        monkeypatch.setenv(f"GIT_{part}_EMAIL", "test@example.org")
    version = gochat.__version__

    def refused(*flags: str) -> str:
        assert release.main([*flags, "--repository", REPOSITORY, "--tested"], checkout) == 1
        return capsys.readouterr().err

    assert refused("9.9") == "release: src/gochat/version.py does not say 9.9\n"
    assert refused(version).startswith(f"release: CHANGELOG.md does not begin with ## {version} (")
    log = checkout / "CHANGELOG.md"
    log.write_text(log.read_text().replace("unreleased", "2026-01-31"))
    assert refused(version) == "release: there are changes that are not committed\n"
    commit(checkout)
    assert release.main([version, "--repository", f"{REPOSITORY}/", "--tested"], checkout) == 0
    assert f"twine upload dist/gochat-{version}*" in capsys.readouterr().out
    assert run("git", "tag", "--list", cwd=checkout) == f"v{version}\n"
    assert {path.suffix for path in (checkout / "dist").iterdir()} == {".gz", ".whl"}
    assert "](docs/" in (checkout / "README.md").read_text()
    assert refused(version) == f"release: there is a tag v{version} already\n"


def instruction(name: str) -> list[str]:
    """Return the command of a Dockerfile instruction, as a list of words."""
    (line,) = re.findall(rf"^{name} .*?(\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    words = json.loads(line)
    assert isinstance(words, list)
    return words


def test_the_container() -> None:
    ports = {name: str(free_port()) for name in ("8080", "9100")}

    def here(text: str) -> str:
        """Replace the ports with free ones, on 127.0.0.1 only."""
        text = text.replace(":8080", f"127.0.0.1:{ports['8080']}")
        return text.replace("9100", ports["9100"])

    program, *flags = map(here, instruction("ENTRYPOINT"))
    python, *check = map(here, instruction("HEALTHCHECK"))
    assert (program, python) == ("gochat", "python")
    sick = subprocess.run([sys.executable, *check], stderr=subprocess.DEVNULL, check=False)
    assert sick.returncode == 1
    process = subprocess.Popen(
        [Path(sys.executable).with_name("gochat"), *flags], stderr=subprocess.DEVNULL
    )
    with process:
        try:
            wait_until(lambda: all(accepts(int(port)) for port in ports.values()), "it serves")
            subprocess.run([sys.executable, *check], check=True)
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_the_image_has_what_it_needs() -> None:
    """The image runs as its own user, and the files it is built from exist."""
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER gochat$", text, re.MULTILINE)
    assert text.index("useradd") < text.index("USER gochat") < text.index("ENTRYPOINT")
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_devcontainer() -> None:
    """The devcontainer opens the lesson and forwards its ports.

    Each start of the container serves the site, in the background: otherwise `devcontainer up`
    would not return. If each window did so, the second would find the port in use.
    """
    found = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    for name in found["customizations"]["codespaces"]["openFiles"]:
        assert (ROOT / name).is_file()
    assert "python -m docs --build" in found["postCreateCommand"]
    assert "python -m docs &" in found["postStartCommand"]
    assert "postAttachCommand" not in found
    assert {str(port) for port in found["forwardPorts"]} == set(found["portsAttributes"])


def test_the_devcontainer_serves_the_lesson(tmp_path: Path) -> None:
    """The site is still served after the terminal that started the server has closed.

    Here, as on a busy machine, `nohup` is slow to ignore that terminal's signal.
    """
    log, closed, served = tmp_path / "log", tmp_path / "closed", tmp_path / "served"
    programs = {
        "nohup": f'sleep 0.2; exec {shutil.which("nohup")} "$@"',
        "python": f'until test -e {closed}; do sleep 0.05; done; echo "$@" > {served}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    found = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    command = found["postStartCommand"].replace("/tmp/docs.log", str(log))
    ours, terminal = os.openpty()
    try:
        subprocess.run(
            ["setsid", "--ctty", "--wait", "sh", "-c", command],
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            timeout=PATIENCE,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(terminal)
        closed.touch()
    wait_until(lambda: served.exists() and served.read_text() == "-m docs\n", "served")


def test_installed(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel, installed alone, serves the page and the chat from an empty directory."""
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(empty)
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=empty)
    python = venv / "bin/python"
    # Installing another pip would take longer than all the rest, so ours is run. Without
    # --ignore-installed, it would treat our packages as installed.
    ours = (Path(pip.__file__).parent, "install", "--ignore-installed", "--quiet")
    run(python, *ours, built.wheel, cwd=empty)

    version = f"gochat {gochat.__version__}\n"
    assert run(venv / "bin/gochat", "--version", cwd=empty) == version
    assert run(python, "-m", "gochat", "--version", cwd=empty) == version

    monkeypatch.setattr(sys, "executable", str(python))  # Gochat starts the command beside it
    with Gochat("--addr", "127.0.0.1:0") as process:
        assert str(venv) in str(process.process.args)
        with Peer(process.port) as peer:
            answer = peer.request("/")
        assert answer.status == 200
        assert answer.body == sent_page("home.html", built.source / "static")
        with join(process.port) as alice, join(process.port) as bob:
            alice.messages(1)  # the message from Bob
            alice.send("hi Bob")
            assert bob.messages(1) == ["hi Bob"]
            bob.send("hi Alice")
            assert alice.messages(2) == ["hi Bob", "hi Alice"]
        assert process.stop() == 0
