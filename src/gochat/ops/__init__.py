"""Running the chat in production: flags, signals, shutdown, metrics, processes, systemd.

    command.py    the command `gochat`
    flags.py      its flags
    config.py     the settings of `gochat serve`, in one object
    deploy.py     sets up everything around a chat and ends it
    serve.py      running: the hub's thread, and an orderly shutdown
    greenlets.py  `--runtime greenlets`: restarts the command, on gevent
    processes.py  `--processes`: a parent that keeps several chats running on one port
    signals.py    temporary signal handlers
    health.py     whether the chat is alive
    clients.py    the connected clients, and totals over all clients
    page.py       the pages, with their security policy and size limit
    routes.py     common rules of the metrics server and the view server
    metrics.py    the metrics server, for `--metrics-addr`
    view/         the view server, for `--view`: a live view of the chat, for a lesson
    systemd.py    messages to systemd, and sockets from it

The rules: hub.py and client.py import nothing from here and contain no code for this package:
observers read `statistics()`. main.py imports this package and passes make_app to it.
"""
