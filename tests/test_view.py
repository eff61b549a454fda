"""The live view of a real chat: the page, /state, and the switches."""

from __future__ import annotations

import gc
import itertools
import json
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from gochat import AnyHub, Channel, Conn, Hub, Observer, Server, Settings, make_app, running
from gochat.client import Client
from gochat.ops.clients import Clients
from gochat.ops.command import main
from gochat.ops.view.hold import Hold, Pace
from gochat.ops.view.server import View
from gochat.ops.view.snapshot import DETAILED, snapshot
from gochat.trace.chrome import read

from .browser import axe
from .redis_support import Redis
from .support import (
    CLOSE,
    LOCAL,
    PATIENCE,
    Gochat,
    Peer,
    Response,
    command,
    connected,
    deaf,
    finished,
    is_one_line,
    join,
    parted,
    reset_socket,
    say_long,
    sent_page,
    wait_until,
)
from .test_home import Tabs, browser, expect_texts, say, tabs  # noqa: F401 - fixtures

# Few other tests run this code, so coverage is also measured in the processes started here.
pytestmark = [pytest.mark.measured, pytest.mark.xdist_group("view")]

State = dict[str, Any]


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Response:
    with Peer(port) as peer:
        return peer.request(path, headers, method)


class Viewed(Gochat):
    def __init__(self, *flags: str, view: str = ":0", fault: str = "") -> None:
        super().__init__("--view", view, "--addr", LOCAL, *flags, fault=fault)
        found = re.search(r"view at (http://\S+?:(\d+))/$", "\n".join(self.lines), re.MULTILINE)
        assert found, self.lines
        self.view_url = found[1]
        self.view_port = int(found[2])

    def __enter__(self) -> Viewed:
        return self

    def ask(self, path: str, method: str = "GET", **headers: str) -> Response:
        return ask(self.view_port, path, method, **headers)

    def post(self, path: str) -> None:
        answer = self.ask(path, "POST")
        assert answer.status == 200, answer

    def state(self) -> State:
        answer = self.ask("/state")
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        state: State = json.loads(answer.body)
        return state

    def wait_for(self, condition: Callable[[State], object], what: str = "") -> State:
        """Return the first state for which the condition is true."""
        state: State = {}

        def there() -> bool:
            state.update(self.state())
            return bool(condition(state))

        try:
            wait_until(there, what)
        except AssertionError as error:
            raise AssertionError(f"never came true: {what}: {state}") from error
        return state

    def find(self, peer: Peer) -> State:
        """Wait until the state lists this peer's client; return its entry."""

        def found(state: State) -> list[State]:
            return [one for one in state["clients"] if one["addr"] == peer.addr]

        (client,) = found(self.wait_for(found))
        return client

    def switch(self, name: str, peer: Peer) -> None:
        self.post(f"/{name}?client={self.find(peer)['number']}")

    def wait_until_held(self, peer: Peer) -> State:
        """Return the first state in which this peer's write pump is held."""
        return self.wait_for(
            lambda state: any(
                one["addr"] == peer.addr and (one["writer"] or "").startswith("is held")
                for one in state["clients"]
            ),
            "the pump is held",
        )

    def reason(self, addr: str) -> str:
        """Wait until the client with this address has gone; return the reason shown."""
        state = self.wait_for(lambda state: addr in [one["addr"] for one in state["gone"]])
        *_, reason = [one["reason"] for one in state["gone"] if one["addr"] == addr]
        return str(reason)


@pytest.fixture(scope="module")
def shared() -> Iterator[Viewed]:
    """A chat for the tests that leave it running."""
    with Viewed() as chat:
        yield chat
        assert chat.stop() == 0


@pytest.fixture
def chat(shared: Viewed) -> Iterator[Viewed]:
    """The shared chat, returned to normal speed and emptied after each test."""
    yield shared
    shared.post("/slow?seconds=0")
    shared.wait_for(lambda state: not state["clients"], "an empty room")
    assert not shared.logged("Traceback")


def joined(port: int, count: int) -> list[Peer]:
    """Return `count` registered clients that have received all messages so far."""
    peers: list[Peer] = []
    for _ in range(count):
        peers.append(join(port))
        for peer in peers[:-1]:
            peer.messages(1)
    return peers


def overflow(held: Peer, other: Peer) -> list[str]:
    """Send 6 messages, which make the hub drop a held client if --send-buffer is 4; return them."""
    said = [str(i) for i in range(6)]
    for text in said:
        other.send(text)
        other.messages(1)
    assert held.messages(5) == said[:5]
    parted(held)
    return said


# ---- On the page ----


def card(page: Page, number: int) -> Locator:
    return page.locator(f"[data-client='{number}']")


def places(card: Locator, kind: str) -> int:
    """Return how many places are drawn for a queue: all `places`, or the `filled` ones."""
    return (card.locator(f".{kind}").get_attribute("d") or "").count("M")


