"""The log: who does not take it, and what threads are at."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from gochat.log import LogHandler, dump_threads, dumping
from gochat.server import listen

from .support import CLOSE, COMMAND, PATIENCE, Gochat, Peer, activated, join, parted, wait_until

LOCAL = "127.0.0.1:0"


def test_a_log_that_nobody_takes() -> None:
    """A full pipe for a log holds nobody up: pages, clients who go, the end. The gap is told."""
    read, write = os.pipe()
    with ExitStack() as stack, listen(LOCAL) as listener:
        log = stack.enter_context(open(read, "rb"))
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        command = activated(listener.fileno(), [COMMAND, "serve"])
        port = listener.getsockname()[1]
        process = stack.enter_context(
            subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=write)
        )
        os.close(write)

        def ask() -> None:
            with Peer(port) as peer:
                assert peer.request("/" + "x" * 900).status == 404

        try:
            for _ in range(20):
                ask()
            with join(port) as peer, join(port) as strange:
                peer.messages(1)
                strange.send(b"\x0b\xb8", CLOSE)  # 3000, which is worth a line
                assert parted(strange).code == 3000
                assert os.read(read, 4096).count(b"\n") < 20
                ask()
                taken = b""
                while b" lines of the log were not taken, and are lost\n" not in taken:
                    taken += os.read(read, 4096)
                for _ in range(20):
                    ask()
                process.terminate()
                assert parted(peer).code == 1001
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
        assert b"Traceback" not in log.read()


def test_the_threads_are_told() -> None:
    """At SIGUSR1 the log gets what each thread is at, by name, and the chat goes on."""
    with Gochat() as chat, join(chat.port) as peer:
        before = len(chat.lines)
        chat.process.send_signal(signal.SIGUSR1)
        names = {"MainThread", "hub", f"readPump {peer.addr}", f"writePump {peer.addr}"}
        wait_until(lambda: names == set(re.findall(r"^thread (.+):$", "\n".join(chat.lines), re.M)))
        wait_until(lambda: sum(line == "" for line in chat.lines[before:]) == len(names))
        assert "in read_pump" in "\n".join(chat.lines[before:])
        peer.send("still here")
        assert peer.messages(1) == ["still here"]


def test_the_threads_are_told_to_nobody() -> None:
    """SIGUSR1 does no harm where the log is full, and none if it comes while it is being served."""
    with Path("/dev/full").open("w") as full, listen(LOCAL) as listener:
        command = activated(listener.fileno(), [COMMAND, "serve"])
        port = listener.getsockname()[1]
        with subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=full) as process:
            try:
                with ExitStack() as stack:
                    peers = [stack.enter_context(join(port)) for _ in range(20)]
                    for _ in range(500):
                        process.send_signal(signal.SIGUSR1)
                    peers[0].send("still here")
                    assert "still here" in peers[0].messages(20)
            finally:
                process.terminate()
                assert process.wait(PATIENCE) == 0


def test_the_threads_are_told_once_at_a_time(capfd: pytest.CaptureFixture[str]) -> None:
    """Who asks while they are being told is not told again; nobody where nothing can be written."""
    with dumping:
        dump_threads()
    assert capfd.readouterr().err == ""
    dump_threads()
    assert "thread MainThread:" in capfd.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        dump_threads()
    read, write = os.pipe()
    with open(read, "rb") as full, open(write, "w") as stuck:
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, bytes(4096))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", stuck)
            dump_threads()
        assert b"thread" not in os.read(full.fileno(), 1 << 20)


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_log_that_is_no_file(stream: io.StringIO | None) -> None:
    """A line goes where there is no file as well, and nowhere if there is nothing."""
    handler = LogHandler(stream)
    if stream is None:
        handler.stream = None  # type: ignore[assignment]  # as in a process without a stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        handler.handle(logging.makeLogRecord({"msg": "a line"}))
    assert stream is None or stream.getvalue() == "a line\n"
