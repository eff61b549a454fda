"""Parses the request line and the header (Go: http.ReadRequest, textproto.Reader).

The parser is as strict as net/http's (RFC 9112). Python's http.server is less strict: it parses the
header like that of an email.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from .address import is_ipv6
from .reader import RequestReader

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "MAX_HEADER_LINES",
    "Header",
    "RequestError",
    "check_header",
    "parse_target",
    "read_header",
    "read_request_line",
    "url",
]

#: The values of each header, by its name in lower case (Go: http.Header).
Header = dict[str, list[str]]

#: The maximum number of lines in a header (Go: DefaultMaxHeaderValueCount, since 1.27). Without
#: this limit, a megabyte of short lines would become hundreds of thousands of objects.
MAX_HEADER_LINES: Final = 500

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_VERSION: Final = re.compile(r"HTTP/[0-9]\.[0-9]")  # RFC 9112, section 2.3
_CONTROL: Final = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")  # RFC 9110, section 5.5
_HOST: Final = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")  # as in net/http
_LENGTH: Final = re.compile(r"[0-9]{1,18}")  # RFC 9110, section 8.6

# A target is a path or an absolute http URL (RFC 9112, section 3.2). These patterns match the
# beginning of a target, characters that no target may contain, and malformed escapes, which no path
# may contain. A single pattern would need memory for each character, to backtrack.
_TARGET: Final = re.compile(
    r"/|https?://(?P<host>[^][/?#@%]+|\[(?P<literal>[0-9a-f:.]{2,45})\](:\d+)?)(?![^/?#])", re.I
)
_NO_TARGET: Final = re.compile(r"[\0-\x20\x7f]")
_NO_PATH: Final = re.compile(r"%(?![0-9a-f]{2})", re.I)

# How many characters of a target are logged.
_LOGGED: Final = 1000

# Characters that need no escape in a target, and in a decoded path (RFC 3986, section 2).
_IN_TARGET: Final = "/:?#[]@!$&'()*+,;=%~"
_IN_PATH: Final = "/:@!$&'()*+,;=~"

# A path is decoded in parts, so that temporary copies stay small. No part ends inside an escape.
_PART: Final = re.compile(r".{1,65536}(?<!%)(?<!%.)")


class RequestError(Exception):
    """Raised if a request must be refused.

    status: the HTTP status of the response. reason: text for the client, which may be empty.
    """

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def read_request_line(reader: RequestReader) -> tuple[str, str, str] | None:
    """Read and parse the request line (RFC 9112, section 3).

    Returns the method, the target and the version, such as `HTTP/1.1`. Returns None if the client
    has closed the connection without sending anything.

    Raises RequestError, and the exceptions of the reader. Thread: the connection's own.
    """
    if not reader.peek():
        return None
    words = _read_line(reader).decode("latin-1").split(" ", 2)
    if len(words) < 3 or not _TOKEN.fullmatch(words[0]) or not _VERSION.fullmatch(words[2]):
        raise RequestError(400)
    method, target, version = words
    if not version.startswith("HTTP/1."):
        raise RequestError(505)
    if not _is_target(target):
        raise RequestError(400, "malformed target")
    if target.startswith("//"):
        target = "/" + target.lstrip("/")  # Go's ServeMux redirects the client instead
    return method, target, version


def read_header(reader: RequestReader) -> Header:
    """Read and parse the header, including the empty line at its end.

    White space around values is removed (RFC 9110, section 5.5). A folded line is joined to the
    previous line with a space (RFC 9112, section 5.2), and counts toward MAX_HEADER_LINES.

    Raises RequestError, and the exceptions of the reader. Thread: the connection's own.
    """
    header: Header = {}
    field = bytearray()
    for _ in range(MAX_HEADER_LINES + 1):
        line = _read_line(reader)
        if field and line.startswith((b" ", b"\t")):
            field += b" " + line.strip(b" \t")
            continue
        if field:
            _add(header, field)
        if not line:
            return header
        if b":" not in line:
            raise RequestError(400, "malformed header")
        field = line.rstrip(b" \t")
    raise RequestError(431)


def _read_line(reader: RequestReader) -> bytearray:
    line = reader.read_line()
    if not line.endswith(b"\n"):
        raise RequestError(400 if reader.left else 431)
    del line[-2 if line.endswith(b"\r\n") else -1 :]
    return line


def _add(header: Header, field: bytearray) -> None:
    name, _, value = field.decode("latin-1").partition(":")
    if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
        raise RequestError(400, "malformed header")
    header.setdefault(name.lower(), []).append(value.strip(" \t"))


def check_header(header: Header, version: str) -> None:
    """Check Host and Content-Length. Raises RequestError.

    If they were ambiguous, a proxy might see a different host, or a different end of the request.
    """
    hosts = header.get("host", [])
    lengths = header.get("content-length", [])
    if len(hosts) > 1 or (not hosts and version != "HTTP/1.0"):
        raise RequestError(400, "not one Host header")
    if not all(map(_HOST.fullmatch, hosts)):
        raise RequestError(400, "malformed Host header")
    if not all(map(_LENGTH.fullmatch, lengths)) or len(set(lengths)) > 1:
        raise RequestError(400, "malformed Content-Length header")


def _is_target(target: str) -> bool:
    found = _TARGET.match(target)
    if not found or _NO_TARGET.search(target) or _NO_PATH.search(target.partition("?")[0]):
        return False
    return found["literal"] is None or is_ipv6(found["literal"])


def parse_target(target: str) -> tuple[str, str, str]:
    """Split a target into host, path and query. The host and the query may be empty.

    The path is unescaped and decoded as Latin-1, as WSGI requires (PEP 3333). As in net/http, "#"
    does not begin a fragment.
    """
    found = _TARGET.match(target)
    host, start = "", 0
    if found and found["host"]:
        host, start = found["host"], found.end("host")
    path, _, query = target[start:].partition("?")
    return host, _unquote(path) or "/", query


def url(environ: WSGIEnvironment) -> str:
    """Return a request's target in a form that is safe to log (Go: Request.URL). Thread: any.

    Characters that could forge a line of the log are percent-encoded. Unlike in Go, the target is
    cut after 1,000 characters. The environ may be from any WSGI server (PEP 3333). If it has no
    RAW_URI or REQUEST_URI, the target is built from the path and the query.
    """
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if not target:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        target = quote(path[:_LOGGED], _IN_PATH, "latin-1", "replace")
        if environ.get("QUERY_STRING"):
            target += f"?{environ['QUERY_STRING']}"
    return quote(target[:_LOGGED], _IN_TARGET, "latin-1", "replace")


def _unquote(path: str) -> str:
    """Decode the escapes of a path. Every "%" must be followed by two hex digits.

    urllib.parse.unquote would create several objects for each escape. binascii decodes
    quoted-printable in C (RFC 2045, section 6.7), an encoding that has "=" in place of "%".
    """
    return _PART.sub(_decode, path) if "%" in path else path


def _decode(part: re.Match[str]) -> str:
    quoted = part[0].encode("latin-1").replace(b"=", b"=3D").replace(b"%", b"=")
    return binascii.a2b_qp(quoted).decode("latin-1")
