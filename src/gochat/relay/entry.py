"""The format of a stream entry. This module has no threads and no I/O.

There are two kinds of entry: a batch of messages, and an announcement. Their fields:

    p   the process that appended the entry: ID.RANDOM, where ID is the id of the process's first
        entry
    n   in a batch, the number of its first message; in an announcement, the number that the
        process's next message will have
    m   only in a batch: the messages, joined by newlines; no message contains a newline
    a   only in an announcement: PROCESS=NUMBER for each process that has started recently;
        NUMBER is the number of the last message appended by p before PROCESS's first entry

The first entry of a process is an announcement. In that entry, p is only RANDOM, because the entry
has no id yet.

Anyone who can write to Redis can write anything here, so every field is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = [
    "MOST",
    "Entry",
    "Id",
    "announcement",
    "batch",
    "entry_of",
    "fault_of",
    "parse_id",
    "started",
    "text_of",
]

#: The id of an entry: a time in milliseconds, and a counter within the millisecond.
Id = tuple[int, int]

#: The maximum number of messages in an entry.
MOST: Final = 256

# The approximate memory that an entry takes in addition to its fields, in bytes.
_OVERHEAD: Final = 64

_PROCESS: Final = re.compile(rb"(?:[0-9]{1,20}-[0-9]{1,20}\.)?[0-9a-f]{12}")
# 18 digits leave room in 64 bits for the number of the last message.
_NUMBER: Final = re.compile(rb"[1-9][0-9]{0,17}")
_BASE: Final = re.compile(rb"([0-9]{1,20}-[0-9]{1,20}\.[0-9a-f]{12})=(0|[1-9][0-9]{0,17})")


class Entry(NamedTuple):
    """An entry of the stream."""

    id: Id
    #: The process that appended the entry; empty if the entry cannot be from gochat.
    process: bytes
    #: The number of the entry's first message.
    first: int
    #: The number of messages in the entry, including invalid ones.
    length: int
    #: The valid messages.
    messages: list[bytes]
    #: What is wrong with the entry or its messages; empty if nothing is wrong.
    fault: str
    #: The number for each process in the field "a".
    bases: Mapping[bytes, int]
    #: The approximate size of the entry in Redis, in bytes.
    size: int


def batch(process: bytes, first: int, messages: Iterable[bytes]) -> list[bytes | int]:
    """Return the fields of a batch."""
    return [b"p", process, b"n", first, b"m", b"\n".join(messages)]


def announcement(process: bytes, following: int, bases: Mapping[bytes, int]) -> list[bytes | int]:
    """Return the fields of an announcement. following: the number of the next message."""
    fields: list[bytes | int] = [b"p", process, b"n", following]
    if bases:
        fields += [b"a", b" ".join(b"%b=%d" % pair for pair in bases.items())]
    return fields


def entry_of(text: bytes, fields: Sequence[bytes], max_message_size: int) -> Entry:
    """Parse an entry from Redis. text: the entry's id. max_message_size: in bytes."""
    place = parse_id(text)
    size = sum(map(len, fields)) + _OVERHEAD
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    process, number = named.get(b"p", b""), named.get(b"n", b"")
    if not _PROCESS.fullmatch(process) or not _NUMBER.fullmatch(number):
        return Entry(place, b"", 0, 0, [], "not an entry by gochat", {}, size)
    if b"-" not in process:
        process = b"%b.%b" % (text, process)
    joined = named.get(b"m")
    if joined is None:
        bases = dict(_BASE.findall(named.get(b"a", b"")))
        numbers = {name: int(base) for name, base in bases.items()}
        return Entry(place, process, int(number), 0, [], "", numbers, size)
    count = joined.count(b"\n") + 1
    messages = joined.split(b"\n") if count <= MOST else []
    if fault := fault_of(messages, joined, max_message_size):
        messages = [one for one in messages if not fault_of([one], one, max_message_size)]
    return Entry(place, process, int(number), count, messages, fault, {}, size)


def fault_of(messages: Sequence[bytes], joined: bytes, max_message_size: int) -> str:
    """Return why messages are invalid, or "". joined: the messages, joined by newlines."""
    if not 0 < len(messages) <= MOST:
        return f"more than {MOST} messages in one entry"
    if joined.count(b"\n") >= len(messages):
        return "a message with a newline"
    if len(joined) > max_message_size and max(map(len, messages)) > max_message_size:
        return f"a message of more than {max_message_size} bytes"
    try:
        joined.decode()
    except UnicodeDecodeError:
        return "a message that is not UTF-8"
    return ""


def parse_id(text: bytes) -> Id:
    """Parse an id from Redis."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def text_of(place: Id) -> str:
    """Return an id in the form that Redis uses."""
    return f"{place[0]}-{place[1]}"


def started(process: bytes) -> Id:
    """Return the id of a process's first entry. process: the process's name, ID.RANDOM."""
    return parse_id(process.partition(b".")[0])
