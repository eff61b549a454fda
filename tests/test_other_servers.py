"""gochat's application on other WSGI servers, which serve the page but cannot serve the chat."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gochat import Hub, make_app, serve_home
from gochat.ops.routes import make_routes

from .http_support import Serving
from .support import PATIENCE, ROOT, Peer, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

NEEDS = "websocket: this needs gochat.Server; other servers keep the connection"

#: The application without logging, which gunicorn runs.
APP = "import gochat\napp = gochat.make_app(gochat.Hub())\n"
#: The application with logging, which the other servers run.
LOGGED = "import logging\nlogging.basicConfig(level=logging.INFO, format='%(message)s')\n" + APP

#: The arguments with which Python starts each server. FD stands for the descriptor of the listening
#: socket.
SERVERS = {
    "wsgiref": [
        "-c",
        LOGGED
        + "import socket\n"
        + "from wsgiref.simple_server import WSGIRequestHandler, WSGIServer\n"
        + "server = WSGIServer(('127.0.0.1', 0), WSGIRequestHandler, False)\n"
        + "server.socket.close()\n"
        + "server.socket = socket.socket(fileno=FD)\n"
        + "server.server_name, server.server_port = server.socket.getsockname()\n"
        + "server.setup_environ()\n"
        + "server.set_app(app)\n"
        + "server.serve_forever()\n",
    ],
    "waitress": [
        "-c",
        LOGGED
        + "import socket, waitress\nwaitress.serve(app, sockets=[socket.socket(fileno=FD)])\n",
    ],
    "gunicorn": ["-m", "gunicorn", "--bind", "fd://FD", "chat:app"],
}


@pytest.mark.parametrize("name", SERVERS)
def test_another_server(name: str, tmp_path: Path) -> None:
    """The page is served. The chat is refused with a one-line explanation."""
    (tmp_path / "chat.py").write_text(APP)
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("w") as stderr:
        port, descriptor = listener.getsockname()[1], str(listener.fileno())
        command = [sys.executable, *(arg.replace("FD", descriptor) for arg in SERVERS[name])]
        process = subprocess.Popen(
            command, cwd=tmp_path, pass_fds=[listener.fileno()], stderr=stderr
        )
    try:
        for path, status in (("/", 200), ("/?a=%41&b=c", 200), ("/a%3Fb%20%9B31m?c", 404)):
            with Peer(port) as peer:
                answer = peer.request(path)
                assert answer.status == status, path
                assert (b"<!DOCTYPE html>" in answer.body) == (status == 200)
        with Peer(port) as peer:
            assert peer.request("/", method="POST").status == 405
        for headers in ({}, {"Upgrade": None}, {"Connection": None}):
            with Peer(port) as peer:
                answer = peer.open(headers=headers)
                assert (answer.status, answer.body.decode()) == (500, f"{NEEDS}\n")
        # Errors reach stderr even without logging.
        wait_until(lambda: log.read_text().count(f"{NEEDS}\n") == 3)
        assert "Traceback" not in log.read_text()
        if name != "gunicorn":
            targets = ["/", "/?a=%41&b=c", "/a%3Fb%20%9B31m?c", "/"]
            assert re.findall(r"^/.*$", log.read_text(), re.MULTILINE) == targets
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.parametrize(
    ("module", "key"),
    [("gunicorn.http.wsgi", "gunicorn.socket"), ("werkzeug.serving", "werkzeug.socket")],
)
def test_a_server_that_shows_its_socket(module: str, key: str) -> None:
    """gunicorn and Werkzeug put the socket into the environ, as docs/recipes/index.md says."""
    spec = find_spec(module)
    assert spec is not None
    assert f'"{key}": ' in Path(str(spec.origin)).read_text()
    assert f"`{key}`" in (ROOT / "docs/recipes/index.md").read_text()


def test_a_server_that_leaves_an_empty_path_out() -> None:
    """A request without a path gets 404. PEP 3333 lets servers leave an empty path out."""
    statuses: list[str] = []

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Any:
        statuses.append(status)

    list(make_app(Hub())({"REQUEST_METHOD": "GET", "SERVER_NAME": "localhost"}, start_response))
    list(serve_home({"REQUEST_METHOD": "GET"}, start_response))
    list(make_routes({})({"REQUEST_METHOD": "GET", "SERVER_NAME": "localhost"}, start_response))
    assert statuses == ["404 Not Found"] * 3


@pytest.mark.parametrize(("limit", "content"), [((), ""), ((99,), "99")])
def test_a_page_with_and_without_a_limit(limit: tuple[int, ...], content: str) -> None:
    """The page contains the message limit passed to `serve_home`, if there is one."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return serve_home(environ, start_response, *limit)

    with Serving(app) as serving, Peer(serving.port) as peer:
        page = peer.request().body.decode()
    assert re.findall(r'<meta name="max-message-size" content="(.*?)">', page) == [content]
