"""The server of `--view`: a page that shows the chat at work, and switches for a lesson.

    hold.py      how a write pump is held and slowed down
    snapshot.py  the present state: what each thread waits for, what is in each queue
    server.py    the page and the switches, at a separate address

The rules: nothing in here is imported without the flag. Looking never involves a pump: a snapshot
reads `statistics()`, only when somebody looks. A switch
acts in the write pump of its client only, the hub never waits for one, and the end of a client
ends its hold.
"""
