"""conn.py, on a real socket connected to the test's own peer."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gochat.golang.http import Hijacker
from gochat.golang.websocket import (
    BINARY_MESSAGE,
    CLOSE_ABNORMAL_CLOSURE,
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_SERVER_ERR,
    CLOSE_MESSAGE,
    CLOSE_NO_STATUS_RECEIVED,
    CLOSE_NORMAL_CLOSURE,
    PING_MESSAGE,
    PONG_MESSAGE,
    TEXT_MESSAGE,
    CloseError,
    Conn,
    HandshakeError,
    ProtocolError,
    ReadLimitError,
    Upgrader,
    format_close_message,
    is_unexpected_close_error,
)
from gochat.golang.websocket import conn as conn_module

from .support import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE,
    PING,
    PONG,
    SEED,
    TEXT,
    Frame,
    Stream,
    connected,
    cut_frame,
    frame,
    handshake_environ,
    in_background,
    signal_main_thread,
    wait_until,
)


def read_error(conn: Conn) -> OSError:
    """Read until reading raises OSError, and return the error."""
    try:
        while True:
            conn.read_message()
    except OSError as error:
        return error


# The handshake.


def test_handshake_is_answered_and_nothing_is_negotiated() -> None:
    """The server accepts no extensions and no subprotocols."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environ = handshake_environ(
            HTTP_SEC_WEBSOCKET_EXTENSIONS="permessage-deflate; client_max_window_bits",
            HTTP_SEC_WEBSOCKET_PROTOCOL="chat",
        )
        conn = Upgrader().upgrade(environ | {"gochat.hijacker": Hijacker(ours, lambda: b"")})
        status, *headers = Stream(theirs).read_until(b"\r\n\r\n").decode().lower().split("\r\n")
        assert status.startswith("http/1.1 101 ")
        assert sorted(headers) == [
            "connection: upgrade",
            f"sec-websocket-accept: {ACCEPT.lower()}",
            "upgrade: websocket",
        ]
        assert conn.remote_addr == "192.0.2.1:5000"


def test_remote_addr_of_ipv6() -> None:
    with connected(REMOTE_ADDR="::1") as (conn, _):
        assert conn.remote_addr == "[::1]:5000"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"HTTP_CONNECTION": "keep-alive"}, 400),
        ({"HTTP_CONNECTION": None}, 400),
        ({"HTTP_CONNECTION": "upgraded, xupgrade"}, 400),
        ({"HTTP_UPGRADE": "h2c"}, 426),
        ({"HTTP_UPGRADE": None}, 426),
        ({"REQUEST_METHOD": "POST"}, 405),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 400),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 400),
        ({"HTTP_ORIGIN": "http://evil.example"}, 403),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": "YWJjZA=="}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": "~" * 24}, 400),
        ({"HTTP_SEC_WEBSOCKET_KEY": "é" * 24}, 400),
        ({"CONTENT_LENGTH": "5"}, 400),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 400),
    ],
)
def test_bad_handshake_is_refused(changes: dict[str, Any], status: int) -> None:
    """A bad handshake is refused with Go's status and headers."""
    answers: list[tuple[str, dict[str, str]]] = []
    upgrader = Upgrader()
    with pytest.raises(HandshakeError, match=r"^websocket: ") as caught:
        upgrader.upgrade(handshake_environ(**changes))
    refused = {reason: n for reason, n in upgrader.statistics().refused.items() if n}
    assert (upgrader.statistics().upgraded, refused) == (0, {caught.value.reason: 1})

    def start_response(status: str, headers: list[tuple[str, str]]) -> Any:
        answers.append((status, dict(headers)))

    (body,) = caught.value.response(start_response)  # type: ignore[arg-type]
    ((line, headers),) = answers
    assert line.startswith(f"{status} ")
    assert line.encode() == f"{status} ".encode() + body.rstrip()
    assert headers["Sec-WebSocket-Version"] == "13"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Length"] == str(len(body))
    assert headers.get("Upgrade") == ("websocket" if status == 426 else None)


@pytest.mark.parametrize("changes", [{}, {"HTTP_UPGRADE": None}, {"REQUEST_METHOD": "HEAD"}])
def test_a_server_that_gives_no_connection_away(changes: dict[str, Any]) -> None:
    """On a server without hijacking, upgrade fails with an error that names gochat.Server."""
    upgrader = Upgrader()
    answers: list[str] = []
    environ = handshake_environ(**changes, **{"gochat.hijacker": None})
    with pytest.raises(HandshakeError) as caught:
        upgrader.upgrade(environ)

    def start_response(status: str, _: object) -> Any:
        answers.append(status)

    (body,) = caught.value.response(start_response)  # type: ignore[arg-type]
    assert answers == ["500 Internal Server Error"]
    assert body == f"{caught.value}\n".encode()
    assert body == b"websocket: this needs gochat.Server; other servers keep the connection\n"
    assert upgrader.statistics().refused["hijack"] == 1


HERE = "http://chat.example:8080"


