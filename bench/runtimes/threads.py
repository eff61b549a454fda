"""Measure threads, or greenlets if started with gevent.monkey, and print JSON for run.py.

The arguments are the number of threads to start, and the time that one works, in seconds.

    python threads.py 5000 0.2
    python -m gevent.monkey threads.py 5000 0.2
"""

import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

C = ctypes.CDLL(None)


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    (line,) = (x for x in Path("/proc/self/status").read_text().split("\n") if "VmRSS" in x)
    return int(line.split()[1]) * 1024


def start(count: int) -> float:
    """Start threads that do nothing, one at a time, and return the time per thread, in seconds."""
    begin = time.perf_counter()
    for _ in range(count):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    return (time.perf_counter() - begin) / count


def idle(count: int) -> float:
    """Start threads that wait, and return the memory per thread, in bytes."""
    ready, end = SimpleQueue[int](), SimpleQueue[int]()

    def wait() -> None:
        ready.put(0)
        end.get()

    before = memory()
    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
        ready.get()
    used = memory() - before
    for _ in threads:
        end.put(0)
    for thread in threads:
        thread.join()
    return used / count


def switch(count: int) -> float:
    """Send values to another thread and back, and return the time per direction, in seconds."""
    there, back = SimpleQueue[int](), SimpleQueue[int]()

    def answer() -> None:
        for _ in range(count):
            back.put(there.get())

    thread = threading.Thread(target=answer)
    thread.start()
    begin = time.perf_counter()
    for i in range(count):
        there.put(i)
        back.get()
    took = time.perf_counter() - begin
    thread.join()
    return took / count / 2


def runs(work: Callable[[float], object], seconds: float) -> list[float]:
    """Sleep for a millisecond repeatedly while another thread works; return the wake-up times."""
    begin = time.perf_counter()
    thread = threading.Thread(target=work, args=(seconds,))
    thread.start()
    found = []
    alive = True
    while alive:
        alive = thread.is_alive()
        time.sleep(0.001)
        found.append(time.perf_counter() - begin)
    return found


def compute(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def block(seconds: float) -> None:
    """Block in a C function that gevent cannot patch."""
    C.usleep(int(seconds * 1e6))


if __name__ == "__main__":
    COUNT, SECONDS = int(sys.argv[1]), float(sys.argv[2])
    figures = {
        "start": start(COUNT),
        "memory": idle(COUNT),
        "switch": switch(COUNT),
        "computes": runs(compute, SECONDS),
        "blocks": runs(block, SECONDS),
    }
    print(json.dumps(figures))
