"""hub.py: the hub on its thread, with real channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

from gochat import Channel, Client, Hub

from .support import in_background, wait_until


class FakeClient:
    """Has only the channel `send`, which is all that the hub uses of a client."""

    def __init__(self, capacity: int = 256) -> None:
        self.send: Channel[bytes] = Channel(capacity)

    @property
    def client(self) -> Client:
        return cast(Client, self)

    def received(self) -> list[bytes]:
        """Return everything the hub sends until it closes the channel."""
        return list(self.send)


@contextmanager
def hub_at_work() -> Iterator[Hub]:
    """Run a hub on a thread during the block."""
    hub = Hub()
    with in_background(hub.run, "hub"), closing(hub.stop):
        yield hub


def test_everyone_gets_every_message_in_one_order() -> None:
    with hub_at_work() as hub:
        members = [FakeClient(), FakeClient(), FakeClient()]
        for member in members:
            hub.register.send(member.client)
        for i in range(100):
            hub.broadcast.send(b"%d" % i)
        for member in members:
            hub.unregister.send(member.client)
            assert member.received() == [b"%d" % i for i in range(100)]


def test_message_before_registering_is_not_received() -> None:
    """A client gets only messages sent while it is registered."""
    with hub_at_work() as hub:
        early, late = FakeClient(), FakeClient()
        hub.register.send(early.client)
        hub.broadcast.send(b"one")
        hub.register.send(late.client)
        hub.broadcast.send(b"two")
        hub.unregister.send(early.client)
        hub.broadcast.send(b"three")
        hub.unregister.send(late.client)
        assert early.received() == [b"one", b"two"]
        assert late.received() == [b"two", b"three"]


def test_unregister_closes_the_channel_once() -> None:
    """Unregistering a client that was never registered, or no longer is, does nothing."""
    with hub_at_work() as hub:
        member, stranger = FakeClient(), FakeClient()
        hub.register.send(member.client)
        for client in (member.client, member.client, stranger.client):
            hub.unregister.send(client)
        hub.broadcast.send(b"nobody hears it")
        assert member.received() == []
        assert stranger.send.try_send(b"still open")


def test_full_client_is_dropped_and_the_others_are_not() -> None:
    """A client with a full channel is dropped, but gets what was queued."""
    with hub_at_work() as hub:
        slow, slower, fast = FakeClient(2), FakeClient(1), FakeClient()
        for member in (slow, slower, fast):
            hub.register.send(member.client)
        for i in range(5):
            hub.broadcast.send(b"%d" % i)
        assert slow.received() == [b"0", b"1"]
        assert slower.received() == [b"0"]
        wait_until(lambda: list(hub.clients) == [fast.client])
        hub.unregister.send(slow.client)  # the read pump does this when it ends
        hub.unregister.send(fast.client)
        assert fast.received() == [b"%d" % i for i in range(5)]


def test_many_full_clients_are_dropped_at_once() -> None:
    """All clients without room for a message are dropped. All others get it."""
    with hub_at_work() as hub:
        members = [FakeClient(1 if i % 3 else 256) for i in range(100)]
        for member in members:
            hub.register.send(member.client)
        for message in (b"0", b"1", b"2"):
            hub.broadcast.send(message)
        stayed = members[::3]
        wait_until(lambda: list(hub.clients) == [member.client for member in stayed])
        for member in stayed:
            hub.unregister.send(member.client)
        for i, member in enumerate(members):
            assert member.received() == ([b"0"] if i % 3 else [b"0", b"1", b"2"])


def test_stop_closes_all_and_those_who_come_later() -> None:
    """After stop, every channel is closed, including those of clients that register later."""
    with hub_at_work() as hub:
        member, late = FakeClient(), FakeClient()
        hub.register.send(member.client)
        hub.broadcast.send(b"queued")
        assert hub.farewell == b""
        hub.stop.send(b"farewell")
        assert member.received() == [b"queued"]
        assert hub.farewell == b"farewell"
        hub.register.send(late.client)
        assert late.received() == []
        hub.unregister.send(member.client)
        hub.unregister.send(late.client)
