"""`gochat talk`: a client for the terminal, which can show the frames.

    command.py     the flags, and the life of a talk
    terminal.py    a line editor, on prompt_toolkit
    commands.py    handles a typed line
    session.py     one talk over many connections: sent, waiting and possibly lost messages; and
                   names
    connection.py  one connection, on wsproto
    frames.py      cuts frames from a stream and describes each in a line
    lines.py       lines from a pipe or a file

The rules: all of this is imported only for the command `talk`. Only connection.py imports
wsproto, and only terminal.py imports prompt_toolkit. Modules import only modules further down the
list, and golang's `dial`, `flag` and `frames`. One thread does everything, on asyncio: a client has
one connection and no hub to share it with, and prompt_toolkit needs an event loop anyway. So
nothing here needs a lock, and no other thread may call it.
"""