def test_two_tabs_chat_in_view(chat: Viewed, tabs: Tabs) -> None:  # noqa: F811
    """The view shows the hub, each tab's threads and queue, and which clients have left."""
    view = tabs.context.new_page()
    view.clock.install()
    view.goto(chat.view_url)
    expect(view.locator("#status")).to_have_text("Live")
    expect(view.locator("#empty")).to_be_visible()
    ann, bob = tabs.open(chat), tabs.open(chat)
    say(ann, "hi Bob")
    expect_texts(bob, "hi Bob")

    expect(view.locator("#hub-clients")).to_have_text("2 clients in the room")
    expect(view.locator("#hub-thread")).to_have_text(re.compile("waits in select"))
    expect(view.locator("#channels")).to_contain_text("hub.broadcast")
    for number in (one["number"] for one in chat.state()["clients"]):
        expect(card(view, number).locator(".reader")).to_have_text(re.compile("the next message"))
        expect(card(view, number).locator(".writer")).to_have_text("waits for a message")
        expect(card(view, number).get_by_role("meter")).to_have_attribute("aria-valuemax", "256")
        expect(card(view, number).locator(".count")).to_have_text("0 of 256 places taken")
        assert places(card(view, number), "places") == 256
        assert places(card(view, number), "filled") == 0
    bob.close()
    expect(view.locator("#gone li").first).to_have_text(
        re.compile(f"Client {number}, .*: it left$")
    )
    expect(view.locator("#hub-clients")).to_have_text("1 client in the room")
    expect(card(view, number).locator(".reason")).to_have_text("Gone: it left")
    view.clock.fast_forward(8000)
    expect(card(view, number)).to_have_count(0)
    assert all(url.startswith((chat.url, chat.view_url)) for url in tabs.requests)


def test_which_window_is_which(chat: Viewed, tabs: Tabs) -> None:  # noqa: F811
    """The chat page shows its client's number, and the view shows each client's name."""
    view = tabs.context.new_page()
    view.goto(chat.view_url)
    with tabs.context.expect_page() as opened:
        view.get_by_role("link", name="Open the chat in another tab").click()
    ann, bob = opened.value, tabs.open(chat)
    shown = {}
    for page, name in ((ann, "Ann"), (bob, "<b>Bob</b>")):
        expect(page.locator("#client")).to_have_text(re.compile(r"Client \d+, 127.0.0.1:\d+"))
        number, addr = re.findall(r"Client (\d+), (\S+)", page.locator("#client").inner_text())[0]
        page.locator("#name").fill(name)
        say(page, "hi")
        shown[int(number)] = addr
        expect(card(view, number).locator(".name")).to_have_text(name)
        expect(card(view, number).locator(".addr")).to_have_text(addr)
    assert shown == {one["number"]: one["addr"] for one in chat.state()["clients"]}
    bob.locator("#name").fill("")
    say(bob, "without a name")
    expect_texts(ann, "Ann: hi", "<b>Bob</b>: hi", "without a name")
    expect(card(view, max(shown)).locator(".name")).to_have_text("<b>Bob</b>")

    # A new connection gets a new number.
    bob.evaluate("connect()")
    expect(bob.locator("#client")).to_have_text(re.compile(f"Client {max(shown) + 1},"))
    bob.evaluate("disconnect()")
    expect(bob.locator("#client")).to_be_empty()


def test_the_second_connection_is_shown_when_it_takes_over(
    chat: Viewed,
    tabs: Tabs,  # noqa: F811
) -> None:
    """When the probe replaces the page's connection, the page shows the new client number."""
    page = tabs.open(chat)
    expect(page.locator("#client")).to_have_text(re.compile("Client"))
    first = page.locator("#client").inner_text()
    page.evaluate("openProbe()")
    expect(page.locator("#client")).not_to_have_text(first)
    expect(page.locator("#client")).to_have_text(re.compile("Client"))
    (number,) = re.findall(r"Client (\d+),", page.locator("#client").inner_text())
    assert int(number) == max(one["number"] for one in chat.state()["clients"])


def test_nobody_else_learns_who_is_who(chat: Viewed) -> None:
    """/client returns a client's number only to a request with the tab's secret name."""
    with Peer(chat.port) as peer, join(chat.port) as nameless:
        assert peer.open("/ws?tab=secret").status == 101
        number = chat.find(peer)["number"]
        chat.find(nameless)
        for tab, said in (("secret", {"number": number, "addr": peer.addr}), ("", None)):
            answer = ask(chat.port, f"/client?tab={tab}")
            assert (answer.status, json.loads(answer.body)) == (200, said)
            assert answer.headers["cache-control"] == "no-store"
        for path in ("/client?tab=other", "/client?tab=secre", "/client"):
            assert ask(chat.port, path).body == b"null"
        assert ask(chat.port, "/client?tab=secret", "POST").status == 404
        close(peer)
        wait_until(lambda: ask(chat.port, "/client?tab=secret").body == b"null")


