"""What `--view` serves: a page that shows the chat at work, and switches for a lesson.

    hold.py      how a write pump is held and slowed down
    snapshot.py  the present state: what each thread waits for, what is in each queue
    server.py    the page, at an address of its own

The rules: nothing in here is imported without the flag. Looking never touches a pump: a snapshot
reads `statistics()`, at the pace of those who look, and costs nothing when nobody does. A switch
acts in the write pump of its client alone, the hub never waits for one, and the end of a client
ends whatever holds it.
"""
