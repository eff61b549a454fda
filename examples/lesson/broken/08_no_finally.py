"""Broken: an exception skips the goodbye, so main waits forever."""

from threading import Thread

from gochat import Channel

jobs, ended = Channel[int](), Channel[str]()


def work() -> None:
    for job in jobs:
        print("10 divided by", job, "is", 10 // job)
    ended.send("the worker")


Thread(target=work, name="worker").start()
jobs.send(5)
jobs.send(0)
ended.recv()
print("main goes on")
