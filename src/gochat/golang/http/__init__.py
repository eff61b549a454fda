"""The HTTP server (Go: net/http), on Werkzeug's threaded server.

    server.py      Server: accepts connections and shuts down in order
    handler.py     one connection: its request and its response
    request.py     parses a request: the request line, the header, the target; url: for the log
    reader.py      reads a request, within a deadline and a size limit
    connection.py  a connection: who owns it, and how an application takes it over
    helper.py      a connection's second thread
    admission.py   decides which connections are served and counts them by client address
    address.py     addresses in Go's notation
    response.py    error: a short response in plain text

The rules: nothing here knows about WebSocket or the chat, and only this package subclasses
Werkzeug's server. Modules import only modules further down the list; `reader`, `helper`, `address`
and `response` import none.
"""

from typing import TYPE_CHECKING

from .admission import ServerStatistics
from .connection import Hijacker, UnavailableError, hijacker
from .request import url
from .response import error
from .server import Server

if TYPE_CHECKING:
    from typing import TypeAlias

    from _typeshed import wsgi

    # The types of WSGI, like net/http's http.Request, http.ResponseWriter and http.Handler.
    Environ: TypeAlias = wsgi.WSGIEnvironment
    StartResponse: TypeAlias = wsgi.StartResponse
    Application: TypeAlias = wsgi.WSGIApplication

__all__ = ["Hijacker", "Server", "ServerStatistics", "UnavailableError", "error", "hijacker", "url"]
