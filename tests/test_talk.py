"""`gochat talk`, at a terminal and in a pipe, and with servers that misbehave."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyte
import pytest

from gochat.golang.dial import Address
from gochat.golang.frames import accept_key
from gochat.golang.http.address import listen
from gochat.ops.command import main
from gochat.ops.flags import parse_flags
from gochat.talk.frames import Frame, cut_frame

from .support import (
    BINARY,
    CLOSE,
    COMMAND,
    CONTINUATION,
    LOCAL,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Gochat,
    Room,
    Stream,
    command,
    frame,
    in_background,
    is_one_line,
    join,
    make_certificate,
    wait_until,
)

# Few other tests run this code, so coverage is also measured in the processes started here.
pytestmark = pytest.mark.measured

# A function that serves one connection.
Script = Callable[["Visitor"], None]

#: A frame's line in the output of --frames, with any time and mask.
FRAME_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} ([<>] 0x.*?) +(mask [0-9a-f]{8}|no mask) *(.*)")


def serverframe(payload: bytes | str = b"", opcode: int = TEXT, *, fin: bool = True) -> bytes:
    return frame(payload, opcode, fin=fin, mask=None)


def close_frame(code: int, reason: str = "") -> bytes:
    return serverframe(struct.pack("!H", code) + reason.encode(), CLOSE)


class Visitor(Stream):
    """The server's end of a connection, which does exactly what the test says."""

    request = b""

    def greet(self) -> None:
        self.request = self.read_until(b"\r\n\r\n")
        found = re.search(rb"(?i)sec-websocket-key: (\S+)", self.request)
        assert found
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(found[1].decode())
        )

    def hear(self) -> Frame:
        while (found := cut_frame(self.buffer, 10**6)) is None:
            self.fill()
        assert found.mask is not None, "a client's frame is masked"
        return found

    def say(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def echo(self) -> None:
        """Send every frame back, then answer the close frame."""
        while (got := self.hear()).opcode != CLOSE:
            self.say(serverframe(got.payload, got.opcode))
        self.say(serverframe(got.payload, CLOSE))


def local(listener: socket.socket) -> str:
    """Return the address of a listening socket."""
    return f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(
    *scripts: Script,
    certificate: Path | None = None,
    then: Callable[[], object] = lambda: None,
) -> Iterator[str]:
    """Yield the address of a server that runs one script for each connection, in order.

    then: called after all scripts have ended. Leaving the block waits for the scripts.
    """
    failures: list[BaseException] = []
    with listen(LOCAL) as listener:
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))

        def serve() -> None:
            try:
                for script in scripts:
                    sock, _ = listener.accept()
                    with sock:
                        if context:
                            with context.wrap_socket(sock, server_side=True) as wrapped:
                                script(Visitor(wrapped))
                        else:
                            script(Visitor(sock))
                then()
            except BaseException as error:  # raised again below
                failures.append(error)

        thread = threading.Thread(target=serve, name="server", daemon=True)
        thread.start()
        yield local(listener)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a script has not come to its end"
    if failures:
        raise failures[0]


def piped(
    *args: str, text: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [COMMAND, "talk", *args],
        input=text,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=os.environ | (env or {}),
    )
    return subprocess.CompletedProcess(
        result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
    )


class Screen(pyte.Screen):
    """A terminal screen that reports its cursor position when asked."""

    def __init__(self, master: int) -> None:
        super().__init__(120, 40)
        self.master = master

    def write_process_input(self, data: str) -> None:
        os.write(self.master, data.encode())


class Terminal:
    """`gochat talk` in a terminal of 120 by 40 characters."""

    def __init__(self, *args: str, fault: str = "") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.slave = slave
        self.settings = termios.tcgetattr(slave)
        self.screen = Screen(self.master)
        self.stream = pyte.ByteStream(self.screen)
        #: All output so far.
        self.raw = b""
        #: The screen's non-empty lines.
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*command(fault), "talk", *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | {"TERM": "xterm"},
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def look(self) -> list[str]:
        """Read new output; return the screen's non-empty lines.

        The lines are kept, because pyte takes milliseconds to compute them.
        """
        while select.select([self.master], [], [], 0)[0]:
            data = os.read(self.master, 65536)
            self.raw += data
            self.stream.feed(data)
            self.lines = [line.rstrip() for line in self.screen.display if line.strip()]
        return self.lines

    def shows(self, *lines: str) -> None:
        """Wait until the screen ends with these lines."""
        try:
            wait_until(lambda: self.look()[-len(lines) :] == list(lines))
        except AssertionError:
            raise AssertionError(f"not {lines} but {self.look()}") from None

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def status(self) -> int:
        """Wait for the command to end; check that it restored the terminal; return its status."""
        wait_until(lambda: self.look() is not None and self.process.poll() is not None, "the end")
        assert termios.tcgetattr(self.slave) == self.settings
        return self.process.returncode


