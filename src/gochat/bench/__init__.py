"""`gochat bench`: a load generator for chat servers.

    load.py      the load to apply, and the result of a run
    run.py       one measurement, with all clients on one thread
    report.py    the results as text and as JSON, and the progress bar
    plot.py      pictures, and a style that other programs use as well
    command.py   the command and its flags

The rules: each file imports only files above it, and golang's `dial`, `flag` and `frames`. The
package knows a server only by its URL. Only plot.py imports matplotlib.
"""
