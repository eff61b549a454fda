"""`gochat exercise`: the command, and what the checks accept and refuse."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from gochat.exercise import checks
from gochat.exercise.catalogue import exercises
from gochat.ops.command import main

from .support import COMMAND, PATIENCE, ROOT, UNMEASURED, command, is_one_line, wait_until

# Few other tests run this code, so coverage is also measured in the processes started here.
pytestmark = pytest.mark.measured

ANSWERS = ROOT / "tests/exercises"
PAGE = ROOT / "docs/lesson/exercises.md"

#: For each exercise, the verdicts on the starter, the right answer and two wrong ones.
SEEN = {
    1: (
        "carry is still waiting after 2 s (line 10: channel.send(value))",
        "'hello', 0 and None each came over from another thread",
        "carry is still waiting after 2 s (line 9: sender.join())",
        "carry(channel, 'hello') returned ('hello', True)",
    ),
    2: (
        "offer is still waiting after 2 s (line 12: channel.send(value))",
        "there was room for three values, and the other two came back at once",
        "has 0, 1, 2, and offer returned [3], not [3, 4]",
        "offer died of queue.Full (line 7: channel.put_nowait(value))",
    ),
    3: (
        "receive_all returned [1, b''], but [1, b'', None, 4, 5] were sent",
        "all five values were received, and then the end",
        "receive_all returned [1], but [1, b'', None, 4, 5] were sent",
        "receive_all returned [1, b''], but [1, b'', None, 4, 5] were sent",
    ),
    4: (
        "the hub is still waiting after 2 s (line 23: client.send.send(message))",
        "ann and carol got everything; bob got what was queued for him, then the end",
        "bob, who does not read, misses messages, but his channel is not closed",
        "the hub died of gochat.golang.closed.ClosedChannelError: send on closed channel (line 18",
    ),
    5: (
        "the hub died of queue.Full (line 26: self.put_nowait(CLOSED))",
        "the full channel was closed at once, and bob got what was queued and then the end",
        "the hub is still waiting after 2 s (line 21: self.put(CLOSED))",
        "1, 2 were queued when the channel was closed, but bob got 2",
    ),
    6: (
        "this hub survives the scenario",
        "the hub died of RuntimeError: dictionary changed size during iteration (line 17",
        "this hub survives the scenario",
        "this hub died of something else: gochat.golang.closed.ClosedChannelError",
    ),
    7: (
        "the hub is still waiting after 2 s (line 17: self.broadcast.send(client.name",
        "everyone was told who had come, and bob, who does not read, was dropped",
        "the hub is still waiting after 2 s (line 13: member.send.send(client.name",
        "ann got bob has come, carol has come, hi instead of ann has come, bob has come, carol has",
    ),
    8: (
        "0 pings went out among",
        "pings went out among",
        " s, but one is due every 0.4 s",
        "0 pings went out among",
    ),
    9: (
        "ann registered, then said hello, but did not get her own hello",
        "20 of 20 clients got their own first message",
        "ann registered, then said hello, but did not get her own hello",
        "broadcast no longer has a buffer",
    ),
    10: (
        "choose picked the first 300 times, the second 0 times, the third 0 times",
        "three channels that were always ready were chosen",
        "choose picked the first 0 times, the second 0 times, the third 300 times",
        "choose is still waiting after 2 s (line 8: return channel, channel.recv()[0])",
    ),
    11: (
        "ann got @bob psst",
        "direct messages reached only their readers; the others reached everyone",
        "bob got @bobby psst",
        "ann did not get write to me@bob or to me @ann",
    ),
    12: (
        "the connection has ended, but no close frame came",
        "the close frame came before the end, both times",
        "the connection has ended, but no close frame came",
        "the client was not unregistered",
    ),
    13: (
        "bob got what was meant for ann",
        "the socket was closed after both pumps had ended, and ann got her message",
        "bob got what was meant for ann",
        "both pumps have ended, but the socket is still open",
    ),
    14: (
        "the message was whole, and 50 pongs came after it",
        "torn: a pong came after",
        "the message was whole, and 50 pongs came after it",
        "the message was whole, but no pong came",
    ),
    15: (
        "ann said one, and got it back",
        "all four messages reached the other two clients, and nobody else",
        "carol did not get ann's three",
        "bob did not get ann's one",
    ),
}


def answer(number: int, kind: str) -> str:
    return (ANSWERS / f"{number:02}_{kind}.py").read_text()


def run(folder: Path, *args: str, measured: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `gochat exercise` in a folder.

    measured: whether to measure its coverage.
    """
    return subprocess.run(
        [COMMAND, "exercise", *args],
        cwd=folder,
        env=os.environ if measured else UNMEASURED,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,  # `--check --all` checks every exercise
        check=False,
    )


