"""`gochat exercise`: writes the exercises' files, and checks the learner's solutions.

    catalogue.py   Exercise, exercises: the list of exercises
    command.py     the command, its flags, and the time limit for a check
    learner.py     Learner, Task: a learner's file, and threads that run its code
    room.py        Room, Member: a hub on a thread, and clients that have only a channel
    peer.py        Peer: the client's side of a connection
    checks.py      for each exercise, a function that checks the learner's file
    run.py         one check, in the child process

The folder `starters` contains the files that learners begin with. These files are programs, so no
module imports them. The first line of each file's docstring states the exercise's number, level,
kind and title. There is no other list of the exercises.

The rules: the command loads only command.py and catalogue.py, until it checks a file. Each module
imports only the modules above it, except that command.py imports run.py for a check.

A check uses real hubs, channels and connections, and a real server on 127.0.0.1. It returns a line
that says what it saw, or raises Refused with such a line. It waits at most WAIT for any one thing
that the learner's code must do. A check does not clean up, because its process ends afterwards.
"""
