"""`gochat talk`: a client for the terminal, which can also show frames.

    command.py     the command: its flags, signals and exit status, and what can be typed
    terminal.py    a line editor, on prompt_toolkit
    session.py     a talk, which reconnects after it loses a connection
    connection.py  one connection, on wsproto
    frames.py      cuts frames from a stream and describes them
    lines.py       lines from a pipe or a file

The rules: each module imports only modules below it in this list, and golang's `dial`, `flag` and
`frames`. Only connection.py imports wsproto, and only terminal.py imports prompt_toolkit.

Everything runs on one thread, with asyncio, so nothing here needs a lock. Threads would have no
advantage: a client has a single connection and no hub, and prompt_toolkit needs an event loop.
"""
