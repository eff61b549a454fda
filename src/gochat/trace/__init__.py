"""`gochat serve --trace FILE` records what each thread does; `gochat trace FILE` draws it.

    recorder.py   the latest records of all threads, in a ring
    probe.py      the observer of the connections, and channels that record who waits for them
    chrome.py     the file: the Trace Event Format, which Perfetto opens
    svg.py        a picture of a trace: threads over time
    command.py    the command `gochat trace`

The rules: a chat without the flag imports none of this. A traced chat has plain clients, plain
connections with an observer, and traced channels. A thread is always in exactly one state: it runs,
or it waits for one thing. Its states follow each other without gaps, and the thread itself records
them. `recorder` imports nothing from gochat; `svg` and `command` use only the file.
"""
