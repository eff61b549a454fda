"""`gochat bench`: a load generator for chat servers over WebSocket.

    load.py      Load: the load to apply; Latencies, Result: the measured values
    run.py       Run: one measurement; its clients, on one thread
    report.py    Report: the measurements, as text and as JSON; Bar: the progress
    plot.py      draws pictures, in a style that other programs share
    command.py   the command and its flags

The rules: each file imports only from those above it, and from gochat only golang's `dial`,
`flag` and `frames`. The package knows only the URL of a server, not how the server works. Only
plot.py imports matplotlib, and plot.py is imported only to draw a picture.
"""
