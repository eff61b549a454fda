"""Lines from a pipe, a file or a plain terminal, without a thread that reads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

__all__ = ["read_lines"]

#: A line that is longer comes in pieces, in bytes: a line without an end must not fill the memory.
LONGEST: Final = 65536


async def read_lines(descriptor: int) -> AsyncGenerator[str, None]:
    """The lines that come, without their ends. What is not UTF-8 becomes U+FFFD.

    Nothing is read ahead but one piece of LONGEST bytes, so whatever writes has to wait for
    whatever uses the lines. Raises what the system says if it cannot read.
    """
    rest = b""
    while data := await _read(descriptor):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
        if len(rest) >= LONGEST:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")


async def _read(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:  # epoll takes no file: from that, reading never waits
        await asyncio.sleep(0)
    else:
        try:
            await ready.wait()
        finally:
            loop.remove_reader(descriptor)
    return os.read(descriptor, LONGEST)
