"""The HTTP server: what Go has in net/http, on Werkzeug's threaded server.

    server.py      Server: accepting, and an orderly end
    handler.py     one connection: its request, its answer, and what goes on behind it
    request.py     reading a request, within a deadline and within bounds
    admission.py   which connections are served, and by whose address they are counted
    address.py     addresses as Go writes them
    response.py    error: a short answer in plain text

The rules: nothing in here knows of WebSocket or of a chat, and only this package subclasses
Werkzeug's server. Imports go down the list above: `server` imports all the others, `address` and
`response` import nothing.
"""

from .handler import Hijacker, hijacker
from .response import error
from .server import Server

__all__ = ["Hijacker", "Server", "error", "hijacker"]
