"""defer: a function says goodbye, however it ends."""

from threading import Thread

from gochat import Channel

jobs, ended = Channel[int](), Channel[str]()


def work() -> None:
    try:
        for job in jobs:
            print("10 divided by", job, "is", 10 // job)
    except ZeroDivisionError:
        print("10 cannot be divided by", job)
    finally:
        ended.send("the worker")


Thread(target=work, name="worker").start()
jobs.send(5)
jobs.send(0)
name, _ = ended.recv()
print(name, "has ended")