@pytest.mark.parametrize(
    ("origin", "allowed", "accepted"),
    [
        (None, (), True),
        (HERE, (), True),
        ("https://chat.example:8080", (), True),
        ("HTTP://CHAT.Example:8080", (), True),
        ("", (), False),
        ("null", (), False),
        ("http://", (), False),
        ("chat.example:8080", (), False),
        ("http://chat.example", (), False),
        ("http://chat.example:80", (), False),
        ("http://chat.example.:8080", (), False),
        ("http://chat.example:8080.evil.example", (), False),
        ("http://evil.example/chat.example:8080", (), False),
        ("http://chat.example:8080@evil.example", (), False),
        ("http://evil@chat.example:8080", (), False),
        ("http://evil.example,http://chat.example:8080", (), False),
        ("http://evil.example\\@chat.example:8080", (), False),
        ("http://chat\t.example:8080", (), False),
        ("https://a.example", ("https://a.example", "https://b.example"), True),
        ("HTTPS://B.example", ("https://a.example", "https://B.EXAMPLE"), True),
        ("http://a.example", ("https://a.example",), False),
        ("https://a.example.evil", ("https://a.example",), False),
        (HERE, ("https://a.example",), True),
        ("http://evil.example", ("*",), True),
        ("null", ("*",), True),
        pytest.param("http://" + "a" * 2000, ("*",), False, id="too long to be one"),
    ],
)
def test_origin(origin: str | None, allowed: tuple[str, ...], accepted: bool) -> None:
    """Only pages from the server's own origin and the allowed origins may connect."""
    upgrader = Upgrader(allowed_origins=allowed)
    if accepted:
        with connected(upgrader, HTTP_ORIGIN=origin):
            pass
    else:
        with pytest.raises(HandshakeError, match="origin") as caught:
            upgrader.upgrade(handshake_environ(HTTP_ORIGIN=origin))
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("host", "origin", "accepted"),
    [
        # The case of ASCII letters does not matter.
        ("Chat.EXAMPLE", "https://chat.example", True),
        ("[2001:db8::a]", "http://[2001:DB8::A]", True),
        ("\u0130.example", "http://i\u0307.example", False),
        ("k.example", "http://\u212a.example", False),
        # The port must be in both or in neither: browsers omit default ports from both.
        ("chat.example", "http://chat.example", True),
        ("chat.example", "http://chat.example:80", False),
        ("chat.example", "https://chat.example:443", False),
        ("chat.example:80", "http://chat.example", False),
        ("chat.example:443", "https://chat.example", False),
        ("chat.example:443", "https://chat.example:443", True),
        ("chat.example", "http://chat.example:", False),
        ("chat.example:8080", "http://chat.example:08080", False),
        ("chat.example:8080", "http://chat.example:8081", False),
        ("chat.example:8080", "http://chat.example:80800", False),
        # A trailing dot makes a different name.
        ("chat.example", "http://chat.example.", False),
        ("chat.example.", "http://chat.example", False),
        ("chat.example.", "http://chat.example.", True),
        # IP addresses. Browsers have one spelling for each.
        ("[::1]:8080", "http://[::1]:8080", True),
        ("[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080", False),
        ("[::1]:8080", "http://::1:8080", False),
        ("[::1]:8080", "http://[::1%25lo]:8080", False),
        ("[::ffff:127.0.0.1]", "http://127.0.0.1", False),
        ("127.0.0.1", "http://127.1", False),
        ("127.0.0.1", "http://2130706433", False),
        ("127.0.0.1", "http://localhost", False),
        # Origins in which another parser could find a different host.
        ("good.example", "http://good.example@evil.example", False),
        ("good.example", "http://evil.example@good.example", False),
        ("good.example", "http://good.example:80@evil.example", False),
        ("good.example", "http://@good.example", False),
        ("good.example", "http://good.example%40evil.example", False),
        ("good.example", "http://good.example\\@evil.example", False),
        ("good.example", "http://evil.example\\.good.example", False),
        # Origins that start or end like the right one.
        ("good.example", "http://good.example.evil.example", False),
        ("good.example", "http://evilgood.example", False),
        ("good.example", "http://evil.good.example", False),
        ("good.example", "http://good.exampl", False),
        ("good.example", "http://good.example/", False),
        ("good.example", "http://good.example/chat", False),
        ("good.example", "http://good.example?", False),
        ("good.example", "http://good.example#", False),
        ("good.example", "http://evil.example?good.example", False),
        ("good.example", "http://evil.example#good.example", False),
        ("good.example", "http://evil.example/://good.example", False),
        ("good.example", "http://*", False),
        ("good.example", "http://*.example", False),
        ("*", "http://evil.example", False),
        # As in Go, any scheme is accepted, but there must be one.
        ("good.example", "https://good.example", True),
        ("good.example", "ftp://good.example", True),
        ("good.example", "good.example", False),
        ("good.example", "//good.example", False),
        ("good.example", "http:good.example", False),
        ("good.example", "http:/good.example", False),
        ("good.example", "http:///good.example", False),
        ("good.example", "http://http://good.example", False),
        ("good.example", "data:text/html,http://good.example", False),
        # Spaces and similar characters.
        ("good.example", " http://good.example ", False),
        ("good.example", "http:// good.example", False),
        ("good.example", "http://good.example http://evil.example", False),
        ("good.example", "http://evil.example http://good.example", False),
        ("good.example", "http://good.example\xa0", False),
        ("good.example", "http://good\xad.example", False),
        # The origin "null", which many pages share, and a missing origin.
        ("null", "null", False),
        ("good.example", "null", False),
        ("good.example", "", False),
        ("", "", False),
        ("", "://", False),
        ("", "http://", False),
        ("good.example", None, True),
        # Two Origin headers, joined by WSGI.
        ("good.example", "http://good.example,http://good.example", False),
        ("good.example", "http://evil.example,http://good.example", False),
        ("good.example", "http://good.example,http://evil.example", False),
        ("good.example", "null,http://good.example", False),
    ],
)
def test_ways_round_the_origin_check(host: str, origin: str | None, accepted: bool) -> None:
    """An origin must consist of a scheme and the exact Host."""
    if accepted:
        with connected(HTTP_HOST=host, HTTP_ORIGIN=origin):
            pass
    else:
        allowed = [f"http://{host}", f"https://{host}"] if host else []
        with pytest.raises(HandshakeError, match="origin") as caught:
            Upgrader(allowed_origins=allowed).upgrade(
                handshake_environ(HTTP_HOST=host, HTTP_ORIGIN=origin)
            )
        assert caught.value.status == 403


def test_empty_host_is_no_origin() -> None:
    """An origin with an empty host does not match a request without a Host."""
    with pytest.raises(HandshakeError, match="origin"):
        Upgrader().upgrade(handshake_environ(HTTP_ORIGIN="http://", HTTP_HOST=None))


