"""Delivery: every client gets each message once and undamaged, all in the same order.

The clients of chat.py join, talk and leave at random. One of them, the witness, stays.

GOCHAT_DELIVERY_SECONDS sets how long they talk. GOCHAT_SEED repeats a failed run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .chat import chatting
from .loop import idle, resources
from .redis_support import Redis
from .support import SEED, Gochat, join, wait_until

# These tests keep a CPU busy, so they run one at a time.
pytestmark = pytest.mark.xdist_group("busy")

SECONDS = float(os.environ.get("GOCHAT_DELIVERY_SECONDS", "3"))
CLIENTS = 200


def test_everybody_gets_every_message_once_and_in_one_order(
    record_property: Callable[[str, object], None],
) -> None:
    with Gochat("--pong-wait", "60", "--ping-period", "1") as gochat:
        before = idle(gochat)
        with chatting(gochat, SEED) as chat:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                chat.fill(CLIENTS)
                chat.loop.turn()
            chat.part()
            record_property(
                "delivery",
                f"seed {SEED}, {chat.ids:,} clients, {chat.count:,} messages,"
                f" {chat.delivered:,} deliveries in {SECONDS:g} s",
            )
        wait_until(lambda: resources(gochat) == before, "all is released")
    assert not gochat.logged("Traceback"), gochat.lines


def test_everybody_at_two_processes_gets_every_message_in_one_order(
    record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    flags = ("--pong-wait", "60", "--ping-period", "1")
    with (
        Redis(tmp_path) as redis,
        Gochat("--relay", redis.url, *flags) as gochat,
        Gochat("--relay", redis.url, *flags) as other,
    ):
        before = [idle(each, threads=4) for each in (gochat, other)]
        # Both processes deliver all messages in one order. So once both have delivered "begin",
        # neither still has to deliver a message from a client of `idle`.
        with join(gochat.port) as ann, join(other.port) as bob:
            ann.send("begin")
            for peer in (ann, bob):
                while "begin" not in peer.read_messages():
                    pass
        with chatting(gochat, SEED, others=[other]) as chat:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                chat.fill(CLIENTS // 2)
                chat.loop.turn()
            chat.part()
            record_property(
                "delivery with a relay",
                f"seed {SEED}, {chat.ids:,} clients, {chat.count:,} messages,"
                f" {chat.delivered:,} deliveries in {SECONDS:g} s",
            )
        wait_until(
            lambda: [resources(each) for each in (gochat, other)] == before, "all is released"
        )
    for each in (gochat, other):
        assert not each.logged("Traceback"), each.lines
        assert not each.logged("missing"), each.lines


def test_what_is_queued_at_the_end_of_the_program_is_still_written() -> None:
    with Gochat() as gochat:
        with chatting(gochat, SEED) as chat:
            chat.fill(CLIENTS // 4)
            chat.loop.run_until(
                lambda: chat.count > 200 and all(m.present for m in chat.members),
                "a chat in full swing",
            )
            chat.quiet = True
            for member in chat.members:
                if not member.leaving:
                    member.say()
            members = [member for member in chat.members if not member.leaving]
            chat.stopping = True
            gochat.process.send_signal(signal.SIGTERM)
            chat.loop.run_until(lambda: not chat.members, "all have been disconnected")
            assert not chat.ahead, f"some got what the witness did not: {chat.ahead}"
            ends = {member.next for member in members}
            assert ends == {chat.count}, f"not all got the same: {ends}, {chat.count}"
        assert gochat.wait() == 0
    assert not gochat.logged("Traceback"), gochat.lines
