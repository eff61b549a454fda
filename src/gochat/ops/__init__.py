"""Running the chat for real: what the Go example leaves to whoever deploys it.

    serve.py      running: the hub's thread and an orderly end; the command `gochat serve`
    processes.py  `--processes`: a parent that keeps several of them running on one port
    flags.py      the command line
    health.py     whether the chat is alive
    page.py       pages as they are sent: their policy, the limit
    routes.py     who may ask the servers of the metrics and of the view, and how
    metrics.py    what `--metrics-addr` serves, and the classes that count for it
    view/         what `--view` serves: a live view of the chat, for a lesson
    systemd.py    what systemd is told, and what it hands over

The rules: neither hub.py nor client.py imports from in here, and nothing in here puts a line into
them: what is counted is counted in subclasses. main.py imports this package, and hands make_app to
it.
"""
