"""Send bad input to a real gochat while two clients chat undisturbed.

    python -m tests.fuzz --count 100000 --seed 1

This starts a server with short timeouts, and at the end also checks its threads, descriptors and
log. With --port, the input goes to a running server on this machine, and only its answers are
checked.

Each input depends only on the seed and its number: --first N --count 1 repeats input N.
"""

from __future__ import annotations

import argparse
import random
import re
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .loop import Frames, Link, Loop, idle, resources
from .support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Frame,
    Gochat,
    frame,
    raw_frame,
    request,
    wait_until,
)

#: A request may take 1 s, and a client may be silent for 5 s. The send buffer is so large that a
#: flood never disconnects a client that reads.
FLAGS = ["--read-header-timeout", "1", "--pong-wait", "5", "--ping-period", "2"]
FLAGS += ["--send-buffer", "20000"]

#: Seconds for a request to arrive. A slower one may be cut off.
REQUEST_TIME = 1.0

#: The longest time from the last byte of an input to the end of its connection, in seconds. LIMIT
#: is the longest deadline in FLAGS plus time for the close and for a busy machine. LIMIT_OF_OTHERS
#: is for other servers, with Go's deadlines.
LIMIT, LIMIT_OF_OTHERS = 20.0, 90.0

#: All valid outcomes of an input. Any other outcome is a failure.
ANSWER = re.compile(
    r"(101, )?(close \d{4}|EOF|reset|left)|200|404|[45]\d\d|(200|404|[45]\d\d), (reset|left)"
)

CLOSED = "101, close 1000"
BROKEN = "101, close 1002"
NOT_UTF8 = "101, close 1007"
TOO_BIG = "101, close 1009"

#: Codes that are valid in a close frame, and that are not (RFC 6455, section 7.4).
GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
BAD_CODES = [0, 1, 255, 256, 999, 1004, 1005, 1006, 1015, 5000, 32767, 32768, 65535]

INVALID_UTF8 = [
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",  # "/" in two bytes
    b"\xc1\xbf",
    b"\xc3",
    b"\xe0\x80\xaf",
    b"\xe2\x82",
    b"\xed\xa0\x80",  # half of a surrogate pair
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",  # beyond Unicode
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
]


class Input(NamedTuple):
    """The pieces that one connection sends.

    pieces: each is bytes to send, None to wait for the start of the answer, or seconds to wait.

    end: what follows: "wait" for the server to end the connection, "half close" and wait, "close",
    or "reset".

    expected: the correct outcomes. If empty, anything that ANSWER matches is correct.
    """

    pieces: Sequence[bytes | float | None]
    end: str = "half close"
    expected: Sequence[str] = ()


def close(code: int = 1000) -> bytes:
    return frame(struct.pack("!H", code), CLOSE)