def test_peer_that_is_gone_before_the_answer() -> None:
    """If the answer cannot be sent, upgrade raises OSError."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(OSError, match="Broken pipe"):
            Upgrader().upgrade(
                handshake_environ() | {"gochat.hijacker": Hijacker(ours, lambda: b"")}
            )


def test_no_thread_is_started() -> None:
    before = threading.enumerate()
    with connected():
        assert threading.enumerate() == before


# Reading.


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (frame("hello"), (TEXT_MESSAGE, b"hello")),
        (frame(""), (TEXT_MESSAGE, b"")),
        (frame("héllo 世界"), (TEXT_MESSAGE, "héllo 世界".encode())),
        (frame(b"\xff\x00", BINARY), (BINARY_MESSAGE, b"\xff\x00")),
        (frame("a" * 126), (TEXT_MESSAGE, b"a" * 126)),
        (frame("a" * 70000), (TEXT_MESSAGE, b"a" * 70000)),
        (
            frame("hé", fin=False)
            + frame("l", CONTINUATION, fin=False)
            + frame("lo", CONTINUATION),
            (TEXT_MESSAGE, "héllo".encode()),
        ),
        (
            frame(b"\xff", BINARY, fin=False)
            + frame(b"", CONTINUATION, fin=False)
            # half a character: not valid text
            + frame(b"\xe4", CONTINUATION),
            (BINARY_MESSAGE, b"\xff\xe4"),
        ),
    ],
)
@pytest.mark.parametrize("how", ["at once", "with the handshake", "byte by byte"])
def test_message(sent: bytes, received: tuple[int, bytes], how: str) -> None:
    """A message is read as a whole, however it is split."""
    with connected(buffered=sent if how == "with the handshake" else b"") as (conn, peer):
        pieces = {"at once": [sent], "byte by byte": [sent[i : i + 1] for i in range(len(sent))]}

        def send() -> None:
            for piece in pieces.get(how, []):
                peer.sock.sendall(piece)

        with in_background(send):
            assert conn.read_message() == received


def test_messages_that_come_together() -> None:
    with connected() as (conn, peer):
        peer.sock.sendall(frame("one") + frame("two", fin=False) + frame("!", CONTINUATION))
        assert conn.read_message() == (TEXT_MESSAGE, b"one")
        assert conn.read_message() == (TEXT_MESSAGE, b"two!")


def test_ping_is_answered_between_fragments() -> None:
    """A ping within a fragmented message is answered."""
    with connected() as (conn, peer):
        peer.sock.sendall(frame("hel", fin=False) + frame("p", PING) + frame("lo", CONTINUATION))
        assert conn.read_message() == (TEXT_MESSAGE, b"hello")
        assert peer.read_frame() == Frame(True, PONG, b"p")


def test_pong_handler_is_called_for_pongs_alone() -> None:
    """The pong handler runs on the reading thread, once for each pong."""
    with connected() as (conn, peer):
        pongs: list[threading.Thread] = []
        peer.sock.sendall(frame("unasked", PONG) + frame("x"))
        assert conn.read_message() == (TEXT_MESSAGE, b"x")  # no handler is set yet
        conn.set_pong_handler(lambda: pongs.append(threading.current_thread()))
        peer.sock.sendall(frame("p", PING) + frame("", PONG) + frame("p", PONG) + frame("y"))
        assert conn.read_message() == (TEXT_MESSAGE, b"y")
        assert pongs == [threading.current_thread()] * 2


#: Middle fragments of a message: one with a single byte, one empty.
ONE_MORE_BYTE = frame("x", CONTINUATION, fin=False)
ONE_MORE = frame("", CONTINUATION, fin=False)


@pytest.mark.parametrize(
    ("limit", "sent", "accepted"),
    [
        (8, frame("x" * 8), True),
        (8, frame("x" * 9), False),
        (8, frame("😀😀"), True),
        (8, frame("😀😀!"), False),
        (8, frame(b"x" * 9, BINARY), False),
        (8, frame("x" * 4, fin=False) + frame("x" * 4, CONTINUATION), True),
        (8, frame("x" * 4, fin=False) + frame("x" * 5, CONTINUATION), False),
        (8, frame("x" * 6, PING) + frame("x" * 6), True),
        (8, frame("x" * 126), False),
        # The number of frames in a message is also limited.
        (512, frame("", fin=False) + ONE_MORE_BYTE * 511 + frame("x", CONTINUATION), True),
        (512, frame("", fin=False) + ONE_MORE * 1022 + frame("x", CONTINUATION), True),
        (8, frame("x" * 65536), False),
        # The header is enough to refuse a message.
        (512, frame(b"x" * 513)[:4], False),
        (512, struct.pack("!BBQ", 0x81, 0xFF, 1 << 62), False),
    ],
)
def test_read_limit(limit: int, sent: bytes, accepted: bool) -> None:
    """A message longer than the limit, in bytes, is refused with 1009."""
    with connected() as (conn, peer):
        conn.set_read_limit(limit)
        peer.sock.sendall(sent)
        if accepted:
            assert conn.read_message()[0] == TEXT_MESSAGE
            return

        def answer() -> None:
            assert [f.code for f in peer.read_to_end()] == [1009]
            peer.sock.close()

        with in_background(answer):
            error = read_error(conn)
        assert isinstance(error, ReadLimitError)
        assert repr(read_error(conn)) == repr(error)


@pytest.mark.parametrize("limit", [0, 512])
@pytest.mark.parametrize("more", [ONE_MORE, ONE_MORE_BYTE], ids=["empty", "one byte"])
def test_message_of_too_many_frames(limit: int, more: bytes) -> None:
    """An endless message is refused with 1008 or 1009, however small its frames are."""
    with connected() as (conn, peer):
        conn.set_read_limit(limit)
        codes: list[int | None] = []

        def send() -> None:
            with contextlib.suppress(OSError):  # ends when the connection is cut
                peer.sock.sendall(frame("", fin=False) + more * 20_000)
            codes.extend(got.code for got in peer.read_to_end())

        with in_background(send):
            error = read_error(conn)
            conn.close()
        assert isinstance(error, ReadLimitError)
        assert codes == [1009 if limit and more == ONE_MORE_BYTE else 1008]


def test_no_read_limit() -> None:
    with connected() as (conn, peer), in_background(lambda: peer.sock.sendall(frame(b"x" * 10**6))):
        conn.set_read_limit(0)
        assert conn.read_message() == (TEXT_MESSAGE, b"x" * 10**6)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame("x", mask=None), 1002),
        (frame("x", rsv=4), 1002),
        (frame("x", rsv=1), 1002),
        (frame("x", 3), 1002),
        (frame("x", 11), 1002),
        (frame("x", PING, fin=False), 1002),
        (frame("x" * 126, PING), 1002),
        (frame("x" * 126, CLOSE), 1002),
        (frame("x", CONTINUATION), 1002),
        (frame("x", fin=False) + frame("y"), 1002),
        (b"\x81\xfe\0\1" + b"\0" * 5, 1002),  # length 1 encoded in two bytes
        (b"\x81\xfe\0\1" + b"\0" * 200, 1002),
        (b"\x81\xff" + struct.pack("!Q", 200) + b"\0" * 204, 1002),
        (b"\x81\x05" + b"x" * 200, 1002),
        (struct.pack("!BBQ", 0x81, 0xFF, 1 << 63) + b"\0" * 4, 1002),
        (frame(b"\xff"), 1007),
        (frame(b"\xe4\xb8"), 1007),
        (frame(b"\xe4\xb8", fin=False) + frame(b"", CONTINUATION), 1007),
        (frame(struct.pack("!H", 999), CLOSE), 1002),
        (frame(struct.pack("!H", 1005), CLOSE), 1002),
        (frame(struct.pack("!H", 1006), CLOSE), 1002),
        (frame(struct.pack("!H", 2999), CLOSE), 1002),
        (frame(struct.pack("!H", 5000), CLOSE), 1002),
        (frame(struct.pack("!H", 1000) + b"\xff", CLOSE), 1007),
    ],
)
def test_breach_of_protocol(sent: bytes, code: int) -> None:
    """A protocol violation is answered with its close code, and reading raises ProtocolError."""
    with connected() as (conn, peer):
        peer.sock.sendall(sent)

        def answer() -> None:
            assert [f.code for f in peer.read_to_end()] == [code]
            peer.sock.close()

        with in_background(answer):
            assert isinstance(read_error(conn), ProtocolError)


def test_utf8_only() -> None:
    """With utf8_only, a binary message must be UTF-8, or it is refused with 1007."""
    with connected(Upgrader(utf8_only=True)) as (conn, peer):
        peer.sock.sendall(frame("é", BINARY) + frame(b"\xff\xfe", BINARY))
        assert conn.read_message() == (BINARY_MESSAGE, "é".encode())

        def answer() -> None:
            assert [f.code for f in peer.read_to_end()] == [1007]
            peer.sock.close()

        with in_background(answer):
            assert isinstance(read_error(conn), ProtocolError)


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (struct.pack("!H", 1000) + b"bye", CLOSE_NORMAL_CLOSURE, "bye"),
        (struct.pack("!H", 1001), CLOSE_GOING_AWAY, ""),
        (struct.pack("!H", 3000), 3000, ""),
        (struct.pack("!H", 4999), 4999, ""),
        (b"", CLOSE_NO_STATUS_RECEIVED, ""),
        (b"\x03", CLOSE_NO_STATUS_RECEIVED, ""),
    ],
)
def test_close_of_the_peer(payload: bytes, code: int, text: str) -> None:
    """A close frame is answered with the same code. All later reads raise CloseError."""
    with connected() as (conn, peer):
        peer.sock.sendall(frame(payload, CLOSE))
        error = read_error(conn)
        assert isinstance(error, CloseError)
        assert (error.code, error.text) == (code, text)
        assert repr(read_error(conn)) == repr(error)
        expected = struct.pack("!H", code) if len(payload) > 1 else b""
        answer = peer.read_frame()
        assert (answer.opcode, answer.payload[:2]) == (CLOSE, expected)
        with pytest.raises(ConnectionAbortedError):
            conn.write_message(TEXT_MESSAGE, b"too late")


@pytest.mark.parametrize("sent", [b"", b"\x81", frame("hello")[:-1]])
def test_end_without_a_close_frame(sent: bytes) -> None:
    """A connection that ends without a close frame raises CloseError 1006."""
    with connected() as (conn, peer):
        peer.sock.sendall(sent)
        peer.sock.close()
        error = read_error(conn)
        assert isinstance(error, CloseError)
        assert error.code == CLOSE_ABNORMAL_CLOSURE


def test_read_deadline() -> None:
    """A silent peer is disconnected at the read deadline, but not before."""
    with connected() as (conn, _):
        start = time.monotonic()
        conn.set_read_deadline(start + 0.3)
        assert isinstance(read_error(conn), TimeoutError)
        assert time.monotonic() - start >= 0.3


def test_read_deadline_ends_a_peer_that_only_talks() -> None:
    """A peer that sends without pause is also disconnected at the read deadline."""
    with connected() as (conn, peer):
        stop = threading.Event()

        def talk() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    peer.sock.sendall(frame("blah"))

        with in_background(talk):
            conn.set_read_deadline(time.monotonic() + 0.3)
            assert isinstance(read_error(conn), TimeoutError)
            stop.set()
            conn.close()


def test_read_deadline_that_is_moved_on() -> None:
    """The pong handler can extend the read deadline."""
    with connected() as (conn, peer):
        old = time.monotonic() + 0.4
        conn.set_read_deadline(old)
        conn.set_pong_handler(lambda: conn.set_read_deadline(None))
        peer.sock.sendall(frame("", PONG))

        def late() -> None:
            wait_until(lambda: time.monotonic() > old)
            peer.sock.sendall(frame("late"))

        with in_background(late):
            assert conn.read_message() == (TEXT_MESSAGE, b"late")


def test_reader_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a thread reads late, the delay is added to the read deadline."""
    monkeypatch.setattr("gochat.golang.websocket.conn._LATE", 0.1)
    with connected() as (conn, peer):
        deadline = time.monotonic() + 0.2
        conn.set_read_deadline(deadline)
        peer.sock.sendall(frame("there"))
        wait_until(lambda: time.monotonic() > deadline)
        assert conn.read_message() == (TEXT_MESSAGE, b"there")
        assert isinstance(read_error(conn), TimeoutError)


