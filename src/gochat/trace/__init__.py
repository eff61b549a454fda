"""`gochat serve --trace FILE`: what each thread did; and `gochat trace FILE`, which draws it.

    recorder.py   what the threads did last, in a ring
    probe.py      the chat's classes, with records of what they do and wait for
    chrome.py     the file: the Trace Event Format, which Perfetto opens
    svg.py        a picture of a trace: threads through time
    command.py    the command `gochat trace`

The rules: a chat without the flag imports nothing of this, and runs no line for it. A traced chat
is made of subclasses, at the seams that are there for everybody. A thread is at every moment in one
state: it runs, or it waits for one thing. So its states follow each other without a gap, and the
thread itself records them. `recorder` imports nothing of gochat's; `svg` and `command` know of a
trace what is in the file.
"""
