"""A hub on a thread, and clients that have only a channel."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ..golang.channel import CLOSED, Channel
from .learner import WAIT, Learner, Refused, Task, shown

__all__ = ["Member", "Room"]

# Time between checks of whether the hub has died, in seconds.
_LOOK: Final = 0.02


class Member:
    """A client that has a name and a channel, but no threads.

    channel: the client's `send`. If None, this is a new Channel for `capacity` messages.
    """

    def __init__(self, name: str, capacity: int = 16, channel: Any = None) -> None:
        self.name = name.encode()
        self.send: Any = Channel(capacity) if channel is None else channel

    def expect(self, *messages: bytes) -> None:
        """Drain the channel. Raises Refused unless it contained exactly these messages."""
        got = self.send.drain()
        if got != list(messages):
            name = self.name.decode()
            raise Refused(f"{name} got {shown(got)} instead of {shown(messages)}")

    @property
    def parted(self) -> bool:
        """True if the channel is closed and empty. If it holds a value, the value is discarded."""
        with suppress(queue.Empty):
            return self.send.get(block=False) is CLOSED
        return False


class Room:
    """A hub on a new thread, which ends with the process."""

    def __init__(self, learner: Learner, hub: Callable[[], Any]) -> None:
        self.hub: Any = Task(learner, "Hub", hub).result()
        self.task: Final = Task(learner, "the hub", self.hub.run)

    def join(self, *members: Member) -> None:
        """Register members. Raises Refused if the hub has died, or receives nothing within WAIT."""
        for member in members:
            self._tell(self.hub.register, member)

    def say(self, *messages: bytes) -> None:
        """Send messages and wait until the hub has handled them. Raises what `join` raises."""
        for message in messages:
            self._tell(self.hub.broadcast, message)
        self.settle()

    def settle(self) -> None:
        """Wait until the hub has handled everything it received. Raises what `join` raises.

        Sends one more value on an unbuffered channel. By the time the hub receives that value, it
        has handled everything sent earlier.
        """
        self._tell(self.hub.unregister, Member("nobody"))

    def _tell(self, channel: Any, value: object) -> None:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if self.task.ended():
                self.task.result()
                raise Refused("the hub has ended by itself")
            with suppress(queue.Full):
                channel.put(value, timeout=_LOOK)
                return
        raise self.task.waiting()