def any_end(chance: random.Random) -> str:
    """Return a random `end` for an input, usually "half close"."""
    return chance.choices(["half close", "wait", "close", "reset"], [80, 3, 9, 8])[0]


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return the data with some bytes changed, removed, doubled, moved or added."""
    text = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at, size = chance.randrange(len(text) + 1), chance.randint(1, 8)
        part = text[at : at + size]
        what = chance.randrange(5)
        if what == 0 and at < len(text):
            text[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            del text[at : at + size]
        elif what == 2:
            text[at:at] = part * chance.randint(1, 4)
        elif what == 3:
            to = chance.randrange(len(text) + 1)
            text[to:to] = part
        else:
            text[at:at] = chance.randbytes(size)
    return bytes(text)


# Requests.


def split_request(chance: random.Random) -> Input:
    """A valid handshake in two packets, split at any byte."""
    good = request()
    cut = chance.randrange(1, len(good))
    return Input([good[:cut], good[cut:] + close()], "wait", [CLOSED])


def dripping_request(chance: random.Random) -> Input:
    """A valid handshake in packets of a few bytes."""
    good, size = request() + close(), chance.randint(1, 9)
    return Input([good[i : i + size] for i in range(0, len(good), size)], "wait", [CLOSED])


def truncated_request(chance: random.Random) -> Input:
    """A valid handshake, cut off at a random byte."""
    good = request()
    return Input([good[: chance.randrange(len(good))]], any_end(chance))


def long_request(chance: random.Random) -> Input:
    """A long target, a long line, or very many lines."""
    size = chance.choice([1000, 8190, 16_000, 65_500, 65_535, 65_536, 65_537, 70_000, 100_000])
    what = chance.randrange(4)
    if what == 0:
        return Input([request(start=f"GET /{'a' * size} HTTP/1.1")])
    if what == 1:
        return Input([request([*HANDSHAKE, ("X-Long", "a" * size)])])
    if what == 2:
        count = chance.choice([50, 94, 95, 96, 101, 500])
        return Input([request([*HANDSHAKE, *((f"X-{i}", "a" * 1000) for i in range(count))])])
    return Input([b"a" * size])


def doubled_header(chance: random.Random) -> Input:
    """A handshake with a duplicate or missing header, and sometimes an Origin."""
    name, value = chance.choice(HANDSHAKE)
    other = chance.choice([value, value.upper(), "", "x", "a, " + value, value + ", " + value])
    headers = [header for header in HANDSHAKE if header[0] != name or chance.random() < 0.8]
    headers.insert(chance.randrange(len(headers) + 1), (chance.choice([name, name.lower()]), other))
    if chance.random() < 0.3:
        origin = chance.choice(["http://localhost", "http://evil.example", "null", "", "://"])
        headers += [("Origin", origin)] * chance.randint(1, 2)
    return Input([request(headers) + close()])


def smuggled_request(chance: random.Random) -> Input:
    """A body of ambiguous length that contains a second request."""
    lengths = ["0", "5", "05", "+5", "-5", "0x5", "5, 5", "5,6", "", "9" * 30, "5 ", "\x0b5", "5\r"]
    codings = ["chunked", "Chunked", "identity", "chunked, chunked", "xchunked", "\x0bchunked"]
    headers = list(chance.choice([HANDSHAKE, HANDSHAKE[:1]]))
    for _ in range(chance.randint(0, 2)):
        headers.append(("Content-Length", chance.choice(lengths)))
    for _ in range(chance.randint(0, 2)):
        name = chance.choice(["Transfer-Encoding", "Transfer-Encoding ", " Transfer-Encoding"])
        headers.append((name, chance.choice(codings)))
    chance.shuffle(headers)
    method = chance.choice(["GET", "POST", "PUT", "HEAD"])
    path = chance.choice(["/", "/ws", "/x"])
    end = chance.choice(["\r\n"] * 8 + ["\n", "\r"])
    head = request(headers, f"{method} {path} HTTP/1.{chance.randrange(2)}", end)
    body = chance.choice(
        [b"", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"ffffffffff\r\n"]
    )
    return Input([head + body + request(HANDSHAKE[:1], "GET / HTTP/1.1")])


def odd_target(chance: random.Random) -> Input:
    """A target that is not a plain path."""
    targets = [
        "http://localhost/ws",
        "http://evil.example/ws",
        "HTTP://LOCALHOST:80/ws",
        "ws://localhost/ws",
        "http://",
        "http:///ws",
        "http://[::1]/ws",
        "http://[/ws",
        "http://a@b/ws",
        "localhost:80",
        "*",
        "//ws",
        "//evil.example/ws",
        "/../ws",
        "/./ws",
        "/%77s",
        "/%2577s",
        "/ws%00",
        "/ws%",
        "/ws%zz",
        "/ws#x",
        "/ws?%",
        "/ws?x#y",
        "/ws;x",
        "\\ws",
        "/\\ws",
        "/%c0%af",
        "/\xff\xfe",
        "/%0d%0aSet-Cookie:%20x=1",
        "/ws ",
        " /ws",
        "",
        "?",
        "#",
    ]
    target = chance.choice(targets)
    if chance.random() < 0.3:
        target = mutated(chance, target.encode("latin-1")).decode("latin-1")
    return Input([request(start=f"GET {target} HTTP/1.1") + close()])


def odd_start(chance: random.Random) -> Input:
    """An unusual method, version or protocol."""
    methods = [
        "GET",
        "get",
        "HEAD",
        "POST",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PRI",
        "G\0T",
        "GET\t",
        "",
    ]
    versions = [
        "0.9",
        "1.0",
        "1.1",
        "1.2",
        "2.0",
        "3",
        "1.1.1",
        "1.-1",
        "1.1 x",
        "99999999999",
        "x",
    ]
    starts = [
        f"{chance.choice(methods)} /ws HTTP/{chance.choice(versions)}",
        f"{chance.choice(methods)} / HTTP/1.1",
        "GET /ws",
        "GET",
        "GET /ws http/1.1",
        "PRI * HTTP/2.0",
        "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        "SSH-2.0-OpenSSH_9.6",
        "\r\n\r\nGET /ws HTTP/1.1",
    ]
    return Input([request(start=chance.choice(starts))])


def control_characters(chance: random.Random) -> Input:
    """A handshake with control characters at random places."""
    text = bytearray(request())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text))
        text[at:at] = bytes([chance.choice([0, 0, 1, 8, 9, 10, 11, 12, 13, 27, 28, 127, 133, 160])])
    return Input([bytes(text) + close()])


def mutated_request(chance: random.Random) -> Input:
    """A valid handshake with some bytes changed."""
    return Input([mutated(chance, request()) + close()], any_end(chance))


def random_request(chance: random.Random) -> Input:
    """Random bytes as a request."""
    return Input([chance.randbytes(chance.randint(1, 2000))], any_end(chance))


def abandoned(chance: random.Random) -> Input:
    """Nothing, or only a handshake."""
    pieces: list[list[bytes | float | None]] = [[], [request()], [request(), None]]
    return Input(chance.choice(pieces), any_end(chance))


# Frames.


def frames(
    chance: random.Random, data: bytes, expected: Sequence[str] = (), end: str = "half close"
) -> Input:
    """Return a valid handshake followed by data, in one to three packets."""
    how = chance.randrange(3)
    if how == 0:
        return Input([request() + data], end, expected)
    cut = chance.randrange(len(data) + 1) if how == 1 else len(data)
    return Input([request(), None, data[:cut], data[cut:]], end, expected)


def any_frame(chance: random.Random) -> Input:
    """A frame with a random opcode, bits, length field and mask."""
    first = chance.randrange(256)
    size = chance.choice([0, 1, 2, 125, 126, 127, 512, 513, 1024])
    length = size if chance.random() < 0.8 else chance.randrange(1 << chance.randint(1, 64))
    mask = chance.randbytes(4) if chance.random() < 0.8 else None
    data = raw_frame(first, length, chance.choice([7, 16, 64]), b"x" * size, mask)
    return frames(chance, data + close(), end=any_end(chance))


def reserved(chance: random.Random) -> Input:
    """A reserved opcode or bit."""
    first = chance.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) | 0x80
    if chance.random() < 0.5:
        first = chance.choice([1, 2, 8, 9, 10]) | 0x80 | chance.randint(1, 7) << 4
    return frames(chance, raw_frame(first, 5, 7, b"hello") + close(), [BROKEN])


def unmasked(chance: random.Random) -> Input:
    """A frame without a mask."""
    opcode = chance.choice([TEXT, BINARY, PING, PONG, CLOSE])
    payload = struct.pack("!H", 1000) if opcode == CLOSE else b"hello"
    return frames(chance, frame(payload, opcode, mask=None) + close(), [BROKEN])


def truncated_frames(chance: random.Random) -> Input:
    """Valid frames, cut off at a random byte."""
    data = frame("x" * chance.choice([0, 5, 125, 126, 512])) + frame("hello", PING) + close()
    return frames(chance, data[: chance.randrange(len(data))], end=any_end(chance))


def random_frames(chance: random.Random) -> Input:
    """Random bytes as frames."""
    return frames(chance, chance.randbytes(chance.randint(1, 600)), end=any_end(chance))


def mutated_frames(chance: random.Random) -> Input:
    """Valid frames with some bytes changed."""
    data = frame("hello") + frame("", PING) + frame("hel", fin=False) + frame("", PONG)
    data += frame("lo", CONTINUATION) + frame("x" * 200, BINARY) + close()
    return frames(chance, mutated(chance, data), end=any_end(chance))


def huge_frame(chance: random.Random) -> Input:
    """A frame with a length over the message limit."""
    length = chance.choice([513, 1024, 65_535, 65_536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63])
    length = chance.choice([length, 2**64 - 1, chance.randrange(1 << 16, 1 << 64)])
    form = 64 if length >= 65_536 else 16
    first = chance.choice([TEXT, BINARY]) | chance.choice([0x80, 0])
    return frames(chance, raw_frame(first, length, form, b"x" * chance.randrange(600)), [TOO_BIG])


def long_way_to_say_it(chance: random.Random) -> Input:
    """A frame whose length is not encoded in the shortest form."""
    form = chance.choice([16, 64])
    size = chance.choice([0, 1, 5, 125]) if form == 16 else chance.choice([0, 5, 125, 126, 512])
    return frames(chance, raw_frame(0x81, size, form, b"x" * size) + close(), [BROKEN])


def bad_control(chance: random.Random) -> Input:
    """A control frame that is too long or fragmented."""
    opcode = chance.choice([CLOSE, PING, PONG])
    size = chance.choice([126, 127, 1000, 65_535])
    data = frame(struct.pack("!H", 1000) + b"x" * size, opcode)
    if chance.random() < 0.5:
        data = frame(struct.pack("!H", 1000), opcode, fin=False)
    return frames(chance, data + close(), [BROKEN])


def bad_utf8(chance: random.Random) -> Input:
    """Invalid UTF-8 in a text message, a binary message or a close reason."""
    text = b"x" * chance.randrange(130) + chance.choice(INVALID_UTF8)
    what = chance.randrange(4)
    if what == 0:
        text += b"x" * chance.randrange(9)
        data = frame(text, chance.choice([TEXT, BINARY]))
    elif what == 1:
        data = frame(text)
    elif what == 2:
        cut = chance.randrange(len(text))
        data = frame(text[:cut], fin=False) + frame(text[cut:], CONTINUATION)
    else:
        data = frame(struct.pack("!H", 1000) + text[-100:], CLOSE)
    return frames(chance, data + close(), [NOT_UTF8])


def good_utf8(chance: random.Random) -> Input:
    """Text in many scripts, split in the middle of characters."""
    text = "".join(chance.choices("aä€한😀\0\x1f\x85\u2028\ufeff\U0010ffff \n", k=60)).encode()
    cut = chance.randrange(len(text))
    data = frame(text[:cut], fin=False) + frame("", PING) + frame(text[cut:], CONTINUATION)
    return frames(chance, data + close(), [CLOSED], "wait")


def close_codes(chance: random.Random) -> Input:
    """A close frame with any code, half a code or none."""
    what = chance.randrange(5)
    reason = b"x" * chance.choice([0, 0, 5, 123])
    if what == 0:
        return frames(
            chance, frame(b"\3" * chance.randrange(2), CLOSE), ["101, close 1005"], "wait"
        )
    if what == 1:
        code = chance.choice(BAD_CODES)
        return frames(chance, frame(struct.pack("!H", code) + reason, CLOSE), [BROKEN])
    code = chance.choice(GOOD_CODES) if what == 2 else chance.randrange(3000, 5000)
    if what == 3:
        return frames(chance, frame(chance.randbytes(2) + reason, CLOSE))
    data = frame(struct.pack("!H", code) + reason, CLOSE)
    return frames(chance, data, [f"101, close {code}"], "wait")


def out_of_order(chance: random.Random) -> Input:
    """A continuation without a beginning, or a message inside another."""
    data = frame("hello", CONTINUATION, fin=chance.random() < 0.5)
    if chance.random() < 0.5:
        data = frame("hel", fin=False) + frame("hello", chance.choice([TEXT, BINARY]))
    return frames(chance, data + close(), [BROKEN])


def many_fragments(chance: random.Random) -> Input:
    """A message of many fragments, within the limit or over it."""
    count, size = chance.choice([2, 50, 200, 600]), chance.choice([0, 1, 10])
    parts = [frame("x" * size, TEXT, fin=False)]
    parts += [frame("x" * size, CONTINUATION, fin=False) for _ in range(count)]
    parts.append(frame("", CONTINUATION))
    expected = TOO_BIG if (count + 1) * size > 512 else CLOSED
    end = "wait" if expected == CLOSED else "half close"
    return frames(chance, b"".join(parts) + close(), [expected], end)


def flood_of_pings(chance: random.Random) -> Input:
    """Many pings without a pause."""
    ping = frame(b"x" * chance.choice([0, 5, 125]), chance.choice([PING, PING, PONG]))
    return frames(chance, ping * chance.choice([10, 100, 1000]) + close(), [CLOSED], "wait")


def flood_of_messages(chance: random.Random) -> Input:
    """Many messages without a pause, empty or nearly so."""
    message = frame(chance.choice(["", "", " ", "\n", "x"]), chance.choice([TEXT, BINARY]))
    data = message * chance.choice([10, 100, 500])
    if chance.random() < 0.2:
        return frames(chance, data, end="reset")
    return frames(chance, data + close(), [CLOSED], "wait")


#: Kinds of input with their relative frequencies.
Kinds = list[tuple[Callable[[random.Random], Input], int]]

REQUESTS: Kinds = [
    (split_request, 8),
    (dripping_request, 2),
    (truncated_request, 5),
    (long_request, 2),
    (doubled_header, 6),
    (smuggled_request, 6),
    (odd_target, 6),
    (odd_start, 5),
    (control_characters, 5),
    (mutated_request, 10),
    (random_request, 4),
    (abandoned, 3),
]

FRAMES: Kinds = [
    (any_frame, 8),
    (reserved, 3),
    (unmasked, 2),
    (truncated_frames, 5),
    (random_frames, 4),
    (mutated_frames, 8),
    (huge_frame, 3),
    (long_way_to_say_it, 2),
    (bad_control, 3),
    (bad_utf8, 4),
    (good_utf8, 2),
    (close_codes, 5),
    (out_of_order, 2),
    (many_fragments, 1),
    (flood_of_pings, 1),
    (flood_of_messages, 1),
]


KINDS = REQUESTS + FRAMES


def make_input(seed: int, number: int, kinds: Kinds = KINDS) -> tuple[str, Input]:
    """Return the kind's name and the input for a seed and a number."""
    chance = random.Random(f"{seed}/{number}")
    ((kind, _),) = chance.choices(kinds, [weight for _, weight in kinds])
    return kind.__name__, kind(chance)