def test_reader_that_does_not_ask_holds_the_peer_back() -> None:
    """While nobody calls read_message, nothing is read, so the peer has to stop sending."""
    with connected(small=True) as (conn, peer):
        peer.sock.setblocking(False)
        message, sent = frame("x" * 100), 0
        with contextlib.suppress(BlockingIOError):
            while sent < 10**7:
                sent += peer.sock.send(message)
        assert sent < 10**6
        conn.read_message()
        assert len(conn._input) <= 4096


# Writing.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 10**6])
def test_write(size: int) -> None:
    """A message of any length is sent as one frame."""
    with (
        connected() as (conn, peer),
        in_background(lambda: conn.write_message(TEXT_MESSAGE, b"x" * size)),
    ):
        assert peer.read_frame() == Frame(True, TEXT, b"x" * size)


def test_write_of_control_frames() -> None:
    """Ping and close frames are sent. A payload over 125 bytes raises ValueError."""
    with connected() as (conn, peer):
        conn.write_message(PING_MESSAGE, b"x" * 125)
        with pytest.raises(ValueError, match="126"):
            conn.write_message(PING_MESSAGE, b"x" * 126)
        conn.write_message(CLOSE_MESSAGE, format_close_message(1001, "away"))
        assert peer.read_frame() == Frame(True, PING, b"x" * 125)
        assert peer.read_frame() == Frame(True, CLOSE, struct.pack("!H", 1001) + b"away")


def test_nothing_is_written_behind_a_close() -> None:
    with connected() as (conn, peer):
        conn.write_message(CLOSE_MESSAGE, b"")
        for kind in (TEXT_MESSAGE, CLOSE_MESSAGE):
            with pytest.raises(ConnectionAbortedError):
                conn.write_message(kind, b"")
        peer.sock.sendall(frame("p", PING) + frame("dropped") + frame("", CLOSE))
        assert isinstance(read_error(conn), ConnectionAbortedError)
        conn.close()
        assert peer.read_to_end() == [Frame(True, CLOSE, b"")]


def test_whole_frame_through_a_small_socket() -> None:
    """A frame larger than the socket's buffer is sent whole."""
    with connected(small=True) as (conn, peer):

        def write() -> None:
            conn.set_write_deadline(time.monotonic() + PATIENCE)
            conn.write_message(BINARY_MESSAGE, bytes(range(256)) * 8000)
            conn.write_message(TEXT_MESSAGE, b"next")

        with in_background(write):
            assert peer.read_frame() == Frame(True, BINARY, bytes(range(256)) * 8000)
            assert peer.read_frame() == Frame(True, TEXT, b"next")