# At a terminal.


def test_a_message_does_not_disturb_the_line() -> None:
    """Messages appear above the line being typed and do not move its cursor."""
    with (
        Room() as room,
        join(room.port) as bob,
        Terminal(f":{room.port}", "--name", "Ann") as ann,
    ):
        ann.shows("Ann>")
        ann.type("hello Bod")
        ann.shows("Ann> hello Bod")
        bob.send("Bob: are you there?")
        ann.shows("Bob: are you there?", "Ann> hello Bod")
        ann.type("\x1b[D\x7f\x7f")  # the left arrow, then two letters deleted
        ann.shows("Ann> hello d")
        bob.send("Bob: \u5f20\u4e09 " + "x" * 110)  # wide characters and a full line
        ann.shows("Bob: \u5f20\u4e09 " + "x" * 110, "Ann> hello d")
        wait_until(lambda: bool(ann.look()) and ann.screen.cursor.x == len("Ann> hello "))
        ann.type("Bo\r")
        ann.shows("Ann: hello Bod", "Ann>")
        assert bob.messages(3)[2] == "Ann: hello Bod"
        ann.type("\x1b[A")  # the up arrow
        ann.shows("Ann> hello Bod")


def test_commands() -> None:
    """/name changes the name, /history repeats messages, and " /" begins an ordinary message."""
    with Room() as room, Terminal(f"http://127.0.0.1:{room.port}") as terminal:
        terminal.shows(">")
        terminal.type("/name\r")
        terminal.shows("gochat: you have no name", ">")
        terminal.type("/name Ann\r")
        terminal.shows("gochat: your name is Ann", "Ann>")
        terminal.type("/name a: b\r")
        terminal.shows(
            "gochat: 'a: b' is not a name of 1 to 40 characters without ': ' in it", "Ann>"
        )
        terminal.type("hi\r")
        terminal.shows("Ann: hi", "Ann>")
        terminal.type("  \r /who\r")
        terminal.shows("Ann: /who", "Ann>")
        terminal.type(" /quitt\r")
        terminal.shows("Ann: /quitt", "Ann>")
        terminal.type("/history\r")
        wait_until(lambda: sum("Ann: /quitt" in line for line in terminal.look()) == 2)
        terminal.shows("Ann>")
        again = terminal.look()[-4:-1]
        assert [line[9:] for line in again] == ["Ann: hi", "Ann: /who", "Ann: /quitt"]
        assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in again)
        terminal.type("/help\r")
        wait_until(lambda: any("/quit       end" in line for line in terminal.look()))
        terminal.type("/quit\r")
        assert terminal.status() == 0


def test_what_is_no_command_is_not_sent() -> None:
    """A line that starts with / but is not a command is not sent."""
    lines = {
        "/quitt": "/quitt",
        "/who": "/who",
        "/h": "/h",  # could be /history or /help
        "/": "/",
        "/to bob psst": "/to",
        "/NAME Ann": "/NAME",
        "//": "//",
        "/name\u3000Ann": "/name\u3000Ann",
        "\x1b[200~\n/quitt\x1b[201~": "/quitt",  # pasted after a line break
        "/" + "x" * 500: "/" + "x" * 39,
    }
    with (
        Room() as room,
        join(room.port) as bob,
        Terminal(f":{room.port}", "--name", "Ann") as terminal,
    ):
        terminal.shows("Ann>")
        for typed, word in lines.items():
            terminal.type(f"{typed}\r")
            said = (
                f"gochat: not sent: there is no command {word}; there are /name, /history, /quit"
                " and /help. Put a space first to send the line as it is"
            )
            end = re.sub(r"\s", "", f"{said}Ann>")

            def noted(end: str = end) -> bool:
                return re.sub(r"\s", "", "".join(terminal.look())).endswith(end)

            wait_until(noted, f"the note about {word}")
            terminal.type(f"after {word}\r")
            assert bob.messages(1) == [f"Ann: after {word}"]  # nothing from Ann came in between
            terminal.shows(f"Ann: after {word}", "Ann>")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("\x04", 0),
        ("\x03", 130),
        (signal.SIGTERM, 143),
    ],
    ids=str,
)
def test_the_end_at_a_terminal(end: str | signal.Signals, status: int) -> None:
    """On Ctrl-D, Ctrl-C or SIGTERM, the client sends a close frame and restores the terminal."""
    closes = []

    def script(visitor: Visitor) -> None:
        visitor.greet()
        closes.append(visitor.hear())
        visitor.say(serverframe(closes[0].payload, CLOSE))

    with serving(script) as address, Terminal(address) as terminal:
        terminal.shows(">")
        if isinstance(end, str):
            terminal.type(end)
        else:
            terminal.process.send_signal(end)
        assert terminal.status() == status
    assert [(each.opcode, each.payload) for each in closes] == [(CLOSE, b"\x03\xe9")]  # 1001


