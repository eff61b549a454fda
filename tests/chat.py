"""A room of random clients, which must all receive every message in the same order.

One client, the witness, stays throughout and defines the order. The others join, talk and leave at
random, and what they receive is compared with what the witness has received.
"""

from __future__ import annotations

import random
import re
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .loop import Frames, Link, Loop
from .support import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, Gochat, frame, request

#: Average seconds between a client's messages.
PAUSE = 1.0
#: Nobody talks while this many messages are in flight, or while a client is this many messages
#: behind the witness. The sum is below the 256 messages that can wait for a client, so the server
#: has no reason to drop one.
ON_THEIR_WAY, BEHIND = 64, 96

#: Messages by which one process of a room may lag behind another.
LAG = 500

#: Characters of one to four bytes. Some are special in HTML or JavaScript.
CHARACTERS = "abcdefghijklmnopqrstuvwxyz  \t\0\x1f\x7f<&\"'\\äß€한\u2028\ufeff😀"

#: Ways for a client to leave. After "close" and "half close", the server must have read all of the
#: client's messages.
WAYS = ["close when all is back", "close", "half close", "plain close", "reset"]


#: Prefix of every message from our clients.
MARK = re.compile(rb"client (\d+): ")


class Chat:
    """Many clients in one room, on one thread, with one source of random numbers.

    pause: average seconds between a client's messages.

    strangers: whether other clients also talk in the room.

    others: further processes that serve the room. Clients join a random process, and one stays on
    each throughout.
    """

    def __init__(
        self,
        gochat: Gochat,
        seed: int,
        *,
        pause: float = PAUSE,
        strangers: bool = False,
        others: Sequence[Gochat] = (),
    ) -> None:
        self.gochat = gochat
        self.ports = [gochat.port, *(other.port for other in others)]
        self.random = random.Random(seed)
        self.pause = pause
        self.strangers = strangers
        self.loop = Loop()
        #: Messages received by the witness, from number `first` on. `place` maps our own messages
        #: to their numbers.
        self.order: list[bytes] = []
        self.first = 0
        self.place: dict[bytes, int] = {}
        #: For each client, the messages that it has sent and the witness has not received.
        self.unheard: dict[int, deque[bytes]] = {}
        #: Clients whose messages must all reach the witness.
        self.audible: list[int] = []
        #: Clients with an open connection.
        self.members: set[Chatter] = set()
        #: Clients that have received more than the witness.
        self.ahead: set[Chatter] = set()
        self.on_their_way = 0
        self.ids = 0
        self.delivered = 0
        self.quiet = False  # nobody joins, leaves or talks
        self.stopping = False  # the server is shutting down
        #: The witness, and the client that stays on each other process.
        self.stayers: list[Chatter] = []
        for port in self.ports:
            self.stayers.append(Chatter(self, port=port))
            self.loop.run_until(lambda: self.stayers[-1].present, "one that stays is in the room")
        self.witness = self.stayers[0]

    def heard(self, messages: list[bytes]) -> None:
        """Check that each message that the witness receives is the next one from its sender."""
        for message in messages:
            found = MARK.match(message)
            if found:
                sender = int(found[1])
                unheard = self.unheard[sender]
                assert unheard, f"{sender} did not say {message!r}, or not twice"
                said = unheard.popleft()
                assert message == said, f"{sender} has said {said!r}, not {message!r}"
                self.place[message] = self.count
            else:
                assert self.strangers, f"nobody said {message!r}"
            self.order.append(message)
        for member in list(self.ahead):
            member.compare()

    @property
    def count(self) -> int:
        """The number of messages that the witness has received."""
        return self.first + len(self.order)

    def forget(self) -> None:
        """Drop the part of the order that every client has received."""
        needed = min((m.place for m in self.members | self.ahead), default=self.count)
        for message in self.order[: needed - self.first]:
            self.place.pop(message, None)
        del self.order[: needed - self.first]
        self.first = needed

    def may_talk(self) -> bool:
        behind = max((m.behind() for m in self.members if not m.leaving), default=0)
        return self.on_their_way < ON_THEIR_WAY and behind < BEHIND

    def fill(self, clients: int) -> None:
        """Add clients until there are this many besides the witness."""
        while len(self.members) <= clients:
            Chatter(self)

    def last_word(self) -> None:
        """Check that the witness has received every message that the server has read."""
        for stayer in self.stayers:
            stayer.say()
        self.loop.run_until(lambda: not any(s.unechoed for s in self.stayers), "the last words")
        self.loop.run_until(
            lambda: not any(self.unheard[s.id] for s in self.stayers), "the witness has heard them"
        )
        for sender in self.audible:
            assert not self.unheard[sender], f"lost: {list(self.unheard[sender])}"

    def part(self) -> None:
        """Stop all talk, and let everyone leave after the last message. The witness leaves last."""
        self.quiet = True
        self.loop.run_until(
            lambda: all(m.present and not m.unechoed for m in self.members if not m.leaving),
            "everybody has had everything back",
        )
        for member in list(self.members.difference(self.stayers)):
            if not member.leaving:
                member.leave(self.random.choice(WAYS))
        self.loop.run_until(lambda: self.members == set(self.stayers), "everybody is gone")
        self.last_word()
        assert not self.ahead, f"some got what the witness did not: {self.ahead}"
        for stayer in self.stayers:
            stayer.leave("close")
        self.loop.run_until(lambda: not self.members, "the witness is gone")