def check(
    folder: Path, number: int, text: str, *, measured: bool = False
) -> subprocess.CompletedProcess[str]:
    """Write a learner's file into the folder, and check it."""
    folder.mkdir(exist_ok=True)
    (folder / f"exercise_{number:02}.py").write_text(text)
    return run(folder, str(number), "--check", measured=measured)


def test_check_all(tmp_path: Path) -> None:
    """`--check --all` checks the files that exist. The exit status is 0 if all are right."""
    for number in SEEN:
        (tmp_path / f"exercise_{number:02}.py").write_text(answer(number, "right"))
    complete = run(tmp_path, "--check", "--all")
    *lines, last = complete.stdout.splitlines()
    for line, (number, seen) in zip(lines, SEEN.items(), strict=True):
        assert line.startswith(f"exercise {number}: right: ")
        assert seen[1] in line
        assert line.isprintable()
    assert last == f"{len(SEEN)} of {len(SEEN)} are right"
    assert (complete.returncode, complete.stderr) == (0, "")

    for number in range(4, len(SEEN) + 1):
        (tmp_path / f"exercise_{number:02}.py").unlink()
    (tmp_path / "exercise_02.py").write_text("print('mine')\n" + answer(2, "wrong_a"))
    some = run(tmp_path, "--all", "--check")
    lines = some.stdout.splitlines()
    assert [line.split(": ")[1] for line in lines[:4]] == ["right", "not yet", "right", "no file"]
    rest = ", ".join(map(str, range(4, len(SEEN) + 1)))
    assert lines[-1] == f"2 of {len(SEEN)} are right; not yet: 2; no file: {rest}"
    assert len(lines) == len(SEEN) + 1
    assert (some.returncode, some.stderr) == (1, "  | mine\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_without_an_output(tmp_path: Path, closed: str) -> None:
    """A check refuses to run without stdout or stderr."""
    (tmp_path / "exercise_01.py").write_text(answer(1, "right"))
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {closed}', "bash", COMMAND, "exercise", "--check", "--all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    said = "gochat: stdout and stderr must be open\n"
    assert (done.returncode, done.stdout + done.stderr) == (1, said)


HUB = """
import gochat
class Hub(gochat.Hub):
    def run(self):
        told = set()
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast):
                case self.register, client, _:
                    {register}
                case self.broadcast, message, _:
                    for client in list(self.clients):
                        {broadcast}
"""

CLIENT = """
import gochat
class Client(gochat.Client):
    def read_pump(self):
        try:
            self.await_pong()
            while True:
                self.hub.broadcast.send(self.conn.read_message()[1])
        finally:
            {}
"""

#: Further mistakes: exercise, text and verdict.
MISTAKES = [
    (1, "def carry(:", "(line 1: def carry(:)"),
    (1, "import gochatt", "ModuleNotFoundError: No module named 'gochatt'"),
    (1, "raise SystemExit('\\x1b[2J\\n')", r"died of SystemExit: \x1b[2J"),
    (1, "def carry(channel, value): return 1 / 0", "carry died of ZeroDivisionError: division by"),
    (1, "while True: pass", "exercise_01.py is still waiting after 2 s (line 1: while True: pass)"),
    (1, "import threading; threading.Event().wait()", "is still waiting after 2 s (line 1: import"),
    (1, "carry_on = 1", "exercise_01.py has no carry"),
    (1, "carry = 1", "carry died of TypeError: 'int' object is not callable"),
    (
        2,
        "def offer(channel, values): return [v for v in values"
        " if channel.capacity and not channel.try_send(v)]",
        "an unbuffered channel that nobody receives from took a value",
    ),
    (
        4,
        HUB.format(
            register="self.clients[client] = True",
            broadcast="client in told or client.send.try_send(message) or"
            " (client.send.close(), told.add(client))",
        ),
        "bob was dropped, but is still in hub.clients",
    ),
    (
        4,
        answer(4, "right").replace(
            "not client.send.try_send(message)", "wait_for_room(client.send, message)"
        )
        + "\n\ndef wait_for_room(channel, message):\n    try:\n        channel.put(message,"
        " timeout=0.1)\n    except Exception:\n        return True\n",
        "the hub waits for room in bob's channel before it drops him",
    ),
    (
        4,
        "import gochat\nclass Hub(gochat.Hub):\n  def run(self): self.register.recv()",
        "the hub has ended by itself",
    ),
    (
        5,
        answer(5, "right").replace("self.not_empty.notify()", "pass"),
        "recv, called before the channel was closed, is still waiting after 2 s",
    ),
    (
        6,
        answer(6, "right").replace(
            "    hub.register.send(ann)\n", "    hub.register.send(ann)\n" * 2
        )
        + "    hub.register.send(ann)\n    hub.broadcast.send(b'')\n",
        "the original hub also died of gochat.golang.closed.ClosedChannelError",
    ),
    (6, answer(6, "right") + "    1 / 0\n", "scenario died of Zero"),
    (6, "import gochat\ndef scenario(hub, new_client): pass", "Hub was changed: change only"),
    (
        6,
        answer(6, "right").replace(
            "class Hub(gochat.Hub):", "KEEP = 1\nclass Hub(gochat.Hub):\n    keep = KEEP\n"
        ),
        "Hub was changed: change only",
    ),
    (
        7,
        HUB.format(
            register="self.clients[client] = True; [each.send.try_send(client.name + b' has come')"
            " for each in self.clients]",
            broadcast="client.send.try_send(message)",
        ),
        "bob's channel was full when carol came, but the hub did not drop him",
    ),
    (8, "import gochat\nclass Client(gochat.Client): write_pump = int", "write_pump has ended"),
    (
        9,
        "import gochat, threading\nclass Hub(gochat.Hub):\n"
        "  broadcast = property(lambda self: gochat.Channel(1), lambda *_: 0)\n"
        "  run = lambda self: threading.Event().wait()",
        "the hub is still waiting after 2 s (line 4: run",
    ),
    (
        9,
        HUB.format(register="pass", broadcast="pass")
        + "    __init__ = lambda self: (super(Hub, self).__init__(),"
        " setattr(self, 'broadcast', gochat.Channel(1)))[1]",
        "the hub has not registered ann",
    ),
    (9, "Hub = int", "AttributeError: 'int' object has no attribute 'broadcast'"),
    (
        10,
        "def choose(*channels): return channels[0], channels[-1].recv()[0]",
        "choose returned ('first', 'third')",
    ),
    (
        12,
        CLIENT.format("self.hub.unregister.send(self); self.conn.write_message(1, b'bye' * 99)"),
        "a frame with opcode 1 came, not a close frame",
    ),
    (12, CLIENT.format("raise OSError('lost')"), "read_pump died of OSError: lost (line 10: raise"),
    (13, "def serve(sock, read_pump, write_pump): sock.close()", "ann did not get what her write"),
    (13, "def serve(sock, read_pump, write_pump): 1 / 0", "serve died of ZeroDivisionError"),
    (
        14,
        "import gochat\n"
        "class Conn(gochat.Conn):\n"
        "    def _send_for_library(self, data): self._sock.close()",
        "Error: ",  # a broken pipe or a reset connection
    ),
    (
        15,
        HUB.format(register="pass", broadcast="pass") + "Client = gochat.Client",
        "ann has come, but is not in hub.clients",
    ),
    (
        15,
        HUB.format(
            register="self.clients[client] = True",
            broadcast="client.send.try_send(message + b'!')",
        )
        + "Client = gochat.Client",
        "bob got one!, but ann said one",
    ),
]

#: Attempts to cheat, at least three for each check. Some of them used to pass.
CHEATS = [
    (1, "def carry(channel, value): return value", "did not come over the channel"),
    (
        1,
        """\
def carry(channel, value):
  channel.__init__(1)
  channel.send(value)
  return channel.recv()[0]""",
        "carry gave the channel a buffer",
    ),
    (
        1,
        """\
import copy, threading
def carry(channel, value):
  threading.Thread(target=channel.send, args=(value,)).start()
  channel.recv()
  return value""",
        "did not come over the channel",
    ),
    (
        1,
        """\
def carry(channel, value):
  channel.queue.append(value)
  return channel.queue.popleft()""",
        "did not come over the channel",
    ),
    (
        2,
        """\
def offer(channel, values):
  n = channel.capacity
  [channel.send(v) for v in values[:n]]
  return values[n:]""",
        "but offer did not send to it",
    ),
    (
        2,
        """\
def offer(channel, values):
  rest = []
  for v in values:
    if len(channel) < channel.capacity: channel.send(v)
    else: rest.append(v)
  return rest""",
        "but offer did not send to it",
    ),
    (
        2,
        """\
def offer(channel, values):
  rest = []
  for v in values:
    try: channel.put(v, timeout=0.001)
    except Exception: rest.append(v)
  return rest""",
        "offer waits for room",
    ),
    (
        2,
        """\
def offer(channel, values):
  channel.queue.extend(values[:channel.capacity]); return values[channel.capacity:]""",
        "but offer did not send to it",
    ),
    (
        3,
        "def receive_all(channel): return [channel.recv()[0] for _ in range(5)]",
        "receive_all returned [4, 5, 5, None, None]",
    ),
    (
        3,
        """\
import time
def receive_all(channel):
  values, end = [], time.monotonic() + 0.15
  while time.monotonic() < end:
    got = channel.drain()
    values += got
    if got: end = time.monotonic() + 0.15
    time.sleep(0.001)
  return values""",
        "were sent",
    ),
    (
        3,
        """\
def receive_all(channel):
  values = []
  while 5 not in values: values.append(channel.recv()[0])
  return values""",
        "receive_all returned [4, 5], but [4, 5, 5] were sent",
    ),
    (
        3,
        """\
import time
def receive_all(channel):
  values, end = [], time.monotonic() + 1
  while time.monotonic() < end:
    got = channel.drain()
    values += got
    if got: end = time.monotonic() + 1
    time.sleep(0.001)
  return values""",
        " s after the close",
    ),
    (
        3,
        """\
def receive_all(channel):
  first = channel.recv()[0]
  return [first] + [channel.recv()[0] for _ in range(4 if first == 1 else 2)]""",
        "receive_all returned [0, 0, 0], but [0, 0, 0, 0, 0, 0",
    ),
    (4, "from gochat import Hub", "run is gochat's own"),
    (
        4,
        """\
import gochat
class Hub(gochat.Hub): pass""",
        "run is gochat's own",
    ),
    (
        4,
        """\
import gochat
class Hub(gochat.Hub):
  def run(self): super().run()""",
        "run is gochat's own",
    ),
    (
        4,
        answer(4, "right").replace(
            "if not client.send.try_send(message):",
            """\
if client.name != b'bob' or message < b'3':
                            client.send.send(message)
                        else:""",
        ),
        "the hub is still waiting after 2 s",
    ),
    (
        4,
        answer(4, "right").replace(
            "if not client.send.try_send(message):",
            """\
client.send.try_send(message)
                        if len(client.send) == client.send.capacity:""",
        ),
        "carol was dropped, although there was room for every message",
    ),
    (
        4,
        answer(4, "right").replace(
            "if not client.send.try_send(message):", "if not self.sent(client, message):"
        )
        + """\
    def sent(self, client, message):
        import time
        for _ in range(20):
            if client.send.try_send(message): return True
            time.sleep(0.005)
        return False
""",
        "the hub waits for room in bob's channel before it drops him",
    ),
    (5, "from gochat import Channel", "this is gochat's Channel"),
    (
        5,
        """\
import gochat
class Channel(gochat.Channel): pass""",
        "this is gochat's Channel",
    ),
    (
        5,
        answer(5, "right").split("    def close")[0]
        + """\
    def close(self):
        import threading
        threading.Thread(target=self.put, args=(CLOSED,)).start()
""",
        "a thread is waiting for room for it",
    ),
    (
        5,
        answer(5, "right").split("    def recv")[0]
        + """\
    def recv(self):
        try: value = self.get(timeout=0.5)
        except queue.Empty: return None, False
        return (None, False) if value is CLOSED else (value, True)
    def close(self):
        if not self.full(): self.put_nowait(CLOSED)
""",
        "recv returned before there was a value or a close",
    ),
    (
        5,
        answer(5, "right").split("    def recv")[0]
        + """\
    def recv(self):
        try: value = self.get(timeout=1)
        except queue.Empty: return None, False
        return (None, False) if value is CLOSED else (value, True)
    def close(self):
        if not self.full(): self.put_nowait(CLOSED)
""",
        "recv found the end ",
    ),
    (
        6,
        """\
import gochat
class Hub(gochat.Hub):
  def run(self): raise RuntimeError('changed size during iteration')
def scenario(hub, new_client): pass""",
        "change only scenario",
    ),
    (
        6,
        answer(6, "right").split("def scenario")[0]
        + """\
def die(self):
  raise RuntimeError('changed size during iteration')
Hub.run = die
def scenario(hub, new_client): pass""",
        "change only scenario",
    ),
    (
        6,
        answer(6, "right").split("def scenario")[0]
        + """\
class Evil:
  send = property(lambda self: self)
  def close(self): pass
  def try_send(self, m):
    import sys
    if 'exercise' in sys._getframe(1).f_code.co_filename:
      raise RuntimeError('changed size during iteration')
    return True
def scenario(hub, new_client): hub.register.send(Evil()); hub.broadcast.send(b'')""",
        "this hub died of something else",
    ),
    (
        6,
        answer(6, "right").split("def scenario")[0]
        + """\
def scenario(hub, new_client):
  hub.clients['x'] = 1""",
        "AttributeError",
    ),
    (
        6,
        answer(6, "right").split("def scenario")[0]
        + """\
def run(self):
  raise RuntimeError('dictionary changed size during iteration')
globals()['Hub'].run = run
def scenario(hub, new_client): pass""",
        "this hub survives the scenario",
    ),
    (
        7,
        answer(7, "right")
        .replace(
            "self.send_to_all(client.name",
            "__import__('threading').Thread(target=self.broadcast.send, args=(client.name",
        )
        .replace('has come")', 'has come",)).start()'),
        " instead of ",
    ),
    (
        7,
        answer(7, "right")
        .replace("self.send_to_all(client.name", "self.broadcast.send(client.name")
        .replace(
            "    def run",
            """\
    def __init__(self):
        super().__init__()
        self.broadcast = gochat.Channel(9)

    def run""",
        ),
        " instead of ",
    ),
    (7, "from gochat import Hub", "ann got hi"),
    (
        7,
        answer(7, "right").replace(
            "                    self.send_to_all(message)",
            "                    for each in self.clients: each.send.try_send(message)",
        ),
        "ann and carol do not read, but were not both dropped",
    ),
    (8, "from gochat import Client", "write_pump is gochat's own"),
    (
        8,
        """\
import time, gochat
class Client(gochat.Client):
  def write_pump(self):
    while True:
      time.sleep(self.settings.ping_period)
      self.conn.write_message(9, b'')""",
        "is still waiting after 2 s",
    ),
    (
        8,
        """\
import time, gochat
class Client(gochat.Client):
  def write_pump(self):
    while True:
      time.sleep(self.settings.ping_period)
      self.conn.write_message(9, b'')
      if not self.send.recv()[1]: return self.conn.write_message(8, b'')""",
        "write_pump is still waiting",
    ),
    (
        8,
        answer(8, "right").replace(
            "self.conn.write_message(websocket.TEXT_MESSAGE, message)", "pass"
        ),
        "messages were queued, but 0 arrived",
    ),
    (
        8,
        answer(8, "right").replace('self.conn.write_message(websocket.CLOSE_MESSAGE, b"")', "pass"),
        "no close frame came",
    ),
    (
        8,
        """\
import gochat
class Client(gochat.Client):
  def write_pump(self):
    for n, message in enumerate(self.send, 1):
      self.conn.write_message(1, message)
      if n % 20 == 0: self.conn.write_message(9, b'')
    self.conn.write_message(8, b'')""",
        ", but one is due every 0.4 s",
    ),
    (
        8,
        """\
import gochat, time
class Client(gochat.Client):
  def write_pump(self):
    tick = time.monotonic() + self.settings.ping_period
    for message in self.send:
      self.conn.write_message(1, message)
      if time.monotonic() > tick:
        self.conn.write_message(9, b'')
        tick = time.monotonic() + self.settings.ping_period
    self.conn.write_message(8, b'')""",
        ", with no messages at the end, but one is due every 0.4 s",
    ),
    (
        9,
        answer(9, "right")
        + """\
        self.said = []
    def run(self):
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast):
                case self.register, client, _:
                    self.clients[client] = True
                    for m in self.said: client.send.try_send(m)
                case self.broadcast, m, _:
                    self.said.append(m)
                    for c in self.clients: c.send.try_send(m)
""",
        "bob came after",
    ),
    (9, answer(9, "right").replace("Channel(1)", "Channel(0)"), "broadcast no longer has a buffer"),
    (
        9,
        """\
import gochat
class Hub(gochat.Hub): pass""",
        "broadcast no longer has a buffer",
    ),
    (
        10,
        """\
import random
def choose(*channels):
  c = random.choice(channels)
  return c, c.recv()[0]""",
        "choose is still waiting",
    ),
    (
        10,
        """\
import random, time
def choose(*channels):
  while True:
    for c in random.sample(channels, len(channels)):
      if c.queue: return c, c.queue[0]
    time.sleep(0.001)""",
        "left it in its channel",
    ),
    (
        10,
        """\
import random, queue
def choose(*channels):
  for c in random.sample(channels, len(channels)):
    try: return c, c.get(block=False)
    except queue.Empty: pass""",
        "no channel had a value, but choose",
    ),
    (
        10,
        """\
import random, queue
def choose(*channels):
  while True:
    c = random.choice(channels)
    try: return c, c.get(timeout=0.05)
    except queue.Empty: pass""",
        "choose waits for one channel while another has a value",
    ),
    (
        11,
        answer(11, "right").replace(
            'name = message[1:].partition(b" ")[0]',
            "name = {b'@bobby': b'bobby', b'@bob': b'bob'}.get(message.split()[0])",
        ),
        "eve did not get @eve psst",
    ),
    (
        11,
        answer(11, "right")
        .replace("if not client.send.try_send(message):", "if False:")
        .replace(
            "for client in self.readers(message):",
            """\
for client in self.readers(message):
                        client.send.try_send(message)""",
        ),
        "eve does not read",
    ),
    (
        11,
        answer(11, "right").replace("if client.name == name", "if name in client.name"),
        "bobby got @bob psst",
    ),
    (
        11,
        answer(11, "right").replace(
            "if not client.send.try_send(message):",
            "if not client.send.try_send(message) and message.startswith(b'@'):",
        ),
        "nobody reads, but not everyone was dropped",
    ),
    (
        12,
        answer(12, "right").replace(
            "            self.hub.unregister.send(self)",
            """\
            self.hub.unregister.send(self)
            __import__('time').sleep(3)
            self.conn.close()""",
        ),
        "read_pump is still waiting",
    ),
    (
        12,
        answer(12, "right").replace(
            "            self.hub.unregister.send(self)",
            """\
            self.conn.write_message(8, b'')
            self.conn.close()
            self.hub.unregister.send(self)""",
        ),
        "the close frame came before it",
    ),
    (12, "from gochat import Client", "no close frame came"),
    (
        12,
        answer(12, "right").replace(
            "            self.hub.unregister.send(self)",
            """\
            self.hub.unregister.send(self)
            import time
            while len(self.send) or not self.send.statistics().closed: time.sleep(0.01)
            time.sleep(0.02)
            self.conn.close()""",
        ),
        "the connection has ended, but no close frame came",
    ),
    (
        13,
        """\
import threading
def serve(sock, read_pump, write_pump):
  read_pump(sock.fileno())
  write_pump(sock.fileno())
  sock.close()""",
        "do not run at the same time",
    ),
    (
        13,
        answer(13, "right").replace("thread.join()", "__import__('time').sleep(3)"),
        "serve is still waiting",
    ),
    (
        13,
        answer(13, "right").replace("thread.join()", "__import__('time').sleep(0.1)"),
        "bob got what was meant for ann",
    ),
    (
        13,
        """\
import os, threading
def serve(sock, read_pump, write_pump):
  threading.Thread(target=write_pump, args=(os.dup(sock.fileno()),), daemon=True).start()
  read_pump(sock.fileno())
  sock.close()""",
        "another descriptor keeps it open",
    ),
    (
        13,
        """\
import threading
def serve(sock, read_pump, write_pump):
  number = sock.detach()
  threading.Thread(target=write_pump, args=(number,), daemon=True).start()
  read_pump(number)""",
        "another descriptor keeps it open",
    ),
    (
        14,
        """\
import gochat
class Conn(gochat.Conn):
  def write_message(self, kind, data):
    super().write_message(kind, data[:500000] + b'?' + data[500001:])""",
        "the message was whole",
    ),
    (
        14,
        """\
import gochat
class Conn(gochat.Conn):
  def write_message(self, kind, data):
    super().write_message(kind, data[:500000] + b'\\x8a\\x01?' + data[500003:])""",
        "but part of it is missing",
    ),
    (
        14,
        """\
import gochat
class Conn(gochat.Conn):
  def _send_for_library(self, data):
    self._sock.sendall(b'?')""",
        "the message was whole, but",
    ),
    (
        14,
        """\
import gochat, struct
class Conn(gochat.Conn):
  def write_message(self, kind, data):
    frame = struct.pack('>BBQ', 0x81, 127, len(data)) + data
    with self._write_lock:  # so that no real pong comes in between
      self._sock.setblocking(True)
      self._sock.sendall(frame[:500000] + b'\\x8a\\x01?' + frame[500000:])""",
        "write_message was changed: change only _send_for_library",
    ),
    (
        15,
        answer(15, "right")
        .replace(
            "self.hub.broadcast.send((self, message))",
            "self.hub.sender = self; self.hub.broadcast.send(message)",
        )
        .replace("(sender, message), _", "message, _")
        .replace("client is not sender", "client is not self.sender"),
        "all spoke at once; ",
    ),
    (
        15,
        answer(15, "right").replace(
            "client is not sender",
            "client is not sender and not message.endswith(b' 99')",
        ),
        "all spoke at once, but ann did not get everything",
    ),
    (15, "from gochat import Client, Hub", "and got it back"),
    (
        15,
        answer(15, "right")
        .replace(
            "self.hub.broadcast.send((self, message))",
            "self.last = message; self.hub.broadcast.send((self, message))",
        )
        .replace("client is not sender", "getattr(client, 'last', None) != message"),
        "did not get",
    ),
    (
        15,
        answer(15, "right").replace("client is not sender", "client is not list(self.clients)[0]"),
        "did not get",
    ),
]

#: Checks learners' files, each in its own process, four at a time. The first argument is a timeout
#: in seconds: if no process ends in this time, all running ones are killed. Failed processes are
#: reported.
DRIVER = """
import multiprocessing, os, posix, sys
from multiprocessing.connection import wait
from pathlib import Path
from gochat.exercise.run import examine

# Coverage has replaced this function, and replaces it again in each child. With both replacements,
# a child would also save this process's coverage.
os._exit = posix._exit

def check(number, path):
    path.with_name("verdict").write_text(examine(number, path))

context = multiprocessing.get_context("fork")
files = zip(map(int, sys.argv[2::2]), map(Path, sys.argv[3::2]))
waiting = [context.Process(target=check, args=file, name=str(file[1])) for file in files]
running = []
while waiting or running:
    while waiting and len(running) < 4:
        running.append(waiting.pop(0))
        running[-1].start()
    if not wait([each.sentinel for each in running], float(sys.argv[1])):
        for each in running:
            each.kill()
    for each in running.copy():
        if not each.is_alive():
            running.remove(each)
            if each.exitcode:
                print(f"{each.name} has ended with {each.exitcode}", file=sys.stderr)
"""


def verdicts(
    folder: Path, files: Iterable[tuple[int, str]], patience: float = PATIENCE
) -> list[str]:
    """Return the verdicts on learners' files, given as exercise and text."""
    args, paths = [], []
    for i, (number, text) in enumerate(files):
        path = folder / str(i) / f"exercise_{number:02}.py"
        path.parent.mkdir()
        path.write_text(text)
        args += [str(number), str(path)]
        paths.append(path.with_name("verdict"))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(patience), *args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [path.read_text() for path in paths]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("import os; os._exit(3)", "has ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", "has ended with -9"),
        ("import os; os.kill(os.getpid(), 19)", "has ended with -9"),  # stopped, then killed
    ],
)
def test_a_check_that_dies_is_no_verdict(tmp_path: Path, text: str, how: str) -> None:
    """`verdicts` fails if a check's process dies or hangs."""
    with pytest.raises(AssertionError, match=how):
        verdicts(tmp_path, [(1, text), (1, answer(1, "right"))], patience=3.0)


