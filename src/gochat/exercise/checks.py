"""The checks, one for each exercise.

Each check has the name of its exercise, and runs on the main thread of the child process. If the
learner's file is right, the check returns a line that says what it saw. Otherwise, it raises
Refused with such a line.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from ..client import Settings, serve_ws
from ..golang import http, websocket
from ..golang.channel import Channel, select
from ..hub import Hub
from .learner import WAIT, Learner, Refused, Task, shown, wait_for
from .peer import Peer
from .room import Member, Room


class Copying(Channel[list[str]]):
    """A channel that delivers a copy of each value.

    If a learner's function returns the copy, the value came over the channel.
    """

    copy: list[str] | None = None

    def send(self, value: list[str]) -> None:
        self.put(value)

    def put(self, item: list[str], block: bool = True, timeout: float | None = None) -> None:
        self.copy = list(item)
        super().put(self.copy, block, timeout)


def rendezvous(learner: Learner) -> str:
    """Exercise 1."""
    for value in ("hello", 0, None):
        channel: Channel[object] = Channel()
        got = learner.call("carry", channel, value)
        if got != value:
            raise Refused(f"carry(channel, {value!r}) returned {shown([got])}")
        if channel.capacity:
            raise Refused("carry gave the channel a buffer")
    copying = Copying()
    if learner.call("carry", copying, ["hello"]) is not copying.copy:
        raise Refused("the value that carry returned did not come over the channel")
    return "'hello', 0 and None each came over from another thread"


class Watched(Channel[Any]):
    """A channel that records whether its only sender would wait for room."""

    #: Whether any put was allowed to wait.
    would_wait = False

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self.would_wait |= block and timeout != 0
        super().put(item, block, timeout)


def try_send(learner: Learner) -> str:
    """Exercise 2."""
    watched = Watched(3)
    rest, queued = learner.call("offer", watched, [0, 1, 2, 3, 4]), watched.drain()
    if rest != [3, 4] or queued != [0, 1, 2]:
        raise Refused(
            f"0, 1, 2, 3, 4 were offered to a channel with room for three: it has {shown(queued)},"
            f" and offer returned {shown([rest])}, not [3, 4]"
        )
    if watched.would_wait:
        raise Refused("offer waits for room")
    many = [0] * 1000  # so that even a short wait for each value takes too long
    if learner.call("offer", Channel(), many) != many:
        raise Refused("an unbuffered channel that nobody receives from took a value")
    channel: Channel[int] = Channel()
    Task(learner, "recv", channel.recv)
    if not wait_for(lambda: learner.call("offer", channel, [0]) == []):
        raise Refused("a receiver was waiting on the channel, but offer did not send to it")
    return "there was room for three values, and the other two came back at once"


def close_and_drain(learner: Learner) -> str:
    """Exercise 3."""
    # If receive_all relies on a timeout, it ends either during this pause, or later than this after
    # the close.
    pause = 0.7
    for sent in ([1, b"", None, 4, 5], [4, 5, 5], [0] * random.randint(6, 9)):
        channel: Channel[object] = Channel(2)
        channel.send(sent[0])
        channel.send(sent[1])
        task = Task(learner, "receive_all", learner.get("receive_all"), channel)
        for value in sent[2:]:
            wait_for(lambda: len(channel) == 0 or task.ended())  # noqa: B023 - it is called now
            if task.ended(within=pause if value == 5 else 0.05):
                break
            channel.put(value, block=False)
        channel.close()
        closed = time.monotonic()
        got = task.result()
        if got != sent:
            raise Refused(f"receive_all returned {shown([got])}, but {sent} were sent")
        if (late := time.monotonic() - closed) >= pause:
            raise Refused(f"receive_all returned {late:.1f} s after the close")
    return "all five values were received, and then the end"


def slow_client(learner: Learner) -> str:
    """Exercise 4."""
    for capacity in (2, 1):
        watched = Watched(capacity)
        said = [b"1", b"2", b"3", b"4"]
        # carol's channel is full at the end, but no message found it full.
        ann, bob, carol = Member("ann"), Member("bob", channel=watched), Member("carol", len(said))
        room = Room(learner, learner.get("Hub"))
        room.join(ann, bob, carol)
        room.say(*said)
        ann.expect(*said)
        carol.expect(*said)
        bob.expect(*said[:capacity])
        if not bob.parted:
            raise Refused("bob, who does not read, misses messages, but his channel is not closed")
        if bob in room.hub.clients:
            raise Refused("bob was dropped, but is still in hub.clients")
        room.task.is_own()
        if watched.would_wait or watched.statistics().refused > 1:
            raise Refused("the hub waits for room in bob's channel before it drops him")
        if carol not in room.hub.clients:
            raise Refused("carol was dropped, although there was room for every message")
    return "ann and carol got everything; bob got what was queued for him, then the end"


def sentinel(learner: Learner) -> str:
    """Exercise 5."""
    ann, bob = Member("ann"), Member("bob", channel=learner.call("Channel", 2))
    if isinstance(bob.send, Channel):
        raise Refused("this is gochat's Channel, not the one in the file")
    room = Room(learner, Hub)
    room.join(ann, bob)
    count = threading.active_count()
    room.say(b"1", b"2", b"3")
    ann.expect(b"1", b"2", b"3")
    if threading.active_count() > count:
        raise Refused("the sentinel is not in the channel yet: a thread is waiting for room for it")
    # If recv relies on a timeout, it either takes longer than this to find the end, or does not
    # wait this long for a value.
    pause = 0.7
    got, begin = [], time.monotonic()
    while (received := Task(learner, "recv", bob.send.recv).result())[1]:
        got.append(received[0])
    if got != [b"1", b"2"]:
        raise Refused(f"1, 2 were queued when the channel was closed, but bob got {shown(got)}")
    if (late := time.monotonic() - begin) >= pause:
        raise Refused(f"recv found the end {late:.1f} s after the close")
    channel = learner.call("Channel", 2)
    waiting = Task(learner, "recv, called before the channel was closed,", channel.recv)
    if waiting.ended(within=pause):
        waiting.result()
        raise Refused("recv returned before there was a value or a close")
    Task(learner, "close", channel.close).result()
    waiting.result()
    return "the full channel was closed at once, and bob got what was queued and then the end"


def what_kills_this_hub(learner: Learner) -> str:
    """Exercise 6."""
    scenario = learner.get("scenario")

    def play(kind: Callable[[], Any]) -> BaseException | None:
        """Run the scenario; return the exception that killed the hub, or None. Raises Refused."""
        room = Room(learner, kind)
        # The scenario gets only the hub's channels, so it cannot change the hub's state directly.
        channels = SimpleNamespace(
            register=room.hub.register,
            unregister=room.hub.unregister,
            broadcast=room.hub.broadcast,
        )
        task = Task(learner, "scenario", scenario, channels, lambda size: Member("client", size))
        wait_for(lambda: task.ended() or room.task.ended())
        with suppress(Refused):  # the hub may be dead
            room.settle()
        if room.task.error is None:
            task.result()
        return room.task.error

    if learner.has_changed("Hub"):
        raise Refused("Hub was changed: change only scenario")
    # A new class, because the file may have replaced methods of the one that it defines.
    error = play(learner.define("Hub"))
    if error is None:
        raise Refused("this hub survives the scenario")
    what = learner.describe(error)
    (*_, innermost) = traceback.extract_tb(error.__traceback__)
    if "changed size during iteration" not in str(error) or innermost.name != "run":
        raise Refused(f"this hub died of something else: {what}")
    original = play(Hub)
    if original is not None:
        raise Refused(f"the original hub also died of {learner.describe(original)}")
    return f"the hub died of {what}; the original survives"


def who_has_come(learner: Learner) -> str:
    """Exercise 7."""
    for _ in range(20):  # a hub that sends on another thread may pass once by chance
        ann, bob, carol = Member("ann"), Member("bob", 1), Member("carol")
        room = Room(learner, learner.get("Hub"))
        room.join(ann, bob, carol)
        room.say(b"hi")
        ann.expect(b"ann has come", b"bob has come", b"carol has come", b"hi")
        bob.expect(b"bob has come")
        carol.expect(b"carol has come", b"hi")
        if bob in room.hub.clients or not bob.parted:
            raise Refused("bob's channel was full when carol came, but the hub did not drop him")
    room.say(*[b"again"] * 17)  # one more than there is room for
    if room.hub.clients:
        raise Refused(
            "ann and carol do not read, but were not both dropped when their channels filled"
        )
    return "everyone was told who had come, and bob, who does not read, was dropped"


def ticker(learner: Learner) -> str:
    """Exercise 8."""
    period = 0.4
    conn, peer = connection()
    client = learner.call("Client", Hub(), conn, Settings(ping_period=period))
    pings: list[bytes] = []
    texts: list[bytes] = []

    def read() -> None:
        opcode = websocket.TEXT_MESSAGE
        while opcode != websocket.CLOSE_MESSAGE:
            opcode, payload = peer.read_frame()
            (pings if opcode == websocket.PING_MESSAGE else texts).append(payload)

    reading = Task(learner, "the peer", read)
    begin = time.monotonic()
    pump = Task(learner, "write_pump", client.write_pump)
    messages = 0
    # Many messages until the first ping, then few, then none: the number of messages between two
    # pings must not matter.
    for each, pace in ((1, period / 80), (2, period / 10), (3, None)):
        while len(pings) < each and time.monotonic() - begin < (each + 2) * period:
            if pace:
                messages += client.send.try_send(b"x")
            if pump.ended(within=pace or period / 10):
                pump.result()
                raise Refused("write_pump has ended, but its channel is open")
        count, seconds = len(pings), time.monotonic() - begin
        seen = f"{count} pings went out among {messages} messages in {seconds:.1f} s"
        if not each <= count <= seconds / period:
            quiet = "" if pace else ", with no messages at the end"
            raise Refused(f"{seen}{quiet}, but one is due every {period} s")
    pump.is_own()
    client.send.close()
    pump.result()
    if not reading.ended(WAIT) or reading.error:
        raise Refused("the channel was closed, but no close frame came")
    if (written := b"".join(texts).count(b"x")) != messages:
        raise Refused(f"{messages} messages were queued, but {written} arrived")
    return seen


def buffered_registration(learner: Learner) -> str:
    """Exercise 9."""
    for _ in range(20):
        hub = learner.call("Hub")
        if hub.broadcast.capacity == 0:
            raise Refused("broadcast no longer has a buffer")
        ann, bob = Member("ann"), Member("bob")

        def enter(hub: Any = hub, ann: Member = ann) -> None:
            hub.register.send(ann)
            hub.broadcast.send(b"hello")

        # Start the hub only after ann has done everything that she can do without a hub.
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
            raise Refused("ann registered, then said hello, but did not get her own hello")
        room.join(bob)
        room.settle()
        if bob.send.drain():
            raise Refused("bob came after ann's hello, but got it anyway")
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

    begin = time.monotonic()
    for _ in range(300):
        choose(*channels)
    # On a busy machine, calls take long even if `choose` does not wait.
    limit = WAIT + time.monotonic() - begin
    if min(counts.values()) < 30:
        seen = ", ".join(f"the {name} {count} times" for name, count in counts.items())
        raise Refused(f"three channels were always ready, but choose picked {seen}")
    seen = " and ".join(str(count) for count in counts.values())
    for channel in channels:
        channel.drain()
    begin = time.monotonic()
    for channel in random.choices(channels, k=100):
        choose(channel)
        if len(channel):
            raise Refused("choose returned a value, but left it in its channel")
        if time.monotonic() - begin > limit:
            raise Refused("choose waits for one channel while another has a value")
    choosing = Task(learner, "choose", learner.get("choose"), *channels)
    choosing.ended(within=random.uniform(0.0, 0.4))
    channels[1].try_send("late")
    if (got := choosing.result()) != (channels[1], "late"):
        raise Refused(f"no channel had a value, but choose returned {shown([got])}")
    return f"three channels that were always ready were chosen {seen} times"


def direct_messages(learner: Learner) -> str:
    """Exercise 11."""
    bob, bobby, eve = Member("bob"), Member("bobby"), Member("eve", 4)
    members = (Member("ann"), bob, bobby, eve)
    room = Room(learner, learner.get("Hub"))
    room.join(*members)
    for message, readers in (
        (b"hello", members),
        (b"@bob psst", (bob,)),
        (b"@bobby psst", (bobby,)),
        (b"@dave psst", ()),
        (b"@eve psst", (eve,)),
        (b"write to me@bob or to me @ann", members),
    ):
        room.say(message)
        for member in members:
            got = member.send.drain()
            if got != ([message] if member in readers else []):
                did = "got" if got else "did not get"
                raise Refused(f"{member.name.decode()} {did} {shown([message])}")
    room.say(*[b"@eve psst"] * 5)
    if eve in room.hub.clients or eve.send.drain() != [b"@eve psst"] * 4 or not eve.parted:
        raise Refused("eve does not read, but was not dropped when her channel was full")
    room.say(*[b"hello"] * 17)  # one more than there is room for
    if room.hub.clients:
        raise Refused("nobody reads, but not everyone was dropped when their channels filled")
    return "direct messages reached only their readers; the others reached everyone"


class Hesitant(websocket.Conn):
    """A connection that waits for a moment before it writes a close frame."""

    def write_message(self, opcode: int, payload: bytes) -> None:
        if opcode == websocket.CLOSE_MESSAGE:
            time.sleep(random.uniform(0.1, 0.4))
        super().write_message(opcode, payload)


def close_frame_first(learner: Learner) -> str:
    """Exercise 12."""
    for pong_wait in (0.2, 60.0):
        conn, peer = connection(Hesitant)
        hub = Hub()
        client = learner.call(
            "Client", hub, conn, Settings(pong_wait=pong_wait, ping_period=pong_wait * 0.9)
        )
        reading = Task(learner, "read_pump", client.read_pump)
        Task(learner, "write_pump", client.write_pump)
        if pong_wait > 1:  # this client leaves
            peer.send(websocket.CLOSE_MESSAGE, b"")
        # The check acts as a busy hub, which closes the channel late.
        channel, _, _ = select(hub.unregister, deadline=time.monotonic() + WAIT)
        if channel is None:
            reading.result()
            raise Refused("the client was not unregistered")
        # A random time, so that a read pump cannot pass by waiting for a fixed time.
        reading.ended(random.uniform(0.2, WAIT))
        client.send.try_send(b"last")
        client.send.close()
        opcode, seen = websocket.PING_MESSAGE, [b""]
        try:
            while opcode == websocket.PING_MESSAGE or seen[-1] == b"last":
                opcode, payload = peer.read_frame()
                seen.append(payload)
        except EOFError:
            raise Refused("the connection has ended, but no close frame came") from None
        if opcode != websocket.CLOSE_MESSAGE:
            raise Refused(f"a frame with opcode {opcode} came, not a close frame")
        if pong_wait < 1 and b"last" not in seen:
            raise Refused("a message was queued, but the close frame came before it")
        peer.close()
        if not reading.ended(within=0.4):
            raise Refused("the connection has ended, but read_pump is still waiting")
        reading.result()
    return "the close frame came before the end, both times"


def descriptor(learner: Learner) -> str:
    """Exercise 13."""
    ours, theirs = socket.socketpair()
    read, go, written = threading.Event(), threading.Event(), threading.Event()
    together = threading.Barrier(2)

    def read_pump(_: int) -> None:
        together.wait(WAIT)
        read.set()

    def write_pump(number: int) -> None:
        together.wait(WAIT)
        go.wait()
        os.write(number, b"for ann")
        written.set()

    task = Task(learner, "serve", learner.get("serve"), ours, read_pump, write_pump)
    wait_for(lambda: read.is_set() or together.broken or task.ended(), 2 * WAIT)
    if together.broken:
        raise Refused("the two pumps do not run at the same time")
    # A random time, so that `serve` cannot pass by waiting for a fixed time.
    task.ended(within=random.uniform(0.2, WAIT))
    strangers = socket.socketpair()  # the next connection gets the freed numbers
    go.set()
    wait_for(lambda: written.is_set() or task.error is not None)
    for stranger in strangers:
        stranger.setblocking(False)
        with suppress(BlockingIOError):
            stranger.recv(100)
            raise Refused(
                "the socket was closed while ann's write pump still used its descriptor, whose"
                " number went to the next connection: bob got what was meant for ann"
            )
    if not task.ended(within=0.4):
        raise Refused("both pumps have ended, but serve is still waiting")
    task.result()
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        if theirs.recv(100) == b"for ann":
            if ours.fileno() != -1:
                raise Refused("both pumps have ended, but the socket is still open")
            if not wait_for(lambda: at_end(theirs)):
                raise Refused("the socket was closed, but another descriptor keeps it open")
            return "the socket was closed after both pumps had ended, and ann got her message"
    raise Refused("ann did not get what her write pump sent her")


def torn_frame(learner: Learner) -> str:
    """Exercise 14."""
    size, pings = 1_000_000, 50  # the size is more than the socket's buffers hold
    ours, theirs = socket.socketpair()
    conn, peer = learner.get("Conn")(ours, b"", "127.0.0.1:1"), Peer(theirs)

    def taken() -> bool:
        """Return whether the connection has read everything sent so far."""
        with suppress(OSError):  # nothing to read, or the learner's code has closed the socket
            return not ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return True

    Task(learner, "the reading thread", read_all, conn)
    writing = Task(learner, "the writing thread", conn.write_message, 1, b"x" * size)
    message = peer.read(10)  # the header, so the message is in flight
    pong = b"\x8a\x01?"
    deadline = time.monotonic() + WAIT
    for _ in range(pings):
        peer.send(websocket.PING_MESSAGE, b"?")
        # Otherwise, on a busy machine, the reading thread might not run before the message ends.
        wait_for(taken, within=deadline - time.monotonic())
        message += peer.read(size // pings)
        if pong in message:
            try:
                while missing := size - message.count(b"x"):
                    message += peer.read(missing)
            except (TimeoutError, EOFError):
                raise Refused("a pong is in the message, but part of it is missing") from None
            place = message.index(pong)
            for name in ("write_message", "_write"):
                if getattr(type(conn), name) is not getattr(websocket.Conn, name):
                    raise Refused(f"{name} was changed: change only _send_for_library")
            return f"torn: a pong came after {place - 10} of the message's {size} bytes"
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

    def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        return serve_ws(room.hub, environ, start_response, client_class=kind)

    server = http.Server("127.0.0.1:0", app)
    server.start()
    peers = {}
    for name in ("ann", "bob", "carol"):
        peers[name] = Peer(socket.create_connection(("127.0.0.1", server.port), WAIT))
        peers[name].handshake()
        if not wait_for(lambda: len(room.hub.clients) == len(peers)):
            room.settle()
            raise Refused(f"{name} has come, but is not in hub.clients")
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
                raise Refused(f"{name} did not get {speaker}'s {text.decode()}") from None
            if got != text:
                if got in said[name]:
                    raise Refused(f"{name} said {shown([got])}, and got it back")
                raise Refused(f"{name} got {shown([got])}, but {speaker} said {text.decode()}")
    all_speak(room, peers)
    return "all four messages reached the other two clients, and nobody else"


def all_speak(room: Room, peers: dict[str, Peer], count: int = 100) -> None:
    """Make all clients speak at once, so that their read pumps send to the hub at the same time.

    Raises Refused if a client receives a message of its own, or does not receive all messages of
    the others.
    """
    for name, peer in peers.items():
        peer.send_texts(f"{name} {i}".encode() for i in range(count))
    missing = []
    for name, peer in peers.items():
        heard: list[bytes] = []
        with suppress(TimeoutError, EOFError, ConnectionError):
            while len(heard) < (len(peers) - 1) * count:
                heard += peer.read_frame()[1].split(b"\n")
        if own := [each for each in heard if each.startswith(name.encode())]:
            raise Refused(f"all spoke at once; {name} said {shown(own[:1])}, and got it back")
        if len(heard) < (len(peers) - 1) * count:
            missing.append(name)
    if missing:
        room.settle()
        raise Refused(f"all spoke at once, but {missing[0]} did not get everything")


def at_end(sock: socket.socket) -> bool:
    """Return whether a non-blocking socket's peer has closed, with nothing left to read."""
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def connection(kind: type[websocket.Conn] = websocket.Conn) -> tuple[websocket.Conn, Peer]:
    """Return a connection without a server, and its peer."""
    ours, theirs = socket.socketpair()
    return kind(ours, b"", "127.0.0.1:1"), Peer(theirs)


def read_all(conn: Any) -> None:
    """Read until the connection ends."""
    with suppress(OSError):
        while True:
            conn.read_message()
