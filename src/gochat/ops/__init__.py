"""Running the chat in production: flags, signals, shutdown, metrics, processes, systemd.

    command.py    the command `gochat`
    flags.py      its command line
    config.py     the settings of `gochat serve`, and their flags
    deploy.py     sets up everything around a chat
    serve.py      runs the hub, and shuts the chat down
    greenlets.py  `--runtime greenlets`: restarts the command, with gevent
    processes.py  `--processes`: a parent that runs several chats on one port
    signals.py    temporary signal handlers
    health.py     whether a hub answers
    clients.py    the connected clients, and totals over all clients
    page.py       serves the pages, with a security policy
    routes.py     what the metrics server and the view server have in common
    metrics.py    the metrics server, for `--metrics-addr`
    view/         the view server, for `--view`: shows the chat at work, for a lesson
    systemd.py    sockets from systemd, and reports to it

The rules: hub.py and client.py import nothing from this package and have no code for it; the
package reads the `statistics()` of their channels and connections. main.py imports the package and
passes make_app to it.
"""
