"""The chat page, home.html, in a real browser and served by the real command."""

from __future__ import annotations

import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    WebSocket,
    WebSocketRoute,
    expect,
)

from .browser import axe, chromium, whole
from .support import PATIENCE, Gochat, Peer, free_port, join, wait_until

pytestmark = pytest.mark.xdist_group("home")  # to share one browser

expect.set_options(timeout=PATIENCE * 1000)

#: Chromium writes these lines to the console when it cannot connect; a page cannot suppress them.
#: The server answers with status 400 when the page checks with a plain GET of /ws whether it is
#: back.
NO_CONNECTION = re.compile(
    r"Failed to load resource: (net::|the server responded with a status of (400|503))|"
    r"WebSocket connection to '\S+' failed: "
    "(Error in connection establishment: net::|Connection closed before receiving a handshake|"
    "WebSocket is closed before the connection|"
    "Error during WebSocket handshake: (Unexpected response code: (403|503)|"
    "net::ERR_CONNECTION_RESET))"
)

LIMIT = 512

#: Invisible characters, and characters that change the direction of text.
INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u061c\u2060\ufeff\u00ad\u2066"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gochat() -> Iterator[Gochat]:
    """A server for the tests that do not stop it."""
    with Gochat() as gochat:
        yield gochat


class Network:
    """A TCP proxy in front of a server. It can stop forwarding without closing a connection."""

    def __init__(self, port: int) -> None:
        self.server = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        #: How to treat a new connection: "forward" it, "swallow" its data, or "refuse" it.
        self.mode = "forward"
        self._cuts = 0
        #: The data held back for each client, by the client's socket.
        self._held: dict[socket.socket, bytes] = {}
        # Guards the held data. During a release, newer data must not overtake it.
        self._lock = threading.Lock()
        self._others: dict[socket.socket, tuple[socket.socket | None, int]] = {}
        self._selector = selectors.DefaultSelector()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="network")

    def cut(self) -> None:
        """Stop forwarding on the current connections, but leave them open."""
        self._cuts += 1

    def hold(self) -> None:
        """Hold back the server's data on the current connections from now on."""
        with self._lock:
            self._held = {client: b"" for client, (other, _) in self._others.items()}

    def release(self) -> None:
        """Send the data held back so far, then forward normally again."""
        with self._lock:
            held, self._held = self._held, {}
            for client, data in held.items():
                if client in self._others:
                    client.sendall(data)

    def __enter__(self) -> Network:
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._selector.close()
        for sock in [self.listener, *self._others]:
            sock.close()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj in self._others:  # the other end may have closed it
                    self._carry(key.fileobj)

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        if self.mode == "refuse":
            client.close()
            return
        server = None
        if self.mode == "forward":
            server = socket.create_connection(("127.0.0.1", self.server))
            self._others[server] = client, self._cuts
            self._selector.register(server, selectors.EVENT_READ)
        self._others[client] = server, self._cuts
        self._selector.register(client, selectors.EVENT_READ)

    def _carry(self, sock: socket.socket) -> None:
        other, cuts = self._others[sock]
        try:
            data = sock.recv(65536)
            with self._lock:
                if other in self._held:
                    self._held[other] += data
                elif data and other and cuts == self._cuts:
                    other.sendall(data)
        except ConnectionError:
            data = b""
        if not data:
            for end in filter(None, (sock, other)):
                del self._others[end]
                self._selector.unregister(end)
                end.close()


class Tabs:
    """Opens tabs in one browser context and records their requests and complaints."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        #: Errors and warnings in the console, uncaught exceptions, dialogs.
        self.complaints: list[str] = []
        #: The URLs of all requests.
        self.requests: list[str] = []
        #: All connections to chats, oldest first.
        self.sockets: list[WebSocket] = []
        #: True if the test stops the server. Failed connections are then not complaints.
        self.may_lose_server = False
        self.shape()

    def shape(self, **options: Any) -> None:
        """Start again in a context with these options, such as a viewport or a color scheme."""
        self.context = self.browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.context.on("console", self._console)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.context.on("dialog", self._dialog)
        self.context.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        expected = self.may_lose_server and NO_CONNECTION.match(message.text)
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(message.text)

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket)

    def open(self, gochat: Gochat | Network, state: str = "connected") -> Page:
        page = self.visit(gochat.url)
        expect_state(page, state)
        return page

    def visit(self, url: str) -> Page:
        page = self.context.new_page()
        page.on("websocket", self._socket)
        page.goto(url)
        return page


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    """Tabs in a new context, closed after the test. A recorded complaint fails the test."""
    yield from tabs_of(browser)


def tabs_of(browser: Browser) -> Iterator[Tabs]:
    tabs = Tabs(browser)
    yield tabs
    for context in browser.contexts:
        context.close()
    assert tabs.complaints == []


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("#status")).to_have_attribute("data-state", state)


def say(page: Page, text: str) -> None:
    page.locator("#msg").fill(text)
    page.locator("#msg").press("Enter")


def texts(page: Page) -> list[str]:
    """The messages on the page, oldest first."""
    return page.locator(".message .text").all_text_contents()


def expect_texts(page: Page, *expected: str) -> None:
    expect(page.locator(".message .text")).to_have_text(list(expected), use_inner_text=False)


def send_all(peer: Peer, messages: list[str]) -> None:
    """Send messages from another client, 50 at a time so that no client falls behind."""
    for i in range(0, len(messages), 50):
        for message in messages[i : i + 50]:
            peer.send(message)
        assert peer.messages(len(messages[i : i + 50])) == messages[i : i + 50]


def scroll_top(page: Page) -> float:
    top: float = page.locator("#log").evaluate("log => log.scrollTop")
    return top


def below(page: Page) -> float:
    """Return the number of pixels between the visible part of the log and its end."""
    rest: float = page.locator("#log").evaluate(
        "log => log.scrollHeight - log.clientHeight - log.scrollTop"
    )
    return rest


def top_of(message: Locator) -> float:
    box = message.bounding_box()
    assert box
    return box["y"]


def wheel(page: Page, pixels: int) -> None:
    """Scroll the log with the mouse wheel and wait until it stops."""
    target = scroll_top(page) + pixels
    page.locator("#log").hover()
    page.mouse.wheel(0, pixels)
    wait_until(lambda: abs(scroll_top(page) - target) < 1, "the log has scrolled")


def stop_clock(page: Page) -> None:
    """Stop the page's clock, so that the page cannot reconnect. The clock must be installed."""
    page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=10))


def run_until(page: Page, condition: str) -> int:
    """Run the page's stopped clock until a condition holds; return the milliseconds that passed."""
    for passed in range(0, 100_000, 250):
        if page.evaluate(condition):
            return passed
        page.clock.run_for(250)
    raise AssertionError(f"never came true: {condition}")


def run_to_silence(page: Page, milliseconds: int) -> None:
    """Run the page's stopped clock until the page has heard nothing for this many milliseconds."""
    page.clock.run_for(milliseconds - page.evaluate("Date.now() - heardAt"))


def hide(page: Page, hidden: bool) -> None:
    """Make the page believe that its tab is hidden or visible. A headless browser hides no tab."""
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
          document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


def choose(page: Page, address: str, *, remember: bool = False) -> None:
    page.locator("#settings summary").click()
    page.get_by_label("Server's address").fill(address)
    page.get_by_label("Remember it in this browser").set_checked(remember)
    page.locator("#connect").click()


# ---- Messages ----


def test_all_see_all_messages_in_one_order(tabs: Tabs, gochat: Gochat) -> None:
    pages = [tabs.open(gochat) for _ in range(3)]
    say(pages[0], "one")
    for page in pages:
        expect_texts(page, "one")
    say(pages[1], "two")
    for page in pages:
        expect_texts(page, "one", "two")

    at = time.time() * 1000 + 500
    for i, page in enumerate(pages):
        page.evaluate(
            """([at, who]) => setTimeout(() => {
              for (let i = 0; i < 20; i++) {
                document.getElementById('msg').value = `${who}.${i}`;
                document.getElementById('form').requestSubmit();
              }
            }, at - Date.now())""",
            [at, i],
        )
    for page in pages:
        expect(page.locator(".message")).to_have_count(2 + 3 * 20)
    first, *others = [texts(page) for page in pages]
    assert others == [first, first]
    for i in range(3):  # each tab's messages keep their order
        assert [t for t in first if t.startswith(f"{i}.")] == [f"{i}.{n}" for n in range(20)]


def test_messages_are_text_and_never_html(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    hostile = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(2)</script>",
        "<b onclick=alert(3)>bold</b> &amp; &lt;i&gt;",
    ]
    with join(gochat.port) as peer:
        say(page, hostile[0])
        assert peer.messages(1) == hostile[:1]
        peer.send(hostile[1])
        peer.send(hostile[2])
        expect(page.locator(".message")).to_have_count(4)
    page.locator("#name").fill("<i>Ann")
    say(page, "</span><h1>hello")
    expect(page.locator(".message")).to_have_count(5)
    assert texts(page)[1:] == [*hostile, "<i>Ann: </span><h1>hello"]
    tags = page.locator("#log *").evaluate_all("all => [...new Set(all.map(e => e.tagName))]")
    assert sorted(tags) == ["BDI", "DIV", "SPAN", "TIME"]


def test_spaces_and_scripts_of_the_world(tabs: Tabs, gochat: Gochat) -> None:
    """Spaces within a message and text in any script arrive unchanged."""
    page = tabs.open(gochat)
    said = ["a   b", "naïve café ☕ 👩‍👩‍👧", "こんにちは", "שלום"]
    for text in said:
        say(page, text)
    expect(page.locator(".message")).to_have_count(len(said))
    bodies = page.locator(".message .text")
    assert bodies.all_text_contents() == said
    assert bodies.first.inner_text() == "a   b"  # as drawn, not only as stored
    assert bodies.last.evaluate("e => getComputedStyle(e).direction") == "rtl"


def test_names_stand_out(tabs: Tabs, gochat: Gochat) -> None:
    """Text before the first ": " is shown as a bold name if it has at most 40 characters."""
    page = tabs.open(gochat)
    for text, name in (
        ("Ann: hello: you", "Ann"),
        (f"{'n' * 40}: hello", "n" * 40),
        (f"{'n' * 41}: hello", None),
        ("at 10:30", None),
        (": hello", None),
        ("hello", None),
    ):
        page.evaluate("text => socket.send(text)", text)
        message = page.locator(".message .text").last
        expect(message).to_have_text(text, use_inner_text=False)
        expect(message.locator(".name")).to_have_text([] if name is None else [name])
    weights = page.locator(".message").first.evaluate(
        "e => ['.name', '.text'].map(part => getComputedStyle(e.querySelector(part)).fontWeight)"
    )
    assert weights == ["700", "400"]


