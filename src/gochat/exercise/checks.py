"""For each exercise: what the learner's file is put through, and what is said of it.

Each check has the name of its exercise's starter. It is called on the main thread of the child,
returns the line for a right answer, and raises Refused with the line for a wrong one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..client import Settings, serve_ws
from ..golang import http, websocket
from ..golang.channel import Channel, select
from ..hub import Hub
from .learner import WAIT, Learner, Refused, Task, shown, wait_for
from .peer import Peer
from .room import Member, Room

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def rendezvous(learner: Learner) -> str:
    """Exercise 1."""
    for value in ("hello", 0, None):
        got = learner.call("carry", Channel(), value)
        if got != value:
            raise Refused(f"carry(channel, {value!r}) returned {shown([got])}")
    return "'hello', 0 and None each came over from another thread"


def try_send(learner: Learner) -> str:
    """Exercise 2."""
    channel: Channel[int] = Channel(3)
    rest, queued = learner.call("offer", channel, [0, 1, 2, 3, 4]), channel.drain()
    if rest != [3, 4] or queued != [0, 1, 2]:
        raise Refused(
            f"of 0, 1, 2, 3, 4 the channel with room for three has {shown(queued)},"
            f" and offer returned {shown([rest])}, not [3, 4]"
        )
    if learner.call("offer", Channel(), [0]) != [0]:
        raise Refused("an unbuffered channel that nobody receives from took a value")
    return "three values found room, and the two others came back at once"


def close_and_drain(learner: Learner) -> str:
    """Exercise 3."""
    channel: Channel[object] = Channel(2)
    sent = [1, b"", None, 4, 5]
    channel.send(sent[0])
    channel.send(sent[1])
    task = Task(learner, "receive_all", learner.get("receive_all"), channel)
    for value in sent[2:]:
        wait_for(lambda: len(channel) == 0 or task.ended())
        channel.put(value, block=False)
        if task.ended():
            break
    channel.close()
    got = task.result()
    if got != sent:
        raise Refused(f"receive_all returned {shown([got])}, and {sent} were sent")
    return "all five values were received, and then the end"


class Watched(Channel[bytes]):
    """A channel that knows whether its sender would wait for room. For one sending thread."""

    would_wait = False

    def put(self, item: bytes, block: bool = True, timeout: float | None = None) -> None:
        self.would_wait |= block
        super().put(item, block, timeout)


def slow_client(learner: Learner) -> str:
    """Exercise 4."""
    watched = Watched(2)
    ann, bob, carol = Member("ann"), Member("bob", channel=watched), Member("carol")
    room = Room(learner, learner.get("Hub"))
    room.join(ann, bob, carol)
    said = [b"1", b"2", b"3", b"4"]
    room.say(*said)
    ann.expect(*said)
    carol.expect(*said)
    bob.expect(*said[:2])
    if not bob.parted:
        raise Refused("bob, who does not read, misses messages, and his channel is not closed")
    if bob in room.hub.clients:
        raise Refused("bob was dropped, and is still in hub.clients")
    if watched.would_wait:
        raise Refused("the hub waits for room in bob's channel before it drops him")
    return "ann and carol got all, bob got what was queued for him and then the end"


def sentinel(learner: Learner) -> str:
    """Exercise 5."""
    ann, bob = Member("ann"), Member("bob", channel=learner.call("Channel", 2))
    room = Room(learner, Hub)
    room.join(ann, bob)
    room.say(b"1", b"2", b"3")
    ann.expect(b"1", b"2", b"3")
    got = []
    while (received := Task(learner, "recv", bob.send.recv).result())[1]:
        got.append(received[0])
    if got != [b"1", b"2"]:
        raise Refused(f"1, 2 were queued when the channel was closed, and bob got {shown(got)}")
    channel = learner.call("Channel", 2)
    waiting = Task(
        learner, "recv, which had found nothing when the channel was closed,", channel.recv
    )
    waiting.ended(within=0.05)
    Task(learner, "close", channel.close).result()
    waiting.result()
    return "the full channel was closed at once, and bob got what was queued and then the end"


def what_kills_this_hub(learner: Learner) -> str:
    """Exercise 6."""
    scenario = learner.get("scenario")

    def play(kind: Callable[[], Any]) -> BaseException | None:
        """What a hub has died of in the scenario; None if it has not. Raises Refused."""
        room = Room(learner, kind)
        task = Task(learner, "scenario", scenario, room.hub, lambda size: Member("client", size))
        wait_for(lambda: task.ended() or room.task.ended())
        with suppress(Refused):  # the hub may have died just now
            room.settle()
        if room.task.error is None:
            task.result()
        return room.task.error

    error = play(learner.get("Hub"))
    if error is None:
        raise Refused("this hub survives the scenario")
    what = learner.describe(error)
    if "changed size during iteration" not in str(error):
        raise Refused(f"this hub died of something else: {what}")
    original = play(Hub)
    if original is not None:
        raise Refused(f"the original hub died, too, of {learner.describe(original)}")
    return f"the hub died of {what}; the original survives"


def who_has_come(learner: Learner) -> str:
    """Exercise 7."""
    ann, bob, carol = Member("ann"), Member("bob", 1), Member("carol")
    room = Room(learner, learner.get("Hub"))
    room.join(ann, bob, carol)
    room.say(b"hi")
    ann.expect(b"ann has come", b"bob has come", b"carol has come", b"hi")
    bob.expect(b"bob has come")
    carol.expect(b"carol has come", b"hi")
    if bob in room.hub.clients or not bob.parted:
        raise Refused("bob's channel was full when carol came, and the hub has not dropped him")
    return "everyone was told who has come, and bob, who does not read, was dropped"


def ticker(learner: Learner) -> str:
    """Exercise 8."""
    period = 0.4
    conn, peer = connection()
    client = learner.call("Client", Hub(), conn, Settings(ping_period=period))
    pings: list[bytes] = []

    def read() -> None:
        while True:
            opcode, payload = peer.read_frame()
            if opcode == websocket.PING_MESSAGE:
                pings.append(payload)

    Task(learner, "the peer", read)
    begin = time.monotonic()
    pump = Task(learner, "write_pump", client.write_pump)
    messages = 0
    while len(pings) < 2 and time.monotonic() - begin < 4 * period:
        messages += client.send.try_send(b"x")
        if pump.ended(within=period / 20):
            pump.result()
            raise Refused("write_pump has ended, and its channel is open")
    count, seconds = len(pings), time.monotonic() - begin
    seen = f"{count} pings went out among {messages} messages in {seconds:.1f} s"
    if not 2 <= count <= seconds / period:
        raise Refused(f"{seen}, and one is due every {period} s")
    return seen


def buffered_registration(learner: Learner) -> str:
    """Exercise 9."""
    for _ in range(20):
        hub = learner.call("Hub")
        if hub.broadcast.capacity == 0:
            raise Refused("broadcast has no buffer any more")
        ann = Member("ann")

        def enter(hub: Any = hub, ann: Member = ann) -> None:
            hub.register.send(ann)
            hub.broadcast.send(b"hello")

        # The hub begins when ann has done what can be done without the hub.
        entering = Task(learner, "ann", enter)
        entering.ended(within=0.02)
        room = Room(learner, lambda hub=hub: hub)  # type: ignore[misc]
        if not entering.ended(WAIT):
            raise room.task.waiting()
        wait_for(lambda hub=hub: len(hub.broadcast) == 0)  # type: ignore[misc]
        room.settle()
        if ann not in hub.clients:
            raise Refused("the hub has not registered ann")
        if ann.send.drain() != [b"hello"]:
            raise Refused("ann registered, then said hello, and did not get her own hello")
    return "20 of 20 clients got their own first message"


def fair_select(learner: Learner) -> str:
    """Exercise 10."""
    channels: list[Channel[str]] = [Channel(2) for _ in range(3)]
    names = dict(zip(channels, ("first", "second", "third"), strict=True))
    counts = Counter(dict.fromkeys(names.values(), 0))

    def choose(*ready: Channel[str]) -> None:
        for each in ready:
            each.try_send(names[each])
        channel, value = learner.call("choose", *channels)
        if channel not in ready or value != names[channel]:
            raise Refused(f"choose returned {shown([(names.get(channel), value)])}")
        counts[value] += 1

    for _ in range(300):
        choose(*channels)
    if min(counts.values()) < 30:
        seen = ", ".join(f"the {name} {count} times" for name, count in counts.items())
        raise Refused(f"of three channels that were always ready it chose {seen}")
    seen = " and ".join(str(count) for count in counts.values())
    for channel in channels:
        channel.drain()
    for channel in channels * 4:
        choose(channel)
    return f"three channels that were always ready were chosen {seen} times"


def direct_messages(learner: Learner) -> str:
    """Exercise 11."""
    bob, bobby = Member("bob"), Member("bobby")
    members = (Member("ann"), bob, bobby)
    room = Room(learner, learner.get("Hub"))
    room.join(*members)
    for message, readers in (
        (b"hello", members),
        (b"@bob psst", (bob,)),
        (b"@bobby psst", (bobby,)),
        (b"@dave psst", ()),
        (b"write to me@bob or to me @ann", members),
    ):
        room.say(message)
        for member in members:
            got = member.send.drain()
            if got != ([message] if member in readers else []):
                did = "got" if got else "did not get"
                raise Refused(f"{member.name.decode()} {did} {shown([message])}")
    return "direct messages came to their readers alone, the others to everyone"


def close_frame_first(learner: Learner) -> str:
    """Exercise 12."""
    for pong_wait in (0.2, 60.0):
        conn, peer = connection()
        hub = Hub()
        client = learner.call(
            "Client", hub, conn, Settings(pong_wait=pong_wait, ping_period=pong_wait * 0.9)
        )
        reading = Task(learner, "read_pump", client.read_pump)
        Task(learner, "write_pump", client.write_pump)
        if pong_wait > 1:  # this client leaves by itself
            peer.send(websocket.CLOSE_MESSAGE, b"")
        # The hub, which is busy: it takes a moment before it closes the channel.
        channel, _, _ = select(hub.unregister, deadline=time.monotonic() + WAIT)
        if channel is None:
            reading.result()
            raise Refused("the client was not unregistered")
        reading.ended(WAIT)
        client.send.close()
        opcode = websocket.PING_MESSAGE
        try:
            while opcode == websocket.PING_MESSAGE:
                opcode, _ = peer.read_frame()
        except EOFError:
            raise Refused("the connection has ended, and no close frame has come") from None
        if opcode != websocket.CLOSE_MESSAGE:
            raise Refused(f"a frame of the kind {opcode} has come, and no close frame")
        peer.close()
        reading.result()
    return "the close frame came before the end, both times"


def descriptor(learner: Learner) -> str:
    """Exercise 13."""
    ours, theirs = socket.socketpair()
    read, go, written = threading.Event(), threading.Event(), threading.Event()

    def write_pump(number: int) -> None:
        go.wait()
        os.write(number, b"for ann")
        written.set()

    task = Task(learner, "serve", learner.get("serve"), ours, lambda _: read.set(), write_pump)
    wait_for(lambda: read.is_set() or task.ended())
    task.ended(within=0.2)
    strangers = socket.socketpair()  # the next connection gets the numbers that are free
    go.set()
    wait_for(lambda: written.is_set() or task.error is not None)
    for stranger in strangers:
        stranger.setblocking(False)
        with suppress(BlockingIOError):
            stranger.recv(100)
            raise Refused(
                "the descriptor was closed while ann's write pump had its number, and went to the"
                " next connection: bob got what was for ann"
            )
    task.result()
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        if theirs.recv(100) == b"for ann":
            if ours.fileno() != -1:
                raise Refused("both pumps have ended, and the socket is still open")
            return "the socket was closed behind both pumps, and ann got what was for ann"
    raise Refused("ann did not get what her write pump had for her")


def torn_frame(learner: Learner) -> str:
    """Exercise 14."""
    size, pings = 1_000_000, 50  # more than the system takes at once
    ours, theirs = socket.socketpair()
    conn, peer = learner.get("Conn")(ours, b"", "127.0.0.1:1"), Peer(theirs)

    def taken() -> bool:
        """Whether the connection has read all that has come."""
        with suppress(OSError):  # there is nothing, or the learner's code has closed it
            return not ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return True

    Task(learner, "the reading thread", read_all, conn)
    writing = Task(learner, "the writing thread", conn.write_message, 1, b"x" * size)
    message = peer.read(10)  # the header, so the message is on its way
    reads = True
    for _ in range(pings):
        peer.send(websocket.PING_MESSAGE, b"?")
        # On a busy machine the reading thread may get no time before the message is over. If that
        # thread takes no more, it is not waited for fifty times.
        reads = reads and wait_for(taken)
        message += peer.read(size // pings)
        if b"?" in message:
            place = message.index(b"?")
            return f"torn: a pong came after {place - 12} of the message's {size} bytes"
    writing.result()
    for _ in range(pings):
        try:
            peer.read_frame()
        except TimeoutError:
            raise Refused("the message was whole, but no pong came") from None
    raise Refused(f"the message was whole, and {pings} pongs came after it")


def all_but_the_sender(learner: Learner) -> str:
    """Exercise 15."""
    room = Room(learner, learner.get("Hub"))
    kind = learner.get("Client")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return serve_ws(room.hub, environ, start_response, client_class=kind)

    server = http.Server("127.0.0.1:0", app)
    server.start()
    peers = {}
    for name in ("ann", "bob", "carol"):
        peers[name] = Peer(socket.create_connection(("127.0.0.1", server.port), WAIT))
        peers[name].handshake()
        count = len(peers)
        if not wait_for(lambda count=count: len(room.hub.clients) == count):  # type: ignore[misc]
            room.settle()
            raise Refused(f"{name} has come, and is not in hub.clients")
    said: dict[str, list[bytes]] = {name: [] for name in peers}
    for speaker, text in (("ann", b"one"), ("bob", b"two"), ("carol", b"three"), ("ann", b"three")):
        peers[speaker].send(websocket.TEXT_MESSAGE, text)
        said[speaker].append(text)
        for name, peer in peers.items():
            if name == speaker:
                continue
            try:
                got = peer.read_frame()[1]
            except (TimeoutError, EOFError, ConnectionError):
                room.settle()
                raise Refused(f"{name} did not get the {text.decode()} of {speaker}") from None
            if got != text:
                if got in said[name]:
                    raise Refused(f"{name} said {shown([got])}, and got it back")
                raise Refused(f"{name} got {shown([got])}, and {speaker} said {text.decode()}")
    return "each of four messages came to the two others, and to nobody else"


def connection() -> tuple[websocket.Conn, Peer]:
    """A connection without a server, and its peer."""
    ours, theirs = socket.socketpair()
    return websocket.Conn(ours, b"", "127.0.0.1:1"), Peer(theirs)


def read_all(conn: Any) -> None:
    """Read until the connection ends."""
    with suppress(OSError):
        while True:
            conn.read_message()
