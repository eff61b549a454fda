"""Channels: what Go has in the language, on `queue.Queue`.

| Go                                   | here                                          |
| ------------------------------------ | --------------------------------------------- |
| `make(chan T, n)`                    | `Channel(n)`                                  |
| `ch <- v`                            | `ch.send(v)`                                  |
| `v, ok := <-ch`                      | `v, ok = ch.recv()`                           |
| `select { case ch <- v: default: }`  | `ch.try_send(v)`, False for `default`         |
| `select { case v, ok := <-a: ... }`  | `channel, v, ok = select(a, b, deadline=...)` |
| `close(ch)`                          | `ch.close()`                                  |
| `len(ch)`, `cap(ch)`                 | `len(ch)`, `ch.capacity`                      |

Strategy: a channel is a queue with one more thing to say, "no more will come". That is a sentinel
behind what is queued, so the receiver drains the queue before it sees the end. A receiver that has
nothing to take leaves a bell in each channel that it waits for; whoever puts something in rings it.

Where this is not Go:

- An unbuffered Go channel is a rendezvous: the sender goes on when the receiver has the value. So
  it does here, but meanwhile the value lies in the channel's one place, whether or not anybody is
  there to take it. So `try_send`, which does not wait, succeeds when that place is free.
- Any number of goroutines may receive from a Go channel; here it is one thread at a time.
- `select` receives; it has no cases that send. `try_send` is the only one that the chat needs.
- A nil channel, which blocks for ever, is None in Go's place nowhere: leave the channel out.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ["CLOSED", "Channel", "ClosedChannelError", "select"]

T = TypeVar("T")


class ClosedChannelError(RuntimeError):
    """A send on a closed channel, or a second close: a run-time panic in Go."""


class _Sentinel:
    def __repr__(self) -> str:
        return "CLOSED"


#: What lies behind the last value of a closed channel, and what the inherited `get` finds there.
CLOSED: Final[Any] = _Sentinel()


class Channel(queue.Queue[T]):
    """A queue that can be closed, and that one thread can wait for among others.

    Any thread may send or close; one thread at a time receives. `mutex`, of `queue.Queue`, guards
    all of it: the queue, whether it is closed, and the bell.

    capacity: how many values it holds; 0 as in `make(chan T)`, see above for what that means here.
    """

    def __init__(self, capacity: int = 0) -> None:
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        super().__init__(max(capacity, 1))
        self.capacity: Final = capacity
        self._closed = False
        # How many values have been received.
        self._received = 0
        # Of the receiver that waits in `select`; taken out by the first to ring it.
        self._bell: queue.SimpleQueue[None] | None = None

    def __len__(self) -> int:
        """The number of values queued. Any thread."""
        return len(self.queue) - self._closed

    def send(self, value: T) -> None:
        """Queue a value, and wait for room if there is none; unbuffered, until it is received.

        What one thread sends is thus received in its order even from several unbuffered channels.
        Any thread. Raises ClosedChannelError if the channel is closed, or gets closed before the
        value is queued.
        """
        with self.not_full:
            while len(self.queue) >= self.maxsize and not self._closed:
                self.not_full.wait()
            self._put(value)
            received = self._received
            while self.capacity == 0 and self._received == received:
                self.not_full.wait()

    def try_send(self, value: T) -> bool:
        """Queue a value if there is room, and say whether there was. Never blocks. Any thread.

        Raises ClosedChannelError if the channel is closed, as Go panics even where there is a
        default case.
        """
        with self.mutex:
            if len(self.queue) >= self.maxsize and not self._closed:
                return False
            self._put(value)
            return True

    def recv(self) -> tuple[T | None, bool]:
        """Wait for a value: `(value, True)`, or `(None, False)` when closed and drained.

        The receiving thread only.
        """
        _, value, ok = select(self)
        return value, ok

    def drain(self) -> list[T]:
        """Take all that is queued by now, oldest first; never blocks. The receiving thread only."""
        with self.mutex:
            return [self._get() for _ in range(len(self))]

    def close(self) -> None:
        """Say that no more will come. Fits a full channel too, and never blocks. Any thread.

        What is queued can still be received; who waits to send gets ClosedChannelError. So does a
        second close: as in Go it is a mistake, and not to be passed over.
        """
        with self.mutex:
            self._put(CLOSED)
            self._closed = True
            self.not_full.notify_all()

    # The hooks of queue.Queue, called with `mutex` held: they keep its put and get true as well.

    def _put(self, item: T) -> None:
        if self._closed:
            what = "close of" if item is CLOSED else "send on"
            raise ClosedChannelError(f"{what} closed channel")
        self.queue.append(item)
        self.not_empty.notify()
        if self._bell is not None:
            bell, self._bell = self._bell, None
            bell.put(None)

    def _get(self) -> T:
        # The sentinel stays: a closed channel is closed to every later receive, too.
        if self.queue[0] is CLOSED:
            return CLOSED  # type: ignore[no-any-return]
        self._received += 1
        self.not_full.notify_all()
        return self.queue.popleft()  # type: ignore[no-any-return]


def select(
    *channels: Channel[Any], deadline: float | None = None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Wait until one of the channels has a value or is closed, and receive from it.

    Returns `(channel, value, True)`; `(channel, None, False)` for one that is closed and drained;
    `(None, None, False)` once `time.monotonic()` has reached `deadline`, in seconds.

    Among several that are ready the choice is by chance, as in Go: none is starved. A deadline that
    has passed comes before them all, so what is to happen at that time happens in a busy room, too.

    One thread at a time may wait for a channel: RuntimeError if a second one is seen.
    """
    bell: queue.SimpleQueue[None] | None = None
    try:
        while True:
            if deadline is not None and time.monotonic() >= deadline:
                return None, None, False
            for channel in _in_turn(channels):
                with channel.mutex:
                    if channel.queue:
                        value = channel._get()
                        return (channel, None, False) if value is CLOSED else (channel, value, True)
                    if bell is not None:
                        if channel._bell not in (None, bell):
                            raise RuntimeError("two threads receive from one channel")
                        channel._bell = bell
            # Nothing there. Look once more with the bell in place, and only then wait for it: what
            # is sent after the look rings, what was sent before is seen by it.
            if bell is None:
                bell = queue.SimpleQueue()
                continue
            _wait(bell, deadline)
    finally:
        if bell is not None:
            for channel in channels:
                with channel.mutex:
                    if channel._bell is bell:
                        channel._bell = None


def _in_turn(channels: tuple[Channel[Any], ...]) -> tuple[Channel[Any], ...]:
    """The channels, from a place by chance and round."""
    if len(channels) < 2:
        return channels
    start = random.randrange(len(channels))
    return channels[start:] + channels[:start]


def _wait(bell: queue.SimpleQueue[None], deadline: float | None) -> None:
    timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
    if timeout is not None:
        timeout = min(timeout, threading.TIMEOUT_MAX)
    with suppress(queue.Empty):
        bell.get(timeout=timeout)