class Answer:
    """Parser for what a server sends: the response, then frames after a handshake."""

    def __init__(self) -> None:
        self.head = b""
        self.body = b""
        self.status = ""
        self.frames: Frames | None = None
        self.farewell: Frame | None = None

    def take(self, data: bytes) -> list[Frame]:
        """Parse more data; return the frames that are now complete.

        Raises AssertionError if the data is not an HTTP response, or contains a frame that a server
        must not send.
        """
        if not self.status:
            self.head += data
            head, end, data = self.head.partition(b"\r\n\r\n")
            if not end:
                return []
            found = re.match(rb"HTTP/1\.[01] (\d{3}) [ -~]+(\r\n[!-9;-~]+: [ -~]*)*$", head)
            assert found, f"not an HTTP answer: {head!r}"
            self.head, self.status = head, found[1].decode()
            if self.status == "101":
                self.frames = Frames()
        if self.frames is None:
            self.body += data
            return []
        whole = self.frames.take(data)
        for got in whole:
            assert self.farewell is None, f"{got} after a close frame"
            assert got.fin, f"a fragment: {got}"
            assert got.opcode in (TEXT, PING, PONG, CLOSE), got
            if got.opcode == CLOSE:
                self.farewell = got
        return whole

    def outcome(self, how: str) -> str:
        """Return a summary of what arrived.

        how: "EOF" or "reset" if the server ended the connection, "left" if the test ended it.
        """
        if self.frames is not None:
            if self.farewell is not None:
                return f"101, close {self.farewell.code or 1005}"
            return f"101, {how}"
        if not self.status:
            assert not self.head or how != "EOF", f"half an answer: {self.head!r}"
            return how
        if how != "EOF":
            return f"{self.status}, {how}"
        size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self.head)
        assert size, f"an answer without a length: {self.head!r}"
        whole = not self.body or len(self.body) == int(size[1])  # the response to HEAD has no body
        assert whole, f"not one whole answer: {self.head + self.body!r}"
        return self.status


