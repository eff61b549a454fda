"""`gochat bench`: a load generator for chat servers over WebSocket.

    load.py      Load: the load to apply; Latencies, Result: the measured values
    run.py       Run: one measurement; its clients, on one thread
    report.py    Report: the measurements, as text and as JSON; Bar: the progress
    plot.py      the pictures, and their style, which other programs' pictures share
    command.py   the command and its flags

The rules: each file imports only from those above it, and from gochat only golang's `dial`,
`flag` and `frames`. Nothing in here knows how a server works: it only has a URL.
Only plot.py imports matplotlib, and nothing imports plot.py before a picture is wanted.
"""
