"""systemd: notifications, and sockets passed by systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from gochat.golang.http.address import listen

from .support import COMMAND, PATIENCE, Gochat, Peer, activated, finished, is_one_line, join

# Few other tests run this code, so coverage is also measured in the processes started here.
pytestmark = pytest.mark.measured


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (str(tmp_path / "notify"), f"@gochat-{os.getpid()}"):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(path.replace("@", "\0"))
            systemd.settimeout(PATIENCE)
            with Gochat() as chat:
                assert systemd.recv(100) == b"READY=1"
                assert chat.stop() == 0
                assert systemd.recv(100) == b"STOPPING=1"


def test_socket_activation() -> None:
    """The server listens on a socket from systemd. Clients may connect before it starts."""
    with listen("127.0.0.1:0") as listener:
        port = listener.getsockname()[1]
        with Gochat("--addr=127.0.0.1:1", listener=listener) as chat:
            assert chat.port == port
            with join(port) as peer:
                peer.send("hello")
                assert peer.messages(1) == ["hello"]
            assert chat.stop() == 0
        with Peer(port) as early, Gochat(listener=listener):
            assert early.request().status == 200


def test_a_socket_of_another_process() -> None:
    """Sockets that systemd has passed to another process are ignored."""
    environ = os.environ | {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    command = [
        sys.executable,
        "-c",
        "from gochat.ops import systemd; print(systemd.inherited_listeners())",
    ]
    assert subprocess.check_output(command, env=environ, text=True) == "[]\n"


@pytest.mark.parametrize("count", ["1", "2", ""])
@pytest.mark.parametrize("kind", ["a file", "TCP", "UDP", "a path"])
def test_socket_activation_that_makes_no_sense(kind: str, count: str, tmp_path: Path) -> None:
    """Anything but a single listening TCP socket is refused with a one-line error."""
    with ExitStack() as stack:
        given: IO[bytes] | socket.socket
        if kind == "a file":
            given = stack.enter_context((tmp_path / "file").open("wb+"))
        elif kind == "TCP" and count != "1":
            given = stack.enter_context(listen("127.0.0.1:0"))
        elif kind == "a path":
            given = stack.enter_context(socket.socket(socket.AF_UNIX))
            given.bind(str(tmp_path / "socket"))
            given.listen()
        else:
            kinds = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
            given = stack.enter_context(socket.socket(type=kinds[kind]))
        command = activated(given.fileno(), [COMMAND, "serve"], count)
        done = finished(command, [given.fileno()])
    assert done.returncode == 1
    assert is_one_line(done.stderr, f"LISTEN_FDS={count}: not one TCP socket")
