"""The view server, for `--view`: a page that shows a running chat and can slow it down.

    hold.py      holds a write pump or slows it down
    snapshot.py  the current state: what each thread waits for, and what is queued
    server.py    the page and the switches, at a separate address

The rules: nothing here is imported without the flag. A snapshot is made only when someone looks at
the page. It reads only `statistics()`, so the pumps do no work for it. Holds and slow motion affect
only write pumps. The hub never waits for a switch, and a hold ends when the client's channel is
closed.
"""