def test_what_is_typed_meanwhile_is_kept() -> None:
    """If the connection is lost, messages that may be lost are listed, and new ones kept."""
    go_on = threading.Event()
    heard: list[str] = []

    def fail(visitor: Visitor) -> None:
        visitor.greet()
        visitor.say(serverframe("Bob: hi"))
        visitor.hear()

    def recover(visitor: Visitor) -> None:
        assert go_on.wait(PATIENCE)
        visitor.greet()
        heard.extend(visitor.hear().payload.decode() for _ in range(100))
        visitor.say(serverframe("Ann: 98"))
        visitor.echo()

    with serving(fail, recover) as address, Terminal(address, "--name", "Ann") as ann:
        ann.shows("Bob: hi", "Ann>")
        ann.type("is it lost?\r")
        wait_until(lambda: any("may be lost: Ann: is it lost?" in line for line in ann.look()))
        text = " ".join(ann.look())
        assert "gochat: 1 message has not come back and may be lost: Ann: is it lost?" in text
        assert "gochat: the connection was lost: it ended without a close frame;" in text
        ann.shows("(not connected) Ann>")
        ann.type("".join(f"{i}\r" for i in range(101)))
        ann.shows(
            "gochat: not connected, kept for later: Ann: 99",
            "gochat: not connected, and 100 messages are kept already, so this is lost: Ann: 100",
            "(not connected) Ann>",
        )
        go_on.set()
        wait_until(lambda: any("gochat: connected again;" in line for line in ann.look()))
        ann.shows("Ann: 98", "Ann>")
        ann.type("\x04")
        assert ann.status() == 0
    assert heard == [f"Ann: {i}" for i in range(100)]


def test_the_end_without_a_connection() -> None:
    """If the user quits while disconnected, the kept messages are listed as not sent."""
    with serving(lambda visitor: visitor.greet()) as address, Terminal(address) as terminal:
        wait_until(lambda: any("trying again in " in line for line in terminal.look()))
        terminal.type("too late\r")
        wait_until(lambda: any("kept for later: too late" in line for line in terminal.look()))
        terminal.type("\x03")
        assert terminal.status() == 130
        assert "gochat: 1 message has not been sent: too late" in terminal.look()


def test_the_begin_at_a_terminal() -> None:
    with Room() as room, Terminal(f":{room.port}") as terminal:
        said = f"gochat: connected to localhost:{room.port}; /help says what can be typed"
        terminal.shows(said, ">")


@pytest.mark.parametrize("end", ["\x04", "/quit\n", signal.SIGINT], ids=str)
def test_a_terminal_without_prompt_toolkit(end: str | signal.Signals) -> None:
    """Without prompt_toolkit, there is no line editor, but the commands still work."""
    fault = "import sys; sys.modules['prompt_toolkit'] = None"
    with (
        Room() as room,
        join(room.port) as bob,
        Terminal(f"127.0.0.1:{room.port}", fault=fault) as ann,
    ):
        ann.shows(
            f"gochat: connected to 127.0.0.1:{room.port}; /help says what can be typed;"
            " pip install 'gochat[talk]' brings a line editor"
        )
        # The line break is written separately.
        wait_until(lambda: bool(ann.look()) and ann.screen.cursor.x == 0)
        ann.type("/name Ann\n")
        ann.shows("/name Ann", "gochat: your name is Ann")
        ann.type("/nmae Bob\n")
        wait_until(lambda: any("there is no command /nmae" in line for line in ann.look()))
        ann.type("hello\n")
        ann.shows("hello", "Ann: hello")
        bob.send("Bob: hi")
        ann.shows("Bob: hi")
        assert bob.messages(2) == ["Ann: hello", "Bob: hi"]
        if isinstance(end, str):
            ann.type(end)
        else:
            ann.process.send_signal(end)
        assert ann.status() == (0 if isinstance(end, str) else 130)


