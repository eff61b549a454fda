"""System faults: failing socket calls, signals, a full disk, and shutdown under full load.

The faults are injected at random into a real `gochat serve`. A failure prints the seed.
"""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from gochat.golang.http.address import listen

from .harm import SHIM
from .loop import resources
from .support import CLOSE, PATIENCE, TEXT, Gochat, Peer, deaf, join, logging_to, wait_until

CLIENTS, MESSAGES = 12, 60


class TalkerThread(threading.Thread):
    """A client that sends its messages and records what it receives."""

    def __init__(self, peer: Peer, name: int, messages: int, *, done: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.peer, self.number, self.messages, self.done = peer, name, messages, done
        self.log: list[str] = []
        self.close: int | None = None

    def run(self) -> None:
        speaker = threading.Thread(target=self.speak, daemon=True)
        speaker.start()
        with suppress(ConnectionError, EOFError):
            while not self.done():
                got = self.peer.read_frame()
                if got.opcode == CLOSE:
                    self.close = got.code
                    self.peer.send(got.payload, CLOSE)
                    break
                if got.opcode == TEXT:
                    self.log += got.payload.decode().split("\n")
        speaker.join(PATIENCE)

    def speak(self) -> None:
        with suppress(OSError):
            for i in range(self.messages):
                self.peer.send(f"#{self.number} {i}")

    @property
    def said(self) -> list[str]:
        """Messages received from talkers, without the greetings, which some talkers have missed."""
        return [text for text in self.log if text.startswith("#")]


@pytest.mark.parametrize("seed", range(3))
def test_socket_calls_that_do_half_their_work(seed: int) -> None:
    """Despite short, slow and interrupted calls, every message arrives once and in order."""
    fault = SHIM.format(seed=seed, reset=0, spare="")
    # The buffer is large, so that slow calls drop no client.
    with Gochat("--send-buffer=100000", fault=fault) as chat, ExitStack() as stack:
        peers = [stack.enter_context(join(chat.port)) for _ in range(CLIENTS)]
        total = CLIENTS * MESSAGES
        talkers: list[TalkerThread] = []

        def has_all(which: int) -> bool:
            return len(talkers[which].said) == total

        for number, peer in enumerate(peers):
            talkers.append(TalkerThread(peer, number, MESSAGES, done=partial(has_all, number)))
        for talker in talkers:
            talker.start()
        for talker in talkers:
            talker.join(PATIENCE)
            assert not talker.is_alive(), f"seed {seed}: {len(talker.log)} messages"
        said = talkers[0].said
        assert all(talker.said == said for talker in talkers), f"seed {seed}"
        for number in range(CLIENTS):
            mine = [text for text in said if text.startswith(f"#{number} ")]
            assert mine == [f"#{number} {i}" for i in range(MESSAGES)], f"seed {seed}"
        assert chat.stop() == 0
        for fault in ("delayed", "retried", "short", "interrupts"):
            assert re.search(rf"faults: .*[1-9][0-9,]* {fault}", "\n".join(chat.lines))
        assert not chat.logged("Traceback")


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_are_reset(seed: int) -> None:
    """Connections may break at any call, and leave nothing behind.

    The other clients miss nothing.
    """
    fault = SHIM.format(seed=seed, reset=0.005, spare="")
    flags = ("--send-buffer=100000", "--write-wait=1")
    with Gochat(*flags, fault=fault) as chat, ExitStack() as stack:
        _, before = resources(chat)
        with Peer(chat.port) as first, suppress(ConnectionError):
            first.sock.shutdown(socket.SHUT_WR)
            first.sock.recv(1)
        # Only the threads main, hub and interrupt remain. On greenlets, count descriptors instead.
        wait_until(lambda: resources(chat)[0] == 3 or resources(chat) == (0, before))
        idle = resources(chat)
        stopped = threading.Event()
        talkers: list[TalkerThread] = []
        for number in range(CLIENTS):
            peer = stack.enter_context(Peer(chat.port))
            # Any call may reset the connection, even the first.
            with suppress(ConnectionError, EOFError, AssertionError):
                if peer.open().status == 101:
                    talkers.append(TalkerThread(peer, number, 10**6, done=stopped.is_set))
        for talker in talkers:
            talker.start()
        wait_until(lambda: any(not talker.is_alive() for talker in talkers))
        stopped.set()
        for talker in talkers:
            with suppress(OSError):
                talker.peer.sock.shutdown(socket.SHUT_RDWR)
        for talker in talkers:
            talker.join(PATIENCE)
            assert not talker.is_alive(), f"seed {seed}"
        # Messages that two clients have both received are in the same order, without gaps.
        longest = max((talker.said for talker in talkers), key=len)
        known = set(longest)
        for talker in talkers:
            common = [text for text in talker.said if text in known]
            if common:
                start = longest.index(common[0])
                assert common == longest[start : start + len(common)], f"seed {seed}"
        wait_until(lambda: resources(chat) == idle, "all that is left")
        assert not chat.logged("Traceback")


def test_a_full_disk_under_the_log() -> None:
    """The chat works if the log's disk is full."""
    with Path("/dev/full").open("w") as full, logging_to(full) as (process, port):
        with join(port) as peer:
            peer.send("the disk is full")
            assert peer.messages(1) == ["the disk is full"]
        process.terminate()


def test_the_end_in_the_middle_of_full_load() -> None:
    """After SIGTERM under load, all clients get the same queued messages, then 1001.

    A client that does not read is cut off.
    """
    flags = ("--shutdown-timeout=15", "--write-wait=600", "--send-buffer=100000")
    with Gochat(*flags) as chat, ExitStack() as stack:
        stack.enter_context(deaf(chat.port))
        peers = [stack.enter_context(join(chat.port)) for _ in range(CLIENTS)]
        talkers = [
            TalkerThread(peer, number, 10**6, done=lambda: False)
            for number, peer in enumerate(peers)
        ]
        for talker in talkers:
            talker.start()
        wait_until(lambda: all(len(talker.log) > 1000 for talker in talkers))
        assert chat.stop(signal.SIGTERM) == 0
        for talker in talkers:
            talker.join(PATIENCE)
            assert not talker.is_alive()
        assert [talker.close for talker in talkers] == [1001] * CLIENTS
        assert all(talker.said == talkers[0].said for talker in talkers)
        listen(f"127.0.0.1:{chat.port}").close()
        assert not chat.logged("Traceback")
