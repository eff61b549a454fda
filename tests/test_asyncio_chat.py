"""examples/asyncio_chat, which must behave like gochat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from .support import (
    BINARY,
    CLOSE,
    LOCAL,
    ROOT,
    TEXT,
    Peer,
    deaf,
    join,
    parted,
    program,
    say_long,
)

#: Runs the chat with long messages, a small queue and a long write wait.
PATIENT = """
import runpy
from examples.asyncio_chat import client

client.WRITE_WAIT = 1000.0
client.MAX_MESSAGE_SIZE = 60_000
client.SEND_BUFFER = 4
runpy.run_module("examples.asyncio_chat", run_name="__main__", alter_sys=True)
"""


def serving(*command: str) -> AbstractContextManager[int]:
    """Run the chat in its own process: see `program`."""
    return program(*(command or ("-m", "examples.asyncio_chat")), LOCAL)


def leave(peer: Peer) -> int | None:
    with peer:
        return parted(peer).code


def test_a_message_reaches_all() -> None:
    """A message reaches everyone on one line. Ctrl-C disconnects everyone with 1001."""
    with ThreadPoolExecutor() as pool:
        with serving() as port:
            ann, bob = join(port), join(port)
            bob.send("  here\nI am ")
            for peer in (ann, bob):
                while peer.messages(1) != ["here I am"]:
                    pass  # the greetings from `join`
            farewells = [pool.submit(leave, peer) for peer in (ann, bob)]
        assert [farewell.result() for farewell in farewells] == [1001, 1001]


def test_a_long_message_is_refused() -> None:
    """A message over 512 bytes disconnects its sender, and only its sender, with 1009."""
    with serving() as port, join(port) as ann, join(port) as bob:
        bob.send("x" * 513)
        assert bob.read_to_end()[-1].code == 1009
        ann.send("still here")
        while ann.messages(1) != ["still here"]:
            pass


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_is_not_utf_8(opcode: int) -> None:
    """A message that is not UTF-8 disconnects its sender with 1007."""
    with serving() as port, join(port) as ann:
        ann.send(b"\xff", opcode)
        assert ann.read_to_end()[-1].code == 1007


def test_a_slow_client_is_dropped() -> None:
    """A client that does not read gets its queued messages and a close frame."""
    count = 200
    with serving("-c", PATIENT) as port, Peer(port) as speaker, deaf(port) as silent:
        assert speaker.open().status == 101
        say_long(speaker, count)
        frames = [silent.read_frame()]
        while frames[-1].opcode != CLOSE:
            frames.append(silent.read_frame())
        assert frames[-1].code == 1000
        assert any(b"\n" in frame.payload for frame in frames)
        assert 4 < sum(frame.payload.count(b"\n") + 1 for frame in frames[:-1]) < count


def test_the_page() -> None:
    """The chat serves the page and its files, and nothing else."""
    with serving() as port:
        for path, status in (("/", 200), ("/server.js", 200), ("/hub.py", 404)):
            with Peer(port) as visitor:
                answer = visitor.request(path)
                assert answer.status == status
        with Peer(port) as visitor:
            assert visitor.request().body == (ROOT / "static/home.html").read_bytes()