def test_a_held_client_fills_and_is_dropped(chat: Viewed, tabs: Tabs) -> None:  # noqa: F811
    """A held client is dropped when its queue is full, and still gets all its messages."""
    view = tabs.context.new_page()
    view.goto(chat.view_url)
    tab = tabs.open(chat)
    wait_until(lambda: bool(chat.state()["clients"]), "the tab's client")
    (number,) = [one["number"] for one in chat.state()["clients"]]
    with join(chat.port) as peer:
        expect(tab.locator(".message")).to_have_count(1)
        hold = view.get_by_role("button", name=f"Hold the write pump of client {number}")
        hold.click()
        expect(hold).to_have_attribute("aria-pressed", "true")

        def go_on(count: int) -> None:
            for _ in range(count):
                peer.send("hi")
                peer.messages(1)

        go_on(101)
        expect(card(view, number).locator(".writer")).to_have_text(re.compile("is held, with one"))
        expect(card(view, number).get_by_role("meter")).to_have_attribute("aria-valuenow", "100")
        go_on(156)
        expect(card(view, number).get_by_role("meter")).to_have_attribute("aria-valuenow", "256")
        assert places(card(view, number), "filled") == 256
        expect(tab.locator(".message")).to_have_count(1)
        go_on(1)
        expect(card(view, number).locator(".reason")).to_have_text("Gone: its queue was full")
        expect(card(view, number).get_by_role("meter")).to_have_attribute("aria-valuenow", "256")
        expect(view.locator("#gone li").first).to_have_text(
            re.compile(f"Client {number}, .*: its queue was full, with 256 messages queued$")
        )
        # The queued messages were delivered, and the page has reconnected as a new client.
        expect(tab.locator(".message")).to_have_count(1 + 257)
        expect(card(view, number + 2).locator(".writer")).to_have_text("waits for a message")


def test_the_page_switches(chat: Viewed, tabs: Tabs) -> None:  # noqa: F811
    """The page turns slow motion and messages on and off, and shows which client has the turn."""
    view = tabs.context.new_page()
    view.goto(chat.view_url)
    with ExitStack() as stack:
        for peer in joined(chat.port, 2):
            stack.enter_context(peer)
        pace = view.get_by_label("Slow motion")
        pace.select_option("1 s a frame")
        view.get_by_label("Say 20 messages a second").check()
        expect(view.locator("[data-turn=has] .writer")).to_have_text("at work, in slow motion")
        expect(view.locator("[data-turn=has] .turn")).to_have_text("has the turn")
        expect(view.get_by_text("place 1 in line")).to_be_visible()
        view.get_by_label("Say 20 messages a second").uncheck()
        pace.select_option("off")
        pace.blur()
        chat.wait_for(lambda state: state["pace"] == 0)
        # All open views show the same pace.
        chat.post("/slow?seconds=0.3")
        expect(pace).to_have_value("0.3")


def test_the_page_on_a_phone_and_without_its_server(tabs: Tabs) -> None:  # noqa: F811
    """The page fits a phone's width, and says when the chat has ended."""
    tabs.may_lose_server = True
    tabs.shape(viewport={"width": 320, "height": 600}, color_scheme="dark")
    view = tabs.context.new_page()
    with Viewed("--send-buffer", "5000") as chat, join(chat.port):
        view.goto(chat.view_url)
        expect(card(view, 1).locator(".count")).to_have_text("0 of 5000 places taken")
        assert places(card(view, 1), "places") == 256
        assert view.evaluate("document.documentElement.scrollWidth") == 320
        # The button is beside the client's number.
        title = card(view, 1).locator("h2").bounding_box()
        button = card(view, 1).get_by_role("button").bounding_box()
        assert title
        assert button
        assert button["y"] < title["y"] + title["height"]
        assert chat.stop() == 0
    expect(view.locator("#status")).to_have_text(re.compile("^No answer"))
    view.get_by_label("Say 20 messages a second").click()
    expect(view.get_by_role("alert")).to_have_text("The chat cannot be reached.")
    expect(view.get_by_label("Say 20 messages a second")).not_to_be_checked()


# ---- The switches ----


def test_a_client_that_is_let_go_gets_all(chat: Viewed) -> None:
    """A held client gets its messages on release. Others are not delayed."""
    with ExitStack() as stack:
        held, other = map(stack.enter_context, joined(chat.port, 2))
        chat.switch("hold", held)
        said = [str(i) for i in range(9)]
        for text in said:
            other.send(text)
            assert other.messages(1) == [text]  # the held client does not keep the only turn
        state = chat.wait_until_held(held)
        assert state["turns"] == {"number": 1, "line": 0, "holders": []}
        assert chat.find(held)["queued"] == 8
        assert chat.find(held)["held"]
        chat.switch("release", held)
        assert held.messages(9) == said
        chat.wait_for(lambda state: not any(one["queued"] for one in state["clients"]))
        assert chat.find(held)["writer"] == "waits for a message"
        assert held.addr not in [one["addr"] for one in chat.state()["gone"]]