class Attack(Link):
    """A connection that sends one input. The server must then end the connection."""

    def __init__(self, run: Fuzz, number: int) -> None:
        self.begin = time.monotonic()
        super().__init__(run.loop, run.port, run.source(number))
        self.run = run
        self.number = number
        self.kind, self.input = run.make(run.seed, number)
        self.pieces = deque(self.input.pieces)
        self.answer = Answer()
        self.waiting = False
        self.sent = 0.0
        self.step()

    def step(self) -> None:
        """Send the next piece. After the last one, end the connection as the input says."""
        if self.closed:
            return
        if self.pieces:
            piece = self.pieces.popleft()
            if piece is None and not self.answer.status:
                self.waiting = True
                return
            if isinstance(piece, float):
                self.loop.after(piece, self.step)
                return
            self.send(piece or b"")
            self.loop.after(0, self.step)
            return
        self.sent = time.monotonic()
        if self.input.end == "half close":
            self.half_close()
        elif self.input.end != "wait":
            self.close(reset=self.input.end == "reset")
            self.over("left")
            return
        self.loop.after(self.run.limit, self.too_late)

    def got(self, data: bytes) -> None:
        try:
            self.answer.take(data)
        except AssertionError as error:
            self.close()
            self.run.failed(self, str(error))
            return
        if self.waiting and self.answer.status:
            self.waiting = False
            self.step()

    def ended(self, reset: bool) -> None:
        self.run.waits.append(time.monotonic() - (self.sent or self.begin))
        self.over("reset" if reset else "EOF")

    def over(self, how: str) -> None:
        try:
            outcome = self.answer.outcome(how)
        except AssertionError as error:
            if self.run.breaking:
                self.run.over(self, "half an answer")
            else:
                self.run.failed(self, str(error))
            return
        expected = list(self.input.expected)
        if expected and time.monotonic() - self.begin >= REQUEST_TIME:
            expected.append("EOF")  # if the machine is busy, the request may arrive late
        if not ANSWER.fullmatch(outcome) or (expected and outcome not in expected):
            self.run.failed(self, outcome)
        else:
            self.run.over(self, outcome)

    def too_late(self) -> None:
        if not self.closed:
            self.close()
            self.run.failed(self, f"silence, {self.run.limit} s long")


