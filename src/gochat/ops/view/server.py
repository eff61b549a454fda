"""The view server: a page, the state of the chat, and switches, at a separate address.

| Request                  | Effect                                                             |
| ------------------------ | ------------------------------------------------------------------ |
| `GET /`                  | returns the page                                                   |
| `GET /state`             | returns the state, as JSON                                         |
| `POST /hold?client=N`    | holds a client's write pump after it receives its next message     |
| `POST /release?client=N` | ends the hold                                                      |
| `POST /slow?seconds=S`   | slow motion: delays each frame by S seconds; 0 turns it off        |
| `POST /say`              | says something in the room                                         |

There is no password: anyone who can reach the address can use the switches. So the address is on
loopback, unless the flag names a host. Other sites' pages in a browser on this machine cannot use
the switches, because the Origin of a POST must be this page's, and the Host must be a name of this
server (see routes.py).

The chat's own address has an additional path, `GET /client?tab=T`, where a page asks about its
client. The answer contains the number and the address of the client that connected to `/ws?tab=T`,
or is null if there is no such client. Each page chooses T at random, so no page can ask about
another page's client.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from ...anyhub import AnyHub
from ...client import Client, Settings
from ...golang import http
from ...golang.channel import AbandonedChannelError, ClosedChannelError
from ...golang.flag import number
from ...golang.http.request import RequestError
from ...golang.websocket import Conn
from ...hub import Hub
from ..clients import Clients
from ..page import SCRIPT, policy, read_file, read_page, send_page
from ..routes import NO_STORE, new_server, query, switch
from .hold import Hold, Pace
from .snapshot import hold_of, snapshot

if TYPE_CHECKING:
    from ...relay.relay import Relay

__all__ = ["View"]

log = logging.getLogger("gochat")

# A state is reused for at least _FRESH seconds, and at least _REST times the CPU time that it took.
# So computing states takes at most a twentieth of a CPU, however many pages are open.
_FRESH: Final = 0.2
_REST: Final = 20.0

# The longest delay in slow motion, in seconds per frame.
_SLOWEST: Final = 5.0

# How long the hub may take to receive a message from the view, in seconds.
_SAY_WAIT: Final = 1.0

# The maximum length of a name, in characters. The page has the same limit.
_LONGEST_NAME: Final = 40


class _Dialing(threading.local):
    """The tab that the request on this thread names; empty if it names none."""

    tab = ""


class View:
    """The view of one chat, and its server. The constructor makes the server listen.

    addr: where to listen, see `http.Server`. relay: the relay in front of the hub, if there is one.
    Raises the same exceptions as `Server`. Thread: one, for creating, starting and shutting down.
    """

    def __init__(self, addr: str, hub: Hub, clients: Clients, relay: Relay | None = None) -> None:
        self._hub = hub
        self._relay = relay
        self._clients = clients
        self._pace = Pace()
        self._script = read_file("viewed.js")
        self._dialing = _Dialing()
        self._chat = ""
        self._said = count(1)
        # Guards the state. A request holds this lock while it computes a state, so that other
        # requests wait for that state instead of computing their own.
        self._lock = threading.Lock()
        self._state = b""
        self._good_until = 0.0
        page = read_page("view.html")
        routes: dict[str, http.Application] = {
            "GET /": partial(send_page, page=page, policy=policy(page, "'self'")),
            "GET /state": self._send_state,
            "POST /hold": switch(lambda query: self._hold(query).switch(True)),
            "POST /release": switch(lambda query: self._hold(query).switch(False)),
            "POST /slow": switch(self._slow_down),
            "POST /say": switch(self._say),
        }
        self.server: Final = new_server(addr, routes)

    def new_client(self, hub: AnyHub, conn: Conn, settings: Settings) -> Client:
        """Make a client that can be held; pass this as `client_class`. Thread: any."""
        hold = Hold(self._pace, self._dialing.tab)
        return self._clients.new_client(hub, conn, settings, hold)

    def around(self, chat: http.Application) -> http.Application:
        """Return the chat's routes with `GET /client` added."""

        def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
            tab = query(environ).get("tab", "")
            if (environ["PATH_INFO"], environ["REQUEST_METHOD"]) == ("/client", "GET"):
                return _send_json(start_response, json.dumps(self._client(tab)).encode())
            self._dialing.tab = tab
            environ[SCRIPT] = self._script
            return chat(environ, start_response)

        return app

    def heard(self, conn: Conn, message: bytes) -> bytes:
        """Note the name that a message begins with; for `on_message`. Thread: the reader."""
        name, colon, _ = message[: 4 * _LONGEST_NAME + 2].lstrip().partition(b": ")
        short = len(name.decode(errors="replace")) <= _LONGEST_NAME
        if colon and name and short and (client := self._clients.find(conn.sock)):
            hold_of(client).name = name
        return message

    def start(self, chat: str) -> None:
        """Serve on a thread named `view`. Raises RuntimeError if it cannot be started.

        chat: the chat's URL.
        """
        self._chat = chat
        self.server.start("view")
        log.info("view at %s", self.server.url)

    # Requests. Thread: any.

    def _send_state(self, _: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        with self._lock:
            if time.monotonic() >= self._good_until:
                begin = time.thread_time()
                state = snapshot(self._hub, self._clients, self._pace, self._relay)
                self._state = json.dumps(state | {"chat": self._chat}).encode()
                taken = time.thread_time() - begin
                self._good_until = time.monotonic() + max(_FRESH, _REST * taken)
            state_sent = self._state
        return _send_json(start_response, state_sent)

    def _client(self, tab: str) -> dict[str, object] | None:
        for client_number, client in self._clients.there().items():
            if tab and hold_of(client).tab == tab:
                return {"number": client_number, "addr": client.conn.remote_addr}
        return None

    # Switches. All raise RequestError.

    def _hold(self, query: Mapping[str, str]) -> Hold:
        text = query.get("client", "")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise RequestError(400, "client is not a number")
        client = self._clients.there().get(int(text))
        if client is None:
            raise RequestError(404, f"client {int(text)} is not there")
        return hold_of(client)

    def _slow_down(self, query: Mapping[str, str]) -> None:
        seconds = number(query.get("seconds", ""))
        if not 0 <= seconds <= _SLOWEST:  # NaN is not
            raise RequestError(400, f"seconds is not a number from 0 to {_SLOWEST:g}")
        self._pace.seconds = seconds

    def _say(self, _: Mapping[str, str]) -> None:
        message = f"view: message {next(self._said)}".encode()
        try:
            (self._relay or self._hub).broadcast.put(message, timeout=_SAY_WAIT)
        except (queue.Full, ClosedChannelError, AbandonedChannelError):
            raise RequestError(503, "the hub does not answer") from None


def _send_json(start_response: http.StartResponse, body: bytes) -> Iterable[bytes]:
    headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
    start_response("200 OK", [*headers, ("Content-Length", str(len(body))), NO_STORE])
    return [body]