def test_a_hold_is_not_a_part_of_the_write_wait() -> None:
    """Time spent held does not count toward the write wait."""
    with Viewed("--write-wait", "0.05") as chat, join(chat.port) as peer:
        chat.switch("hold", peer)
        peer.send("hi")
        chat.wait_until_held(peer)
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() > begin + 0.1)
        chat.switch("release", peer)
        assert peer.messages(1) == ["hi"]
        peer.send("ho")
        assert peer.messages(1) == ["ho"]


def one_at_a_time(state: State) -> bool:
    """Return whether one slowed client has the turn while the other two wait in line."""
    holders = [one for one in state["clients"] if one["has_turn"]]
    others = [one for one in state["clients"] if not one["has_turn"]]
    return (
        state["turns"]["line"] == 2
        and state["turns"]["holders"] == [one["number"] for one in holders]
        and [one["writer"] for one in holders] == ["at work, in slow motion"]
        and [one["writer"] for one in others] == ["stands in line for a turn"] * 2
        and sorted(one["place"] for one in others) == [1, 2]
    )


def test_slow_motion_shows_the_turn_and_the_line(chat: Viewed) -> None:
    """In slow motion, one write pump has the turn, and the others wait in line."""
    with ExitStack() as stack:
        peers = [stack.enter_context(peer) for peer in joined(chat.port, 3)]
        chat.post("/slow?seconds=0.5")
        begin = time.monotonic()
        peers[0].send("slowly")
        # The parts of a state are read one after another, so the turn may move in between.
        chat.wait_for(one_at_a_time, "one has the turn, and two are in line")
        for peer in peers:
            assert peer.messages(1) == ["slowly"]
        assert time.monotonic() > begin + 3 * 0.5
        # A client can be held while it is slowed down.
        chat.post("/slow?seconds=5")
        peers[0].send("again")
        (number,) = chat.wait_for(lambda state: state["turns"]["holders"])["turns"]["holders"]
        chat.post(f"/hold?client={number}")
        (held,) = [peer for peer in peers if chat.find(peer)["number"] == number]
        chat.wait_until_held(held)


def test_the_end_while_clients_are_held() -> None:
    fault = "import gochat.ops.view.server as server; server._SLOWEST = 600.0"
    with Viewed("--shutdown-timeout=600", fault=fault) as chat, ExitStack() as stack:
        held, slow = map(stack.enter_context, joined(chat.port, 2))
        chat.post("/slow?seconds=600")
        chat.switch("hold", held)
        slow.send("before the end")
        chat.wait_until_held(held)
        wait_until(lambda: chat.find(slow)["writer"] == "at work, in slow motion")
        chat.process.send_signal(signal.SIGINT)
        for peer in (held, slow):
            assert peer.messages(1) == ["before the end"]
            assert parted(peer).code == 1001
        assert chat.wait() == 0
        assert not chat.logged("Traceback")


def test_a_held_client_may_leave(chat: Viewed) -> None:
    for end in (lambda peer: peer.send(b"\x03\xe8", CLOSE), lambda peer: reset_socket(peer.sock)):
        with join(chat.port) as peer:
            addr = peer.addr
            chat.switch("hold", peer)
            peer.send("hi")
            chat.wait_until_held(peer)
            end(peer)
            chat.reason(addr)
    wait_until(lambda: len(chat.threads()) == 3, "main, hub and view")


def test_a_button_that_does_nothing_looks_so(
    tabs: Tabs,  # noqa: F811
    chat: Viewed,
) -> None:
    """When a client has gone, its hold button is disabled and looks disabled."""
    page = tabs.context.new_page()
    page.goto(chat.view_url)
    with join(chat.port) as peer:
        number = chat.find(peer)["number"]
        chat.switch("hold", peer)  # a pressed button is colored
        button = card(page, number).get_by_role("button")
        expect(button).to_have_attribute("aria-pressed", "true")
    expect(button).to_be_disabled()
    expect(button).to_have_css("cursor", "not-allowed")
    expect(button).to_have_css("background-color", "rgba(0, 0, 0, 0)")


def test_the_view_says_something(chat: Viewed) -> None:
    with join(chat.port) as peer:
        chat.post("/say")
        chat.post("/say")
        first, second = (int(text.removeprefix("view: message ")) for text in peer.messages(2))
        assert second == first + 1


# ---- Who may use it ----


