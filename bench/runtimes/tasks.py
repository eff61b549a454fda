"""Measure asyncio tasks. The arguments and the output are those of threads.py."""

import asyncio
import json
import sys
import time
from collections.abc import Callable

from threads import block, compute, memory


async def nothing() -> None:
    pass


async def start(count: int) -> float:
    """Start tasks that do nothing, one at a time, and return the time per task, in seconds."""
    begin = time.perf_counter()
    for _ in range(count):
        await asyncio.create_task(nothing())
    return (time.perf_counter() - begin) / count


async def idle(count: int) -> float:
    """Start tasks that wait, and return the memory per task, in bytes."""
    ready, end = asyncio.Queue[int](), asyncio.Queue[int]()

    async def wait() -> None:
        await ready.put(0)
        await end.get()

    before = memory()
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(wait()))
        await ready.get()
    used = memory() - before
    for _ in tasks:
        await end.put(0)
    await asyncio.gather(*tasks)
    return used / count


async def switch(count: int) -> float:
    """Send values to another task and back, and return the time per direction, in seconds."""
    there, back = asyncio.Queue[int](), asyncio.Queue[int]()

    async def answer() -> None:
        for _ in range(count):
            await back.put(await there.get())

    task = asyncio.create_task(answer())
    begin = time.perf_counter()
    for i in range(count):
        await there.put(i)
        await back.get()
    took = time.perf_counter() - begin
    await task
    return took / count / 2


async def runs(work: Callable[[float], object], seconds: float) -> list[float]:
    """Sleep for a millisecond repeatedly while another task works, and return the wake-up times."""

    async def other() -> None:
        work(seconds)

    begin = time.perf_counter()
    task = asyncio.create_task(other())
    found = []
    alive = True
    while alive:
        alive = not task.done()
        await asyncio.sleep(0.001)
        found.append(time.perf_counter() - begin)
    return found


async def main(count: int, seconds: float) -> None:
    figures = {
        "start": await start(count),
        "memory": await idle(count),
        "switch": await switch(count),
        "computes": await runs(compute, seconds),
        "blocks": await runs(block, seconds),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