def test_what_a_check_refuses(tmp_path: Path) -> None:
    """Every faulty file is refused, with one line that says what is wrong."""
    wrong = MISTAKES + CHEATS
    for number, (starter, _, wrong_a, wrong_b) in SEEN.items():
        wrong += [
            (number, exercises()[number - 1].starter, starter),
            (number, answer(number, "wrong_a"), wrong_a),
            (number, answer(number, "wrong_b"), wrong_b),
        ]
    said = verdicts(tmp_path, [(number, text) for number, text, _ in wrong])
    for line, (number, text, seen) in zip(said, wrong, strict=True):
        assert line.startswith("not yet: "), (number, text, line)
        assert seen in line, (number, text)
        assert line.isprintable()


def test_list(tmp_path: Path) -> None:
    (tmp_path / "exercise_02.py").touch()
    result = run(tmp_path)
    lines = result.stdout.splitlines()
    assert lines[1] == (
        " 2  easy    fix    send only while there is room                   exercise_02.py"
    )
    assert lines[2] == " 3  easy    fix    receive until the channel is closed"
    assert len(lines) == len(exercises()) + 2
    assert (result.returncode, result.stderr) == (0, "")


def test_each_exercise_has_all_that_belongs_to_it() -> None:
    """Every exercise has a check, answers in the tests and a section. The first three are easy."""
    found = exercises()
    assert len(found) == len(SEEN) >= 12
    assert all(callable(getattr(checks, each.name)) for each in found)
    assert [each.number for each in found] == list(SEEN)
    assert [each.level for each in found[:4]] == ["easy"] * 3 + ["medium"]
    assert {(each.level, each.kind) for each in found} <= {
        (level, kind) for level in ("easy", "medium", "hard") for kind in ("fix", "break", "write")
    }
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]
    assert len(sections) == len(found)
    for exercise, section in zip(found, sections, strict=True):
        assert section.lower().startswith(f"{exercise.number}. {exercise.title}\n".lower())
        assert section.count("} Hint") == 2
        assert f"literalinclude}} ../../tests/exercises/{exercise.number:02}_right.py" in section
        assert section.count(":::{dropdown}") == section.count(":::\n") == 3
    names = {f"{n:02}_{kind}.py" for n in SEEN for kind in ("right", "wrong_a", "wrong_b")}
    assert {path.name for path in ANSWERS.glob("*.py")} == names