def test_pong_waits_for_the_frame_that_is_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pong follows a frame that is being written, and does not interrupt it."""
    monkeypatch.setattr("gochat.golang.websocket.conn.CONTROL_WAIT", PATIENCE)
    with connected(small=True) as (conn, peer):
        writing = threading.Event()

        def write() -> None:
            conn.write_message(TEXT_MESSAGE, b"x" * 10**6)
            writing.set()

        def read() -> None:
            assert conn.read_message() == (TEXT_MESSAGE, b"read")

        with in_background(write), in_background(read):
            wait_until(lambda: waits(conn)[1] == "room")
            peer.sock.sendall(frame("p", PING) + frame("read"))
            assert not writing.is_set()
            assert peer.read_frame() == Frame(True, TEXT, b"x" * 10**6)
            assert peer.read_frame() == Frame(True, PONG, b"p")


def test_pong_that_cannot_be_written_is_left_out() -> None:
    """A pong that would wait too long is dropped, and reading continues."""
    with connected(small=True) as (conn, peer):
        with in_background(lambda: conn.write_message(TEXT_MESSAGE, b"x" * 10**6)):
            wait_until(lambda: waits(conn)[1] == "room")
            peer.sock.sendall(frame("p", PING) + frame("read"))
            assert conn.read_message() == (TEXT_MESSAGE, b"read")
            assert peer.read_frame() == Frame(True, TEXT, b"x" * 10**6)
        conn.close()
        assert peer.read_to_end() == []


def test_write_deadline_ends_the_connection() -> None:
    """At the write deadline, a peer that does not read is disconnected."""
    with connected(small=True) as (conn, peer), in_background(lambda: read_error(conn)):
        start = time.monotonic()
        conn.set_write_deadline(start + 0.3)
        with pytest.raises(TimeoutError):
            conn.write_message(TEXT_MESSAGE, b"x" * 10**7)
        assert time.monotonic() - start >= 0.3
        with pytest.raises(TimeoutError):
            conn.write_message(TEXT_MESSAGE, b"")
        with pytest.raises(EOFError):
            peer.read_frame()


def test_write_deadline_while_another_thread_writes() -> None:
    """A write waiting for another thread's write raises TimeoutError at its deadline.

    The other thread's frame is not damaged.
    """
    with (
        connected(small=True) as (conn, peer),
        in_background(lambda: conn.write_message(TEXT_MESSAGE, b"x" * 10**6)),
    ):
        wait_until(lambda: waits(conn)[1] == "room")
        conn.set_write_deadline(time.monotonic() + 0.1)
        with pytest.raises(TimeoutError):
            conn.write_message(PING_MESSAGE, b"")
        assert peer.read_frame() == Frame(True, TEXT, b"x" * 10**6)


def test_reader_sees_that_its_pong_failed() -> None:
    """If a pong cannot be sent, reading raises the error."""
    with connected() as (conn, peer):
        peer.sock.sendall(frame("p", PING))
        peer.sock.close()
        assert isinstance(read_error(conn), BrokenPipeError)


# Closing.


def test_close_wakes_a_reader() -> None:
    """close wakes a waiting reader. A second close does nothing."""
    with connected() as (conn, peer):
        errors: list[OSError] = []
        with in_background(lambda: errors.append(read_error(conn))):
            conn.close()
        conn.close()
        assert len(errors) == 1
        assert peer.read_to_end() == []


def test_close_wakes_a_writer() -> None:
    with connected(small=True) as (conn, _):

        def write() -> None:
            with pytest.raises(OSError, match="Broken pipe"):
                conn.write_message(TEXT_MESSAGE, b"x" * 10**7)

        with in_background(write):
            wait_until(lambda: waits(conn)[1] == "room")
            conn.close()


def test_close_after_a_close_frame_waits_for_the_answer() -> None:
    """After a close frame, close waits until the reader has read the peer's answer."""
    with connected() as (conn, peer):
        errors: list[OSError] = []
        with in_background(lambda: errors.append(read_error(conn))):
            conn.write_message(CLOSE_MESSAGE, b"")
            with in_background(conn.close):
                assert peer.read_to_end() == [Frame(True, CLOSE, b"")]
                peer.sock.sendall(frame("said before the close came") + frame("", CLOSE))
        assert isinstance(errors[0], ConnectionAbortedError)


def test_close_on_the_reading_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the reading thread calls close, a close that waits in another thread returns."""
    monkeypatch.setattr("gochat.golang.websocket.conn._CLOSE_WAIT", 2 * PATIENCE)
    with connected() as (conn, peer):
        peer.sock.sendall(frame("x"))
        assert conn.read_message() == (TEXT_MESSAGE, b"x")
        conn.write_message(CLOSE_MESSAGE, b"")
        closer = threading.Thread(target=conn.close)
        closer.start()
        peer.sock.shutdown(socket.SHUT_RDWR)
        conn.close()
        closer.join(PATIENCE)
        assert not closer.is_alive()
        assert isinstance(read_error(conn), ConnectionAbortedError)


def test_pong_handler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a pong handler raises, the peer gets 1011, and close returns without waiting."""
    monkeypatch.setattr("gochat.golang.websocket.conn._CLOSE_WAIT", 2 * PATIENCE)

    def fail() -> None:
        raise LookupError("a mistake")

    with connected() as (conn, peer):
        conn.set_pong_handler(fail)
        peer.sock.sendall(frame(b"", PONG))
        with (
            in_background(lambda: peer.sock.shutdown(socket.SHUT_WR)),
            pytest.raises(LookupError),
        ):
            conn.read_message()
        closer = threading.Thread(target=conn.close)
        closer.start()
        closer.join(PATIENCE)
        assert not closer.is_alive()
        assert isinstance(read_error(conn), ConnectionAbortedError)
        assert [got.code for got in peer.read_to_end()] == [CLOSE_INTERNAL_SERVER_ERR]


def test_close_after_a_close_frame_does_not_wait_for_ever() -> None:
    """A peer that does not answer the close frame is disconnected."""
    with connected() as (conn, _), in_background(lambda: read_error(conn)):
        conn.write_message(CLOSE_MESSAGE, b"")
        conn.close()


def test_close_frame_is_not_overtaken_by_a_reset() -> None:
    """A peer receives the close code even if some of its data was never read.

    Closing a socket with unread data sends a reset, which can destroy the close frame.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
    ):
        ours, _ = listener.accept()
        with ours:
            conn = Upgrader().upgrade(
                handshake_environ() | {"gochat.hijacker": Hijacker(ours, lambda: b"")}
            )
            conn.set_read_limit(512)
            sock.sendall(frame("x" * 513) + frame("y" * 100) * 100)
            with in_background(lambda: sock.shutdown(socket.SHUT_WR)):
                assert isinstance(read_error(conn), ReadLimitError)
            conn.close()
        peer = Stream(sock)
        peer.read_until(b"\r\n\r\n")
        assert peer.read_frame().code == 1009
        assert peer.sock.recv(1) == b""


def test_peer_at_fault_that_goes_on_talking_is_cut() -> None:
    with connected() as (conn, peer):

        def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer.sock.sendall(frame("x", mask=None))

        with in_background(talk):
            assert isinstance(read_error(conn), ProtocolError)
            conn.close()


# Errors and payloads.


def test_close_error_says_what_the_code_means() -> None:
    """A CloseError prints its code, the meaning of the code, and the peer's reason."""
    assert str(CloseError(1000)) == "websocket: close 1000 (normal)"
    assert str(CloseError(1009, "a\nb")) == r"websocket: close 1009 (message too big): 'a\nb'"
    assert str(CloseError(4000)) == "websocket: close 4000"


