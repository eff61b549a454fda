"""Broken: an exception skips the farewell, so main waits for ever."""

from threading import Thread

from gochat import Channel

jobs, ended = Channel(), Channel()


def work():
    while (received := jobs.recv())[1]:
        print("10 divided by", received[0], "is", 10 // received[0])
    ended.send("the worker")


Thread(target=work, name="worker").start()
jobs.send(5)
jobs.send(0)
ended.recv()
print("main goes on")
