"""Floods: no client can keep other threads from running."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from .floods import BEGIN, END, FLOODS, MANY, flood, in_processes
from .harm import PAGE
from .support import Gochat, Peer, Room, effort, join

#: With this switch interval, Python never forces a thread to release the interpreter.
NEVER = "from gochat.golang.runtime.threads import processor; processor.SWITCH_INTERVAL = 3600"


def test_a_flood_has_begun() -> None:
    """The block does not begin before all flooders are connected."""
    with Room() as room, in_processes(2, flood, room.port, FLOODS["pings"]):
        assert len(room.threads()) >= 2


def effort_of_echoes(gochat: Gochat, peer: Peer, count: int) -> float:
    """Return the server's `effort` while the peer sends `count` messages and gets them back."""

    def talk() -> None:
        for number in range(count):
            peer.send(f"message {number}")
            while f"message {number}" not in peer.read_messages():
                pass

    def cpu_time() -> float:
        stat = Path(f"/proc/{gochat.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    return effort(talk, cpu_time)


@pytest.mark.parametrize("name", ["continuations", "long pings", "pongs", "long pongs", "bytes"])
def test_a_flood_gives_way(name: str) -> None:
    """During a flood, another client's message costs the server little CPU time.

    Python forces no thread to yield here, so a flooded reader that did not give way would use far
    more.
    """
    with (
        Gochat("--send-buffer=1000000", fault=NEVER, measured=False) as gochat,
        in_processes(MANY, flood, gochat.port, FLOODS[name]),
        join(gochat.port) as peer,
    ):
        assert effort_of_echoes(gochat, peer, 100) < 60
        gochat.kill()  # otherwise it would first read the rest of the flood


def test_a_flood_on_many_connections() -> None:
    """During a flood on 50 connections, a message costs the server little CPU time."""
    with (
        Gochat("--send-buffer=1000000", measured=False) as gochat,
        in_processes(1, flood, gochat.port, FLOODS["many"]),
        join(gochat.port) as peer,
    ):
        assert effort_of_echoes(gochat, peer, 10) < 50
        gochat.kill()  # otherwise it would first read the rest of the flood


def test_the_table_has_a_row_for_each_flood() -> None:
    """The table in docs/run/reliability.md lists the floods of floods.py, in order."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert re.findall(r"^\| (.+?) \|", table, re.M)[2:] == [kind.what for kind in FLOODS.values()]
