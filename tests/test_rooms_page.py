"""home.html finds its chat: in rooms, under a path prefix, and behind nginx."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from gochat import Hub, Server, Upgrader, make_app, running

from .support import LOCAL, Gochat
from .test_examples import serving
from .test_home import (  # noqa: F401 - fixtures
    Tabs,
    browser,
    choose,
    expect_texts,
    gochat,
    say,
    tabs,
)
from .test_nginx import Nginx, certificate  # noqa: F401 - fixtures

pytestmark = pytest.mark.xdist_group("view")

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def expect_state(page: Page, text: str) -> None:
    expect(page.locator("#state")).to_have_text(text)


@contextmanager
def served(hub: Hub, app: WSGIApplication) -> Iterator[int]:
    """Serve an application and run its hub; yield the port."""
    server = Server(LOCAL, app)
    with running(server, hub):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.port
        finally:
            server.shutdown()
            thread.join()


def mounted() -> AbstractContextManager[int]:
    """Serve a chat under /chat, beside another application."""

    def other(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("404 Not Found", [])
        return []

    hub = Hub()
    return served(hub, DispatcherMiddleware(other, {"/chat": make_app(hub)}))


def test_why_a_page_is_refused(tabs: Tabs) -> None:  # noqa: F811
    """If the page's own server refuses the connection, the page says why, as far as it knows."""
    refusal = ""
    hub = Hub()
    chat = make_app(hub)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ws" and refusal:
            start_response(refusal, [])
            return []
        return chat(environ, start_response)

    with served(hub, app) as port:
        page = tabs.visit(f"http://127.0.0.1:{port}/")
        expect_state(page, f"Connected to 127.0.0.1:{port}.")
        for refusal, text in (  # noqa: B007 - `app` reads it
            ("503 Service Unavailable", "is full, and refuses the connection (503)."),
            ("403 Forbidden", "answers, but refuses the connection. It may refuse pages from"),
        ):
            for client in list(hub.clients):
                client.conn.close()
            expect(page.locator("#state")).to_contain_text(f"127.0.0.1:{port} {text}")
            page.reload()
            expect(page.locator("#state")).to_contain_text(f"127.0.0.1:{port} {text}")
        tabs.complaints.clear()  # the browser's console reports the status
        page.close()


def test_a_server_that_signs(tabs: Tabs) -> None:  # noqa: F811
    """A message counts as sent even if it comes back with a name in front."""
    hub = Hub()
    signing = Upgrader(on_message=lambda _, message: b"ann: " + message)
    with served(hub, make_app(hub, upgrader=signing)) as port:
        page = tabs.visit(f"http://127.0.0.1:{port}/")
        expect_state(page, f"Connected to 127.0.0.1:{port}.")
        say(page, "pay 10")
        expect(page.locator(".message.mine")).to_contain_text("pay 10")
        page.close()  # before its server stops


@pytest.mark.parametrize("address", ["/ws/%", "/ws/100%", "/ws/%zz"])
def test_a_path_that_is_malformed(tabs: Tabs, address: str) -> None:  # noqa: F811
    with mounted() as port:
        page = tabs.visit(f"http://127.0.0.1:{port}/chat/")
        expect_state(page, f"Connected to 127.0.0.1:{port}.")
        choose(page, f"/chat{address}")
        expect(page.locator("#state")).to_contain_text(f"127.0.0.1:{port}")
        expect(page.locator("#status")).to_have_attribute("data-state", "waiting")
        page.close()  # the page retries, and the console complains each time
        tabs.complaints.clear()


