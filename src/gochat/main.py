"""The chat as a program: the page, the routes, and the server (Go: main.go)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from .anyhub import AnyHub
from .client import Client, Settings, serve_ws, upgrader
from .golang import http, websocket
from .hub import Hub
from .ops.config import Config
from .ops.deploy import Deployment
from .ops.page import serve_page
from .ops.serve import running

__all__ = ["main", "make_app", "serve_home"]

log = logging.getLogger("gochat")


def serve_home(
    environ: http.Environ, start_response: http.StartResponse, max_message_size: int | None = None
) -> Iterable[bytes]:
    """Answer a request for the page. max_message_size: the limit shown on the page, in bytes."""
    log.info("%s", http.url(environ))
    if environ.get("PATH_INFO") != "/":
        return http.error(start_response, "Not found", 404)
    if environ["REQUEST_METHOD"] != "GET":
        return http.error(start_response, "Method not allowed", 405)
    return serve_page(environ, start_response, max_message_size)


def make_app(
    hub: AnyHub,
    *,
    settings: Settings | None = None,
    upgrader: websocket.Upgrader = upgrader,
    client_class: Callable[[AnyHub, websocket.Conn, Settings], Client] = Client,
) -> http.Application:
    """Return the chat's WSGI application, for an `http.Server`. Arguments: see serve_ws."""
    settings = settings or Settings()
    chat = partial(serve_ws, hub, settings=settings, upgrader=upgrader, client_class=client_class)

    def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/ws":
            return chat(environ, start_response)
        return serve_home(environ, start_response, settings.max_message_size)

    return app


def main(config: Config) -> None:
    """Serve the chat until a signal comes. ops/command.py reads the flags. Thread: the main one."""
    hub = Hub()
    with Deployment(config, hub) as deployment:
        server = deployment.listen(make_app)
        with running(server, hub, timeout=config.shutdown_timeout, relay=deployment.relay):
            deployment.serve(server)
