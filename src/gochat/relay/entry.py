"""The form of a stream entry. No threads and no I/O.

An entry has fields:

    p   the process that appended it: ID.RANDOM, where ID is the id of the process's first entry
    n   the number of the first message; in an announcement, of the process's next message
    m   the messages, joined by newlines; no message contains a newline. Not in an announcement
    a   in an announcement, PROCESS=NUMBER for each process that has started recently: the number of
        the last message that the announcing process appended before PROCESS's first entry

The first entry of a process is an announcement in which p is only RANDOM.

Anyone who can write to Redis can write any bytes here, so everything is checked.
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

#: The id of an entry: a time in milliseconds, and a number within the millisecond. Ids only grow.
Id = tuple[int, int]

#: The maximum number of messages in an entry.
MOST: Final = 256

# About how much an entry takes in Redis in addition to its fields, in bytes.
_OVERHEAD: Final = 64

_PROCESS: Final = re.compile(rb"(?:[0-9]{1,20}-[0-9]{1,20}\.)?[0-9a-f]{12}")
# 18 digits fit into 64 bits, with room for the number of the last message.
_NUMBER: Final = re.compile(rb"[1-9][0-9]{0,17}")
_BASE: Final = re.compile(rb"([0-9]{1,20}-[0-9]{1,20}\.[0-9a-f]{12})=(0|[1-9][0-9]{0,17})")


class Entry(NamedTuple):
    """An entry of the stream."""

    id: Id
    #: The process that appended it, the number of its first message, and how many messages it has.
    #: The process is empty if gochat cannot have written this entry.
    process: bytes
    first: int
    length: int
    #: The valid messages, and why the others are invalid: empty if all are valid.
    messages: list[bytes]
    fault: str
    #: The field a.
    bases: Mapping[bytes, int]
    #: About how many bytes it takes in Redis.
    size: int


def batch(process: bytes, first: int, messages: Iterable[bytes]) -> list[bytes | int]:
    """Return the fields of an entry with messages."""
    return [b"p", process, b"n", first, b"m", b"\n".join(messages)]


def announcement(process: bytes, following: int, bases: Mapping[bytes, int]) -> list[bytes | int]:
    """Return the fields of an announcement. following: the number of the process's next message."""
    fields: list[bytes | int] = [b"p", process, b"n", following]
    if bases:
        fields += [b"a", b" ".join(b"%b=%d" % pair for pair in bases.items())]
    return fields


def entry_of(text: bytes, fields: Sequence[bytes], max_message_size: int) -> Entry:
    """Return the entry with this id and these fields. max_message_size: in bytes."""
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
    """Return why messages, joined by newlines, are invalid; empty if they are valid."""
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
    """Return an id as Redis writes it."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def text_of(place: Id) -> str:
    """Return an id for Redis."""
    return f"{place[0]}-{place[1]}"


def started(process: bytes) -> Id:
    """Return the id of a process's first entry."""
    return parse_id(process.partition(b".")[0])