def test_switches_exist_only_with_the_flag() -> None:
    """Without --view, no request can switch anything, and the view's code is not imported."""
    fault = """
        import atexit, sys
        atexit.register(lambda: print("view:", "gochat.ops.view" in sys.modules, file=sys.stderr))
    """
    with Gochat(fault=fault) as chat, join(chat.port) as peer:
        for path in ("/hold?client=1", "/slow?seconds=5", "/say", "/state"):
            with Peer(chat.port) as other:
                assert other.request(path, method="POST").status == 404
        assert ask(chat.port, "/client").status == 404
        assert b"?tab=" not in ask(chat.port, "/").body
        peer.send("hi")
        assert peer.messages(1) == ["hi"]
        assert chat.stop() == 0
        assert not chat.logged("view at")
        assert chat.logged("view: False")


def test_another_site_cannot_switch(chat: Viewed) -> None:
    """A page from another origin or a rebound DNS name gets nothing from the view."""
    own = f"127.0.0.1:{chat.view_port}"
    with join(chat.port) as peer:
        hold = f"/hold?client={chat.find(peer)['number']}"
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://localhost:{chat.view_port}", "Host": own},
            {"Origin": "http://evil.example", "Host": "evil.example"},
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "192.0.2.1"},
            {"Host": "["},
            {"Host": ""},
        ):
            answer = chat.ask(hold, "POST", **headers)
            assert answer.status in (400, 403), headers
            if "Host" in headers and headers["Host"] != own:
                assert chat.ask("/state", **headers).status in (400, 403), headers
                assert chat.ask("/", **headers).status in (400, 403), headers
        assert not chat.find(peer)["held"]
        for host in (own, "localhost", "LOCALHOST:9101", "[::1]:9101", "127.0.0.2"):
            origin = f"http://{host}"
            assert chat.ask(hold, "POST", Host=host, Origin=origin).status == 200, host


def test_requests_that_are_refused(chat: Viewed) -> None:
    for path, method, status, text in (
        ("/nonsense", "GET", 404, "Not found"),
        ("/nonsense", "POST", 404, "Not found"),
        ("/hold?client=1", "GET", 405, "Method not allowed"),
        ("/state", "POST", 405, "Method not allowed"),
        ("/", "POST", 405, "Method not allowed"),
        ("/hold", "POST", 400, "client is not a number"),
        ("/hold?client=", "POST", 400, "client is not a number"),
        ("/hold?client=-1", "POST", 400, "client is not a number"),
        ("/hold?client=1234567890", "POST", 400, "client is not a number"),
        ("/hold?client=%D9%A1", "POST", 400, "client is not a number"),
        ("/hold?client=9999", "POST", 404, "client 9999 is not there"),
        ("/release?client=9999", "POST", 404, "client 9999 is not there"),
        ("/slow", "POST", 400, "seconds is not a number from 0 to 5"),
        ("/slow?seconds=", "POST", 400, "seconds is not a number from 0 to 5"),
        ("/slow?seconds=nan", "POST", 400, "seconds is not a number from 0 to 5"),
        ("/slow?seconds=5.1", "POST", 400, "seconds is not a number from 0 to 5"),
        ("/slow?seconds=-1", "POST", 400, "seconds is not a number from 0 to 5"),
    ):
        answer = chat.ask(path, method)
        assert (answer.status, answer.body.decode()) == (status, f"{text}\n"), path


def test_methods(chat: Viewed) -> None:
    for path, method, allow in (
        ("/hold?client=1", "GET", "POST"),
        ("/say", "HEAD", "POST"),
        ("/state", "POST", "GET, HEAD"),
        ("/", "DELETE", "GET, HEAD"),
    ):
        answer = chat.ask(path, method)
        assert (answer.status, answer.headers["allow"]) == (405, allow), path
    for path in ("/", "/state"):
        get, head = chat.ask(path), chat.ask(path, "HEAD")
        assert (get.status, head.status, head.body) == (200, 200, b"")
        assert get.headers.keys() == head.headers.keys()