def test_under_a_prefix(tabs: Tabs) -> None:  # noqa: F811
    """A page under /chat connects to the chat under /chat."""
    with mounted() as port:
        page = tabs.visit(f"http://127.0.0.1:{port}/chat/")
        expect_state(page, f"Connected to 127.0.0.1:{port}.")
        assert [socket.url for socket in tabs.sockets] == [f"ws://127.0.0.1:{port}/chat/ws"]
        say(page, "x" * 600)
        expect(page.locator("#refusal")).to_contain_text("600 bytes is over the limit of 512.")
        for address in ("/chat/ws", f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/chat/"):
            choose(page, address)
            expect_state(page, f"Connected to 127.0.0.1:{port}.")
        assert {socket.url for socket in tabs.sockets} == {f"ws://127.0.0.1:{port}/chat/ws"}
        page.close()  # before its server stops


def test_a_prefix_of_nginx(tabs: Tabs, tmp_path: Path, certificate: Path) -> None:  # noqa: F811
    """If nginx serves the chat under /chat/, the page connects under that path, with wss."""
    with (
        Gochat("--trust-proxy", "127.0.0.1") as chat,
        Nginx(tmp_path, certificate, chat, prefix="/chat/") as nginx,
    ):
        tabs.shape(ignore_https_errors=True)
        page = tabs.visit(f"https://127.0.0.1:{nginx.port}/chat/")
        expect_state(page, f"Connected to 127.0.0.1:{nginx.port}.")
        assert [socket.url for socket in tabs.sockets] == [f"wss://127.0.0.1:{nginx.port}/chat/ws"]
        say(page, "hello")
        expect_texts(page, "hello")
        page.close()  # before its server stops


def test_a_link_to_a_room(tabs: Tabs) -> None:  # noqa: F811
    """A link can name a room. Messages stay in that room, even after a reload."""
    with serving("rooms.py") as port:
        base = f"http://127.0.0.1:{port}/"
        # The last tab opened is in front. Clicks in other tabs are slow.
        python, go = (tabs.visit(f"{base}?room={room}") for room in ("python", "go"))
        expect_state(go, f"Connected to 127.0.0.1:{port}/ws/go.")
        expect_state(python, f"Connected to 127.0.0.1:{port}/ws/python.")
        say(go, "for gophers")
        expect_texts(go, "for gophers")
        say(python, "for snakes")
        expect_texts(python, "for snakes")
        expect(go.locator("#counter")).to_have_text("0 / 512 bytes")

        # Connect by path, by address and by link. The page's URL changes to match.
        for address, room in (
            ("/ws/python", "python"),
            (f"127.0.0.1:{port}/ws/go", "go"),
            (f"{base}?room=python", "python"),
            ("/?room=go", "go"),
            (f"ws://127.0.0.1:{port}/ws/python", "python"),
        ):
            choose(go, address, remember=True)
            expect_state(go, f"Connected to 127.0.0.1:{port}/ws/{room}.")
            assert go.url == f"{base}?room={room}"
            expect(go.locator("#counter")).to_have_text("0 / 512 bytes")
        expect(go.get_by_text("Changing to another room.").first).to_be_visible()
        go.reload()
        expect_state(go, f"Connected to 127.0.0.1:{port}/ws/python.")
        expect(go.locator("#server")).to_have_value("/ws/python")
        say(go, "x" * 600)
        expect(go.locator("#refusal")).to_contain_text("600 bytes is over the limit of 512.")
        for page in (go, python):
            page.close()  # before their server stops


def test_the_page_without_a_room(tabs: Tabs) -> None:  # noqa: F811
    with serving("rooms.py") as port:
        page = tabs.visit(f"http://127.0.0.1:{port}/")
        expect_state(page, f"Connected to 127.0.0.1:{port}/ws/go.")
        assert page.url == f"http://127.0.0.1:{port}/?room=go"
        page.close()  # before its server stops


def test_a_path_with_a_query(tabs: Tabs, gochat: Gochat) -> None:  # noqa: F811
    """A path can have a query, which is sent to the server and can be remembered."""
    page = tabs.open(gochat)
    choose(page, "/ws?name=ann", remember=True)
    expect_state(page, f"Connected to 127.0.0.1:{gochat.port}.")
    page.reload()
    expect_state(page, f"Connected to 127.0.0.1:{gochat.port}.")
    expect(page.locator("#server")).to_have_value("/ws?name=ann")
    assert [socket.url.partition("/ws")[2] for socket in tabs.sockets] == ["", *["?name=ann"] * 2]
    assert page.url == f"{gochat.url}/"


@pytest.mark.parametrize(
    ("room", "path"),
    [
        ("perl", "/ws/perl (404)"),
        ("..", "/"),  # the browser turns /ws/.. into this
        ("a/b", "/ws/a%2Fb (404)"),
        ("%3Cb%3E", "/ws/%3Cb%3E (404)"),
    ],
)
def test_a_room_that_is_not_there(tabs: Tabs, room: str, path: str) -> None:  # noqa: F811
    """If the room does not exist, the page says so instead of blaming its server or origin."""
    with serving("rooms.py") as port:
        page = tabs.visit(f"http://127.0.0.1:{port}/?room={room}")
        expect(page.locator("#state")).to_have_text(f"127.0.0.1:{port} has no chat at {path}.")
        tabs.complaints.clear()  # the browser's console reports the 404
        page.close()


def test_why_stays_on_the_page(tabs: Tabs) -> None:  # noqa: F811
    with Gochat() as chat:
        page = tabs.open(chat)
        page.evaluate("socket.send('x'.repeat(513))")
        expect(page.get_by_text("Connected again.")).to_be_visible()
        expect(page.locator(".note .text").first).to_contain_text(
            "Disconnected. The message was too big for the server, which takes 512 bytes (code 1009"
        )
        page.close()
