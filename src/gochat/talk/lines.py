"""Lines from a pipe, a file or a plain terminal, read without a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

__all__ = ["read_lines"]

#: The maximum length of a line, in bytes. Longer lines are split, because an endless line could use
#: up the memory.
LONGEST: Final = 65536


async def read_lines(descriptor: int) -> AsyncGenerator[str, None]:
    """Yield lines without their newlines. Bytes that are not UTF-8 become U+FFFD.

    Reads at most LONGEST bytes ahead, so a fast writer has to wait. Raises OSError if reading
    fails.
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
    except PermissionError:  # epoll does not accept files, but reading a file never blocks
        await asyncio.sleep(0)
    else:
        try:
            await ready.wait()
        finally:
            loop.remove_reader(descriptor)
    return os.read(descriptor, LONGEST)
