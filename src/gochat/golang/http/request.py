"""Parsing a request: its first line and its header (Go: http.ReadRequest, textproto.Reader).

The grammar is that of RFC 9112, read as strictly as in net/http. http.server is less strict, and
hands the header to the email package, which takes it for the head of a mail.
"""

from __future__ import annotations

import binascii
import re
from typing import Final, NamedTuple

from .address import is_ipv6
from .reader import RequestReader

__all__ = [
    "MAX_HEADER_LINES",
    "Header",
    "RequestError",
    "RequestLine",
    "check_header",
    "parse_target",
    "read_header",
    "read_request_line",
]

#: The values of each header, by its name in lower case (Go: http.Header).
Header = dict[str, list[str]]

#: How many lines a header may have. net/http's DefaultMaxHeaderValueCount, which was introduced so
#: that small fields, each an object of its own, cannot take a multiple of their size.
MAX_HEADER_LINES: Final = 500

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_VERSION: Final = re.compile(r"HTTP/[0-9]\.[0-9]")  # RFC 9112, section 2.3
_CONTROL: Final = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")  # RFC 9110, section 5.5
_HOST: Final = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")  # as in net/http
_LENGTH: Final = re.compile(r"[0-9]{1,18}")  # RFC 9110, section 8.6
_SPACE: Final = " \t"

# A target is a path, or a whole http address (RFC 9112, section 3.2). These are its beginning, what
# may not occur in it, and what may not occur in its path: a "%" without two digits. One pattern for
# everything would need time and memory for a step back from each character.
_TARGET: Final = re.compile(
    r"/|https?://(?P<host>[^][/?#@%]+|\[(?P<literal>[0-9a-f:.]{2,45})\](:\d+)?)(?![^/?#])", re.I
)
_NO_TARGET: Final = re.compile(r"[\0-\x20\x7f]")
_NO_PATH: Final = re.compile(r"%(?![0-9a-f]{2})", re.I)

# How many characters of a path are decoded at once, so that copies of them are small.
_PART: Final = 1 << 16


class RequestError(Exception):
    """The request is refused. status: the HTTP status. reason: for the client; may be empty."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestLine(NamedTuple):
    """The first line of a request. The version is `HTTP/1.` and a digit."""

    method: str
    target: str
    version: str


def read_request_line(reader: RequestReader) -> RequestLine | None:
    """Read and parse the first line; None if the client sends nothing at all.

    Raises RequestError, and what the reader raises.
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
        target = "/" + target.lstrip("/")  # no redirection, for which Go's ServeMux would ask
    return RequestLine(method, target, version)


def read_header(reader: RequestReader) -> Header:
    """Read and parse the header, including the empty line behind it.

    Values have no white space around them. A folded line counts as a line of its own, and is joined
    to the one before by a space (RFC 9112, section 5.2).

    Raises RequestError, and what the reader raises.
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
    header.setdefault(name.lower(), []).append(value.strip(_SPACE))


def check_header(header: Header, version: str) -> None:
    """Check the headers on which it depends where the request goes and where it ends.

    Raises RequestError.
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
    """The host (empty if the target names none), the path and the query of a request's target.

    The path has its escapes decoded, to characters up to U+00FF, as WSGI has them. A "#" is a
    character like any other: as in net/http, no client sends a fragment.
    """
    found = _TARGET.match(target)
    host = (found and found["host"]) or ""
    start = found.end("host") if found and host else 0
    path, _, query = target[start:].partition("?")
    return host, _unquote(path), query


def _unquote(path: str) -> str:
    """Decode the escapes, of which each is known to be a "%" and two digits.

    urllib.parse.unquote would make objects of them all. Quoted-printable is the same with "=" for
    "%", and binascii decodes that at once.
    """
    if "%" not in path:
        return path
    parts = []
    at = 0
    while at < len(path):
        part = path[at : at + _PART]
        cut = part.rfind("%", max(0, len(part) - 2))
        if cut > 0:  # an escape that goes on in the next part
            part = part[:cut]
        quoted = part.encode("latin-1").replace(b"=", b"=3D").replace(b"%", b"=")
        parts.append(binascii.a2b_qp(quoted).decode("latin-1"))
        at += len(part)
    return "".join(parts)