def test_names_and_texts_of_two_directions(tabs: Tabs, gochat: Gochat) -> None:
    """A right-to-left name does not affect the direction of the text after it."""
    page = tabs.open(gochat)
    where = """(message, part) => {
      const range = document.createRange();
      const walker = document.createTreeWalker(message, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const start = walker.currentNode.data.indexOf(part);
        if (start < 0) continue;
        range.setStart(walker.currentNode, start);
        range.setEnd(walker.currentNode, start + part.length);
        return range.getBoundingClientRect().left;
      }
    }"""
    for text, direction, parts in (  # the parts as they appear from left to right
        ("שלום: 3 apples, 5 pears", "ltr", ["שלום", "3", "apples", "5", "pears"]),
        ("Ann: אחת 3 שתיים", "rtl", ["שתיים", "3", "אחת", "Ann"]),
        ("שלום: https://example.org/a?", "ltr", ["שלום", "https:", "org/a", "?"]),
        ("שלום 3", "rtl", ["3", "שלום"]),
    ):
        page.evaluate("text => socket.send(text)", text)
        message = page.locator(".message .text").last
        expect(message).to_have_text(text, use_inner_text=False)
        assert message.evaluate("e => getComputedStyle(e).direction") == direction
        places = [message.evaluate(where, part) for part in parts]
        assert places == sorted(places), text


def test_links(tabs: Tabs, gochat: Gochat) -> None:
    """Addresses with http, https or www become links, without surrounding punctuation."""
    page = tabs.open(gochat)
    for text, links in (
        ("see http://example.org/.", ["http://example.org/"]),
        (
            "https://a.example/x?y=1#z, HTTPS://B.example!",
            ["https://a.example/x?y=1#z", "HTTPS://B.example"],
        ),
        ("(https://a.example/wiki/Go_(game))", ["https://a.example/wiki/Go_(game)"]),
        ("[http://[::1]:8080/]...", ["http://[::1]:8080/"]),
        (
            "\"https://a.example/q'\" 'https://a.example/'",
            ["https://a.example/q", "https://a.example/"],
        ),
        ("<https://a.example/><b>", ["https://a.example/"]),
        ("https://a.example/\u202egnp.exe", ["https://a.example/"]),
        *((f"https://a.example/{c}b", ["https://a.example/"]) for c in INVISIBLE),
        *((f"https://a{c}.example/", []) for c in ("\u2215b", "\u0430", "\u00fc", "\uff41")),
        ("https://a.example\u2215@b.example/ https://a.example@b.example/", []),
        (
            "https://a.example/\u00fc https://xn--mnchen-3ya.de",
            ["https://a.example/\u00fc", "https://xn--mnchen-3ya.de"],
        ),
        ("Ann: https://a.example/", ["https://a.example/"]),
        ("http:// https://. http://% xhttp://a.example http://:80 https://[x]/", []),
        ("javascript:alert(1) ftp://a.example data:text/html,x", []),
        ("www.example.org, (WWW.a.example/x)", ["www.example.org", "WWW.a.example/x"]),
        ("www. www.a www..b xwww.a.example ann@www.a.example www.a@b.example", []),
    ):
        say(page, text)
        message = page.locator(".message .text").last
        expect(message).to_have_text(text, use_inner_text=False)
        found = message.locator("a").evaluate_all("all => all.map(a => [a.textContent, a.href])")
        assert [shown for shown, _ in found] == links
        assert [unquote(target).rstrip("/").lower() for _, target in found] == [
            re.sub("^www", "https://www", link.rstrip("/").lower()) for link in links
        ]
    say(page, f"{gochat.url}/?a=b&c=<d>")
    link = page.locator(".message a").last
    expect(link).to_have_text(f"{gochat.url}/?a=b&c=")
    with tabs.context.expect_page() as opening, tabs.context.expect_event("request") as request:
        link.click()
    opened = opening.value
    expect_state(opened, "connected")
    assert opened.evaluate("window.opener") is None
    assert "referer" not in request.value.all_headers()
    expect_state(page, "connected")  # the page has not navigated


def test_the_time_of_arrival(tabs: Tabs, gochat: Gochat) -> None:
    tabs.shape(timezone_id="Asia/Kolkata")
    page = tabs.open(gochat)
    start = datetime.now(UTC)
    say(page, "what time is it?")
    stamp = page.locator(".message time")
    expect(stamp).to_have_count(1)
    date = datetime.fromisoformat(stamp.get_attribute("datetime") or "")
    rounding = timedelta(milliseconds=1)
    assert start - rounding <= date <= datetime.now(UTC) + rounding
    kolkata = timezone(timedelta(hours=5, minutes=30))
    assert stamp.text_content() == date.astimezone(kolkata).strftime("%H:%M:%S")