class Guest(Link):
    """A well-behaved client: it reads, and answers pings and close frames."""

    def __init__(self, loop: Loop, port: int, source: str = "127.0.0.1") -> None:
        super().__init__(loop, port, source)
        self.answer = Answer()
        self.send(request())

    @property
    def connected(self) -> bool:
        return self.answer.frames is not None

    def got(self, data: bytes) -> None:
        for got in self.answer.take(data):
            if got.opcode == TEXT:
                for message in got.payload.split(b"\n"):
                    self.hear(message)
            elif got.opcode == PING:
                self.send(frame(got.payload, PONG))
            elif got.opcode == CLOSE:
                self.send(frame(got.payload, CLOSE))

    def hear(self, message: bytes) -> None:
        """Handle a message."""


class Friend(Guest):
    """A client that chats and checks that each friend's messages arrive once and in order."""

    def __init__(self, loop: Loop, port: int, name: str, limit: float) -> None:
        super().__init__(loop, port)
        self.prefix, _, self.name = name.rpartition(" ")
        self.limit = limit
        self.said = 0
        #: Number of messages that have arrived from each friend, by name.
        self.heard: Counter[str] = Counter()
        self.since = time.monotonic()
        #: Round-trip times of its messages, in seconds.
        self.round_trips: list[float] = []
        self.quiet = False
        self.keep_alive()

    def say(self) -> None:
        if not self.quiet and not self.closed:
            self.send(frame(f"{self.prefix} {self.name} {self.said}"))
            self.said += 1
            self.since = time.monotonic()

    def got(self, data: bytes) -> None:
        new = not self.answer.status
        super().got(data)
        if new and self.answer.status:
            assert self.connected, self.answer.status
            self.say()

    def hear(self, message: bytes) -> None:
        text = message.decode()
        if not text.startswith(f"{self.prefix} "):
            return
        name, number = text[len(self.prefix) + 1 :].split()
        if name not in self.heard:  # this friend has missed messages from before it joined
            self.heard[name] = int(number)
        assert int(number) == self.heard[name], f"{self.name} got {text!r} for {self.heard}"
        self.heard[name] += 1
        if name == self.name:
            self.round_trips.append(time.monotonic() - self.since)
            self.loop.after(0.02, self.say)

    def ended(self, reset: bool) -> None:
        raise AssertionError(f"{self.name} was dropped: {self.answer.outcome('EOF')}, {reset=}")

    def check(self) -> None:
        """Raise AssertionError if this friend's last message is overdue."""
        late = self.said > self.heard[self.name] and time.monotonic() - self.since > self.limit
        assert not late, f"{self.name} does not get back what it says"

    def keep_alive(self) -> None:
        """Send unsolicited pongs, because the server's pings may be late."""
        if not self.closed:
            self.send(frame("", PONG))
            self.loop.after(0.5, self.keep_alive)