def test_a_message_that_is_too_long() -> None:
    with Room() as room, Terminal(f":{room.port}", "--name", "Ann") as ann:
        ann.shows("Ann>")
        ann.type("x" * 600 + "\r")
        wait_until(lambda: "may be lost: Ann: xxx" in "".join(ann.look()))
        text = "".join(ann.look())
        assert text.index("the message was too big for the server (code 1009") < text.index("xxx")


# In a pipe.


def test_lines_from_a_pipe() -> None:
    with Gochat("--max-message-size", "200000") as gochat:
        text = "a\n\n b \u20ac\r\nx\x85y\n".encode() + b"z" * 200_000 + b"\n/quit\nbad \xff\nlast"
        result = piped(f"127.0.0.1:{gochat.port}", "--name=Ann", text=text)
    assert (result.returncode, result.stderr) == (0, "")
    z = [line.removeprefix("Ann: ") for line in result.stdout.splitlines() if "zzz" in line]
    assert "".join(z) == "z" * 200_000
    said = [line for line in result.stdout.splitlines() if "zzz" not in line]
    assert said == [
        "Ann: a",
        "Ann: b \u20ac",
        "Ann: x y",
        "Ann: /quit",
        "Ann: bad \ufffd",
        "Ann: last",
    ]
    assert not gochat.logged("error")