def test_the_time_is_seen_and_not_read_out(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    say(page, "hello")
    expect(page.locator(".message time")).to_be_visible()
    assert page.locator("#log").aria_snapshot() == '- log "Messages": hello'


def test_an_empty_log_says_why(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    shown = "log => getComputedStyle(log, '::before').content"
    text = "No messages yet. They appear here as they arrive; the server keeps no earlier ones."
    assert page.locator("#log").evaluate(shown) == f'"{text}"'
    say(page, "hello")
    expect_texts(page, "hello")
    assert page.locator("#log").evaluate(shown) == "none"


def test_the_title_counts_what_came_while_hidden(tabs: Tabs, gochat: Gochat) -> None:
    """The title of a hidden tab counts the messages that have arrived since it was hidden."""
    page = tabs.open(gochat)
    with join(gochat.port) as peer:
        send_all(peer, ["seen"])
        expect(page.locator(".message")).to_have_count(2)
        expect(page).to_have_title("gochat")
        hide(page, True)
        send_all(peer, ["one"])
        expect(page).to_have_title("(1) gochat")
        send_all(peer, ["two", "three"])
        expect(page).to_have_title("(3) gochat")
        hide(page, False)
        expect(page).to_have_title("gochat")
        send_all(peer, ["seen again"])
        expect(page.locator(".message")).to_have_count(6)
        expect(page).to_have_title("gochat")


@pytest.fixture(scope="module")
def whole_browser(browser: Browser) -> Iterator[Browser]:
    with whole(browser) as other:
        yield other


@pytest.fixture
def notifying(whole_browser: Browser) -> Iterator[Tabs]:
    """Tabs of a browser that can show notifications."""
    yield from tabs_of(whole_browser)


def test_notifications_are_off_until_asked_for(notifying: Tabs, gochat: Gochat) -> None:
    """A hidden page shows a notification for every message, but only if the box is ticked.

    A visible page without focus shows one only for messages that contain the user's @name.
    """
    notifying.context.grant_permissions(["notifications"], origin=gochat.url)
    notifying.context.add_init_script(  # keeps the real class, and records each call
        """window.shown = [];
        window.Notification = class extends Notification {
          constructor(title, options) {
            super(title, options);
            shown.push(`${title}: ${options.body}`);
          }
        };"""
    )
    page = notifying.open(gochat)
    page.locator("#name").fill("Ann")
    with join(gochat.port) as peer:
        expect(page.locator(".message")).to_have_count(1)
        hide(page, True)
        send_all(peer, ["nobody has asked"])
        expect(page).to_have_title("(1) gochat")
        hide(page, False)
        page.locator("#settings summary").click()
        page.get_by_label("Notify me").check()
        expect(page.locator("#notify")).to_be_checked()
        send_all(peer, ["it is seen, @Ann"])
        expect(page.locator(".message").last).to_have_text(re.compile("@Ann$"))
        hide(page, True)
        send_all(peer, ["Bob: hello", "Bob: are you there, @ann?"])
        expect(page).to_have_title("(2) gochat")
        hide(page, False)
        page.evaluate("document.hasFocus = () => false")  # a headless browser always has focus
        send_all(peer, ["Bob: hm", "Bob: @Ann!"])
        wait_until(lambda: page.evaluate("shown.length") == 3, "three notifications")
    assert page.evaluate("shown") == [
        "gochat: Bob: hello",
        "gochat: you are called: Bob: are you there, @ann?",
        "gochat: you are called: Bob: @Ann!",
    ]
    page.reload()
    expect(page.locator("#notify")).to_be_checked()
    page.locator("#settings summary").click()
    page.get_by_label("Notify me").uncheck()
    page.reload()
    expect(page.locator("#notify")).not_to_be_checked()


def test_notifications_that_are_forbidden(notifying: Tabs, gochat: Gochat) -> None:
    page = notifying.open(gochat)
    page.locator("#settings summary").click()
    page.locator("#notify").click()  # a headless browser forbids notifications without asking
    expect(page.locator("#notify-help")).to_have_text(
        "The browser has forbidden this page to notify you."
    )
    expect(page.locator("#notify")).not_to_be_checked()


# ---- Reading ----


def test_log_and_draft_survive_a_reload(tabs: Tabs, gochat: Gochat) -> None:
    """A reload keeps the log and the unsent text, and notes that messages may be missing.

    The page keeps 200 lines. Going back to the page also restores them, but another server's page
    does not show them.
    """
    page = tabs.open(gochat)
    page.locator("#name").fill("Ann")
    say(page, "mine")
    with join(gochat.port) as peer:
        send_all(peer, ["Bob: hello", *(f"old {i}" for i in range(250))])
        expect(page.locator(".message")).to_have_count(253)
        page.locator("#msg").fill("a draft\nof two lines")
        page.reload()
        expect_state(page, "connected")
        expect(page.locator(".message")).to_have_count(200)
        expect(page.locator("#msg")).to_have_value("a draft\nof two lines")
        assert page.locator("#msg").evaluate("e => e.clientHeight") > 48
        expect(page.locator(".note .text")).to_have_text(
            ["The page was loaded again. What others wrote meanwhile is missing here."]
        )
        page.reload()  # an immediate second reload adds no second note
        expect_state(page, "connected")
        say(page, "new")
        expect(page.locator(".message").last).to_have_text(re.compile("new$"))
        expect(page.locator(".note")).to_have_count(1)
        page.goto("about:blank")
        page.go_back()
        expect(page.locator(".message").last).to_have_text(re.compile("new$"))
    with Gochat() as other:
        page.goto(other.url)
        expect_state(page, "connected")
        expect_texts(page)
        page.close()  # before its server stops


def test_kept_lines_that_make_no_sense(tabs: Tabs, gochat: Gochat) -> None:
    """Stored lines that are damaged are skipped, and the others are still shown."""
    page = tabs.open(gochat)
    page.evaluate(
        """() => window.addEventListener('pagehide', () => {
          const stored = JSON.parse(sessionStorage.getItem('gochat.log'));
          const date = new Date();
          const good = { kind: 'message', text: 'good', date };
          stored.items = [null, 7, 'x', {}, good, { ...good, date: 'x' }, { ...good, text: 7 },
            { ...good, kind: 'x' }, { kind: 'note', text: 'x', lost: { text: 7 }, date },
            { ...good, text: 'too' }, null];
          sessionStorage.setItem('gochat.log', JSON.stringify(stored));
        })"""
    )
    page.reload()
    expect_state(page, "connected")
    expect_texts(page, "good", "too")
    expect(page.locator(".note")).to_have_count(1)


def test_a_message_on_its_way_at_a_reload(tabs: Tabs) -> None:
    """A message that was not echoed before a reload is marked as possibly lost."""
    with Gochat("--rate", "0.2", "--burst", "1") as gochat:
        page = tabs.open(gochat)
        say(page, "at once")
        expect_texts(page, "at once")
        say(page, "perhaps lost")
        page.reload()
        expect_state(page, "connected")
        expect(page.locator(".note .text").first).to_have_text(
            "This message has not come back and may be lost: perhaps lost Send again"
        )
        page.close()  # before its server stops


def test_own_messages_names_and_groups(tabs: Tabs, gochat: Gochat) -> None:
    """Your own messages are marked, and each name has a color.

    Consecutive messages from one person show the name once.
    """
    page, other = tabs.open(gochat), tabs.open(gochat)
    page.locator("#name").fill("Ann")
    say(page, "one")
    expect_texts(other, "Ann: one")
    say(page, "two")
    expect_texts(other, "Ann: one", "Ann: two")
    other.locator("#name").fill("Bob")
    say(other, "three")
    for tab, mine in ((page, [True, True, False]), (other, [False, False, True])):
        expect_texts(tab, "Ann: one", "Ann: two", "Bob: three")
        lines = tab.locator(".message")
        assert lines.evaluate_all("all => all.map(e => e.classList.contains('mine'))") == mine
        shown = lines.locator(".from").evaluate_all(
            "all => all.map(e => getComputedStyle(e).opacity)"
        )
        assert shown == ["1", "0", "1"]
        ann, _, bob = lines.locator(".name").evaluate_all(
            "all => all.map(e => getComputedStyle(e).color)"
        )
        assert ann != bob
    say(page, "four")
    expect(page.locator(".message .from").last).to_have_css("opacity", "1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_of_names_can_be_read(tabs: Tabs, gochat: Gochat, scheme: str) -> None:
    """All 16 name colors have a contrast of at least 4.5, on any message."""
    tabs.shape(color_scheme=scheme)
    page = tabs.open(gochat)
    page.evaluate("for (let i = 0; i < 40; i++) socket.send(`user ${i}: hello`)")
    expect(page.locator(".message")).to_have_count(40)
    seen = set()
    for own in (False, True):
        if own:
            page.evaluate("for (const e of ui.log.children) e.classList.add('mine')")
        for name in page.locator(".name").all():
            pair = colours(name)
            seen.add(pair)
            assert contrast(pair) >= 4.5, pair
    assert len(seen) == 16


def test_new_since_you_left(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    with join(gochat.port) as peer:
        expect(page.locator(".message")).to_have_count(1)
        for round_ in ("first", "second"):
            hide(page, True)
            send_all(peer, [f"{round_} a", f"{round_} b"])
            expect(page).to_have_title("(2) gochat")
            hide(page, False)
            send_all(peer, [f"{round_} c"])
            expect(page.locator(".message").last).to_have_text(re.compile(f"{round_} c$"))
    expect(page.locator(".mark")).to_have_text(["New since you left"])
    expect(page.locator(".mark + .message")).to_have_text(re.compile("second a$"))


def test_a_new_day(tabs: Tabs, gochat: Gochat) -> None:
    tabs.shape(timezone_id="Asia/Kolkata")
    tabs.context.clock.install(time=datetime(2025, 2, 14, 12, 0, tzinfo=UTC))
    page = tabs.open(gochat)
    # While the clock is stopped, the page cannot take the new day for a day of silence, and probe.
    page.clock.pause_at(datetime(2025, 2, 14, 12, 0, 20, tzinfo=UTC))
    for day in (14, 14, 15, 15):
        page.clock.set_fixed_time(datetime(2025, 2, day, 12, 0, tzinfo=UTC))
        count = page.locator(".message").count()
        say(page, f"on {day}")
        wait_until(lambda: page.evaluate("unconfirmed.length === 0"), "the message came back")
        page.clock.run_for(100)
        expect(page.locator(".message")).to_have_count(count + 1)
    expect(page.locator("#log > *")).to_have_text(
        [re.compile("on 14$")] * 2 + ["Saturday, February 15, 2025"] + [re.compile("on 15$")] * 2
    )


def test_a_text_with_a_colon_has_no_sender(tabs: Tabs, gochat: Gochat) -> None:
    """A text with a colon is not mistaken for a name and a message.

    If the user has no name, the page sends a no-break space after each colon.
    """
    page, other = tabs.open(gochat), tabs.open(gochat)
    say(page, "time: 10:30: now")
    for tab in (page, other):
        expect_texts(tab, "time:\u00a010:30:\u00a0now")
        expect(tab.locator(".name")).to_have_count(0)


def test_two_windows_with_one_name(tabs: Tabs, gochat: Gochat) -> None:
    page, other = tabs.open(gochat), tabs.open(gochat)
    for tab in (page, other):
        tab.locator("#name").fill("Ann")
    say(page, "one")
    expect_texts(other, "Ann: one")
    say(page, "two")
    expect_texts(other, "Ann: one", "Ann: two")
    expect(other.locator(".note .text")).to_have_text(
        ["Someone else also writes as “Ann”: perhaps you, in another window."]
    )
    expect(page.locator(".note")).to_have_count(0)


def test_copying_gives_lines(tabs: Tabs, gochat: Gochat) -> None:
    """Copying whole messages gives lines with time and name; copying a part gives just that."""
    tabs.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=gochat.url)
    page = tabs.open(gochat)
    page.locator("#name").fill("Ann")
    for text in ("hello", "see https://example.org/"):
        say(page, text)
    expect(page.locator(".message")).to_have_count(2)
    for select, copied in (
        (
            "s => s.selectAllChildren(ui.log)",
            r"\d\d:\d\d Ann: hello\n\d\d:\d\d Ann: see https://example.org/",
        ),
        ("s => s.selectAllChildren(ui.log.firstChild)", r"\d\d:\d\d Ann: hello"),
        ("s => s.selectAllChildren(ui.log.querySelector('a'))", r"https://example.org/"),
    ):
        page.evaluate(f"({select})(getSelection())")
        page.keyboard.press("Control+c")
        wait_until(
            lambda copied=copied: (
                re.fullmatch(  # type: ignore[misc]
                    copied, page.evaluate("navigator.clipboard.readText()")
                )
                is not None
            ),
            copied,
        )


# ---- Scrolling ----


def test_who_is_at_the_end_follows(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    with join(gochat.port) as peer:
        for i in range(3):
            send_all(peer, [f"{i}.{n}" for n in range(30)])
            expect(page.locator(".message").last).to_have_text(re.compile(rf"{i}\.29$"))
            assert below(page) < 1
            expect(page.locator("#jump")).to_be_hidden()
        assert scroll_top(page) > 0


def test_who_is_scrolled_up_stays(tabs: Tabs, gochat: Gochat) -> None:
    """A log that is scrolled up stays in place, and a button counts the messages below.

    The button leads to the end of the log, and is hidden there.
    """
    page = tabs.open(gochat)
    jump = page.locator("#jump")
    last = page.locator(".message").last
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message")).to_have_count(61)
        wheel(page, -700)
        message = page.locator(".message", has_text=re.compile(r"old 30$"))
        expect(message).to_be_in_viewport(ratio=1)
        place = scroll_top(page), top_of(message)
        send_all(peer, ["new 0"])
        expect(jump).to_have_text("1 new message below ↓")
        send_all(peer, [f"new {i}" for i in range(1, 30)])
        expect(jump).to_have_text("30 new messages below ↓")
        assert (scroll_top(page), top_of(message)) == place

        jump.click()
        expect(last).to_be_in_viewport(ratio=1)
        assert below(page) < 1
        expect(jump).to_be_hidden()
        expect(page.locator("#log")).to_be_focused()
        send_all(peer, ["newest"])  # the log follows new messages again
        expect(last).to_have_text(re.compile("newest$"))
        expect(last).to_be_in_viewport(ratio=1)

        wheel(page, -300)
        send_all(peer, ["another"])
        expect(jump).to_have_text("1 new message below ↓")
        page.locator("#log").press("End")
        expect(jump).to_be_hidden()
        wait_until(lambda: below(page) < 1, "at the end")


def test_scrolling_up_as_a_message_comes(tabs: Tabs, gochat: Gochat) -> None:
    """A message that arrives while the user scrolls up does not scroll the log down."""
    page = tabs.open(gochat)
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message")).to_have_count(61)
        page.evaluate(
            """() => {
              const log = document.getElementById('log');
              new MutationObserver((_, observer) => {
                observer.disconnect();
                log.scrollTop -= 10;
              }).observe(log, { childList: true });
            }"""
        )
        send_all(peer, ["new 0"])
        expect(page.locator(".message")).to_have_count(62)
        wait_until(lambda: below(page) == 10, "scrolled up")
        place = scroll_top(page)
        send_all(peer, ["new 1"])
        expect(page.locator("#jump")).to_have_text("1 new message below ↓")
        assert scroll_top(page) == place


def test_sending_goes_to_the_end(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message")).to_have_count(61)
        wheel(page, -700)
        say(page, "mine")
        expect(page.locator(".message").last).to_have_text(re.compile("mine$"))
        expect(page.locator(".message").last).to_be_in_viewport(ratio=1)
        assert peer.messages(1) == ["mine"]
        send_all(peer, [f"new {i}" for i in range(30)])
        expect(page.locator(".message").last).to_have_text(re.compile("new 29$"))
        expect(page.locator(".message").last).to_be_in_viewport(ratio=1)
        expect(page.locator("#jump")).to_be_hidden()


def test_the_log_is_bounded_and_keeps_the_place(tabs: Tabs) -> None:
    """Beyond 2,000 messages, the oldest are removed, but the visible ones do not move."""
    with Gochat("--send-buffer", "4096") as gochat:
        page = tabs.open(gochat)
        with join(gochat.port) as peer:
            send_all(peer, [f"old {i}" for i in range(1989)])
            expect(page.locator(".message").last).to_have_text(re.compile("old 1988$"))
            wheel(page, -700)
            message = page.locator(".message", has_text=re.compile(r"old 1960$"))
            place = top_of(message)
            send_all(peer, [f"new {i}" for i in range(50)])
            expect(page.locator("#jump")).to_have_text("50 new messages below ↓")
            assert top_of(message) == place
            assert page.locator(".message").count() == 2000
            expect(page.locator(".message").first).to_have_text(re.compile("old 39$"))
        page.close()  # before its server stops


def test_a_lower_window_keeps_the_end(tabs: Tabs, gochat: Gochat) -> None:
    """If the log's end is visible, it stays so when the window shrinks."""
    page = tabs.open(gochat)
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message")).to_have_count(61)
        page.set_viewport_size({"width": 500, "height": 320})
        wait_until(lambda: below(page) < 1, "at the end")
        send_all(peer, ["new"])
        expect(page.locator(".message").last).to_be_in_viewport(ratio=1)


# ---- Sending ----


def test_enter_and_the_button_send(tabs: Tabs, gochat: Gochat) -> None:
    with join(gochat.port) as peer:
        page = tabs.open(gochat)
        message = page.locator("#msg")
        expect(message).to_be_focused()  # ready to type
        say(page, "by Enter")
        expect(message).to_have_value("")
        message.fill("by the button")
        page.get_by_role("button", name="Send").click()
        expect(message).to_have_value("")
        for blank in ("", "   ", "\u00a0\u3000"):
            say(page, blank)
            page.get_by_role("button", name="Send").click()
        page.locator("#name").fill("Ann")
        say(page, "  ")
        say(page, "  after  ")
        # Everything sent earlier arrives first.
        assert peer.messages(3) == ["by Enter", "by the button", "Ann: after"]
    expect_texts(page, "by Enter", "by the button", "Ann: after")


def test_the_field_grows_with_its_lines(tabs: Tabs, gochat: Gochat) -> None:
    """Shift+Enter adds a line. The field shows up to six lines.

    Line breaks are sent as spaces.
    """
    page = tabs.open(gochat)
    field = page.locator("#msg")
    lines: list[float] = []
    for line in range(8):
        page.keyboard.type(f"line {line}")
        lines.append(field.evaluate("e => e.clientHeight"))
        page.keyboard.press("Shift+Enter")
    steps = [after - before for before, after in pairwise(lines)]
    assert steps == [24, 24, 24, 24, 24, 0, 0]
    expect(field).to_have_value("".join(f"line {line}\n" for line in range(8)))
    expect_texts(page)
    page.keyboard.press("Enter")
    expect_texts(page, " ".join(f"line {line}" for line in range(8)))
    expect(field).to_have_value("")
    assert field.evaluate("e => e.clientHeight") == lines[0]
    field.fill("pasted\r\nlines")
    assert field.evaluate("e => e.clientHeight") == lines[1]
    page.locator("#send").click()
    expect(page.locator(".message .text").last).to_have_text("pasted lines")


def test_typing_anywhere_goes_to_the_field(tabs: Tabs, gochat: Gochat) -> None:
    """Text typed anywhere goes to the message field, but shortcuts do not."""
    page = tabs.open(gochat)
    field = page.locator("#msg")
    page.locator("#log").click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Space")
    expect(field).not_to_be_focused()
    page.keyboard.type("hello")
    expect(field).to_be_focused()
    expect(field).to_have_value("hello")
    field.fill("")
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message")).to_have_count(61)
        wheel(page, -700)
        send_all(peer, ["new"])
        page.locator("#jump").click()
    page.keyboard.type("Ok")
    expect(field).to_have_value("Ok")
    page.locator("#name").focus()
    page.keyboard.type("Ann")
    expect(page.locator("#name")).to_have_value("Ann")


def test_a_low_window(tabs: Tabs, gochat: Gochat) -> None:
    """A window 180 px high, as above a phone's keyboard, shows two messages and all controls."""
    tabs.shape(viewport={"width": 640, "height": 180})
    page = tabs.open(gochat)
    for i in range(9):
        say(page, f"message {i}")
    expect(page.locator(".message")).to_have_count(9)
    last = page.locator(".message")
    for part in [
        last.nth(7),
        last.nth(8),
        *page.locator("#name, summary, #status, #msg, #send").all(),
    ]:
        expect(part).to_be_in_viewport(ratio=0.99)
    page.locator("#settings summary").click()
    page.locator("#connect").click()
    expect_state(page, "connected")


def test_a_low_window_that_waits(tabs: Tabs) -> None:
    """A small window shows two lines of the log while the page waits to reconnect."""
    tabs.may_lose_server = True
    tabs.shape(viewport={"width": 360, "height": 180})
    with Gochat() as gochat:
        page = tabs.open(gochat)
        page.clock.install()
        say(page, "hello")
        expect_texts(page, "hello")
        stop_clock(page)
        assert gochat.stop() == 0
    expect_state(page, "waiting")
    assert page.locator("#log").evaluate("log => log.clientHeight") >= 2 * 24
    for part in page.locator("#status, #retry, #msg, #send").all():
        expect(part).to_be_in_viewport(ratio=0.99)
    assert page.locator("#countdown").inner_text().startswith("Connecting again in ")
    bottom = "e => e.getBoundingClientRect().bottom"
    assert page.locator("#countdown").evaluate(bottom) <= page.locator("#status").evaluate(bottom)


def test_enter_that_ends_a_composition_does_not_send(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    page.locator("#msg").focus()
    devtools = tabs.context.new_cdp_session(page)
    composition = {"text": "にほん", "selectionStart": 3, "selectionEnd": 3}
    devtools.send("Input.imeSetComposition", composition)
    page.keyboard.press("Enter")
    expect(page.locator("#msg")).to_have_value("にほん")
    devtools.send("Input.insertText", {"text": "日本"})  # the end of the composition
    # Safari sends this Enter after the end of the composition, with keyCode 229.
    enter = {"type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r"}
    devtools.send("Input.dispatchKeyEvent", {**enter, "windowsVirtualKeyCode": 229})
    expect(page.locator("#msg")).to_have_value("日本")
    page.keyboard.press("Enter")
    expect_texts(page, "日本")

    page.locator("#name").focus()
    devtools.send("Input.imeSetComposition", composition)
    page.keyboard.press("Enter")
    expect(page.locator("#name")).to_be_focused()


def test_each_tab_has_its_own_name(tabs: Tabs, gochat: Gochat) -> None:
    """A tab keeps its name, even if empty. A new tab starts with the name typed last."""
    nameless, ann, bob = (tabs.open(gochat) for _ in range(3))
    ann.locator("#name").fill("Ann")
    bob.locator("#name").fill("Bob")
    carol = tabs.open(gochat)  # has only inherited its name
    expect(carol.locator("#name")).to_have_value("Bob")
    carol.close()
    for page, name in ((nameless, ""), (ann, "Ann"), (bob, "Bob")):
        page.reload()
        expect(page.locator("#name")).to_have_value(name)
    late = tabs.open(gochat)
    ann.locator("#name").fill("Anna")
    late.reload()
    expect(late.locator("#name")).to_have_value("Bob")


def test_the_name_is_in_front_and_is_kept(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    page.locator("#name").fill("  Ann Lee ")
    say(page, "hello")
    expect_texts(page, "Ann Lee: hello")
    page.reload()
    expect_state(page, "connected")
    expect(page.locator("#name")).to_have_value("Ann Lee")
    say(page, "again")
    expect_texts(page, "Ann Lee: hello", "Ann Lee: again")
    page.locator("#name").fill("")
    say(page, "without")
    expect_texts(page, "Ann Lee: hello", "Ann Lee: again", "without")
    page.reload()
    expect(page.locator("#name")).to_have_value("")


def test_a_name_with_a_colon(tabs: Tabs, gochat: Gochat) -> None:
    """The page warns that a name ends at its first colon and space."""
    page = tabs.open(gochat)
    refusal = page.locator("#refusal")
    page.locator("#name").fill("a: b")
    expect(refusal).to_have_text("Only what is before “: ” is shown as your name.")
    page.locator("#name").fill("a:b")
    expect(refusal).to_have_text("")


def test_without_storage_the_chat_works(tabs: Tabs, gochat: Gochat) -> None:
    for storage in ("localStorage", "sessionStorage"):
        tabs.context.add_init_script(
            f"Object.defineProperty(window, '{storage}', {{ get() {{ throw new Error('no'); }} }})"
        )
    page = tabs.open(gochat)
    page.locator("#name").fill("Ann")
    say(page, "hello")
    expect_texts(page, "Ann: hello")


def test_the_counter_counts_bytes(tabs: Tabs, gochat: Gochat) -> None:
    """The counter shows the size in UTF-8 bytes, including the name, and warns from 80 %."""
    page = tabs.open(gochat)
    counter = page.locator("#counter")
    expect(counter).to_have_text("0 / 512 bytes")
    expect(counter).to_have_attribute("data-level", "ok")
    page.locator("#name").fill("Zoë")
    expect(counter).to_have_text("0 / 512 bytes")  # a name alone is not a message
    front = len("Zoë: ".encode())
    for text, bytes_ in (
        ("a", 1),
        ("  a  ", 1),
        ("é", 2),
        ("☕", 3),
        ("🙂", 4),
        ("a\u2028b", 5),
        ("x" * (409 - front), 409 - front),
    ):
        page.locator("#msg").fill(text)
        expect(counter).to_have_text(f"{front + bytes_} / 512 bytes")
        expect(counter).to_have_attribute("data-level", "ok")
    for size, words in ((410, "(102 left)"), (512, "(0 left)")):
        page.locator("#msg").fill("x" * (size - front))
        expect(counter).to_have_text(f"{size} / 512 bytes {words}")
        expect(counter).to_have_attribute("data-level", "warn")
        expect(page.locator("#send")).to_have_attribute("aria-disabled", "false")
    page.locator("#msg").fill("x" * (513 - front))
    expect(counter).to_have_text("513 / 512 bytes (1 too many)")
    expect(counter).to_have_attribute("data-level", "over")
    expect(page.locator("#send")).to_have_attribute("aria-disabled", "true")
    # Half of a surrogate pair has no UTF-8 encoding. It is sent as U+FFFD, which has three bytes.
    page.locator("#msg").evaluate(
        "e => { e.value = 'a\\ud83d'; e.dispatchEvent(new Event('input')); }"
    )
    expect(counter).to_have_text(f"{front + 4} / 512 bytes")
    page.locator("#msg").press("Enter")
    expect_texts(page, "Zoë: a\ufffd")


def test_512_bytes_pass_and_513_are_kept_back(tabs: Tabs, gochat: Gochat) -> None:
    over, exact = "é" * 253 + "xx", "é" * 253 + "x"
    assert len(f"Ann: {exact}".encode()) == LIMIT
    with join(gochat.port) as peer:
        page = tabs.open(gochat)
        page.locator("#name").fill("Ann")
        say(page, over)
        expect(page.locator("#msg")).to_have_value(over)
        expect(page.locator("#refusal")).to_have_text(
            "Not sent: 513 bytes is over the limit of 512. Your text is kept."
        )
        page.locator("#send").click(force=True)
        expect(page.locator("#msg")).to_have_value(over)
        say(page, exact)
        expect(page.locator("#refusal")).to_have_text("")
        expect(page.locator("#msg")).to_have_value("")
        assert peer.messages(1) == [f"Ann: {exact}"]
    expect_texts(page, f"Ann: {exact}")
    expect_state(page, "connected")


def test_the_limit_is_the_servers(tabs: Tabs) -> None:
    """The page uses the server's --max-message-size as its limit."""
    tabs.context.clock.install()
    with Gochat("--max-message-size", "100") as gochat:
        page = tabs.open(gochat)
        counter = page.locator("#counter")
        expect(counter).to_have_text("0 / 100 bytes")
        page.locator("#msg").fill("x" * 80)
        expect(counter).to_have_text("80 / 100 bytes (20 left)")
        say(page, "x" * 101)
        expect(page.locator("#refusal")).to_have_text(
            "Not sent: 101 bytes is over the limit of 100. Your text is kept."
        )
        say(page, "x" * 100)
        expect_texts(page, "x" * 100)
        stop_clock(page)
        page.evaluate("socket.send('x'.repeat(101))")
        expect(page.locator("#state")).to_contain_text(
            "The message was too big for the server, which takes 100 bytes (code 1009"
        )
        page.close()  # before its server stops


def test_a_limit_that_has_changed(tabs: Tabs) -> None:
    """After reconnecting, the page asks the server for its limit again."""
    tabs.may_lose_server = True
    with Gochat("--addr", f"127.0.0.1:{free_port()}", "--max-message-size", "100") as gochat:
        page = tabs.open(gochat)
        expect(page.locator("#counter")).to_have_text("0 / 100 bytes")
        gochat.stop()
    expect_state(page, "waiting")
    with Gochat("--addr", f"127.0.0.1:{gochat.port}", "--max-message-size", "50"):
        expect(page.locator("#counter")).to_have_text("0 / 50 bytes")
        expect_state(page, "connected")
        say(page, "x" * 51)
        expect(page.locator("#refusal")).to_contain_text("over the limit of 50.")
        page.close()  # before its server stops


def test_a_limit_that_is_not_known(tabs: Tabs, gochat: Gochat) -> None:
    """On another server, the page does not know the limit, so it only counts bytes."""
    tabs.context.clock.install()
    page = tabs.open(gochat)
    flags = ("--max-message-size", "1000", "--allow-origin", gochat.url)
    with Gochat(*flags) as other:
        choose(page, f"127.0.0.1:{other.port}")
        expect(page.locator("#state")).to_contain_text("which is not this page's server")
        page.locator("#msg").fill("x" * 1000)
        expect(page.locator("#counter")).to_have_text("1000 bytes")
        expect(page.locator("#counter")).to_have_attribute("data-level", "ok")
        page.locator("#msg").press("Enter")
        expect_texts(page, "x" * 1000)
        stop_clock(page)
        say(page, "x" * 1001)
        expect(page.locator("#state")).to_have_text(
            re.compile(r"^The message was too big for the server \(code 1009")
        )
        page.locator("#settings summary").click()
        page.locator("#home").click()
        expect(page.locator("#counter")).to_have_text("0 / 512 bytes")


# ---- The connection ----


def test_a_killed_server_comes_back(tabs: Tabs) -> None:
    """The page says that the server is gone, and reconnects when it is back."""
    tabs.may_lose_server = True
    with Gochat("--addr", f"127.0.0.1:{free_port()}") as gochat:
        page, other = tabs.open(gochat), tabs.open(gochat)
        say(page, "before")
        expect_texts(other, "before")
        gochat.kill()
    status = page.locator("#status")
    expect_state(page, "waiting")
    expect(status).to_contain_text("code 1006")
    expect(status).to_contain_text(re.compile(r"Connecting again in \d+ s\."))
    expect(page.locator(".note .text").first).to_have_text(re.compile("^Disconnected"))
    say(page, "into the void")
    expect(page.locator("#refusal")).to_have_text("Not sent: not connected. Your text is kept.")
    expect(page.locator("#msg")).to_have_value("into the void")
    expect(page.locator("#send")).to_have_attribute("aria-disabled", "true")
    # After a failed attempt, the page says that it cannot connect.
    expect(status).to_contain_text(f"127.0.0.1:{gochat.port} cannot be reached (code 1006)")
    with Gochat("--addr", f"127.0.0.1:{gochat.port}"):
        for tab in (page, other):
            expect_state(tab, "connected")
        expect(page.locator("#refusal")).to_have_text("")
        expect(page.locator("#countdown")).to_have_text("")
        page.locator("#msg").press("Enter")
        say(other, "after")
        for tab in (page, other):
            expect(tab.locator(".message")).to_have_count(3)
            assert sorted(texts(tab)) == ["after", "before", "into the void"]


def test_a_server_that_stops_says_why(tabs: Tabs) -> None:
    """The page says that the server is going away. A button retries immediately."""
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Gochat("--addr", f"127.0.0.1:{free_port()}") as gochat:
        page = tabs.open(gochat)
        expect(page.locator("#retry")).to_be_hidden()
        stop_clock(page)
        assert gochat.stop() == 0
    expect_state(page, "waiting")
    expect(page.locator("#state")).to_have_text(
        "The server is going away or restarting (code 1001: “server is going away”)."
    )
    with Gochat("--addr", f"127.0.0.1:{gochat.port}"):
        # The page's clock is stopped, so only the button can connect.
        page.get_by_role("button", name="Try now").click()
        expect_state(page, "connected")
        expect(page.locator("#msg")).to_be_focused()


def test_a_message_that_may_be_lost(tabs: Tabs) -> None:
    """Messages that did not come back before the connection broke can be sent again.

    Each has a note with a button. While the page is disconnected, the button says why it cannot
    send. After sending, the button disappears.
    """
    tabs.may_lose_server = True
    with Gochat("--addr", f"127.0.0.1:{free_port()}") as gochat:
        page = tabs.open(gochat)
        say(page, "arrived")
        expect_texts(page, "arrived")
        gochat.pause()
        say(page, "perhaps lost")
        expect(page.locator("#msg")).to_have_value("")
        gochat.kill()
    expect_state(page, "waiting")
    notes, again = page.locator(".note .text"), page.get_by_role("button", name="Send again")
    lost = "This message has not come back and may be lost: perhaps lost"
    expect(notes).to_have_text([re.compile("^Disconnected"), f"{lost} Send again"])
    again.click()
    expect(page.locator("#refusal")).to_have_text("Not sent: not connected.")
    expect(again).to_be_visible()
    with Gochat("--addr", f"127.0.0.1:{gochat.port}"):
        expect_state(page, "connected")
        expect(notes).to_have_text(
            [re.compile("^Disconnected"), f"{lost} Send again", "Connected again."]
        )
        for stamp in page.locator(".note time").all():
            expect(stamp).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
        page.locator("#msg").focus()
        page.keyboard.press("Shift+Tab")
        assert focused(page) == ("button", True)
        page.keyboard.press("Enter")
        expect_texts(page, "arrived", "perhaps lost")
        expect(again).to_have_count(0)
        expect(notes.nth(1)).to_have_text(lost)
        expect(page.locator("#msg")).to_be_focused()
        page.close()  # before its server stops


def test_a_lost_message_goes_to_its_own_server_only(tabs: Tabs, gochat: Gochat) -> None:
    tabs.may_lose_server = True
    with Gochat("--allow-origin", gochat.url) as other:
        page = tabs.open(gochat)
        choose(page, f"127.0.0.1:{other.port}")
        expect(page.locator("#state")).to_contain_text("which is not this page's server")
        other.pause()
        say(page, "for the other room")
        page.locator("#settings summary").click()
        page.locator("#home").click()
        expect(page.locator("#state")).to_have_text(f"Connected to 127.0.0.1:{gochat.port}.")
        page.get_by_role("button", name="Send again").click()
        expect(page.locator("#refusal")).to_have_text("Not sent: this was for another server.")
        say(page, "home")
        expect_texts(page, "home")
        other.kill()
    expect(page.get_by_text("Connected again.")).to_have_count(0)


def test_notes_below_count(tabs: Tabs) -> None:
    """The jump button counts both messages and notes. Notes do not scroll the log."""
    tabs.may_lose_server = True
    with Gochat("--addr", f"127.0.0.1:{free_port()}") as gochat:
        page = tabs.open(gochat)
        jump = page.locator("#jump")
        with join(gochat.port) as peer:
            send_all(peer, [f"old {i}" for i in range(60)])
            expect(page.locator(".message")).to_have_count(61)
            gochat.pause()
            say(page, "lost")
            wheel(page, -700)
            place = scroll_top(page)
            gochat.kill()
    expect(jump).to_have_text("2 new notes below ↓")
    with Gochat("--addr", f"127.0.0.1:{gochat.port}") as gochat:
        expect(jump).to_have_text("3 new notes below ↓")
        with join(gochat.port):
            expect(jump).to_have_text("3 new notes and 1 new message below ↓")
            assert scroll_top(page) == place
            jump.click()
            expect(page.get_by_text("Connected again.")).to_be_in_viewport(ratio=1)
            expect(jump).to_be_hidden()
        page.close()  # before its server stops


@pytest.mark.parametrize(
    ("code", "sent", "words"),
    [
        (1007, "new Uint8Array([255])", "The server got text that is not valid UTF-8"),
        (1009, "'x'.repeat(513)", "The message was too big for the server, which takes 512 bytes"),
    ],
    ids=["1007", "1009"],
)
def test_what_a_server_closes_for(
    tabs: Tabs, gochat: Gochat, code: int, sent: str, words: str
) -> None:
    """When the server closes the connection, the page explains the close code.

    The page would refuse to send these messages, so the test uses the page's socket.
    """
    tabs.context.clock.install()
    page = tabs.open(gochat)
    stop_clock(page)
    page.evaluate(f"socket.send({sent})")
    expect_state(page, "waiting")
    expect(page.locator("#state")).to_have_text(re.compile(rf"^{re.escape(words)} \(code {code}\b"))
    page.clock.resume()
    expect_state(page, "connected")  # the page has reconnected by itself


def test_a_client_that_is_dropped(tabs: Tabs) -> None:
    """If the hub disconnects a page for being slow, the page says so and reconnects."""
    tabs.context.clock.install()
    with Gochat("--send-buffer", "1") as gochat:
        page = tabs.open(gochat)
        stop_clock(page)

        def flood() -> bool:
            with Peer(gochat.port) as peer:
                assert peer.open().status == 101
                for i in range(200):
                    peer.send(str(i))
            return page.locator("#status").get_attribute("data-state") == "waiting"

        wait_until(flood, "dropped")
        expect(page.locator("#state")).to_have_text(
            "The server closed the connection, as it does when a client reads too slowly"
            " (code 1005)."
        )
        page.clock.resume()
        expect_state(page, "connected")
        page.close()  # before its server stops


def test_close_codes_in_words(tabs: Tabs, gochat: Gochat) -> None:
    sockets: list[WebSocketRoute] = []

    def take(socket: WebSocketRoute) -> None:
        sockets.append(socket)

    tabs.context.clock.install()
    tabs.context.route_web_socket(re.compile("/ws$"), take)
    page = tabs.open(gochat)
    stop_clock(page)
    for code, words in (
        (1000, "The server closed the connection, as it does when a client reads too slowly"),
        (1008, "The server refused this because of its policy"),
        (1011, "The server failed"),
        (1012, "The server is restarting"),
        (1013, "The server is too busy, and asks for another attempt later"),
        (4000, "The server closed the connection"),
    ):
        expect_state(page, "connected")
        sockets.pop().close(code=code, reason="just so")
        expect(page.locator("#state")).to_have_text(f"{words} (code {code}: “just so”).")
        page.locator("#retry").click()


def test_a_server_that_does_not_answer(tabs: Tabs, gochat: Gochat) -> None:
    tabs.may_lose_server = True
    tabs.context.clock.install()
    page = tabs.open(gochat)
    stop_clock(page)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        choose(page, f"127.0.0.1:{port}")
        expect_state(page, "connecting")
        page.clock.fast_forward(9_999)
        expect_state(page, "connecting")
        page.clock.fast_forward(1)
        expect_state(page, "waiting")
        expect(page.locator("#state")).to_have_text(
            f"No answer from 127.0.0.1:{port} within 10 seconds."
        )


def test_leaving_is_no_error(tabs: Tabs) -> None:
    with Gochat() as gochat:
        # The server logs its address before it opens its last descriptor, the selector.
        opened = Path(f"/proc/{gochat.process.pid}/fd")
        wait_until(lambda: "anon_inode:[eventpoll]" in map(os.readlink, opened.iterdir()), "accept")
        alone = gochat.descriptors()
        for leave in ("back", "elsewhere", "close"):
            page = tabs.context.new_page()
            page.goto("about:blank")
            page.goto(gochat.url)
            expect_state(page, "connected")
            before = len(gochat.lines)
            if leave == "back":
                page.go_back()
            elif leave == "elsewhere":
                page.goto("data:text/html,bye")
            else:
                page.close()
            wait_until(lambda: gochat.descriptors() == alone, "it has gone")
            assert gochat.lines[before:] == []


def test_without_websocket(tabs: Tabs, gochat: Gochat) -> None:
    """Without WebSocket, the page says that it cannot work and hides its settings."""
    tabs.context.add_init_script("delete window.WebSocket")
    page = tabs.open(gochat, "unsupported")
    expect(page.locator("#status")).to_have_text(
        re.compile("This browser does not support WebSocket, which the chat needs.")
    )
    expect(page.locator("#settings")).to_be_hidden()
    say(page, "hello?")
    expect(page.locator("#refusal")).to_have_text("Not sent: not connected. Your text is kept.")
    expect(page.locator("#msg")).to_have_value("hello?")


# ---- Is the connection alive? ----
#
# After 45 seconds without data, the page opens a second connection, the probe. If the server
# accepts it, the probe replaces the first connection.


def expect_sockets(page: Page, tabs: Tabs, *open_: bool) -> None:
    """Wait until these are the page's connections, oldest first: True if open, False if closed."""

    def states() -> list[bool]:
        page.title()  # Playwright delivers events only during its calls
        return [not socket.is_closed() for socket in tabs.sockets]

    with suppress(AssertionError):  # the assertion below shows more
        wait_until(lambda: states() == list(open_))
    assert states() == list(open_)


def test_a_message_into_a_dead_network(tabs: Tabs, gochat: Gochat) -> None:
    """A message that does not come back is shown as waiting after 3 s.

    After another 5 s, the page gives up the connection. When the network is back, the page
    reconnects and offers to send the message again.
    """
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Network(gochat.port) as network:
        page = tabs.open(network)
        status, late = page.locator("#status"), page.locator("#late")
        say(page, "arrived")
        expect_texts(page, "arrived")
        stop_clock(page)
        network.mode = "swallow"
        network.cut()
        say(page, "into nothing")
        passed = run_until(page, "!ui.late.hidden")
        assert 3_000 <= passed <= 4_250
        expect(late).to_have_text("waiting…into nothing")
        expect(status).to_contain_text("1 message has not come back yet.")
        expect_sockets(page, tabs, True, True)
        say(page, "and another")
        passed += run_until(page, "ui.status.dataset.state === 'waiting'")
        assert 8_000 <= passed <= 9_500
        expect(page.locator("#state")).to_have_text(
            f"The connection is dead: 127.0.0.1:{network.port} has not answered for 5 seconds."
        )
        expect(late).to_be_hidden()
        network.mode = "forward"
        page.clock.resume()
        expect_state(page, "connected")
        lost = "This message has not come back and may be lost:"
        expect(page.locator(".note .text")).to_have_text(
            [
                re.compile("^Disconnected"),
                f"{lost} into nothing Send again",
                f"{lost} and another Send again",
                "Connected again.",
            ]
        )
        page.get_by_role("button", name="Send again").first.click()
        expect_texts(page, "arrived", "into nothing")
        page.close()  # before its network stops


def test_silence_in_a_dead_network(tabs: Tabs, gochat: Gochat) -> None:
    """The page notices a dead network within about 50 seconds, even if nobody sends."""
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Network(gochat.port) as network:
        page = tabs.open(network)
        stop_clock(page)
        network.mode = "swallow"
        network.cut()
        run_to_silence(page, 44_900)
        expect_sockets(page, tabs, True)
        assert 5_000 <= run_until(page, "ui.status.dataset.state === 'waiting'") <= 6_500
        expect(page.locator("#state")).to_contain_text("The connection is dead")
        page.close()  # before its network stops


def test_a_slow_server_is_not_a_dead_one(tabs: Tabs) -> None:
    """A message delayed by --rate is shown as waiting, and the connection stays."""
    with Gochat("--rate", "0.2", "--burst", "1") as gochat:
        page = tabs.open(gochat)
        say(page, "at once")
        expect_texts(page, "at once")
        say(page, "after five seconds")
        expect(page.locator("#late")).to_have_text("waiting…after five seconds")
        expect(page.locator("#doubt")).to_have_text("1 message has not come back yet.")
        expect_texts(page, "at once", "after five seconds")
        expect(page.locator("#late")).to_be_hidden()
        expect(page.locator("#doubt")).to_have_text("")
        expect_sockets(page, tabs, True, False)
        expect(page.locator(".note")).to_have_count(0)
        page.close()  # before its server stops


def test_a_connection_that_alone_is_dead(tabs: Tabs, gochat: Gochat) -> None:
    """If only the connection is dead, a new one replaces it within a minute.

    Notes say since when messages may be missing, and that one sent on the old connection may be
    lost.
    """
    tabs.context.clock.install()
    with Network(gochat.port) as network:
        page = tabs.open(network)
        stop_clock(page)
        network.cut()
        say(page, "unheard")
        page.clock.run_for(4_000)
        expect_sockets(page, tabs, True, False)  # the network works, so the message gets more time
        heard = page.evaluate("clock(new Date(heardAt))")
        run_until(page, "probe !== null")
        assert page.evaluate("Date.now() - unconfirmed[0].at") < 51_000
        wait_until(lambda: page.evaluate("probe.readyState") == 1, "open")
        page.clock.run_for(1_000)
        say(page, "heard")
        wait_until(lambda: page.evaluate("unconfirmed.length") == 1, "the second has come back")
        page.clock.run_for(100)
        expect_texts(page, "heard")
        expect(page.locator("#late")).to_have_text("waiting…unheard")
        expect_state(page, "connected")
        page.clock.run_for(31_000)
        expect(page.locator(".note .text")).to_have_text(
            [
                f"The connection had died. What others wrote after {heard} may be missing here.",
                "This message has not come back and may be lost: unheard Send again",
            ]
        )
        expect(page.locator("#late")).to_be_hidden()
        page.close()  # before its network stops


def test_a_silent_room(tabs: Tabs, gochat: Gochat) -> None:
    tabs.context.clock.install()
    page = tabs.open(gochat)
    stop_clock(page)
    run_to_silence(page, 46_000)
    expect_sockets(page, tabs, True, True)
    wait_until(lambda: page.evaluate("probe.readyState") == 1, "open")
    page.clock.run_for(1_000)
    assert page.evaluate("probe === null")  # the connection is replaced, not yet closed
    page.clock.run_for(5_000)
    expect_sockets(page, tabs, False, True)
    # A message that arrives while both connections are open appears once.
    run_to_silence(page, 46_000)
    expect_sockets(page, tabs, False, True, True)
    wait_until(lambda: page.evaluate("probe.readyState") == 1, "open")
    with join(gochat.port) as peer:
        send_all(peer, ["hello"])
        wait_until(lambda: page.evaluate("arrived.length") == 2, "both have come")
    page.clock.run_for(5_000)
    expect(page.locator(".message .text")).to_have_count(2)
    wait_until(lambda: page.title() != "" and sum(s.is_closed() for s in tabs.sockets) == 2, "one")
    expect(page.locator(".note")).to_have_count(0)
    expect(page.locator("#doubt")).to_have_text("")
    expect_state(page, "connected")


def test_a_probe_that_is_refused(tabs: Tabs, gochat: Gochat) -> None:
    """A server that refuses the probe counts as alive, until the third refusal."""
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Network(gochat.port) as network:
        page = tabs.open(network)
        stop_clock(page)
        network.mode = "refuse"
        network.cut()
        run_to_silence(page, 45_000)
        for refusals in (1, 2):
            page.clock.run_for(1_000)
            wait_until(lambda n=refusals: page.evaluate("refusals") == n, "refused")  # type: ignore[misc]
            expect_state(page, "connected")
            page.clock.run_for(45_000)
        page.clock.run_for(1_000)
        expect_state(page, "waiting")
        expect(page.locator("#state")).to_have_text(
            re.compile(
                r"^Nothing has come for 1[34]\d seconds, and"
                rf" 127.0.0.1:{network.port} refuses another connection\.$"
            )
        )
        page.close()  # before its network stops


def probe_takes_over(page: Page) -> None:
    """Wait until 45 silent seconds have passed and the probe has replaced the connection."""
    run_to_silence(page, 46_000)
    wait_until(lambda: page.evaluate("probe.readyState") == 1, "open")
    page.clock.run_for(1_000)
    assert page.evaluate("probe === null && openedAt > 0")


def test_what_was_held_up_is_shown(tabs: Tabs, gochat: Gochat) -> None:
    """Messages that arrive late on a replaced connection are shown once it closes."""
    tabs.context.clock.install()
    with Network(gochat.port) as network, join(gochat.port) as peer:
        page = tabs.open(network)
        stop_clock(page)
        network.hold()
        send_all(peer, ["LOST?", "twice"])
        probe_takes_over(page)
        send_all(peer, ["twice", "both"])
        wait_until(lambda: page.evaluate("arrived.length") == 2, "the new messages")
        network.release()
        send_all(peer, ["after"])
        wait_until(lambda: page.evaluate("arrived.length") == 3, "the new messages")
        page.wait_for_timeout(200)  # the late messages arrive, too
        page.clock.run_for(5_500)
        expect_sockets(page, tabs, False, True)
        page.clock.run_for(100)
        expect_texts(page, "twice", "both", "after", "LOST?", "twice")
        expect(page.locator(".note")).to_have_count(0)
        page.close()  # before its network stops


def test_what_was_held_up_too_long_is_noted(tabs: Tabs, gochat: Gochat) -> None:
    """Messages that arrive while a connection closes are lost, and a note says so."""
    tabs.context.clock.install()
    with Network(gochat.port) as network, join(gochat.port) as peer:
        page = tabs.open(network)
        stop_clock(page)
        heard = page.evaluate("clock(new Date(heardAt))")
        network.hold()
        send_all(peer, ["LOST?"])
        probe_takes_over(page)
        page.clock.run_for(10_000)
        network.release()
        expect_sockets(page, tabs, False, True)
        page.clock.run_for(100)
        expect(page.locator(".note .text")).to_have_text(
            [f"The connection was held up. What others wrote after {heard} may be missing here."]
        )
        expect_texts(page)
        page.close()  # before its network stops


def test_a_full_server_keeps_its_clients(tabs: Tabs) -> None:
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Gochat("--max-clients", "4") as gochat, ExitStack() as others:
        # The server logs its address before it opens its last descriptor, the selector.
        opened = Path(f"/proc/{gochat.process.pid}/fd")
        wait_until(lambda: "anon_inode:[eventpoll]" in map(os.readlink, opened.iterdir()), "accept")
        descriptors = gochat.descriptors()
        page = tabs.open(gochat)
        expect_sockets(page, tabs, True)
        # Wait until the connection that loaded the page and the browser's spare one have ended.
        wait_until(lambda: gochat.descriptors() == descriptors + 1, "the page's connection alone")
        for _ in range(3):
            assert others.enter_context(Peer(gochat.port)).open().status == 101
        with Peer(gochat.port) as late:
            assert late.open().status == 503
        stop_clock(page)
        run_to_silence(page, 45_000)
        before = len(tabs.requests)
        for refusals in (1, 2, 0, 1):
            page.clock.run_for(1_000)
            wait_until(lambda n=refusals: page.evaluate("refusals") == n, "refused")  # type: ignore[misc]
            expect_state(page, "connected")
            page.clock.run_for(45_000)
        assert tabs.requests[before:] == [f"{gochat.url}/"]
        expect_sockets(page, tabs, True, False, False, False, False)
        say(page, "still here")
        wait_until(lambda: page.evaluate("arrived.length") == 1, "it has come")
        page.close()  # before its server stops


def test_a_hidden_tab_does_not_probe(tabs: Tabs, gochat: Gochat) -> None:
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Network(gochat.port) as network:
        page = tabs.open(network)
        stop_clock(page)
        network.mode = "swallow"
        network.cut()
        hide(page, True)
        page.clock.run_for(300_000)
        expect_sockets(page, tabs, True)
        hide(page, False)
        expect_sockets(page, tabs, True, True)
        assert 4_750 <= run_until(page, "ui.status.dataset.state === 'waiting'") <= 5_250
        page.close()  # before its network stops


def test_offline_and_online(tabs: Tabs, gochat: Gochat) -> None:
    """The page says when the browser is offline. Back online, it probes or reconnects."""
    tabs.may_lose_server = True
    tabs.context.clock.install()
    with Network(gochat.port) as network:
        page = tabs.open(network)
        stop_clock(page)
        offline = page.get_by_text("The browser is offline.")
        tabs.context.set_offline(True)
        expect(offline).to_be_visible()
        tabs.context.set_offline(False)
        expect(offline).to_be_hidden()
        expect_sockets(page, tabs, True, True)
        wait_until(lambda: page.evaluate("probe.readyState") == 1, "open")
        page.clock.run_for(6_000)
        expect_sockets(page, tabs, False, True)

        network.mode = "swallow"
        network.cut()
        tabs.context.set_offline(True)
        say(page, "hello?")
        run_until(page, "ui.status.dataset.state === 'waiting'")
        expect(page.locator("#state")).to_contain_text("The connection is dead")
        expect(offline).to_be_visible()
        network.mode = "forward"
        tabs.context.set_offline(False)
        expect_state(page, "connected")  # although the clock is stopped
        page.close()  # before its network stops


# ---- Another server ----


def test_another_server_refuses_a_foreign_page(tabs: Tabs, gochat: Gochat) -> None:
    """A page cannot connect to another server by default, and says why.

    It can return to its own server.
    """
    tabs.may_lose_server = True
    page = tabs.open(gochat)
    with Gochat() as other:
        choose(page, f"127.0.0.1:{other.port}")
        expect_state(page, "waiting")
        expect(page.locator("#status")).to_contain_text(
            f"127.0.0.1:{other.port} cannot be reached, or refuses pages from {gochat.url}"
        )
        wait_until(lambda: other.logged(f"origin '{gochat.url}' may not connect"), "refused")
        page.locator("#settings summary").click()
        page.get_by_role("button", name="Back to this page's server").click()
        expect_state(page, "connected")
        expect(page.locator("#state")).to_have_text(f"Connected to 127.0.0.1:{gochat.port}.")
        say(page, "home")
        expect_texts(page, "home")


def test_another_server_allows_the_page(tabs: Tabs, gochat: Gochat) -> None:
    """With --allow-origin, a page can use another server instead of its own."""
    page = tabs.open(gochat)
    with Gochat("--allow-origin", gochat.url) as other:
        choose(page, f"http://127.0.0.1:{other.port}/")  # as copied from a browser
        expect(page.locator("#state")).to_have_text(
            f"Connected to 127.0.0.1:{other.port}, which is not this page's server."
        )
        wait_until(lambda: page.title() != "" and tabs.sockets[0].is_closed(), "one connection")
        expect(page.locator("#settings")).not_to_have_attribute("open", "")
        expect(page.locator("#msg")).to_be_focused()
        with join(gochat.port) as here, join(other.port) as there:
            say(page, "over there")
            assert there.messages(1) == ["over there"]
            there.send("from there")
            here.send("from here")
            assert here.messages(1) == ["from here"]
        # The log has the peer's greeting, but nothing from the page's own server.
        expect(page.locator(".message")).to_have_count(3)
        assert texts(page)[1:] == ["over there", "from there"]
        page.locator("#settings summary").click()
        page.locator("#home").click()
        expect(page.locator("#state")).to_have_text(f"Connected to 127.0.0.1:{gochat.port}.")
        say(page, "home again")
        expect(page.locator(".message").last).to_have_text(re.compile("home again$"))
        page.locator("#settings summary").click()
        expect(page.locator("#server")).to_have_value(f"127.0.0.1:{gochat.port}")
        expect(page.locator("#home")).to_be_hidden()


def test_nonsense_for_an_address(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    field = page.locator("#server")
    choose(page, "http://", remember=True)
    for address, words in (
        ("http://", "“http://” is not the address of a server. Write, for example,"),
        ("two words", "“two words” is not the address of a server. Write, for example,"),
        ("host:port", "“host:port” is not the address of a server. Write, for example,"),
        ("host:", "“host:” is not the address of a server. Write, for example,"),
        ("8080", "“8080” is not the address of a server. Write, for example,"),
        ("ftp://host", "A gochat server cannot be reached by ftp://. Write, for example,"),
        ("ann:pass@host", "An address with a user name or password cannot be used."),
    ):
        field.fill(address)
        page.locator("#connect").click()
        expect(page.get_by_role("alert")).to_contain_text(words)
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
    expect_state(page, "connected")
    assert len(tabs.sockets) == 1
    say(page, "still here")
    expect_texts(page, "still here")
    field.fill(f"127.0.0.1:{gochat.port}/")
    field.press("Enter")
    expect(page.locator("#server-error")).to_be_hidden()
    expect(field).to_have_attribute("aria-invalid", "false")
    expect_state(page, "connected")


def test_a_server_is_remembered_only_when_asked_for(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    state = page.locator("#state")
    own = f"Connected to 127.0.0.1:{gochat.port}."
    with Gochat("--allow-origin", gochat.url) as other:
        away = f"Connected to 127.0.0.1:{other.port}, which is not this page's server."
        for remember in (False, True, False):
            choose(page, f"127.0.0.1:{other.port}", remember=remember)
            expect(state).to_have_text(away)
            page.reload()
            expect(state).to_have_text(away if remember else own)
            expect(page.locator("#remember")).to_be_checked(checked=remember)
        choose(page, f"127.0.0.1:{other.port}", remember=True)
        expect(state).to_have_text(away)
        page.locator("#settings summary").click()
        page.locator("#home").click()  # also forgets the address
        expect(state).to_have_text(own)
        expect(page.locator("#remember")).not_to_be_checked()
        page.reload()
        expect(state).to_have_text(own)
        expect(page.locator("#remember")).not_to_be_checked()


def test_a_page_opened_from_a_file(tabs: Tabs) -> None:
    """A page opened from a file tells the user about --allow-origin null, and works with it."""
    tabs.may_lose_server = True
    need = (
        "For a page that was opened from a file, the server must be started with --allow-origin"
        " null. That server then accepts every page, no matter whose, that was opened from a file"
        " or is in a sandboxed frame."
    )
    page = tabs.context.new_page()
    page.goto((Path(__file__).parent.parent / "static" / "home.html").as_uri())
    expect_state(page, "closed")
    expect(page.locator("#counter")).to_have_text("0 bytes")
    expect(page.locator("#send")).to_have_css("border-radius", "9.6px")  # style.css is loaded
    expect(page.locator("#state")).to_have_text(
        f"This page has no server of its own. Give an address under “Settings”. {need}"
    )
    with Gochat() as strict, Gochat("--allow-origin", "null") as open_:
        choose(page, f"127.0.0.1:{strict.port}")
        expect_state(page, "waiting")
        expect(page.locator("#state")).to_have_text(
            f"127.0.0.1:{strict.port} cannot be reached, or refuses pages from null (code 1006)."
            f" {need}"
        )
        choose(page, f"127.0.0.1:{open_.port}")
        expect_state(page, "connected")
        say(page, "from a file")
        expect_texts(page, "from a file")
        page.close()  # before its server stops


def test_a_click_outside_closes_the_panel(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    page.locator("#settings summary").click()
    page.locator("#panel").click(position={"x": 5, "y": 5})
    page.get_by_text("Server's address").click()
    expect(page.locator("#panel")).to_be_visible()
    page.locator("#log").click(position={"x": 5, "y": 200})
    expect(page.locator("#panel")).to_be_hidden()


# ---- Accessibility ----


def test_roles_and_labels(tabs: Tabs, gochat: Gochat) -> None:
    page = tabs.open(gochat)
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page).to_have_title("gochat")
    page.locator("#settings summary").click()
    for role, name in (
        ("heading", "gochat"),
        ("log", "Messages"),
        ("textbox", "Your name"),
        ("textbox", "Message"),
        ("textbox", "Server's address"),
        ("checkbox", "Remember it in this browser"),
        ("checkbox", "Notify me"),
        ("button", "Connect"),
        ("button", "Send"),
    ):
        expect(page.get_by_role(role, name=name, exact=True)).to_be_visible()  # type: ignore[arg-type]
    for field, name in (("#name", "Your name"), ("#msg", "Message")):
        # Not every browser uses the placeholder as the accessible name.
        expect(page.locator(field)).to_have_attribute("aria-label", name)
    for landmark in ("banner", "main", "contentinfo", "status"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    expect(page.get_by_role("status")).to_contain_text("Connected to")
    expect(page.locator("#log")).to_have_attribute("aria-live", "polite")
    expect(page.locator("#msg")).to_have_accessible_description("0 / 512 bytes")
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))


def focused(page: Page) -> tuple[str, bool]:
    """Return the focused element's id or tag, and whether its focus ring is visible."""
    name, style, width = page.evaluate(
        """() => {
          const style = getComputedStyle(document.activeElement);
          const name = document.activeElement.id || document.activeElement.localName;
          return [name, style.outlineStyle, parseFloat(style.outlineWidth)];
        }"""
    )
    return name, style == "solid" and width >= 2


def test_a_chat_by_keyboard_alone(tabs: Tabs, gochat: Gochat) -> None:
    """Everything works by keyboard. Tab follows the order on the page, and the focus is visible."""
    page = tabs.open(gochat)
    press, write = page.keyboard.press, page.keyboard.type
    expect(page.locator("#msg")).to_be_focused()
    for name in ("log", "summary", "name"):
        press("Shift+Tab")
        assert focused(page) == (name, True)
    for name in ("summary", "log", "msg", "send"):
        press("Tab")
        assert focused(page) == (name, True)
    page.locator("#name").focus()
    write("Ann")
    press("Enter")
    assert focused(page) == ("msg", True)
    write("by Enter")
    press("Enter")
    write("by Space")
    press("Tab")
    press("Space")
    expect_texts(page, "Ann: by Enter", "Ann: by Space")
    press("Shift+Tab")
    assert focused(page) == ("msg", True)

    # The log scrolls by keyboard, and the jump button comes next in the tab order.
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message")).to_have_count(63)
        press("Shift+Tab")
        press("Home")
        wait_until(lambda: scroll_top(page) == 0, "at the top")
        send_all(peer, ["new"])
        expect(page.locator("#jump")).to_be_visible()
    press("Tab")
    assert focused(page) == ("jump", True)
    press("Enter")
    expect(page.locator("#jump")).to_be_hidden()
    assert focused(page)[0] == "log"
    wait_until(lambda: below(page) < 1, "at the end")

    # The panel is in the tab order and closes with Escape.
    press("Shift+Tab")
    press("Enter")
    for name in ("server", "remember", "connect", "notify"):
        press("Tab")
        assert focused(page) == (name, True)
    press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    assert focused(page) == ("summary", True)


def test_a_phone(tabs: Tabs, gochat: Gochat) -> None:
    """At a phone's width, nothing scrolls sideways, and typing does not zoom in."""
    tabs.shape(viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    page = tabs.open(gochat)
    page.locator("#name").fill("W" * 40)
    say(page, "w" * 470)
    expect(page.locator(".message")).to_have_count(1)
    page.locator("#msg").fill("w" * 600)
    page.locator("#msg").press("Enter")
    expect(page.locator("#refusal")).not_to_have_text("")
    page.locator("#settings summary").tap()
    page.locator("#server").fill("x " * 100)
    page.locator("#connect").tap()
    expect(page.locator("#server-error")).to_be_visible()
    for field in page.locator("input:not([type=checkbox]), textarea").all():
        assert field.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 16

    for width in (360, 320):
        page.set_viewport_size({"width": width, "height": 640})
        wide = "e => [e.scrollWidth, e.clientWidth]"
        assert page.locator("html").evaluate(wide) == [width, width]
        assert page.locator("#log").evaluate(wide) == [width, width]
        parts = page.locator("h1, #name, summary, #server, #connect, #log, #status, #msg, #send")
        expect(parts).to_have_count(9)
        for part in [*parts.all(), page.locator("#server-error"), page.locator("#counter")]:
            expect(part).to_be_in_viewport(ratio=0.99)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 900])
def test_axe_finds_nothing(tabs: Tabs, gochat: Gochat, scheme: str, width: int) -> None:
    tabs.shape(color_scheme=scheme, viewport={"width": width, "height": 640})
    page = tabs.open(gochat)
    page.locator("#name").fill("Ann")
    for text in ("one", "see www.example.org"):
        say(page, text)
    expect(page.locator(".message")).to_have_count(2)
    with join(gochat.port) as peer:
        expect(page.locator(".message")).to_have_count(3)
        hide(page, True)
        send_all(peer, ["Bob: hello"])
        expect(page).to_have_title("(1) gochat")
        hide(page, False)
        page.evaluate("note(MAY_BE_LOST, { text: 'lost', server })")
        expect(page.get_by_role("button", name="Send again")).to_be_visible()
        assert axe(page) == []
        page.locator("#settings summary").click()
        page.locator("#server").fill("two words")
        page.locator("#server").press("Enter")
        expect(page.locator("#server-error")).to_be_visible()
        assert axe(page) == []


def test_tap_targets(tabs: Tabs, gochat: Gochat) -> None:
    tabs.shape(viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    page = tabs.open(gochat)
    page.evaluate("note(MAY_BE_LOST, { text: 'lost', server })")
    page.locator("#settings summary").tap()
    targets = page.locator(
        "button:visible, input:not([type=checkbox]), textarea, summary, label:has(input)"
    )
    sizes = targets.evaluate_all(
        "all => all.map(e => [e.id || e.textContent, e.offsetWidth, e.offsetHeight])"
    )
    assert len(sizes) == 9
    assert [size for size in sizes if min(size[1:]) < 44] == []


Colour = tuple[float, float, float]


def colours(element: Locator, pseudo: str = "") -> tuple[Colour, Colour]:
    found = element.evaluate(
        """(element, pseudo) => {
          const text = getComputedStyle(element, pseudo || null).color;
          let ground = 'rgba(0, 0, 0, 0)';
          for (let e = element; e && ground === 'rgba(0, 0, 0, 0)'; e = e.parentElement) {
            ground = getComputedStyle(e).backgroundColor;
          }
          return [text, ground];
        }""",
        pseudo,
    )
    parsed = [re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour) for colour in found]
    text, ground = ((float(m[1]), float(m[2]), float(m[3])) for m in parsed if m)
    return text, ground


def luminance(colour: Colour) -> float:
    """Relative luminance as in WCAG 2: from 0 (black) to 1 (white)."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(pair: tuple[Colour, Colour]) -> float:
    """Contrast as in WCAG 2: from 1 (equal colors) to 21 (black on white)."""
    dark, light = sorted(map(luminance, pair))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_by_wcag() -> None:
    assert contrast(((0, 0, 0), (255, 255, 255))) == pytest.approx(21)
    assert contrast(((118, 118, 118), (255, 255, 255))) == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(tabs: Tabs, gochat: Gochat, scheme: str) -> None:
    """The page follows light and dark mode. All text has a contrast of at least 4.5."""
    tabs.may_lose_server = True
    tabs.shape(color_scheme=scheme)
    page = tabs.open(gochat)
    ratios: dict[str, float] = {}

    def measure(selector: str, state: str = "", pseudo: str = "") -> None:
        element = page.locator(selector).first
        expect(element).to_be_visible()
        ratios[f"{selector} {state}{pseudo}"] = contrast(colours(element, pseudo))

    for selector in ("h1", "summary", "#state", "#counter", "#send"):
        measure(selector)
    for selector in ("#name", "#msg"):
        measure(selector, pseudo="::placeholder")
    page.locator("#name").fill("Ann")
    say(page, "hello")
    for selector in (".message .text", ".message time", "#name"):
        measure(selector)
    say(page, "https://example.org/")
    for selector in (".message .name", ".message a"):
        measure(selector)
    page.locator("#msg").fill("x" * 450)
    expect(page.locator("#counter")).to_have_attribute("data-level", "warn")
    measure("#counter", "warn")
    say(page, "x" * 600)
    expect(page.locator("#counter")).to_have_attribute("data-level", "over")
    for selector in ("#counter", "#send"):
        measure(selector, "over")
    measure("#refusal")
    page.evaluate("unconfirmed.push({ text: 'late', at: 0, by: socket, server }), showDoubt()")
    for selector in (".late .tag", ".late .text", "#doubt"):
        measure(selector)
    page.evaluate("socket.send('x'.repeat(513))")  # makes the server disconnect the page
    for selector in (".note .text", ".note time", ".note bdi", ".note button"):
        measure(selector)
    choose(page, "two words")
    for selector in ("#server-error", "#connect", "#panel label", "#server"):
        measure(selector)
    page.locator("#server").press("Escape")
    expect_state(page, "connected")
    with join(gochat.port) as peer:
        send_all(peer, [f"old {i}" for i in range(60)])
        expect(page.locator(".message").last).to_have_text(re.compile("old 59$"))
        wheel(page, -700)
        send_all(peer, ["new"])
        measure("#jump")
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}

    text, ground = map(luminance, colours(page.locator(".message .text").first))
    assert (text < 0.1 and ground > 0.8) if scheme == "light" else (text > 0.7 and ground < 0.1)


# ---- How it is served ----


def test_the_page_asks_nobody_else(tabs: Tabs, gochat: Gochat) -> None:
    """A visit makes one request and one WebSocket connection, both to the page's server."""
    before = len(gochat.lines)
    page = tabs.open(gochat)
    page.locator("#name").fill("Ann")
    say(page, "see https://example.org/picture.png")
    expect_texts(page, "Ann: see https://example.org/picture.png")
    host = f"127.0.0.1:{gochat.port}"
    assert tabs.requests == [f"http://{host}/"]
    assert [socket.url for socket in tabs.sockets] == [f"ws://{host}/ws"]
    wait_until(lambda: len(gochat.lines) > before, "the request is in the server's log")
    asked = [line.split(" ", 2)[2] for line in gochat.lines[before:]]
    assert [path for path in asked if path.startswith("/")] == ["/"]  # not even an icon


def test_the_page_and_its_policy(tabs: Tabs, gochat: Gochat) -> None:
    """The page's own script and style are applied. Injected ones are blocked."""
    page = tabs.context.new_page()
    response = page.goto(gochat.url)
    assert response
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    expect_state(page, "connected")  # the script runs
    assert page.locator("body").evaluate("e => getComputedStyle(e).display") == "flex"
    say(page, "under a policy")
    expect_texts(page, "under a policy")
    assert tabs.complaints == []

    page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.foreign = true';
          const style = document.createElement('style');
          style.textContent = 'body { display: none }';
          document.head.append(script, style);
        }"""
    )
    assert page.evaluate("window.foreign") is None
    assert page.locator("body").evaluate("e => getComputedStyle(e).display") == "flex"
    # Playwright delivers events only during its calls, such as `title`.
    wait_until(lambda: page.title() != "" and len(tabs.complaints) == 2, "two violations")
    assert all("Content Security Policy" in text for text in tabs.complaints)
    tabs.complaints.clear()


@pytest.mark.parametrize("limit", [2, 3])
def test_reloads_with_a_limit_for_an_address(tabs: Tabs, limit: int) -> None:
    """Reloading works with --max-clients-per-address 2 or 3.

    Browsers open a spare connection in advance, which counts. With a limit of two, the reloaded
    page may have to retry until the server notices that the old connection is gone.
    """
    with Gochat("--max-clients-per-address", str(limit)) as gochat:
        page = tabs.open(gochat)
        for _ in range(8):
            answer = page.reload()
            assert answer is not None
            assert answer.status == 200
            expect_state(page, "connected")
        page.close()  # before its server stops
    if limit == 2:
        # While the address is at its limit, the chat gets 503, and the page's plain GET of /ws
        # gets 400.
        tabs.complaints = [text for text in tabs.complaints if not re.search(r" (503|400)\b", text)]
