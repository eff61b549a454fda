"""Running the chat for real: what the Go example leaves to whoever deploys it.

    command.py    the command `gochat`
    flags.py      its flags
    config.py     what `gochat serve` is told, in one object
    deploy.py     what surrounds a chat that is deployed
    serve.py      running: the hub's thread, and an orderly end
    greenlets.py  `--runtime greenlets`: the command starts again, on gevent
    processes.py  `--processes`: a parent that keeps several chats running on one port
    signals.py    handlers of signals, for a time
    health.py     whether the chat is alive
    clients.py    the clients that are there, and what all have done
    page.py       pages as they are sent: their policy, the limit
    routes.py     who may ask the servers of the metrics and of the view, and how
    metrics.py    what `--metrics-addr` serves
    view/         what `--view` serves: a live view of the chat, for a lesson
    systemd.py    what systemd is told, and what it hands over

The rules: neither hub.py nor client.py imports from in here, and nothing in here puts a line into
them: who looks reads `statistics()`. main.py imports this package, and hands make_app to it.
"""
