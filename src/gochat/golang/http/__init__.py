"""The HTTP server (Go: net/http), on Werkzeug's threaded server.

    server.py      Server: accepts connections and shuts down
    handler.py     handles a connection's request
    request.py     parses a request
    reader.py      reads a request, with a deadline and a size limit
    connection.py  which thread owns a connection, and how an application takes it over
    helper.py      the second threads of connections
    admission.py   limits the number of connections
    address.py     addresses in Go's notation
    response.py    error: a response with a line of plain text

The rules: nothing here knows about WebSocket or the chat. Only this package subclasses Werkzeug's
server. A module imports only modules below it in the list; `reader`, `helper`, `address` and
`response` import no other module of this package.
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

    # The counterparts of http.Request, http.ResponseWriter and http.Handler.
    Environ: TypeAlias = wsgi.WSGIEnvironment
    StartResponse: TypeAlias = wsgi.StartResponse
    Application: TypeAlias = wsgi.WSGIApplication

__all__ = ["Hijacker", "Server", "ServerStatistics", "UnavailableError", "error", "hijacker", "url"]
