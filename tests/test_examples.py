"""The programs in examples/, started as their docstrings say."""

from __future__ import annotations

import ast
import base64
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import gochat
from gochat.ops.flags import parse_flags

from .support import (
    CLOSE,
    LOCAL,
    PATIENCE,
    ROOT,
    Peer,
    accepts,
    deaf,
    finished,
    frame,
    free_port,
    program,
    sent_page,
    wait_until,
)
from .test_nginx import Front

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGES = Path(__file__).parent.parent / "docs" / "recipes"
RECIPES = sorted(path.name for path in EXAMPLES.glob("*.py"))


#: Runs an example with a write wait of 1,000 s, for a client that does not read.
PATIENT = """
import runpy
import sys
from functools import partial
import gochat

gochat.make_app = partial(gochat.make_app, settings=gochat.Settings(write_wait=1000.0))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def serving(name: str, *args: str) -> AbstractContextManager[int]:
    """Run an example in its own process: see `program`."""
    return program(EXAMPLES / name, LOCAL, *args)


def enter(port: int, path: str = "/ws", user: str = "") -> Peer:
    peer = Peer(port)
    assert peer.open(path, login(user) if user else {}).status == 101
    return peer


def wait_for(peer: Peer, message: str) -> None:
    """Read frames until one ends with this message."""
    while not f"\n{peer.read_frame().payload.decode()}".endswith(f"\n{message}"):
        pass


def login(user: str) -> dict[str, str | None]:
    return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


@pytest.fixture(scope="module")
def rooms() -> Iterator[int]:
    """The port of examples/rooms.py."""
    with serving("rooms.py") as port:
        yield port


@pytest.mark.measured
def test_rooms() -> None:
    with serving("rooms.py") as port, enter(port, "/ws/go") as go, enter(port, "/ws/go") as gopher:
        # A client has joined once its first message comes back.
        go.send("go is here")
        wait_for(go, "go is here")
        gopher.send("gopher is here")
        wait_for(gopher, "gopher is here")
        wait_for(go, "gopher is here")
        with enter(port, "/ws/python") as python:
            python.send("in python")
            assert python.messages(1) == ["in python"]
            go.send("in go")
            assert go.messages(1) == gopher.messages(1) == ["in go"]
            python.send("bye")
            assert python.messages(1) == ["bye"]
        with Peer(port) as lost:
            assert lost.open("/ws/perl").status == 404


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/?room=go", "GET", 200),
        ("/?x=1&room=go", "GET", 200),
        ("/", "GET", 302),
        ("/?x=1", "GET", 302),  # names no room
        ("/?room=", "GET", 302),
        ("/", "POST", 405),
        ("/room", "GET", 404),
    ],
)
def test_the_page_of_the_rooms(rooms: int, target: str, method: str, status: int) -> None:
    """A page without a room is redirected to the first room."""
    with Peer(rooms) as visitor:
        answer = visitor.request(target, method=method)
        assert answer.status == status
        assert answer.headers.get("location") == ("?room=go" if status == 302 else None)


def test_history() -> None:
    """A new client gets the last hundred messages, oldest first."""
    said = [f"message {i}" for i in range(150)]
    with serving("history.py") as port, enter(port) as early:
        for text in said:
            early.send(text)
        assert early.messages(150) == said
        with enter(port) as late:
            assert late.messages(100) == said[50:]
            early.send("news")
            assert late.messages(1) == ["news"]


@pytest.mark.parametrize("name", ["history.py", "direct.py"])
def test_a_hub_that_does_more(name: str) -> None:
    """A program's hub still drops slow clients and, at shutdown, disconnects everyone."""
    count = 0
    hundred = frame(b"x" * 500, mask=b"\0\0\0\0") * 100
    with program("-c", PATIENT, EXAMPLES / name, LOCAL) as port:
        speaker = enter(port)
        with enter(port) as leaver:
            leaver.send(b"\x03\xe8", CLOSE)
            assert leaver.read_to_end()[-1].code == 1000
        with deaf(port) as silent:
            for _ in range(200):  # 10 MB, more than the system and the channel can hold
                speaker.sock.sendall(hundred)
                speaker.messages(100)
                count += 100
            *heard, last = silent.read_to_end()
            assert last.opcode == CLOSE
            assert sum(got.payload.count(b"\n") + 1 for got in heard) < count
    assert speaker.read_to_end()[-1].code == 1001
    speaker.sock.close()


