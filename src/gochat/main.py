"""The command: the page, the routes, and what is called (Go: main.go)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from .bench.command import bench
from .client import Client, Settings, serve_ws, upgrader
from .exercise.command import exercise
from .golang import http
from .golang.log import LogHandler
from .hub import Hub
from .ops.flags import parse_flags
from .ops.page import home_page, serve_page
from .ops.serve import HubError, serve, supervise

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .golang.websocket import Conn, Upgrader

__all__ = ["main", "make_app", "serve_home"]

log = logging.getLogger("gochat")


def serve_home(
    environ: WSGIEnvironment, start_response: StartResponse, max_message_size: int | None = None
) -> Iterable[bytes]:
    """Answer a request for the page; any other path is not found. Any thread.

    max_message_size: the limit that the page tells its user, in bytes; None if it is to tell none.
    """
    # Not cut in Go. What is in RAW_URI has been decoded, encoded and decoded again.
    target = environ["RAW_URI"][:2000].encode("latin-1").decode(errors="ignore")[:1000]
    log.info("%s", quote(target, safe="/:?#[]@!$&'()*+,;=%~", encoding="latin-1"))
    if environ["PATH_INFO"] != "/":
        return http.error(start_response, "Not found", 404)
    if environ["REQUEST_METHOD"] != "GET":
        return http.error(start_response, "Method not allowed", 405)
    return serve_page(environ, start_response, max_message_size)


def make_app(
    hub: Hub,
    settings: Settings | None = None,
    upgrader: Upgrader = upgrader,
    kind: Callable[[Hub, Conn, Settings], Client] = Client,
) -> WSGIApplication:
    """The routes: `/ws` is the chat, all else is serve_home's. For an `http.Server`.

    settings, upgrader, kind: see serve_ws.
    """
    settings = settings or Settings()
    home_page(settings.max_message_size)  # read now: later there may be no descriptor for it

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ws":
            return serve_ws(
                hub, environ, start_response, upgrader=upgrader, settings=settings, kind=kind
            )
        return serve_home(environ, start_response, settings.max_message_size)

    return app


def main(argv: Sequence[str] | None = None) -> int:
    """The command. argv: without the program's name; None for the process's. Returns the status."""
    args = parse_flags(argv)
    place = None
    if args.command == "serve" and args.processes > 1:
        from .ops.processes import find_place  # noqa: PLC0415 - one process has no use for it

        place = find_place()
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s [{place.number}] %(message)s" if place else "%(asctime)s %(message)s",
        datefmt="%Y/%m/%d %H:%M:%S",
        handlers=[LogHandler()],
    )
    try:
        if args.command == "bench":
            bench(args)
        elif args.command == "talk":
            from .talk.command import talk  # noqa: PLC0415 - a server has no use for it

            talk(args)
        elif args.command == "exercise":
            return exercise(args)
        elif args.command == "trace":
            from .trace.command import trace  # noqa: PLC0415 - for this command alone

            trace(args)
        elif args.processes > 1 and place is None:
            supervise(args)
        else:
            serve(args, make_app, place)
    except (OSError, ValueError, ImportError, HubError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if place:
            place.failed(text)  # the parent says it, once, and with this process's number
        else:
            print(f"gochat: {text}", file=sys.stderr)
        return 1
    return 0