def test_is_unexpected_close_error() -> None:
    """Only a CloseError whose code is not in the list is unexpected."""
    assert is_unexpected_close_error(CloseError(1000), 1001, 1006)
    assert not is_unexpected_close_error(CloseError(1001), 1001, 1006)
    assert not is_unexpected_close_error(TimeoutError(), 1001, 1006)


def test_format_close_message() -> None:
    """A close payload is the code and as much of the reason as fits, in whole characters."""
    assert format_close_message(1001) == b"\x03\xe9"
    payload = format_close_message(1001, "é" * 100)
    assert payload[2:].decode() == "é" * 61


def test_read_rate() -> None:
    """A burst of messages is read immediately, then one per period."""
    with connected(Upgrader(read_rate=10.0, read_burst=3)) as (conn, peer):
        conn.set_read_deadline(None)
        peer.sock.sendall(frame(b"x") * 5)
        begin = time.monotonic()
        times = []
        for _ in range(5):
            assert conn.read_message() == (TEXT_MESSAGE, b"x")
            times.append(time.monotonic() - begin)
        assert times[3] >= 0.1
        assert times[4] >= 0.2


def test_read_rate_of_a_connection_that_has_ended() -> None:
    """A read delayed by the rate ends when either side closes the connection."""
    with connected(Upgrader(read_rate=1e-6)) as (conn, peer):
        peer.sock.sendall(frame(b"x") * 2)
        assert conn.read_message() == (TEXT_MESSAGE, b"x")
        with in_background(lambda: read_error(conn)):
            conn.close()
            peer.sock.close()


def test_read_rate_stops_the_read_deadline() -> None:
    """The read deadline does not run while the rate limit delays reading.

    So a pong behind delayed messages is not late.
    """
    with connected(Upgrader(read_rate=10.0)) as (conn, peer):
        conn.set_pong_handler(lambda: conn.set_read_deadline(time.monotonic() + 0.25))
        conn.set_read_deadline(time.monotonic() + 0.25)
        message = frame(b"x" * 1000)  # four of them fit into one read
        peer.sock.sendall(message * 6 + frame(b"", PONG) + message)
        for _ in range(7):
            assert conn.read_message() == (TEXT_MESSAGE, b"x" * 1000)
        with pytest.raises(TimeoutError):
            conn.read_message()


def test_read_rate_is_kept_to_the_end() -> None:
    """After the peer disconnects, messages beyond the rate are discarded."""
    with connected(Upgrader(read_rate=1e-6, read_burst=2)) as (conn, peer):
        peer.sock.sendall(frame(b"x") * 5)
        peer.sock.close()
        assert conn.read_message() == conn.read_message() == (TEXT_MESSAGE, b"x")
        with pytest.raises(ConnectionAbortedError):
            conn.read_message()
        with pytest.raises(ConnectionAbortedError):
            conn.read_message()


@pytest.mark.parametrize(
    "sent",
    [
        frame("p", PING) * 3,
        frame("", PING) * 3,
        frame("p", PONG) * 3,
        frame("", PONG) * 3,
        frame("", fin=False) + ONE_MORE * 2,
        frame("x") + frame("y", PING) + frame("", fin=False),
    ],
    ids=["pings", "empty pings", "pongs", "empty pongs", "continuations", "mixed"],
)
def test_read_rate_counts_every_frame(sent: bytes) -> None:
    """Frames that complete no message also count toward the rate."""
    with connected(Upgrader(read_rate=1e-6, read_burst=2)) as (conn, peer):
        peer.sock.sendall(sent + frame("never read"))
        peer.sock.shutdown(socket.SHUT_WR)

        def leave() -> None:
            wait_until(lambda: conn._read_until > 2.5e6)  # the third frame was read
            peer.sock.close()

        with in_background(leave):
            error = read_error(conn)
        assert str(error) == "websocket: ended over the read rate"


def test_frames_that_complete_no_message_give_way() -> None:
    """Reading a long series of fragments lets other threads run."""
    sent = frame("", fin=False) + ONE_MORE * 1000 + frame("end", CONTINUATION)
    reading = ran = 0
    stop = threading.Event()

    def run() -> None:
        nonlocal ran
        while not stop.wait(0.0001):
            ran += reading

    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        with connected(buffered=sent) as (conn, _), in_background(run):
            reading = 1
            assert conn.read_message() == (TEXT_MESSAGE, b"end")
            reading = 0
            stop.set()
    finally:
        sys.setswitchinterval(before)
    assert ran > 0


def test_a_reader_that_cannot_sleep_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader does not wait long for another reader to finish sleeping."""
    monkeypatch.setattr(conn_module, "_WORK", 0)
    monkeypatch.setattr(conn_module, "_SLEEP_WAIT", 0.01)
    got: list[tuple[int, bytes]] = []
    with (
        connected(buffered=frame("", PING) + frame("text")) as (conn, _),
        conn_module._sleeping,
        in_background(lambda: got.append(conn.read_message())),
    ):
        pass
    assert got == [(TEXT_MESSAGE, b"text")]


def test_readers_that_give_way_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """If two readers give way, the one that waits sleeps before the other sleeps again."""
    monkeypatch.setattr(conn_module, "_WORK", 0)
    monkeypatch.setattr(conn_module, "_SLEEP_WAIT", PATIENCE)
    begin, slept = threading.Event(), threading.Event()
    times = 0
    with connected() as (one, _), connected() as (other, _):

        def sleep() -> None:
            begin.wait()
            other._give_way()
            slept.set()

        with in_background(sleep):
            begin.set()
            while not slept.is_set() and times < 2000:
                one._give_way()
                times += 1
            assert times < 2000


def test_a_reader_that_is_interrupted_as_it_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader interrupted just before it sleeps does not keep the lock."""
    lock = threading.RLock()

    class Interrupting:
        release = staticmethod(lock.release)

        def acquire(self, timeout: float) -> bool:
            lock.acquire(timeout=timeout)
            raise KeyboardInterrupt

    monkeypatch.setattr(conn_module, "_WORK", 0)
    monkeypatch.setattr(conn_module, "_sleeping", Interrupting())
    with connected(buffered=frame("", PING)) as (conn, _), pytest.raises(KeyboardInterrupt):
        conn.read_message()
    for each in (lock, conn_module._next):
        with pytest.raises(RuntimeError, match=r"lock"):  # raises because the lock is free
            each.release()


# Statistics.