def test_the_page_may_run_itself_alone(chat: Viewed) -> None:
    """The page's policy allows only its own script and server.

    Every response tells browsers not to guess a different file type.
    """
    answer = chat.ask("/")
    assert answer.body == sent_page("view.html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    for answers in (answer, chat.ask("/state"), ask(chat.port, "/client")):
        assert answers.headers["x-content-type-options"] == "nosniff"
    again = chat.ask("/", **{"If-None-Match": answer.headers["etag"]})
    assert again.status == 304


def test_where_the_view_listens(chat: Viewed) -> None:
    """Without a host, the view listens on loopback. With a host, it accepts any host name."""
    assert chat.view_url.startswith("http://127.0.0.1:")
    with Viewed(view="0.0.0.0:0") as other, join(other.port):
        assert other.view_url.startswith("http://localhost:")
        host, hold = "chat.example:9101", "/hold?client=1"
        assert other.ask("/state", Host=host).status == 200
        assert other.ask(hold, "POST", Host=host, Origin="http://evil.example").status == 403
        assert other.ask(hold, "POST", Host=host, Origin=f"http://{host}").status == 200


def test_an_address_that_is_taken(chat: Viewed, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--addr", LOCAL, "--view", f":{chat.view_port}"]) == 1
    what = f"listen tcp 127.0.0.1:{chat.view_port}: Address already in use"
    assert is_one_line(capsys.readouterr().err, what)


def test_a_thread_that_cannot_be_started() -> None:
    """If the view's thread cannot be started, the command ends with a one-line error."""
    fault = """
        import threading

        def start(thread, start=threading.Thread.start):
            if thread.name == "view":
                raise RuntimeError("can't start new thread")
            start(thread)

        threading.Thread.start = start
    """
    done = finished([*command(fault), "serve", "--addr", LOCAL, "--view", ":0"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "gochat: can't start new thread"
    assert "Traceback" not in done.stderr


# ---- Who has gone, and why ----


def close(peer: Peer) -> None:
    peer.send(b"\x03\xe8", CLOSE)
    peer.read_to_end()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (close, "it left"),
        (lambda peer: reset_socket(peer.sock), "its connection was lost"),
        (lambda peer: peer.sock.shutdown(1), "its connection was lost"),
        (lambda peer: peer.send("x" * 513), "its message was too big"),
        (lambda peer: peer.send(b"\xff"), "it broke the protocol"),
    ],
    ids=["close", "reset", "gone", "too big", "not UTF-8"],
)
def test_why_a_client_has_gone(chat: Viewed, end: Callable[[Peer], None], reason: str) -> None:
    with join(chat.port) as peer:
        addr = peer.addr
        end(peer)
        assert chat.reason(addr) == reason
    *_, gone = chat.state()["gone"]
    assert (gone["addr"], gone["queued"]) == (addr, 0)
    assert abs(gone["at"] - time.time()) < PATIENCE


def test_a_client_that_sends_no_pong() -> None:
    with Viewed("--pong-wait=0.2") as chat, join(chat.port) as peer:
        assert chat.reason(peer.addr) == "no pong came in time"


def test_a_client_that_does_not_read() -> None:
    with (
        Viewed("--write-wait=0.5", "--send-buffer=1000", "--max-message-size=70000") as chat,
        join(chat.port) as speaker,
        deaf(chat.port) as stuck,
    ):
        say_long(speaker, 100)
        assert chat.reason(stuck.addr) == "a write was not done in time"


def test_a_client_that_is_dropped_but_still_there() -> None:
    """A dropped client stays in the view until its threads have ended.

    The view works during shutdown, and gives the shutdown as the reason.
    """
    with (
        Viewed("--write-wait=60", "--send-buffer=3", "--max-message-size=70000") as chat,
        join(chat.port) as speaker,
        deaf(chat.port) as stuck,
    ):
        say_long(speaker, 150)
        assert chat.find(stuck)["reason"] == "its queue was full"
        assert chat.find(stuck)["writer"] == "waits for room in the socket"
        assert chat.find(speaker)["reason"] is None
        assert chat.state()["hub"]["clients"] == 1
        chat.process.terminate()
        assert parted(speaker).code == 1001
        assert chat.reason(speaker.addr) == "the server stops"
        assert chat.find(stuck)["reason"] == "its queue was full"
        stuck.sock.close()
        assert chat.wait() == 0


# ---- The state ----


def test_a_reader_that_keeps_to_the_rate() -> None:
    """The view shows that the rate delays a read pump."""
    with Viewed("--rate=0.2", "--burst=1") as chat, join(chat.port) as peer:
        peer.send("hi")
        wait_until(lambda: chat.find(peer)["reader"] == "waits, to keep to the rate")


class Listener:
    """A client whose channel accepts messages only while a gate is open."""

    def __init__(self, gate: threading.Event) -> None:
        class Slow(Channel[bytes]):
            def try_send(self, value: bytes) -> bool:
                gate.wait(PATIENCE)
                return super().try_send(value)

        self.send = Slow(1000)


@contextmanager
def viewing(hub: Hub, clients: Clients) -> Iterator[View]:
    """Yield a view, and shut it down afterward."""
    view = View(LOCAL, hub, clients)
    try:
        yield view
    finally:
        view.server.shutdown()


def test_a_hub_that_is_slow() -> None:
    """If the hub is slow, the view shows the read pumps that wait for it, and /say returns 503."""
    hub, gate = Hub(), threading.Event()
    clients = Clients()
    with viewing(hub, clients) as view:
        app = make_app(hub, client_class=view.new_client)
        server = Server(LOCAL, app, on_close=clients.closed)

        def shows_it() -> bool:
            found: State = json.loads(ask(view.server.port, "/state").body)
            readers = [one["reader"] for one in found["clients"]]
            return (
                readers.count("waits until its message is taken") == 1
                and found["hub"]["thread"] == "at work"
                and {"name": "hub.broadcast", "senders": 1, "queued": 0} in found["hub"]["channels"]
            )

        def is_taken() -> bool:
            """Return whether the hub has taken the first message, and the second waits."""
            now = hub.broadcast.statistics()
            return (now.received, now.senders) == (before + 1, 1)

        with running(server, hub), ExitStack() as stack:
            server.start()
            view.start(server.url)
            peers = [stack.enter_context(peer) for peer in joined(server.port, 2)]
            hub.register.send(Listener(gate))  # type: ignore[arg-type]
            before = hub.broadcast.statistics().received
            for peer in peers:
                peer.send("hi")
            wait_until(is_taken)
            wait_until(shows_it)
            answer = ask(view.server.port, "/say", "POST")
            assert (answer.status, answer.body) == (503, b"the hub does not answer\n")
            gate.set()
            for peer in peers:
                assert peer.messages(2) == ["hi", "hi"]


def test_many_clients(chat: Viewed) -> None:
    """The state lists a limited number of clients, held ones first, and sums up the others."""
    count = DETAILED + 10
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(chat.port)) for _ in range(count)]
        for peer in peers:
            assert peer.open().status == 101
        state = chat.wait_for(lambda state: state["others"]["clients"] == 10)
        shown = [one["number"] for one in state["clients"]]
        assert shown == list(range(shown[0], shown[0] + DETAILED))
        assert state["others"] == {"clients": 10, "queued": 0, "longest": 0}
        free = shown[-1]
        (addr,) = [one["addr"] for one in state["clients"] if one["number"] == free]
        (free_peer,) = [peer for peer in peers if peer.addr == addr]
        for number in range(shown[0], shown[0] + count):
            if number != free:
                chat.post(f"/hold?client={number}")
        for _ in range(3):
            peers[0].send("hi")
        assert free_peer.messages(3) == ["hi"] * 3
        state = chat.wait_for(lambda state: state["others"]["queued"] == 2 * 9)
        assert state["others"] == {"clients": 10, "queued": 18, "longest": 2}
        assert free not in [one["number"] for one in state["clients"]]
        assert state["hub"]["clients"] == count