class Result(NamedTuple):
    status: object
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *args: str) -> Result:
    """Run `gochat exercise` in this process, in the current folder."""
    try:
        status: object = main(["exercise", *args])
    except SystemExit as error:
        status = error.code
    return Result(status, *capsys.readouterr())


def test_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`gochat exercise N` writes a file, but overwrites an existing one only with --force."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "exercise_01.py"
    said = "wrote exercise_01.py; change it, then run: gochat exercise 1 --check\n"
    assert call(capsys, "1") == (0, said, "")
    assert file.read_text() == exercises()[0].starter
    file.write_text("mine")
    again = call(capsys, "01")
    assert again.status == 1
    assert is_one_line(again.err, "exercise_01.py already exists, and was not changed")
    assert file.read_text() == "mine"
    assert call(capsys, "1", "--force") == (0, said, "")
    assert file.read_text() == exercises()[0].starter
    file.unlink()
    file.mkdir()
    broken = call(capsys, "1", "-force")
    assert broken.status == 1
    assert is_one_line(broken.err, "exercise_01.py: Is a directory")


@pytest.mark.parametrize(
    ("args", "status", "what"),
    [
        (["0"], 2, "there is no exercise '0': choose one from 1 to 15"),
        (["16"], 2, "there is no exercise '16'"),
        (["\u0661"], 2, "there is no exercise"),
        (["x\ny"], 2, "there is no exercise"),
        (["1", "2"], 2, "unrecognized arguments: 2"),
        (["--check"], 2, "say which exercise: gochat exercise N --check"),
        (["--force"], 2, "say which exercise"),
        (["--all"], 2, "--all goes with --check: gochat exercise --check --all"),
        (["1", "--check", "--all"], 2, "--all checks every exercise; leave out the 1"),
        (["--check", "--all", "--force"], 2, "--check cannot be combined with --force"),
        (["1", "--check", "--force"], 2, "--check cannot be combined with --force"),
        (["1", "--check"], 1, "there is no exercise_01.py here: gochat exercise 1 writes it"),
    ],
)
def test_wrong_flags(
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    status: int,
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(capsys, *args)
    assert (result.status, result.out) == (status, "")
    assert is_one_line(result.err, what)
    assert not list(tmp_path.iterdir())


def test_what_a_file_prints(tmp_path: Path) -> None:
    """The last 20 lines printed by a learner's file are shown, with control characters escaped."""
    noise = "for i in range(10_000): print(i, '\\x1b[2J')\nprint('here')\n"
    result = check(tmp_path, 1, noise + answer(1, "right"), measured=True)
    assert result.stdout.startswith("exercise 1: right: ")
    assert result.returncode == 0
    *numbers, last = result.stderr.splitlines()
    assert last == "  | here"
    assert numbers == [f"  | {i} \\x1b[2J" for i in range(10_000 - 19, 10_000)]


def test_the_learners_folder(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("1 / 0")
    assert check(tmp_path, 1, answer(1, "right")).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"queue.py", "exercise_01.py"}


def test_a_file_cannot_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "exercise_01.py").write_text("open('/dev/tty', 'w').write('\\x1b[2J')")
    ours, theirs = pty.openpty()
    # setsid makes this the command's controlling terminal.
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", COMMAND, "exercise", "1", "--check"],
        cwd=tmp_path,
        env=UNMEASURED,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        assert process.wait(PATIENCE) == 1
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "No such device or address: '/dev/tty' (line 1" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("limit", "text", "seen"),
    [
        (
            PATIENCE,
            "import os; os._exit(3)",
            "not yet: the program ended during the check, with status 3",
        ),
        (1, "import os; os.kill(os.getpid(), 19)", "not yet: the check did not finish within 1 s"),
        (
            PATIENCE,
            answer(1, "right")
            + "threading.Thread(target=threading.Event().wait, daemon=False).start()",
            "right: ",
        ),
    ],
)
def test_time_limit(tmp_path: Path, limit: float, text: str, seen: str) -> None:
    """A check that does not end is killed, but a verdict already reached counts."""
    (tmp_path / "exercise_01.py").write_text(text)
    fault = f"import gochat.exercise.command as module; module.LIMIT = {limit}"
    result = subprocess.run(
        [*command(fault), "exercise", "1", "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.stdout.startswith(f"exercise 1: {seen}")
    assert result.returncode == (0 if seen == "right: " else 1)


def test_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "exercise_01.py").write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()) + '.')\n"
        "os.kill(os.getpid(), 19)\n"
    )
    with subprocess.Popen(
        [COMMAND, "exercise", "1", "--check"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        pid = tmp_path / "pid"
        wait_until(lambda: pid.exists() and pid.read_text().endswith("."))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "")
    assert not Path(f"/proc/{pid.read_text()[:-1]}").exists()
