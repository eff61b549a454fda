"""`gochat serve --trace FILE` records what each thread does; `gochat trace FILE` shows it.

    recorder.py   the records of all threads, in a ring
    probe.py      records what a chat's threads do and wait for
    chrome.py     the file, in a format that Perfetto opens
    svg.py        a picture of a trace
    command.py    the command `gochat trace`

The rules: without the flag, a chat imports none of these modules. With the flag, each
channel of the hub and the clients has an observer, and so has each connection. A traced thread is
always in exactly one state: either it runs, or it waits for one thing. Each thread records its own
states, without gaps.

`recorder` imports nothing from gochat. `svg` and `command` know only what the file contains.
"""
