"""defer: however a function ends, it says so."""

from threading import Thread

from gochat import Channel

jobs, ended = Channel(), Channel()


def work():
    try:
        while (received := jobs.recv())[1]:
            print("10 divided by", received[0], "is", 10 // received[0])
    except ZeroDivisionError:
        print("10 cannot be divided by", received[0])
    finally:
        ended.send("the worker")


Thread(target=work, name="worker").start()
jobs.send(5)
jobs.send(0)
name, _ = ended.recv()
print(name, "has ended")
