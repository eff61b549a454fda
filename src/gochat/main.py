"""The command `gochat serve`: the page, the routes, beginning and end (Go: main.go)."""

from __future__ import annotations

import argparse
import base64
import hashlib
import logging
import queue
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.wrappers import Response

from .bench import bench
from .client import Settings, serve_ws
from .conn import CLOSE_GOING_AWAY, Upgrader, format_close_message
from .flags import parse_flags
from .hub import Hub
from .log import LogHandler, dump_threads
from .server import Server
from .systemd import inherited_listener, notify
from .turns import settle, turns

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .metrics import Metrics

__all__ = ["main", "make_app", "make_upgrader", "serve", "serve_home"]

log = logging.getLogger("gochat")


def serve_home(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request for the page; any other path is not found."""
    # Not cut in Go. What is in RAW_URI has been decoded, encoded and decoded again.
    target = environ["RAW_URI"][:2000].encode("latin-1").decode(errors="ignore")[:1000]
    log.info("%s", quote(target, safe="/:?#[]@!$&'()*+,;=%~", encoding="latin-1"))
    if environ["PATH_INFO"] != "/":
        return text_error("Not found", 404)(environ, start_response)
    if environ["REQUEST_METHOD"] != "GET":
        return text_error("Method not allowed", 405)(environ, start_response)
    page, policy = home_page()
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return response.make_conditional(environ)(environ, start_response)


def text_error(text: str, status: int) -> Response:
    """An answer like that of Go's http.Error."""
    response = Response(f"{text}\n", status, content_type="text/plain; charset=utf-8")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@cache
def home_page() -> tuple[bytes, str]:
    """home.html, and a policy that lets it run its own script and style, and nothing else.

    It may connect anywhere: the chat can be on another machine than the page.
    """
    page = (files("gochat") / "static" / "home.html").read_bytes()
    hashes = {}
    for element in (b"script", b"style"):
        (text,) = re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
        hashes[element] = base64.b64encode(hashlib.sha256(text).digest()).decode()
    policy = (
        "default-src 'none'; "
        f"script-src 'sha256-{hashes[b'script']}'; style-src 'sha256-{hashes[b'style']}'; "
        "connect-src 'self' ws: wss:; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def make_app(
    hub: Hub, settings: Settings | None = None, upgrader: Upgrader | None = None
) -> WSGIApplication:
    """The routes: `/ws` is the chat, all else is serve_home's.

    settings: None for those of Go. upgrader: one of make_upgrader; None for a plain one.
    """
    home_page()  # read now, as there may be no descriptor for it later
    settings = settings or Settings()
    upgrader = upgrader or make_upgrader()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ws":
            return serve_ws(hub, environ, start_response, upgrader, settings)
        return serve_home(environ, start_response)

    return app


def make_upgrader(kind: Callable[..., Upgrader] = Upgrader, **options: Any) -> Upgrader:
    """An Upgrader as the chat needs it; kind: its class, options: what else to make it with."""
    # What comes as binary goes out as text, so it has to be UTF-8 too.
    return kind(utf8_only=True, read_buffer_size=1024, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. argv: without the program's name; None for the process's. Returns the status."""
    args = parse_flags(argv)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%Y/%m/%d %H:%M:%S",
        handlers=[LogHandler()],
    )
    try:
        {"serve": serve, "bench": bench}[args.command](args)
    except (OSError, ValueError, ImportError, HubError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else error
        print(f"gochat: {text}", file=sys.stderr)
        return 1
    return 0


class HubError(Exception):
    """The hub's thread has ended by itself, which is in the log, or could not be started."""


def serve(args: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM, then part with everyone. On the main thread.

    SIGUSR1 writes to stderr what each thread is at. Raises what Server raises; HubError;
    ImportError if the metrics are wanted and their package is missing.
    """
    hub = Hub()
    if args.metrics_addr is None:
        serve_chat(args, hub, None)
        return
    try:
        # Only here: it takes a tenth of a second and a package that others do not need.
        from .metrics import Metrics  # noqa: PLC0415
    except ImportError as error:
        text = "--metrics-addr needs the package prometheus-client: pip install 'gochat[metrics]'"
        raise ImportError(text) from error
    with Metrics(args.metrics_addr, hub) as metrics:
        serve_chat(args, hub, metrics)


def serve_chat(args: argparse.Namespace, hub: Hub, metrics: Metrics | None) -> None:
    """What `serve` says, in a room where nobody is yet. On the main thread."""
    upgrader = make_upgrader(
        metrics.new_upgrader if metrics else Upgrader,
        allowed_origins=args.allow_origin,
        read_rate=args.rate,
        read_burst=args.burst,
    )
    settings = Settings(
        write_wait=args.write_wait,
        pong_wait=args.pong_wait,
        ping_period=args.ping_period,
        max_message_size=args.max_message_size,
        send_buffer=args.send_buffer,
    )
    server = Server(
        inherited_listener() or args.addr,
        make_app(hub, settings, upgrader),
        read_header_timeout=args.read_header_timeout,
        max_connections=args.max_clients,
        max_connections_per_address=args.max_clients_per_address,
        trusted_proxies=args.trust_proxy,
        on_close=metrics.closed if metrics else None,
    )
    turns.gomaxprocs(args.gomaxprocs)
    settle(pin=args.pin)

    def stop(*_: object) -> None:
        # Once is a request; whoever asks again does not want to wait.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        server.stop()

    signal.set_wakeup_fd(server.wakeup_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *_: dump_threads())

    failed = threading.Event()

    def run_hub() -> None:
        try:
            hub.run()
        except Exception:
            log.exception("the hub has failed")
            failed.set()
            server.stop()  # a chat without a hub is deaf

    hub_thread = threading.Thread(target=run_hub, name="hub", daemon=True)
    try:
        hub_thread.start()
        if metrics:
            metrics.start(server, hub_thread)
    except RuntimeError as error:
        raise HubError(error) from error
    log.info("listening on %s, open %s", server.addr, server.url)
    notify("READY=1")
    server.serve_forever()

    signal.set_wakeup_fd(-1)
    log.info("stopping")
    notify("STOPPING=1")
    farewell = format_close_message(CLOSE_GOING_AWAY, "server is going away")
    try:
        hub.stop.put(farewell, timeout=0 if failed.is_set() else args.shutdown_timeout)
    except queue.Full as error:
        if not failed.is_set():
            server.shutdown(args.shutdown_timeout)
            raise HubError("the hub does not answer") from error
    else:
        server.shutdown(args.shutdown_timeout)
        hub.stop.close()
        hub_thread.join()
    if failed.is_set():
        raise HubError("the hub has failed")