def test_statistics_count_what_goes_in_and_out() -> None:
    """statistics counts frames and bytes in both directions, by kind."""
    sent = [
        frame("plain"),
        frame("two", fin=False),
        frame("!", CONTINUATION),
        frame(b"\xff", BINARY),
        frame("ask", PING),
        frame("", PONG),
        frame("p", PONG),
        frame("", PONG),
        frame("last"),
    ]
    with connected(buffered=sent[0]) as (conn, peer):
        fresh = conn.statistics()
        assert (fresh.bytes_in, fresh.messages_in, fresh.frames_in) == (len(sent[0]), 0, 0)
        peer.sock.sendall(b"".join(sent[1:]))
        messages = [conn.read_message()[1] for _ in range(4)]
        assert messages == [b"plain", b"two!", b"\xff", b"last"]
        conn.write_message(TEXT_MESSAGE, b"hello")
        conn.write_message(BINARY_MESSAGE, b"x" * 200)
        conn.write_message(PING_MESSAGE, b"")
        conn.write_message(PONG_MESSAGE, b"")
        open_ = conn.statistics()
        assert open_ == dataclasses.replace(
            fresh,
            messages_in=4,
            frames_in=len(sent),
            pings_in=1,
            pongs_in=3,
            bytes_in=sum(map(len, sent)),
            messages_out=2,
            frames_out=5,
            pings_out=1,
            pongs_out=2,
            bytes_out=5 + 7 + 204 + 2 + 2,
            reader_thread=threading.get_ident(),
        )
        conn.write_message(CLOSE_MESSAGE, format_close_message(1001))
        peer.sock.sendall(frame("dropped") + frame(struct.pack("!H", 1001), CLOSE))
        error = read_error(conn)
        closed = conn.statistics()
        assert (closed.close_code_in, closed.close_code_out) == (1001, 1001)
        assert (closed.messages_in, closed.messages_out, closed.frames_out) == (4, 2, 6)
        assert repr(closed.read_error) == repr(error)
        with pytest.raises(dataclasses.FrozenInstanceError):
            closed.frames_out = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("payload", "code_in", "code_out"), [(b"", 1005, 1005), (struct.pack("!H", 4000), 4000, 4000)]
)
def test_statistics_have_the_close_codes(payload: bytes, code_in: int, code_out: int) -> None:
    """statistics includes the close codes received and sent. 1005 means that there was no code."""
    with connected() as (conn, peer):
        peer.sock.sendall(frame(payload, CLOSE))
        read_error(conn)
        statistics = conn.statistics()
        assert (statistics.close_code_in, statistics.close_code_out) == (code_in, code_out)


def test_statistics_while_input_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Arriving:
        def __init__(self, counts: object) -> None:
            self.counts = counts
            self.since = [None, time.monotonic()]

        def __getattr__(self, name: str) -> Any:
            return self.since.pop() if name == "input_since" else getattr(self.counts, name)

    with connected() as (conn, _):
        monkeypatch.setattr(conn, "_counts", Arriving(conn._counts))
        reader = conn.statistics().reader
        assert reader is not None
        assert reader.what == "input"


class Log:
    """An observer that records its calls."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.waits = self.heard.append
        self.reads = lambda: self.heard.append("reads")
        self.writes = lambda message_type: self.heard.append(("writes", message_type))
        self.wrote = lambda message_type: self.heard.append(("wrote", message_type))

    def works(self) -> None:
        self.heard.append("works")

    def closed(self) -> None:
        self.heard.append("closed")


def test_an_observer() -> None:
    """An observer is called for each read, each wait, each write and the close, in order."""
    with connected(Upgrader(read_rate=10.0)) as (conn, peer):
        log = conn.observer = Log()
        peer.sock.sendall(frame("one") + frame("two"))
        assert [conn.read_message()[1] for _ in range(2)] == [b"one", b"two"]
        conn.write_message(PING_MESSAGE, b"")
        conn.write_message(CLOSE_MESSAGE, b"")
        with pytest.raises(ConnectionAbortedError):
            conn.write_message(TEXT_MESSAGE, b"")
        peer.sock.sendall(frame(b"", CLOSE))
        assert isinstance(read_error(conn), ConnectionAbortedError)
        conn.close()
        assert log.heard == [
            *("reads", "input", "works", "reads", "rate", "works"),
            *(("writes", PING), ("wrote", PING), ("writes", CLOSE), ("wrote", CLOSE)),
            *(("writes", TEXT_MESSAGE), "reads", "input", "works", "closed"),
        ]


def waits(conn: Conn) -> tuple[str | None, str | None]:
    """Return what the reader and the writer are waiting for."""
    statistics = conn.statistics()
    for waiting in (statistics.reader, statistics.writer):
        assert waiting is None or 0 <= waiting.seconds < PATIENCE
    reader, writer = statistics.reader, statistics.writer
    return reader and reader.what, writer and writer.what


def test_statistics_say_what_the_threads_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """statistics shows what each thread is waiting for."""
    monkeypatch.setattr("gochat.golang.websocket.conn._CLOSE_WAIT", 2 * PATIENCE)
    with connected(Upgrader(read_rate=1e-6), small=True) as (conn, peer):
        assert waits(conn) == (None, None)
        with (
            in_background(lambda: conn.write_message(TEXT_MESSAGE, b"x" * 10**6)),
            in_background(lambda: read_error(conn)),
        ):
            wait_until(lambda: waits(conn) == ("input", "room"))
            assert conn.statistics().stalls > 0
            peer.sock.sendall(frame("p", PING))
            wait_until(lambda: waits(conn) == ("lock", "room"))
            assert peer.read_frame().payload == b"x" * 10**6
            assert peer.read_frame() == Frame(True, PONG, b"p")
            peer.sock.sendall(frame("x"))
            wait_until(lambda: waits(conn) == ("rate", None))
            conn.write_message(CLOSE_MESSAGE, b"")
            with in_background(conn.close):
                wait_until(lambda: waits(conn)[1] == "close")
                peer.sock.close()
        assert waits(conn) == (None, None)


def test_statistics_count_messages_that_were_given_up() -> None:
    """A write that times out while another thread writes is counted as given up."""
    with (
        connected(small=True) as (conn, peer),
        in_background(lambda: conn.write_message(TEXT_MESSAGE, b"x" * 10**6)),
    ):
        wait_until(lambda: waits(conn)[1] == "room")
        conn.set_write_deadline(time.monotonic() + 0.01)
        with pytest.raises(TimeoutError):
            conn.write_message(PING_MESSAGE, b"")
        assert conn.statistics().given_up == 1
        assert peer.read_frame().payload == b"x" * 10**6


def test_statistics_of_an_upgrader() -> None:
    """An Upgrader counts accepted handshakes, and refused ones by reason."""
    upgrader = Upgrader()
    with connected(upgrader), connected(upgrader):
        pass
    for missing in ("HTTP_CONNECTION", "HTTP_CONNECTION", "gochat.hijacker"):
        with pytest.raises(HandshakeError):
            upgrader.upgrade(handshake_environ(**{missing: None}))
    statistics = upgrader.statistics()
    assert statistics.upgraded == 2
    assert {reason: n for reason, n in statistics.refused.items() if n} == {
        "connection": 2,
        "hijack": 1,
    }


# on_message.


def test_on_message_changes_and_drops() -> None:
    """on_message returns the message to deliver, or None to drop it."""

    def change(conn: Conn, message: bytes) -> bytes | None:
        return conn.user.encode() + message.upper() if message != b"drop" else None

    with connected(Upgrader(on_message=change), REMOTE_USER="ann ") as (conn, peer):
        peer.sock.sendall(frame("drop") + frame("a") + frame("drop", BINARY) + frame("b", BINARY))
        assert conn.read_message() == (TEXT_MESSAGE, b"ann A")
        assert conn.read_message() == (BINARY_MESSAGE, b"ann B")
        assert conn.statistics().messages_in == 4
    with connected() as (conn, _):
        assert conn.user == ""


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ProtocolError("not\n so", 4000), 4000, b"not\n so"),
        (ProtocolError("not so"), 1002, b"not so"),
        (ValueError("a mistake"), 1011, b""),
    ],
)
def test_on_message_that_refuses(error: Exception, code: int, reason: bytes) -> None:
    """If on_message raises ProtocolError, the peer gets its code. Other exceptions send 1011."""

    def refuse(_: Conn, __: bytes) -> bytes:
        raise error

    with connected(Upgrader(on_message=refuse)) as (conn, peer):
        peer.sock.sendall(frame("x"))
        with (
            in_background(lambda: peer.sock.shutdown(socket.SHUT_WR)),
            pytest.raises(type(error)) as caught,
        ):
            conn.read_message()
        assert caught.value is error
        (farewell,) = peer.read_to_end()
        assert (farewell.code, farewell.payload[2:]) == (code, reason)
        assert isinstance(read_error(conn), type(error) if code != 1011 else ConnectionAbortedError)


# Interruptions.


class InterruptError(BaseException):
    """An exception for signal handlers, like KeyboardInterrupt from Ctrl-C."""


@contextlib.contextmanager
def alarms(handler: Callable[[], object]) -> Iterator[None]:
    """Call the handler on the main thread at each SIGALRM."""

    def handle(_: int, __: object) -> None:
        handler()

    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt() -> None:
    raise InterruptError


class InterruptedLock:
    """A lock that raises once, just after it has been acquired, as a signal handler might."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.interrupted = False

    def acquire(self, *args: Any, **options: Any) -> bool:
        acquired: bool = self.lock.acquire(*args, **options)
        if not self.interrupted:
            self.interrupted = True
            interrupt()
        return acquired

    def release(self) -> None:
        self.lock.release()