@pytest.mark.parametrize(("busy", "period"), [(0.0, 0.2), (0.03, 0.6)])
def test_looking_has_a_bound(monkeypatch: pytest.MonkeyPatch, busy: float, period: float) -> None:
    """A state is computed at most 5 times a second, and less often if computing is slow.

    busy: CPU seconds that one state takes.

    period: seconds for which a state is reused.
    """
    made: list[float] = []

    def count(*args: Any) -> State:
        made.append(time.monotonic())
        end = time.thread_time() + busy
        while time.thread_time() < end:
            pass
        return snapshot(*args)

    monkeypatch.setattr("gochat.ops.view.server.snapshot", count)
    with viewing(Hub(), Clients()) as view:
        view.start("http://localhost/")
        looks = 0
        while len(made) < 3:
            assert ask(view.server.port, "/state").status == 200
            looks += 1
    assert looks > 3
    assert all(after - before >= period for before, after in itertools.pairwise(made))


def test_with_metrics() -> None:
    """With metrics, a client can be held and dropped, and the drop is counted."""
    with Viewed("--metrics-addr", LOCAL, "--send-buffer=4") as chat, ExitStack() as stack:
        found = re.search(r"metrics at (\S+)", "\n".join(chat.lines))
        assert found
        held, other = map(stack.enter_context, joined(chat.port, 2))
        chat.switch("hold", held)
        overflow(held, other)
        assert chat.reason(held.addr) == "its queue was full"

        def counted() -> bool:
            with urllib.request.urlopen(found[1]) as response:
                text = response.read().decode()
            return (
                'gochat_clients_dropped_total{reason="full_send_buffer"} 1.0' in text
                and 'gochat_messages_per_frame_bucket{le="4.0"}' in text
            )

        wait_until(counted)


def test_with_the_relay(tmp_path: Path) -> None:
    """With a relay, the view shows the relay's channel and sends messages through it."""
    with (
        Redis(tmp_path) as redis,
        Viewed("--relay", redis.url, "--room", "view") as chat,
        join(chat.port) as peer,
    ):
        chat.post("/say")
        assert peer.messages(1) == ["view: message 1"]
        names = [channel["name"] for channel in chat.state()["hub"]["channels"]]
        assert names == [
            *("hub.register", "hub.unregister", "hub.broadcast", "hub.stop", "relay.broadcast")
        ]
        chat.switch("hold", peer)
        peer.send("held")
        chat.wait_until_held(peer)
        assert chat.stop() == 0
        assert peer.messages(1) == ["held"]


