"""The runtime of threads: each goroutine is an operating system thread.

    channel.py    channels, close, select
    handover.py   how threads wait for channels and are woken
    turns.py      limits how many write pumps work at the same time
    processor.py  settings for the system's scheduler
    sockets.py    waits for a socket
    thread.py     a thread for a connection

The rules: threads run in any order and can be interrupted anywhere. So data that threads share is
guarded by a lock or changes in a single step. To wait, a thread registers for a wake-up, checks
once more whether it has to wait, and only then sleeps.
"""
