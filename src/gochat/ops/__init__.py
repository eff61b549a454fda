"""Running the chat in production: flags, signals, shutdown, metrics, processes, systemd.

    command.py    the command `gochat`
    flags.py      its flags
    config.py     the settings of `gochat serve`, in one object
    deploy.py     sets up and ends everything around a chat
    serve.py      running: the hub's thread, and an orderly end
    greenlets.py  `--runtime greenlets`: the command starts again, on gevent
    processes.py  `--processes`: a parent that keeps several chats running on one port
    signals.py    temporary signal handlers
    health.py     whether the chat is alive
    clients.py    the present clients, and the totals of all
    page.py       the pages, with their policy and their limit
    routes.py     rules for the servers of the metrics and of the view
    metrics.py    the server of `--metrics-addr`
    view/         the server of `--view`: a live view of the chat, for a lesson
    systemd.py    messages to systemd, and sockets from it

The rules: hub.py and client.py import nothing from here, and nothing here needs a line in
them: observers read `statistics()`. main.py imports this package, and passes make_app to it.
"""
