"""`gochat bench`: a load generator for chat servers.

    load.py      the load to apply, and the result of a run
    run.py       one measurement, with all clients on one thread
    report.py    the results as text and as JSON, and the progress bar
    plot.py      plots, and a style that other programs share
    command.py   the command and its flags

The rules: each module imports only the modules above it, and golang's `dial`, `flag` and `frames`.
Only plot.py imports matplotlib. All that the package knows about a server is its URL.
"""