def test_lines_from_a_file(tmp_path: Path) -> None:
    lines = [f"line {i}" for i in range(1000)]
    file = tmp_path / "lines"
    file.write_text("\n".join(lines))
    with Room() as room, file.open() as stdin:
        result = subprocess.run(
            [COMMAND, "talk", f":{room.port}", f"--wait={PATIENCE}"],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == lines


def test_nothing_reaches_the_terminal_raw() -> None:
    """Control characters and direction marks are escaped, but no other characters are."""
    with Room() as room:
        text = (
            "\x1b]0;title\x07\x9b2J \ta\u202eb \u0645\u200c\u0646 \U0001f469\u200d\U0001f680 \\n\n"
        )
        result = piped(f":{room.port}", text=text.encode())
    assert result.stdout == (
        "\\x1b]0;title\\x07\\x9b2J \\ta\\u202eb \u0645\u200c\u0646 \U0001f469\u200d\U0001f680 \\n\n"
    )


def test_a_login() -> None:
    """A username and password in the URL are sent as basic authentication.

    Characters that the output's encoding cannot represent are escaped.
    """

    def script(visitor: Visitor) -> None:
        visitor.greet()
        assert b"GET /a%20b?c=%C3%BC HTTP/1.1" in visitor.request
        assert b"Authorization: Basic YW5uOnR1OmxpcA==" in visitor.request  # ann:tu:lip
        visitor.echo()

    with serving(script) as address:
        url = f"ws://ann:tu%3Alip@{address}/a%20b?c=\xfc"
        result = piped(url, text="\u20ac".encode(), env={"PYTHONIOENCODING": "latin-1"})
    assert (result.returncode, result.stdout) == (0, "\\u20ac\n")


def test_frames() -> None:
    """--frames prints each frame before the messages in it."""

    def script(visitor: Visitor) -> None:
        visitor.greet()
        visitor.say(serverframe("a\nb\nc"), serverframe("d\n", fin=False))
        visitor.say(serverframe(b"?", PING), serverframe(b"e", CONTINUATION))
        visitor.say(serverframe(b"\xe2\x82\xac\n\xff", BINARY, fin=False))
        visitor.say(serverframe(b"", CONTINUATION), serverframe(b"", PONG))
        # Different threads write the pong and the line from the pipe, so either may come first.
        assert sorted((visitor.hear().opcode, visitor.hear().opcode)) == [TEXT, PONG]
        visitor.say(serverframe("x" * 200))
        visitor.echo()

    with serving(script) as address:
        result = piped(address, "--frames", "--wait", "0", text=b"hi")
    assert (result.returncode, result.stderr) == (0, "")
    lines = []
    for line in result.stdout.splitlines():
        found = FRAME_LINE.fullmatch(line)
        if found:
            assert (found[1][0] == ">") == found[2].startswith("mask ")
        lines.append(re.sub(" +", " ", f"{found[1]} | {found[3]}".strip()) if found else line)
    assert [line for line in lines if not line.startswith(">")] == [
        "< 0x1 text FIN 5 bytes | 3 messages joined",
        *"abc",
        "< 0x1 text 2 bytes | to be continued",
        "< 0x9 ping FIN 1 byte |",
        "< 0x0 continuation FIN 1 byte | 2 messages joined",
        *"de",
        "< 0x2 binary 5 bytes |",
        "< 0x0 continuation FIN 0 bytes |",
        "\u20ac",
        "\ufffd",
        "< 0xa pong FIN 0 bytes |",
        "< 0x1 text FIN 200 bytes | 1 message",
        "x" * 200,
        "< 0x8 close FIN 2 bytes | code 1001",
    ]
    assert sorted(line for line in lines if line.startswith(">")) == [
        "> 0x1 text FIN 2 bytes | 1 message",
        "> 0x8 close FIN 2 bytes | code 1001",
        "> 0xa pong FIN 1 byte |",
    ]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("mask", [None, b"\x01\x02\x03\x04"])
def test_a_frame_is_cut(size: int, mask: bytes | None) -> None:
    """cut_frame removes a frame only if it is complete, and leaves what follows."""
    payload = bytes(i & 255 for i in range(size))
    data = frame(payload, BINARY, fin=False, mask=mask)
    for end in {*range(min(20, len(data))), len(data) - 1}:
        stream = bytearray(data[:end])
        assert cut_frame(stream, size) is None
        assert stream == data[:end]
    stream = bytearray(data + b"next")
    assert cut_frame(stream, size) == Frame(False, BINARY, mask, payload, data)
    assert stream == b"next"


# The end of a connection.


@pytest.fixture
def losing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that runs the client in this process, with a scripted server.

    The function returns the client's message about the lost connection.
    """

    def talk(*scripts: Script, flags: Sequence[str] = ()) -> str:
        output, input_ = os.pipe()

        with open(output) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            with serving(*scripts, then=lambda: os.close(input_)) as address:
                assert main(["talk", address, *flags]) == 0
        out, err = capfd.readouterr()
        found = re.match(r"gochat: (.*); trying again in (0\.[5-9]|1\.0) s\n", err)
        assert out == ""
        assert found, err
        return found[1]

    return talk


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (close_frame(1001), "the server is going away or restarting (code 1001)"),
        (
            close_frame(1013),
            "the server is too busy, and asks for another attempt later (code 1013)",
        ),
        (
            close_frame(1008, "no\x1b[2J"),
            "the server refused this because of its policy (code 1008: no\\x1b[2J)",
        ),
        (close_frame(1009), "the message was too big for the server (code 1009)"),
        (close_frame(4000), "the server closed the connection (code 4000)"),
        (
            serverframe(b"", CLOSE),
            "the server closed the connection, as it does when a client reads too slowly"
            " (code 1005)",
        ),
    ],
)
def test_the_server_closes(data: bytes, said: str, losing: Callable[..., str]) -> None:
    """The client explains the close code in words and answers the close frame."""
    answers = []

    def script(visitor: Visitor) -> None:
        visitor.greet()
        visitor.say(data)
        answers.append(visitor.hear())

    assert losing(script) == said
    assert answers[0].opcode == CLOSE
    assert answers[0].payload == cut_frame(bytearray(data), 125).payload  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (frame("masked"), 1002, "the server broke the protocol: "),
        (serverframe(b"\xff"), 1007, "the server broke the protocol: "),
        (
            b"\x81\x7f" + struct.pack("!Q", 1 << 40),
            1009,
            f"the server sent a frame of {1 << 40} bytes",
        ),
        (
            serverframe(bytes(2**23), BINARY, fin=False)
            + serverframe(bytes(2**23 + 1), CONTINUATION),
            1009,
            "the server sent a message of over 16777216 bytes",
        ),
    ],
    ids=["masked", "not UTF-8", "a long frame", "a long message"],
)
def test_the_server_is_at_fault(
    data: bytes, code: int, said: str, losing: Callable[..., str]
) -> None:
    """If the server breaks the protocol or sends too much, the client's close code says so."""
    codes = []

    def script(visitor: Visitor) -> None:
        visitor.greet()
        visitor.say(data)
        codes.append(int.from_bytes(visitor.hear().payload[:2], "big"))

    assert losing(script).startswith(said)
    assert codes == [code]


def test_silence(losing: Callable[..., str]) -> None:
    """The client sends a ping to a silent server, and disconnects if there is no answer."""
    pings = []

    def script(visitor: Visitor) -> None:
        visitor.greet()
        pings.append(visitor.hear())
        visitor.say(serverframe(pings[0].payload, PONG))
        pings.append(visitor.hear())
        assert visitor.read_to_end() == []

    assert (
        losing(script, flags=["--ping-period=.2"]) == "nothing has come from the server for 0.4 s"
    )
    assert [each.opcode for each in pings] == [PING, PING]


def test_a_reset(losing: Callable[..., str]) -> None:
    """If the connection is reset, the client reports the system's error message."""

    def script(visitor: Visitor) -> None:
        visitor.greet()
        visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert losing(script, Visitor.greet) == "the connection was lost: Connection reset by peer"


def test_pongs_do_not_pile_up() -> None:
    """While the server does not read, the client answers no pings, so memory stays bounded."""
    text = (b"x" * 50_000 + b"\n") * 120  # more than the system can buffer
    with listen(LOCAL) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = local(listener)
        process = subprocess.Popen(
            [COMMAND, "talk", address, "--frames", "--wait=0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def feed() -> None:
            with stdin:
                stdin.write(text)

        with process, in_background(feed):
            try:
                sock, _ = listener.accept()
                visitor = Visitor(sock)
                visitor.greet()
                deadline = time.monotonic() + PATIENCE
                answered = True
                while answered:
                    assert time.monotonic() < deadline
                    visitor.say(serverframe(b"", PING), serverframe("marker"))
                    lines = list(iter(stdout.readline, b"marker\n"))
                    answered = any(b"> 0xa" in line for line in lines)
                opcodes = [visitor.hear().opcode]
                while opcodes[-1] != CLOSE:
                    opcodes.append(visitor.hear().opcode)
                assert opcodes.count(TEXT) == 120
                visitor.say(close_frame(1001))
                stdout.read()
                assert process.wait(PATIENCE) == 0
                sock.close()
            finally:
                process.kill()


@pytest.mark.parametrize("read", [True, False])
def test_a_close_that_is_not_answered(*, read: bool) -> None:
    """The client waits only --wait seconds for the answer to its close frame."""

    def script(visitor: Visitor) -> None:
        visitor.greet()
        heard = visitor.hear()
        if read:
            visitor.say(serverframe(heard.payload))
        assert visitor.hear().opcode == CLOSE
        visitor.say(serverframe(b"", PING))  # nothing follows the close frame, not even a pong
        with pytest.raises(EOFError):
            visitor.fill()

    with serving(script) as address:
        result = piped(address, "--wait=0.1", text=b"hi")
    lost = "gochat: 1 message has not come back and may be lost: hi\n"
    assert (result.returncode, result.stderr) == ((0, "") if read else (1, lost))


def test_a_loss_while_a_pipe_is_read() -> None:
    """While disconnected, the client does not read its pipe. Status 1 reports a possible loss."""
    heard: list[str] = []

    def fail(visitor: Visitor) -> None:
        visitor.greet()
        visitor.hear()

    def recover(visitor: Visitor) -> None:
        visitor.greet()
        while (got := visitor.hear()).opcode != CLOSE:
            heard.append(got.payload.decode())
            visitor.say(serverframe(got.payload))
        visitor.say(serverframe(got.payload, CLOSE))

    with serving(fail, recover) as address:
        process = subprocess.Popen(
            [COMMAND, "talk", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stderr
        with process:
            process.stdin.write("one\n")
            process.stdin.flush()
            assert is_one_line(process.stderr.readline(), "trying again in ")
            assert is_one_line(process.stderr.readline(), "may be lost: one")
            out, err = process.communicate("two\nthree\n", PATIENCE)
    assert process.returncode == 1
    assert out == "two\nthree\n"
    assert err.splitlines()[-1].startswith("gochat: connected again")
    assert heard == ["two", "three"]


def test_a_server_that_does_not_come_back() -> None:
    """After the end of its input, the client waits only --wait seconds for a connection."""
    with serving(Visitor.greet) as address:
        process = subprocess.Popen(
            [COMMAND, "talk", address, "--wait=0.1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        with process:
            assert is_one_line(process.stderr.readline(), "trying again in ")
            _, err = process.communicate("late\n", PATIENCE)
    assert process.returncode == 1
    assert err.splitlines() == [
        "gochat: not connected, kept for later: late",
        "gochat: 1 message has not been sent: late",
    ]


def test_the_pause_grows() -> None:
    """The upper limit of the pause between attempts to connect doubles each time."""
    with Gochat() as gochat:
        process = subprocess.Popen(
            [COMMAND, "talk", f":{gochat.port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        with process:
            try:
                process.stdin.write("hi\n")
                process.stdin.flush()
                assert process.stdout.readline() == "hi\n"
                gochat.stop()
                lines = [process.stderr.readline() for _ in range(3)]
                process.terminate()
                assert process.wait(PATIENCE) == 143
            finally:
                process.kill()
    assert is_one_line(lines[0], "the server is going away or restarting (code 1001")
    assert is_one_line(lines[1], "Connection refused; trying again in ")
    pauses = [float(line.split()[-2]) for line in lines]
    for longest, pause in zip((1, 2, 4), pauses, strict=True):
        assert longest / 2 <= pause <= longest


def test_nobody_reads() -> None:
    with Room() as room, join(room.port) as bob:
        process = subprocess.Popen(
            [COMMAND, "talk", f":{room.port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout
        assert process.stdin
        assert process.stderr
        with process, process.stdin:
            process.stdin.write(b"hi\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"hi\n"
            process.stdout.close()
            bob.send("anybody?")
            assert process.wait(PATIENCE) == 1
            assert process.stderr.read() == b"gochat: Broken pipe\n"


@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        ("<&-", "stdin and stdout must be open"),
        (">&-", "stdin and stdout must be open"),
        ("0>/dev/null", os.strerror(errno.EBADF)),
    ],
)
def test_input_that_cannot_be_read(redirection: str, said: str) -> None:
    """Without stdin or stdout, the command ends with a one-line error."""
    with Room() as room:
        result = subprocess.run(
            ["bash", "-c", f'exec "$@" {redirection}', "bash", COMMAND, "talk", f":{room.port}"],
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == f"gochat: {said}\n"


# Failed connections.


def failing(url: str, capfd: pytest.CaptureFixture[str], *args: str) -> str:
    """Run a client that cannot connect; return its error message."""
    assert main(["talk", url, *args]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert is_one_line(err), err
    return err.removeprefix("gochat: ").rstrip("\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 401 Who are you?\r\nContent-Length: 2\r\n\r\nno",
            "the server answered 401 Unauthorized",
        ),
        (b"HTTP/1.1 404 x\r\n\r\n", "the server answered 404 Not Found: no chat at /ws"),
        (b"HTTP/1.1 499 x\r\n\r\n", "the server answered 499"),
        (
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
            "the server does not speak WebSocket there",
        ),
        (b"\r\n\r\n", "the server does not speak WebSocket there"),
        (b"SSH-2.0-x\r\n\r\n", "the server does not speak WebSocket there"),
        (b"HTTP/1.1 200 x\r\nX: " + b"x" * 200_000, "the server does not speak WebSocket there"),
        (b"", "the server closed the connection without an answer"),
    ],
)
def test_a_handshake_that_fails(
    answer: bytes, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every kind of failed handshake has a one-line message."""

    def script(visitor: Visitor) -> None:
        visitor.read_until(b"\r\n\r\n")
        with suppress(ConnectionError):  # the client may stop reading early
            visitor.say(answer)

    with serving(script) as address:
        assert failing(address, capfd) == f"{address}: {said}"


def test_no_server(capfd: pytest.CaptureFixture[str]) -> None:
    """Every kind of failed connection has a one-line message."""
    with listen(LOCAL) as listener:
        port = listener.getsockname()[1]
        said = failing(f":{port}", capfd, "--connect-timeout=0.1")
        assert said == f"localhost:{port}: no answer within 0.1 s"
    assert failing(f"127.0.0.1:{port}", capfd) == f"127.0.0.1:{port}: Connection refused"
    assert failing(f":{port}", capfd) == f"localhost:{port}: Connection refused"
    assert failing("no-such-host.invalid", capfd).startswith("no-such-host.invalid: ")


def test_tls(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With TLS, the certificate must be trusted."""
    certificate = make_certificate(tmp_path / "server.pem", "IP:127.0.0.1")

    def script(visitor: Visitor) -> None:
        visitor.greet()
        visitor.echo()

    with serving(script, certificate=certificate) as address:
        env = {"SSL_CERT_FILE": str(certificate)}
        result = piped(f"https://{address}", text=b"hi", env=env)
    assert (result.returncode, result.stdout, result.stderr) == (0, "hi\n", "")

    with listen(LOCAL) as listener:
        address = local(listener)

        def answer(context: ssl.SSLContext | None) -> None:
            sock, _ = listener.accept()
            with sock, suppress(ssl.SSLError):
                if context:
                    context.wrap_socket(sock, server_side=True).close()
                else:
                    sock.sendall(b"hello" * 10)
                    sock.recv(1000)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        with in_background(lambda: answer(context)):
            said = failing(f"wss://{address}", capfd)
        assert said.startswith(f"{address}: the certificate is not trusted: self")
        with in_background(lambda: answer(None)):
            assert failing(f"wss://{address}", capfd).startswith(f"{address}: TLS failed: ")


def test_ctrl_c_before_there_is_a_connection() -> None:
    with listen(LOCAL) as listener:
        process = subprocess.Popen(
            [COMMAND, "talk", local(listener)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with process:
            sock, _ = listener.accept()
            with sock:
                Stream(sock).read_until(b"\r\n\r\n")
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE) == 130
                assert process.stderr
                assert process.stderr.read() == b""


# The flags.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h/x@:80", (False, "h", 80, "h", "/x@:80", "")),
        (":8080", (False, "localhost", 8080, "localhost:8080", "/ws", "")),
        ("example.org", (False, "example.org", 80, "example.org", "/ws", "")),
        ("[::1]:8080", (False, "::1", 8080, "[::1]:8080", "/ws", "")),
        ("http://h:8080/", (False, "h", 8080, "h:8080", "/ws", "")),
        ("HTTPS://h", (True, "h", 443, "h", "/ws", "")),
        ("h/?room=go", (False, "h", 80, "h", "/ws/go", "")),
        ("h?room=go", (False, "h", 80, "h", "/ws/go", "")),
        ("h/?room=a%20b/%C3%BC&x=y#z", (False, "h", 80, "h", "/ws/a%20b%2F%C3%BC?x=y", "")),
        ("h/?name=ann", (False, "h", 80, "h", "/ws?name=ann", "")),
        ("wss://h/?v=1", (True, "h", 443, "h", "/ws?v=1", "")),
        ("h/?room=a&room=b", (False, "h", 80, "h", "/ws/a", "")),
        ("ws://h/ws/chat/lobby/", (False, "h", 80, "h", "/ws/chat/lobby/", "")),
        ("http://h/chat/", (False, "h", 80, "h", "/chat/ws", "")),
        ("http://h/chat/?room=go", (False, "h", 80, "h", "/chat/ws/go", "")),
        ("http://h/chat?room=go", (False, "h", 80, "h", "/chat?room=go", "")),
        ("ws://h/ws/go?a=b#c", (False, "h", 80, "h", "/ws/go?a=b", "")),
        ("wss://ann:t%40p@h:80/x", (True, "h", 80, "h:80", "/x", "ann:t@p")),
        ("ann@:81", (False, "localhost", 81, "localhost:81", "/ws", "ann:")),
        ("b\xfccher.example", (False, "b\xfccher.example", 80, "xn--bcher-kva.example", "/ws", "")),
    ],
)
def test_addresses(text: str, expected: tuple[object, ...]) -> None:
    """The address can be the page's, the WebSocket's, or a short form such as :8080."""
    assert Address.parse(text) == expected
    assert parse_flags(["talk", text]).url == expected


@pytest.mark.parametrize(
    "args",
    [
        *([url] for url in ("", ":", ":x", ":0", ":65536", "h:", "ws://", "ws:///ws", "ftp://h")),
        *([url] for url in ("a b", "h\n", "[::1", "ws://ann:tulip@h:x", "x" * 70 + ".example")),
        [],
        ["ws://ann:tulip@h", "wss://ann:tulip@h"],
        *([":80", f"--name={name}"] for name in ("", " ", "a: b", "x" * 41, "a\x1bb")),
        [":80", "--wait=-1"],
        [":80", "--ping-period=0"],
        [":80", "--connect-timeout=soon"],
    ],
)
def test_flags_that_make_no_sense(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Invalid flags are refused with a one-line error that never contains a password."""
    with pytest.raises(SystemExit) as caught:
        main(["talk", *args])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert is_one_line(err)
    assert "tulip" not in err


def test_flags() -> None:
    flags = parse_flags(["talk", ":80"])
    assert (flags.name, flags.frames, flags.connect_timeout) == (None, False, 10)
    assert (flags.ping_period, flags.wait) == (30, 3)
    flags = parse_flags(["talk", "-frames", "-name", " Ann ", ":80", "-wait=0"])
    assert (flags.name, flags.frames, flags.wait) == ("Ann", True, 0)