class Friends:
    """Friends who chat with each other. When the constructor returns, each has heard the others."""

    def __init__(
        self,
        loop: Loop,
        port: int,
        prefix: str,
        limit: float = LIMIT,
        names: Sequence[str] = ("Ann", "Bob"),
    ) -> None:
        self.loop = loop
        self.all = [Friend(loop, port, f"{prefix} {name}", limit) for name in names]
        loop.run_until(lambda: all(len(f.heard) == len(names) for f in self.all), "a chat")

    @property
    def said(self) -> int:
        """Number of messages said so far. After `end`, every friend has received all of them."""
        return sum(friend.said for friend in self.all)

    def check(self) -> None:
        """Raise AssertionError if any friend was disturbed."""
        for friend in self.all:
            friend.check()

    def end(self) -> None:
        """Stop the chat; wait until every friend has every message. All stay connected."""
        for friend in self.all:
            friend.quiet = True
        said = Counter({friend.name: friend.said for friend in self.all})
        self.loop.run_until(lambda: all(f.heard == said for f in self.all), "the last words")


def any_source(number: int) -> str:
    """Return one of 200 source addresses. A single address would not have enough ports."""
    return f"127.0.0.{2 + number % 200}"


class Fuzz:
    """A run that sends inputs on many connections at once.

    make: returns the kind and the input for a seed and a number.

    source: returns the source address for a number.

    breaking: whether connections break, so that half a response is no failure.
    """

    def __init__(
        self,
        port: int,
        seed: int,
        limit: float = LIMIT,
        *,
        make: Callable[[int, int], tuple[str, Input]] = make_input,
        source: Callable[[int], str] = any_source,
        loop: Loop | None = None,
        breaking: bool = False,
    ) -> None:
        self.port = port
        self.seed = seed
        self.limit = limit
        self.make = make
        self.source = source
        self.loop = loop or Loop()
        self.breaking = breaking
        self.open = 0
        #: Seconds from each input's last byte to the end of its connection, or from the start of
        #: the connection if part of the input was never sent.
        self.waits: list[float] = []
        self.said = 0
        self.kinds: dict[str, Counter[str]] = {}
        self.failures: list[str] = []

    def over(self, attack: Attack, outcome: str) -> None:
        self.open -= 1
        outcome = re.sub(r"close [34]\d{3}", "close 3000 to 4999", outcome)
        self.kinds.setdefault(attack.kind, Counter())[outcome] += 1

    def failed(self, attack: Attack, why: str) -> None:
        self.over(attack, "FAILED")
        expected = " or ".join(attack.input.expected)
        self.failures.append(
            f"seed {self.seed} number {attack.number}, {attack.kind}: {why[:500]}"
            + (f", not {expected}" if expected else "")
            + f", for {str(attack.input)[:300]}"
        )

    def run(self, count: int, first: int = 0, at_once: int = 100, progress: int = 0) -> None:
        """Send `count` inputs, starting with number `first`, while two friends chat."""
        try:
            friends = Friends(self.loop, self.port, f"friends of {self.seed}", self.limit)
            self.attack(count, first, at_once, progress, friends.check)
            friends.end()
            self.said = friends.said
        finally:
            self.loop.close()

    def attack(
        self, count: int, first: int, at_once: int, progress: int, check: Callable[[], object]
    ) -> None:
        """Send `count` inputs, starting with number `first`.

        check: called repeatedly during the run.
        """
        number, end = first, first + count
        while number < end or self.open:
            while number < end and self.open < at_once:
                self.open += 1
                Attack(self, number)
                number += 1
                if progress and number % progress == 0:
                    print(f"{number - first} of {count}, {len(self.failures)} failed", flush=True)
            self.loop.turn()
            check()

    def report(self) -> str:
        """Return a summary: for each kind, the inputs and their outcomes."""
        lines = []
        for kind, outcomes in sorted(self.kinds.items()):
            answers = ", ".join(f"{outcome!r} {n}" for outcome, n in outcomes.most_common())
            lines.append(f"{kind} {outcomes.total()}: {answers}")
        total = sum(self.kinds.values(), Counter())
        lines.append("")
        lines += [f"{outcome}: {n}" for outcome, n in total.most_common()]
        longest = max(self.waits, default=0.0)
        lines.append(f"{total.total()} inputs, the longest wait for an end {longest:.1f} s")
        lines.append(f"the two who chat said {self.said}, and each got all of them")
        return "\n".join([*lines, *self.failures])


def fuzz_server(
    count: int, seed: int, first: int = 0, at_once: int = 100, progress: int = 0
) -> Fuzz:
    """Fuzz a new server. Raises AssertionError if it leaks or logs a traceback."""
    with Gochat(*FLAGS) as gochat:
        before = idle(gochat)
        fuzz = Fuzz(gochat.port, seed)
        fuzz.run(count, first, at_once, progress)
        wait_until(lambda: resources(gochat) == before, "all is released")
    assert not gochat.logged("Traceback"), "\n".join(gochat.lines[-100:])
    return fuzz


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if any input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--at-once", type=int, default=100, help="how many connections at once")
    parser.add_argument("--port", type=int, help="of a server on 127.0.0.1; default: start one")
    args = parser.parse_args(argv)
    start = time.monotonic()
    if args.port:
        fuzz = Fuzz(args.port, args.seed, LIMIT_OF_OTHERS)
        fuzz.run(args.count, args.first, args.at_once, 5000)
    else:
        fuzz = fuzz_server(args.count, args.seed, args.first, args.at_once, 5000)
    print(fuzz.report())
    print(f"{time.monotonic() - start:.0f} s")
    return 1 if fuzz.failures else 0


if __name__ == "__main__":
    sys.exit(main())
