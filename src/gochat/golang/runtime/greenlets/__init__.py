"""The runtime of greenlets: each goroutine is a gevent greenlet, and all share one thread.

    waiter.py    makes greenlets wait, and runs those that are ready
    turns.py     lets only one write pump work at a time
    channel.py   channels, close, select
    sockets.py   waits for a socket; also has locks
    thread.py    a thread for a connection
    signals.py   handles Ctrl-C

The rules: a greenlet runs until it waits, and `Waiter.park` is the only way to wait. So no other
greenlet runs between two calls of `park`, and no locks are needed. Wake-ups cannot be lost, either,
because a greenlet that finds nothing to do registers its wait before any other greenlet runs.

Greenlets run in the order in which they become ready. Each switches directly to the next, and
gevent's loop checks sockets and timers every 5 ms. While a greenlet computes, all others wait.

Interrupts: `greenlet.throw` and gevent's `kill` raise their exception only in `park`. A signal
handler can run at any moment, on whichever greenlet is running, and must not wait. If a handler
raises an exception inside a send, the receiver may never be woken. For Ctrl-C, `sigint_to_caller`
prevents this.
"""
