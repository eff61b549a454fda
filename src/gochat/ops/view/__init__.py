"""The view server, for `--view`: a page that shows the chat at work, with switches for a lesson.

    hold.py      how a write pump is held and slowed down
    snapshot.py  the current state: what each thread waits for, what is in each queue
    server.py    serves the page and the switches, at a separate address

The rules: nothing in here is imported without the flag. A snapshot never involves a pump: it reads
`statistics()`, and only when somebody looks. A switch acts only in the write pump of its client,
the hub never waits for a switch, and a hold ends with its client.
"""
