"""`gochat exercise`: exercises, and checks that say what they saw.

    catalogue.py   Exercise, EXERCISES: what there is
    command.py     the command, its flags, and the time limit of a check
    learner.py     Learner, Task: a learner's file, and its code on threads that can be given up
    room.py        Room, Member: a hub on a thread, and clients that are only a channel
    peer.py        Peer: the far end of a connection
    checks.py      for each exercise a function: what its file is put through
    run.py         one check, in the child process

The folder `starters` has the files that learners begin with. They are programs, not modules: each
imports what it needs of gochat, and nothing imports it. The first line of its docstring has the
number, the level, the kind and the title, and there is no other list of them.

The rules: command.py and catalogue.py are imported with the command, and the others in the child
process alone. Each file imports only from those above it, but for the command, which imports run.py
when a check is wanted. A check works with real things: hubs, channels, connections, a server on
127.0.0.1. A check returns one line that says what it saw, or raises Refused with such a line, and
waits for a learner's code no longer than WAIT. The child ends behind its check, so a check need not
tidy up, and its threads are daemons.
"""
