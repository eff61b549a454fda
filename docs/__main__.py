"""Build the documentation as a site, and serve it on this machine:

    python -m docs                        on 127.0.0.1:8000
    python -m docs --addr 127.0.0.1:9000
    python -m docs --build                only build, into docs/_build/html
    python -m docs --go ../websocket      show the text of the three Go files, from a clone

Needs a copy of the repository, and the extra `docs`. Ctrl-C stops the server.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from gochat.golang.flag import Parser
from gochat.golang.http.address import join_host_port, listen
from gochat.ops.flags import address

__all__ = ["main"]

DOCS: Final = Path(__file__).parent
SITE: Final = DOCS / "_build" / "html"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    argv: arguments without the program name; None for `sys.argv[1:]`.
    """
    parser = Parser(prog="docs", description="Build the documentation as a site, and serve it.")
    parser.add_flag("addr", address, "127.0.0.1:8000", "where to serve the site", metavar="ADDR")
    parser.add_argument("--build", action="store_true", help="build the site, and do not serve it")
    parser.add_argument(
        "--go",
        type=Path,
        metavar="DIR",
        help="show the chat's Go text from a clone of gorilla/websocket",
    )
    args = parser.parse_args(argv)
    try:
        options = from_clone(args.go) if args.go else []
        if args.build:
            return build(SITE, *options)
        with listen(args.addr) as listener:  # before the build, which takes a long time
            status = build(SITE, *options)
            if status == 0:
                serve(SITE, listener)
            return status
    except (ImportError, OSError, ValueError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        print(f"docs: {text}", file=sys.stderr)
        return 1


def from_clone(clone: Path) -> list[str]:
    """Return options that make sphinx-build show the Go text from a clone of gorilla/websocket.

    Prints a warning for each file that differs from the commit that the page describes. Raises
    OSError if a file cannot be read, ImportError if Sphinx is not installed, and ValueError if the
    clone lacks a part of the page.
    """
    from .twins import check_clone  # noqa: PLC0415 - it needs Sphinx

    for line in check_clone(clone.resolve()):
        print(f"docs: {line}", file=sys.stderr)
    return ["-D", f"gochat_go={clone.resolve()}"]


def build(site: Path, *options: str) -> int:
    """Build the site into a folder, and return Sphinx's exit status.

    options: further options for sphinx-build. Raises ImportError if a package is missing.
    """
    try:
        import furo  # noqa: F401, PLC0415 - so that its absence is reported
        import myst_parser  # noqa: F401, PLC0415
        from sphinx.cmd.build import main as sphinx_build  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"there is no {error.name}; the site needs: pip install -e '.[docs]'"
        ) from error
    doctrees = site.with_name("doctrees")
    # Sphinx makes millions of objects, and keeps most of them. The garbage collector would take a
    # third of the build's time. Without it, the build needs a third of a gigabyte more memory.
    gc.disable()
    try:
        return sphinx_build(["-q", *options, "-d", str(doctrees), str(DOCS), str(site)])
    finally:
        gc.enable()


def serve(site: Path, listener: socket.socket) -> None:
    """Serve a folder on a listening socket until Ctrl-C."""
    address = listener.getsockname()
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(address, handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = listener
        host = join_host_port(*address[:2])
        print(f"The documentation is at http://{host}/. Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    sys.exit(main())
