"""Floods: no client can keep the other threads from running."""

from __future__ import annotations

import re
import time

import pytest

from .floods import BEGIN, END, FLOODS, MANY, flood, in_processes
from .harm import PAGE
from .support import Gochat, Room, join

#: With this, a thread that immediately reacquires the interpreter never yields it to another.
NEVER = "from gochat.golang.runtime.threads import processor; processor.SWITCH_INTERVAL = 3600"


def test_a_flood_has_begun() -> None:
    """Measuring begins only when all flooders are connected."""
    with Room() as room, in_processes(2, flood, room.port, FLOODS["pings"]):
        assert len(room.threads()) >= 2


@pytest.mark.parametrize("name", ["continuations", "long pings", "pongs", "long pongs", "bytes"])
def test_a_flood_gives_way(name: str) -> None:
    """Messages come back during floods, although no thread is forced to release the interpreter."""
    with (
        Gochat("--send-buffer=1000000", fault=NEVER, measured=False) as gochat,
        in_processes(MANY, flood, gochat.port, FLOODS[name]),
        join(gochat.port) as peer,
    ):
        begin, number = time.monotonic(), 0
        while number < 20 or time.monotonic() - begin < 2:
            mine = f"message {number}"
            peer.send(mine)
            while mine not in peer.read_messages():
                pass
            number += 1


def test_the_table_has_a_row_for_each_flood() -> None:
    """The table of docs/run/reliability.md has the floods of floods.py, in the same order."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert re.findall(r"^\| (.+?) \|", table, re.M)[2:] == [kind.what for kind in FLOODS.values()]