def test_write_that_is_interrupted_when_it_has_the_lock() -> None:
    """A write interrupted just after acquiring the lock releases it."""
    with connected() as (conn, peer):
        conn._write_lock = InterruptedLock(conn._write_lock)  # type: ignore[assignment]
        with pytest.raises(InterruptError):
            conn.write_message(TEXT_MESSAGE, b"first")
        with in_background(lambda: conn.write_message(TEXT_MESSAGE, b"second")):
            assert peer.read_frame().payload == b"second"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_write_that_is_interrupted_in_the_middle(
    failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an exception interrupts a frame, all later writes fail."""

    def fail(*_: object) -> None:
        raise failure

    with connected(small=True) as (conn, peer):
        monkeypatch.setattr(conn, "_await_room", fail)
        with pytest.raises(failure):
            conn.write_message(TEXT_MESSAGE, b"x" * 10**6)
        monkeypatch.undo()
        for kind in (TEXT_MESSAGE, PING_MESSAGE, CLOSE_MESSAGE):
            with pytest.raises(ConnectionAbortedError, match="writing has failed"):
                conn.write_message(kind, b"y")
        assert isinstance(conn.write_error, ConnectionAbortedError)
        assert peer.read_to_end() == []
        assert b"y" not in peer.buffer[10:]


def test_writes_that_are_interrupted_anywhere() -> None:
    """Interrupted writes cut at most the last frame short, and leave no lock held."""
    chance = random.Random(SEED)
    letters = [letter * 20_000 for letter in (b"a", b"b", b"c")]
    torn = 0
    with alarms(interrupt):
        for _ in range(200):
            with connected(small=True) as (conn, peer):
                written = 0

                def read() -> None:
                    while True:
                        with contextlib.suppress(EOFError, ConnectionError):
                            peer.fill()
                            continue
                        return

                with in_background(read):
                    with contextlib.suppress(InterruptError):
                        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 4e-4))
                        for letter in letters * 10:
                            conn.write_message(TEXT_MESSAGE, letter)
                            written += 1
                    signal.setitimer(signal.ITIMER_REAL, 0)

                    def again(conn: Conn = conn) -> None:
                        with contextlib.suppress(ConnectionAbortedError):
                            conn.write_message(TEXT_MESSAGE, b"next")

                    with in_background(again):
                        pass
                    conn.close()
                rest = peer.buffer
                while cut := cut_frame(rest):
                    got, end = cut
                    rest = rest[end:]
                    assert got.payload in (*letters, b"next"), f"a torn frame, with the seed {SEED}"
                    written -= got.payload != b"next"
                torn += bool(rest)
                assert rest[4:] == rest[4:5] * len(rest[4:]), f"with the seed {SEED}"
                assert written <= 0, f"a frame is lost, with the seed {SEED}"
    assert torn > 0


def test_write_within_a_write() -> None:
    """A signal handler that writes while its thread is writing gets RuntimeError."""
    errors: list[str] = []
    with connected(small=True) as (conn, peer):

        def write() -> None:
            try:
                conn.write_message(PING_MESSAGE, b"")
            except RuntimeError as error:
                errors.append(str(error))

        def read() -> None:
            wait_until(lambda: waits(conn)[1] == "room")
            signal_main_thread(signal.SIGALRM)
            wait_until(lambda: bool(errors))
            assert peer.read_frame() == Frame(True, TEXT, b"x" * 10**6)
            assert peer.read_frame() == Frame(True, PING, b"")

        with alarms(write), in_background(read):
            conn.write_message(TEXT_MESSAGE, b"x" * 10**6)
            conn.write_message(PING_MESSAGE, b"")
    assert errors == ["websocket: a write in the middle of another, by one thread"]


def test_close_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gochat.golang.websocket.conn._CLOSE_WAIT", 2 * PATIENCE)
    with connected() as (conn, peer), in_background(lambda: read_error(conn)):
        conn.write_message(CLOSE_MESSAGE, b"")
        with alarms(interrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(InterruptError):
                conn.close()
        assert peer.read_to_end() == [Frame(True, CLOSE, b"")]