@pytest.mark.parametrize(("runtime", "relay"), [("threads", False), ("greenlets", True)])
def test_with_all_others(
    tmp_path: Path,
    tabs: Tabs,  # noqa: F811
    runtime: str,
    *,
    relay: bool,
) -> None:
    path = tmp_path / "trace.json"
    flags = ["--metrics-addr", LOCAL, "--trace", str(path), "--send-buffer=4"]
    flags += ["--runtime", runtime]
    with ExitStack() as stack:
        if relay:
            flags += ["--relay", stack.enter_context(Redis(tmp_path)).url]
        chat = stack.enter_context(Viewed(*flags))
        assert chat.runtime == runtime
        found = re.search(r"metrics at (\S+)/metrics", "\n".join(chat.lines))
        assert found

        def get(page: str) -> str:
            with urllib.request.urlopen(f"{found[1]}/{page}", timeout=PATIENCE) as response:
                text: str = response.read().decode()
                return text

        view = tabs.context.new_page()
        view.goto(chat.view_url)
        held, other = map(stack.enter_context, joined(chat.port, 2))
        number = chat.find(held)["number"]
        pumps = {f"readPump {held.addr}", f"writePump {other.addr}"}
        view.get_by_role("button", name=f"Hold the write pump of client {number}").click()
        wait_until(lambda: chat.find(held)["held"])
        assert get("healthz") == "ok\n"
        said = overflow(held, other)
        expect(view.locator("#gone li").first).to_have_text(
            re.compile("its queue was full, with 4 messages queued$")
        )
        dropped = 'gochat_clients_dropped_total{reason="full_send_buffer"} 1.0'
        wait_until(lambda: dropped in (text := get("metrics")) and "gochat_clients 1.0" in text)
        assert ("gochat_relay_up 1.0" in get("metrics")) == relay
        view.close()
        assert chat.stop() == 0
        assert not chat.logged("Traceback")
    trace = read(path)
    names = set(trace.threads.values())
    assert pumps <= names
    assert ("relay in" in names) == relay
    messages = [flow for flow in trace.flows if flow.channel == "hub.broadcast"]
    assert len({flow.message for flow in messages}) >= len(said)
    assert {trace.threads[flow.receiver] for flow in messages} == {"hub"}
    sends = {span.args["to"] for span in trace.spans if span.name == "send"}
    assert ("relay.broadcast" in sends) == relay


def test_a_client_without_a_write_pump() -> None:
    """The state can be read without a write pump and before the hub runs."""
    hub, clients, pace = Hub(), Clients(), Pace()
    with connected() as (conn, _):
        clients.new_client(hub, conn, Settings(), Hold(pace))
        state = snapshot(hub, clients, pace)
        assert [(one["writer"], one["place"]) for one in state["clients"]] == [(None, None)]
        assert state["hub"]["thread"] is None


def test_a_client_is_seen_only_when_it_can_be_held() -> None:
    """The state can be read while a client is being made."""
    hub, pace = Hub(), Pace()
    seen: list[State] = []

    class Seen(Channel[bytes]):
        def observe(self, observer: Observer) -> None:
            seen.append(snapshot(hub, clients, pace))
            super().observe(observer)

    def client_class(hub: AnyHub, conn: Conn, settings: Settings) -> Client:
        client = Client(hub, conn, settings)
        client.send = Seen(1)
        return client

    clients = Clients(client_class)
    with viewing(hub, clients) as view, connected() as (conn, _):
        view.new_client(hub, conn, Settings())
        seen.append(snapshot(hub, clients, pace))
    assert [len(state["clients"]) for state in seen] == [0, 1]


def test_a_viewed_client_leaves_no_garbage() -> None:
    hub = Hub()
    clients = Clients()
    with viewing(hub, clients) as view:
        app = make_app(hub, client_class=view.new_client)
        server = Server(LOCAL, app, on_close=clients.closed)
        with running(server, hub):
            server.start()
            view.start(server.url)
            before = threading.active_count()
            gc.disable()
            try:
                for _ in range(3):
                    with join(server.port) as peer:
                        close(peer)
                    wait_until(lambda: threading.active_count() == before)
                found = [one for one in gc.get_objects() if isinstance(one, Client)]
                left = [client for client in found if client.hub is hub]
            finally:
                gc.enable()
    assert len(left) <= 1  # one of the hub's variables still refers to the last client


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 900])
def test_axe_finds_nothing(tabs: Tabs, chat: Viewed, scheme: str, width: int) -> None:  # noqa: F811
    tabs.shape(color_scheme=scheme, viewport={"width": width, "height": 640})
    page = tabs.context.new_page()
    page.goto(chat.view_url)
    with ExitStack() as stack:
        peers = [stack.enter_context(peer) for peer in joined(chat.port, 3)]
        expect(page.locator("#clients > *")).to_have_count(3)
        peers.pop().sock.close()
        expect(page.locator("#gone > *").first).to_be_visible()
        chat.switch("hold", peers[0])
        assert axe(page) == []