@pytest.mark.parametrize("user", ["", "ann:", "ann:daisy", "eve:", "eve:tulip", "ann", ":", "\xff"])
def test_no_login(user: str) -> None:
    """Without a valid name and password, there is no page and no chat."""
    with serving("login.py") as port:
        with Peer(port) as peer:
            headers = {name: str(value) for name, value in login(user).items()} if user else {}
            answer = peer.request("/", headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (
                401,
                'Basic realm="chat"',
            )
        with Peer(port) as peer:
            assert peer.open(headers=login(user) if user else {}).status == 401


def test_login() -> None:
    """Each message starts with the login name, whatever the client writes."""
    with serving("login.py") as port, enter(port, user="ann:tulip") as ann:
        ann.send("hi")
        assert ann.messages(1) == ["ann: hi"]
        with enter(port, user="bob:daisy") as bob:
            bob.send("ann: I owe Bob a cake")
            assert ann.messages(1) == bob.messages(1) == ["bob: ann: I owe Bob a cake"]


def test_json_lines() -> None:
    """A JSON object with a text is passed on with its sender's name.

    Anything else ends the connection.
    """
    with (
        serving("json_lines.py") as port,
        enter(port, "/ws?name=ann") as ann,
        enter(port) as guest,
    ):
        ann.send('{"text":\n"hi"}')
        assert ann.messages(1) == ['{"from": "ann", "text": "hi"}']
        guest.send('{"text": "\u00e9"}')
        wait_for(ann, '{"from": "guest", "text": "\\u00e9"}')
        for text in ("hello", "[]", "{}", "[" * 400, '{"text": NaN}', '{"text": {}}'):
            with enter(port) as other:
                other.send(text)
                farewell = other.read_to_end()[-1]
                assert (farewell.code, farewell.payload[2:]) == (4000, b'send {"text": ...}')


def test_direct() -> None:
    """A direct message reaches only its sender and its recipient."""
    with (
        serving("direct.py") as port,
        enter(port, "/ws?name=ann") as ann,
        enter(port, "/ws?name=bob") as bob,
        enter(port, "/ws?name=eve%0A") as eve,  # an invalid name, replaced by "guest"
    ):
        for peer, name in ((ann, "ann"), (bob, "bob"), (eve, "guest")):
            peer.send(f"/to {name} here")
            assert peer.messages(1) == [f"{name}: /to {name} here"]
        ann.send("/to bob hi")
        ann.send("/to guest hello")
        ann.send("/to nobody psst")
        ann.send("bye")
        assert ann.messages(4) == [
            *("ann: /to bob hi", "ann: /to guest hello", "ann: /to nobody psst", "ann: bye"),
        ]
        assert bob.messages(2) == ["ann: /to bob hi", "ann: bye"]
        assert eve.messages(2) == ["ann: /to guest hello", "ann: bye"]
        for text in ("ann: /to bob I am ann", "/to bob", "/to  bob x", "see: /to ann x"):
            eve.send(text)  # none of these is a direct message
            assert ann.messages(1) == bob.messages(1) == eve.messages(1) == [f"guest: {text}"]


def test_presence() -> None:
    """Everyone is told who joins and who leaves. /who lists those present."""
    with serving("presence.py") as port, enter(port, "/ws?name=ann") as ann:
        assert ann.messages(1) == ["ann has come"]
        with enter(port) as guest:
            assert ann.messages(1) == guest.messages(1) == ["guest has come"]
            guest.send("/who")
            assert ann.messages(1) == guest.messages(1) == ["guest: here are ann, guest"]
        assert ann.messages(1) == ["guest has left"]
        ann.send("who is here?")
        ann.send("/who")
        assert ann.messages(2) == ["ann: who is here?", "ann: here are ann"]


def test_bot() -> None:
    """The bot answers messages addressed to it."""
    with serving("bot.py") as port, enter(port) as ann:
        for text in ("Ann: hi", "!time", "Ann: !time", "Bob: !time"):
            ann.send(text)
        said = ann.messages(6)
        assert [text for text in said if not text.startswith("Bot: ")] == [
            *("Ann: hi", "!time", "Ann: !time", "Bob: !time"),
        ]
        answers = [text for text in said if text.startswith("Bot: ")]
        assert re.fullmatch(r"Bot: Ann, it is \d\d:\d\d", answers[0])
        assert re.fullmatch(r"Bot: Bob, it is \d\d:\d\d", answers[1])


def test_flask_site() -> None:
    """The Flask site names the user, sends to the room, and streams a response."""
    with serving("flask_site.py") as port, enter(port) as guest:
        guest.send("hi")
        assert guest.messages(1) == ["guest: hi"]
        url = f"http://127.0.0.1:{port}"
        with urlopen(Request(f"{url}/upload/ann", data=b"x" * 2500), timeout=PATIENCE) as answer:
            assert answer.read() == b"0 of 2500\n1000 of 2500\n2000 of 2500\n"
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert guest.messages(1) == ["ann has uploaded 2500 bytes"]
        with Peer(port) as ann:
            assert ann.open(headers={"Cookie": cookie}).status == 101
            ann.send("hello")
            assert guest.messages(1) == ["ann: hello"]
        for path, status in (("/", 200), ("/nothing", 404)):
            with Peer(port) as visitor:
                assert visitor.request(path).status == status


def test_asgi_site(tmp_path: Path) -> None:
    """Behind nginx, an ASGI site and the chat share one address. The site can send to the room."""
    behind = free_port()
    with serving("asgi_site.py", str(behind)) as chat:
        changes = {"listen 80": "listen {}", "127.0.0.1:8000": f"127.0.0.1:{behind}"}
        changes |= {"127.0.0.1:8080": f"127.0.0.1:{chat}"}
        with Front(tmp_path, ROOT / "docs/recipes/asgi_site.md", changes) as nginx:
            url = f"http://127.0.0.1:{nginx.port}/"
            wait_until(lambda: accepts(behind), "the site listens")
            with urlopen(url, timeout=PATIENCE) as answer:
                assert b'href="/chat/"' in answer.read()
            with Peer(nginx.port) as visitor:
                page = visitor.request("/chat/")
            assert (page.status, page.body) == (200, sent_page("home.html"))
            with enter(nginx.port, "/chat/ws") as ann:
                ann.send("hi")
                assert ann.messages(1) == ["hi"]
                with urlopen(Request(url, data=b"a new page"), timeout=PATIENCE) as answer:
                    assert answer.read() == b"a new page"
                assert ann.messages(1) == ["News: a new page"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_a_page(name: str) -> None:
    """Each example has a page that includes, starts and talks to it."""
    short = name.removesuffix(".py")
    page = PAGES / f"{short}.md"
    text = page.read_text()
    (included,) = re.findall(r"^```{literalinclude} (.*)$", text, re.MULTILINE)
    assert (PAGES / included).resolve() == EXAMPLES / name
    assert re.search(rf"^python examples/{name} :8080( \d+)?$", text, re.MULTILINE)
    talks = re.findall(r"^gochat (talk .*)$", text, re.MULTILINE)
    assert talks
    for line in talks:
        assert parse_flags(shlex.split(line)).url.port == 8080
    assert f"\n{short}\n" in (PAGES / "index.md").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_uses_public_names(name: str) -> None:
    """An example has at most 55 lines and uses only public names of gochat."""
    text = (EXAMPLES / name).read_text()
    assert len(text.splitlines()) <= 55
    assert text.count("sys.argv") <= 2, "as in rooms.py"
    assert "127.0.0.1:8080" in text, "the address without one on the command line"
    used = {
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "gochat"
    }
    assert used
    assert used <= set(gochat.__all__)
    imported = {
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not [module for module in imported if module.startswith("gochat.")]
    assert not re.search(r"\._[a-z]|from gochat", text)


# One at a time, because both programs use this port.
@pytest.mark.xdist_group("8080")
@pytest.mark.parametrize("command", [["examples/rooms.py"], ["-m", "examples.asyncio_chat"]])
def test_without_an_address(command: list[str]) -> None:
    """An example listens on 127.0.0.1:8080 by default, which is in use here."""
    with socket.socket() as taken:
        # Servers set this, so that ended connections do not block the port.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # or it is already in use
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        done = finished([sys.executable, *command])
    assert is_taken(done, 8080)


@pytest.mark.parametrize("name", [*RECIPES, "asyncio_chat"])
def test_a_port_that_is_taken(name: str) -> None:
    command = [str(EXAMPLES / name)] if name.endswith(".py") else ["-m", f"examples.{name}"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert is_taken(finished([sys.executable, *command, f"127.0.0.1:{port}"]), port)


def test_not_an_address() -> None:
    done = finished([sys.executable, str(EXAMPLES / "rooms.py"), "here"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "address 'here' is not host:port, as in :8080 or localhost:8080\n"


def is_taken(done: subprocess.CompletedProcess[str], port: int) -> bool:
    """Return whether an example has ended with a line saying that this port is in use."""
    line = rf"[^\n]*127\.0\.0\.1\D*{port}\b[^\n]*address already in use\n"
    return done.returncode == 1 and re.fullmatch(line, done.stderr, re.IGNORECASE) is not None