class Voice:
    """A client with its own mark in every message."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.id = chat.ids
        chat.ids += 1
        self.mark = b"client %d: " % self.id
        self.said = 0
        self.unheard = chat.unheard[self.id] = deque[bytes]()

    def words(self, filler: str) -> bytes:
        """Return the client's next message. The witness must receive the messages in this order."""
        text = self.mark + b"%d %b." % (self.said, filler.encode())
        self.said += 1
        self.unheard.append(text)
        return text


class Chatter(Voice, Link):
    """A client that joins, talks and leaves at random. The first one in a chat is the witness."""

    #: Whether its messages count as in flight.
    patient = True

    def __init__(self, chat: Chat, *, send_buffer: int = 0, port: int = 0) -> None:
        Voice.__init__(self, chat)
        port = port or chat.random.choice(chat.ports)
        Link.__init__(self, chat.loop, port, send_buffer=send_buffer)
        #: Its messages that have not come back.
        self.unechoed: deque[bytes] = deque()
        #: Whether its first message has come back.
        self.present = False
        #: How the client leaves, one of WAYS; empty until it has decided.
        self.leaving = ""
        #: The close frame received.
        self.farewell: Frame | None = None
        #: The payload of the close frame sent.
        self.goodbye = b""
        #: The position in `order` of the next message to be received, at least `begin`; None until
        #: one of our messages has shown it.
        self.next: int | None = None
        self.came = chat.count
        # If this client's process lags behind, the client first receives messages that the witness
        # already has.
        self.begin = max(chat.first, self.came - LAG) if len(chat.ports) > 1 else self.came
        #: Messages received, but not yet compared with the witness's.
        self.unproved: list[bytes] = []
        self.head = b""
        self.frames: Frames | None = None
        chat.members.add(self)
        self.send(request())

    def __repr__(self) -> str:
        return f"client {self.id} ({self.leaving or 'in the room'})"

    @property
    def place(self) -> int:
        """The lowest possible position in `order` of the next message."""
        return self.begin if self.next is None else self.next

    def behind(self) -> int:
        """Return how many messages the client is behind the witness."""
        return self.chat.count - (self.came if self.next is None else self.next)

    # Receiving.

    def got(self, data: bytes) -> None:
        if self.frames is None:
            self.head += data
            head, end, data = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.frames = Frames()
            self.say()  # when this message comes back, the hub knows the client
        for got in self.frames.take(data):
            assert self.farewell is None, f"{self} gets {got} after a close frame"
            assert got.fin, got
            if got.opcode == TEXT:
                self.receive(got.payload.split(b"\n"))
            elif got.opcode == PING:
                if self.leaving != "close":  # nothing may follow a close frame
                    self.send(frame(got.payload, PONG))
            elif got.opcode == CLOSE:
                self.farewell = got
                if not self.leaving:
                    self.send(frame(got.payload, CLOSE))
            else:
                assert got.opcode == PONG, got

    def receive(self, messages: list[bytes]) -> None:
        self.chat.delivered += len(messages)
        for message in messages:
            if message.startswith(self.mark):
                assert self.unechoed, f"{self} gets {message!r} back, which it did not say"
                said = self.unechoed.popleft()
                assert message == said, f"{self} gets {message!r} back, but said {said!r}"
                self.chat.on_their_way -= self.patient
                if not self.present:
                    self.present = True
                    self.chat.loop.after(self.pause(), self.talk)
        if self.id == 0:
            self.chat.heard(messages)
            self.next = self.chat.count
        else:
            self.unproved += messages
            self.compare()
        if self.leaving == "close when all is back" and not self.unechoed:
            self.close_frame()

    def compare(self) -> None:
        """Compare its messages with those that the witness has received so far."""
        chat, got = self.chat, self.unproved
        if self.next is None:
            # Strangers may repeat a message, so only our own messages show the position.
            for i, message in enumerate(got):
                if message in chat.place:
                    self.next = chat.place[message] - i
                    assert self.next >= self.begin, f"{self} gets what was said before it joined"
                    break
        if self.next is not None:
            start = self.next - chat.first
            expected = chat.order[start : start + len(got)]
            mine = got[: len(expected)]
            assert mine == expected, f"{self} gets {mine}, the witness {expected}"
            del got[: len(expected)]
            self.next += len(expected)
        if got:
            self.chat.ahead.add(self)
        else:
            self.chat.ahead.discard(self)

    def ended(self, reset: bool) -> None:
        chat = self.chat
        how = (
            f"{self.farewell}, reset: {reset}, {self.behind()} messages behind,"
            f" {time.monotonic() - self.read_at:.1f} s after it has read"
        )
        assert self.leaving or chat.stopping, f"{self} was dropped: {how}"
        assert not reset, f"{self} was reset"
        self.forget()
        if chat.stopping:
            code = self.farewell and self.farewell.code
            assert self.leaving or code == 1001, f"{self} was disconnected with {self.farewell}"
            return
        if self.leaving.startswith("close"):
            assert self.farewell is not None, f"{self} got no answer to its close frame"
            assert self.farewell.payload == self.goodbye
        # The server has read this client's last messages, even if they have not come back to it.
        chat.audible.append(self.id)

    def forget(self) -> None:
        self.chat.members.discard(self)
        if self.patient:
            self.chat.on_their_way -= len(self.unechoed)

    # Talking and leaving.

    def pause(self) -> float:
        return self.chat.random.expovariate(1 / self.chat.pause)

    def talk(self) -> None:
        """Send messages, then leave or schedule more."""
        chat = self.chat
        if self.closed or self.leaving or chat.quiet:
            return
        if not chat.may_talk():
            chat.loop.after(0.05, self.talk)
            return
        for _ in range(chat.random.randint(1, 4)):
            self.say()
        if self not in chat.stayers and chat.random.random() < 0.15:
            self.leave(chat.random.choice(WAYS))
        else:
            chat.loop.after(self.pause(), self.talk)

    def say(self) -> None:
        """Send a unique message, whole or in two fragments with a ping in between."""
        chance = self.chat.random
        text = self.words("".join(chance.choices(CHARACTERS, k=chance.choice([0, 5, 30, 120]))))
        self.unechoed.append(text)
        self.chat.on_their_way += self.patient
        mask = chance.randbytes(4)
        opcode = BINARY if chance.random() < 0.1 else TEXT
        if chance.random() < 0.8:
            self.send(frame(text, opcode, mask=mask))
            return
        cut = chance.randrange(len(text) + 1)
        self.send(frame(text[:cut], opcode, fin=False, mask=mask))
        self.send(frame(b"still there?", PING))
        self.send(frame(text[cut:], CONTINUATION, mask=mask))

    def leave(self, way: str) -> None:
        self.leaving = way
        if way == "close when all is back":
            if not self.unechoed:
                self.close_frame()
        elif way == "close":
            self.close_frame()
        elif way == "half close":
            self.half_close()
        else:
            self.close(reset=way == "reset")
            self.forget()

    def close_frame(self) -> None:
        self.leaving = "close"
        self.goodbye = struct.pack("!H", self.chat.random.choice([1000, 1001, 3000, 4999]))
        self.send(frame(self.goodbye, CLOSE))


@contextmanager
def chatting(
    gochat: Gochat,
    seed: int,
    *,
    pause: float = PAUSE,
    strangers: bool = False,
    others: Sequence[Gochat] = (),
) -> Iterator[Chat]:
    """Run a chat. An AssertionError names the seed."""
    chat = None
    try:
        chat = Chat(gochat, seed, pause=pause, strangers=strangers, others=others)
        yield chat
    except AssertionError as error:
        raise AssertionError(f"with GOCHAT_SEED={seed}: {error}") from error
    finally:
        if chat is not None:
            chat.loop.close()
